//! Configs, and the reports that an install is complete.

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::{Value, json};

use crate::api::generate::is_generated;
use crate::api::objects::status::Status;
use crate::api::state::Shared;
use crate::boot::{ConfigProof, DropReason, Facts, Reason, Stage};
use crate::event::{Event, Protocol};
use crate::fleet::{BootConfig, Format, Host, Phase};
use crate::http::peer::Peer;
use crate::http::reply::{self, Reply, bytes, text};
use crate::iso;
use crate::provision::generate as generation;

/// Answers `/api/v1/bootconfig` and `/config/{token}`: the config of the machine that asks.
pub async fn config(shared: &Shared, peer: &Peer, token: Option<&str>, file: Option<&str>, is_head: bool) -> Reply {
    let facts = match authenticate_machine(shared, peer, token, shared.gate.site.config_access.require) {
        Ok(facts) => facts,
        Err(reply) => return *reply,
    };
    match shared.gate.config(&facts) {
        Ok((_, config)) => release(shared, &facts, &config, file, is_head).await,
        Err(why) => refuse(shared, &facts, why),
    }
}

/// Answers a machine with a file of its config, once the release is recorded durably. A missing file and a HEAD record
/// nothing: they are no step of an install.
async fn release(shared: &Shared, facts: &Facts, config: &BootConfig, file: Option<&str>, is_head: bool) -> Reply {
    let reply = match file_reply(config, file) {
        Ok(reply) => reply,
        Err(message) => {
            let reply = text(StatusCode::NOT_FOUND, format!("{message}\n"));
            shared.gate.refuse_with(facts, Protocol::Http, Reason::FileNotFound, message);
            return reply;
        }
    };
    if !is_head && let Err(why) = shared.gate.configure(facts, &config.metadata.name, None).await {
        return refuse(shared, facts, why);
    }
    shared.gate.counters.count_answered(Protocol::Http);
    reply
}

/// Returns the reply with a file of a config.
///
/// # Errors
/// The message that lists the files of the config, where the wanted one is not among them.
fn file_reply(config: &BootConfig, file: Option<&str>) -> Result<Reply, String> {
    let format = config.spec.format;
    let Some(content) = config.file(file) else {
        let wanted = file.unwrap_or(format.main_file());
        let names: Vec<_> = config.spec.data.keys().map(String::as_str).collect();
        return Err(format!("the config {} has no file {wanted:?}; it has {}", config.metadata.name, names.join(", ")));
    };
    let kind = match file {
        Some(file) if file != format.main_file() => media_type(format, file),
        _ => format.media_type(),
    };
    Ok(bytes(StatusCode::OK, HeaderValue::from_static(kind), content.to_owned()))
}

