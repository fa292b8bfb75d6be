//! The keys of the file, to find out which ones changed since the start.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Deserializer, Spanned, Table, Value};

use super::Config;

/// The keys of a file with their values: `http_port`, `dhcp.mode`, `rules`.
#[derive(Clone, Default)]
pub struct FileKeys(BTreeMap<String, Value>);

impl std::fmt::Debug for FileKeys {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The values may be secrets.
        out.debug_set().entries(self.0.keys()).finish()
    }
}

impl Config {
    /// Returns whether there are files and no key is set in them, as after the installation of a package: nobody has
    /// configured this server yet.
    pub fn is_untouched(&self) -> bool {
        !self.files.is_empty() && self.keys.0.is_empty()
    }

    /// Returns whether the only interface of the machine is taken, since none is configured.
    pub fn takes_only_interface(&self) -> bool {
        self.interfaces.is_empty() && !self.is_untouched()
    }
}

impl FileKeys {
    /// Returns the keys of a table that was parsed.
    pub(super) fn of(table: &Spanned<DeTable<'_>>) -> Self {
        let mut keys = BTreeMap::new();
        for (name, value) in Table::deserialize(Deserializer::from(table.clone())).unwrap_or_default() {
            match value {
                Value::Table(table) => {
                    keys.extend(table.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
                }
                value => {
                    keys.insert(name, value);
                }
            }
        }
        Self(keys)
    }

    /// Returns the keys that were added, removed or changed, in the order of their names.
    pub fn changed<'a>(&'a self, later: &'a Self) -> Vec<&'a str> {
        let mut changed: Vec<&str> = self.0.keys().chain(later.0.keys()).map(String::as_str).collect();
        changed.sort_unstable();
        changed.dedup();
        changed.retain(|key| self.0.get(*key) != later.0.get(*key));
        changed
    }
}

/// Returns the key with its tables that an offset belongs to, by its name or its value.
pub(super) fn key_at(table: &DeTable<'_>, offset: usize) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let inner = find_below(value, offset);
        let is_here = key.span().contains(&offset) || value.span().contains(&offset);
        match inner {
            Some(inner) => Some(format!("{}.{inner}", key.get_ref())),
            None => is_here.then(|| key.get_ref().to_string()),
        }
    })
}

fn find_below(value: &Spanned<DeValue<'_>>, offset: usize) -> Option<String> {
    match value.get_ref() {
        DeValue::Table(table) => key_at(table, offset),
        DeValue::Array(elements) => elements.iter().find_map(|element| find_below(element, offset)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_found_by_its_offset() {
        let text = "user = 1\n[dhcp]\nmode = \"prox\"\n[[dhcp.subnets]]\nsubnet = 5\n[[rules]]\naction = 1\nports = [7, { a = 8 }]\n";
        let table = DeTable::parse(text).unwrap();
        let rows = [
            ("user", "user"),
            ("1\n[dhcp", "user"),
            ("\"prox", "dhcp.mode"),
            ("5\n", "dhcp.subnets.subnet"),
            ("action", "rules.action"),
            ("7, ", "rules.ports"),
            ("8 }", "rules.ports.a"),
        ];
        for (part, expected) in rows {
            assert_eq!(key_at(table.get_ref(), text.find(part).unwrap()).as_deref(), Some(expected), "{part}");
        }
    }

    #[test]
    fn changed_keys_are_named_with_their_table() {
        let keys = |text: &str| FileKeys::of(&DeTable::parse(text).unwrap());
        let before = keys("http_port = 80\nuser = \"a\"\n[dhcp]\nmode = \"proxy\"\nport = 67\n");
        let after = keys(
            "# a comment\nuser = \"a\"\n[dhcp]\nport = 67\nmode = \"server\"\n[[rules]]\nmac = \"52:54:00\"\naction = \"menu\"\n",
        );
        assert_eq!(before.changed(&after), ["dhcp.mode", "http_port", "rules"]);
        assert!(before.changed(&before.clone()).is_empty());
        assert_eq!(format!("{before:?}"), r#"{"dhcp.mode", "dhcp.port", "http_port", "user"}"#);
    }
}
