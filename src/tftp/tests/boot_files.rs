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
use crate::tftp::serve::table::SessionTable;

const ADDRESS: [u8; 4] = [10, 77, 0, 50];

fn boot_files(fixture: &Fixture) -> Arc<BootFiles> {
    let programs = ProgramCache::from([("snponly.efi".to_owned(), Bytes::from_static(b"program"))]);
    let service_addresses = vec![IpAddr::from([10, 77, 0, 2])];
    Arc::new(BootFiles { gate: fixture.gate.clone(), programs, folders: Vec::new(), service_addresses })
}

fn requested(name: &str) -> Arc<RequestedFile> {
    Arc::new(RequestedFile::parse(name.as_bytes()).unwrap())
}

/// Returns the answer to a request for a file.
async fn request(fixture: &Fixture, name: &str) -> FileAnswer {
    let files = boot_files(fixture);
    let (sender, answers) = mpsc::channel();
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap());
    let responder = Responder::new(SessionTable::default().insert(()), wake, sender);
    let peer = SocketAddr::from((ADDRESS, 2070));
    let request = TransferRequest { peer, local: [10, 77, 0, 2].into(), listener: 0, asked: requested(name) };
    files.answer(&tokio::runtime::Handle::current(), &request, responder);
    loop {
        match answers.try_recv() {
            Ok((_, answer)) => return answer,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

fn text(answer: &FileAnswer) -> String {
    match answer {
        FileAnswer::Content(content) => String::from_utf8(content.part(0..content.size()).unwrap().to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_assigned_host_gets_its_program_and_a_script_that_is_recorded_first() {
    let fixture = Fixture::new("hold");
    fixture.put_vm(json!({"ip": "10.77.0.50"})).await;
    assert_eq!(text(&request(&fixture, "52-54-00-12-34-56/snponly.efi").await), "program");
    assert_eq!(fixture.vm().status.phase, Phase::Assigned, "a program is no offer of an install");
    let script = text(&request(&fixture, "52-54-00-12-34-56/autoexec.ipxe").await);
    assert!(script.contains("iscsi:"), "{script}");
    assert_eq!(fixture.vm().status.phase, Phase::Offered, "the offer is stored when the script is answered");
}

#[tokio::test]
async fn without_the_store_no_script_boots_the_image() {
    let fixture = Fixture::new("hold");
    fixture.put_vm(json!({"ip": "10.77.0.50"})).await;
    fixture.break_store();
    let script = text(&request(&fixture, "52-54-00-12-34-56/autoexec.ipxe").await);
    assert!(!script.contains("iscsi:"), "{script}");
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
    record(TransferReport::Ended { peer, asked: asked.clone(), how, octets: 7, took, resent: 1 });
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
