//! What is asked of a machine: its power, its next boot, the medium in its virtual drive.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::http::uri::Authority;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::bmc::{self, Next, Reset};
use crate::fleet::lifecycle::Change;
use crate::fleet::{Boots, Host, Image, ImageSpec, ImageStatus, Key, Kind, Meta, Method, Name, Object, Phase, hex};
use crate::store::{self, Expect, Word};

use super::super::{Peer, Shared, install, objects};
use super::fault::Fault;
use super::resources::{MEDIUM, MEDIUM_IMAGE, TARGETS, mode};

/// Carries out `ComputerSystem.Reset` on the machine's own controller.
pub async fn reset(shared: &Shared, host: &Host, body: &Value) -> Result<(), Fault> {
    let Some(bmc) = &host.spec.bmc else {
        let message = format!("{} has no controller here: set its spec.bmc, or switch it yourself", host.metadata.name);
        return Err(Fault::new(StatusCode::BAD_REQUEST, "ActionNotSupported", message));
    };
    let known = || format!("ResetType is one of {}", Reset::ALL.map(Reset::as_str).join(", "));
    let wanted = body["ResetType"].as_str().and_then(Reset::read).ok_or_else(|| Fault::bad(known()))?;
    bmc::client::reset(bmc, wanted).await?;
    // Whoever resets a machine by hand means more than a wish of the spec's that is still being carried out.
    if let Some(switching) = &host.status.switching {
        let word = Word { over: Some(switching.asked), ..Word::of(bmc) };
        let change = store::Change::Heard { mac: host.spec.boot_mac_address, word: Box::new(word) };
        if let Err(error) = shared.gate.store.commit(change).await {
            tracing::warn!(%error, host = %host.metadata.name, "a switching goes on");
        }
    }
    tracing::info!(host = %host.metadata.name, reset = wanted.as_str(), "a machine was reset");
    Ok(())
}

/// Is what a PATCH asks of a machine's boot.
struct Wish<'a> {
    target: &'a str,
    once: bool,
}

/// Carries out a PATCH of a system: `Boot` is all of it that can be set.
pub async fn change(shared: &Shared, key: &Key, host: &Host, body: &Value) -> Result<(), Fault> {
    let fields = body.as_object().ok_or_else(|| Fault::bad("the body is not an object"))?;
    if let Some(other) = fields.keys().find(|name| *name != "Boot" && !name.starts_with('@')) {
        return Err(Fault::new(StatusCode::BAD_REQUEST, "PropertyNotWritable", format!("{other} cannot be set here")));
    }
    let Some(boot) = fields.get("Boot").and_then(Value::as_object) else {
        return Err(Fault::bad("Boot is an object"));
    };
    let text = |name: &str| match boot.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Fault::bad(format!("Boot.{name} is a string"))),
    };
    let wanted_mode = text("BootSourceOverrideMode")?;
    if let (Some(wanted), Some(is)) = (wanted_mode, mode(host))
        && wanted != is
    {
        let message = format!("the machine's firmware boots by {is}: set its mode in the firmware");
        return Err(Fault::new(StatusCode::BAD_REQUEST, "PropertyNotWritable", message));
    }
    let (target, enabled) = (text("BootSourceOverrideTarget")?, text("BootSourceOverrideEnabled")?);
    let once = match enabled {
        None | Some("Once") => true,
        Some("Continuous") => false,
        Some("Disabled") => return set(shared, key, host, Wish { target: "None", once: true }).await,
        Some(other) => {
            return Err(Fault::bad(format!(
                "BootSourceOverrideEnabled is Once, Continuous or Disabled, not {other:?}"
            )));
        }
    };
    match target {
        None => Ok(()),
        Some(target) => set(shared, key, host, Wish { target, once }).await,
    }
}

async fn set(shared: &Shared, key: &Key, host: &Host, wish: Wish<'_>) -> Result<(), Fault> {
    let (next, image) = match wish.target {
        "None" => (Next::AsItLikes, None),
        "Hdd" => (Next::Disk, None),
        "Pxe" => match &host.spec.image {
            Boots::Image(image) => (Next::Network, Some(image.clone())),
            Boots::LocalDisk | Boots::Menu => {
                let message = "nothing is assigned to the machine: insert virtual media, or name its spec.image first";
                return Err(Fault::new(StatusCode::CONFLICT, "PropertyValueConflict", message));
            }
        },
        "Cd" => (Next::Network, Some(inserted(host)?)),
        other => {
            return Err(Fault::bad(format!(
                "BootSourceOverrideTarget is one of {}, not {other:?}",
                TARGETS.join(", ")
            )));
        }
    };
    // The controller first: what it refuses changes nothing here.
    if let Some(bmc) = &host.spec.bmc {
        bmc::client::boot(bmc, next, wish.once).await?;
    }
    let pending = matches!(host.status.phase, Phase::Assigned | Phase::Offered);
    match (next, image) {
        (Next::Network, image) => {
            let mode = if wish.once { "once" } else { "forever" };
            let wish = install::Wish {
                image: image.map(|name| name.to_string()),
                boot_mode: Some(mode.into()),
                boot_config_ref: None,
            };
            install::begin(shared, key, &wish).await?;
        }
        (Next::AsItLikes, _) if !pending => {}
        (Next::AsItLikes | Next::Disk, _) => drop(install::change(shared, key, Change::Release).await?),
    }
    let_go(shared, held(host)).await;
    Ok(())
}

