//! What machines ask. Every answer that decides anything comes from the gate.

use std::path::Path;
use std::str::FromStr;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::boot::{BootProtocol, DropReason, Facts, Firmware, Reason, ScriptFormat, Stage, Verdict};
use crate::event::Protocol;
use crate::fleet::{Architecture, Mac};
use crate::gate::Decision;
use crate::images::library::ImageLibrary;

use crate::api::machine::images;
use crate::http::listener::{Peer, Shared};
use crate::http::reply::{Reply, text};

/// Is what an iPXE says of itself in the query of its request.
#[derive(Debug, Default)]
pub struct Query {
    mac: Option<String>,
    platform: Option<String>,
    architecture: Option<String>,
    pub file: Option<String>,
    /// Names the host, by its MAC address or its name, whose view of an ISO is asked for.
    pub host: Option<String>,
    pub token: Option<String>,
    /// Names the image that somebody picked from a menu.
    pub choose: Option<String>,
}

impl Query {
    pub fn parse(query: Option<&str>) -> Self {
        let mut found = Self::default();
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match key.as_ref() {
                "mac" => found.mac = Some(value.into_owned()),
                "platform" => found.platform = Some(value.into_owned()),
                "buildarch" => found.architecture = Some(value.into_owned()),
                "file" => found.file = Some(value.into_owned()),
                "host" => found.host = Some(value.into_owned()),
                "token" => found.token = Some(value.into_owned()),
                "choose" => found.choose = Some(value.into_owned()),
                _ => {}
            }
        }
        found
    }

    /// iPXE's `platform` and `buildarch` settings name what option 93 would have said.
    fn firmware(&self) -> Option<Firmware> {
        let code = match (self.platform.as_deref()?, self.architecture.as_deref().unwrap_or_default()) {
            ("pcbios", _) => 0,
            ("efi", "i386") => 6,
            ("efi", "x86_64") => 7,
            ("efi", "arm32") => 10,
            ("efi", "arm64") => 11,
            ("efi", "riscv64") => 27,
            _ => return None,
        };
        Some(Firmware { architecture: Architecture(code), loading: BootProtocol::Pxe })
    }
}

/// Answers `/ipxe?mac=`: the script for the machine that asks.
pub async fn script(shared: &Shared, peer: &Peer, query: &Query, peek: bool) -> Reply {
    let mac = match query.mac.as_deref().map(Mac::from_str) {
        Some(Ok(mac)) => match mac.rejection_reason() {
            None => mac,
            Some(why) => return refuse(shared, peer, &format!("mac: {mac} {why}")),
        },
        Some(Err(error)) => return refuse(shared, peer, &error.to_string()),
        None => return refuse(shared, peer, "name the machine: ?mac=52:54:00:12:34:56"),
    };
    let believed = !peek && shared.gate.verify_address(mac, peer.address).is_ok();
    let picked = query.choose.as_deref().and_then(|name| name.parse().ok()).filter(|_| believed);
    if let Some(image) = picked
        && let Err(why) = shared.gate.choose(mac, &image).await
    {
        shared.gate.counters.count_refused(Protocol::Http, why, peer.address);
    }
    decided(shared, peer, mac, query.firmware(), ScriptFormat::Ipxe, peek).await
}

fn refuse(shared: &Shared, peer: &Peer, message: &str) -> Reply {
    shared.gate.counters.count_dropped(Protocol::Http, DropReason::BadOption, peer.address);
    text(StatusCode::BAD_REQUEST, format!("{message}\n"))
}

async fn decided(
    shared: &Shared,
    peer: &Peer,
    mac: Mac,
    firmware: Option<Firmware>,
    form: ScriptFormat,
    peek: bool,
) -> Reply {
    let gate = &shared.gate;
    let facts = Facts { mac, firmware, stage: Stage::Ipxe, address: peer.address, uuid: None };
    let ruling = match peek {
        // A HEAD only looks: nothing has been offered to who did not read it.
        true => gate.preview(&facts),
        false => gate.script(&facts, Protocol::Http, peer.local).await,
    };
    let script = gate.render(&facts, &ruling, form, peer.local);
    gate.counters.count_answered(Protocol::Http);
    text(StatusCode::OK, script)
}

