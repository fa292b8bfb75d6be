//! The object API's verbs on the three kinds.

use std::borrow::Cow;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use crate::admission::prepare;
use crate::fleet::rules::Invalid;
use crate::fleet::{Key, Kind, Name, Object};
use crate::store::{Change, Expect, StoreError, now};

use crate::api::objects::field_validation::Reading;
use crate::api::objects::options::{self, Form, Options};
use crate::api::objects::redaction::{ListMeta, Metadata, View, redact, redact_except, unredact};
use crate::api::objects::status::Status;
use crate::api::objects::table::Table;
use crate::api::objects::{actions, body, managed_fields, names, restore};
use crate::api::state::Shared;
use crate::api::{generate, redfish, uploads};
use crate::http::reply::{Reply, json};

/// Is how often a change is made before it is given up that other writers came before.
const TRIES: usize = 64;
/// Is how often a made name may be somebody else's.
const NAMES: usize = 8;

/// Finds an object.
pub fn find(shared: &Shared, key: &Key) -> Result<Object, Status> {
    let state = shared.gate.store.load();
    state.get(key).cloned().ok_or_else(|| Status::not_found(key.kind, key.name.as_str()))
}

pub fn read(shared: &Shared, key: &Key, options: &Options) -> Result<Reply, Status> {
    Ok(shown(StatusCode::OK, &find(shared, key)?, options))
}

/// Answers with an object in the form that the client asked for.
pub fn shown(code: StatusCode, object: &Object, options: &Options) -> Reply {
    match options.form {
        Form::Plain => json(code, &View(object)),
        Form::Metadata => json(code, &Metadata(object)),
        Form::Table(include) => {
            let resource_version = object.meta().resource_version.to_string();
            let metadata = ListMeta { resource_version, next: String::new() };
            json(code, &Table::of(object.kind(), std::iter::once(object), metadata, include, now()))
        }
    }
}

/// Answers a write, with what is worth a word about it.
fn told(reading: &mut Reading, code: StatusCode, object: &Object, options: &Options) -> Reply {
    object.warnings().into_iter().for_each(|warning| reading.note(warning.to_owned()));
    reading.told(shown(code, object, options))
}

pub async fn create(
    shared: &Shared,
    kind: Kind,
    namespace: Option<Name>,
    request: Request<Incoming>,
    options: &Options,
) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    let mut reading = Reading::new(options.validation);
    let mut value = reading.parse(body::media_type(&head.headers), &body::read(body).await?)?;
    let wish = names::wish(&value);
    let mut names = 0;
    loop {
        if let Some(prefix) = &wish {
            let name = names::name(prefix).map_err(|wrong| Status::invalid(kind, prefix, &wrong))?;
            value["metadata"]["name"] = name.as_str().into();
        }
        let object = typed(shared, kind, namespace.clone(), value.clone(), &mut reading)?;
        if object.meta().resource_version > 0 {
            return Err(Status::bad_request(
                "metadata.resourceVersion: what is to be created has none yet: leave it out",
            ));
        }
        names += 1;
        match made(shared, object, &value, options.dry_run, &mut reading).await {
            Err(taken) if taken.is_taken() && wish.is_some() && names < NAMES => {}
            made => return Ok(told(&mut reading, StatusCode::CREATED, &made?, options)),
        }
    }
}

pub async fn replace(
    shared: &Shared,
    key: &Key,
    request: Request<Incoming>,
    options: &Options,
) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    let mut reading = Reading::new(options.validation);
    let value = reading.parse(body::media_type(&head.headers), &body::read(body).await?)?;
    let mut object = typed(shared, key.kind, key.namespace.clone(), value, &mut reading)?;
    if object.meta().name != key.name {
        let message = format!("the body is named {}, the route {}", object.meta().name, key.name);
        return Err(Status::bad_request(message));
    }
    let wanted = Some(object.meta().resource_version).filter(|version| *version > 0);
    let before = find(shared, key)?;
    same_uid(&object, &before)?;
    // Who leaves the managers out says nothing of them; an empty list forgets them.
    if object.meta().managed_fields.is_none() {
        object.meta_mut().managed_fields.clone_from(&before.meta().managed_fields);
    }
    let object = put(shared, object, Some(&before), Expect::Present(wanted), options.dry_run).await?;
    Ok(told(&mut reading, StatusCode::OK, &object, options))
}

