//! What is asked of a host beyond its spec: another install, its disk, to be left alone.

use std::net::IpAddr;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admission::prepare;
use crate::fleet::lifecycle;
use crate::fleet::rules::Invalid;
use crate::fleet::{BootTarget, Host, Key, Object};
use crate::gate::media::MediaLease;
use crate::store::{Change, Expect, Observation};

use crate::api::objects::handlers::Tries;
use crate::api::objects::redaction::View;
use crate::api::objects::status::Status;
use crate::api::objects::{body, handlers};
use crate::api::state::Shared;
use crate::http::reply::{self, Reply};

/// Bounds the entries of one timeline.
const ENTRIES: usize = 10_000;

/// Is what an install is asked for with; what is left out stays as the host has it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wish {
    pub image: Option<String>,
    /// Left out with another image, the host takes no config; an empty text takes it away.
    pub boot_config_ref: Option<String>,
    pub boot_mode: Option<String>,
}

/// Asks for a new install, also where the image is the one that the host has.
pub async fn install(shared: &Shared, key: &Key, request: Request<Incoming>) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    let body = body::read(body).await?;
    let wish: Wish = match body.is_empty() {
        true => Wish::default(),
        false => serde_json::from_value(body::parse(body::media_type(&head.headers), &body)?)
            .map_err(|error| Status::bad_request(error.to_string()))?,
    };
    Ok(reply::json(StatusCode::OK, &View(&begin(shared, key, &wish).await?)))
}

/// Begins a new install of what is wished, else of what the host has: all of it, or nothing is changed.
pub async fn begin(shared: &Shared, key: &Key, wish: &Wish) -> Result<Object, Status> {
    carry_out(shared, key, |before| steps(shared, before, wish)).await
}

/// Makes the changes that `steps` gives for an object as it is now: all of them, or nothing is changed.
pub async fn carry_out<E: From<Status>>(
    shared: &Shared,
    key: &Key,
    steps: impl Fn(&Object) -> Result<Vec<Change>, E>,
) -> Result<Object, E> {
    let mut tries = Tries::of(&shared.retry_queue);
    loop {
        let before = handlers::find(shared, key)?;
        let made = shared.gate.store.commit_all(steps(&before)?).await;
        let made = made.map_err(|error| Status::of_store(&error, key));
        if !tries.again(&made).await {
            return made?.pop().ok_or_else(|| Status::internal("nothing was made of a change").into());
        }
    }
}

/// Gives the changes that begin an install, to be made together.
fn steps(shared: &Shared, before: &Object, wish: &Wish) -> Result<Vec<Change>, Status> {
    let (kind, name) = (before.kind(), before.meta().name.clone());
    let invalid = |wrong: Invalid| Status::invalid(kind, name.as_str(), &wrong);
    let mut value = handlers::plain(before)?;
    express(wish, &mut value);
    let object = Object::from_json(kind, value).map_err(invalid)?;
    let object = prepare::prepare(object, Some(before), &shared.places).map_err(invalid)?;
    let (Object::Host(was), Object::Host(is)) = (before, &object) else { return Err(Status::no_route()) };
    if is.spec.image == BootTarget::LocalDisk {
        return Err(Status::unfit_field("image", "the host has none: name one"));
    }
    let begun = beginning(was, is);
    let expect = Expect::Present(Some(before.meta().resource_version));
    Ok([Change::Put { object, expect }].into_iter().chain(begun).collect())
}

fn express(wish: &Wish, host: &mut Value) {
    let spec = &mut host["spec"];
    if let Some(image) = &wish.image {
        let other = spec.get("image").and_then(Value::as_str) != Some(image);
        spec["image"] = json!(image);
        if other {
            spec["bootConfigRef"] = json!("");
        }
    }
    for (field, value) in [("bootConfigRef", &wish.boot_config_ref), ("bootMode", &wish.boot_mode)] {
        if let Some(value) = value {
            spec[field] = json!(value);
        }
    }
}

