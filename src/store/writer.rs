use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{mpsc, oneshot, watch};

use crate::event::Entry;
use crate::fleet::lifecycle::InstallPolicy;
use crate::fleet::{Lease, Object};

use super::apply::{Applied, ApplyContext, apply};
use super::{Change, Snapshot, StoreError, history, now, sqlite};

/// Bounds the changes of one transaction, so that the first of them does not wait for the last of many.
const CHANGES_AT_ONCE: usize = 512;
/// Is how long timeline entries may wait for a change to be written with.
const ENTRIES_WAIT: Duration = Duration::from_millis(200);

/// Is a wish to write, and where its outcome is awaited.
pub enum Job {
    /// Is made whole or not at all.
    Changes { changes: Vec<Change>, reply: oneshot::Sender<Result<Vec<Object>, StoreError>> },
    /// Carries what is to be done once the leases are on disk: it is done here, so it must not wait.
    Leases { leases: Vec<Lease>, then: Box<dyn FnOnce(Result<(), StoreError>) + Send> },
}

impl std::fmt::Debug for Job {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Changes { changes, .. } => changes.fmt(out),
            Self::Leases { leases, .. } => leases.fmt(out),
        }
    }
}

type Then = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Holds the leases of a transaction, and what is to be done once they are on disk.
#[derive(Default)]
struct Granted {
    leases: Vec<Lease>,
    then: Vec<Then>,
}

type Outcome = (oneshot::Sender<Result<Vec<Object>, StoreError>>, Result<Vec<Applied>, StoreError>);

/// Is the only one who writes.
#[derive(Debug)]
pub struct Writer {
    pub disk: sqlite::Disk,
    pub policy: InstallPolicy,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub history: Arc<history::History>,
    pub announce: watch::Sender<u64>,
    pub announce_leases: watch::Sender<u64>,
    /// Says why the last write failed.
    pub trouble: Arc<ArcSwapOption<String>>,
}

impl Writer {
    /// Writes what comes until every handle is gone.
    pub fn run(mut self, mut changes: mpsc::Receiver<Job>, mut entries: mpsc::Receiver<Entry>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let Ok(runtime) = runtime else { return tracing::error!("no runtime for the store's writer") };
        let mut noted = Vec::new();
        loop {
            let (jobs, open) = runtime.block_on(gather(&mut changes, &mut entries, &mut noted));
            if !jobs.is_empty() || !noted.is_empty() {
                self.write(jobs, &mut noted);
            }
            if !open {
                return;
            }
        }
    }

    /// Writes all or nothing of it. Entries that could not be written stay, for the next time.
    fn write(&mut self, jobs: Vec<Job>, entries: &mut Vec<Entry>) {
        let mut state = Snapshot::clone(&self.snapshot.load());
        let moment = ApplyContext { at: now(), policy: &self.policy };
        let mut outcomes = Vec::with_capacity(jobs.len());
        let mut granted = Granted::default();
        for job in jobs {
            match job {
                Job::Changes { changes, reply } => outcomes.push((reply, apply_all(&mut state, changes, moment))),
                Job::Leases { leases, then } => {
                    granted.then.push(then);
                    granted.leases.extend(leases);
                }
            }
        }
        for lease in &granted.leases {
            state.put_lease(lease.clone());
        }
        let told: Vec<Entry> = outcomes.iter().flat_map(|(_, applied)| told(applied, &state, moment.at)).collect();
        let noted = entries.len();
        entries.extend(told.iter().cloned());
        let pasts = outcomes.iter().flat_map(|(_, applied)| made(applied)).filter_map(|applied| applied.past.as_ref());
        if let Err(error) = self.disk.write(state.version, pasts, &granted.leases, entries) {
            let is_known = self.trouble.load().as_ref().is_some_and(|known| **known == error.to_string());
            match is_known {
                // A site that boots meets it many times a second.
                true => tracing::debug!(%error, "the state could not be written"),
                false => tracing::error!(%error, "the state could not be written"),
            }
            let reason: Arc<str> = error.to_string().into();
            self.trouble.store(Some(Arc::new(error.to_string())));
            // What happened in a change that was not made did not happen.
            entries.truncate(noted);
            for (reply, _) in outcomes {
                // Nobody waiting is no loss: the change was not made.
                let _ = reply.send(Err(StoreError::Unavailable(reason.clone())));
            }
            granted.then.into_iter().for_each(|then| then(Err(StoreError::Unavailable(reason.clone()))));
            return;
        }
        entries.clear();
        if self.trouble.swap(None).is_some() {
            tracing::info!("the state can be written again");
        }
        self.publish(state, outcomes, &told);
        if !granted.leases.is_empty() {
            self.announce_leases.send_modify(|count| *count += 1);
        }
        granted.then.into_iter().for_each(|then| then(Ok(())));
    }

