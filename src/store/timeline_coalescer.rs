//! Coalescing of repeated timeline entries: an event that is repeated is one line with a count.

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::event::Entry;
use crate::fleet::Mac;

/// Maximum number of recent lines of a machine that are searched for a repetition. A boot loop of a UEFI machine has
/// about ten different events.
const MAX_LINES_PER_MACHINE: usize = 16;
/// Maximum time since the last occurrence. One round of a server in a boot loop takes up to 15 minutes.
const MAX_PAUSE: SignedDuration = SignedDuration::from_mins(30);
/// Maximum time since the first occurrence.
const MAX_SPAN: SignedDuration = SignedDuration::from_hours(24);
/// Maximum number of machines whose recent lines are kept, about 25 MB. All are dropped when it is exceeded.
const MAX_MACHINES: usize = 4096;

/// The recent timeline lines of each machine, newest last.
#[derive(Debug, Default)]
pub struct TimelineCoalescer(HashMap<Option<Mac>, VecDeque<TimelineLine>>);

/// A line of the timeline as it is on disk.
#[derive(Debug, Clone)]
pub struct TimelineLine {
    /// Row identifier in the database.
    pub id: i64,
    /// The entry, with count and time of the last occurrence.
    pub entry: Entry,
}

impl TimelineCoalescer {
    /// Returns the line that an entry repeats, with the entry counted in. Lines before the last milestone of the
    /// machine do not count.
    pub fn join(&self, entry: &Entry) -> Option<TimelineLine> {
        if entry.event.is_milestone() {
            return None;
        }
        let mut since = self.0.get(&entry.mac)?.iter().rev().take_while(|line| !line.entry.event.is_milestone());
        let line = since.find(|line| fits(&line.entry, entry))?;
        let joined = Entry {
            // The details are those of the last occurrence, such as the duration of a transfer.
            event: entry.event.clone(),
            count: line.entry.count.saturating_add(1),
            last: Some(entry.time),
            ..line.entry.clone()
        };
        Some(TimelineLine { id: line.id, entry: joined })
    }

    /// Keeps a line as it was written.
    pub fn keep(&mut self, line: TimelineLine) {
        if self.0.len() >= MAX_MACHINES && !self.0.contains_key(&line.entry.mac) {
            self.0.clear();
        }
        let lines = self.0.entry(line.entry.mac).or_default();
        if let Some(known) = lines.iter_mut().find(|known| known.id == line.id) {
            *known = line;
            return;
        }
        if lines.len() == MAX_LINES_PER_MACHINE {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Drops the lines of a machine, before a milestone that is no line.
    pub fn forget(&mut self, mac: Mac) {
        self.0.remove(&Some(mac));
    }

    /// Drops all lines, when they may differ from those on disk.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

fn fits(line: &Entry, entry: &Entry) -> bool {
    let since = |time: Timestamp| entry.time.duration_since(time);
    let is_soon = since(line.last.unwrap_or(line.time)) < MAX_PAUSE && since(line.time) < MAX_SPAN;
    is_soon && line.host == entry.host && line.event.is_repeat_of(&entry.event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, ScriptAction};

    fn entry(second: i64, event: Event) -> Entry {
        let time = Timestamp::from_second(second).unwrap();
        Entry { time, last: None, count: 1, mac: Some(Mac([2, 0, 0, 0, 0, 1])), host: "vm".parse().ok(), event }
    }

    fn script(image: &str) -> Event {
        Event::Script { action: ScriptAction::Boot, image: image.parse().ok(), reason: None }
    }

    fn done(milliseconds: u64) -> Event {
        Event::TftpCompleted { file: "p.efi".into(), bytes: 10, milliseconds, resent: 0 }
    }

    /// Returns the lines that result from entries, as (count, event).
    fn lines(entries: Vec<Entry>) -> Vec<(u32, Event)> {
        let (mut lines, mut disk) = (TimelineCoalescer::default(), Vec::new());
        for entry in entries {
            let line = lines.join(&entry).unwrap_or(TimelineLine { id: disk.len() as i64, entry });
            let at = line.id as usize;
            disk.truncate(disk.len().max(at));
            match at < disk.len() {
                true => disk[at] = line.entry.clone(),
                false => disk.push(line.entry.clone()),
            }
            lines.keep(line);
        }
        disk.into_iter().map(|entry| (entry.count, entry.event)).collect()
    }

    #[test]
    fn a_repeated_event_is_one_line() {
        let round = |at: i64| [entry(at, done(at as u64)), entry(at, script("live"))];
        let written = lines((0..300).flat_map(round).collect());
        assert_eq!(written, [(300, done(299)), (300, script("live"))]);
    }

    #[test]
    fn a_milestone_is_not_coalesced_and_ends_the_lines_before() {
        let mut entries = Vec::new();
        for at in 0..3 {
            entries.extend([entry(at, script("live")), entry(at, script("live")), entry(at, Event::BootCompleted {})]);
        }
        let written = lines(entries);
        let one = [(2, script("live")), (1, Event::BootCompleted {})];
        assert_eq!(written, [one.clone(), one.clone(), one].concat());
    }

    #[test]
    fn events_of_two_machines_are_two_lines() {
        let mut other = entry(1, script("live"));
        other.mac = None;
        let written = lines(vec![entry(0, script("live")), other, entry(2, script("live"))]);
        assert_eq!(written.iter().map(|line| line.0).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn a_long_pause_or_a_long_span_begins_a_new_line() {
        let counts = |every: i64, times: i64| {
            let written = lines((0..times).map(|number| entry(number * every, script("live"))).collect());
            written.iter().map(|line| line.0).collect::<Vec<_>>()
        };
        assert_eq!(counts(1799, 3), [3]);
        assert_eq!(counts(1800, 3), [1, 1, 1]);
        assert_eq!(counts(600, 24 * 6 + 1), [24 * 6, 1]);
    }

    #[test]
    fn machines_and_lines_are_bounded() {
        let mut lines = TimelineCoalescer::default();
        for number in 0..MAX_MACHINES as i64 * 2 {
            let mut one = entry(number, script("live"));
            let tail = (number as u32).to_be_bytes();
            one.mac = Some(Mac([2, 0, tail[0], tail[1], tail[2], tail[3]]));
            lines.keep(TimelineLine { id: number, entry: one });
        }
        assert!(lines.0.len() <= MAX_MACHINES);
        for number in 0..100 {
            lines.keep(TimelineLine { id: number, entry: entry(0, script(&number.to_string())) });
        }
        assert_eq!(lines.0[&Some(Mac([2, 0, 0, 0, 0, 1]))].len(), MAX_LINES_PER_MACHINE);
    }
}
