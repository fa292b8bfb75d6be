//! Power of a host: power changes and the boot device, by its BMC.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::bmc::client::{BmcClient, BmcPolicy};
use crate::event::Event;
use crate::event::power_report::PowerReport;
use crate::fleet::{BootDevice, BootDeviceRecord, FirmwareMode, Host, Key, Object, PowerOperation};
use crate::store::{Change, Expect, now};

use crate::api::objects::body;
use crate::api::objects::redaction::View;
use crate::api::objects::status::Status;
use crate::api::objects::write::{commit_with_retry, find};
use crate::api::state::Shared;
use crate::http::reply::{self, Reply};

/// Maximum delay of a power change, in seconds.
const MAX_DELAY_SECONDS: u32 = 24 * 3600;

/// The body of a request for a power change.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PowerChangeRequest {
    /// The operation. `on`, `off` and `forceOff` are recorded as `spec.online`.
    #[schemars(with = "PowerOperation")]
    pub operation: Option<PowerOperation>,
    /// Seconds until it begins, at most 86400: many machines are not switched on at once.
    #[serde(default)]
    pub delay_seconds: u32,
}

/// The body of a request for a boot device.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BootDeviceRequest {
    /// The device.
    #[schemars(with = "BootDevice")]
    pub device: Option<BootDevice>,
    /// Whether it holds for all boots, not only for the next one.
    #[serde(default)]
    pub persistent: bool,
}

/// Answers POST .../power: requests a power change, which is carried out and confirmed afterwards.
///
/// # Errors
/// 404, 422 if the host has no BMC and is not only to be switched on, 409 or 503 from the store.
pub async fn change_power(shared: &Shared, key: &Key, request: Request<Incoming>) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    let body = body::read(body).await?;
    let wanted: PowerChangeRequest = body::parse_or_default(body::media_type(&head.headers), &body)?;
    let expected = "expected one of on, off, forceOff, restart, reset";
    let operation = wanted.operation.ok_or_else(|| Status::unprocessable_field("operation", expected))?;
    if wanted.delay_seconds > MAX_DELAY_SECONDS {
        return Err(Status::unprocessable_field("delaySeconds", "expected at most 86400 (one day)"));
    }
    let object = commit_with_retry(shared, key, |before| {
        let Object::Host(host) = before else { return Err(Status::no_route()) };
        // A host without a BMC is woken (Wake-on-LAN).
        if operation != PowerOperation::On {
            check_bmc(host)?;
        }
        Ok(power_changes(host, operation, wanted.delay_seconds))
    })
    .await?;
    Ok(reply::json(StatusCode::OK, &View(&object)))
}

fn check_bmc(host: &Host) -> Result<(), Status> {
    let message =
        "the host has no BMC: set spec.bmc (address, username, password); without one it can only be switched on";
    host.spec.bmc.as_ref().map(drop).ok_or_else(|| Status::unprocessable_field("spec.bmc", message))
}

/// Returns the changes that record a requested power change: the wanted state, and the request.
fn power_changes(host: &Arc<Host>, operation: PowerOperation, delay_seconds: u32) -> Vec<Change> {
    let online = match operation {
        PowerOperation::On => Some(true),
        PowerOperation::Off | PowerOperation::ForceOff => Some(false),
        PowerOperation::Restart | PowerOperation::Reset => None,
    };
    let mut changes = Vec::new();
    if host.spec.bmc.is_some() && online.is_some() && host.spec.online != online {
        let mut after = Host::clone(host);
        after.spec.online = online;
        let expect = Expect::Present(Some(host.metadata.resource_version));
        changes.push(Change::Put { object: Object::Host(Arc::new(after)), expect });
    }
    let delay = SignedDuration::from_secs(delay_seconds.into());
    let start = (delay_seconds > 0).then(|| now() + delay);
    changes.push(Change::RequestPower { mac: host.spec.boot_mac_address, operation, start });
    changes
}

/// Answers POST .../bootdevice: the BMC is told the device at once.
///
/// # Errors
/// 404, 422 if the host has no BMC, 502 or 503 with the BMC's reason.
pub async fn set_boot_device(shared: &Shared, key: &Key, request: Request<Incoming>) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    let body = body::read(body).await?;
    let BootDeviceRequest { device, persistent } = body::parse_or_default(body::media_type(&head.headers), &body)?;
    let expected = "expected one of network, disk, cd, default";
    let device = device.ok_or_else(|| Status::unprocessable_field("device", expected))?;
    let Object::Host(host) = find(shared, key)? else { return Err(Status::no_route()) };
    check_bmc(&host)?;
    let policy = BmcPolicy { pins_certificates: shared.gate.site().pins_bmc_certificates };
    let Some((mut client, bmc)) = BmcClient::of(&host, policy, now()).zip(host.spec.bmc.as_ref()) else {
        return Err(Status::no_route());
    };
    let told = client.set_boot_device(device, !persistent, FirmwareMode::of(&host)).await;
    told.map_err(|error| Status::of_bmc(&error))?;
    let record = BootDeviceRecord { device, time: now(), requested: true, error: String::new() };
    let learnt = client.learnt().cloned();
    let events = vec![Event::BootDeviceSet { device, requested: true }];
    let report = PowerReport { events, boot_device: Some(Box::new(record)), learnt, ..PowerReport::new(bmc) };
    let change = Change::PowerReported { mac: host.spec.boot_mac_address, report: Box::new(report) };
    let object = shared.gate.store.commit(change).await.map_err(|error| Status::of_store(&error, key))?;
    Ok(reply::json(StatusCode::OK, &View(&object)))
}
