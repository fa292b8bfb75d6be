//! The bytes of ISOs, and of the files within them: `/iso/NAME`, `/iso/NAME/PATH`.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use hyper::body::Frame;
use hyper::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH, IF_RANGE,
    RANGE,
};
use hyper::{Response, StatusCode};

use crate::boot::{Facts, Reason, Stage};
use crate::event::{DeliveryChannel, Protocol};
use crate::fleet::{Host, Image, Key, Kind, Mac, Name, Object};
use crate::gate::media::{ConfigVisibility, MediaError};
use crate::images::library::{ImageLibrary, ImageView};
use crate::iso::{FileWithin, ReadAt};
use crate::store::Snapshot;

use crate::api::machine::scripts::Query;
use crate::http::listener::{Peer, Shared};
use crate::http::ranges::{Wanted, wanted};
use crate::http::reply::{Body, Reply, Span, text};

/// Is what is read and sent at one time.
pub const CHUNK: u64 = 256 << 10;

/// Is how long what a connection has asked for is not looked for again: iPXE reads an ISO in thousands of pieces.
const REMEMBERED: Duration = Duration::from_secs(1);

/// Remembers what was last asked for on a connection.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Option<Recent>>);

#[derive(Debug)]
struct Recent {
    path: String,
    query: Option<String>,
    /// Is the state that it was decided in: another one may decide otherwise.
    version: u64,
    image: Option<Arc<Image>>,
    at: Instant,
    seen: ImageView,
}

impl Memory {
    /// Gives what the same question came to a moment ago; nothing where it may come to something else now.
    fn recall(&self, state: &Snapshot, path: &str, query: Option<&str>) -> Option<ImageView> {
        let recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |recent: &&Recent| recent.path == path && recent.query.as_deref() == query;
        let recent = recent.as_ref().filter(is_same).filter(|recent| recent.at.elapsed() < REMEMBERED)?;
        // An image alone stays what it is while its object does, whatever becomes of hosts and configs.
        let stays = || recent.image.as_ref().zip(named(state, path)).is_some_and(|(was, is)| Arc::ptr_eq(was, is));
        let holds = recent.version == state.version || query.is_none() && stays();
        holds.then(|| recent.seen.clone())
    }

    fn keep(&self, state: &Snapshot, path: &str, query: Option<&str>, seen: ImageView) {
        let (version, image) = (state.version, named(state, path).cloned());
        let (path, query) = (path.to_owned(), query.map(str::to_owned));
        let recent = Recent { path, query, version, image, at: Instant::now(), seen };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(recent);
    }
}

/// Finds the image that a path begins with.
fn named<'a>(state: &'a Snapshot, path: &str) -> Option<&'a Arc<Image>> {
    let name = path.split('/').next().unwrap_or_default();
    state.image(&name.parse().ok()?)
}

/// Answers as `image` does, and remembers what it came to on this connection.
pub async fn again(
    shared: &Shared,
    peer: &Peer,
    memory: &Memory,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    peek: bool,
) -> Reply {
    let state = shared.gate.store.snapshot();
    let seen = match memory.recall(&state, path, query) {
        Some(seen) => seen,
        None => match find(shared, peer, path, &Query::parse(query)).await {
            Ok(seen) => {
                if !peek && let Err(reply) = release(shared, peer, &seen).await {
                    return reply;
                }
                memory.keep(&state, path, query, seen.clone());
                seen
            }
            Err(reply) => return reply,
        },
    };
    shared.gate.counters.count_answered(Protocol::Http);
    answer(seen, headers, peek)
}

/// Is an answer of a part of a medium, before it is written.
#[derive(Debug)]
pub struct Part {
    pub tag: String,
    /// Is the medium's length.
    pub whole: u64,
    pub span: Span,
}

