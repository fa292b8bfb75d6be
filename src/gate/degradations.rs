//! What keeps the server from serving as configured: the one list that the log, the status of the unit, `/readyz` and the
//! metrics have it from.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// Code of a disk that is nearly full.
pub const LOW_DISK: &str = "disk_nearly_full";

/// The part of the server that reports degradations. Of equal severity, those of an earlier one are listed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The configuration file, when it is loaded again.
    Configuration,
    /// The interfaces, their addresses and their sockets.
    Interfaces,
    /// The boot programs.
    Programs,
    /// The manifests.
    Manifests,
    /// The disk of the state directory.
    Disk,
    /// The wall clock.
    Clock,
}

/// What a degradation means for machines and for those who watch the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Machines are not served. The server is not ready.
    Unserved,
    /// Machines are served, something else is not. The server is not ready.
    Fault,
    /// Everything is served. The server is ready.
    Note,
}

/// A lasting state in which the server does not serve as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degradation {
    /// The reason as a code, such as `no_address`.
    pub code: &'static str,
    /// What it is about, such as the name of an interface. With the code it identifies the degradation.
    pub subject: String,
    /// The state for the operator, such as `waiting for an address on eth1`.
    pub message: String,
    /// The state for anybody, where the message is not for anybody, as it may quote a file.
    pub public: Option<String>,
    /// The severity.
    pub severity: Severity,
}

impl Degradation {
    /// Returns the state in words that anybody may read.
    pub fn into_public(self) -> String {
        self.public.unwrap_or(self.message)
    }
}

/// The degradations by their source.
pub type Standing = BTreeMap<Source, Vec<Degradation>>;

/// The degradations that stand.
#[derive(Debug, Default)]
pub struct Degradations(watch::Sender<Standing>);

impl Degradations {
    /// Replaces the degradations of a source. One that is new, and one that is over, is logged once.
    pub fn set(&self, source: Source, now: Vec<Degradation>) {
        self.0.send_if_modified(|standing| {
            let before = standing.get(&source).map(Vec::as_slice).unwrap_or_default();
            if before == now.as_slice() {
                return false;
            }
            log_changes(before, &now);
            standing.insert(source, now);
            true
        });
    }

    /// Follows the degradations.
    pub fn subscribe(&self) -> watch::Receiver<Standing> {
        self.0.subscribe()
    }

    /// Returns the degradations, the gravest first.
    pub fn list(&self) -> Vec<Degradation> {
        sorted(&self.0.borrow())
    }

    /// Returns the degradations of a source.
    pub fn of(&self, source: Source) -> Vec<Degradation> {
        self.0.borrow().get(&source).cloned().unwrap_or_default()
    }
}

/// Returns degradations, the gravest first.
pub fn sorted(standing: &Standing) -> Vec<Degradation> {
    let mut all: Vec<_> = standing.values().flatten().cloned().collect();
    all.sort_by_key(|one| one.severity);
    all
}

/// Returns the status of the server in one line.
pub fn status_text(standing: &Standing) -> String {
    let all = sorted(standing);
    let state = match all.first().map(|one| one.severity) {
        Some(Severity::Unserved) => "Degraded",
        Some(Severity::Fault | Severity::Note) | None => "Serving",
    };
    match all.as_slice() {
        [] => format!("{state}."),
        [only] => format!("{state}; {}.", only.message),
        [first, more @ ..] => format!("{state}; {}, and {} more.", first.message, more.len()),
    }
}

fn log_changes(before: &[Degradation], now: &[Degradation]) {
    let is_in = |one: &Degradation, list: &[Degradation]| {
        list.iter().any(|other| (other.code, &other.subject) == (one.code, &one.subject))
    };
    for one in now.iter().filter(|one| !is_in(one, before)) {
        let (reason, subject) = (one.code, &one.subject);
        match one.severity {
            Severity::Unserved | Severity::Fault => tracing::warn!(reason, subject, "degraded: {}", one.message),
            Severity::Note => tracing::info!(reason, subject, "{}", one.message),
        }
    }
    for one in before.iter().filter(|one| !is_in(one, now)) {
        tracing::info!(reason = one.code, subject = one.subject, "over: {}", one.message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn degradation(code: &'static str, subject: &str, severity: Severity) -> Degradation {
        Degradation {
            code,
            subject: subject.to_owned(),
            message: format!("{code} on {subject}"),
            public: None,
            severity,
        }
    }

    #[test]
    fn the_status_names_the_gravest_and_counts_the_others() {
        let degradations = Degradations::default();
        let status = || status_text(&degradations.0.borrow());
        assert_eq!(status(), "Serving.");
        degradations.set(Source::Clock, vec![degradation("clock", "c", Severity::Note)]);
        assert_eq!(status(), "Serving; clock on c.");
        degradations.set(Source::Disk, vec![degradation("disk", "d", Severity::Fault)]);
        assert_eq!(status(), "Serving; disk on d, and 1 more.");
        degradations.set(Source::Interfaces, vec![degradation("no_address", "eth1", Severity::Unserved)]);
        assert_eq!(status(), "Degraded; no_address on eth1, and 2 more.");
        degradations.set(Source::Interfaces, Vec::new());
        assert_eq!(status(), "Serving; disk on d, and 1 more.");
        assert_eq!(degradations.of(Source::Disk).len(), 1);
    }

    #[test]
    fn only_a_change_wakes_those_who_follow() {
        let degradations = Degradations::default();
        let mut follower = degradations.subscribe();
        degradations.set(Source::Disk, vec![degradation("disk", "d", Severity::Fault)]);
        assert!(follower.has_changed().unwrap());
        follower.mark_unchanged();
        degradations.set(Source::Disk, vec![degradation("disk", "d", Severity::Fault)]);
        degradations.set(Source::Clock, Vec::new());
        assert!(!follower.has_changed().unwrap() || degradations.of(Source::Clock).is_empty());
    }
}
