//! The state: one snapshot for every reader, one writer for every change.
//!
//! A change is on disk before `commit` answers, and before any reader sees it. Changes that wait
//! together are made durable together (one transaction, one sync).

mod apply;
mod history;
mod lines;
mod seal;
mod snapshot;
mod sqlite;
pub mod volumes;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use crate::event::{DurationHistogram, Entry, Event};
use crate::fleet::enrolment::UnknownHostAction;
use crate::fleet::lifecycle::{self, InstallPolicy};
use crate::fleet::rules::Invalid;
use crate::fleet::{Architecture, Bmc, Host, Key, Kind, Lease, Mac, Object, Power, PowerError};

pub use history::{ChangeRecord, Operation, TooOld};
pub use seal::Seal;
pub use snapshot::Snapshot;

/// Bounds the changes that wait for the writer; senders wait beyond it.
const WAITING_CHANGES: usize = 4096;
/// Bounds the timeline entries that wait to be written; beyond it they are lost, and counted.
const WAITING_ENTRIES: usize = 8192;

/// Is a wish to change the state.
#[derive(Debug, Clone)]
pub enum Change {
    /// Creates or replaces an object.
    Put { object: Object, expect: Expect },
    /// Removes an object that nothing refers to.
    Delete { key: Key, version: Option<u64> },
    /// Remembers a machine that was never seen before; leaves one that was as it is.
    Enrol { host: Box<Host>, action: UnknownHostAction },
    /// Moves a host on in its life; what happened is in its timeline with it, or neither is.
    Advance { mac: Mac, change: lifecycle::Transition, sighting: Observation, event: Option<Event> },
    /// Notes where and as what a machine was seen.
    Observe { mac: Mac, sighting: Observation },
    /// Notes what a machine's controller said.
    PowerReported { mac: Mac, word: Box<PowerReport> },
}

/// Is what was heard of a machine's controller; void where the machine has another by now.
#[derive(Debug, Clone)]
pub struct PowerReport {
    pub bmc: Bmc,
    /// Leaves the power as it was where it told nothing of it.
    pub power: Option<Power>,
    pub fault: Option<PowerError>,
    /// Names the switching that is over, by when it was asked for.
    pub over: Option<Timestamp>,
    pub events: Vec<Event>,
}

impl PowerReport {
    /// Is the word of a controller that told nothing yet.
    pub fn of(bmc: &Bmc) -> Self {
        Self { bmc: bmc.clone(), power: None, fault: None, over: None, events: Vec::new() }
    }
}

/// Is what a machine showed of itself when it asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Observation {
    pub firmware: Option<Architecture>,
    pub address: Option<std::net::IpAddr>,
    pub uuid: Option<uuid::Uuid>,
}

/// Says what must be true of an object before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// It does not exist yet.
    Absent,
    /// It exists, in this version; in any where none is given.
    Present(Option<u64>),
    /// Nothing.
    Any,
}

/// Says why a change was not made. Nothing of it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("{0} exists already")]
    AlreadyExists(Key),
    #[error("there is no {0}")]
    NotFound(Key),
    #[error("no host has the MAC address {0}")]
    NoSuchMac(Mac),
    #[error("{key} has changed meanwhile: it is at version {now}, the change was made for {wanted}")]
    Conflict { key: Key, wanted: u64, now: u64 },
    #[error("{key} is in use by {by}: {}", remedy(key.kind, by.kind))]
    InUse { key: Key, by: Key },
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("the state could not be written: {0}")]
    Unavailable(Arc<str>),
    #[error("the state could not be read: {0}")]
    Unreadable(Arc<str>),
}

/// Says where an object of one kind is named by another, and what to do about it.
fn remedy(named: Kind, by: Kind) -> &'static str {
    match (named, by) {
        (Kind::IscsiCdrom, Kind::BareMetalHost) => {
            "its spec.image names it, and does so while the host boots its disk: set that to another ISO or to localboot"
        }
        (Kind::BootConfig, Kind::BareMetalHost) => "its spec.bootConfigRef names it: take it out there first",
        (Kind::IscsiCdrom, _) => "its spec.companions names it: take it out there first",
        (Kind::BootConfig | Kind::BareMetalHost, _) => "its spec.bootConfigs names it: take it out there first",
    }
}

