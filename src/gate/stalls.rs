//! The diagnoses that stand, and how they become known: in the object, the timeline, the log and the metrics.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;

use crate::boot::diagnosis::{Diagnosis, Outcome, Progress, Segment, Step, Uptime, diagnose, is_decided_since};
use crate::bounds::{Rate, TokenBuckets};
use crate::event::Event;
use crate::fleet::text::printable;
use crate::fleet::{Host, Mac, Stall, StallReason};
use crate::gate::Gate;
use crate::gate::boot_traces::{DueMachine, MessageOrigin, OfferedFile, SegmentCounts};
use crate::store::{Change, Snapshot, now};

/// Maximum number of machines with a diagnosis. A further machine has none until another's is over.
const MAX_STALLS: usize = 8192;

/// Time in which the cause that several machines of a segment share is said once.
const SEGMENT_INTERVAL: Duration = Duration::from_secs(600);

/// Entries in the timeline about the diagnoses of one machine.
const ENTRY_RATE: Rate = Rate { tokens: 1, per: Duration::from_secs(20), burst: 8 };
/// Time after which the words of a diagnosis are written to the object again, if they alone have changed.
const REWRITE_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of diagnoses that are written with one sync: other writes wait for it.
const MAX_WRITTEN_AT_ONCE: usize = 256;
/// Time after a write that failed until the next one.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The diagnoses that stand.
#[derive(Debug, Default)]
pub struct Stalls {
    stalls: Mutex<BTreeMap<Mac, Stall>>,
    /// The machines whose timeline has the beginning of their diagnosis.
    announced: Mutex<HashSet<Mac>>,
    /// When the words of a diagnosis alone were last written to its object.
    rewritten: Mutex<HashMap<Mac, Instant>>,
    /// The rates of the entries about each machine.
    rates: Mutex<Option<TokenBuckets<Mac>>>,
    /// The kernel's count of entries that found no place in its neighbour table, and when it last grew.
    table_overflows: Mutex<(Option<u64>, Option<Uptime>)>,
    /// When the same cause of several machines was last said for each segment.
    segments: Mutex<HashMap<Option<usize>, Instant>>,
}

impl Stalls {
    /// Returns whether the cause that several machines of a segment share is to be said: once for all of them.
    fn admit_segment(&self, interface: Option<usize>) -> bool {
        let mut segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = segments.get(&interface).is_none_or(|at| at.elapsed() >= SEGMENT_INTERVAL);
        if is_new {
            segments.insert(interface, Instant::now());
        }
        is_new
    }

    /// Records the kernel's count of entries that found no place in its neighbour table.
    pub fn note_table_overflows(&self, count: u64, now: Uptime) {
        let mut known = self.table_overflows.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0.is_some_and(|before| count > before) {
            known.1 = Some(now);
        }
        known.0 = Some(count);
    }

