//! Configs, and the reports that an install is complete.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::{Value, json};

use crate::api::generate::is_generated;
use crate::api::objects::status::Status;
use crate::api::objects::templates;
use crate::api::state::Shared;
use crate::boot::diagnosis::Step;
use crate::boot::installer::vendor_data;
use crate::boot::{ConfigProof, DropReason, Facts, Reason, Stage};
use crate::event::{Event, Protocol};
use crate::fleet::{BootConfig, Format, Host, Phase};
use crate::gate::{AdmissionRefusal, IdentifiedClient};
use crate::http::peer::Peer;
use crate::http::reply::{self, Reply, bytes, text};
use crate::iso;
use crate::provision::generate as generation;

/// Media type of a file that is not text.
const BINARY: &str = "application/octet-stream";

/// Answers `/api/v1/bootconfig` and `/config/{token}`: the config of the machine that asks.
pub async fn config(shared: &Shared, peer: &Peer, token: Option<&str>, file: Option<&str>, is_head: bool) -> Reply {
    let caller = match authenticate_machine(shared, peer, token, shared.gate.site().config_access.require) {
        Ok(caller) => caller,
        Err(reply) => return *reply,
    };
    match served_config(shared, peer, &caller, is_head).await {
        Ok((_, config)) => release(shared, &caller, &config, file, is_head).await,
        Err(reply) => *reply,
    }
}

/// Returns the host of a machine that asks, and its config, rendered for it.
async fn served_config(
    shared: &Shared,
    peer: &Peer,
    caller: &IdentifiedClient,
    is_head: bool,
) -> Result<(Arc<Host>, Arc<BootConfig>), Box<Reply>> {
    let (host, config) = shared.gate.config(&caller.facts).map_err(|reason| refuse(shared, &caller.facts, reason))?;
    match shared.gate.serve_config(&host, &config, peer.local, is_head).await {
        Ok(config) => Ok((host, config)),
        Err(error) => {
            let (reason, message) = (Reason::ConfigNotRendered, error.to_string());
            let reply = text(code(reason), format!("{message}\n"));
            shared.gate.refuse_with_message(&caller.facts, Protocol::Http, reason, message);
            Err(reply.into())
        }
    }
}

/// Answers a machine with a file of its config, once the release is recorded durably. A missing file and a HEAD record
/// nothing: they are no step of an install.
async fn release(
    shared: &Shared,
    caller: &IdentifiedClient,
    config: &BootConfig,
    file: Option<&str>,
    is_head: bool,
) -> Reply {
    let reply = match file_reply(config, file) {
        Ok(reply) => reply,
        Err(message) => {
            let reply = text(StatusCode::NOT_FOUND, format!("{message}\n"));
            shared.gate.refuse_with_message(&caller.facts, Protocol::Http, Reason::FileNotFound, message);
            return reply;
        }
    };
    if !is_head && let Err(reason) = shared.gate.record_config_fetch(caller, config, None).await {
        return refuse(shared, &caller.facts, reason);
    }
    shared.gate.counters.count_answered(Protocol::Http);
    reply
}

/// Returns the reply with a file of a config.
///
/// # Errors
/// A message with the files of the config, if the requested one is not among them.
fn file_reply(config: &BootConfig, file: Option<&str>) -> Result<Reply, String> {
    let format = config.spec.format;
    let Some(content) = config.file(file) else {
        let wanted = file.unwrap_or(format.main_file());
        let names: Vec<_> = config.spec.file_names().collect();
        return Err(format!("the config {} has no file {wanted:?}; it has {}", config.metadata.name, names.join(", ")));
    };
    let kind = match file {
        _ if std::str::from_utf8(content).is_err() => BINARY,
        Some(file) if file != format.main_file() => media_type(format, file),
        _ => format.media_type(),
    };
    Ok(bytes(StatusCode::OK, HeaderValue::from_static(kind), content.to_vec()))
}

