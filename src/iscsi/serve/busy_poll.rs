//! Decides whether a thread polls for the next command instead of sleeping until it comes.
//!
//! Waking a thread costs more than the command for one CD block: an interrupt to another core, and on a virtual machine
//! two switches between guest and host. An initiator that reads block by block pays that for each block.

use std::time::Duration;

/// Duration of one poll: about the cost of falling asleep and waking up.
const POLL_TIMEOUT: Duration = Duration::from_micros(50);
/// Maximum number of polls in a row without a command. After them polling stops: the peer is too far away, or idle.
const MAX_MISSES: u32 = 4;
/// Interval, in waits, at which a poll is tried again.
const RETRY_INTERVAL: u32 = 64;

/// The recent success of polling on one connection.
#[derive(Debug, Default)]
pub struct BusyPoll {
    /// Number of waits since the last command that came during a poll.
    misses: u32,
}

impl BusyPoll {
    /// Returns the duration of the next poll; `None` if the connection should sleep instead.
    pub fn next_poll(&mut self) -> Option<Duration> {
        if self.misses < MAX_MISSES || self.misses.is_multiple_of(RETRY_INTERVAL) {
            return Some(POLL_TIMEOUT);
        }
        self.misses = self.misses.wrapping_add(1);
        None
    }

    /// Records the result of a poll: whether a command came.
    pub fn record(&mut self, came: bool) {
        self.misses = if came { 0 } else { self.misses.wrapping_add(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_far_peer_is_polled_rarely_and_a_near_one_always() {
        let mut busy_poll = BusyPoll::default();
        for _ in 0..100 {
            assert!(busy_poll.next_poll().is_some());
            busy_poll.record(true);
        }
        let mut looks = 0;
        for _ in 0..6400 {
            if busy_poll.next_poll().is_some() {
                looks += 1;
                busy_poll.record(false);
            }
        }
        assert!((100..=110).contains(&looks), "{looks}");
        while busy_poll.next_poll().is_none() {}
        busy_poll.record(true);
        assert!(busy_poll.next_poll().is_some(), "the peer came nearer");
    }
}
