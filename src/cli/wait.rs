//! `bootlatch wait`: until objects are in a state.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::client::{ApiClient, ClientError, is_not_found, seconds};
use super::connection::ConnectionArgs;
use super::exit::UsageError;
use super::lookup;
use super::reference::{Wanted, kind_and_name, object_path, plural_word};
use super::refusals::Refusals;
use super::show::{note, print};
use super::watch::is_unavailable;

/// Time that the command waits without `--timeout`.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two looks at an object.
const PAUSE: Duration = Duration::from_millis(500);

/// The state that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// A condition has a status.
    Condition {
        /// Type of the condition.
        name: String,
        /// Status of the condition.
        status: String,
    },
    /// The phase has a value.
    Phase(String),
    /// The object does not exist.
    Deleted,
}

impl std::str::FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<_> = text.split('=').collect();
        match parts.as_slice() {
            ["delete"] => Ok(Self::Deleted),
            ["phase", phase] if !phase.is_empty() => Ok(Self::Phase((*phase).to_owned())),
            ["condition", name] if !name.is_empty() => Ok(Self::condition(name, "True")),
            ["condition", name, status] if !name.is_empty() => Ok(Self::condition(name, status)),
            _ => Err(format!("{text:?}: expected condition=TYPE[=STATUS], phase=PHASE or delete")),
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Condition { name, status } => write!(out, "condition={name}={status}"),
            Self::Phase(phase) => write!(out, "phase={phase}"),
            Self::Deleted => out.write_str("delete"),
        }
    }
}

impl Goal {
    fn condition(name: &str, status: &str) -> Self {
        Self::Condition { name: name.to_owned(), status: status.to_owned() }
    }

    /// Returns whether an object, if it exists, is in the state.
    fn is_reached(&self, object: Option<&Value>) -> bool {
        let Some(object) = object else { return *self == Self::Deleted };
        let status = &object["status"];
        let is = |value: &Value, wanted: &str| value.as_str().is_some_and(|value| value.eq_ignore_ascii_case(wanted));
        match self {
            Self::Deleted => false,
            Self::Phase(phase) => is(&status["phase"], phase),
            Self::Condition { name, status: wanted } => match status["conditions"].as_array() {
                Some(conditions) => {
                    conditions.iter().any(|condition| is(&condition["type"], name) && is(&condition["status"], wanted))
                }
                // Objects without conditions say it by their phase.
                None => is(&status["phase"], name) == wanted.eq_ignore_ascii_case("true"),
            },
        }
    }
}

/// Waits until all objects are in a state. If one of them does not exist, the others are waited for all the same.
///
/// # Errors
/// The time is over, an object does not exist, or the server does not answer.
pub async fn wait(
    connection_args: &ConnectionArgs,
    wanted: &[Wanted],
    namespace: &str,
    goal: &Goal,
) -> anyhow::Result<()> {
    if let Some(Wanted { kind, .. }) = wanted.iter().find(|wanted| wanted.names.is_empty()) {
        return Err(UsageError(format!("name the {} to wait for", plural_word(*kind))).into());
    }
    let timeout = connection_args.timeout.map_or(Some(WAIT_TIMEOUT), |timeout| timeout.0);
    // One request has the usual limit, whatever the time in all.
    let connection_args = ConnectionArgs { timeout: None, ..connection_args.clone() };
    let (mut seen, mut refusals) = (Seen::default(), Refusals::default());
    let waited = wait_for_all(&connection_args, wanted, (namespace, goal), (&mut seen, &mut refusals));
    // A time that the clock does not have is as good as no limit.
    let deadline = timeout.and_then(|timeout| Some((timeout, Instant::now().checked_add(timeout)?)));
    let is_over = match deadline {
        Some((timeout, deadline)) => match tokio::time::timeout_at(deadline, waited).await {
            Ok(done) => done.map(|()| None)?,
            Err(_) => Some(timeout),
        },
        None => waited.await.map(|()| None)?,
    };
    let Some(timeout) = is_over else { return refusals.end() };
    if let Err(earlier) = refusals.end() {
        note(&format!("bootlatch: {earlier:#}"));
    }
    Err(seen.at_the_end(goal, timeout, connection_args.selected()?.url))
}

