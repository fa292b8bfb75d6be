//! Decides when a thread looks for the next command instead of sleeping until it comes.
//!
//! Waking a thread up costs more than a command of a CD's block: an interrupt to another core, and where that core is
//! a virtual machine's, two changes between guest and host. Who reads block after block pays that for each.

use std::time::Duration;

/// Is how long is looked for a command: about what falling asleep and being woken up takes.
const LOOK: Duration = Duration::from_micros(50);
/// Is after how many looks in vain looking is not worth it: the peer is too far away, or has nothing to ask.
const IN_VAIN: u32 = 4;
/// Is at which waits it is tried again, one in so many.
const TRY_AGAIN: u32 = 64;

/// Remembers whether looking for commands was worth it lately.
#[derive(Debug, Default)]
pub struct Patience {
    /// Counts the waits since a command came while it was looked for.
    in_vain: u32,
}

impl Patience {
    /// Says how long the next wait is spent looking; nothing where it is to be slept through.
    pub fn look(&mut self) -> Option<Duration> {
        if self.in_vain < IN_VAIN || self.in_vain.is_multiple_of(TRY_AGAIN) {
            return Some(LOOK);
        }
        self.in_vain = self.in_vain.wrapping_add(1);
        None
    }

    /// Takes word of a wait that was spent so: whether something came.
    pub fn waited(&mut self, came: bool) {
        self.in_vain = if came { 0 } else { self.in_vain.wrapping_add(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_far_peer_is_looked_out_for_at_few_waits_and_a_near_one_at_all() {
        let mut patience = Patience::default();
        for _ in 0..100 {
            assert!(patience.look().is_some());
            patience.waited(true);
        }
        let mut looks = 0;
        for _ in 0..6400 {
            if patience.look().is_some() {
                looks += 1;
                patience.waited(false);
            }
        }
        assert!((100..=110).contains(&looks), "{looks}");
        while patience.look().is_none() {}
        patience.waited(true);
        assert!(patience.look().is_some(), "the peer came nearer");
    }
}
