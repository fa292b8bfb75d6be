use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Format, Meta, Name};

/// Values by name, for the templates of configs.
pub type Values = Map<String, Value>;

/// A template of configs (kind ConfigTemplate). Each change of its spec is a version, with the number of
/// `metadata.generation`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigTemplate {
    /// Name, labels, identity and version.
    pub metadata: Meta,
    /// The newest version.
    pub spec: ConfigTemplateSpec,
    /// The versions that are kept.
    #[serde(default)]
    pub status: ConfigTemplateStatus,
}

/// The declared files of a template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigTemplateSpec {
    /// The format of the rendered main file. It never changes.
    pub format: Format,
    /// The texts of the files by name, in the language of Jinja.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// Values for hosts that do not set them in `spec.values`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub defaults: Values,
    /// The values that hosts may set, by name; without any, hosts may set all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schema: BTreeMap<String, ValueRule>,
}

/// What a value of a template must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueRule {
    /// The type.
    pub r#type: ValueType,
    /// Whether the host or the defaults must have the value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// What the value is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// The type of a value, as in JSON Schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
    /// A list.
    Array,
    /// Values by name.
    Object,
}

impl ValueType {
    /// Returns whether a value has this type.
    pub fn admits(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}

/// The versions of a template, written by the server only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigTemplateStatus {
    /// The versions that are kept, oldest first; the last one is `spec`.
    #[serde(default)]
    pub versions: Vec<TemplateVersion>,
}

/// A version of a template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateVersion {
    /// The number: `metadata.generation` of the template when it was the newest.
    pub version: u64,
    /// Time at which it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Timestamp>,
    /// Whether its files call the route that ends an install; absent if they run something that they do not contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reports_completion: Option<bool>,
    /// Its spec; `GET .../versions` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub spec: Option<Arc<ConfigTemplateSpec>>,
}

/// The last rendering of a host's config from its template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RenderedTemplate {
    /// Name of the template.
    pub template: Name,
    /// The version.
    pub version: u64,
    /// What is wrong, if nothing could be rendered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl ConfigTemplate {
    /// Number of the newest versions that are kept, pinned or not.
    pub const KEPT_VERSIONS: usize = 10;
    /// Maximum number of versions that are kept, with the pinned ones.
    pub const MAX_VERSIONS: usize = 50;

    /// Returns a kept version; without a number the newest.
    pub fn version(&self, number: Option<u64>) -> Option<&TemplateVersion> {
        match number {
            Some(number) => self.status.versions.iter().find(|kept| kept.version == number),
            None => self.status.versions.last(),
        }
    }

    /// Returns the numbers of the kept versions, for an error.
    pub fn version_list(&self) -> String {
        self.status.versions.iter().map(|kept| kept.version.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Returns the template as it was at a version.
    pub fn at_version(&self, kept: &TemplateVersion) -> Option<Self> {
        let spec = ConfigTemplateSpec::clone(kept.spec.as_deref()?);
        let metadata = Meta { generation: kept.version, ..self.metadata.clone() };
        Some(Self { metadata, spec, status: self.status.clone() })
    }

    /// Adds the spec as a version, after those that the template had before. Versions that are neither new nor pinned are
    /// dropped; returns whether the others are more than `MAX_VERSIONS`.
    pub fn add_version(&mut self, before: Option<&Self>, is_pinned: impl Fn(u64) -> bool, at: Timestamp) -> bool {
        let added = TemplateVersion {
            version: self.metadata.generation,
            creation_timestamp: Some(at),
            reports_completion: self.status.versions.last().and_then(|draft| draft.reports_completion),
            spec: Some(Arc::new(self.spec.clone())),
        };
        let mut versions = before.map_or_else(Vec::new, |before| before.status.versions.clone());
        versions.push(added);
        let old = versions.len().saturating_sub(Self::KEPT_VERSIONS);
        let kept = versions.into_iter().enumerate().filter(|(at, kept)| *at >= old || is_pinned(kept.version));
        self.status.versions = kept.map(|(_, kept)| kept).collect();
        self.status.versions.len() > Self::MAX_VERSIONS
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Array => "array",
            Self::Object => "object",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(generation: u64, text: &str) -> ConfigTemplate {
        let metadata = Meta { generation, ..Meta::named("t".parse().unwrap(), None) };
        let data = [("ks.cfg".to_owned(), text.to_owned())].into();
        let (defaults, schema) = Default::default();
        let spec = ConfigTemplateSpec { format: Format::Kickstart, data, defaults, schema };
        ConfigTemplate { metadata, spec, status: ConfigTemplateStatus::default() }
    }

    #[test]
    fn the_newest_versions_are_kept_and_those_that_something_pins() {
        let mut known = template(1, "1");
        known.add_version(None, |_| false, Timestamp::UNIX_EPOCH);
        for generation in 2..=15 {
            let mut next = template(generation, &generation.to_string());
            assert!(!next.add_version(Some(&known), |version| version == 2, Timestamp::UNIX_EPOCH));
            known = next;
        }
        assert_eq!(known.version_list(), "2, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15");
        let old = known.at_version(known.version(Some(2)).unwrap()).unwrap();
        assert_eq!((old.metadata.generation, old.spec.data["ks.cfg"].as_str()), (2, "2"));
        assert_eq!(known.version(None).unwrap().version, 15);
        assert!(known.version(Some(3)).is_none());
    }

    #[test]
    fn a_bounded_number_of_versions_is_pinned() {
        let mut known = template(1, "1");
        known.add_version(None, |_| true, Timestamp::UNIX_EPOCH);
        for generation in 2..=51 {
            let mut next = template(generation, &generation.to_string());
            assert_eq!(next.add_version(Some(&known), |_| true, Timestamp::UNIX_EPOCH), generation == 51);
            known = next;
        }
    }
}
