#![no_main]
//! Any bytes to a new connection: PDU framing and the login.

mod rim;

use std::time::Instant;

use bootlatch::iscsi::connection::Connection;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let (now, entrance) = (Instant::now(), rim::entrance(*first));
    let mut connection = Connection::new(now);
    rim::give(&mut connection, &entrance, bytes, now);
});
