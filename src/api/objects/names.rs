//! What of an object's metadata is settled before it is read: names that are made, and fields with no meaning here.

use serde_json::{Map, Value};

use crate::fleet::rules::Invalid;
use crate::fleet::{BadName, Name};

/// Is how many letters a made name ends with, and how long it may be before them: as Kubernetes', so that it is still
/// a label's value and a host's name.
const LETTERS: usize = 5;
const BEFORE_MAX: usize = 63 - LETTERS;
/// Are letters that spell no words and are not taken for one another.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Finds what a name is to be made of, where an object has none.
pub fn wish(object: &Value) -> Option<String> {
    let meta = object.get("metadata")?;
    let text = |field: &str| meta.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    match text("name") {
        None => text("generateName").map(str::to_owned),
        Some(_) => None,
    }
}

/// Makes a name that nobody is likely to have.
///
/// # Errors
/// No name begins like this.
pub fn name(prefix: &str) -> Result<Name, Invalid> {
    let mut end = prefix.len().min(BEFORE_MAX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let chance = uuid::Uuid::new_v4();
    let letters = chance.as_bytes().iter().take(LETTERS).map(|byte| ALPHABET[usize::from(*byte) % ALPHABET.len()]);
    let made: String = prefix[..end].chars().chain(letters.map(char::from)).collect();
    let wrong = |error: BadName| Invalid { field: "metadata.generateName".into(), message: error.to_string() };
    made.parse().map_err(wrong)
}

/// Takes out what typed clients send empty, or of what was never here, and refuses what would be promised in vain.
pub fn settle(meta: &mut Map<String, Value>) -> Result<(), Invalid> {
    for field in ["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        meta.shift_remove(field);
    }
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    };
    for field in ["generateName", "ownerReferences", "finalizers"] {
        if meta.get(field).is_some_and(is_empty) {
            meta.shift_remove(field);
        }
    }
    match meta.get("finalizers") {
        None => Ok(()),
        Some(_) => {
            let message = "no object is held back here until somebody has finished with it: a DELETE is done at once; leave finalizers out";
            Err(Invalid { field: "metadata.finalizers".into(), message: message.into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_is_made_where_there_is_none() {
        assert_eq!(wish(&json!({"metadata": {"generateName": "node-"}})).as_deref(), Some("node-"));
        assert_eq!(wish(&json!({"metadata": {"name": "", "generateName": "node-"}})).as_deref(), Some("node-"));
        assert_eq!(wish(&json!({"metadata": {"name": "a", "generateName": "node-"}})), None);
        assert_eq!(wish(&json!({"metadata": {"generateName": ""}})), None);
        let (one, two) = (name("node-").unwrap(), name("node-").unwrap());
        assert!(one.as_str().len() == 10 && one.as_str().starts_with("node-") && one != two, "{one} {two}");
        assert_eq!(name(&"a".repeat(300)).unwrap().as_str().len(), 63);
        for prefix in ["Node-", "-node", &"é".repeat(300)] {
            assert_eq!(name(prefix).unwrap_err().field, "metadata.generateName", "{prefix}");
        }
    }

    #[test]
    fn finalizers_are_refused_and_empty_ones_are_none() {
        let settled = |meta: Value| {
            let mut meta = meta.as_object().unwrap().clone();
            settle(&mut meta).map(|()| Value::Object(meta)).map_err(|wrong| wrong.field)
        };
        let sent = json!({"name": "a", "finalizers": [], "ownerReferences": null, "generateName": "", "selfLink": ""});
        assert_eq!(settled(sent), Ok(json!({"name": "a"})));
        assert_eq!(settled(json!({"finalizers": ["a/b"]})), Err("metadata.finalizers".into()));
    }
}