/// Gives the part of what this connection asked for a moment ago that a Range header wants; nothing where that has
/// to be looked for again, or is not to be answered with a part.
pub fn part(shared: &Shared, memory: &Memory, path: &str, query: Option<&str>, range: &str) -> Option<Part> {
    let ImageView { medium, tag, .. } = memory.recall(&shared.gate.store.load(), path, query)?;
    let whole = medium.len();
    let Wanted::Part(start, count) = wanted(Some(range), whole) else { return None };
    shared.gate.counters.count_answered(Protocol::Http);
    Some(Part { tag, whole, span: Span { medium, start, count } })
}

/// Answers with an ISO, or with a file in it, as a host sees it where one is named.
pub async fn image(shared: &Shared, peer: &Peer, path: &str, query: &Query, headers: &HeaderMap, peek: bool) -> Reply {
    match find(shared, peer, path, query).await {
        Ok(seen) => {
            if !peek && let Err(reply) = release(shared, peer, &seen).await {
                return reply;
            }
            shared.gate.counters.count_answered(Protocol::Http);
            answer(seen, headers, peek)
        }
        Err(reply) => reply,
    }
}

/// Makes it durable that a machine's config is given with its image, where it is within it: before it is given.
async fn release(shared: &Shared, peer: &Peer, seen: &ImageView) -> Result<(), Reply> {
    let Some((mac, config)) = &seen.carries else { return Ok(()) };
    let facts = Facts { mac: *mac, firmware: None, stage: Stage::Installer, address: peer.address, uuid: None };
    shared.gate.release(&facts, config, DeliveryChannel::Embedded).await.map_err(|why| unavailable(format!("{why}\n")))
}

async fn find(shared: &Shared, peer: &Peer, path: &str, query: &Query) -> Result<ImageView, Reply> {
    let (name, inner) = path.split_once('/').unwrap_or((path, ""));
    let image = name.parse::<Name>().ok().and_then(|name| shared.gate.store.load().image(&name).cloned());
    let Some(image) = image else {
        return Err(text(StatusCode::NOT_FOUND, format!("there is no ISO {name:?}\n")));
    };
    if let Some(place) = image.spec.remote_location() {
        return Err(text(StatusCode::NOT_FOUND, format!("the ISO {name} is not here but {place}\n")));
    }
    let cannot = |reason: &str| {
        let message = format!("the ISO {name} cannot be served now: {reason}");
        shared.gate.record_refusal_at(peer.address, Protocol::Http, Reason::ImageUnavailable, message.clone());
        unavailable(format!("{message}\n"))
    };
    if let Some(reason) = shared.gate.media.reason(&image) {
        return Err(cannot(reason));
    }
    let host = match query.host.as_deref().map(|wanted| host(shared, peer, wanted, query)).transpose() {
        Ok(host) => host,
        Err(why) => {
            shared.gate.counters.count_refused(Protocol::Http, why, peer.address);
            let wanted = query.host.as_deref().unwrap_or_default();
            return Err(text(
                StatusCode::FORBIDDEN,
                match why {
                    Reason::UnknownHost => format!("host: {wanted:?} is neither a host's MAC address nor its name\n"),
                    _ => format!("{why}\n"),
                },
            ));
        }
    };
    let (gate, local, wanted) = (shared.gate.clone(), peer.local, inner.to_owned());
    let seek = move || -> Result<Option<ImageView>, String> {
        let own = host.as_deref().map(|host| (host, ConfigVisibility::Whole));
        let seen = gate.medium(&image, own, local).map_err(|error| error.reason())?;
        within(seen, &wanted)
    };
    // Views are composed, and directories walked, from a file that may have to be read first.
    match tokio::task::spawn_blocking(seek).await {
        Ok(Ok(Some(seen))) => Ok(seen),
        Ok(Ok(None)) => {
            let why = format!("there is no file {inner} in the ISO {name}");
            shared.gate.record_refusal_at(peer.address, Protocol::Http, Reason::FileNotFound, why);
            Err(text(StatusCode::NOT_FOUND, "there is no such file in the ISO\n"))
        }
        Ok(Err(reason)) => Err(cannot(&reason)),
        Err(_) => Err(text(StatusCode::INTERNAL_SERVER_ERROR, "the ISO cannot be read\n")),
    }
}