/// Answers `/configs/FILE`: a file of a generated config. A confidential config goes to its machine only.
pub async fn generated(shared: &Shared, peer: &Peer, file_name: &str, token: Option<&str>, is_head: bool) -> Reply {
    let found = generation::parse_file_name(file_name).and_then(|(name, file)| {
        let config = shared.gate.store.load().boot_config(&name).cloned()?;
        let reply = is_generated(&config).then(|| file_reply(&config, Some(file)).ok())??;
        Some((config, file, reply))
    });
    let Some((config, file, reply)) = found else {
        shared.gate.counters.count_dropped(Protocol::Http, DropReason::FileNotFound, peer.address);
        return text(StatusCode::NOT_FOUND, "no such config\n");
    };
    if !config.spec.confidential {
        shared.gate.counters.count_answered(Protocol::Http);
        return reply;
    }
    let caller = match authenticate_machine(shared, peer, token, shared.gate.site().config_access.require) {
        Ok(caller) => caller,
        Err(reply) => return *reply,
    };
    match shared.gate.config(&caller.facts) {
        Ok((_, own)) if own.metadata.name == config.metadata.name => {
            release(shared, &caller, &own, Some(file), is_head).await
        }
        Ok(_) => refuse(shared, &caller.facts, Reason::OtherConfigAssigned),
        Err(reason) => refuse(shared, &caller.facts, reason),
    }
}

/// Returns the media type of a file that is not the config's main one.
fn media_type(format: Format, file: &str) -> &'static str {
    match format {
        Format::Ignition if file.ends_with(".ign") => format.media_type(),
        Format::Ignition | Format::CloudInit | Format::Kickstart | Format::Preseed | Format::Script => "text/plain",
    }
}

/// Answers cloud-init's NoCloud over HTTP. Only the fetch of `user-data` or of the seed is a step of an install.
pub async fn nocloud(shared: &Shared, peer: &Peer, token: &str, file: &str, is_head: bool) -> Reply {
    if file == "user-data" {
        return config(shared, peer, Some(token), Some(file), is_head).await;
    }
    let caller = match authenticate_machine(shared, peer, Some(token), shared.gate.site().config_access.require) {
        Ok(caller) => caller,
        Err(reply) => return *reply,
    };
    let (host, config) = match served_config(shared, peer, &caller, is_head).await {
        Ok(found) => found,
        Err(reply) => return *reply,
    };
    if file == "seed.iso" {
        let report_url = shared.gate.report_url(&host, peer.local);
        let reply = match seed(shared, &host, &config, Some(&report_url)) {
            Ok(reply) => reply,
            Err(status) => {
                let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::NOT_FOUND);
                return text(code, format!("{}\n", status.message()));
            }
        };
        if !is_head && let Err(reason) = shared.gate.record_config_fetch(&caller, &config, Some(file)).await {
            return refuse(shared, &caller.facts, reason);
        }
        return reply;
    }
    if config.spec.content(file).is_some() && !is_head {
        shared.gate.record_side_file(&caller.facts, &config.metadata.name, file);
    }
    let report_url = shared.gate.report_url(&host, peer.local);
    match nocloud_file(&host, &config, file, &report_url) {
        Some(content) if std::str::from_utf8(&content).is_err() => {
            bytes(StatusCode::OK, HeaderValue::from_static(BINARY), content)
        }
        Some(content) => text(StatusCode::OK, content),
        None => text(StatusCode::NOT_FOUND, "the config has no such file\n"),
    }
}

/// Returns a file of cloud-init's NoCloud source: of the config, or made for the host, whose installer reports at
/// `report_url`.
pub fn nocloud_file(host: &Host, config: &BootConfig, file: &str, report_url: &str) -> Option<Vec<u8>> {
    match (file, config.spec.content(file)) {
        (_, Some(content)) => Some(content.to_vec()),
        ("meta-data", None) => Some(iso::meta_data(host.metadata.name.as_str(), &host.instance()).into_bytes()),
        ("vendor-data", None) => Some(vendor_data(report_url, config.main_text().unwrap_or_default()).into_bytes()),
        (_, None) => None,
    }
}

