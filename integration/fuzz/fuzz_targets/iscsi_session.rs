#![no_main]
//! A login with any text in any stages, then requests with any fields and valid sequence numbers.

mod io_loop;

use std::time::Instant;

use bootlatch::iscsi::connection::Connection;
use libfuzzer_sys::fuzz_target;

const NAMES: &[u8] = b"InitiatorName=iqn.a:b\0TargetName=iqn.x:y\0SessionType=Normal\0";

fn pdu(opcode: u8, flags: u8, fields: &[u8], data: &[u8], command: u32) -> Vec<u8> {
    let mut bytes = vec![0; 48];
    bytes[0] = opcode;
    bytes[1] = flags;
    bytes[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
    for (byte, field) in bytes[8..].iter_mut().zip(fields) {
        *byte = *field;
    }
    bytes[24..28].copy_from_slice(&command.to_be_bytes());
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fuzz_target!(|data: &[u8]| {
    let Some(([first, length, flags], mut rest)) = data.split_first_chunk::<3>() else { return };
    let (now, decision) = (Instant::now(), io_loop::decision(*first));
    let mut connection = Connection::new(now);
    let (text, tail) = rest.split_at(usize::from(*length).min(rest.len()));
    rest = tail;
    let login = pdu(0x43, *flags, &[], &[NAMES, text].concat(), 1);
    if !io_loop::give(&mut connection, &decision, &login, now) {
        return;
    }
    let mut command = 1u32;
    while let Some(([opcode, flags, length], tail)) = rest.split_first_chunk::<3>() {
        let (fields, tail) = tail.split_at(40.min(tail.len()));
        let (data, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        if !io_loop::give(&mut connection, &decision, &pdu(*opcode, *flags, fields, data, command), now) {
            return;
        }
        command = command.wrapping_add(u32::from(opcode & 0x40 == 0 && !matches!(opcode & 0x3f, 5 | 0x10)));
    }
});
