//! The state: one snapshot that all readers share, and one writer thread.
//!
//! A change is on disk before `commit` returns and before a reader sees it. Changes that are queued at the same
//! time share one transaction and one sync.

mod apply;
mod boot_check;
mod change;
pub mod clock;
mod clock_step;
mod disk_reserve;
mod error;
pub mod free_space;
mod history;
mod outbox;
mod seal;
mod seen_host;
mod snapshot;
mod sqlite;
mod stranger_log;
mod template_versions;
mod timeline_coalescer;
mod timeline_sizes;
pub mod volumes;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::SignedDuration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::event::{DurationHistogram, Entry, Event, HostCounters, Notification};
use crate::fleet::lifecycle::InstallPolicy;
use crate::fleet::{Key, Lease, Mac, Object};

pub use boot_check::check_boot;
pub use change::{Change, Expect, Observation};
pub use clock::now;
pub use error::StoreError;
pub use history::{ChangeKind, ChangeRecord, TooOld};
pub use outbox::OutboxReader;
pub use seal::Seal;
pub use snapshot::Snapshot;
use stranger_log::StrangerLog;

/// Maximum number of queued changes. `commit` waits while the queue is full; `record` fails.
const MAX_QUEUED_CHANGES: usize = 4096;

/// Longest wait for the transaction under way before a watch begins.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of timeline entries that a watch may be behind.
const MAX_ANNOUNCED_ENTRIES: usize = 1024;

/// Name of the database file.
const DATABASE: &str = "bootlatch.db";
/// Files that a server leaves next to its database from its first start on. Without the database they show that it was
/// lost: an empty one would install every machine again.
const TRACES: [&str; 4] = ["token.key", "manifest.key", "dhcp.leases", "bootlatch.db-wal"];

/// The options for opening the state.
#[derive(Debug, Default)]
pub struct OpenOptions {
    /// Encryption of all objects. Existing plain text is encrypted at once.
    pub seal: Option<Seal>,
    /// Whether an operator said that a lost database is to be replaced by an empty one.
    pub start_empty: bool,
    /// The webhooks, for which notifications are queued.
    pub outbox_readers: Vec<OutboxReader>,
}

/// Handle of the state, shared by all readers and writers.
#[derive(Debug)]
pub struct Store {
    snapshot: Arc<ArcSwap<Snapshot>>,
    history: Arc<history::History>,
    policy: InstallPolicy,
    changes: mpsc::Sender<writer::WriteJob>,
    entries: mpsc::Sender<Entry>,
    dropped_entries: std::sync::atomic::AtomicU64,
    stranger_log: Arc<StrangerLog>,
    version: watch::Receiver<u64>,
    leases: watch::Receiver<u64>,
    entry_changes: watch::Receiver<u64>,
    outbox_lines: watch::Receiver<i64>,
    new_entries: broadcast::Sender<Arc<Entry>>,
    /// Reader of the timeline; `None` once the state is closed.
    reader: std::sync::Mutex<Option<sqlite::TimelineReader>>,
    directory: PathBuf,
    write_error: Arc<ArcSwapOption<String>>,
    /// Time from the queueing of changes to the end of the sync.
    pub commit_durations: Arc<DurationHistogram>,
    /// Counters of what happens to hosts.
    pub host_counters: Arc<HostCounters>,
}

