//! YAML as cloud-init reads it, and messages for YAML errors.

use serde_json::{Map, Value};
use serde_saphyr::Error;

/// Parses YAML. Bytes (`!!binary`) that are no text stay in base64.
///
/// # Errors
/// Returns a message with line and column.
pub fn yaml_value(text: &str) -> Result<Value, String> {
    let parsed = match serde_saphyr::from_str::<Value>(text) {
        Err(error) if matches!(error.without_snippet(), Error::BinaryNotUtf8 { .. }) => {
            let options = serde_saphyr::options! { ignore_binary_tag_for_string: true };
            serde_saphyr::from_str_with_options(text, options)
        }
        parsed => parsed,
    };
    parsed.map_err(|error| format!("invalid YAML: {}", yaml_error(&error)))
}

/// Parses a YAML mapping. A file with only comments is an empty mapping.
///
/// # Errors
/// Returns a message with line and column, also for a value of another type.
pub fn yaml_mapping(text: &str) -> Result<Map<String, Value>, String> {
    let only_comments = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    if only_comments {
        return Ok(Map::new());
    }
    match yaml_value(text)? {
        Value::Object(map) => Ok(map),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err("line 1: expected a mapping of keys to values".into())
        }
    }
}

/// Returns the message for a YAML error, with line and column. It has neither the parser's snippet, which may
/// show a secret, nor its advice for programmers.
pub fn yaml_error(error: &Error) -> String {
    let plain = error.without_snippet();
    match (plain, plain.location()) {
        (Error::DuplicateMappingKey { key, .. }, Some(at)) => {
            let key = key.as_ref().map(|key| format!(" {key:?}")).unwrap_or_default();
            let (line, column) = (at.line(), at.column());
            format!("duplicate key{key} in a mapping at line {line}, column {column}")
        }
        _ => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_key_is_reported_with_its_line() {
        let error = serde_saphyr::from_str::<serde_json::Value>("a: 1\nb:\n  c: 1\n  c: geheim\n").unwrap_err();
        let message = yaml_error(&error);
        assert_eq!(message, "duplicate key \"c\" in a mapping at line 4, column 3");
        let error = serde_saphyr::from_str::<serde_json::Value>("a: [geheim\n").unwrap_err();
        assert!(yaml_error(&error).contains("line") && !yaml_error(&error).contains("geheim"));
    }
}
