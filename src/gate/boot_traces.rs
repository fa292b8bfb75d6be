//! What was seen of machines' boots, in memory: for the diagnosis of boots that do not go on.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::boot::diagnosis::{BootTrace, DhcpClient, Evidence, LostRequests, Progress, Step, Uptime};
use crate::fleet::Mac;

/// Number of independent parts, so that protocols seldom wait for each other.
const SHARDS: usize = 16;
/// Maximum number of machines of one generation of a shard: 8,192 machines in all.
const MAX_MACHINES: usize = 256;
/// Pause after a step before the machine is looked at: the next step of a boot comes sooner.
const SETTLE: Duration = Duration::from_millis(1500);
/// Time without progress after which a machine that took an address is stuck.
const STUCK_TIME: Duration = Duration::from_secs(4);
/// Longest time from a step to a look while further steps come.
const LONGEST_SETTLE: Duration = Duration::from_secs(4);
/// Pause after which a loss of requests is another one.
const LOSS_PAUSE: Duration = Duration::from_secs(60);
/// Time in which what other machines of a segment do counts.
const SEGMENT_WINDOW: Duration = Duration::from_secs(600);

/// The traces of all machines. The machines that were seen least recently give way.
#[derive(Debug)]
pub struct BootTraces {
    start: Instant,
    shards: [Mutex<Shard>; SHARDS],
    /// The last requests that the kernel lost, by interface.
    lost: Mutex<HashMap<usize, LostRequests>>,
}

/// The boot file that a machine is offered.
#[derive(Debug, Clone, Copy)]
pub struct OfferedFile<'a> {
    /// The file.
    pub file: &'a str,
    /// Whether the offer contains an address (server mode).
    pub has_address: bool,
    /// Time from the message to the reply, if it was long.
    pub delay: Option<Duration>,
}

/// Where a DHCP message came from.
#[derive(Debug, Clone, Copy)]
pub struct MessageOrigin {
    /// The interface that it came in on, by its index.
    pub interface: usize,
    /// The UUID that it claims.
    pub uuid: Option<Uuid>,
    /// Time of its arrival; `None` for now.
    pub at: Option<Instant>,
}

/// Hashes MAC addresses by one multiplication with a secret number. A stranger who still finds collisions slows down a
/// table of 256 machines.
#[derive(Debug, Clone)]
struct MacHash(u64);

impl Default for MacHash {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0u8) | 1)
    }
}

impl BuildHasher for MacHash {
    type Hasher = MacHasher;

    fn build_hasher(&self) -> MacHasher {
        MacHasher { factor: self.0, value: 0 }
    }
}

/// The state of [`MacHash`].
#[derive(Debug)]
struct MacHasher {
    factor: u64,
    value: u64,
}

impl Hasher for MacHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.value = bytes.iter().fold(self.value, |value, octet| value << 8 | u64::from(*octet));
    }

    fn write_usize(&mut self, length: usize) {
        self.value ^= length as u64;
    }

    fn finish(&self) -> u64 {
        let product = u128::from(self.value ^ self.factor) * u128::from(self.factor);
        (product >> 64) as u64 ^ product as u64
    }
}

/// The machines of a shard in two generations: those seen since the current one began, and those before.
#[derive(Debug, Default)]
struct Shard {
    current: HashMap<Mac, MachineTrace, MacHash>,
    previous: HashMap<Mac, MachineTrace, MacHash>,
}

