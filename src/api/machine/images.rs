//! The bytes of images and of the files in them: `/iso/NAME`, `/iso/NAME/PATH`, `/media/TOKEN/NAME.iso`.

use std::sync::Arc;
use std::time::Instant;

use hyper::StatusCode;
use hyper::header::{HeaderMap, RANGE, RETRY_AFTER};

use crate::api::machine::downloads;
use crate::api::machine::query::Query;
use crate::api::machine::recent::{RecentKey, RecentView};
use crate::api::state::Shared;
use crate::boot::diagnosis::{DownloadKind, Step};
use crate::boot::{Facts, Reason, Stage};
use crate::event::{DeliveryChannel, Protocol};
use crate::fleet::{Host, Image, Key, Kind, Mac, Name, Object};
use crate::gate::media::{ConfigVisibility, MediaError};
use crate::http::conditional;
use crate::http::peer::Peer;
use crate::http::ranges::{RequestedRange, is_malformed, requested};
use crate::http::reply::{MediumRange, RepeatedContent, Reply, text};
use crate::images::library::{ImageLibrary, ImageView};
use crate::iso::FileInImage;

/// Seconds after which a client should ask again for an image that cannot be read now (`Retry-After`).
const RETRY_INTERVAL: u16 = 10;

/// Answers as `image` does, and remembers the view for the connection's next request.
pub async fn image_again(
    shared: &Shared,
    peer: &Peer,
    recent: &RecentView,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    is_head: bool,
) -> Reply {
    let state = shared.gate.store.snapshot();
    let key = RecentKey { client: peer.address, path: path.to_owned(), query: query.map(str::to_owned) };
    let view = match recent.recall(&state, &key, Instant::now()) {
        Some(view) => view,
        None => match find(shared, peer, path, &Query::parse(query)).await {
            Ok(view) => {
                if !is_head && let Err(reply) = release(shared, peer, &view).await {
                    return reply;
                }
                // After a HEAD the release is still due: the next GET must not find the view remembered.
                if !is_head || view.carries.is_none() {
                    recent.remember(&state, key, view.clone());
                }
                view
            }
            Err(reply) => return reply,
        },
    };
    answer_read(shared, peer, (path, view), headers, is_head)
}

/// Answers with a view, and records that the machine at the client's address reads it, or asks for a range that means
/// nothing.
fn answer_read(
    shared: &Shared,
    peer: &Peer,
    (path, view): (&str, ImageView),
    headers: &HeaderMap,
    is_head: bool,
) -> Reply {
    shared.gate.counters.count_answered(Protocol::Http);
    let (tag, whole) = (view.tag, view.medium.len());
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok());
    let is_read = !is_head || range.is_some_and(is_malformed);
    let reader = peer.address.filter(|_| is_read).and_then(|address| shared.gate.owner_of(address).ok().flatten());
    if let Some(mac) = reader {
        match (range.filter(|range| is_malformed(range)), requested(range, whole)) {
            (Some(range), _) => {
                shared.gate.trace(mac, Step::BadRange { range: range.chars().take(64).collect::<String>().into() });
            }
            (None, RequestedRange::Part { .. }) => {
                let reply = conditional::answer(view.medium, &tag, headers, is_head);
                return downloads::follow_part(shared, mac, reply);
            }
            (None, RequestedRange::Whole | RequestedRange::Unsatisfiable) => {
                let reply = conditional::answer(view.medium, &tag, headers, is_head);
                let file = path.rsplit('/').next().unwrap_or(path);
                return downloads::follow(shared, mac, (file, DownloadKind::Image), headers, reply);
            }
        }
    }
    conditional::answer(view.medium, &tag, headers, is_head)
}

/// Returns the part that a Range header selects of the image that this connection requested last, or all of it; `None` if
/// the image must be looked up again, or if the reply to a range is not a part.
pub fn recall(
    shared: &Shared,
    recent: &RecentView,
    key: &RecentKey,
    range: Option<&str>,
    now: Instant,
) -> Option<RepeatedContent> {
    content(shared, recent.recall(&shared.gate.store.load(), key, now)?, None, range)
}

/// Returns the same of the view under a token; `None` also if its release must be recorded.
pub fn recall_leased(shared: &Shared, token: &str, file: &str, range: Option<&str>) -> Option<RepeatedContent> {
    let view = shared.gate.held(token, image_of(file)).ok()??;
    content(shared, Some(view).filter(|view| view.carries.is_none())?, None, range)
}

