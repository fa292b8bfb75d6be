//! The transfer of one file, as a state machine: events and times in, steps out.
//!
//! It does not hold the content: a [`TransferStep`] has block numbers, and [`Transfer::span`] returns where their
//! octets are.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::options::NegotiatedOptions;

/// Time to the first retransmission while the round trip is unknown.
const FIRST_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Minimum time to the first retransmission of a window: a ROM that writes to slow memory is not lost.
const MIN_RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// Minimum time to the first retransmission in lockstep, where a needless one costs one block.
const MIN_LOCKSTEP_RETRY_INTERVAL: Duration = Duration::from_millis(25);
/// Minimum time from a retransmission in lockstep to the next one. busybox does not acknowledge a block twice: it repeats
/// a lost acknowledgement 100 ms after the last packet, and a block that it has already begins that time again.
const MIN_REPEATED_RETRY_INTERVAL: Duration = Duration::from_millis(150);
/// Maximum number of doublings of the first pause after earlier retransmissions.
const MAX_BACKOFF: u32 = 8;
/// Maximum time between retransmissions.
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Time of silence after which a repeated request restarts the transfer. Before that, the network repeats an old
/// datagram, and a restart would break the transfer.
const RESTART_TIMEOUT: Duration = Duration::from_secs(1);
/// Minimum number of timeouts of a peer that requested its own timeout, before it is given up.
const MIN_TRIES: u32 = 4;
/// Maximum time of silence after which a peer is given up, also one that requested a longer timeout.
const MAX_PEER_TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum number of packets that are sent before the first acknowledgement. The request may have a forged source:
/// that address may not have asked, and gets no more than this.
const MAX_UNPROVEN_PACKETS: u32 = 3;
/// Time without any acknowledgement after which a peer is given up. A peer that is there repeats its request.
const UNPROVEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without progress of a peer after which it is reported as silent. Firmware repeats its packets after 4 s at most
/// (EDK2 `PXEBC_MTFTP_TIMEOUT`).
const SILENCE: Duration = Duration::from_secs(8);
/// Number of retransmissions of a whole window without an acknowledgement. Later ones are its first block only: the
/// peer acknowledges it, and the rest follows.
const MAX_WHOLE_WINDOW_TRIES: u32 = 1;
/// Number of acknowledgements of blocks that were never sent, before the transfer is given up: a peer that does not
/// receive the blocks guesses their numbers.
const MAX_FORGED_ACKS: u8 = 4;

/// A file's transfer to one peer, in lockstep or in windows (RFC 1350, RFC 7440).
///
/// Block numbers count from 1 without wrapping; on the wire they are modulo 65536, so that a file may have any number
/// of blocks.
#[derive(Debug)]
pub struct Transfer {
    granted: NegotiatedOptions,
    size: u64,
    awaiting: Awaiting,
    /// Time at which the awaited packets were last sent.
    sent_at: Instant,
    /// Time of the peer's last progress.
    moved_at: Instant,
    deadline: Instant,
    patience: Duration,
    /// Number of retransmissions since the peer's last progress.
    tries: u32,
    round_trip: Option<RoundTrip>,
    /// Number of retransmissions since the last round trip that was measured. A peer that became slower is never
    /// measured if every packet is sent again before its answer: the pause stays doubled until then (RFC 6298,
    /// section 5, rules 5.5 and 5.6, with Karn's algorithm).
    backoff: u32,
    /// Whether blocks in flight, or just acknowledged, were sent more than once.
    duplicated: bool,
    resent_blocks: u64,
    /// Whether the peer has acknowledged anything that was sent.
    is_proven: bool,
    /// Number of packets that were sent while nothing was acknowledged.
    unproven_packets: u32,
    forged_acks: u8,
}

/// The content of the next acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaiting {
    OptionAck,
    Window(Blocks),
}

/// The next action of the I/O loop. Without a packet, the next call is due at [`Transfer::deadline`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferStep {
    /// Send the option acknowledgement, [`Transfer::option_ack`].
    OptionAck,
    /// Send these blocks, in order.
    Data(Blocks),
    /// Send nothing.
    Wait,
    /// The transfer is over.
    End(Ending),
}

/// The end of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The peer acknowledged the last block.
    Complete,
    /// The peer aborted after the options, as UEFI firmware does to learn the size. It is no failure.
    Probed,
    /// The peer aborted between blocks, with this error code.
    Aborted(u16),
    /// The peer was silent for the peer timeout.
    Silent,
    /// The peer acknowledged blocks that were never sent.
    Forged,
}

