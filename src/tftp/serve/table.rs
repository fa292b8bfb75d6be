//! The table of open sessions and the queue of their timers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// The identifier of a session. It is never reused: `age` distinguishes the sessions of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    slot: u32,
    age: u32,
}

/// Sessions in slots that are reused, with at most a few timers for each.
#[derive(Debug)]
pub struct SessionTable<S> {
    slots: Vec<Slot<S>>,
    free: Vec<u32>,
    alarms: BinaryHeap<Reverse<(Instant, SessionId)>>,
}

#[derive(Debug)]
struct Slot<S> {
    age: u32,
    /// The earliest valid timer of the session. Later ones stay in the heap and are ignored.
    alarm: Option<Instant>,
    session: Option<S>,
}

impl<S> Default for SessionTable<S> {
    fn default() -> Self {
        SessionTable { slots: Vec::new(), free: Vec::new(), alarms: BinaryHeap::new() }
    }
}

impl<S> SessionTable<S> {
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn insert(&mut self, session: S) -> SessionId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { age: 0, alarm: None, session: None });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let held = &mut self.slots[slot as usize];
        held.session = Some(session);
        SessionId { slot, age: held.age }
    }

    pub fn session(&mut self, id: SessionId) -> Option<&mut S> {
        self.slot(id)?.session.as_mut()
    }

    pub fn remove(&mut self, id: SessionId) -> Option<S> {
        let slot = self.slot(id)?;
        let session = slot.session.take()?;
        slot.age = slot.age.wrapping_add(1);
        slot.alarm = None;
        self.free.push(id.slot);
        Some(session)
    }

    /// Returns the identifiers of all sessions.
    pub fn ids(&self) -> Vec<SessionId> {
        let held = self.slots.iter().zip(0u32..).filter(|(slot, _)| slot.session.is_some());
        held.map(|(slot, number)| SessionId { slot: number, age: slot.age }).collect()
    }

    /// Ensures that the session's timer expires by `at`. An earlier timer stays: most deadlines move with each packet,
    /// and the heap need not follow.
    pub fn arm(&mut self, id: SessionId, at: Instant) {
        let Some(slot) = self.slot(id) else { return };
        if slot.alarm.is_none_or(|set| at < set) {
            slot.alarm = Some(at);
            self.alarms.push(Reverse((at, id)));
        }
    }

    /// Removes and returns the next session whose timer has expired.
    pub fn next_expired(&mut self, now: Instant) -> Option<SessionId> {
        while let Some(&Reverse((at, id))) = self.alarms.peek() {
            if at > now {
                return None;
            }
            self.alarms.pop();
            if let Some(slot) = self.slot(id).filter(|slot| slot.alarm == Some(at)) {
                slot.alarm = None;
                return Some(id);
            }
        }
        None
    }

    /// Returns the time of the next timer, which may be an invalid one.
    pub fn next_alarm(&self) -> Option<Instant> {
        self.alarms.peek().map(|Reverse((at, _))| *at)
    }

    fn slot(&mut self, id: SessionId) -> Option<&mut Slot<S>> {
        self.slots.get_mut(id.slot as usize).filter(|slot| slot.age == id.age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_old_identifier_is_invalid_even_when_its_slot_is_reused() {
        let mut table = SessionTable::default();
        let first = table.insert("first");
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert("second");
        assert_eq!(table.session(first), None);
        assert_eq!((table.remove(first), table.len()), (None, 1));
        assert_eq!(table.session(second), Some(&mut "second"));
        assert_eq!(table.ids(), [second]);
    }

    #[test]
    fn the_earliest_timer_expires_once_and_later_ones_wait() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut table = SessionTable::default();
        let (a, b, gone) = (table.insert('a'), table.insert('b'), table.insert('c'));
        table.arm(a, at(30));
        table.arm(a, at(20));
        table.arm(a, at(40));
        table.arm(b, at(25));
        table.arm(gone, at(10));
        table.remove(gone);
        assert_eq!(table.next_expired(at(5)), None);
        assert_eq!(table.next_expired(at(22)), Some(a));
        assert_eq!(table.next_expired(at(22)), None);
        assert_eq!(table.next_expired(at(99)), Some(b));
        assert_eq!(table.next_expired(at(99)), None);
        assert_eq!(table.next_alarm(), None);
    }
}
