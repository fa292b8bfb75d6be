//! The Redfish service (DSP0266): hosts as systems, each with a virtual drive.
//!
//! A boot override changes the host: `Pxe` and `Cd` start an install, `Hdd` boots the disk. Power goes to the machine's
//! own BMC, if the host has one.

mod error;
pub mod host_locks;
mod precondition;
mod resources;
pub mod sessions;
mod system;
#[cfg(test)]
mod tests;

mod transaction;
pub mod virtual_media;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{ETAG, HeaderMap, HeaderValue, LOCATION};
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::fleet::{Host, Key, Kind, Name, Power};

use crate::api::auth::Role;
use crate::api::objects::body;
use crate::api::redfish::error::RedfishError;
use crate::api::redfish::precondition::{HostPrecondition, IfMatch, entity_tag};
use crate::api::state::Shared;
use crate::http::peer::Peer;
use crate::http::reply::{self, JSON, Reply, bytes};

pub use crate::api::redfish::resources::BOOT_TARGETS;
pub use crate::api::redfish::sessions::Sessions;

/// Maximum time to wait for a BMC to answer a read of the power state.
const POWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of the body that opens a session, in bytes.
const MAX_LOGIN_BYTES: usize = 4096;
/// Separator of namespace and name in the ids of hosts outside the configured namespace.
const NAMESPACE_SEPARATOR: char = '~';

/// Answers a request to the service.
pub async fn answer(shared: &Shared, peer: &Peer, parts: &[&str], request: Request<Incoming>) -> Reply {
    let (head, content) = request.into_parts();
    let parts = parts.strip_prefix(&["redfish"]).unwrap_or(parts);
    let role = role(shared, peer, &head.headers);
    let open = matches!(parts, [] | ["v1"] | ["v1", "odata" | "$metadata"] | ["v1", "SessionService", "Sessions"]);
    let reading = matches!(head.method, Method::GET | Method::HEAD);
    let beginning = parts == ["v1", "SessionService", "Sessions"] && head.method == Method::POST;
    let done = match role {
        Role::Nobody if !(open && (reading || beginning)) => Err(unauthenticated()),
        Role::Nobody if parts == ["v1", "SessionService", "Sessions"] && !beginning => Err(unauthenticated()),
        Role::Viewer if !reading && !beginning && !is_own_session(shared, parts, &head.headers) => {
            let message = "a viewer may only read, and end its own session by its X-Auth-Token";
            Err(RedfishError::new(StatusCode::FORBIDDEN, "InsufficientPrivilege", message))
        }
        Role::Nobody | Role::Viewer | Role::Admin if reading => read(shared, parts).await,
        Role::Nobody | Role::Viewer | Role::Admin => match body::read_at_most(content, body_limit(role)).await {
            Ok(content) => write(shared, peer, &head.method, parts, &content, &IfMatch::of(&head.headers)).await,
            Err(status) => Err(status.into()),
        },
    };
    let mut reply = done.unwrap_or_else(|error| error.reply());
    reply.headers_mut().insert("odata-version", HeaderValue::from_static("4.0"));
    if reply.status() == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Basic realm=\"bootlatch\"");
        reply.headers_mut().insert(hyper::header::WWW_AUTHENTICATE, scheme);
    }
    reply
}

/// Returns the maximum size of a body in bytes. A client without a role sends no more than a user name and a password.
fn body_limit(role: Role) -> usize {
    match role {
        Role::Nobody => MAX_LOGIN_BYTES,
        Role::Viewer | Role::Admin => body::MAX_OBJECT_BYTES,
    }
}

fn unauthenticated() -> RedfishError {
    let message = "log in with an API token as the password, or send a session's X-Auth-Token";
    RedfishError::new(StatusCode::UNAUTHORIZED, "NoValidSession", message)
}

/// Returns whether a request carries the token of the session that its path names.
fn is_own_session(shared: &Shared, parts: &[&str], headers: &HeaderMap) -> bool {
    let token = headers.get("x-auth-token").and_then(|value| value.to_str().ok());
    match (parts, token) {
        (["v1", "SessionService", "Sessions", id], Some(token)) => shared.sessions.is_own_session(token, id),
        _ => false,
    }
}

