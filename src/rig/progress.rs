//! How far the machines of a rig are with what is expected of them. Pure: times are arguments, counted from power-on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::plan::{Goal, Sought};

/// Number of the console's lines that a report shows.
const LAST_LINES: usize = 12;
/// Maximum number of characters of each.
const MAX_LINE: usize = 200;
/// Maximum length of the text of a console that is searched.
const MAX_TEXT: usize = 1 << 20;

/// What is known of a machine.
#[derive(Debug, Default)]
pub struct Seen {
    /// The end of the console's text.
    pub console: ConsoleText,
    /// Phases that its host was in.
    pub phases: BTreeSet<String>,
    /// Number of its host's events by name.
    pub events: BTreeMap<String, u64>,
    /// Reason code of its host's diagnosis.
    pub diagnosis: Option<String>,
    /// Whether QEMU has ended.
    pub has_ended: bool,
}

/// The end of a console's text, with offsets into the whole text.
#[derive(Debug, Default)]
pub struct ConsoleText {
    text: String,
    /// Offset of the text that is kept.
    start: usize,
}

impl ConsoleText {
    /// Appends text.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
        if self.text.len() > 2 * MAX_TEXT {
            let cut = (self.text.len() - MAX_TEXT..).find(|at| self.text.is_char_boundary(*at)).unwrap_or(0);
            self.text.drain(..cut);
            self.start += cut;
        }
    }

    /// Returns the last lines that are not empty, each with a mark before it: GitHub's runner takes a line that begins with
    /// two colons for a command.
    pub fn last_lines(&self) -> String {
        let lines = self.text.lines().rev().map(str::trim_end).filter(|line| !line.is_empty());
        let cut = |line: &str| format!("| {}", line.chars().take(MAX_LINE).collect::<String>());
        let mut lines: Vec<_> = lines.take(LAST_LINES).map(cut).collect();
        lines.reverse();
        lines.join("\n")
    }

    /// Returns the offset after the first occurrence of a text at an offset or later.
    fn find(&self, text: &str, from: usize) -> Option<usize> {
        let from = from.saturating_sub(self.start).min(self.text.len());
        let from = (0..=from).rev().find(|at| self.text.is_char_boundary(*at))?;
        let at = self.text[from..].find(text)?;
        Some(self.start + from + at + text.len())
    }

    /// Returns the offset from which a text that was not found may still begin.
    fn searched(&self, text: &str) -> usize {
        (self.start + self.text.len()).saturating_sub(text.len().saturating_sub(1))
    }
}

/// The state of an expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GoalState {
    /// It is waited for, or its turn did not come.
    Pending,
    /// It is met; with the time of its machine's expectation before it, and that of its own.
    Met(Duration, Duration),
    /// It is not met, with the same times and the reason.
    Failed(Duration, Duration, String),
    /// Another one of its machine failed before its turn came.
    Skipped,
}

/// The expectations of a rig, and how far they are.
#[derive(Debug)]
pub struct Progress {
    goals: Vec<Goal>,
    states: Vec<GoalState>,
    /// Offset up to which the console was searched for each.
    searched: Vec<usize>,
    machines: Vec<Position>,
}

/// How far a machine is.
#[derive(Debug, Default, Clone)]
struct Position {
    /// Time of the last expectation that was met.
    since: Duration,
    /// Offset in the console after the last text that was found.
    console: usize,
    /// Number of events that expectations were met by.
    events: BTreeMap<String, u64>,
}

impl Progress {
    /// Creates the state of a rig's expectations. Their limits are multiplied by that of their machine.
    pub fn new(mut goals: Vec<Goal>, factors: &[u32]) -> Self {
        for goal in &mut goals {
            goal.limit = goal.limit.map(|limit| limit * factors[goal.machine]);
        }
        let states = vec![GoalState::Pending; goals.len()];
        let searched = vec![0; goals.len()];
        Self { goals, states, searched, machines: vec![Position::default(); factors.len()] }
    }

    /// Returns the expectations with their states.
    pub fn states(&self) -> impl Iterator<Item = (&Goal, &GoalState)> {
        self.goals.iter().zip(&self.states)
    }

    /// Returns whether nothing is waited for any more.
    pub fn is_over(&self) -> bool {
        !self.states.contains(&GoalState::Pending)
    }

    /// Returns whether nothing is waited for but what must not happen until the end.
    pub fn is_decided(&self) -> bool {
        self.states().all(|(goal, state)| goal.is_until_end() || *state != GoalState::Pending)
    }

    /// Returns whether all expectations are met.
    pub fn is_met(&self) -> bool {
        self.states.iter().all(|state| matches!(state, GoalState::Met(..)))
    }

