//! Addresses that are asked for on the wire before they are offered, and the messages that wait for it.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::fleet::Mac;

/// Is how long somebody who uses an address has to say so; firmware waits for offers ten times as long.
const WAIT: Duration = Duration::from_millis(300);
/// Bounds the addresses that are asked for at one time; beyond it they are offered unasked.
const AT_ONCE: usize = 8192;

/// Holds what waits. `M` is the message that is answered anew.
#[derive(Debug)]
pub struct Probing<M> {
    waiting: HashMap<Ipv4Addr, (Mac, M)>,
    /// Holds the ends of the waits in their order, which is that of their beginnings.
    ends: VecDeque<(Instant, Ipv4Addr)>,
}

impl<M> Default for Probing<M> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), ends: VecDeque::new() }
    }
}

impl<M> Probing<M> {
    /// Lets a message wait for what comes of its probe; says whether the probe is to be sent.
    ///
    /// # Errors
    /// Too many wait: the message comes back.
    pub fn begin(&mut self, address: Ipv4Addr, client: Mac, message: M, now: Instant) -> Result<bool, M> {
        if let Some(waiting) = self.waiting.get_mut(&address) {
            *waiting = (client, message);
            return Ok(false);
        }
        if self.waiting.len() >= AT_ONCE {
            return Err(message);
        }
        self.waiting.insert(address, (client, message));
        self.ends.push_back((now + WAIT, address));
        Ok(true)
    }

    /// Takes the message out of which the address is found in use by another card than its client's.
    pub fn answered(&mut self, address: Ipv4Addr, by: Option<Mac>) -> Option<M> {
        let (client, _) = self.waiting.get(&address)?;
        if by == Some(*client) {
            return None;
        }
        self.waiting.remove(&address).map(|(_, message)| message)
    }

    /// Takes the next message whose wait is over, with the address that nobody claimed.
    pub fn quiet(&mut self, now: Instant) -> Option<(Ipv4Addr, M)> {
        loop {
            self.ends.front().filter(|(end, _)| *end <= now)?;
            let (_, address) = self.ends.pop_front()?;
            if let Some((_, message)) = self.waiting.remove(&address) {
                return Some((address, message));
            }
        }
    }

    /// Says when the next wait is over.
    pub fn next(&self) -> Option<Instant> {
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
    fn a_message_waits_until_somebody_answers_or_nobody_does() {
        let (mut probing, start) = (Probing::default(), Instant::now());
        assert_eq!(probing.begin(address(1), CLIENT, "a", start), Ok(true));
        assert_eq!(probing.begin(address(2), CLIENT, "b", start), Ok(true));
        assert_eq!(probing.begin(address(2), CLIENT, "b again", start), Ok(false));
        assert_eq!(probing.answered(address(1), Some(CLIENT)), None, "its own client has it");
        assert_eq!(probing.answered(address(1), Some(OTHER)), Some("a"));
        assert_eq!(probing.answered(address(1), Some(OTHER)), None);
        assert_eq!(probing.quiet(start), None);
        assert_eq!(probing.next(), Some(start + WAIT));
        assert_eq!(probing.quiet(start + WAIT), Some((address(2), "b again")));
        assert_eq!((probing.quiet(start + WAIT), probing.next()), (None, None));
    }

    #[test]
    fn what_waits_is_bounded() {
        let (mut probing, start) = (Probing::default(), Instant::now());
        for number in 0..AT_ONCE {
            assert_eq!(probing.begin(address(number), CLIENT, number, start), Ok(true));
        }
        assert_eq!(probing.begin(address(AT_ONCE), CLIENT, AT_ONCE, start), Err(AT_ONCE));
    }
}
