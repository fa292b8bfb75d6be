//! Rehearsals of a machine's next boot: `.../rehearsal` of a host, and `/api/v1/rehearsal?mac=`. Nothing is sent, recorded
//! or changed.

mod boot;

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::Arc;

use hyper::StatusCode;
use uuid::Uuid;

use crate::api::auth::Role;
use crate::api::objects::status::Status;
use crate::api::objects::write::find;
use crate::api::rehearsal::boot::BootRehearsal;
use crate::api::state::Shared;
use crate::boot::rehearsal::{ClientClass, MachineSummary, Rehearsal, RehearsedBoot, RehearsedClient};
use crate::fleet::{Architecture, Host, Key, Mac, Object};
use crate::gate::rehearsal::{DhcpRehearsalError, SecretDisplay};
use crate::http::reply::{Reply, json};

/// Firmware that is rehearsed where the machine's is not known: BIOS, UEFI over PXE, and UEFI HTTP Boot.
const USUAL: [Architecture; 3] = [Architecture(0), Architecture(7), Architecture(16)];

/// The query of a rehearsal.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    /// `mac`: hardware address of the machine.
    mac: Option<Mac>,
    /// `arch`: architecture of the firmware.
    architecture: Option<Architecture>,
    /// `vendorClass`: vendor class of the firmware.
    vendor_class: Option<String>,
    /// `uuid`: UUID of the machine.
    uuid: Option<Uuid>,
    /// `address`: address of the machine.
    address: Option<Ipv4Addr>,
    /// `relay`: relay of the machine's DHCP messages.
    relay: Option<Ipv4Addr>,
    /// `interface`: interface of the server.
    interface: Option<String>,
    /// `secrets`: whether secrets are shown.
    secrets: bool,
}

impl Query {
    fn parse(query: Option<&str>) -> Result<Self, Status> {
        fn value<T: FromStr>(name: &str, text: &str, expected: &str) -> Result<T, Status> {
            text.parse().map_err(|_| Status::bad_request(format!("{name}: {text:?} is not {expected}")))
        }
        let mut found = Self::default();
        for (name, text) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match name.as_ref() {
                "mac" => found.mac = Some(value("mac", &text, "a MAC address")?),
                "arch" => {
                    let parsed = text.parse().map_err(|error| Status::bad_request(format!("arch: {error}")));
                    found.architecture = Some(parsed?);
                }
                "vendorClass" if text.len() > 255 => {
                    return Err(Status::bad_request("vendorClass: longer than 255 octets, the most of a DHCP option"));
                }
                "vendorClass" => found.vendor_class = Some(text.into_owned()),
                "uuid" => found.uuid = Some(value("uuid", &text, "a UUID")?),
                "address" => found.address = Some(value("address", &text, "an IPv4 address")?),
                "relay" => found.relay = Some(value("relay", &text, "an IPv4 address")?),
                "interface" => found.interface = Some(text.into_owned()),
                "secrets" => found.secrets = value("secrets", &text, "true or false")?,
                _ => {}
            }
        }
        Ok(found)
    }

    /// Returns the firmware to rehearse: the named one, the one that the host's machine last claimed, or the usual ones.
    fn classes(&self, host: Option<&Host>) -> Vec<ClientClass> {
        let class = |architecture| ClientClass { architecture, vendor_class: self.vendor_class.clone() };
        let known = self.architecture.or_else(|| host.and_then(|host| host.status.firmware));
        match (known, &self.vendor_class) {
            (Some(architecture), _) => vec![class(Some(architecture))],
            (None, Some(_)) => vec![class(None)],
            (None, None) => USUAL.map(|architecture| class(Some(architecture))).to_vec(),
        }
    }
}

/// Answers `.../baremetalhosts/{name}/rehearsal`.
///
/// # Errors
/// 404 if the host does not exist; otherwise as `machine`.
pub async fn host(shared: &Shared, key: &Key, query: Option<&str>, role: Role) -> Result<Reply, Status> {
    let Object::Host(host) = find(shared, key)? else { return Err(Status::no_route()) };
    let query = Query::parse(query)?;
    rehearse(shared, host.spec.boot_mac_address, Some(host), &query, role).await
}

