//! A machine's virtual drive.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::http::uri::Authority;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::fleet::{Host, Image, ImageSpec, ImageStatus, Key, Kind, Meta, Method, Name, Object, rules};
use crate::store::Change;

use crate::api::objects::write;
use crate::api::redfish::error::RedfishError;
use crate::api::redfish::precondition::HostPrecondition;
use crate::api::redfish::transaction::update_host;
use crate::api::state::Shared;
use crate::fleet::boot_override::{self, MEDIUM, MEDIUM_IMAGE};
use crate::http::peer::Peer;

/// Returns the image that a medium's URL or name refers to; `None` for a URL of another server.
fn find(shared: &Shared, peer: &Peer, url: &str) -> Result<Option<Name>, RedfishError> {
    let state = shared.gate.store.load();
    let known = |name: &str| name.parse().ok().filter(|name| state.image(name).is_some());
    let Some((scheme, rest)) = url.split_once("://") else {
        let found = known(url.strip_suffix(".iso").unwrap_or(url));
        return found
            .map(Some)
            .ok_or_else(|| RedfishError::bad_value(format!("Image: {url:?} is neither the name of an ISO nor a URL")));
    };
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    let Some(path) = path.strip_prefix("iso/") else { return Ok(None) };
    let name = path.split(['/', '?']).next().unwrap_or_default();
    match owner_of(shared, peer, scheme, place) {
        UrlOwner::Ours => match known(name) {
            None => Err(RedfishError::bad_value(format!("Image: there is no ISO {name:?}: add it first"))),
            found => Ok(found),
        },
        UrlOwner::SameHost => Ok(known(name)),
        UrlOwner::Other => Ok(None),
    }
}

/// The server that a URL leads to.
enum UrlOwner {
    /// This server, at the address that machines use.
    Ours,
    /// Another port of this host: another server there may have an `/iso/` of its own.
    SameHost,
    /// Another host.
    Other,
}

fn owner_of(shared: &Shared, peer: &Peer, scheme: &str, place: &str) -> UrlOwner {
    let site = shared.gate.site();
    let Ok(place) = place.parse::<Authority>() else { return UrlOwner::Other };
    let host = place.host().trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let port = place.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    match host.is_some_and(|host| host == site.address || Some(host) == peer.local) {
        true if port == site.http.port() => UrlOwner::Ours,
        true => UrlOwner::SameHost,
        false => UrlOwner::Other,
    }
}

/// Returns the name of the image that is created for an ISO at another server's URL.
fn remote_name(url: &str) -> String {
    format!("media-{}", hex::encode(&Sha256::digest(url)[..8]))
}

/// The drive that a request changes.
#[derive(Debug, Clone, Copy)]
pub struct VirtualDrive<'a> {
    /// The state of all requests.
    pub shared: &'a Shared,
    /// Key of the host.
    pub key: &'a Key,
    /// The host, as it was when the request came.
    pub host: &'a Host,
    /// The version of the drive that the request is for.
    pub precondition: HostPrecondition<'a>,
}

/// Carries out a PATCH of the drive, which some clients send instead of its actions: an image is inserted, null ejects
/// it.
///
/// # Errors
/// A property that is read-only or has a wrong value, and as `insert`.
pub async fn change(target: VirtualDrive<'_>, peer: &Peer, body: &Map<String, Value>) -> Result<(), RedfishError> {
    let image = match body.get("Image") {
        None => None,
        Some(Value::Null) => Some(""),
        Some(Value::String(url)) => Some(url.as_str()),
        Some(_) => return Err(RedfishError::bad_value("Image: expected the medium's URL, or null")),
    };
    let is_in = boot_override::inserted(target.host).is_ok();
    match (image, body.get("Inserted")) {
        (_, Some(other)) if !other.is_boolean() => Err(RedfishError::bad_value("Inserted: expected true or false")),
        (Some(""), Some(Value::Bool(true))) => Err(RedfishError::conflict("Inserted: true needs an Image")),
        (Some(url), Some(Value::Bool(false))) if !url.is_empty() => Err(RedfishError::conflict(UNPLUGGED)),
        (Some(url), _) if !url.is_empty() => insert(target, peer, body).await,
        (Some(_), _) | (None, Some(Value::Bool(false))) => eject(target).await,
        (None, Some(_)) if !is_in => {
            Err(RedfishError::conflict("Inserted: the virtual drive is empty: set Image to the medium's URL"))
        }
        (None, _) => match body.keys().find(|name| *name != "Inserted" && !name.starts_with('@')) {
            Some(other) => Err(RedfishError::not_writable(other)),
            None => Ok(()),
        },
    }
}

const UNPLUGGED: &str = "Inserted: a medium in the drive is always inserted; remove the property";

