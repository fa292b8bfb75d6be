//! Sessions with a simulated initiator, a simulated clock, and a medium of known bytes.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::chap::{Algorithm, ChapTerms, Nonce};
use super::digest::{Digests, crc32c};
use super::limits;
use super::login::{LoginDecision, LoginError, LoginRefusal};
use super::medium::{DeviceKind, Lun, UnitIdentity};
use super::pdu::{BHS, Header, NO_TAG};
use super::scsi::LogicalUnits;
use super::sense::Sense;
use super::text;
use crate::iscsi::connection::{Connection, ConnectionStep, InitiatorView};
use crate::iscsi::full_feature::Rejection;
use crate::iscsi::outcome::{End, TargetEntry};

mod login;

const TARGET: &str = "iqn.2026-11.org.bootlatch:iso";
const NONCE: Nonce = Nonce { id: 3, challenge: [7; 16] };
const SIZE: u64 = 1 << 20;

/// The keys that iPXE sends (boot-facts 18).
const IPXE: &[&str] = &[
    "HeaderDigest=None",
    "DataDigest=None",
    "MaxConnections=1",
    "InitialR2T=Yes",
    "ImmediateData=No",
    "MaxRecvDataSegmentLength=8192",
    "MaxBurstLength=262144",
    "DefaultTime2Wait=0",
    "DefaultTime2Retain=0",
    "MaxOutstandingR2T=1",
    "DataPDUInOrder=Yes",
    "DataSequenceInOrder=Yes",
    "ErrorRecoveryLevel=0",
];

#[derive(Debug, Clone, PartialEq)]
struct Heard {
    header: Header,
    data: Vec<u8>,
}

impl Heard {
    fn opcode(&self) -> u8 {
        self.header.opcode()
    }

    fn flags(&self) -> u8 {
        self.header.flags()
    }

