//! Files: boot programs, the state directory, free space, certificates and manifests.

use std::time::Duration;

use jiff::Timestamp;

use crate::doctor::certificate::Validity;
use crate::doctor::{Finding, Looked};

/// Time before the end of a certificate from which it is a finding.
const EXPIRES_SOON: Duration = Duration::from_secs(21 * 86_400);
/// Free space below which the next upload of an ISO will fail, in bytes.
const LITTLE_SPACE: u64 = 1 << 30;

/// A boot program of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramState {
    /// Path of the file.
    pub path: String,
    /// What it is for: `x86_64-uefi`, `[[overrides]]`, or the program that loads it.
    pub used_by: String,
    /// Its size and whether the server's user can read it, or why it cannot be opened; `None` if it does not exist.
    pub file: Option<Result<(u64, bool), String>>,
}

/// Judges the boot programs.
pub fn check_programs(programs: &[ProgramState]) -> Vec<Finding> {
    const STAGE: &str = "install bootlatch-firmware, or run firmware/stage with the directory, or correct `[programs]`";
    let check = |program: &ProgramState| {
        let who = &program.used_by;
        let (code, seen, remedy) = match &program.file {
            None => ("program_missing", format!("the file does not exist: {who} cannot boot"), STAGE),
            Some(Err(error)) => ("program_unreadable", format!("the file cannot be read: {error}"), STAGE),
            Some(Ok((0, _))) => ("program_empty", format!("the file is empty: {who} cannot boot"), STAGE),
            Some(Ok((_, false))) => (
                "program_unreadable",
                "the server's user cannot read the file, as HTTP Boot needs it".to_owned(),
                "chmod a+r the file, and a+x its directories",
            ),
            Some(Ok((_, true))) => return None,
        };
        Some(Finding::error(code, &program.path, seen, remedy))
    };
    programs.iter().filter_map(check).collect()
}

/// The free space of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceState {
    /// The directory.
    pub path: String,
    /// Free bytes.
    pub free: u64,
    /// Whether less is free than the state needs.
    pub is_low: bool,
}

/// Judges the free space.
pub fn check_space(directories: &[SpaceState]) -> Vec<Finding> {
    const FREE: &str = "delete ISOs that no host uses (`bootlatch iso remove`), or enlarge the file system";
    let check = |one: &SpaceState| {
        let mebibytes = one.free >> 20;
        match (one.is_low, one.free < LITTLE_SPACE) {
            (true, _) => {
                let seen =
                    format!("{mebibytes} MiB are free: the state can soon not be written, and no install begins");
                Some(Finding::error("disk_nearly_full", &one.path, seen, FREE))
            }
            (false, true) => {
                let seen = format!("{mebibytes} MiB are free: an ISO does not fit any more");
                Some(Finding::warning("disk_space_low", &one.path, seen, FREE))
            }
            (false, false) => None,
        }
    };
    directories.iter().filter_map(check).collect()
}

/// An entry of the state directory, or a directory on the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryState {
    /// Path of the entry.
    pub path: String,
    /// The role of the entry.
    pub role: EntryRole,
    /// Whether it is a link, or neither a file, a socket nor a directory.
    pub is_odd: bool,
    /// Whether the server's user owns it, or root while it runs as root.
    pub is_owned: bool,
    /// The permissions (st_mode).
    pub mode: u32,
    /// Whether the server's user may enter it, for a directory.
    pub is_enterable: bool,
}

/// The role of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryRole {
    /// The state directory.
    StateDirectory,
    /// A directory on the way to the state directory.
    Parent,
    /// A file that others must not read: tokens, keys, the database.
    Secret,
    /// Another file of the server.
    File,
}

/// Judges the rights in the state directory. `user` is the user that the server runs as.
pub fn check_rights(entries: &[EntryState], user: &str) -> Vec<Finding> {
    entries.iter().filter_map(|entry| check_entry(entry, user)).collect()
}

