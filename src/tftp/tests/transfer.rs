use super::super::options::{OptionLimits, RequestedOptions};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const PATIENCE: Duration = Duration::from_secs(30);
const WIRE: Duration = Duration::from_micros(300);

fn granted(block_size: u16, window: u16) -> NegotiatedOptions {
    let bounds = OptionLimits { block_size: u16::MAX, window: u16::MAX };
    let asked = RequestedOptions { block_size: Some(block_size), window: Some(window), size: true, timeout: None };
    NegotiatedOptions::new(asked, bounds)
}

fn plain() -> NegotiatedOptions {
    NegotiatedOptions::new(RequestedOptions::default(), OptionLimits::of_mtu(1500, false))
}

fn blocks(first: u64, last: u64) -> TransferStep {
    TransferStep::Data(Blocks { first, last })
}

/// Returns a transfer whose peer has acknowledged the options.
fn begun(granted: NegotiatedOptions, size: u64, now: Instant) -> Transfer {
    let (mut transfer, step) = Transfer::new(granted, size, PATIENCE, now);
    assert_eq!(step, TransferStep::OptionAck);
    assert!(matches!(transfer.on_ack(0, now), TransferStep::Data(_)));
    transfer
}

#[test]
fn a_file_that_fills_its_last_block_ends_with_an_empty_one() {
    let now = Instant::now();
    for (size, last) in [(0, 1), (1, 1), (511, 1), (512, 2), (513, 2), (1024, 3)] {
        let (mut transfer, mut step) = Transfer::new(plain(), size, PATIENCE, now);
        for block in 1..=last {
            assert_eq!(step, blocks(block, block), "size {size}");
            step = transfer.on_ack(block as u16, now);
        }
        assert_eq!(step, TransferStep::End(Ending::Complete), "size {size}");
        let total: u64 = (1..=last).map(|block| transfer.span(block)).map(|span| span.end - span.start).sum();
        assert_eq!((total, transfer.resent_blocks()), (size, 0));
    }
}

#[test]
fn block_numbers_roll_over_past_65535_twice() {
    let now = Instant::now();
    let mut transfer = begun(granted(8, 1), 8 * 140_000, now);
    for block in 1..=140_000 {
        assert_eq!(transfer.on_ack(on_wire(block), now), blocks(block + 1, block + 1));
    }
    assert_eq!(transfer.on_ack(on_wire(140_001), now), TransferStep::End(Ending::Complete));
}

#[test]
fn a_probe_for_the_size_that_ends_with_an_error_is_no_failure() {
    let now = Instant::now();
    let (transfer, step) = Transfer::new(granted(1468, 4), 300_000, PATIENCE, now);
    assert_eq!((step, transfer.on_error(0)), (TransferStep::OptionAck, Ending::Probed));
    assert_eq!(begun(granted(1468, 4), 300_000, now).on_error(3), Ending::Aborted(3));
}

#[test]
fn a_repeated_acknowledgement_sends_nothing_in_lockstep() {
    let now = Instant::now();
    let mut transfer = begun(granted(512, 1), 5120, now);
    assert_eq!(transfer.on_ack(1, now), blocks(2, 2));
    for stray in [1, 1, 0, 3, 9, 65535] {
        assert_eq!(transfer.on_ack(stray, now), TransferStep::Wait, "ACK {stray}");
    }
    assert_eq!(transfer.on_ack(2, now), blocks(3, 3));
}

#[test]
fn a_gap_in_a_window_is_filled_at_once() {
    let now = Instant::now();
    let mut transfer = begun(granted(512, 4), 512 * 20, now);
    assert_eq!(transfer.on_ack(4, now), blocks(5, 8));
    // Blocks 7 and 8 were lost, or 7 alone.
    assert_eq!(transfer.on_ack(6, now), blocks(7, 10));
    // The peer acknowledges 6 again as it discards 8, which was in flight.
    assert_eq!(transfer.on_ack(6, now), TransferStep::Wait);
    assert_eq!(transfer.on_ack(10, now), blocks(11, 14));
    assert_eq!(transfer.on_ack(14, now), blocks(15, 18));
    // The first block of a window was lost: the peer repeats its acknowledgement.
    assert_eq!(transfer.on_ack(14, now), blocks(15, 18));
    assert_eq!(transfer.on_ack(14, now), TransferStep::Wait);
    assert_eq!(transfer.on_ack(18, now), blocks(19, 21));
    assert_eq!(transfer.on_ack(18, now), TransferStep::Wait);
    assert_eq!(transfer.on_ack(21, now), TransferStep::End(Ending::Complete));
}

