//! The writer thread. It gathers queued jobs into transactions, writes them, and publishes the new snapshot.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::SignedDuration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::event::{Entry, HostCounters};
use crate::fleet::lifecycle::InstallPolicy;
use crate::fleet::{Lease, Object};

use super::apply::{Applied, ApplyContext, apply};
use super::change::Change;
use super::clock::{self, now};
use super::clock_step::apply_clock_step;
use super::disk_reserve::{self, DiskReserve};
use super::error::StoreError;
use super::free_space::FreeSpace;
use super::history::{ChangeKind, ChangeRecord};
use super::seen_host::enrolment_entry;
use super::snapshot::Snapshot;
use super::stranger_log::StrangerLog;
use super::{history, sqlite};

/// Maximum number of queued timeline entries. Entries beyond it are dropped and counted.
pub const MAX_QUEUED_ENTRIES: usize = 8192;
/// Maximum number of jobs in one transaction. It limits the latency of the first one. A job has a few changes, or those
/// that one batch of DHCP messages led to.
const MAX_TRANSACTION_JOBS: usize = 512;
/// Space on the disk that an enrolment takes at most, in bytes: its rows, their pages in SQLite's log, and its first entries
/// in the timeline.
const MAX_ENROLMENT_BYTES: u64 = 4096;
/// Maximum time that timeline entries wait for a change, to share its transaction.
const MAX_ENTRY_DELAY: Duration = Duration::from_millis(200);

/// Callback after leases were written. It runs in the writer thread and must not block.
pub type LeaseCallback = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Callback after changes that do not depend on each other. It runs in the writer thread and must not block.
pub type EachCallback = Box<dyn FnOnce(Vec<Result<(), StoreError>>) + Send>;

/// A queued write with the receiver of its result.
pub enum WriteJob {
    /// Changes of objects, all or none.
    Changes {
        /// The changes, in order.
        changes: Vec<Change>,
        /// Receiver of the changed objects.
        reply: oneshot::Sender<Result<Vec<Object>, StoreError>>,
    },
    /// Changes of objects, each made or not.
    Each {
        /// The changes, in order.
        changes: Vec<Change>,
        /// Callback after the sync.
        then: EachCallback,
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
    /// A webhook has read the queue of notifications up to a line.
    OutboxRead {
        /// Its name.
        name: String,
        /// The line.
        position: i64,
    },
    /// A question whether the transaction that was under way is over.
    Barrier(oneshot::Sender<()>),
    /// The end: nothing is queued after it.
    Stop,
}

impl WriteJob {
    /// Answers a barrier, and returns any other job.
    fn pass_barrier(self) -> Option<Self> {
        match self {
            Self::Barrier(asked) => {
                // Who asked may have gone.
                let _ = asked.send(());
                None
            }
            other => Some(other),
        }
    }
}

impl std::fmt::Debug for WriteJob {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Changes { changes, .. } | Self::Each { changes, .. } => changes.fmt(out),
            Self::ClockStep { step, .. } => step.fmt(out),
            Self::Leases { leases, .. } => leases.fmt(out),
            Self::OutboxRead { name, position } => write!(out, "OutboxRead({name}, {position})"),
            Self::Barrier(_) => out.write_str("Barrier"),
            Self::Stop => out.write_str("Stop"),
        }
    }
}

/// Result of a job with changes, and its receiver.
enum Outcome {
    /// All changes, or none.
    All(oneshot::Sender<Result<Vec<Object>, StoreError>>, Result<Vec<Applied>, StoreError>),
    /// Each change by itself.
    Each(EachCallback, Vec<Result<Applied, StoreError>>),
}

impl Outcome {
    /// Returns the changes that were made, in order.
    fn made(&self) -> impl Iterator<Item = &Applied> {
        let (all, each) = match self {
            Self::All(_, applied) => (applied.as_deref().unwrap_or_default(), &[][..]),
            Self::Each(_, applied) => (&[][..], applied.as_slice()),
        };
        all.iter().chain(each.iter().flatten())
    }

    /// Reports the changes as made.
    fn report(self) {
        match self {
            // The receiver may be gone; the change was made either way.
            Self::All(reply, applied) => {
                drop(reply.send(applied.map(|applied| applied.into_iter().map(|applied| applied.object).collect())));
            }
            Self::Each(then, applied) => then(applied.into_iter().map(|applied| applied.map(drop)).collect()),
        }
    }

    /// Reports that nothing was written.
    fn fail(self, reason: &Arc<str>) {
        let error = || StoreError::Unavailable(reason.clone());
        match self {
            Self::All(reply, _) => drop(reply.send(Err(error()))),
            Self::Each(then, applied) => then(applied.iter().map(|_| Err(error())).collect()),
        }
    }
}