pub async fn patch(shared: &Shared, key: &Key, request: Request<Incoming>, options: &Options) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    let kind = body::media_type(&head.headers).to_owned();
    let body = body::read(body).await?;
    let mut reading = Reading::new(options.validation);
    if kind == "application/apply-patch+yaml" {
        let wish = reading.parse(&kind, &body)?;
        return apply(shared, key, wish, options, reading).await;
    }
    let change = Patch::read(&kind, &body, &mut reading)?;
    let before = find(shared, key)?;
    let mut object = changed(shared, key, options.dry_run, &mut reading, |value| change.apply(value)).await?;
    // mkube's clients ask for an install by naming the image again.
    if kind == "application/json" && change.names("/spec/image") && !options.dry_run {
        object = actions::again(shared, &before, object).await?;
    }
    Ok(told(&mut reading, StatusCode::OK, &object, options))
}

/// Makes an object what one manager wishes, as far as that manager goes; creates it where there is none.
async fn apply(
    shared: &Shared,
    key: &Key,
    mut wish: Value,
    options: &Options,
    mut reading: Reading,
) -> Result<Reply, Status> {
    let manager = options.manager.as_deref();
    let manager = manager.ok_or_else(|| Status::bad_request("server-side apply needs ?fieldManager=NAME"))?;
    if wish.pointer("/metadata/managedFields").is_some_and(|given| !given.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must not be given"));
    }
    let version =
        wish.pointer("/metadata/resourceVersion").filter(|version| !version.is_null() && *version != "").cloned();
    let before = find(shared, key).ok();
    is_meant(key, &wish, before.as_ref())?;
    let bare = || serde_json::json!({"metadata": {"name": key.name}, "spec": {}});
    if !reading.is_strict() {
        // What nobody knows is no manager's either, so it is found before anybody owns it.
        let mut value = before.as_ref().map_or_else(|| Ok(bare()), plain)?;
        json_patch::merge(&mut value, &managed_fields::stripped(wish.clone()));
        typed(shared, key.kind, key.namespace.clone(), value, &mut reading)?;
        reading.take_out(&mut wish);
    }
    let change = |value: &mut Value| {
        let time = now().to_string();
        let spelled = respelled(shared, key, value, &wish)?;
        managed_fields::apply(value, spelled, manager, options.force, &time)
            .map_err(|all| Status::conflicts(key, &all))?;
        redact_except(value, &wish);
        if let Some(version) = &version {
            value["metadata"]["resourceVersion"] = version.clone();
        }
        Ok(())
    };
    if before.is_none() {
        let mut value = bare();
        change(&mut value)?;
        let object = typed(shared, key.kind, key.namespace.clone(), value, &mut Reading::default())?;
        match made(shared, object, &wish, options.dry_run, &mut reading).await {
            // Somebody else created it meanwhile.
            Err(taken) if taken.is_taken() => {}
            made => return Ok(told(&mut reading, StatusCode::CREATED, &made?, options)),
        }
    }
    let object = modify(shared, key, options.dry_run, change).await?;
    Ok(told(&mut reading, StatusCode::OK, &object, options))
}

/// Checks that a wish is meant for what is there, where it says what it is meant for.
fn is_meant(key: &Key, wish: &Value, before: Option<&Object>) -> Result<(), Status> {
    let given = |field: &str| wish["metadata"][field].as_str().filter(|text| !text.is_empty());
    let wrong =
        |field: &str, is: &str| Err(Status::conflict(format!("metadata.{field} is of an object that is there: {is}")));
    match (before, given("uid"), given("resourceVersion")) {
        (Some(before), Some(uid), _) if uid != before.meta().uid => {
            wrong("uid", &format!("{key} is {}", before.meta().uid))
        }
        (None, Some(_), _) => wrong("uid", &format!("there is no {key}")),
        (None, None, Some(_)) => wrong("resourceVersion", &format!("there is no {key}")),
        (_, _, _) => Ok(()),
    }
}

