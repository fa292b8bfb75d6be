//! Addresses that are probed on the wire before they are offered, and the messages that wait for the result.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::fleet::Mac;

/// Time for the user of an address to answer a probe. Firmware waits for offers ten times as long.
const PROBE_TIMEOUT: Duration = Duration::from_millis(300);
/// Maximum number of addresses under probe. Beyond it addresses are offered without a probe.
const MAX_PROBES: usize = 8192;

/// The messages that wait for a probe. `M` is the message that is handled again.
#[derive(Debug)]
pub struct ConflictProbes<M> {
    waiting: HashMap<Ipv4Addr, (Mac, M)>,
    /// The deadlines in order of time, which is the order of insertion.
    ends: VecDeque<(Instant, Ipv4Addr)>,
}

impl<M> Default for ConflictProbes<M> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), ends: VecDeque::new() }
    }
}

impl<M> ConflictProbes<M> {
    /// Registers a message that waits for the probe of an address. Returns whether the probe must be sent.
    ///
    /// # Errors
    /// Too many messages wait; the message is returned.
    pub fn start(&mut self, address: Ipv4Addr, client: Mac, message: M, now: Instant) -> Result<bool, M> {
        if let Some(waiting) = self.waiting.get_mut(&address) {
            *waiting = (client, message);
            return Ok(false);
        }
        if self.waiting.len() >= MAX_PROBES {
            return Err(message);
        }
        self.waiting.insert(address, (client, message));
        self.ends.push_back((now + PROBE_TIMEOUT, address));
        Ok(true)
    }

    /// Removes the message whose address another host than its client uses.
    pub fn take_conflict(&mut self, address: Ipv4Addr, by: Option<Mac>) -> Option<M> {
        let (client, _) = self.waiting.get(&address)?;
        if by == Some(*client) {
            return None;
        }
        self.waiting.remove(&address).map(|(_, message)| message)
    }

    /// Removes the next message whose deadline has passed, with the address that no host claimed.
    pub fn take_unclaimed(&mut self, now: Instant) -> Option<(Ipv4Addr, M)> {
        loop {
            self.ends.front().filter(|(end, _)| *end <= now)?;
            let (_, address) = self.ends.pop_front()?;
            if let Some((_, message)) = self.waiting.remove(&address) {
                return Some((address, message));
            }
        }
    }

    /// Returns the time of the next deadline.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.ends.front().map(|(end, _)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn address(number: usize) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 + u32::try_from(number).unwrap())
    }

    #[test]
    fn a_message_waits_for_an_answer_or_the_deadline() {
        let (mut probing, start) = (ConflictProbes::default(), Instant::now());
        assert_eq!(probing.start(address(1), CLIENT, "a", start), Ok(true));
        assert_eq!(probing.start(address(2), CLIENT, "b", start), Ok(true));
        assert_eq!(probing.start(address(2), CLIENT, "b deferred", start), Ok(false));
        assert_eq!(probing.take_conflict(address(1), Some(CLIENT)), None, "its own client has it");
        assert_eq!(probing.take_conflict(address(1), Some(OTHER)), Some("a"));
        assert_eq!(probing.take_conflict(address(1), Some(OTHER)), None);
        assert_eq!(probing.take_unclaimed(start), None);
        assert_eq!(probing.next_deadline(), Some(start + PROBE_TIMEOUT));
        assert_eq!(probing.take_unclaimed(start + PROBE_TIMEOUT), Some((address(2), "b deferred")));
        assert_eq!((probing.take_unclaimed(start + PROBE_TIMEOUT), probing.next_deadline()), (None, None));
    }

    #[test]
    fn waiting_messages_are_bounded() {
        let (mut probing, start) = (ConflictProbes::default(), Instant::now());
        for number in 0..MAX_PROBES {
            assert_eq!(probing.start(address(number), CLIENT, number, start), Ok(true));
        }
        assert_eq!(probing.start(address(MAX_PROBES), CLIENT, MAX_PROBES, start), Err(MAX_PROBES));
    }
}
