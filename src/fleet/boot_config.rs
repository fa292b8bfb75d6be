use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Meta;

/// Is what an installer asks for once it runs (kind BootConfig).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootConfig {
    pub metadata: Meta,
    pub spec: BootConfigSpec,
    #[serde(default)]
    pub status: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootConfigSpec {
    pub format: Format,
    /// Holds the files by name; `Format::main_file` is the one given when none is asked for.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// Says that the files hold secrets (a pull secret, a password): their machine is given them, and no reader.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confidential: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    Ignition,
    CloudInit,
    Kickstart,
    Preseed,
    Script,
}

impl Format {
    pub const ALL: [Self; 5] = [Self::Ignition, Self::CloudInit, Self::Kickstart, Self::Preseed, Self::Script];

    /// Names the file that an installer of this format asks for first.
    pub fn main_file(self) -> &'static str {
        match self {
            Self::Ignition => "config.ign",
            Self::CloudInit => "user-data",
            Self::Kickstart => "ks.cfg",
            Self::Preseed => "preseed.cfg",
            Self::Script => "script",
        }
    }

    /// Gives the media type of the main file.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Ignition => "application/vnd.coreos.ignition+json",
            Self::CloudInit => "text/cloud-config",
            Self::Kickstart | Self::Preseed | Self::Script => "text/plain",
        }
    }
}

impl BootConfig {
    /// Picks a file: the one named, else the format's main file, else the only one there is.
    pub fn file(&self, name: Option<&str>) -> Option<&str> {
        let data = &self.spec.data;
        let found = match name {
            Some(name) => data.get(name),
            None => data.get(self.spec.format.main_file()).or_else(|| match data.len() {
                1 => data.values().next(),
                _ => None,
            }),
        };
        found.map(String::as_str)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Ignition => "ignition",
            Self::CloudInit => "cloud-init",
            Self::Kickstart => "kickstart",
            Self::Preseed => "preseed",
            Self::Script => "script",
        })
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|format| format.to_string() == text);
        known.ok_or_else(|| format!("{text:?} is no format: ignition, cloud-init, kickstart, preseed or script"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(files: &[(&str, &str)]) -> BootConfig {
        let data = files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        let spec = BootConfigSpec { format: Format::CloudInit, data, confidential: false };
        BootConfig { metadata: Meta::named("c".parse().unwrap(), None), spec, status: BTreeMap::new() }
    }

    #[test]
    fn the_main_file_is_never_a_random_one() {
        assert_eq!(config(&[("meta-data", "m"), ("user-data", "u")]).file(None), Some("u"));
        assert_eq!(config(&[("only", "o")]).file(None), Some("o"));
        assert_eq!(config(&[("a", "1"), ("b", "2")]).file(None), None);
        assert_eq!(config(&[("a", "1"), ("b", "2")]).file(Some("b")), Some("2"));
        assert_eq!(config(&[("a", "1")]).file(Some("b")), None);
    }
}
