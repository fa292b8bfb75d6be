//! Writes of objects: decode, admit, commit, and retry if another writer came first.

use std::borrow::Cow;

use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use crate::admission::{metadata, prepare};
use crate::fleet::rules::Invalid;
use crate::fleet::{Key, Kind, Name, Object};
use crate::store::{Change, Expect, StoreError, now};

use crate::api::objects::body::MAX_OBJECT_BYTES;
use crate::api::objects::field_validation::Decoder;
use crate::api::objects::redaction::unredact;
use crate::api::objects::status::Status;
use crate::api::objects::{managed_fields, restore};
use crate::api::state::Shared;

/// The mode of a write.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteMode<'a> {
    /// Whether the result is only computed.
    pub dry_run: bool,
    /// The client that sets the fields, by other means than apply; `None` if the managers are recorded already, or for
    /// what the server sets itself.
    pub manager: Option<&'a str>,
}

/// Maximum size of an object in bytes, with its metadata. One request brings half of it at most.
const MAX_STORED_BYTES: usize = 2 * MAX_OBJECT_BYTES;
/// Maximum number of attempts at a change while other writers come first.
const MAX_ATTEMPTS: usize = 64;

/// Returns an object by its key.
///
/// # Errors
/// 404 if it does not exist.
pub fn find(shared: &Shared, key: &Key) -> Result<Object, Status> {
    let state = shared.gate.store.load();
    state.get(key).ok_or_else(|| Status::not_found(key.kind, key.name.as_str()))
}