/// The trace of one machine.
#[derive(Debug, Clone, Default)]
struct MachineTrace {
    trace: BootTrace,
    /// The interface that its DHCP messages came in on, by its index.
    interface: Option<usize>,
    /// The UUID that its DHCP messages claim.
    uuid: Option<Uuid>,
    /// Whether it was offered a boot file in the present boot.
    is_offered: bool,
    next_look: Option<Uptime>,
    /// The time at which its last steps have settled.
    settles_at: Option<Uptime>,
    /// Time of the first step since the last look.
    changed_since: Option<Uptime>,
    /// Whether something was recorded since the last look.
    is_changed: bool,
    /// How far the present boot has come, and when it last went on.
    progress: Option<(Progress, Uptime)>,
    /// The count of bytes that its iSCSI session sends, with its last value.
    session: Option<(Arc<AtomicU64>, u64)>,
    /// The newest step of the last boot that was recorded as finished.
    recorded: Option<Uptime>,
}

/// A machine to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct DueMachine {
    /// The machine.
    pub mac: Mac,
    /// What was seen of it.
    pub steps: Vec<Evidence>,
    /// The interface that it boots on, by its index.
    pub interface: Option<usize>,
    /// Whether something was seen since the last look.
    pub is_changed: bool,
    /// How far its present boot has come, and when it last went on.
    pub progress: Option<(Progress, Uptime)>,
    /// The UUID that its DHCP messages claim.
    pub uuid: Option<Uuid>,
    /// Time of the newest step of the last boot that was recorded as finished.
    pub recorded: Option<Uptime>,
}

impl DueMachine {
    /// Returns whether the machine counts as one that took an address and no boot file.
    pub fn is_stuck(&self, now: Uptime) -> bool {
        self.progress.is_some_and(|(reached, last)| is_stuck(reached, now.saturating_sub(last)))
    }
}

fn is_stuck(reached: Progress, age: Duration) -> bool {
    reached == Progress::Address && age >= STUCK_TIME
}

/// What the machines of a segment do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SegmentCounts {
    /// Number of machines that took an address and no boot file.
    pub stuck: usize,
    /// Number of machines that fetched a boot file.
    pub booting: usize,
}

impl Default for BootTraces {
    fn default() -> Self {
        Self { start: Instant::now(), shards: Default::default(), lost: Mutex::default() }
    }
}

impl BootTraces {
    /// Returns the present time of the traces.
    pub fn now(&self) -> Uptime {
        self.start.elapsed()
    }

    fn time_of(&self, origin: Option<MessageOrigin>) -> Uptime {
        let at = origin.and_then(|origin| origin.at);
        at.map_or_else(|| self.now(), |at| at.saturating_duration_since(self.start))
    }

    fn shard(&self, mac: Mac) -> MutexGuard<'_, Shard> {
        // The last octets differ between machines of one vendor; a stranger who chooses them fills one shard only.
        let [.., a, b] = mac.0;
        let index = usize::from(a ^ b) % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a step of a machine. `keeps` says which machines stay when there are too many.
    pub fn record(&self, mac: Mac, step: Step, origin: Option<MessageOrigin>, keeps: impl Fn(Mac) -> bool) {
        let now = self.time_of(origin);
        self.shard(mac).machine(mac, keeps).record(step, origin, now);
    }

    /// Records a step of a machine that was seen before and is understood only now.
    pub fn record_at(&self, mac: Mac, step: Step, at: Uptime, keeps: impl Fn(Mac) -> bool) {
        self.shard(mac).machine(mac, keeps).record(step, None, at.min(self.now()));
    }

    /// Records a DHCP message of a machine, and what it was offered.
    pub fn record_exchange(
        &self,
        mac: Mac,
        (step, origin): (Step, MessageOrigin),
        offer: &OfferedFile<'_>,
        keeps: impl Fn(Mac) -> bool,
    ) {
        let now = self.time_of(Some(origin));
        let mut shard = self.shard(mac);
        let machine = shard.machine(mac, keeps);
        machine.record(step, Some(origin), now);
        machine.trace.record_offer(offer.file, offer.has_address, offer.delay, now);
        machine.is_offered = true;
    }

