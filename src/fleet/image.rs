use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Chap, Meta, Name};

/// Is an ISO that hosts can boot (kind ISCSICdrom).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    pub metadata: Meta,
    pub spec: ImageSpec,
    #[serde(default)]
    pub status: ImageStatus,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageSpec {
    /// Names the file: relative to the state directory's `isos/`, or absolute and served where it lies. Empty
    /// where the ISO lies elsewhere.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub iso_file: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(default = "yes")]
    pub read_only: bool,
    /// Lists the boot configs that a host may combine with this image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_configs: Vec<Name>,
    /// Says how a machine boots the image.
    #[serde(default)]
    pub method: Method,
    /// Is what `method: chain` goes to; where the ISO is that `method: http` boots, if it has no file here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Holds kernel arguments that every boot of the image gets, beside those in its own menus.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_arguments: Vec<String>,
    /// Holds kernel arguments that are taken out: whole (`quiet`), or by name (`console=`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_arguments: Vec<String>,
    /// Says how the installer is told where a host's config is.
    #[serde(default)]
    pub config_delivery: Delivery,
    /// Names images that are attached beside this one: drivers beside an installer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub companions: Vec<Name>,
    /// Says what the image shows itself as over iSCSI.
    #[serde(default)]
    pub attach_as: AttachAs,
    /// Names the target where the ISO lives elsewhere (a MikroTik ROSE, an LIO); ours when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal: Option<Portal>,
}

impl ImageSpec {
    /// Describes an ISO file that is booted in the usual way.
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
}

impl ImageSpec {
    /// Says whether the ISO is booted from a URL elsewhere, and no file of it is here.
    pub fn is_at_url(&self) -> bool {
        self.method == Method::Http && self.iso_file.is_empty() && self.url.is_some()
    }

    /// Says whether the image's bytes are ours to give: a file, and neither a portal's nor a URL's.
    pub fn is_local(&self) -> bool {
        self.portal.is_none() && self.method != Method::Chain && !self.is_at_url()
    }

    /// Names the images that iPXE attaches beside this one.
    pub fn attached_companions(&self) -> &[Name] {
        match self.method {
            Method::Sanboot | Method::Sanhook if self.is_local() => &self.companions,
            Method::Sanboot | Method::Sanhook | Method::Kernel | Method::Http | Method::Chain => &[],
        }
    }

    /// Says in words where the image's bytes are that are not here; nothing where they are.
    pub fn remote_location(&self) -> Option<String> {
        match &self.portal {
            _ if self.is_local() => None,
            Some(Portal { address, port, target_iqn, .. }) => {
                Some(format!("at the portal {}, target {target_iqn}", SocketAddr::new(*address, *port)))
            }
            // What is behind the server's name may be secret.
            None => {
                let url = self.url.as_deref().unwrap_or_default();
                let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
                let server = rest.split(['/', '?', '#']).next().unwrap_or_default();
                Some(format!("at {scheme}://{}", server.rsplit('@').next().unwrap_or_default()))
            }
        }
    }
}

/// Says how a machine boots an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// iPXE attaches the ISO over iSCSI and runs its own boot loader.
    #[default]
    Sanboot,
    /// iPXE loads the ISO's kernel and initrd over HTTP, with the arguments that the host needs.
    Kernel,
    /// As `Kernel`, with the ISO attached over iSCSI (the iBFT tells the kernel where).
    Sanhook,
    /// iPXE attaches the ISO over HTTP: no iSCSI, and nothing left of it once the kernel runs.
    Http,
    /// iPXE goes on to another URL.
    Chain,
}

/// Says how an installer is told where its host's config is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// By the kernel arguments of the image's family, where it is one that is known.
    #[default]
    Auto,
    /// Within the image as the host sees it: CoreOS's own area, or `/ks.cfg`, `/preseed.cfg`, `/user-data`.
    Embed,
    /// As a NoCloud seed (volume `cidata`) on a unit of its own beside the image.
    Seed,
    /// Not at all: the image knows by itself.
    None,
}

/// Says what an image shows itself as over iSCSI.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachAs {
    /// As a CD-ROM. No firmware needs a disk: iPXE takes one that holds an ISO 9660 volume for a CD-ROM, under
    /// BIOS and UEFI alike, and leaves its partition tables alone (seen with the programs of 2025-05).
    #[default]
    Cdrom,
    /// As a read-only disk of 512-byte blocks, for initiators that are not iPXE, and kernels without a CD-ROM's driver.
    Disk,
}

/// Is an external iSCSI target that serves an image in our stead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Portal {
    #[serde(deserialize_with = "super::address::deserialize")]
    pub address: IpAddr,
    #[serde(default = "iscsi_port")]
    pub port: u16,
    pub target_iqn: String,
    /// Holds what initiators prove themselves with there. What our own target asks for is not for others' ears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap: Option<Chap>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageStatus {
    /// Is `Ready`, or `Broken` with the reason in `message`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Says what of the image is not as hosts may expect that get a view of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    #[serde(rename = "targetIQN", skip_serializing_if = "String::is_empty")]
    pub target_iqn: String,
    #[serde(rename = "portalIP", skip_serializing_if = "Option::is_none")]
    pub portal_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portal_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Is when the file was last written, as its file system has it: with its size, what it is known again by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_modification_time: Option<Timestamp>,
    #[serde(rename = "volumeID", skip_serializing_if = "Option::is_none")]
    pub volume_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boots: Option<Firmwares>,
    /// Names what the image holds, in its makers' words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub distribution: String,
    /// Is the distribution's family, which says how its installer is told where its config is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub family: String,
    /// Is what the image's own menu boots first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelFiles>,
}

impl ImageStatus {
    /// Is the phase of an image that hosts can boot.
    pub const READY: &str = "Ready";
    /// Is the phase of an image whose file cannot be served as it is.
    pub const BROKEN: &str = "Broken";

    /// Says whether the image's file cannot be served as it is.
    pub fn is_broken(&self) -> bool {
        self.phase == Self::BROKEN
    }

    /// Says whether it tells of the file that has this size and was last written then, as far as can be known.
    pub fn is_of(&self, size: u64, modified: Option<Timestamp>) -> bool {
        self.size_bytes.is_none_or(|known| known == size)
            && self.file_modification_time.is_none_or(|known| Some(known) == modified)
    }
}

/// Is a kernel within an image, as the image's own menu boots it. Paths are within the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelFiles {
    pub kernel: String,
    pub initrds: Vec<String>,
    pub arguments: String,
}

/// Says which firmware boots an image by its El Torito catalogue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firmwares {
    pub bios: bool,
    pub uefi: bool,
}

fn yes() -> bool {
    true
}

fn iscsi_port() -> u16 {
    3260
}
