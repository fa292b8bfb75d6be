//! Field validation of writes: an unknown field or a repeated key is refused, reported or dropped, as Kubernetes'
//! `fieldValidation` asks.

use hyper::header::{HeaderValue, WARNING};
use serde_json::Value;

use crate::fleet::rules::Invalid;
use crate::fleet::{self, Kind, Object};

use crate::api::objects::body;
use crate::api::objects::status::Status;
use crate::http::reply::Reply;

/// Maximum size of all warnings in a reply's headers, in bytes; clients accept a few KiB of headers.
const MAX_WARNING_BYTES: usize = 4096;

/// The treatment of unknown fields and repeated keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Validation {
    /// Removal without a report.
    Ignore,
    /// Removal with a warning.
    Warn,
    /// Refusal of the write.
    #[default]
    Strict,
}

impl Validation {
    /// The values of the query parameter `fieldValidation`.
    pub const NAMES: &[&str] = &["Ignore", "Warn", "Strict"];

    /// Parses one of `NAMES`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "Ignore" => Some(Self::Ignore),
            "Warn" => Some(Self::Warn),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// Decodes the body of one write, and collects the warnings for its reply.
#[derive(Debug, Default)]
pub struct Decoder {
    validation: Validation,
    duplicates: Vec<String>,
    /// Warnings that the client gets with any field validation.
    warnings: Vec<String>,
    /// Paths of the unknown fields, key by key.
    unknown: Vec<Vec<String>>,
}

impl Decoder {
    /// Creates a decoder for one write.
    pub fn new(validation: Validation) -> Self {
        Self { validation, ..Self::default() }
    }

    /// Returns whether unknown fields and repeated keys are refused.
    pub fn is_strict(&self) -> bool {
        self.validation == Validation::Strict
    }

    /// Parses a body's JSON or YAML.
    ///
    /// # Errors
    /// As `body::parse`; repeated keys only if the decoder is strict.
    pub fn parse(&mut self, kind: &str, text: &[u8]) -> Result<Value, Status> {
        match self.is_strict() {
            true => body::parse(kind, text),
            false => body::parse_leniently(kind, text, &mut self.duplicates),
        }
    }

    /// Decodes an object of a kind.
    ///
    /// # Errors
    /// The field that is missing, of the wrong type, or unknown if the decoder is strict.
    pub fn object(&mut self, kind: Kind, value: Value) -> Result<Object, Invalid> {
        match self.is_strict() {
            true => Object::from_json(kind, value),
            false => {
                let (object, unknown) = Object::from_json_leniently(kind, value)?;
                self.unknown = unknown;
                Ok(object)
            }
        }
    }

    /// Removes the unknown fields from a configuration that is applied.
    pub fn remove_unknown(&self, applied: &mut Value) {
        for path in &self.unknown {
            fleet::remove_path(applied, path);
        }
    }

    /// Adds a warning that the client gets with any field validation.
    pub fn warn(&mut self, text: String) {
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    /// Adds the warnings to a reply as headers: the collected ones, and what was dropped if the client asked for that.
    pub fn add_warnings(&self, mut reply: Reply) -> Reply {
        let dropped = self.validation == Validation::Warn;
        let unknown = self.unknown.iter().map(|path| format!("unknown field \"{}\"", path.join(".")));
        let duplicates = self.duplicates.iter().map(|path| format!("duplicate field \"{path}\""));
        let mut left = MAX_WARNING_BYTES;
        let dropped = unknown.chain(duplicates).filter(|_| dropped);
        for warning in
            self.warnings.iter().cloned().chain(dropped).filter_map(|text| HeaderValue::from_str(&warning(&text)).ok())
        {
            let Some(rest) = left.checked_sub(warning.len()) else { break };
            left = rest;
            reply.headers_mut().append(WARNING, warning);
        }
        reply
    }
}

/// Adds the warnings in an object's status to a reply as headers.
pub fn with_warnings_of(object: &Object, reply: Reply) -> Reply {
    let warnings = object.warnings().into_iter().map(str::to_owned).collect();
    Decoder { warnings, ..Decoder::default() }.add_warnings(reply)
}

/// Formats a warning (RFC 7234, section 5.5): code 299, no agent, and a quoted text of visible ASCII.
fn warning(text: &str) -> String {
    let plain: String = text.chars().map(|letter| if matches!(letter, ' '..='~') { letter } else { '?' }).collect();
    format!("299 - \"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::reply::text;
    use hyper::StatusCode;
    use serde_json::json;

    const BODY: &str = r#"{"metadata": {"name": "h"}, "spec": {"bootMACAddress": "52:54:00:00:00:01", "x\"é": 1,
        "ip": "10.0.0.1", "ip": "10.0.0.2", "bmc": {"address": "b", "more": {}}}}"#;

