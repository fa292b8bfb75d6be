//! The messages that kubectl sends in protobuf only. Pure.

use prost::Message;
use serde_json::{Value, json};

/// Prefix of `application/vnd.kubernetes.protobuf` bodies; a `runtime.Unknown` follows.
const MAGIC: &[u8] = b"k8s\0";

/// An object of any kind (k8s.io/apimachinery/pkg/runtime, `Unknown`).
#[derive(Clone, PartialEq, Message)]
struct Unknown {
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

/// A `SelfSubjectAccessReview` (k8s.io/api/authorization/v1).
#[derive(Clone, PartialEq, Message)]
struct AccessReview {
    #[prost(message, optional, tag = "2")]
    spec: Option<ProtoAccessReviewSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoAccessReviewSpec {
    #[prost(message, optional, tag = "1")]
    resource_attributes: Option<ProtoResourceAttributes>,
    #[prost(message, optional, tag = "2")]
    non_resource_attributes: Option<ProtoNonResourceAttributes>,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoResourceAttributes {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    verb: String,
    #[prost(string, tag = "3")]
    group: String,
    #[prost(string, tag = "4")]
    version: String,
    #[prost(string, tag = "5")]
    resource: String,
    #[prost(string, tag = "6")]
    subresource: String,
    #[prost(string, tag = "7")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoNonResourceAttributes {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(string, tag = "2")]
    verb: String,
}

/// Returns the object's own message from a request body.
pub fn object(body: &[u8]) -> Option<Vec<u8>> {
    Some(Unknown::decode(body.strip_prefix(MAGIC)?).ok()?.raw)
}

/// Returns the spec of a `SelfSubjectAccessReview` as its JSON; `None` if the bytes are not one.
pub fn access_review_spec(message: &[u8]) -> Option<Value> {
    let ProtoAccessReviewSpec { resource_attributes, non_resource_attributes } =
        AccessReview::decode(message).ok()?.spec.unwrap_or_default();
    let mut spec = json!({});
    if let Some(asked) = resource_attributes {
        let ProtoResourceAttributes { namespace, verb, group, version, resource, subresource, name } = asked;
        spec["resourceAttributes"] = json!({
            "namespace": namespace, "verb": verb, "group": group, "version": version, "resource": resource,
            "subresource": subresource, "name": name,
        });
    }
    if let Some(ProtoNonResourceAttributes { path, verb }) = non_resource_attributes {
        spec["nonResourceAttributes"] = json!({"path": path, "verb": verb});
    }
    Some(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_found_behind_the_prefix() {
        assert_eq!(object(b"k8s\0\x12\x01x").as_deref(), Some(&b"x"[..]));
        assert_eq!(object(b"k8s\0").as_deref(), Some(&b""[..]));
        for broken in [&b"x"[..], b"k8s\0\x12\x02x", b"k8s\0\xff"] {
            assert_eq!(object(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_review_without_a_spec_asks_nothing() {
        assert_eq!(access_review_spec(b""), Some(json!({})));
        assert_eq!(access_review_spec(b"\x12\x05\x12\x03\x0a\x01/").unwrap()["nonResourceAttributes"]["path"], "/");
    }
}