#[test]
fn the_first_window_may_lose_its_first_block_too() {
    let now = Instant::now();
    let mut transfer = begun(granted(512, 4), 512 * 20, now);
    assert_eq!(transfer.on_ack(0, now), blocks(1, 4));
}

#[test]
fn a_repeated_request_is_answered_until_the_peer_progresses() {
    let start = Instant::now();
    let (mut transfer, _) = Transfer::new(granted(512, 4), 5120, PATIENCE, start);
    assert_eq!(transfer.on_request(start), RepeatedRequest::Again(TransferStep::OptionAck));
    transfer.on_ack(0, start);
    assert_eq!(transfer.on_request(start + RESTART_TIMEOUT / 2), RepeatedRequest::Again(TransferStep::Wait));
    assert_eq!(transfer.on_request(start + RESTART_TIMEOUT), RepeatedRequest::Restart);

    let (mut transfer, _) = Transfer::new(plain(), 5120, PATIENCE, start);
    assert_eq!(transfer.on_request(start + RESTART_TIMEOUT), RepeatedRequest::Again(blocks(1, 1)));
    transfer.on_ack(1, start + RESTART_TIMEOUT);
    assert_eq!(transfer.on_request(start + RESTART_TIMEOUT * 2), RepeatedRequest::Restart);
}

#[test]
fn the_pause_before_a_retransmission_follows_the_round_trip() {
    let mut now = Instant::now();
    let mut transfer = begun(granted(512, 1), 1 << 20, now);
    for block in 1..100 {
        now += Duration::from_millis(40);
        transfer.on_ack(block, now);
    }
    let near = transfer.deadline() - now;
    assert!((MIN_LOCKSTEP_RETRY_INTERVAL..Duration::from_millis(80)).contains(&near), "{near:?}");
    for block in 100..200 {
        now += Duration::from_millis(if block % 2 == 0 { 100 } else { 700 });
        transfer.on_ack(block, now);
    }
    let far = transfer.deadline() - now;
    assert!((Duration::from_millis(700)..Duration::from_secs(3)).contains(&far), "{far:?}");
}

/// Lets a peer acknowledge each packet of a transfer in lockstep after a round trip, copies too. Returns how often each
/// block was sent.
fn copies_in_lockstep(mut transfer: Transfer, mut now: Instant, first: u16, count: u16, trip: Duration) -> Vec<u32> {
    let mut copies = vec![0; usize::from(count) + 1];
    let mut acknowledgements = BTreeMap::new();
    let mut sent = 0;
    let mut send = |step: TransferStep, now: Instant, waiting: &mut BTreeMap<(Instant, u32), u16>| {
        let TransferStep::Data(blocks) = step else { return };
        for block in blocks.iter().map(on_wire).filter(|block| (first..first + count).contains(block)) {
            copies[usize::from(block - first)] += 1;
            sent += 1;
            waiting.insert((now + trip, sent), block);
        }
    };
    // The block that is awaited was sent just now.
    send(blocks(first.into(), first.into()), now, &mut acknowledgements);
    while let Some((&(at, _), &block)) = acknowledgements.first_key_value() {
        if transfer.deadline() < at {
            now = transfer.deadline();
            send(transfer.on_timeout(now), now, &mut acknowledgements);
            continue;
        }
        now = at;
        acknowledgements.pop_first();
        send(transfer.on_ack(block, now), now, &mut acknowledgements);
    }
    copies.truncate(usize::from(count));
    copies
}

#[test]
fn a_peer_that_became_slow_gets_each_block_once_again() {
    for milliseconds in [40, 100, 180, 600, 2000] {
        let mut now = Instant::now();
        let mut transfer = begun(granted(512, 1), 1 << 20, now);
        for block in 1..=100 {
            now += Duration::from_millis(1);
            transfer.on_ack(block, now);
        }
        let copies = copies_in_lockstep(transfer, now, 101, 60, Duration::from_millis(milliseconds));
        assert!(copies[0] > 1 && copies[12..].iter().all(|count| *count == 1), "{milliseconds} ms: {copies:?}");
    }
}

