//! The TFTP adapter over a store in a temporary directory.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc;

use nix::sys::eventfd::{EfdFlags, EventFd};
use serde_json::json;

use super::*;
use crate::boot::Reason;
use crate::fleet::Phase;
use crate::gate::fixture::{Fixture, VM};
use crate::tftp::options::{OptionLimits, RequestedOptions};
use crate::tftp::serve::table::SessionTable;

const ADDRESS: [u8; 4] = [10, 77, 0, 50];

fn boot_files(fixture: &Fixture) -> Arc<BootFiles> {
    let programs = ProgramCache::from([("snponly.efi".to_owned(), Bytes::from_static(b"program"))]);
    Arc::new(BootFiles { gate: fixture.gate.clone(), programs, folders: Vec::new(), packaged: Vec::new() })
}

fn requested(name: &str) -> Arc<RequestedFile> {
    Arc::new(RequestedFile::parse(name.as_bytes()).unwrap())
}

/// Returns the answer to a request for a file.
async fn request(fixture: &Fixture, name: &str) -> FileAnswer {
    let files = boot_files(fixture);
    let peer = SocketAddr::from((ADDRESS, 2070));
    let request = TransferRequest {
        peer,
        local: [10, 77, 0, 2].into(),
        service: Some([10, 77, 0, 2].into()),
        asked: requested(name),
    };
    answered(|responder| files.answer(&tokio::runtime::Handle::current(), &request, responder)).await
}

/// Acknowledges the first packet of a script, and returns whether the rest of it may leave.
async fn acknowledge(answer: FileAnswer) -> Result<(), &'static str> {
    let FileAnswer::Confirmable(_, FirstAck(run)) = answer else { panic!("{answer:?}") };
    let (sender, outcome) = tokio::sync::oneshot::channel();
    run(Box::new(move |done| sender.send(done).unwrap()));
    outcome.await.unwrap()
}

/// Returns what a responder is answered.
async fn answered(run: impl FnOnce(Responder)) -> FileAnswer {
    let (sender, answers) = mpsc::channel();
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap());
    run(Responder::new(SessionTable::default().insert(()), wake, sender));
    loop {
        match answers.try_recv() {
            Ok((_, answer)) => return answer,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

fn text(answer: &FileAnswer) -> String {
    match answer {
        FileAnswer::Content(content) | FileAnswer::Confirmable(content, _) => {
            String::from_utf8(content.part(0..content.size()).unwrap().to_vec()).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_assigned_host_gets_its_program_and_a_script_that_counts_when_it_is_acknowledged() {
    let fixture = Fixture::new("hold");
    fixture.put_vm(json!({"ip": "10.77.0.50"})).await;
    assert_eq!(text(&request(&fixture, "52-54-00-12-34-56/snponly.efi").await), "program");
    assert_eq!(fixture.vm().status.phase, Phase::Assigned, "a program is no offer of an install");
    let answer = request(&fixture, "52-54-00-12-34-56/autoexec.ipxe").await;
    let script = text(&answer);
    assert!(script.contains("iscsi:"), "{script}");
    assert_eq!(fixture.vm().status.phase, Phase::Assigned, "anybody can send a request");
    assert_eq!(acknowledge(answer).await, Ok(()));
    assert_eq!(fixture.vm().status.phase, Phase::Offered, "the offer is stored before the rest of the script leaves");
}

#[tokio::test]
async fn a_script_to_an_address_that_nothing_ties_counts_for_nothing() {
    let fixture = Fixture::new("hold");
    fixture.put_vm(json!({})).await;
    let answer = request(&fixture, "52-54-00-12-34-56/autoexec.ipxe").await;
    assert!(matches!(answer, FileAnswer::Content(_)) && text(&answer).contains("iscsi:"), "{answer:?}");
    assert_eq!(fixture.vm().status.phase, Phase::Assigned);
}

#[tokio::test]
async fn without_the_store_no_script_leaves_after_its_first_acknowledgement() {
    let fixture = Fixture::new("hold");
    fixture.put_vm(json!({"ip": "10.77.0.50"})).await;
    fixture.break_store();
    let answer = request(&fixture, "52-54-00-12-34-56/autoexec.ipxe").await;
    let refused = acknowledge(answer).await;
    assert_eq!(refused, Err(Reason::StoreUnavailable.sentence()), "the rest of the script does not leave");
    assert_eq!(fixture.vm().status.phase, Phase::Assigned);
}

#[tokio::test]
async fn a_held_host_is_refused_its_program() {
    let fixture = Fixture::new("hold");
    let facts = Facts { mac: VM, firmware: None, stage: Stage::Rom, address: None, uuid: None };
    fixture.gate.decide_and_enrol(&facts).await;
    let answer = request(&fixture, "52-54-00-12-34-56/snponly.efi").await;
    assert!(matches!(answer, FileAnswer::Refused(_)), "{answer:?}");
    assert_eq!(fixture.gate.counters.refused(Protocol::Tftp, Reason::Held), 1);
}

#[tokio::test]
async fn an_unknown_file_is_not_found() {
    let fixture = Fixture::new("hold");
    assert!(matches!(request(&fixture, "nothing").await, FileAnswer::NotFound));
    assert!(matches!(request(&fixture, "iso/live/vmlinuz").await, FileAnswer::NotFound));
}

#[tokio::test]
async fn reports_of_the_server_are_counted_and_recorded() {
    let fixture = Fixture::new("hold");
    fixture.put_vm(json!({"ip": "10.77.0.50"})).await;
    let (gate, peer) = (&fixture.gate, SocketAddr::from((ADDRESS, 2070)));
    let progressed = Mutex::new(Vec::new());
    let on_progress = |mac| progressed.lock().unwrap().push(mac);
    let asked = requested("52-54-00-12-34-56/snponly.efi");
    let record = |report| record_report(gate, &on_progress, report);
    record(TransferReport::Started { peer, asked: asked.clone(), size: 7 });
    let how = TransferEnd::Peer(Ending::Complete);
    let took = Duration::from_millis(3);
    record(TransferReport::Ended {
        peer,
        asked: asked.clone(),
        how,
        octets: 7,
        size: 7,
        message: None,
        took,
        resent: 1,
        granted: NegotiatedOptions::new(RequestedOptions::default(), OptionLimits::of_mtu(1500, false)),
    });
    record(TransferReport::Refused { peer, asked: Some(asked), why: FileRefusal::NotFound });
    record(TransferReport::Dropped { peer: Some(peer), why: DropCause::Stray });
    assert_eq!(*progressed.lock().unwrap(), [VM]);
    assert_eq!(fixture.gate.counters.answered(Protocol::Tftp), 1);
    assert_eq!(fixture.gate.counters.dropped(Protocol::Tftp, DropReason::FileNotFound), 1);
    assert_eq!(fixture.gate.counters.dropped(Protocol::Tftp, DropReason::NoTransfer), 1);
    let events: Vec<_> = fixture.timeline(4).await.into_iter().map(|entry| entry.event).collect();
    assert!(matches!(events[1], Event::TftpStarted { .. }), "{events:?}");
    assert!(matches!(events[2], Event::TftpCompleted { bytes: 7, milliseconds: 3, resent: 1, .. }), "{events:?}");
    assert!(matches!(events[3], Event::Refused { .. }), "{events:?}");
}
