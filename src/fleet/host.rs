use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::transition_times::TransitionTimes;
use super::{
    Architecture, BadName, BmcRecord, BootDeviceRecord, BootRisk, Chap, CipherSuite, FirstSeen, HardwareDetails, Mac,
    Meta, Name, Power, PowerError, PowerTransition, PrivilegeLevel, RenderedTemplate, Secret, Stall, Values,
};

/// A machine that boots from the network (kind BareMetalHost).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Name, labels, identity and version.
    pub metadata: Meta,
    /// The declared part.
    pub spec: HostSpec,
    /// The observed part, written by the server only.
    #[serde(default)]
    pub status: HostStatus,
}

/// The declared part of a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostSpec {
    /// Hardware address of the interface that the machine boots from.
    #[serde(rename = "bootMACAddress")]
    pub boot_mac_address: Mac,
    /// Address of the installed system; requests from it belong to this host.
    #[serde(default, with = "blank_ip", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub ip: Option<IpAddr>,
    /// The boot target of the machine.
    #[serde(default)]
    pub image: BootTarget,
    /// The config of the installer.
    #[serde(default, with = "blank_name", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Name>")]
    pub boot_config_ref: Option<Name>,
    /// Whether the image is booted once or at every boot.
    #[serde(default)]
    pub boot_mode: BootMode,
    /// The requested power state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    /// The BMC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc: Option<Bmc>,
    /// Kernel arguments of this host, after those of its image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_arguments: Vec<String>,
    /// CHAP secrets of this host for our iSCSI target, in place of those in the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap: Option<Chap>,
    /// The machine's local disk, if iPXE does not find it by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_disk: Option<LocalDisk>,
    /// Values for the template of its config, over the template's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Box<Values>>,
}

impl Host {
    /// Returns the instance ID for cloud-init. It differs for each install, so that cloud-init runs again.
    pub fn instance(&self) -> String {
        let first = self.status.install.as_ref().and_then(|install| install.first_offer_time);
        format!("{}-{}", self.metadata.uid, first.map_or(0, Timestamp::as_second))
    }
}

impl Host {
    /// Returns whether discovery made the host, nobody has changed it since, and it boots nothing from the network. A
    /// declared host may take its place.
    pub fn is_merely_discovered(&self) -> bool {
        let Meta { name, generation, labels, annotations, .. } = &self.metadata;
        let is_unchanged = *generation == 1 && labels.is_empty() && annotations.is_empty();
        let is_waiting = matches!(self.status.phase, Phase::Held | Phase::LocalBoot);
        is_unchanged
            && is_waiting
            && name.as_str() == self.spec.boot_mac_address.dashed()
            && self.spec == HostSpec::for_mac(self.spec.boot_mac_address)
    }
}

impl HostSpec {
    /// Returns the spec of a machine that boots its local disk.
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
            values: None,
        }
    }
}

/// The boot target of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BootTarget {
    /// The local disk.
    #[default]
    LocalDisk,
    /// The image that a person picks from a menu.
    Menu,
    /// An image.
    Image(Name),
}

impl BootTarget {
    /// Returns the image, if there is one.
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

/// The number of boots of a host's image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BootMode {
    /// For one install; afterwards the host boots its local disk until another install is requested.
    #[default]
    Once,
    /// At every boot.
    Forever,
}

/// The BMC of a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bmc {
    /// The address: `192.168.11.10` (the protocol is detected), `ipmi://HOST[:PORT]`,
    /// `redfish://HOST[:PORT][/redfish/v1/Systems/ID]`, `redfish+http://...` or `redfish-virtualmedia://...`.
    pub address: String,
    /// The user name.
    #[serde(default)]
    pub username: String,
    /// The password.
    #[serde(default)]
    pub password: Secret,
    /// Whether any certificate is accepted: most BMCs have a self-signed one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disable_certificate_verification: bool,
    /// The privilege level of IPMI sessions; `operator` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privilege_level: Option<PrivilegeLevel>,
    /// The only cipher suite of IPMI sessions. If absent, 17, or 3 for a BMC that does not have 17.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher_suite: Option<CipherSuite>,
    /// Whether the serial console is captured, over IPMI (Serial over LAN).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub console: bool,
}

impl Bmc {
    /// Returns a BMC with the default options.
    pub fn new(address: impl Into<String>, username: impl Into<String>, password: Secret) -> Self {
        Self {
            address: address.into(),
            username: username.into(),
            password,
            disable_certificate_verification: false,
            privilege_level: None,
            cipher_suite: None,
            console: false,
        }
    }

    /// Returns whether this is the same BMC, reached in the same way. What is done with it may differ.
    pub fn same_access(&self, other: &Self) -> bool {
        *self == Self { console: self.console, ..other.clone() }
    }

    /// Returns whether the machine boots its image from the virtual drive of the BMC, as the scheme of the address asks.
    pub fn boots_virtual_media(&self) -> bool {
        self.address.starts_with("redfish-virtualmedia")
    }
}

