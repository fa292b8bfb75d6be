use std::net::IpAddr;

use uuid::Uuid;

use crate::fleet::{Architecture, Mac};

/// Holds what a client claims of itself; nothing in it is proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub mac: Mac,
    /// Is unknown where the protocol does not carry it (an iSCSI login, an installer's request).
    pub firmware: Option<Firmware>,
    pub stage: Stage,
    /// Is the client's address, or its relay's, or ours on its segment: whichever is known first.
    pub address: Option<IpAddr>,
    /// Is the machine's UUID, where the protocol carries it (DHCP option 97).
    pub uuid: Option<Uuid>,
}

/// Is what a machine's firmware is, from DHCP options 93 and 60.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firmware {
    pub architecture: Architecture,
    pub loading: BootProtocol,
}

/// Says how firmware fetches its boot program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootProtocol {
    /// TFTP, from a `PXEClient`.
    Pxe,
    /// HTTP, from an `HTTPClient`: UEFI HTTP Boot.
    Http,
}

/// Says how far a machine has come when it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The firmware asks what to load.
    Rom,
    /// An iPXE that can do all that our scripts need asks for its script.
    Ipxe,
    /// An iPXE that lacks iSCSI, HTTP or its platform's loader asks: it is given ours instead.
    LimitedIpxe,
    /// An initiator wants to attach an image.
    IscsiLogin,
    /// An installer, or an installed system at its first boot, asks for its config.
    Installer,
}
