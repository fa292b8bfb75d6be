//! `bootlatch host timeline --ledger`: where the time of a host's boots went.

use std::fmt::Write as _;

use hyper::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::event::LedgerStage;
use crate::fleet::text::printable;

use super::client::ApiClient;
use super::lookup::items;
use super::show::{OutputFormat, print, show};

/// Maximum number of boots that are shown.
const MAX_BOOTS: usize = 10;

/// Prints the ledgers of the last boots of a host, oldest first: of those that the server has seen with all their times,
/// of those before its start as the timeline has them.
///
/// # Errors
/// The host does not exist, or the server refuses the request.
pub async fn show_ledgers(client: &mut ApiClient, host_path: &str, output: OutputFormat) -> anyhow::Result<()> {
    let report = client.ask(Method::GET, &format!("{host_path}/diagnosis"), None).await?;
    let timeline = items(client.ask(Method::GET, &format!("{host_path}/timeline"), None).await?);
    let ledgers = merge(&timeline, report["ledger"].as_array().map(Vec::as_slice).unwrap_or_default());
    match output {
        OutputFormat::Json | OutputFormat::Yaml => show(output, &Value::Array(ledgers), &[]),
        OutputFormat::Table => print(&text_of(&ledgers)),
    }
}

/// Returns the boots of a timeline and those that the server has in memory, oldest first: each boot once.
fn merge(timeline: &[Value], seen: &[Value]) -> Vec<Value> {
    let in_memory = |detail: &Value| seen.iter().any(|ledger| is_same(ledger, detail));
    let recorded = timeline.iter().filter(|entry| entry["event"] == "boot_finished" && !in_memory(&entry["detail"]));
    let mut ledgers: Vec<_> = recorded.map(from_entry).chain(seen.iter().cloned()).collect();
    let time = |ledger: &Value| ledger["end"].as_str().and_then(|end| end.parse::<Timestamp>().ok());
    ledgers.sort_by_key(time);
    ledgers.split_off(ledgers.len().saturating_sub(MAX_BOOTS))
}

/// Returns whether an event is the record of a boot in memory.
fn is_same(ledger: &Value, detail: &Value) -> bool {
    ledger["outcome"] == detail["outcome"] && ledger["milliseconds"] == detail["milliseconds"]
}

/// Returns the ledger of an entry of the timeline. It has no times of the stages; `end` is the time of the record.
fn from_entry(entry: &Value) -> Value {
    let detail = &entry["detail"];
    let spent = |stage: &LedgerStage| {
        let milliseconds = detail["stages"].get(stage.code())?;
        Some(json!({"stage": stage.code(), "milliseconds": milliseconds}))
    };
    let stages: Vec<_> = LedgerStage::ALL.iter().filter_map(spent).collect();
    let end = if entry["last"].is_null() { &entry["time"] } else { &entry["last"] };
    let advice = detail["advice"].as_array().cloned().unwrap_or_default();
    let mut ledger = json!({
        "end": end, "outcome": detail["outcome"], "milliseconds": detail["milliseconds"],
        "stages": stages, "advice": advice,
    });
    if !entry["count"].is_null() {
        ledger["count"] = entry["count"].clone();
    }
    ledger
}

/// Returns ledgers as text.
fn text_of(ledgers: &[Value]) -> String {
    if ledgers.is_empty() {
        return "No boot of it is known.\n".to_owned();
    }
    ledgers.iter().map(text_of_boot).collect::<Vec<_>>().join("\n")
}