impl Store {
    /// Opens the state in a directory and starts the writer thread. Creates the database if it does not exist.
    ///
    /// The thread ends after the last handle is dropped. Join it to wait until everything is written.
    ///
    /// # Errors
    /// The file cannot be opened, or is not a database of this program; with its path. An object is encrypted with
    /// another key, or no key is given. The database is missing, and the directory was in use before.
    pub fn open(
        directory: &Path,
        policy: InstallPolicy,
        options: OpenOptions,
    ) -> Result<(Arc<Self>, JoinHandle<()>), StoreError> {
        let path = directory.join(DATABASE);
        let is_empty = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.is_file() && metadata.len() == 0,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => return Err(StoreError::Unreadable(format!("{}: {error}", path.display()).into())),
        };
        if is_empty && let Some(trace) = TRACES.iter().find(|name| directory.join(name).exists()) {
            if !options.start_empty {
                return Err(StoreError::Lost { path, trace });
            }
            tracing::warn!(path = %path.display(), trace, "state lost: started with an empty database");
        }
        Self::open_at(&path, directory, policy, options)
    }

    /// Opens a state in memory, which ends with its last handle. The returned URI opens a second connection, with
    /// which a test can break the state.
    #[cfg(test)]
    pub(crate) fn in_memory(policy: InstallPolicy) -> (Arc<Self>, String) {
        let uri = format!("file:{}?mode=memory&cache=shared", uuid::Uuid::new_v4());
        let (store, _) = Self::open_at(Path::new(&uri), Path::new("/nonexistent"), policy, OpenOptions::default())
            .expect("a state in memory");
        (store, uri)
    }

    /// Opens the database at a path or URI.
    fn open_at(
        path: &Path,
        directory: &Path,
        policy: InstallPolicy,
        options: OpenOptions,
    ) -> Result<(Arc<Self>, JoinHandle<()>), StoreError> {
        let OpenOptions { seal, outbox_readers, start_empty: _ } = options;
        let unreadable =
            |error: sqlite::DatabaseError| StoreError::Unreadable(format!("{}: {error}", path.display()).into());
        let (database, first) = sqlite::Database::open(path, seal, &outbox_readers).map_err(unreadable)?;
        let reader = sqlite::TimelineReader::open(path).map_err(unreadable)?;
        let (changes, queued_changes) = mpsc::channel(MAX_QUEUED_CHANGES);
        let (entries, queued_entries) = mpsc::channel(writer::MAX_QUEUED_ENTRIES);
        let (announce, version) = watch::channel(first.version);
        let (announce_leases, leases) = watch::channel(0);
        let (announce_entries, entry_changes) = watch::channel(0);
        let (new_entries, _) = broadcast::channel(MAX_ANNOUNCED_ENTRIES);
        let (announce_outbox, outbox_lines) = watch::channel(database.newest_outbox_line());
        let history = Arc::new(history::History::starting_at(first.version));
        let snapshot = Arc::new(ArcSwap::from_pointee(first));
        let write_error = Arc::new(ArcSwapOption::empty());
        let stranger_log = Arc::new(StrangerLog::default());
        let host_counters = Arc::new(HostCounters::default());
        let writer = writer::Writer {
            database,
            policy: policy.clone(),
            snapshot: snapshot.clone(),
            history: history.clone(),
            announce,
            announce_leases,
            announce_entries,
            announce_outbox,
            new_entries: new_entries.clone(),
            write_error: write_error.clone(),
            stranger_log: stranger_log.clone(),
            host_counters: host_counters.clone(),
            reserve: disk_reserve::DiskReserve::open(directory),
            directory: directory.to_owned(),
        };
        let thread = std::thread::Builder::new().name("store".into());
        let thread = thread.spawn(move || writer.run(queued_changes, queued_entries));
        let thread = thread.map_err(|error| StoreError::Unavailable(error.to_string().into()))?;
        let reader = std::sync::Mutex::new(Some(reader));
        Ok((
            Arc::new(Self {
                snapshot,
                history,
                policy,
                changes,
                entries,
                dropped_entries: 0.into(),
                stranger_log,
                version,
                leases,
                entry_changes,
                outbox_lines,
                new_entries,
                reader,
                directory: directory.to_owned(),
                write_error,
                commit_durations: Arc::default(),
                host_counters,
            }),
            thread,
        ))
    }

    /// Returns the current snapshot. It may be kept for any time.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Returns a short-lived guard of the current snapshot. It avoids the reference count, for the packet paths.
    pub fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Makes a change. Returns the object when the change is on disk.
    ///
    /// # Errors
    /// The reason why the change was not made.
    pub async fn commit(&self, change: Change) -> Result<Object, StoreError> {
        let object = self.commit_all(vec![change]).await?.pop();
        object.ok_or_else(|| StoreError::Unavailable("the writer returned no object".into()))
    }

    /// Makes several changes, all or none. Each change sees the result of the previous ones. Returns the objects
    /// when the changes are on disk.
    ///
    /// # Errors
    /// The reason why the first impossible change was not made.
    pub async fn commit_all(&self, changes: Vec<Change>) -> Result<Vec<Object>, StoreError> {
        let (reply, result) = oneshot::channel();
        let stopped = || StoreError::Unavailable("the writer has stopped".into());
        let began = Instant::now();
        self.changes.send(writer::WriteJob::Changes { changes, reply }).await.map_err(|_| stopped())?;
        let committed = result.await.map_err(|_| stopped())?;
        if committed.is_ok() {
            self.commit_durations.record(began.elapsed());
        }
        committed
    }

    /// Moves the stored times that decisions depend on by a step of the wall clock; from then on `now` shows the step.
    ///
    /// # Errors
    /// The times could not be written; `now` goes on as without the step.
    pub async fn follow_clock_step(&self, step: SignedDuration) -> Result<(), StoreError> {
        let (reply, result) = oneshot::channel();
        let stopped = || StoreError::Unavailable("the writer has stopped".into());
        self.changes.send(writer::WriteJob::ClockStep { step, reply }).await.map_err(|_| stopped())?;
        result.await.map_err(|_| stopped())?.map(drop)
    }

    /// Queues leases, all or none, and returns at once. The writer thread calls `then` after the sync, so `then`
    /// must not block.
    ///
    /// # Errors
    /// The queue is full or the writer has stopped; `then` is not called.
    pub fn record(
        &self,
        leases: Vec<Lease>,
        then: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        let followed = clock::followed_steps();
        let job = writer::WriteJob::Leases { leases, followed, then: Box::new(then) };
        self.changes.try_send(job).map_err(|error| StoreError::Unavailable(error.to_string().into()))
    }

    /// Queues changes that do not depend on each other, and returns at once. After the sync the writer thread calls `then`
    /// with the outcome of each change, so `then` must not block.
    ///
    /// # Errors
    /// The queue is full or the writer has stopped; `then` is not called.
    pub fn change_each(
        &self,
        changes: Vec<Change>,
        then: impl FnOnce(Vec<Result<(), StoreError>>) + Send + 'static,
    ) -> Result<(), StoreError> {
        let (began, durations) = (Instant::now(), self.commit_durations.clone());
        let then = Box::new(move |outcomes: Vec<Result<(), StoreError>>| {
            if outcomes.iter().any(Result::is_ok) {
                durations.record(began.elapsed());
            }
            then(outcomes);
        });
        let job = writer::WriteJob::Each { changes, then };
        self.changes.try_send(job).map_err(|error| StoreError::Unavailable(error.to_string().into()))
    }

    /// Ends the writer once everything that is queued is written, although handles are left: a thread that waits for
    /// a file system may keep one for ever. Call it off the runtime's threads.
    pub fn close(&self) {
        // SQLite moves the log of changes into the database when the last connection closes, if that one may write.
        self.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        // An error says that the writer has ended.
        let _ = self.changes.blocking_send(writer::WriteJob::Stop);
    }

    /// Returns the directory of the state.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the error of the last write; `None` if it succeeded.
    pub fn last_write_error(&self) -> Option<Arc<String>> {
        self.write_error.load_full()
    }

    /// Queues an empty write if the last write failed, so that a recovery is noticed. Returns at once.
    pub fn retry_write(&self) {
        if self.write_error.load().is_some() {
            // When the queue is full, a queued write notices the recovery.
            let _ = self.record(Vec::new(), |_| ());
        }
    }

    /// Returns the error of the last write. After a failed write it tries again first.
    pub async fn probe_write(&self) -> Option<Arc<String>> {
        self.last_write_error()?;
        let (done, outcome) = oneshot::channel();
        if self.record(Vec::new(), move |result| drop(done.send(result))).is_ok() {
            // The writer may have stopped: its last error stays.
            drop(outcome.await);
        }
        self.last_write_error()
    }

    /// Returns a counter that changes after each transaction with leases.
    pub fn lease_changes(&self) -> watch::Receiver<u64> {
        self.leases.clone()
    }

    /// Returns a counter that changes after each transaction with timeline entries.
    pub fn entry_changes(&self) -> watch::Receiver<u64> {
        self.entry_changes.clone()
    }

    /// Queues an event for the timeline and logs it. Returns at once; the event is on disk within a second.
    pub fn record_event(&self, mac: Option<Mac>, event: Event) {
        self.host_counters.count(&event);
        let state = self.load();
        let entry = Entry::once(now(), mac, mac.and_then(|mac| state.host_name(mac)), event);
        let is_by_stranger = state.is_by_stranger(&entry);
        if !is_by_stranger || self.stranger_log.admit(&entry.event, Instant::now()) {
            entry.log();
        }
        // Strangers fill half of the queue at most.
        let is_full = self.entries.capacity() < writer::MAX_QUEUED_ENTRIES / 2 && is_by_stranger;
        if is_full || self.entries.try_send(entry).is_err() {
            self.dropped_entries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// Returns the timeline entries that are written from now on. An entry that is repeated comes again, as its line is then.
    /// What was written before can be read when this returns.
    pub async fn new_entries(&self) -> broadcast::Receiver<Arc<Entry>> {
        let new = self.new_entries.subscribe();
        // A transaction that began before keeps no entries for a watch that nobody had. A writer that has stopped, or that
        // waits for its disk, writes none now.
        let (asked, over) = oneshot::channel();
        let ask = async {
            if self.changes.send(writer::WriteJob::Barrier(asked)).await.is_ok() {
                drop(over.await);
            }
        };
        drop(tokio::time::timeout(BARRIER_TIMEOUT, ask).await);
        new
    }

    /// Returns the last line of the queue of notifications, which changes with each one that is queued.
    pub fn outbox_lines(&self) -> watch::Receiver<i64> {
        self.outbox_lines.clone()
    }

    /// Returns the line behind which a webhook reads on.
    ///
    /// # Errors
    /// The database cannot be read, or the webhook was not among those that the state was opened for.
    pub fn outbox_position(&self, name: &str) -> Result<i64, StoreError> {
        let reader = self.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let reader = reader.as_ref().ok_or_else(closed)?;
        reader.outbox_position(name).map_err(|error| StoreError::Unreadable(error.to_string().into()))
    }

    /// Reads the notifications that are queued behind a line, oldest first, at most `limit`. One that cannot be decoded is
    /// `None`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn outbox(&self, after: i64, limit: u32) -> Result<Vec<(i64, Option<Notification>)>, StoreError> {
        let reader = self.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let reader = reader.as_ref().ok_or_else(closed)?;
        reader.outbox(after, limit).map_err(|error| StoreError::Unreadable(error.to_string().into()))
    }

    /// Queues that a webhook has read up to a line, and returns at once.
    ///
    /// # Errors
    /// The queue is full or the writer has stopped.
    pub fn mark_outbox_read(&self, name: &str, position: i64) -> Result<(), StoreError> {
        let job = writer::WriteJob::OutboxRead { name: name.to_owned(), position };
        self.changes.try_send(job).map_err(|error| StoreError::Unavailable(error.to_string().into()))
    }

    /// Returns the number of log lines about strangers that were left out since the last call.
    pub fn take_unlogged(&self) -> u64 {
        self.stranger_log.take_suppressed()
    }

    /// Returns the number of timeline entries that were dropped because the queue was full.
    pub fn dropped_entries(&self) -> u64 {
        self.dropped_entries.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Reads the newest `limit` entries of the timeline of a machine, or of all, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn timeline(&self, mac: Option<Mac>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        // Before the rows: an enrolment whose host is declared meanwhile is in both, and not in none.
        let state = self.snapshot();
        let reader = self.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let reader = reader.as_ref().ok_or_else(closed)?;
        let rows = reader.timeline(mac, limit).map_err(|error| StoreError::Unreadable(error.to_string().into()))?;
        let mut lines: BTreeMap<i64, Entry> = match mac {
            Some(mac) => {
                state.host_by_mac(mac).and_then(|host| seen_host::enrolment_entry(&host)).into_iter().collect()
            }
            None => state.enrolments().take(limit).collect(),
        };
        lines.extend(rows);
        let excess = lines.len().saturating_sub(limit);
        Ok(lines.into_values().skip(excess).collect())
    }

    /// Reads the newest `limit` entries that name an image or a boot config, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn timeline_of(&self, key: &Key, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let reader = self.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let reader = reader.as_ref().ok_or_else(closed)?;
        reader.timeline_of(key, limit).map_err(|error| StoreError::Unreadable(error.to_string().into()))
    }

    /// Returns the result that a change would have, without making it.
    ///
    /// # Errors
    /// The reason why the change would not be made.
    pub fn dry_run(&self, change: Change) -> Result<Object, StoreError> {
        let object = self.dry_run_all(vec![change])?.pop();
        object.ok_or_else(|| StoreError::Unavailable("the dry run returned no object".into()))
    }

    /// Returns the result that several changes would have, without making them. Each sees the previous ones.
    ///
    /// # Errors
    /// The reason why the first impossible change would not be made.
    pub fn dry_run_all(&self, changes: Vec<Change>) -> Result<Vec<Object>, StoreError> {
        let mut scratch = Snapshot::clone(&self.load());
        let (next_line, room) = (std::cell::Cell::default(), std::cell::Cell::new(u64::MAX));
        let context = apply::ApplyContext { at: now(), policy: &self.policy, room: &room, next_line: &next_line };
        let uid = || uuid::Uuid::new_v4().to_string();
        let applied = changes.into_iter().map(|change| apply::apply(&mut scratch, change, context, uid));
        applied.map(|applied| applied.map(|applied| applied.object)).collect()
    }

    /// Returns the changes of objects after a version, oldest first, at most `at_most`.
    ///
    /// # Errors
    /// The version is older than the retained history.
    pub fn since(&self, version: u64, at_most: usize) -> Result<Vec<Arc<ChangeRecord>>, TooOld> {
        self.history.since(version, at_most)
    }

    /// Returns the version of the state, which changes with each commit that changed an object.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.clone()
    }
}

/// Returns the error of a read after the state was closed.
fn closed() -> StoreError {
    StoreError::Unavailable("the state is closed".into())
}

#[cfg(test)]
mod tests;
