//! Runs a connection like the server's I/O loop, with an image of zeros, and checks its invariants.

use std::time::{Duration, Instant};

use bootlatch::iscsi::chap::{ChapTerms, Nonce};
use bootlatch::iscsi::connection::{Connection, Step, TargetEntry, View};
use bootlatch::iscsi::limits;
use bootlatch::iscsi::login::Entrance;
use bootlatch::iscsi::medium::{Identity, Kind, Lun};
use bootlatch::iscsi::scsi::Units;

pub const SIZE: u64 = 3_000_001;

pub fn units() -> Units {
    let lun = |kind| Lun::new(kind, SIZE, Identity::of(b"fuzz"));
    Units::new("iqn.x:y", [(0, lun(Kind::Cdrom)), (1, lun(Kind::Disk))])
}

pub fn entrance(which: u8) -> Entrance {
    let chap = ChapTerms { name: "a".to_owned(), secret: b"b".to_vec(), ours: None };
    match which % 3 {
        0 => Entrance::Admit(Some(chap)),
        1 => Entrance::Redirect { portal: "192.0.2.1:3260".to_owned(), permanent: false },
        _ => Entrance::Admit(None),
    }
}

/// Carries out steps until the connection needs bytes; returns whether it still does.
pub fn obey(connection: &mut Connection, entrance: &Entrance, now: Instant) -> bool {
    loop {
        match connection.step() {
            Step::Ask(_) => {
                let targets =
                    vec![TargetEntry { name: "iqn.x:y".to_owned(), portals: vec!["192.0.2.1:3260".to_owned()] }];
                let nonce = Nonce { id: 1, challenge: [2; 16] };
                connection.on_entrance(entrance.clone(), nonce, View { units: units(), targets });
            }
            Step::Attach(_) => {
                connection.on_attached(1, now);
            }
            Step::Read(read) => {
                assert!(read.span.offset() + read.span.length() <= SIZE);
                if read.span.length() >= limits::LEND
                    && let Some(before) = connection.before(&read)
                {
                    assert!(before.len() as u64 + read.span.length() == connection.pending().len() as u64);
                    connection.on_lent(read);
                    assert!(connection.pending().is_empty());
                    continue;
                }
                connection.room(&read).fill(0);
                let good = read.span.offset() % 7 != 0;
                connection.on_read(read, good);
            }
            Step::Send => {
                let count = connection.pending().len();
                assert!(count <= limits::OUTPUT + limits::RECEIVE_SEGMENT + limits::TEXT, "{count} bytes held");
                connection.sent(count);
            }
            Step::Receive => return true,
            Step::Close(_) => return false,
        }
    }
}

/// Passes bytes like a socket: bytes that are not consumed are passed again with more after them.
pub fn give(connection: &mut Connection, entrance: &Entrance, bytes: &[u8], now: Instant) -> bool {
    let mut rest = bytes;
    loop {
        let used = connection.on_bytes(rest, now);
        rest = &rest[used..];
        if !obey(connection, entrance, now) {
            return false;
        }
        if used == 0 {
            connection.on_time(now + Duration::from_secs(1));
            return obey(connection, entrance, now);
        }
    }
}
