//! The nouns: hosts, images, boot configs, and the rules over them. Pure: times are arguments.

mod address;
mod architecture;
mod binary_file;
mod bmc;
mod boot_config;
pub mod boot_device;
pub mod boot_override;
pub mod boot_risk;
mod chap;
pub mod conditions;
mod config_template;
mod decode;
pub mod embedded_text;
pub mod enrolment;
pub mod first_seen;
pub mod hardware;
mod host;
pub mod host_match;
mod image;
mod ipmi;
pub mod labels;
mod lease;
pub mod lifecycle;
mod mac;
pub mod machine_uuid;
mod managed_fields;
mod meta;
mod notification_kind;
mod object;
pub mod power;
pub mod power_request;
mod reset;
pub mod rules;
mod schema;
mod secret;
mod stall;
mod subnet;
pub mod text;
pub mod transition_times;
mod volume;

pub use crate::fleet::host_match::HostMatch;
pub use crate::fleet::labels::StringMap;
pub use address::{address, rejection_reason};
pub use architecture::Architecture;
pub use binary_file::BinaryFile;
pub use bmc::{BadBmcAddress, BmcAddress, BmcProtocol, BmcRecord, DetectedProtocol};
pub use boot_config::{BootConfig, BootConfigSpec, Format, TemplatePin, TemplateReference};
pub use boot_device::FirmwareMode;
pub use boot_risk::BootRisk;
pub use chap::Chap;
pub use config_template::{
    ConfigTemplate, ConfigTemplateSpec, ConfigTemplateStatus, RenderedTemplate, TemplateVersion, ValueRule, ValueType,
    Values,
};
pub use decode::{DecodeError, FieldPath, PathPart, deserialize_text, deserialize_with_path};
pub use first_seen::{EntryPoint, FirstSeen, FirstSeenLimits};
pub use hardware::HardwareDetails;
pub use host::{Bmc, BootMode, BootTarget, Host, HostSpec, HostStatus, Install, LocalDisk, Phase};
pub use image::{
    AttachAs, Delivery, Firmwares, Image, ImageSpec, ImageStatus, KernelFiles, KernelSize, Method, Portal, is_sha256,
};
pub use ipmi::{CipherSuite, PrivilegeLevel};
pub use lease::{Lease, LeaseState};
pub use mac::{BadMac, Mac, octets};
pub use managed_fields::ManagedFields;
pub use meta::{BadName, Key, Kind, Meta, Name, Owner};
pub use notification_kind::NotificationKind;
pub use object::{Object, remove_path, without_value};
pub use power::{
    AcceptedReset, BootDevice, BootDeviceRecord, Power, PowerError, PowerOperation, PowerTransition, TransitionState,
};
pub use reset::Reset;
pub use secret::Secret;
pub use stall::{BootStage, Certainty, Stall, StallReason};
pub use subnet::{LeaseTimes, Reservation, Reserved, Subnet};
pub use volume::Volume;
