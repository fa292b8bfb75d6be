//! Namespaces, which exist by their hosts: they are listed, and neither created nor deleted.

use std::collections::BTreeSet;

use hyper::header::HeaderMap;
use serde_json::json;

use crate::fleet::Name;

use crate::api::objects::plain_lists::PlainKind;
use crate::api::objects::status::Status;
use crate::api::objects::table::PlainRow;
use crate::api::state::Shared;
use crate::http::reply::Reply;

const NAMESPACE: PlainKind = PlainKind {
    kind: "Namespace",
    columns: &[("Name", "Name of the namespace."), ("Status", "Always Active."), ("Age", "Not recorded.")],
};

/// Answers `/api/v1/namespaces`: the configured one, and those that have hosts.
///
/// # Errors
/// 406 for a client that takes no JSON.
pub fn list(shared: &Shared, query: Option<&str>, headers: &HeaderMap) -> Result<Reply, Status> {
    let state = shared.gate.store.snapshot();
    let mut names: BTreeSet<Name> = state.hosts().filter_map(|host| host.metadata.namespace.clone()).collect();
    names.insert(shared.gate.site().namespace.clone());
    NAMESPACE.list(names.iter().map(row).collect(), state.version, query, headers)
}

/// Answers `/api/v1/namespaces/NAME`.
///
/// # Errors
/// 404 for a namespace without hosts that is not the configured one, 406 for a client that takes no JSON.
pub fn read(shared: &Shared, name: &str, query: Option<&str>, headers: &HeaderMap) -> Result<Reply, Status> {
    let unknown = || Status::not_found_message(format!("namespaces {name:?} not found"));
    let name: Name = name.parse().map_err(|_| unknown())?;
    let has_hosts = || shared.gate.store.load().hosts().any(|host| host.metadata.namespace.as_ref() == Some(&name));
    match name == shared.gate.site().namespace || has_hosts() {
        true => NAMESPACE.one(row(&name), query, headers),
        false => Err(unknown()),
    }
}

fn row(name: &Name) -> PlainRow {
    let object = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {}, "status": {"phase": "Active"},
    });
    (vec![name.to_string(), "Active".to_owned(), "<unknown>".to_owned()], object)
}
