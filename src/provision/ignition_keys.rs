//! The keys of Ignition configs of the specification 3.6.0, with their types, and the check of a text against them. Pure.
//!
//! The newest version has the keys of all before it; `ignition_v3` has the differences. A test compares the table with
//! the types of the crate ignition-config, whose code would be far larger.

use super::findings::{Findings, Place};
use super::located_json::{Located, Node};

/// The type of a value.
#[derive(Debug)]
pub enum Shape {
    /// A text.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A number of 64 bits with a sign.
    Integer,
    /// A list of values of one type, none of them null.
    List(&'static Shape),
    /// An object.
    Object(&'static Keys),
}

/// The keys of an object.
#[derive(Debug)]
pub struct Keys {
    /// Keys that must be there, and not null.
    pub required: &'static [&'static str],
    /// All keys. One that is not required may be null.
    pub all: &'static [(&'static str, Shape)],
}

use Shape::{Boolean, Integer, List, Object, Text};

const TEXTS: Shape = List(&Text);

/// A whole config.
pub static CONFIG: Shape = Object(&Keys {
    required: &["ignition"],
    all: &[
        ("ignition", Object(&IGNITION)),
        ("kernelArguments", Object(&KERNEL_ARGUMENTS)),
        ("passwd", Object(&PASSWD)),
        ("storage", Object(&STORAGE)),
        ("systemd", Object(&SYSTEMD)),
    ],
});

static IGNITION: Keys = Keys {
    required: &["version"],
    all: &[
        ("config", Object(&CONFIGS)),
        ("proxy", Object(&PROXY)),
        ("security", Object(&SECURITY)),
        ("timeouts", Object(&TIMEOUTS)),
        ("version", Text),
    ],
};

static KERNEL_ARGUMENTS: Keys = Keys { required: &[], all: &[("shouldExist", TEXTS), ("shouldNotExist", TEXTS)] };

static PASSWD: Keys =
    Keys { required: &[], all: &[("groups", List(&Object(&GROUP))), ("users", List(&Object(&USER)))] };

static STORAGE: Keys = Keys {
    required: &[],
    all: &[
        ("directories", List(&Object(&DIRECTORY))),
        ("disks", List(&Object(&DISK))),
        ("files", List(&Object(&FILE))),
        ("filesystems", List(&Object(&FILESYSTEM))),
        ("links", List(&Object(&LINK))),
        ("luks", List(&Object(&LUKS))),
        ("raid", List(&Object(&RAID))),
    ],
};

static SYSTEMD: Keys = Keys { required: &[], all: &[("units", List(&Object(&UNIT)))] };

static CONFIGS: Keys =
    Keys { required: &[], all: &[("merge", List(&Object(&RESOURCE))), ("replace", Object(&RESOURCE))] };

static PROXY: Keys = Keys { required: &[], all: &[("httpProxy", Text), ("httpsProxy", Text), ("noProxy", TEXTS)] };

static SECURITY: Keys = Keys { required: &[], all: &[("tls", Object(&TLS))] };

static TIMEOUTS: Keys = Keys { required: &[], all: &[("httpResponseHeaders", Integer), ("httpTotal", Integer)] };

static GROUP: Keys = Keys {
    required: &["name"],
    all: &[("gid", Integer), ("name", Text), ("passwordHash", Text), ("shouldExist", Boolean), ("system", Boolean)],
};

static USER: Keys = Keys {
    required: &["name"],
    all: &[
        ("gecos", Text),
        ("groups", TEXTS),
        ("homeDir", Text),
        ("name", Text),
        ("noCreateHome", Boolean),
        ("noLogInit", Boolean),
        ("noUserGroup", Boolean),
        ("passwordHash", Text),
        ("primaryGroup", Text),
        ("shell", Text),
        ("shouldExist", Boolean),
        ("sshAuthorizedKeys", TEXTS),
        ("system", Boolean),
        ("uid", Integer),
    ],
};

static DIRECTORY: Keys = Keys {
    required: &["path"],
    all: &[
        ("group", Object(&OWNER)),
        ("mode", Integer),
        ("overwrite", Boolean),
        ("path", Text),
        ("user", Object(&OWNER)),
    ],
};

static DISK: Keys = Keys {
    required: &["device"],
    all: &[("device", Text), ("partitions", List(&Object(&PARTITION))), ("wipeTable", Boolean)],
};

static FILE: Keys = Keys {
    required: &["path"],
    all: &[
        ("append", List(&Object(&RESOURCE))),
        ("contents", Object(&RESOURCE)),
        ("group", Object(&OWNER)),
        ("mode", Integer),
        ("overwrite", Boolean),
        ("path", Text),
        ("user", Object(&OWNER)),
    ],
};

static FILESYSTEM: Keys = Keys {
    required: &["device"],
    all: &[
        ("device", Text),
        ("format", Text),
        ("label", Text),
        ("mountOptions", TEXTS),
        ("options", TEXTS),
        ("path", Text),
        ("uuid", Text),
        ("wipeFilesystem", Boolean),
    ],
};

