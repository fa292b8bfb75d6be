//! `bootlatch status` and `bootlatch version`: the server on one screen.

use std::collections::BTreeMap;

use hyper::Method;
use serde_json::{Value, json};

use crate::fleet::text::printable;

use super::client::ApiClient;
use super::connection::ConnectionArgs;
use super::lookup::items;
use super::show::{OutputFormat, json_text, print};

/// Maximum number of installs and of faults that are listed.
const MAX_LINES: usize = 10;

/// Prints version, readiness, hosts by phase, running installs and faults.
///
/// # Errors
/// The server does not answer, or refuses a request.
pub async fn status(connection_args: &ConnectionArgs, output: OutputFormat) -> anyhow::Result<()> {
    let mut client = ApiClient::connect(connection_args).await?;
    let server = client.server().to_owned();
    let version = client.ask(Method::GET, "/version", None).await?;
    let (code, ready) = client.page("/readyz").await?;
    let hosts = items(client.ask(Method::GET, "/api/v1/baremetalhosts", None).await?);
    let isos = items(client.ask(Method::GET, "/api/v1/iscsi-cdroms", None).await?);
    let mut faults: Vec<String> = Vec::new();
    // Where the server is ready, the first line says so, and notes follow.
    let lines = ready.lines().skip(usize::from(code == 200));
    faults.extend(lines.map(|line| printable(&format!("server: {line}")).into_owned()));
    faults.extend(
        isos.iter().filter(|iso| iso["status"]["phase"] == "Broken").map(|iso| fault("iso", iso, "/status/message")),
    );
    faults.extend(
        hosts
            .iter()
            .filter(|host| host["status"]["phase"] == "Failed")
            .map(|host| fault("host", host, "/status/message")),
    );
    let unpowered = hosts.iter().filter(|host| host.pointer("/status/powerError").is_some());
    faults.extend(unpowered.map(|host| fault("host", host, "/status/powerError/message")));
    let installing: Vec<_> = hosts.iter().filter(|host| is_installing(host)).map(install).collect();
    let summary = json!({
        "server": server,
        "version": version["gitVersion"],
        "ready": code == 200,
        "hosts": by_phase(&hosts),
        "isos": by_phase(&isos),
        "installs": installing,
        "faults": faults,
    });
    match output {
        OutputFormat::Json => print(&json_text(&summary)?),
        OutputFormat::Yaml => print(&serde_saphyr::to_string(&summary)?),
        OutputFormat::Table => print(&format_summary(&summary)),
    }
}

fn is_installing(host: &Value) -> bool {
    ["Assigned", "Offered", "Installing"].iter().any(|phase| host["status"]["phase"] == *phase)
}

fn fault(word: &str, object: &Value, message: &str) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("-").to_owned();
    printable(&format!("{word} {}: {}", text(object.pointer("/metadata/name")), text(object.pointer(message))))
        .into_owned()
}

fn install(host: &Value) -> Value {
    let of = |pointer: &str| host.pointer(pointer).cloned().unwrap_or_default();
    json!({
        "namespace": of("/metadata/namespace"),
        "host": of("/metadata/name"),
        "image": of("/spec/image"),
        "phase": of("/status/phase"),
        "since": of("/status/phaseTransitionTime"),
    })
}

/// Counts objects by their phase.
fn by_phase(objects: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for object in objects {
        let phase = object.pointer("/status/phase").and_then(Value::as_str).unwrap_or("unknown");
        *counts.entry(phase.to_owned()).or_default() += 1;
    }
    counts
}

fn format_summary(summary: &Value) -> String {
    let text = |value: &Value| printable(value.as_str().unwrap_or("-")).into_owned();
    let counts = |field: &str| {
        let counts = summary[field].as_object();
        let total: u64 = counts.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
        let parts: Vec<_> = counts.into_iter().flatten().map(|(phase, count)| format!("{count} {phase}")).collect();
        if parts.is_empty() { "0".to_owned() } else { format!("{total} ({})", parts.join(", ")) }
    };
    let ready = if summary["ready"] == true { "ready" } else { "not ready" };
    let mut lines = vec![
        format!("Server:    {} {}, {ready}", text(&summary["server"]), text(&summary["version"])),
        format!("Hosts:     {}", counts("hosts")),
        format!("ISOs:      {}", counts("isos")),
    ];
    let installs: Vec<_> = summary["installs"].as_array().into_iter().flatten().collect();
    let described = installs.iter().map(|install| {
        format!(
            "{} {} {} since {}",
            text(&install["host"]),
            text(&install["phase"]),
            text(&install["image"]),
            text(&install["since"])
        )
    });
    lines.extend(section("Installs:", described.collect()));
    lines.extend(section("Faults:", summary["faults"].as_array().into_iter().flatten().map(text).collect()));
    lines.join("\n") + "\n"
}

/// Returns the lines of a list under a title, at most `MAX_LINES`.
fn section(title: &str, entries: Vec<String>) -> Vec<String> {
    if entries.is_empty() {
        return vec![format!("{title:<10} none")];
    }
    let mut lines = vec![format!("{title:<10} {}", entries.len())];
    lines.extend(entries.iter().take(MAX_LINES).map(|entry| format!("  {entry}")));
    if entries.len() > MAX_LINES {
        lines.push(format!("  and {} more", entries.len() - MAX_LINES));
    }
    lines
}

/// Prints the versions of this program and of the server.
///
/// # Errors
/// The server does not answer.
pub async fn version(connection_args: &ConnectionArgs, client_only: bool, output: OutputFormat) -> anyhow::Result<()> {
    let client_version = env!("CARGO_PKG_VERSION");
    let mut versions = json!({"client": client_version});
    let mut failed = None;
    if !client_only {
        let asked = async { ApiClient::connect(connection_args).await?.ask(Method::GET, "/version", None).await };
        match asked.await {
            Ok(version) => versions["server"] = version["gitVersion"].clone(),
            Err(error) => failed = Some(error),
        }
    }
    match output {
        OutputFormat::Json => print(&json_text(&versions)?)?,
        OutputFormat::Yaml => print(&serde_saphyr::to_string(&versions)?)?,
        OutputFormat::Table => {
            let server = versions["server"].as_str().map(|version| format!("server   {version}\n")).unwrap_or_default();
            print(&format!("client   {client_version}\n{server}"))?
        }
    }
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_fits_on_a_screen() {
        let faults: Vec<_> = (0..30).map(|number| format!("host n{number}: timeout")).collect();
        let hosts = [json!({"status": {"phase": "Held"}}), json!({"status": {"phase": "Held"}}), json!({})];
        let summary = json!({
            "server": "unix:/x", "version": "v0.1.0", "ready": false, "hosts": by_phase(&hosts), "isos": {},
            "installs": [install(&json!({"metadata": {"name": "n1"}, "spec": {"image": "live"}, "status": {"phase": "Offered"}}))],
            "faults": faults,
        });
        let text = format_summary(&summary);
        assert!(text.contains("unix:/x v0.1.0, not ready\n") && text.contains("3 (2 Held, 1 unknown)"), "{text}");
        assert!(text.contains("ISOs:      0\n") && text.contains("  n1 Offered live since -\n"), "{text}");
        assert!(text.contains("  and 20 more\n") && text.lines().count() < 24, "{text}");
    }
}
