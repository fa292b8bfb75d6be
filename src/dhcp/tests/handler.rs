//! The DHCP adapter over a store in a temporary directory.

use std::net::SocketAddrV4;

use nix::sys::eventfd::{EfdFlags, EventFd};
use serde_json::json;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::*;
use crate::boot::diagnosis::Step;
use crate::dhcp::answer::Destination;
use crate::dhcp::packet::tests::message;
use crate::dhcp::serve::host_changes::MAX_PENDING_CHANGES;
use crate::fleet::lifecycle::Transition;
use crate::fleet::{LeaseTimes, Subnet};
use crate::gate::fixture::{Fixture, VM};
use crate::store::{Change, Observation, StoreError};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const CLASS: (u8, &[u8]) = (60, b"PXEClient:Arch:00007:UNDI:003000");

/// A handler with the other ends of its queues.
struct HandlerTestbed {
    fixture: Fixture,
    handler: RequestHandler,
    interface: InterfaceState,
    deferred: Receiver<DeferredMessage>,
    _progress: Sender<Mac>,
}

impl HandlerTestbed {
    fn new(rule: &str, mode: InterfaceMode) -> Self {
        let fixture = Fixture::new(rule);
        let host = |last| Ipv4Addr::new(10, 77, 0, last);
        let subnet = Subnet {
            net: "10.77.0.0/24".parse().unwrap(),
            pools: vec![host(100)..=host(110)],
            reservations: Vec::new(),
            routers: vec![host(1)],
            dns: Vec::new(),
            ntp: Vec::new(),
            domain: None,
            search: Vec::new(),
            routes: Vec::new(),
            times: LeaseTimes::of(Duration::from_secs(3600)),
        };
        let settings = DhcpSettings {
            boot_file_locations: Vec::new(),
            subnets: vec![subnet],
            relays: Vec::new(),
            authoritative: true,
            conflict_check: false,
            stand_down: true,
            check_interval: Duration::from_secs(60),
            socket: crate::dhcp::serve::SocketChoice::Auto,
        };
        let (progress, progressed) = mpsc::channel(4);
        let (sender, deferred) = mpsc::channel(4);
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap());
        let queues = HandlerQueues { progressed, deferred: DeferredQueue { messages: sender, wake } };
        let handler = RequestHandler::new(fixture.gate.clone(), settings, [OURS].into_iter().collect(), queues);
        let interface = InterfaceState {
            index: 0,
            name: "eth0".to_owned(),
            address: OURS,
            networks: vec!["10.77.0.0/24".parse().unwrap()],
            mode,
            own: vec![OURS],
            site: fixture.gate.site.load_full(),
            detector: rogue_servers::ServerDetector::new(OURS, Duration::from_secs(60), Instant::now()),
        };
        Self { fixture, handler, interface, deferred, _progress: progress }
    }

    fn handle(&mut self, bytes: &[u8]) -> PendingReplies {
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let arrival = Arrival { port: DhcpPort::Server, from };
        self.handle_again(&ReceivedMessage {
            interface: 0,
            bytes: bytes.into(),
            arrival,
            received: Instant::now(),
            is_repeated: false,
            enrolled: None,
        })
    }

    fn handle_again(&mut self, message: &ReceivedMessage<'_>) -> PendingReplies {
        let mut out = PendingReplies::default();
        self.handler.answer(&self.interface, message, &mut out);
        self.handler.commit_changes(&mut out.changes);
        out
    }

    /// Returns the next deferred message, once the store has answered.
    async fn next_deferred(&mut self) -> DeferredMessage {
        self.deferred.recv().await.expect("the handler holds the sender")
    }
}

fn is_empty(out: &PendingReplies) -> bool {
    out.replies.is_empty() && out.after_commit.is_empty() && out.probes.is_empty()
}

fn boot_file(reply: &DhcpReply) -> String {
    let reply = DhcpPacket::parse_reply(&reply.message).unwrap();
    String::from_utf8(reply.option(67).unwrap().into_owned()).unwrap()
}