    /// Records the offer that a machine gets for a message that was recorded before.
    pub fn record_offer(&self, mac: Mac, offer: &OfferedFile<'_>) {
        let now = self.now();
        if let Some(machine) = self.shard(mac).find(mac) {
            machine.trace.record_offer(offer.file, offer.has_address, offer.delay, now);
            machine.is_offered = true;
            machine.look_soon(now);
        }
    }

    /// Records that a machine read some more of its image.
    pub fn record_read(&self, mac: Mac, octets: u64, keeps: impl Fn(Mac) -> bool) {
        let now = self.now();
        let mut shard = self.shard(mac);
        let machine = shard.machine(mac, keeps);
        let octets = machine.trace.octets_read().saturating_add(octets);
        machine.record(Step::Read { octets, is_over: false }, None, now);
    }

    /// Returns how far the present boot of a machine has come; `None` if nothing was seen of it.
    pub fn progress(&self, mac: Mac) -> Option<Progress> {
        self.shard(mac).find(mac)?.progress.map(|(reached, _)| reached)
    }

    /// Records that the kernel lost requests on an interface. Losses with a pause of more than a minute are counted apart.
    pub fn record_lost_requests(&self, interface: usize, count: u32) {
        let (now, count) = (self.now(), u64::from(count));
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        match lost.get_mut(&interface).filter(|known| now.saturating_sub(known.last) <= LOSS_PAUSE) {
            Some(known) => (known.last, known.count) = (now, known.count.saturating_add(count)),
            None => drop(lost.insert(interface, LostRequests { first: now, last: now, count })),
        }
    }

    /// Returns the last requests that the kernel lost on an interface.
    pub fn lost_requests(&self, interface: usize) -> Option<LostRequests> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).get(&interface).copied()
    }

    /// Returns the relays through which the machines have asked.
    pub fn relays(&self) -> BTreeSet<Ipv4Addr> {
        let mut relays = BTreeSet::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let traces = shard.current.values().chain(shard.previous.values());
            relays.extend(traces.flat_map(|machine| machine.trace.relays()));
        }
        relays
    }

    /// Returns whether something was seen of a machine's boots.
    pub fn is_known(&self, mac: Mac) -> bool {
        self.shard(mac).find(mac).is_some()
    }

    /// Removes and returns the marks of the machines that are due, with what was seen of them.
    pub fn take_due(&self, now: Uptime) -> Vec<DueMachine> {
        let mut due = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let Shard { current, previous } = &mut *shard;
            for (mac, machine) in current.iter_mut().chain(previous) {
                machine.sample_session(now);
                let is_due = |at: &mut Uptime| *at <= now;
                let has_settled = machine.settles_at.take_if(is_due).is_some();
                let is_awaited = machine.next_look.take_if(is_due).is_some();
                if has_settled || is_awaited {
                    machine.changed_since = None;
                    due.push(machine.take(*mac));
                }
            }
        }
        due
    }

    /// Returns what was seen of a machine.
    pub fn look_up(&self, mac: Mac) -> Option<DueMachine> {
        let mut shard = self.shard(mac);
        let machine = shard.find(mac)?;
        let is_changed = machine.is_changed;
        let found = machine.take(mac);
        machine.is_changed = is_changed;
        Some(found)
    }

    /// Returns all machines, with what was seen of them.
    pub fn machines(&self) -> Vec<DueMachine> {
        let known = |shard: &Mutex<Shard>| -> Vec<Mac> {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.current.keys().chain(shard.previous.keys()).copied().collect()
        };
        self.shards.iter().flat_map(known).filter_map(|mac| self.look_up(mac)).collect()
    }

    /// Records that the boots of a machine up to a step were recorded as finished.
    pub fn set_recorded(&self, mac: Mac, newest: Uptime) {
        if let Some(machine) = self.shard(mac).find(mac) {
            machine.recorded = Some(newest);
        }
    }

    /// Records what the iSCSI session of a machine reads from now on.
    pub fn follow_session(&self, mac: Mac, sent: Arc<AtomicU64>) {
        if let Some(machine) = self.shard(mac).find(mac) {
            machine.session = Some((sent, 0));
        }
    }

    /// Returns whether another session of a machine than this one is followed.
    pub fn follows_other(&self, mac: Mac, sent: &Arc<AtomicU64>) -> bool {
        let mut shard = self.shard(mac);
        let session = shard.find(mac).and_then(|machine| machine.session.as_ref());
        session.is_some_and(|(followed, _)| !Arc::ptr_eq(followed, sent))
    }

    /// Sets the time of the next look at a machine, unless it is seen before.
    pub fn look_again(&self, mac: Mac, at: Uptime) {
        if let Some(machine) = self.shard(mac).find(mac) {
            machine.next_look = Some(machine.next_look.map_or(at, |next| next.min(at)));
        }
    }

    /// Counts the machines of a segment that got stuck after their address, and those that went on.
    pub fn segment_counts(&self, interface: Option<usize>) -> SegmentCounts {
        let now = self.now();
        let mut counts = SegmentCounts::default();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for machine in shard.current.values().chain(shard.previous.values()) {
                let Some((reached, last)) = machine.progress else { continue };
                let age = now.saturating_sub(last);
                if machine.interface != interface || age > SEGMENT_WINDOW {
                    continue;
                }
                match reached {
                    // A machine that was offered nothing is not stuck.
                    Progress::Address if !machine.is_offered => {}
                    reached if is_stuck(reached, age) => counts.stuck += 1,
                    reached if reached >= Progress::ProgramRequest && reached != Progress::System => {
                        counts.booting += 1
                    }
                    _ => {}
                }
            }
        }
        counts
    }
}