/// Answers `/configs/FILE`: a file of a generated config. A confidential config goes to its machine only.
pub async fn generated(shared: &Shared, peer: &Peer, file_name: &str, token: Option<&str>, is_head: bool) -> Reply {
    let found = generation::named(file_name).and_then(|(name, file)| {
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
    let facts = match authenticate_machine(shared, peer, token, shared.gate.site.config_access.require) {
        Ok(facts) => facts,
        Err(reply) => return *reply,
    };
    match shared.gate.config(&facts) {
        Ok((_, own)) if own.metadata.name == config.metadata.name => {
            release(shared, &facts, &own, Some(file), is_head).await
        }
        Ok(_) => refuse(shared, &facts, Reason::OtherConfigAssigned),
        Err(why) => refuse(shared, &facts, why),
    }
}

/// Returns the media type of a file that is not the config's main one.
fn media_type(format: Format, file: &str) -> &'static str {
    match format {
        Format::Ignition if file.ends_with(".ign") => format.media_type(),
        _ => "text/plain",
    }
}

/// Answers cloud-init's NoCloud over HTTP. Only the fetch of `user-data` or of the seed is a step of an install.
pub async fn nocloud(shared: &Shared, peer: &Peer, token: &str, file: &str, is_head: bool) -> Reply {
    if file == "user-data" {
        return config(shared, peer, Some(token), Some(file), is_head).await;
    }
    let facts = match authenticate_machine(shared, peer, Some(token), shared.gate.site.config_access.require) {
        Ok(facts) => facts,
        Err(reply) => return *reply,
    };
    let (host, config) = match shared.gate.config(&facts) {
        Ok(found) => found,
        Err(why) => return refuse(shared, &facts, why),
    };
    if file == "seed.iso" {
        let reply = match seed(shared, &host) {
            Ok(reply) => reply,
            Err(status) => {
                let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::NOT_FOUND);
                return text(code, format!("{}\n", status.message()));
            }
        };
        if !is_head && let Err(why) = shared.gate.configure(&facts, &config.metadata.name, Some(file)).await {
            return refuse(shared, &facts, why);
        }
        return reply;
    }
    let content = config.spec.data.get(file).cloned();
    if content.is_some() && !is_head {
        shared.gate.record_side_file(&facts, &config.metadata.name, file);
    }
    match (file, content) {
        (_, Some(content)) => text(StatusCode::OK, content),
        ("meta-data", None) => text(StatusCode::OK, iso::meta_data(host.metadata.name.as_str(), &host.instance())),
        // A 404 here costs the machine ten seconds of retries (boot-facts 24).
        ("vendor-data", None) => text(StatusCode::OK, ""),
        _ => text(StatusCode::NOT_FOUND, "the config has no such file\n"),
    }
}

/// Answers with the seed image that cloud-init looks for among the disks: all of a host's NoCloud files.
///
/// # Errors
/// The host's config is not for cloud-init, or its files do not fit a seed.
pub fn seed(shared: &Shared, host: &Host) -> Result<Reply, Status> {
    let kind = HeaderValue::from_static("application/x-iso9660-image");
    match shared.gate.seed_of(host) {
        Ok(Some(seed)) => {
            shared.gate.counters.count_answered(Protocol::Http);
            Ok(bytes(StatusCode::OK, kind, seed))
        }
        Ok(None) => Err(Status::missing("the host's config is not for cloud-init")),
        Err(error) => Err(Status::unfit(error.to_string())),
    }
}

/// Answers a client of the object API with a host's seed.
///
/// # Errors
/// The config is confidential; otherwise as `seed`.
pub fn seed_read(shared: &Shared, host: &Host) -> Result<Reply, Status> {
    let state = shared.gate.store.load();
    let config = host.spec.boot_config_ref.as_ref().and_then(|name| state.boot_config(name));
    if config.is_some_and(|config| config.spec.confidential) {
        return Err(Status::forbidden("the host's config is confidential: only its machine gets the seed"));
    }
    seed(shared, host)
}

/// Answers `/get_ignition` as dynamic-ignition-coreos does: the machine's config with a file of its host name; an empty
/// object where the machine is unknown or has no config.
pub async fn named_ignition(shared: &Shared, peer: &Peer, token: Option<&str>, is_head: bool) -> Reply {
    const NOTHING: &str = "{}";
    let kind = HeaderValue::from_static(Format::Ignition.media_type());
    let Ok(facts) = authenticate_machine(shared, peer, token, shared.gate.site.config_access.require) else {
        return bytes(StatusCode::OK, kind, NOTHING);
    };
    if !is_head {
        // Enrols a machine that was never seen, as its boot would.
        shared.gate.decide_and_enrol(&Facts { stage: Stage::Ipxe, ..facts }).await;
    }
    let refused = |why: Reason, message: String| {
        shared.gate.refuse_with(&facts, Protocol::Http, why, message);
        bytes(StatusCode::OK, kind.clone(), NOTHING)
    };
    let (host, config) = match shared.gate.config(&facts) {
        Ok(found) => found,
        Err(why) => return refused(why, why.to_string()),
    };
    let Some(mut ignition) = ignition_of(&config) else {
        return refused(Reason::FileNotFound, format!("the config {} is not an Ignition config", config.metadata.name));
    };
    if !is_head && let Err(why) = shared.gate.configure(&facts, &config.metadata.name, None).await {
        return refused(why, why.to_string());
    }
    append_name(&mut ignition, host.metadata.name.as_str());
    shared.gate.counters.count_answered(Protocol::Http);
    bytes(StatusCode::OK, kind, ignition.to_string())
}

