//! Boot scripts, boot programs and files. Every decision in these answers is the gate's.

use std::io::ErrorKind;
use std::str::FromStr;
use std::time::Instant;

use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::api::machine::query::Query;
use crate::api::machine::{downloads, images};
use crate::api::state::Shared;
use crate::boot::diagnosis::{DownloadKind, Step};
use crate::boot::{DropReason, Facts, Firmware, Reason, ScriptFormat, Stage, Verdict};
use crate::event::Protocol;
use crate::fleet::{Mac, Name};
use crate::gate::HostDecision;
use crate::http::conditional;
use crate::http::peer::Peer;
use crate::http::reply::{RepeatedContent, Reply, text};
use crate::images::library::ImageView;

/// Answers `/ipxe?mac=`: the script of the machine that asks.
pub async fn script(shared: &Shared, peer: &Peer, query: &Query, is_head: bool) -> Reply {
    let mac = match query.mac.as_deref().map(Mac::from_str) {
        Some(Ok(mac)) => match mac.rejection_reason() {
            None => mac,
            Some(reason) => return refuse(shared, peer, &format!("mac: {mac} {reason}")),
        },
        Some(Err(error)) => return refuse(shared, peer, &error.to_string()),
        None => return refuse(shared, peer, "mac: missing; expected ?mac=52:54:00:12:34:56"),
    };
    let choice = query.choose.as_deref().and_then(|name| name.parse::<Name>().ok());
    let uuid = query.uuid.as_deref().and_then(|uuid| uuid.parse().ok());
    let facts = Facts { uuid, ..facts(peer, mac, query.firmware()) };
    if let Some((command, errno)) = query.failure() {
        shared.gate.trace_script_failure(&facts, command, errno);
    }
    if !is_head {
        shared.gate.record_hardware(&facts, &query.hardware()).await;
    }
    answer_script(shared, peer, &facts, choice.as_ref(), ScriptFormat::Ipxe, is_head).await
}

/// Answers `/ipxe/failed?mac=`: the script of a machine reports its hardware, or that a command failed before iPXE ends.
pub async fn failed(shared: &Shared, peer: &Peer, query: &Query) -> Reply {
    let Some(mac) = query.mac.as_deref().and_then(|mac| mac.parse::<Mac>().ok()) else {
        return refuse(shared, peer, "mac: missing or invalid; expected ?mac=52:54:00:12:34:56");
    };
    let facts = facts(peer, mac, None);
    shared.gate.record_hardware(&facts, &query.hardware()).await;
    if let Some((command, errno)) = query.failure() {
        shared.gate.trace_script_failure(&facts, command, errno);
    }
    shared.gate.counters.count_answered(Protocol::Http);
    text(StatusCode::OK, "")
}

/// Answers a request that does not say which machine asks.
fn refuse(shared: &Shared, peer: &Peer, message: &str) -> Reply {
    shared.gate.counters.count_dropped(Protocol::Http, DropReason::BadOption, peer.address);
    text(StatusCode::BAD_REQUEST, format!("{message}\n"))
}

fn facts(peer: &Peer, mac: Mac, firmware: Option<Firmware>) -> Facts {
    Facts { mac, firmware, stage: Stage::Ipxe, address: peer.address, uuid: None }
}

/// Answers with the script that the gate decides on.
async fn answer_script(
    shared: &Shared,
    peer: &Peer,
    facts: &Facts,
    choice: Option<&Name>,
    format: ScriptFormat,
    is_head: bool,
) -> Reply {
    let gate = &shared.gate;
    let decision = match is_head {
        // A HEAD offers nothing: nobody reads the script.
        true => gate.preview(facts),
        false => {
            let decided = gate.script(facts, choice, Protocol::Http, peer.local).await;
            gate.trace_script(facts, &decided, format);
            gate.note_untied_script(facts, &decided);
            decided
        }
    };
    let script = gate.render(facts, &decision, format, peer.local);
    gate.counters.count_answered(Protocol::Http);
    text(StatusCode::OK, script)
}

