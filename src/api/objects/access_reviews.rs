//! Access reviews: who a client is and what it may do (`kubectl auth whoami`, `kubectl auth can-i`).

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fleet::{Kind, deserialize_with_path};

use crate::api::auth::Role;
use crate::api::objects::status::Status;
use crate::api::objects::{body, protobuf};
use crate::api::route::Review;
use crate::api::routes::subresources;
use crate::http::reply::{self, Reply};

/// Verbs that read objects.
const READS: [&str; 3] = ["get", "list", "watch"];
/// Verbs that change objects.
const WRITES: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];
/// Resources that are only read, with their verbs.
const READ_ONLY: [(&str, &[&str]); 2] = [("events", &["list"]), ("namespaces", &["get", "list"])];

/// The spec of a SelfSubjectAccessReview (authorization.k8s.io/v1).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AccessReviewSpec {
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<NonResourceAttributes>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ResourceAttributes {
    verb: String,
    group: String,
    resource: String,
    subresource: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NonResourceAttributes {
    verb: String,
}

/// Answers a review from the client's role.
///
/// # Errors
/// 400 for a body that is not a review.
pub async fn answer(review: Review, role: Role, request: Request<Incoming>) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    let spec = spec(review, body::media_type(&head.headers), &body::read(body).await?)?;
    let (group, kind, status) = match review {
        Review::Subject => ("authentication.k8s.io", "SelfSubjectReview", json!({"userInfo": user(role)})),
        Review::Access => {
            let asked = deserialize_with_path(&spec);
            let asked = asked.map_err(|error| Status::bad_request(format!("spec.{error}")))?;
            ("authorization.k8s.io", "SelfSubjectAccessReview", access(role, &asked)?)
        }
        Review::Rules => ("authorization.k8s.io", "SelfSubjectRulesReview", rules(role)),
    };
    let mut answer =
        json!({"kind": kind, "apiVersion": format!("{group}/v1"), "metadata": {}, "spec": spec, "status": status});
    if review == Review::Subject {
        answer.as_object_mut().map(|map| map.shift_remove("spec"));
    }
    Ok(reply::json(StatusCode::CREATED, &answer))
}

/// Parses a review's spec.
fn spec(review: Review, kind: &str, body: &[u8]) -> Result<Value, Status> {
    if kind == "application/vnd.kubernetes.protobuf" {
        let read = protobuf::object(body).and_then(|object| match review {
            Review::Subject | Review::Rules => Some(json!({})),
            Review::Access => protobuf::access_review_spec(&object),
        });
        return read.ok_or_else(|| Status::bad_request("the body is not a review in Kubernetes' protobuf"));
    }
    let mut value = body::parse(kind, body)?;
    let map = value.as_object_mut().ok_or_else(|| Status::bad_request("the body is not an object"))?;
    let spec = map.shift_remove("spec").unwrap_or_else(|| json!({}));
    match spec.is_object() {
        true => Ok(spec),
        false => Err(Status::bad_request("spec is not an object")),
    }
}

fn user(role: Role) -> Value {
    let name = match role {
        Role::Admin => "admin",
        Role::Viewer => "viewer",
        Role::Nobody => "nobody",
    };
    json!({"username": name, "groups": ["system:authenticated"]})
}

fn access(role: Role, asked: &AccessReviewSpec) -> Result<Value, Status> {
    let why = match (&asked.resource_attributes, &asked.non_resource_attributes) {
        (Some(attributes), None) => refusal(role, attributes),
        (None, Some(NonResourceAttributes { verb })) => {
            may(role, &["get", "head"], &["delete", "patch", "post", "put"], verb)
        }
        _ => return Err(Status::bad_request("spec: expected resourceAttributes or nonResourceAttributes")),
    };
    Ok(match why {
        None => json!({"allowed": true}),
        Some(reason) => json!({"allowed": false, "reason": reason}),
    })
}

/// Returns why a client may not do something to objects; `None` if it may.
fn refusal(role: Role, asked: &ResourceAttributes) -> Option<String> {
    let ResourceAttributes { verb, group, resource, subresource } = asked;
    if let ("" | "*", "") = (group.as_str(), subresource.as_str())
        && let Some((_, verbs)) = READ_ONLY.iter().find(|(name, _)| name == resource)
    {
        return may(role, verbs, &[], verb);
    }
    let kind = Kind::ALL.into_iter().find(|kind| kind.plural() == resource);
    if !matches!(group.as_str(), "" | "*") || (kind.is_none() && resource != "*") {
        return Some(format!("unknown resource {resource:?}"));
    }
    if matches!(subresource.as_str(), "" | "*") {
        return may(role, &READS, &WRITES, verb);
    }
    match subresources().find(|(of, name, _)| kind.is_none_or(|kind| kind == *of) && name == subresource) {
        None => Some(format!("unknown subresource {subresource:?} of {resource:?}")),
        Some((_, _, verbs)) if is_action(verbs) => may(role, &[], verbs, verb),
        Some((_, _, verbs)) => may(role, verbs, &[], verb),
    }
}

