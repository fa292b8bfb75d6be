//! Server-side apply: an object becomes what one field manager applies, as far as that manager's fields go.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::fleet::{Key, Object};
use crate::store::now;

use crate::api::objects::field_validation::Decoder;
use crate::api::objects::managed_fields::{self, Conflict};
use crate::api::objects::options::Options;
use crate::api::objects::redaction::{redact_except, unredact};
use crate::api::objects::status::Status;
use crate::api::objects::write::{WriteMode, create_object, decode, find, modify, to_value};
use crate::api::state::Shared;

/// Applies a configuration, and creates the object if there is none. Returns the object with 200 or 201.
///
/// # Errors
/// 400 without a field manager, 409 for a field of another manager, and as `write::put`.
pub async fn apply(
    shared: &Shared,
    key: &Key,
    mut applied: Value,
    options: &Options,
    decoder: &mut Decoder,
) -> Result<(StatusCode, Object), Status> {
    let manager = options.manager.as_deref();
    let manager = manager.ok_or_else(|| Status::bad_request("fieldManager: missing; server-side apply needs one"))?;
    if applied.pointer("/metadata/managedFields").is_some_and(|given| !given.is_null()) {
        return Err(Status::bad_request("metadata.managedFields: must be empty in server-side apply"));
    }
    let version =
        applied.pointer("/metadata/resourceVersion").filter(|version| !version.is_null() && *version != "").cloned();
    let before = find(shared, key).ok();
    check_preconditions(key, &applied, before.as_ref())?;
    let bare = || json!({"metadata": {"name": key.name}, "spec": {}});
    if !decoder.is_strict() {
        // Unknown fields are found and removed before a manager owns them.
        let mut value = before.as_ref().map_or_else(|| Ok(bare()), to_value)?;
        json_patch::merge(&mut value, &managed_fields::strip_server_fields(applied.clone()));
        decode(shared, key.kind, key.namespace.clone(), value, decoder)?;
        decoder.remove_unknown(&mut applied);
    }
    let change = |value: &mut Value| {
        let time = now().to_string();
        let normalized = normalized(shared, key, value, &applied)?;
        apply_as(value, normalized, manager, options.force, &time).map_err(|all| Status::conflicts(key, &all))?;
        redact_except(value, &applied);
        if let Some(version) = &version {
            value["metadata"]["resourceVersion"] = version.clone();
        }
        Ok(())
    };
    let mode = WriteMode { dry_run: options.dry_run, manager: None };
    if before.is_none() {
        let mut value = bare();
        change(&mut value)?;
        let object = decode(shared, key.kind, key.namespace.clone(), value, &mut Decoder::default())?;
        match create_object(shared, object, &applied, mode, decoder).await {
            // Another client created it in the meantime.
            Err(taken) if taken.is_already_exists() => {}
            created => return Ok((StatusCode::CREATED, created?)),
        }
    }
    let object = modify(shared, key, mode, &mut Decoder::default(), change).await?;
    Ok((StatusCode::OK, object))
}

/// Field manager of kubectl's server-side apply.
const KUBECTL: &str = "kubectl";

/// Applies a configuration to an object's JSON. kubectl takes over what it applied from the client's side before.
fn apply_as(value: &mut Value, applied: Value, manager: &str, force: bool, time: &str) -> Result<(), Vec<Conflict>> {
    let conflicts = match managed_fields::apply(value, applied.clone(), manager, force, time) {
        Err(conflicts) if manager == KUBECTL => managed_fields::without_own_client_side_apply(value, conflicts),
        done => return done,
    };
    match conflicts.is_empty() {
        true => managed_fields::apply(value, applied, manager, true, time),
        false => Err(conflicts),
    }
}

/// Checks the uid and the resourceVersion that an applied configuration names against the object that exists.
fn check_preconditions(key: &Key, applied: &Value, before: Option<&Object>) -> Result<(), Status> {
    let given = |field: &str| applied["metadata"][field].as_str().filter(|text| !text.is_empty());
    let wrong = |field: &str, found: &str| Err(Status::conflict(format!("metadata.{field}: {found}")));
    match (before, given("uid"), given("resourceVersion")) {
        (Some(before), Some(uid), _) if uid != before.meta().uid => {
            wrong("uid", &format!("{key} has uid {}, not {uid}", before.meta().uid))
        }
        (None, Some(_), _) => wrong("uid", &format!("{key} does not exist")),
        (None, None, Some(_)) => wrong("resourceVersion", &format!("{key} does not exist")),
        (_, _, _) => Ok(()),
    }
}

/// Returns an applied configuration in the server's own spelling, with redacted secrets restored.
fn normalized(shared: &Shared, key: &Key, live: &Value, applied: &Value) -> Result<Value, Status> {
    let mut merged = live.clone();
    let Some(spec) = applied.get("spec").filter(|spec| spec.is_object()) else { return Ok(applied.clone()) };
    json_patch::merge(&mut merged["spec"], spec);
    let mut object = decode(shared, key.kind, key.namespace.clone(), merged, &mut Decoder::default())?;
    unredact(&mut object, find(shared, key).ok().as_ref());
    let mut normalized = applied.clone();
    managed_fields::normalize(&mut normalized, &to_value(&object)?);
    Ok(normalized)
}
