//! What kubectl and Kubernetes' client libraries ask first: which kinds there are, and how to name them.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::fleet::Kind;

use crate::http::reply::{self, Reply};

/// Answers `/api`.
pub fn versions() -> Reply {
    let here = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}]);
    reply::json(StatusCode::OK, &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": here}))
}

/// Answers `/apis`: there are no groups beside the core's.
pub fn groups() -> Reply {
    reply::json(StatusCode::OK, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}))
}

/// Answers `/version`. Clients take features from the number: this API is of the shape that 1.32 speaks.
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
    resources.extend(["install", "release", "hold"].map(|action| {
        json!({"name": format!("baremetalhosts/{action}"), "singularName": "", "namespaced": true,
               "kind": "BareMetalHost", "verbs": ["create"]})
    }));
    let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": resources});
    reply::json(StatusCode::OK, &list)
}

/// Gives the word for one object of a kind, as `kubectl get WORD NAME` takes it.
pub fn singular(kind: Kind) -> &'static str {
    match kind {
        Kind::BareMetalHost => "baremetalhost",
        Kind::IscsiCdrom => "iscsi-cdrom",
        Kind::BootConfig => "bootconfig",
    }
}

/// Gives the short words for a kind.
pub fn short(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::BareMetalHost => &["bmh", "host", "hosts"],
        Kind::IscsiCdrom => &["cdrom", "iso", "isos"],
        Kind::BootConfig => &["bc"],
    }
}

fn resource(kind: Kind) -> Value {
    json!({
        "name": kind.plural(), "singularName": singular(kind), "namespaced": kind.is_namespaced(),
        "kind": kind.as_str(), "shortNames": short(kind), "categories": ["all"],
        "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
    })
}
