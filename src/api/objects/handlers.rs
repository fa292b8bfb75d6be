//! The object API's verbs: read, create, replace, patch and delete.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::fleet::{Key, Kind, Name, Object, deserialize_with_path};
use crate::store::{Change, now};

use crate::api::cleanup;
use crate::api::objects::field_validation::Decoder;
use crate::api::objects::options::{self, Options, Representation};
use crate::api::objects::redaction::{List, ListMeta, Metadata, View, redact};
use crate::api::objects::status::Status;
use crate::api::objects::table::Table;
use crate::api::objects::write::{WriteMode, commit, create_object, decode, find, modify, replace_object};
use crate::api::objects::{actions, apply, body, names, templates};
use crate::api::state::Shared;
use crate::http::reply::{Reply, json};

/// Maximum number of generated names that are tried while they are taken.
const MAX_GENERATED_NAMES: usize = 8;

/// Answers a GET of one object.
///
/// # Errors
/// 404 if it does not exist.
pub fn read(shared: &Shared, key: &Key, options: &Options) -> Result<Reply, Status> {
    Ok(render(StatusCode::OK, &find(shared, key)?, options))
}

/// Returns a reply with an object in the representation that the client asked for.
pub fn render(code: StatusCode, object: &Object, options: &Options) -> Reply {
    match options.representation {
        Representation::Object => json(code, &View(object)),
        Representation::Metadata => json(code, &Metadata(object)),
        Representation::Table(include) => {
            let resource_version = object.meta().resource_version.to_string();
            let metadata = ListMeta { resource_version, next: String::new() };
            json(code, &Table::of(object.kind(), std::iter::once(object), metadata, include, now()))
        }
    }
}

/// Returns the reply to a write, with the object's warnings as headers; also with the reason why a host's config cannot be
/// rendered.
async fn with_warnings(
    shared: &Shared,
    decoder: &mut Decoder,
    code: StatusCode,
    object: &Object,
    options: &Options,
) -> Reply {
    object.warnings().into_iter().for_each(|warning| decoder.warn(warning.to_owned()));
    if let Object::Host(host) = object
        && let Ok(Err(error)) = templates::rendered(shared, host).await
    {
        decoder.warn(error.to_string());
    }
    decoder.add_warnings(render(code, object, options))
}

/// Answers a POST: creates an object, and generates its name if the body has only `generateName`.
///
/// # Errors
/// 400 with a resourceVersion in the body, and as `write::create_object`.
pub async fn create(
    shared: &Shared,
    kind: Kind,
    namespace: Option<Name>,
    request: Request<Incoming>,
    options: &Options,
) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    let mut decoder = Decoder::new(options.validation);
    let mut value = decoder.parse(body::media_type(&head.headers), &body::read(body).await?)?;
    let prefix = names::generate_name(&value);
    let mode = WriteMode { dry_run: options.dry_run, manager: Some(options.manager_of_update(&head.headers)) };
    let mut generated = 0;
    loop {
        if let Some(prefix) = &prefix {
            let name = names::generate(prefix).map_err(|wrong| Status::invalid(kind, prefix, &wrong))?;
            value["metadata"]["name"] = name.as_str().into();
        }
        let object = decode(shared, kind, namespace.clone(), value.clone(), &mut decoder)?;
        if object.meta().resource_version > 0 {
            return Err(Status::bad_request("metadata.resourceVersion: must be empty on create; remove the field"));
        }
        generated += 1;
        match create_object(shared, object, &value, mode, &mut decoder).await {
            Err(taken) if taken.is_already_exists() && prefix.is_some() && generated < MAX_GENERATED_NAMES => {}
            created => return Ok(with_warnings(shared, &mut decoder, StatusCode::CREATED, &created?, options).await),
        }
    }
}

/// Answers a PUT: replaces an object.
///
/// # Errors
/// 400 if body and route name different objects, 409 on a stale resourceVersion or uid, and as `write::put`.
pub async fn replace(
    shared: &Shared,
    key: &Key,
    request: Request<Incoming>,
    options: &Options,
) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    let mut decoder = Decoder::new(options.validation);
    let value = decoder.parse(body::media_type(&head.headers), &body::read(body).await?)?;
    let object = decode(shared, key.kind, key.namespace.clone(), value, &mut decoder)?;
    if object.meta().name != key.name {
        let message = format!("metadata.name: {}, but the route names {}", object.meta().name, key.name);
        return Err(Status::bad_request(message));
    }
    let mode = WriteMode { dry_run: options.dry_run, manager: Some(options.manager_of_update(&head.headers)) };
    let object = replace_object(shared, &object, mode).await?;
    Ok(with_warnings(shared, &mut decoder, StatusCode::OK, &object, options).await)
}

