//! `bootlatch timeline` and `bootlatch logs`: what happened to a host, or to all.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::Value;

use crate::fleet::Kind;
use crate::fleet::text::printable;

use super::client::ApiClient;
use super::connection::ConnectionArgs;
use super::exit::UsageError;
use super::ledger;
use super::lookup::{self, items};
use super::reference::object_path;
use super::show::{Column, OutputFormat, print_or_end, show};
use super::watch::{RECONNECT_TIMEOUT, for_the_timeout, is_unavailable};

/// Columns of the timeline of a host.
pub const EVENTS: &[Column] =
    &[("TIME", "/time"), ("EVENT", "/event"), ("DETAIL", "/detail"), ("TIMES", "/count"), ("LAST", "/last")];
/// Columns of the timeline of an ISO or boot config, or of all, with the host of each event.
pub const EVENTS_OF_ALL: &[Column] = &[
    ("TIME", "/time"),
    ("HOST", "/host"),
    ("EVENT", "/event"),
    ("DETAIL", "/detail"),
    ("TIMES", "/count"),
    ("LAST", "/last"),
];

/// Pause between two looks at a timeline that is followed.
const PAUSE: Duration = Duration::from_secs(1);

/// Options of `bootlatch timeline`.
#[derive(Debug, clap::Args)]
pub struct TimelineArgs {
    /// Name or MAC address of the host. Default: the timeline of the server
    #[arg(value_name = "HOST")]
    pub host: Option<String>,
    #[command(flatten)]
    pub view: TimelineView,
}

/// Options of the output of a timeline.
#[derive(Debug, clap::Args)]
pub struct TimelineView {
    /// Print new events as they happen, until interrupted
    #[arg(short, long)]
    pub follow: bool,
    /// Print where the time of the host's last boots went, stage by stage, and what of it can be saved
    #[arg(long, conflicts_with = "follow")]
    pub ledger: bool,
    /// Namespace of the host
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: OutputFormat,
}

/// Prints a timeline.
///
/// # Errors
/// The host does not exist, or the server refuses the request.
pub async fn timeline(connection_args: &ConnectionArgs, host: Option<&str>, view: &TimelineView) -> anyhow::Result<()> {
    if view.ledger && host.is_none() {
        return Err(UsageError("--ledger: name a host".to_owned()).into());
    }
    let mut client = ApiClient::connect(connection_args).await?;
    let path = match host {
        None => "/api/v1/timeline".to_owned(),
        Some(word) => {
            // `KIND/NAME`, as `get -o name` prints it, is understood.
            let word = word.strip_prefix("baremetalhost/").or(word.strip_prefix("host/")).unwrap_or(word);
            let name = lookup::resolve(&mut client, Kind::BareMetalHost, &view.namespace, word).await?;
            let path = object_path(Kind::BareMetalHost, &view.namespace, &name);
            if view.ledger {
                return ledger::show_ledgers(&mut client, &path, view.output).await;
            }
            path + "/timeline"
        }
    };
    if view.follow {
        return for_the_timeout(connection_args, follow(connection_args, client, &path, view.output)).await;
    }
    let entries = Value::Array(items(client.ask(Method::GET, &path, None).await?));
    show(view.output, &entries, if host.is_some() { EVENTS } else { EVENTS_OF_ALL })
}

/// Prints the entries of a timeline, and then new ones, also over a restart of the server.
async fn follow(
    connection_args: &ConnectionArgs,
    mut client: ApiClient,
    path: &str,
    output: OutputFormat,
) -> anyhow::Result<()> {
    let mut printed = Printed::default();
    let mut answered = Instant::now();
    loop {
        match client.ask(Method::GET, path, None).await {
            Ok(list) => {
                answered = Instant::now();
                for entry in printed.take_new(items(list)) {
                    print_or_end(&format_entry(&entry, output)?)?;
                }
            }
            Err(error) if is_unavailable(&error) && answered.elapsed() < RECONNECT_TIMEOUT => {
                if let Ok(connected) = ApiClient::connect(connection_args).await {
                    client = connected;
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The entries of a timeline that were printed: how often each had occurred.
#[derive(Debug, Default)]
struct Printed(HashMap<String, u64>);

impl Printed {
    /// Returns the entries that are new or occurred again. Entries that the server no longer has are forgotten.
    fn take_new(&mut self, entries: Vec<Value>) -> Vec<Value> {
        let before = std::mem::take(&mut self.0);
        let count = |entry: &Value| entry["count"].as_u64().unwrap_or(1);
        let key = |entry: &Value| ["time", "mac", "event", "detail"].map(|field| entry[field].to_string()).join(" ");
        let is_new = |entry: &Value| before.get(&key(entry)).is_none_or(|printed| *printed < count(entry));
        let new: Vec<_> = entries.iter().filter(|entry| is_new(entry)).cloned().collect();
        self.0 = entries.iter().map(|entry| (key(entry), count(entry))).collect();
        new
    }
}

/// Formats an entry as a line, so that lines can be printed one after the other.
fn format_entry(entry: &Value, output: OutputFormat) -> anyhow::Result<String> {
    let text = |field: &str| entry[field].as_str().map_or("-".into(), printable);
    Ok(match output {
        OutputFormat::Json => format!("{entry}\n"),
        OutputFormat::Yaml => format!("---\n{}", serde_saphyr::to_string(entry)?),
        OutputFormat::Table => {
            let detail = match &entry["detail"] {
                Value::Object(fields) => fields
                    .iter()
                    .map(|(key, value)| {
                        format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                    })
                    .collect::<Vec<_>>()
                    .join(" "),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            let (last, count) = (text("last"), entry["count"].as_u64().unwrap_or(1));
            let (time, times) = match count {
                1 => (text("time"), String::new()),
                _ => (last, format!(" ({count} times)")),
            };
            let line = format!("{time}   {:<20}  {:<20}  {}{times}", text("host"), text("event"), printable(&detail));
            line.trim_end().to_owned() + "\n"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_is_printed_once_for_each_occurrence() {
        let mut printed = Printed::default();
        let one = json!({"time": "t1", "event": "script", "detail": {"a": 1}});
        let two = json!({"time": "t2", "event": "script", "detail": {"a": 1}});
        let again = json!({"time": "t2", "event": "script", "detail": {"a": 1}, "count": 2, "last": "t3"});
        assert_eq!(printed.take_new(vec![one.clone()]).len(), 1);
        assert_eq!(printed.take_new(vec![one.clone(), two.clone()]), std::slice::from_ref(&two));
        assert!(printed.take_new(vec![one.clone(), two]).is_empty());
        assert_eq!(printed.take_new(vec![one, again.clone()]), std::slice::from_ref(&again));
        let line = format_entry(&again, OutputFormat::Table).unwrap();
        assert!(line.starts_with("t3   -") && line.ends_with("a=1 (2 times)\n"), "{line}");
    }
}
