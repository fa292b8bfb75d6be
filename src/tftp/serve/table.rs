//! The sessions under way, by number, and the order in which their clocks ring.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Names a session. A number that was given up never comes to mean another session: `age` sees to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    slot: u32,
    age: u32,
}

/// Holds sessions in slots that are used again, and at most a few alarms for each.
#[derive(Debug)]
pub struct Table<S> {
    slots: Vec<Slot<S>>,
    free: Vec<u32>,
    alarms: BinaryHeap<Reverse<(Instant, Id)>>,
}

#[derive(Debug)]
struct Slot<S> {
    age: u32,
    /// When the soonest alarm that counts will ring; later ones are left in the heap and ignored.
    alarm: Option<Instant>,
    session: Option<S>,
}

impl<S> Default for Table<S> {
    fn default() -> Self {
        Table { slots: Vec::new(), free: Vec::new(), alarms: BinaryHeap::new() }
    }
}

impl<S> Table<S> {
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn insert(&mut self, session: S) -> Id {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { age: 0, alarm: None, session: None });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let held = &mut self.slots[slot as usize];
        held.session = Some(session);
        Id { slot, age: held.age }
    }

    pub fn session(&mut self, id: Id) -> Option<&mut S> {
        self.slot(id)?.session.as_mut()
    }

    pub fn remove(&mut self, id: Id) -> Option<S> {
        let slot = self.slot(id)?;
        let session = slot.session.take()?;
        slot.age = slot.age.wrapping_add(1);
        slot.alarm = None;
        self.free.push(id.slot);
        Some(session)
    }

    /// Lists the sessions there are.
    pub fn ids(&self) -> Vec<Id> {
        let held = self.slots.iter().zip(0u32..).filter(|(slot, _)| slot.session.is_some());
        held.map(|(slot, number)| Id { slot: number, age: slot.age }).collect()
    }

    /// Sees to it that the session's alarm rings by `at`. An alarm that is set already and rings sooner
    /// stays: most deadlines move on with each packet, and the heap need not follow each.
    pub fn ring_by(&mut self, id: Id, at: Instant) {
        let Some(slot) = self.slot(id) else { return };
        if slot.alarm.is_none_or(|set| at < set) {
            slot.alarm = Some(at);
            self.alarms.push(Reverse((at, id)));
        }
    }

    /// Takes the next session whose alarm has rung.
    pub fn rung(&mut self, now: Instant) -> Option<Id> {
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

    /// Says when the next alarm rings, be it one that no longer counts.
    pub fn next_alarm(&self) -> Option<Instant> {
        self.alarms.peek().map(|Reverse((at, _))| *at)
    }

    fn slot(&mut self, id: Id) -> Option<&mut Slot<S>> {
        self.slots.get_mut(id.slot as usize).filter(|slot| slot.age == id.age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_number_given_up_names_nothing_even_when_its_slot_is_used_again() {
        let mut table = Table::default();
        let first = table.insert("first");
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert("second");
        assert_eq!(table.session(first), None);
        assert_eq!((table.remove(first), table.len()), (None, 1));
        assert_eq!(table.session(second), Some(&mut "second"));
        assert_eq!(table.ids(), [second]);
    }

    #[test]
    fn the_soonest_alarm_rings_once_and_later_ones_wait() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut table = Table::default();
        let (a, b, gone) = (table.insert('a'), table.insert('b'), table.insert('c'));
        table.ring_by(a, at(30));
        table.ring_by(a, at(20));
        table.ring_by(a, at(40));
        table.ring_by(b, at(25));
        table.ring_by(gone, at(10));
        table.remove(gone);
        assert_eq!(table.rung(at(5)), None);
        assert_eq!(table.rung(at(22)), Some(a));
        assert_eq!(table.rung(at(22)), None);
        assert_eq!(table.rung(at(99)), Some(b));
        assert_eq!(table.rung(at(99)), None);
        assert_eq!(table.next_alarm(), None);
    }
}
