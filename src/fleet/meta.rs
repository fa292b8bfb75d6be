use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ManagedFields, StringMap};

/// The name of an object: a DNS-1123 subdomain (RFC 1123 2.1) of at most 253 octets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// The error of a text that is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a name: expected lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253 characters"
)]
pub struct BadName(pub String);

impl Name {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let within = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let label = |part: &str| {
            let bytes = part.as_bytes();
            let ends = bytes.first().copied().is_some_and(within) && bytes.last().copied().is_some_and(within);
            ends && bytes.iter().all(|byte| within(*byte) || *byte == b'-')
        };
        if text.len() <= 253 && text.split('.').all(label) {
            return Ok(Self(text.into()));
        }
        Err(BadName(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, out)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A machine that boots from the network.
    BareMetalHost,
    /// An ISO.
    #[serde(rename = "ISCSICdrom")]
    IscsiCdrom,
    /// A config for installers.
    BootConfig,
    /// A template of configs, with versions.
    ConfigTemplate,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::BareMetalHost, Self::IscsiCdrom, Self::BootConfig, Self::ConfigTemplate];

    /// Returns the kind as manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BareMetalHost => "BareMetalHost",
            Self::IscsiCdrom => "ISCSICdrom",
            Self::BootConfig => "BootConfig",
            Self::ConfigTemplate => "ConfigTemplate",
        }
    }

    /// Returns the plural that routes use.
    pub fn plural(self) -> &'static str {
        match self {
            Self::BareMetalHost => "baremetalhosts",
            Self::IscsiCdrom => "iscsi-cdroms",
            Self::BootConfig => "bootconfigs",
            Self::ConfigTemplate => "configtemplates",
        }
    }

    /// Returns whether objects of this kind live in a namespace.
    pub fn is_namespaced(self) -> bool {
        self == Self::BareMetalHost
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// The identity of an object among all objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// The namespace; `None` for kinds without one.
    pub namespace: Option<Name>,
    /// The name.
    pub name: Name,
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(out, "{} {namespace}/{}", self.kind, self.name),
            None => write!(out, "{} {}", self.kind, self.name),
        }
    }
}

/// The metadata of an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Meta {
    /// The name.
    pub name: Name,
    /// The namespace, of kinds that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// The UUID that the store assigned at the creation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The version: the number of the commit. A decimal number in a string, opaque to clients.
    #[serde(default, with = "version", skip_serializing_if = "is_zero")]
    #[schemars(with = "String")]
    pub resource_version: u64,
    /// The number of changes of the spec.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// Time of the creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Timestamp>,
    /// Labels, which selectors match.
    #[serde(default, skip_serializing_if = "StringMap::is_empty")]
    pub labels: StringMap,
    /// Annotations of other programs.
    #[serde(default, skip_serializing_if = "StringMap::is_empty")]
    pub annotations: StringMap,
    /// The prefix of a generated name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate_name: Option<Box<str>>,
    /// The owners, kept for clients; removing an owner does not remove the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_references: Option<Box<[Owner]>>,
    /// The managers of the fields: who applied or last set each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_fields: Option<ManagedFields>,
}

/// The owner of an object (meta/v1 OwnerReference).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Owner {
    /// API version of the owner.
    pub api_version: String,
    /// Kind of the owner.
    pub kind: String,
    /// Name of the owner.
    pub name: String,
    /// UID of the owner.
    pub uid: String,
    /// Whether the owner is the managing controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Kept without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

impl Meta {
    /// Returns the metadata of an object that is not in the store yet.
    pub fn named(name: Name, namespace: Option<Name>) -> Self {
        Self {
            name,
            namespace,
            uid: String::new(),
            resource_version: 0,
            generation: 0,
            creation_timestamp: None,
            labels: StringMap::default(),
            annotations: StringMap::default(),
            generate_name: None,
            owner_references: None,
            managed_fields: None,
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

mod version {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(version: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(version)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        if text.is_empty() {
            return Ok(0);
        }
        text.parse()
            .map_err(|_| serde::de::Error::custom(format!("resourceVersion {text:?} was not issued by this server")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_subdomains() {
        for good in ["a", "server1", "52-54-00-12-34-56", "rack1.row2"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "Server", "-a", "a-", "a..b", "a/b", "a_b", &"a".repeat(254)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