fn check_entry(entry: &EntryState, user: &str) -> Option<Finding> {
    let error = |code, seen: String, remedy: &str| Some(Finding::error(code, &entry.path, seen, remedy));
    match entry.role {
        EntryRole::Parent if !entry.is_enterable => error(
            "state_unreachable",
            format!("the user {user} may not enter this directory: the server does not start"),
            "give it the permission (chmod o+x, setfacl), or configure another state_dir or user",
        ),
        EntryRole::Parent => None,
        _ if entry.is_odd => error(
            "state_odd_file",
            "expected a file, found a link or something else: the server does not start".to_owned(),
            "remove it",
        ),
        EntryRole::StateDirectory if entry.mode & 0o022 != 0 => error(
            "state_writable",
            format!("others may write in the state directory (mode {:04o})", entry.mode & 0o7777),
            "chmod 0750 the directory",
        ),
        EntryRole::Secret if entry.mode & 0o007 != 0 => error(
            "state_readable",
            format!("everybody on this machine may read it (mode {:04o})", entry.mode & 0o7777),
            "chmod o= the file; if somebody may have read a token, delete its file and restart the server",
        ),
        EntryRole::StateDirectory | EntryRole::Secret | EntryRole::File if !entry.is_owned => Some(Finding::warning(
            "state_other_owner",
            &entry.path,
            format!("it does not belong to {user}: the running server may be unable to write it"),
            "restart the server as root: it changes the owner",
        )),
        EntryRole::StateDirectory | EntryRole::Secret | EntryRole::File => None,
    }
}

/// A certificate of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateState {
    /// Path of the file.
    pub path: String,
    /// The validity of each certificate in it, or why they cannot be used.
    pub chain: Result<Vec<Option<Validity>>, String>,
}

/// Judges certificates at a time.
pub fn check_certificates(certificates: &[CertificateState], now: Timestamp) -> Vec<Finding> {
    certificates.iter().flat_map(|certificate| check_certificate(certificate, now)).collect()
}

fn check_certificate(state: &CertificateState, now: Timestamp) -> Vec<Finding> {
    const RENEW: &str = "renew the certificate and restart the server; of one that the server made (tls.crt in the state \
                         directory), delete the file and restart";
    let chain = match &state.chain {
        Ok(chain) => chain,
        Err(error) => {
            let seen = format!("the certificate cannot be used: {error}");
            return vec![Finding::error("certificate_unusable", &state.path, seen, "correct the file or its path")];
        }
    };
    let check = |validity: &Option<Validity>| match validity {
        None => {
            let seen = "a certificate in the file cannot be read";
            Some(Finding::error("certificate_unusable", &state.path, seen, "correct the file or its path"))
        }
        Some(Validity { until, .. }) if *until < now => {
            let seen = format!("it expired at {until}: clients refuse the API");
            Some(Finding::error("certificate_expired", &state.path, seen, RENEW))
        }
        Some(Validity { from, .. }) if *from > now => {
            let seen = format!("it is valid from {from} on: clients refuse the API, or the clock is wrong");
            Some(Finding::error(
                "certificate_not_yet_valid",
                &state.path,
                seen,
                "set the clock, or renew the certificate",
            ))
        }
        Some(Validity { until, .. }) if until.duration_since(now).unsigned_abs() < EXPIRES_SOON => {
            let seen = format!("it expires at {until}");
            Some(Finding::warning("certificate_expires_soon", &state.path, seen, RENEW))
        }
        Some(_) => None,
    };
    chain.iter().filter_map(check).take(1).collect()
}

/// Judges the manifests: the faults of their texts, and those that the running server reports.
pub fn check_manifests(faults: &[String]) -> Vec<Finding> {
    const CORRECT: &str = "correct the manifest, then `systemctl reload bootlatch`";
    let finding = |fault: &String| Finding::error("manifest_invalid", "manifests", fault.as_str(), CORRECT);
    faults.iter().map(finding).collect()
}

/// Judges what the running server says about its readiness, without the manifests.
pub fn check_readiness(lines: &[String]) -> Vec<Finding> {
    let finding = |line: &String| {
        Finding::error("not_ready", "the running server", line.as_str(), "see its log: journalctl -u bootlatch")
    };
    lines.iter().filter(|line| !line.starts_with("manifest")).map(finding).collect()
}

