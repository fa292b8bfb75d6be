//! The specification of a rig, as its file has it. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A rig: a LAN with the server, and virtual machines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// `Rig`, if it is given.
    pub kind: Option<RigKind>,
    /// Who assigns the addresses of the LAN.
    #[serde(default)]
    pub dhcp: Dhcp,
    /// Keys of bootlatch.toml.
    #[serde(default)]
    pub server: String,
    /// ISOs.
    #[serde(default)]
    pub images: Vec<ImageEntry>,
    /// Boot configs.
    #[serde(default)]
    pub configs: Vec<ConfigEntry>,
    /// Virtual machines.
    pub machines: Vec<MachineSpec>,
    /// Faults of the LAN.
    #[serde(default)]
    pub faults: Vec<FaultSpec>,
    /// What must happen, and what must not.
    #[serde(default)]
    pub expect: Vec<Expectation>,
}

/// The kind of a specification.
#[derive(Debug, Clone, Copy, Deserialize)]
pub enum RigKind {
    /// A rig.
    Rig,
}

/// Who assigns the addresses of the LAN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dhcp {
    /// bootlatch.
    #[default]
    Own,
    /// dnsmasq, on another machine of the LAN; bootlatch is a ProxyDHCP server.
    Proxy,
}

/// An ISO that the server has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageEntry {
    /// Name of the object.
    pub name: String,
    /// The file; none of an image with a URL.
    pub iso: Option<PathBuf>,
    /// Boot config of hosts that name none.
    pub config: Option<String>,
    /// Further fields of the object's spec.
    #[serde(default)]
    pub spec: serde_json::Map<String, Value>,
}

/// A boot config that the server has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigEntry {
    /// Name of the object.
    pub name: String,
    /// Format, as in BootConfig.
    pub format: String,
    /// Texts by the name of their file in the config.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// Files by their name in the config.
    #[serde(default)]
    pub files: BTreeMap<String, PathBuf>,
}

/// A virtual machine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// Name of the machine and of its host.
    pub name: String,
    /// Number of processors.
    #[serde(default = "one")]
    pub cpu_cores: u32,
    /// Memory in MiB.
    #[serde(default = "default_memory")]
    pub memory_mib: u32,
    /// Firmware.
    #[serde(default)]
    pub firmware: Firmware,
    /// Order of the devices that are bootable.
    #[serde(default = "default_order")]
    pub boot_order: Vec<BootDevice>,
    /// Disks.
    #[serde(default)]
    pub disks: Vec<DiskSpec>,
    /// CD-ROMs.
    #[serde(default)]
    pub cdroms: Vec<CdromSpec>,
    /// Files of a NoCloud seed, which becomes a further CD-ROM.
    pub cloud_init: Option<CloudInit>,
    /// Network interfaces on the LAN. One, unless they are listed.
    #[serde(default = "one_nic")]
    pub nics: Vec<NicSpec>,
    /// The host that the server knows before the machine starts; without it the machine is unknown.
    pub host: Option<HostEntry>,
}

/// Firmware of a virtual machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Firmware {
    /// SeaBIOS.
    #[default]
    #[serde(rename = "FIRMWARE_BIOS", alias = "bios")]
    Bios,
    /// OVMF.
    #[serde(rename = "FIRMWARE_UEFI", alias = "uefi")]
    Uefi,
    /// OVMF with Secure Boot and Microsoft's keys.
    #[serde(rename = "FIRMWARE_UEFI_SECURE", alias = "secure")]
    Secure,
    /// AAVMF, on an arm64 machine.
    #[serde(rename = "FIRMWARE_ARM64", alias = "arm64")]
    Arm64,
}

/// A kind of device that a machine boots from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum BootDevice {
    /// The network interfaces.
    #[serde(rename = "BOOT_DEVICE_NETWORK", alias = "network")]
    Network,
    /// The disks.
    #[serde(rename = "BOOT_DEVICE_DISK", alias = "disk")]
    Disk,
    /// The CD-ROMs.
    #[serde(rename = "BOOT_DEVICE_CDROM", alias = "cdrom")]
    Cdrom,
}

/// A disk.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskSpec {
    /// Name of the disk.
    pub id: String,
    /// Size in GiB. A disk with a backing file has that one's size without it.
    pub size_gib: Option<u32>,
    /// Whether the machine boots from it.
    #[serde(default = "yes")]
    pub bootable: bool,
    /// Image that the disk is an overlay of. It is not changed.
    pub backing_file: Option<PathBuf>,
}

