//! What the running server says about itself, over its local socket.

use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Request;
use hyper::header::HOST;
use nix::sys::socket::{getsockopt, sockopt};
use serde_json::Value;

use crate::doctor::Looked;
use crate::http_client::{ServerConnection, full};

use super::{NEEDS_ROOT, failed};

/// Maximum time for an answer of the server.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A running server.
#[derive(Debug)]
pub struct RunningServer {
    /// Its process.
    pub pid: u32,
    /// The lines of `/readyz`, none if it is ready.
    pub ready: Looked<Vec<String>>,
    /// The interfaces, with the servers heard on them (`/api/v1/interfaces`).
    pub interfaces: Looked<Value>,
    /// Number of hosts.
    pub hosts: Looked<u64>,
    /// Number of packets that were lost because a receive buffer was full.
    pub lost: Looked<u64>,
}

impl RunningServer {
    /// Finds the server over a state directory, and asks it; `None` if none runs.
    pub fn find(state_dir: &Path) -> Looked<Option<Self>> {
        let path = state_dir.join("api.sock");
        let wrong = |error: &dyn std::fmt::Display| failed(&path.display().to_string(), error);
        let stream = match UnixStream::connect(&path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => return Ok(None),
            Err(error) if error.kind() == PermissionDenied => return Err(wrong(&NEEDS_ROOT)),
            Err(error) => return Err(wrong(&error)),
        };
        let pid = getsockopt(&stream, sockopt::PeerCredentials).map_err(|error| wrong(&error))?.pid();
        let pid = u32::try_from(pid).map_err(|error| wrong(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| wrong(&error))?;
        let ask = |what: &str| runtime.block_on(get(&path, what));
        let ready = ask("/readyz").map(|(code, text)| match code {
            200 => Vec::new(),
            _ => text.lines().map(str::to_owned).collect(),
        });
        let interfaces = ask("/api/v1/interfaces").and_then(|(code, text)| match code {
            200 => serde_json::from_str(&text).map_err(|error| format!("/api/v1/interfaces: {error}")),
            code => Err(format!("the server answers {code} (api.trust_socket)")),
        });
        let metrics = ask("/metrics").map(|(_, text)| text);
        let metric = |name: &str| metrics.clone().map(|text| sum(&text, name));
        let (hosts, lost) = (metric("bootlatch_hosts{"), metric("bootlatch_socket_receive_drops_total"));
        Ok(Some(Self { pid, ready, interfaces, hosts, lost }))
    }
}

/// Returns the sum of the metrics whose names begin with a text.
fn sum(metrics: &str, name: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

async fn get(socket: &Path, path: &str) -> Looked<(u16, String)> {
    let asked = async {
        let mut connection = ServerConnection::open_local(socket, TIMEOUT).await.map_err(|error| error.to_string())?;
        let request = Request::get(path).header(HOST, "localhost").body(full("")).map_err(|error| error.to_string())?;
        let (head, body) = connection.send(request).await.map_err(|error| error.to_string())?.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok((head.status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
    };
    match tokio::time::timeout(TIMEOUT, asked).await {
        Ok(answer) => answer.map_err(|error: String| format!("the running server: {path}: {error}")),
        Err(_) => Err(format!("the running server: {path}: no answer within {TIMEOUT:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_of_a_name_are_added() {
        let text = "# HELP bootlatch_hosts x\nbootlatch_hosts{phase=\"Held\"} 3\nbootlatch_hosts{phase=\"Failed\"} 4\nother 9\n";
        assert_eq!((sum(text, "bootlatch_hosts{"), sum(text, "none")), (7, 0));
    }
}
