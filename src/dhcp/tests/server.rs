use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::super::packet::tests::message;
use super::*;
use crate::boot::site::tests::site;
use crate::boot::{Program, Verdict};
use crate::dhcp::answer;
use crate::dhcp::quirks::BootFileLocation;
use crate::fleet::{LeaseState, Mac};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CARD: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

fn subnet(third: u8) -> Subnet {
    let address = |last| Ipv4Addr::new(10, 0, third, last);
    Subnet {
        net: ipnet::Ipv4Net::new(address(0), 24).unwrap(),
        pools: vec![address(100)..=address(200)],
        reservations: Vec::new(),
        routers: vec![address(1)],
        dns: vec![address(2), address(3)],
        ntp: vec![address(4)],
        domain: Some("example.org".into()),
        search: vec!["example.org".into()],
        routes: vec![("10.8.0.0/16".parse().unwrap(), address(9))],
        times: LeaseTimes::of(Duration::from_secs(3600)),
    }
}

fn server() -> DhcpServer {
    DhcpServer::new(vec![subnet(0), subnet(7)], true, false)
}

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn ask(server: &mut DhcpServer, bytes: &[u8]) -> Result<Vec<Effect>, DropReason> {
    ask_through(server, bytes, RelayTrust::OwnAddress)
}

/// Handles a message that came through a relay, if it has one, which sends from port 4000.
fn ask_through(server: &mut DhcpServer, bytes: &[u8], trust: RelayTrust) -> Result<Vec<Effect>, DropReason> {
    let request = DhcpPacket::parse(bytes).unwrap();
    let facts = answer::claims(&request, OURS);
    let verdict = Verdict::Chainload(Program("snponly.efi".into()));
    let site = site("hold").reached_at(OURS.into());
    let boot = facts.and_then(|facts| BootOffer::new(&facts, &verdict, &site, BootFileLocation::Offer));
    let relay = Relay::of(&request, SocketAddrV4::new(request.giaddr(), 4000), || trust);
    let from = relay.map_or(request.ciaddr(), |relay| *relay.address.ip());
    let context = RequestContext { boot: boot.as_ref(), from, relay, ..context() };
    server.answer(&request, &context)
}

/// Returns the context of a message that is believed.
fn context() -> RequestContext<'static> {
    RequestContext {
        ours: OURS,
        from: Ipv4Addr::UNSPECIFIED,
        relay: None,
        boot: None,
        own: None,
        is_known: true,
        declared: 0,
        taken: &|_| false,
        may_take: &|_| Ok(()),
        is_present: &|_| false,
        now: now(),
    }
}

/// Handles a message that nobody may take an address by.
fn ask_unbelieved(server: &mut DhcpServer, bytes: &[u8]) -> Result<Vec<Effect>, DropReason> {
    let context = RequestContext { may_take: &|_| Err(DropReason::UnknownRelay), ..context() };
    server.answer(&DhcpPacket::parse(bytes).unwrap(), &context)
}

#[test]
fn a_message_that_is_not_believed_grants_nothing_new() {
    let mut server = server();
    let address = [10, 0, 0, 100];
    let selecting = message(3, &[(50, &address), (54, &OURS.octets())]);
    for bytes in [message(1, &[]), selecting.clone(), message(3, &[(50, &address)]), message(4, &[(50, &address)])] {
        assert_eq!(ask_unbelieved(&mut server, &bytes), Err(DropReason::UnknownRelay));
    }
    ask(&mut server, &message(1, &[])).unwrap();
    assert_eq!(ask_unbelieved(&mut server, &selecting), Err(DropReason::UnknownRelay), "its offer was made to another");
    ask(&mut server, &selecting).unwrap();
    let renewed = ask_unbelieved(&mut server, &message(3, &[(50, &address)])).unwrap();
    assert!(matches!(&renewed[..], [Effect::Record(_), Effect::Send(_)]), "its own lease is renewed by any way");
}

#[test]
fn an_acceptance_without_an_offer_is_refused() {
    let mut server = server();
    let refused = ask(&mut server, &message(3, &[(50, &[10, 0, 0, 150]), (54, &OURS.octets())])).unwrap();
    assert_eq!(options(&sent(&refused).message)[&53], [6]);
}

