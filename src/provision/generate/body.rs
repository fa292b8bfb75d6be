//! Parsing of request bodies, with errors that name the field.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::FieldError;
use crate::fleet::{Name, deserialize_with_path, without_value};

/// Maximum length, in characters, of a value that an error repeats: enough for an address or a version, too short
/// for a key.
const MAX_REPEATED_LENGTH: usize = 64;
/// Maximum length of a label of a domain name in octets (RFC 1035, section 2.3.4).
const MAX_LABEL_LENGTH: usize = 63;

/// Returns the error of a field.
pub fn field_error(field: impl Into<String>, message: impl Into<String>) -> FieldError {
    FieldError { field: field.into(), message: message.into() }
}

/// Deserializes a body. An error does not repeat the value, which may be a secret.
///
/// # Errors
/// Returns the wrong, missing or unknown field.
pub fn decode<T: DeserializeOwned>(body: Value) -> Result<T, FieldError> {
    deserialize_with_path(&body).map_err(|error| {
        let path = error.path.to_string();
        let message = without_value(&error.message);
        let after = |prefix: &str| message.strip_prefix(prefix)?.split_once('`');
        let full_path = |field: &str| match path.rsplit_once('.') {
            // The path of an unknown field includes its name.
            _ if path == field => path.clone(),
            Some((_, last)) if last == field => path.clone(),
            _ if path == "." || path == "?" => field.to_owned(),
            _ => format!("{path}.{field}"),
        };
        if let Some((field, _)) = after("missing field `") {
            return field_error(full_path(field), "missing");
        }
        if let Some((field, rest)) = after("unknown field `") {
            if !is_word(field) {
                return field_error("", "invalid field name");
            }
            return field_error(full_path(field), format!("unknown field{rest}"));
        }
        field_error(if path == "." { "" } else { path.as_str() }, message)
    })
}

/// Returns whether a text is a plausible field name, and not a secret in the place of one.
fn is_word(text: &str) -> bool {
    text.len() <= MAX_REPEATED_LENGTH && text.chars().all(|sign| sign.is_alphanumeric() || "_-.".contains(sign))
}

/// Returns a value for an error message: quoted if it is short and cannot be part of a secret.
pub fn display_value(text: &str) -> String {
    match text.chars().count() <= MAX_REPEATED_LENGTH && !text.contains(['{', '\n']) {
        true => format!("{text:?}"),
        false => "(value not shown)".to_owned(),
    }
}

/// Parses a domain name with lower-case labels.
///
/// # Errors
/// Returns the error of the field.
pub fn parse_domain(field: &str, text: &str) -> Result<Name, FieldError> {
    let fits = text.split('.').all(|label| label.len() <= MAX_LABEL_LENGTH);
    text.parse().ok().filter(|_| fits).ok_or_else(|| {
        let expected = "labels of at most 63 lower-case letters, digits and '-', separated by dots";
        field_error(field, format!("invalid domain name {}: expected {expected}", display_value(text)))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "a")]
        _a: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "inner")]
        _inner: Vec<Inner>,
    }

    #[test]
    fn an_error_has_the_full_path_of_its_field() {
        let rows = [
            (json!({}), "inner", "missing"),
            (json!({"inner": [], "x": 1}), "x", "unknown field"),
            (json!({"inner": [{}]}), "inner[0].a", "missing"),
            (json!({"inner": [{"a": "1", "b": 1}]}), "inner[0].b", "unknown field"),
            (json!({"inner": [{"a": 5}]}), "inner[0].a", "expected a string"),
            (json!({"inner": "geheim"}), "inner", "expected a sequence"),
            (json!("geheim"), "", "expected struct"),
            (json!({"inner": [{"{\"geheim\"`": 1}]}), "", "invalid field name"),
            (json!({"inner": [{"a": {"geheim": 1}}]}), "inner[0].a", "expected a string"),
        ];
        for (body, field, message) in rows {
            let wrong = decode::<Outer>(body.clone()).unwrap_err();
            assert!(wrong.field == field && wrong.message.contains(message), "{body}: {wrong:?}");
            assert!(!wrong.message.contains("geheim"), "{wrong:?}");
        }
    }

    #[test]
    fn a_domain_consists_of_labels() {
        for good in ["example.com", "lab", "a-b.c1.de"] {
            assert!(parse_domain("f", good).is_ok(), "{good}");
        }
        for bad in ["", "Example.com", "a..b", "a.b.", "-a.b", "a_b", "a/../b", &"a".repeat(64), &"a.".repeat(130)] {
            assert_eq!(parse_domain("f", bad).unwrap_err().field, "f", "{bad}");
        }
    }
}
