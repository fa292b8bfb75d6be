use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BinaryFile, Meta, Name, StringMap};

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
    /// More files by name, in base64: those that are not text. A name is in one of both only.
    #[serde(default, rename = "binaryData", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub binary_data: BTreeMap<String, BinaryFile>,
    /// Whether the files contain secrets: only their machine reads them, API clients read `REDACTED`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confidential: bool,
    /// The template that the files are rendered from for each host, in place of `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Box<TemplateReference>>,
}

/// The template of a config, and the versions that hosts get.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateReference {
    /// Name of the ConfigTemplate.
    pub name: Name,
    /// The version; absent for the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Versions of some hosts; the first that matches counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<TemplatePin>,
}

/// A version of a template for some hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplatePin {
    /// Labels that the hosts have, all of them.
    pub match_labels: StringMap,
    /// The version.
    pub version: u64,
}

impl TemplateReference {
    /// Maximum number of pins.
    pub const MAX_PINS: usize = 32;

    /// Returns the version for a host with these labels; `None` for the newest.
    pub fn version_for(&self, labels: &StringMap) -> Option<u64> {
        let matches = |pin: &&TemplatePin| pin.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value));
        self.pins.iter().find(matches).map(|pin| pin.version).or(self.version)
    }

    /// Returns the versions that are pinned.
    pub fn pinned(&self) -> impl Iterator<Item = u64> {
        self.version.into_iter().chain(self.pins.iter().map(|pin| pin.version))
    }
}

impl BootConfigSpec {
    /// Returns a spec with files that may be text. What is not UTF-8 goes into the binary data.
    pub fn of_files(format: Format, files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut spec =
            Self { format, data: BTreeMap::new(), binary_data: BTreeMap::new(), confidential: false, template: None };
        for (name, content) in files {
            match String::from_utf8(content) {
                Ok(text) => drop(spec.data.insert(name, text)),
                Err(error) => drop(spec.binary_data.insert(name, BinaryFile(error.into_bytes().into()))),
            }
        }
        spec
    }

    /// Returns the octets of a file.
    pub fn content(&self, name: &str) -> Option<&[u8]> {
        let text = self.data.get(name).map(String::as_bytes);
        text.or_else(|| self.binary_data.get(name).map(|file| &file.0[..]))
    }

    /// Returns the files: those with text, then the others.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let texts = self.data.iter().map(|(name, text)| (name.as_str(), text.as_bytes()));
        texts.chain(self.binary_data.iter().map(|(name, file)| (name.as_str(), &file.0[..])))
    }

    /// Returns the names of the files.
    pub fn file_names(&self) -> impl Iterator<Item = &str> {
        self.files().map(|(name, _)| name)
    }
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
    /// Returns the octets of a file: the named one; without a name the format's main file, or else the only file.
    pub fn file(&self, name: Option<&str>) -> Option<&[u8]> {
        match name {
            Some(name) => self.spec.content(name),
            None => self.spec.content(self.spec.format.main_file()).or_else(|| {
                let mut files = self.spec.files();
                files.next().filter(|_| files.next().is_none()).map(|(_, content)| content)
            }),
        }
    }

    /// Returns the main file, if it is text.
    pub fn main_text(&self) -> Option<&str> {
        std::str::from_utf8(self.file(None)?).ok()
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
        let spec = BootConfigSpec {
            format: Format::CloudInit,
            data,
            binary_data: BTreeMap::new(),
            confidential: false,
            template: None,
        };
        BootConfig { metadata: Meta::named("c".parse().unwrap(), None), spec, status: BTreeMap::new() }
    }

    #[test]
    fn the_first_pin_that_matches_a_host_wins() {
        let reference: TemplateReference = serde_json::from_value(serde_json::json!({"name": "t", "version": 5, "pins": [
            {"matchLabels": {"rack": "r1", "role": "db"}, "version": 2}, {"matchLabels": {"rack": "r1"}, "version": 3},
        ]}))
        .unwrap();
        let version = |labels: &[(&str, &str)]| {
            let mut map = StringMap::default();
            labels.iter().for_each(|(key, value)| map.insert((*key).to_owned(), (*value).to_owned()));
            reference.version_for(&map)
        };
        assert_eq!(version(&[("rack", "r1"), ("role", "db")]), Some(2));
        assert_eq!(version(&[("rack", "r1"), ("role", "web")]), Some(3));
        assert_eq!(version(&[("rack", "r2")]), Some(5));
        assert_eq!(reference.pinned().collect::<Vec<_>>(), [5, 2, 3]);
    }

    #[test]
    fn a_file_may_be_binary() {
        let files = [("user-data", &b"\x1f\x8b\xff"[..]), ("meta-data", &b"a: 1"[..])];
        let files = files.map(|(name, content)| (name.to_owned(), content.to_vec()));
        let mut config = config(&[]);
        config.spec = BootConfigSpec::of_files(Format::CloudInit, files);
        assert_eq!(config.file(None), Some(&b"\x1f\x8b\xff"[..]));
        assert_eq!((config.main_text(), config.spec.data.len()), (None, 1));
        assert_eq!(config.spec.file_names().collect::<Vec<_>>(), ["meta-data", "user-data"]);
        let json = serde_json::to_value(&config.spec).unwrap();
        assert_eq!(json["binaryData"]["user-data"], "H4v/");
        assert_eq!(serde_json::from_value::<BootConfigSpec>(json).unwrap(), config.spec);
    }

    #[test]
    fn the_main_file_is_never_a_random_one() {
        assert_eq!(config(&[("meta-data", "m"), ("user-data", "u")]).file(None), Some(&b"u"[..]));
        assert_eq!(config(&[("only", "o")]).file(None), Some(&b"o"[..]));
        assert_eq!(config(&[("a", "1"), ("b", "2")]).file(None), None);
        assert_eq!(config(&[("a", "1"), ("b", "2")]).file(Some("b")), Some(&b"2"[..]));
        assert_eq!(config(&[("a", "1")]).file(Some("b")), None);
    }
}