/// What was seen of the object that is waited for.
#[derive(Debug, Default)]
struct Seen {
    /// The object; empty before the first one.
    place: String,
    /// The last state, unless the server does not answer.
    state: Option<String>,
}

impl Seen {
    /// Returns the error that the time is over.
    fn at_the_end(self, goal: &Goal, timeout: Duration, server: String) -> anyhow::Error {
        let missed = format!("{}: {goal} not reached", self.place);
        match self.state {
            Some(state) => anyhow::anyhow!("{missed} within {} (--timeout); {state}", seconds(timeout)),
            None if self.place.is_empty() => ClientError::TimedOut { server, timeout }.into(),
            None => anyhow::Error::from(ClientError::TimedOut { server, timeout }).context(missed),
        }
    }
}

async fn wait_for_all(
    connection_args: &ConnectionArgs,
    wanted: &[Wanted],
    (namespace, goal): (&str, &Goal),
    (seen, refusals): (&mut Seen, &mut Refusals),
) -> anyhow::Result<()> {
    let mut client = ApiClient::connect(connection_args).await?;
    for (kind, word) in wanted.iter().flat_map(|wanted| wanted.names.iter().map(|name| (wanted.kind, name))) {
        *seen = Seen { place: kind_and_name(kind, word), state: None };
        let waited = async {
            let name = lookup::resolve(&mut client, kind, namespace, word).await?;
            seen.place = kind_and_name(kind, &name);
            wait_for(connection_args, &mut client, &object_path(kind, namespace, &name), goal, seen).await
        };
        match waited.await {
            Ok(()) if *goal == Goal::Deleted => print(&format!("{} deleted\n", seen.place))?,
            Ok(()) => print(&format!("{} {goal} met\n", seen.place))?,
            Err(error) if *goal == Goal::Deleted && is_not_found(&error) => {}
            Err(error) => refusals.note(error)?,
        }
    }
    Ok(())
}

/// Waits for one object.
async fn wait_for(
    connection_args: &ConnectionArgs,
    client: &mut ApiClient,
    path: &str,
    goal: &Goal,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    loop {
        seen.state = match client.find(path).await {
            Ok(object) if goal.is_reached(object.as_ref()) => return Ok(()),
            Ok(None) => return Err(lookup::not_found(format!("{} not found", seen.place))),
            Ok(Some(object)) => Some(state(&object)),
            Err(error) if is_unavailable(&error) => {
                // A server that is restarted comes back, with another connection.
                if let Ok(connected) = ApiClient::connect(connection_args).await {
                    *client = connected;
                }
                None
            }
            Err(error) => return Err(error),
        };
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns the state of an object in words.
fn state(object: &Value) -> String {
    let text = |field: &str| object["status"][field].as_str().filter(|text| !text.is_empty());
    match (text("phase"), text("message")) {
        (Some(phase), Some(message)) => format!("the phase is {phase}: {message}"),
        (Some(phase), None) => format!("the phase is {phase}"),
        (None, _) => "the object still exists".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_goal_is_a_condition_a_phase_or_the_end() {
        let host = json!({"status": {"phase": "Installed", "conditions": [{"type": "Installed", "status": "True"}]}});
        let iso = json!({"status": {"phase": "Ready"}});
        for (text, host_reached, iso_reached) in [
            ("condition=Installed", true, false),
            ("condition=installed=true", true, false),
            ("condition=Installed=False", false, true),
            ("condition=Ready", false, true),
            ("phase=installed", true, false),
            ("delete", false, false),
        ] {
            let goal: Goal = text.parse().unwrap();
            assert_eq!(
                (goal.is_reached(Some(&host)), goal.is_reached(Some(&iso))),
                (host_reached, iso_reached),
                "{text}"
            );
        }
        assert!(Goal::Deleted.is_reached(None) && !Goal::Phase("x".into()).is_reached(None));
        for text in ["", "phase=", "condition", "condition=", "ready", "delete=x"] {
            assert!(text.parse::<Goal>().is_err(), "{text}");
        }
    }
}