    /// Takes in what is known of a machine; returns the expectations that are decided by it.
    pub fn advance(&mut self, machine: usize, seen: &Seen, now: Duration) -> Vec<usize> {
        let mut decided = self.check_forbidden(machine, seen, now);
        while let Some(index) = self.next_of(machine) {
            let goal = &self.goals[index];
            let position = &mut self.machines[machine];
            let since = position.since;
            let limit = goal.limit.unwrap_or_default();
            if position.meets(&goal.condition, seen, &mut self.searched[index]) {
                position.since = now;
                self.states[index] = GoalState::Met(since, now);
                decided.push(index);
                continue;
            }
            let is_console = matches!(goal.condition, Sought::Console(_));
            let reason = if now.saturating_sub(since) >= limit {
                format!("not within {}", seconds(limit))
            } else if seen.has_ended && is_console {
                "the machine has ended".to_owned()
            } else {
                break;
            };
            self.states[index] = GoalState::Failed(since, now, reason);
            decided.push(index);
            self.skip_rest(machine);
            break;
        }
        decided
    }

    /// Fails an expectation that was met: what follows from it could not be done. The rest of the machine's list is skipped,
    /// with what was met at the same time.
    pub fn fail(&mut self, index: usize, reason: String) {
        let GoalState::Met(since, at) = self.states[index] else { return };
        let machine = self.goals[index].machine;
        let later = self.goals.iter().zip(&mut self.states).skip(index);
        later
            .filter(|(goal, _)| goal.machine == machine && !goal.is_forbidden)
            .for_each(|(_, state)| *state = GoalState::Skipped);
        self.states[index] = GoalState::Failed(since, at, reason);
    }

    /// Returns the expectation that a machine waits for.
    pub fn next_of(&self, machine: usize) -> Option<usize> {
        let is_open = |index: &usize| {
            let goal = &self.goals[*index];
            goal.machine == machine && !goal.is_forbidden && self.states[*index] == GoalState::Pending
        };
        (0..self.goals.len()).find(is_open)
    }

    fn check_forbidden(&mut self, machine: usize, seen: &Seen, now: Duration) -> Vec<usize> {
        let mut decided = Vec::new();
        for (index, goal) in self.goals.iter().enumerate() {
            if goal.machine != machine || !goal.is_forbidden || self.states[index] != GoalState::Pending {
                continue;
            }
            // It counts from the beginning, whatever other expectations have found.
            if Position::default().meets(&goal.condition, seen, &mut self.searched[index]) {
                self.states[index] = GoalState::Failed(Duration::ZERO, now, "it happened".to_owned());
            } else if goal.limit.is_some_and(|limit| now >= limit) {
                self.states[index] = GoalState::Met(Duration::ZERO, now);
            } else {
                continue;
            }
            decided.push(index);
        }
        decided
    }

    /// Ends the waits for what must not happen until the end, once everything else is decided. All machines were advanced with
    /// what was read after that.
    pub fn close_forbidden(&mut self) {
        if !self.is_decided() {
            return;
        }
        let end = self.machines.iter().map(|position| position.since).max().unwrap_or_default();
        for (goal, state) in self.goals.iter().zip(&mut self.states) {
            if goal.is_until_end() && *state == GoalState::Pending {
                *state = GoalState::Met(Duration::ZERO, end);
            }
        }
    }

    fn skip_rest(&mut self, machine: usize) {
        for (goal, state) in self.goals.iter().zip(&mut self.states) {
            if goal.machine == machine && !goal.is_forbidden && *state == GoalState::Pending {
                *state = GoalState::Skipped;
            }
        }
    }
}

impl Position {
    /// Returns whether a condition is met; what meets it does not meet another one. `searched` is how far the console was
    /// searched for it.
    fn meets(&mut self, condition: &Sought, seen: &Seen, searched: &mut usize) -> bool {
        match condition {
            Sought::Phase(phase) => seen.phases.contains(phase),
            Sought::Diagnosis(reason) => seen.diagnosis.as_ref() == Some(reason),
            Sought::Console(text) => match seen.console.find(text, self.console.max(*searched)) {
                Some(end) => {
                    self.console = end;
                    true
                }
                None => {
                    *searched = seen.console.searched(text);
                    false
                }
            },
            Sought::Event(event) => {
                let used = self.events.entry(event.clone()).or_default();
                let is_new = seen.events.get(event).is_some_and(|number| number > used);
                *used += u64::from(is_new);
                is_new
            }
        }
    }
}