/// A range of consecutive blocks, none after the file's last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    first: u64,
    last: u64,
}

impl Blocks {
    /// Returns the number of blocks.
    pub fn count(self) -> u64 {
        self.last - self.first + 1
    }

    /// Returns the block numbers, counted from 1 without wrapping.
    pub fn iter(self) -> impl Iterator<Item = u64> {
        self.first..=self.last
    }
}

/// The effect of a repeated request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepeatedRequest {
    /// The peer may have missed our packets: take this step.
    Again(TransferStep),
    /// The peer had progressed, was silent and starts again: replace the transfer.
    Restart,
}

impl Transfer {
    /// Creates a transfer of `size` octets with the negotiated options, and returns the first step. A peer that is
    /// silent for `patience` is given up.
    pub fn new(granted: NegotiatedOptions, size: u64, patience: Duration, now: Instant) -> (Self, TransferStep) {
        let wanted = |pause: Duration| pause.saturating_mul(MIN_TRIES).min(MAX_PEER_TIMEOUT);
        let longest = granted.timeout.map_or(patience, |pause| patience.max(wanted(pause)));
        let mut transfer = Transfer {
            granted,
            size,
            awaiting: Awaiting::OptionAck,
            sent_at: now,
            moved_at: now,
            deadline: now,
            patience: longest,
            tries: 0,
            round_trip: None,
            backoff: 0,
            duplicated: false,
            resent_blocks: 0,
            is_proven: false,
            unproven_packets: 1,
            forged_acks: 0,
        };
        let step = if granted.has_options() {
            transfer.arm(now);
            TransferStep::OptionAck
        } else {
            transfer.send_from(1, now)
        };
        (transfer, step)
    }

    /// Handles an acknowledgement of the block with this number on the wire.
    pub fn on_ack(&mut self, block: u16, now: Instant) -> TransferStep {
        let window = match self.awaiting {
            Awaiting::OptionAck if block == 0 => {
                self.is_proven = true;
                self.measure(now);
                self.duplicated = !self.sent_only_once();
                return self.advance(1, now);
            }
            Awaiting::OptionAck => return self.on_forged_ack(),
            Awaiting::Window(window) => window,
        };
        // Distance from the last acknowledged block.
        let ahead = u64::from(block.wrapping_sub(on_wire(window.first - 1)));
        if ahead > window.count() {
            // After the first 65535 blocks an old number and one that was never sent look the same.
            let is_never_sent = u64::from(block) > window.last && window.last <= u64::from(u16::MAX);
            return if is_never_sent { self.on_forged_ack() } else { TransferStep::Wait };
        }
        self.is_proven |= ahead > 0;
        let acknowledged = window.first - 1 + ahead;
        if acknowledged == self.last_block() {
            return TransferStep::End(Ending::Complete);
        }
        if acknowledged < window.last {
            return self.on_gap(window, acknowledged, now);
        }
        self.measure(now);
        self.duplicated = !self.sent_only_once();
        self.advance(acknowledged + 1, now)
    }

    /// Returns whether the peer has acknowledged anything that was sent to it.
    pub fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Handles a packet of the peer that shows that it does not receive ours.
    pub fn on_forged_ack(&mut self) -> TransferStep {
        self.forged_acks = self.forged_acks.saturating_add(1);
        if self.forged_acks >= MAX_FORGED_ACKS { TransferStep::End(Ending::Forged) } else { TransferStep::Wait }
    }

    /// Handles an ERROR of the peer, which ends the transfer with any code (RFC 1350, section 7).
    pub fn on_error(&self, code: u16) -> Ending {
        match self.awaiting {
            Awaiting::OptionAck => Ending::Probed,
            Awaiting::Window(_) => Ending::Aborted(code),
        }
    }

    /// Handles a repetition of the request that began the transfer.
    pub fn on_request(&mut self, now: Instant) -> RepeatedRequest {
        let heard = match self.awaiting {
            Awaiting::OptionAck => false,
            Awaiting::Window(window) => window.first > 1 || self.granted.has_options(),
        };
        if !heard {
            self.tries = self.tries.max(1);
            RepeatedRequest::Again(self.send_unproven(now))
        } else if now < self.moved_at + RESTART_TIMEOUT {
            RepeatedRequest::Again(TransferStep::Wait)
        } else {
            RepeatedRequest::Restart
        }
    }

