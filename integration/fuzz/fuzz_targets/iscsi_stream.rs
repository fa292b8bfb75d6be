#![no_main]
//! Any bytes to a new connection: PDU framing and the login.

mod io_loop;

use std::time::Instant;

use bootlatch::iscsi::connection::Connection;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let (now, decision) = (Instant::now(), io_loop::decision(*first));
    let mut connection = Connection::new(now);
    io_loop::give(&mut connection, &decision, bytes, now);
});
