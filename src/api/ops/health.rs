//! Whether the server is ready: what it promises can be made durable, and what the site declares is applied.

use hyper::StatusCode;

use crate::api::state::Shared;
use crate::http::reply::{Reply, text};
use crate::images::free_space::FreeSpace;

/// Answers `/readyz`: all that is wrong, a line each. Whoever asks may read it: it says where, and never what stands there.
pub async fn ready(shared: &Shared) -> Reply {
    let mut faults = shared.faults.borrow().clone();
    faults.extend(state_fault(shared).await);
    match faults.is_empty() {
        true => text(StatusCode::OK, "ok"),
        false => text(StatusCode::SERVICE_UNAVAILABLE, faults.join("\n") + "\n"),
    }
}

/// Says why what must be durable before it is told could not be made so.
async fn state_fault(shared: &Shared) -> Option<String> {
    let store = &shared.gate.store;
    if let Some(trouble) = store.probe_write().await {
        return Some(format!("the state could not be written: {trouble}"));
    }
    let directory = store.directory().to_owned();
    // Where nobody can tell, the state's own writes do.
    let FreeSpace { free, reserve } =
        tokio::task::spawn_blocking(move || FreeSpace::at(&directory)).await.ok()?.ok()?;
    let short = FreeSpace { free, reserve }.is_short();
    short.then(|| format!("the state directory is nearly full: {free} bytes are free, {reserve} should be"))
}
