//! DHCP from bytes to reply: many messages to one server, in proxy mode and in server mode.
#![no_main]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use bootlatch::boot::{ConfigAccess, ConfigProof, Program, Programs, Site, Verdict};
use bootlatch::dhcp::answer::{self, Arrival, BootOffer, DhcpPort, DhcpReply};
use bootlatch::dhcp::packet::DhcpPacket;
use bootlatch::dhcp::quirks::BootFileLocation;
use bootlatch::dhcp::relay::{Relay, RelayTrust};
use bootlatch::dhcp::rogue_servers;
use bootlatch::dhcp::server::{DhcpServer, Effect, RequestContext};
use bootlatch::fleet::enrolment::{EnrolmentRules, UnknownHostAction};
use bootlatch::fleet::lifecycle::{Completion, InstallPolicy};
use bootlatch::fleet::{Architecture, LeaseTimes, Reservation, Reserved, Subnet};
use jiff::{SignedDuration, Timestamp};
use libfuzzer_sys::fuzz_target;

const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Maximum size of a reply in bytes, given by Ethernet.
const LONGEST: usize = 1500 - 28;

fn site() -> Site {
    let programs = [(0, "undionly.kpxe"), (7, "snponly.efi"), (11, "ipxe-arm64.efi"), (41, "pi")];
    Site {
        unknown_hosts: EnrolmentRules { first: Vec::new(), otherwise: UnknownHostAction::Hold },
        install: InstallPolicy {
            completion: Completion::BootComplete,
            timeout: Duration::from_secs(3600),
            max_boots: 10,
            power_on: false,
        },
        pins_bmc_certificates: true,
        programs: Programs(programs.map(|(code, name)| (Architecture(code), Program(name.into()))).into()),
        overrides: Vec::new(),
        namespace: "default".parse().expect("a name"),
        address: OURS.into(),
        ours: vec![OURS.into()],
        advertised: Vec::new(),
        nets: vec!["10.77.0.0/24".parse().expect("a net")],
        http: SocketAddrV4::new(OURS, 80).into(),
        https: None,
        syslog: None,
        iscsi: SocketAddrV4::new(OURS, 3260).into(),
        iqn: "iqn.2026-11.org.bootlatch".into(),
        chap: None,
        config_access: ConfigAccess {
            require: ConfigProof::Address,
            token_ttl: Duration::from_secs(3600),
            trusted_subnets: Vec::new(),
        },
    }
}

fn subnet(net: &str, last: u8) -> Subnet {
    let net: ipnet::Ipv4Net = net.parse().expect("a net");
    let host = |last: u8| Ipv4Addr::from(u32::from(net.network()) + u32::from(last));
    Subnet {
        net,
        pools: vec![host(100)..=host(last)],
        reservations: vec![Reservation {
            who: Reserved::Client([0, 1].into()),
            address: host(50),
            hostname: Some("kept".into()),
        }],
        routers: vec![host(1)],
        dns: vec![host(2); 60],
        ntp: vec![host(3)],
        domain: Some("example.org".into()),
        search: vec!["a.example.org".into(); 40],
        routes: vec![("10.8.0.0/16".parse().expect("a net"), host(9)); 40],
        times: LeaseTimes::of(Duration::from_secs(600)),
    }
}

/// Checks the invariants of every reply.
fn check(request: &DhcpPacket<'_>, bytes: &[u8], reply: &DhcpReply) {
    let message = &reply.message;
    assert!((300..=LONGEST).contains(&message.len()), "{} octets", message.len());
    assert_eq!((message[0], &message[1..3], &message[4..8]), (2, &bytes[1..3], &bytes[4..8]));
    assert_eq!(message[28..34], if bytes[2] == 6 { bytes[28..34].to_vec() } else { vec![0; 6] });
    // A reply without a hardware address is known by its transaction and the client identifier, which proxies omit.
    if bytes[2] == 0 {
        return;
    }
    let read = DhcpPacket::parse_reply(message).expect("our reply can be parsed");
    assert!(read.address(54).is_some(), "EDK2 drops an offer without a server identifier");
    if let Some(agent) = request.option(82) {
        assert_eq!(read.option(82), Some(agent), "the relay agent's option is returned unchanged");
    }
}

fuzz_target!(|data: &[u8]| {
    let (mut rest, site) = (data, site());
    let mut server = DhcpServer::new(vec![subnet("10.77.0.0/24", 103), subnet("10.9.0.0/24", 200)], true, false);
    let mut now = Timestamp::from_second(1_800_000_000).expect("a time");
    let verdicts =
        [Verdict::Chainload(Program("snponly.efi".into())), Verdict::SanBoot("live".parse().expect("a name"))];
    while let [how, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (bytes, tail) = tail.split_at(length);
        rest = tail;
        now = now.saturating_add(SignedDuration::from_secs(i64::from(how >> 2) * 11)).unwrap_or(now);
        // Messages of other servers pass the same parser.
        let _ = rogue_servers::observe_reply(bytes, OURS);
        let Ok(request) = DhcpPacket::parse(bytes) else { continue };
        let port = if how & 1 == 1 { DhcpPort::Proxy } else { DhcpPort::Server };
        let arrival = Arrival { port, from: SocketAddrV4::new([10, 77, 0, 185].into(), 4011) };
        let trust = [RelayTrust::None, RelayTrust::OwnAddress, RelayTrust::Named, RelayTrust::None];
        let relay = Relay::of(&request, arrival.from, || trust[usize::from(how >> 2 & 3)]);
        let verdict = &verdicts[usize::from(how >> 1 & 1)];
        let location = if how & 2 == 2 { BootFileLocation::Port4011 } else { BootFileLocation::Offer };
        if let Ok(facts) = answer::facts(&request, arrival, OURS)
            && let Some(boot) = BootOffer::new(&facts, verdict, &site, location)
        {
            let reply = answer::reply(&request, &boot, arrival, relay);
            check(&request, bytes, &reply);
            assert_eq!(reply.message[16..20], [0; 4], "a proxy gives no address");
        }
        let boot = answer::claims(&request, OURS).and_then(|facts| BootOffer::new(&facts, verdict, &site, location));
        let taken = |address: Ipv4Addr| address.octets()[3] == 102;
        let context = RequestContext {
            ours: OURS,
            from: request.ciaddr(),
            relay,
            boot: boot.as_ref(),
            own: None,
            is_known: how & 4 == 4,
            declared: usize::from(how >> 3 & 3),
            taken: &taken,
            may_take: &|_| Ok(()),
            is_present: &|_| false,
            now,
        };
        let effects = server.answer(&request, &context).unwrap_or_default();
        for effect in &effects {
            match effect {
                Effect::Send(reply) => check(&request, bytes, reply),
                Effect::Record(lease) => assert_ne!(lease.address.octets()[3], 102, "the address belongs to a host"),
                Effect::Probe { .. } => panic!("probes are off"),
            }
        }
    }
});
