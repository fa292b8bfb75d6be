//! Finds the route of a request, checks the client's role, and calls the endpoint.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};

use crate::api::auth::Role;
use crate::api::browser::is_browser_request;
use crate::api::machine::query::Query;
use crate::api::machine::recent::{RecentKey, RecentView, RepeatedKey};
use crate::api::machine::{configs, images, reports, scripts};
use crate::api::objects::options::{self, Options};
use crate::api::objects::status::Status;
use crate::api::objects::{
    access_reviews, actions, console, diagnosis, discovery, events, handlers, iso_files, list, namespaces, power,
    template_preview, templates, timeline_watch, watch, write,
};
use crate::api::ops::{health, metrics};
use crate::api::route::{ApiEndpoint, Caller, Endpoint, MachineEndpoint, ObjectEndpoint, OpsEndpoint, Route};
use crate::api::state::Shared;
use crate::api::{generate, network, openapi, redfish, rehearsal, route_search, settings, ui, uploads};
use crate::boot::{DropReason, Reason};
use crate::event::Protocol;
use crate::fleet::lifecycle::Transition;
use crate::fleet::{BadName, Key, Kind, Name, Object};
use crate::http::connection_limits::ConnectionRefusal;
use crate::http::handler::Handler;
use crate::http::limits::Stop;
use crate::http::peer::{Peer, Serves};
use crate::http::reply::{RepeatedContent, Reply, text};

/// Maximum number of segments of a path that are looked at; a file's path may have more.
const MAX_SEGMENTS: usize = 16;
/// Prefix of the path of an image.
const IMAGES: &str = "iso/";
/// Prefix of the path of a leased view of an image.
const LEASED_IMAGES: &str = "media/";
/// Prefix of the path of a file of the configured directory.
const FILES: &str = "files/";

/// A path, decoded, with its route.
#[derive(Clone, Copy)]
struct Target<'a> {
    path: &'a str,
    parts: &'a [&'a str],
    route: &'static Route,
}

impl<'a> Target<'a> {
    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.route.parameter(self.parts, name)
    }

    /// Returns the path after a prefix.
    fn rest(&self, prefix: &str) -> &'a str {
        self.path.trim_start_matches('/').strip_prefix(prefix).unwrap_or_default()
    }
}

impl Handler for Shared {
    type Recent = RecentView;
    type RepeatedKey = RepeatedKey;

    async fn answer(
        &self,
        peer: Peer,
        recent: &RecentView,
        serves: Serves,
        request: Request<Incoming>,
        stop: &Stop,
    ) -> Reply {
        answer(self, peer, recent, serves, request, stop).await
    }

    fn is_fast(target: &str) -> bool {
        route_search::is_fast(target)
    }

    async fn answer_machine(&self, peer: Peer, recent: &RecentView, request: &Request<()>) -> Option<Reply> {
        let path = decoded(request.uri().path());
        let parts = split(&path);
        let route = route_search::find(&parts)?;
        let Endpoint::Machine(endpoint) = route.operation(request.method())?.endpoint else { return None };
        let peer = self.access.origin(peer, request.headers());
        Some(machine(self, &peer, recent, Target { path: &path, parts: &parts, route }, endpoint, request).await)
    }

    fn repeated_key(&self, peer: Peer, request: &Request<()>) -> Option<RepeatedKey> {
        let path = decoded(request.uri().path());
        let path = path.trim_start_matches('/');
        if let Some(leased) = path.strip_prefix(LEASED_IMAGES) {
            let (token, file) = leased.split_once('/')?;
            return Some(RepeatedKey::Leased { token: token.to_owned(), file: file.to_owned() });
        }
        if is_browser_request(request.headers()) {
            return None;
        }
        if let Some(file) = path.strip_prefix(FILES) {
            // What a machine that boots loads is followed.
            let client = self.access.origin(peer, request.headers()).address;
            if client.is_some_and(|client| self.gate.store.load().last_seen_at(client).is_some()) {
                return None;
            }
            return Some(RepeatedKey::File(file.to_owned()));
        }
        let path = path.strip_prefix(IMAGES)?.to_owned();
        let client = self.access.origin(peer, request.headers()).address;
        Some(RepeatedKey::Image(RecentKey { client, path, query: request.uri().query().map(str::to_owned) }))
    }

    fn recall(
        &self,
        recent: &RecentView,
        key: &RepeatedKey,
        range: Option<&str>,
        now: Instant,
    ) -> Option<RepeatedContent> {
        match key {
            RepeatedKey::Image(key) => images::recall(self, recent, key, range, now),
            RepeatedKey::Leased { token, file } => images::recall_leased(self, token, file, range),
            RepeatedKey::File(path) => scripts::recall_file(self, path, range, now),
        }
    }

