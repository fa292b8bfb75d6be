use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Meta, Name};

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
    /// Names the file: relative to the state directory's `isos/`, or absolute and served where it lies.
    pub iso_file: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(default = "yes")]
    pub read_only: bool,
    /// Lists the boot configs that a host may combine with this image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_configs: Vec<Name>,
    /// Names the target where the ISO lives elsewhere (a MikroTik ROSE, an LIO); ours when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal: Option<Portal>,
}

/// Is an external iSCSI target that serves an image in our stead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Portal {
    pub address: IpAddr,
    #[serde(default = "iscsi_port")]
    pub port: u16,
    pub target_iqn: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageStatus {
    /// Is `Ready`, or `Broken` with the reason in `message`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
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
    #[serde(rename = "volumeID", skip_serializing_if = "Option::is_none")]
    pub volume_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boots: Option<Firmwares>,
}

/// Says which firmware finds a boot entry in the ISO's El Torito catalogue.
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