    /// Returns when the neighbour table was last seen to be full.
    fn neighbour_table_full_at(&self) -> Option<Uptime> {
        self.table_overflows.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Mac, Stall>> {
        self.stalls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the diagnosis of a machine.
    pub fn get(&self, mac: Mac) -> Option<Stall> {
        self.lock().get(&mac).cloned()
    }

    /// Returns the machines with a diagnosis.
    pub fn machines(&self) -> Vec<Mac> {
        self.lock().keys().copied().collect()
    }

    /// Counts the machines that a test admits with a diagnosis, by its reason.
    pub fn counts(&self, is_counted: impl Fn(Mac) -> bool) -> BTreeMap<StallReason, u64> {
        let mut counts = BTreeMap::new();
        let stalls = self.lock();
        let counted = stalls.iter().filter(|(mac, _)| is_counted(**mac));
        counted.for_each(|(_, stall)| *counts.entry(stall.reason).or_default() += 1);
        counts
    }

    /// Forgets the diagnoses of machines that a test does not admit.
    pub fn retain(&self, keeps: impl Fn(Mac) -> bool) {
        self.lock().retain(|mac, _| keeps(*mac));
        self.announced.lock().unwrap_or_else(PoisonError::into_inner).retain(|mac| keeps(*mac));
    }

    /// Keeps the diagnosis of a machine, or none. Returns whether there was room for it.
    fn keep(&self, mac: Mac, stall: Option<&Stall>, is_declared: bool) -> bool {
        let mut stalls = self.lock();
        let limit = if is_declared { MAX_STALLS } else { MAX_STALLS / 2 };
        match stall {
            Some(_) if stalls.len() >= limit && !stalls.contains_key(&mac) => return false,
            Some(stall) => drop(stalls.insert(mac, stall.clone())),
            None => drop(stalls.remove(&mac)),
        }
        true
    }

    /// Returns whether an entry about a machine may be written now. A machine that is set up to flap gets few.
    fn admit_entry(&self, mac: Mac) -> bool {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.get_or_insert_with(|| TokenBuckets::new(ENTRY_RATE, MAX_STALLS)).take(mac, Instant::now())
    }

    /// Returns whether the words of a diagnosis may be written again, and notes it then.
    fn may_rewrite(&self, mac: Mac) -> bool {
        let mut rewritten = self.rewritten.lock().unwrap_or_else(PoisonError::into_inner);
        rewritten.retain(|_, at| at.elapsed() < REWRITE_INTERVAL);
        let is_new = !rewritten.contains_key(&mac);
        if is_new {
            rewritten.insert(mac, Instant::now());
        }
        is_new
    }

    fn announce(&self, mac: Mac) {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner).insert(mac);
    }

    /// Returns whether the beginning of a machine's diagnosis is in its timeline, for the last time.
    fn take_announced(&self, mac: Mac) -> bool {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner).remove(&mac)
    }
}

/// The wall clock and the time of the traces at one moment.
#[derive(Debug, Clone, Copy)]
pub struct TraceClock {
    wall: Timestamp,
    uptime: Uptime,
}

impl TraceClock {
    /// Returns the wall clock's time of a moment of the traces, to a hundredth of a second: the two clocks are read one
    /// after the other.
    pub fn time_of(self, at: Uptime) -> Timestamp {
        let age = SignedDuration::try_from(self.uptime.saturating_sub(at)).unwrap_or(SignedDuration::ZERO);
        let time = self.wall.checked_sub(age).unwrap_or(self.wall);
        Timestamp::from_millisecond((time.as_millisecond() + 5) / 10 * 10).unwrap_or(time)
    }
}

/// A segment as it is configured, with the counts of its machines left out.
#[derive(Debug, Clone, Default)]
pub struct Segments(pub Vec<Segment>);

impl Gate {
    /// Records a step of a machine's boot, for the diagnosis.
    pub fn trace(&self, mac: Mac, step: Step) {
        self.traces.record(mac, step, None, |mac| self.store.load().is_declared(mac));
    }

    /// Records that a machine read some more of its image.
    pub fn trace_read(&self, mac: Mac, octets: u64) {
        self.traces.record_read(mac, octets, |mac| self.store.load().is_declared(mac));
    }

    /// Records a step that a DHCP message shows.
    pub fn trace_from(&self, mac: Mac, step: Step, origin: MessageOrigin) {
        self.traces.record(mac, step, Some(origin), |mac| self.store.load().is_declared(mac));
    }

    /// Records a DHCP message, and the boot file that it is answered with.
    pub fn trace_exchange(&self, mac: Mac, step: Step, origin: MessageOrigin, offer: &OfferedFile<'_>) {
        self.traces.record_exchange(mac, (step, origin), offer, |mac| self.store.load().is_declared(mac));
    }

    /// Records a step of the machine at an address, if evidence names one.
    pub fn trace_at_address(&self, address: IpAddr, step: Step) {
        if let Some(mac) = self.owner_of(address).ok().flatten() {
            self.trace(mac, step);
        }
    }

