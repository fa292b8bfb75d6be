//! Follows the files that machines load over HTTP, for the diagnosis of boots that do not go on.

use std::sync::Arc;

use hyper::header::{HeaderMap, USER_AGENT};

use crate::api::state::Shared;
use crate::boot::diagnosis::{Download, DownloadKind, DownloadOutcome, Step};
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

fn record(gate: &Arc<Gate>, mac: Mac, download: &Download, outcome: DownloadOutcome, octets: u64) {
    gate.trace(mac, Step::Download(Box::new(Download { outcome, octets, ..download.clone() })));
}

/// Returns the beginning of a text, of at most so many octets.
fn start(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
