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
    fn an_advertisement_configures_nothing() {
        // Type, code, checksum (the kernel's), hop limit, flags, and the three times of RFC 4861 4.2.
        assert_eq!(empty_advertisement(), [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