    /// Handles a passed deadline; any other time is allowed.
    pub fn on_timeout(&mut self, now: Instant) -> TransferStep {
        if now < self.deadline {
            return TransferStep::Wait;
        }
        if now >= self.moved_at + self.patience() {
            return TransferStep::End(Ending::Silent);
        }
        self.tries = self.tries.saturating_add(1);
        if self.is_proven { self.send_again(now) } else { self.send_unproven(now) }
    }

    /// Returns whether the peer has made no progress for so long that it may not come back.
    pub fn is_silent(&self, now: Instant) -> bool {
        now >= self.moved_at + SILENCE
    }

    /// Handles that the packets of the last step were sent only now.
    pub fn on_late_send(&mut self, now: Instant) {
        self.arm(now);
    }

    /// Returns the time at which a peer that stays silent is given up.
    pub fn give_up_at(&self) -> Instant {
        self.moved_at + self.patience()
    }

    /// Returns the time at which [`Self::on_timeout`] is due, unless a packet arrives before.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns the octets of a block. The last block is shorter than the others and may be empty.
    pub fn span(&self, block: u64) -> Range<u64> {
        let size = u64::from(self.granted.block_size);
        let start = block.saturating_sub(1).saturating_mul(size).min(self.size);
        start..start.saturating_add(size).min(self.size)
    }

    /// Returns the octets of consecutive blocks.
    pub fn span_of(&self, blocks: Blocks) -> Range<u64> {
        self.span(blocks.first).start..self.span(blocks.last).end
    }

    /// Appends the option acknowledgement.
    pub fn option_ack(&self, out: &mut Vec<u8>) {
        self.granted.option_ack(self.size, out);
    }

    /// Returns the negotiated options.
    pub fn granted(&self) -> &NegotiatedOptions {
        &self.granted
    }

