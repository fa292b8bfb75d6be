//! Captures the serial consoles of hosts that ask for it (`spec.bmc.console`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::bmc::client::{BmcClient, BmcPolicy};
use crate::fleet::{Bmc, Host, Mac};
use crate::gate::Gate;
use crate::store::now;

/// Maximum number of consoles that are followed.
const MAX_CONSOLES: usize = 256;
/// Interval in which hosts are looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// Pause after a console ended or failed, at first; it doubles up to `MAX_PAUSE` while that is so at once.
const PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// Maximum time to release a console, and to close its session, once its host asks for it no more.
const RELEASE_TIME: Duration = Duration::from_secs(5);
/// Time after which a console that ended counts as one that worked.
const WORKED: Duration = Duration::from_secs(60);

/// A console that is followed.
struct Follower {
    bmc: Bmc,
    /// Begin of the machine's boot.
    boot: Option<Timestamp>,
    /// Dropped to end the task.
    _stop: watch::Sender<bool>,
}

/// Follows consoles, until stopped.
pub async fn serve(gate: Arc<Gate>, mut stopped: watch::Receiver<bool>) {
    let mut followers: HashMap<Mac, Follower> = HashMap::new();
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut version = None;
    let state = gate.store.load();
    if let Err(error) = gate.consoles.retain(|mac| state.is_declared(mac)) {
        tracing::warn!(%error, "failed to remove the consoles of hosts that are gone");
    }
    drop(state);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = async { drop(stopped.wait_for(|stop| *stop).await) } => return,
        }
        let state = gate.store.load();
        if version.replace(state.version) != Some(state.version) {
            follow_hosts(&gate, &mut followers);
        }
    }
}

/// Begins and ends what the hosts ask for.
fn follow_hosts(gate: &Arc<Gate>, followers: &mut HashMap<Mac, Follower>) {
    let state = gate.store.load();
    let asks = |host: &Host| host.spec.bmc.as_ref().filter(|bmc| bmc.console).cloned();
    followers.retain(|mac, follower| {
        let asked = state.host_by_mac(*mac).and_then(|host| asks(&host));
        if asked.is_none() {
            gate.consoles.remove(*mac);
        }
        asked.as_ref() == Some(&follower.bmc)
    });
    for host in state.whole_hosts() {
        let (mac, Some(bmc)) = (host.spec.boot_mac_address, asks(host)) else { continue };
        let boot = begin_of_boot(host);
        if let Some(follower) = followers.get_mut(&mac) {
            if follower.boot != boot {
                follower.boot = boot;
                if let Err(error) = gate.consoles.begin_boot(mac) {
                    tracing::warn!(%mac, %error, "failed to begin the console of a boot");
                }
            }
        } else if followers.len() < MAX_CONSOLES {
            let (stop, until) = watch::channel(false);
            followers.insert(mac, Follower { bmc, boot, _stop: stop });
            tokio::spawn(follow(gate.clone(), mac, until));
        } else {
            tracing::warn!(%mac, limit = MAX_CONSOLES, "too many consoles: this one is not captured");
        }
    }
}

/// Returns the time at which a machine last began a boot, as far as its BMC shows or was told it.
fn begin_of_boot(host: &Host) -> Option<Timestamp> {
    let status = &host.status;
    let changes = [&status.power_transition, &status.last_power_transition];
    let resets = changes.into_iter().flatten().filter_map(|change| change.accepted);
    resets.filter(|done| done.reset.begins_boot()).map(|done| done.time).max()
}

/// Follows one console again and again, until its host asks for that no more.
async fn follow(gate: Arc<Gate>, mac: Mac, mut until: watch::Receiver<bool>) {
    let policy = BmcPolicy { pins_certificates: gate.site().pins_bmc_certificates };
    let mut pause = PAUSE;
    loop {
        let client = gate.store.load().host_by_mac(mac).and_then(|host| BmcClient::of(&host, policy, now()));
        let Some(mut client) = client else { return };
        let (begin, mut stop, mut over) = (Instant::now(), until.clone(), until.clone());
        let keep = |text: &[u8]| {
            if let Err(error) = gate.consoles.append(mac, text) {
                tracing::warn!(%mac, %error, "failed to keep the serial console");
            }
        };
        // The sender is never used: it is dropped.
        let followed = client.follow_console(keep, async move { drop(stop.changed().await) });
        let given_up = async {
            drop(over.changed().await);
            tokio::time::sleep(RELEASE_TIME).await;
        };
        let ended = tokio::select! {
            ended = followed => ended,
            () = given_up => return,
        };
        match ended {
            Ok(()) => tracing::debug!(%mac, "serial console ended"),
            Err(error) => tracing::info!(%mac, %error, "serial console not captured"),
        }
        pause = if begin.elapsed() >= WORKED { PAUSE } else { pause };
        tokio::select! {
            _ = until.changed() => return,
            () = tokio::time::sleep(pause) => pause = (2 * pause).min(MAX_PAUSE),
        }
    }
}
