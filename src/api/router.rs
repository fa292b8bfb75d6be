//! The one table of routes.

use std::borrow::Cow;

use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request, StatusCode};

use crate::fleet::lifecycle::Transition;
use crate::fleet::{BadName, Key, Kind, Name, Object};

use crate::api::auth::Role;
use crate::api::machine::scripts::{self, Query};
use crate::api::machine::{configs, images};
use crate::api::objects::options::{self, Options};
use crate::api::objects::status::Status;
use crate::api::objects::{access_reviews, actions, discovery, handlers, iso_files, list, watch};
use crate::api::ops::{health, metrics};
use crate::api::{generate, methods, openapi, redfish, uploads};
use crate::http::listener::{Peer, Serves, Shared};
use crate::http::reply::{Reply, text};

/// Tells when the server is to stop.
pub type Stop = tokio::sync::watch::Receiver<bool>;

/// Bounds the segments of a path.
const SEGMENTS: usize = 16;

/// Answers a request: a machine's by what it is, anybody else's by the role that they prove.
pub async fn answer(
    shared: &Shared,
    peer: Peer,
    memory: &images::Memory,
    serves: Serves,
    request: Request<Incoming>,
    stop: &Stop,
) -> Reply {
    let path = request.uri().path().to_owned();
    let path = decoded(&path);
    let parts = parts(&path);
    let peer = shared.access.origin(peer, request.headers());
    if let Some(reply) = methods::refused(request.method(), &parts) {
        return reply;
    }
    if let Some(reply) = machines(shared, &peer, memory, &path, &parts, &request).await {
        return reply;
    }
    match (request.method(), parts.as_slice()) {
        (&Method::GET | &Method::HEAD, ["healthz" | "livez"]) => text(StatusCode::OK, "ok"),
        (&Method::GET | &Method::HEAD, ["readyz"]) => health::ready(shared).await,
        (&Method::GET | &Method::HEAD, ["metrics"]) => metrics::metrics(shared),
        (&Method::GET | &Method::HEAD, ["version"]) => discovery::version(),
        (_, ["redfish", ..]) if serves == Serves::Everything => redfish::answer(shared, &peer, &parts, request).await,
        (_, ["api" | "apis" | "openapi", ..]) if serves == Serves::Everything => {
            let answered = match (shared.access.role(&peer, request.headers()), request.method()) {
                (Role::Nobody, _) => Err(Status::unauthorized(request.headers().contains_key(AUTHORIZATION))),
                (role, _) if let Some(review) = access_reviews::named(&parts) => {
                    access_reviews::answer(review, role, request).await
                }
                (Role::Viewer, method) if !matches!(*method, Method::GET | Method::HEAD) => {
                    Err(Status::forbidden("a viewer only reads: this needs the admin's token"))
                }
                (Role::Viewer | Role::Admin, _) => api(shared, &peer, &parts, request, stop).await,
            };
            answered.unwrap_or_else(|status| status.reply())
        }
        _ => Status::no_route().reply(),
    }
}

/// Answers a request without a body, where it is one of a machine's.
pub async fn answer_machine(
    shared: &Shared,
    peer: Peer,
    memory: &images::Memory,
    request: &Request<()>,
) -> Option<Reply> {
    let path = decoded(request.uri().path());
    let peer = shared.access.origin(peer, request.headers());
    machines(shared, &peer, memory, &path, &parts(&path), request).await
}

/// Gives the ISO and the path within it that a request's path means: nothing where it means no ISO.
pub fn image_path(path: &str) -> Option<String> {
    let path = decoded(path);
    inner(&path).map(str::to_owned)
}

fn inner(path: &str) -> Option<&str> {
    path.trim_start_matches('/').strip_prefix("iso/")
}

fn decoded(path: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(path).decode_utf8().unwrap_or(Cow::Borrowed(""))
}

fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).take(SEGMENTS).collect()
}

