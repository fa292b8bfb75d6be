//! Readiness: machines are served, the state can be written, and the manifests are applied.

use hyper::StatusCode;

use crate::api::state::Shared;
use crate::gate::degradations::{Degradation, LOW_DISK, Severity};
use crate::http::reply::{Reply, text};
use crate::store::free_space::FreeSpace;

/// Answers `/readyz`: all faults, one a line; `ok` and the notes if there is none. Any client may read them, so they name the place of a fault, but no
/// content.
pub async fn ready(shared: &Shared) -> Reply {
    // The disk is looked at now.
    let is_shown = |one: &Degradation| one.code != LOW_DISK;
    let standing = shared.gate.degradations.list().into_iter().filter(is_shown);
    let (notes, faults): (Vec<_>, Vec<_>) = standing.partition(|one| one.severity == Severity::Note);
    let mut lines: Vec<_> = faults.into_iter().map(Degradation::into_public).collect();
    lines.extend(state_fault(shared).await);
    let is_ready = lines.is_empty();
    lines.extend(notes.into_iter().map(Degradation::into_public));
    match (is_ready, lines.is_empty()) {
        (true, true) => text(StatusCode::OK, "ok"),
        (true, false) => text(StatusCode::OK, format!("ok\n{}\n", lines.join("\n"))),
        (false, _) => text(StatusCode::SERVICE_UNAVAILABLE, lines.join("\n") + "\n"),
    }
}

/// Returns why the state cannot be written durably, or soon cannot.
async fn state_fault(shared: &Shared) -> Option<String> {
    let store = &shared.gate.store;
    if let Some(error) = store.probe_write().await {
        return Some(format!("the state could not be written: {error}"));
    }
    let directory = store.directory().to_owned();
    // Where statvfs fails, the state's own writes show a full disk.
    let FreeSpace { free, reserve } =
        tokio::task::spawn_blocking(move || FreeSpace::at(&directory)).await.ok()?.ok()?;
    let short = FreeSpace { free, reserve }.is_low();
    short.then(|| format!("the state directory is nearly full: {free} bytes free, {reserve} expected"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::{ApiFixture, status_and_text};

    #[tokio::test]
    async fn the_server_is_ready_when_nothing_is_wrong() {
        let fixture = ApiFixture::new();
        assert_eq!(status_and_text(&fixture.machine("GET", "/readyz").await), (200, "ok"));
        fixture.degrade(&[("a.yaml:1: wrong", Severity::Fault), ("b.yaml:2: wrong", Severity::Unserved)]);
        let reply = fixture.machine("GET", "/readyz").await;
        assert_eq!(status_and_text(&reply), (503, "b.yaml:2: wrong\na.yaml:1: wrong\n"));
        assert_eq!(status_and_text(&fixture.machine("GET", "/livez").await), (200, "ok"));
        fixture.degrade(&[("no link", Severity::Note)]);
        assert_eq!(status_and_text(&fixture.machine("GET", "/readyz").await), (200, "ok\nno link\n"));
    }
}