/// Finds the image that is in a machine's virtual drive.
fn inserted(host: &Host) -> Result<Name, Fault> {
    let image = host.metadata.annotations.get(MEDIUM_IMAGE).and_then(|name| name.parse().ok());
    let empty = "the virtual drive is empty: insert media first";
    image.ok_or_else(|| Fault::new(StatusCode::CONFLICT, "PropertyValueConflict", empty))
}

/// Finds the image of ours that a medium's URL means, or its name; nothing where the URL is another's.
fn find(shared: &Shared, peer: &Peer, url: &str) -> Result<Option<Name>, Fault> {
    let state = shared.gate.store.glance();
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

/// Puts a medium into a machine's virtual drive: an image of ours by its URL or its name, or any other URL.
pub async fn insert(shared: &Shared, peer: &Peer, key: &Key, host: &Host, body: &Value) -> Result<(), Fault> {
    let url =
        body["Image"].as_str().filter(|url| !url.is_empty()).ok_or_else(|| Fault::bad("Image is the medium's URL"))?;
    if ["UserName", "Password"].iter().any(|name| body[*name].as_str().is_some_and(|text| !text.is_empty())) {
        return Err(Fault::new(
            StatusCode::BAD_REQUEST,
            "ActionParameterNotSupported",
            "machines fetch the medium without a password",
        ));
    }
    if body["WriteProtected"] == Value::Bool(false) {
        return Err(Fault::new(StatusCode::BAD_REQUEST, "ActionParameterNotSupported", "a medium is read-only here"));
    }
    let image = match find(shared, peer, url)? {
        Some(image) => image,
        None => {
            let image = elsewhere(url)?;
            let name = image.metadata.name.clone();
            // Another machine may have it in its drive already.
            objects::put(shared, Object::Image(Arc::new(image)), None, Expect::Any, false).await?;
            name
        }
    };
    note(shared, key, Some((url, image.as_str()))).await?;
    let_go(shared, held(host)).await;
    Ok(())
}

fn elsewhere(url: &str) -> Result<Image, Fault> {
    let name: Name = borrowed(url).parse().map_err(|error: crate::fleet::BadName| Fault::bad(error.to_string()))?;
    let description = "inserted as virtual media".to_owned();
    let spec = ImageSpec { method: Method::Http, url: Some(url.to_owned()), description, ..ImageSpec::of_file("") };
    Ok(Image { metadata: Meta::named(name, None), spec, status: ImageStatus::default() })
}

/// Takes the medium out. A machine that was to boot it boots its disk; an image that stood for it alone goes.
pub async fn eject(shared: &Shared, key: &Key, host: &Host) -> Result<(), Fault> {
    let Ok(name) = inserted(host) else { return Ok(()) };
    if host.spec.image.image() == Some(&name) {
        let away = json!({"spec": {"image": "localboot", "bootConfigRef": "", "bootMode": "once"}});
        objects::modify(shared, key, false, |value| {
            json_patch::merge(value, &away);
            Ok(())
        })
        .await?;
    }
    note(shared, key, None).await?;
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
fn held(host: &Host) -> Vec<Name> {
    inserted(host).ok().into_iter().chain(host.spec.image.image().cloned()).collect()
}

/// Removes those images that stand for another's URL, once no drive has them and no host boots them.
async fn let_go(shared: &Shared, names: Vec<Name>) {
    for name in names {
        let state = shared.gate.store.snapshot();
        let stands = |image: &Arc<Image>| image.spec.url.as_ref().is_some_and(|url| borrowed(url) == name.as_str());
        let in_drive =
            |host: &Arc<Host>| host.metadata.annotations.get(MEDIUM_IMAGE).is_some_and(|held| *held == name.as_str());
        if !state.image(&name).is_some_and(stands) || state.hosts().any(in_drive) {
            continue;
        }
        let key = Key { kind: Kind::IscsiCdrom, namespace: None, name };
        if let Err(error) = shared.gate.store.commit(store::Change::Delete { key, version: None }).await {
            tracing::debug!(%error, "a medium stays");
        }
    }
}

async fn note(shared: &Shared, key: &Key, medium: Option<(&str, &str)>) -> Result<(), Fault> {
    let (url, image) = medium.unzip();
    let change = json!({"metadata": {"annotations": {MEDIUM: url, MEDIUM_IMAGE: image}}});
    objects::modify(shared, key, false, |value| {
        json_patch::merge(value, &change);
        Ok(())
    })
    .await?;
    Ok(())
}