/// Returns the part that a Range header selects of a view, or all of it; `None` if the reply to a range is not a part.
pub fn content(
    shared: &Shared,
    view: ImageView,
    media_type: Option<&'static str>,
    range: Option<&str>,
) -> Option<RepeatedContent> {
    let ImageView { medium, tag, .. } = view;
    let whole = medium.len();
    let (start, count, is_part) = match requested(range, whole) {
        RequestedRange::Part { start, count } => (start, count, true),
        RequestedRange::Whole if range.is_none() => (0, whole, false),
        RequestedRange::Whole | RequestedRange::Unsatisfiable => return None,
    };
    shared.gate.counters.count_answered(Protocol::Http);
    Some(RepeatedContent { tag, whole, media_type, is_part, range: MediumRange { medium, start, count } })
}

/// Returns the name of the image in a leased view's path.
fn image_of(file: &str) -> &str {
    file.strip_suffix(".iso").unwrap_or(file)
}

/// Answers with an image or with a file in it; with a host's view of it if the query names one.
pub async fn image(
    shared: &Shared,
    peer: &Peer,
    path: &str,
    query: &Query,
    headers: &HeaderMap,
    is_head: bool,
) -> Reply {
    match find(shared, peer, path, query).await {
        Ok(view) => send(shared, peer, (path, view), headers, is_head).await,
        Err(reply) => reply,
    }
}

/// Answers with a view, once the release of the config in it is recorded. A HEAD releases nothing.
async fn send(
    shared: &Shared,
    peer: &Peer,
    (path, view): (&str, ImageView),
    headers: &HeaderMap,
    is_head: bool,
) -> Reply {
    if !is_head && let Err(reply) = release(shared, peer, &view).await {
        return reply;
    }
    answer_read(shared, peer, (path, view), headers, is_head)
}

/// Records durably that a machine gets its config with its image, if the image contains it.
async fn release(shared: &Shared, peer: &Peer, view: &ImageView) -> Result<(), Reply> {
    let Some((mac, config)) = &view.carries else { return Ok(()) };
    let facts = Facts { mac: *mac, firmware: None, stage: Stage::Installer, address: peer.address, uuid: None };
    shared
        .gate
        .record_config_delivery(&facts, config, DeliveryChannel::Embedded)
        .await
        .map_err(|reason| unavailable(format!("{reason}\n")))
}

/// Finds the view that a path below `/iso/` and a query name; else the reply that says why there is none.
async fn find(shared: &Shared, peer: &Peer, path: &str, query: &Query) -> Result<ImageView, Reply> {
    let (name, inner) = path.split_once('/').unwrap_or((path, ""));
    let image = name.parse::<Name>().ok().and_then(|name| shared.gate.store.load().image(&name).cloned());
    let Some(image) = image else {
        return Err(text(StatusCode::NOT_FOUND, format!("no image {name:?}\n")));
    };
    if let Some(place) = image.spec.remote_location() {
        return Err(text(StatusCode::NOT_FOUND, format!("the image {name} is not on this server but {place}\n")));
    }
    let cannot = |why: Reason, reason: &str| {
        let message = format!("the image {name} is not available: {reason}");
        shared.gate.record_refusal_at_address(peer.address, Protocol::Http, why, message.clone());
        unavailable(format!("{message}\n"))
    };
    if let Some(reason) = shared.gate.media.reason(&image) {
        return Err(cannot(Reason::ImageUnavailable, reason));
    }
    let host = match query.host.as_deref().map(|wanted| host(shared, peer, wanted, query, &image)).transpose() {
        Ok(host) => host,
        Err(reason) => {
            shared.gate.counters.count_refused(Protocol::Http, reason, peer.address);
            let wanted = query.host.as_deref().unwrap_or_default();
            return Err(text(
                StatusCode::FORBIDDEN,
                if reason == Reason::UnknownHost {
                    format!("host: {wanted:?}: no host has this MAC address or name\n")
                } else {
                    format!("{reason}\n")
                },
            ));
        }
    };
    let (gate, local, wanted) = (shared.gate.clone(), peer.local, inner.to_owned());
    let look_up = move || -> Result<Option<ImageView>, (Reason, String)> {
        let own = host.as_deref().map(|host| (host, ConfigVisibility::Whole));
        let view = gate.medium(&image, own, local).map_err(|error| {
            let reason = error.reason();
            (MediaError::Medium(error).refusal(), reason)
        });
        if let Some(host) = host.as_deref() {
            gate.record_delivery(&image, host, local);
        }
        within(view?, &wanted).map_err(|reason| (Reason::ImageUnavailable, reason))
    };
    // Composing a view and walking directories may wait for the disk.
    match tokio::task::spawn_blocking(look_up).await {
        Ok(Ok(Some(view))) => Ok(view),
        Ok(Ok(None)) => {
            let message = format!("no file {inner:?} in the image {name}");
            shared.gate.record_refusal_at_address(peer.address, Protocol::Http, Reason::FileNotFound, message);
            Err(text(StatusCode::NOT_FOUND, "no such file in the image\n"))
        }
        Ok(Err((why, reason))) => Err(cannot(why, &reason)),
        Err(_) => Err(text(StatusCode::INTERNAL_SERVER_ERROR, "the image could not be read\n")),
    }
}

