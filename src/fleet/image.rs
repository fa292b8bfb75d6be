use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Chap, Meta, Name};

/// An ISO that hosts can boot (kind ISCSICdrom).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Name, labels, identity and version.
    pub metadata: Meta,
    /// The declared part.
    pub spec: ImageSpec,
    /// The observed part, written by the server only.
    #[serde(default)]
    pub status: ImageStatus,
}

/// The declared part of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageSpec {
    /// Path of the file: relative to `isos/` in the state directory, or absolute. Empty for an ISO on another server.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub iso_file: String,
    /// Description for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Always true: a CD-ROM is read-only.
    #[serde(default = "yes")]
    pub read_only: bool,
    /// The configs that a host may combine with this image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_configs: Vec<Name>,
    /// The boot method.
    #[serde(default)]
    pub method: Method,
    /// Target of `method: chain`; for `method: http` without a file here, the URL of the ISO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Kernel arguments of every boot, after those in the image's own menus.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_arguments: Vec<String>,
    /// Kernel arguments to remove: whole (`quiet`), or by name (`console=`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_arguments: Vec<String>,
    /// The way that the installer finds a host's config.
    #[serde(default)]
    pub config_delivery: Delivery,
    /// Images that are attached with this one, such as the drivers of an installer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub companions: Vec<Name>,
    /// The device type over iSCSI.
    #[serde(default)]
    pub attach_as: AttachAs,
    /// The external iSCSI target that serves the ISO (a MikroTik ROSE, an LIO); absent for ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal: Option<Portal>,
}

impl ImageSpec {
    /// Returns the spec of an ISO file with all defaults.
    pub fn of_file(iso_file: impl Into<String>) -> Self {
        Self {
            iso_file: iso_file.into(),
            description: String::new(),
            read_only: true,
            boot_configs: Vec::new(),
            method: Method::default(),
            url: None,
            kernel_arguments: Vec::new(),
            remove_arguments: Vec::new(),
            config_delivery: Delivery::default(),
            companions: Vec::new(),
            attach_as: AttachAs::default(),
            portal: None,
        }
    }

    /// Returns whether the ISO is booted from a URL of another server.
    pub fn is_at_url(&self) -> bool {
        self.method == Method::Http && self.iso_file.is_empty() && self.url.is_some()
    }

    /// Returns whether this server serves the bytes of the image.
    pub fn is_local(&self) -> bool {
        self.portal.is_none() && self.method != Method::Chain && !self.is_at_url()
    }

    /// Returns the images that iPXE attaches with this one.
    pub fn attached_companions(&self) -> &[Name] {
        match self.method {
            Method::Sanboot | Method::Sanhook if self.is_local() => &self.companions,
            Method::Sanboot | Method::Sanhook | Method::Kernel | Method::Http | Method::Chain => &[],
        }
    }

    /// Describes the other server that serves the bytes of the image; `None` if this server does.
    pub fn remote_location(&self) -> Option<String> {
        match &self.portal {
            _ if self.is_local() => None,
            Some(Portal { address, port, target_iqn, .. }) => {
                Some(format!("at the portal {}, target {target_iqn}", SocketAddr::new(*address, *port)))
            }
            // The path of a URL may be secret.
            None => {
                let url = self.url.as_deref().unwrap_or_default();
                let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
                let server = rest.split(['/', '?', '#']).next().unwrap_or_default();
                Some(format!("at {scheme}://{}", server.rsplit('@').next().unwrap_or_default()))
            }
        }
    }
}

/// The boot method of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// iPXE attaches the ISO over iSCSI and runs its own boot loader.
    #[default]
    Sanboot,
    /// iPXE loads the ISO's kernel and initrd over HTTP, with the arguments that the host needs.
    Kernel,
    /// As `Kernel`, with the ISO attached over iSCSI (the iBFT contains the target).
    Sanhook,
    /// iPXE attaches the ISO over HTTP, without iSCSI. The kernel sees no device.
    Http,
    /// iPXE chains to another URL.
    Chain,
}

/// The way that an installer finds its host's config.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// By the kernel arguments of the image's family, if the family is known.
    #[default]
    Auto,
    /// Within the image as the host sees it: CoreOS's own area, or `/ks.cfg`, `/preseed.cfg`, `/user-data`.
    Embed,
    /// As a NoCloud seed (volume `cidata`) on a unit of its own.
    Seed,
    /// Not at all.
    None,
}

