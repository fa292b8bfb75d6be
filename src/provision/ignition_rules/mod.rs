//! What the values of Ignition configs of the specifications 3.0.0 to 3.6.0 must mean, besides their types. Pure.
//!
//! The rules are those of the validation in Ignition itself, which refuses a config at the first boot otherwise.

mod disks;
mod duplicates;
mod files;
mod resources;
mod units;

use super::findings::{Findings, Place};
use super::ignition_v3::Minor;

/// Checks the values of a config whose types are right. Adds what is wrong to the findings.
pub fn check(config: &Place<'_>, minor: Minor, found: &mut Findings) {
    resources::check(config, minor, found);
    files::check(config, minor, found);
    disks::check(config, minor, found);
    units::check(config, found);
    duplicates::check(config, found);
}

/// Returns what is wrong with a path: it must be absolute, and have no part that could be left out.
fn path_fault(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("is empty, expected an absolute path");
    }
    let Some(below) = path.strip_prefix('/') else { return Some("is relative, expected an absolute path") };
    let is_simple = below.is_empty() || below.split('/').all(|part| !matches!(part, "" | "." | ".."));
    (!is_simple).then_some("has a part that could be left out (//, /./, /../, or a / at its end)")
}

/// Returns a path without the parts that could be left out, as Go's `path.Clean`.
fn simplified(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if is_absolute => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (is_absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests;