/// Is the handle that everybody shares.
#[derive(Debug)]
pub struct Store {
    snapshot: Arc<ArcSwap<Snapshot>>,
    history: Arc<history::History>,
    policy: InstallPolicy,
    changes: mpsc::Sender<writer::Job>,
    entries: mpsc::Sender<Entry>,
    lost_entries: std::sync::atomic::AtomicU64,
    version: watch::Receiver<u64>,
    leases: watch::Receiver<u64>,
    reader: std::sync::Mutex<sqlite::Reader>,
    directory: PathBuf,
    trouble: Arc<ArcSwapOption<String>>,
    /// Times from a change to its durable commit.
    pub commit_durations: DurationHistogram,
}

impl Store {
    /// Opens the state in a directory, making it where there is none, and starts the writer.
    ///
    /// The thread ends when the last handle is dropped; join it to know that all is written.
    ///
    /// # Errors
    /// A file that cannot be opened or is no state of ours, with its path.
    pub fn open(directory: &Path, policy: InstallPolicy) -> Result<(Arc<Self>, JoinHandle<()>), StoreError> {
        Self::open_sealed(directory, policy, None)
    }

    /// Opens the state as `open` does; what is written is encrypted under the key, and what was not yet is.
    ///
    /// # Errors
    /// As `open`; and what is encrypted under another key, or under one that is not given.
    pub fn open_sealed(
        directory: &Path,
        policy: InstallPolicy,
        seal: Option<Seal>,
    ) -> Result<(Arc<Self>, JoinHandle<()>), StoreError> {
        Self::open_at(&directory.join("bootlatch.db"), directory, policy, seal)
    }

    /// Opens a state in memory, through the same code; it is gone with its last handle. `uri` names it for a second
    /// connection, by which a test can break it.
    #[cfg(test)]
    pub(crate) fn in_memory(policy: InstallPolicy) -> (Arc<Self>, String) {
        let uri = format!("file:{}?mode=memory&cache=shared", uuid::Uuid::new_v4());
        let (store, _) =
            Self::open_at(Path::new(&uri), Path::new("/nonexistent"), policy, None).expect("a state in memory");
        (store, uri)
    }

