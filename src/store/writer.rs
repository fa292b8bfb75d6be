//! The writer thread. It gathers queued jobs into transactions, writes them, and publishes the new snapshot.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::SignedDuration;
use tokio::sync::{mpsc, oneshot, watch};

use crate::event::Entry;
use crate::fleet::lifecycle::InstallPolicy;
use crate::fleet::{Lease, Object};

use super::apply::{Applied, ApplyContext, apply};
use super::change::Change;
use super::clock::{self, now};
use super::clock_step::apply_clock_step;
use super::disk_reserve::{self, DiskReserve};
use super::error::StoreError;
use super::free_space::FreeSpace;
use super::snapshot::Snapshot;
use super::{history, sqlite};

/// Maximum number of queued timeline entries. Entries beyond it are dropped and counted.
pub const MAX_QUEUED_ENTRIES: usize = 8192;
/// Maximum number of jobs in one transaction. It limits the latency of the first one.
const MAX_TRANSACTION_JOBS: usize = 512;
/// Maximum time that timeline entries wait for a change, to share its transaction.
const MAX_ENTRY_DELAY: Duration = Duration::from_millis(200);

/// Callback after leases were written. It runs in the writer thread and must not block.
pub type LeaseCallback = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A queued write with the receiver of its result.
pub enum WriteJob {
    /// Changes of objects, all or none.
    Changes {
        /// The changes, in order.
        changes: Vec<Change>,
        /// Receiver of the changed objects.
        reply: oneshot::Sender<Result<Vec<Object>, StoreError>>,
    },
    /// A step of the wall clock, which the stored times follow.
    ClockStep {
        /// The step.
        step: SignedDuration,
        /// Receiver of the changed hosts.
        reply: oneshot::Sender<Result<Vec<Object>, StoreError>>,
    },
    /// Leases of the DHCP server, all or none.
    Leases {
        /// The leases.
        leases: Vec<Lease>,
        /// The steps of the clock that were followed when the leases were made (`clock::followed_steps`).
        followed: SignedDuration,
        /// Callback after the sync.
        then: LeaseCallback,
    },
    /// The end: nothing is queued after it.
    Stop,
}

impl std::fmt::Debug for WriteJob {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Changes { changes, .. } => changes.fmt(out),
            Self::ClockStep { step, .. } => step.fmt(out),
            Self::Leases { leases, .. } => leases.fmt(out),
            Self::Stop => out.write_str("Stop"),
        }
    }
}

/// Result of a changes job, with the receiver of its reply.
type ChangeOutcome = (oneshot::Sender<Result<Vec<Object>, StoreError>>, Result<Vec<Applied>, StoreError>);

/// Jobs that were applied to a snapshot and are to be written in one transaction.
struct Transaction {
    state: Snapshot,
    outcomes: Vec<ChangeOutcome>,
    leases: Vec<Lease>,
    callbacks: Vec<LeaseCallback>,
    /// Step of the wall clock that the times have followed; 0 without one.
    step: SignedDuration,
    /// Timeline entries of the changes.
    entries: Vec<Entry>,
}

impl Transaction {
    /// Returns what is written, with these timeline entries.
    fn rows<'a>(&'a self, entries: &'a [Entry]) -> sqlite::Rows<'a> {
        let records = self.outcomes.iter().flat_map(|(_, applied)| made(applied));
        let changes = records.flat_map(|applied| &applied.records).collect();
        let strangers = entries.iter().map(|entry| self.state.is_by_stranger(entry)).collect();
        sqlite::Rows { version: self.state.version, changes, leases: &self.leases, entries, strangers }
    }
}

/// The writer: the only one that changes the database and the snapshot.
#[derive(Debug)]
pub struct Writer {
    /// Connection to the database.
    pub database: sqlite::Database,
    /// Install policy of the configuration.
    pub policy: InstallPolicy,
    /// Snapshot that readers load.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Changes that watches resume from.
    pub history: Arc<history::History>,
    /// Version of the state, sent after each commit that changed an object.
    pub announce: watch::Sender<u64>,
    /// Number of commits with leases.
    pub announce_leases: watch::Sender<u64>,
    /// Error of the last write; `None` if it succeeded.
    pub write_error: Arc<ArcSwapOption<String>>,
    /// Room on the disk for changes when it is full.
    pub reserve: DiskReserve,
    /// Directory of the state.
    pub directory: PathBuf,
}

impl Writer {
    /// Writes queued jobs until the last `Store` handle is dropped, or one of them has it stopped.
    pub fn run(mut self, mut changes: mpsc::Receiver<WriteJob>, mut entries: mpsc::Receiver<Entry>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let Ok(runtime) = runtime else { return tracing::error!("cannot start the runtime of the store's writer") };
        let mut queued = Vec::new();
        loop {
            let (jobs, open) = runtime.block_on(gather(&mut changes, &mut entries, &mut queued));
            if jobs.iter().any(|job| matches!(job, WriteJob::Stop)) {
                // Jobs that were queued before are still received; then the queue is at its end.
                changes.close();
            }
            if !jobs.is_empty() || !queued.is_empty() {
                self.write(jobs, &mut queued);
            }
            if !open {
                return;
            }
        }
    }