/// Answers a PATCH: a merge patch, a JSON patch or server-side apply, by Content-Type.
///
/// # Errors
/// 415 for another media type, 422 for a JSON patch that does not apply, and as `write::modify`.
pub async fn patch(shared: &Shared, key: &Key, request: Request<Incoming>, options: &Options) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    let kind = body::media_type(&head.headers).to_owned();
    let body = body::read(body).await?;
    let mut decoder = Decoder::new(options.validation);
    if kind == "application/apply-patch+yaml" {
        let applied = decoder.parse(&kind, &body)?;
        let (code, object) = apply::apply(shared, key, applied, options, &mut decoder).await?;
        return Ok(with_warnings(shared, &mut decoder, code, &object, options).await);
    }
    let change = Patch::read(&kind, &body, &mut decoder)?;
    let before = find(shared, key)?;
    let mode = WriteMode { dry_run: options.dry_run, manager: Some(options.manager_of_update(&head.headers)) };
    let mut object = modify(shared, key, mode, &mut decoder, |value| change.apply(value)).await?;
    // mkube's clients ask for an install by naming the image again.
    if kind == "application/json" && change.contains("/spec/image") && !options.dry_run {
        object = actions::reinstall_if_renamed(shared, &before, object).await?;
    }
    Ok(with_warnings(shared, &mut decoder, StatusCode::OK, &object, options).await)
}

/// Answers a DELETE, and removes what belonged to the object alone: uploaded files, generated files, media.
///
/// # Errors
/// 404, 409 if something refers to the object or a precondition fails, 503 if the store cannot be written.
pub async fn delete(
    shared: &Shared,
    key: &Key,
    request: Request<Incoming>,
    options: &Options,
) -> Result<Reply, Status> {
    let asked = DeleteOptions::read(&body::read(request.into_body()).await?)?;
    let dry_run = options.dry_run || asked.dry_run;
    let found = find(shared, key)?;
    let version = asked.required_version(&found)?;
    let deleted = delete_object(shared, &found, version, dry_run).await?;
    Ok(json(StatusCode::OK, &Status::deleted(key, &deleted.meta().uid)))
}

/// Deletes an object, and what belonged to it alone.
async fn delete_object(shared: &Shared, found: &Object, version: Option<u64>, dry_run: bool) -> Result<Object, Status> {
    let key = found.key();
    let change = Change::Delete { key: key.clone(), version };
    if dry_run {
        return commit(shared, vec![change], true).await.map_err(|error| Status::of_store(&error, &key));
    }
    cleanup::before_delete(shared, found).await?;
    let deleted = match commit(shared, vec![change], false).await {
        Ok(deleted) => deleted,
        Err(error) => {
            cleanup::not_deleted(shared, found).await;
            return Err(Status::of_store(&error, &key));
        }
    };
    cleanup::after_delete(shared, &deleted).await;
    Ok(deleted)
}

