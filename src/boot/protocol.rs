//! The protocols that machines speak to this server.

use serde::{Deserialize, Serialize};

/// A protocol between machines and this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// DHCP and proxy DHCP.
    Dhcp,
    /// TFTP.
    Tftp,
    /// HTTP and HTTPS.
    Http,
    /// iSCSI.
    Iscsi,
    /// Syslog, over UDP and TCP.
    Syslog,
}

impl Protocol {
    /// All protocols, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Dhcp, Self::Tftp, Self::Http, Self::Iscsi, Self::Syslog];

    /// Returns the code of the protocol, for metrics, logs and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dhcp => "dhcp",
            Self::Tftp => "tftp",
            Self::Http => "http",
            Self::Iscsi => "iscsi",
            Self::Syslog => "syslog",
        }
    }

    /// Returns the name of the protocol for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dhcp => "DHCP",
            Self::Tftp => "TFTP",
            Self::Http => "HTTP",
            Self::Iscsi => "iSCSI",
            Self::Syslog => "syslog",
        }
    }
}