/// The local disk for iPXE's `sanboot`, if the operating system is not on drive 0x80.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LocalDisk {
    /// The drive number for `sanboot --drive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drive: Option<u8>,
    /// The boot file on the UEFI system partition for `sanboot --filename`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
}

/// The phase of a host. Only `lifecycle::advance` changes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Known; boots its local disk.
    #[default]
    LocalBoot,
    /// Known; not answered until an operator decides.
    Held,
    /// Boots its image at the next boot.
    Assigned,
    /// Its boot script was served.
    Offered,
    /// Its config was served: the installer runs.
    Installing,
    /// The machine reported a completed install.
    Installed,
    /// The machine reported no completed install within `install.timeout` or `install.max_boots`.
    Failed,
}

impl Phase {
    /// All phases, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::LocalBoot, Self::Held, Self::Assigned, Self::Offered, Self::Installing, Self::Installed, Self::Failed];

    /// Returns whether an install has begun and not ended.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Offered | Self::Installing)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}

/// The observed part of a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HostStatus {
    /// The phase.
    pub phase: Phase,
    /// Time of the last change of the phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase_transition_time: Option<Timestamp>,
    /// The reason for the phase, if its name alone does not explain it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What will not work at the boot of the image, or has no effect on it, as far as it is known before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The reason of each of the warnings; `None` before the first check. Kept in the store; clients see the condition.
    #[serde(skip_serializing)]
    #[schemars(skip)]
    pub boot_risks: Option<Vec<BootRisk>>,
    /// Architecture that the machine's firmware last claimed.
    #[serde(with = "architecture_name", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub firmware: Option<Architecture>,
    /// Last address of the machine that evidence other than its own claim ties to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// UUID that the machine's firmware claimed, as SMBIOS tools show it; the first one, unless a script request from the
    /// machine's own address claimed another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<uuid::Uuid>,
    /// Time of the machine's last request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen_time: Option<Timestamp>,
    /// Time at which a boot script was last served to the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_boot_time: Option<Timestamp>,
    /// The hardware, as the machine reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Box<HardwareDetails>>,
    /// The present install.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install: Option<Install>,
    /// The diagnosis of its boot, while that does not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall: Option<Box<Stall>>,
    /// The last rendering of its config; absent for a config without a template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rendered_template: Option<Box<RenderedTemplate>>,
    /// The power state that the BMC last reported; absent for a host without a BMC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// Time of the last change of `power`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_transition_time: Option<Timestamp>,
    /// The error that keeps the power state unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_error: Option<Box<PowerError>>,
    /// The power change in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_transition: Option<Box<PowerTransition>>,
    /// The last power change that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_power_transition: Option<Box<PowerTransition>>,
    /// The boot device that the BMC was last told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_device: Option<Box<BootDeviceRecord>>,
    /// What was learnt of the BMC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bmc: Option<Box<BmcRecord>>,
    /// Transition times of the conditions. Kept in the store; clients see them in the conditions.
    #[serde(skip_serializing)]
    #[schemars(skip)]
    pub transition_times: Option<Box<TransitionTimes>>,
    /// The mark of a host that was only seen so far. Kept in the store only.
    #[serde(skip_serializing)]
    #[schemars(skip)]
    pub first_seen: Option<Box<FirstSeen>>,
}

impl HostStatus {
    /// Returns whether nobody declared the host, and its machine did nothing but be seen.
    pub fn is_first_seen_only(&self) -> bool {
        self.first_seen.is_some()
    }
}

/// An install, since it was requested.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Install {
    /// Time at which the first boot script of this install was served; `install.timeout` counts from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_offer_time: Option<Timestamp>,
    /// Number of boots that were served the boot script.
    pub boot_count: u32,
    /// Time at which the config was first served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_fetch_time: Option<Timestamp>,
    /// Time at which the machine reported the completed install.
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

/// Parses an empty text as an absent value, as typed Kubernetes clients send it.
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
    fn a_manifest_is_parsed_as_operators_write_it() {
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
    fn targets_and_phases_read_back_as_they_are_written() {
        for target in [BootTarget::LocalDisk, BootTarget::Menu, BootTarget::Image("coreos-live".parse().unwrap())] {
            assert_eq!(target.to_string().parse(), Ok(target.clone()));
            let json = serde_json::to_value(&target).unwrap();
            assert_eq!(json, target.to_string());
            assert_eq!(serde_json::from_value::<BootTarget>(json).unwrap(), target);
        }
        for phase in Phase::ALL {
            let json = serde_json::to_value(phase).unwrap();
            assert_eq!(json, phase.to_string());
            assert_eq!(serde_json::from_value::<Phase>(json).unwrap(), phase);
        }
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let json = r#"{"metadata":{"name":"a"},"spec":{"bootMacAddress":"52:54:00:00:00:01"}}"#;
        let error = serde_json::from_str::<Host>(json).unwrap_err().to_string();
        assert!(error.contains("bootMacAddress"), "{error}");
    }
}
