//! The web page over HTTP: login, files, pages, rows, and the stream of their changes.

mod events;
mod feeds;
pub mod places;
mod rows;

use std::borrow::Cow;
use std::io::Read;

use flate2::read::GzDecoder;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue,
    LOCATION, ORIGIN, REFERRER_POLICY, SET_COOKIE, VARY,
};
use hyper::{Request, StatusCode, Uri};
use jiff::Timestamp;

use crate::api::auth::Role;
use crate::api::browser::is_same_origin;
use crate::api::objects::body;
use crate::api::objects::status::Status;
use crate::api::route::UiEndpoint;
use crate::api::session;
use crate::api::state::Shared;
use crate::fleet::{Key, Kind};
use crate::http::limits::Stop;
use crate::http::peer::Peer;
use crate::http::reply::{Reply, bytes, text};
use crate::ui::{assets, layout, pages};

/// The page that opens first.
const START: &str = "/ui/hosts";
/// Maximum size of a login form, in bytes.
const MAX_FORM_BYTES: usize = 8 << 10;
/// The media type of pages.
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
/// What a page may load and do: its own files and the API. No text becomes markup or code.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
     base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);
/// Header by which other sites' pages cannot embed a reply.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Answers a request of the web page. `parts` are the segments of its path.
pub async fn answer(
    shared: &Shared,
    peer: &Peer,
    endpoint: UiEndpoint,
    parts: &[&str],
    request: Request<Incoming>,
    stop: &Stop,
) -> Reply {
    let role = shared.access.role(peer, request.headers());
    // The login's own role: a GET without Sec-Fetch-Site counts as a viewer's, and the page still shows what it can do.
    let shown = shared.access.session(request.headers()).map_or(role, |(own, _)| own.max(role));
    let mut reply = match endpoint {
        UiEndpoint::Start => redirect(START),
        UiEndpoint::Login => page(StatusCode::OK, layout::login(&next_of(request.uri().query()), None)),
        UiEndpoint::LogIn => log_in(shared, peer, request).await.unwrap_or_else(|status| refusal(&status)),
        UiEndpoint::LogOut => log_out(request.headers()),
        UiEndpoint::Asset => asset(parts, request.headers()),
        UiEndpoint::Rows | UiEndpoint::Events => {
            data(shared, peer, endpoint, role, &request, stop).await.unwrap_or_else(|status| status.reply())
        }
        UiEndpoint::Host => match viewer(shown) {
            Some(viewer) => host_page(shared, parts, viewer),
            None => to_login(request.uri()),
        },
        UiEndpoint::Hosts
        | UiEndpoint::Isos
        | UiEndpoint::Configs
        | UiEndpoint::Network
        | UiEndpoint::Activity
        | UiEndpoint::Settings => match viewer(shown) {
            Some(viewer) => page(StatusCode::OK, list_page(endpoint, viewer)),
            None => to_login(request.uri()),
        },
    };
    let headers = reply.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    // Browsers leave the origin out of a form's request under `no-referrer`.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    reply
}

/// Answers a request for rows.
async fn data(
    shared: &Shared,
    peer: &Peer,
    endpoint: UiEndpoint,
    role: Role,
    request: &Request<Incoming>,
    stop: &Stop,
) -> Result<Reply, Status> {
    if role < Role::Viewer {
        return Err(Status::login_ended());
    }
    match endpoint {
        UiEndpoint::Events => {
            let end = shared.access.session(request.headers()).and_then(|(_, end)| Timestamp::from_second(end).ok());
            events::events(shared, peer, request.headers(), request.uri().query(), end, stop.clone())
        }
        _ => rows::all(shared, request.headers(), request.uri().query()).await,
    }
}

/// Returns the HTML of a page that shows no single object.
fn list_page(endpoint: UiEndpoint, viewer: layout::Viewer) -> String {
    let (title, name, content) = match endpoint {
        UiEndpoint::Isos => ("ISOs", "isos", pages::isos()),
        UiEndpoint::Configs => ("Configs", "configs", pages::configs()),
        UiEndpoint::Network => ("Network", "network", pages::network()),
        UiEndpoint::Settings => ("Settings", "settings", pages::settings()),
        UiEndpoint::Activity => ("Activity", "activity", pages::activity()),
        _ => ("Hosts", "hosts", pages::hosts()),
    };
    layout::page(title, name, viewer, &content)
}

fn host_page(shared: &Shared, parts: &[&str], viewer: layout::Viewer) -> Reply {
    let [.., namespace, name] = parts else { return no_page() };
    let host = host_key(&format!("{namespace}/{name}")).and_then(|key| shared.gate.store.load().get(&key));
    match host {
        Some(_) => page(StatusCode::OK, layout::page(name, "host", viewer, &pages::host(namespace, name))),
        None => page(StatusCode::NOT_FOUND, layout::page("Not found", "none", viewer, &pages::no_host(name))),
    }
}

/// Answers a path below `/ui` without a page.
pub fn no_page() -> Reply {
    refusal(&Status::not_found_message("There is no such page."))
}