impl MachineTrace {
    fn record(&mut self, step: Step, origin: Option<MessageOrigin>, now: Uptime) {
        if let Some(reached) = Progress::of(&step) {
            let has_script = self.progress.is_some_and(|(before, _)| before >= Progress::Script);
            let begins = matches!(step, Step::Discover { client: DhcpClient::Firmware(..), .. } | Step::PoweredOn)
                || has_script && matches!(step, Step::FileRequested { .. }) && step.requested_program().is_some();
            self.is_offered &= !begins;
            let before = self.progress.filter(|_| !begins).map_or(reached, |(before, _)| before.max(reached));
            self.progress = Some((before, now));
        }
        if step == Step::PoweredOff {
            (self.progress, self.is_offered) = (None, false);
        }
        if matches!(step, Step::Read { is_over: true, .. } | Step::PoweredOff) {
            self.session = None;
        }
        self.trace.record(step, now);
        if let Some(MessageOrigin { interface, uuid, .. }) = origin {
            (self.interface, self.uuid) = (Some(interface), uuid.or(self.uuid));
        }
        self.look_soon(now);
    }

    /// Has the machine looked at once it has settled, or after some seconds of steps without a pause.
    fn look_soon(&mut self, now: Uptime) {
        let first = *self.changed_since.get_or_insert(now);
        self.is_changed = true;
        self.settles_at = Some((now + SETTLE).min(first + LONGEST_SETTLE));
    }

    /// Records what the session has read since the last sample.
    fn sample_session(&mut self, now: Uptime) {
        let Some((sent, last)) = &mut self.session else { return };
        let octets = sent.load(Ordering::Relaxed);
        if octets != *last {
            *last = octets;
            self.trace.record(Step::Read { octets, is_over: false }, now);
        }
        if Arc::strong_count(sent) == 1 {
            self.session = None;
        }
    }

    fn take(&mut self, mac: Mac) -> DueMachine {
        let is_changed = std::mem::take(&mut self.is_changed);
        let Self { interface, progress, uuid, recorded, .. } = *self;
        DueMachine { mac, steps: self.trace.steps(), interface, is_changed, progress, uuid, recorded }
    }
}

impl Shard {
    fn find(&mut self, mac: Mac) -> Option<&mut MachineTrace> {
        self.current.get_mut(&mac).or_else(|| self.previous.get_mut(&mac))
    }

