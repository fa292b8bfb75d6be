//! Reports of installers about their progress: the webhooks of cloud-init, curtin and Subiquity, and plain ones.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};

use crate::api::machine::configs;
use crate::api::state::Shared;
use crate::boot::installer::{InstallerLine, InstallerSource, LogLevel, installer_failure};
use crate::boot::{ConfigProof, DropReason};
use crate::event::Protocol;
use crate::fleet::Mac;
use crate::http::peer::Peer;
use crate::http::reply::{self, Reply, text};

/// Maximum size of a report, in octets. curtin appends its log to the report of a failure: the rest is left out.
const MAX_REPORT_BYTES: usize = 64 * 1024;
/// Maximum size of a report that is received to its end, so that its sender gets an answer, in octets.
const MAX_RECEIVED_BYTES: usize = 16 * 1024 * 1024;
/// Time for a report to arrive.
const REPORT_TIMEOUT: Duration = Duration::from_secs(15);
/// Number of last lines of an appended log in which the reason of a failure is looked for.
const SEARCHED_LINES: usize = 200;

/// Answers `POST /api/v1/report` and `/api/v1/report/{token}`: a line of the installer for the timeline of its host.
pub async fn report(shared: &Shared, peer: &Peer, token: Option<&str>, body: Incoming) -> Reply {
    let mac = match authenticate(shared, peer, token) {
        Ok(mac) => mac,
        Err(reply) => return *reply,
    };
    match receive(shared, peer, body).await.and_then(|received| record(shared, peer, mac, &received)) {
        Ok(()) => {
            shared.gate.counters.count_answered(Protocol::Http);
            reply::json(StatusCode::OK, &json!({"status": "ok"}))
        }
        Err((reason, message)) => {
            shared.gate.counters.count_dropped(Protocol::Http, reason, peer.address);
            text(code(reason), format!("{message}\n"))
        }
    }
}

/// The reason that a report has no effect, with a message for its sender.
type ReportRefusal = (DropReason, String);

/// Returns the machine that reports: by a good token from any address, else by its address, as for a completed install. A
/// refusal is counted only: a system whose cloud-init reports at each boot would fill the timeline.
fn authenticate(shared: &Shared, peer: &Peer, token: Option<&str>) -> Result<Mac, Box<Reply>> {
    let gate = &shared.gate;
    let good = token.filter(|token| gate.admit(None, Some(token), ConfigProof::Token).is_ok());
    match gate.authenticate(peer.address, good, ConfigProof::of_done(good.is_some())) {
        Ok(client) => Ok(client.facts.mac),
        Err(refusal) => {
            gate.counters.count_refused(Protocol::Http, refusal.reason, peer.address);
            Err(text(configs::code(refusal.reason), format!("{}\n", refusal.reason)).into())
        }
    }
}

