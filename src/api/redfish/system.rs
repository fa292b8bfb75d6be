//! Changes of a system: its power, and its next boot.

use hyper::StatusCode;
use serde_json::{Map, Value};

use crate::bmc::client::{BmcClient, BmcPolicy};
use crate::bmc::{BootDevice, Reset};
use crate::boot::diagnosis::Step;
use crate::event::power_report::PowerReport;
use crate::fleet::boot_override::{self, BootOverride, OverrideTarget};
use crate::fleet::{FirmwareMode, Host, Key, Object, TransitionState};
use crate::store::{self, now};

use crate::api::objects::write::find;
use crate::api::redfish::error::RedfishError;
use crate::api::redfish::precondition::HostPrecondition;
use crate::api::redfish::resources::{BOOT_TARGETS, mode};
use crate::api::redfish::transaction::update_host;
use crate::api::redfish::virtual_media::{images_of, release};
use crate::api::state::Shared;

/// Returns the client of a host's BMC; `None` for a host without one.
pub fn bmc_client(shared: &Shared, host: &Host) -> Option<BmcClient> {
    let policy = BmcPolicy { pins_certificates: shared.gate.site().pins_bmc_certificates };
    BmcClient::of(host, policy, now())
}

/// Carries out `ComputerSystem.Reset` on the machine's own BMC.
///
/// # Errors
/// The host has no BMC, the reset type is unknown, or the BMC failed.
pub async fn reset(shared: &Shared, host: &Host, body: &Value) -> Result<(), RedfishError> {
    let Some(bmc) = &host.spec.bmc else {
        let message = format!("{} has no BMC: set spec.bmc, or reset the machine by other means", host.metadata.name);
        return Err(RedfishError::new(StatusCode::BAD_REQUEST, "ActionNotSupported", message));
    };
    let known = || format!("ResetType: expected one of {}", Reset::ALL.map(Reset::as_str).join(", "));
    let wanted = body["ResetType"].as_str().and_then(Reset::parse).ok_or_else(|| RedfishError::bad_value(known()))?;
    if let Some(mut client) = bmc_client(shared, host) {
        client.reset(wanted).await?;
    }
    shared.gate.trace_reset(host.spec.boot_mac_address, wanted);
    // A reset by hand replaces a power change of the spec that is still in progress.
    if let Some(transition) = &host.status.power_transition {
        let replaced = Box::new(transition.ended(TransitionState::Replaced, now()));
        let report = PowerReport { transition: Some(replaced), ..PowerReport::new(bmc) };
        let change = store::Change::PowerReported { mac: host.spec.boot_mac_address, report: Box::new(report) };
        if let Err(error) = shared.gate.store.commit(change).await {
            tracing::warn!(%error, host = %host.metadata.name, "failed to cancel pending power change");
        }
    }
    tracing::info!(host = %host.metadata.name, reset = wanted.as_str(), "machine reset");
    Ok(())
}

/// Carries out a PATCH of a system; only `Boot` can be written.
///
/// # Errors
/// A property that is read-only or has a wrong value, nothing to boot, a precondition that fails, or a BMC that failed.
pub async fn change(
    shared: &Shared,
    key: &Key,
    host: &Host,
    body: &Map<String, Value>,
    precondition: HostPrecondition<'_>,
) -> Result<(), RedfishError> {
    if let Some(other) = body.keys().find(|name| *name != "Boot" && !name.starts_with('@')) {
        return Err(RedfishError::not_writable(other));
    }
    let boot = match body.get("Boot") {
        None => return Ok(()),
        Some(Value::Object(boot)) => boot,
        Some(_) => return Err(RedfishError::bad_value("Boot: expected an object")),
    };
    let [target, enabled, mode_wanted] = ["Target", "Enabled", "Mode"].map(|what| format!("BootSourceOverride{what}"));
    let known = [&target, &enabled, &mode_wanted];
    if let Some(other) = boot.keys().find(|name| !known.contains(name) && !name.starts_with('@')) {
        return Err(RedfishError::not_writable(&format!("Boot.{other}")));
    }
    let text = |name: &str| match boot.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(RedfishError::bad_value(format!("Boot.{name}: expected a string"))),
    };
    check_mode(host, text(&mode_wanted)?)?;
    let (target, enabled) = (text(&target)?, text(&enabled)?);
    let once = match enabled {
        None | Some("Once") => true,
        Some("Continuous") => false,
        Some("Disabled") => return apply_override(shared, key, None, precondition).await,
        Some(other) => {
            let known = "expected Once, Continuous or Disabled";
            return Err(RedfishError::bad_value(format!("BootSourceOverrideEnabled: {other:?}: {known}")));
        }
    };
    let known = || format!("expected one of {}", BOOT_TARGETS.join(", "));
    match target {
        Some("None") => apply_override(shared, key, None, precondition).await,
        Some(word) => {
            let target = OverrideTarget::parse(word)
                .ok_or_else(|| RedfishError::bad_value(format!("BootSourceOverrideTarget: {word:?}: {}", known())))?;
            apply_override(shared, key, Some((target, once)), precondition).await
        }
        None => match BootOverride::of(host).filter(|is| enabled.is_some() && is.once != once) {
            Some(is) => apply_override(shared, key, Some((is.target, once)), precondition).await,
            None => Ok(()),
        },
    }
}

