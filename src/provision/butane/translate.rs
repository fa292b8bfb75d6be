//! The translation of keys: Butane's are those of Ignition in snake case.

use serde_json::{Map, Value, json};

use super::super::ignition_keys::{CONFIG, Shape};
use super::{Compiler, text};

/// Keys that the translation handles by itself or that have been handled, by the last Ignition key above them.
const SHORTHANDS: [(&str, &str); 9] = [
    ("storage", "trees"),
    ("filesystems", "with_mount_unit"),
    ("contents", "inline"),
    ("contents", "local"),
    ("users", "ssh_authorized_keys_local"),
    ("units", "contents_local"),
    ("dropins", "contents_local"),
    ("", "inline"),
    ("", "local"),
];

impl Compiler<'_> {
    /// Returns the Ignition config without the shorthands of the whole config.
    pub(super) fn translated(&mut self, source: &Map<String, Value>) -> Value {
        let mut config = self.object(source, &CONFIG, "", "");
        if config.get("ignition").is_none_or(Value::is_null) {
            config["ignition"] = json!({});
        }
        config
    }

    /// Translates a value. `path` is that of the source, `owner` the last key above it.
    fn value(&mut self, source: &Value, shape: &'static Shape, path: &str, owner: &str) -> Value {
        match (source, shape) {
            (Value::Object(source), Shape::Object(_)) => self.object(source, shape, path, owner),
            (Value::Array(items), Shape::List(shape)) => {
                let items = items.iter().enumerate();
                items.map(|(index, item)| self.value(item, shape, &format!("{path}.{index}"), owner)).collect()
            }
            // A wrong type is found by the check of the Ignition config.
            (other, _) => other.clone(),
        }
    }

    fn object(&mut self, source: &Map<String, Value>, shape: &'static Shape, path: &str, owner: &str) -> Value {
        let Shape::Object(keys) = shape else { return Value::Object(source.clone()) };
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let mut made = Map::new();
        for (name, shape) in keys.all {
            let key = snake_case(name);
            if let Some(value) = source.get(&key).filter(|value| !value.is_null()) {
                if *name == "mode" && value.as_i64().is_some_and(seems_decimal) {
                    self.warnings.push(format!("{}: {value} is decimal; did you mean 0{value}?", below(&key)));
                }
                made.insert((*name).to_owned(), self.value(value, shape, &below(&key), name));
            }
        }
        let is_resource = keys.all.iter().any(|(name, _)| *name == "source");
        for key in source.keys() {
            let is_known = keys.all.iter().any(|(name, _)| snake_case(name) == *key);
            let is_shorthand = SHORTHANDS
                .iter()
                .any(|(above, shorthand)| shorthand == key && (*above == owner || (above.is_empty() && is_resource)));
            if !is_known && !is_shorthand {
                self.warnings.push(format!("{}: unused key", below(key)));
            }
        }
        if is_resource {
            self.add_contents(source, &mut made, path);
        }
        match owner {
            "users" => self.add_keys(source, &mut made, path),
            "units" | "dropins" => self.add_unit_text(source, &mut made, path),
            _ => {}
        }
        Value::Object(made)
    }

    /// Adds the keys of a user's local files, a line each.
    fn add_keys(&mut self, source: &Map<String, Value>, made: &mut Map<String, Value>, path: &str) {
        let Some(files) = source.get("ssh_authorized_keys_local").and_then(Value::as_array) else { return };
        let mut keys = made.get("sshAuthorizedKeys").and_then(Value::as_array).cloned().unwrap_or_default();
        for (index, file) in files.iter().enumerate() {
            let path = format!("{path}.ssh_authorized_keys_local.{index}");
            if let Some(text) = self.local_text(file.as_str().unwrap_or_default(), &path) {
                let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
                keys.extend(lines.filter(|line| !line.is_empty()).map(Value::from));
            }
        }
        made.insert("sshAuthorizedKeys".to_owned(), keys.into());
    }

    /// Adds the text of a unit or drop-in that is in a local file.
    fn add_unit_text(&mut self, source: &Map<String, Value>, made: &mut Map<String, Value>, path: &str) {
        let file = source.get("contents_local").and_then(Value::as_str).filter(|file| !file.is_empty());
        let Some(file) = file else { return };
        if !text(&Value::Object(source.clone()), "contents").is_empty() {
            return self.error(path, "both contents and contents_local, expected one of them");
        }
        if let Some(text) = self.local_text(file, &format!("{path}.contents_local")) {
            made.insert("contents".to_owned(), text.into());
        }
    }

    /// Returns a local file that is text.
    fn local_text(&mut self, file: &str, path: &str) -> Option<String> {
        let content = self.local_file(file, path)?;
        let text = String::from_utf8(content);
        text.map_err(|_| self.error(path, format!("{file}: not UTF-8 text"))).ok()
    }

    /// Returns the content of a local file.
    pub(super) fn local_file(&mut self, file: &str, path: &str) -> Option<Vec<u8>> {
        let content = match self.files {
            Some(files) => files.read(file).map_err(|error| format!("{file}: {error}")),
            None => Err("a local file, and no directory of local files was given".to_owned()),
        };
        content.map_err(|error| self.error(path, error)).ok()
    }
}

/// Returns whether a mode makes sense only if its digits are octal: 644 rather than 0644.
fn seems_decimal(mode: i64) -> bool {
    // What the group and others may do, the owner may, too.
    let is_usual = |mode: i64| {
        let (owner, group, other) = (mode >> 6 & 7, mode >> 3 & 7, mode & 7);
        (0..=0o7777).contains(&mode) && owner | group | other == owner && owner >= 4
    };
    let octal = i64::from_str_radix(&mode.to_string(), 8);
    !is_usual(mode) && octal.is_ok_and(is_usual)
}

/// Returns an Ignition key as Butane writes it: `http_headers` for `httpHeaders`, `size_mib` for `sizeMiB`.
pub(super) fn snake_case(key: &str) -> String {
    let key = key.replace("MiB", "Mib");
    let mut made = String::with_capacity(key.len() + 4);
    for one in key.chars() {
        if one.is_ascii_uppercase() {
            made.push('_');
        }
        made.push(one.to_ascii_lowercase());
    }
    made
}