#[tokio::test]
async fn an_assigned_host_is_offered_its_program() {
    let mut testbed = HandlerTestbed::new("hold", InterfaceMode::Proxy);
    testbed.fixture.put_vm(json!({})).await;
    let out = testbed.handle(&message(1, &[CLASS]));
    assert_eq!(out.replies.iter().map(boot_file).collect::<Vec<_>>(), ["52-54-00-12-34-56/snponly.efi"]);
    assert_eq!(testbed.fixture.gate.counters.answered(Protocol::Dhcp), 0, "a reply counts once it has left");
    testbed.handler.record_sent(&out.replies, &[], &mut { out.offers });
    assert_eq!(testbed.fixture.gate.counters.answered(Protocol::Dhcp), 1);
    testbed.handle(&message(1, &[CLASS]));
    let offers = |entries: Vec<crate::event::Entry>| {
        entries.iter().filter(|entry| matches!(entry.event, Event::Offer { .. })).map(|entry| entry.count).sum::<u32>()
    };
    assert_eq!(offers(testbed.fixture.timeline(2).await), 1, "a retry is no second offer");
}

#[tokio::test]
async fn a_held_host_and_a_broken_packet_get_no_answer_and_are_counted() {
    let mut testbed = HandlerTestbed::new("hold", InterfaceMode::Proxy);
    testbed.fixture.gate.decide_and_enrol(&facts()).await;
    assert!(is_empty(&testbed.handle(&message(1, &[CLASS]))));
    assert_eq!(testbed.fixture.gate.counters.refused(Protocol::Dhcp, Reason::Held), 1);
    assert!(is_empty(&testbed.handle(b"nonsense")));
    assert_eq!(testbed.fixture.gate.counters.dropped(Protocol::Dhcp, DropReason::Truncated), 1);
    assert!(is_empty(&testbed.handle(&message(1, &[(60, b"MSFT 5.0")]))));
    assert_eq!(testbed.fixture.gate.counters.dropped(Protocol::Dhcp, DropReason::NotABootRequest), 1);
}

#[tokio::test]
async fn a_held_host_that_asks_is_recorded_as_seen_once_a_minute() {
    let mut testbed = HandlerTestbed::new("hold", InterfaceMode::Proxy);
    testbed.fixture.put_vm(json!({})).await;
    let (transition, observation) = (Transition::Hold, Observation::default());
    let store = testbed.fixture.gate.store.clone();
    store.commit(Change::Advance { mac: VM, transition, observation, event: None }).await.unwrap();
    let seen = || store.load().host_by_mac(VM).unwrap().status.last_seen_time;
    assert_eq!(seen(), None);
    assert!(testbed.handle(&message(1, &[CLASS])).replies.is_empty());
    let mut versions = store.versions();
    let is_recorded = async {
        while seen().is_none() {
            versions.changed().await.unwrap()
        }
    };
    tokio::time::timeout(Duration::from_secs(20), is_recorded).await.expect("the host is recorded as seen");
    let version = store.load().version;
    testbed.handle(&message(1, &[CLASS]));
    // Changes are applied in order: this one comes after any of the handler's.
    store.commit(testbed.fixture.gate.observation_of(&facts(), None)).await.unwrap();
    assert_eq!(store.load().version, version + 1, "it was seen a moment ago");
}

fn facts() -> Facts {
    let bytes = message(1, &[CLASS]);
    answer::claims(&DhcpPacket::parse(&bytes).unwrap(), OURS).unwrap()
}

#[tokio::test]
async fn an_unknown_host_is_durable_before_its_message_is_answered() {
    let mut testbed = HandlerTestbed::new("hold", InterfaceMode::Proxy);
    assert!(is_empty(&testbed.handle(&message(1, &[CLASS]))), "the message waits for the store");
    let deferred = testbed.next_deferred().await;
    assert!(testbed.fixture.gate.store.load().host_by_mac(VM).is_some());
    assert!(matches!(deferred.enrolled, Some(Ok(()))), "the host is enrolled");
    assert!(is_empty(&testbed.handle_again(&deferred)));
    assert_eq!(testbed.fixture.gate.counters.refused(Protocol::Dhcp, Reason::Held), 1);
}