/// Answers what machines ask; nothing where the request is none of theirs.
async fn machines<B>(
    shared: &Shared,
    peer: &Peer,
    memory: &images::Memory,
    path: &str,
    parts: &[&str],
    request: &Request<B>,
) -> Option<Reply> {
    let peek = *request.method() == Method::HEAD;
    let query = || Query::parse(request.uri().query());
    Some(match (request.method(), parts) {
        (&Method::GET | &Method::HEAD, ["ipxe"] | ["api", "v1", "ipxe", "boot"]) => {
            scripts::script(shared, peer, &query(), peek).await
        }
        (&Method::GET | &Method::HEAD, ["api", "v1", "ipxe", "localboot"]) => scripts::local(shared, peer, &query()),
        (&Method::GET | &Method::HEAD, ["boot.ipxe"]) => scripts::hook(shared, peer),
        (&Method::GET | &Method::HEAD, ["boot", mac, file @ ..]) if !file.is_empty() => {
            scripts::beside(shared, peer, mac, file, request.headers(), peek).await
        }
        (&Method::GET | &Method::HEAD, ["iso", _, ..]) => {
            images::again(
                shared,
                peer,
                memory,
                inner(path).unwrap_or_default(),
                request.uri().query(),
                request.headers(),
                peek,
            )
            .await
        }
        (&Method::GET | &Method::HEAD, ["files", _, ..]) => {
            let inner = path.trim_start_matches('/').strip_prefix("files/").unwrap_or_default();
            scripts::file(shared, peer, inner, request.headers(), peek).await
        }
        (&Method::GET | &Method::HEAD, ["media", token, file]) => {
            images::held(shared, peer, token, file, request.headers(), peek).await
        }
        (&Method::GET | &Method::HEAD, ["api", "v1", "bootconfig"]) => {
            let Query { token, file, .. } = query();
            configs::config(shared, peer, token.as_deref(), file.as_deref(), peek).await
        }
        (&Method::GET | &Method::HEAD, ["config", token]) => {
            configs::config(shared, peer, Some(token), query().file.as_deref(), peek).await
        }
        (&Method::GET | &Method::HEAD, ["config", token, file]) => {
            configs::config(shared, peer, Some(token), Some(file), peek).await
        }
        (&Method::GET | &Method::HEAD, ["configs", file]) => {
            configs::generated(shared, peer, file, query().token.as_deref(), peek).await
        }
        (&Method::GET | &Method::HEAD, ["nocloud", token, file]) => {
            configs::nocloud(shared, peer, token, file, peek).await
        }
        (&Method::GET | &Method::HEAD, ["get_ignition"]) => {
            configs::named(shared, peer, query().token.as_deref(), peek).await
        }
        (&Method::POST, ["api", "v1", "boot-complete"] | ["phone_home" | "phone-home"]) => {
            configs::complete(shared, peer, query().token.as_deref()).await
        }
        (&Method::POST, ["phone_home" | "phone-home", token]) => configs::complete(shared, peer, Some(token)).await,
        _ => return None,
    })
}

async fn api(
    shared: &Shared,
    peer: &Peer,
    parts: &[&str],
    request: Request<Incoming>,
    stop: &Stop,
) -> Result<Reply, Status> {
    let method = request.method().clone();
    match (&method, parts) {
        (&Method::GET | &Method::HEAD, ["api"]) => return Ok(discovery::versions()),
        (&Method::GET | &Method::HEAD, ["apis"]) => return Ok(discovery::groups()),
        (&Method::GET | &Method::HEAD, ["api", "v1"]) => return Ok(discovery::resources()),
        (&Method::GET | &Method::HEAD, ["openapi", "v3"]) => return Ok(openapi::index()),
        (&Method::GET | &Method::HEAD, ["openapi", "v3", "api", "v1"]) => return Ok(openapi::document()),
        (&Method::GET | &Method::HEAD, ["openapi", "v2"]) => return openapi::swagger(request.headers()),
        (&Method::POST, ["api", "v1", "configs", "ignition", "generate"]) => {
            return generate::generate(shared, generate::Maker::Ignition, request).await;
        }
        (&Method::POST, ["api", "v1", "configs", "cloudinit", "generate"]) => {
            return generate::generate(shared, generate::Maker::CloudInit, request).await;
        }
        (&Method::POST, ["api", "v1", "iscsi-cdroms", "upload"]) => return uploads::upload(shared, request).await,
        (&Method::GET | &Method::HEAD, ["api", "v1", "uploads"]) => return uploads::list(shared).await,
        (&Method::GET | &Method::HEAD, ["api", "v1", "uploads", key]) => return uploads::progress(shared, key).await,
        (&Method::DELETE, ["api", "v1", "uploads", key]) => return uploads::give_up(shared, key).await,
        (&Method::GET | &Method::HEAD, ["api", "v1", "timeline"]) => return actions::timeline(shared, None).await,
        _ => {}
    }
    let (kind, namespace, rest) = place(parts)?;
    let key = |text: &str| -> Result<Key, Status> {
        let namespace = match kind.is_namespaced() {
            true => Some(namespace.clone().ok_or_else(Status::no_route)?),
            false => None,
        };
        Ok(Key { kind, namespace, name: name(kind, text)? })
    };
    let mut options = Options::parse(request.uri().query(), request.headers(), namespace.clone())?;
    if rest.len() < 2 {
        options::acceptable(request.headers())?;
    }
    match (&method, rest) {
        (&Method::GET | &Method::HEAD, []) if options.watch => {
            Ok(watch::watch(&shared.gate.store, kind, options, stop.clone()))
        }
        (&Method::GET | &Method::HEAD, []) => list::list(shared, kind, &options),
        (&Method::POST, []) => handlers::create(shared, kind, namespace.clone(), request, &options).await,
        (&Method::GET | &Method::HEAD, [name]) if options.watch => {
            options.selection.narrow(&key(name)?.name);
            Ok(watch::watch(&shared.gate.store, kind, options, stop.clone()))
        }
        (&Method::GET | &Method::HEAD, [name]) => handlers::read(shared, &key(name)?, &options),
        (&Method::PUT, [name]) => handlers::replace(shared, &key(name)?, request, &options).await,
        (&Method::PATCH, [name]) => handlers::patch(shared, &key(name)?, request, &options).await,
        (&Method::DELETE, [name]) => handlers::delete(shared, &key(name)?, request, &options).await,
        (&Method::GET | &Method::HEAD, [name, "timeline"]) => actions::timeline(shared, Some(&key(name)?)).await,
        (_, [name, action]) if kind == Kind::BareMetalHost => {
            unrehearsed(request.uri().query())?;
            act(shared, &key(name)?, action, request).await
        }
        (method, [name, "files"]) if kind == Kind::IscsiCdrom => {
            let peek = *method == Method::HEAD;
            iso_files::files(shared, peer, &key(name)?, request.uri().query(), request.headers(), peek).await
        }
        (_, [] | [_]) => Err(Status::method_not_allowed()),
        _ => Err(Status::no_route()),
    }
}