/// Gives a wish as the server spells it, its secrets put back where it says that they stay.
fn respelled(shared: &Shared, key: &Key, live: &Value, wish: &Value) -> Result<Value, Status> {
    let mut made = live.clone();
    let Some(spec) = wish.get("spec").filter(|spec| spec.is_object()) else { return Ok(wish.clone()) };
    json_patch::merge(&mut made["spec"], spec);
    let mut made = typed(shared, key.kind, key.namespace.clone(), made, &mut Reading::default())?;
    unredact(&mut made, find(shared, key).ok().as_ref());
    let text = made.to_json().map_err(|error| Status::internal(error.to_string()))?;
    let normal: Value = serde_json::from_str(&text).map_err(|error| Status::internal(error.to_string()))?;
    let mut wish = wish.clone();
    managed_fields::respell(&mut wish, &normal);
    Ok(wish)
}

pub async fn delete(
    shared: &Shared,
    key: &Key,
    request: Request<Incoming>,
    options: &Options,
) -> Result<Reply, Status> {
    let wish = Removal::read(&body::read(request.into_body()).await?)?;
    let dry_run = options.dry_run || wish.dry_run;
    let version = wish.version_of(&find(shared, key)?)?;
    let change = Change::Delete { key: key.clone(), version };
    let gone = commit(shared, vec![change], dry_run).await.map_err(|error| Status::of_store(&error, key))?;
    if !dry_run {
        uploads::forget(shared, &gone).await;
        generate::forget(shared, &gone).await;
        redfish::forget(shared, &gone).await;
    }
    Ok(json(StatusCode::OK, &Status::deleted(key, &gone.meta().uid)))
}

/// Makes changes of one object, or only says what they would come to.
async fn commit(shared: &Shared, changes: Vec<Change>, dry_run: bool) -> Result<Object, StoreError> {
    let store = &shared.gate.store;
    let mut made = match dry_run {
        true => store.dry_run_all(changes)?,
        false => store.commit_all(changes).await?,
    };
    let mut object = made.pop().ok_or_else(|| StoreError::Unavailable("nothing was made of a change".into()))?;
    if dry_run {
        let now = store.load().get(&object.key()).map(|now| now.meta().resource_version);
        object.meta_mut().resource_version = now.unwrap_or_default();
    }
    Ok(object)
}

/// Creates an object, whose body may be a backup's: the host that it is of is not installed anew for that.
async fn made(
    shared: &Shared,
    object: Object,
    body: &Value,
    dry_run: bool,
    reading: &mut Reading,
) -> Result<Object, Status> {
    let key = object.key();
    let after = restore::moved(&object, body).map(|(change, words)| {
        reading.note(words);
        change
    });
    let object = prepared(shared, object, None).await?;
    let put = Change::Put { object, expect: Expect::Absent };
    let made = commit(shared, [put].into_iter().chain(after).collect(), dry_run).await;
    made.map_err(|error| Status::of_store(&error, &key))
}

/// Checks that what is written is meant for the object that is there: one that was deleted and made anew is another.
fn same_uid(object: &Object, before: &Object) -> Result<(), Status> {
    let (given, is) = (&object.meta().uid, &before.meta().uid);
    match given.is_empty() || given == is {
        true => Ok(()),
        false => Err(Status::conflict(format!("metadata.uid: {} is {is}, not {given}", before.key()))),
    }
}

/// Is what a DELETE's body, Kubernetes' `DeleteOptions`, asks for. Nothing here is collected, held back or waited
/// for, so the rest of it has no meaning.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Removal {
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

