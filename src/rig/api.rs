//! The server's API, over its unix socket: what a rig reads of its hosts.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::fleet::Mac;

/// Time for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum length of an answer.
const MAX_ANSWER: u64 = 16 << 20;
/// Path of the hosts.
const HOSTS: &str = "/api/v1/namespaces/default/baremetalhosts";

/// What the server knows of a host.
#[derive(Debug)]
pub struct HostState {
    /// Name of the host.
    pub name: String,
    /// Its phase.
    pub phase: String,
    /// Number of its events by name.
    pub events: BTreeMap<String, u64>,
    /// Reason code of its diagnosis.
    pub diagnosis: Option<String>,
}

/// Reads a resource.
///
/// # Errors
/// The server does not answer, or with another status than 200.
pub fn read(socket: &Path, path: &str) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    // In HTTP/1.0 the answer ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: rig\r\nAccept: application/json\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let begin = answer.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
    match begin {
        Some(begin) if answer.get(8..13) == Some(b" 200 ") => Ok(serde_json::from_slice(&answer[begin..])?),
        _ => {
            let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
            Err(io::Error::other(format!("{path}: {}", String::from_utf8_lossy(line))))
        }
    }
}

/// Returns what the server knows of the hosts with these MAC addresses, in their order.
///
/// # Errors
/// Those of [`read`].
pub fn hosts(socket: &Path, macs: &[Vec<Mac>]) -> io::Result<Vec<Option<HostState>>> {
    let list = read(socket, HOSTS)?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for macs in macs {
        let is_own = |item: &&Value| {
            let mac = item["spec"]["bootMACAddress"].as_str().and_then(|text| text.parse().ok());
            mac.is_some_and(|mac: Mac| macs.contains(&mac))
        };
        found.push(items.iter().find(is_own).map(|item| host(socket, item)).transpose()?);
    }
    Ok(found)
}

fn host(socket: &Path, item: &Value) -> io::Result<HostState> {
    let name = item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut events = BTreeMap::new();
    let timeline = read(socket, &format!("{HOSTS}/{name}/timeline"))?;
    for entry in timeline.as_array().or(timeline["items"].as_array()).into_iter().flatten() {
        if let Some(event) = entry["event"].as_str() {
            *events.entry(event.to_owned()).or_default() += entry["count"].as_u64().unwrap_or(1).max(1);
        }
    }
    let diagnosis = read(socket, &format!("{HOSTS}/{name}/diagnosis"))?;
    let diagnosis = diagnosis["diagnosis"]["reason"].as_str().map(str::to_owned);
    let phase = item["status"]["phase"].as_str().unwrap_or_default().to_owned();
    Ok(HostState { name, phase, events, diagnosis })
}
