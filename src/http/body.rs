use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::HeaderMap;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use serde_json::Value;

use super::status::Status;

/// Bounds an object's body; a config may hold a few files.
pub const OBJECT_BYTES: usize = 4 * 1024 * 1024;
/// Is how long an object's body may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(30);

/// Reads a whole body within the limits.
pub async fn read(body: Incoming) -> Result<Bytes, Status> {
    let whole = tokio::time::timeout(BODY_WAIT, Limited::new(body, OBJECT_BYTES).collect());
    match whole.await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Status::too_large(OBJECT_BYTES)),
        Ok(Err(error)) => Err(Status::bad_request(format!("the body broke off: {error}"))),
        Err(_) => Err(Status::timeout(format!("the body took longer than {} s", BODY_WAIT.as_secs()))),
    }
}

/// Gives a request's media type without its parameters.
pub fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// Reads JSON, or YAML where the media type says so. YAML is a superset, so what names no type is read as that.
pub fn parse(kind: &str, body: &[u8]) -> Result<Value, Status> {
    let text =
        std::str::from_utf8(body).map_err(|error| Status::bad_request(format!("the body is not UTF-8: {error}")))?;
    match kind {
        "application/json" | "application/merge-patch+json" | "application/json-patch+json" => {
            serde_json::from_str(text).map_err(|error| Status::bad_request(format!("the body is not JSON: {error}")))
        }
        ""
        | "application/yaml"
        | "application/x-yaml"
        | "text/yaml"
        | "text/x-yaml"
        | "application/vnd.yaml"
        | "application/apply-patch+yaml"
        | "application/x-www-form-urlencoded"
        | "text/plain" => serde_saphyr::from_str(text).map_err(|error| {
            // The parser's snippet shows lines of the body, and those may hold secrets.
            Status::bad_request(format!("the body is neither JSON nor YAML: {}", error.without_snippet()))
        }),
        other => Err(Status::unsupported_media(format!("{other:?}: send application/json or application/yaml"))),
    }
}
