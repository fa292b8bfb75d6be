//! `bootlatch why` and `bootlatch host why`: why a host does not boot.

use std::fmt::Write as _;

use clap_complete::engine::ArgValueCandidates;
use hyper::Method;
use serde_json::Value;

use crate::fleet::text::printable;
use crate::fleet::{Kind, Mac};

use super::client::{ApiClient, is_not_found};
use super::completion;
use super::connection::ConnectionArgs;
use super::lookup;
use super::reference::object_path;
use super::show::{OutputFormat, print, show};

const KIND: Kind = Kind::BareMetalHost;

/// Options of `bootlatch why`.
#[derive(Debug, clap::Args)]
pub struct WhyArgs {
    /// Name or MAC address of the host
    #[arg(value_name = "HOST", add = ArgValueCandidates::new(completion::hosts))]
    name: String,
    /// Namespace of the host
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Prints the diagnosis of a host, and the steps of its boots.
///
/// # Errors
/// The host does not exist and its machine was never seen, or the server refuses the request.
pub async fn why(connection_args: &ConnectionArgs, args: &WhyArgs) -> anyhow::Result<()> {
    let mut client = ApiClient::connect(connection_args).await?;
    let name = args.name.strip_prefix("baremetalhost/").or(args.name.strip_prefix("host/")).unwrap_or(&args.name);
    let (name, report) = match lookup::resolve(&mut client, KIND, &args.namespace, name).await {
        Ok(name) => {
            let report = client.ask(Method::GET, &diagnosis_path(&args.namespace, &name), None).await?;
            (name, report)
        }
        Err(error) => {
            let report = report_without_host(&mut client, &args.namespace, name).await?;
            report.ok_or_else(|| unheard(name, error))?
        }
    };
    match args.output {
        OutputFormat::Json | OutputFormat::Yaml => show(args.output, &report, &[]),
        OutputFormat::Table => {
            let host = client.find(&object_path(KIND, &args.namespace, &name)).await?;
            print(&text_of(&report, &host.as_ref().map(notes).unwrap_or_default()))
        }
    }
}

/// Returns the error of a machine without a host that was never seen.
fn unheard(word: &str, error: anyhow::Error) -> anyhow::Error {
    match word.parse::<Mac>().ok().filter(|_| is_not_found(&error)) {
        Some(mac) => lookup::not_found(format!(
            "{error}, and nothing was heard of its machine since the server started: look at its boot order, its cable and its \
             VLAN (bootlatch rehearse --mac {mac} shows what it would get)"
        )),
        None => error,
    }
}

fn diagnosis_path(namespace: &str, name: &str) -> String {
    object_path(KIND, namespace, name) + "/diagnosis"
}

/// Returns the report of a machine without a host, with the name that its host would have; `None` if the server never saw it,
/// or the word is no MAC address.
async fn report_without_host(
    client: &mut ApiClient,
    namespace: &str,
    word: &str,
) -> anyhow::Result<Option<(String, Value)>> {
    let Ok(mac) = word.parse::<Mac>() else { return Ok(None) };
    let name = mac.dashed();
    let report = client.find(&diagnosis_path(namespace, &name)).await?;
    Ok(report.map(|report| (name, report)))
}

/// Returns what is known of the next boot of a host before it (condition `BootReady`), and what has no effect on it.
fn notes(host: &Value) -> Vec<String> {
    let conditions = host["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ready = conditions.iter().find(|one| one["type"] == "BootReady");
    let message = ready.and_then(|one| one["message"].as_str()).filter(|message| !message.is_empty());
    let risk = message.zip(ready.and_then(|one| one["status"].as_str())).map(|(message, status)| {
        let meaning = match status {
            "False" => "Its next boot will not work",
            "True" => "Its next boot",
            _ => "Its next boot may not work",
        };
        format!("{meaning}: {message}")
    });
    let spec = &host["spec"];
    let is_idle = spec["online"] == true && spec["bmc"].is_null();
    let idle = is_idle.then(|| {
        "spec.online switches nothing on: the host has no BMC. `bootlatch host on` sends it Wake-on-LAN packets"
            .to_owned()
    });
    risk.into_iter().chain(idle).collect()
}

/// Returns a report as text.
fn text_of(report: &Value, notes: &[String]) -> String {
    let text = |value: &Value| value.as_str().map_or_else(String::new, |text| printable(text).into_owned());
    let mut out = String::new();
    let diagnosis = &report["diagnosis"];
    if diagnosis.is_null() {
        let _ = writeln!(out, "Nothing is known to be wrong with {}.", text(&report["host"]));
    } else {
        let _ = writeln!(out, "{}.", text(&diagnosis["message"]));
        let _ = writeln!(out, "To do:  {}.", text(&diagnosis["remedy"]));
        let (certainty, reason) = (text(&diagnosis["certainty"]), text(&diagnosis["reason"]));
        let _ = writeln!(out, "Sure:   {certainty} ({reason}), since {}", text(&diagnosis["since"]));
    }
    for note in notes {
        let _ = writeln!(out, "{}.", printable(note).trim_end_matches('.'));
    }
    let steps = report["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    if steps.is_empty() {
        out.push_str("No boot of it was seen since the server started.\n");
        return out;
    }
    out.push_str("\nSeen:\n");
    for step in steps {
        let times = match step["count"].as_u64() {
            Some(count) if count > 1 => format!(" ({count} times, last {})", clock(&text(&step["last"]))),
            _ => String::new(),
        };
        let _ = writeln!(out, "  {}  {}{times}", clock(&text(&step["first"])), text(&step["text"]));
    }
    out
}

/// Returns the time of the day of an RFC 3339 time (UTC), to the second.
fn clock(time: &str) -> &str {
    time.get(11..19).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_reads_from_the_diagnosis_to_the_steps() {
        let step = json!({"first": "2026-11-29T10:00:01.5Z", "last": "2026-11-29T10:00:13Z", "count": 3, "text": "a"});
        let report = json!({
            "host": "vm", "steps": [step],
            "diagnosis": {"message": "It asks", "remedy": "approve it", "certainty": "certain", "reason": "held", "since": "now"},
        });
        assert_eq!(
            text_of(&report, &[]),
            "It asks.\nTo do:  approve it.\nSure:   certain (held), since now\n\nSeen:\n  10:00:01  a (3 times, last 10:00:13)\n"
        );
        let healthy = json!({"host": "vm", "steps": [], "diagnosis": null});
        assert!(text_of(&healthy, &[]).starts_with("Nothing is known to be wrong with vm.\nNo boot"));
        let conditions = json!([{"type": "BootReady", "status": "False", "message": "live has no boot loader"}]);
        let host = json!({"spec": {"online": true}, "status": {"conditions": conditions}});
        let text = text_of(&healthy, &notes(&host));
        assert!(text.contains("Its next boot will not work: live has no boot loader.\n"), "{text}");
        assert!(text.contains("the host has no BMC. `bootlatch host on` sends"), "{text}");
        let risk = json!({"type": "BootReady", "status": "Unknown", "message": "the same UUID"});
        let host = json!({"spec": {"online": true, "bmc": {}}, "status": {"conditions": [risk]}});
        assert_eq!(notes(&host), ["Its next boot may not work: the same UUID"]);
    }
}
