use std::net::IpAddr;

use uuid::Uuid;

use crate::fleet::{Architecture, Mac};

/// The claims of a client; nothing in it is proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The hardware address.
    pub mac: Mac,
    /// The firmware; `None` if the protocol does not carry it (an iSCSI login, a config request).
    pub firmware: Option<Firmware>,
    /// The stage of the boot.
    pub stage: Stage,
    /// The client's address, else its relay's, else ours on its segment.
    pub address: Option<IpAddr>,
    /// The machine's UUID, if the protocol carries it (DHCP option 97).
    pub uuid: Option<Uuid>,
}

/// The firmware of a machine, from DHCP options 93 and 60.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firmware {
    /// The architecture.
    pub architecture: Architecture,
    /// The protocol for the boot program.
    pub loading: BootProtocol,
}

/// The protocol by which firmware fetches its boot program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootProtocol {
    /// TFTP: vendor class `PXEClient`.
    Pxe,
    /// HTTP: vendor class `HTTPClient` (UEFI HTTP Boot).
    Http,
}

/// The stage of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The firmware asks for a boot program.
    Rom,
    /// An iPXE with all features that our scripts need asks for its boot script.
    Ipxe,
    /// An iPXE without iSCSI, HTTP or its platform's loader asks: it is sent our iPXE.
    LimitedIpxe,
    /// An initiator logs in to attach an image.
    IscsiLogin,
    /// An initiator logs in again after its install was complete, and its machine has not booted since.
    IscsiReturn,
    /// An installer, or an installed system at its first boot, requests its config.
    Installer,
}
