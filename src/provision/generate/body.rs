use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fleet::{Name, without_value};

use super::super::Fault;

/// Is how much of a wrong text is repeated: an address or a version, never a key.
const REPEATED: usize = 64;
/// Bounds a label of a domain name (RFC 1035, section 2.3.4).
const LABEL: usize = 63;

/// Makes a fault of the field that is wrong and what is wrong about it.
pub fn fault(field: impl Into<String>, message: impl Into<String>) -> Fault {
    Fault { field: field.into(), message: message.into() }
}

/// Reads a body as what it is to be; the value in a wrong place is not repeated, for it may be a secret.
pub fn typed<T: DeserializeOwned>(body: Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(body).map_err(|error| {
        let path = error.path().to_string();
        let message = without_value(&error.into_inner().to_string());
        let quoted = |begins: &str| message.strip_prefix(begins)?.split_once('`');
        let within = |field: &str| match path.rsplit_once('.') {
            // An unknown field's own name is in the path already.
            _ if path == field => path.clone(),
            Some((_, last)) if last == field => path.clone(),
            _ if path == "." || path == "?" => field.to_owned(),
            _ => format!("{path}.{field}"),
        };
        if let Some((field, _)) = quoted("missing field `") {
            return fault(within(field), "it is missing");
        }
        if let Some((field, rest)) = quoted("unknown field `") {
            if !is_word(field) {
                return fault("", "there is a field whose name is none");
            }
            return fault(within(field), format!("there is no such field{rest}"));
        }
        fault(if path == "." { "" } else { path.as_str() }, message)
    })
}

/// Says whether a text is a field's name, and no secret in the place of one.
fn is_word(text: &str) -> bool {
    text.len() <= REPEATED && text.chars().all(|sign| sign.is_alphanumeric() || "_-.".contains(sign))
}

/// Repeats a text in an error where it is short, and no part of a longer secret.
pub fn said(text: &str) -> String {
    match text.chars().count() <= REPEATED && !text.contains(['{', '\n']) {
        true => format!("{text:?}"),
        false => "what is given".to_owned(),
    }
}

/// Reads a domain name of lower-case labels.
pub fn domain(field: &str, text: &str) -> Result<Name, Fault> {
    let fits = text.split('.').all(|label| label.len() <= LABEL);
    text.parse().ok().filter(|_| fits).ok_or_else(|| {
        let message = "is no domain name: lower-case letters, digits and '-', in labels of at most 63 between dots";
        fault(field, format!("{} {message}", said(text)))
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
    fn a_wrong_field_is_named_whole() {
        let rows = [
            (json!({}), "inner", "missing"),
            (json!({"inner": [], "x": 1}), "x", "no such field"),
            (json!({"inner": [{}]}), "inner[0].a", "missing"),
            (json!({"inner": [{"a": "1", "b": 1}]}), "inner[0].b", "no such field"),
            (json!({"inner": [{"a": 5}]}), "inner[0].a", "expected a string"),
            (json!({"inner": "geheim"}), "inner", "expected a sequence"),
            (json!("geheim"), "", "expected struct"),
            (json!({"inner": [{"{\"geheim\"`": 1}]}), "", "none"),
            (json!({"inner": [{"a": {"geheim": 1}}]}), "inner[0].a", "expected a string"),
        ];
        for (body, field, message) in rows {
            let wrong = typed::<Outer>(body.clone()).unwrap_err();
            assert!(wrong.field == field && wrong.message.contains(message), "{body}: {wrong:?}");
            assert!(!wrong.message.contains("geheim"), "{wrong:?}");
        }
    }

    #[test]
    fn a_domain_is_of_labels() {
        for good in ["example.com", "lab", "a-b.c1.de"] {
            assert!(domain("f", good).is_ok(), "{good}");
        }
        for bad in ["", "Example.com", "a..b", "a.b.", "-a.b", "a_b", "a/../b", &"a".repeat(64), &"a.".repeat(130)] {
            assert_eq!(domain("f", bad).unwrap_err().field, "f", "{bad}");
        }
    }
}
