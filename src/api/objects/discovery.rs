//! Discovery for kubectl and Kubernetes' client libraries: which kinds exist, and how they are named.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::fleet::Kind;

use crate::api::routes::{subresources, verbs};
use crate::http::reply::{self, Reply};

/// Answers `/api`.
pub fn versions() -> Reply {
    let here = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}]);
    reply::json(StatusCode::OK, &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": here}))
}

/// Answers `/apis`: there are no groups besides the core group.
pub fn groups() -> Reply {
    reply::json(StatusCode::OK, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}))
}

/// Answers `/version`. Clients infer features from the number: this API has the shape of Kubernetes 1.32.
pub fn version() -> Reply {
    let version = env!("CARGO_PKG_VERSION");
    reply::json(
        StatusCode::OK,
        &json!({
            "major": "1", "minor": "32", "gitVersion": format!("v1.32.0+bootlatch-{version}"),
            "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        }),
    )
}

/// Answers `/api/v1`.
pub fn resources() -> Reply {
    let mut resources: Vec<Value> = Kind::ALL.into_iter().map(resource).collect();
    resources.extend(subresources().map(|(kind, name, verbs)| {
        json!({"name": format!("{}/{name}", kind.plural()), "singularName": "", "namespaced": kind.is_namespaced(),
               "kind": kind.as_str(), "verbs": verbs})
    }));
    resources.extend([
        json!({"name": "events", "singularName": "event", "namespaced": true, "kind": "Event", "shortNames": ["ev"],
               "verbs": ["list"]}),
        json!({"name": "namespaces", "singularName": "namespace", "namespaced": false, "kind": "Namespace",
               "shortNames": ["ns"], "verbs": ["get", "list"]}),
    ]);
    let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": resources});
    reply::json(StatusCode::OK, &list)
}

/// Returns the singular of a kind, as in `kubectl get SINGULAR NAME`.
pub fn singular(kind: Kind) -> &'static str {
    match kind {
        Kind::BareMetalHost => "baremetalhost",
        Kind::IscsiCdrom => "iscsi-cdrom",
        Kind::BootConfig => "bootconfig",
        Kind::ConfigTemplate => "configtemplate",
    }
}

/// Returns the short names of a kind.
pub fn short(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::BareMetalHost => &["bmh", "host", "hosts"],
        Kind::IscsiCdrom => &["cdrom", "iso", "isos"],
        Kind::BootConfig => &["bc"],
        Kind::ConfigTemplate => &["ct"],
    }
}

fn resource(kind: Kind) -> Value {
    json!({
        "name": kind.plural(), "singularName": singular(kind), "namespaced": kind.is_namespaced(),
        "kind": kind.as_str(), "shortNames": short(kind), "categories": ["all"],
        "verbs": verbs(kind),
    })
}