#[test]
fn a_lease_is_released_and_declined_by_its_client_only() {
    let mut server = server();
    ask(&mut server, &message(1, &[])).unwrap();
    let address = [10, 0, 0, 100];
    ask(&mut server, &message(3, &[(50, &address), (54, &OURS.octets())])).unwrap();
    let mut release = message(7, &[(54, &OURS.octets())]);
    release[12..16].copy_from_slice(&address);
    let elsewhere = RequestContext { from: Ipv4Addr::new(10, 0, 7, 66), ..context() };
    let released = server.answer(&DhcpPacket::parse(&release).unwrap(), &elsewhere);
    assert_eq!(released, Err(DropReason::ContradictedClaim));
    let present = RequestContext { is_present: &|_| true, ..context() };
    let decline = message(4, &[(50, &address), (54, &OURS.octets())]);
    let declined = server.answer(&DhcpPacket::parse(&decline).unwrap(), &present);
    assert_eq!(declined, Err(DropReason::ContradictedClaim));
}

fn options(message: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut message = message.to_vec();
    assert_eq!(message[0], 2);
    message[0] = 1;
    let request = DhcpPacket::parse(&message).unwrap();
    (1..255).filter_map(|code| Some((code, request.option(code)?.into_owned()))).collect()
}

fn sent(effects: &[Effect]) -> &DhcpReply {
    match effects.last() {
        Some(Effect::Send(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

fn yiaddr(reply: &DhcpReply) -> Ipv4Addr {
    <[u8; 4]>::try_from(&reply.message[16..20]).unwrap().into()
}

#[test]
fn a_client_gets_its_address_and_it_is_recorded_first() {
    let mut server = server();
    let offer = ask(&mut server, &message(1, &[(55, &[1, 3, 6, 15, 42, 119, 121])])).unwrap();
    assert_eq!(offer.len(), 1, "an offer is not recorded");
    let address = yiaddr(sent(&offer));
    assert_eq!(sent(&offer).to, Destination::LinkLayer { mac: CARD, address });
    let found = options(&sent(&offer).message);
    assert_eq!(found[&53], [2]);
    assert_eq!((&found[&51], &found[&58], &found[&59]), (&vec![0, 0, 14, 16], &vec![0, 0, 7, 8], &vec![0, 0, 12, 78]));
    assert_eq!(found[&121], [0, 10, 0, 0, 1, 16, 10, 8, 10, 0, 0, 9]);
    assert_eq!(found[&119], b"\x07example\x03org\0");
    assert!(!found.contains_key(&28), "it was not asked for");
    let taken = ask(&mut server, &message(3, &[(50, &address.octets()), (54, &OURS.octets())])).unwrap();
    let [Effect::Record(lease), Effect::Send(reply)] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!((lease.address, lease.mac, lease.held), (address, CARD, LeaseState::Bound));
    assert_eq!((options(&reply.message)[&53].as_slice(), yiaddr(reply)), (&[5][..], address));
}

#[test]
fn a_booting_client_gets_its_boot_file_with_its_address() {
    let mut server = server();
    let class = b"PXEClient:Arch:00007:UNDI:003000";
    for (kind, extra) in [(1, vec![]), (3, vec![(50, vec![10, 0, 0, 100]), (54, OURS.octets().to_vec())])] {
        let mut given: Vec<(u8, &[u8])> = vec![(60, class), (93, &[0, 7]), (97, &[0; 17])];
        given.extend(extra.iter().map(|(code, value)| (*code, value.as_slice())));
        let effects = ask(&mut server, &message(kind, &given)).unwrap();
        let reply = sent(&effects);
        let found = options(&reply.message);
        assert_eq!(reply.message[20..24], OURS.octets());
        assert_eq!(found[&60], b"PXEClient");
        assert_eq!(found[&67], b"52-54-00-12-34-56/snponly.efi");
        assert_eq!((found[&43].as_slice(), found[&97].len()), (&[6, 1, 8, 255][..], 17));
        assert_eq!(yiaddr(reply), Ipv4Addr::new(10, 0, 0, 100));
    }
}

#[test]
fn a_relay_selects_the_subnet() {
    let mut server = server();
    let relayed = |server: &mut DhcpServer, relay: [u8; 4], options: &[(u8, &[u8])]| {
        let mut bytes = message(1, options);
        bytes[24..28].copy_from_slice(&relay);
        ask(server, &bytes)
    };
    let offer = relayed(&mut server, [10, 0, 7, 1], &[(82, &[1, 2, 9, 9])]).unwrap();
    assert_eq!(sent(&offer).to, Destination::Address("10.0.7.1:67".parse().unwrap()));
    assert_eq!(yiaddr(sent(&offer)), Ipv4Addr::new(10, 0, 7, 100));
    assert_eq!(options(&sent(&offer).message)[&82], [1, 2, 9, 9]);
    let selected = relayed(&mut server, [172, 16, 0, 1], &[(82, &[5, 4, 10, 0, 7, 0])]).unwrap();
    assert_eq!(yiaddr(sent(&selected)).octets()[..3], [10, 0, 7]);
    assert_eq!(relayed(&mut server, [172, 16, 0, 1], &[]), Err(DropReason::NoSubnet));
}

/// Server identifier override 10.0.7.254, and the relay's source port.
const OVERRIDE: [u8; 6] = [11, 4, 10, 0, 7, 254];
const SOURCE_PORT: [u8; 2] = [19, 0];
const RELAY_ID: Ipv4Addr = Ipv4Addr::new(10, 0, 7, 254);

/// Returns a message of a client at 10.0.7.100 through the relay 10.0.7.1.
fn through_relay(kind: u8, agent: &[u8], options: &[(u8, &[u8])], ciaddr: [u8; 4]) -> Vec<u8> {
    let mut bytes = message(kind, &[options, &[(82, agent)]].concat());
    bytes[12..16].copy_from_slice(&ciaddr);
    bytes[24..28].copy_from_slice(&[10, 0, 7, 1]);
    bytes
}

#[test]
fn a_relay_may_pose_as_the_server() {
    let mut server = server();
    let (address, id, nobody) = ([10, 0, 7, 100], RELAY_ID.octets(), [0; 4]);
    let to_relay = Destination::Address("10.0.7.1:67".parse().unwrap());
    let messages = [
        (2, through_relay(1, &OVERRIDE, &[], nobody)),
        (5, through_relay(3, &OVERRIDE, &[(50, &address), (54, &id)], nobody)),
        // A renewal through the relay names no server.
        (5, through_relay(3, &OVERRIDE, &[], address)),
        (5, through_relay(8, &OVERRIDE, &[], [10, 0, 7, 9])),
    ];
    for (kind, bytes) in messages {
        let effects = ask(&mut server, &bytes).unwrap();
        let found = options(&sent(&effects).message);
        assert_eq!((found[&53][0], found[&54].as_slice()), (kind, &id[..]));
        assert_eq!(found[&82], OVERRIDE, "the option is returned");
        assert_eq!(sent(&effects).to, to_relay);
    }
    let impossible = through_relay(3, &OVERRIDE, &[(50, &[192, 168, 1, 5]), (54, &id)], nobody);
    let refused = ask(&mut server, &impossible).unwrap();
    let found = options(&sent(&refused).message);
    assert_eq!((found[&53][0], found[&54].as_slice()), (6, &id[..]));
    let ours = through_relay(3, &OVERRIDE, &[(50, &address), (54, &OURS.octets())], nobody);
    assert!(ask(&mut server, &ours).is_ok(), "our own identifier is still ours");
    let other = through_relay(3, &OVERRIDE, &[(50, &address), (54, &[10, 0, 0, 77])], nobody);
    assert_eq!(ask(&mut server, &other), Err(DropReason::OtherServer));
    let decline = through_relay(4, &OVERRIDE, &[(50, &address), (54, &id)], nobody);
    assert!(matches!(&ask(&mut server, &decline).unwrap()[..], [Effect::Record(_)]));
}

#[test]
fn an_option_makes_no_stranger_the_server() {
    let (address, id, nobody) = ([10, 0, 7, 100], RELAY_ID.octets(), [0; 4]);
    let agent = [&OVERRIDE[..], &SOURCE_PORT].concat();
    let mut server = server();
    let offer = ask_through(&mut server, &through_relay(1, &agent, &[], nobody), RelayTrust::None).unwrap();
    assert_eq!(options(&sent(&offer).message)[&54], OURS.octets());
    assert_eq!(sent(&offer).to, Destination::Address("10.0.7.1:67".parse().unwrap()), "not to the sender's port");
    let take = through_relay(3, &agent, &[(50, &address), (54, &id)], nobody);
    assert_eq!(ask_through(&mut server, &take, RelayTrust::None), Err(DropReason::OtherServer));
    // Without a relay (giaddr 0) the option is a switch's that snoops: it is returned, and asks for nothing.
    let snooped = ask(&mut server, &message(1, &[(82, &agent)])).unwrap();
    let found = options(&sent(&snooped).message);
    assert_eq!((found[&54].as_slice(), found[&82].as_slice()), (&OURS.octets()[..], &agent[..]));
}

#[test]
fn a_lease_is_released_through_the_relay_that_poses_as_the_server() {
    let (address, id) = ([10, 0, 7, 100], RELAY_ID.octets());
    let rows: [(&[u8], [u8; 4], RelayTrust, bool); 5] = [
        (&OVERRIDE, [172, 16, 0, 1], RelayTrust::Named, true),
        // Relays that are not listed, one that is not believed, and one that does not pose as the server.
        (&OVERRIDE, [10, 0, 7, 1], RelayTrust::OwnAddress, false),
        (&OVERRIDE, [172, 16, 0, 1], RelayTrust::OwnAddress, false),
        (&OVERRIDE, [10, 0, 7, 1], RelayTrust::None, false),
        (&[1, 2, 9, 9], [10, 0, 7, 1], RelayTrust::Named, false),
    ];
    for (agent, relay, trust, is_released) in rows {
        let mut server = server();
        let take = through_relay(3, &OVERRIDE, &[(50, &address), (54, &id)], [0; 4]);
        ask(&mut server, &through_relay(1, &OVERRIDE, &[], [0; 4])).unwrap();
        ask(&mut server, &take).unwrap();
        let agent = [agent, &[5, 4, 10, 0, 7, 0]].concat();
        let mut release = through_relay(7, &agent, &[], address);
        release[24..28].copy_from_slice(&relay);
        let released = ask_through(&mut server, &release, trust);
        let effects = released.as_deref().unwrap_or_default();
        let found = matches!(effects, [Effect::Record(lease)] if lease.held == LeaseState::Released);
        assert_eq!(found, is_released, "{agent:?} {relay:?} {trust:?}");
    }
}

#[test]
fn a_listed_relay_is_answered_at_the_port_that_it_sends_from_if_it_asks_for_that() {
    let mut server = server();
    use RelayTrust::{Named, OwnAddress};
    for (agent, trust, port) in
        [(&SOURCE_PORT[..], Named, 4000), (&SOURCE_PORT[..], OwnAddress, 67), (&[1, 2, 9, 9][..], Named, 67)]
    {
        let to = Destination::Address(SocketAddrV4::new([10, 0, 7, 1].into(), port));
        let offer = ask_through(&mut server, &through_relay(1, agent, &[], [0; 4]), trust).unwrap();
        assert_eq!((sent(&offer).to, options(&sent(&offer).message)[&82].as_slice()), (to, agent));
        let refused =
            ask_through(&mut server, &through_relay(3, agent, &[(50, &[192, 168, 1, 5])], [0; 4]), trust).unwrap();
        assert_eq!((sent(&refused).to, options(&sent(&refused).message)[&53][0]), (to, 6));
    }
}

#[test]
fn a_relay_gets_flags_and_its_option_back() {
    type Row<'a> = (&'a [(u8, &'a [u8])], u16, &'a [u8]);
    let rows: [Row<'_>; 4] = [
        (&[(82, &[1, 2, 0xaa, 0xbb])], 0x8000, &[1, 2, 0xaa, 0xbb]),
        (&[(82, &[1, 2, 0xaa, 0xbb])], 0, &[1, 2, 0xaa, 0xbb]),
        // Two agents add one option each (RFC 3396 joins them).
        (&[(82, &[1, 2, 0xaa, 0xbb]), (82, &[2, 3, b'a', b'b', b'c'])], 0x8000, b"\x01\x02\xaa\xbb\x02\x03abc"),
        (&[(82, &[])], 0, &[]),
    ];
    for relay in [[10, 0, 7, 1], [0; 4]] {
        for (given, flags, agent) in rows {
            let mut bytes = message(1, given);
            bytes[10..12].copy_from_slice(&flags.to_be_bytes());
            bytes[24..28].copy_from_slice(&relay);
            let offer = ask(&mut server(), &bytes).unwrap();
            let reply = &sent(&offer).message;
            assert_eq!(reply[10..12], flags.to_be_bytes());
            let last = [&[82, u8::try_from(agent.len()).unwrap()], agent, &[255]].concat();
            let end = reply.iter().rposition(|octet| *octet != 0).unwrap();
            assert!(reply[..=end].ends_with(&last), "option 82 is the last one: {reply:?}");
        }
    }
}

#[test]
fn a_long_request_and_one_with_overloaded_fields_are_read() {
    let many = [125, 224, 225, 226].map(|code| (code, &[0; 200][..]));
    assert_eq!(yiaddr(sent(&ask(&mut server(), &message(1, &many)).unwrap())), Ipv4Addr::new(10, 0, 0, 100));
    let mut bytes = message(1, &[(52, &[3])]);
    bytes[108..113].copy_from_slice(&[93, 2, 0, 7, 255]);
    bytes[44..79].copy_from_slice(b"\x3c\x20PXEClient:Arch:00007:UNDI:003016\xff");
    let offer = ask(&mut server(), &bytes).unwrap();
    assert_eq!(options(&sent(&offer).message)[&67], b"52-54-00-12-34-56/snponly.efi");
}

/// Returns a message of an InfiniBand port with this client identifier.
fn infiniband(kind: u8, length: u8, client: &[u8], options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = message(kind, &[options, &[(61, client)]].concat());
    bytes[1..3].copy_from_slice(&[32, length]);
    bytes[10] = 0x80;
    if length == 0 {
        bytes[28..34].fill(0);
    }
    bytes
}

#[test]
fn infiniband_ports_are_told_apart_by_their_client_identifiers() {
    let mut server = server();
    let first = [255, 0, 0, 0, 0, 0, 2, 0, 0, 2, 0, 0, 0x12, 0x34, 0x56, 0x78];
    let second = [&first[..15], &[0x79]].concat();
    for (client, last) in [(&first[..], 100), (&second[..], 101), (&first[..], 100)] {
        let offer = ask(&mut server, &infiniband(1, 0, client, &[])).unwrap();
        let DhcpReply { message, to } = sent(&offer);
        assert_eq!((message[..3].to_vec(), *to), (vec![2, 32, 0], Destination::Broadcast));
        assert_eq!((&message[28..44], yiaddr(sent(&offer)).octets()[3]), (&[0; 16][..], last));
        assert_eq!(options(message)[&61], client);
    }
    let address = [10, 0, 0, 100];
    let taken = ask(&mut server, &infiniband(3, 0, &first, &[(50, &address), (54, &OURS.octets())])).unwrap();
    let [Effect::Record(lease), Effect::Send(_)] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!((lease.client.as_deref(), lease.mac.0[0] & 3), (Some(&first[..]), 2));
    // A renewal is answered at the client's address by the kernel: no frame reaches the port by a MAC address.
    let mut renewal = infiniband(3, 0, &first, &[]);
    renewal[10] = 0;
    renewal[12..16].copy_from_slice(&address);
    let renewed = ask(&mut server, &renewal).unwrap();
    assert_eq!(sent(&renewed).to, Destination::Address("10.0.0.100:68".parse().unwrap()));
    let mut restarted = DhcpServer::new(vec![subnet(0)], true, false);
    restarted.load([lease.clone()], |_| false);
    let again = ask(&mut restarted, &infiniband(1, 0, &first, &[])).unwrap();
    assert_eq!(yiaddr(sent(&again)).octets(), address, "it is known after a restart");
}

#[test]
fn an_infiniband_rom_is_served_like_any_machine() {
    let mut server = server();
    let rom = [(60, &b"PXEClient:Arch:00007:UNDI:003016"[..]), (93, &[0, 7][..])];
    let offer = ask(&mut server, &infiniband(1, 6, &[255, 1, 2, 3], &rom)).unwrap();
    let DhcpReply { message, to } = sent(&offer);
    assert_eq!((&message[..3], &message[28..34], *to), (&[2, 32, 6][..], &CARD.0[..], Destination::Broadcast));
    assert_eq!(options(message)[&67], b"52-54-00-12-34-56/snponly.efi");
    let unnamed = ask(&mut server, &infiniband(1, 0, &[255, 1, 2, 3], &rom)).unwrap();
    assert!(!options(&sent(&unnamed).message).contains_key(&67), "an address, and no boot file without a MAC address");
}

#[test]
fn an_impossible_request_is_answered_with_a_nak() {
    let mut server = server();
    let wrong = message(3, &[(50, &[192, 168, 1, 5])]);
    let refused = ask(&mut server, &wrong).unwrap();
    assert_eq!(
        (options(&sent(&refused).message)[&53].as_slice(), sent(&refused).to),
        (&[6][..], Destination::Broadcast)
    );
    let mut relayed = wrong.clone();
    relayed[24..28].copy_from_slice(&[10, 0, 7, 1]);
    let refused = ask(&mut server, &relayed).unwrap();
    assert_eq!(sent(&refused).message[10], 0x80, "the relay broadcasts it");
    let mut rebinding = message(3, &[]);
    rebinding[12..16].copy_from_slice(&[192, 168, 1, 5]);
    let refused = ask(&mut server, &rebinding).unwrap();
    assert_eq!(options(&sent(&refused).message)[&53], [6], "the lease is from another network");
    let mut guest = DhcpServer::new(vec![subnet(0)], false, false);
    assert_eq!(ask(&mut guest, &wrong), Err(DropReason::OtherServer), "another server may know the lease");
    assert_eq!(ask(&mut guest, &message(3, &[(50, &[10, 0, 0, 150])])), Err(DropReason::OtherServer));
    let adopted = ask(&mut server, &message(3, &[(50, &[10, 0, 0, 150])])).unwrap();
    assert!(
        matches!(&adopted[..], [Effect::Record(_), Effect::Send(_)]),
        "the only server accepts a claim to a free address"
    );
}

#[test]
fn an_offer_that_was_not_accepted_is_free_for_the_next() {
    let mut server = server();
    let first = yiaddr(sent(&ask(&mut server, &message(1, &[])).unwrap()));
    let other = message(3, &[(50, &first.octets()), (54, &[10, 0, 0, 77])]);
    assert_eq!(ask(&mut server, &other), Err(DropReason::OtherServer));
    let deferred = ask(&mut server, &message(1, &[])).unwrap();
    assert_eq!(yiaddr(sent(&deferred)), first);
}

#[test]
fn a_renewal_is_answered_where_it_came_from() {
    let mut server = server();
    ask(&mut server, &message(1, &[])).unwrap();
    let mut renewal = message(3, &[]);
    renewal[12..16].copy_from_slice(&[10, 0, 0, 100]);
    let taken = ask(&mut server, &renewal).unwrap();
    let address = Ipv4Addr::new(10, 0, 0, 100);
    assert_eq!(sent(&taken).to, Destination::LinkLayer { mac: CARD, address });
    // A renewal through a router, without a relay, is answered through the router.
    renewal[12..16].copy_from_slice(&[10, 0, 7, 100]);
    let taken = ask(&mut server, &renewal).unwrap();
    assert_eq!(sent(&taken).to, Destination::Address("10.0.7.100:68".parse().unwrap()));
}

#[test]
fn decline_release_and_inform_are_handled() {
    let mut server = server();
    ask(&mut server, &message(1, &[])).unwrap();
    let address = [10, 0, 0, 100];
    ask(&mut server, &message(3, &[(50, &address), (54, &OURS.octets())])).unwrap();
    let declined = ask(&mut server, &message(4, &[(50, &address), (54, &OURS.octets())])).unwrap();
    assert!(matches!(&declined[..], [Effect::Record(lease)] if lease.held == LeaseState::Declined));
    let mut release = message(7, &[(54, &OURS.octets())]);
    release[12..16].copy_from_slice(&address);
    assert_eq!(ask(&mut server, &release), Err(DropReason::ContradictedClaim));
    let next = yiaddr(sent(&ask(&mut server, &message(1, &[])).unwrap())).octets();
    ask(&mut server, &message(3, &[(50, &next), (54, &OURS.octets())])).unwrap();
    release[12..16].copy_from_slice(&next);
    let released = ask(&mut server, &release).unwrap();
    assert!(matches!(&released[..], [Effect::Record(lease)] if lease.held == LeaseState::Released));
    let mut inform = message(8, &[]);
    inform[12..16].copy_from_slice(&[10, 0, 0, 9]);
    let told = ask(&mut server, &inform).unwrap();
    let found = options(&sent(&told).message);
    assert_eq!(
        (found[&53].as_slice(), found.contains_key(&51), yiaddr(sent(&told))),
        (&[5][..], false, Ipv4Addr::UNSPECIFIED)
    );
}

#[test]
fn an_address_is_probed_before_it_is_offered() {
    let mut server = DhcpServer::new(vec![subnet(0)], true, true);
    let address = Ipv4Addr::new(10, 0, 0, 100);
    assert_eq!(ask(&mut server, &message(1, &[])), Ok(vec![Effect::Probe { address, is_on_link: true }]));
    server.on_probe_result(address, true, now());
    let next = Ipv4Addr::new(10, 0, 0, 101);
    assert_eq!(ask(&mut server, &message(1, &[])), Ok(vec![Effect::Probe { address: next, is_on_link: true }]));
    server.on_probe_result(next, false, now());
    assert_eq!(yiaddr(sent(&ask(&mut server, &message(1, &[])).unwrap())), next);
}

#[test]
fn a_client_id_that_repeats_the_mac_address_is_the_mac_address() {
    let read = |id: &[u8]| client(&DhcpPacket::parse(&message(1, &[(61, id)])).unwrap());
    assert_eq!(read(&[1, 0x52, 0x54, 0, 0x12, 0x34, 0x56]), ClientId::Mac(CARD));
    assert_eq!(read(&[1, 2, 3]), ClientId::Id([1, 2, 3].into()));
    assert_eq!(read(&[0]), ClientId::Mac(CARD));
}

proptest! {
    #[test]
    fn a_reply_is_the_requests_own(
        xid: u32, flags: u16, kind in 1u8..9, mac: [u8; 5], wanted: u8, id: [u8; 5], size: u16, agent: [u8; 6], uuid: [u8; 17],
    ) {
        let wanted = [10, 0, 0, wanted];
        let options: [(u8, &[u8]); 5] = [(50, &wanted), (61, &id), (57, &size.to_be_bytes()), (82, &agent), (97, &uuid)];
        let mut bytes = message(kind, &options);
        bytes[4..8].copy_from_slice(&xid.to_be_bytes());
        bytes[10..12].copy_from_slice(&flags.to_be_bytes());
        bytes[29..34].copy_from_slice(&mac);
        for effect in ask(&mut server(), &bytes).unwrap_or_default() {
            if let Effect::Send(DhcpReply { message, .. }) = effect {
                prop_assert_eq!(&message[4..8], &xid.to_be_bytes());
                prop_assert_eq!(&message[10..12], &flags.to_be_bytes());
                prop_assert_eq!(&message[28..34], &bytes[28..34]);
                prop_assert_eq!(&self::options(&message)[&82], &agent);
                prop_assert_eq!(&self::options(&message)[&97], &uuid);
                prop_assert_eq!(&self::options(&message)[&61], &id);
                prop_assert!(message.len() + 28 <= usize::from(size).clamp(576, 1500));
            }
        }
    }
}
