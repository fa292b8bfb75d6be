use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::HeaderMap;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use serde::de::DeserializeSeed;
use serde_json::Value;
use serde_saphyr::DuplicateKeyPolicy;

use crate::provision::yaml_error;

use crate::api::objects::duplicate_keys::Reader;
use crate::api::objects::status::Status;

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

/// Reads JSON, or YAML where the media type says so; a key may stand once.
pub fn parse(kind: &str, body: &[u8]) -> Result<Value, Status> {
    let mut twice = Vec::new();
    let value = read_as(kind, body, DuplicateKeyPolicy::Error, &mut twice)?;
    match twice.is_empty() {
        true => Ok(value),
        false => Err(Status::bad_request(format!("the body gives a key twice: {}", twice.join(", ")))),
    }
}

/// Reads as `parse` does; of a key that stands twice the last counts, and it is noted.
pub fn parse_leniently(kind: &str, body: &[u8], twice: &mut Vec<String>) -> Result<Value, Status> {
    read_as(kind, body, DuplicateKeyPolicy::LastWins, twice)
}

/// YAML is a superset of JSON, so what names no type is read as that.
fn read_as(kind: &str, body: &[u8], keys: DuplicateKeyPolicy, twice: &mut Vec<String>) -> Result<Value, Status> {
    let text =
        std::str::from_utf8(body).map_err(|error| Status::bad_request(format!("the body is not UTF-8: {error}")))?;
    match kind {
        "application/json" | "application/merge-patch+json" | "application/json-patch+json" => {
            let mut from = serde_json::Deserializer::from_str(text);
            let read = Reader::new(twice).deserialize(&mut from).and_then(|value| from.end().map(|()| value));
            read.map_err(|error| Status::bad_request(format!("the body is not JSON: {error}")))
        }
        ""
        | "application/yaml"
        | "application/x-yaml"
        | "text/yaml"
        | "text/x-yaml"
        | "application/vnd.yaml"
        | "application/apply-patch+yaml"
        | "application/x-www-form-urlencoded"
        | "text/plain" => {
            let options = serde_saphyr::options! { duplicate_keys: keys };
            let read = |from: serde_saphyr::Deserializer<'_, '_>| Reader::new(twice).deserialize(from);
            serde_saphyr::with_deserializer_from_str_with_options(text, options, read).map_err(|error| {
                Status::bad_request(match error.without_snippet() {
                    serde_saphyr::Error::MultipleDocuments { .. } => {
                        "the body has more than one YAML document: send each object by itself".to_owned()
                    }
                    wrong => format!("the body is neither JSON nor YAML: {}", yaml_error(wrong)),
                })
            })
        }
        other => Err(Status::unsupported_media(format!("{other:?}: send application/json or application/yaml"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_once_in_json_and_yaml() {
        let yaml = b"a: 1\nb: {c: 1, c: 2}\n";
        let json = br#"{"a": 1, "b": {"c": 1, "c": 2}}"#;
        for (kind, body) in [("application/yaml", &yaml[..]), ("application/json", json), ("", json)] {
            let refused = parse(kind, body).unwrap_err();
            assert!(refused.code == 400 && refused.message().contains('c'), "{kind}: {refused:?}");
            let mut twice = Vec::new();
            let value = parse_leniently(kind, body, &mut twice).unwrap();
            assert_eq!((&value["b"]["c"], twice.join(" ").as_str()), (&2.into(), "b.c"), "{kind}");
        }
    }

    #[test]
    fn what_a_merge_key_brings_may_be_overridden() {
        let yaml = b"a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n";
        let mut twice = Vec::new();
        let value = parse_leniently("application/yaml", yaml, &mut twice).unwrap();
        assert_eq!((&value["b"], twice.len()), (&serde_json::json!({"x": 1, "y": 3}), 0));
        assert_eq!(parse("application/yaml", yaml).unwrap(), value);
    }
}
