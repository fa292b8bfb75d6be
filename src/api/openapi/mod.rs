//! The OpenAPI 3.0 document of all routes, and its schemas as Swagger 2.0 for older clients.

mod build;
mod derived;
mod machines;
mod objects;
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

/// The documents, serialized once.
struct Documents {
    index: Bytes,
    v3: Bytes,
    v2: Bytes,
}

static DOCUMENTS: LazyLock<Documents> = LazyLock::new(|| {
    let v3 = v3().to_string();
    // FNV-1a: clients cache the document by this hash.
    let hash: u64 = v3
        .bytes()
        .fold(14_695_981_039_346_656_037, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211));
    let index = json!({"paths": {"api/v1": {"serverRelativeURL": format!("/openapi/v3/api/v1?hash={hash:016x}")}}});
    Documents { index: index.to_string().into(), v3: v3.into(), v2: v2().to_string().into() }
});

fn info() -> Value {
    json!({"title": "bootlatch", "version": env!("CARGO_PKG_VERSION"), "description": "Boots machines over the network."})
}

/// Returns the OpenAPI 3.0 document.
pub(super) fn v3() -> Value {
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

/// Returns the schemas as Swagger 2.0, without paths: current clients read version 3.
fn v2() -> Value {
    let text = schemas::all().to_string().replace("#/components/schemas/", "#/definitions/");
    let mut definitions: Value = serde_json::from_str(&text).unwrap_or_default();
    remove_openapi3(&mut definitions);
    json!({"swagger": "2.0", "info": info(), "paths": {}, "definitions": definitions})
}

/// Removes what Swagger 2.0 does not define: null, and alternatives.
fn remove_openapi3(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.shift_remove("nullable");
            map.shift_remove("oneOf");
            if let Some(Value::Array(values)) = map.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            map.values_mut().for_each(remove_openapi3);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_openapi3),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Answers `/openapi/v3`: the paths of the documents.
pub fn index() -> Reply {
    bytes(StatusCode::OK, JSON, DOCUMENTS.index.clone())
}

/// Answers `/openapi/v3/api/v1`.
pub fn document() -> Reply {
    bytes(StatusCode::OK, JSON, DOCUMENTS.v3.clone())
}

/// Answers `/openapi/v2` in JSON.
///
/// # Errors
/// 406 for a client that accepts protobuf only.
pub fn swagger(headers: &HeaderMap) -> Result<Reply, Status> {
    match accepts_json(headers) {
        true => Ok(bytes(StatusCode::OK, JSON, DOCUMENTS.v2.clone())),
        false => Err(Status::not_acceptable("the document is served as application/json only")),
    }
}

/// Returns whether a client accepts JSON (RFC 9110, section 12.5.1).
fn accepts_json(headers: &HeaderMap) -> bool {
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
