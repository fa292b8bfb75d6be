//! Parses router solicitations and encodes the empty advertisement (RFC 4861).

use crate::fleet::Mac;

const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
/// The option with the sender's hardware address (RFC 4861 4.6.1).
const SOURCE_ADDRESS: u8 = 1;

/// Returns the MAC address of the interface that sent a router solicitation.
pub fn solicitation_sender(message: &[u8]) -> Option<Mac> {
    // Type, code, checksum (verified by the kernel), four reserved octets, options.
    let [SOLICITATION, 0, _, _, _, _, _, _, options @ ..] = message else { return None };
    let mut options = options;
    loop {
        let [kind, length, ..] = options else { return None };
        // Lengths count units of eight octets; none may be zero (RFC 4861 6.1.1).
        let (option, rest) =
            options.split_at_checked(usize::from(*length).checked_mul(8).filter(|length| *length > 0)?)?;
        if let (SOURCE_ADDRESS, [_, _, mac @ ..]) = (*kind, option) {
            return mac.try_into().ok().map(Mac);
        }
        options = rest;
    }
}

/// Returns whether an advertisement sends hosts to DHCPv6: for addresses (M flag), and for other settings (O flag).
/// `None` if the message is no advertisement.
pub fn dhcpv6_flags(message: &[u8]) -> Option<(bool, bool)> {
    // Type, code, checksum, hop limit, flags; then a lifetime and two timers (RFC 4861 4.2).
    match message {
        [ADVERTISEMENT, 0, _, _, _, flags, rest @ ..] if rest.len() >= 10 => {
            Some((flags & 0x80 != 0, flags & 0x40 != 0))
        }
        _ => None,
    }
}

/// Returns the solicitation of a host, without its hardware address: routers answer to all.
pub fn solicitation() -> [u8; 8] {
    [SOLICITATION, 0, 0, 0, 0, 0, 0, 0]
}

/// Returns an advertisement that configures nothing: no default router (lifetime 0), no DHCPv6, no prefix.
pub fn empty_advertisement() -> [u8; 16] {
    let mut message = [0; 16];
    message[0] = ADVERTISEMENT;
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solicitation_has_the_senders_address() {
        let plain = [133, 0, 0, 0, 0, 0, 0, 0];
        let with = |options: &[u8]| solicitation_sender(&[&plain[..], options].concat());
        assert_eq!(with(&[1, 1, 0x52, 0x54, 0, 1, 2, 3]), Some(Mac([0x52, 0x54, 0, 1, 2, 3])));
        assert_eq!(with(&[14, 1, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 9]), Some(Mac([2, 0, 0, 0, 0, 9])));
        for bad in [&[][..], &[1, 0, 0, 0], &[1, 2, 0, 0], &[1], &[14, 1, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(with(bad), None);
        }
        assert_eq!(solicitation_sender(&[134, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(solicitation_sender(&[]), None);
    }

    #[test]
    fn an_advertisement_may_send_hosts_to_dhcpv6() {
        let advert = |flags| [&[134, 0, 1, 2, 64, flags][..], &[0; 10]].concat();
        for (flags, expected) in
            [(0, (false, false)), (0x80, (true, false)), (0x40, (false, true)), (0xc8, (true, true))]
        {
            assert_eq!(dhcpv6_flags(&advert(flags)), Some(expected));
        }
        for other in [&[][..], &[134, 0, 0, 0, 0, 0x80], &solicitation()] {
            assert_eq!(dhcpv6_flags(other), None);
        }
    }

    #[test]
    fn an_advertisement_configures_nothing() {
        // Type, code, checksum (the kernel's), hop limit, flags, and the three times of RFC 4861 4.2.
        assert_eq!(empty_advertisement(), [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