/// Answers `/media/{token}/{image}.iso`: a host's view of its image, under the URL of its BMC or iPXE. The bytes stay
/// the same for as long as they are read, whatever happens to the host's config.
pub async fn leased(
    shared: &Shared,
    peer: &Peer,
    token: &str,
    file: &str,
    headers: &HeaderMap,
    is_head: bool,
) -> Reply {
    let image = image_of(file).to_owned();
    let found = match shared.gate.held(token, &image) {
        Ok(Some(view)) => Ok(Ok(view)),
        Ok(None) => {
            let (gate, token, local) = (shared.gate.clone(), token.to_owned(), peer.local);
            tokio::task::spawn_blocking(move || gate.restore_lease(&token, &image, local)).await
        }
        Err(reason) => Ok(Err(MediaError::Reason(reason))),
    };
    match found {
        Ok(Ok(view)) => send(shared, peer, (file, view), headers, is_head).await,
        Ok(Err(MediaError::Reason(reason))) => {
            shared.gate.counters.count_refused(Protocol::Http, reason, peer.address);
            text(StatusCode::FORBIDDEN, format!("{reason}\n"))
        }
        Ok(Err(MediaError::Medium(error))) => {
            tracing::debug!(%error, "image not available");
            unavailable(format!("the image is not available: {}\n", error.reason()))
        }
        Ok(Err(MediaError::Seed(error))) => unavailable(format!("the image is not available: {error}\n")),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the image could not be read\n"),
    }
}

/// Returns a 503 reply with the time after which to ask again.
pub fn unavailable(message: String) -> Reply {
    let mut reply = text(StatusCode::SERVICE_UNAVAILABLE, message);
    reply.headers_mut().insert(RETRY_AFTER, RETRY_INTERVAL.into());
    reply
}

/// Returns the view of a file in an image; `None` if there is no such file.
fn within(view: ImageView, path: &str) -> Result<Option<ImageView>, String> {
    if path.is_empty() {
        return Ok(Some(view));
    }
    let found = ImageLibrary::find(&*view.medium, path).map_err(|error| error.to_string())?;
    Ok(found.map(|extents| {
        let file = FileInImage::new(view.medium.clone(), extents);
        ImageView { medium: Arc::new(file), ..view }
    }))
}

/// Returns the host whose view is requested. A view may contain the host's config, so only a client that would get that
/// config gets it.
fn host(shared: &Shared, peer: &Peer, wanted: &str, query: &Query, image: &Image) -> Result<Arc<Host>, Reason> {
    let host = host_named(shared, wanted).ok_or(Reason::UnknownHost)?;
    let gate = &shared.gate;
    match gate.admit(peer.address, query.token.as_deref(), gate.site().config_access.require) {
        Ok(asks) if asks == host.spec.boot_mac_address => {
            gate.config_in_view(&host, image).map_or(Ok(()), |config| gate.check_window(&host, &config))?;
            Ok(host)
        }
        Ok(_) => Err(Reason::AddressOfOtherMachine),
        Err(refusal) if refusal.reason == Reason::UnknownHost => Err(Reason::AddressUnverified),
        Err(refusal) => Err(refusal.reason),
    }
}

