//! Metadata of an object before it is decoded: fields that have no meaning here. Pure.

use serde_json::{Map, Value};

use crate::fleet::rules::Invalid;

/// Removes fields that typed clients send empty or copied from elsewhere.
///
/// # Errors
/// `finalizers` are not supported.
pub fn normalize(meta: &mut Map<String, Value>) -> Result<(), Invalid> {
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
            let message = "not supported; remove the field";
            Err(Invalid { field: "metadata.finalizers".into(), message: message.into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finalizers_are_refused_and_empty_fields_removed() {
        let settled = |meta: Value| {
            let mut meta = meta.as_object().unwrap().clone();
            normalize(&mut meta).map(|()| Value::Object(meta)).map_err(|wrong| wrong.field)
        };
        let sent = json!({"name": "a", "finalizers": [], "ownerReferences": null, "generateName": "", "selfLink": ""});
        assert_eq!(settled(sent), Ok(json!({"name": "a"})));
        assert_eq!(settled(json!({"finalizers": ["a/b"]})), Err("metadata.finalizers".into()));
    }
}