#[test]
fn a_peer_that_became_slow_gets_each_window_once_again() {
    let (mut now, mut acknowledged) = (Instant::now(), 0);
    let mut transfer = begun(granted(512, 4), 1 << 20, now);
    for _ in 0..100 {
        now += Duration::from_millis(1);
        acknowledged += 4;
        transfer.on_ack(acknowledged, now);
    }
    let mut resent = Vec::new();
    for _ in 0..20 {
        let answered = now + Duration::from_millis(700);
        let before = transfer.resent_blocks();
        while transfer.deadline() < answered {
            transfer.on_timeout(transfer.deadline());
        }
        resent.push(transfer.resent_blocks() - before);
        now = answered;
        acknowledged += 4;
        transfer.on_ack(acknowledged, now);
    }
    assert!(resent[0] > 0 && resent[6..].iter().all(|count| *count == 0), "{resent:?}");
}

#[test]
fn a_peer_that_never_acknowledges_gets_three_packets_whatever_timeout_it_asks_for() {
    for timeout in [None, Some(1), Some(255)] {
        let start = Instant::now();
        let asked = RequestedOptions { timeout, size: true, window: Some(64), ..RequestedOptions::default() };
        let granted = NegotiatedOptions::new(asked, OptionLimits::of_mtu(1500, false));
        let (mut transfer, _) = Transfer::new(granted, 5_000_000, PATIENCE, start);
        assert_eq!(transfer.on_timeout(start), TransferStep::Wait);
        let (mut sent, mut repeated) = (1, 0);
        let (ending, took) = loop {
            let now = transfer.deadline();
            match transfer.on_timeout(now) {
                TransferStep::OptionAck => sent += 1,
                TransferStep::Wait => {}
                TransferStep::End(ending) => break (ending, now - start),
                other @ TransferStep::Data(_) => panic!("{other:?}"),
            }
            if repeated < 5 {
                repeated += 1;
                sent += u32::from(transfer.on_request(now) == RepeatedRequest::Again(TransferStep::OptionAck));
            }
        };
        assert_eq!((ending, took), (Ending::Silent, UNPROVEN_TIMEOUT), "{timeout:?}");
        assert!(sent <= MAX_UNPROVEN_PACKETS, "{timeout:?}: {sent} packets");
    }
}

