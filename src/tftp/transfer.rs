//! One read of one file, as a state machine that is told the time and says what to send.
//!
//! The content is no part of it: a [`Step`] names blocks, [`Transfer::span`] says where their octets lie.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::options::Granted;

/// The pause before the first retransmission to a peer whose round trip is not known yet.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The shortest pause before a retransmission: a ROM that writes to slow memory is not lost.
const RETRY_LEAST: Duration = Duration::from_millis(50);
/// The longest pause between retransmissions.
const RETRY_MOST: Duration = Duration::from_secs(5);
/// A peer that asks again this long after it was last heard begins anew; sooner, the network repeats an old
/// datagram, and starting over would break the transfer that goes on.
const ANEW_AFTER: Duration = Duration::from_secs(1);
/// A peer that named its own pause is given this many of them before it counts as gone.
const TRIES_AT_LEAST: u32 = 4;

/// Serves one file to one peer in lockstep or in windows (RFC 1350, RFC 7440).
///
/// Block numbers are counted from 1 without wrapping; on the wire they are taken modulo 65536, so that a
/// file may have any number of blocks.
#[derive(Debug)]
pub struct Transfer {
    granted: Granted,
    size: u64,
    awaiting: Awaiting,
    /// When what is awaited was last sent.
    sent_at: Instant,
    /// When the peer last moved the transfer on.
    moved_at: Instant,
    deadline: Instant,
    patience: Duration,
    /// Retransmissions since the peer last moved the transfer on.
    tries: u32,
    round_trip: Option<RoundTrip>,
    /// Whether blocks under way, or just acknowledged, were sent more than once.
    doubled: bool,
    resent_blocks: u64,
}

/// Says what the peer's next acknowledgement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaiting {
    OptionAck,
    Window(Blocks),
}

/// Says what the rim is to do now. The time of the next call, if nothing arrives, is [`Transfer::deadline`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send the option acknowledgement, [`Transfer::option_ack`].
    OptionAck,
    /// Send these blocks, in order.
    Data(Blocks),
    /// Send nothing.
    Wait,
    /// The transfer is over; forget it.
    End(Ending),
}

/// Says how a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The peer acknowledged the last block.
    Complete,
    /// The peer broke off once it knew the options, as UEFI firmware does to learn the size: no failure.
    Probed,
    /// The peer broke off amid the blocks, with this error code.
    Aborted(u16),
    /// The peer fell silent for as long as the site's patience goes.
    Silent,
}

/// Is a run of consecutive blocks, none of them beyond the file's last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    first: u64,
    last: u64,
}

impl Blocks {
    pub fn count(self) -> u64 {
        self.last - self.first + 1
    }

    /// Yields the numbers, counted from 1 without wrapping.
    pub fn iter(self) -> impl Iterator<Item = u64> {
        self.first..=self.last
    }
}

/// Says what a request means that is the same as the one which began the transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeated {
    /// The peer may not have heard us yet: take this step.
    Again(Step),
    /// The peer had come further, fell silent and begins anew: replace the transfer.
    Anew,
}

