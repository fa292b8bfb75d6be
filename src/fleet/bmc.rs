use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CipherSuite;

/// The address and protocol of a machine's BMC.
///
/// The protocol of an address without a scheme is detected at its first use; `ipmi://`, `redfish://` (over TLS),
/// `redfish+http://` and the other schemes of Metal3 select the protocol. The path selects the system of a Redfish
/// service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BmcAddress {
    /// The protocol.
    pub protocol: BmcProtocol,
    /// The host name or address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path of the system in the Redfish service.
    pub path: Option<String>,
}

/// The protocol of a BMC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BmcProtocol {
    /// Not given: Redfish over TLS if the BMC answers there, else IPMI.
    Detected,
    /// IPMI 2.0 over LAN.
    Ipmi,
    /// Redfish, over HTTPS or HTTP.
    Redfish {
        /// Whether the connection uses TLS.
        tls: bool,
    },
}

/// The default port of IPMI (RMCP).
const IPMI_PORT: u16 = 623;

/// The default port of Redfish over TLS.
const REDFISH_PORT: u16 = 443;

/// What was learnt of a BMC at its first use (`status.bmc`). Another address or another way to verify it begins anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BmcRecord {
    /// The protocol that was detected: `redfish` or `ipmi`. Absent if the address names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<DetectedProtocol>,
    /// The SHA-256 digest of the certificate that the BMC showed at its first use; `authorities` if the system's
    /// certificate authorities vouched for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The cipher suite of the first IPMI session. Another one is not offered from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher_suite: Option<CipherSuite>,
    /// Time of the first use.
    pub time: Timestamp,
    /// Time at which the hardware was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory_time: Option<Timestamp>,
}

impl BmcRecord {
    /// The word in `certificate` for a certificate of an authority that the system trusts.
    pub const AUTHORITIES: &str = "authorities";

    /// Returns the record of a BMC of which nothing is known.
    pub fn new(time: Timestamp) -> Self {
        Self { protocol: None, certificate: None, cipher_suite: None, time, inventory_time: None }
    }
}

/// A protocol that was detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DetectedProtocol {
    /// Redfish over TLS.
    Redfish,
    /// IPMI 2.0 over LAN.
    Ipmi,
}

/// The error of a text that is not a BMC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a BMC address: expected 192.168.11.10, ipmi://HOST, redfish://HOST[:PORT][/redfish/v1/Systems/ID]"
)]
pub struct BadBmcAddress(String);

impl BadBmcAddress {
    /// Leaves out the text before an `@`: it may be a password.
    fn new(text: &str) -> Self {
        match text.rsplit_once('@') {
            Some((before, host)) => {
                let is_scheme =
                    |word: &str| word.chars().all(|letter| letter.is_ascii_lowercase() || "+-".contains(letter));
                let scheme = before.split_once("://").map(|(scheme, _)| scheme).filter(|scheme| is_scheme(scheme));
                let scheme = scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default();
                Self(format!("{scheme}...@{host}"))
            }
            None => Self(text.to_owned()),
        }
    }
}

impl BmcAddress {
    /// Returns whether two addresses belong to the same service over the same protocol, so that they share a password.
    /// An address without a protocol may be IPMI.
    pub fn is_same_service(&self, other: &Self) -> bool {
        let protocol = |address: &Self| match address.protocol {
            BmcProtocol::Detected | BmcProtocol::Ipmi => None,
            BmcProtocol::Redfish { tls } => Some(tls),
        };
        (protocol(self), &self.host, self.port) == (protocol(other), &other.host, other.port)
    }

    /// Returns the address with a detected protocol. A port that is not IPMI's default is used for either protocol.
    pub fn with_protocol(&self, found: DetectedProtocol) -> Self {
        let (protocol, port) = match (found, self.port) {
            (DetectedProtocol::Ipmi, port) => (BmcProtocol::Ipmi, port),
            (DetectedProtocol::Redfish, IPMI_PORT) => (BmcProtocol::Redfish { tls: true }, REDFISH_PORT),
            (DetectedProtocol::Redfish, port) => (BmcProtocol::Redfish { tls: true }, port),
        };
        Self { protocol, port, ..self.clone() }
    }
}

impl FromStr for BmcAddress {
    type Err = BadBmcAddress;

