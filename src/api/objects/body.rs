//! Reading of request bodies: size and time limits, media types, JSON and YAML.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::HeaderMap;
use hyper::body::Body;
use hyper::header::CONTENT_TYPE;
use serde::de::{DeserializeOwned, DeserializeSeed};
use serde_json::Value;
use serde_saphyr::DuplicateKeyPolicy;

use crate::fleet::deserialize_with_path;
use crate::provision::yaml_error;

use crate::api::objects::duplicate_keys::DuplicateKeyDetector;
use crate::api::objects::status::Status;

/// Maximum size of an object's body in bytes; a config may hold several files.
pub const MAX_OBJECT_BYTES: usize = 4 * 1024 * 1024;
/// Maximum time for an object's body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads a whole body within the limits of size and time.
///
/// # Errors
/// 413 for a body over `MAX_OBJECT_BYTES`, 408 for one that takes longer than `BODY_TIMEOUT`, 400 for one that breaks
/// off.
pub async fn read(body: impl Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>) -> Result<Bytes, Status> {
    read_at_most(body, MAX_OBJECT_BYTES).await
}

/// Reads a whole body of at most `limit` bytes.
///
/// # Errors
/// As `read`.
pub async fn read_at_most(
    body: impl Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    limit: usize,
) -> Result<Bytes, Status> {
    let whole = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect());
    match whole.await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Status::too_large(limit)),
        Ok(Err(error)) => Err(Status::bad_request(format!("the body broke off: {error}"))),
        Err(_) => Err(Status::timeout(format!("the body took longer than {} s", BODY_TIMEOUT.as_secs()))),
    }
}

/// Returns a request's media type without its parameters; an empty text without a Content-Type.
pub fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// Parses an optional body into a type; an empty body means the type's default.
///
/// # Errors
/// 400 with the field that is wrong, or as `parse`.
pub fn parse_or_default<T: DeserializeOwned + Default>(kind: &str, body: &[u8]) -> Result<T, Status> {
    match body {
        [] => Ok(T::default()),
        body => deserialize_with_path(&parse(kind, body)?).map_err(|error| Status::bad_request(error.to_string())),
    }
}

/// Parses JSON, or YAML if the media type is that of YAML. A repeated key is an error.
///
/// # Errors
/// 400 for a text that does not parse or repeats a key, 415 for an unknown media type.
pub fn parse(kind: &str, body: &[u8]) -> Result<Value, Status> {
    let mut duplicates = Vec::new();
    let value = read_as(kind, body, DuplicateKeyPolicy::Error, &mut duplicates)?;
    match duplicates.is_empty() {
        true => Ok(value),
        false => Err(Status::bad_request(format!("duplicate keys in the body: {}", duplicates.join(", ")))),
    }
}

/// Parses as `parse` does, but keeps the last value of a repeated key and adds the key to `duplicates`.
///
/// # Errors
/// As `parse`, except for repeated keys.
pub fn parse_leniently(kind: &str, body: &[u8], duplicates: &mut Vec<String>) -> Result<Value, Status> {
    read_as(kind, body, DuplicateKeyPolicy::LastWins, duplicates)
}

/// Parses by media type. A body without one is read as YAML, which includes JSON.
fn read_as(kind: &str, body: &[u8], keys: DuplicateKeyPolicy, duplicates: &mut Vec<String>) -> Result<Value, Status> {
    let text =
        std::str::from_utf8(body).map_err(|error| Status::bad_request(format!("the body is not UTF-8: {error}")))?;
    match kind {
        "application/json" | "application/merge-patch+json" | "application/json-patch+json" => {
            let mut from = serde_json::Deserializer::from_str(text);
            let detector = DuplicateKeyDetector::new(duplicates);
            let read = detector.deserialize(&mut from).and_then(|value| from.end().map(|()| value));
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
            let read =
                |from: serde_saphyr::Deserializer<'_, '_>| DuplicateKeyDetector::new(duplicates).deserialize(from);
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
    use http_body_util::Full;

    use super::*;

    #[test]
    fn a_repeated_key_is_an_error_in_json_and_yaml() {
        let yaml = b"a: 1\nb: {c: 1, c: 2}\n";
        let json = br#"{"a": 1, "b": {"c": 1, "c": 2}}"#;
        for (kind, body) in [("application/yaml", &yaml[..]), ("application/json", json), ("", json)] {
            let refused = parse(kind, body).unwrap_err();
            assert!(refused.code == 400 && refused.message().contains('c'), "{kind}: {refused:?}");
            let mut duplicates = Vec::new();
            let value = parse_leniently(kind, body, &mut duplicates).unwrap();
            assert_eq!((&value["b"]["c"], duplicates.join(" ").as_str()), (&2.into(), "b.c"), "{kind}");
        }
    }

    #[test]
    fn a_yaml_merge_key_may_be_overridden() {
        let yaml = b"a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n";
        let mut duplicates = Vec::new();
        let value = parse_leniently("application/yaml", yaml, &mut duplicates).unwrap();
        assert_eq!((&value["b"], duplicates.len()), (&serde_json::json!({"x": 1, "y": 3}), 0));
        assert_eq!(parse("application/yaml", yaml).unwrap(), value);
    }

    #[test]
    fn a_body_that_does_not_parse_is_refused_with_its_code() {
        let rows = [
            ("application/json", &b"{"[..], 400),
            ("application/yaml", b"a: [", 400),
            ("application/yaml", b"a: 1\n---\nb: 2\n", 400),
            ("application/json", b"\xff", 400),
            ("application/xml", b"<a/>", 415),
        ];
        for (kind, body, code) in rows {
            assert_eq!(parse(kind, body).unwrap_err().code, code, "{kind}");
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let fits = read(Full::new(Bytes::from(vec![b'x'; MAX_OBJECT_BYTES]))).await;
        assert_eq!(fits.unwrap().len(), MAX_OBJECT_BYTES);
        let refused = read(Full::new(Bytes::from(vec![b'x'; MAX_OBJECT_BYTES + 1]))).await.unwrap_err();
        assert_eq!(refused.code, 413);
    }
}