/// Jobs that were applied to a snapshot and are to be written in one transaction.
struct Transaction {
    state: Snapshot,
    outcomes: Vec<Outcome>,
    leases: Vec<Lease>,
    callbacks: Vec<LeaseCallback>,
    /// Step of the wall clock that the times have followed; 0 without one.
    step: SignedDuration,
    /// Timeline entries of the changes.
    entries: Vec<Entry>,
    /// The next line of the timeline after those of queued entries and of enrolments.
    next_line: i64,
    /// The webhooks that have read up to a line of the queue of notifications.
    outbox_reads: Vec<(String, i64)>,
}

impl Transaction {
    /// Returns what is written, with these timeline entries, of which the first ones were queued before.
    fn rows<'a>(&'a self, entries: &'a [Entry]) -> sqlite::Rows<'a> {
        let changes = self.outcomes.iter().flat_map(Outcome::made).flat_map(|applied| &applied.records).collect();
        let strangers = entries.iter().map(|entry| self.state.is_by_stranger(entry)).collect();
        let queued = entries.len() - self.entries.len();
        let (version, next_line) = (self.state.version, self.next_line);
        let (leases, outbox_reads) = (&self.leases, &self.outbox_reads);
        sqlite::Rows { version, changes, leases, entries, queued, strangers, next_line, outbox_reads }
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
    /// Announces timeline entries.
    pub announce_entries: watch::Sender<u64>,
    /// The last line of the queue of notifications.
    pub announce_outbox: watch::Sender<i64>,
    /// Timeline entries that were written, for watches.
    pub new_entries: broadcast::Sender<Arc<Entry>>,
    /// Error of the last write; `None` if it succeeded.
    pub write_error: Arc<ArcSwapOption<String>>,
    /// The bound of log lines about strangers.
    pub stranger_log: Arc<StrangerLog>,
    /// Counters of what happens to hosts.
    pub host_counters: Arc<HostCounters>,
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
            let jobs: Vec<_> = jobs.into_iter().filter_map(WriteJob::pass_barrier).collect();
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
        let queued = entries.len();
        let transaction = self.apply_jobs(jobs, queued);
        entries.extend(transaction.entries.iter().cloned());
        let mut waiting = if is_short { queued } else { 0 };
        self.database.keep_written_entries(self.new_entries.receiver_count() > 0);
        let mut written = self.database.write(&transaction.rows(&entries[waiting..]));
        if written.as_ref().is_err_and(sqlite::DatabaseError::is_disk_full) && self.reserve.release() {
            waiting = queued;
            written = self.database.write(&transaction.rows(&entries[waiting..]));
        }
        match written {
            Ok(()) => {
                let has_entries = entries.len() > waiting;
                entries.truncate(waiting);
                if self.write_error.swap(None).is_some() {
                    tracing::info!("state write recovered");
                }
                self.publish(transaction);
                if has_entries {
                    self.announce_entries.send_modify(|count| *count += 1);
                }
            }
            Err(error) => {
                // The events of changes that were not made did not happen.
                entries.truncate(queued);
                self.fail(transaction, &error.to_string());
            }
        }
    }

