//! TFTP from a request to the end of its transfer: any datagrams at any time, checked against our invariants.
#![no_main]

use std::time::{Duration, Instant};

use bootlatch::tftp::netascii;
use bootlatch::tftp::options::{BLOCK_SIZES, NegotiatedOptions, OptionLimits, RequestedOptions};
use bootlatch::tftp::packet::{DATA_HEADER, MAX_REQUEST_LENGTH, Packet, TransferMode};
use bootlatch::tftp::path;
use bootlatch::tftp::transfer::{Ending, RepeatedRequest, Transfer, TransferStep};
use libfuzzer_sys::fuzz_target;

const PATIENCE: Duration = Duration::from_secs(30);
/// More datagrams than any client of these inputs can request.
const STEPS: usize = 4096;

/// Parses the next packet of a sequence: the client's wait before it (one byte), its length (two), its bytes.
fn take<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let [how, high, low, tail @ ..] = *rest else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
    let (bytes, tail) = tail.split_at(length);
    *rest = tail;
    Some((*how, bytes))
}

/// The data that a client without packet loss has received.
struct Peer {
    /// The highest block that was sent, and the number of bytes up to its end.
    sent: u64,
    octets: u64,
    size: u64,
}

impl Peer {
    /// Checks one step; returns whether the transfer continues.
    fn hear(&mut self, transfer: &Transfer, step: TransferStep) -> bool {
        let granted = transfer.granted();
        match step {
            TransferStep::Wait => {}
            TransferStep::OptionAck => {
                let mut out = Vec::new();
                transfer.option_ack(&mut out);
                assert!(matches!(Packet::parse(&out), Ok(Packet::OptionAck(_))), "{out:?}");
                assert!(out.len() <= MAX_REQUEST_LENGTH, "{} octets", out.len());
            }
            TransferStep::Data(blocks) => {
                assert!(blocks.count() <= granted.window.into(), "{} blocks at once", blocks.count());
                for block in blocks.iter() {
                    let span = transfer.span(block);
                    let length = span.end - span.start;
                    assert!(span.end <= self.size && length <= granted.block_size.into(), "{span:?}");
                    assert!(block <= self.sent + 1, "block {block} after {}", self.sent);
                    if block > self.sent {
                        assert_eq!(span.start, self.octets, "a gap before block {block}");
                        (self.sent, self.octets) = (block, span.end);
                    }
                }
            }
            TransferStep::End(ending) => {
                assert!(ending != Ending::Complete || self.octets == self.size, "complete at {}", self.octets);
                return false;
            }
        }
        assert!(transfer.acknowledged() <= self.octets);
        true
    }
}

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let Some((how, first)) = take(&mut rest) else { return };
    let Ok(packet) = Packet::parse(first) else { return };
    let mut again = Vec::new();
    packet.emit(&mut again);
    if let Packet::Read(_) | Packet::Write(_) | Packet::OptionAck(_) | Packet::Data { .. } = packet {
        assert_eq!(Packet::parse(&again), Ok(packet), "what was read is written the same");
    }
    let Packet::Read(request) = packet else { return };
    for path in path::RequestedFile::parse(request.name).iter().flat_map(path::RequestedFile::candidates) {
        assert!(path.parts().all(|part| !matches!(part, "" | "." | "..")), "{path}");
    }
    let bounds = OptionLimits::of_mtu(if how & 1 == 1 { 9000 } else { 1500 }, how & 2 == 2);
    let granted = NegotiatedOptions::new(RequestedOptions::read(request.options), bounds);
    assert!(BLOCK_SIZES.contains(&granted.block_size) && granted.window >= 1);
    assert!(usize::from(granted.block_size) + DATA_HEADER + 28 <= 9000);
    let size = match request.mode {
        TransferMode::Octet => u64::from(how) << (how & 15),
        TransferMode::Netascii => netascii::encode(first).len() as u64,
    };
    let mut now = Instant::now();
    let (mut transfer, mut step) = Transfer::new(granted, size, PATIENCE, now);
    let mut peer = Peer { sent: 0, octets: 0, size };
    for _ in 0..STEPS {
        if !peer.hear(&transfer, step) {
            return;
        }
        let Some((wait, bytes)) = take(&mut rest) else { break };
        now += Duration::from_millis(u64::from(wait) * u64::from(wait));
        step = match Packet::parse(bytes) {
            Ok(Packet::Ack(block)) => transfer.on_ack(block, now),
            Ok(Packet::Error { code, .. }) => TransferStep::End(transfer.on_error(code)),
            Ok(Packet::Read(same)) if same == request => match transfer.on_request(now) {
                RepeatedRequest::Again(step) => step,
                RepeatedRequest::Restart => return,
            },
            Ok(_) | Err(_) => transfer.on_timeout(now),
        };
    }
    // A silent client is given up within the configured timeout.
    let silent_since = now;
    for _ in 0..STEPS {
        now = transfer.deadline().max(now);
        let step = transfer.on_timeout(now);
        if !peer.hear(&transfer, step) {
            assert!(now <= silent_since + PATIENCE.max(Duration::from_secs(4 * 255)), "given up too late");
            return;
        }
    }
    panic!("a silent peer is never given up");
});