/// Answers a DELETE of a kind: deletes the selected objects, those first that refer to others of them. Returns the
/// deleted objects.
///
/// # Errors
/// 409 if something else refers to one of them, 503 if the store cannot be written. Others may be deleted then. 400 if
/// the decoded path ends in a slash.
pub async fn delete_collection(
    shared: &Shared,
    kind: Kind,
    path: &str,
    request: Request<Incoming>,
    options: &Options,
) -> Result<Reply, Status> {
    // A client that joins a path with an empty name means one object.
    if path.ends_with('/') {
        return Err(Status::bad_request("the name is empty; leave out the last slash to delete the collection"));
    }
    let asked = DeleteOptions::read(&body::read(request.into_body()).await?)?;
    if asked.preconditions.is_some() {
        return Err(Status::bad_request("preconditions: not supported for a collection; use a selector"));
    }
    if options.limit.is_some() || options.next.is_some() {
        return Err(Status::bad_request("limit, continue: not supported for a DELETE; use a selector"));
    }
    let dry_run = options.dry_run || asked.dry_run;
    let state = shared.gate.store.snapshot();
    let mut left: Vec<Object> = state.list(kind, None).filter(|object| options.selection.matches(object)).collect();
    let mut items = Vec::new();
    loop {
        let (before, mut refused) = (left.len(), None);
        let mut in_use = Vec::new();
        for listed in left {
            // It may have been changed since it was listed.
            let Ok(object) = find(shared, &listed.key()) else { continue };
            if object.meta().uid != listed.meta().uid || !options.selection.matches(&object) {
                continue;
            }
            match delete_object(shared, &object, Some(object.meta().resource_version), dry_run).await {
                Ok(deleted) => items.push(deleted),
                // Another client deleted it in the meantime.
                Err(status) if status.code == StatusCode::NOT_FOUND => {}
                Err(status) => {
                    refused.get_or_insert(status);
                    in_use.push(object);
                }
            }
        }
        match refused {
            None => break,
            Some(status) if in_use.len() == before || dry_run => return Err(status),
            Some(_) => left = in_use,
        }
    }
    let resource_version = shared.gate.store.load().version.to_string();
    let metadata = ListMeta { resource_version, next: String::new() };
    let items: Vec<_> = items.iter().map(View).collect();
    Ok(json(StatusCode::OK, &List { api_version: "v1", kind: format!("{kind}List"), metadata, items }))
}

/// The body of a DELETE (meta/v1 DeleteOptions). Objects are deleted at once, without a grace period or garbage
/// collection, so its other fields have no effect.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteOptions {
    preconditions: Option<Preconditions>,
    #[serde(deserialize_with = "options::dry_run")]
    dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl DeleteOptions {
    fn read(body: &[u8]) -> Result<Self, Status> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let value = body::parse("", body)?;
        if !value.is_object() {
            return Err(Status::bad_request("DeleteOptions: the body is not an object"));
        }
        deserialize_with_path(&value).map_err(|error| Status::bad_request(format!("DeleteOptions: {error}")))
    }

    /// Returns the version that the object must still have when it is deleted; `None` for any.
    fn required_version(&self, object: &Object) -> Result<Option<u64>, Status> {
        let meta = object.meta();
        let asked = self.preconditions.as_ref();
        if let Some(uid) = asked.and_then(|asked| asked.uid.as_ref()).filter(|uid| **uid != meta.uid) {
            let key = object.key();
            return Err(Status::conflict(format!("preconditions.uid: {key} has uid {}, not {uid}", meta.uid)));
        }
        let version = asked.and_then(|asked| asked.resource_version.as_ref()).map(|version| version.parse());
        let wrong = |_| Status::bad_request("preconditions.resourceVersion: not a version of this server");
        // A uid names one object for as long as it exists. Its version shows that it is still the same one.
        let same = asked.and_then(|asked| asked.uid.as_ref()).map(|_| meta.resource_version);
        Ok(version.transpose().map_err(wrong)?.or(same))
    }
}

/// A change of an object's JSON.
#[derive(Debug)]
enum Patch {
    /// A merge patch (RFC 7386): null deletes.
    Merge(Value),
    /// A JSON patch (RFC 6902).
    Steps(json_patch::Patch),
}

impl Patch {
    fn read(kind: &str, body: &[u8], decoder: &mut Decoder) -> Result<Self, Status> {
        match kind {
            // No list has a merge key, so a strategic merge equals a merge.
            "application/merge-patch+json" | "application/strategic-merge-patch+json" | "application/json" => {
                decoder.parse("application/json", body).map(Self::Merge)
            }
            "application/json-patch+json" => {
                let steps = deserialize_with_path(&decoder.parse(kind, body)?);
                steps.map(Self::Steps).map_err(|error| Status::bad_request(format!("not a JSON patch: {error}")))
            }
            other => Err(Status::unsupported_media(format!(
                "{other:?}: send a patch as application/merge-patch+json, application/json-patch+json or application/json"
            ))),
        }
    }

    fn apply(&self, value: &mut Value) -> Result<(), Status> {
        redact(value);
        match self {
            Self::Merge(patch) => json_patch::merge(value, patch),
            Self::Steps(steps) => {
                let wrong =
                    |error: json_patch::PatchError| Status::unprocessable(format!("the patch does not apply: {error}"));
                json_patch::patch(value, steps).map_err(wrong)?;
            }
        }
        Ok(())
    }

    fn contains(&self, pointer: &str) -> bool {
        matches!(self, Self::Merge(patch) if patch.pointer(pointer).is_some())
    }
}
