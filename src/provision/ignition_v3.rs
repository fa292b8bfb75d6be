//! The differences between the specifications 3.0.0 to 3.6.0 of Ignition configs. Pure.
//!
//! Each version has the keys of those before it, and needs fewer of them.

use serde_json::Value;

use super::findings::{Findings, Place};

/// The second number of a specification's version 3.
pub type Minor = u8;

/// Keys that a version added to the one before. `*` stands for each item of a list.
const ADDED: &[(Minor, &str)] = &[
    (1, "ignition.proxy"),
    (1, "ignition.config.merge.*.compression"),
    (1, "ignition.config.merge.*.httpHeaders"),
    (1, "ignition.config.replace.compression"),
    (1, "ignition.config.replace.httpHeaders"),
    (1, "ignition.security.tls.certificateAuthorities.*.compression"),
    (1, "ignition.security.tls.certificateAuthorities.*.httpHeaders"),
    (1, "storage.files.*.contents.httpHeaders"),
    (1, "storage.files.*.append.*.httpHeaders"),
    (1, "storage.filesystems.*.mountOptions"),
    (2, "passwd.users.*.shouldExist"),
    (2, "passwd.groups.*.shouldExist"),
    (2, "storage.disks.*.partitions.*.resize"),
    (2, "storage.luks"),
    (3, "kernelArguments"),
    (4, "storage.luks.*.discard"),
    (4, "storage.luks.*.openOptions"),
    (4, "storage.luks.*.clevis.tang.*.advertisement"),
    (5, "storage.luks.*.cex"),
];

/// Keys that the versions before the given one require in an object, and it does not.
const REQUIRED_BEFORE: &[(Minor, &str, &str)] = &[
    (1, "ignition.security.tls.certificateAuthorities.*", "source"),
    (3, "storage.links.*", "target"),
    (3, "storage.raid.*", "devices"),
    (3, "storage.raid.*", "level"),
    (3, "storage.luks.*.clevis.custom", "config"),
    (3, "storage.luks.*.clevis.custom", "pin"),
];

/// Returns the paths of the keys of a config that later versions added, as Ignition writes them: `$.storage.luks`.
pub fn later_keys(config: &Value, minor: Minor) -> Vec<String> {
    let mut later: Vec<Vec<String>> = Vec::new();
    for (_, pattern) in ADDED.iter().filter(|(since, _)| *since > minor) {
        for (path, _) in matches(config, pattern) {
            // Keys below one that is reported already are left out.
            if !later.iter().any(|upper| path.starts_with(upper)) {
                later.push(path);
            }
        }
    }
    later.iter().map(|path| format!("$.{}", path.join("."))).collect()
}

/// Adds the keys that a config lacks, and its version requires, while a later one does not.
pub fn check_required(config: &Place<'_>, minor: Minor, found: &mut Findings) {
    for (before, pattern, key) in REQUIRED_BEFORE.iter().filter(|(before, ..)| minor < *before) {
        for owner in config.matches(pattern).iter().filter(|owner| owner.value.get(key).is_none()) {
            found.errors.push(owner.finding_of(key, format!("missing, required before 3.{before}.0")));
        }
    }
}

/// Returns the values at the places that a pattern describes, with their paths.
fn matches<'a>(config: &'a Value, pattern: &str) -> Vec<(Vec<String>, &'a Value)> {
    pattern.split('.').fold(vec![(Vec::new(), config)], |found, part| {
        let step = |(path, value): (Vec<String>, &'a Value)| -> Vec<(Vec<String>, &'a Value)> {
            let below = |name: String, value| ([path.clone(), vec![name]].concat(), value);
            match (part, value) {
                ("*", Value::Array(items)) => {
                    items.iter().enumerate().map(|(index, item)| below(index.to_string(), item)).collect()
                }
                _ => value.get(part).map(|inner| below(part.to_owned(), inner)).into_iter().collect(),
            }
        };
        found.into_iter().flat_map(step).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::ignition_types::{accepts, unused};
    use crate::provision::located_json::Located;

    /// Returns a config with a value at the place of a pattern, and with the keys that any version requires.
    fn config_with(pattern: &str, value: &Value) -> Value {
        let inner = pattern.rsplit('.').fold(value.clone(), |inner, part| match part {
            "*" => Value::Array(vec![complete(inner)]),
            _ => serde_json::json!({ part: inner }),
        });
        let mut config = inner;
        config["ignition"]["version"] = "3.0.0".into();
        config
    }

    /// Adds the keys that an item of any list needs in every version.
    fn complete(mut item: Value) -> Value {
        let needed = [
            ("name", "n"),
            ("path", "/p"),
            ("device", "/dev/d"),
            ("target", "t"),
            ("level", "raid1"),
            ("source", "data:,x"),
            ("number", ""),
        ];
        for (key, text) in needed {
            if item.get(key).is_none() {
                item[key] = if text.is_empty() { 1.into() } else { text.into() };
            }
        }
        item
    }

    fn has_required(config: &Value, minor: Minor) -> bool {
        let (config, mut found) = (Located::parse(&config.to_string()).unwrap(), Findings::default());
        check_required(&Place::of(&config), minor, &mut found);
        found.errors.is_empty()
    }

    /// Returns a value of the type that a key has.
    fn sample(pattern: &str) -> Value {
        match pattern.rsplit('.').next().unwrap() {
            "compression" | "advertisement" => "x".into(),
            "shouldExist" | "resize" | "discard" => true.into(),
            "proxy" | "kernelArguments" | "cex" => serde_json::json!({}),
            _ => serde_json::json!([]),
        }
    }

    #[test]
    fn each_added_key_is_unused_in_the_types_of_the_version_before_and_in_no_later_ones() {
        for (since, pattern) in ADDED {
            let config = config_with(pattern, &sample(pattern));
            let key = matches(&config, pattern).remove(0).0.join(".");
            let upper = ADDED.iter().filter(|(_, other)| pattern.starts_with(&format!("{other}.")));
            let known = upper.map(|(minor, _)| *minor).max().unwrap_or(0);
            for minor in 0..=6 {
                let in_types = unused(&config, minor).contains(&format!("$.{key}"));
                let in_table = later_keys(&config, minor).contains(&format!("$.{key}"));
                let expected = minor < *since && minor >= known;
                assert_eq!((in_types, in_table), (expected, expected), "{pattern} in 3.{minor}");
            }
        }
    }

    #[test]
    fn each_required_key_is_required_by_the_types_of_the_versions_before() {
        for (before, pattern, key) in REQUIRED_BEFORE {
            let mut config = config_with(pattern, &serde_json::json!({}));
            let place = matches(&config, pattern).remove(0).0;
            let pointer = format!("/{}", place.join("/"));
            for other in ["config", "pin", "level", "target", "source"] {
                config.pointer_mut(&pointer).unwrap()[other] = "x".into();
            }
            config.pointer_mut(&pointer).unwrap()["devices"] = serde_json::json!(["/dev/d"]);
            config.pointer_mut(&pointer).unwrap().as_object_mut().unwrap().remove(*key);
            // The types of a version without the section ignore it.
            let first = if pattern.contains("luks") { 2 } else { 0 };
            for minor in first..=6 {
                assert_eq!(accepts(&config, minor), minor >= *before, "{pattern} {key} in 3.{minor}");
                assert_eq!(has_required(&config, minor), minor >= *before, "{pattern} {key} in 3.{minor}");
            }
        }
    }
}