fn may(role: Role, reads: &[&str], writes: &[&str], verb: &str) -> Option<String> {
    match (role, verb) {
        (Role::Admin, "*") => None,
        (Role::Admin | Role::Viewer, verb) if reads.contains(&verb) => None,
        (Role::Admin, verb) if writes.contains(&verb) => None,
        (Role::Viewer, "*") => Some("a viewer may only read".to_owned()),
        (Role::Viewer, verb) if writes.contains(&verb) => Some("a viewer may only read".to_owned()),
        (Role::Admin | Role::Viewer, verb) => Some(format!("{verb:?} is not supported for this resource")),
        (Role::Nobody, _) => Some("not authenticated".to_owned()),
    }
}

/// Returns whether the verbs of a subresource are those of an action.
fn is_action(verbs: &[&str]) -> bool {
    verbs.contains(&"create")
}

fn rules(role: Role) -> Value {
    let everything: Vec<&str> = READS.into_iter().chain(WRITES).collect();
    let plurals = Kind::ALL.map(Kind::plural);
    let parts = |action: bool| -> Vec<String> {
        let parts = subresources().filter(|(_, _, verbs)| is_action(verbs) == action);
        parts.map(|(kind, name, _)| format!("{}/{name}", kind.plural())).collect()
    };
    let on = |resources: Value, verbs: &[&str]| json!({"apiGroups": [""], "resources": resources, "verbs": verbs});
    let mut objects = vec![on(json!(parts(false)), &["get"])];
    objects.extend(READ_ONLY.iter().map(|(name, verbs)| on(json!([name]), verbs)));
    let paths: &[&str] = match role {
        Role::Admin => {
            objects.extend([on(json!(plurals), &everything), on(json!(parts(true)), &["create"])]);
            &["delete", "get", "head", "patch", "post", "put"]
        }
        Role::Viewer | Role::Nobody => {
            objects.push(on(json!(plurals), &READS));
            &["get", "head"]
        }
    };
    let paths = json!([{"nonResourceURLs": ["*"], "verbs": paths}]);
    json!({"resourceRules": objects, "nonResourceRules": paths, "incomplete": false})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(role: Role, verb: &str, resource: &str) -> bool {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let [verb, resource, subresource] = [verb, resource, subresource].map(str::to_owned);
        refusal(role, &ResourceAttributes { verb, group: String::new(), resource, subresource }).is_none()
    }

    #[test]
    fn a_review_of_kubectl_is_parsed() {
        // As kubectl 1.32 sends `auth can-i delete bmh/x`: metadata, then spec with its resource attributes.
        let attributes = b"\x0a\x07default\x12\x06delete\x1a\x00\x22\x01*\x2a\x0ebaremetalhosts\x32\x00\x3a\x01x";
        let mut object = vec![0x0a, 0, 0x12, attributes.len() as u8 + 2, 0x0a, attributes.len() as u8];
        object.extend(attributes);
        let asked = protobuf::access_review_spec(&object).unwrap();
        assert_eq!(asked["resourceAttributes"]["verb"], "delete");
        let asked: AccessReviewSpec = serde_json::from_value(asked).unwrap();
        assert!(refusal(Role::Admin, asked.resource_attributes.as_ref().unwrap()).is_none());
        assert!(refusal(Role::Viewer, asked.resource_attributes.as_ref().unwrap()).is_some());
        assert_eq!(protobuf::access_review_spec(&object[..9]), None);
    }

    #[test]
    fn a_viewer_reads_and_an_admin_does_everything_that_exists() {
        let rows = [
            ("get", "baremetalhosts", true, true),
            ("watch", "*", true, true),
            ("delete", "iscsi-cdroms", true, false),
            ("*", "*", true, false),
            ("create", "baremetalhosts/install", true, false),
            ("get", "baremetalhosts/timeline", true, true),
            ("get", "baremetalhosts/install", false, false),
            ("create", "bootconfigs/install", false, false),
            ("impersonate", "baremetalhosts", false, false),
            ("deletecollection", "bootconfigs", true, false),
            ("list", "events", true, true),
            ("get", "namespaces", true, true),
            ("delete", "namespaces", false, false),
            ("get", "pods", false, false),
        ];
        for (verb, resource, admin, viewer) in rows {
            let found = (allowed(Role::Admin, verb, resource), allowed(Role::Viewer, verb, resource));
            assert_eq!(found, (admin, viewer), "{verb} {resource}");
        }
    }
}