    /// Returns the number of octets that the peer has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        match self.awaiting {
            Awaiting::OptionAck => 0,
            Awaiting::Window(window) => self.span(window.first).start,
        }
    }

    /// Returns the number of blocks and option acknowledgements that were sent again.
    pub fn resent_blocks(&self) -> u64 {
        self.resent_blocks
    }

    /// Returns the number of the last block: the first one that is shorter than the block size, even if it is empty.
    fn last_block(&self) -> u64 {
        self.size / u64::from(self.granted.block_size) + 1
    }

    /// Handles the acknowledgement of a block before the window's last, or of the one before its first.
    ///
    /// In windows it reports that the next block was lost (RFC 7440, section 4), and the window is sent again from
    /// there. If blocks in flight were sent twice already, the peer may be acknowledging the second copies, so nothing
    /// is sent until those must have arrived. In lockstep nothing is sent before a retransmission is due: an immediate
    /// answer doubles every later packet (the sorcerer's apprentice, RFC 1123, section 4.2.3.1).
    fn on_gap(&mut self, window: Blocks, acknowledged: u64, now: Instant) -> TransferStep {
        if !self.is_proven {
            return TransferStep::Wait;
        }
        let moved = acknowledged >= window.first;
        let lockstep = self.granted.window == 1;
        let rest = match &self.round_trip {
            Some(known) if !lockstep => known.smoothed(),
            Some(_) | None => self.first_pause(),
        };
        let first_loss = !lockstep && self.sent_only_once() && !self.duplicated;
        let repair = first_loss || now > self.sent_at + rest;
        if repair {
            self.duplicated = true;
            self.resent_blocks += window.last - acknowledged;
            return if moved {
                self.advance(acknowledged + 1, now)
            } else {
                self.tries = 1; // the peer lives
                self.send_from(window.first, now)
            };
        }
        if !moved {
            return TransferStep::Wait;
        }
        // The window slides. Its blocks after the old end were never sent.
        let last = (acknowledged + u64::from(self.granted.window)).min(self.last_block());
        self.moved_at = now;
        self.awaiting = Awaiting::Window(Blocks { first: acknowledged + 1, last });
        if last == window.last {
            return TransferStep::Wait;
        }
        TransferStep::Data(Blocks { first: window.last + 1, last })
    }

    fn sent_only_once(&self) -> bool {
        self.tries == 0
    }

    fn advance(&mut self, first: u64, now: Instant) -> TransferStep {
        self.backoff = self.backoff.saturating_add(self.tries).min(MAX_BACKOFF);
        self.tries = 0;
        self.moved_at = now;
        self.send_from(first, now)
    }

    fn send_from(&mut self, first: u64, now: Instant) -> TransferStep {
        let last = (first + u64::from(self.granted.window) - 1).min(self.last_block());
        let window = Blocks { first, last };
        self.awaiting = Awaiting::Window(window);
        self.arm(now);
        TransferStep::Data(window)
    }

    /// Sends the first packet again, unless the peer has got as many as it gets without an acknowledgement.
    fn send_unproven(&mut self, now: Instant) -> TransferStep {
        if self.unproven_packets >= MAX_UNPROVEN_PACKETS {
            self.deadline = self.moved_at + self.patience();
            return TransferStep::Wait;
        }
        self.unproven_packets += 1;
        self.send_again(now)
    }

    fn send_again(&mut self, now: Instant) -> TransferStep {
        self.arm(now);
        match self.awaiting {
            Awaiting::OptionAck => {
                self.resent_blocks += 1;
                TransferStep::OptionAck
            }
            Awaiting::Window(window) if self.tries <= MAX_WHOLE_WINDOW_TRIES => {
                self.resent_blocks += window.count();
                TransferStep::Data(window)
            }
            Awaiting::Window(window) => {
                self.resent_blocks += 1;
                TransferStep::Data(Blocks { last: window.first, ..window })
            }
        }
    }

    /// Returns the time of silence after which the peer is given up.
    fn patience(&self) -> Duration {
        if self.is_proven { self.patience } else { self.patience.min(UNPROVEN_TIMEOUT) }
    }

    fn arm(&mut self, now: Instant) {
        let first = self.first_pause();
        let pause = match self.granted.timeout {
            Some(asked) => asked,
            None if self.tries == 0 => first,
            None => {
                let doubled = first.saturating_mul(1 << self.tries.min(10)).min(MAX_RETRY_INTERVAL);
                if self.granted.window == 1 { doubled.max(MIN_REPEATED_RETRY_INTERVAL) } else { doubled }
            }
        };
        self.sent_at = now;
        self.deadline = (now + pause).min(self.moved_at + self.patience());
    }

    /// Returns the pause before the first retransmission: what the measured round trips ask for, doubled for each
    /// retransmission since the last of them.
    fn first_pause(&self) -> Duration {
        let Some(known) = &self.round_trip else { return FIRST_RETRY_INTERVAL };
        let least = if self.granted.window == 1 { MIN_LOCKSTEP_RETRY_INTERVAL } else { MIN_RETRY_INTERVAL };
        known.pause().max(least).saturating_mul(1 << self.backoff).min(MAX_RETRY_INTERVAL)
    }

    /// Measures the round trip from the answer to a packet that was sent once. Of two copies the answered one is
    /// unknown (Karn's algorithm, RFC 6298, section 3).
    fn measure(&mut self, now: Instant) {
        if self.sent_only_once() {
            self.backoff = 0;
            let sample = now.saturating_duration_since(self.sent_at);
            match &mut self.round_trip {
                Some(known) => known.learn(sample),
                None => self.round_trip = Some(RoundTrip::new(sample)),
            }
        }
    }
}

/// Returns the number of a block on the wire.
pub fn on_wire(block: u64) -> u16 {
    (block & 0xffff) as u16
}

/// The smoothed round trip of the peer and its variation, in nanoseconds (RFC 6298, section 2).
#[derive(Debug)]
struct RoundTrip {
    smoothed: u64,
    variation: u64,
}

impl RoundTrip {
    fn new(sample: Duration) -> Self {
        let sample = nanoseconds(sample);
        RoundTrip { smoothed: sample, variation: sample / 2 }
    }

    fn learn(&mut self, sample: Duration) {
        let sample = nanoseconds(sample);
        self.variation = (3 * self.variation + self.smoothed.abs_diff(sample)) / 4;
        self.smoothed = (7 * self.smoothed + sample) / 8;
    }

    fn smoothed(&self) -> Duration {
        Duration::from_nanos(self.smoothed)
    }

    fn pause(&self) -> Duration {
        Duration::from_nanos(self.smoothed + 4 * self.variation)
    }
}

/// Returns a duration of at most one hour, so that the sums above cannot overflow.
fn nanoseconds(sample: Duration) -> u64 {
    let sample = sample.min(Duration::from_secs(3600));
    sample.as_secs() * 1_000_000_000 + u64::from(sample.subsec_nanos())
}

#[cfg(test)]
#[path = "tests/transfer.rs"]
mod tests;