/// Answers `/api/v1/rehearsal?mac=`: also of a machine that was never seen.
///
/// # Errors
/// 400 for a wrong parameter, 403 if a viewer asks for secrets, 422 for an interface without DHCP, 503 if the DHCP service
/// is busy.
pub async fn machine(shared: &Shared, query: Option<&str>, role: Role) -> Result<Reply, Status> {
    let query = Query::parse(query)?;
    let Some(mac) = query.mac else {
        return Err(Status::bad_request("mac: missing; expected ?mac=52:54:00:12:34:56"));
    };
    if let Some(reason) = mac.rejection_reason() {
        return Err(Status::bad_request(format!("mac: {mac} {reason}")));
    }
    let host = shared.gate.store.load().host_by_mac(mac);
    rehearse(shared, mac, host, &query, role).await
}

async fn rehearse(
    shared: &Shared,
    mac: Mac,
    host: Option<Arc<Host>>,
    query: &Query,
    role: Role,
) -> Result<Reply, Status> {
    if query.secrets && role < Role::Admin {
        return Err(Status::forbidden("secrets: the viewer role does not read secrets: use the admin's token"));
    }
    let secrets = if query.secrets { SecretDisplay::Shown } else { SecretDisplay::Redacted };
    let mut boots = Vec::new();
    for class in query.classes(host.as_deref()) {
        let uuid = query.uuid.or_else(|| host.as_ref().and_then(|host| host.status.uuid));
        let address = query.address.or_else(|| host.as_deref().and_then(expected_address));
        let client = RehearsedClient { mac, uuid, class, address, relay: query.relay };
        boots.push(rehearse_boot(shared, host.clone(), client, query, secrets).await?);
    }
    let rehearsal = Rehearsal::new(summary(mac, host.as_deref()), !query.secrets, boots);
    Ok(json(StatusCode::OK, &rehearsal))
}

/// Returns the address that a host is expected to have.
fn expected_address(host: &Host) -> Option<Ipv4Addr> {
    let v4 = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    host.spec.ip.and_then(v4).or_else(|| host.status.address.and_then(v4))
}

fn summary(mac: Mac, host: Option<&Host>) -> MachineSummary {
    MachineSummary {
        mac,
        host: host.map(|host| match &host.metadata.namespace {
            Some(namespace) => format!("{namespace}/{}", host.metadata.name),
            None => host.metadata.name.to_string(),
        }),
        phase: host.map(|host| host.status.phase.to_string()),
        image: host.map(|host| host.spec.image.to_string()),
        boot_config_ref: host.and_then(|host| host.spec.boot_config_ref.as_ref()).map(ToString::to_string),
    }
}

/// Rehearses the boot of one firmware: DHCP by its thread, then the rest on a thread that may wait for a disk.
async fn rehearse_boot(
    shared: &Shared,
    host: Option<Arc<Host>>,
    client: RehearsedClient,
    query: &Query,
    secrets: SecretDisplay,
) -> Result<RehearsedBoot, Status> {
    let dhcp = match (shared.queries.dhcp)(client.clone(), query.interface.clone()).await {
        Ok(dhcp) => Some(dhcp),
        Err(DhcpRehearsalError::Off) => None,
        Err(error @ DhcpRehearsalError::NoSuchInterface { .. }) => {
            return Err(Status::unprocessable(error.to_string()));
        }
        Err(error @ DhcpRehearsalError::Busy) => return Err(Status::unavailable(error.to_string())),
    };
    let boot = BootRehearsal {
        gate: shared.gate.clone(),
        queries: shared.queries.clone(),
        is_address_given: query.address.is_some(),
        client,
        host,
        secrets,
    };
    let program = boot.http_program(dhcp.as_ref());
    let stored = match &program {
        Some(program) => Some(shared.folders.firmware.find(program).await),
        None => None,
    };
    let work = tokio::task::spawn_blocking(move || boot.run(dhcp, stored));
    work.await.map_err(|error| Status::internal(error.to_string()))
}

#[cfg(test)]
mod tests;
