//! The watchdog of the service manager (`WatchdogSec=`): it is fed only while the store's writer and the DHCP thread do work.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{oneshot, watch};

use crate::dhcp::serve::DhcpQueries;
use crate::gate::Gate;

/// Number of times that the watchdog is fed within its timeout, if all is well.
const TIMES: u32 = 4;

/// Feeds the watchdog until the stop, if the service manager has one.
pub async fn feed(gate: Arc<Gate>, dhcp: DhcpQueries, mut stopped: watch::Receiver<bool>) {
    let Some(timeout) = sd_notify::watchdog_enabled() else { return };
    let interval = timeout / TIMES;
    loop {
        match passes(&gate, &dhcp, interval).await {
            Ok(()) => {
                let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            }
            Err(part) => tracing::warn!(part, timeout_seconds = timeout.as_secs(), "no answer: watchdog not fed"),
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

/// Has an empty write pass through the store's writer, and a question through the DHCP thread.
async fn passes(gate: &Gate, dhcp: &DhcpQueries, within: Duration) -> Result<(), &'static str> {
    let (done, written) = oneshot::channel();
    // A disk that is full is no deadlock: the outcome of the write does not matter.
    let queued = gate.store.record(Vec::new(), move |_| {
        let _ = done.send(());
    });
    if queued.is_err() || !matches!(tokio::time::timeout(within, written).await, Ok(Ok(()))) {
        return Err("the store's writer");
    }
    match tokio::time::timeout(within, dhcp.network()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err("the DHCP thread"),
    }
}
