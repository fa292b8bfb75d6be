use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::conditions::TransitionTimes;
use super::{Architecture, BadName, Chap, Mac, Meta, Name, Power, PowerError, PowerTransition};

/// Is a machine that boots from the network (kind BareMetalHost).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    pub metadata: Meta,
    pub spec: HostSpec,
    #[serde(default)]
    pub status: HostStatus,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostSpec {
    #[serde(rename = "bootMACAddress")]
    pub boot_mac_address: Mac,
    #[serde(default, with = "blank_ip", skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    #[serde(default)]
    pub image: BootTarget,
    #[serde(default, with = "blank_name", skip_serializing_if = "Option::is_none")]
    pub boot_config_ref: Option<Name>,
    #[serde(default)]
    pub boot_mode: BootMode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc: Option<Bmc>,
    /// Holds kernel arguments that this host gets beside those of its image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_arguments: Vec<String>,
    /// Holds what this host proves itself with to the iSCSI target, in place of the site's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap: Option<Chap>,
    /// Says where this machine's own disk is, where the usual way of leaving iPXE misses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_disk: Option<LocalDisk>,
}

impl Host {
    /// Names the instance to cloud-init: another install of the same machine is another one, so that it runs again.
    pub fn instance(&self) -> String {
        let first = self.status.install.as_ref().and_then(|install| install.first_offer_time);
        format!("{}-{}", self.metadata.uid, first.map_or(0, Timestamp::as_second))
    }
}

impl HostSpec {
    /// Wishes for nothing but the local disk.
    pub fn for_mac(mac: Mac) -> Self {
        Self {
            boot_mac_address: mac,
            ip: None,
            image: BootTarget::LocalDisk,
            boot_config_ref: None,
            boot_mode: BootMode::Once,
            online: None,
            bmc: None,
            kernel_arguments: Vec::new(),
            chap: None,
            local_disk: None,
        }
    }
}

/// Says what a host is to boot: its own disk, an image by name, or what a person picks from a menu.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BootTarget {
    #[default]
    LocalDisk,
    Menu,
    Image(Name),
}

impl BootTarget {
    pub fn image(&self) -> Option<&Name> {
        match self {
            Self::LocalDisk | Self::Menu => None,
            Self::Image(name) => Some(name),
        }
    }
}

impl FromStr for BootTarget {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        match text {
            "" | "localboot" => Ok(Self::LocalDisk),
            "menu" => Ok(Self::Menu),
            name => name.parse().map(Self::Image),
        }
    }
}

impl fmt::Display for BootTarget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::LocalDisk => "localboot",
            Self::Menu => "menu",
            Self::Image(name) => name.as_str(),
        })
    }
}

impl Serialize for BootTarget {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BootTarget {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BootMode {
    /// Installs, then boots the local disk until another install is asked for.
    #[default]
    Once,
    /// BootTarget the image at every boot.
    Forever,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bmc {
    pub address: String,
    #[serde(default)]
    pub username: String,
    #[serde(default)]
    pub password: Secret,
    /// Says that the controller's certificate may be anybody's: most make their own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disable_certificate_verification: bool,
}

/// Holds a secret. It is written in full to the store only; `Debug` and the API show that there is one.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl Secret {
    /// Stands for a secret wherever one is read; written back, it means "unchanged".
    pub const REDACTED: &'static str = "REDACTED";

    /// Are the JSON pointers of every secret that an object's spec may hold beside a confidential config's files.
    pub const PLACES: [&'static str; 5] = [
        "/spec/bmc/password",
        "/spec/chap/secret",
        "/spec/chap/targetSecret",
        "/spec/portal/chap/secret",
        "/spec/portal/chap/targetSecret",
    ];

    pub fn is_redacted(&self) -> bool {
        self.0 == Self::REDACTED
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(Self::REDACTED)
    }
}

/// Picks the local disk for iPXE's `sanboot`, where drive 0x80 is not the one with the OS.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalDisk {
    /// Is the BIOS drive number or the iPXE drive, as `sanboot --drive` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drive: Option<u8>,
    /// Names a boot file of the UEFI system partition, as `sanboot --filename` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
}

/// Says where a host is in its life; only `lifecycle::advance` changes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Is known, and boots its own disk.
    #[default]
    LocalBoot,
    /// Is known, and not answered until somebody says more.
    Held,
    /// Will be given its image at the next boot.
    Assigned,
    /// Has been given its script.
    Offered,
    /// Has asked for its config: the installer runs.
    Installing,
    /// Has said that it is done.
    Installed,
    /// Did not say so in time, or in as many boots as the site allows.
    Failed,
}