/// Checks a boot mode against the mode that the machine's firmware boots in.
fn check_mode(host: &Host, wanted: Option<&str>) -> Result<(), RedfishError> {
    match (wanted, mode(host)) {
        (Some(wanted), _) if !["UEFI", "Legacy"].contains(&wanted) => {
            Err(RedfishError::bad_value(format!("BootSourceOverrideMode: {wanted:?}: expected UEFI or Legacy")))
        }
        (Some(wanted), Some(is)) if wanted != is => {
            let message =
                format!("BootSourceOverrideMode: the machine boots in {is} mode: change it in the firmware setup");
            Err(RedfishError::new(StatusCode::BAD_REQUEST, "PropertyNotWritable", message))
        }
        (None | Some(_), _) => Ok(()),
    }
}

/// Sets what a machine boots, for one boot or until another override; `None` clears the override.
async fn apply_override(
    shared: &Shared,
    key: &Key,
    wanted: Option<(OverrideTarget, bool)>,
    precondition: HostPrecondition<'_>,
) -> Result<(), RedfishError> {
    let update = |host: &Host| match wanted {
        Some((target, once)) => {
            boot_override::set_override(host, target, once, now()).map(|(host, transition)| (host, Some(transition)))
        }
        None => Ok(boot_override::cleared(host)),
    };
    let _turn = shared.host_locks.lock(key).await;
    let Object::Host(host) = find(shared, key)? else { return Err(RedfishError::not_found("such system")) };
    precondition.check(&host)?;
    update(&host)?;
    // The BMC first: if it refuses, nothing changes here.
    program(shared, &host, wanted).await?;
    let updated = update_host(shared, key, &[], |host| {
        precondition.check(host)?;
        Ok(update(host)?)
    })
    .await;
    if let Err(error) = updated {
        // Another client changed the host meanwhile: the machine boots again what its record says.
        if let Ok(Object::Host(now)) = find(shared, key)
            && let Err(error) = program(shared, &host, recorded(&now)).await
        {
            tracing::warn!(host = %key.name, error = error.message, "the BMC has another boot device than the host's record");
        }
        return Err(error);
    }
    release(shared, images_of(&host)).await;
    Ok(())
}

/// Returns the override that is in force by a host's record, and whether it is for one boot.
fn recorded(host: &Host) -> Option<(OverrideTarget, bool)> {
    let (enabled, target) = boot_override::redfish_state(host);
    Some((OverrideTarget::parse(target)?, enabled == "Once")).filter(|_| enabled != "Disabled")
}

/// Sets the boot device of the machine's own BMC, if it has one.
async fn program(shared: &Shared, host: &Host, wanted: Option<(OverrideTarget, bool)>) -> Result<(), RedfishError> {
    let Some(mut client) = bmc_client(shared, host) else { return Ok(()) };
    let next = match wanted {
        Some((OverrideTarget::Pxe | OverrideTarget::Cd, _)) => BootDevice::Network,
        Some((OverrideTarget::Hdd, _)) => BootDevice::Disk,
        None => BootDevice::Default,
    };
    client.set_boot_device(next, wanted.is_none_or(|(_, once)| once), FirmwareMode::of(host)).await?;
    if next == BootDevice::Network {
        shared.gate.trace(host.spec.boot_mac_address, Step::NetworkBootSet);
    }
    Ok(())
}
