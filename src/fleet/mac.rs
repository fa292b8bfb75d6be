use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The hardware address of an Ethernet interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// The error of a text that is not a MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a MAC address: six octets in hexadecimal, as in 52:54:00:12:34:56, 52-54-00-12-34-56 or 5254.0012.3456"
)]
pub struct BadMac(pub String);

impl Mac {
    /// Returns the address with dashes, as in file names and initiator names.
    pub fn dashed(&self) -> String {
        String::from_utf8_lossy(&self.format(b'-')).into_owned()
    }

    /// Returns whether a text is the address with dashes.
    pub fn is_dashed(&self, text: &str) -> bool {
        self.format(b'-') == *text.as_bytes()
    }

    /// Parses an address as `dashed` formats it.
    pub fn from_dashed(text: &str) -> Option<Self> {
        let text: &[u8; 17] = text.as_bytes().try_into().ok()?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut octets = [0; 6];
        for (octet, pair) in octets.iter_mut().zip(text.chunks(3)) {
            *octet = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(octets)).filter(|mac| mac.format(b'-') == *text)
    }

    /// Formats the address without `core::fmt`, which takes longer than the rest of a DHCP reply's text.
    fn format(&self, separator: u8) -> [u8; 17] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [separator; 17];
        for (pair, octet) in text.chunks_mut(3).zip(self.0) {
            pair[0] = DIGITS[usize::from(octet >> 4)];
            pair[1] = DIGITS[usize::from(octet & 15)];
        }
        text
    }

    /// Returns why the address cannot be the address of an interface.
    pub fn rejection_reason(&self) -> Option<&'static str> {
        match self.0 {
            [0, 0, 0, 0, 0, 0] => Some("is all zeros"),
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => Some("is the broadcast address"),
            // The first octet's lowest bit (IEEE 802, 8.2.2).
            [first, ..] if first & 1 == 1 => Some("is a multicast address"),
            _ => None,
        }
    }

    /// Returns whether the address begins with these octets.
    pub fn starts_with(&self, prefix: &[u8]) -> bool {
        self.0.starts_with(prefix)
    }
}

/// Parses one to six hexadecimal octets, separated by colons, dashes, dots or nothing: a MAC address or its prefix.
pub fn octets(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !b":-. ".contains(byte)).collect();
    let spelled = text.len() - digits.len() <= 5 && digits.iter().all(u8::is_ascii_hexdigit);
    if !spelled || digits.is_empty() || !digits.len().is_multiple_of(2) || digits.len() > 12 {
        return None;
    }
    let pairs = digits.chunks_exact(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.to_owned());
        let octets = octets(text.trim()).ok_or_else(bad)?;
        Ok(Self(octets.try_into().map_err(|_| bad())?))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&String::from_utf8_lossy(&self.format(b':')))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOARD: Mac = Mac([0xac, 0x1f, 0x6b, 0x8a, 0xa7, 0x9c]);

    #[test]
    fn every_usual_spelling_is_parsed() {
        for text in ["AC:1F:6B:8A:A7:9C", "ac-1f-6b-8a-a7-9c", "ac1f.6b8a.a79c", "AC1F6B8AA79C"] {
            assert_eq!(text.parse(), Ok(BOARD), "{text}");
        }
        assert_eq!(BOARD.to_string(), "ac:1f:6b:8a:a7:9c");
        assert_eq!(BOARD.dashed().parse(), Ok(BOARD));
        assert_eq!(Mac::from_dashed(&BOARD.dashed()), Some(BOARD));
        for text in ["AC-1F-6B-8A-A7-9C", "ac:1f:6b:8a:a7:9c", "ac-1f-6b-8a-a7-9c-", "ac-1f-6b-8a-a7-9é", ""] {
            assert_eq!(Mac::from_dashed(text), None, "{text}");
        }
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in ["", "ac:1f:6b:8a:a7", "ac:1f:6b:8a:a7:9c:00", "ag:1f:6b:8a:a7:9c", "::::::", "é1f6b8aa79c"] {
            assert_eq!(text.parse::<Mac>(), Err(BadMac(text.to_owned())));
        }
    }

    #[test]
    fn addresses_of_no_interface_are_rejected() {
        for text in ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01", "00:00:00:00:00:00"] {
            assert!(text.parse::<Mac>().unwrap().rejection_reason().is_some(), "{text}");
        }
        for mac in [BOARD, Mac([0x52, 0x54, 0, 0, 0, 1]), Mac([0, 0, 0, 0, 0, 1])] {
            assert_eq!(mac.rejection_reason(), None, "{mac}");
        }
    }

    #[test]
    fn a_prefix_is_one_to_six_octets() {
        assert_eq!(octets("52:54:00"), Some(vec![0x52, 0x54, 0]));
        assert!(BOARD.starts_with(&octets("ac1f").unwrap()));
        assert_eq!(octets("525"), None);
    }
}
