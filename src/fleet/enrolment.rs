//! The rules for unknown machines, in order.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fleet::{Architecture, BootTarget, Host, HostSpec, HostStatus, Mac, Meta, Name, Phase};

/// A rule: the machines that it matches, and the action for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentRule {
    /// The first one to six octets of the MAC address; empty for any.
    pub mac_prefix: Vec<u8>,
    /// The architecture; `None` for any.
    pub architecture: Option<Architecture>,
    /// The subnet of the machine's address, else the relay's, else the receiving interface's; `None` for any.
    pub subnet: Option<IpNet>,
    /// The action.
    pub action: UnknownHostAction,
}

/// The action for an unknown machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnknownHostAction {
    /// Ignore it: count its requests only.
    Ignore,
    /// Record it, and hold it until an operator decides.
    Hold,
    /// Record it, and boot its local disk.
    LocalBoot,
    /// Record it, and show a menu on its console.
    Menu,
    /// Record it, and install an image.
    Install {
        /// The image.
        image: Name,
        /// The config of the installer.
        config: Option<Name>,
    },
}

impl FromStr for UnknownHostAction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text.split_whitespace().collect();
        let name = |word: &str| word.parse::<Name>().map_err(|error| error.to_string());
        match words.as_slice() {
            ["ignore"] => Ok(Self::Ignore),
            ["hold"] => Ok(Self::Hold),
            ["localboot"] => Ok(Self::LocalBoot),
            ["menu"] => Ok(Self::Menu),
            ["install", image] => Ok(Self::Install { image: name(image)?, config: None }),
            ["install", image, config] => Ok(Self::Install { image: name(image)?, config: Some(name(config)?) }),
            _ => Err(format!(
                "{text:?} is not an action: expected ignore, hold, localboot, menu, or install IMAGE [CONFIG]"
            )),
        }
    }
}

impl fmt::Display for UnknownHostAction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ignore => out.write_str("ignore"),
            Self::Hold => out.write_str("hold"),
            Self::LocalBoot => out.write_str("localboot"),
            Self::Menu => out.write_str("menu"),
            Self::Install { image, config: None } => write!(out, "install {image}"),
            Self::Install { image, config: Some(config) } => write!(out, "install {image} {config}"),
        }
    }
}

impl Serialize for UnknownHostAction {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnknownHostAction {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The rules in order, and the action if none matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentRules {
    /// The rules.
    pub first: Vec<EnrolmentRule>,
    /// The action if no rule matches.
    pub otherwise: UnknownHostAction,
}

impl EnrolmentRules {
    /// Returns the action of the first rule that matches.
    pub fn action(&self, mac: Mac, architecture: Option<Architecture>, address: Option<IpAddr>) -> &UnknownHostAction {
        let matches = |rule: &&EnrolmentRule| {
            mac.starts_with(&rule.mac_prefix)
                && rule.architecture.is_none_or(|wanted| architecture == Some(wanted))
                && rule.subnet.is_none_or(|subnet| address.is_some_and(|address| subnet.contains(&address)))
        };
        self.first.iter().find(matches).map_or(&self.otherwise, |rule| &rule.action)
    }
}

impl UnknownHostAction {
    /// Returns the action for an interface that belongs to a known machine (`machine_uuid::machine_of`): a rule does not
    /// install the machine once more over another interface.
    pub fn for_known_machine(self) -> Self {
        match self {
            Self::Install { .. } => Self::LocalBoot,
            Self::Ignore | Self::Hold | Self::LocalBoot | Self::Menu => self,
        }
    }

    /// Returns the image that it installs.
    pub fn image(&self) -> Option<&Name> {
        match self {
            Self::Install { image, .. } => Some(image),
            Self::Ignore | Self::Hold | Self::LocalBoot | Self::Menu => None,
        }
    }

    /// Drafts the host of an unknown machine; `None` if the machine is ignored.
    pub fn draft(&self, mac: Mac, namespace: Name, firmware: Option<Architecture>) -> Option<Host> {
        let mut spec = HostSpec::for_mac(mac);
        let phase = match self {
            Self::Ignore => return None,
            Self::Hold => Phase::Held,
            Self::LocalBoot => Phase::LocalBoot,
            Self::Menu => {
                spec.image = BootTarget::Menu;
                Phase::LocalBoot
            }
            Self::Install { image, config } => {
                spec.image = BootTarget::Image(image.clone());
                spec.boot_config_ref.clone_from(config);
                Phase::Assigned
            }
        };
        let name = mac.dashed().parse().expect("six octets with dashes are a name");
        let status = HostStatus { phase, firmware, ..HostStatus::default() };
        Some(Host { metadata: Meta::named(name, Some(namespace)), spec, status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn rule(prefix: &[u8], architecture: Option<u16>, subnet: Option<&str>, then: &str) -> EnrolmentRule {
        let architecture = architecture.map(Architecture);
        let subnet = subnet.map(|net| net.parse().unwrap());
        EnrolmentRule { mac_prefix: prefix.to_vec(), architecture, subnet, action: then.parse().unwrap() }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = EnrolmentRules {
            first: vec![
                rule(&[0x52, 0x54], Some(7), None, "install live"),
                rule(&[0x52, 0x54], None, Some("10.9.0.0/16"), "localboot"),
                rule(&[0xac], None, None, "ignore"),
            ],
            otherwise: UnknownHostAction::Hold,
        };
        let check = |mac, architecture: u16, address: &str, expected: &str| {
            let address = address.parse().ok();
            let got = rules.action(mac, Some(Architecture(architecture)), address);
            assert_eq!(got.to_string(), expected);
        };
        check(VM, 7, "10.9.0.1", "install live");
        check(VM, 0, "10.9.0.1", "localboot");
        check(VM, 0, "10.8.0.1", "hold");
        check(VM, 0, "", "hold");
        check(Mac([0xac, 0, 0, 0, 0, 0]), 7, "", "ignore");
    }

    #[test]
    fn actions_are_parsed_as_people_write_them() {
        for text in ["ignore", "hold", "localboot", "menu", "install live", "install live cfg"] {
            assert_eq!(text.parse::<UnknownHostAction>().unwrap().to_string(), text);
        }
        for text in ["", "install", "install A", "reinstall x", "hold on"] {
            assert!(text.parse::<UnknownHostAction>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_known_machine_is_not_installed_over_another_interface() {
        for (rule, expected) in [
            ("install live c", "localboot"),
            ("install live", "localboot"),
            ("hold", "hold"),
            ("menu", "menu"),
            ("localboot", "localboot"),
            ("ignore", "ignore"),
        ] {
            let action = rule.parse::<UnknownHostAction>().unwrap().for_known_machine();
            assert_eq!(action.to_string(), expected, "{rule}");
        }
    }

    #[test]
    fn a_draft_is_named_by_its_address() {
        let namespace: Name = "default".parse().unwrap();
        let draft = |text: &str| text.parse::<UnknownHostAction>().unwrap().draft(VM, namespace.clone(), None);
        assert_eq!(draft("ignore"), None);
        let host = draft("install live").unwrap();
        assert_eq!((host.metadata.name.as_str(), host.status.phase), ("52-54-00-12-34-56", Phase::Assigned));
        assert_eq!(draft("hold").unwrap().status.phase, Phase::Held);
        assert_eq!(draft("localboot").unwrap().status.phase, Phase::LocalBoot);
    }
}
