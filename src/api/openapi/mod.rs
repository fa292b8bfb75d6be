//! What is served, described by OpenAPI 3.0 (and its schemas by 2.0, for older clients).

mod generate;
mod machines;
mod paths;
mod redfish;
mod schemas;

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::header::ACCEPT;
use hyper::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::api::objects::status::Status;
use crate::http::reply::{JSON, Reply, bytes};

/// Holds the documents, written once.
struct Documents {
    index: Bytes,
    third: Bytes,
    second: Bytes,
}

static DOCUMENTS: LazyLock<Documents> = LazyLock::new(|| {
    let third = third().to_string();
    let hash: u64 = third
        .bytes()
        .fold(14_695_981_039_346_656_037, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211));
    let index = json!({"paths": {"api/v1": {"serverRelativeURL": format!("/openapi/v3/api/v1?hash={hash:016x}")}}});
    Documents { index: index.to_string().into(), third: third.into(), second: second().to_string().into() }
});

fn info() -> Value {
    json!({"title": "bootlatch", "version": env!("CARGO_PKG_VERSION"), "description": "Boots machines over the network."})
}

pub(super) fn third() -> Value {
    json!({
        "openapi": "3.0.3",
        "info": info(),
        "paths": paths::all(),
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    })
}

/// Says in Swagger 2.0 what the objects are; clients of this century read version 3.
fn second() -> Value {
    let text = schemas::all().to_string().replace("#/components/schemas/", "#/definitions/");
    let definitions: Value = serde_json::from_str(&text).unwrap_or_default();
    json!({"swagger": "2.0", "info": info(), "paths": {}, "definitions": definitions})
}

/// Answers `/openapi/v3`: where the documents are.
pub fn index() -> Reply {
    bytes(StatusCode::OK, JSON, DOCUMENTS.index.clone())
}

/// Answers `/openapi/v3/api/v1`.
pub fn document() -> Reply {
    bytes(StatusCode::OK, JSON, DOCUMENTS.third.clone())
}

/// Answers `/openapi/v2`: in JSON, and not in the protobuf that a client may ask for alone.
pub fn swagger(headers: &HeaderMap) -> Result<Reply, Status> {
    match takes_json(headers) {
        true => Ok(bytes(StatusCode::OK, JSON, DOCUMENTS.second.clone())),
        false => Err(Status::not_acceptable("this is served as application/json alone")),
    }
}

/// Says whether a client takes JSON (RFC 9110, section 12.5.1).
fn takes_json(headers: &HeaderMap) -> bool {
    let mut ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    let is_json = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let is_refused = parts.any(|part| part.strip_prefix("q=").and_then(|q| q.parse().ok()) == Some(0.0));
        ["*/*", "application/*", "application/json"].iter().any(|one| media.eq_ignore_ascii_case(one)) && !is_refused
    };
    ranges.peek().is_none() || ranges.flat_map(|value| value.split(',')).any(is_json)
}

#[cfg(test)]
mod tests;