/// Begins a new install where writing the spec did not: its image was named again.
pub async fn again(shared: &Shared, before: &Object, after: Object) -> Result<Object, Status> {
    let (Object::Host(was), Object::Host(is)) = (before, &after) else { return Ok(after) };
    match beginning(was, is) {
        Some(change) => committed(shared, &after.key(), change).await,
        None => Ok(after),
    }
}

/// Gives the change that begins an install where writing the spec does not.
fn beginning(was: &Host, is: &Host) -> Option<Change> {
    let change = match is.spec.image {
        _ if was.spec.image != is.spec.image => return None,
        BootTarget::Image(_) => lifecycle::Transition::Assign,
        BootTarget::LocalDisk | BootTarget::Menu => lifecycle::Transition::Release,
    };
    let mac = is.spec.boot_mac_address;
    Some(Change::Advance { mac, transition: change, observation: Observation::default(), event: None })
}

/// Says where the machine's BMC reaches us, where that is not where machines do.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Insertion {
    address: Option<IpAddr>,
}

/// Begins a boot from virtual media, and gives the URL that the BMC is to read.
pub async fn medium(shared: &Shared, key: &Key, request: Request<Incoming>) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    let body = body::read(body).await?;
    let Insertion { address } = match body.is_empty() {
        true => Insertion::default(),
        false => serde_json::from_value(body::parse(body::media_type(&head.headers), &body)?)
            .map_err(|error| Status::bad_request(error.to_string()))?,
    };
    let Object::Host(host) = handlers::find(shared, key)? else { return Err(Status::no_route()) };
    let held =
        shared.gate.insert(host.spec.boot_mac_address).await.map_err(|error| Status::unfit(error.to_string()))?;
    let (MediaLease { image, seen, path }, site) = (held, &shared.gate.site);
    let url = format!("{}/{path}", address.map_or_else(|| site.url(), |address| site.reached_at(address).url()));
    let (size, etag) = (seen.medium.len(), format!("\"{}\"", seen.tag));
    let told = json!({"apiVersion": "v1", "kind": "VirtualMedium", "image": image, "url": url, "etag": etag, "sizeBytes": size});
    Ok(reply::json(StatusCode::OK, &told))
}

/// Lets a host boot its disk, or holds it back.
pub async fn change(shared: &Shared, key: &Key, change: lifecycle::Transition) -> Result<Reply, Status> {
    let Object::Host(host) = handlers::find(shared, key)? else { return Err(Status::no_route()) };
    let mac = host.spec.boot_mac_address;
    let change = Change::Advance { mac, transition: change, observation: Observation::default(), event: None };
    let object = committed(shared, key, change).await?;
    Ok(reply::json(StatusCode::OK, &View(&object)))
}

async fn committed(shared: &Shared, key: &Key, change: Change) -> Result<Object, Status> {
    shared.gate.store.commit(change).await.map_err(|error| Status::of_store(&error, key))
}

/// Tells what happened to a host, oldest first; to everything where none is named.
pub async fn timeline(shared: &Shared, key: Option<&Key>) -> Result<Reply, Status> {
    let object = key.map(|key| handlers::find(shared, key)).transpose()?;
    let store = shared.gate.store.clone();
    let read = tokio::task::spawn_blocking(move || match object {
        None => store.timeline(None, ENTRIES),
        Some(Object::Host(host)) => store.timeline(Some(host.spec.boot_mac_address), ENTRIES),
        Some(other) => store.timeline_of(&other.key(), ENTRIES),
    })
    .await;
    let entries = read.map_err(|error| Status::internal(error.to_string()))?;
    let entries = entries.map_err(|error| Status::internal(error.to_string()))?;
    let list = json!({"apiVersion": "v1", "kind": "Timeline", "items": entries});
    Ok(reply::json(StatusCode::OK, &list))
}