    fn from_str(text: &str) -> Result<Self, BadBmcAddress> {
        let bad = || BadBmcAddress::new(text);
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let (protocol, port) = match scheme {
            None => (BmcProtocol::Detected, IPMI_PORT),
            Some("ipmi") => (BmcProtocol::Ipmi, IPMI_PORT),
            Some("redfish+http" | "redfish-virtualmedia+http" | "http") => (BmcProtocol::Redfish { tls: false }, 80),
            Some("redfish" | "redfish+https" | "redfish-virtualmedia" | "redfish-virtualmedia+https" | "https") => {
                (BmcProtocol::Redfish { tls: true }, REDFISH_PORT)
            }
            Some(_) => return Err(bad()),
        };
        let (place, path) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(rest[at..].trim_end_matches('/')).filter(|path| !path.is_empty())),
            None => (rest, None),
        };
        let (host, port) = split(place, port).ok_or_else(bad)?;
        let odd = |letter: char| !(letter.is_ascii_alphanumeric() || ".-_:%".contains(letter));
        if host.is_empty()
            || host.contains(odd)
            || path.is_some_and(|path| path.contains(|c: char| !c.is_ascii_graphic()))
        {
            return Err(bad());
        }
        Ok(Self { protocol, host: host.to_owned(), port, path: path.map(str::to_owned) })
    }
}

/// Splits `HOST`, `HOST:PORT`, `[IPV6]:PORT` or a bare IPv6 address.
fn split(place: &str, default: u16) -> Option<(&str, u16)> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return match port.strip_prefix(':') {
            Some(port) => Some((host, port.parse().ok()?)),
            None => port.is_empty().then_some((host, default)),
        };
    }
    match place.split_once(':') {
        Some((host, port)) if !port.contains(':') => Some((host, port.parse().ok()?)),
        Some(_) | None => Some((place, default)),
    }
}

impl fmt::Display for BmcAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(out, "[{}]:{}", self.host, self.port),
            false => write!(out, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_parsed_as_operators_write_it() {
        let rows = [
            ("192.168.11.10", BmcProtocol::Detected, "192.168.11.10", 623, None),
            ("server3.g11.lo", BmcProtocol::Detected, "server3.g11.lo", 623, None),
            ("ipmi://10.0.0.1:6230", BmcProtocol::Ipmi, "10.0.0.1", 6230, None),
            ("fd00::1", BmcProtocol::Detected, "fd00::1", 623, None),
            ("redfish://[fd00::1]:8443/", BmcProtocol::Redfish { tls: true }, "fd00::1", 8443, None),
            (
                "redfish-virtualmedia+http://b:8000/redfish/v1/Systems/1",
                BmcProtocol::Redfish { tls: false },
                "b",
                8000,
                Some("/redfish/v1/Systems/1"),
            ),
        ];
        for (text, protocol, host, port, path) in rows {
            let address: BmcAddress = text.parse().unwrap();
            assert_eq!((address.protocol, address.host.as_str(), address.port), (protocol, host, port), "{text}");
            assert_eq!(address.path.as_deref(), path, "{text}");
        }
        let same = |one: &str, two: &str| one.parse::<BmcAddress>().unwrap().is_same_service(&two.parse().unwrap());
        assert!(same("b", "ipmi://b:623/") && same("redfish://b/redfish/v1/Systems/1", "https://b:443"));
        assert!(!same("b", "c") && !same("b", "b:624") && !same("redfish://b:80", "redfish+http://b:80"));
        for text in
            ["", "://b", "ftp://b", "redfish://", "b:port", "ipmi://b:70000", "[fd00::1", "a b", "redfish://u@b"]
        {
            assert!(text.parse::<BmcAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_detected_protocol_uses_its_own_default_port() {
        for (text, found, expected) in [
            ("b", DetectedProtocol::Ipmi, "ipmi://b"),
            ("b", DetectedProtocol::Redfish, "redfish://b"),
            ("b:8443", DetectedProtocol::Redfish, "redfish://b:8443"),
            ("b:6230", DetectedProtocol::Ipmi, "ipmi://b:6230"),
        ] {
            let address: BmcAddress = text.parse().unwrap();
            assert_eq!(address.with_protocol(found), expected.parse().unwrap(), "{text} {found:?}");
        }
    }

    #[test]
    fn an_error_does_not_show_a_password() {
        for text in ["redfish://admin:geheim@b", "admin:geheim@b", "ipmi://a:ge/heim@b", "ftp://a:geh://eim@b"] {
            let told = text.parse::<BmcAddress>().unwrap_err().to_string();
            assert!(!told.contains("heim") && !told.contains("eim@") && told.contains("...@b"), "{told}");
        }
    }
}