    /// Writes jobs and timeline entries in one transaction. After a failure the entries stay queued.
    fn write(&mut self, jobs: Vec<WriteJob>, entries: &mut Vec<Entry>) {
        self.reserve.restore();
        // Without the reserve, the room that is left is for changes; other entries wait.
        let is_short = !self.reserve.is_held() && !disk_reserve::has_room(&self.directory);
        if is_short && jobs.is_empty() {
            return;
        }
        let transaction = self.apply_jobs(jobs);
        let queued = entries.len();
        entries.extend(transaction.entries.iter().cloned());
        let mut waiting = if is_short { queued } else { 0 };
        let mut written = self.database.write(&transaction.rows(&entries[waiting..]));
        if written.as_ref().is_err_and(sqlite::DatabaseError::is_disk_full) && self.reserve.release() {
            waiting = queued;
            written = self.database.write(&transaction.rows(&entries[waiting..]));
        }
        match written {
            Ok(()) => {
                entries.truncate(waiting);
                if self.write_error.swap(None).is_some() {
                    tracing::info!("state write recovered");
                }
                self.publish(transaction);
            }
            Err(error) => {
                // The events of changes that were not made did not happen.
                entries.truncate(queued);
                self.fail(transaction, &error.to_string());
            }
        }
    }

    /// Applies jobs to a copy of the snapshot.
    fn apply_jobs(&self, jobs: Vec<WriteJob>) -> Transaction {
        let mut state = Snapshot::clone(&self.snapshot.load());
        let is_enrolment = |change: &Change| matches!(change, Change::Enrol { .. });
        let enrols = jobs.iter().any(|job| match job {
            WriteJob::Changes { changes, .. } => changes.iter().any(is_enrolment),
            WriteJob::ClockStep { .. } | WriteJob::Leases { .. } | WriteJob::Stop => false,
        });
        // Where the free space is unknown, the write itself shows whether there is any.
        let may_enrol = !enrols || FreeSpace::at(&self.directory).map_or(true, |space| space.fits(0));
        let context = ApplyContext { at: now(), policy: &self.policy, may_enrol };
        let mut outcomes = Vec::with_capacity(jobs.len());
        let (mut leases, mut callbacks, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        for job in jobs {
            match job {
                WriteJob::Changes { changes, reply } => {
                    outcomes.push((reply, apply_all(&mut state, changes, context)));
                }
                WriteJob::ClockStep { step, reply } => steps.push((step, reply)),
                WriteJob::Leases { leases: granted, followed, then } => {
                    callbacks.push(then);
                    let since = clock::followed_steps() - followed;
                    leases.extend(granted.into_iter().map(|lease| moved(lease, since)));
                }
                WriteJob::Stop => {}
            }
        }
        for lease in &leases {
            state.put_lease(lease.clone());
        }
        // Last: what the other jobs changed is on the old scale of time.
        let mut step = SignedDuration::ZERO;
        for (by, reply) in steps {
            let (hosts, moved) = apply_clock_step(&mut state, by, context.at);
            moved.iter().for_each(|lease| state.put_lease(lease.clone()));
            leases.extend(moved);
            outcomes.push((reply, Ok(hosts)));
            step += by;
        }
        let entries = outcomes.iter().flat_map(|(_, applied)| entries_of(applied, &state, context.at)).collect();
        Transaction { state, outcomes, leases, callbacks, step, entries }
    }

    /// Reports a failed write to all waiting callers.
    fn fail(&self, transaction: Transaction, error: &str) {
        let is_known = self.write_error.load().as_ref().is_some_and(|known| **known == error);
        match is_known {
            // It can happen many times a second while machines boot.
            true => tracing::debug!(%error, "state write failed"),
            false => tracing::error!(%error, "state write failed"),
        }
        self.write_error.store(Some(Arc::new(error.to_owned())));
        let reason: Arc<str> = error.into();
        for (reply, _) in transaction.outcomes {
            // The receiver may be gone; the change was not made either way.
            let _ = reply.send(Err(StoreError::Unavailable(reason.clone())));
        }
        transaction.callbacks.into_iter().for_each(|then| then(Err(StoreError::Unavailable(reason.clone()))));
    }

    /// Publishes the snapshot of a written transaction, and reports it to all waiting callers.
    fn publish(&self, transaction: Transaction) {
        let Transaction { state, outcomes, leases, callbacks, step, entries } = transaction;
        let version = state.version;
        self.snapshot.store(Arc::new(state));
        clock::follow(step);
        let records = outcomes.iter().flat_map(|(_, applied)| made(applied));
        self.history.push(records.flat_map(|applied| applied.records.iter().cloned()));
        entries.iter().for_each(Entry::log);
        for (reply, applied) in outcomes {
            let _ = reply.send(applied.map(|applied| applied.into_iter().map(|applied| applied.object).collect()));
        }
        // After the replies: hundreds of watches may be woken.
        self.announce.send_if_modified(|known| std::mem::replace(known, version) != version);
        if !leases.is_empty() {
            self.announce_leases.send_modify(|count| *count += 1);
        }
        callbacks.into_iter().for_each(|then| then(Ok(())));
    }
}

/// Applies the changes of one job. If one of them fails, the state is unchanged.
fn apply_all(
    state: &mut Snapshot,
    changes: Vec<Change>,
    context: ApplyContext<'_>,
) -> Result<Vec<Applied>, StoreError> {
    let before = (changes.len() > 1).then(|| state.clone());
    let uid = || uuid::Uuid::new_v4().to_string();
    let applied = changes.into_iter().map(|change| apply(state, change, context, uid)).collect();
    if let (Err(_), Some(before)) = (&applied, before) {
        *state = before;
    }
    applied
}

/// Returns a lease whose end follows the steps of the clock since it was made. Slews are no steps.
fn moved(lease: Lease, since: SignedDuration) -> Lease {
    match clock::is_step(since) {
        true => Lease { until: lease.until.saturating_add(since).unwrap_or(lease.until), ..lease },
        false => lease,
    }
}

fn made(applied: &Result<Vec<Applied>, StoreError>) -> &[Applied] {
    applied.as_deref().unwrap_or_default()
}

/// Returns the timeline entries of the changes of one job.
fn entries_of<'a>(
    applied: &'a Result<Vec<Applied>, StoreError>,
    state: &'a Snapshot,
    at: jiff::Timestamp,
) -> impl Iterator<Item = Entry> + use<'a> {
    made(applied).iter().flat_map(|applied| &applied.events).map(move |(mac, event)| {
        let host = state.host_by_mac(*mac).map(|host| host.metadata.name.clone());
        Entry::once(at, Some(*mac), host, event.clone())
    })
}