    fn is_known(&self, address: IpAddr) -> bool {
        self.access.is_proxy(address) || self.gate.store.load().is_known_address(address)
    }

    fn record_refused(&self, from: IpAddr, refusal: ConnectionRefusal) {
        let reason = match refusal {
            ConnectionRefusal::SourceLimit => DropReason::SourceLimit,
            ConnectionRefusal::Overload => DropReason::Overload,
            ConnectionRefusal::HeadMemory => DropReason::HeadMemory,
        };
        self.gate.counters.count_dropped(Protocol::Http, reason, Some(from));
    }

    fn record_duration(&self, duration: Duration) {
        self.gate.counters.http_requests.record(duration);
    }
}

/// Answers a request: by its route and the role that the client proves.
async fn answer(
    shared: &Shared,
    peer: Peer,
    recent: &RecentView,
    serves: Serves,
    request: Request<Incoming>,
    stop: &Stop,
) -> Reply {
    let path = request.uri().path().to_owned();
    let path = decoded(&path);
    let parts = split(&path);
    let peer = shared.access.origin(peer, request.headers());
    let Some(route) = route_search::find(&parts) else {
        return no_route(shared, &peer, serves, &parts, request).await;
    };
    let Some(operation) = route.operation(request.method()) else { return method_not_allowed(route) };
    let target = Target { path: &path, parts: &parts, route };
    match operation.endpoint {
        Endpoint::Machine(MachineEndpoint::Report) => report(shared, &peer, target, request).await,
        Endpoint::Machine(endpoint) => machine(shared, &peer, recent, target, endpoint, &request).await,
        Endpoint::Ops(endpoint) => ops(shared, endpoint).await,
        Endpoint::Ui(endpoint) if serves == Serves::Everything => {
            ui::answer(shared, &peer, endpoint, &parts, request, stop).await
        }
        Endpoint::Redfish if serves == Serves::Everything => redfish::answer(shared, &peer, &parts, request).await,
        Endpoint::Api(_) | Endpoint::Object(_) | Endpoint::Review(_) if serves == Serves::Everything => {
            let answered = match authorize(shared, &peer, request.headers(), operation.caller) {
                Ok(role) => api(shared, &peer, target, operation.endpoint, role, request, stop).await,
                Err(status) => Err(status),
            };
            answered.unwrap_or_else(|status| status.reply())
        }
        Endpoint::Redfish | Endpoint::Api(_) | Endpoint::Object(_) | Endpoint::Review(_) | Endpoint::Ui(_) => {
            Status::no_route().reply()
        }
    }
}

/// Answers a report of an installer, the only request of machines whose body is read.
async fn report(shared: &Shared, peer: &Peer, target: Target<'_>, request: Request<Incoming>) -> Reply {
    if is_browser_request(request.headers()) {
        return refuse_browser(shared, peer);
    }
    let token = Query::parse(request.uri().query()).token;
    reports::report(shared, peer, target.parameter("token").or(token.as_deref()), request.into_body()).await
}

/// Answers a path without a route: under the paths of the object API with 401 first.
async fn no_route(shared: &Shared, peer: &Peer, serves: Serves, parts: &[&str], request: Request<Incoming>) -> Reply {
    let status = match parts.first() {
        Some(&"ui") if serves == Serves::Everything => return ui::no_page(),
        Some(&"redfish") if serves == Serves::Everything => return redfish::answer(shared, peer, parts, request).await,
        Some(&("api" | "apis" | "openapi")) if serves == Serves::Everything => {
            authorize(shared, peer, request.headers(), Caller::Viewer).err()
        }
        _ => None,
    };
    status.unwrap_or_else(Status::no_route).reply()
}

fn method_not_allowed(route: &Route) -> Reply {
    let mut reply = Status::method_not_allowed().reply();
    if let Ok(allow) = HeaderValue::try_from(route.allow()) {
        reply.headers_mut().insert(ALLOW, allow);
    }
    reply
}

/// Beginning of the headers that ask for the rights of another user (`kubectl --as`).
const IMPERSONATE: &str = "impersonate-";

