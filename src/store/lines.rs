//! The timeline's last lines: what happens again and again is one line of it, with a count.

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::event::Entry;
use crate::fleet::Mac;

/// Is how many of a machine's last lines what happens again is looked for in: a boot by UEFI that goes round has
/// about ten different ones.
const BACK: usize = 16;
/// Is how long after its last time something is a line of its own again: a boot of another hour is another story.
/// A server whose boot goes round takes up to a quarter of an hour.
const APART: SignedDuration = SignedDuration::from_mins(30);
/// Is how long after its first time something is a line of its own again, however often it happened.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);
/// Bounds the machines whose last lines are remembered: some 25 MB. Of others, everything is a line of its own.
const MACHINES: usize = 4096;

/// Remembers the last lines of machines' timelines, the newest last.
#[derive(Debug, Default)]
pub struct TimelineCoalescer(HashMap<Option<Mac>, VecDeque<Line>>);

/// Is a line of the timeline as it is on disk.
#[derive(Debug, Clone)]
pub struct Line {
    pub id: i64,
    pub entry: Entry,
}

impl TimelineCoalescer {
    /// Finds the line that an entry is another time of, as it is with it. What lies beyond a milestone of the
    /// machine is another story.
    pub fn join(&self, entry: &Entry) -> Option<Line> {
        if entry.event.is_milestone() {
            return None;
        }
        let mut since = self.0.get(&entry.mac)?.iter().rev().take_while(|line| !line.entry.event.is_milestone());
        let line = since.find(|line| fits(&line.entry, entry))?;
        let joined = Entry {
            // A timeline tells of the last time: how long a transfer took, say.
            event: entry.event.clone(),
            count: line.entry.count.saturating_add(1),
            last: Some(entry.time),
            ..line.entry.clone()
        };
        Some(Line { id: line.id, entry: joined })
    }

    /// Remembers a line as it was written.
    pub fn keep(&mut self, line: Line) {
        if self.0.len() >= MACHINES && !self.0.contains_key(&line.entry.mac) {
            self.0.clear();
        }
        let lines = self.0.entry(line.entry.mac).or_default();
        if let Some(known) = lines.iter_mut().find(|known| known.id == line.id) {
            *known = line;
            return;
        }
        if lines.len() == BACK {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Forgets all of them: what was kept may not be what is on disk.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

fn fits(line: &Entry, entry: &Entry) -> bool {
    let since = |time: Timestamp| entry.time.duration_since(time);
    let is_soon = since(line.last.unwrap_or(line.time)) < APART && since(line.time) < LONGEST;
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

    /// Gives the lines that entries come to, as (count, event).
    fn lines(entries: Vec<Entry>) -> Vec<(u32, Event)> {
        let (mut lines, mut disk) = (TimelineCoalescer::default(), Vec::new());
        for entry in entries {
            let line = lines.join(&entry).unwrap_or(Line { id: disk.len() as i64, entry });
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
    fn what_happens_again_and_again_is_one_line() {
        let round = |at: i64| [entry(at, done(at as u64)), entry(at, script("live"))];
        let told = lines((0..300).flat_map(round).collect());
        assert_eq!(told, [(300, done(299)), (300, script("live"))]);
    }

    #[test]
    fn a_milestone_is_a_line_of_its_own_and_ends_what_was_before() {
        let mut entries = Vec::new();
        for at in 0..3 {
            entries.extend([entry(at, script("live")), entry(at, script("live")), entry(at, Event::BootCompleted {})]);
        }
        let told = lines(entries);
        let one = [(2, script("live")), (1, Event::BootCompleted {})];
        assert_eq!(told, [one.clone(), one.clone(), one].concat());
    }

    #[test]
    fn another_machine_is_another_line() {
        let mut other = entry(1, script("live"));
        other.mac = None;
        let told = lines(vec![entry(0, script("live")), other, entry(2, script("live"))]);
        assert_eq!(told.iter().map(|line| line.0).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn another_hour_or_another_day_is_another_line() {
        let counts = |every: i64, times: i64| {
            let told = lines((0..times).map(|number| entry(number * every, script("live"))).collect());
            told.iter().map(|line| line.0).collect::<Vec<_>>()
        };
        assert_eq!(counts(1799, 3), [3]);
        assert_eq!(counts(1800, 3), [1, 1, 1]);
        assert_eq!(counts(600, 24 * 6 + 1), [24 * 6, 1]);
    }

    #[test]
    fn it_is_bounded() {
        let mut lines = TimelineCoalescer::default();
        for number in 0..MACHINES as i64 * 2 {
            let mut one = entry(number, script("live"));
            let tail = (number as u32).to_be_bytes();
            one.mac = Some(Mac([2, 0, tail[0], tail[1], tail[2], tail[3]]));
            lines.keep(Line { id: number, entry: one });
        }
        assert!(lines.0.len() <= MACHINES);
        for number in 0..100 {
            lines.keep(Line { id: number, entry: entry(0, script(&number.to_string())) });
        }
        assert_eq!(lines.0[&Some(Mac([2, 0, 0, 0, 0, 1]))].len(), BACK);
    }
}
