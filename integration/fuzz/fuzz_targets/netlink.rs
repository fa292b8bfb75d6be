//! The kernel's answers about routes and neighbours: an answer that is read agrees with a reader of its own.
#![no_main]

use std::net::IpAddr;

use bootlatch::gate::neighbours::NeighbourEntry;
use bootlatch::gate::neighbours::wire::{self, Answer, NextHop};
use libfuzzer_sys::fuzz_target;

/// Length of the header (struct nlmsghdr), and of the part before the attributes (struct ndmsg and struct rtmsg).
const HEADER: usize = 16;
const FIXED: usize = 12;

/// Returns the attributes of a message: kinds and values (struct rtattr).
fn attributes(message: &[u8]) -> Vec<(u16, &[u8])> {
    let (mut found, mut rest) = (Vec::new(), message.get(HEADER + FIXED..).unwrap_or_default());
    while let [a, b, c, d, ..] = rest {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let Some(value) = rest.get(4..length) else { break };
        // The two highest bits are flags.
        found.push((u16::from_ne_bytes([*c, *d]) & 0x3fff, value));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// Builds an answer from the bytes: its kind, the fixed part, and attributes with their lengths.
fn answer(data: &[u8]) -> Vec<u8> {
    let Some((kind, rest)) = data.split_first() else { return Vec::new() };
    let (fixed, mut rest) = rest.split_at(FIXED.min(rest.len()));
    let mut bytes = vec![0; HEADER];
    bytes[4..6].copy_from_slice(&[24_u16, 28, 2, u16::from(*kind)][usize::from(kind & 3)].to_ne_bytes());
    bytes.extend(fixed);
    while let [kind, length, tail @ ..] = rest {
        let (value, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        bytes.extend((value.len() as u16 + 4).to_ne_bytes());
        bytes.extend(u16::from(*kind).to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

fn check(packet: &[u8]) {
    let Ok(read) = Answer::parse(packet) else { return };
    let length = u32::from_ne_bytes([packet[0], packet[1], packet[2], packet[3]]) as usize;
    let message = &packet[..length];
    if let NeighbourEntry::Neighbour(mac) = wire::read_neighbour(&read) {
        let state = u16::from_ne_bytes([message[HEADER + 8], message[HEADER + 9]]);
        // NUD_INCOMPLETE, NUD_FAILED and NUD_NONE have no address.
        assert!(state & 0xde != 0, "state {state:#x}");
        let has = attributes(message).iter().any(|(kind, value)| (*kind, *value) == (2, &mac.0[..]));
        assert!(has && mac.0 != [0; 6], "{mac} is not in the answer");
    }
    match wire::read_route(&read) {
        Ok(NextHop::Interface(index)) => {
            let all = attributes(message);
            assert!(all.iter().any(|(kind, value)| *kind == 4 && value.starts_with(&index.to_ne_bytes())));
            assert!(all.iter().all(|(kind, _)| *kind != 5), "a gateway is overlooked");
        }
        Ok(NextHop::Router) => {
            assert!(attributes(message).iter().any(|(kind, _)| matches!(kind, 5 | 18)), "no gateway is there");
        }
        Err(_) => {}
    }
}

fuzz_target!(|data: &[u8]| {
    check(data);
    check(&answer(data));
    // Questions are no answers.
    let address = match data {
        [a, b, c, d] => IpAddr::from([*a, *b, *c, *d]),
        _ => match data.first_chunk::<16>() {
            Some(octets) => IpAddr::from(*octets),
            None => return,
        },
    };
    for question in [wire::route(address), wire::neighbour(7, address)] {
        let read = Answer::parse(&question).expect("a question is a message");
        assert!(wire::read_route(&read).is_err());
        assert_eq!(wire::read_neighbour(&read), NeighbourEntry::NoEntry);
    }
});
