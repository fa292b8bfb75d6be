//! Validation of registry pull secrets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::FieldError;
use super::body::field_error;

/// Checks a pull secret, which is a JSON object or its text, with one entry per registry, and returns its text. Errors do
/// not repeat any part of it.
///
/// # Errors
/// Returns the error of the field.
pub fn pull_secret(field: &str, given: Value) -> Result<String, FieldError> {
    let wrong = |message: String| field_error(field, message);
    let (secret, text) = match given {
        Value::String(text) => {
            let parsed = serde_json::from_str::<Value>(&text);
            let secret = parsed
                .map_err(|error| wrong(format!("invalid JSON at line {}, column {}", error.line(), error.column())))?;
            (secret, text.trim().to_owned())
        }
        other => {
            let text = other.to_string();
            (other, text)
        }
    };
    let auths = secret.get("auths").and_then(Value::as_object).filter(|auths| !auths.is_empty());
    let Some(auths) = auths else {
        return Err(wrong("expected one entry per registry: {\"auths\": {\"REGISTRY\": {\"auth\": \"...\"}}}".into()));
    };
    match auths.values().position(|entry| !is_entry(entry)) {
        None => Ok(text),
        Some(index) => {
            let number = index + 1;
            Err(wrong(format!("auths: entry {number}: expected auth with \"USER:PASSWORD\" in base64")))
        }
    }
}

/// Returns whether an entry has credentials.
fn is_entry(entry: &Value) -> bool {
    let auth = entry.get("auth").and_then(Value::as_str);
    auth.and_then(|auth| STANDARD.decode(auth).ok()).is_some_and(|plain| plain.contains(&b':'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pull_secret_has_entries_for_registries() {
        // The placeholder in the documentation of OKD.
        let fake = r#"{"auths":{"fake":{"auth":"aWQ6cGFzcwo="}}}"#;
        assert_eq!(pull_secret("p", format!("{fake}\n").into()).unwrap(), fake);
        assert_eq!(pull_secret("p", serde_json::from_str(fake).unwrap()).unwrap(), fake);
        for bad in [
            json!(""),
            json!("geheim"),
            json!({"auths": {}}),
            json!({"auths": {"geheim": {}}}),
            json!({"auths": {"geheim": {"auth": "geheim"}}}),
            json!({"auths": {"geheim": {"auth": "Z2VoZWlt"}}}),
            json!({"auths": "geheim"}),
            json!(["geheim"]),
            json!(5),
        ] {
            let wrong = pull_secret("p", bad.clone()).unwrap_err();
            assert!(wrong.field == "p" && !wrong.message.contains("geheim"), "{bad}: {wrong:?}");
        }
    }
}
