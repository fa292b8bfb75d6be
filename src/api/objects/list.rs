use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;

use crate::fleet::{Key, Kind, Name, Object};
use crate::store::{Snapshot, now};

use crate::api::objects::options::{Form, Options};
use crate::api::objects::redaction::{List, ListMeta, Metadata, View};
use crate::api::objects::status::Status;
use crate::api::objects::table::Table;
use crate::api::state::Shared;
use crate::http::reply::{Reply, json};

/// Bounds the states that are kept for lists which are read page by page.
const STATES: usize = 8;
/// Is how long such a state is kept.
const KEPT: Duration = Duration::from_secs(300);

/// Keeps the states that lists began in, so that every page of a list is of the same moment.
#[derive(Debug, Default)]
pub struct Pages(Mutex<VecDeque<(Instant, Arc<Snapshot>)>>);

impl Pages {
    fn keep(&self, state: &Arc<Snapshot>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(since, _)| since.elapsed() < KEPT);
        if kept.iter().any(|(_, known)| known.version == state.version) {
            return;
        }
        if kept.len() == STATES {
            kept.pop_front();
        }
        kept.push_back((Instant::now(), state.clone()));
    }

    fn find(&self, version: u64) -> Option<Arc<Snapshot>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(_, state)| state.version == version).map(|(_, state)| state.clone())
    }
}

/// Lists the objects of a kind that are asked for, or one page of them.
pub fn list(shared: &Shared, kind: Kind, options: &Options) -> Result<Reply, Status> {
    let (state, after) = match &options.next {
        // The token says which version.
        Some(_) if options.version.is_some_and(|version| version > 0) => {
            return Err(Status::bad_request(
                "resourceVersion: a list that goes on (continue) is of the version it began at",
            ));
        }
        Some(token) => begun(shared, kind, token)?,
        None if options.is_exact => (exactly(shared, options.version)?, None),
        None => (shared.gate.store.snapshot(), None),
    };
    let mut selected = state.list(kind, after.as_ref()).filter(|object| options.selection.takes(object));
    let items: Vec<&Object> = match options.limit {
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
    Ok(match options.form {
        Form::Plain => {
            let items: Vec<_> = items.into_iter().map(View).collect();
            json(StatusCode::OK, &List { api_version: "v1", kind: format!("{kind}List"), metadata, items })
        }
        Form::Metadata => {
            let items: Vec<_> = items.into_iter().map(Metadata).collect();
            let kind = "PartialObjectMetadataList".to_owned();
            json(StatusCode::OK, &List { api_version: "meta.k8s.io/v1", kind, metadata, items })
        }
        Form::Table(include) => json(StatusCode::OK, &Table::of(kind, items.into_iter(), metadata, include, now())),
    })
}

/// Finds the state at a version: the present one, or one that is kept for a list.
fn exactly(shared: &Shared, version: Option<u64>) -> Result<Arc<Snapshot>, Status> {
    let wanted = "resourceVersionMatch=Exact needs the resourceVersion that the list is to be of";
    let version = version.filter(|version| *version > 0).ok_or_else(|| Status::bad_request(wanted))?;
    let now = shared.gate.store.snapshot();
    let kept = if now.version == version { Some(now.clone()) } else { shared.pages.find(version) };
    let message = || format!("the state of version {version} is not kept: it is {} now", now.version);
    kept.ok_or_else(|| Status::gone(message()))
}

/// Names a place in a list: the state's version, and the last object that was given.
fn token(state: &Snapshot, last: &Key) -> String {
    let namespace = last.namespace.as_ref().map_or("", Name::as_str);
    format!("{}:{namespace}/{}", state.version, last.name)
}

fn begun(shared: &Shared, kind: Kind, token: &str) -> Result<(Arc<Snapshot>, Option<Key>), Status> {
    let place = || {
        let (version, rest) = token.split_once(':')?;
        let (namespace, name) = rest.split_once('/')?;
        let namespace = if namespace.is_empty() { None } else { Some(namespace.parse().ok()?) };
        Some((version.parse().ok()?, Key { kind, namespace, name: name.parse().ok()? }))
    };
    let (version, after) =
        place().ok_or_else(|| Status::bad_request("continue is not a token that this server gave"))?;
    let expired = || Status::gone("the list that this continues is no longer kept: begin it again");
    let state = shared.pages.find(version).ok_or_else(expired)?;
    Ok((state, Some(after)))
}