/// Returns the faults of manifests: those of their texts, and those that only the running server knows, because they
/// depend on other objects.
pub fn manifest_faults(texts: Looked<Vec<String>>, ready: &[String]) -> Looked<Vec<String>> {
    let mut faults = texts?;
    for line in ready.iter().filter(|line| line.starts_with("manifest")) {
        let place = line.rsplit(": ").nth(1).unwrap_or(line);
        if !faults.iter().any(|fault| fault.contains(place)) {
            faults.push(line.clone());
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_program_must_be_there_for_the_servers_user() {
        let rows = [
            (Some(Ok((1, true))), None),
            (None, Some("program_missing")),
            (Some(Ok((0, true))), Some("program_empty")),
            (Some(Ok((1, false))), Some("program_unreadable")),
            (Some(Err("Input/output error".to_owned())), Some("program_unreadable")),
        ];
        for (file, expected) in rows {
            let program = ProgramState { path: "/f/a.efi".to_owned(), used_by: "bios".to_owned(), file };
            assert_eq!(
                codes(&check_programs(std::slice::from_ref(&program))).first().copied(),
                expected,
                "{program:?}"
            );
        }
    }

    #[test]
    fn space_runs_low_in_two_steps() {
        for (free, is_low, expected) in [
            (2 << 30, false, None),
            (500 << 20, false, Some("disk_space_low")),
            (10 << 20, true, Some("disk_nearly_full")),
        ] {
            let found = check_space(&[SpaceState { path: "/s".to_owned(), free, is_low }]);
            assert_eq!(codes(&found).first().copied(), expected);
        }
    }

    #[test]
    fn the_state_is_the_servers_alone() {
        use EntryRole::{File, Parent, Secret, StateDirectory};
        let good = |role, mode| EntryState {
            path: "/s".to_owned(),
            role,
            is_odd: false,
            is_owned: true,
            mode,
            is_enterable: true,
        };
        let rows = [
            (good(StateDirectory, 0o40750), None),
            (good(Secret, 0o100600), None),
            (good(File, 0o100644), None),
            (good(Parent, 0o40755), None),
            (EntryState { is_enterable: false, ..good(Parent, 0o40700) }, Some("state_unreachable")),
            (EntryState { is_owned: false, ..good(Parent, 0o40755) }, None),
            (good(StateDirectory, 0o40770), Some("state_writable")),
            (good(Secret, 0o100644), Some("state_readable")),
            (EntryState { is_odd: true, ..good(Secret, 0o120777) }, Some("state_odd_file")),
            (EntryState { is_owned: false, ..good(File, 0o100640) }, Some("state_other_owner")),
        ];
        for (entry, expected) in rows {
            let found = check_rights(std::slice::from_ref(&entry), "bootlatch");
            assert_eq!(codes(&found).first().copied(), expected, "{entry:?}");
        }
    }

    #[test]
    fn a_certificate_is_judged_by_its_dates() {
        let at = |day: i64| Timestamp::from_second(1_800_000_000 + day * 86_400).unwrap();
        let valid = |from, until| Ok(vec![Some(Validity { from: at(from), until: at(until) })]);
        let rows = [
            (valid(-1, 100), None),
            (valid(-100, -1), Some("certificate_expired")),
            (valid(1, 100), Some("certificate_not_yet_valid")),
            (valid(-1, 20), Some("certificate_expires_soon")),
            (Ok(vec![None]), Some("certificate_unusable")),
            (Err("no certificate found".to_owned()), Some("certificate_unusable")),
        ];
        for (chain, expected) in rows {
            let state = CertificateState { path: "tls.crt".to_owned(), chain };
            let found = check_certificates(std::slice::from_ref(&state), at(0));
            assert_eq!(codes(&found).first().copied(), expected, "{state:?}");
        }
    }

    #[test]
    fn a_manifest_is_reported_once() {
        let ready = ["the state directory is nearly full", "manifest not applied: a.yaml: line 3"].map(str::to_owned);
        let own = vec!["/m/a.yaml: line 3: kind: missing".to_owned()];
        assert_eq!(manifest_faults(Ok(own.clone()), &ready), Ok(own.clone()));
        let both = manifest_faults(Ok(Vec::new()), &ready).unwrap();
        assert_eq!(both, ["manifest not applied: a.yaml: line 3"]);
        assert_eq!(codes(&check_manifests(&own)), ["manifest_invalid"]);
        assert_eq!(codes(&check_readiness(&ready)), ["not_ready"]);
        assert_eq!(manifest_faults(Err("no root".to_owned()), &ready), Err("no root".to_owned()));
    }
}
