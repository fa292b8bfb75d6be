//! Types of the keys of a cloud-config.

use serde_json::{Map, Value};

/// The type of a value in a cloud-config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueType {
    Text,
    Boolean,
    Number,
    List,
    Map,
    Null,
}

use ValueType::{Boolean, List, Map as Mapping, Null, Number, Text};

/// Keys with the types that the schema of cloud-init 24.4 allows. Other keys are not checked: custom modules may
/// define their own.
const KEYS: &[(&str, &[ValueType])] = &[
    ("apt", &[Mapping]),
    ("apt_pipelining", &[Boolean, Text, Number]),
    ("bootcmd", &[List]),
    ("byobu_by_default", &[Text]),
    ("ca_certs", &[Mapping]),
    ("chpasswd", &[Mapping]),
    ("create_hostname_file", &[Boolean]),
    ("device_aliases", &[Mapping]),
    ("disable_root", &[Boolean, Text]),
    ("disk_setup", &[Mapping]),
    ("final_message", &[Text]),
    ("fqdn", &[Text]),
    ("fs_setup", &[List]),
    ("growpart", &[Mapping]),
    ("hostname", &[Text]),
    ("keyboard", &[Mapping]),
    ("locale", &[Text, Boolean]),
    ("manage_etc_hosts", &[Boolean, Text]),
    ("manage_resolv_conf", &[Boolean]),
    ("mounts", &[List]),
    ("ntp", &[Mapping, Null]),
    ("package_reboot_if_required", &[Boolean]),
    ("package_update", &[Boolean]),
    ("package_upgrade", &[Boolean]),
    ("packages", &[List]),
    ("phone_home", &[Mapping]),
    ("power_state", &[Mapping]),
    ("prefer_fqdn_over_hostname", &[Boolean]),
    ("preserve_hostname", &[Boolean]),
    ("random_seed", &[Mapping]),
    ("resolv_conf", &[Mapping]),
    ("runcmd", &[List]),
    ("snap", &[Mapping]),
    ("ssh_authorized_keys", &[List]),
    ("ssh_import_id", &[List]),
    ("ssh_keys", &[Mapping]),
    ("swap", &[Mapping]),
    ("timezone", &[Text]),
    ("users", &[List, Mapping, Text]),
    ("write_files", &[List]),
    ("yum_repos", &[Mapping]),
];

/// Checks the types of the known keys.
///
/// # Errors
/// Returns a message for the first wrong value, with its JSON pointer, the type that was found and the expected
/// types.
pub fn check(config: &Map<String, Value>) -> Result<(), String> {
    for (key, kinds) in KEYS {
        let Some(value) = config.get(*key) else { continue };
        if !kinds.contains(&type_of(value)) {
            let expected: Vec<&str> = kinds.iter().map(|kind| type_name(*kind)).collect();
            return Err(format!("/{key}: expected {}, found {}", expected.join(" or "), type_name(type_of(value))));
        }
    }
    for (key, required) in [("write_files", "path"), ("users", "name")] {
        let items = config.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for (index, item) in items.iter().enumerate() {
            check_item(item, key, required).map_err(|wrong| format!("/{key}/{index}{wrong}"))?;
        }
    }
    let keys = config.get("ssh_authorized_keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    match keys.iter().position(|key| !key.is_string()) {
        Some(index) => {
            Err(format!("/ssh_authorized_keys/{index}: expected a string, found {}", type_name(type_of(&keys[index]))))
        }
        None => Ok(()),
    }
}

/// Checks one item of `users` or `write_files`, which has a required key.
fn check_item(item: &Value, key: &str, required: &str) -> Result<(), String> {
    match (item, key) {
        (Value::String(_), "users") => Ok(()),
        (Value::Object(map), _) => match map.get(required) {
            Some(Value::String(_)) => Ok(()),
            // A user may be imported from a snap account.
            None if key == "users" && map.contains_key("snapuser") => Ok(()),
            Some(other) => Err(format!("/{required}: expected a string, found {}", type_name(type_of(other)))),
            None => Err(format!(": missing key {required}")),
        },
        (other, _) => Err(format!(": expected a mapping, found {}", type_name(type_of(other)))),
    }
}

/// Returns the type of a value.
fn type_of(value: &Value) -> ValueType {
    match value {
        Value::Null => Null,
        Value::Bool(_) => Boolean,
        Value::Number(_) => Number,
        Value::String(_) => Text,
        Value::Array(_) => List,
        Value::Object(_) => Mapping,
    }
}

/// Returns the name of a type for messages.
fn type_name(kind: ValueType) -> &'static str {
    match kind {
        Text => "a string",
        Boolean => "a boolean",
        Number => "a number",
        List => "a list",
        Mapping => "a mapping",
        Null => "null",
    }
}