/// Answers `/api/v1/ipxe/localboot`: the script that boots the disk, for any machine.
pub fn local_disk(shared: &Shared, peer: &Peer, query: &Query) -> Reply {
    let mac = query.mac.as_deref().and_then(|mac| mac.parse().ok()).unwrap_or(Mac([0; 6]));
    let facts = Facts { mac, firmware: None, stage: Stage::Ipxe, address: peer.address, uuid: None };
    let host = shared.gate.store.load().host_by_mac(mac);
    let decision = HostDecision::untied(Verdict::LocalDisk(Reason::NotAssigned), host);
    text(StatusCode::OK, shared.gate.render(&facts, &decision, ScriptFormat::Ipxe, peer.local))
}

/// Answers `/boot.ipxe`: the script that asks again with the settings of iPXE, which name the machine.
pub fn bootstrap(shared: &Shared, peer: &Peer) -> Reply {
    shared.gate.counters.count_answered(Protocol::Http);
    text(StatusCode::OK, shared.gate.bootstrap_script(peer.local))
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
        return answer_script(shared, peer, &facts(peer, mac, None), None, ScriptFormat::Autoexec, is_head).await;
    }
    // EDK2 asks for the length by a HEAD first: it is refused as well.
    let facts = Facts { mac, firmware: None, stage: Stage::Rom, address: peer.address, uuid: None };
    if let Err(reason) = shared.gate.authorize_program(&facts, Protocol::Http) {
        return text(StatusCode::FORBIDDEN, format!("{reason}\n"));
    }
    let program = file.join("/");
    let reply = stored(shared, peer, shared.folders.firmware.find(&program).await, &program, headers, is_head);
    if reply.status().is_success() {
        let size = reply.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if is_head {
            let (file, size) = (program.as_str().into(), size.unwrap_or_default());
            shared.gate.trace(mac, Step::HeadRequested { file, size });
        } else {
            return downloads::follow(shared, mac, (&program, DownloadKind::Program), headers, reply);
        }
    }
    if reply.status() == StatusCode::NOT_FOUND && shared.gate.site().has_program(&program) {
        let missing =
            format!("no boot program {program} in firmware_dir: install bootlatch-firmware, or run firmware/stage");
        shared.gate.record_refusal(mac, Protocol::Http, Reason::FileNotFound, missing);
    }
    reply
}

/// Answers `/files/PATH`: files of the configured directory.
pub async fn file(shared: &Shared, peer: &Peer, path: &str, headers: &HeaderMap, is_head: bool) -> Reply {
    let reply = stored(shared, peer, shared.folders.files.find(path).await, path, headers, is_head);
    match is_head || !reply.status().is_success() {
        true => reply,
        false => downloads::follow_file(shared, peer.address, path, headers, reply),
    }
}

/// Returns the part that a Range header selects of a file of the configured directory, or all of it; `None` if the file must
/// be looked up on a thread that may wait, or if the reply to a range is not a part.
pub fn recall_file(shared: &Shared, path: &str, range: Option<&str>, now: Instant) -> Option<RepeatedContent> {
    let view = shared.folders.files.try_open(path, now).ok()??;
    images::content(shared, view, Some(media_type(path)), range)
}

/// Answers with a file that was looked up.
fn stored(
    shared: &Shared,
    peer: &Peer,
    found: std::io::Result<Option<ImageView>>,
    name: &str,
    headers: &HeaderMap,
    is_head: bool,
) -> Reply {
    let view = match found {
        Ok(Some(view)) => view,
        Ok(None) => {
            shared.gate.counters.count_dropped(Protocol::Http, DropReason::FileNotFound, peer.address);
            return text(StatusCode::NOT_FOUND, "no such file\n");
        }
        // Any client can ask for such a file at any rate.
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            tracing::debug!(name, %error, "file read failed");
            return images::unavailable("the file cannot be read now\n".to_owned());
        }
        Err(error) => {
            tracing::warn!(name, %error, "file read failed");
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the file could not be read\n");
        }
    };
    shared.gate.counters.count_answered(Protocol::Http);
    let mut reply = conditional::answer(view.medium, &view.tag, headers, is_head);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type(name)));
    reply
}