/// Returns the role of a request: as in the object API, or by the token of a session.
fn role(shared: &Shared, peer: &Peer, headers: &HeaderMap) -> Role {
    let session = headers.get("x-auth-token").and_then(|value| value.to_str().ok());
    let by_session = session.map_or(Role::Nobody, |token| shared.sessions.role(token, Instant::now()));
    by_session.max(shared.access.role(peer, headers))
}

async fn read(shared: &Shared, parts: &[&str]) -> Result<Reply, RedfishError> {
    let ids = || -> Vec<String> { shared.gate.store.load().hosts().map(|host| id_of(shared, &host)).collect() };
    let of = |id: &str| find(shared, id).map(|(_, host)| host);
    let one = |kind: &str, path: String, id: &str| resources::collection(kind, &path, std::iter::once(id.to_owned()));
    let found = match parts {
        [] => json!({"v1": "/redfish/v1/"}),
        ["v1"] => resources::root(),
        ["v1", "odata"] => resources::services(),
        ["v1", "$metadata"] => {
            return Ok(bytes(StatusCode::OK, HeaderValue::from_static("application/xml"), resources::METADATA));
        }
        ["v1", "Systems"] => resources::collection("ComputerSystem", "Systems", ids().into_iter()),
        ["v1", "Managers"] => resources::collection("Manager", "Managers", ids().into_iter()),
        ["v1", "Chassis"] => resources::collection("Chassis", "Chassis", ids().into_iter()),
        ["v1", "Systems", id] => {
            let host = of(id)?;
            resources::system(&host, id, power(shared, &host).await)
        }
        ["v1", "Systems", id, "EthernetInterfaces"] => {
            of(id)?;
            one("EthernetInterface", format!("Systems/{id}/EthernetInterfaces"), "1")
        }
        ["v1", "Systems", id, "EthernetInterfaces", "1"] => resources::port(of(id)?.as_ref(), id),
        ["v1", "Managers", id] => {
            of(id)?;
            resources::manager(id)
        }
        ["v1", "Chassis", id] => {
            of(id)?;
            resources::chassis(id)
        }
        ["v1", owner @ ("Systems" | "Managers"), id, "VirtualMedia"] => {
            of(id)?;
            one("VirtualMedia", format!("{owner}/{id}/VirtualMedia"), "Cd")
        }
        ["v1", owner @ ("Systems" | "Managers"), id, "VirtualMedia", "Cd"] => {
            resources::medium(of(id)?.as_ref(), owner, id)
        }
        ["v1", "SessionService"] => resources::session_service(sessions::IDLE_TIMEOUT),
        ["v1", "SessionService", "Sessions"] => {
            let ids = shared.sessions.list(Instant::now()).into_iter().map(|(id, _)| id);
            resources::collection("Session", "SessionService/Sessions", ids)
        }
        ["v1", "SessionService", "Sessions", id] => {
            let known = shared.sessions.list(Instant::now());
            let (id, user) =
                known.iter().find(|(known, _)| known == id).ok_or_else(|| RedfishError::not_found("such session"))?;
            resources::session(id, user)
        }
        _ => return Err(RedfishError::not_found("such resource")),
    };
    let mut reply = reply::json(StatusCode::OK, &found);
    if let Ok(tag) = HeaderValue::try_from(entity_tag(&found)) {
        reply.headers_mut().insert(ETAG, tag);
    }
    Ok(reply)
}

/// Returns a machine's power state from its BMC; unknown if the BMC does not answer.
async fn power(shared: &Shared, host: &Host) -> Power {
    let Some(mut client) = system::bmc_client(shared, host) else { return Power::Unknown };
    match tokio::time::timeout(POWER_TIMEOUT, client.read_power()).await {
        Ok(Ok(power)) => power,
        Ok(Err(error)) => {
            tracing::debug!(host = %host.metadata.name, %error, "power state unknown");
            Power::Unknown
        }
        Err(_) => Power::Unknown,
    }
}

