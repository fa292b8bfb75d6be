//! What is in a machine's virtual drive.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::http::uri::Authority;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::fleet::{Host, Image, ImageSpec, ImageStatus, Key, Kind, Meta, Method, Name, Object, hex, rules};
use crate::store::{Change, Expect};

use crate::api::objects::handlers;
use crate::api::redfish::error::Fault;
use crate::api::redfish::system::carry_out;
use crate::api::state::Shared;
use crate::fleet::boot_override::{self, MEDIUM, MEDIUM_IMAGE};
use crate::http::peer::Peer;

/// Finds the image of ours that a medium's URL means, or its name; nothing where the URL is another's.
fn find(shared: &Shared, peer: &Peer, url: &str) -> Result<Option<Name>, Fault> {
    let state = shared.gate.store.load();
    let known = |name: &str| name.parse().ok().filter(|name| state.image(name).is_some());
    let Some((scheme, rest)) = url.split_once("://") else {
        let found = known(url.strip_suffix(".iso").unwrap_or(url));
        return found.map(Some).ok_or_else(|| Fault::bad(format!("there is no ISO {url:?}, and it is no URL")));
    };
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    let Some(path) = path.strip_prefix("iso/") else { return Ok(None) };
    let name = path.split(['/', '?']).next().unwrap_or_default();
    match whose(shared, peer, scheme, place) {
        Whose::Ours => match known(name) {
            None => Err(Fault::bad(format!("there is no ISO {name:?} here: add it first"))),
            found => Ok(found),
        },
        Whose::OurHosts => Ok(known(name)),
        Whose::Others => Ok(None),
    }
}

/// Says whose server a URL leads to.
enum Whose {
    /// Machines find us there.
    Ours,
    /// It is on our host, at another port: another server may well have an `/iso/` of its own.
    OurHosts,
    Others,
}

fn whose(shared: &Shared, peer: &Peer, scheme: &str, place: &str) -> Whose {
    let site = &shared.gate.site;
    let Ok(place) = place.parse::<Authority>() else { return Whose::Others };
    let host = place.host().trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let port = place.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    match host.is_some_and(|host| host == site.address || Some(host) == peer.local) {
        true if port == site.http.port() => Whose::Ours,
        true => Whose::OurHosts,
        false => Whose::Others,
    }
}

/// Names the image that stands for an ISO at another's URL.
fn borrowed(url: &str) -> String {
    format!("media-{}", hex(&Sha256::digest(url)[..8]))
}

/// Carries out a PATCH of the drive, as some clients do in place of its actions: an image goes in, null takes it out.
pub async fn change(
    shared: &Shared,
    peer: &Peer,
    key: &Key,
    host: &Host,
    body: &Map<String, Value>,
) -> Result<(), Fault> {
    let image = match body.get("Image") {
        None => None,
        Some(Value::Null) => Some(""),
        Some(Value::String(url)) => Some(url.as_str()),
        Some(_) => return Err(Fault::bad("Image is the medium's URL, or null")),
    };
    let is_in = boot_override::inserted(host).is_ok();
    match (image, body.get("Inserted")) {
        (_, Some(other)) if !other.is_boolean() => Err(Fault::bad("Inserted is true or false")),
        (Some(""), Some(Value::Bool(true))) => Err(Fault::conflict("nothing is inserted without an Image")),
        (Some(url), Some(Value::Bool(false))) if !url.is_empty() => Err(Fault::conflict(UNPLUGGED)),
        (Some(url), _) if !url.is_empty() => insert(shared, peer, key, host, body).await,
        (Some(_), _) | (None, Some(Value::Bool(false))) => eject(shared, key, host).await,
        (None, Some(_)) if !is_in => Err(Fault::conflict("the virtual drive is empty: name the medium's URL as Image")),
        (None, _) => match body.keys().find(|name| *name != "Inserted" && !name.starts_with('@')) {
            Some(other) => Err(Fault::not_writable(other)),
            None => Ok(()),
        },
    }
}

const UNPLUGGED: &str = "a medium that is in the drive is inserted here: leave Inserted out";