impl Removal {
    fn read(body: &[u8]) -> Result<Self, Status> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let read = serde_path_to_error::deserialize(body::parse("", body)?);
        read.map_err(|error| Status::bad_request(format!("DeleteOptions: {error}")))
    }

    /// Gives the version that may be removed; any where nothing is asked.
    fn version_of(&self, object: &Object) -> Result<Option<u64>, Status> {
        let meta = object.meta();
        let asked = self.preconditions.as_ref();
        if let Some(uid) = asked.and_then(|asked| asked.uid.as_ref()).filter(|uid| **uid != meta.uid) {
            let key = object.key();
            return Err(Status::conflict(format!("preconditions.uid: {key} is {}, not {uid}", meta.uid)));
        }
        let version = asked.and_then(|asked| asked.resource_version.as_ref()).map(|version| version.parse());
        let wrong = |_| Status::bad_request("preconditions.resourceVersion is not one this server gave");
        // An identity is the object's for as long as there is one; that it is still this one is its version.
        let same = asked.and_then(|asked| asked.uid.as_ref()).map(|_| meta.resource_version);
        Ok(version.transpose().map_err(wrong)?.or(same))
    }
}

/// Is a change of an object's JSON.
#[derive(Debug)]
pub enum Patch {
    /// RFC 7386: null deletes.
    Merge(Value),
    /// RFC 6902.
    Steps(json_patch::Patch),
}

impl Patch {
    fn read(kind: &str, body: &[u8], reading: &mut Reading) -> Result<Self, Status> {
        match kind {
            // No list here is merged by a key, so a strategic merge is a plain one.
            "application/merge-patch+json" | "application/strategic-merge-patch+json" | "application/json" => {
                reading.parse("application/json", body).map(Self::Merge)
            }
            "application/json-patch+json" => {
                let steps = serde_json::from_value(reading.parse(kind, body)?);
                steps.map(Self::Steps).map_err(|error| Status::bad_request(format!("not a JSON patch: {error}")))
            }
            other => Err(Status::unsupported_media(format!(
                "{other:?}: a patch is application/merge-patch+json, application/json-patch+json or application/json"
            ))),
        }
    }

    fn apply(&self, value: &mut Value) -> Result<(), Status> {
        redact(value);
        match self {
            Self::Merge(patch) => json_patch::merge(value, patch),
            Self::Steps(steps) => {
                let wrong = |error: json_patch::PatchError| Status::unfit(format!("the patch does not apply: {error}"));
                json_patch::patch(value, steps).map_err(wrong)?;
            }
        }
        Ok(())
    }

    fn names(&self, pointer: &str) -> bool {
        matches!(self, Self::Merge(patch) if patch.pointer(pointer).is_some())
    }
}

/// Changes an object as it is now, again where another writer came first, unless the change names a version.
pub async fn modify(
    shared: &Shared,
    key: &Key,
    dry_run: bool,
    change: impl Fn(&mut Value) -> Result<(), Status>,
) -> Result<Object, Status> {
    changed(shared, key, dry_run, &mut Reading::default(), change).await
}

async fn changed(
    shared: &Shared,
    key: &Key,
    dry_run: bool,
    reading: &mut Reading,
    change: impl Fn(&mut Value) -> Result<(), Status>,
) -> Result<Object, Status> {
    let mut tries = Tries::of(&shared.retry_queue);
    loop {
        let before = find(shared, key)?;
        let now = before.meta().resource_version;
        let mut value = plain(&before)?;
        change(&mut value)?;
        let object = typed(shared, key.kind, key.namespace.clone(), value, reading)?;
        if object.key() != *key {
            return Err(Status::bad_request(format!("a patch cannot rename {key}")));
        }
        same_uid(&object, &before)?;
        // Who takes the version away asks for none in particular: kubectl does, after a `replace`.
        let wanted = Some(object.meta().resource_version).filter(|version| *version > 0).unwrap_or(now);
        let made = put(shared, object, Some(&before), Expect::Present(Some(wanted)), dry_run).await;
        if wanted != now || !tries.again(&made).await {
            return made;
        }
    }
}

/// Counts how often a change was made that another writer may come before.
///
/// Those who lost go on one by one: as many as there may be, each is beaten by newcomers alone, and by those once.
#[derive(Debug)]
pub struct Tries<'a> {
    made: usize,
    losers: &'a Mutex<()>,
    turn: Option<MutexGuard<'a, ()>>,
}