fn text_of_boot(ledger: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(String::new, |text| printable(text).into_owned());
    let took = duration(&ledger["milliseconds"]);
    let how = match ledger["outcome"].as_str() {
        Some("installed") => format!("installed after {took}"),
        Some("local_disk") => format!("went to its disk, {took}"),
        Some("restarted") => format!("restarted after {took}"),
        Some("powered_off") => format!("switched off after {took}"),
        Some(other) => format!("{}, {took}", printable(other)),
        None => format!("goes on since {took}"),
    };
    let mut out = match ledger["begin"].as_str() {
        Some(begin) => format!("Boot of {}: {how}\n", seconds_of(begin)),
        None => format!("Boot recorded {}: {how}\n", seconds_of(&text(&ledger["end"]))),
    };
    if let Some(count) = ledger["count"].as_u64() {
        let _ = writeln!(out, "  the last of {count} of the same kind");
    }
    let stages = ledger["stages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let _ = writeln!(out, "  {:<15}  {:>8}  {:>13}  NOTE", "STAGE", "START", "TIME");
    for stage in stages {
        let start = stage["start"].as_str().and_then(|start| start.get(11..19)).unwrap_or("-");
        let line = format!(
            "  {:<15}  {start:>8}  {:>13}  {}",
            text(&stage["stage"]),
            duration(&stage["milliseconds"]),
            text(&stage["note"])
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
    for advice in ledger["advice"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "  To save: {}.", text(advice));
    }
    if let Some(next) = ledger["next"].as_object() {
        let time = |value: &Value| value.as_str().and_then(|time| time.parse::<Timestamp>().ok());
        // The end of a boot that goes on is the present time of the server.
        let by = match (next.get("due").and_then(time), time(&ledger["end"])) {
            (Some(due), Some(now)) if due < now => format!(", due since {}", seconds_of(&due.to_string())),
            (Some(due), _) => format!(", by {}", seconds_of(&due.to_string())),
            (None, _) => String::new(),
        };
        let _ = writeln!(out, "  Next: it {}{by}.", text(&next["text"]));
    }
    out
}

/// Returns a time to the second, as `2026-11-29 10:00:00`.
fn seconds_of(time: &str) -> String {
    match (time.get(..10), time.get(11..19)) {
        (Some(date), Some(clock)) => format!("{date} {clock}"),
        _ => printable(time).into_owned(),
    }
}

/// Returns a duration in milliseconds for people.
fn duration(milliseconds: &Value) -> String {
    match milliseconds.as_u64().unwrap_or_default() {
        short @ 0..1000 => format!("{short} ms"),
        medium @ 1000..119_950 => format!("{}.{} s", (medium + 50) / 1000, (medium + 50) % 1000 / 100),
        long => format!("{} min {:02} s", (long + 500) / 60_000, (long + 500) / 1000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(time: &str, milliseconds: u64) -> Value {
        let stages = json!({"install": milliseconds - 4000, "dhcp": 4000});
        json!({"time": time, "event": "boot_finished", "detail":
            {"outcome": "installed", "milliseconds": milliseconds, "stages": stages, "advice": ["it tried IPv6"]}})
    }

    #[test]
    fn a_boot_that_the_server_has_seen_is_shown_once_and_with_its_times() {
        let timeline = [
            json!({"time": "2026-11-29T09:00:00Z", "event": "offer"}),
            entry("2026-11-29T10:00:00Z", 60_000),
            entry("2026-11-29T11:00:00Z", 70_000),
        ];
        let seen = [
            json!({"begin": "2026-11-29T10:58:48Z", "end": "2026-11-29T10:59:58Z", "outcome": "installed", "milliseconds": 70_000}),
            json!({"begin": "2026-11-29T11:00:10Z", "end": "2026-11-29T11:00:12Z", "outcome": null, "milliseconds": 2000}),
        ];
        let merged = merge(&timeline, &seen);
        let times: Vec<_> = merged.iter().map(|ledger| ledger["milliseconds"].as_u64().unwrap()).collect();
        assert_eq!(times, [60_000, 70_000, 2000]);
        assert!(merged[0].get("begin").is_none() && merged[1].get("begin").is_some());
        assert_eq!(merged[0]["stages"][0], json!({"stage": "dhcp", "milliseconds": 4000}));
        let many: Vec<_> = (0..30).map(|number| entry("2026-11-29T10:00:00Z", 60_000 + number)).collect();
        assert_eq!(merge(&many, &[]).len(), MAX_BOOTS);
    }

    #[test]
    fn a_ledger_reads_from_its_stages_to_what_is_due() {
        let mut ledger = json!({
            "begin": "2026-11-29T10:00:03.123Z", "end": "2026-11-29T10:01:08Z", "outcome": null, "milliseconds": 65_000,
            "stages": [{"stage": "ipv6", "start": "2026-11-29T10:00:03Z", "milliseconds": 61_050, "note": "asked 7 times"},
                {"stage": "dhcp", "start": "2026-11-29T10:01:04Z", "milliseconds": 3950}],
            "advice": ["it tried IPv6 for 61 s first"],
            "next": {"stage": "dhcp", "text": "takes an address", "due": "2026-11-29T10:01:10Z"},
        });
        let expected = "Boot of 2026-11-29 10:00:03: goes on since 65.0 s\n\
                        \x20 STAGE               START           TIME  NOTE\n\
                        \x20 ipv6             10:00:03         61.1 s  asked 7 times\n\
                        \x20 dhcp             10:01:04          4.0 s\n\
                        \x20 To save: it tried IPv6 for 61 s first.\n\
                        \x20 Next: it takes an address, by 2026-11-29 10:01:10.\n";
        assert_eq!(text_of(std::slice::from_ref(&ledger)), expected);
        ledger["end"] = "2026-11-29T10:02:00Z".into();
        assert!(text_of(&[ledger]).contains("due since 2026-11-29 10:01:10"));
        let old = text_of(&[from_entry(&entry("2026-11-29T10:00:00Z", 150_000))]);
        assert!(old.starts_with("Boot recorded 2026-11-29 10:00:00: installed after 2 min 30 s\n"), "{old}");
        assert!(text_of(&[]).starts_with("No boot"));
    }
}
