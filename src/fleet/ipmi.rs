//! How a session with a BMC over IPMI is secured, and which rights it asks for.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A cipher suite of IPMI 2.0 (table 22-20). Those without encryption or integrity are not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CipherSuite {
    /// HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128.
    Three,
    /// HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    Seventeen,
}

impl CipherSuite {
    /// All suites, the best first.
    pub const ALL: [Self; 2] = [Self::Seventeen, Self::Three];

    /// Returns the number of the suite.
    pub fn number(self) -> u8 {
        match self {
            Self::Three => 3,
            Self::Seventeen => 17,
        }
    }
}

impl fmt::Display for CipherSuite {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(out)
    }
}

impl Serialize for CipherSuite {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(self.number())
    }
}

impl<'de> Deserialize<'de> for CipherSuite {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(from)?;
        let found = Self::ALL.into_iter().find(|suite| u64::from(suite.number()) == number);
        found.ok_or_else(|| {
            serde::de::Error::custom(format!(
                "cipher suite {number}: expected 17 or 3; suites without encryption and integrity are refused"
            ))
        })
    }
}

/// The privilege level of a session (IPMI 2.0, section 6.8).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PrivilegeLevel {
    /// Reads the power state.
    User,
    /// Switches the machine and sets its boot device too. All that is needed here, so it is the default.
    #[default]
    Operator,
    /// Configures the BMC too. Some BMCs refuse anything less.
    Administrator,
}

impl fmt::Display for PrivilegeLevel {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::User => "user",
            Self::Operator => "operator",
            Self::Administrator => "administrator",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_without_encryption_or_integrity_is_refused() {
        for suite in CipherSuite::ALL {
            let text = suite.to_string();
            assert_eq!(serde_json::from_str::<CipherSuite>(&text).unwrap(), suite);
            assert_eq!(serde_json::to_string(&suite).unwrap(), text);
        }
        for number in [0, 1, 2, 4, 15, 16, 18, 273] {
            let error = serde_json::from_str::<CipherSuite>(&number.to_string()).unwrap_err().to_string();
            assert!(error.contains(&format!("cipher suite {number}: expected 17 or 3")), "{error}");
        }
    }
}