async fn write(
    shared: &Shared,
    peer: &Peer,
    method: &Method,
    parts: &[&str],
    content: &[u8],
    if_match: &IfMatch,
) -> Result<Reply, RedfishError> {
    let value: Value = match content {
        [] => json!({}),
        content => serde_json::from_slice(content).map_err(|error| {
            RedfishError::new(StatusCode::BAD_REQUEST, "MalformedJSON", format!("the body is not JSON: {error}"))
        })?,
    };
    let fields = value.as_object().ok_or_else(|| RedfishError::bad_value("the body is not an object"))?;
    let owners = ["Systems", "Managers"];
    match (method, parts) {
        (&Method::POST, ["v1", "SessionService", "Sessions"]) => return begin_session(shared, &value),
        (&Method::DELETE, ["v1", "SessionService", "Sessions", id]) => match shared.sessions.end(id) {
            true => {}
            false => return Err(RedfishError::not_found("such session")),
        },
        (_, ["v1", "Systems", id]) | (_, ["v1", "Systems", id, "Actions", _]) => {
            let (key, host) = find(shared, id)?;
            let system = |host: &Host| resources::system(host, id, Power::Unknown);
            let precondition = HostPrecondition::new(if_match, &system);
            precondition.check(&host)?;
            match (method, parts) {
                (&Method::PATCH, ["v1", "Systems", _]) => {
                    system::change(shared, &key, &host, fields, precondition).await?;
                }
                (&Method::POST, ["v1", "Systems", _, "Actions", "ComputerSystem.Reset"]) => {
                    system::reset(shared, &host, &value).await?;
                }
                _ => return Err(RedfishError::not_found("such resource")),
            }
        }
        (_, ["v1", owner, id, "VirtualMedia", "Cd", action @ ..]) if owners.contains(owner) => {
            let (key, host) = find(shared, id)?;
            let drive = |host: &Host| resources::medium(host, owner, id);
            let precondition = HostPrecondition::new(if_match, &drive);
            precondition.check(&host)?;
            let target = virtual_media::VirtualDrive { shared, key: &key, host: &host, precondition };
            match (method, action) {
                (&Method::PATCH, []) => virtual_media::change(target, peer, fields).await?,
                (&Method::POST, ["Actions", "VirtualMedia.InsertMedia"]) => {
                    virtual_media::insert(target, peer, fields).await?;
                }
                (&Method::POST, ["Actions", "VirtualMedia.EjectMedia"]) => virtual_media::eject(target).await?,
                _ => return Err(RedfishError::not_found("such action")),
            }
        }
        _ => return Err(RedfishError::not_found("such resource")),
    }
    Ok(bytes(StatusCode::NO_CONTENT, JSON, ""))
}

fn begin_session(shared: &Shared, body: &Value) -> Result<Reply, RedfishError> {
    let (Some(user), Some(password)) = (body["UserName"].as_str(), body["Password"].as_str()) else {
        return Err(RedfishError::bad_value("a session needs UserName and Password"));
    };
    let role = shared.access.token_role(password);
    if role == Role::Nobody {
        return Err(unauthenticated());
    }
    let full = || RedfishError::new(StatusCode::SERVICE_UNAVAILABLE, "SessionLimitExceeded", "too many sessions");
    let (id, token) = shared.sessions.begin(user, role, Instant::now()).ok_or_else(full)?;
    let mut reply = reply::json(StatusCode::CREATED, &resources::session(&id, user));
    let location = format!("{}/SessionService/Sessions/{id}", resources::ROOT);
    for (name, value) in [(LOCATION.as_str(), location), ("x-auth-token", token)] {
        if let (Ok(name), Ok(value)) = (hyper::header::HeaderName::try_from(name), HeaderValue::try_from(value)) {
            reply.headers_mut().insert(name, value);
        }
    }
    Ok(reply)
}

/// Returns a host's id as a system: its name alone in the configured namespace.
fn id_of(shared: &Shared, host: &Host) -> String {
    match &host.metadata.namespace {
        Some(namespace) if *namespace != shared.gate.site().namespace => {
            format!("{namespace}{NAMESPACE_SEPARATOR}{}", host.metadata.name)
        }
        _ => host.metadata.name.to_string(),
    }
}

/// Returns the host of a system's id.
fn find(shared: &Shared, id: &str) -> Result<(Key, Arc<Host>), RedfishError> {
    let unknown = || RedfishError::not_found("such system");
    let (namespace, name) = match id.split_once(NAMESPACE_SEPARATOR) {
        Some((namespace, name)) => (namespace.parse::<Name>().map_err(|_| unknown())?, name),
        None => (shared.gate.site().namespace.clone(), id),
    };
    let name = name.parse().map_err(|_| unknown())?;
    let key = Key { kind: Kind::BareMetalHost, namespace: Some(namespace), name };
    match shared.gate.store.load().get(&key) {
        Some(crate::fleet::Object::Host(host)) => Ok((key, host)),
        _ => Err(unknown()),
    }
}