/// Inserts a medium into a machine's virtual drive: an image of this server by its URL or name, or any other URL.
///
/// # Errors
/// A parameter that is not supported, a wrong URL, a precondition that fails, or the store's reason.
pub async fn insert(target: VirtualDrive<'_>, peer: &Peer, body: &Map<String, Value>) -> Result<(), RedfishError> {
    let VirtualDrive { shared, key, .. } = target;
    let url = body.get("Image").and_then(Value::as_str).filter(|url| !url.is_empty());
    let url = url.ok_or_else(|| RedfishError::bad_value("Image: expected the medium's URL"))?;
    let unsupported = |message| Err(RedfishError::new(StatusCode::BAD_REQUEST, "ActionParameterNotSupported", message));
    let given = |name: &str| body.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if given("UserName") || given("Password") {
        return unsupported("UserName, Password: machines fetch the medium without a password");
    }
    if body.get("WriteProtected") == Some(&Value::Bool(false)) {
        return unsupported("WriteProtected: media are read-only");
    }
    if body.get("Inserted") == Some(&Value::Bool(false)) {
        return unsupported(UNPLUGGED);
    }
    if let (true, Err(wrong)) = (url.contains("://"), rules::check_url(url)) {
        return Err(RedfishError::bad_value(format!("Image: {wrong}")));
    }
    let _turn = shared.host_locks.lock(key).await;
    let before = present(target)?;
    match find(shared, peer, url)? {
        Some(image) => record_medium(target, url, &image, &[]).await?,
        None => {
            let image = remote_image(url)?;
            let name = image.metadata.name.clone();
            record_medium(target, url, &name, &[Object::Image(Arc::new(image))]).await?;
        }
    }
    release(shared, images_of(&before)).await;
    Ok(())
}

/// Returns the host of a drive as it is now.
fn present(target: VirtualDrive<'_>) -> Result<Arc<Host>, RedfishError> {
    match write::find(target.shared, target.key)? {
        Object::Host(host) => Ok(host),
        Object::Image(_) | Object::BootConfig(_) | Object::ConfigTemplate(_) => {
            Err(RedfishError::not_found("such system"))
        }
    }
}

/// Returns the image for an ISO at another server's URL.
fn remote_image(url: &str) -> Result<Image, RedfishError> {
    let name: Name =
        remote_name(url).parse().map_err(|error: crate::fleet::BadName| RedfishError::bad_value(error.to_string()))?;
    let description = "inserted as virtual media".to_owned();
    let spec = ImageSpec { method: Method::Http, url: Some(url.to_owned()), description, ..ImageSpec::of_file("") };
    Ok(Image { metadata: Meta::named(name, None), spec, status: ImageStatus::default() })
}

/// Ejects the medium. A machine that was set to boot it gets its declared settings back. An image that was created for
/// the medium is deleted.
///
/// # Errors
/// The store's reason.
pub async fn eject(target: VirtualDrive<'_>) -> Result<(), RedfishError> {
    let VirtualDrive { shared, key, precondition, .. } = target;
    let _turn = shared.host_locks.lock(key).await;
    let before = present(target)?;
    if boot_override::inserted(&before).is_err() {
        return Ok(());
    }
    update_host(shared, key, &[], |host| {
        precondition.check(host)?;
        Ok(boot_override::ejected(host))
    })
    .await?;
    release(shared, images_of(&before)).await;
    Ok(())
}

/// Returns the images that a host has in its drive and that it boots.
pub fn images_of(host: &Host) -> Vec<Name> {
    boot_override::inserted(host).ok().into_iter().chain(host.spec.image.image().cloned()).collect()
}

/// Deletes those of the images that were created for another server's URL. The store refuses to delete one that a host
/// has in its drive, or boots.
pub async fn release(shared: &Shared, names: Vec<Name>) {
    for name in names {
        let state = shared.gate.store.snapshot();
        let is_remote =
            |image: &Arc<Image>| image.spec.url.as_ref().is_some_and(|url| remote_name(url) == name.as_str());
        if !state.image(&name).is_some_and(is_remote) {
            continue;
        }
        let key = Key { kind: Kind::IscsiCdrom, namespace: None, name };
        if let Err(error) = shared.gate.store.commit(Change::Delete { key, version: None }).await {
            tracing::debug!(%error, "virtual medium not deleted");
        }
    }
}

/// Records the medium of a host, together with the image that is created for it.
async fn record_medium(
    target: VirtualDrive<'_>,
    url: &str,
    image: &Name,
    created: &[Object],
) -> Result<(), RedfishError> {
    update_host(target.shared, target.key, created, |host| {
        target.precondition.check(host)?;
        if created.is_empty() && target.shared.gate.store.load().image(image).is_none() {
            return Err(RedfishError::bad_value(format!("Image: there is no ISO {image}: it was deleted")));
        }
        let mut after = host.clone();
        for (name, text) in [(MEDIUM, url), (MEDIUM_IMAGE, image.as_str())] {
            after.metadata.annotations.insert(name.into(), text.into());
        }
        Ok((after, None))
    })
    .await
}