/// Answers `/media/{token}/{image}.iso`: a host's view of its image, as its BMC or iPXE was told to read it. The
/// bytes are the same until nobody reads them any more, whatever becomes of the host's config.
pub async fn held(shared: &Shared, peer: &Peer, token: &str, file: &str, headers: &HeaderMap, peek: bool) -> Reply {
    let image = file.strip_suffix(".iso").unwrap_or(file).to_owned();
    let found = match shared.gate.held(token, &image) {
        Ok(Some(seen)) => Ok(Ok(seen)),
        Ok(None) => {
            let (gate, token, local) = (shared.gate.clone(), token.to_owned(), peer.local);
            tokio::task::spawn_blocking(move || gate.restore_lease(&token, &image, local)).await
        }
        Err(why) => Ok(Err(MediaError::Reason(why))),
    };
    match found {
        Ok(Ok(seen)) => {
            if !peek && let Err(reply) = release(shared, peer, &seen).await {
                return reply;
            }
            shared.gate.counters.count_answered(Protocol::Http);
            answer(seen, headers, peek)
        }
        Ok(Err(MediaError::Reason(why))) => {
            shared.gate.counters.count_refused(Protocol::Http, why, peer.address);
            text(StatusCode::FORBIDDEN, format!("{why}\n"))
        }
        Ok(Err(MediaError::Medium(error))) => {
            tracing::debug!(%error, "an ISO cannot be served");
            unavailable(format!("the ISO cannot be served now: {}\n", error.reason()))
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the ISO cannot be read\n"),
    }
}

/// Is how long who asked for an ISO that is missing had best wait, in seconds.
const RETRY_AFTER: u16 = 10;

fn unavailable(message: String) -> Reply {
    let mut reply = text(StatusCode::SERVICE_UNAVAILABLE, message);
    reply.headers_mut().insert(hyper::header::RETRY_AFTER, RETRY_AFTER.into());
    reply
}

fn within(seen: ImageView, path: &str) -> Result<Option<ImageView>, String> {
    if path.is_empty() {
        return Ok(Some(seen));
    }
    let found = ImageLibrary::find(&*seen.medium, path).map_err(|error| error.to_string())?;
    Ok(found.map(|extents| {
        let file = FileWithin::new(seen.medium.clone(), extents);
        ImageView { medium: Arc::new(file), ..seen }
    }))
}

/// Finds the host whose view is asked for. A view may hold what is that host's alone: it is shown to whom the site
/// would give the host's config.
fn host(shared: &Shared, peer: &Peer, wanted: &str, query: &Query) -> Result<Arc<Host>, Reason> {
    let host = host_named(shared, wanted).ok_or(Reason::UnknownHost)?;
    let gate = &shared.gate;
    match gate.admit(peer.address, query.token.as_deref(), gate.site.config_access.require) {
        Ok(asks) if asks == host.spec.boot_mac_address => Ok(host),
        Ok(_) => Err(Reason::AddressOfOtherMachine),
        Err(refusal) if refusal.why == Reason::UnknownHost => Err(Reason::AddressUnverified),
        Err(refusal) => Err(refusal.why),
    }
}

/// Gives a tag without its mark of weakness: what a client has is compared weakly (RFC 9110, section 13.1.2).
fn strong(tag: &str) -> &str {
    let tag = tag.trim();
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// Finds a host by its MAC address, as scripts name it, or as people do: by its name, with its namespace before it
/// where that is not the site's.
fn host_named(shared: &Shared, wanted: &str) -> Option<Arc<Host>> {
    let state = shared.gate.store.load();
    if let Some(host) = wanted.parse::<Mac>().ok().and_then(|mac| state.host_by_mac(mac)) {
        return Some(host.clone());
    }
    let (namespace, name) = match wanted.split_once('/') {
        Some((namespace, name)) => (namespace.parse().ok()?, name),
        None => (shared.gate.site.namespace.clone(), wanted),
    };
    let key = Key { kind: Kind::BareMetalHost, namespace: Some(namespace), name: name.parse().ok()? };
    match state.get(&key)? {
        Object::Host(host) => Some(host.clone()),
        Object::Image(_) | Object::BootConfig(_) => None,
    }
}

pub fn answer(seen: ImageView, headers: &HeaderMap, peek: bool) -> Reply {
    let length = seen.medium.len();
    let tag = format!("\"{}\"", seen.tag);
    let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let is_any = |known: &str| known.trim() == "*";
    // RFC 9110 13.2.2 has them in this order.
    if header(IF_MATCH).is_some_and(|known| !is_any(known) && known.split(',').all(|one| one.trim() != tag)) {
        return described(StatusCode::PRECONDITION_FAILED, &tag, Body::Whole(None));
    }
    if header(IF_NONE_MATCH).is_some_and(|known| is_any(known) || known.split(',').any(|one| strong(one) == tag)) {
        return described(StatusCode::NOT_MODIFIED, &tag, Body::Whole(None));
    }
    // A part of what it was before is no use to who resumes.
    let range = header(RANGE).filter(|_| header(IF_RANGE).is_none_or(|known| known == tag));
    let (status, start, count) = match wanted(range, length) {
        Wanted::Whole => (StatusCode::OK, 0, length),
        Wanted::Part(start, count) => (StatusCode::PARTIAL_CONTENT, start, count),
        Wanted::Unsatisfiable => {
            let mut reply = described(StatusCode::RANGE_NOT_SATISFIABLE, &tag, Body::Whole(None));
            insert(&mut reply, CONTENT_RANGE, format!("bytes */{length}"));
            return reply;
        }
    };
    let body = match peek {
        true => Body::Whole(None),
        false => Body::Medium(Span { medium: seen.medium, start, count }),
    };
    let mut reply = described(status, &tag, body);
    insert(&mut reply, CONTENT_LENGTH, count.to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        insert(&mut reply, CONTENT_RANGE, format!("bytes {start}-{}/{length}", start + count - 1));
    }
    reply
}

fn described(status: StatusCode, tag: &str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    insert(&mut reply, ETAG, tag.to_owned());
    reply.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    reply
}

fn insert(reply: &mut Reply, name: hyper::header::HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        reply.headers_mut().insert(name, value);
    }
}

/// Makes parts of a medium's bytes, each read as it is sent.
pub fn parts(span: Span) -> Body {
    Body::parts(stream::try_unfold(span, |Span { medium, start, count }| async move {
        if count == 0 {
            return Ok(None);
        }
        let here = count.min(CHUNK);
        let bytes = read(&medium, start, here).await.inspect_err(cannot_be_read)?;
        Ok(Some((Frame::data(bytes), Span { medium, start: start + here, count: count - here })))
    }))
}

pub fn cannot_be_read(error: &io::Error) {
    tracing::warn!(%error, "a file cannot be read");
}

/// Reads from the page cache at once; what has to come from the disk is waited for elsewhere.
pub async fn read(medium: &Arc<dyn ReadAt>, start: u64, count: u64) -> io::Result<Bytes> {
    let length = usize::try_from(count).map_err(io::Error::other)?;
    let mut buffer = vec![0; length];
    match medium.read_now(start, &mut buffer) {
        Ok(()) => return Ok(buffer.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    let medium = medium.clone();
    let waited = tokio::task::spawn_blocking(move || medium.read_at(start, &mut buffer).map(|()| buffer.into()));
    waited.await.map_err(io::Error::other)?
}