/// Returns the role of a client that may call an operation.
///
/// # Errors
/// 401 without a role, 403 with one that is not enough, or for a request in another user's name: there are no users, and
/// the client would do with its own rights what it wanted to do with less.
fn authorize(shared: &Shared, peer: &Peer, headers: &HeaderMap, caller: Caller) -> Result<Role, Status> {
    match shared.access.role(peer, headers) {
        Role::Nobody => Err(Status::unauthorized(headers.contains_key(AUTHORIZATION))),
        _ if headers.keys().any(|name| name.as_str().starts_with(IMPERSONATE)) => {
            Err(Status::forbidden("impersonation is not supported: leave out the Impersonate- headers (--as)"))
        }
        role if role < caller.role() => Err(Status::forbidden("the viewer role is read-only: use the admin's token")),
        role => Ok(role),
    }
}

/// Returns a path decoded, with one slash for each run of slashes: clients join a base that ends in a slash with a path
/// that begins with one.
fn decoded(path: &str) -> Cow<'_, str> {
    let path = percent_encoding::percent_decode_str(path).decode_utf8().unwrap_or(Cow::Borrowed(""));
    match path.contains("//") {
        true => Cow::Owned(with_single_slashes(&path)),
        false => path,
    }
}

fn with_single_slashes(path: &str) -> String {
    let mut kept = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter != '/' || !kept.ends_with('/') {
            kept.push(letter);
        }
    }
    kept
}

fn split(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).take(MAX_SEGMENTS).collect()
}

/// Answers a machine.
async fn machine<B>(
    shared: &Shared,
    peer: &Peer,
    recent: &RecentView,
    target: Target<'_>,
    endpoint: MachineEndpoint,
    request: &Request<B>,
) -> Reply {
    let (query, headers, is_head) = (request.uri().query(), request.headers(), *request.method() == Method::HEAD);
    // The URL of a leased image is a secret that no page can know, and BMCs send what they like.
    if endpoint != MachineEndpoint::LeasedImage && is_browser_request(headers) {
        return refuse_browser(shared, peer);
    }
    let parsed = || Query::parse(query);
    let parameter = |name| target.parameter(name);
    match endpoint {
        MachineEndpoint::ScriptFailed => scripts::failed(shared, peer, &parsed()).await,
        MachineEndpoint::Script => scripts::script(shared, peer, &parsed(), is_head).await,
        MachineEndpoint::LocalDiskScript => scripts::local_disk(shared, peer, &parsed()),
        MachineEndpoint::BootstrapScript => scripts::bootstrap(shared, peer),
        MachineEndpoint::BootProgram => {
            let (mac, file) = (parameter("mac").unwrap_or_default(), target.parts.get(2..).unwrap_or_default());
            scripts::boot_file(shared, peer, mac, file, headers, is_head).await
        }
        MachineEndpoint::Image => {
            images::image_again(shared, peer, recent, target.rest(IMAGES), query, headers, is_head).await
        }
        MachineEndpoint::LeasedImage => {
            let (token, file) = (parameter("token").unwrap_or_default(), parameter("file").unwrap_or_default());
            images::leased(shared, peer, token, file, headers, is_head).await
        }
        MachineEndpoint::File => scripts::file(shared, peer, target.rest(FILES), headers, is_head).await,
        MachineEndpoint::Config => {
            let Query { token, file, .. } = parsed();
            let (token, file) = (parameter("token").or(token.as_deref()), parameter("file").or(file.as_deref()));
            configs::config(shared, peer, token, file, is_head).await
        }
        MachineEndpoint::GeneratedConfig => {
            let file = parameter("file").unwrap_or_default();
            configs::generated(shared, peer, file, parsed().token.as_deref(), is_head).await
        }
        MachineEndpoint::NoCloud => {
            let (token, file) = (parameter("token").unwrap_or_default(), parameter("file").unwrap_or_default());
            configs::nocloud(shared, peer, token, file, is_head).await
        }
        MachineEndpoint::NamedIgnition => {
            configs::named_ignition(shared, peer, parsed().token.as_deref(), is_head).await
        }
        MachineEndpoint::BootComplete => {
            let token = parsed().token;
            configs::complete(shared, peer, parameter("token").or(token.as_deref())).await
        }
        // It has a body: `report` answers it.
        MachineEndpoint::Report => method_not_allowed(target.route),
    }
}

/// Refuses a browser on the routes of machines: a GET there moves an install on, and any page can cause one.
fn refuse_browser(shared: &Shared, peer: &Peer) -> Reply {
    shared.gate.counters.count_refused(Protocol::Http, Reason::BrowserRequest, peer.address);
    text(StatusCode::FORBIDDEN, format!("{}\n", Reason::BrowserRequest))
}