#[tokio::test]
async fn without_the_store_an_unknown_host_is_refused() {
    let mut testbed = HandlerTestbed::new("hold", InterfaceMode::Proxy);
    testbed.fixture.break_store();
    testbed.handle(&message(1, &[CLASS]));
    let deferred = testbed.next_deferred().await;
    assert!(matches!(deferred.enrolled, Some(Err(StoreError::Unavailable(_)))));
    assert!(is_empty(&testbed.handle_again(&deferred)));
    assert_eq!(testbed.fixture.gate.counters.refused(Protocol::Dhcp, Reason::StoreUnavailable), 1);
}

/// Requests the address that a first DISCOVER is offered.
fn request_lease(testbed: &mut HandlerTestbed) -> PendingReplies {
    let offer = testbed.handle(&message(1, &[]));
    let address: [u8; 4] = offer.replies[0].message[16..20].try_into().unwrap();
    testbed.handle(&message(3, &[(50, &address), (54, &OURS.octets())]))
}

#[tokio::test]
async fn a_lease_is_durable_before_its_acknowledgement_leaves() {
    let mut testbed = HandlerTestbed::new("hold", InterfaceMode::Server);
    // Only machines that were seen to boot are followed.
    testbed.fixture.gate.trace(VM, Step::PoweredOn);
    let mut out = request_lease(&mut testbed);
    assert!(out.replies.is_empty(), "the acknowledgement waits for the record");
    let address = out.after_commit[0].0.address;
    let (done, sent) = tokio::sync::oneshot::channel();
    let gate = testbed.fixture.gate.clone();
    testbed.handler.commit(&mut out.after_commit, move |replies| {
        let is_stored = gate.store.load().lease_by_ip(address).is_some();
        done.send((replies.len(), is_stored)).unwrap();
        Vec::new()
    });
    assert_eq!(sent.await.unwrap(), (1, true), "the lease is stored when its reply leaves");
    until_step(&testbed, Step::Acknowledged { address }).await;
}