/// Answers `/api/v1/ipxe/localboot`: the way to the disk, whoever asks.
pub fn local(shared: &Shared, peer: &Peer, query: &Query) -> Reply {
    let mac = query.mac.as_deref().and_then(|mac| mac.parse().ok()).unwrap_or(Mac([0; 6]));
    let facts = Facts { mac, firmware: None, stage: Stage::Ipxe, address: peer.address, uuid: None };
    let host = shared.gate.store.load().host_by_mac(mac).cloned();
    let ruling = Decision::of(Verdict::LocalDisk(Reason::NotAssigned), host);
    text(StatusCode::OK, shared.gate.render(&facts, &ruling, ScriptFormat::Ipxe, peer.local))
}

/// Answers `/boot.ipxe`: the script that comes back with what iPXE knows of its machine.
pub fn hook(shared: &Shared, peer: &Peer) -> Reply {
    shared.gate.counters.count_answered(Protocol::Http);
    text(StatusCode::OK, shared.gate.hook(peer.local))
}

/// Answers `/boot/{mac}/{program}` for firmware that loads over HTTP, and iPXE's question beside it.
pub async fn beside(shared: &Shared, peer: &Peer, mac: &str, file: &[&str], headers: &HeaderMap, peek: bool) -> Reply {
    let Ok(mac) = mac.parse::<Mac>() else {
        shared.gate.counters.count_dropped(Protocol::Http, DropReason::FileNotFound, peer.address);
        return text(StatusCode::NOT_FOUND, "no such boot program\n");
    };
    if file == ["autoexec.ipxe"] {
        return decided(shared, peer, mac, None, ScriptFormat::Autoexec, peek).await;
    }
    let program = file.join("/");
    let reply = stored(shared, peer, &shared.folders.firmware, &program, headers, peek).await;
    if reply.status() == StatusCode::NOT_FOUND && shared.gate.site.gives(&program) {
        let missing = format!("there is no boot program {program} in firmware_dir: run firmware/stage");
        shared.gate.record_refusal(mac, Protocol::Http, Reason::FileNotFound, missing);
    }
    reply
}

/// Answers `/files/PATH`: the site's own files.
pub async fn file(shared: &Shared, peer: &Peer, path: &str, headers: &HeaderMap, peek: bool) -> Reply {
    stored(shared, peer, &shared.folders.files, path, headers, peek).await
}

/// Answers with a file below a directory.
async fn stored(shared: &Shared, peer: &Peer, directory: &Path, name: &str, headers: &HeaderMap, peek: bool) -> Reply {
    let (below, wanted) = (directory.to_owned(), name.to_owned());
    let found = tokio::task::spawn_blocking(move || ImageLibrary::below(&below, &wanted)).await;
    let seen = match found {
        Ok(Ok(Some(seen))) => seen,
        Ok(Ok(None)) => {
            shared.gate.counters.count_dropped(Protocol::Http, DropReason::FileNotFound, peer.address);
            return text(StatusCode::NOT_FOUND, "there is no such file\n");
        }
        Ok(Err(error)) => {
            tracing::warn!(directory = %directory.display(), name, %error, "a file cannot be served");
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read\n");
        }
        Err(_) => return text(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read\n"),
    };
    shared.gate.counters.count_answered(Protocol::Http);
    let mut reply = images::answer(seen, headers, peek);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type(name)));
    reply
}

/// EDK2 knows what to do with a download by its media type, and by its suffix where it has none.
fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, suffix)| suffix) {
        Some("efi") => "application/efi",
        Some("iso") => "application/vnd.efi-iso",
        Some("img") => "application/vnd.efi-img",
        Some("ipxe" | "cfg" | "ks" | "txt") => "text/plain",
        Some("json" | "ign") => "application/json",
        _ => "application/octet-stream",
    }
}
