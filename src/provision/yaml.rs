//! Messages for YAML errors.

use serde_saphyr::Error;

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
