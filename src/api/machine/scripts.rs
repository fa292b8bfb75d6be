//! Boot scripts, boot programs and files. Every decision in these answers is the gate's.

use std::path::Path;
use std::str::FromStr;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::api::machine::query::Query;
use crate::api::state::Shared;
use crate::boot::{DropReason, Facts, Firmware, Reason, ScriptFormat, Stage, Verdict};
use crate::event::Protocol;
use crate::fleet::Mac;
use crate::gate::Decision;
use crate::http::conditional;
use crate::http::peer::Peer;
use crate::http::reply::{Reply, text};
use crate::images::library::ImageLibrary;

/// Answers `/ipxe?mac=`: the script of the machine that asks.
pub async fn script(shared: &Shared, peer: &Peer, query: &Query, is_head: bool) -> Reply {
    let mac = match query.mac.as_deref().map(Mac::from_str) {
        Some(Ok(mac)) => match mac.rejection_reason() {
            None => mac,
            Some(why) => return refuse(shared, peer, &format!("mac: {mac} {why}")),
        },
        Some(Err(error)) => return refuse(shared, peer, &error.to_string()),
        None => return refuse(shared, peer, "mac: missing; expected ?mac=52:54:00:12:34:56"),
    };
    let may_choose = !is_head && shared.gate.verify_address(mac, peer.address).is_ok();
    let chosen = query.choose.as_deref().and_then(|name| name.parse().ok()).filter(|_| may_choose);
    if let Some(image) = chosen
        && let Err(why) = shared.gate.choose(mac, &image).await
    {
        shared.gate.counters.count_refused(Protocol::Http, why, peer.address);
    }
    decide(shared, peer, mac, query.firmware(), ScriptFormat::Ipxe, is_head).await
}

/// Answers a request that does not say which machine asks.
fn refuse(shared: &Shared, peer: &Peer, message: &str) -> Reply {
    shared.gate.counters.count_dropped(Protocol::Http, DropReason::BadOption, peer.address);
    text(StatusCode::BAD_REQUEST, format!("{message}\n"))
}

/// Answers with the script that the gate decides on.
async fn decide(
    shared: &Shared,
    peer: &Peer,
    mac: Mac,
    firmware: Option<Firmware>,
    format: ScriptFormat,
    is_head: bool,
) -> Reply {
    let gate = &shared.gate;
    let facts = Facts { mac, firmware, stage: Stage::Ipxe, address: peer.address, uuid: None };
    let decision = match is_head {
        // A HEAD offers nothing: nobody reads the script.
        true => gate.preview(&facts),
        false => gate.script(&facts, Protocol::Http, peer.local).await,
    };
    let script = gate.render(&facts, &decision, format, peer.local);
    gate.counters.count_answered(Protocol::Http);
    text(StatusCode::OK, script)
}

/// Answers `/api/v1/ipxe/localboot`: the script that boots the disk, for any machine.
pub fn local_disk(shared: &Shared, peer: &Peer, query: &Query) -> Reply {
    let mac = query.mac.as_deref().and_then(|mac| mac.parse().ok()).unwrap_or(Mac([0; 6]));
    let facts = Facts { mac, firmware: None, stage: Stage::Ipxe, address: peer.address, uuid: None };
    let host = shared.gate.store.load().host_by_mac(mac).cloned();
    let decision = Decision::of(Verdict::LocalDisk(Reason::NotAssigned), host);
    text(StatusCode::OK, shared.gate.render(&facts, &decision, ScriptFormat::Ipxe, peer.local))
}

/// Answers `/boot.ipxe`: the script that asks again with the settings of iPXE, which name the machine.
pub fn bootstrap(shared: &Shared, peer: &Peer) -> Reply {
    shared.gate.counters.count_answered(Protocol::Http);
    text(StatusCode::OK, shared.gate.hook(peer.local))
}

/// Answers `/boot/{mac}/{program}` for firmware that boots over HTTP, and the `autoexec.ipxe` that iPXE then loads.
pub async fn boot_file(
    shared: &Shared,
    peer: &Peer,
    mac: &str,
    file: &[&str],
    headers: &HeaderMap,
    is_head: bool,
) -> Reply {
    let Ok(mac) = mac.parse::<Mac>() else {
        shared.gate.counters.count_dropped(Protocol::Http, DropReason::FileNotFound, peer.address);
        return text(StatusCode::NOT_FOUND, "no such boot program\n");
    };
    if file == ["autoexec.ipxe"] {
        return decide(shared, peer, mac, None, ScriptFormat::Autoexec, is_head).await;
    }
    // EDK2 asks for the length by a HEAD first: it is refused as well.
    let facts = Facts { mac, firmware: None, stage: Stage::Rom, address: peer.address, uuid: None };
    if let Err(reason) = shared.gate.authorize_program(&facts, Protocol::Http) {
        return text(StatusCode::FORBIDDEN, format!("{reason}\n"));
    }
    let program = file.join("/");
    let reply = stored(shared, peer, &shared.folders.firmware, &program, headers, is_head).await;
    if reply.status() == StatusCode::NOT_FOUND && shared.gate.site.gives(&program) {
        let missing = format!("no boot program {program} in firmware_dir: run firmware/stage");
        shared.gate.record_refusal(mac, Protocol::Http, Reason::FileNotFound, missing);
    }
    reply
}

/// Answers `/files/PATH`: files of the configured directory.
pub async fn file(shared: &Shared, peer: &Peer, path: &str, headers: &HeaderMap, is_head: bool) -> Reply {
    stored(shared, peer, &shared.folders.files, path, headers, is_head).await
}

/// Answers with a file below a directory.
async fn stored(
    shared: &Shared,
    peer: &Peer,
    directory: &Path,
    name: &str,
    headers: &HeaderMap,
    is_head: bool,
) -> Reply {
    let (below, wanted) = (directory.to_owned(), name.to_owned());
    let found = tokio::task::spawn_blocking(move || ImageLibrary::below(&below, &wanted)).await;
    let view = match found {
        Ok(Ok(Some(view))) => view,
        Ok(Ok(None)) => {
            shared.gate.counters.count_dropped(Protocol::Http, DropReason::FileNotFound, peer.address);
            return text(StatusCode::NOT_FOUND, "no such file\n");
        }
        Ok(Err(error)) => {
            tracing::warn!(directory = %directory.display(), name, %error, "file read failed");
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the file could not be read\n");
        }
        Err(_) => return text(StatusCode::INTERNAL_SERVER_ERROR, "the file could not be read\n"),
    };
    shared.gate.counters.count_answered(Protocol::Http);
    let mut reply = conditional::answer(view.medium, &view.tag, headers, is_head);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type(name)));
    reply
}

/// Returns the media type of a file. EDK2 chooses by it how to boot a download, and by the suffix where there is none.
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