/// Returns an object's JSON, secrets included.
///
/// # Errors
/// 500 if it does not serialize.
pub fn to_value(object: &Object) -> Result<Value, Status> {
    let text = object.to_json().map_err(|error| Status::internal(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| Status::internal(error.to_string()))
}

/// Decodes a body into an object, in the namespace of its route.
///
/// # Errors
/// 400 if the body belongs to another kind or namespace than the route, 422 with the field that is wrong.
pub fn decode(
    shared: &Shared,
    kind: Kind,
    namespace: Option<Name>,
    mut value: Value,
    decoder: &mut Decoder,
) -> Result<Object, Status> {
    let Some(map) = value.as_object_mut() else { return Err(Status::bad_request("the body is not an object")) };
    let expected = [("apiVersion", "v1"), ("kind", kind.as_str())];
    for (field, expected) in expected {
        match map.shift_remove(field) {
            None => {}
            Some(Value::String(found)) if found == expected => {}
            Some(found) => {
                return Err(Status::bad_request(format!("{field}: {found}, but this route expects {expected:?}")));
            }
        }
    }
    let Some(meta) = map.get_mut("metadata").and_then(Value::as_object_mut) else {
        return Err(invalid(kind, "", "metadata", "missing; an object needs metadata.name"));
    };
    let name = meta.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    metadata::normalize(meta).map_err(|wrong| Status::invalid(kind, &name, &wrong))?;
    let given = meta.shift_remove("namespace").filter(|given| !given.is_null() && given != "");
    if kind.is_namespaced() {
        let namespace = match (given, namespace) {
            (None, namespace) => namespace.unwrap_or_else(|| shared.gate.site().namespace.clone()).to_string(),
            (Some(Value::String(given)), Some(route)) if given != route.as_str() => {
                let message = format!("metadata.namespace: {given}, but the route is in namespace {route}");
                return Err(Status::bad_request(message));
            }
            (Some(Value::String(given)), _) => given,
            (Some(other), _) => {
                return Err(invalid(kind, &name, "metadata.namespace", &format!("{other} is not a name")));
            }
        };
        meta.insert("namespace".into(), namespace.into());
    }
    decoder.object(kind, value).map_err(|wrong| Status::invalid(kind, &name, &wrong))
}

fn invalid(kind: Kind, name: &str, field: &'static str, message: &str) -> Status {
    Status::invalid(kind, name, &Invalid { field: Cow::Borrowed(field), message: message.to_owned() })
}

/// Creates an object. A body that is a backup of an installed host does not install that host again.
///
/// # Errors
/// 409 if the name is taken, 422 with the field that is wrong, 503 if the store cannot be written.
pub async fn create_object(
    shared: &Shared,
    object: Object,
    body: &Value,
    mode: WriteMode<'_>,
    decoder: &mut Decoder,
) -> Result<Object, Status> {
    let key = object.key();
    let restored = restore::phase_from_backup(&object, body).map(|(change, warning)| {
        decoder.warn(warning);
        change
    });
    let mut object = admit(shared, object, None).await?;
    record_manager(&mut object, None, mode)?;
    check_size(&object)?;
    let put = Change::Put { object, expect: Expect::Absent };
    let created = commit(shared, [put].into_iter().chain(restored).collect(), mode.dry_run).await;
    created.map_err(|error| Status::of_store(&error, &key))
}

/// Admits an object and commits it. `before` is the object that it replaces.
///
/// # Errors
/// 409 if `expect` does not hold, 422 with the field that is wrong, 503 if the store cannot be written.
pub async fn put(
    shared: &Shared,
    object: Object,
    before: Option<&Object>,
    expect: Expect,
    mode: WriteMode<'_>,
) -> Result<Object, Status> {
    let key = object.key();
    let mut object = admit(shared, object, before).await?;
    record_manager(&mut object, before, mode)?;
    check_size(&object)?;
    let written = commit(shared, vec![Change::Put { object, expect }], mode.dry_run).await;
    written.map_err(|error| Status::of_store(&error, &key))
}

/// Records the client that sets fields by other means than apply.
fn record_manager(object: &mut Object, before: Option<&Object>, mode: WriteMode<'_>) -> Result<(), Status> {
    let Some(manager) = mode.manager else { return Ok(()) };
    let (before, after) = (before.map(to_value).transpose()?, to_value(object)?);
    let entries = managed_fields::after_update(before.as_ref(), &after, manager, &now().to_string());
    object.meta_mut().managed_fields = (!entries.is_empty()).then(|| entries.into());
    Ok(())
}

/// Checks that an object has not grown beyond all bounds: by many patches, or by many managers of its fields.
///
/// # Errors
/// 413 with the maximum.
fn check_size(object: &Object) -> Result<(), Status> {
    let text = object.to_json().map_err(|error| Status::internal(error.to_string()))?;
    match text.len() <= MAX_STORED_BYTES {
        true => Ok(()),
        false => Err(Status::object_too_large(MAX_STORED_BYTES)),
    }
}

/// Restores redacted secrets, checks the files that an object names, and fills in the fields that come from them.
async fn admit(shared: &Shared, mut object: Object, before: Option<&Object>) -> Result<Object, Status> {
    let key = object.key();
    unredact(&mut object, before);
    let prepared = match object {
        // A host needs no file: another thread would cost more than the check.
        Object::Host(_) => prepare::prepare(object, before, &shared.places),
        Object::Image(_) | Object::BootConfig(_) | Object::ConfigTemplate(_) => {
            if let Object::Image(image) = &object
                && image.spec.is_local()
            {
                let path = shared.places.iso(&image.spec.iso_file);
                prepare::answers(path).await.map_err(|error| Status::unavailable(format!("spec.isoFile: {error}")))?;
            }
            let (places, before) = (shared.places.clone(), before.cloned());
            let prepared =
                tokio::task::spawn_blocking(move || prepare::prepare(object, before.as_ref(), &places)).await;
            prepared.map_err(|error| Status::internal(error.to_string()))?
        }
    };
    prepared.map_err(|wrong| Status::invalid(key.kind, key.name.as_str(), &wrong))
}

/// Commits changes of one object, or computes their result in a dry run.
///
/// # Errors
/// The store's reason; none of the changes is made then.
pub async fn commit(shared: &Shared, changes: Vec<Change>, dry_run: bool) -> Result<Object, StoreError> {
    let store = &shared.gate.store;
    let mut written = match dry_run {
        true => store.dry_run_all(changes)?,
        false => store.commit_all(changes).await?,
    };
    let mut object = written.pop().ok_or_else(|| StoreError::Unavailable("the commit returned no object".into()))?;
    if dry_run {
        let version = store.load().get(&object.key()).map(|object| object.meta().resource_version);
        object.meta_mut().resource_version = version.unwrap_or_default();
    }
    Ok(object)
}

/// Replaces an object's current version. A body without managedFields keeps the managers, an empty list removes them; a
/// redacted secret keeps its value. Retries if another writer came first, unless the body names a resourceVersion.
///
/// # Errors
/// 404, 409, 422 or 503 as `put`.
pub async fn replace_object(shared: &Shared, body: &Object, mode: WriteMode<'_>) -> Result<Object, Status> {
    let wanted = Some(body.meta().resource_version).filter(|version| *version > 0);
    let mut retry = ConflictRetry::new(&shared.retry_queue);
    loop {
        let before = find(shared, &body.key())?;
        check_uid(body, &before)?;
        let mut object = body.clone();
        if object.meta().managed_fields.is_none() {
            object.meta_mut().managed_fields.clone_from(&before.meta().managed_fields);
        }
        let expect = Expect::Present(wanted.or(Some(before.meta().resource_version)));
        let written = put(shared, object, Some(&before), expect, mode).await;
        if wanted.is_some() || !retry.should_retry(&written).await {
            return written;
        }
    }
}

/// Changes the JSON of an object's current version. Retries if another writer came first, unless the change names a
/// resourceVersion.
///
/// # Errors
/// 404, 409, 422 or 503 as `put`, or the error of `change`.
pub async fn modify(
    shared: &Shared,
    key: &Key,
    mode: WriteMode<'_>,
    decoder: &mut Decoder,
    change: impl Fn(&mut Value) -> Result<(), Status>,
) -> Result<Object, Status> {
    let mut retry = ConflictRetry::new(&shared.retry_queue);
    loop {
        let before = find(shared, key)?;
        let version = before.meta().resource_version;
        let mut value = to_value(&before)?;
        change(&mut value)?;
        let object = decode(shared, key.kind, key.namespace.clone(), value, decoder)?;
        if object.key() != *key {
            return Err(Status::bad_request(format!("metadata.name: a patch cannot rename {key}")));
        }
        check_uid(&object, &before)?;
        // A change that removes the version asks for none in particular: kubectl does so after a `replace`.
        let wanted = Some(object.meta().resource_version).filter(|version| *version > 0).unwrap_or(version);
        let written = put(shared, object, Some(&before), Expect::Present(Some(wanted)), mode).await;
        if wanted != version || !retry.should_retry(&written).await {
            return written;
        }
    }
}

/// Commits the changes that `changes` returns for an object's current version, all of them or none. Retries if another
/// writer came first.
///
/// # Errors
/// The error of `changes`, or the store's reason.
pub async fn commit_with_retry<E: From<Status>>(
    shared: &Shared,
    key: &Key,
    changes: impl Fn(&Object) -> Result<Vec<Change>, E>,
) -> Result<Object, E> {
    let mut retry = ConflictRetry::new(&shared.retry_queue);
    loop {
        let before = find(shared, key)?;
        let written = shared.gate.store.commit_all(changes(&before)?).await;
        let written = written.map_err(|error| Status::of_store(&error, key));
        if !retry.should_retry(&written).await {
            return written?.pop().ok_or_else(|| Status::internal("the commit returned no object").into());
        }
    }
}

/// Checks that a write is meant for the object that exists: one deleted and created again has another uid.
///
/// # Errors
/// 409 with both uids.
pub fn check_uid(object: &Object, before: &Object) -> Result<(), Status> {
    let (given, current) = (&object.meta().uid, &before.meta().uid);
    match given.is_empty() || given == current {
        true => Ok(()),
        false => Err(Status::conflict(format!("metadata.uid: {} has uid {current}, not {given}", before.key()))),
    }
}

/// Serializes retries after a version conflict.
///
/// A writer that lost waits for its turn. So it competes only with new writers, and loses to each of them at most once.
#[derive(Debug)]
pub struct ConflictRetry<'a> {
    attempts: usize,
    queue: &'a Mutex<()>,
    turn: Option<MutexGuard<'a, ()>>,
}

impl<'a> ConflictRetry<'a> {
    /// Creates a counter for one change. All changes share `queue`.
    pub fn new(queue: &'a Mutex<()>) -> Self {
        Self { attempts: 0, queue, turn: None }
    }

    /// Returns whether a change with this result must be tried again, and waits for its turn.
    pub async fn should_retry<T>(&mut self, written: &Result<T, Status>) -> bool {
        self.attempts += 1;
        let again = self.attempts < MAX_ATTEMPTS && written.as_ref().is_err_and(Status::is_conflict);
        if again && self.turn.is_none() {
            self.turn = Some(self.queue.lock().await);
        }
        again
    }
}
