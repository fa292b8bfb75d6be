//! Generated names.

use serde_json::Value;

use crate::fleet::rules::Invalid;
use crate::fleet::{BadName, Name};

/// Number of random characters at the end of a generated name, as in Kubernetes.
const SUFFIX_LENGTH: usize = 5;
/// Maximum length of a generated name's prefix, in characters, so that the name is still valid as a label value and a
/// host name.
const MAX_PREFIX_LENGTH: usize = 63 - SUFFIX_LENGTH;
/// The characters of the suffix: they form no words and are not easily confused.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Returns the prefix of the name to generate; `None` if the object has a name or no `generateName`.
pub fn generate_name(object: &Value) -> Option<String> {
    let meta = object.get("metadata")?;
    let text = |field: &str| meta.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    match text("name") {
        None => text("generateName").map(str::to_owned),
        Some(_) => None,
    }
}

/// Returns a name with this prefix and a random suffix.
///
/// # Errors
/// The prefix cannot start a name.
pub fn generate(prefix: &str) -> Result<Name, Invalid> {
    let mut end = prefix.len().min(MAX_PREFIX_LENGTH);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let chance = uuid::Uuid::new_v4();
    let letters =
        chance.as_bytes().iter().take(SUFFIX_LENGTH).map(|byte| ALPHABET[usize::from(*byte) % ALPHABET.len()]);
    let made: String = prefix[..end].chars().chain(letters.map(char::from)).collect();
    let wrong = |error: BadName| Invalid { field: "metadata.generateName".into(), message: error.to_string() };
    made.parse().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_is_generated_if_there_is_none() {
        assert_eq!(generate_name(&json!({"metadata": {"generateName": "node-"}})).as_deref(), Some("node-"));
        assert_eq!(
            generate_name(&json!({"metadata": {"name": "", "generateName": "node-"}})).as_deref(),
            Some("node-")
        );
        assert_eq!(generate_name(&json!({"metadata": {"name": "a", "generateName": "node-"}})), None);
        assert_eq!(generate_name(&json!({"metadata": {"generateName": ""}})), None);
        let (one, two) = (generate("node-").unwrap(), generate("node-").unwrap());
        assert!(one.as_str().len() == 10 && one.as_str().starts_with("node-") && one != two, "{one} {two}");
        assert_eq!(generate(&"a".repeat(300)).unwrap().as_str().len(), 63);
        for prefix in ["Node-", "-node", &"é".repeat(300)] {
            assert_eq!(generate(prefix).unwrap_err().field, "metadata.generateName", "{prefix}");
        }
    }
}