/// Reads what a path is about: a kind, a namespace, and what of them.
fn place<'a>(parts: &'a [&'a str]) -> Result<(Kind, Option<Name>, &'a [&'a str]), Status> {
    let Some(parts) = parts.strip_prefix(&["api", "v1"]) else { return Err(Status::no_route()) };
    let (kind, namespace, rest) = match parts {
        ["namespaces", namespace, plural, rest @ ..] => (kind(plural)?, Some(*namespace), rest),
        [plural, rest @ ..] => (kind(plural)?, None, rest),
        [] => return Err(Status::no_route()),
    };
    if namespace.is_some() && !kind.is_namespaced() {
        return Err(Status::no_route());
    }
    let no_namespace = |wrong: BadName| Status::bad_request(format!("the route's namespace: {wrong}"));
    Ok((kind, namespace.map(|text| text.parse().map_err(no_namespace)).transpose()?, rest))
}

/// Refuses a dry run of what is no write of an object: nothing can say what it would come to.
fn unrehearsed(query: Option<&str>) -> Result<(), Status> {
    let asked = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).any(|(key, _)| key == "dryRun");
    match asked {
        true => Err(Status::bad_request("dryRun: this is carried out or not, and cannot be rehearsed")),
        false => Ok(()),
    }
}

/// Carries out what is asked of a host beyond its spec.
async fn act(shared: &Shared, key: &Key, action: &str, request: Request<Incoming>) -> Result<Reply, Status> {
    match (request.method(), action) {
        (&Method::POST, "install") => actions::install(shared, key, request).await,
        (&Method::POST, "medium") => actions::medium(shared, key, request).await,
        (&Method::POST, "release") => actions::change(shared, key, Transition::Release).await,
        (&Method::POST, "hold") => actions::change(shared, key, Transition::Hold).await,
        (&Method::GET | &Method::HEAD, "seed") => match handlers::find(shared, key)? {
            Object::Host(host) => configs::seed_read(shared, &host),
            Object::Image(_) | Object::BootConfig(_) => Err(Status::no_route()),
        },
        (_, "install" | "medium" | "release" | "hold" | "timeline" | "seed") => Err(Status::method_not_allowed()),
        _ => Err(Status::no_route()),
    }
}

fn kind(plural: &str) -> Result<Kind, Status> {
    Kind::ALL.into_iter().find(|kind| kind.plural() == plural).ok_or_else(Status::no_route)
}

fn name(kind: Kind, text: &str) -> Result<Name, Status> {
    text.parse().map_err(|_| Status::not_found(kind, text))
}
