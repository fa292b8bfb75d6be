use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Meta;

/// The config of an installer (kind BootConfig).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootConfig {
    /// Name, labels, identity and version.
    pub metadata: Meta,
    /// The declared files.
    pub spec: BootConfigSpec,
    /// The result of the check of its files.
    #[serde(default)]
    pub status: BTreeMap<String, serde_json::Value>,
}

impl BootConfig {
    /// Key in the status of `reports_completion`.
    pub const REPORTS_COMPLETION: &str = "reportsCompletion";

    /// Returns whether the machine reports its completed install by this config, as of the check of its files; `None` if
    /// they do not tell.
    pub fn reports_completion(&self) -> Option<bool> {
        self.status.get(Self::REPORTS_COMPLETION)?.as_bool()
    }
}

/// The declared files of a config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootConfigSpec {
    /// The format of the main file.
    pub format: Format,
    /// The files by name. A request without a name gets the main file of the format.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// Whether the files contain secrets: only their machine reads them, API clients read `REDACTED`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confidential: bool,
}

/// The format of a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Ignition, for CoreOS.
    Ignition,
    /// cloud-init user data, for Ubuntu's installer and cloud images.
    CloudInit,
    /// Kickstart, for Fedora and RHEL.
    Kickstart,
    /// Preseed, for Debian.
    Preseed,
    /// A script in any language.
    Script,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 5] = [Self::Ignition, Self::CloudInit, Self::Kickstart, Self::Preseed, Self::Script];

    /// Returns the name of the file that an installer of this format requests first.
    pub fn main_file(self) -> &'static str {
        match self {
            Self::Ignition => "config.ign",
            Self::CloudInit => "user-data",
            Self::Kickstart => "ks.cfg",
            Self::Preseed => "preseed.cfg",
            Self::Script => "script",
        }
    }

    /// Returns the media type of the main file.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Ignition => "application/vnd.coreos.ignition+json",
            Self::CloudInit => "text/cloud-config",
            Self::Kickstart | Self::Preseed | Self::Script => "text/plain",
        }
    }
}

impl BootConfig {
    /// Returns a file: the named one; without a name the format's main file, or else the only file.
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
        known.ok_or_else(|| {
            format!("{text:?} is not a format: expected ignition, cloud-init, kickstart, preseed or script")
        })
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
