//! The rows of all objects: what a page loads first.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_ENCODING, HeaderMap, HeaderValue};
use serde::Serialize;

use crate::api::objects::status::Status;
use crate::api::state::Shared;
use crate::api::ui::{accepts_gzip, host_key};
use crate::fleet::{Key, Kind};
use crate::http::reply::{self, JSON, Reply};
use crate::store::{Snapshot, now};
use crate::ui::rows::PageRows;

/// All rows at one version.
#[derive(Serialize)]
struct AllRows {
    /// Version from which the stream of changes goes on.
    version: u64,
    /// The server's time, in milliseconds since 1970 (UTC).
    time: i64,
    #[serde(flatten)]
    rows: PageRows,
}

/// Answers the request for all rows. With `host` in the query, only that host is among them.
///
/// # Errors
/// 500 if they could not be written as JSON.
pub async fn all(shared: &Shared, headers: &HeaderMap, query: Option<&str>) -> Result<Reply, Status> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let host = pairs.find(|(name, _)| name == "host").map(|(_, value)| host_key(&value));
    let (state, is_compressed) = (shared.gate.store.snapshot(), accepts_gzip(headers));
    let written = tokio::task::spawn_blocking(move || encode(&state, host.as_ref(), is_compressed)).await;
    let body = written.map_err(std::io::Error::other).flatten().map_err(|error| Status::internal(error.to_string()))?;
    let mut reply = reply::bytes(StatusCode::OK, JSON, body);
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if is_compressed {
        reply.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(reply)
}

/// `host`: the key of the only host; no host at all if it is no key.
fn encode(state: &Snapshot, host: Option<&Option<Key>>, is_compressed: bool) -> std::io::Result<Vec<u8>> {
    let mut rows = PageRows::default();
    for kind in Kind::ALL {
        match host {
            Some(key) if kind == Kind::BareMetalHost => {
                key.as_ref().and_then(|key| state.get(key)).iter().for_each(|object| rows.add(object));
            }
            Some(_) | None => state.list(kind, None).for_each(|object| rows.add(&object)),
        }
    }
    let all = AllRows { version: state.version, time: now().as_millisecond(), rows };
    if !is_compressed {
        return Ok(serde_json::to_vec(&all)?);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(3));
    encoder.write_all(&serde_json::to_vec(&all)?)?;
    encoder.finish()
}