    fn decode(validation: Validation) -> (Result<Object, String>, Vec<String>) {
        let mut decoder = Decoder::new(validation);
        let object = decoder.parse("application/json", BODY.as_bytes()).map_err(|status| status.message().to_owned());
        let object =
            object.and_then(|value| decoder.object(Kind::BareMetalHost, value).map_err(|wrong| wrong.to_string()));
        let reply = decoder.add_warnings(text(StatusCode::OK, ""));
        let warnings = reply.headers().get_all(WARNING).iter().map(|value| value.to_str().unwrap().to_owned());
        (object, warnings.collect())
    }

    #[test]
    fn unknown_fields_and_repeated_keys_are_refused_reported_or_dropped() {
        let (object, warnings) = decode(Validation::Strict);
        assert_eq!(object.unwrap_err(), "duplicate keys in the body: spec.ip");
        assert_eq!(warnings, Vec::<String>::new());
        let (object, warnings) = decode(Validation::Warn);
        let Object::Host(host) = object.unwrap() else { panic!("a host") };
        assert_eq!(host.spec.ip.unwrap().to_string(), "10.0.0.2");
        assert_eq!(
            warnings,
            [
                r#"299 - "unknown field \"spec.x\"?\"""#,
                r#"299 - "unknown field \"spec.bmc.more\"""#,
                r#"299 - "duplicate field \"spec.ip\"""#,
            ]
        );
        let (object, warnings) = decode(Validation::Ignore);
        assert_eq!((object.is_ok(), warnings.len()), (true, 0));
    }

    #[test]
    fn a_missing_field_is_refused_at_every_validation() {
        let mut decoder = Decoder::new(Validation::Ignore);
        let wrong = decoder.object(Kind::BareMetalHost, json!({"metadata": {"name": "h"}, "spec": {"colour": "red"}}));
        assert_eq!(wrong.unwrap_err().field, "spec.bootMACAddress");
        let fields = (0..1000).map(|number| (number.to_string(), json!(1))).collect::<serde_json::Map<_, _>>();
        let many = decoder.object(Kind::BareMetalHost, json!({"metadata": {"name": "h"}, "spec": fields}));
        assert!(many.unwrap_err().message.contains("unknown fields"));
    }

    #[test]
    fn warnings_fit_into_a_reply() {
        let mut decoder = Decoder::new(Validation::Warn);
        let mut body = json!({"metadata": {"name": "h"}, "spec": {"bootMACAddress": "52:54:00:00:00:01"}});
        (0..200).for_each(|number| body["spec"][format!("field{number}")] = json!(1));
        decoder.object(Kind::BareMetalHost, body).unwrap();
        let reply = decoder.add_warnings(text(StatusCode::OK, ""));
        let lengths: Vec<_> = reply.headers().get_all(WARNING).iter().map(HeaderValue::len).collect();
        assert!(lengths.len() < 200 && lengths.iter().sum::<usize>() <= MAX_WARNING_BYTES, "{lengths:?}");
    }
}
