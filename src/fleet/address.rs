use std::net::{AddrParseError, IpAddr, Ipv4Addr};

use serde::{Deserialize, Deserializer};

/// Parses an IP address. An IPv4-mapped IPv6 address (RFC 4291 2.5.5.2) becomes the IPv4 address, as the sender of a
/// request has it.
///
/// # Errors
/// The text is not an IP address.
pub fn address(text: &str) -> Result<IpAddr, AddrParseError> {
    text.parse().map(|address: IpAddr| address.to_canonical())
}

/// Deserializes an IP address as `address` parses it.
///
/// # Errors
/// The text is not an IP address.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<IpAddr, D::Error> {
    let text = String::deserialize(from)?;
    address(&text).map_err(|error| serde::de::Error::custom(format!("{text:?}: {error}")))
}

/// Returns why an address cannot be the address of a machine.
pub fn rejection_reason(address: IpAddr) -> Option<&'static str> {
    match address {
        address if address.is_unspecified() => Some("is the unspecified address"),
        address if address.is_loopback() => Some("is a loopback address"),
        address if address.is_multicast() => Some("is a multicast address"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("is the broadcast address"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_spelling() {
        for (text, same) in [
            ("::ffff:192.168.10.10", "192.168.10.10"),
            ("::FFFF:c0a8:a0a", "192.168.10.10"),
            ("FD00:0::0010", "fd00::10"),
            ("192.168.10.10", "192.168.10.10"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), same);
        }
        assert!(address("192.168.10").is_err());
    }

    #[test]
    fn addresses_of_no_machine_are_rejected() {
        for text in ["0.0.0.0", "::", "127.0.0.1", "127.9.9.9", "::1", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            assert!(rejection_reason(address(text).unwrap()).is_some(), "{text}");
        }
        assert!(rejection_reason(address("::ffff:127.0.0.1").unwrap()).is_some());
        for text in ["192.168.10.10", "10.0.0.255", "fd00::10", "fe80::1"] {
            assert_eq!(rejection_reason(address(text).unwrap()), None, "{text}");
        }
    }
}
