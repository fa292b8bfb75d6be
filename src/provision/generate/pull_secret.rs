use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::Fault;
use super::body::fault;

/// Reads a pull secret as registries' clients do: JSON, as a text or as it is, with an entry for each registry. No error
/// repeats any of it.
pub fn pull_secret(field: &str, given: Value) -> Result<String, Fault> {
    let wrong = |message: String| fault(field, message);
    let (secret, text) = match given {
        Value::String(text) => {
            let parsed = serde_json::from_str::<Value>(&text);
            let secret =
                parsed.map_err(|error| wrong(format!("not JSON: line {} column {}", error.line(), error.column())))?;
            (secret, text.trim().to_owned())
        }
        other => {
            let text = other.to_string();
            (other, text)
        }
    };
    let auths = secret.get("auths").and_then(Value::as_object).filter(|auths| !auths.is_empty());
    let Some(auths) = auths else {
        return Err(wrong(
            "a pull secret has an entry for each registry: {\"auths\": {\"REGISTRY\": {\"auth\": \"...\"}}}".into(),
        ));
    };
    match auths.values().position(|entry| !is_entry(entry)) {
        None => Ok(text),
        Some(index) => {
            let which = index + 1;
            Err(wrong(format!("entry {which} of auths has no auth that is \"USER:PASSWORD\" in base64")))
        }
    }
}

fn is_entry(entry: &Value) -> bool {
    let auth = entry.get("auth").and_then(Value::as_str);
    auth.and_then(|auth| STANDARD.decode(auth).ok()).is_some_and(|plain| plain.contains(&b':'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pull_secret_names_registries() {
        // What OKD's documentation gives to who has none.
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