/// Returns the status of a report without effect.
fn code(reason: DropReason) -> StatusCode {
    match reason {
        DropReason::RateLimit | DropReason::LineLimit | DropReason::SourceLimit => StatusCode::TOO_MANY_REQUESTS,
        DropReason::NoInstall => StatusCode::NOT_FOUND,
        DropReason::Overload => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// A body as far as it is looked at.
#[derive(Debug)]
struct Received {
    octets: Vec<u8>,
    is_cut: bool,
}

/// Receives a report, as far as it is looked at.
async fn receive(shared: &Shared, peer: &Peer, body: Incoming) -> Result<Received, ReportRefusal> {
    let _place = shared.gate.take_report_place(peer.address).map_err(refusal)?;
    match tokio::time::timeout(REPORT_TIMEOUT, read(body)).await {
        Ok(Some(received)) => Ok(received),
        Ok(None) => Err((DropReason::Truncated, "the body broke off, or is too large".to_owned())),
        Err(_) => Err((DropReason::Truncated, format!("the body took longer than {} s", REPORT_TIMEOUT.as_secs()))),
    }
}

fn refusal(reason: DropReason) -> ReportRefusal {
    (reason, reason.to_string())
}

/// Reads a body to its end and keeps its beginning; returns nothing if it breaks off or does not end.
async fn read(mut body: impl Body<Data = Bytes> + Unpin) -> Option<Received> {
    let (mut octets, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        length += data.len();
        if length > MAX_RECEIVED_BYTES {
            return None;
        }
        octets.extend_from_slice(&data[..data.len().min(MAX_REPORT_BYTES - octets.len())]);
    }
    Some(Received { octets, is_cut: length > MAX_REPORT_BYTES })
}

/// Records the lines of a report.
fn record(shared: &Shared, peer: &Peer, mac: Mac, received: &Received) -> Result<(), ReportRefusal> {
    if received.is_cut {
        shared.gate.counters.count_dropped(Protocol::Http, DropReason::LineTooLong, peer.address);
    }
    let report = parse(received).ok_or((DropReason::BadOption, "the body is not a JSON object".to_owned()))?;
    let lines = lines(&report).map_err(|message| (DropReason::BadOption, message.to_owned()))?;
    for line in lines {
        shared.gate.record_installer_line(mac, line, false).map_err(refusal)?;
    }
    Ok(())
}

/// Parses a report. One that was cut has the fields before the cut.
fn parse(received: &Received) -> Option<Map<String, Value>> {
    let mut fields = Map::new();
    let mut from = serde_json::Deserializer::from_slice(&received.octets);
    let read = from.deserialize_map(FieldCollector(&mut fields)).and_then(|()| from.end());
    (read.is_ok() || received.is_cut && !fields.is_empty()).then_some(fields)
}

/// Collects the fields of an object up to an error.
struct FieldCollector<'a>(&'a mut Map<String, Value>);

impl<'de> Visitor<'de> for FieldCollector<'_> {
    type Value = ();

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry()? {
            self.0.insert(name, value);
        }
        Ok(())
    }
}

/// Returns the lines that a report stands for: one, and another one if an appended log says why a step failed.
///
/// # Errors
/// What is missing.
fn lines(report: &Map<String, Value>) -> Result<Vec<InstallerLine>, &'static str> {
    const EXPECTED: &str = "expected {\"stage\", \"message\"}, or an event of cloud-init, curtin or Subiquity: {\"name\", \
                            \"description\", \"event_type\"}";
    let field = |name: &str| report.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let level = field("level").and_then(LogLevel::from_word);
    if let Some(message) = field("message") {
        let (source, stage) = (InstallerSource::Report, field("stage").or(field("name")).map(str::to_owned));
        return Ok(vec![InstallerLine { source, stage, level, message: message.to_owned() }]);
    }
    let (Some(name), Some(event)) = (field("name"), field("event_type")) else { return Err(EXPECTED) };
    let result = field("result").unwrap_or_default();
    let what = match (event, result) {
        ("start", _) => "started: ",
        ("finish", "FAIL") => "failed: ",
        ("finish", "WARN") => "finished with warnings: ",
        ("finish", _) => "finished: ",
        _ => "",
    };
    let by_result = match result {
        "FAIL" => Some(LogLevel::Err),
        "WARN" => Some(LogLevel::Warning),
        _ => None,
    };
    // The more severe of the two; of a step that went well, its own.
    let level = by_result.into_iter().chain(level).min();
    let source = source(field("origin").unwrap_or_default(), name);
    let message = format!("{what}{}", field("description").unwrap_or(name));
    let line = InstallerLine { source, stage: Some(name.to_owned()), level, message };
    let reason = (result == "FAIL").then(|| reason_in_logs(source, report)).flatten();
    Ok(reason.into_iter().chain([line]).collect())
}

/// Returns the reporter of an event. Subiquity reports by curtin's reporter, under names of its own.
fn source(origin: &str, name: &str) -> InstallerSource {
    match origin {
        _ if name.split('/').next() == Some("subiquity") => InstallerSource::Subiquity,
        "curtin" => InstallerSource::Curtin,
        "cloudinit" | "cloud-init" => InstallerSource::CloudInit,
        "subiquity" => InstallerSource::Subiquity,
        _ => InstallerSource::Report,
    }
}

