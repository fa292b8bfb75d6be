//! Follows the files that machines load over HTTP, for the diagnosis of boots that do not go on.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use hyper::header::{HeaderMap, USER_AGENT};

use crate::api::state::Shared;
use crate::boot::diagnosis::{Download, DownloadKind, DownloadOutcome, Progress, Step};
use crate::fleet::Mac;
use crate::gate::Gate;
use crate::http::delivery::DeliveryState;
use crate::http::reply::{self, Body, Reply};

/// Maximum length of the agent's name that is kept, in octets.
const MAX_AGENT: usize = 64;
/// Maximum length of a file's name that is kept, in octets.
const MAX_FILE: usize = 128;

/// Records that a machine loads a file, and follows the reply until the machine has it.
pub fn follow(
    shared: &Shared,
    mac: Mac,
    (file, kind): (&str, DownloadKind),
    headers: &HeaderMap,
    reply: Reply,
) -> Reply {
    let Body::Medium(range) = reply.body() else { return reply };
    let size = range.count;
    let agent = headers.get(USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes())).unwrap_or_default();
    let download = Download {
        file: start(file, MAX_FILE).into(),
        kind,
        outcome: DownloadOutcome::UnderWay,
        octets: 0,
        size,
        agent: start(&agent, MAX_AGENT).into(),
    };
    let gate = shared.gate.clone();
    record(&gate, mac, &download, DownloadOutcome::UnderWay, 0);
    reply::follow(reply, move |state, octets| {
        let outcome = match state {
            DeliveryState::UnderWay => DownloadOutcome::UnderWay,
            DeliveryState::Complete => DownloadOutcome::Complete,
            DeliveryState::Aborted => DownloadOutcome::Aborted,
            DeliveryState::Silent => DownloadOutcome::Silent,
        };
        record(&gate, mac, &download, outcome, octets);
    })
}

/// Follows the reply to a request for a part of a file: what the machine has of it is read. A client that reads parts ends
/// the connection amid one as it likes.
pub fn follow_part(shared: &Shared, mac: Mac, reply: Reply) -> Reply {
    let (gate, known) = (shared.gate.clone(), AtomicU64::new(0));
    reply::follow(reply, move |_, octets| {
        let more = octets.saturating_sub(known.swap(octets, Ordering::Relaxed));
        if more > 0 {
            gate.trace_read(mac, more);
        }
    })
}

/// Follows the reply to a machine that asked for a file of the configured directory. What it loads until its kernel runs is
/// a part of its boot; what its installer loads afterwards shows only that it is alive.
pub fn follow_file(shared: &Shared, client: Option<IpAddr>, file: &str, headers: &HeaderMap, reply: Reply) -> Reply {
    let owner = client.and_then(|address| shared.gate.owner_of(address).ok().flatten());
    let Some((mac, reached)) = owner.and_then(|mac| Some((mac, shared.gate.traces.progress(mac)?))) else {
        return reply;
    };
    if reached >= Progress::System || reply.status() == StatusCode::PARTIAL_CONTENT {
        return follow_part(shared, mac, reply);
    }
    let file = file.rsplit('/').next().unwrap_or(file);
    follow(shared, mac, (file, DownloadKind::Image), headers, reply)
}

fn record(gate: &Arc<Gate>, mac: Mac, download: &Download, outcome: DownloadOutcome, octets: u64) {
    gate.trace(mac, Step::Download(Box::new(Download { outcome, octets, ..download.clone() })));
}

/// Returns the beginning of a text, of at most so many octets.
fn start(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