async fn ops(shared: &Shared, endpoint: OpsEndpoint) -> Reply {
    match endpoint {
        OpsEndpoint::Live => text(StatusCode::OK, "ok"),
        OpsEndpoint::Ready => health::ready(shared).await,
        OpsEndpoint::Metrics => metrics::metrics(shared).await,
        OpsEndpoint::Version => discovery::version(),
    }
}

/// Answers a client of the object API, whose role is enough for the operation.
async fn api(
    shared: &Shared,
    peer: &Peer,
    target: Target<'_>,
    endpoint: Endpoint,
    role: Role,
    request: Request<Incoming>,
    stop: &Stop,
) -> Result<Reply, Status> {
    let endpoint = match endpoint {
        Endpoint::Review(review) => return access_reviews::answer(review, role, request).await,
        Endpoint::Object(endpoint) => return object(shared, peer, target, endpoint, role, request, stop).await,
        Endpoint::Api(endpoint) => endpoint,
        Endpoint::Machine(_) | Endpoint::Ops(_) | Endpoint::Redfish | Endpoint::Ui(_) => {
            return Err(Status::no_route());
        }
    };
    let key = target.parameter("key").unwrap_or_default();
    match endpoint {
        ApiEndpoint::Versions => Ok(discovery::versions()),
        ApiEndpoint::Groups => Ok(discovery::groups()),
        ApiEndpoint::Resources => Ok(discovery::resources()),
        ApiEndpoint::OpenApiIndex => Ok(openapi::index()),
        ApiEndpoint::OpenApiV3 => Ok(openapi::document()),
        ApiEndpoint::OpenApiV2 => openapi::swagger_document(request.headers()),
        ApiEndpoint::GenerateIgnition => generate::generate(shared, generate::Generator::Ignition, request).await,
        ApiEndpoint::GenerateCloudInit => generate::generate(shared, generate::Generator::CloudInit, request).await,
        ApiEndpoint::Upload => uploads::upload(shared, request).await,
        ApiEndpoint::ListUploads => uploads::list(shared).await,
        ApiEndpoint::ReadUpload => uploads::progress(shared, key).await,
        ApiEndpoint::DeleteUpload => uploads::cancel(shared, key).await,
        ApiEndpoint::Timeline => {
            let options = Options::parse(request.uri().query(), request.headers(), Kind::BareMetalHost, None)?;
            timeline(shared, None, &options, stop).await
        }
        ApiEndpoint::Events => {
            events::list(shared, target.parameter("namespace"), request.uri().query(), request.headers()).await
        }
        ApiEndpoint::Rehearsal => rehearsal::machine(shared, request.uri().query(), role).await,
        ApiEndpoint::Interfaces => network::interfaces(shared).await,
        ApiEndpoint::Relays => network::relays(shared).await,
        ApiEndpoint::Leases => Ok(network::leases(shared)),
        ApiEndpoint::EndLease => network::end_lease(shared, target.parameter("address").unwrap_or_default()).await,
        ApiEndpoint::Drops => Ok(network::drops(shared)),
        ApiEndpoint::Settings => Ok(settings::list(&shared.settings.load())),
        ApiEndpoint::ListNamespaces => namespaces::list(shared, request.uri().query(), request.headers()),
        ApiEndpoint::ReadNamespace => {
            let name = target.parameter("name").unwrap_or_default();
            namespaces::read(shared, name, request.uri().query(), request.headers())
        }
    }
}

/// Answers a timeline: as a list, or watched.
async fn timeline(shared: &Shared, key: Option<&Key>, options: &Options, stop: &Stop) -> Result<Reply, Status> {
    match options.watch {
        true => timeline_watch::watch(shared, key, stop.clone()).await,
        false => actions::timeline(shared, key).await,
    }
}