/// Waits for jobs or timeline entries, and takes everything that is queued. Returns the jobs, and whether the
/// queue of changes is still open.
async fn gather(
    changes: &mut mpsc::Receiver<WriteJob>,
    entries: &mut mpsc::Receiver<Entry>,
    queued: &mut Vec<Entry>,
) -> (Vec<WriteJob>, bool) {
    let mut jobs = Vec::new();
    let free = MAX_QUEUED_ENTRIES.saturating_sub(queued.len());
    let deadline = Instant::now() + MAX_ENTRY_DELAY;
    let mut open = true;
    tokio::select! {
        biased;
        count = changes.recv_many(&mut jobs, MAX_TRANSACTION_JOBS) => open = count > 0,
        count = entries.recv_many(queued, free), if free > 0 => {
            if count > 0 {
                // Entries alone do not justify a sync each: they wait for a change.
                tokio::select! {
                    count = changes.recv_many(&mut jobs, MAX_TRANSACTION_JOBS) => open = count > 0,
                    () = tokio::time::sleep_until(deadline.into()) => {}
                }
            }
        }
    }
    while queued.len() < MAX_QUEUED_ENTRIES
        && let Ok(entry) = entries.try_recv()
    {
        queued.push(entry);
    }
    (jobs, open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_transaction_takes_a_bounded_number_of_jobs_and_entries() {
        let (changes, mut queued_changes) = mpsc::channel(2 * MAX_TRANSACTION_JOBS);
        let (entries, mut queued_entries) = mpsc::channel(2 * MAX_QUEUED_ENTRIES);
        for _ in 0..=MAX_TRANSACTION_JOBS {
            assert!(changes.try_send(WriteJob::Stop).is_ok());
        }
        for _ in 0..=MAX_QUEUED_ENTRIES {
            let entry = Entry::once(jiff::Timestamp::UNIX_EPOCH, None, None, crate::event::Event::Held {});
            entries.try_send(entry).unwrap();
        }
        let mut queued = Vec::new();
        for (jobs, left) in [(MAX_TRANSACTION_JOBS, 1), (1, 0)] {
            let (gathered, is_open) = gather(&mut queued_changes, &mut queued_entries, &mut queued).await;
            assert_eq!((gathered.len(), queued_changes.len(), is_open), (jobs, left, true));
            assert_eq!(
                (queued.len(), queued_entries.len()),
                (MAX_QUEUED_ENTRIES, 1),
                "what is not written stays queued"
            );
        }
    }
}