#[test]
fn a_peer_that_falls_silent_is_retried_ever_more_slowly_with_one_block_and_then_given_up() {
    let start = Instant::now();
    let mut transfer = begun(granted(512, 8), 512 * 100, start);
    let mut sent = Vec::new();
    let ending = loop {
        let now = transfer.deadline();
        match transfer.on_timeout(now) {
            TransferStep::Data(blocks) => sent.push(((now - start).as_millis(), blocks.count())),
            TransferStep::End(ending) => break (ending, now - start),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ending, (Ending::Silent, PATIENCE));
    assert_eq!(sent.iter().map(|(_, blocks)| *blocks).collect::<Vec<_>>()[..4], [8, 1, 1, 1]);
    assert!(sent.len() < 14, "{sent:?}");
}

#[test]
fn a_peer_that_acknowledges_what_was_never_sent_is_given_up() {
    let now = Instant::now();
    let mut transfer = begun(granted(512, 4), 512 * 1000, now);
    let steps: Vec<_> = (0..MAX_FORGED_ACKS).map(|number| transfer.on_ack(100 + u16::from(number), now)).collect();
    assert_eq!(steps.last(), Some(&TransferStep::End(Ending::Forged)));
    let mut unproven = Transfer::new(granted(512, 4), 512 * 1000, PATIENCE, now).0;
    let steps: Vec<_> = (0..MAX_FORGED_ACKS).map(|_| unproven.on_ack(4, now)).collect();
    assert_eq!((unproven.is_proven(), steps.last()), (false, Some(&TransferStep::End(Ending::Forged))));
}

#[test]
fn a_requested_timeout_is_kept_and_extends_the_peer_timeout() {
    let start = Instant::now();
    let asked = RequestedOptions { timeout: Some(10), ..RequestedOptions::default() };
    let mut transfer = begun(NegotiatedOptions::new(asked, OptionLimits::of_mtu(1500, false)), 9, start);
    for seconds in [10, 20, 30] {
        assert_eq!(transfer.deadline(), start + Duration::from_secs(seconds));
        assert_eq!(transfer.on_timeout(transfer.deadline()), blocks(1, 1));
    }
    assert_eq!(transfer.on_timeout(start + Duration::from_secs(40)), TransferStep::End(Ending::Silent));
}

/// A SplitMix64 random number generator.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

#[derive(Debug, Clone)]
enum Message {
    OptionAck,
    Data(u16, Range<u64>),
    Ack(u16),
}

#[derive(Debug, Clone, Copy)]
struct Weather {
    lost: u64,
    duplicated: u64,
    late: u64,
}

/// A client of RFC 7440 that reads into `taken`: it acknowledges each window, at a gap the last block in
/// order, again if the last block in order arrives twice, and, if `eager`, at any block that it has seen
/// before (as tftp-hpa and EDK2 do).
struct Receiver {
    window: u64,
    block_size: u64,
    eager: bool,
    next: u64,
    since_ack: u64,
    in_gap: bool,
    taken: u64,
    done: bool,
}

impl Receiver {
    fn hear(&mut self, message: Message) -> Option<u16> {
        match message {
            Message::OptionAck => (self.next == 1).then_some(0),
            Message::Ack(_) => panic!("a server acknowledges nothing"),
            Message::Data(block, span) if block == on_wire(self.next) && !self.done => {
                assert_eq!(span.start, self.taken, "the octets of block {block}");
                self.taken = span.end;
                self.next += 1;
                self.since_ack += 1;
                self.in_gap = false;
                self.done = span.end - span.start < self.block_size;
                (self.done || self.since_ack == self.window).then(|| self.acknowledge())
            }
            Message::Data(block, _) => {
                let behind = on_wire(self.next).wrapping_sub(block) < 0x8000;
                let gap = !behind && !std::mem::replace(&mut self.in_gap, true);
                let last = block == on_wire(self.next - 1);
                (gap || last || (behind && self.eager)).then(|| self.acknowledge())
            }
        }
    }

    fn acknowledge(&mut self) -> u16 {
        self.since_ack = 0;
        on_wire(self.next - 1)
    }
}

/// Runs one transfer over a simulated network until the server ends it. Returns how it ended, the octets
/// that the peer took, the blocks sent and the time taken.
fn run(
    granted: NegotiatedOptions,
    size: u64,
    weather: Weather,
    eager: bool,
    seed: u64,
) -> (Ending, u64, u64, Duration) {
    let start = Instant::now();
    let mut chance = Chance(seed);
    let (mut transfer, mut step) = Transfer::new(granted, size, PATIENCE, start);
    let mut peer = Receiver {
        window: granted.window.into(),
        block_size: granted.block_size.into(),
        eager,
        next: 1,
        since_ack: 0,
        in_gap: false,
        taken: 0,
        done: false,
    };
    let mut network: BTreeMap<(Instant, u64), Message> = BTreeMap::new();
    let mut order = 0;
    let mut sent = 0;
    let mut now = start;
    let mut heard_at = start;
    loop {
        let mut post = Vec::new();
        match step {
            TransferStep::OptionAck => post.push(Message::OptionAck),
            TransferStep::Data(blocks) => {
                post.extend(blocks.iter().map(|block| Message::Data(on_wire(block), transfer.span(block))));
                sent += blocks.count();
            }
            TransferStep::Wait => {}
            TransferStep::End(ending) => return (ending, peer.taken, sent, now - start),
        }
        // The next event: a datagram at either side, the server's deadline, or the peer's.
        let peer_clock = heard_at + Duration::from_secs(2);
        loop {
            for message in post.drain(..) {
                for _ in 0..if chance.percent(weather.duplicated) { 2 } else { 1 } {
                    if chance.percent(weather.lost) {
                        continue;
                    }
                    let late = if chance.percent(weather.late) { WIRE * 3 } else { Duration::ZERO };
                    order += 1;
                    network.insert((now + WIRE + late, order), message.clone());
                }
            }
            let arrival = network.keys().next().map(|key| key.0);
            let clock = transfer.deadline().min(if peer.done { transfer.deadline() } else { peer_clock });
            match arrival.filter(|&at| at <= clock) {
                None if clock == transfer.deadline() => {
                    now = clock;
                    step = transfer.on_timeout(now);
                    break;
                }
                None => {
                    now = clock;
                    heard_at = now;
                    let again = peer.acknowledge();
                    step = TransferStep::Wait;
                    network.insert((now + WIRE, u64::MAX - order), Message::Ack(again));
                    break;
                }
                Some(at) => {
                    now = at;
                    let (_, message) = network.pop_first().unwrap();
                    if let Message::Ack(block) = message {
                        step = transfer.on_ack(block, now);
                        break;
                    }
                    heard_at = now;
                    post.extend(peer.hear(message).map(Message::Ack));
                }
            }
        }
    }
}

#[test]
fn nothing_is_sent_twice_without_loss() {
    let fair = Weather { lost: 0, duplicated: 0, late: 0 };
    for (window, size) in [(1, 100_000), (4, 100_000), (16, 1_000_000), (64, 1_000_000), (7, 0)] {
        let (ending, taken, sent, _) = run(granted(1468, window), size, fair, true, 1);
        assert_eq!((ending, taken, sent), (Ending::Complete, size, size / 1468 + 1));
    }
}

#[test]
fn duplicates_of_everything_do_not_multiply() {
    let duplicated = Weather { lost: 0, duplicated: 100, late: 0 };
    let (ending, _, sent, _) = run(granted(512, 1), 512 * 999, duplicated, true, 1);
    assert_eq!((ending, sent), (Ending::Complete, 1000));
    for eager in [false, true] {
        let (ending, _, sent, _) = run(granted(512, 8), 512 * 999, duplicated, eager, 1);
        assert_eq!(ending, Ending::Complete);
        assert!(sent <= 2000, "{sent} blocks sent for 1000");
    }
}

#[test]
fn one_loss_in_a_hundred_does_not_stall_windows() {
    let drizzle = Weather { lost: 1, duplicated: 0, late: 0 };
    let (ending, taken, sent, time) = run(granted(1468, 16), 10_000_000, drizzle, false, 7);
    assert_eq!((ending, taken), (Ending::Complete, 10_000_000));
    assert!(sent < 8_500 && time < Duration::from_secs(4), "{sent} blocks in {time:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Loss ends a transfer by silence only if the last acknowledgement was lost.
    #[test]
    fn every_octet_arrives_in_order_in_any_weather(
        seed: u64, window in 1u16..20, block_size in 8u16..40, size in 0u64..3000, eager: bool,
        lost in 0u64..25, duplicated in 0u64..40, late in 0u64..40,
    ) {
        let weather = Weather { lost, duplicated, late };
        let (ending, taken, sent, _) = run(granted(block_size, window), size, weather, eager, seed);
        prop_assert_eq!(taken, size);
        prop_assert!(matches!(ending, Ending::Complete | Ending::Silent));
        let needed = size / u64::from(block_size) + 1;
        prop_assert!(sent <= needed * 12 + 200, "{} blocks sent for {}", sent, needed);
    }

    /// No acknowledgement makes the transfer panic or send a block beyond the file.
    #[test]
    fn wild_acknowledgements_do_no_harm(
        size in 0u64..100_000, window in 1u16..70,
        acks in proptest::collection::vec((any::<u16>(), 0u64..2_000), 0..200),
    ) {
        let mut now = Instant::now();
        let (mut transfer, _) = Transfer::new(granted(8, window), size, PATIENCE, now);
        for (block, pause) in acks {
            now += Duration::from_millis(pause);
            for step in [transfer.on_timeout(now), transfer.on_ack(block, now)] {
                if let TransferStep::Data(blocks) = step {
                    prop_assert!(blocks.count() <= u64::from(window));
                    prop_assert!(blocks.last <= size / 8 + 1);
                }
            }
        }
    }
}