    /// Applies jobs to a copy of the snapshot. `queued` timeline entries came before.
    fn apply_jobs(&self, jobs: Vec<WriteJob>, queued: usize) -> Transaction {
        let mut state = Snapshot::clone(&self.snapshot.load());
        let is_enrolment = |change: &Change| matches!(change, Change::Enrol { .. });
        let enrols = jobs.iter().any(|job| match job {
            WriteJob::Changes { changes, .. } | WriteJob::Each { changes, .. } => changes.iter().any(is_enrolment),
            WriteJob::ClockStep { .. }
            | WriteJob::Leases { .. }
            | WriteJob::OutboxRead { .. }
            | WriteJob::Barrier(_)
            | WriteJob::Stop => false,
        });
        // Where the free space is unknown, the write itself shows whether there is any.
        let room = || FreeSpace::at(&self.directory).map_or(u64::MAX, |space| space.times(MAX_ENROLMENT_BYTES));
        let room = Cell::new(if enrols { room() } else { 0 });
        let next_line = Cell::new(self.database.next_line() + i64::try_from(queued).unwrap_or(i64::MAX));
        let context = ApplyContext { at: now(), policy: &self.policy, room: &room, next_line: &next_line };
        let mut outcomes = Vec::with_capacity(jobs.len());
        let (mut leases, mut callbacks, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        let mut outbox_reads = Vec::new();
        for job in jobs {
            match job {
                WriteJob::Changes { changes, reply } => {
                    outcomes.push(Outcome::All(reply, apply_all(&mut state, changes, context)));
                }
                WriteJob::Each { changes, then } => {
                    let apply_one = |change| apply(&mut state, change, context, new_uid);
                    outcomes.push(Outcome::Each(then, changes.into_iter().map(apply_one).collect()));
                }
                WriteJob::ClockStep { step, reply } => steps.push((step, reply)),
                WriteJob::Leases { leases: granted, followed, then } => {
                    callbacks.push(then);
                    let since = clock::followed_steps() - followed;
                    leases.extend(granted.into_iter().map(|lease| moved(lease, since)));
                }
                WriteJob::OutboxRead { name, position } => outbox_reads.push((name, position)),
                WriteJob::Barrier(_) | WriteJob::Stop => {}
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
            outcomes.push(Outcome::All(reply, Ok(hosts)));
            step += by;
        }
        let made = outcomes.iter().flat_map(Outcome::made);
        let entries = made.flat_map(|applied| entries_of(applied, &state, context.at)).collect();
        let next_line = next_line.get();
        Transaction { state, outcomes, leases, callbacks, step, entries, next_line, outbox_reads }
    }

    /// Logs an enrolment that has no timeline entry of its own. A flood of them is not logged each.
    fn log_enrolment(&self, record: &ChangeRecord) {
        let ChangeRecord { operation: ChangeKind::Added, object: Object::Host(host), .. } = record else { return };
        if host.status.is_first_seen_only()
            && let Some((_, entry)) = enrolment_entry(host)
            && self.stranger_log.admit(&entry.event, Instant::now())
        {
            entry.log();
        }
    }

    /// Returns whether an entry of a change is logged: not each one of a flood of strangers.
    fn is_logged(&self, state: &Snapshot, entry: &Entry) -> bool {
        !state.is_by_stranger(entry) || self.stranger_log.admit(&entry.event, Instant::now())
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
        transaction.outcomes.into_iter().for_each(|outcome| outcome.fail(&reason));
        transaction.callbacks.into_iter().for_each(|then| then(Err(StoreError::Unavailable(reason.clone()))));
    }

    /// Publishes the snapshot of a written transaction, and reports it to all waiting callers.
    fn publish(&mut self, transaction: Transaction) {
        let Transaction { state, outcomes, leases, callbacks, step, entries, next_line: _, outbox_reads: _ } =
            transaction;
        let (version, state) = (state.version, Arc::new(state));
        self.snapshot.store(state.clone());
        clock::follow(step);
        let records = || outcomes.iter().flat_map(Outcome::made).flat_map(|applied| &applied.records);
        records().for_each(|record| self.log_enrolment(record));
        records().filter_map(ChangeRecord::phase_change).for_each(|(_, phase)| self.host_counters.count_phase(phase));
        entries.iter().for_each(|entry| self.host_counters.count(&entry.event));
        self.history.push(records().cloned());
        entries.iter().filter(|entry| self.is_logged(&state, entry)).for_each(Entry::log);
        outcomes.into_iter().for_each(Outcome::report);
        // After the replies: hundreds of watches may be woken.
        self.announce.send_if_modified(|known| std::mem::replace(known, version) != version);
        for entry in self.database.take_written_entries() {
            // The last watch may have ended meanwhile.
            let _ = self.new_entries.send(Arc::new(entry));
        }
        let line = self.database.newest_outbox_line();
        self.announce_outbox.send_if_modified(|known| std::mem::replace(known, line) != line);
        self.host_counters.count_unqueued(self.database.take_left_out_notifications());
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
    let applied = changes.into_iter().map(|change| apply(state, change, context, new_uid)).collect();
    if let (Err(_), Some(before)) = (&applied, before) {
        *state = before;
    }
    applied
}

/// Returns the UID of a new object.
fn new_uid() -> String {
    let mut buffer = uuid::Uuid::encode_buffer();
    uuid::Uuid::new_v4().hyphenated().encode_lower(&mut buffer).to_owned()
}

/// Returns a lease whose end follows the steps of the clock since it was made. Slews are no steps.
fn moved(lease: Lease, since: SignedDuration) -> Lease {
    match clock::is_step(since) {
        true => Lease { until: lease.until.saturating_add(since).unwrap_or(lease.until), ..lease },
        false => lease,
    }
}

/// Returns the timeline entries of a change.
fn entries_of<'a>(
    applied: &'a Applied,
    state: &'a Snapshot,
    at: jiff::Timestamp,
) -> impl Iterator<Item = Entry> + use<'a> {
    applied.events.iter().map(move |(mac, event)| Entry::once(at, Some(*mac), state.host_name(*mac), event.clone()))
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
