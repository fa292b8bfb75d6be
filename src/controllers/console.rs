//! Captures the serial consoles of hosts that ask for it (`spec.bmc.console`).

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::bmc::client::{BmcClient, BmcPolicy};
use crate::fleet::{Bmc, Host, Mac, Power};
use crate::gate::Gate;
use crate::gate::console_logs::ConsoleLogs;
use crate::store::now;

/// Maximum number of consoles that are followed.
const MAX_CONSOLES: usize = 256;
/// Maximum number of packets of one console that wait for the disk.
const MAX_QUEUED: usize = 64;
/// Seconds that the first text of a boot may come before the BMC's answer to the request for it.
const EARLY_TEXT: i64 = 10;
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
    /// The last power state that is known.
    power: Option<Power>,
    mark: Arc<BootMark>,
    /// Dropped to end the task; `None` while that releases the console.
    stop: Option<watch::Sender<bool>>,
    task: JoinHandle<()>,
}

/// What the text of a console that comes next is of.
#[derive(Default)]
struct BootMark {
    /// Whether the machine was switched off, and nothing was heard of it since.
    is_off: AtomicBool,
    /// The second in which a file was begun with the first text after that; 0 if none was.
    begun: AtomicI64,
}

impl BootMark {
    fn is_begun(&self, boot: Timestamp) -> bool {
        self.begun.load(Ordering::Relaxed) >= boot.as_second() - EARLY_TEXT
    }
}

/// All consoles.
#[derive(Default)]
struct Consoles {
    followers: HashMap<Mac, Follower>,
    /// Those beyond the limit, which was logged.
    refused: HashSet<Mac>,
}

/// Follows consoles, until stopped.
pub async fn serve(gate: Arc<Gate>, mut stopped: watch::Receiver<bool>) {
    let mut consoles = Consoles::default();
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut version = None;
    let state = gate.store.load().clone();
    let is_asked = move |mac| state.host_by_mac(mac).is_some_and(|host| asks(&host).is_some());
    if let Err(error) = on_files(&gate, move |files| files.retain(is_asked)).await {
        tracing::warn!(%error, "failed to remove the consoles of hosts that do not ask for one");
    }
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = async { drop(stopped.wait_for(|stop| *stop).await) } => return,
        }
        let latest = gate.store.load().version;
        let is_ending = consoles.followers.values().any(|follower| follower.stop.is_none());
        if version.replace(latest) != Some(latest) || is_ending {
            follow_hosts(&gate, &mut consoles).await;
        }
    }
}

/// Begins and ends what the hosts ask for.
async fn follow_hosts(gate: &Arc<Gate>, consoles: &mut Consoles) {
    let state = gate.store.load().clone();
    let Consoles { followers, refused } = consoles;
    let asked = |mac: Mac| state.host_by_mac(mac).and_then(|host| asks(&host).cloned());
    for (mac, follower) in followers.iter_mut().filter(|(_, follower)| follower.stop.is_some()) {
        if asked(*mac).as_ref() != Some(&follower.bmc) {
            follower.stop = None;
        }
    }
    // Not before the end of its task: that may write the file again.
    let ended: Vec<_> = followers.extract_if(|_, follower| follower.task.is_finished()).map(|(mac, _)| mac).collect();
    let gone: Vec<_> = ended.into_iter().filter(|mac| asked(*mac).is_none()).collect();
    if !gone.is_empty() {
        let removed = on_files(gate, move |files| {
            gone.into_iter().for_each(|mac| files.remove(mac));
            Ok(())
        });
        if let Err(error) = removed.await {
            tracing::warn!(%error, "failed to remove serial consoles");
        }
    }
    refused.retain(|mac| asked(*mac).is_some());
    for host in state.whole_hosts() {
        let (mac, Some(bmc)) = (host.spec.boot_mac_address, asks(host).cloned()) else { continue };
        let boot = begin_of_boot(host);
        let power = host.status.power.filter(|power| *power != Power::Unknown);
        if let Some(follower) = followers.get_mut(&mac) {
            if power == Some(Power::Off) && follower.power == Some(Power::On) {
                follower.mark.is_off.store(true, Ordering::Relaxed);
            }
            follower.power = power.or(follower.power);
            // An older one is no boot: the request of the newest one is not kept after the next request.
            if let Some(begin) = boot.filter(|_| boot > follower.boot) {
                follower.boot = boot;
                follower.mark.is_off.store(false, Ordering::Relaxed);
                if follower.mark.is_begun(begin) {
                    continue;
                }
                if let Err(error) = on_files(gate, move |files| files.begin_boot(mac)).await {
                    tracing::warn!(%mac, %error, "failed to begin the console of a boot");
                }
            }
        } else if followers.len() < MAX_CONSOLES {
            let (stop, until) = watch::channel(false);
            refused.remove(&mac);
            let mark = Arc::new(BootMark::default());
            let task = tokio::spawn(follow(gate.clone(), mac, mark.clone(), until));
            followers.insert(mac, Follower { bmc, boot, power, mark, stop: Some(stop), task });
        } else if refused.insert(mac) {
            tracing::warn!(%mac, limit = MAX_CONSOLES, "too many consoles: this one is not captured");
        }
    }
}

