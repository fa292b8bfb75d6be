//! The merge of two Ignition configs: what a child config sets wins, and entries of a list are the same by their key.

use serde_json::Value;

/// Lists whose entries are the same by a key. The entries of other lists are the same if they are equal.
const KEYS: [(&str, &str); 9] = [
    ("disks", "device"),
    ("raid", "name"),
    ("luks", "name"),
    ("filesystems", "device"),
    ("files", "path"),
    ("directories", "path"),
    ("links", "path"),
    ("units", "name"),
    ("dropins", "name"),
];
/// Lists to which the child's entries are added, even if they are there.
const ADDED: [&str; 4] = ["append", "options", "mountOptions", "openOptions"];

/// Returns a config with the values of both; those of the child win.
pub(super) fn merge(parent: &Value, child: &Value) -> Value {
    merge_values(parent, child, "")
}

fn merge_values(parent: &Value, child: &Value, list: &str) -> Value {
    match (parent, child) {
        (Value::Object(parent), Value::Object(child)) => {
            let mut made = parent.clone();
            for (key, value) in child {
                let merged = made.get(key).map(|before| merge_values(before, value, key));
                made.insert(key.clone(), merged.unwrap_or_else(|| value.clone()));
            }
            Value::Object(made)
        }
        (Value::Array(parent), Value::Array(child)) if ADDED.contains(&list) => {
            parent.iter().chain(child).cloned().collect()
        }
        (Value::Array(parent), Value::Array(child)) => {
            let is_same = |one: &Value, other: &Value| identity(one, list) == identity(other, list);
            let of_parent = parent.iter().map(|one| match child.iter().find(|other| is_same(one, other)) {
                Some(other) => merge_values(one, other, ""),
                None => one.clone(),
            });
            let new = child.iter().filter(|other| !parent.iter().any(|one| is_same(one, other)));
            of_parent.chain(new.cloned()).collect()
        }
        (parent, Value::Null) => parent.clone(),
        (_, child) => child.clone(),
    }
}

/// Returns what tells an entry of a list from the others.
fn identity(entry: &Value, list: &str) -> Value {
    let key = |name: &str| entry.get(name).cloned().unwrap_or(Value::Null);
    match KEYS.iter().find(|(name, _)| *name == list) {
        Some((_, name)) => key(name),
        None if list == "partitions" => match entry.get("number").and_then(Value::as_i64) {
            Some(number) if number != 0 => number.into(),
            _ => key("label"),
        },
        None => entry.clone(),
    }
}
