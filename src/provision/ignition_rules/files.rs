//! Files, directories and links: paths, modes, owners, and what lies behind a link.

use std::collections::HashSet;

use super::super::findings::{Findings, Place};
use super::super::ignition_v3::Minor;
use super::{path_fault, simplified};

/// Largest mode of a file: 07777.
const MAX_MODE: i64 = 0o7777;
/// Version since which Ignition sets the set-user-ID, set-group-ID and sticky bits.
const SPECIAL_BITS_SINCE: Minor = 4;
/// Version since which a link's target is checked here; before, its type requires it.
const LINK_TARGET_SINCE: Minor = 3;
/// Where units of the configuration are written.
const UNITS: &str = "/etc/systemd/system/";

/// Checks the nodes of a config's storage.
pub fn check(config: &Place<'_>, minor: Minor, found: &mut Findings) {
    let Some(storage) = config.get("storage") else { return };
    let (units, links) = (unit_paths(config), storage.items("links"));
    for node in ["directories", "files", "links"].iter().flat_map(|list| storage.items(list)) {
        check_node(&node, minor, found);
        let path = node.value.text("path").unwrap_or_default();
        if units.contains(path) {
            found.errors.push(node.finding_of("path", "a unit or drop-in of /systemd/units is written to this path"));
        }
        let link_above = links.iter().find(|link| {
            let above = link.value.text("path").unwrap_or_default();
            path.strip_prefix(above).is_some_and(|below| below.starts_with('/'))
        });
        if let Some(link) = link_above {
            let link = link.value.text("path").unwrap_or_default();
            found.errors.push(node.finding(format!("{path} is below {link}, which the config makes a link")));
        }
    }
    for file in storage.items("files") {
        let has_source = file.get("contents").is_some_and(|contents| contents.value.get("source").is_some());
        if file.value.is("overwrite", true) && !has_source {
            found.errors.push(file.finding_of("overwrite", "true without contents.source"));
        }
    }
    let directories = storage.items("directories");
    links.iter().for_each(|link| check_link(link, &directories, minor, found));
}

fn check_node(node: &Place<'_>, minor: Minor, found: &mut Findings) {
    if let Some(fault) = path_fault(node.value.text("path").unwrap_or_default()) {
        found.errors.push(node.finding_of("path", fault));
    }
    match node.value.integer("mode") {
        Some(mode) if !(0..=MAX_MODE).contains(&mode) => {
            let message = format!("found {mode}, expected 0 to {MAX_MODE} (octal 7777), written as a decimal number");
            found.errors.push(node.finding_of("mode", message));
        }
        Some(mode) if mode > 0o777 && minor < SPECIAL_BITS_SINCE => {
            let message = "set-user-ID, set-group-ID and sticky bits are ignored before 3.4.0";
            found.warnings.push(node.finding_of("mode", message));
        }
        _ => {}
    }
    for owner in ["user", "group"].iter().filter_map(|key| node.get(key)) {
        if owner.value.get("id").is_some() && owner.value.word("name").is_some() {
            found.errors.push(owner.finding("both id and name, expected one of them"));
        }
    }
}

fn check_link(link: &Place<'_>, directories: &[Place<'_>], minor: Minor, found: &mut Findings) {
    let Some(target) = link.value.word("target") else {
        if minor >= LINK_TARGET_SINCE {
            found.errors.push(link.finding_of("target", "missing, expected a path"));
        }
        return;
    };
    if !link.value.is("hard", true) {
        return;
    }
    let path = link.value.text("path").unwrap_or_default();
    let target = if target.starts_with('/') { simplified(target) } else { simplified(&format!("{path}/{target}")) };
    if directories.iter().any(|directory| directory.value.text("path") == Some(&target)) {
        found.errors.push(link.finding(format!("a hard link to {target}, which the config makes a directory")));
    }
}

/// Returns the paths of the units and drop-ins that a config writes.
fn unit_paths(config: &Place<'_>) -> HashSet<String> {
    let mut paths = HashSet::new();
    for unit in config.matches("systemd.units.*") {
        let name = unit.value.text("name").unwrap_or_default();
        if unit.value.word("contents").is_some() {
            paths.insert(format!("{UNITS}{name}"));
        }
        for dropin in unit.items("dropins").iter().filter(|dropin| dropin.value.word("contents").is_some()) {
            paths.insert(format!("{UNITS}{name}.d/{}", dropin.value.text("name").unwrap_or_default()));
        }
    }
    paths
}