static LINK: Keys = Keys {
    required: &["path"],
    all: &[
        ("group", Object(&OWNER)),
        ("hard", Boolean),
        ("overwrite", Boolean),
        ("path", Text),
        ("target", Text),
        ("user", Object(&OWNER)),
    ],
};

static LUKS: Keys = Keys {
    required: &["name"],
    all: &[
        ("cex", Object(&CEX)),
        ("clevis", Object(&CLEVIS)),
        ("device", Text),
        ("discard", Boolean),
        ("keyFile", Object(&RESOURCE)),
        ("label", Text),
        ("name", Text),
        ("openOptions", TEXTS),
        ("options", TEXTS),
        ("uuid", Text),
        ("wipeVolume", Boolean),
    ],
};

static RAID: Keys = Keys {
    required: &["name"],
    all: &[("devices", TEXTS), ("level", Text), ("name", Text), ("options", TEXTS), ("spares", Integer)],
};

static UNIT: Keys = Keys {
    required: &["name"],
    all: &[
        ("contents", Text),
        ("dropins", List(&Object(&DROPIN))),
        ("enabled", Boolean),
        ("mask", Boolean),
        ("name", Text),
    ],
};

static RESOURCE: Keys = Keys {
    required: &[],
    all: &[
        ("compression", Text),
        ("httpHeaders", List(&Object(&HEADER))),
        ("source", Text),
        ("verification", Object(&VERIFICATION)),
    ],
};

static TLS: Keys = Keys { required: &[], all: &[("certificateAuthorities", List(&Object(&RESOURCE)))] };

static OWNER: Keys = Keys { required: &[], all: &[("id", Integer), ("name", Text)] };

static PARTITION: Keys = Keys {
    required: &[],
    all: &[
        ("guid", Text),
        ("label", Text),
        ("number", Integer),
        ("resize", Boolean),
        ("shouldExist", Boolean),
        ("sizeMiB", Integer),
        ("startMiB", Integer),
        ("typeGuid", Text),
        ("wipePartitionEntry", Boolean),
    ],
};

static CEX: Keys = Keys { required: &[], all: &[("enabled", Boolean)] };

static CLEVIS: Keys = Keys {
    required: &[],
    all: &[("custom", Object(&CUSTOM_PIN)), ("tang", List(&Object(&TANG))), ("threshold", Integer), ("tpm2", Boolean)],
};

static DROPIN: Keys = Keys { required: &["name"], all: &[("contents", Text), ("name", Text)] };

static HEADER: Keys = Keys { required: &["name"], all: &[("name", Text), ("value", Text)] };

static VERIFICATION: Keys = Keys { required: &[], all: &[("hash", Text)] };

static CUSTOM_PIN: Keys = Keys { required: &[], all: &[("config", Text), ("needsNetwork", Boolean), ("pin", Text)] };

static TANG: Keys = Keys { required: &[], all: &[("advertisement", Text), ("thumbprint", Text), ("url", Text)] };

/// Checks the types of a config's values. Adds each wrong value to the findings, and each object without a required key.
/// Returns the paths of the keys that the table does not have, as Ignition writes them: `$.storage.new`.
pub fn check(config: &Place<'_>, found: &mut Findings) -> Vec<String> {
    let mut unused = Vec::new();
    check_value(config, &CONFIG, found, &mut unused);
    unused
}

fn check_value(place: &Place<'_>, shape: &'static Shape, found: &mut Findings, unused: &mut Vec<String>) {
    match (shape, &place.value.node) {
        (Text, Node::Text(_)) | (Boolean, Node::Boolean(_)) | (Integer, Node::Integer(_)) => {}
        (List(shape), Node::List(items)) => {
            for (index, value) in items.iter().enumerate() {
                let item = Place { value, pointer: format!("{}/{index}", place.pointer) };
                check_value(&item, shape, found, unused);
            }
        }
        (Object(keys), Node::Object(entries)) => check_object(place, keys, entries, found, unused),
        (_, other) => found.errors.push(place.finding(format!("found {other}, expected {}", expected(shape)))),
    }
}

fn check_object(
    place: &Place<'_>,
    keys: &'static Keys,
    entries: &[(String, Located)],
    found: &mut Findings,
    unused: &mut Vec<String>,
) {
    for (index, (key, value)) in entries.iter().enumerate() {
        let below = Place { value, pointer: place.pointer_of(key) };
        let Some((name, shape)) = keys.all.iter().find(|(name, _)| name == key) else {
            unused.push(format!("${}", below.pointer.replace('/', ".")));
            continue;
        };
        if entries[..index].iter().any(|(before, _)| before == key) {
            found.errors.push(below.finding("the key occurs twice"));
        } else if !matches!(value.node, Node::Null) || keys.required.contains(name) {
            check_value(&below, shape, found, unused);
        }
    }
    for missing in keys.required.iter().filter(|name| !entries.iter().any(|(key, _)| key == **name)) {
        found.errors.push(place.finding_of(missing, "missing"));
    }
}

