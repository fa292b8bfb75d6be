//! `bootlatch timeline` and `bootlatch logs`: what happened to a host, or to all.

use std::collections::{HashMap, VecDeque};

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
use super::watch::{for_the_timeout, reconnect};

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

/// Maximum number of entries that are remembered as printed: more than the server sends at the beginning of a watch.
const MAX_PRINTED: usize = 20_000;

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

/// Prints the entries of a timeline, and then each new one as the server sends it, also over a restart of the server.
async fn follow(
    connection_args: &ConnectionArgs,
    mut client: ApiClient,
    path: &str,
    output: OutputFormat,
) -> anyhow::Result<()> {
    let path = format!("{path}?watch=true");
    let mut printed = Printed::default();
    let mut lines = client.lines(&path).await?;
    loop {
        while let Some(line) = lines.next().await {
            let entry: Value = serde_json::from_str(&line)?;
            if printed.admit(&entry) {
                print_or_end(&format_entry(&entry, output)?)?;
            }
        }
        lines = reconnect(connection_args, &path).await?;
    }
}

/// The entries that were printed, and how often each had occurred. The server sends them again on a new connection.
#[derive(Debug, Default)]
struct Printed {
    counts: HashMap<String, u64>,
    order: VecDeque<String>,
}

impl Printed {
    /// Returns whether an entry is new, or occurred again. The oldest of too many entries is forgotten.
    fn admit(&mut self, entry: &Value) -> bool {
        let key = ["time", "mac", "event", "detail"].map(|field| entry[field].to_string()).join(" ");
        let count = entry["count"].as_u64().unwrap_or(1);
        match self.counts.insert(key.clone(), count) {
            Some(printed) => printed < count,
            None => {
                self.order.push_back(key);
                if self.order.len() > MAX_PRINTED
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.counts.remove(&oldest);
                }
                true
            }
        }
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
    fn a_bounded_number_of_entries_is_remembered() {
        let mut printed = Printed::default();
        for number in 0..MAX_PRINTED + 10 {
            assert!(printed.admit(&json!({"time": number})));
        }
        assert_eq!((printed.counts.len(), printed.order.len()), (MAX_PRINTED, MAX_PRINTED));
        assert!(!printed.admit(&json!({"time": 10})) && printed.admit(&json!({"time": 9})));
    }

    #[test]
    fn an_entry_is_printed_once_for_each_occurrence() {
        let mut printed = Printed::default();
        let one = json!({"time": "t1", "event": "script", "detail": {"a": 1}});
        let two = json!({"time": "t2", "event": "script", "detail": {"a": 1}});
        let again = json!({"time": "t2", "event": "script", "detail": {"a": 1}, "count": 2, "last": "t3"});
        let admitted = [&one, &one, &two, &one, &again, &again, &one].map(|entry| printed.admit(entry));
        assert_eq!(admitted, [true, false, true, false, true, false, false]);
        let line = format_entry(&again, OutputFormat::Table).unwrap();
        assert!(line.starts_with("t3   -") && line.ends_with("a=1 (2 times)\n"), "{line}");
    }
}
