//! Validation of Ignition configs of the specifications 2.0.0 to 2.4.0: what all of them have in common.

use serde_json::{Map, Value};

/// Lists of a config by section, and the keys that each of their items needs.
const LISTS: &[(&str, &str, &[&str])] = &[
    ("storage", "disks", &["device"]),
    ("storage", "raid", &["name"]),
    ("storage", "filesystems", &[]),
    ("storage", "files", &["filesystem", "path"]),
    ("storage", "directories", &["filesystem", "path"]),
    ("storage", "links", &["filesystem", "path", "target"]),
    ("systemd", "units", &["name"]),
    ("networkd", "units", &["name"]),
    ("passwd", "users", &["name"]),
    ("passwd", "groups", &["name"]),
];

/// Checks the types of the sections, their lists and the required keys.
///
/// # Errors
/// Returns a message for the first wrong value, with its JSON pointer.
pub fn check(config: &Value) -> Result<(), String> {
    for (section, list, required) in LISTS {
        let items = match within(config, section)? {
            Some(section_value) => section_value.get(*list).filter(|value| !value.is_null()),
            None => None,
        };
        let path = format!("/{section}/{list}");
        let items = match items {
            None => continue,
            Some(Value::Array(items)) => items,
            Some(_) => return Err(format!("{path}: expected a list")),
        };
        for (index, item) in items.iter().enumerate() {
            check_item(item, required).map_err(|wrong| format!("{path}/{index}{wrong}"))?;
        }
    }
    Ok(())
}

/// Checks an item of a list: its required keys, the permissions of a file and its contents.
fn check_item(item: &Value, required: &[&str]) -> Result<(), String> {
    let Value::Object(item_map) = item else { return Err(": expected an object".to_owned()) };
    for key in required {
        match item_map.get(*key) {
            Some(Value::String(text)) if !text.is_empty() => {}
            Some(Value::Null) | None => return Err(format!(": missing key {key}")),
            Some(_) => return Err(format!("/{key}: expected a string that is not empty")),
        }
    }
    if !required.contains(&"path") {
        return Ok(());
    }
    if item_map.get("mode").is_some_and(|mode| !mode.is_null() && !mode.is_i64()) {
        return Err("/mode: expected a number (decimal)".to_owned());
    }
    let source = within(item, "contents")?.and_then(|contents| contents.get("source"));
    match source.is_none_or(|source| source.is_string() || source.is_null()) {
        true => Ok(()),
        false => Err("/contents/source: expected a string".to_owned()),
    }
}

/// Returns an object in a value; `None` if it is absent.
fn within<'a>(value: &'a Value, key: &str) -> Result<Option<&'a Map<String, Value>>, String> {
    match value.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(format!("/{key}: expected an object")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_all_versions_have_in_common_is_checked() {
        let file =
            json!({"filesystem": "root", "path": "/etc/hostname", "mode": 420, "contents": {"source": "data:,a"}});
        let good = [
            json!({}),
            json!({"storage": null, "systemd": {"units": null}}),
            json!({"storage": {"files": [file], "filesystems": [{"mount": {"device": "/dev/sda1", "format": "ext4"}}]}}),
            json!({"systemd": {"units": [{"name": "a.service", "enable": true}]}, "passwd": {"users": [{"name": "core"}]}}),
        ];
        for config in good {
            assert_eq!(check(&config), Ok(()), "{config}");
        }
        let bad = [
            (json!({"storage": []}), "/storage: expected an object"),
            (json!({"systemd": {"units": {}}}), "/systemd/units: expected a list"),
            (json!({"passwd": {"users": ["core"]}}), "/passwd/users/0: expected an object"),
            (json!({"storage": {"files": [{"path": "/a"}]}}), "/storage/files/0: missing key filesystem"),
            (json!({"networkd": {"units": [{"name": 1}]}}), "/networkd/units/0/name: expected a string"),
            (
                json!({"storage": {"files": [{"filesystem": "root", "path": "/a", "mode": "0644"}]}}),
                "/storage/files/0/mode: expected a number",
            ),
            (
                json!({"storage": {"files": [{"filesystem": "root", "path": "/a", "contents": "x"}]}}),
                "/storage/files/0/contents: expected an object",
            ),
        ];
        for (config, expected) in bad {
            let message = check(&config).unwrap_err();
            assert!(message.starts_with(expected), "{config}: {message}");
        }
    }
}
