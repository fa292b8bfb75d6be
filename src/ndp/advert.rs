use crate::fleet::Mac;

const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
/// Is the option that holds the sender's hardware address (RFC 4861 4.6.1).
const SOURCE_ADDRESS: u8 = 1;

/// Reads a router solicitation, and gives the address of the card that sent it.
pub fn solicitor(message: &[u8]) -> Option<Mac> {
    // Type, code, checksum (the kernel has checked it), four reserved octets, options.
    let [SOLICITATION, 0, _, _, _, _, _, _, options @ ..] = message else { return None };
    let mut options = options;
    loop {
        let [kind, length, ..] = options else { return None };
        // Lengths count eight octets; none may be zero (RFC 4861 6.1.1).
        let (option, rest) =
            options.split_at_checked(usize::from(*length).checked_mul(8).filter(|length| *length > 0)?)?;
        if let (SOURCE_ADDRESS, [_, _, mac @ ..]) = (*kind, option) {
            return mac.try_into().ok().map(Mac);
        }
        options = rest;
    }
}

/// Writes an advertisement that configures nothing: not a default router (lifetime 0), no DHCPv6, no prefix.
pub fn nothing_here() -> [u8; 16] {
    let mut message = [0; 16];
    message[0] = ADVERTISEMENT;
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solicitation_tells_its_card() {
        let plain = [133, 0, 0, 0, 0, 0, 0, 0];
        let with = |options: &[u8]| solicitor(&[&plain[..], options].concat());
        assert_eq!(with(&[1, 1, 0x52, 0x54, 0, 1, 2, 3]), Some(Mac([0x52, 0x54, 0, 1, 2, 3])));
        assert_eq!(with(&[14, 1, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 9]), Some(Mac([2, 0, 0, 0, 0, 9])));
        for bad in [&[][..], &[1, 0, 0, 0], &[1, 2, 0, 0], &[1], &[14, 1, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(with(bad), None);
        }
        assert_eq!(solicitor(&[134, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(solicitor(&[]), None);
    }
}
