//! The hosts that a setting of the configuration applies to.

use uuid::Uuid;

use crate::fleet::Mac;

/// A pattern that selects machines for an override.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostMatch {
    /// The first one to six octets of a MAC address.
    MacPrefix(Vec<u8>),
    /// A machine's UUID, as SMBIOS tools show it.
    Uuid(Uuid),
}

impl HostMatch {
    /// Returns whether a machine matches.
    pub fn matches(&self, mac: Mac, uuid: Option<Uuid>) -> bool {
        match self {
            Self::MacPrefix(prefix) => mac.starts_with(prefix),
            Self::Uuid(wanted) => uuid == Some(*wanted),
        }
    }
}