    /// Returns what the rules make of a machine now.
    pub fn diagnose(
        &self,
        machine: &DueMachine,
        counts: SegmentCounts,
        is_half_open: impl Fn(IpAddr) -> bool,
    ) -> Outcome {
        let state = self.store.load();
        let host = state.host_by_mac(machine.mac);
        let segments = self.segments.load();
        let segment = match (machine.interface, segments.0.as_slice()) {
            (Some(index), segments) => segments.get(index),
            // A machine that was never heard is on the only segment.
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let mut segment = segment.cloned().unwrap_or_default();
        segment.install_timeout = self.site().install.timeout;
        segment.token_ttl = self.site().config_access.token_ttl;
        let now = self.traces.now();
        let is_counted = usize::from(machine.is_stuck(now));
        (segment.stuck_machines, segment.booting_machines) = (counts.stuck.saturating_sub(is_counted), counts.booting);
        let is_waiting = machine.progress.is_some_and(|(reached, _)| reached == Progress::IpxeAddress);
        let address = host.as_ref().and_then(|host| host.status.address).filter(|_| is_waiting);
        segment.is_half_open = address.is_some_and(is_half_open);
        segment.lost_requests = machine.interface.and_then(|index| self.traces.lost_requests(index));
        segment.neighbour_table_full_at = self.stalls.neighbour_table_full_at();
        let was_woken = || machine.steps.iter().any(|evidence| evidence.step == Step::WakeSent);
        if machine.progress.is_some_and(|(reached, _)| reached == Progress::Power) || was_woken() {
            segment.relays = self.traces.relays().into_iter().collect();
        }
        let mut outcome = diagnose(&machine.steps, host.as_deref(), &segment, now);
        let clock = self.trace_clock();
        let is_over = |host: &Host, diagnosis: &Diagnosis| {
            state.is_declared(machine.mac) && is_decided_since(host, clock.time_of(diagnosis.since))
        };
        if host.as_deref().is_some_and(|host| outcome.diagnosis.as_ref().is_some_and(|found| is_over(host, found))) {
            outcome.diagnosis = None;
        }
        outcome
    }

    /// Makes a diagnosis known, or that there is none any more. A diagnosis that stands keeps its words unless the machine
    /// was seen since.
    pub fn report_stall(&self, machine: &DueMachine, diagnosis: Option<Diagnosis>) {
        let &DueMachine { mac, interface, is_changed, .. } = machine;
        let before = self.stalls.get(mac);
        let stall = diagnosis.map(|diagnosis| self.stall(diagnosis));
        match (&before, &stall) {
            (None, None) => return,
            (Some(before), Some(after)) if is_same(before, after, is_changed) => return,
            _ => {}
        }
        let is_declared = self.store.load().is_declared(mac);
        if !self.stalls.keep(mac, stall.as_ref(), is_declared) {
            return;
        }
        let key = |stall: &Option<Stall>| stall.as_ref().map(|stall| (stall.reason, stall.certainty));
        if key(&before) != key(&stall) {
            self.record_stall_events((mac, interface), before.as_ref(), stall.as_ref());
        }
    }

    /// Writes the diagnoses of declared hosts to their objects, of those that have another one: with one sync for many.
    /// What strangers do is in memory and in the timeline only.
    pub async fn write_stalls(&self, machines: &[Mac]) {
        let state = self.store.snapshot();
        let changes: Vec<_> =
            machines.iter().filter_map(|mac| Some((*mac, self.stall_change(&state, *mac)?))).collect();
        for batch in changes.chunks(MAX_WRITTEN_AT_ONCE) {
            let (done, outcomes) = oneshot::channel();
            let change = |(mac, stall): &(Mac, Option<Stall>)| Change::RecordStall {
                mac: *mac,
                stall: stall.clone().map(Box::new),
            };
            let then = move |outcomes| drop(done.send(outcomes));
            let written = match self.store.change_each(batch.iter().map(change).collect(), then) {
                Ok(()) => outcomes.await.ok(),
                Err(error) => {
                    tracing::debug!(%error, "failed to record diagnoses");
                    None
                }
            };
            for (index, (mac, _)) in batch.iter().enumerate() {
                let outcome = written.as_ref().and_then(|outcomes| outcomes.get(index));
                if let Some(Err(error)) = outcome {
                    tracing::debug!(%mac, %error, "failed to record a diagnosis");
                }
                if !matches!(outcome, Some(Ok(()))) {
                    self.traces.look_again(*mac, self.traces.now() + RETRY_INTERVAL);
                }
            }
        }
    }

    /// Returns the diagnosis to write to the object of a declared host, if it has another one.
    fn stall_change(&self, state: &Snapshot, mac: Mac) -> Option<Option<Stall>> {
        let host = state.host_by_mac(mac).filter(|_| state.is_declared(mac))?;
        let (stall, written) = (self.stalls.get(mac), host.status.stall.as_deref());
        let is_due = match (&stall, written) {
            (None, None) => false,
            (Some(stall), Some(written)) if is_same(stall, written, true) => false,
            // Only the words differ: the count of a step that repeats.
            (Some(stall), Some(written)) if is_same(stall, written, false) => self.stalls.may_rewrite(mac),
            (Some(_), _) | (None, Some(_)) => true,
        };
        is_due.then_some(stall)
    }

    /// Records that a diagnosis begins or ends: with the machine, or once for all machines of a segment.
    fn record_stall_events(
        &self,
        (mac, interface): (Mac, Option<usize>),
        before: Option<&Stall>,
        after: Option<&Stall>,
    ) {
        match (before, after) {
            (_, Some(stall)) => {
                self.counters.count_stall(stall.reason);
                if stall.reason.is_of_segment() && !self.stalls.admit_segment(interface) {
                    return;
                }
                // Strangers who are held or ignored are in the list of hosts, and in the counters.
                let is_declared = self.store.load().is_declared(mac);
                if !is_declared && matches!(stall.reason, StallReason::Held | StallReason::HostIgnored) {
                    return;
                }
                if !self.stalls.admit_entry(mac) {
                    return;
                }
                self.stalls.announce(mac);
                let Stall { stage, reason, certainty, message, remedy, .. } = stall.clone();
                self.store.record_event(Some(mac), Event::Stalled { stage, reason, certainty, message, remedy });
            }
            // What was not announced is not taken back.
            (Some(_), None) if !self.stalls.take_announced(mac) => {}
            (Some(stall), None) => {
                self.store.record_event(Some(mac), Event::StallCleared { reason: stall.reason });
            }
            (None, None) => {}
        }
    }

    fn stall(&self, diagnosis: Diagnosis) -> Stall {
        let Diagnosis { stage, reason, certainty, message, remedy, since } = diagnosis;
        let text = |text: String| printable(&text).into_owned();
        let (message, remedy) = (text(message), text(remedy));
        Stall { stage, reason, certainty, message, remedy, since: self.trace_clock().time_of(since) }
    }

    /// Returns the clock that tells the times of the traces.
    pub fn trace_clock(&self) -> TraceClock {
        TraceClock { wall: now(), uptime: self.traces.now() }
    }

    /// Takes over the diagnoses that stood when the server stopped. Each is taken back when its machine goes on.
    pub fn restore_stalls(&self) {
        let state = self.store.load();
        let standing = state.whole_hosts().filter_map(|host| {
            let stall = host.status.stall.as_deref()?;
            Some((host.spec.boot_mac_address, stall.clone()))
        });
        let standing: BTreeMap<_, _> = standing.take(MAX_STALLS).collect();
        standing.keys().for_each(|mac| self.stalls.announce(*mac));
        *self.stalls.lock() = standing;
    }
}

/// Returns whether a diagnosis is the one that stands already.
fn is_same(before: &Stall, after: &Stall, is_changed: bool) -> bool {
    let key = |stall: &Stall| (stall.stage, stall.reason, stall.certainty);
    key(before) == key(after) && (!is_changed || before.message == after.message)
}