/// The device type of an image over iSCSI.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AttachAs {
    /// A CD-ROM. No firmware needs a disk: iPXE takes one that holds an ISO 9660 volume for a CD-ROM, under
    /// BIOS and UEFI alike, and leaves its partition tables alone (seen with the programs of 2025-05).
    #[default]
    Cdrom,
    /// A read-only disk of 512-byte blocks, for initiators that are not iPXE, and kernels without a CD-ROM's driver.
    Disk,
}

/// An external iSCSI target that serves an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Portal {
    /// Address of the target.
    #[serde(deserialize_with = "super::address::deserialize")]
    pub address: IpAddr,
    /// Port of the target.
    #[serde(default = "iscsi_port")]
    pub port: u16,
    /// iSCSI name of the target.
    pub target_iqn: String,
    /// CHAP secrets for this target only. Those for our own target are never sent to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap: Option<Chap>,
}

/// The observed part of an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageStatus {
    /// `Ready`, or `Broken` with the reason in `message`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// The reason for the phase.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Differences of the image from the expectations of hosts with a view of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// iSCSI name of the target.
    #[serde(rename = "targetIQN", skip_serializing_if = "String::is_empty")]
    pub target_iqn: String,
    /// Address of the target.
    #[serde(rename = "portalIP", skip_serializing_if = "Option::is_none")]
    pub portal_ip: Option<IpAddr>,
    /// Port of the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portal_port: Option<u16>,
    /// Size of the file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// SHA-256 digest of the file, in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Modification time of the file. Together with the size it identifies the examined file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_modification_time: Option<Timestamp>,
    /// Volume ID of the ISO.
    #[serde(rename = "volumeID", skip_serializing_if = "Option::is_none")]
    pub volume_id: Option<String>,
    /// Firmware that can boot the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boots: Option<Firmwares>,
    /// File names of the programs in `EFI/BOOT` that UEFI firmware starts: `BOOTX64.EFI` on x86-64, `BOOTAA64.EFI` on arm64.
    /// Absent if they could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uefi_programs: Option<Vec<String>>,
    /// Name of the distribution, as the image has it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub distribution: String,
    /// Family of the distribution, which determines how its installer finds its config.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub family: String,
    /// The kernel that `method: kernel` and `sanhook` load: that of the default entry of the image's own menus, unless it
    /// is a rescue system, an upgrade or a test. Absent if only the image's own boot loader can boot its kernels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelFiles>,
    /// Size of that kernel and of its initrds, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_size: Option<KernelSize>,
    /// Number of places in the image that get the kernel arguments of a host: kernel lines of its menus, and embed areas of
    /// CoreOS. Without one every host sees the image as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_lines: Option<usize>,
}

impl ImageStatus {
    /// Phase of an image that hosts can boot.
    pub const READY: &str = "Ready";
    /// Phase of an image whose file cannot be served.
    pub const BROKEN: &str = "Broken";

    /// Returns whether the image's file cannot be served.
    pub fn is_broken(&self) -> bool {
        self.phase == Self::BROKEN
    }

    /// Returns whether the status describes a file of this size and modification time, as far as both are known.
    pub fn matches_file(&self, size: u64, modified: Option<Timestamp>) -> bool {
        self.size_bytes.is_none_or(|known| known == size)
            && self.file_modification_time.is_none_or(|known| Some(known) == modified)
    }
}

/// The size of a kernel in an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KernelSize {
    /// Size of the kernel, in bytes.
    pub kernel_bytes: u64,
    /// Size of all initrds, in bytes.
    pub initrd_bytes: u64,
}

/// A kernel in an image, as the image's own menu boots it. Paths are within the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KernelFiles {
    /// Path of the kernel.
    pub kernel: String,
    /// Paths of the initrds.
    pub initrds: Vec<String>,
    /// Arguments of the kernel.
    pub arguments: String,
}

/// The firmware that can boot an image, by its El Torito catalogue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Firmwares {
    /// BIOS.
    pub bios: bool,
    /// UEFI.
    pub uefi: bool,
}

fn yes() -> bool {
    true
}

fn iscsi_port() -> u16 {
    3260
}
/// Returns whether a text is a SHA-256 digest: 64 hexadecimal digits.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|octet| octet.is_ascii_hexdigit())
}
