use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::StringMap;

/// Names an object: a DNS-1123 subdomain (RFC 1123 2.1), at most 253 octets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Says why a text names no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a name: lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253 characters"
)]
pub struct BadName(pub String);

impl Name {
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

/// Is one of the three kinds of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    BareMetalHost,
    #[serde(rename = "ISCSICdrom")]
    IscsiCdrom,
    BootConfig,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::BareMetalHost, Self::IscsiCdrom, Self::BootConfig];

    /// Gives the kind's name as manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BareMetalHost => "BareMetalHost",
            Self::IscsiCdrom => "ISCSICdrom",
            Self::BootConfig => "BootConfig",
        }
    }

    /// Gives the plural that routes use.
    pub fn plural(self) -> &'static str {
        match self {
            Self::BareMetalHost => "baremetalhosts",
            Self::IscsiCdrom => "iscsi-cdroms",
            Self::BootConfig => "bootconfigs",
        }
    }

    /// Says whether objects of this kind live in a namespace.
    pub fn is_namespaced(self) -> bool {
        self == Self::BareMetalHost
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Finds one object: its kind, its namespace (empty for the cluster's kinds) and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub kind: Kind,
    pub namespace: Option<Name>,
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

/// Holds what every object has: its name, its identity and its version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Meta {
    pub name: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Counts the store's commits; a decimal number in a string, opaque to clients.
    #[serde(default, with = "version", skip_serializing_if = "is_zero")]
    pub resource_version: u64,
    /// Counts the changes of the spec alone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "StringMap::is_empty")]
    pub labels: StringMap,
    #[serde(default, skip_serializing_if = "StringMap::is_empty")]
    pub annotations: StringMap,
    /// Is what the object's name was made of, where its client asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate_name: Option<Box<str>>,
    /// Names what the object belongs to, for who asks; removing that does not remove this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_references: Option<Box<[Owner]>>,
    /// Is kept for server-side apply's clients, and not interpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_fields: Option<serde_json::Value>,
}

/// Is an object, here or elsewhere, that another belongs to (meta/v1 OwnerReference).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Owner {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

impl Meta {
    /// Makes the metadata of an object that the store has not seen yet.
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
            .map_err(|_| serde::de::Error::custom(format!("resourceVersion {text:?} is not one this server gave")))
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
