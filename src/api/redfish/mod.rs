//! Redfish (DSP0266) for operators that drive machines through this server: hosts as systems, with a virtual drive.
//!
//! A machine's boot is what the object API says of it: `Pxe` and `Cd` ask for an install, `Hdd` for the disk. Its power
//! is its own controller's, where the host has one.

pub mod error;
mod resources;
pub mod sessions;
pub mod system;
pub mod virtual_media;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue, LOCATION};
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::bmc;
use crate::fleet::{Host, Key, Kind, Name, Power};

use crate::api::auth::Role;
use crate::api::objects::body;
use crate::api::redfish::error::Fault;
use crate::api::state::Shared;
use crate::http::peer::Peer;
use crate::http::reply::{self, JSON, Reply, bytes};

pub use crate::api::redfish::sessions::Sessions;
pub use crate::api::redfish::virtual_media::forget;

/// Is how long a controller is waited for where only its machine's power is wanted.
const GLANCE: Duration = Duration::from_secs(5);
/// Divides a namespace from a name in the ids of hosts outside the site's own namespace.
const IN: char = '~';

/// Answers a request to the service.
pub async fn answer(shared: &Shared, peer: &Peer, parts: &[&str], request: Request<Incoming>) -> Reply {
    let (head, content) = request.into_parts();
    let parts = parts.strip_prefix(&["redfish"]).unwrap_or(parts);
    let role = role(shared, peer, &head.headers);
    let open = matches!(parts, [] | ["v1"] | ["v1", "odata" | "$metadata"] | ["v1", "SessionService", "Sessions"]);
    let reading = matches!(head.method, Method::GET | Method::HEAD);
    let beginning = parts == ["v1", "SessionService", "Sessions"] && head.method == Method::POST;
    let done = match role {
        Role::Nobody if !(open && (reading || beginning)) => Err(unproved()),
        Role::Nobody if parts == ["v1", "SessionService", "Sessions"] && !beginning => Err(unproved()),
        Role::Viewer if !reading && !beginning && !is_own(shared, parts, &head.headers) => {
            let message = "a viewer only reads, and ends its own session by the X-Auth-Token that it carries";
            Err(Fault::new(StatusCode::FORBIDDEN, "InsufficientPrivilege", message))
        }
        Role::Nobody | Role::Viewer | Role::Admin if reading => read(shared, parts).await,
        Role::Nobody | Role::Viewer | Role::Admin => match body::read(content).await {
            Ok(content) => write(shared, peer, &head.method, parts, &content).await,
            Err(status) => Err(status.into()),
        },
    };
    let mut reply = done.unwrap_or_else(|fault| fault.reply());
    reply.headers_mut().insert("odata-version", HeaderValue::from_static("4.0"));
    if reply.status() == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Basic realm=\"bootlatch\"");
        reply.headers_mut().insert(hyper::header::WWW_AUTHENTICATE, scheme);
    }
    reply
}

fn unproved() -> Fault {
    let message = "log in with a token as the password, or carry a session's X-Auth-Token";
    Fault::new(StatusCode::UNAUTHORIZED, "NoValidSession", message)
}

/// Says whether a request carries the token of the session that its path names.
fn is_own(shared: &Shared, parts: &[&str], headers: &HeaderMap) -> bool {
    let token = headers.get("x-auth-token").and_then(|value| value.to_str().ok());
    match (parts, token) {
        (["v1", "SessionService", "Sessions", id], Some(token)) => shared.sessions.is_of(token, id),
        _ => false,
    }
}

/// Finds what a request may do: as everywhere, or by the token of a session.
fn role(shared: &Shared, peer: &Peer, headers: &HeaderMap) -> Role {
    let session = headers.get("x-auth-token").and_then(|value| value.to_str().ok());
    let by_session = session.map_or(Role::Nobody, |token| shared.sessions.role(token, Instant::now()));
    by_session.max(shared.access.role(peer, headers))
}

async fn read(shared: &Shared, parts: &[&str]) -> Result<Reply, Fault> {
    let ids = || -> Vec<String> { shared.gate.store.load().hosts().map(|host| id_of(shared, host)).collect() };
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
            resources::system(&host, id, power(&host).await)
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
        ["v1", "SessionService"] => resources::session_service(sessions::IDLE),
        ["v1", "SessionService", "Sessions"] => {
            let ids = shared.sessions.list(Instant::now()).into_iter().map(|(id, _)| id);
            resources::collection("Session", "SessionService/Sessions", ids)
        }
        ["v1", "SessionService", "Sessions", id] => {
            let known = shared.sessions.list(Instant::now());
            let (id, user) =
                known.iter().find(|(known, _)| known == id).ok_or_else(|| Fault::unknown("such session"))?;
            resources::session(id, user)
        }
        _ => return Err(Fault::unknown("such resource")),
    };
    Ok(reply::json(StatusCode::OK, &found))
}

