//! Configuration keys that were renamed before 1.0. An old key is an error that names the new one.

use toml::de::{DeTable, DeValue};

/// Old and new keys. `[]` stands for each table of an array of tables.
const RENAMED: &[(&str, &str)] = &[
    ("trust.config", "config_access.require"),
    ("trust.window", "config_access.token_ttl"),
    ("trust.routed", "config_access.trusted_subnets"),
    ("trust", "config_access"),
    ("install.done_when", "install.completion"),
    ("install.limit", "install.timeout"),
    ("install.offers", "install.max_boots"),
    ("dhcp.other_server", "dhcp.on_other_server (\"tell\" is now \"warn\", \"yield\" is now \"stand_down\")"),
    ("dhcp.look_every", "dhcp.other_server_check_interval"),
    ("dhcp.subnets[].net", "dhcp.subnets.subnet"),
    ("dhcp.subnets[].lease", "dhcp.subnets.lease_time"),
    ("dhcp.subnets[].renew", "dhcp.subnets.renew_time"),
    ("dhcp.subnets[].rebind", "dhcp.subnets.rebind_time"),
    ("rules[].then", "rules.action"),
    ("overrides[].boot_file", "overrides.boot_file_in"),
    ("overrides[].for_ipxe", "overrides.also_for_ipxe"),
    ("stop_within", "shutdown_timeout"),
    ("api.key_file", "store.encryption_key_file"),
];

/// Checks that a file has no renamed key.
///
/// # Errors
/// The offset of the first renamed key, and its new name.
pub fn check(document: &DeTable<'_>) -> Result<(), (usize, String)> {
    let found = RENAMED.iter().filter_map(|(old, new)| {
        let path: Vec<_> = old.split('.').collect();
        let offset = offset(document, &path)?;
        Some((offset, old.replace("[]", ""), *new))
    });
    match found.min_by_key(|(offset, ..)| *offset) {
        None => Ok(()),
        Some((offset, old, new)) => Err((offset, format!("{old}: this key was renamed; use {new}"))),
    }
}

/// Returns the offset of a key in the file.
fn offset(table: &DeTable<'_>, path: &[&str]) -> Option<usize> {
    let (first, rest) = path.split_first()?;
    let name = first.trim_end_matches("[]");
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
    match value.get_ref() {
        _ if rest.is_empty() => Some(key.span().start),
        DeValue::Table(inner) => offset(inner, rest),
        DeValue::Array(elements) => elements.iter().find_map(|element| match element.get_ref() {
            DeValue::Table(inner) => offset(inner, rest),
            _ => None,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sources::line;

    #[test]
    fn a_renamed_key_is_refused_with_its_line_and_its_new_name() {
        let rows = [
            ("interface = \"a\"\n[trust]\nconfig = \"token\"", 2, "trust: ", "config_access"),
            ("[install]\n\nlimit = \"1h\"", 3, "install.limit: ", "install.timeout"),
            (
                "[[dhcp.subnets]]\nsubnet = \"10.0.0.0/8\"\n[[dhcp.subnets]]\nnet = \"1\"",
                4,
                "dhcp.subnets.net: ",
                "subnet",
            ),
            ("[[rules]]\nthen = \"hold\"", 2, "rules.then: ", "rules.action"),
            ("[[overrides]]\nfor_ipxe = true", 2, "overrides.for_ipxe: ", "also_for_ipxe"),
            ("[dhcp]\nother_server = \"yield\"", 2, "dhcp.other_server: ", "stand_down"),
            ("stop_within = \"1s\"", 1, "stop_within: ", "shutdown_timeout"),
            ("[api]\nkey_file = \"/k\"", 2, "api.key_file: ", "store.encryption_key_file"),
        ];
        for (text, expected, old, new) in rows {
            let (offset, message) = check(DeTable::parse(text).unwrap().get_ref()).unwrap_err();
            assert_eq!(line(text, offset), expected, "{text}: {message}");
            assert!(message.starts_with(old) && message.contains(new), "{text}: {message}");
        }
    }

    #[test]
    fn new_keys_pass() {
        for text in ["[config_access]\nrequire = \"token\"", "[install]\ntimeout = \"1h\"", ""] {
            assert_eq!(check(DeTable::parse(text).unwrap().get_ref()), Ok(()), "{text}");
        }
    }
}
