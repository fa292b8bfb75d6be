//! Preconditions of Redfish requests: an `If-Match` that names what the client saw (RFC 9110, section 13.1.1).

use hyper::StatusCode;
use hyper::header::{HeaderMap, IF_MATCH};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::fleet::Host;

use crate::api::redfish::error::RedfishError;

/// The versions of a resource that a request is meant for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct IfMatch(Option<Vec<String>>);

impl IfMatch {
    /// Reads the header of a request.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(IF_MATCH).iter().peekable();
        if values.peek().is_none() {
            return Self(None);
        }
        // A value that is not text matches no resource.
        let texts = values.map(|value| value.to_str().unwrap_or_default());
        Self(Some(texts.flat_map(|text| text.split(',')).map(|tag| tag.trim().to_owned()).collect()))
    }

    /// Checks the precondition against a resource. A weak tag matches no resource (RFC 9110, section 8.8.3.2).
    ///
    /// # Errors
    /// 412 if the resource is another version than the ones that the request names.
    pub fn check(&self, resource: impl FnOnce() -> Value) -> Result<(), RedfishError> {
        let Some(tags) = &self.0 else { return Ok(()) };
        if tags.iter().any(|tag| tag == "*") || tags.contains(&entity_tag(&resource())) {
            return Ok(());
        }
        let message = "If-Match: the resource has changed: read it again";
        Err(RedfishError::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", message))
    }
}

/// The precondition of a change of a host, which is checked against the version that the change replaces.
#[derive(Clone, Copy)]
pub struct HostPrecondition<'a> {
    if_match: &'a IfMatch,
    resource: &'a (dyn Fn(&Host) -> Value + Sync),
}

impl std::fmt::Debug for HostPrecondition<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.if_match.fmt(out)
    }
}

impl<'a> HostPrecondition<'a> {
    /// Creates the precondition for a resource that is made from a host.
    pub fn new(if_match: &'a IfMatch, resource: &'a (dyn Fn(&Host) -> Value + Sync)) -> Self {
        Self { if_match, resource }
    }

    /// Checks the precondition.
    ///
    /// # Errors
    /// As `IfMatch::check`.
    pub fn check(&self, host: &Host) -> Result<(), RedfishError> {
        self.if_match.check(|| (self.resource)(host))
    }
}

/// Returns the entity tag of a resource. The power state has no part in it: it is asked of the BMC at each read, and no
/// PATCH changes it.
pub fn entity_tag(resource: &Value) -> String {
    let mut digest = Sha256::new();
    match resource.as_object() {
        Some(properties) => {
            for (name, value) in properties.iter().filter(|(name, _)| *name != "PowerState") {
                digest.update(format!("{name:?}:{value},"));
            }
        }
        None => digest.update(resource.to_string()),
    }
    format!("\"{}\"", hex::encode(&digest.finalize()[..8]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_for_the_versions_that_it_names() {
        let resource = json!({"Id": "a", "PowerState": "On"});
        let tag = entity_tag(&resource);
        assert_eq!(tag, entity_tag(&json!({"Id": "a", "PowerState": null})));
        assert_ne!(tag, entity_tag(&json!({"Id": "b", "PowerState": "On"})));
        let rows = [
            (vec![], true),
            (vec!["*".to_owned()], true),
            (vec![tag.clone()], true),
            (vec![format!("\"x\", {tag}")], true),
            (vec!["\"x\"".to_owned(), tag.clone()], true),
            (vec!["\"x\"".to_owned()], false),
            (vec![format!("W/{tag}")], false),
            (vec![tag.trim_matches('"').to_owned()], false),
            (vec![String::new()], false),
        ];
        for (values, expected) in rows {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(IF_MATCH, value.parse().unwrap());
            }
            assert_eq!(IfMatch::of(&headers).check(|| resource.clone()).is_ok(), expected, "{values:?}");
        }
    }
}
