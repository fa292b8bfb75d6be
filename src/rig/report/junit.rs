//! The report of a run as JUnit writes it, which CI systems read: one test case an expectation. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use crate::fleet::text::printable_lines;

use super::super::progress::GoalState;
use super::summary::{Case, title};

/// Writes the report. `details` has the diagnosis of a machine that failed.
pub fn report(name: &str, cases: &[Case<'_>], total: Duration, details: impl Fn(&str) -> String) -> String {
    let count = |wanted: fn(&GoalState) -> bool| cases.iter().filter(|(.., state)| wanted(state)).count();
    let failures = count(|state| matches!(state, GoalState::Failed(..)));
    let skipped = count(|state| *state == GoalState::Skipped);
    let undecided = count(|state| *state == GoalState::Pending);
    let (name, time) = (escaped(name), total.as_secs_f64());
    let head = format!("name=\"{name}\" tests=\"{}\" failures=\"{failures}\" errors=\"{undecided}\"", cases.len());
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {head} time=\"{time:.3}\">\n\
         <testsuite {head} skipped=\"{skipped}\" time=\"{time:.3}\">\n"
    );
    for (machine, goal, state) in cases {
        let took = match state {
            GoalState::Met(since, at) | GoalState::Failed(since, at, _) => at.saturating_sub(*since),
            GoalState::Pending | GoalState::Skipped => Duration::ZERO,
        };
        let (class, case) = (escaped(&format!("{name}.{machine}")), escaped(&title(goal)));
        let _ = write!(xml, "<testcase classname=\"{class}\" name=\"{case}\" time=\"{:.3}\"", took.as_secs_f64());
        let _ = match state {
            GoalState::Met(..) => writeln!(xml, "/>"),
            GoalState::Failed(_, _, reason) => {
                let (reason, details) = (escaped(reason), escaped(&details(machine)));
                writeln!(xml, "><failure message=\"{reason}\">{details}</failure></testcase>")
            }
            GoalState::Pending => {
                writeln!(xml, "><error message=\"the rig was ended before it was decided\"/></testcase>")
            }
            GoalState::Skipped => writeln!(xml, "><skipped/></testcase>"),
        };
    }
    xml + "</testsuite>\n</testsuites>\n"
}

/// Escapes a text for an element or an attribute. XML has no way to write most control characters.
fn escaped(text: &str) -> String {
    let text = printable_lines(text);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::super::plan::{Goal, Sought};
    use super::*;

    #[test]
    fn a_report_has_a_case_for_each_expectation() {
        let goal = |text: &str| Goal {
            machine: 0,
            condition: Sought::Console(text.into()),
            is_forbidden: false,
            limit: Some(Duration::from_secs(9)),
            press: Vec::new(),
            line: 1,
        };
        let goals = [goal("a<b"), goal("\u{1b}c"), goal("d"), goal("e")];
        let second = Duration::from_secs(1);
        let states = [
            GoalState::Met(Duration::ZERO, second),
            GoalState::Failed(second, second * 3, "not within 2.0 s".into()),
            GoalState::Skipped,
            GoalState::Pending,
        ];
        let cases: Vec<Case<'_>> = goals.iter().zip(&states).map(|(goal, state)| ("vm", goal, state)).collect();
        let xml = report("r", &cases, second * 3, |_| "why & where".into());
        for part in [
            "tests=\"4\" failures=\"1\" errors=\"1\" skipped=\"1\" time=\"3.000\"",
            "<testcase classname=\"r.vm\" name=\"console &quot;a&lt;b&quot;\" time=\"1.000\"/>",
            "time=\"2.000\"><failure message=\"not within 2.0 s\">why &amp; where</failure></testcase>",
            "><skipped/></testcase>",
            "><error message=\"the rig was ended before it was decided\"/></testcase>",
        ] {
            assert!(xml.contains(part), "{part}: {xml}");
        }
    }
}