impl<'a> Tries<'a> {
    pub fn of(losers: &'a Mutex<()>) -> Self {
        Self { made: 0, losers, turn: None }
    }

    /// Says whether a change that came to this is to be made anew, on what another writer left; waits its turn.
    pub async fn again<T>(&mut self, made: &Result<T, Status>) -> bool {
        self.made += 1;
        let again = self.made < TRIES && made.as_ref().is_err_and(Status::is_conflict);
        if again && self.turn.is_none() {
            self.turn = Some(self.losers.lock().await);
        }
        again
    }
}

/// Gives an object's JSON, secrets included.
pub fn plain(object: &Object) -> Result<Value, Status> {
    let text = object.to_json().map_err(|error| Status::internal(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| Status::internal(error.to_string()))
}

/// Checks what needs files, and commits.
pub async fn put(
    shared: &Shared,
    object: Object,
    before: Option<&Object>,
    expect: Expect,
    dry_run: bool,
) -> Result<Object, Status> {
    let key = object.key();
    let object = prepared(shared, object, before).await?;
    let made = commit(shared, vec![Change::Put { object, expect }], dry_run).await;
    made.map_err(|error| Status::of_store(&error, &key))
}

/// Checks what needs files, and fills in what was found.
async fn prepared(shared: &Shared, mut object: Object, before: Option<&Object>) -> Result<Object, Status> {
    let key = object.key();
    unredact(&mut object, before);
    let prepared = match object {
        // Nothing of a host is read from a disk: another thread would cost more than the work.
        Object::Host(_) => prepare::prepare(object, before, &shared.places),
        Object::Image(_) | Object::BootConfig(_) => {
            let (places, before) = (shared.places.clone(), before.cloned());
            let prepared =
                tokio::task::spawn_blocking(move || prepare::prepare(object, before.as_ref(), &places)).await;
            prepared.map_err(|error| Status::internal(error.to_string()))?
        }
    };
    prepared.map_err(|wrong| Status::invalid(key.kind, key.name.as_str(), &wrong))
}

/// Makes an object of a body, in the namespace of its route.
fn typed(
    shared: &Shared,
    kind: Kind,
    namespace: Option<Name>,
    mut value: Value,
    reading: &mut Reading,
) -> Result<Object, Status> {
    let Some(map) = value.as_object_mut() else { return Err(Status::bad_request("the body is not an object")) };
    let expected = [("apiVersion", "v1"), ("kind", kind.as_str())];
    for (field, expected) in expected {
        match map.shift_remove(field) {
            None => {}
            Some(Value::String(found)) if found == expected => {}
            Some(found) => {
                return Err(Status::bad_request(format!("{field} is {found}, and this route's is {expected:?}")));
            }
        }
    }
    let Some(meta) = map.get_mut("metadata").and_then(Value::as_object_mut) else {
        return Err(invalid(kind, "", "metadata", "an object needs a name: metadata.name"));
    };
    let name = meta.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    names::settle(meta).map_err(|wrong| Status::invalid(kind, &name, &wrong))?;
    let given = meta.shift_remove("namespace").filter(|given| !given.is_null() && given != "");
    if kind.is_namespaced() {
        let namespace = match (given, namespace) {
            (None, namespace) => namespace.unwrap_or_else(|| shared.gate.site.namespace.clone()).to_string(),
            (Some(Value::String(given)), Some(route)) if given != route.as_str() => {
                return Err(Status::bad_request(format!("the body is in namespace {given}, the route in {route}")));
            }
            (Some(Value::String(given)), _) => given,
            (Some(other), _) => return Err(invalid(kind, &name, "metadata.namespace", &format!("{other} is no name"))),
        };
        meta.insert("namespace".into(), namespace.into());
    }
    reading.object(kind, value).map_err(|wrong| Status::invalid(kind, &name, &wrong))
}

fn invalid(kind: Kind, name: &str, field: &'static str, message: &str) -> Status {
    Status::invalid(kind, name, &Invalid { field: Cow::Borrowed(field), message: message.to_owned() })
}
