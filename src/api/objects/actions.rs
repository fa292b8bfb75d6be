//! Actions on a host: install, localboot, hold, virtual media, and its timeline.

use std::net::IpAddr;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admission::prepare;
use crate::event::Entry;
use crate::fleet::lifecycle;
use crate::fleet::rules::Invalid;
use crate::fleet::{BootMode, BootTarget, Host, Key, Name, Object};
use crate::gate::media::MediaLease;
use crate::store::{Change, Expect, Observation};

use crate::api::objects::body;
use crate::api::objects::field_validation::with_warnings_of;
use crate::api::objects::redaction::View;
use crate::api::objects::status::Status;
use crate::api::objects::write::{commit_with_retry, find, to_value};
use crate::api::state::Shared;
use crate::http::reply::{self, Reply};

/// Maximum number of entries in one timeline.
const MAX_TIMELINE_ENTRIES: usize = 10_000;

/// The body of an install request. A field that is absent stays as the host has it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstallRequest {
    /// Name of the ISCSICdrom to install from.
    pub image: Option<String>,
    /// Name of the BootConfig for the installer; empty for none. If it is absent and the image changes, the host takes
    /// no config.
    pub boot_config_ref: Option<String>,
    /// Whether the host boots the image once or at every boot.
    #[schemars(with = "Option<BootMode>")]
    pub boot_mode: Option<String>,
}

/// Answers POST .../install: starts a new install, also of the image that the host has already.
///
/// # Errors
/// 404, 422 with the field that is wrong, 409 or 503 from the store.
pub async fn install(shared: &Shared, key: &Key, request: Request<Incoming>) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    let body = body::read(body).await?;
    let wanted: InstallRequest = body::parse_or_default(body::media_type(&head.headers), &body)?;
    let object = commit_with_retry(shared, key, |before| install_changes(shared, before, &wanted)).await?;
    Ok(with_warnings_of(&object, reply::json(StatusCode::OK, &View(&object))))
}

/// Returns the changes that start an install; the store makes them together.
fn install_changes(shared: &Shared, before: &Object, wanted: &InstallRequest) -> Result<Vec<Change>, Status> {
    let (kind, name) = (before.kind(), before.meta().name.clone());
    let invalid = |wrong: Invalid| Status::invalid(kind, name.as_str(), &wrong);
    let mut value = to_value(before)?;
    merge_request(wanted, &mut value);
    let object = Object::from_json(kind, value).map_err(invalid)?;
    let object = prepare::prepare(object, Some(before), &shared.places).map_err(invalid)?;
    let (Object::Host(was), Object::Host(is)) = (before, &object) else { return Err(Status::no_route()) };
    if is.spec.image == BootTarget::LocalDisk {
        return Err(Status::unprocessable_field(
            "image",
            "the host boots its local disk: name an image; POST .../localboot boots the local disk",
        ));
    }
    let started = install_transition(was, is);
    let expect = Expect::Present(Some(before.meta().resource_version));
    Ok([Change::Put { object, expect }].into_iter().chain(started).collect())
}

fn merge_request(wanted: &InstallRequest, host: &mut Value) {
    let spec = &mut host["spec"];
    if let Some(image) = &wanted.image {
        let other = spec.get("image").and_then(Value::as_str) != Some(image);
        spec["image"] = json!(image);
        if other {
            spec["bootConfigRef"] = json!("");
        }
    }
    for (field, value) in [("bootConfigRef", &wanted.boot_config_ref), ("bootMode", &wanted.boot_mode)] {
        if let Some(value) = value {
            spec[field] = json!(value);
        }
    }
}

/// Starts a new install if a write named the host's image again; the write itself changed nothing then.
///
/// # Errors
/// The store's reason.
pub async fn reinstall_if_renamed(shared: &Shared, before: &Object, after: Object) -> Result<Object, Status> {
    let (Object::Host(was), Object::Host(is)) = (before, &after) else { return Ok(after) };
    match install_transition(was, is) {
        Some(change) => commit_one(shared, &after.key(), change).await,
        None => Ok(after),
    }
}