/// Returns a refusal as a page: a person reads it.
fn refusal(status: &Status) -> Reply {
    page(status.reply().status(), layout::refusal(status.message()))
}

fn viewer(role: Role) -> Option<layout::Viewer> {
    match role {
        Role::Nobody => None,
        Role::Viewer => Some(layout::Viewer::Reader),
        Role::Admin => Some(layout::Viewer::Admin),
    }
}

/// Logs a browser in: the token of the form becomes a cookie that scripts cannot read.
async fn log_in(shared: &Shared, peer: &Peer, request: Request<Incoming>) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    if !is_same_origin(&head.headers) {
        return Err(Status::forbidden(
            "This form came from another site. Open the page of this server itself, and log in there.",
        ));
    }
    let form = body::read_at_most(body, MAX_FORM_BYTES).await?;
    let field = |wanted: &str| form_urlencoded::parse(&form).find(|(name, _)| name == wanted).map(|(_, value)| value);
    let next = own_path(&field("next").unwrap_or_default());
    // A token is pasted with the line break of its file.
    let token = field("token").unwrap_or_default().trim().to_owned();
    let Some(cookie) = shared.access.log_in(&token, is_encrypted(peer, &head.headers)) else {
        return Ok(page(StatusCode::UNAUTHORIZED, layout::login(&next, Some("This is not a valid token."))));
    };
    let mut reply = redirect(&next);
    let cookie = HeaderValue::try_from(cookie).map_err(|error| Status::internal(error.to_string()))?;
    reply.headers_mut().insert(SET_COOKIE, cookie);
    Ok(reply)
}

fn log_out(headers: &HeaderMap) -> Reply {
    if !is_same_origin(headers) {
        return refusal(&Status::forbidden(
            "This request came from another site. Log out on the page of this server itself.",
        ));
    }
    let mut reply = redirect("/ui/login");
    if let Ok(cookie) = HeaderValue::try_from(session::remove_cookie()) {
        reply.headers_mut().insert(SET_COOKIE, cookie);
    }
    reply
}

/// Returns whether the page that sent a form was loaded over TLS. Where a proxy that is not configured may have ended it,
/// the browser's own word counts.
fn is_encrypted(peer: &Peer, headers: &HeaderMap) -> bool {
    let is_origin = || headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    peer.is_encrypted.unwrap_or_else(is_origin)
}

/// Answers with a file, compressed unless the client cannot read that. A URL of another version than the present one is
/// not kept.
fn asset(parts: &[&str], headers: &HeaderMap) -> Reply {
    let [.., version, name] = parts else { return no_page() };
    let Some(found) = assets::asset(name) else { return no_page() };
    let is_compressed = accepts_gzip(headers);
    let content = match is_compressed {
        true => Cow::Borrowed(found.gzip),
        false => {
            let mut plain = Vec::new();
            // The program's own bytes are valid.
            let _ = GzDecoder::new(found.gzip).read_to_end(&mut plain);
            Cow::Owned(plain)
        }
    };
    let mut reply = bytes(StatusCode::OK, HeaderValue::from_static(found.media_type), content.into_owned());
    if *version == assets::VERSION {
        let keep = HeaderValue::from_static("public, max-age=31536000, immutable");
        reply.headers_mut().insert(CACHE_CONTROL, keep);
    }
    reply.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    if is_compressed {
        reply.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    reply
}

/// Returns the key of a host by its identity on the page: `NAMESPACE/NAME`.
pub fn host_key(id: &str) -> Option<Key> {
    let (namespace, name) = id.split_once('/')?;
    Some(Key { kind: Kind::BareMetalHost, namespace: Some(namespace.parse().ok()?), name: name.parse().ok()? })
}

/// Returns whether a client reads gzip (RFC 9110, section 12.5.3).
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    fields.flat_map(|field| field.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let is_refused =
            weight.trim().strip_prefix("q=").is_some_and(|weight| weight.trim_matches(['0', '.']).is_empty());
        matches!(name.trim(), "gzip" | "*") && !is_refused
    })
}

fn page(status: StatusCode, html: String) -> Reply {
    bytes(status, HTML, html)
}

/// Returns a reply that leads a browser to a path by GET.
fn redirect(path: &str) -> Reply {
    let mut reply = text(StatusCode::SEE_OTHER, "");
    if let Ok(path) = HeaderValue::try_from(path) {
        reply.headers_mut().insert(LOCATION, path);
    }
    reply
}

/// Leads to the login, and from there back to a page.
fn to_login(page: &Uri) -> Reply {
    let page = page.path_and_query().map_or(START, |path| path.as_str());
    let next: String = form_urlencoded::byte_serialize(page.as_bytes()).collect();
    redirect(&format!("/ui/login?next={next}"))
}

fn next_of(query: Option<&str>) -> String {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    own_path(&pairs.find(|(name, _)| name == "next").map(|(_, value)| value).unwrap_or_default())
}

/// Returns a path if it is that of a page, else that of the first page: a login must not lead to another site.
fn own_path(path: &str) -> String {
    match path.starts_with("/ui/") && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        true => path.to_owned(),
        false => START.to_owned(),
    }
}

#[cfg(test)]
mod tests;