/// Answers with the seed image that cloud-init looks for among the disks: all NoCloud files of a host's rendered config. With
/// `report_url` it has the settings that have cloud-init report there.
///
/// # Errors
/// The host's config is not for cloud-init, or its files do not fit a seed.
fn seed(shared: &Shared, host: &Host, config: &BootConfig, report_url: Option<&str>) -> Result<Reply, Status> {
    let kind = HeaderValue::from_static("application/x-iso9660-image");
    match shared.gate.seed_of(host, config, report_url) {
        Ok(Some(seed)) => {
            shared.gate.counters.count_answered(Protocol::Http);
            Ok(bytes(StatusCode::OK, kind, seed))
        }
        Ok(None) => Err(Status::not_found_message("the host's config is not for cloud-init")),
        Err(error) => Err(Status::unprocessable(error.to_string())),
    }
}

/// Answers a client of the object API with a host's seed, as the host would get it at the address that it reaches.
///
/// # Errors
/// The config is confidential or cannot be rendered; otherwise as `seed`.
pub async fn seed_read(shared: &Shared, host: &Arc<Host>) -> Result<Reply, Status> {
    let config = templates::shown_config(shared, host, "seed").await?;
    // The URL of reports has the machine's token, which no reader may have.
    match config {
        Some(config) => seed(shared, host, &config, None),
        None => Err(Status::not_found_message("the host's config is not for cloud-init")),
    }
}

/// Answers `/get_ignition` as dynamic-ignition-coreos does: the machine's config with a file of its host name; an empty
/// object if the machine is unknown or has no config.
pub async fn named_ignition(shared: &Shared, peer: &Peer, token: Option<&str>, is_head: bool) -> Reply {
    const NOTHING: &str = "{}";
    let kind = HeaderValue::from_static(Format::Ignition.media_type());
    let Ok(caller) = authenticate_machine(shared, peer, token, shared.gate.site().config_access.require) else {
        return bytes(StatusCode::OK, kind, NOTHING);
    };
    if !is_head {
        // Enrols a machine that was never seen, as its boot would.
        shared.gate.decide_and_enrol(&Facts { stage: Stage::Ipxe, ..caller.facts }).await;
    }
    let refused = |reason: Reason, message: String| {
        shared.gate.refuse_with_message(&caller.facts, Protocol::Http, reason, message);
        bytes(StatusCode::OK, kind.clone(), NOTHING)
    };
    let found = match shared.gate.config(&caller.facts) {
        Ok((host, config)) => {
            let rendered = shared.gate.serve_config(&host, &config, peer.local, is_head).await;
            rendered.map(|config| (host, config)).map_err(|error| (Reason::ConfigNotRendered, error.to_string()))
        }
        Err(reason) => Err((reason, reason.to_string())),
    };
    let (host, config) = match found {
        Ok(found) => found,
        Err((reason, message)) => return refused(reason, message),
    };
    let Some(mut ignition) = ignition_of(&config) else {
        return refused(Reason::FileNotFound, format!("the config {} is not an Ignition config", config.metadata.name));
    };
    if !is_head && let Err(reason) = shared.gate.record_config_fetch(&caller, &config, None).await {
        return refused(reason, reason.to_string());
    }
    append_name(&mut ignition, host.metadata.name.as_str());
    shared.gate.counters.count_answered(Protocol::Http);
    bytes(StatusCode::OK, kind, ignition.to_string())
}

/// Returns a config's Ignition document, which admission checked to be an object.
fn ignition_of(config: &BootConfig) -> Option<Value> {
    let text = config.main_text().filter(|_| config.spec.format == Format::Ignition)?;
    serde_json::from_str(text).ok().filter(Value::is_object)
}

