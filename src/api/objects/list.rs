//! Lists of objects, whole or page by page.

use std::sync::Arc;

use hyper::StatusCode;

use crate::fleet::{Key, Kind, Name, Object};
use crate::store::{Snapshot, now};

use crate::api::objects::options::{Options, Representation};
use crate::api::objects::redaction::{List, ListMeta, Metadata, View};
use crate::api::objects::status::Status;
use crate::api::objects::table::Table;
use crate::api::state::Shared;
use crate::http::reply::{Reply, json};

/// Answers a GET of a kind: the selected objects, or one page of them.
///
/// # Errors
/// 400 for a wrong continue token, 410 if the list's snapshot is no longer kept.
pub fn list(shared: &Shared, kind: Kind, options: &Options) -> Result<Reply, Status> {
    let (state, after) = match &options.next {
        // The token names the version.
        Some(_) if options.version.is_some_and(|version| version > 0) => {
            return Err(Status::bad_request(
                "resourceVersion: must be empty with continue; the token names the version",
            ));
        }
        Some(token) => continued(shared, kind, token)?,
        None if options.is_exact => (exact_version(shared, options.version)?, None),
        None => (shared.gate.store.snapshot(), None),
    };
    let mut selected = state.list(kind, after.as_ref()).filter(|object| options.selection.matches(object));
    let items: Vec<Object> = match options.limit {
        Some(limit) => selected.by_ref().take(limit).collect(),
        None => selected.by_ref().collect(),
    };
    let next = match (selected.next().is_some(), items.last()) {
        (true, Some(last)) => {
            shared.pages.keep(&state);
            token(&state, &last.key())
        }
        _ => String::new(),
    };
    let metadata = ListMeta { resource_version: state.version.to_string(), next };
    Ok(match options.representation {
        Representation::Object => {
            let items: Vec<_> = items.iter().map(View).collect();
            json(StatusCode::OK, &List { api_version: "v1", kind: format!("{kind}List"), metadata, items })
        }
        Representation::Metadata => {
            let items: Vec<_> = items.iter().map(Metadata).collect();
            let kind = "PartialObjectMetadataList".to_owned();
            json(StatusCode::OK, &List { api_version: "meta.k8s.io/v1", kind, metadata, items })
        }
        Representation::Table(include) => {
            json(StatusCode::OK, &Table::of(kind, items.iter(), metadata, include, now()))
        }
    })
}

/// Returns the snapshot of a version: the current one, or one that is kept for a list.
fn exact_version(shared: &Shared, version: Option<u64>) -> Result<Arc<Snapshot>, Status> {
    let wanted = "resourceVersionMatch: Exact needs a resourceVersion";
    let version = version.filter(|version| *version > 0).ok_or_else(|| Status::bad_request(wanted))?;
    let now = shared.gate.store.snapshot();
    let kept = if now.version == version { Some(now.clone()) } else { shared.pages.find(version) };
    let message = || format!("resourceVersion {version} is no longer kept; the current one is {}", now.version);
    kept.ok_or_else(|| Status::gone(message()))
}

/// Returns a continue token: the snapshot's version and the last object of the page.
fn token(state: &Snapshot, last: &Key) -> String {
    let namespace = last.namespace.as_ref().map_or("", Name::as_str);
    format!("{}:{namespace}/{}", state.version, last.name)
}

/// Returns the snapshot and the last object that a continue token names.
fn continued(shared: &Shared, kind: Kind, token: &str) -> Result<(Arc<Snapshot>, Option<Key>), Status> {
    let place = || {
        let (version, rest) = token.split_once(':')?;
        let (namespace, name) = rest.split_once('/')?;
        let namespace = if namespace.is_empty() { None } else { Some(namespace.parse().ok()?) };
        Some((version.parse().ok()?, Key { kind, namespace, name: name.parse().ok()? }))
    };
    let (version, after) = place().ok_or_else(|| Status::bad_request("continue: not a token of this server"))?;
    let expired = || Status::gone("continue: the list is no longer kept; start it again");
    let state = shared.pages.find(version).ok_or_else(expired)?;
    Ok((state, Some(after)))
}