/// Asks a machine's controller whether it runs; a controller that does not answer leaves it unknown.
async fn power(host: &Host) -> Power {
    let Some(bmc) = &host.spec.bmc else { return Power::Unknown };
    match tokio::time::timeout(GLANCE, bmc::client::read_power(bmc)).await {
        Ok(Ok(power)) => power,
        Ok(Err(error)) => {
            tracing::debug!(host = %host.metadata.name, %error, "a machine's power is not known");
            Power::Unknown
        }
        Err(_) => Power::Unknown,
    }
}

async fn write(shared: &Shared, peer: &Peer, method: &Method, parts: &[&str], content: &[u8]) -> Result<Reply, Fault> {
    let value: Value = match content {
        [] => json!({}),
        content => serde_json::from_slice(content).map_err(|error| {
            Fault::new(StatusCode::BAD_REQUEST, "MalformedJSON", format!("the body is not JSON: {error}"))
        })?,
    };
    let fields = value.as_object().ok_or_else(|| Fault::bad("the body is not an object"))?;
    let owners = ["Systems", "Managers"];
    match (method, parts) {
        (&Method::POST, ["v1", "SessionService", "Sessions"]) => return begin(shared, &value),
        (&Method::DELETE, ["v1", "SessionService", "Sessions", id]) => match shared.sessions.end(id) {
            true => {}
            false => return Err(Fault::unknown("such session")),
        },
        (&Method::PATCH, ["v1", "Systems", id]) => {
            let (key, host) = find(shared, id)?;
            system::change(shared, &key, &host, fields).await?;
        }
        (&Method::POST, ["v1", "Systems", id, "Actions", "ComputerSystem.Reset"]) => {
            system::reset(shared, find(shared, id)?.1.as_ref(), &value).await?;
        }
        (&Method::POST, ["v1", owner, id, "VirtualMedia", "Cd", "Actions", action]) if owners.contains(owner) => {
            let (key, host) = find(shared, id)?;
            match *action {
                "VirtualMedia.InsertMedia" => virtual_media::insert(shared, peer, &key, &host, fields).await?,
                "VirtualMedia.EjectMedia" => virtual_media::eject(shared, &key, &host).await?,
                _ => return Err(Fault::unknown("such action")),
            }
        }
        (&Method::PATCH, ["v1", owner, id, "VirtualMedia", "Cd"]) if owners.contains(owner) => {
            let (key, host) = find(shared, id)?;
            virtual_media::change(shared, peer, &key, &host, fields).await?;
        }
        _ => return Err(Fault::unknown("such resource")),
    }
    Ok(bytes(StatusCode::NO_CONTENT, JSON, ""))
}

fn begin(shared: &Shared, body: &Value) -> Result<Reply, Fault> {
    let (Some(user), Some(password)) = (body["UserName"].as_str(), body["Password"].as_str()) else {
        return Err(Fault::bad("a session wants UserName and Password"));
    };
    let role = shared.access.token_role(password);
    if role == Role::Nobody {
        return Err(unproved());
    }
    let full = || Fault::new(StatusCode::SERVICE_UNAVAILABLE, "SessionLimitExceeded", "there are too many sessions");
    let (id, token) = shared.sessions.begin(user, role, Instant::now()).ok_or_else(full)?;
    let mut reply = reply::json(StatusCode::CREATED, &resources::session(&id, user));
    let place = format!("{}/SessionService/Sessions/{id}", resources::ROOT);
    for (name, value) in [(LOCATION.as_str(), place), ("x-auth-token", token)] {
        if let (Ok(name), Ok(value)) = (hyper::header::HeaderName::try_from(name), HeaderValue::try_from(value)) {
            reply.headers_mut().insert(name, value);
        }
    }
    Ok(reply)
}

/// Names a host as a system: by its name alone in the site's own namespace.
fn id_of(shared: &Shared, host: &Host) -> String {
    match &host.metadata.namespace {
        Some(namespace) if *namespace != shared.gate.site.namespace => format!("{namespace}{IN}{}", host.metadata.name),
        _ => host.metadata.name.to_string(),
    }
}

fn find(shared: &Shared, id: &str) -> Result<(Key, Arc<Host>), Fault> {
    let unknown = || Fault::unknown("such system");
    let (namespace, name) = match id.split_once(IN) {
        Some((namespace, name)) => (namespace.parse::<Name>().map_err(|_| unknown())?, name),
        None => (shared.gate.site.namespace.clone(), id),
    };
    let name = name.parse().map_err(|_| unknown())?;
    let key = Key { kind: Kind::BareMetalHost, namespace: Some(namespace), name };
    match shared.gate.store.load().get(&key) {
        Some(crate::fleet::Object::Host(host)) => Ok((key, host.clone())),
        _ => Err(unknown()),
    }
}
