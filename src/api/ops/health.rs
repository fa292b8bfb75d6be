//! Readiness: the state can be written, and the manifests are applied.

use hyper::StatusCode;

use crate::api::state::Shared;
use crate::gate::load_faults::LoadFaults;
use crate::http::reply::{Reply, text};
use crate::store::free_space::FreeSpace;

/// Answers `/readyz`: all faults, one a line. Any client may read them, so they name the place of a fault, but no
/// content.
pub async fn ready(shared: &Shared) -> Reply {
    let LoadFaults { mut faults, notes } = shared.faults.borrow().clone();
    faults.extend(state_fault(shared).await);
    match (faults.is_empty(), notes.is_empty()) {
        (true, true) => text(StatusCode::OK, "ok"),
        // With the earlier configuration the server serves on.
        (true, false) => text(StatusCode::OK, format!("ok\n{}\n", notes.join("\n"))),
        (false, _) => {
            faults.extend(notes);
            text(StatusCode::SERVICE_UNAVAILABLE, faults.join("\n") + "\n")
        }
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
    use crate::api::fixture::{ApiFixture, status_and_text};

    #[tokio::test]
    async fn the_server_is_ready_when_nothing_is_wrong() {
        let fixture = ApiFixture::new();
        assert_eq!(status_and_text(&fixture.machine("GET", "/readyz").await), (200, "ok"));
        fixture.set_faults(&[], &["b.toml: line 3"]);
        assert_eq!(status_and_text(&fixture.machine("GET", "/readyz").await), (200, "ok\nb.toml: line 3\n"));
        fixture.set_faults(&["a.yaml:1: wrong", "b.yaml:2: wrong"], &[]);
        let reply = fixture.machine("GET", "/readyz").await;
        assert_eq!(status_and_text(&reply), (503, "a.yaml:1: wrong\nb.yaml:2: wrong\n"));
        assert_eq!(status_and_text(&fixture.machine("GET", "/livez").await), (200, "ok"));
    }
}