/// Returns the media type of a file. EDK2 decides by it how to boot a download, and without one by the suffix.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::fixture::{ApiFixture, VM, host, status_and_text};
    use crate::event::Event;
    use crate::fleet::lifecycle::Transition;
    use crate::fleet::{Kind, Phase};
    use crate::store::{Change, Observation};

    async fn assigned() -> ApiFixture {
        let fixture = ApiFixture::new();
        fixture.put_image(b"the bytes of an image", &[]).await;
        fixture.put(Kind::BareMetalHost, host(json!({"image": "live"}))).await;
        fixture
    }

    async fn hold(fixture: &ApiFixture) {
        let change =
            Change::Advance { mac: VM, transition: Transition::Hold, observation: Observation::default(), event: None };
        fixture.shared.gate.store.commit(change).await.unwrap();
    }

    #[tokio::test]
    async fn a_machine_must_say_which_it_is() {
        let fixture = ApiFixture::new();
        for query in ["", "?mac=x", "?mac=00:00:00:00:00:00", "?mac=ff:ff:ff:ff:ff:ff", "?platform=efi"] {
            let reply = fixture.machine("GET", &format!("/ipxe{query}")).await;
            assert_eq!(status_and_text(&reply).0, 400, "{query}");
        }
        assert_eq!(fixture.shared.gate.counters.dropped(Protocol::Http, DropReason::BadOption), 5);
    }

    #[tokio::test]
    async fn a_script_starts_the_install_and_a_head_does_not() {
        let fixture = assigned().await;
        let path = format!("/ipxe?mac={VM}&platform=efi&buildarch=x86_64");
        let head = fixture.machine("HEAD", &path).await;
        assert_eq!((head.status(), fixture.phase()), (StatusCode::OK, Phase::Assigned));
        let reply = fixture.machine("GET", &path).await;
        let (status, script) = status_and_text(&reply);
        assert!(status == 200 && script.starts_with("#!ipxe") && script.contains("live"), "{script}");
        assert_eq!(fixture.phase(), Phase::Offered);
    }

    #[tokio::test]
    async fn an_unknown_machine_is_enrolled_by_the_rules() {
        let fixture = ApiFixture::new();
        let reply = fixture.machine("GET", &format!("/ipxe?mac={VM}")).await;
        assert_eq!(reply.status(), StatusCode::OK);
        assert_eq!(fixture.phase(), Phase::Held);
    }

    #[tokio::test]
    async fn a_held_host_gets_no_boot_program() {
        let fixture = assigned().await;
        fixture.write("firmware/snponly.efi", b"a program");
        let path = format!("/boot/{VM}/snponly.efi");
        let reply = fixture.machine("GET", &path).await;
        assert_eq!(status_and_text(&reply), (200, "a program"));
        assert_eq!(reply.headers()["content-type"], "application/efi");
        hold(&fixture).await;
        for method in ["GET", "HEAD"] {
            let reply = fixture.machine(method, &path).await;
            assert_eq!(reply.status(), StatusCode::FORBIDDEN, "{method}");
        }
        let reply = fixture.machine("GET", &path).await;
        assert_eq!(status_and_text(&reply), (403, &*format!("{}\n", Reason::Held)));
        assert_eq!(fixture.shared.gate.counters.refused(Protocol::Http, Reason::Held), 3);
    }

    #[tokio::test]
    async fn a_boot_program_is_followed_with_the_agents_name() {
        use crate::boot::diagnosis::{Download, DownloadOutcome};
        use hyper::header::USER_AGENT;
        let fixture = assigned().await;
        fixture.write("firmware/snponly.efi", b"a program");
        let (path, agent) = (format!("/boot/{VM}/snponly.efi"), [(USER_AGENT, "UefiHttpBoot/1.0")]);
        let head = fixture.machine("HEAD", &path).await;
        assert_eq!(head.status(), StatusCode::OK);
        let reply = fixture
            .send(
                crate::http::peer::Serves::Machines,
                crate::api::fixture::peer([10, 77, 0, 10]),
                "GET",
                &path,
                &agent,
                "",
            )
            .await;
        assert_eq!(status_and_text(&reply), (200, "a program"));
        let steps = fixture.shared.gate.traces.look_up(VM).unwrap().steps;
        let steps: Vec<_> = steps.into_iter().map(|evidence| evidence.step).collect();
        let download = Download {
            file: "snponly.efi".into(),
            kind: DownloadKind::Program,
            outcome: DownloadOutcome::Complete,
            octets: 9,
            size: 9,
            agent: "UefiHttpBoot/1.0".into(),
        };
        let head = Step::HeadRequested { file: "snponly.efi".into(), size: 9 };
        assert_eq!(steps[steps.len() - 2..], [head, Step::Download(Box::new(download))]);
    }

    #[tokio::test]
    async fn a_boot_program_that_is_not_staged_is_recorded() {
        let fixture = assigned().await;
        for (path, status) in [("x.efi", 404), ("snponly.efi", 404), ("../admin.token", 404)] {
            let reply = fixture.machine("GET", &format!("/boot/{VM}/{path}")).await;
            assert_eq!(status_and_text(&reply).0, status, "{path}");
        }
        assert_eq!(fixture.machine("GET", "/boot/x/snponly.efi").await.status(), StatusCode::NOT_FOUND);
        let store = &fixture.shared.gate.store;
        // The timeline's entries are written behind the commits, in order.
        fixture.put(Kind::BareMetalHost, host(json!({"image": "live"}))).await;
        let entries = store.timeline(Some(VM), 10).unwrap();
        let refused: Vec<_> = entries
            .iter()
            .filter_map(|entry| match &entry.event {
                Event::Refused { reason, message, .. } => Some((*reason, message.clone())),
                _ => None,
            })
            .collect();
        let message =
            "no boot program snponly.efi in firmware_dir: install bootlatch-firmware, or run firmware/stage".to_owned();
        assert_eq!(refused, [(Reason::FileNotFound, message)]);
    }

    #[tokio::test]
    async fn files_have_their_media_type_and_stay_in_their_directory() {
        let fixture = ApiFixture::new();
        fixture.write("files/a.json", b"{}");
        let reply = fixture.machine("GET", "/files/a.json").await;
        assert_eq!(status_and_text(&reply), (200, "{}"));
        assert_eq!(reply.headers()["content-type"], "application/json");
        for path in ["/files/b", "/files/../admin.token", "/files/%2e%2e/admin.token"] {
            assert_eq!(fixture.machine("GET", path).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[tokio::test]
    async fn files_that_a_machine_boots_from_are_followed() {
        use crate::boot::diagnosis::{DownloadOutcome, ScriptStep};
        use hyper::header::RANGE;
        let fixture = assigned().await;
        fixture.write("files/vmlinuz", b"a kernel");
        let steps = || fixture.shared.gate.traces.look_up(VM).map(|machine| machine.steps).unwrap_or_default();
        let client = || crate::api::fixture::peer([10, 77, 0, 10]);
        let get = async |range: &str| {
            let headers = [(RANGE, range)];
            let headers = if range.is_empty() { &[][..] } else { &headers[..] };
            fixture.send(crate::http::peer::Serves::Machines, client(), "GET", "/files/vmlinuz", headers, "").await
        };
        get("").await;
        assert!(steps().is_empty(), "nothing was seen of a boot");
        fixture.shared.gate.trace(VM, Step::Script { action: ScriptStep::Load });
        get("").await;
        let Step::Download(download) = &steps()[1].step else { panic!("{:?}", steps()) };
        let found = (&*download.file, download.kind, download.outcome, download.octets);
        assert_eq!(found, ("vmlinuz", DownloadKind::Image, DownloadOutcome::Complete, 8));
        for octets in [2, 4] {
            assert_eq!(get("bytes=0-1").await.status(), StatusCode::PARTIAL_CONTENT);
            assert_eq!(steps()[2].step, Step::Read { octets, is_over: false }, "parts are added up");
        }
        fixture.shared.gate.trace(VM, Step::InstallerActive);
        get("").await;
        assert_eq!(steps()[2].step, Step::Read { octets: 12, is_over: false }, "the installer is alive");
        assert_eq!(steps().len(), 4);
    }

    #[tokio::test]
    async fn scripts_without_a_decision_are_the_same_for_all() {
        let fixture = ApiFixture::new();
        for path in ["/boot.ipxe", "/api/v1/ipxe/localboot"] {
            let reply = fixture.machine("GET", path).await;
            let (status, script) = status_and_text(&reply);
            assert!(status == 200 && script.starts_with("#!ipxe"), "{path}: {script}");
        }
        assert_eq!(fixture.shared.gate.store.load().hosts().count(), 0);
    }
}