/// Adds the file of the host name; replaces one that the config has. A file of specification 2.x names its filesystem.
fn append_name(ignition: &mut Value, name: &str) {
    let is_v2 = ignition["ignition"]["version"].as_str().is_some_and(|version| version.starts_with("2."));
    let contents = json!({"source": format!("data:,{name}")});
    let file = match is_v2 {
        true => json!({"filesystem": "root", "path": "/etc/hostname", "mode": 0o644, "contents": contents}),
        false => json!({"path": "/etc/hostname", "mode": 0o644, "overwrite": true, "contents": contents}),
    };
    let files = &mut ignition["storage"]["files"];
    match files.as_array_mut() {
        Some(files) => {
            files.retain(|known| known["path"] != "/etc/hostname");
            files.push(file);
        }
        None => *files = json!([file]),
    }
}

/// Answers `POST /api/v1/boot-complete` and cloud-init's `phone_home`: the machine reports that its install is complete.
pub async fn complete(shared: &Shared, peer: &Peer, token: Option<&str>) -> Reply {
    let good = token.filter(|token| shared.gate.admit(None, Some(token), ConfigProof::Token).is_ok());
    let proof = ConfigProof::of_done(good.is_some());
    let caller = match shared.gate.authenticate(peer.address, good, proof) {
        Ok(caller) => caller,
        Err(refusal) => {
            let named = token.and_then(|token| shared.gate.token_machine(token));
            let reason = if named.is_some() { Reason::TokenInvalid } else { refusal.reason };
            if let Some(mac) = named.or(refusal.mac) {
                shared.gate.trace(mac, Step::CompletionRefused { reason });
            }
            return refused_machine(shared, peer, refusal);
        }
    };
    match shared.gate.complete(&caller).await {
        Ok(host) => {
            shared.gate.counters.count_answered(Protocol::Http);
            if host.status.phase == Phase::Installed {
                shared.gate.trace(caller.facts.mac, Step::Completed);
            } else {
                if host.status.phase == Phase::Assigned {
                    let asked_from = shared.gate.untied_request(&host);
                    shared.gate.trace(caller.facts.mac, Step::CompletedEarly { asked_from });
                }
                let event = Event::BootCompleteIgnored { phase: host.status.phase };
                shared.gate.store.record_event(Some(caller.facts.mac), event);
            }
            let name = host.metadata.name.as_str();
            reply::json(StatusCode::OK, &json!({"status": "ok", "host": name, "image": "localboot"}))
        }
        Err(reason) => {
            let named = token.and_then(|token| shared.gate.token_machine(token));
            let (mac, told) = match named.filter(|_| good.is_none()) {
                // The machine that the expired token names, and not the one at the address.
                Some(mac) => (mac, Reason::TokenInvalid),
                None => (caller.facts.mac, reason),
            };
            shared.gate.trace(mac, Step::CompletionRefused { reason: told });
            refuse(shared, &caller.facts, reason)
        }
    }
}

/// Returns the machine that asks, by the proof that the configuration requires.
fn authenticate_machine(
    shared: &Shared,
    peer: &Peer,
    token: Option<&str>,
    proof: ConfigProof,
) -> Result<IdentifiedClient, Box<Reply>> {
    let gate = &shared.gate;
    match gate.authenticate(peer.address, token, proof) {
        Ok(caller) => Ok(caller),
        Err(refusal) => {
            let named = token.and_then(|token| gate.token_machine(token));
            if let Some(mac) = named.or(refusal.mac) {
                gate.trace_refused_config(mac, refusal.reason, peer.address, named.is_some());
                let (reason, message) = (refusal.reason, refusal.reason.sentence().into());
                gate.trace(mac, Step::Refused { protocol: Protocol::Http, reason, message, is_tied: false });
            }
            Err(refused_machine(shared, peer, refusal).into())
        }
    }
}

