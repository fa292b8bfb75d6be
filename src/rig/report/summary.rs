//! The report of a run for people. Pure.

use super::super::plan::Goal;
use super::super::progress::{GoalState, seconds};

/// An expectation with its state and the name of its machine.
pub type Case<'a> = (&'a str, &'a Goal, &'a GoalState);

/// Returns what an expectation is about.
pub fn title(goal: &Goal) -> String {
    if goal.is_forbidden { format!("never {}", goal.condition) } else { goal.condition.to_string() }
}

/// Returns the line of an expectation's state.
pub fn line(machine: &str, goal: &Goal, state: &GoalState) -> String {
    let title = title(goal);
    match state {
        GoalState::Pending => format!("{machine}: waits for {title}"),
        GoalState::Met(since, at) => format!("{machine}: {title}: met after {}", seconds(at.saturating_sub(*since))),
        GoalState::Failed(_, _, reason) => format!("{machine}: {title}: NOT MET: {reason}"),
        GoalState::Skipped => format!("{machine}: {title}: skipped"),
    }
}

/// Returns the summary of a run in Markdown, as GitHub shows it.
pub fn markdown(name: &str, cases: &[Case<'_>]) -> String {
    let mut text = format!("### {name}\n\n| machine | expected | result |\n|---|---|---|\n");
    for (machine, goal, state) in cases {
        let result = match state {
            GoalState::Met(since, at) => format!("met after {}", seconds(at.saturating_sub(*since))),
            GoalState::Failed(_, _, reason) => format!("**not met**: {reason}"),
            GoalState::Pending => "not decided".to_owned(),
            GoalState::Skipped => "skipped".to_owned(),
        };
        text += &format!("| {machine} | {} | {result} |\n", title(goal).replace('|', "\\|"));
    }
    text
}

/// Returns a failed expectation as GitHub's runner marks a line of a file.
pub fn github_error(spec: &str, machine: &str, goal: &Goal, reason: &str) -> String {
    let message = format!("{machine}: {}: {reason}", title(goal)).replace('%', "%25").replace(['\n', '\r'], " ");
    format!("::error file={spec},line={}::{message}", goal.line)
}