    fn publish(&self, state: Snapshot, outcomes: Vec<Outcome>, told: &[Entry]) {
        let version = state.version;
        self.snapshot.store(Arc::new(state));
        let pasts = outcomes.iter().flat_map(|(_, applied)| made(applied)).filter_map(|applied| applied.past.clone());
        self.history.push(pasts);
        told.iter().for_each(Entry::log);
        for (reply, applied) in outcomes {
            let _ = reply.send(applied.map(|applied| applied.into_iter().map(|applied| applied.object).collect()));
        }
        // Whoever wrote comes first: hundreds of watches may wait to be woken.
        self.announce.send_if_modified(|known| std::mem::replace(known, version) != version);
    }
}

/// Applies changes that belong together; the state is as it was where one of them fails.
fn apply_all(state: &mut Snapshot, changes: Vec<Change>, moment: ApplyContext<'_>) -> Result<Vec<Applied>, StoreError> {
    let before = (changes.len() > 1).then(|| state.clone());
    let uid = || uuid::Uuid::new_v4().to_string();
    let applied = changes.into_iter().map(|change| apply(state, change, moment, uid)).collect();
    if let (Err(_), Some(before)) = (&applied, before) {
        *state = before;
    }
    applied
}

fn made(applied: &Result<Vec<Applied>, StoreError>) -> &[Applied] {
    applied.as_deref().unwrap_or_default()
}

fn told<'a>(
    applied: &'a Result<Vec<Applied>, StoreError>,
    state: &'a Snapshot,
    at: jiff::Timestamp,
) -> impl Iterator<Item = Entry> + use<'a> {
    made(applied).iter().flat_map(|applied| &applied.events).map(move |(mac, event)| {
        let host = state.host_by_mac(*mac).map(|host| host.metadata.name.clone());
        Entry::once(at, Some(*mac), host, event.clone())
    })
}

/// Waits for something to write, and takes all that waits with it.
async fn gather(
    changes: &mut mpsc::Receiver<Job>,
    entries: &mut mpsc::Receiver<Entry>,
    noted: &mut Vec<Entry>,
) -> (Vec<Job>, bool) {
    let mut jobs = Vec::new();
    let room = super::WAITING_ENTRIES.saturating_sub(noted.len());
    let deadline = Instant::now() + ENTRIES_WAIT;
    let mut open = true;
    tokio::select! {
        biased;
        count = changes.recv_many(&mut jobs, CHANGES_AT_ONCE) => open = count > 0,
        count = entries.recv_many(noted, room), if room > 0 => {
            if count > 0 {
                // Entries alone are not worth a sync each: they wait a moment for company.
                tokio::select! {
                    count = changes.recv_many(&mut jobs, CHANGES_AT_ONCE) => open = count > 0,
                    () = tokio::time::sleep_until(deadline.into()) => {}
                }
            }
        }
    }
    while noted.len() < super::WAITING_ENTRIES
        && let Ok(entry) = entries.try_recv()
    {
        noted.push(entry);
    }
    (jobs, open)
}
