//! The nouns: hosts, images, boot configs, and the pure rules over them.
//! Nothing in this folder touches the world; times arrive as arguments.

mod address;
mod architecture;
mod bmc;
mod boot_config;
pub mod boot_override;
mod chap;
pub mod conditions;
pub mod enrolment;
mod hex;
mod host;
pub mod host_match;
mod image;
pub mod labels;
mod lease;
pub mod lifecycle;
mod mac;
mod meta;
mod object;
pub mod power;
pub mod rules;
mod subnet;
mod volume;

pub use crate::fleet::host_match::HostMatch;
pub use crate::fleet::labels::StringMap;
pub use address::{address, rejection_reason};
pub use architecture::Architecture;
pub use bmc::{BadBmcAddress, BmcAddress, BmcProtocol};
pub use boot_config::{BootConfig, BootConfigSpec, Format};
pub use chap::Chap;
pub use hex::{hex, is_sha256};
pub use host::{Bmc, BootMode, BootTarget, Host, HostSpec, HostStatus, Install, LocalDisk, Phase, Secret};
pub use image::{AttachAs, Delivery, Firmwares, Image, ImageSpec, ImageStatus, KernelFiles, Method, Portal};
pub use lease::{Lease, LeaseState};
pub use mac::{BadMac, Mac, octets};
pub use meta::{BadName, Key, Kind, Meta, Name, Owner};
pub use object::{Object, take_out, without_value};
pub use power::{Power, PowerError, PowerTransition};
pub use subnet::{LeaseTimes, Reservation, Reserved, Subnet};
pub use volume::Volume;
