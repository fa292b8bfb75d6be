//! What is asked of a machine: its power, and its next boot.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::{Map, Value};

use crate::admission::prepare;
use crate::bmc::{self, BootDevice, Reset};
use crate::event::power_report::PowerReport;
use crate::fleet::lifecycle::Transition;
use crate::fleet::{Host, Key, Object};
use crate::store::{self, Expect, Observation, now};

use crate::api::objects::actions;
use crate::api::objects::status::Status;
use crate::api::redfish::error::Fault;
use crate::api::redfish::resources::{TARGETS, mode};
use crate::api::redfish::virtual_media::{held, let_go};
use crate::api::state::Shared;
use crate::fleet::boot_override::{self, BootOverride, OverrideTarget};

/// Carries out `ComputerSystem.Reset` on the machine's own controller.
pub async fn reset(shared: &Shared, host: &Host, body: &Value) -> Result<(), Fault> {
    let Some(bmc) = &host.spec.bmc else {
        let message = format!("{} has no controller here: set its spec.bmc, or switch it yourself", host.metadata.name);
        return Err(Fault::new(StatusCode::BAD_REQUEST, "ActionNotSupported", message));
    };
    let known = || format!("ResetType is one of {}", Reset::ALL.map(Reset::as_str).join(", "));
    let wanted = body["ResetType"].as_str().and_then(Reset::parse).ok_or_else(|| Fault::bad(known()))?;
    bmc::client::reset(bmc, wanted).await?;
    // Whoever resets a machine by hand means more than a wish of the spec's that is still being carried out.
    if let Some(switching) = &host.status.power_transition {
        let report = PowerReport { ended_transition: Some(switching.request_time), ..PowerReport::new(bmc) };
        let change = store::Change::PowerReported { mac: host.spec.boot_mac_address, report: Box::new(report) };
        if let Err(error) = shared.gate.store.commit(change).await {
            tracing::warn!(%error, host = %host.metadata.name, "a switching goes on");
        }
    }
    tracing::info!(host = %host.metadata.name, reset = wanted.as_str(), "a machine was reset");
    Ok(())
}

/// Carries out a PATCH of a system: `Boot` is all of it that can be set.
pub async fn change(shared: &Shared, key: &Key, host: &Host, body: &Map<String, Value>) -> Result<(), Fault> {
    if let Some(other) = body.keys().find(|name| *name != "Boot" && !name.starts_with('@')) {
        return Err(Fault::not_writable(other));
    }
    let boot = match body.get("Boot") {
        // Nothing is to be changed.
        None => return Ok(()),
        Some(Value::Object(boot)) => boot,
        Some(_) => return Err(Fault::bad("Boot is an object")),
    };
    let [target, enabled, mode_wanted] = ["Target", "Enabled", "Mode"].map(|what| format!("BootSourceOverride{what}"));
    let known = [&target, &enabled, &mode_wanted];
    if let Some(other) = boot.keys().find(|name| !known.contains(name) && !name.starts_with('@')) {
        return Err(Fault::not_writable(&format!("Boot.{other}")));
    }
    let text = |name: &str| match boot.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Fault::bad(format!("Boot.{name} is a string"))),
    };
    fits(host, text(&mode_wanted)?)?;
    let (target, enabled) = (text(&target)?, text(&enabled)?);
    let once = match enabled {
        None | Some("Once") => true,
        Some("Continuous") => false,
        Some("Disabled") => return set(shared, key, host, None).await,
        Some(other) => {
            let known = "BootSourceOverrideEnabled is Once, Continuous or Disabled";
            return Err(Fault::bad(format!("{known}, not {other:?}")));
        }
    };
    let known = || format!("BootSourceOverrideTarget is one of {}", TARGETS.join(", "));
    match target {
        Some("None") => set(shared, key, host, None).await,
        Some(word) => {
            let target = OverrideTarget::read(word).ok_or_else(|| Fault::bad(format!("{}, not {word:?}", known())))?;
            set(shared, key, host, Some((target, once))).await
        }
        None => match BootOverride::of(host).filter(|is| enabled.is_some() && is.once != once) {
            Some(is) => set(shared, key, host, Some((is.target, once))).await,
            None => Ok(()),
        },
    }
}

