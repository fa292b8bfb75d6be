use serde_json::{Map, Value};

/// Is what a key of cloud-config may hold, as its schema has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Text,
    Truth,
    Number,
    List,
    Map,
    Nothing,
}

use Of::{List, Map as Mapping, Nothing, Number, Text, Truth};

/// Lists the keys whose types cloud-init's own schema (24.4) is strict about. Other keys are left to cloud-init: sites
/// have modules of their own.
const KEYS: &[(&str, &[Of])] = &[
    ("apt", &[Mapping]),
    ("apt_pipelining", &[Truth, Text, Number]),
    ("bootcmd", &[List]),
    ("byobu_by_default", &[Text]),
    ("ca_certs", &[Mapping]),
    ("chpasswd", &[Mapping]),
    ("create_hostname_file", &[Truth]),
    ("device_aliases", &[Mapping]),
    ("disable_root", &[Truth, Text]),
    ("disk_setup", &[Mapping]),
    ("final_message", &[Text]),
    ("fqdn", &[Text]),
    ("fs_setup", &[List]),
    ("growpart", &[Mapping]),
    ("hostname", &[Text]),
    ("keyboard", &[Mapping]),
    ("locale", &[Text, Truth]),
    ("manage_etc_hosts", &[Truth, Text]),
    ("manage_resolv_conf", &[Truth]),
    ("mounts", &[List]),
    ("ntp", &[Mapping, Nothing]),
    ("package_reboot_if_required", &[Truth]),
    ("package_update", &[Truth]),
    ("package_upgrade", &[Truth]),
    ("packages", &[List]),
    ("phone_home", &[Mapping]),
    ("power_state", &[Mapping]),
    ("prefer_fqdn_over_hostname", &[Truth]),
    ("preserve_hostname", &[Truth]),
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

/// Checks that the keys which cloud-init is strict about hold what they are to hold.
///
/// # Errors
/// The first key that does not, by its JSON pointer.
pub fn check(config: &Map<String, Value>) -> Result<(), String> {
    for (key, kinds) in KEYS {
        let Some(value) = config.get(*key) else { continue };
        if !kinds.contains(&kind(value)) {
            let wanted: Vec<&str> = kinds.iter().map(|kind| said(*kind)).collect();
            return Err(format!("/{key} is {}, and is to be {}", said(kind(value)), wanted.join(" or ")));
        }
    }
    for (key, named) in [("write_files", "path"), ("users", "name")] {
        let items = config.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for (index, item) in items.iter().enumerate() {
            each(item, key, named).map_err(|wrong| format!("/{key}/{index}{wrong}"))?;
        }
    }
    let keys = config.get("ssh_authorized_keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    match keys.iter().position(|key| !key.is_string()) {
        Some(index) => Err(format!("/ssh_authorized_keys/{index} is {}, and is to be text", said(kind(&keys[index])))),
        None => Ok(()),
    }
}

fn each(item: &Value, key: &str, named: &str) -> Result<(), String> {
    match (item, key) {
        (Value::String(_), "users") => Ok(()),
        (Value::Object(map), _) => match map.get(named) {
            Some(Value::String(_)) => Ok(()),
            // A user may be the import of a snap account.
            None if key == "users" && map.contains_key("snapuser") => Ok(()),
            Some(other) => Err(format!("/{named} is {}, and is to be text", said(kind(other)))),
            None => Err(format!(" has no {named}")),
        },
        (other, _) => Err(format!(" is {}, and is to be a mapping", said(kind(other)))),
    }
}

fn kind(value: &Value) -> Of {
    match value {
        Value::Null => Nothing,
        Value::Bool(_) => Truth,
        Value::Number(_) => Number,
        Value::String(_) => Text,
        Value::Array(_) => List,
        Value::Object(_) => Mapping,
    }
}

fn said(kind: Of) -> &'static str {
    match kind {
        Text => "text",
        Truth => "true or false",
        Number => "a number",
        List => "a list",
        Mapping => "a mapping",
        Nothing => "nothing",
    }
}