fn expected(shape: &Shape) -> &'static str {
    match shape {
        Text => "a string",
        Boolean => "true or false",
        Integer => "a whole number",
        List(_) => "a list",
        Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value as Json, json};

    use super::*;
    use crate::provision::findings::Finding;
    use crate::provision::ignition_types;
    use crate::provision::located_json::line_and_column;

    /// Returns the unused keys of a config, and its errors.
    fn check_text(text: &str) -> (Vec<String>, Vec<Finding>) {
        let (config, mut found) = (Located::parse(text).unwrap(), Findings::default());
        (check(&Place::of(&config), &mut found), found.errors)
    }

    /// Adds the paths of all values below one, in the form of `ignition_types::fields`.
    fn add_fields(shape: &Shape, path: &str, fields: &mut BTreeSet<String>) {
        let below = |part: &str| if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") };
        match shape {
            Text => drop(fields.insert(format!("{path} text"))),
            Boolean => drop(fields.insert(format!("{path} boolean"))),
            Integer => drop(fields.insert(format!("{path} integer"))),
            List(item) => add_fields(item, &below("*"), fields),
            Object(keys) => keys.all.iter().for_each(|(name, shape)| add_fields(shape, &below(name), fields)),
        }
    }

    /// Returns a value with every key, and one item in each list.
    fn full(shape: &Shape) -> Json {
        match shape {
            Text => "x".into(),
            Boolean => true.into(),
            Integer => 1.into(),
            List(item) => json!([full(item)]),
            Object(keys) => keys.all.iter().map(|(name, shape)| ((*name).to_owned(), full(shape))).collect(),
        }
    }

    /// Adds the JSON pointers of a value and of all values below it.
    fn add_pointers(value: &Json, pointer: &str, pointers: &mut Vec<String>) {
        pointers.push(pointer.to_owned());
        match value {
            Json::Array(items) => add_pointers(&items[0], &format!("{pointer}/0"), pointers),
            Json::Object(map) => {
                map.iter().for_each(|(key, value)| add_pointers(value, &format!("{pointer}/{key}"), pointers));
            }
            _ => {}
        }
    }

    #[test]
    fn the_table_has_the_keys_and_types_of_ignition_config() {
        let mut fields = BTreeSet::new();
        add_fields(&CONFIG, "", &mut fields);
        assert_eq!(fields, ignition_types::fields::<ignition_config::v3_6::Config>());
    }

    #[test]
    fn the_table_accepts_and_refuses_the_same_values_as_the_types_of_ignition_config() {
        let config = full(&CONFIG);
        let mut pointers = Vec::new();
        add_pointers(&config, "", &mut pointers);
        assert!(pointers.len() > 150, "{}", pointers.len());
        for pointer in pointers.iter().skip(1) {
            let wrong =
                [Json::Null, json!("y"), json!(false), json!(-1), json!(u64::MAX), json!(1.5), json!({"new": 1})];
            let mut changed: Vec<Json> = wrong
                .into_iter()
                .map(|value| {
                    let mut config = config.clone();
                    *config.pointer_mut(pointer).unwrap() = value;
                    config
                })
                .collect();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let mut without = config.clone();
            match without.pointer_mut(parent).unwrap() {
                Json::Object(map) => drop(map.shift_remove(key)),
                list => *list = json!([]),
            }
            changed.push(without);
            for config in changed {
                let (unused, errors) = check_text(&config.to_string());
                match errors.as_slice() {
                    [] => assert_eq!(unused, ignition_types::unused(&config, 6), "{pointer}: {config}"),
                    wrong => {
                        assert!(!ignition_types::accepts(&config, 6), "{pointer}: {config}");
                        let is_near = |other: &str| pointer.starts_with(other) || other.starts_with(pointer);
                        assert!(wrong.iter().all(|wrong| is_near(&wrong.pointer)), "{pointer}: {wrong:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn all_errors_are_found_each_with_its_pointer_and_place() {
        let text =
            "{\n\"ignition\": {\"version\": 3},\n \"storage\": {\"files\": [null, {\"mode\": 1.5}]}, \"passwd\": []}";
        let found: Vec<String> = check_text(text)
            .1
            .iter()
            .map(|finding| {
                let (line, column) = line_and_column(text, finding.offset);
                format!("{line}:{column} {}: {}", finding.pointer, finding.message)
            })
            .collect();
        assert_eq!(
            found,
            [
                "2:25 /ignition/version: found the number 3, expected a string",
                "3:24 /storage/files/0: found null, expected an object",
                "3:39 /storage/files/1/mode: found a number that is not whole or too large, expected a whole number",
                "3:30 /storage/files/1/path: missing",
                "3:57 /passwd: found a list, expected an object",
            ]
        );
        let twice = r#"{"ignition":{"version":"3.6.0","version":"3.6.0"}}"#;
        assert_eq!(check_text(twice).1[0].message, "the key occurs twice");
        assert_eq!(check_text("{}").1[0].pointer, "/ignition");
    }
}