/// Checks a mode that is asked for against what the machine's firmware showed of itself.
fn fits(host: &Host, wanted: Option<&str>) -> Result<(), Fault> {
    match (wanted, mode(host)) {
        (Some(wanted), _) if !["UEFI", "Legacy"].contains(&wanted) => {
            Err(Fault::bad(format!("BootSourceOverrideMode is UEFI or Legacy, not {wanted:?}")))
        }
        (Some(wanted), Some(is)) if wanted != is => {
            let message = format!("the machine's firmware boots by {is}: set its mode in the firmware");
            Err(Fault::new(StatusCode::BAD_REQUEST, "PropertyNotWritable", message))
        }
        (None | Some(_), _) => Ok(()),
    }
}

/// Sets what a machine boots, for one boot or until something else is set; nothing takes that back.
async fn set(shared: &Shared, key: &Key, host: &Host, wish: Option<(OverrideTarget, bool)>) -> Result<(), Fault> {
    let made = |host: &Host| -> Result<(Host, Option<Transition>), Fault> {
        match wish {
            Some((target, once)) => {
                let (host, change) = boot_override::set(host, target, once, now())?;
                Ok((host, Some(change)))
            }
            None => Ok(boot_override::cleared(host)),
        }
    };
    made(host)?;
    // The controller first: what it refuses changes nothing here.
    if let Some(bmc) = &host.spec.bmc {
        let next = match wish {
            Some((OverrideTarget::Pxe | OverrideTarget::Cd, _)) => BootDevice::Network,
            Some((OverrideTarget::Hdd, _)) => BootDevice::Disk,
            None => BootDevice::Default,
        };
        bmc::client::set_boot_device(bmc, next, wish.is_none_or(|(_, once)| once)).await?;
    }
    carry_out(shared, key, made).await?;
    let_go(shared, held(host)).await;
    Ok(())
}

/// Makes a host what `made` makes of it, and moves it on: all of it, or nothing is changed.
pub async fn carry_out(
    shared: &Shared,
    key: &Key,
    made: impl Fn(&Host) -> Result<(Host, Option<Transition>), Fault>,
) -> Result<(), Fault> {
    actions::carry_out(shared, key, |before| {
        let Object::Host(host) = before else { return Err(Fault::unknown("such system")) };
        let (mut after, change) = made(host)?;
        if !is_there(shared, &after) {
            tracing::warn!(host = %key.name, "what was declared of a host before its boot was set is no more");
            boot_override::left_to_disk(&mut after);
        }
        let (mac, version) = (after.spec.boot_mac_address, before.meta().resource_version);
        let object = prepare::prepare(Object::Host(Arc::new(after)), Some(before), &shared.places)
            .map_err(|wrong| Status::invalid(key.kind, key.name.as_str(), &wrong))?;
        let put = store::Change::Put { object, expect: Expect::Present(Some(version)) };
        let moved = change.map(|transition| store::Change::Advance {
            mac,
            transition,
            observation: Observation::default(),
            event: None,
        });
        Ok([put].into_iter().chain(moved).collect())
    })
    .await
    .map(drop)
}

/// Says whether what a host's spec names still is, and still goes together.
fn is_there(shared: &Shared, host: &Host) -> bool {
    let state = shared.gate.store.load();
    let config = host.spec.boot_config_ref.as_ref();
    let listed = |image: &crate::fleet::Name| {
        let image = state.image(image);
        image.is_some_and(|image| config.is_none_or(|config| image.spec.boot_configs.contains(config)))
    };
    host.spec.image.image().is_none_or(listed) && config.is_none_or(|config| state.boot_config(config).is_some())
}
