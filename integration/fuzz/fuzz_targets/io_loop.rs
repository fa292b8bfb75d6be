//! Runs a connection like the server's I/O loop, with an image of zeros, and checks its invariants.

use std::time::{Duration, Instant};

use bootlatch::iscsi::chap::{ChapTerms, Nonce};
use bootlatch::iscsi::connection::{Connection, ConnectionStep, InitiatorView};
use bootlatch::iscsi::limits;
use bootlatch::iscsi::login::LoginDecision;
use bootlatch::iscsi::medium::{DeviceKind, Lun, UnitIdentity};
use bootlatch::iscsi::outcome::TargetEntry;
use bootlatch::iscsi::scsi::LogicalUnits;

pub const SIZE: u64 = 3_000_001;

pub fn units() -> LogicalUnits {
    let lun = |kind| Lun::new(kind, SIZE, UnitIdentity::from_seed(b"fuzz"));
    LogicalUnits::new("iqn.x:y", [(0, lun(DeviceKind::Cdrom)), (1, lun(DeviceKind::Disk))])
}

pub fn decision(which: u8) -> LoginDecision {
    let chap = ChapTerms { name: "a".to_owned(), secret: b"b".to_vec(), ours: None };
    match which % 3 {
        0 => LoginDecision::Admit(Some(chap)),
        1 => LoginDecision::Redirect { portal: "192.0.2.1:3260".to_owned(), permanent: false },
        _ => LoginDecision::Admit(None),
    }
}

/// Carries out steps until the connection needs bytes; returns whether it still does.
pub fn obey(connection: &mut Connection, decision: &LoginDecision, now: Instant) -> bool {
    let mut records = 0u32;
    loop {
        match connection.step() {
            ConnectionStep::Ask(_) => {
                let targets =
                    vec![TargetEntry { name: "iqn.x:y".to_owned(), portals: vec!["192.0.2.1:3260".to_owned()] }];
                let nonce = Nonce { id: 1, challenge: [2; 16] };
                // The disk's first read is recorded, the CD-ROM's is not.
                let view = InitiatorView { units: units(), targets, record_first: vec![1] };
                connection.on_decision(decision.clone(), || nonce, view);
            }
            ConnectionStep::Attach(_) => {
                connection.on_attached(1, now);
            }
            ConnectionStep::Record(lun) => {
                records += 1;
                connection.on_recorded(lun, records.is_multiple_of(3));
            }
            ConnectionStep::Read(read) => {
                assert!(read.span.offset() + read.span.length() <= SIZE);
                if read.span.length() >= limits::MIN_SENDFILE_BYTES
                    && let Some(before) = connection.header_bytes(&read)
                {
                    assert!(before.len() as u64 + read.span.length() == connection.pending().len() as u64);
                    connection.on_sendfile_done(read);
                    assert!(connection.pending().is_empty());
                    continue;
                }
                connection.read_buffer(&read).fill(0);
                let good = read.span.offset() % 7 != 0;
                connection.on_read(read, good);
            }
            ConnectionStep::Send => {
                let count = connection.pending().len();
                assert!(
                    count <= limits::MAX_OUTPUT_BYTES + limits::MAX_RECEIVE_SEGMENT + limits::MAX_TEXT_BYTES,
                    "{count} bytes held"
                );
                connection.sent(count);
            }
            ConnectionStep::Receive => return true,
            ConnectionStep::Close(_) => return false,
        }
    }
}

/// Passes bytes like a socket: bytes that are not consumed are passed again with more after them.
pub fn give(connection: &mut Connection, decision: &LoginDecision, bytes: &[u8], now: Instant) -> bool {
    let mut rest = bytes;
    loop {
        let used = connection.on_bytes(rest, now);
        rest = &rest[used..];
        if !obey(connection, decision, now) {
            return false;
        }
        if used == 0 {
            connection.on_time(now + Duration::from_secs(1));
            return obey(connection, decision, now);
        }
    }
}