/// Formats a time: `5.1 s`.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(condition: Sought, is_forbidden: bool, limit: Option<u64>) -> Goal {
        let limit = limit.map(Duration::from_secs);
        Goal { machine: 0, condition, is_forbidden, limit, press: Vec::new(), line: 1 }
    }

    fn console(text: &str, limit: u64) -> Goal {
        goal(Sought::Console(text.into()), false, Some(limit))
    }

    #[test]
    fn expectations_are_met_in_their_order_and_each_text_once() {
        let event = |limit| goal(Sought::Event("offer".into()), false, Some(limit));
        let goals = vec![console("login:", 10), event(10), console("login:", 10), event(10)];
        let mut progress = Progress::new(goals, &[2]);
        let mut seen = Seen::default();
        seen.events.insert("offer".into(), 1);
        seen.console.push("log");
        assert!(progress.advance(0, &seen, Duration::from_secs(1)).is_empty());
        seen.console.push("in: ");
        assert_eq!(progress.advance(0, &seen, Duration::from_secs(19)), [0, 1], "limits are stretched");
        assert!(progress.advance(0, &seen, Duration::from_secs(30)).is_empty(), "the limit counts from the last one");
        seen.console.push("\nlogin: ");
        assert_eq!(progress.advance(0, &seen, Duration::from_secs(31)), [2]);
        assert_eq!(progress.advance(0, &seen, Duration::from_secs(51)), [3]);
        assert!(progress.is_over() && !progress.is_met());
    }

    #[test]
    fn what_cannot_be_done_after_an_expectation_fails_it() {
        let mut progress = Progress::new(vec![console("a", 5), console("b", 5), console("c", 5)], &[1]);
        let mut seen = Seen::default();
        seen.console.push("ab");
        assert_eq!(progress.advance(0, &seen, Duration::from_secs(1)), [0, 1]);
        progress.fail(0, "no such key".into());
        let failed = GoalState::Failed(Duration::ZERO, Duration::from_secs(1), "no such key".into());
        assert_eq!(progress.states, [failed, GoalState::Skipped, GoalState::Skipped]);
    }

    #[test]
    fn a_text_that_comes_in_parts_is_found() {
        let mut progress = Progress::new(vec![console("größe", 60), console("ße", 60)], &[1]);
        let mut seen = Seen::default();
        for part in ["ö", "ßgr", "ö"] {
            seen.console.push(part);
            assert!(progress.advance(0, &seen, Duration::ZERO).is_empty());
        }
        seen.console.push("ße");
        assert_eq!(progress.advance(0, &seen, Duration::ZERO), [0], "what one text is part of is no other");
        seen.console.push("ße");
        assert_eq!(progress.advance(0, &seen, Duration::ZERO), [1]);
    }

    #[test]
    fn the_rest_of_a_failed_machine_is_skipped() {
        let mut progress = Progress::new(vec![console("a", 5), console("b", 5)], &[1]);
        let seen = Seen { has_ended: true, ..Seen::default() };
        assert_eq!(progress.advance(0, &seen, Duration::from_secs(1)), [0]);
        let states: Vec<_> = progress.states().map(|(_, state)| state.clone()).collect();
        let failed = GoalState::Failed(Duration::ZERO, Duration::from_secs(1), "the machine has ended".into());
        assert_eq!(states, [failed, GoalState::Skipped]);
    }

    #[test]
    fn what_must_not_happen_is_watched_until_its_limit_or_the_end() {
        let never = |limit| goal(Sought::Event("refused".into()), true, limit);
        let mut progress = Progress::new(vec![never(Some(5)), never(None), console("up", 60)], &[1]);
        let mut seen = Seen::default();
        assert_eq!(progress.advance(0, &seen, Duration::from_secs(5)), [0]);
        assert!(!progress.is_over());
        seen.console.push("up");
        assert_eq!(progress.advance(0, &seen, Duration::from_secs(6)), [2]);
        assert!(!progress.is_over(), "a look at the hosts is due");
        progress.close_forbidden();
        assert!(progress.is_over() && progress.is_met());
        let mut progress = Progress::new(vec![never(None), console("up", 60)], &[1]);
        progress.close_forbidden();
        progress.advance(0, &seen, Duration::from_secs(6));
        seen.events.insert("refused".into(), 1);
        assert_eq!(progress.advance(0, &seen, Duration::from_secs(7)), [0], "the event is read after the last text");
        progress.close_forbidden();
        assert!(!progress.is_met());
    }

    #[test]
    fn the_text_is_bounded_and_offsets_stay() {
        let mut console = ConsoleText::default();
        console.push("begin ");
        for _ in 0..3 * MAX_TEXT / 4 {
            console.push("äää");
        }
        console.push("end");
        assert!(console.text.len() <= 2 * MAX_TEXT);
        assert!(console.find("begin", 0).is_none() && console.find("end", 0).is_some());
        console.push("\n\n");
        (0..14).for_each(|line| console.push(&format!("line {line}\n \n")));
        let last = console.last_lines();
        assert!(last.starts_with("| line 2\n") && last.ends_with("\n| line 13"), "{last}");
        console.push(&"ä".repeat(3 * MAX_LINE));
        assert_eq!(console.last_lines().lines().last().unwrap().chars().count(), MAX_LINE + 2);
    }
}
