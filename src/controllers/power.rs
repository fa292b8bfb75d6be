use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::fleet::{Bmc, Host, Mac, Object, Power};
use crate::store::{Change, Operation, PowerReport, Store, now};

use crate::bmc::rounds::{Moment, Rounds, Task};
use crate::bmc::{Trouble, client};

/// Bounds the controllers that are asked at once; where there are more, a round takes longer. It also bounds how many
/// machines draw their inrush current in one moment.
const AT_ONCE: usize = 32;
/// Is how often it is looked whose turn it is, and what has changed of the hosts.
const TICK: Duration = Duration::from_millis(250);
/// Bounds the changes that are taken up at one time.
const CHANGES: usize = 1024;

type Answer = (Mac, Bmc, Task, Result<Option<Power>, Trouble>);

/// Asks the controllers of all hosts for their machines' power, and switches what is to be switched, until stopped.
pub async fn serve(store: Arc<Store>, mut stopped: watch::Receiver<bool>) {
    let mut rounds = Rounds::default();
    let mut version = begin(&store, &mut rounds);
    let mut asking: JoinSet<Answer> = JoinSet::new();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => version = follow(&store, &mut rounds, version),
            Some(done) = asking.join_next(), if !asking.is_empty() => match done {
                Ok((mac, bmc, task, outcome)) => {
                    if let Some(word) = rounds.answered(mac, &bmc, task, outcome, moment()) {
                        tell(&store, &mut rounds, mac, word).await;
                    }
                }
                Err(error) => tracing::error!(%error, "asking a controller died"),
            },
            () = async { drop(stopped.wait_for(|stop| *stop).await) } => return,
        }
        while asking.len() < AT_ONCE
            && let Some((mac, bmc, task)) = rounds.next(Instant::now())
        {
            asking.spawn(async move {
                let outcome = ask(&bmc, task).await;
                (mac, bmc, task, outcome)
            });
        }
    }
}

async fn ask(bmc: &Bmc, task: Task) -> Result<Option<Power>, Trouble> {
    match task {
        Task::Ask => client::power(bmc).await.map(Some),
        Task::Switch(reset) => client::reset(bmc, reset).await.map(|()| None),
    }
}

async fn tell(store: &Store, rounds: &mut Rounds, mac: Mac, word: PowerReport) {
    let told = store.commit(Change::PowerReported { mac, word: Box::new(word) }).await;
    if let Err(error) = told {
        tracing::warn!(%error, %mac, "what a controller said was not kept");
        // It begins anew with what the store knows, so that it is told again.
        rounds.forget(mac);
        if let Some(host) = store.load().host_by_mac(mac) {
            rounds.follow(host, true, moment());
        }
    }
}

/// Takes up all hosts; gives the version that they are at.
fn begin(store: &Store, rounds: &mut Rounds) -> u64 {
    let state = store.snapshot();
    rounds.keep(|mac| state.host_by_mac(mac).is_some());
    for host in state.hosts() {
        take_up(rounds, host, true);
    }
    state.version
}

/// Takes up what has changed since a version.
fn follow(store: &Store, rounds: &mut Rounds, mut version: u64) -> u64 {
    while store.load().version > version {
        let Ok(pasts) = store.since(version, CHANGES) else { return begin(store, rounds) };
        let Some(last) = pasts.last() else { return version };
        version = last.version;
        for past in pasts {
            let Object::Host(host) = &past.object else { continue };
            if let Some(Object::Host(before)) = &past.before
                && before.spec.boot_mac_address != host.spec.boot_mac_address
            {
                rounds.forget(before.spec.boot_mac_address);
            }
            match past.verb {
                Operation::Added | Operation::Modified => take_up(rounds, host, false),
                Operation::Deleted => rounds.forget(host.spec.boot_mac_address),
            }
        }
    }
    version
}

/// Takes up a host; for those without a controller, which most changes are of, no dice are thrown.
fn take_up(rounds: &mut Rounds, host: &Host, is_start: bool) {
    match &host.spec.bmc {
        Some(_) => rounds.follow(host, is_start, moment()),
        None => rounds.forget(host.spec.boot_mac_address),
    }
}

fn moment() -> Moment {
    let dice = uuid::Uuid::new_v4().as_fields().0;
    Moment { now: Instant::now(), at: now(), dice }
}