    fn text(&self) -> Vec<(String, String)> {
        let pairs = text::parse(&self.data).unwrap();
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn value(&self, key: &str) -> Option<String> {
        self.text().into_iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

/// The initiator of a connection, and the I/O loop in between.
struct Initiator {
    connection: Connection,
    entrance: LoginDecision,
    targets: Vec<TargetEntry>,
    now: Instant,
    digests: Digests,
    command: u32,
    end: Option<End>,
    unreadable: bool,
    /// Units whose first read is recorded, and whether the store accepts the record.
    record_first: Vec<u8>,
    store_works: bool,
    /// The steps of the connection since they were last taken.
    steps: Vec<&'static str>,
    wire: Vec<u8>,
}

fn medium_byte(at: u64) -> u8 {
    u8::try_from((at * 31 + at / 512) % 251).unwrap()
}

impl Initiator {
    fn new(entrance: LoginDecision) -> Self {
        let now = Instant::now();
        Self {
            connection: Connection::new(now),
            entrance,
            targets: Vec::new(),
            now,
            digests: Digests::default(),
            command: 1,
            end: None,
            unreadable: false,
            record_first: Vec::new(),
            store_works: true,
            steps: Vec::new(),
            wire: Vec::new(),
        }
    }

    /// Returns a peer in its full feature phase, with these keys negotiated.
    fn attached(keys: &[&str]) -> Self {
        let mut peer = Self::new(LoginDecision::Admit(None));
        let answer = peer.login(0x87, &keys_of(keys));
        assert_eq!((answer[0].flags(), &answer[0].header.0[36..38]), (0x87, &[0, 0][..]));
        let crc = |key| answer[0].value(key).as_deref() == Some("CRC32C");
        peer.digests = Digests { header: crc("HeaderDigest"), data: crc("DataDigest") };
        peer
    }

    /// Executes the steps as the I/O loop does, until the connection waits for bytes.
    fn turn(&mut self) {
        loop {
            match self.connection.step() {
                ConnectionStep::Ask(_) => {
                    let lun = |kind| Lun::new(kind, SIZE, UnitIdentity::from_seed(b"iso"));
                    let units = LogicalUnits::new(TARGET, [(0, lun(DeviceKind::Disk)), (1, lun(DeviceKind::Cdrom))]);
                    let view =
                        InitiatorView { units, targets: self.targets.clone(), record_first: self.record_first.clone() };
                    self.connection.on_decision(self.entrance.clone(), || NONCE, view);
                }
                ConnectionStep::Attach(key) => {
                    assert_eq!(key.isid, [0x80, 1, 2, 3, 4, 5]);
                    self.connection.on_attached(0x1234, self.now);
                }
                ConnectionStep::Record(lun) => {
                    self.steps.push("record");
                    self.connection.on_recorded(lun, self.store_works);
                }
                ConnectionStep::Read(read) => {
                    self.steps.push("read");
                    assert!(read.span.offset() + read.span.length() <= SIZE);
                    for (at, byte) in (read.span.offset()..).zip(self.connection.read_buffer(&read)) {
                        *byte = medium_byte(at);
                    }
                    self.connection.on_read(read, !self.unreadable);
                }
                ConnectionStep::Send => {
                    assert!(self.connection.pending().len() <= limits::MAX_OUTPUT_BYTES + limits::MAX_RECEIVE_SEGMENT);
                    // A socket accepts any part of the output.
                    let some = self.connection.pending().len().div_ceil(3);
                    self.wire.extend_from_slice(&self.connection.pending()[..some]);
                    self.connection.sent(some);
                }
                ConnectionStep::Receive => return,
                ConnectionStep::Close(end) => {
                    self.end = Some(end);
                    return;
                }
            }
        }
    }

    fn give(&mut self, bytes: &[u8]) {
        let mut given = 0;
        while given < bytes.len() && self.end.is_none() {
            let used = self.connection.on_bytes(&bytes[given..], self.now);
            given += used;
            self.turn();
            assert!(used > 0 || self.end.is_some(), "a whole PDU is taken");
        }
        self.turn();
    }

    fn send(&mut self, mut header: Header, data: &[u8]) -> Vec<Heard> {
        header.set_data_length(data.len());
        let bytes = self.wrapped(header, data);
        self.give(&bytes);
        self.heard()
    }

    fn wrapped(&self, header: Header, data: &[u8]) -> Vec<u8> {
        let mut bytes = header.0.to_vec();
        if self.digests.header {
            bytes.extend(crc32c(&header.0));
        }
        let mut padded = data.to_vec();
        padded.resize(data.len().next_multiple_of(4), 0);
        bytes.extend(&padded);
        if self.digests.data && !data.is_empty() {
            bytes.extend(crc32c(&padded));
        }
        bytes
    }

    /// Parses the target's output. Its segments are longer than those that `Pdu::take` accepts.
    fn heard(&mut self) -> Vec<Heard> {
        let wire = std::mem::take(&mut self.wire);
        let (mut at, mut heard) = (0, Vec::new());
        while at < wire.len() {
            let header = Header(wire[at..at + BHS].try_into().unwrap());
            at += BHS;
            if self.digests.header {
                assert_eq!(wire[at..at + 4], crc32c(&header.0));
                at += 4;
            }
            let (length, padded) = (header.data_length(), header.data_length().next_multiple_of(4));
            let data = wire[at..at + length].to_vec();
            if self.digests.data && length > 0 {
                assert_eq!(wire[at + padded..at + padded + 4], crc32c(&wire[at..at + padded]));
                at += 4;
            }
            at += padded;
            heard.push(Heard { header, data });
        }
        heard
    }

    fn login(&mut self, flags: u8, text: &str) -> Vec<Heard> {
        let mut header = request(0x43, flags, 0);
        header.0[8..14].copy_from_slice(&[0x80, 1, 2, 3, 4, 5]);
        header.set_word(24, self.command);
        header.set_word(28, 0x100);
        self.send(header, text.as_bytes())
    }

    /// Returns a SCSI command that reads.
    fn command(&mut self, tag: u32, cdb: &[u8], expected: u32) -> Header {
        let mut header = request(0x01, 0xc1, tag);
        header.set_word(20, expected);
        header.set_word(24, self.command);
        header.0[32..32 + cdb.len()].copy_from_slice(cdb);
        self.command = self.command.wrapping_add(1);
        header
    }

    fn read_10(&mut self, tag: u32, block: u32, count: u16) -> Header {
        let [a, b, c, d] = block.to_be_bytes();
        let [e, f] = count.to_be_bytes();
        self.command(tag, &[0x28, 0, a, b, c, d, 0, e, f, 0], u32::from(count) * 512)
    }
}

fn request(opcode: u8, flags: u8, tag: u32) -> Header {
    let mut header = Header([0; BHS]);
    header.0[0] = opcode;
    header.0[1] = flags;
    header.set_word(16, tag);
    header
}

fn keys_of(keys: &[&str]) -> String {
    let names = [&format!("TargetName={TARGET}"), "InitiatorName=iqn.2010-04.org.ipxe:x", "SessionType=Normal"];
    names.iter().chain(keys).map(|pair| format!("{pair}\0")).collect()
}

fn discovery() -> String {
    ["InitiatorName=iqn.1993-08.org.debian:x", "SessionType=Discovery"].map(|pair| format!("{pair}\0")).concat()
}

fn chap_terms() -> ChapTerms {
    let ours = Some(("target".to_owned(), b"secret of target".to_vec()));
    ChapTerms { name: "host".to_owned(), secret: b"secret of host".to_vec(), ours }
}

#[test]
fn ipxe_logs_in_and_reads_in_segments_of_its_size() {
    let mut peer = Initiator::attached(IPXE);
    let read = peer.read_10(9, 3, 40);
    let heard = peer.send(read, &[]);
    let lengths: Vec<usize> = heard.iter().map(|heard| heard.data.len()).collect();
    assert_eq!(lengths, [8192, 8192, 4096]);
    let bytes: Vec<u8> = heard.iter().flat_map(|heard| heard.data.clone()).collect();
    assert!(bytes.iter().zip(3 * 512..).all(|(byte, at)| *byte == medium_byte(at)));
    let last = &heard[2];
    assert_eq!((last.opcode(), last.flags(), last.header.0[3]), (0x25, 0x81, 0));
    assert_eq!((last.header.word(16), last.header.word(36), last.header.word(40)), (9, 2, 16384));
    // StatSN continues after the login response; the command was counted.
    assert_eq!((last.header.word(24), last.header.word(28)), (0x101, 2));
}

#[test]
fn bytes_may_come_one_by_one() {
    let mut peer = Initiator::new(LoginDecision::Admit(None));
    let mut header = request(0x43, 0x87, 0);
    header.0[8..14].copy_from_slice(&[0x80, 1, 2, 3, 4, 5]);
    let keys = keys_of(IPXE);
    header.set_data_length(keys.len());
    let (bytes, mut held) = (peer.wrapped(header, keys.as_bytes()), Vec::new());
    for byte in bytes {
        held.push(byte);
        let used = peer.connection.on_bytes(&held, peer.now);
        held.drain(..used);
        peer.turn();
    }
    assert_eq!(peer.heard()[0].flags(), 0x87);
}

#[test]
fn digests_cover_everything_after_the_login() {
    for keys in [
        &["HeaderDigest=CRC32C", "DataDigest=CRC32C"][..],
        &["HeaderDigest=CRC32C,None"],
        &["DataDigest=CRC32C", "HeaderDigest=None"],
    ] {
        let mut peer = Initiator::attached(keys);
        let read = peer.read_10(1, 0, 20);
        let heard = peer.send(read, &[]);
        assert_eq!(heard.iter().map(|heard| heard.data.len()).sum::<usize>(), 10_240);
    }
}

#[test]
fn a_damaged_header_ends_the_session_and_damaged_data_is_rejected() {
    let mut peer = Initiator::attached(&["HeaderDigest=CRC32C", "DataDigest=CRC32C"]);
    let mut nop = request(0x40, 0x80, 5);
    nop.set_data_length(4);
    let mut bytes = peer.wrapped(nop, b"ping");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    peer.give(&bytes);
    let heard = peer.heard();
    assert_eq!((heard[0].opcode(), heard[0].header.0[2], &heard[0].data[..]), (0x3f, 2, &nop.0[..]));
    assert_eq!(peer.connection.rejected(), Some((0, Rejection::DataDigest)));
    let mut bytes = peer.wrapped(nop, b"ping");
    bytes[20] ^= 1;
    peer.give(&bytes);
    assert!(matches!(peer.end, Some(End::Malformed(_))));
}

#[test]
fn discovery_lists_the_targets_and_nothing_else() {
    let mut peer = Initiator::new(LoginDecision::Admit(None));
    let entry = |number| TargetEntry { name: format!("iqn.x:{number:04}"), portals: vec!["192.0.2.1:3260".to_owned()] };
    peer.targets = (0..400).map(entry).collect();
    assert_eq!(peer.login(0x87, &discovery())[0].flags(), 0x87);
    let mut header = request(0x04, 0x80, 1);
    header.set_word(20, NO_TAG);
    header.set_word(24, peer.command);
    let mut heard = peer.send(header, b"SendTargets=All\0");
    let mut text = Vec::new();
    while heard[0].flags() == 0x40 {
        text.extend(heard[0].data.clone());
        peer.command += 1;
        header.set_word(20, heard[0].header.word(20));
        header.set_word(24, peer.command);
        heard = peer.send(header, &[]);
    }
    assert_eq!((heard[0].flags(), heard[0].header.word(20)), (0x80, NO_TAG));
    text.extend(heard[0].data.clone());
    let pairs = text::parse(&text).unwrap();
    assert_eq!(pairs.len(), 800);
    assert_eq!(pairs[798..], [("TargetName", "iqn.x:0399"), ("TargetAddress", "192.0.2.1:3260,1")]);
    peer.command += 1;
    let read = peer.read_10(1, 0, 1);
    assert_eq!(peer.send(read, &[])[0].opcode(), 0x3f);
}

#[test]
fn commands_are_counted_and_ignored_outside_the_window() {
    let mut peer = Initiator::attached(IPXE);
    for beside in [limits::MAX_COMMANDS, 1 << 30, u32::MAX] {
        let mut read = peer.read_10(1, 0, 1);
        peer.command -= 1;
        read.set_word(24, peer.command.wrapping_add(beside));
        assert_eq!(peer.send(read, &[]), []);
    }
    let read = peer.read_10(1, 0, 1);
    assert_eq!(peer.send(read, &[])[0].header.word(28), peer.command);
    peer.command += 1;
    let read = peer.read_10(2, 0, 1);
    peer.send(read, &[]);
    assert_eq!(peer.end, Some(End::Protocol("a command is missing")));
}

#[test]
fn a_batch_of_commands_is_answered_in_order_and_bounded() {
    let mut peer = Initiator::attached(&["MaxRecvDataSegmentLength=262144"]);
    let mut bytes = Vec::new();
    for tag in 0..limits::MAX_COMMANDS {
        let read = peer.read_10(tag, tag, 16);
        bytes.extend(read.0);
    }
    // One command more than the window is not accepted while the others wait.
    let used = peer.connection.on_bytes(&bytes, peer.now);
    assert_eq!(used, bytes.len());
    let beyond = peer.read_10(999, 0, 1);
    peer.connection.on_bytes(&beyond.0, peer.now);
    peer.turn();
    let tags: Vec<u32> = peer.heard().iter().map(|heard| heard.header.word(16)).collect();
    assert_eq!(tags, (0..limits::MAX_COMMANDS).collect::<Vec<_>>());
}

#[test]
fn a_task_that_waits_can_be_aborted() {
    let mut peer = Initiator::attached(IPXE);
    let (first, second) = (peer.read_10(1, 0, 1), peer.read_10(2, 8, 1));
    let mut abort = request(0x42, 0x81, 77);
    abort.set_word(20, 2);
    let mut unknown = abort;
    unknown.set_word(20, 55);
    unknown.set_word(16, 78);
    let bytes: Vec<u8> = [first, second, abort, unknown].iter().flat_map(|header| header.0).collect();
    peer.give(&bytes);
    let heard: Vec<(u8, u32, u8)> =
        peer.heard().iter().map(|heard| (heard.opcode(), heard.header.word(16), heard.header.0[2])).collect();
    assert_eq!(heard, [(0x22, 77, 0), (0x22, 78, 1), (0x25, 1, 0)]);
}

#[test]
fn resets_are_answered() {
    for (function, lun, response) in [(5, 0, 0), (5, 9, 2), (2, 1, 0), (6, 0, 0), (3, 0, 5), (8, 0, 4)] {
        let mut peer = Initiator::attached(IPXE);
        let mut reset = request(0x42, 0x80 | function, 7);
        reset.0[9] = lun;
        assert_eq!(peer.send(reset, &[])[0].header.0[2], response, "function {function}");
        assert_eq!(peer.end, None);
    }
    let mut peer = Initiator::attached(IPXE);
    assert_eq!(peer.send(request(0x42, 0x87, 7), &[])[0].header.0[2], 0);
    assert_eq!(peer.end, Some(End::ColdReset));
}

#[test]
fn misplaced_pdus_are_rejected() {
    for (opcode, why) in [
        (0x50, Rejection::Snack),
        (0x05, Rejection::Protocol),
        (0x1c, Rejection::NotSupported),
        (0x45, Rejection::Protocol),
    ] {
        let mut peer = Initiator::attached(IPXE);
        let heard = peer.send(request(opcode, 0x80, 4), &[]);
        assert_eq!((heard[0].opcode(), heard[0].header.0[2]), (0x3f, why as u8));
        assert_eq!(peer.connection.rejected(), Some((opcode & 0x3f, why)));
    }
}

#[test]
fn a_units_first_read_is_recorded_before_any_of_its_data() {
    let mut peer = Initiator::new(LoginDecision::Admit(None));
    peer.record_first = vec![0];
    peer.login(0x87, &keys_of(IPXE));
    peer.store_works = false;
    for tag in [1, 2] {
        let read = peer.read_10(tag, 0, 4);
        let heard = peer.send(read, &[]);
        assert_eq!(std::mem::take(&mut peer.steps), ["record"], "without the record nothing is read");
        assert_eq!((heard.len(), heard[0].opcode(), heard[0].header.0[3]), (1, 0x21, 2));
        assert_eq!(heard[0].data[2..20], Sense::READ_ERROR.fixed());
    }
    peer.store_works = true;
    let read = peer.read_10(3, 0, 4);
    let heard = peer.send(read, &[]);
    assert_eq!(std::mem::take(&mut peer.steps), ["record", "read"]);
    assert_eq!((heard.len(), heard[0].opcode(), heard[0].data.len()), (1, 0x25, 2048));
    let read = peer.read_10(4, 0, 4);
    peer.send(read, &[]);
    assert_eq!(std::mem::take(&mut peer.steps), ["read"], "one record serves all reads of the unit");
}

#[test]
fn a_flood_of_immediate_commands_is_rejected() {
    let mut peer = Initiator::attached(IPXE);
    let mut bytes = Vec::new();
    for tag in 0..20 {
        let mut read = peer.read_10(tag, 0, 1);
        read.0[0] |= 0x40;
        bytes.extend(read.0);
    }
    peer.give(&bytes);
    let rejected = peer.heard().iter().filter(|heard| heard.opcode() == 0x3f).count();
    assert_eq!(rejected, 20 - limits::MAX_IMMEDIATE_COMMANDS);
}

#[test]
fn a_failed_read_is_a_medium_error_and_the_session_continues() {
    let mut peer = Initiator::attached(IPXE);
    peer.unreadable = true;
    let read = peer.read_10(1, 0, 40);
    let heard = peer.send(read, &[]);
    assert_eq!((heard.len(), heard[0].opcode(), heard[0].header.0[3]), (1, 0x21, 2));
    assert_eq!((heard[0].data[4], heard[0].data[14]), (3, 0x11));
    peer.unreadable = false;
    let read = peer.read_10(2, 0, 1);
    let next = peer.send(read, &[]);
    assert_eq!(next[0].header.word(24), heard[0].header.word(24) + 1, "no status number is lost");
}

#[test]
fn a_write_is_refused_and_a_verify_compares() {
    let mut peer = Initiator::attached(&["MaxBurstLength=8192"]);
    let mut write = peer.command(1, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512);
    write.0[1] = 0xa1;
    let heard = peer.send(write, &[]);
    assert_eq!((heard[0].opcode(), heard[0].header.0[3], heard[0].data[4], heard[0].data[14]), (0x21, 2, 7, 0x27));
    for (flipped, status) in [(None, 0), (Some(9000), 2)] {
        let mut verify = peer.command(2, &[0x2f, 2, 0, 0, 0, 0, 0, 0, 20, 0], 10_240);
        verify.0[1] = 0xa1;
        let mut heard = peer.send(verify, &[]);
        let mut expected = 0;
        while heard[0].opcode() == 0x31 {
            let (tag, offset, length) = (heard[0].header.word(20), heard[0].header.word(40), heard[0].header.word(44));
            assert_eq!((offset, heard[0].header.word(36)), (expected, expected / 8192));
            expected += length;
            let data: Vec<u8> = (u64::from(offset)..u64::from(offset + length))
                .map(|at| medium_byte(at) ^ u8::from(flipped == Some(at)))
                .collect();
            let mut out = request(0x05, 0x80, 2);
            out.set_word(20, tag);
            out.set_word(40, offset);
            heard = peer.send(out, &data);
        }
        assert_eq!((expected, heard[0].opcode(), heard[0].header.0[3]), (10_240, 0x21, status));
    }
}

#[test]
fn a_ping_is_echoed_and_a_silent_initiator_pinged_if_it_pings_itself() {
    let mut peer = Initiator::attached(IPXE);
    // iPXE never sends a NOP-Out, and ends the session on a NOP-In that requires an answer.
    peer.now += limits::PING_INTERVAL * 3;
    peer.connection.on_time(peer.now);
    peer.turn();
    assert_eq!(peer.heard(), []);
    let heard = peer.send(request(0x40, 0x80, 5), b"hello");
    assert_eq!((heard[0].opcode(), &heard[0].data[..]), (0x20, &b"hello"[..]));
    peer.now += limits::PING_INTERVAL;
    peer.connection.on_time(peer.now);
    peer.turn();
    let ping = peer.heard();
    assert_eq!((ping[0].opcode(), ping[0].header.word(16)), (0x20, NO_TAG));
    let mut pong = request(0x40, 0x80, NO_TAG);
    pong.set_word(20, ping[0].header.word(20));
    assert_eq!(peer.send(pong, &[]), []);
    peer.now += limits::PING_INTERVAL;
    peer.connection.on_time(peer.now);
    peer.turn();
    peer.now += limits::PING_TIMEOUT;
    peer.connection.on_time(peer.now);
    peer.turn();
    assert_eq!(peer.end, Some(End::Silent));
}

#[test]
fn a_shutdown_requests_a_logout() {
    let mut peer = Initiator::attached(IPXE);
    peer.connection.on_stop(Duration::from_secs(2));
    peer.turn();
    let heard = peer.heard();
    assert_eq!((heard[0].opcode(), heard[0].header.0[36], heard[0].header.half(42)), (0x32, 1, 2));
    let mut logout = request(0x46, 0x80, 8);
    logout.set_word(24, peer.command);
    assert_eq!(peer.send(logout, &[])[0].opcode(), 0x26);
    assert_eq!(peer.end, Some(End::Logout));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_break_a_session(bytes: Vec<u8>, opcodes in proptest::collection::vec((any::<u8>(), any::<[u8; 47]>()), 0..40)) {
        let mut peer = Initiator::attached(IPXE);
        for (opcode, rest) in opcodes {
            let mut header = Header([0; BHS]);
            header.0[0] = opcode;
            header.0[1..].copy_from_slice(&rest);
            header.0[4] = 0;
            header.set_data_length(0);
            if opcode & 0x40 == 0 {
                header.set_word(24, peer.command);
                peer.command = peer.command.wrapping_add(1);
            }
            peer.give(&header.0);
            peer.heard();
        }
        peer.connection.on_bytes(&bytes, peer.now);
        peer.turn();
    }

    #[test]
    fn no_text_breaks_a_login(flags: u8, text in "[ -~\\x00]{0,300}") {
        let mut peer = Initiator::new(LoginDecision::Admit(Some(chap_terms())));
        peer.login(flags, &text);
    }
}
