use uuid::Uuid;

use crate::fleet::Mac;

/// Picks machines, for a site's overrides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostMatch {
    /// Is the beginning of a MAC address, one to six octets.
    MacPrefix(Vec<u8>),
    /// Is a machine's UUID, spelled as SMBIOS tools show it.
    Uuid(Uuid),
}

impl HostMatch {
    /// Says whether a machine is meant.
    pub fn matches(&self, mac: Mac, uuid: Option<Uuid>) -> bool {
        match self {
            Self::MacPrefix(prefix) => mac.starts_with(prefix),
            Self::Uuid(wanted) => uuid == Some(*wanted),
        }
    }
}