impl Transfer {
    /// Begins a transfer of `size` octets with the shape that was granted, and says what to send first.
    /// A peer that stays silent for `patience` is given up.
    pub fn new(granted: Granted, size: u64, patience: Duration, now: Instant) -> (Self, Step) {
        let longest = granted.timeout.map_or(patience, |pause| patience.max(pause * TRIES_AT_LEAST));
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
            doubled: false,
            resent_blocks: 0,
        };
        let step = if granted.has_options() {
            transfer.arm(now);
            Step::OptionAck
        } else {
            transfer.send_from(1, now)
        };
        (transfer, step)
    }

    /// Hears an acknowledgement of the block with this number on the wire.
    pub fn on_ack(&mut self, block: u16, now: Instant) -> Step {
        let window = match self.awaiting {
            Awaiting::OptionAck if block == 0 => {
                self.measure(now);
                self.doubled = !self.sent_once();
                return self.move_on(1, now);
            }
            Awaiting::OptionAck => return Step::Wait,
            Awaiting::Window(window) => window,
        };
        // How far the acknowledged block lies beyond the last one acknowledged before.
        let ahead = u64::from(block.wrapping_sub(on_wire(window.first - 1)));
        if ahead > window.count() {
            return Step::Wait; // of a block sent long ago, or never
        }
        let acknowledged = window.first - 1 + ahead;
        if acknowledged == self.last_block() {
            return Step::End(Ending::Complete);
        }
        if acknowledged < window.last {
            return self.on_gap(window, acknowledged, now);
        }
        self.measure(now);
        self.doubled = !self.sent_once();
        self.move_on(acknowledged + 1, now)
    }

    /// Hears an ERROR of the peer: it ends the transfer at once, whatever its code (RFC 1350, section 7).
    pub fn on_error(&self, code: u16) -> Ending {
        match self.awaiting {
            Awaiting::OptionAck => Ending::Probed,
            Awaiting::Window(_) => Ending::Aborted(code),
        }
    }

    /// Hears the request that began the transfer once more.
    pub fn on_request(&mut self, now: Instant) -> Repeated {
        let heard = match self.awaiting {
            Awaiting::OptionAck => false,
            Awaiting::Window(window) => window.first > 1 || self.granted.has_options(),
        };
        if !heard {
            self.tries = self.tries.max(1);
            Repeated::Again(self.send_again(now))
        } else if now < self.moved_at + ANEW_AFTER {
            Repeated::Again(Step::Wait)
        } else {
            Repeated::Anew
        }
    }

    /// Is told the time, at [`Self::deadline`] or at any other moment.
    pub fn on_timeout(&mut self, now: Instant) -> Step {
        if now < self.deadline {
            return Step::Wait;
        }
        if now >= self.moved_at + self.patience {
            return Step::End(Ending::Silent);
        }
        self.tries = self.tries.saturating_add(1);
        self.send_again(now)
    }

    /// Says when [`Self::on_timeout`] wants to be called next, unless the peer is heard before.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Says where the octets of a block lie in the file. The last block's span is shorter than the others,
    /// and may be empty.
    pub fn span(&self, block: u64) -> Range<u64> {
        let size = u64::from(self.granted.block_size);
        let start = block.saturating_sub(1).saturating_mul(size).min(self.size);
        start..start.saturating_add(size).min(self.size)
    }

    /// Appends the option acknowledgement's octets.
    pub fn option_ack(&self, out: &mut Vec<u8>) {
        self.granted.option_ack(self.size, out);
    }

    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// Says how many octets the peer has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        match self.awaiting {
            Awaiting::OptionAck => 0,
            Awaiting::Window(window) => self.span(window.first).start,
        }
    }

    /// Says how many blocks (and option acknowledgements) were sent more than once.
    pub fn resent_blocks(&self) -> u64 {
        self.resent_blocks
    }

    /// The first block that is shorter than the others ends the file, even if it is empty.
    fn last_block(&self) -> u64 {
        self.size / u64::from(self.granted.block_size) + 1
    }

    /// Hears the acknowledgement of a block before the window's last, or of the one before its first.
    ///
    /// In windows it is how a peer says that the next block was lost (RFC 7440, section 4), so the window is
    /// sent again from there; but not if blocks under way were sent twice already, because then the peer may
    /// just be acknowledging the second copies, unless that should have come to rest by now. In lockstep it
    /// is not answered before a retransmission would have been due: answering at once doubles every later
    /// packet (the sorcerer's apprentice, RFC 1123, section 4.2.3.1).
    fn on_gap(&mut self, window: Blocks, acknowledged: u64, now: Instant) -> Step {
        let moved = acknowledged >= window.first;
        let lockstep = self.granted.window == 1;
        let rest = match &self.round_trip {
            Some(known) if !lockstep => known.smoothed(),
            Some(known) => known.pause(),
            None => RETRY_FIRST,
        };
        let first_loss = !lockstep && self.sent_once() && !self.doubled;
        let repair = first_loss || now > self.sent_at + rest;
        if repair {
            self.doubled = true;
            self.resent_blocks += window.last - acknowledged;
            return if moved {
                self.move_on(acknowledged + 1, now)
            } else {
                self.tries = 1; // the peer lives
                self.send_from(window.first, now)
            };
        }
        if !moved {
            return Step::Wait;
        }
        // The window slides: what it now holds beyond its old end was never sent.
        let last = (acknowledged + u64::from(self.granted.window)).min(self.last_block());
        self.moved_at = now;
        self.awaiting = Awaiting::Window(Blocks { first: acknowledged + 1, last });
        if last == window.last {
            return Step::Wait;
        }
        Step::Data(Blocks { first: window.last + 1, last })
    }

    fn sent_once(&self) -> bool {
        self.tries == 0
    }

    fn move_on(&mut self, first: u64, now: Instant) -> Step {
        self.tries = 0;
        self.moved_at = now;
        self.send_from(first, now)
    }

    fn send_from(&mut self, first: u64, now: Instant) -> Step {
        let last = (first + u64::from(self.granted.window) - 1).min(self.last_block());
        let window = Blocks { first, last };
        self.awaiting = Awaiting::Window(window);
        self.arm(now);
        Step::Data(window)
    }

    fn send_again(&mut self, now: Instant) -> Step {
        self.arm(now);
        match self.awaiting {
            Awaiting::OptionAck => {
                self.resent_blocks += 1;
                Step::OptionAck
            }
            Awaiting::Window(window) => {
                self.resent_blocks += window.count();
                Step::Data(window)
            }
        }
    }

    fn arm(&mut self, now: Instant) {
        let learnt = || self.round_trip.as_ref().map_or(RETRY_FIRST, RoundTrip::pause);
        let pause = match self.granted.timeout {
            Some(asked) => asked,
            None => learnt().saturating_mul(1 << self.tries.min(10)).min(RETRY_MOST),
        };
        self.sent_at = now;
        self.deadline = (now + pause).min(self.moved_at + self.patience);
    }

    /// Learns from an answer to something that was sent once; of two copies nobody knows which one was
    /// answered (Karn's algorithm, RFC 6298, section 3).
    fn measure(&mut self, now: Instant) {
        if self.sent_once() {
            let sample = now.saturating_duration_since(self.sent_at);
            match &mut self.round_trip {
                Some(known) => known.learn(sample),
                None => self.round_trip = Some(RoundTrip::new(sample)),
            }
        }
    }
}

/// The number of a block on the wire.
pub fn on_wire(block: u64) -> u16 {
    (block & 0xffff) as u16
}

/// Is the peer's round trip, smoothed, and how far it strays (RFC 6298, section 2), in nanoseconds.
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
        Duration::from_nanos(self.smoothed + 4 * self.variation).clamp(RETRY_LEAST, RETRY_MOST)
    }
}

/// Bounded by an hour, so that the sums above cannot overflow.
fn nanoseconds(sample: Duration) -> u64 {
    let sample = sample.min(Duration::from_secs(3600));
    sample.as_secs() * 1_000_000_000 + u64::from(sample.subsec_nanos())
}

#[cfg(test)]
#[path = "tests/transfer.rs"]
mod tests;