/// Returns a config's Ignition document, which admission checked to be an object.
fn ignition_of(config: &BootConfig) -> Option<Value> {
    let text = config.file(None).filter(|_| config.spec.format == Format::Ignition)?;
    serde_json::from_str(text).ok().filter(Value::is_object)
}

/// Adds the file of the host name; replaces one that the config has.
fn append_name(ignition: &mut Value, name: &str) {
    let file = json!({"path": "/etc/hostname", "mode": 0o644, "overwrite": true, "contents": {"source": format!("data:,{name}")}});
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
    let facts = match authenticate_machine(shared, peer, good, ConfigProof::of_done(good.is_some())) {
        Ok(facts) => facts,
        Err(reply) => return *reply,
    };
    match shared.gate.complete(&facts).await {
        Ok(host) => {
            shared.gate.counters.count_answered(Protocol::Http);
            if host.status.phase != Phase::Installed {
                let event = Event::BootCompleteIgnored { phase: host.status.phase };
                shared.gate.store.record_event(Some(facts.mac), event);
            }
            let name = host.metadata.name.as_str();
            reply::json(StatusCode::OK, &json!({"status": "ok", "host": name, "image": "localboot"}))
        }
        Err(reason) => refuse(shared, &facts, reason),
    }
}

/// Returns the machine that asks, by the proof that the configuration requires.
fn authenticate_machine(
    shared: &Shared,
    peer: &Peer,
    token: Option<&str>,
    proof: ConfigProof,
) -> Result<Facts, Box<Reply>> {
    let gate = &shared.gate;
    match gate.admit(peer.address, token, proof) {
        Ok(mac) => Ok(Facts { mac, firmware: None, stage: Stage::Installer, address: peer.address, uuid: None }),
        Err(refusal) => {
            gate.counters.count_refused(Protocol::Http, refusal.why, peer.address);
            let (reason, message) = (refusal.why, refusal.why.sentence().to_owned());
            gate.store.record_event(refusal.mac, Event::Refused { protocol: Protocol::Http, reason, message });
            let address = peer.address.map_or_else(|| "no address".to_owned(), |address| address.to_string());
            let hint = match refusal.why {
                Reason::UnknownHost => {
                    ": for a machine behind a router set spec.ip, or list its network in config_access.trusted_subnets"
                }
                _ => "",
            };
            Err(text(code(refusal.why), format!("{} ({address}){hint}\n", refusal.why)).into())
        }
    }
}

/// Records a refusal, and returns the reply that gives its reason.
fn refuse(shared: &Shared, facts: &Facts, why: Reason) -> Reply {
    shared.gate.refused(facts, Protocol::Http, why);
    text(code(why), format!("{why}\n"))
}

/// Returns the status of a refusal.
fn code(why: Reason) -> StatusCode {
    match why {
        Reason::AddressOfOtherMachine
        | Reason::NotSpecIp
        | Reason::SeenAtOtherAddress
        | Reason::AddressUnverified
        | Reason::Held
        | Reason::TokenMissing
        | Reason::TokenInvalid
        | Reason::ChapFailed
        | Reason::OtherConfigAssigned => StatusCode::FORBIDDEN,
        Reason::StoreUnavailable | Reason::ImageUnavailable => StatusCode::SERVICE_UNAVAILABLE,
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
        | Reason::RuleNotApplicable => StatusCode::NOT_FOUND,
    }
}
