//! Values in the details of events.

use serde::{Deserialize, Serialize};

/// The delivery of a config to a machine that does not request it by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryChannel {
    /// The first read of the NoCloud seed on a unit next to the image. Firmware reads only the image's unit.
    SeedUnit,
    /// The first read of the image that the config is embedded in. The reader may still be the boot loader.
    Embedded,
}

impl DeliveryChannel {
    /// Returns the code of the channel, in snake case.
    pub fn code(self) -> &'static str {
        match self {
            Self::SeedUnit => "seed_unit",
            Self::Embedded => "embedded",
        }
    }
}

/// The service of another DHCP server on one of our interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OtherServerRole {
    /// A server that sends boot information.
    BootServer,
    /// A server that assigns addresses, while this server does so too.
    AddressServer,
}

impl OtherServerRole {
    /// Returns the code of the role, in snake case.
    pub fn code(self) -> &'static str {
        match self {
            Self::BootServer => "boot_server",
            Self::AddressServer => "address_server",
        }
    }
}