    fn open_at(
        path: &Path,
        directory: &Path,
        policy: InstallPolicy,
        seal: Option<Seal>,
    ) -> Result<(Arc<Self>, JoinHandle<()>), StoreError> {
        let unreadable = |error: sqlite::Trouble| StoreError::Unreadable(format!("{}: {error}", path.display()).into());
        let (disk, first) = sqlite::Disk::open(path, seal).map_err(unreadable)?;
        let reader = sqlite::Reader::open(path).map_err(unreadable)?;
        let (changes, waiting) = mpsc::channel(WAITING_CHANGES);
        let (entries, noted) = mpsc::channel(WAITING_ENTRIES);
        let (announce, version) = watch::channel(first.version);
        let (announce_leases, leases) = watch::channel(0);
        let history = Arc::new(history::History::starting_at(first.version));
        let snapshot = Arc::new(ArcSwap::from_pointee(first));
        let trouble = Arc::new(ArcSwapOption::empty());
        let writer = writer::Writer {
            disk,
            policy: policy.clone(),
            snapshot: snapshot.clone(),
            history: history.clone(),
            announce,
            announce_leases,
            trouble: trouble.clone(),
        };
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || writer.run(waiting, noted));
        let thread = thread.map_err(|error| StoreError::Unavailable(error.to_string().into()))?;
        let reader = std::sync::Mutex::new(reader);
        Ok((
            Arc::new(Self {
                snapshot,
                history,
                policy,
                changes,
                entries,
                lost_entries: 0.into(),
                version,
                leases,
                reader,
                directory: directory.to_owned(),
                trouble,
                commit_durations: DurationHistogram::default(),
            }),
            thread,
        ))
    }

    /// Gives the state as it is, for as long as the reader likes to look at it.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Lends the state for a moment, without touching its reference count: for the packet paths.
    pub fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Makes a change, and answers once it is on disk.
    ///
    /// # Errors
    /// Why it was not made.
    pub async fn commit(&self, change: Change) -> Result<Object, StoreError> {
        let object = self.commit_all(vec![change]).await?.pop();
        object.ok_or_else(|| StoreError::Unavailable("the writer made nothing of a change".into()))
    }

    /// Makes changes, all or none, and answers once they are on disk. Each is applied to what those before it leave.
    ///
    /// # Errors
    /// Why the first that cannot be made was not; none is.
    pub async fn commit_all(&self, changes: Vec<Change>) -> Result<Vec<Object>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let gone = || StoreError::Unavailable("the writer has stopped".into());
        let began = std::time::Instant::now();
        self.changes.send(writer::Job::Changes { changes, reply }).await.map_err(|_| gone())?;
        let committed = answer.await.map_err(|_| gone())?;
        if committed.is_ok() {
            self.commit_durations.record(began.elapsed());
        }
        committed
    }

    /// Makes leases durable, all or none, and then does `then`: in the writer's thread, so it must not wait.
    /// This never waits itself.
    ///
    /// # Errors
    /// Too much waits to be written already, or the writer has stopped; `then` is not done.
    pub fn record(
        &self,
        leases: Vec<Lease>,
        then: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        let job = writer::Job::Leases { leases, then: Box::new(then) };
        self.changes.try_send(job).map_err(|error| StoreError::Unavailable(error.to_string().into()))
    }

    /// Gives the directory that the state is in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Says why the last write failed; nothing where it did not.
    pub fn last_write_error(&self) -> Option<Arc<String>> {
        self.trouble.load_full()
    }

    /// Writes where the last write failed, so that who waits for the state learns when it can be written again.
    /// This never waits.
    pub fn retry_write(&self) {
        if self.trouble.load().is_some() {
            // What is full is being written to: that write tells as well.
            let _ = self.record(Vec::new(), |_| ());
        }
    }

    /// Says why nothing can be written, having tried where the last write failed; nothing where it can.
    pub async fn probe_write(&self) -> Option<Arc<String>> {
        self.last_write_error()?;
        let (done, tried) = oneshot::channel();
        if self.record(Vec::new(), move |outcome| drop(done.send(outcome))).is_ok() {
            // Where the writer is gone, what it said last stands.
            drop(tried.await);
        }
        self.last_write_error()
    }

    /// Follows the leases: it changes after each transaction that wrote some.
    pub fn lease_changes(&self) -> watch::Receiver<u64> {
        self.leases.clone()
    }

    /// Notes something that happened, for the timeline. It never waits; it is on disk within a second.
    pub fn record_event(&self, mac: Option<Mac>, event: Event) {
        let host = mac.and_then(|mac| self.load().host_by_mac(mac).map(|host| host.metadata.name.clone()));
        let entry = Entry::once(now(), mac, host, event);
        entry.log();
        if self.entries.try_send(entry).is_err() {
            self.lost_entries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// Counts the timeline entries that were lost because too many came at once.
    pub fn lost_entries(&self) -> u64 {
        self.lost_entries.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Reads a machine's timeline, oldest first; everybody's where no machine is named.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn timeline(&self, mac: Option<Mac>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let reader = self.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        reader.timeline(mac, limit).map_err(|error| StoreError::Unreadable(error.to_string().into()))
    }

    /// Reads what the timeline says of an object that is no host, oldest first.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn mentions(&self, key: &Key, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let reader = self.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        reader.mentions(key, limit).map_err(|error| StoreError::Unavailable(error.to_string().into()))
    }

    /// Says what a change would come to, and makes nothing of it.
    ///
    /// # Errors
    /// Why it would not be made.
    pub fn dry_run(&self, change: Change) -> Result<Object, StoreError> {
        let object = self.dry_run_all(vec![change])?.pop();
        object.ok_or_else(|| StoreError::Unavailable("nothing was made of a change".into()))
    }

    /// Says what changes would come to, each applied to what those before it leave, and makes nothing of them.
    ///
    /// # Errors
    /// Why the first that cannot be made would not be.
    pub fn dry_run_all(&self, changes: Vec<Change>) -> Result<Vec<Object>, StoreError> {
        let mut scratch = Snapshot::clone(&self.load());
        let moment = apply::ApplyContext { at: now(), policy: &self.policy };
        let uid = || uuid::Uuid::new_v4().to_string();
        let applied = changes.into_iter().map(|change| apply::apply(&mut scratch, change, moment, uid));
        applied.map(|applied| applied.map(|applied| applied.object)).collect()
    }

    /// Lists what has happened to the objects since a version, the oldest first, so many at most.
    ///
    /// # Errors
    /// The version is older than the history that is kept.
    pub fn since(&self, version: u64, at_most: usize) -> Result<Vec<Arc<ChangeRecord>>, TooOld> {
        self.history.since(version, at_most)
    }

    /// Follows the version: it changes after each commit that changed an object.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.clone()
    }
}

/// Gives the time, to the millisecond: what the API shows and the store keeps.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

#[cfg(test)]
mod tests;