/// Answers a request for objects of a kind, for one of them, or for a part of one.
async fn object(
    shared: &Shared,
    peer: &Peer,
    target: Target<'_>,
    endpoint: ObjectEndpoint,
    role: Role,
    request: Request<Incoming>,
    stop: &Stop,
) -> Result<Reply, Status> {
    let kind = target.route.resource.ok_or_else(Status::no_route)?.kind;
    let (namespace, query) = (namespace(&target)?, request.uri().query());
    let key = || key(kind, namespace.clone(), target.parameter("name").unwrap_or_default());
    let mut options = Options::parse(query, request.headers(), kind, namespace.clone())?;
    check_options(endpoint, request.headers(), query)?;
    match endpoint {
        ObjectEndpoint::List if options.watch => Ok(watch::watch(&shared.gate.store, kind, options, stop.clone())),
        ObjectEndpoint::List => list::list(shared, kind, &options),
        ObjectEndpoint::Create => handlers::create(shared, kind, namespace.clone(), request, &options).await,
        ObjectEndpoint::DeleteCollection => {
            handlers::delete_collection(shared, kind, target.path, request, &options).await
        }
        ObjectEndpoint::Read if options.watch => {
            options.selection.narrow(&key()?.name);
            Ok(watch::watch(&shared.gate.store, kind, options, stop.clone()))
        }
        ObjectEndpoint::Read => handlers::read(shared, &key()?, &options),
        ObjectEndpoint::Replace => handlers::replace(shared, &key()?, request, &options).await,
        ObjectEndpoint::Patch => handlers::patch(shared, &key()?, request, &options).await,
        ObjectEndpoint::Delete => handlers::delete(shared, &key()?, request, &options).await,
        ObjectEndpoint::Timeline => timeline(shared, Some(&key()?), &options, stop).await,
        ObjectEndpoint::Diagnosis => diagnosis::read(shared, &key()?),
        ObjectEndpoint::Console => console::read(shared, &key()?, query),
        ObjectEndpoint::Install => actions::install(shared, &key()?, request).await,
        ObjectEndpoint::VirtualMedia => actions::virtual_media(shared, &key()?, request).await,
        ObjectEndpoint::Power => power::change_power(shared, &key()?, request).await,
        ObjectEndpoint::BootDevice => power::set_boot_device(shared, &key()?, request).await,
        ObjectEndpoint::LocalBoot => actions::change(shared, &key()?, Transition::Release).await,
        ObjectEndpoint::Hold => actions::change(shared, &key()?, Transition::Hold).await,
        ObjectEndpoint::Seed => match write::find(shared, &key()?)? {
            Object::Host(host) => configs::seed_read(shared, &host).await,
            Object::Image(_) | Object::BootConfig(_) | Object::ConfigTemplate(_) => Err(Status::no_route()),
        },
        ObjectEndpoint::Rehearsal => rehearsal::host(shared, &key()?, query, role).await,
        ObjectEndpoint::Versions => templates::versions(shared, &key()?),
        ObjectEndpoint::Config => templates::host_config(shared, &key()?, query).await,
        ObjectEndpoint::Preview => template_preview::preview(shared, &key()?, request).await,
        ObjectEndpoint::Files => {
            let is_head = *request.method() == Method::HEAD;
            iso_files::files(shared, peer, &key()?, query, request.headers(), is_head).await
        }
    }
}

/// Checks what a request on an object accepts and asks for.
fn check_options(endpoint: ObjectEndpoint, headers: &HeaderMap, query: Option<&str>) -> Result<(), Status> {
    match endpoint {
        ObjectEndpoint::List
        | ObjectEndpoint::Create
        | ObjectEndpoint::DeleteCollection
        | ObjectEndpoint::Read
        | ObjectEndpoint::Replace
        | ObjectEndpoint::Patch
        | ObjectEndpoint::Delete => options::acceptable(headers),
        ObjectEndpoint::Install
        | ObjectEndpoint::LocalBoot
        | ObjectEndpoint::Hold
        | ObjectEndpoint::VirtualMedia
        | ObjectEndpoint::Power
        | ObjectEndpoint::BootDevice
        | ObjectEndpoint::Seed => refuse_dry_run(query),
        ObjectEndpoint::Timeline
        | ObjectEndpoint::Diagnosis
        | ObjectEndpoint::Console
        | ObjectEndpoint::Rehearsal
        | ObjectEndpoint::Files
        | ObjectEndpoint::Versions
        | ObjectEndpoint::Config
        | ObjectEndpoint::Preview => Ok(()),
    }
}

/// Returns the namespace that a path names.
fn namespace(target: &Target<'_>) -> Result<Option<Name>, Status> {
    let invalid = |wrong: BadName| Status::bad_request(format!("the path's namespace: {wrong}"));
    target.parameter("namespace").map(|text| text.parse().map_err(invalid)).transpose()
}

/// Returns the key of the object that a path names. A text that is no name is the name of no object.
fn key(kind: Kind, namespace: Option<Name>, name: &str) -> Result<Key, Status> {
    Ok(Key { kind, namespace, name: name.parse().map_err(|_| Status::not_found(kind, name))? })
}

/// Refuses a dry run of an action: only the write of an object can be tried out.
fn refuse_dry_run(query: Option<&str>) -> Result<(), Status> {
    let is_dry_run = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).any(|(key, _)| key == "dryRun");
    match is_dry_run {
        true => Err(Status::bad_request("dryRun: not supported for this action; remove the parameter")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