/// Returns a host by its MAC address, or by its name: `NAMESPACE/NAME` outside of the configured namespace.
fn host_named(shared: &Shared, wanted: &str) -> Option<Arc<Host>> {
    let state = shared.gate.store.load();
    if let Some(host) = wanted.parse::<Mac>().ok().and_then(|mac| state.host_by_mac(mac)) {
        return Some(host);
    }
    let (namespace, name) = match wanted.split_once('/') {
        Some((namespace, name)) => (namespace.parse().ok()?, name),
        None => (shared.gate.site().namespace.clone(), wanted),
    };
    let key = Key { kind: Kind::BareMetalHost, namespace: Some(namespace), name: name.parse().ok()? };
    match state.get(&key)? {
        Object::Host(host) => Some(host),
        Object::Image(_) | Object::BootConfig(_) | Object::ConfigTemplate(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use hyper::header::{HeaderName, IF_NONE_MATCH, RANGE};
    use serde_json::json;

    use super::*;
    use crate::api::fixture::{ApiFixture, VM, VM_ADDRESS, host, peer, status_and_text};
    use crate::http::handler::Handler;
    use crate::http::peer::Serves;

    const BYTES: &[u8] = b"0123456789";

    #[tokio::test]
    async fn an_image_is_served_whole_and_in_ranges() {
        let fixture = ApiFixture::new();
        fixture.put_image(BYTES, &[]).await;
        let ask = async |headers: &[(HeaderName, &str)]| {
            fixture.send(Serves::Machines, peer(VM_ADDRESS), "GET", "/iso/live", headers, "").await
        };
        let whole = ask(&[]).await;
        assert_eq!(status_and_text(&whole), (200, "0123456789"));
        assert_eq!(status_and_text(&ask(&[(RANGE, "bytes=3-5")]).await), (206, "345"));
        assert_eq!(ask(&[(RANGE, "bytes=10-")]).await.status(), StatusCode::RANGE_NOT_SATISFIABLE);
        let tag = whole.headers()["etag"].to_str().unwrap();
        assert_eq!(ask(&[(IF_NONE_MATCH, tag)]).await.status(), StatusCode::NOT_MODIFIED);
    }

    #[tokio::test]
    async fn an_image_that_cannot_be_served_says_why() {
        let fixture = ApiFixture::new();
        fixture.put_image(BYTES, &[]).await;
        std::fs::remove_file(fixture.base.directory.path().join("isos/live.iso")).unwrap();
        let reply = fixture.machine("GET", "/iso/live").await;
        assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.headers()["retry-after"], "10");
        let reply = fixture.machine("GET", "/iso/other").await;
        assert_eq!(status_and_text(&reply), (404, "no image \"other\"\n"));
        // A file of bytes that are no ISO has no files in it.
        fixture.put_image(BYTES, &[]).await;
        assert_eq!(fixture.machine("GET", "/iso/live/a").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn a_hosts_view_is_the_hosts_own() {
        let fixture = ApiFixture::new();
        fixture.put_image(BYTES, &[]).await;
        fixture.put(Kind::BareMetalHost, host(json!({"image": "live"}))).await;
        let ask = async |address, query: &str| {
            let path = format!("/iso/live?host={query}");
            fixture.send(Serves::Machines, peer(address), "GET", &path, &[], "").await
        };
        for query in ["vm", "default/vm", &VM.to_string()] {
            assert_ne!(ask(VM_ADDRESS, query).await.status(), StatusCode::FORBIDDEN, "{query}");
            assert_eq!(ask([10, 77, 0, 11], query).await.status(), StatusCode::FORBIDDEN, "{query}");
        }
        assert_eq!(ask(VM_ADDRESS, "other").await.status(), StatusCode::FORBIDDEN);
        assert_eq!(ask(VM_ADDRESS, "vm&token=x").await.status(), StatusCode::FORBIDDEN);
    }

    #[tokio::test]
    async fn a_connection_remembers_an_image_until_its_object_changes() {
        let fixture = ApiFixture::new();
        fixture.put_image(BYTES, &[]).await;
        let (shared, recent) = (&*fixture.shared, RecentView::default());
        let range = |path: &str| {
            let request = Request::builder().uri(path).body(()).unwrap();
            let key = shared.repeated_key(peer(VM_ADDRESS), &request)?;
            let part = shared.recall(&recent, &key, Some("bytes=2-3"), Instant::now())?;
            Some((part.whole, part.range.start, part.range.count))
        };
        assert_eq!(range("/iso/live"), None);
        let request = Request::builder().uri("/iso/live").body(()).unwrap();
        let reply = shared.answer_machine(peer(VM_ADDRESS), &recent, &request).await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK);
        assert_eq!(range("/iso/live"), Some((10, 2, 2)));
        assert_eq!(range("/iso/liv%65"), Some((10, 2, 2)));
        assert_eq!(range("/iso/other"), None);
        assert_eq!(range("/files/live"), None);
        // Another client behind the same proxy is not answered from it.
        let request = Request::builder().uri("/iso/live").body(()).unwrap();
        let key = shared.repeated_key(peer([10, 77, 0, 11]), &request).unwrap();
        assert!(shared.recall(&recent, &key, Some("bytes=2-3"), Instant::now()).is_none());
        // Another object's change leaves the image as it is; its own does not.
        fixture.put(Kind::BareMetalHost, host(json!({}))).await;
        assert_eq!(range("/iso/live"), Some((10, 2, 2)));
        let other = json!({"metadata": {"name": "live"}, "spec": {"isoFile": "live.iso", "description": "other"}});
        fixture.put(Kind::IscsiCdrom, other).await;
        assert_eq!(range("/iso/live"), None);
    }

    #[tokio::test]
    async fn a_leased_image_needs_its_token() {
        let fixture = ApiFixture::new();
        fixture.put_image(BYTES, &[]).await;
        let reply = fixture.machine("GET", "/media/x/live.iso").await;
        assert_eq!(status_and_text(&reply), (403, &*format!("{}\n", Reason::TokenInvalid)));
    }
}
