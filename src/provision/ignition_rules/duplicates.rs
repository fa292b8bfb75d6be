//! Entries that a list may have only once.

use std::collections::HashSet;

use super::super::findings::{Findings, Place};

/// Lists whose items have one key that tells them apart: the path of their owner (`*` stands for each item of a list), and
/// the key. Items of an empty key are texts.
const LISTS: [(&str, &str); 21] = [
    ("ignition.config.merge", "source"),
    ("ignition.config.merge.*.httpHeaders", "name"),
    ("ignition.config.replace.httpHeaders", "name"),
    ("ignition.security.tls.certificateAuthorities", "source"),
    ("ignition.security.tls.certificateAuthorities.*.httpHeaders", "name"),
    ("ignition.proxy.noProxy", ""),
    ("passwd.users", "name"),
    ("passwd.users.*.groups", ""),
    ("passwd.users.*.sshAuthorizedKeys", ""),
    ("passwd.groups", "name"),
    ("storage.disks", "device"),
    ("storage.files.*.contents.httpHeaders", "name"),
    ("storage.files.*.append.*.httpHeaders", "name"),
    ("storage.filesystems", "device"),
    ("storage.luks", "name"),
    ("storage.luks.*.clevis.tang", "url"),
    ("storage.luks.*.keyFile.httpHeaders", "name"),
    ("storage.raid", "name"),
    ("storage.raid.*.devices", ""),
    ("systemd.units", "name"),
    ("systemd.units.*.dropins", "name"),
];
/// Lists that have their entries in common.
const SHARED: [(&str, &[&str], &str); 2] = [
    ("storage", &["directories", "files", "links"], "path"),
    ("kernelArguments", &["shouldExist", "shouldNotExist"], ""),
];

/// Adds each entry that was there before.
pub fn check(config: &Place<'_>, found: &mut Findings) {
    for (path, key) in LISTS {
        let (owner, list) = path.rsplit_once('.').unwrap_or(("", path));
        for owner in config.matches(owner) {
            check_list(owner.items(list), key, found);
        }
    }
    for (owner, lists, key) in SHARED {
        if let Some(owner) = config.get(owner) {
            check_list(lists.iter().flat_map(|list| owner.items(list)), key, found);
        }
    }
}

fn check_list<'a>(items: impl IntoIterator<Item = Place<'a>>, key: &str, found: &mut Findings) {
    let mut known = HashSet::new();
    for item in items {
        let text = if key.is_empty() { item.value.as_text() } else { item.value.text(key) };
        let text = text.unwrap_or_default();
        if !known.insert(text) {
            let message = format!("{text:?} occurs twice");
            found.errors.push(if key.is_empty() { item.finding(message) } else { item.finding_of(key, message) });
        }
    }
}