    /// Returns the trace of a machine, in the current generation.
    fn machine(&mut self, mac: Mac, keeps: impl Fn(Mac) -> bool) -> &mut MachineTrace {
        if self.current.len() >= MAX_MACHINES && !self.current.contains_key(&mac) {
            let known = self.previous.remove(&mac);
            self.rotate(keeps);
            self.previous.extend(known.map(|known| (mac, known)));
        }
        self.current.entry(mac).or_insert_with(|| self.previous.remove(&mac).unwrap_or_default())
    }

    /// Begins a new generation. Of the one before the last only machines that are kept stay, as far as there is room.
    fn rotate(&mut self, keeps: impl Fn(Mac) -> bool) {
        let oldest = std::mem::replace(&mut self.previous, std::mem::take(&mut self.current));
        let kept = oldest.into_iter().filter(|(mac, _)| keeps(*mac)).take(MAX_MACHINES / 2);
        self.current.extend(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(number: usize) -> Mac {
        let [.., a, b, c] = number.to_be_bytes();
        Mac([2, 0, 0, a, b, c])
    }

    fn count(traces: &BootTraces) -> usize {
        traces
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap())
            .map(|shard| shard.current.len() + shard.previous.len())
            .sum()
    }

    #[test]
    fn strangers_push_out_strangers_and_no_declared_machine() {
        let traces = BootTraces::default();
        let keeps = |one: Mac| one == mac(7);
        (0..20_000).for_each(|number| traces.record(mac(number), Step::Completed, None, keeps));
        assert!(count(&traces) <= 2 * SHARDS * MAX_MACHINES, "{}", count(&traces));
        assert!(traces.look_up(mac(7)).is_some());
        assert!(traces.look_up(mac(8)).is_none());
        assert!(traces.look_up(mac(19_999)).is_some());
    }

    #[test]
    fn a_machine_is_due_once_it_has_settled() {
        let traces = BootTraces::default();
        traces.record(mac(1), Step::Completed, Some(MessageOrigin { interface: 2, uuid: None, at: None }), |_| false);
        let now = traces.now();
        assert_eq!(traces.take_due(now), []);
        let due = traces.take_due(now + SETTLE);
        assert_eq!(
            due.iter().map(|one| (one.mac, one.interface, one.is_changed)).collect::<Vec<_>>(),
            [(mac(1), Some(2), true)]
        );
        assert_eq!(traces.take_due(now + SETTLE), []);
        traces.look_again(mac(1), now + 4 * SETTLE);
        assert_eq!(traces.take_due(now + 3 * SETTLE), []);
        assert!(!traces.take_due(now + 4 * SETTLE)[0].is_changed);
    }

    #[test]
    fn machines_that_are_stuck_are_counted_by_segment() {
        let traces = BootTraces::default();
        let request = || Step::Request {
            server: None,
            address: [10, 0, 0, 9].into(),
            client: DhcpClient::Firmware(crate::boot::BootProtocol::Pxe, crate::fleet::Architecture(7)),
        };
        let origin = Some(MessageOrigin { interface: 0, uuid: None, at: None });
        for number in 0..3 {
            traces.record(mac(number), request(), origin, |_| false);
            let mut shard = traces.shard(mac(number));
            shard.find(mac(number)).unwrap().progress = Some((Progress::Address, Uptime::ZERO));
        }
        traces.record(mac(9), Step::FileRequested { file: "a".into(), port: 1 }, origin, |_| false);
        assert_eq!(traces.segment_counts(Some(1)), SegmentCounts::default());
        assert_eq!(traces.segment_counts(Some(0)), SegmentCounts { stuck: 0, booting: 1 });
        assert!(is_stuck(Progress::Address, STUCK_TIME) && !is_stuck(Progress::Script, STUCK_TIME));
    }
}