impl Phase {
    pub const ALL: [Self; 7] =
        [Self::LocalBoot, Self::Held, Self::Assigned, Self::Offered, Self::Installing, Self::Installed, Self::Failed];

    /// Says whether an install has begun and not ended.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Offered | Self::Installing)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostStatus {
    pub phase: Phase,
    /// Is when the phase last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase_transition_time: Option<Timestamp>,
    /// Says why the phase is what it is, where there is more to say than its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Says what of the spec has no effect, as of the last write and the last boot.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Is the architecture that the machine's firmware last claimed.
    #[serde(with = "architecture_name", skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Architecture>,
    /// Is the address that the machine last had, as far as anything but its own word ties it to the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Is the UUID that the machine's firmware last claimed, spelled as SMBIOS tools show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<uuid::Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen_time: Option<Timestamp>,
    /// Is when a script was last given to the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_boot_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install: Option<Install>,
    /// Is whether the machine runs, as its controller last said; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// Is when `power` became what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_transition_time: Option<Timestamp>,
    /// Says what keeps the power unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_error: Option<Box<PowerError>>,
    /// Is what the controller is being told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_transition: Option<Box<PowerTransition>>,
    /// Is the store's own: clients are shown the conditions that it is part of.
    #[serde(skip_serializing)]
    pub transition_times: Option<Box<TransitionTimes>>,
}

/// Counts what happened since an install was last asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Install {
    /// Is when the first script of this install was served: the site's limit counts from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_offer_time: Option<Timestamp>,
    /// Counts the boots that were given the image's script.
    pub boot_count: u32,
    /// Is when the installer was first given its config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_fetch_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Timestamp>,
}

mod architecture_name {
    use super::{Architecture, Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<Architecture>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(architecture) => to.collect_str(architecture),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Architecture>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
    }
}

/// Reads an empty text as "none given", which is how Kubernetes' typed clients send it.
macro_rules! blank_is_none {
    ($module:ident, $type:ty, $read:path) => {
        mod $module {
            use serde::{Deserialize, Deserializer, Serializer};

            pub fn serialize<S: Serializer>(value: &Option<$type>, to: S) -> Result<S::Ok, S::Error> {
                match value {
                    Some(value) => to.collect_str(value),
                    None => to.serialize_none(),
                }
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<$type>, D::Error> {
                match Option::<String>::deserialize(from)?.as_deref() {
                    None | Some("") => Ok(None),
                    Some(text) => {
                        $read(text).map(Some).map_err(|error| serde::de::Error::custom(format!("{text:?}: {error}")))
                    }
                }
            }
        }
    };
}
blank_is_none!(blank_ip, std::net::IpAddr, crate::fleet::address);
blank_is_none!(blank_name, crate::fleet::Name, str::parse);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_operators_write_it() {
        let json = r#"{"metadata":{"name":"server1","namespace":"default"},"spec":{
            "bootMACAddress":"AC:1F:6B:8A:A7:9C","ip":"192.168.10.10","image":"coreos-live",
            "bootConfigRef":"","bootMode":"once","online":true,
            "bmc":{"address":"192.168.11.10","username":"ADMIN","password":"ADMIN"}}}"#;
        let host: Host = serde_json::from_str(json).unwrap();
        assert_eq!(host.spec.image, BootTarget::Image("coreos-live".parse().unwrap()));
        assert_eq!(host.spec.boot_config_ref, None);
        assert!(!format!("{host:?}").contains("\"ADMIN\"}"), "a secret in Debug");
        let again: Host = serde_json::from_str(&serde_json::to_string(&host).unwrap()).unwrap();
        assert_eq!(again, host);
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let json = r#"{"metadata":{"name":"a"},"spec":{"bootMacAddress":"52:54:00:00:00:01"}}"#;
        let error = serde_json::from_str::<Host>(json).unwrap_err().to_string();
        assert!(error.contains("bootMacAddress"), "{error}");
    }
}