/// Waits until the newest step of the machine is this one.
async fn until_step(testbed: &HandlerTestbed, step: Step) {
    let newest = || Some(testbed.fixture.gate.traces.look_up(VM)?.steps.pop()?.step);
    while newest().as_ref() != Some(&step) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_acknowledgement_that_cannot_be_sent_is_recorded() {
    let mut testbed = HandlerTestbed::new("hold", InterfaceMode::Server);
    // Only machines that were seen to boot are followed.
    testbed.fixture.gate.trace(VM, Step::PoweredOn);
    let mut out = request_lease(&mut testbed);
    let to = out.after_commit[0].1.as_ref().unwrap().to;
    let Destination::LinkLayer { address, .. } = to else { panic!("a reply to the link-layer address: {to:?}") };
    testbed.handler.commit(&mut out.after_commit, |_| vec![(0, Errno::ENETDOWN)]);
    until_step(&testbed, Step::ReplyNotSent { to: address, error: Errno::ENETDOWN.desc().into() }).await;
    let counters = &testbed.fixture.gate.counters;
    assert_eq!(counters.dropped(Protocol::Dhcp, DropReason::SendFailed), 1);
}

#[tokio::test]
async fn without_the_store_no_acknowledgement_leaves() {
    let mut testbed = HandlerTestbed::new("hold", InterfaceMode::Server);
    // Only machines that were seen to boot are followed.
    testbed.fixture.gate.trace(VM, Step::PoweredOn);
    let mut out = request_lease(&mut testbed);
    testbed.fixture.break_store();
    let (done, sent) = tokio::sync::oneshot::channel::<usize>();
    testbed.handler.commit(&mut out.after_commit, move |replies| {
        done.send(replies.len()).unwrap();
        Vec::new()
    });
    assert!(sent.await.is_err(), "the reply is dropped unsent");
    while testbed.fixture.gate.counters.dropped(Protocol::Dhcp, DropReason::LeaseNotWritten) == 0 {
        tokio::task::yield_now().await;
    }
    until_step(&testbed, Step::NoAddress { reason: DropReason::LeaseNotWritten }).await;
}

#[tokio::test]
async fn a_server_stands_down_beside_another_boot_server() {
    let mut testbed = HandlerTestbed::new("hold", InterfaceMode::Proxy);
    testbed.fixture.put_vm(json!({})).await;
    let server = Ipv4Addr::new(10, 77, 0, 1);
    let observed = ObservedServer { server, role: ServerRole::BootServer, gives_addresses: false, is_bootlatch: false };
    testbed.handler.record_other_server(&mut testbed.interface, observed);
    assert!(is_empty(&testbed.handle(&message(1, &[CLASS]))));
    assert_eq!(testbed.fixture.gate.counters.dropped(Protocol::Dhcp, DropReason::StoodDown), 1);
}

#[tokio::test]
async fn a_bounded_number_of_unknown_hosts_waits_for_the_store() {
    let mut testbed = HandlerTestbed::new("hold", InterfaceMode::Proxy);
    let taken: Vec<_> = std::iter::from_fn(|| testbed.handler.changes.reserve()).collect();
    assert_eq!(taken.len(), MAX_PENDING_CHANGES);
    assert!(is_empty(&testbed.handle(&message(1, &[CLASS]))));
    assert_eq!(testbed.fixture.gate.counters.dropped(Protocol::Dhcp, DropReason::Overload), 1);
    drop(taken);
    assert!(is_empty(&testbed.handle(&message(1, &[CLASS]))));
    assert!(matches!(testbed.next_deferred().await.enrolled, Some(Ok(()))));
    assert_eq!(testbed.fixture.gate.counters.dropped(Protocol::Dhcp, DropReason::Overload), 1);
}

#[tokio::test]
async fn a_message_that_finds_the_queue_full_is_lost() {
    let mut testbed = HandlerTestbed::new("hold", InterfaceMode::Proxy);
    let bytes = message(1, &[CLASS]);
    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let arrival = Arrival { port: DhcpPort::Server, from };
    let received = ReceivedMessage {
        interface: 0,
        bytes: bytes.into(),
        arrival,
        received: Instant::now(),
        is_repeated: false,
        enrolled: None,
    };
    let capacity = testbed.deferred.max_capacity();
    for _ in 0..=capacity {
        testbed.handler.defer(received.to_deferred());
    }
    assert_eq!(testbed.deferred.len(), capacity);
    testbed.next_deferred().await;
    testbed.handler.defer(received.to_deferred());
    assert_eq!(testbed.deferred.len(), capacity);
}

#[tokio::test]
async fn unknown_clients_of_one_network_send_a_bounded_number_of_messages() {
    let mut testbed = HandlerTestbed::new("hold", InterfaceMode::Server);
    let rate = Rate { tokens: MAX_MESSAGES_PER_CLIENT, per: Duration::from_secs(60), burst: MAX_MESSAGES_PER_CLIENT };
    testbed.handler.unknown_clients = TokenBuckets::new(rate, MAX_ENTRY_POINTS);
    let mut send = |last: u32| {
        let mut bytes = message(1, &[]);
        bytes[33] = u8::try_from(last).unwrap();
        testbed.handle(&bytes);
        testbed.fixture.gate.counters.dropped(Protocol::Dhcp, DropReason::RateLimit)
    };
    assert_eq!((0..MAX_MESSAGES_PER_CLIENT).map(&mut send).sum::<u64>(), 0);
    assert_eq!(send(MAX_MESSAGES_PER_CLIENT), 1);
}