/// A CD-ROM.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CdromSpec {
    /// Name of the CD-ROM.
    pub id: String,
    /// The ISO.
    pub iso_path: PathBuf,
    /// Whether the machine boots from it.
    #[serde(default = "yes")]
    pub bootable: bool,
}

/// Files of a NoCloud seed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CloudInit {
    /// `user-data`.
    pub user_data: Option<String>,
    /// `meta-data`. By default the machine's name.
    pub meta_data: Option<String>,
    /// `network-config`.
    pub network_config: Option<String>,
    /// `vendor-data`.
    pub vendor_data: Option<String>,
}

/// A network interface.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NicSpec {
    /// QEMU's name of the model.
    #[serde(default = "default_model")]
    pub model: String,
    /// MAC address. By default one of QEMU's range.
    pub mac: Option<String>,
    /// Boot ROM under BIOS in place of QEMU's.
    pub rom: Option<PathBuf>,
}

/// A host that the server knows before the machine starts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostEntry {
    /// Image that it boots.
    pub image: Option<String>,
    /// Boot config of the image.
    pub config: Option<String>,
    /// Further fields of the object's spec.
    #[serde(default)]
    pub spec: serde_json::Map<String, Value>,
}

/// A fault of the LAN. Exactly one of `drop`, `lose` and `delay` is given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSpec {
    /// Protocol or UDP/TCP port of the server whose packets are dropped.
    pub drop: Option<Value>,
    /// Bytes that a machine gets from that port before the drops begin.
    #[serde(default)]
    pub after: Option<Bytes>,
    /// Share of the frames that are lost, in percent.
    pub lose: Option<f64>,
    /// Time that each frame is delayed by.
    pub delay: Option<Limit>,
    /// Machine whose frames are affected; by default all.
    pub machine: Option<String>,
}

/// What must happen to a machine within a time, or must not. Exactly one of the conditions is given, or `never` with one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// Machine. Needs not be given if there is one only.
    pub machine: Option<String>,
    /// Phase of the host.
    pub phase: Option<String>,
    /// Text on the serial console.
    pub console: Option<String>,
    /// Event in the host's timeline.
    pub event: Option<String>,
    /// Reason code of the host's diagnosis.
    pub diagnosis: Option<String>,
    /// What must not happen in the time.
    pub never: Option<Condition>,
    /// Time limit, from the expectation of this machine before it, or from power-on; of `never` always from power-on.
    pub within: Option<Limit>,
    /// Keys that are pressed once it is met.
    #[serde(default)]
    pub press: Vec<String>,
}

/// A condition of `never`: exactly one field is given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Phase of the host.
    pub phase: Option<String>,
    /// Text on the serial console.
    pub console: Option<String>,
    /// Event in the host's timeline.
    pub event: Option<String>,
    /// Reason code of the host's diagnosis.
    pub diagnosis: Option<String>,
}

/// A time, as in `90s`, `10m`, `50ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub Duration);

/// A number of bytes, as in `4096`, `100kB`, `1MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// Time limit of an expectation without `within`.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(300);
/// Maximum time of an expectation.
const MAX_LIMIT: Duration = Duration::from_secs(86_400);

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        let found = unit(&text, &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)]).map(Duration::from_millis);
        let found = found.filter(|limit| (Duration::from_millis(1)..=MAX_LIMIT).contains(limit));
        found.map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!("{text:?} is no time: expected a number with ms, s, m or h, at most 24h"))
        })
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(source)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let units = [("kB", 1000), ("KiB", 1024), ("MB", 1_000_000), ("MiB", 1 << 20), ("B", 1), ("", 1)];
        unit(&text, &units).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!("{text:?} is no size: expected a number, or one with kB, KiB, MB or MiB"))
        })
    }
}

/// Parses a whole number with one of the units.
fn unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(text.len());
    let (_, factor) = units.iter().find(|(name, _)| *name == text[digits..].trim_start())?;
    text[..digits].parse::<u64>().ok()?.checked_mul(*factor)
}

fn one() -> u32 {
    1
}

fn default_memory() -> u32 {
    1024
}

fn default_order() -> Vec<BootDevice> {
    vec![BootDevice::Network, BootDevice::Cdrom, BootDevice::Disk]
}

fn default_model() -> String {
    "virtio-net-pci".to_owned()
}

fn one_nic() -> Vec<NicSpec> {
    vec![NicSpec { model: default_model(), mac: None, rom: None }]
}

fn yes() -> bool {
    true
}