/// Returns the BMC of a host that asks for its console.
fn asks(host: &Host) -> Option<&Bmc> {
    host.spec.bmc.as_ref().filter(|bmc| bmc.console)
}

/// Returns the time at which a machine last began a boot, as far as its BMC shows or was told it.
fn begin_of_boot(host: &Host) -> Option<Timestamp> {
    let status = &host.status;
    let changes = [&status.power_transition, &status.last_power_transition];
    let resets = changes.into_iter().flatten().filter_map(|change| change.accepted);
    resets.filter(|done| done.reset.begins_boot()).map(|done| done.time).max()
}

/// Follows one console again and again, until its host asks for that no more. What keeps it from being captured is logged
/// once.
async fn follow(gate: Arc<Gate>, mac: Mac, mark: Arc<BootMark>, mut until: watch::Receiver<bool>) {
    let policy = BmcPolicy { pins_certificates: gate.site().pins_bmc_certificates };
    let mut pause = PAUSE;
    let mut told = String::new();
    loop {
        let client = gate.store.load().host_by_mac(mac).and_then(|host| BmcClient::of(&host, policy, now()));
        let Some(mut client) = client else { return };
        let (begin, mut stop, mut over) = (Instant::now(), until.clone(), until.clone());
        let (sender, texts) = mpsc::channel(MAX_QUEUED);
        // The sender of `stop` is never used: it is dropped.
        let followed = client.follow_console(sender, async move { drop(stop.changed().await) });
        // Without its receiver, which an error of `keep` drops, the console ends.
        let captured = async { tokio::join!(followed, keep(&gate, mac, &mark, texts)) };
        let given_up = async {
            drop(over.changed().await);
            tokio::time::sleep(RELEASE_TIME).await;
        };
        let (ended, kept) = tokio::select! {
            ended = captured => ended,
            () = given_up => return,
        };
        if begin.elapsed() >= WORKED {
            pause = PAUSE;
            told.clear();
        }
        let failure = match (&kept, &ended) {
            (Err(error), _) => format!("cannot be kept: {error}"),
            (Ok(()), Err(error)) => error.to_string(),
            (Ok(()), Ok(())) => String::new(),
        };
        if failure.is_empty() {
            tracing::debug!(%mac, "serial console ended");
        } else if failure != told {
            tracing::warn!(%mac, error = failure, "serial console not captured; tried again and again");
            told = failure;
        }
        tokio::select! {
            _ = until.changed() => return,
            () = tokio::time::sleep(pause) => pause = (2 * pause).min(MAX_PAUSE),
        }
    }
}

/// Appends what is captured to the file, until that ends. The first text after the machine was off is of another boot.
async fn keep(gate: &Arc<Gate>, mac: Mac, mark: &BootMark, mut texts: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(mut text) = texts.recv().await {
        while let Ok(more) = texts.try_recv() {
            text.extend(more);
        }
        let is_other_boot = mark.is_off.swap(false, Ordering::Relaxed);
        if is_other_boot {
            mark.begun.store(now().as_second(), Ordering::Relaxed);
        }
        on_files(gate, move |files| {
            if is_other_boot {
                files.begin_boot(mac)?;
            }
            files.append(mac, &text)
        })
        .await?;
    }
    Ok(())
}

/// Works on the files, on a thread that may wait for the disk.
async fn on_files<T: Send + 'static>(
    gate: &Arc<Gate>,
    work: impl FnOnce(&ConsoleLogs) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let gate = gate.clone();
    tokio::task::spawn_blocking(move || work(&gate.consoles)).await.map_err(io::Error::other)?
}