/// Records the refusal of a machine that could not be authenticated, and returns the reply that gives its reason.
fn refused_machine(shared: &Shared, peer: &Peer, refusal: AdmissionRefusal) -> Reply {
    let gate = &shared.gate;
    gate.counters.count_refused(Protocol::Http, refusal.reason, peer.address);
    let (reason, message) = (refusal.reason, refusal.reason.sentence().to_owned());
    gate.store.record_event(refusal.mac, Event::Refused { protocol: Protocol::Http, reason, message });
    let address = peer.address.map_or_else(|| "no address".to_owned(), |address| address.to_string());
    let hint = if refusal.reason == Reason::UnknownHost {
        ": for a machine behind a router set spec.ip, or list its network in config_access.trusted_subnets"
    } else {
        ""
    };
    text(code(refusal.reason), format!("{} ({address}){hint}\n", refusal.reason))
}

/// Records a refusal, and returns the reply that gives its reason.
fn refuse(shared: &Shared, facts: &Facts, reason: Reason) -> Reply {
    shared.gate.refuse(facts, Protocol::Http, reason);
    text(code(reason), format!("{reason}\n"))
}

/// Returns the status of a refusal.
pub(super) fn code(reason: Reason) -> StatusCode {
    match reason {
        Reason::AddressOfOtherMachine
        | Reason::NotSpecIp
        | Reason::SeenAtOtherAddress
        | Reason::AddressUnverified
        | Reason::Held
        | Reason::ConfigWindowClosed
        | Reason::TokenMissing
        | Reason::TokenInvalid
        | Reason::BrowserRequest
        | Reason::ChapFailed
        | Reason::ChapThrottled
        | Reason::OtherConfigAssigned => StatusCode::FORBIDDEN,
        Reason::StoreUnavailable | Reason::DiskNearlyFull | Reason::ImageUnavailable | Reason::ConfigNotRendered => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Reason::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        Reason::UnknownHostIgnored
        | Reason::NotAssigned
        | Reason::InstallCompleted
        | Reason::InstallFailed
        | Reason::MaxBootsReached
        | Reason::NoBootProgram
        | Reason::OtherImageAssigned
        | Reason::NoConfig
        | Reason::FileNotFound
        | Reason::UnknownHost
        | Reason::RuleNotApplicable
        | Reason::EnrolmentLimit => StatusCode::NOT_FOUND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::{ApiFixture, VM, host, peer, status_and_text};
    use crate::fleet::Kind;
    use crate::http::peer::Serves;

    /// Declares the host `vm` with an image and a config.
    async fn assigned(config: Value) -> ApiFixture {
        let fixture = ApiFixture::new();
        fixture.put_config(config).await;
        fixture.put_image(b"the bytes of an image", &["cfg"]).await;
        fixture.put(Kind::BareMetalHost, host(json!({"image": "live", "bootConfigRef": "cfg"}))).await;
        fixture
    }

    /// Declares the host, and serves it the script of its install.
    async fn offered(config: Value) -> ApiFixture {
        let fixture = assigned(config).await;
        fixture.machine("GET", &format!("/ipxe?mac={VM}")).await;
        assert_eq!(fixture.phase(), Phase::Offered);
        fixture
    }

    fn kickstart() -> Value {
        json!({"format": "kickstart", "data": {"ks.cfg": "text", "more.cfg": "more"}})
    }

    #[tokio::test]
    async fn a_config_is_served_to_its_machine_and_starts_the_installation() {
        let fixture = offered(kickstart()).await;
        assert_eq!(fixture.machine("HEAD", "/api/v1/bootconfig").await.status(), StatusCode::OK);
        assert_eq!(fixture.phase(), Phase::Offered);
        let reply = fixture.machine("GET", "/api/v1/bootconfig").await;
        assert_eq!(status_and_text(&reply), (200, "text"));
        assert_eq!(reply.headers()["content-type"], "text/plain");
        assert_eq!(fixture.phase(), Phase::Installing);
        let reply = fixture.machine("GET", "/api/v1/bootconfig?file=more.cfg").await;
        assert_eq!(status_and_text(&reply), (200, "more"));
    }

    #[tokio::test]
    async fn a_file_that_the_config_does_not_have_is_no_step() {
        let fixture = offered(kickstart()).await;
        let reply = fixture.machine("GET", "/api/v1/bootconfig?file=other").await;
        let text = "the config cfg has no file \"other\"; it has ks.cfg, more.cfg\n";
        assert_eq!(status_and_text(&reply), (404, text));
        assert_eq!(fixture.phase(), Phase::Offered);
    }

    #[tokio::test]
    async fn nobody_else_gets_the_config() {
        let fixture = offered(kickstart()).await;
        let other = peer([10, 77, 0, 11]);
        for (path, expected) in [("/api/v1/bootconfig", 404), ("/config/x", 403), ("/nocloud/x/user-data", 403)] {
            let reply = fixture.send(Serves::Everything, other, "GET", path, &[], "").await;
            assert_eq!(status_and_text(&reply).0, expected, "{path}: {:?}", reply.body());
        }
        let reply = fixture.send(Serves::Everything, other, "GET", "/get_ignition", &[], "").await;
        assert_eq!(status_and_text(&reply), (200, "{}"));
        assert_eq!(fixture.phase(), Phase::Offered);
    }

    #[tokio::test]
    async fn a_token_stands_for_its_machine() {
        let fixture = offered(kickstart()).await;
        let host = fixture.shared.gate.store.load().host_by_mac(VM).unwrap();
        let token = fixture.shared.gate.tokens.of(&host);
        let elsewhere = peer([10, 77, 0, 11]);
        for path in [format!("/config/{token}/more.cfg"), format!("/api/v1/bootconfig?token={token}&file=more.cfg")] {
            let reply = fixture.send(Serves::Everything, elsewhere, "GET", &path, &[], "").await;
            assert_eq!(status_and_text(&reply), (200, "more"), "{path}");
        }
    }

    #[tokio::test]
    async fn nocloud_adds_what_cloud_init_expects() {
        let fixture = offered(json!({"format": "cloud-init", "data": {"user-data": "#cloud-config\n"}})).await;
        let host = fixture.shared.gate.store.load().host_by_mac(VM).unwrap();
        let token = fixture.shared.gate.tokens.of(&host);
        let ask = async |file: &str| fixture.machine("GET", &format!("/nocloud/{token}/{file}")).await;
        let reply = ask("vendor-data").await;
        let url = format!("http://10.77.0.2/api/v1/report/{token}");
        assert_eq!(status_and_text(&reply), (200, vendor_data(&url, "").as_str()));
        let seed = |reply: &hyper::Response<bytes::Bytes>| String::from_utf8_lossy(reply.body()).contains(&url);
        assert!(seed(&ask("seed.iso").await), "the machine's own seed has the URL");
        let path = "/api/v1/namespaces/default/baremetalhosts/vm/seed";
        assert!(!seed(&fixture.admin("GET", path, "").await), "a reader of the API must not have the machine's token");
        let reply = ask("meta-data").await;
        assert!(status_and_text(&reply).1.contains("local-hostname: \"vm\""), "{:?}", reply.body());
        assert_eq!(status_and_text(&ask("network-config").await).0, 404);
        assert_eq!(status_and_text(&ask("user-data").await), (200, "#cloud-config\n"));
        assert_eq!(fixture.phase(), Phase::Installing);
    }

    #[tokio::test]
    async fn vendor_data_of_a_config_is_served_as_it_is() {
        let data = json!({"user-data": "#cloud-config\n", "vendor-data": "#cloud-config\n{}\n"});
        let fixture = offered(json!({"format": "cloud-init", "data": data})).await;
        let host = fixture.shared.gate.store.load().host_by_mac(VM).unwrap();
        let reply =
            fixture.machine("GET", &format!("/nocloud/{}/vendor-data", fixture.shared.gate.tokens.of(&host))).await;
        assert_eq!(status_and_text(&reply), (200, "#cloud-config\n{}\n"));
    }

    #[tokio::test]
    async fn an_ignition_config_is_completed_with_the_hosts_name() {
        let ignition = json!({"ignition": {"version": "3.4.0"}}).to_string();
        let fixture = offered(json!({"format": "ignition", "data": {"config.ign": ignition}})).await;
        let reply = fixture.machine("GET", "/get_ignition").await;
        let config: Value = serde_json::from_slice(reply.body()).unwrap();
        assert_eq!(config["storage"]["files"][0]["contents"]["source"], "data:,vm");
        assert_eq!(fixture.phase(), Phase::Installing);
    }

    #[tokio::test]
    async fn the_machine_reports_that_its_install_is_complete() {
        let fixture = offered(kickstart()).await;
        fixture.machine("GET", "/api/v1/bootconfig").await;
        let other = peer([10, 77, 0, 11]);
        let reply = fixture.send(Serves::Everything, other, "POST", "/api/v1/boot-complete", &[], "").await;
        assert_eq!((status_and_text(&reply).0, fixture.phase()), (404, Phase::Installing));
        let reply = fixture.machine("POST", "/phone_home").await;
        let body: Value = serde_json::from_slice(reply.body()).unwrap();
        assert_eq!((reply.status(), &body["host"]), (StatusCode::OK, &json!("vm")));
        assert_eq!(fixture.phase(), Phase::Installed);
    }

    #[tokio::test]
    async fn the_system_that_is_to_be_replaced_completes_no_install() {
        let fixture = assigned(kickstart()).await;
        assert_eq!(fixture.machine("POST", "/phone_home").await.status(), StatusCode::OK);
        let steps = fixture.shared.gate.traces.look_up(VM).unwrap().steps;
        assert_eq!((fixture.phase(), &steps[0].step), (Phase::Assigned, &Step::CompletedEarly { asked_from: None }));
    }

    #[tokio::test]
    async fn a_script_request_in_a_machines_name_begins_no_install() {
        let own = |ip: Value| host(json!({"image": "live", "bootConfigRef": "cfg", "ip": ip}));
        // Where the script was asked from, and the phase after the report of the machine at its own address.
        for (asked_from, expected) in [([10, 77, 0, 11], Phase::Assigned), ([10, 77, 0, 10], Phase::Installed)] {
            let fixture = assigned(kickstart()).await;
            fixture.put(Kind::BareMetalHost, own(Value::Null)).await;
            let path = format!("/ipxe?mac={VM}");
            let reply = fixture.send(Serves::Everything, peer(asked_from), "GET", &path, &[], "").await;
            assert!(status_and_text(&reply).1.contains("sanboot"), "{:?}", reply.body());
            assert_eq!(fixture.phase(), Phase::Assigned, "nothing ties the address to the machine");
            fixture.put(Kind::BareMetalHost, own(json!("10.77.0.10"))).await;
            assert_eq!(fixture.machine("POST", "/phone_home").await.status(), StatusCode::OK);
            assert_eq!(fixture.phase(), expected, "{asked_from:?}");
        }
    }

    #[test]
    fn a_host_name_replaces_the_configs_own() {
        let own = json!({"path": "/etc/hostname", "contents": {"source": "data:,other"}});
        let mut ignition = json!({"storage": {"files": [own, {"path": "/a"}]}});
        append_name(&mut ignition, "vm");
        let paths: Vec<_> = ignition["storage"]["files"].as_array().unwrap().iter().map(|file| &file["path"]).collect();
        assert_eq!(paths, ["/a", "/etc/hostname"]);
        assert_eq!(ignition["storage"]["files"][1]["contents"]["source"], "data:,vm");
    }
}
