//! The keys of Ignition configs of the specification 3.6.0, with their types, and the check of a text against them. Pure.
//!
//! The newest version has the keys of all before it; `ignition_v3` has the differences. A test compares the table with
//! the types of the crate ignition-config, whose code would be far larger.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};

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

/// A wrong value of a config.
#[derive(Debug)]
pub struct WrongValue {
    /// JSON pointer of the value (RFC 6901).
    pub pointer: String,
    /// The parser's message, with the line.
    pub message: String,
}

/// Checks the types of a config's values. Returns the paths of the keys that the table does not have, as Ignition
/// writes them: `$.storage.new`.
///
/// # Errors
/// Returns the first wrong value, or the first object without a required key.
pub fn check(text: &str) -> Result<Vec<String>, WrongValue> {
    let mut walk = KeyWalk::default();
    let mut source = serde_json::Deserializer::from_str(text);
    let read = CheckedValue { shape: &CONFIG, is_optional: false, walk: &mut walk }.deserialize(&mut source);
    match read {
        Ok(()) => Ok(walk.unused),
        Err(error) => Err(WrongValue { pointer: walk.pointer(), message: error.to_string() }),
    }
}

/// The state of a check: where it is, and what it found.
#[derive(Debug, Default)]
struct KeyWalk {
    /// Keys and indexes from the whole config to the value. Those of a wrong value stay.
    path: Vec<Cow<'static, str>>,
    unused: Vec<String>,
}

impl KeyWalk {
    fn pointer(&self) -> String {
        self.path.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
    }
}

/// A value that is about to be read.
struct CheckedValue<'a> {
    shape: &'static Shape,
    /// Whether null stands for an absent value.
    is_optional: bool,
    walk: &'a mut KeyWalk,
}

impl<'de> DeserializeSeed<'de> for CheckedValue<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CheckedValue<'_> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self.shape {
            Text => "a string",
            Boolean => "a boolean",
            Integer => "a whole number",
            List(_) => "a list",
            Object(_) => "an object",
        })
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.is_optional { Ok(()) } else { Err(E::invalid_type(Unexpected::Unit, &self)) }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        if matches!(self.shape, Text) { Ok(()) } else { Err(E::invalid_type(Unexpected::Str(value), &self)) }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if matches!(self.shape, Boolean) { Ok(()) } else { Err(E::invalid_type(Unexpected::Bool(value), &self)) }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        if matches!(self.shape, Integer) { Ok(()) } else { Err(E::invalid_type(Unexpected::Signed(value), &self)) }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match self.shape {
            Integer if i64::try_from(value).is_ok() => Ok(()),
            Integer => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
            Text | Boolean | List(_) | Object(_) => Err(E::invalid_type(Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let List(shape) = self.shape else { return Err(A::Error::invalid_type(Unexpected::Seq, &self)) };
        for index in 0_usize.. {
            self.walk.path.push(index.to_string().into());
            let item = CheckedValue { shape, is_optional: false, walk: &mut *self.walk };
            let found = items.next_element_seed(item)?;
            self.walk.path.pop();
            if found.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Object(keys) = self.shape else { return Err(A::Error::invalid_type(Unexpected::Map, &self)) };
        let mut found = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            let Some((name, shape)) = keys.all.iter().find(|(name, _)| *name == key) else {
                let path: Vec<&str> = self.walk.path.iter().map(AsRef::as_ref).chain([key.as_str()]).collect();
                self.walk.unused.push(format!("$.{}", path.join(".")));
                entries.next_value::<IgnoredAny>()?;
                continue;
            };
            if found.contains(name) {
                return Err(A::Error::duplicate_field(name));
            }
            found.push(name);
            self.walk.path.push((*name).into());
            let is_optional = !keys.required.contains(name);
            entries.next_value_seed(CheckedValue { shape, is_optional, walk: &mut *self.walk })?;
            self.walk.path.pop();
        }
        match keys.required.iter().find(|name| !found.contains(name)) {
            Some(missing) => Err(A::Error::missing_field(missing)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value as Json, json};

    use super::*;
    use crate::provision::ignition_types;

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
                match check(&config.to_string()) {
                    Ok(unused) => assert_eq!(unused, ignition_types::unused(&config, 6), "{pointer}: {config}"),
                    Err(wrong) => {
                        assert!(!ignition_types::accepts(&config, 6), "{pointer}: {config}");
                        assert!(pointer.starts_with(&wrong.pointer), "{pointer}: {wrong:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_error_has_the_pointer_and_the_line() {
        let rows = [
            (
                "{\n\"ignition\": {\"version\": 3}}",
                "/ignition/version",
                "invalid type: integer `3`, expected a string at line 2",
            ),
            ("{}", "", "missing field `ignition`"),
            (r#"{"ignition":{"version":"3.6.0","version":"3.6.0"}}"#, "/ignition", "duplicate field `version`"),
            (
                r#"{"ignition":{"version":"3.6.0"},"storage":{"files":[null]}}"#,
                "/storage/files/0",
                "invalid type: null",
            ),
            (
                r#"{"ignition":{"version":"3.6.0"},"passwd":[]}"#,
                "/passwd",
                "invalid type: sequence, expected an object",
            ),
        ];
        for (text, pointer, message) in rows {
            let wrong = check(text).unwrap_err();
            assert_eq!(wrong.pointer, pointer, "{text}");
            assert!(wrong.message.starts_with(message), "{text}: {wrong:?}");
        }
    }
}