/// Returns the change that starts an install if a write of the spec does not, because the image stayed the same.
fn install_transition(was: &Host, is: &Host) -> Option<Change> {
    let change = match is.spec.image {
        _ if was.spec.image != is.spec.image => return None,
        BootTarget::Image(_) => lifecycle::Transition::Assign,
        BootTarget::LocalDisk | BootTarget::Menu => lifecycle::Transition::Release,
    };
    let mac = is.spec.boot_mac_address;
    Some(Change::Advance { mac, transition: change, observation: Observation::default(), event: None })
}

/// The body of a virtual media request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VirtualMediaRequest {
    /// Address of this server that the BMC reaches, if it differs from the machines'.
    address: Option<IpAddr>,
}

/// The medium that a BMC boots its machine from.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMedium {
    api_version: &'static str,
    kind: &'static str,
    /// Name of the ISCSICdrom that the host boots.
    image: Name,
    /// URL of the host's view of the image. Any client that has the URL can read it, and reads the same bytes to the end.
    url: String,
    /// Entity tag of these bytes, the same over every transport.
    etag: String,
    /// Number of these bytes.
    size_bytes: u64,
}

/// Answers POST .../virtualmedia: starts a boot from virtual media, and returns the URL that the BMC must read.
///
/// # Errors
/// 404, or 422 if the host's image cannot be served.
pub async fn virtual_media(shared: &Shared, key: &Key, request: Request<Incoming>) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    let body = body::read(body).await?;
    let VirtualMediaRequest { address } = body::parse_or_default(body::media_type(&head.headers), &body)?;
    let Object::Host(host) = find(shared, key)? else { return Err(Status::no_route()) };
    let lease = shared.gate.insert(host.spec.boot_mac_address).await;
    let MediaLease { image, seen, path } = lease.map_err(|error| Status::unprocessable(error.to_string()))?;
    let site = shared.gate.site();
    let url = format!("{}/{path}", address.map_or_else(|| site.url(), |address| site.reached_at(address).url()));
    let (size_bytes, etag) = (seen.medium.len(), format!("\"{}\"", seen.tag));
    let medium = VirtualMedium { api_version: "v1", kind: "VirtualMedium", image, url, etag, size_bytes };
    Ok(reply::json(StatusCode::OK, &medium))
}

/// Answers POST .../localboot and .../hold: the host boots its disk, or is not answered.
///
/// # Errors
/// 404, or the store's reason.
pub async fn change(shared: &Shared, key: &Key, change: lifecycle::Transition) -> Result<Reply, Status> {
    let Object::Host(host) = find(shared, key)? else { return Err(Status::no_route()) };
    let mac = host.spec.boot_mac_address;
    let change = Change::Advance { mac, transition: change, observation: Observation::default(), event: None };
    let object = commit_one(shared, key, change).await?;
    Ok(reply::json(StatusCode::OK, &View(&object)))
}

async fn commit_one(shared: &Shared, key: &Key, change: Change) -> Result<Object, Status> {
    shared.gate.store.commit(change).await.map_err(|error| Status::of_store(&error, key))
}

/// Answers GET .../timeline: the events of one object, oldest first; of all objects without a key.
///
/// # Errors
/// 404, or 500 if the timeline cannot be read.
pub async fn timeline(shared: &Shared, key: Option<&Key>) -> Result<Reply, Status> {
    let object = key.map(|key| find(shared, key)).transpose()?;
    let list = json!({"apiVersion": "v1", "kind": "Timeline", "items": entries(shared, object).await?});
    Ok(reply::json(StatusCode::OK, &list))
}

/// Reads the timeline of an object, or of everything: the newest entries, oldest first.
///
/// # Errors
/// 500 if the timeline cannot be read.
pub async fn entries(shared: &Shared, object: Option<Object>) -> Result<Vec<Entry>, Status> {
    let store = shared.gate.store.clone();
    let read = tokio::task::spawn_blocking(move || match object {
        None => store.timeline(None, MAX_TIMELINE_ENTRIES),
        Some(Object::Host(host)) => store.timeline(Some(host.spec.boot_mac_address), MAX_TIMELINE_ENTRIES),
        Some(other) => store.timeline_of(&other.key(), MAX_TIMELINE_ENTRIES),
    })
    .await;
    let entries = read.map_err(|error| Status::internal(error.to_string()))?;
    entries.map_err(|error| Status::internal(error.to_string()))
}