/// Returns the last line of an appended log that says why the step failed.
fn reason_in_logs(source: InstallerSource, report: &Map<String, Value>) -> Option<InstallerLine> {
    let files = report.get("files")?.as_array()?;
    files.iter().find_map(|file| {
        let stage = file["path"].as_str()?.rsplit('/').next()?.to_owned();
        let content = file["content"].as_str().filter(|_| file["encoding"] == "base64")?;
        let content = STANDARD.decode(content).ok()?;
        let content = String::from_utf8_lossy(&content);
        let lines = content.lines().rev().take(SEARCHED_LINES).map(|message| {
            let (stage, message) = (Some(stage.clone()), message.trim().to_owned());
            InstallerLine { source, stage, level: Some(LogLevel::Info), message }
        });
        let mut reasons = lines.filter(|line| installer_failure(line).is_some_and(|failure| failure.is_specific()));
        reasons.next().map(|line| InstallerLine { level: Some(LogLevel::Err), ..line })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::{ApiFixture, VM, host, peer, status_and_text};
    use crate::event::Event;
    use crate::fleet::Kind;
    use crate::http::peer::Serves;

    async fn offered() -> ApiFixture {
        let fixture = ApiFixture::new();
        fixture.put_image(b"the bytes of an image", &[]).await;
        fixture.put(Kind::BareMetalHost, host(json!({"image": "live"}))).await;
        fixture.machine("GET", &format!("/ipxe?mac={VM}")).await;
        fixture
    }

    fn event(name: &str, event_type: &str, more: Value) -> String {
        let mut event = json!({"name": name, "description": "doing it", "event_type": event_type, "timestamp": 1.5});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event.to_string()
    }

    async fn reported(fixture: &ApiFixture, body: &str) -> (u16, String) {
        let reply = fixture
            .send(Serves::Everything, peer(crate::api::fixture::VM_ADDRESS), "POST", "/api/v1/report", &[], body)
            .await;
        let (status, text) = status_and_text(&reply);
        (status, text.to_owned())
    }

    fn line(source: InstallerSource, stage: &str, level: Option<LogLevel>, message: &str) -> InstallerLine {
        let stage = Some(stage.to_owned()).filter(|stage| !stage.is_empty());
        InstallerLine { source, stage, level, message: message.to_owned() }
    }

    #[test]
    fn events_of_every_reporter_are_understood() {
        use InstallerSource::*;
        let log = STANDARD.encode("one\nE: Unable to locate package nosuch\nlast\n");
        let files = json!([{"path": "/var/log/curtin/install.log", "encoding": "base64", "content": log}]);
        let fail = |more: Value| event("cmd-install", "finish", more);
        let rows = [
            (
                event("init-local", "start", json!({"origin": "cloudinit"})),
                vec![line(CloudInit, "init-local", None, "started: doing it")],
            ),
            (
                event("a/b", "finish", json!({"origin": "curtin", "level": "DEBUG", "result": "SUCCESS"})),
                vec![line(Curtin, "a/b", Some(LogLevel::Debug), "finished: doing it")],
            ),
            (
                event("subiquity/Install", "finish", json!({"origin": "curtin", "level": "INFO", "result": "FAIL"})),
                vec![line(Subiquity, "subiquity/Install", Some(LogLevel::Err), "failed: doing it")],
            ),
            (
                fail(json!({"result": "WARN"})),
                vec![line(Report, "cmd-install", Some(LogLevel::Warning), "finished with warnings: doing it")],
            ),
            (
                fail(json!({"origin": "curtin", "result": "FAIL", "files": files})),
                vec![
                    line(Curtin, "install.log", Some(LogLevel::Err), "E: Unable to locate package nosuch"),
                    line(Curtin, "cmd-install", Some(LogLevel::Err), "failed: doing it"),
                ],
            ),
            (event("x", "start", json!({"description": ""})), vec![line(Report, "x", None, "started: x")]),
            (
                json!({"stage": "disk", "message": "formatting", "level": "warning"}).to_string(),
                vec![line(Report, "disk", Some(LogLevel::Warning), "formatting")],
            ),
            (json!({"message": "formatting"}).to_string(), vec![line(Report, "", None, "formatting")]),
        ];
        for (body, expected) in rows {
            let received = Received { octets: body.clone().into_bytes(), is_cut: false };
            assert_eq!(lines(&parse(&received).unwrap()), Ok(expected), "{body}");
        }
        for body in ["{}", "{\"stage\": \"a\"}", "{\"name\": \"a\"}", "{\"message\": 5}"] {
            let received = Received { octets: body.into(), is_cut: false };
            assert!(lines(&parse(&received).unwrap()).is_err(), "{body}");
        }
    }

    #[test]
    fn of_a_report_that_was_cut_the_fields_before_the_cut_count() {
        let whole =
            event("cmd-install", "finish", json!({"origin": "curtin", "result": "FAIL", "files": ["x".repeat(100)]}));
        let cut = |length: usize, is_cut| parse(&Received { octets: whole.as_bytes()[..length].to_vec(), is_cut });
        let found = lines(&cut(whole.len() - 50, true).unwrap()).unwrap();
        assert_eq!(found, [line(InstallerSource::Curtin, "cmd-install", Some(LogLevel::Err), "failed: doing it")]);
        assert_eq!(cut(whole.len() - 50, false), None);
        assert_eq!(cut(0, true), None);
    }

    #[tokio::test]
    async fn a_report_is_in_the_timeline_of_its_machine() {
        let fixture = offered().await;
        assert_eq!(reported(&fixture, &json!({"stage": "disk", "message": "formatting"}).to_string()).await.0, 200);
        let gate = &fixture.shared.gate;
        let last = gate.last_installer_line(VM).unwrap().line;
        assert_eq!(last, line(InstallerSource::Report, "disk", None, "formatting"));
        let expected = Event::from(last);
        while !gate.store.timeline(Some(VM), 100).unwrap().iter().any(|entry| entry.event == expected) {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.counters.installer_lines(InstallerSource::Report), 1);
    }

    #[tokio::test]
    async fn a_token_is_proof_from_any_address_and_nothing_else_is() {
        let fixture = offered().await;
        let token = fixture.shared.gate.tokens.of(&fixture.shared.gate.store.load().host_by_mac(VM).unwrap());
        let body = json!({"message": "hello"}).to_string();
        let send = async |path: String| {
            let stranger = peer([10, 77, 0, 99]);
            fixture.send(Serves::Everything, stranger, "POST", &path, &[], &body).await.status().as_u16()
        };
        assert_eq!(send(format!("/api/v1/report/{token}")).await, 200);
        assert_eq!(send(format!("/api/v1/report?token={token}")).await, 200);
        let (start, last) = token.split_at(43);
        let forged = if last == "0" { "1" } else { "0" };
        assert_eq!(send(format!("/api/v1/report/{start}{forged}")).await, 404);
        assert_eq!(send("/api/v1/report".into()).await, 404);
        let before = fixture.shared.gate.counters.installer_lines(InstallerSource::Report);
        assert_eq!(before, 2);
    }

    #[tokio::test]
    async fn bad_bodies_browsers_and_hosts_without_an_install_are_refused() {
        let fixture = offered().await;
        for (body, expected) in [("", 400), ("[]", 400), ("{\"a\": 1}", 400), ("{\"message\"", 400)] {
            assert_eq!(reported(&fixture, body).await.0, expected, "{body}");
        }
        assert_eq!(fixture.shared.gate.counters.dropped(Protocol::Http, DropReason::BadOption), 4);
        let origin = [(hyper::header::ORIGIN, "http://evil.example")];
        let client = peer(crate::api::fixture::VM_ADDRESS);
        let reply =
            fixture.send(Serves::Everything, client, "POST", "/api/v1/report", &origin, "{\"message\":\"x\"}").await;
        assert_eq!(reply.status(), StatusCode::FORBIDDEN);
        let other = ApiFixture::new();
        other.put(Kind::BareMetalHost, host(json!({}))).await;
        assert_eq!(reported(&other, "{\"message\":\"x\"}").await.0, 404);
        assert_eq!(other.shared.gate.counters.dropped(Protocol::Http, DropReason::NoInstall), 1);
    }

    #[tokio::test]
    async fn a_long_report_is_cut_and_a_flood_is_refused() {
        let fixture = offered().await;
        let files = json!({"origin": "curtin", "result": "FAIL", "files": ["x".repeat(2 * MAX_REPORT_BYTES)]});
        assert_eq!(reported(&fixture, &event("cmd-install", "finish", files)).await.0, 200);
        assert_eq!(fixture.shared.gate.counters.dropped(Protocol::Http, DropReason::LineTooLong), 1);
        let last = fixture.shared.gate.last_installer_failure(VM).unwrap();
        assert_eq!(last.line.message, "failed: doing it");
        let mut refused = 0;
        for number in 0..300 {
            refused +=
                usize::from(reported(&fixture, &json!({"message": number.to_string()}).to_string()).await.0 == 429);
        }
        assert!(refused > 100, "{refused}");
    }
}
