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
    find(socket, path)?.ok_or_else(|| io::Error::other(format!("{path}: not found")))
}

/// Reads a resource; none with the status 404.
fn find(socket: &Path, path: &str) -> io::Result<Option<Value>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    // In HTTP/1.0 the answer ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: rig\r\nAccept: application/json\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let begin = answer.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
    match begin {
        Some(begin) if answer.get(8..13) == Some(b" 200 ") => Ok(Some(serde_json::from_slice(&answer[begin..])?)),
        Some(_) if answer.get(8..13) == Some(b" 404 ") => Ok(None),
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
        found.push(items.iter().find(is_own).map(|item| host(socket, item)).transpose()?.flatten());
    }
    Ok(found)
}

/// Returns what the server knows of a listed host; none if it has gone since.
fn host(socket: &Path, item: &Value) -> io::Result<Option<HostState>> {
    let name = item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut events = BTreeMap::new();
    let Some(timeline) = find(socket, &format!("{HOSTS}/{name}/timeline"))? else { return Ok(None) };
    for entry in timeline.as_array().or(timeline["items"].as_array()).into_iter().flatten() {
        if let Some(event) = entry["event"].as_str() {
            *events.entry(event.to_owned()).or_default() += entry["count"].as_u64().unwrap_or(1).max(1);
        }
    }
    let Some(diagnosis) = find(socket, &format!("{HOSTS}/{name}/diagnosis"))? else { return Ok(None) };
    let diagnosis = diagnosis["diagnosis"]["reason"].as_str().map(str::to_owned);
    let phase = item["status"]["phase"].as_str().unwrap_or_default().to_owned();
    Ok(Some(HostState { name, phase, events, diagnosis }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_host_that_has_gone_is_none_and_another_status_an_error() {
        let socket = std::env::temp_dir().join(format!("bootlatch-rig-api-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&socket).unwrap();
        let list = r#"{"items": [{"metadata": {"name": "a"}, "spec": {"bootMACAddress": "52:54:00:00:00:01"}}]}"#;
        let server = std::thread::spawn(move || {
            for status in ["200 OK", "404 Not Found", "200 OK", "503 Busy"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut octet = [0];
                    stream.read_exact(&mut octet).unwrap();
                    request.extend(octet);
                }
                write!(stream, "HTTP/1.0 {status}\r\n\r\n{list}").unwrap();
            }
        });
        let macs = [vec!["52:54:00:00:00:01".parse().unwrap()], vec![]];
        assert!(hosts(&socket, &macs).unwrap().iter().all(Option::is_none));
        assert!(hosts(&socket, &macs).unwrap_err().to_string().contains("503 Busy"));
        server.join().unwrap();
        std::fs::remove_file(socket).unwrap();
    }
}