/// Puts a medium into a machine's virtual drive: an image of ours by its URL or its name, or any other URL.
pub async fn insert(
    shared: &Shared,
    peer: &Peer,
    key: &Key,
    host: &Host,
    body: &Map<String, Value>,
) -> Result<(), Fault> {
    let url = body.get("Image").and_then(Value::as_str).filter(|url| !url.is_empty());
    let url = url.ok_or_else(|| Fault::bad("Image is the medium's URL"))?;
    let unfit = |message| Err(Fault::new(StatusCode::BAD_REQUEST, "ActionParameterNotSupported", message));
    let given = |name: &str| body.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if given("UserName") || given("Password") {
        return unfit("machines fetch the medium without a password");
    }
    if body.get("WriteProtected") == Some(&Value::Bool(false)) {
        return unfit("a medium is read-only here");
    }
    if body.get("Inserted") == Some(&Value::Bool(false)) {
        return unfit(UNPLUGGED);
    }
    if let (true, Err(wrong)) = (url.contains("://"), rules::check_url(url)) {
        return Err(Fault::bad(format!("Image: {wrong}")));
    }
    let image = match find(shared, peer, url)? {
        Some(image) => image,
        None => {
            let image = elsewhere(url)?;
            let name = image.metadata.name.clone();
            // Another machine may have it in its drive already.
            handlers::put(shared, Object::Image(Arc::new(image)), None, Expect::Any, false).await?;
            name
        }
    };
    note(shared, key, url, &image).await?;
    let_go(shared, held(host)).await;
    Ok(())
}

fn elsewhere(url: &str) -> Result<Image, Fault> {
    let name: Name = borrowed(url).parse().map_err(|error: crate::fleet::BadName| Fault::bad(error.to_string()))?;
    let description = "inserted as virtual media".to_owned();
    let spec = ImageSpec { method: Method::Http, url: Some(url.to_owned()), description, ..ImageSpec::of_file("") };
    Ok(Image { metadata: Meta::named(name, None), spec, status: ImageStatus::default() })
}

/// Takes the medium out. A machine that was to boot it is as it is declared again; an image that stood for it alone goes.
pub async fn eject(shared: &Shared, key: &Key, host: &Host) -> Result<(), Fault> {
    if boot_override::inserted(host).is_err() {
        return Ok(());
    }
    carry_out(shared, key, |host| Ok(boot_override::ejected(host))).await?;
    let_go(shared, held(host)).await;
    Ok(())
}

/// Lets go of the media of a host that is no more.
pub async fn forget(shared: &Shared, gone: &Object) {
    if let Object::Host(host) = gone {
        let_go(shared, held(host)).await;
    }
}

/// Names the images that a host has in its drive, and that it boots.
pub fn held(host: &Host) -> Vec<Name> {
    boot_override::inserted(host).ok().into_iter().chain(host.spec.image.image().cloned()).collect()
}

/// Removes those images that stand for another's URL, once no drive has them and no host boots them.
pub async fn let_go(shared: &Shared, names: Vec<Name>) {
    for name in names {
        let state = shared.gate.store.snapshot();
        let stands = |image: &Arc<Image>| image.spec.url.as_ref().is_some_and(|url| borrowed(url) == name.as_str());
        let in_drive =
            |host: &Arc<Host>| host.metadata.annotations.get(MEDIUM_IMAGE).is_some_and(|held| *held == name.as_str());
        if !state.image(&name).is_some_and(stands) || state.hosts().any(in_drive) {
            continue;
        }
        let key = Key { kind: Kind::IscsiCdrom, namespace: None, name };
        if let Err(error) = shared.gate.store.commit(Change::Delete { key, version: None }).await {
            tracing::debug!(%error, "a medium stays");
        }
    }
}

async fn note(shared: &Shared, key: &Key, url: &str, image: &Name) -> Result<(), Fault> {
    carry_out(shared, key, |host| {
        let mut after = host.clone();
        for (name, text) in [(MEDIUM, url), (MEDIUM_IMAGE, image.as_str())] {
            after.metadata.annotations.insert(name.into(), text.into());
        }
        Ok((after, None))
    })
    .await
}
