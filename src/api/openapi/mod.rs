//! The OpenAPI 3.0 document of all routes, and the same as Swagger 2.0 for older clients and kubectl.
//!
//! The document is the file `docs/reference/openapi.json`, which the binary has in compressed form. It is derived from the
//! table of routes and the serde types by modules that only the tests have (`describe`): their code is 30 times as large
//! as what they write. A test compares the two, and writes the file if it is told to:
//! `UPDATE_OPENAPI=1 cargo test --lib the_file_is_what`.

#[cfg(test)]
mod build;
#[cfg(test)]
mod derived;
#[cfg(test)]
mod machines;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod paths;
#[cfg(test)]
mod redfish;
#[cfg(test)]
mod schemas;
mod swagger;
mod swagger_protobuf;

use std::io::Read;
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::read::ZlibDecoder;
use hyper::header::{ACCEPT, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::api::objects::status::Status;
use crate::http::reply::{JSON, Reply, bytes};

/// The documents, serialized once.
struct Documents {
    index: Bytes,
    v3: Bytes,
    v2: Bytes,
    v2_protobuf: Bytes,
}

/// The media type of the Swagger document in protobuf.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The same in the spelling of kubectl's request, which is no valid media type.
const PROTOBUF_REQUESTED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// A form of the Swagger document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SwaggerForm {
    Json,
    Protobuf,
}

static DOCUMENTS: LazyLock<Documents> = LazyLock::new(|| {
    let (v3, v2) = (v3().to_string(), v2());
    // FNV-1a: clients cache the document by this hash.
    let hash: u64 = v3
        .bytes()
        .fold(14_695_981_039_346_656_037, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211));
    let index = json!({"paths": {"api/v1": {"serverRelativeURL": format!("/openapi/v3/api/v1?hash={hash:016x}")}}});
    let (v2, v2_protobuf) = (v2.to_string().into(), swagger_protobuf::encode(&v2));
    Documents { index: index.to_string().into(), v3: v3.into(), v2, v2_protobuf }
});

/// The OpenAPI 3.0 document, compressed by the build script (zlib, RFC 1950).
const COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.zlib"));

/// Returns the OpenAPI 3.0 document.
pub(super) fn v3() -> Value {
    let mut text = Vec::new();
    let read = ZlibDecoder::new(COMPRESSED).read_to_end(&mut text);
    read.expect("the build script compressed the document");
    serde_json::from_slice(&text).expect("a test compares the document with the routes")
}

/// Returns the document as Swagger 2.0.
fn v2() -> Value {
    swagger::of_v3(&v3())
}

/// Answers `/openapi/v3`: the paths of the documents.
pub fn index() -> Reply {
    bytes(StatusCode::OK, JSON, DOCUMENTS.index.clone())
}

/// Answers `/openapi/v3/api/v1`.
pub fn document() -> Reply {
    bytes(StatusCode::OK, JSON, DOCUMENTS.v3.clone())
}

/// Answers `/openapi/v2`, in JSON or protobuf.
///
/// # Errors
/// 406 for a client that accepts neither.
pub fn swagger_document(headers: &HeaderMap) -> Result<Reply, Status> {
    match accepted(headers) {
        Some(SwaggerForm::Json) => Ok(bytes(StatusCode::OK, JSON, DOCUMENTS.v2.clone())),
        Some(SwaggerForm::Protobuf) => {
            Ok(bytes(StatusCode::OK, HeaderValue::from_static(PROTOBUF), DOCUMENTS.v2_protobuf.clone()))
        }
        None => Err(Status::not_acceptable(format!("the document is served as application/json or {PROTOBUF} only"))),
    }
}

/// Returns the form that a client prefers (RFC 9110, section 12.5.1); of equal ones the first that it names.
fn accepted(headers: &HeaderMap) -> Option<SwaggerForm> {
    let mut ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if ranges.peek().is_none() {
        return Some(SwaggerForm::Json);
    }
    let mut best: Option<(f32, SwaggerForm)> = None;
    for range in ranges.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let is_one_of = |names: &[&str]| names.iter().any(|one| media.eq_ignore_ascii_case(one));
        let form = match () {
            () if is_one_of(&["*/*", "application/*", "application/json"]) => SwaggerForm::Json,
            () if is_one_of(&[PROTOBUF, PROTOBUF_REQUESTED]) => SwaggerForm::Protobuf,
            () => continue,
        };
        let quality = parts.find_map(|part| part.strip_prefix("q=")).and_then(|q| q.parse().ok()).unwrap_or(1.0);
        if quality > best.map_or(0.0, |(quality, _)| quality) {
            best = Some((quality, form));
        }
    }
    best.map(|(_, form)| form)
}

/// Returns the OpenAPI 3.0 document as the routes and the types describe it.
#[cfg(test)]
fn describe() -> Value {
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "bootlatch", "version": env!("CARGO_PKG_VERSION"),
            "description": "Boots machines over the network.",
        },
        "paths": paths::all(),
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    })
}

#[cfg(test)]
mod tests;
