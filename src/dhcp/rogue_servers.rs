//! Detects other DHCP and boot servers on a segment: by their answers to clients, and by probes of our own.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use dhcproto::v4::MessageType;

use crate::fleet::Mac;

use crate::dhcp::packet::{COOKIE, DhcpPacket, HEADER};

/// Maximum number of servers that are remembered on one segment.
const MAX_SERVERS: usize = 64;
/// Time for the answer to a probe, in addition to the interval between two probes.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The user class of our probes and their replies, so that another bootlatch does not take them for a host's.
pub const USER_CLASS: &[u8] = b"bootlatch";

/// The observed role of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerRole {
    /// A server that announces boot files.
    BootServer,
    /// A server that leases addresses, as is expected next to a proxy.
    AddressServer,
}

/// A server that was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedServer {
    /// The server's identifier (option 54).
    pub server: Ipv4Addr,
    /// The observed role.
    pub role: ServerRole,
    /// Whether it offers the client an address.
    pub gives_addresses: bool,
    /// Whether it is another bootlatch.
    pub is_bootlatch: bool,
}

/// Decodes a server's reply to a client. `None` if the server is this one, or the message shows no server.
pub fn observe_reply(bytes: &[u8], ours: Ipv4Addr) -> Option<ObservedServer> {
    let reply = DhcpPacket::parse_reply(bytes).ok()?;
    let server = reply.address(54).filter(|server| *server != ours)?;
    if !matches!(reply.kind, MessageType::Offer | MessageType::Ack) {
        return None;
    }
    let class = reply.option(60).unwrap_or_default();
    let is_proxy = class.starts_with(b"PXEClient") || class.starts_with(b"HTTPClient");
    let file = reply.option(67).unwrap_or_default();
    let file = if file.is_empty() { reply.boot_file() } else { &file };
    // The site's own DHCP server may name this one as its boot server (`mode = "off"`).
    let spelled = ours.to_string();
    let names_us = reply.siaddr() == ours || file.windows(spelled.len()).any(|part| part == spelled.as_bytes());
    let boots = !names_us && (is_proxy || !file.is_empty());
    let role = if boots { ServerRole::BootServer } else { ServerRole::AddressServer };
    let gives_addresses = !reply.yiaddr().is_unspecified();
    Some(ObservedServer { server, role, gives_addresses, is_bootlatch: reply.part(77) == Some(USER_CLASS) })
}

/// Encodes a question to DHCP servers that have no address for an unknown machine: a DHCPINFORM (RFC 2131 3.4) of our own
/// address.
pub fn inform_probe(mac: Mac, xid: u32, address: Ipv4Addr) -> Vec<u8> {
    let mut bytes = encode(mac, xid, &[(53, &[8]), (55, &[1, 3, 54]), (77, USER_CLASS)]);
    bytes[12..16].copy_from_slice(&address.octets());
    bytes
}

/// Encodes a probe for boot servers: the DISCOVER of a PXE client with our own MAC address.
pub fn server_probe(mac: Mac, xid: u32) -> Vec<u8> {
    let mut bytes = encode(
        mac,
        xid,
        &[
            (53, &[1]),
            (55, &[1, 3, 43, 54, 60, 66, 67]),
            (60, b"PXEClient:Arch:00000:UNDI:002001"),
            (77, USER_CLASS),
            (93, &[0, 0]),
            (94, &[1, 2, 1]),
        ],
    );
    bytes[10] = 0x80;
    bytes
}

fn encode(mac: Mac, xid: u32, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
    bytes[4..8].copy_from_slice(&xid.to_be_bytes());
    bytes[28..34].copy_from_slice(&mac.0);
    bytes[HEADER - COOKIE.len()..].copy_from_slice(&COOKIE);
    for (code, value) in options {
        bytes.extend([*code, u8::try_from(value.len()).unwrap_or(0)]);
        bytes.extend(*value);
    }
    bytes.push(255);
    bytes.resize(bytes.len().max(300), 0);
    bytes
}

/// Returns whether a message is the probe of a bootlatch server.
pub fn is_server_probe(request: &DhcpPacket<'_>) -> bool {
    request.kind == MessageType::Discover && request.part(77) == Some(USER_CLASS)
}

/// The servers that were observed on one segment.
#[derive(Debug)]
pub struct ServerDetector {
    ours: Ipv4Addr,
    every: Duration,
    next: Instant,
    heard: HashMap<Ipv4Addr, (Instant, ObservedServer)>,
}

impl ServerDetector {
    /// Creates a detector whose first probe is due at once.
    pub fn new(ours: Ipv4Addr, every: Duration, now: Instant) -> Self {
        Self { ours, every, next: now, heard: HashMap::new() }
    }

    /// Returns the detector for another address of ours. What was heard stands, and the next probe is due at once.
    pub fn moved_to(self, ours: Ipv4Addr, now: Instant) -> Self {
        Self { ours, next: now, ..self }
    }

    /// Returns the time of the next probe.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Returns whether a probe is due, and schedules the next one.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next <= now;
        if due {
            self.next = now + self.every;
            self.heard.retain(|_, (at, _)| now.saturating_duration_since(*at) <= 2 * self.every + PROBE_TIMEOUT);
        }
        due
    }

    /// Records an observed server. Returns whether it is new, or has become a boot server.
    pub fn record(&mut self, heard: ObservedServer, now: Instant) -> bool {
        if let Some((at, known)) = self.heard.get_mut(&heard.server) {
            // A server that gives addresses answers some messages without one.
            known.gives_addresses |= heard.gives_addresses;
            let heard = ObservedServer { gives_addresses: known.gives_addresses, ..heard };
            let news = known.role == ServerRole::AddressServer && heard.role == ServerRole::BootServer;
            // A server that announces boot files to some hosts and only addresses to others is a boot server.
            if known.role == heard.role || news {
                (*at, *known) = (now, heard);
            }
            return news;
        }
        self.heard.len() < MAX_SERVERS && self.heard.insert(heard.server, (now, heard)).is_none()
    }

    /// Returns the servers that were observed lately, with the time.
    pub fn servers(&self) -> impl Iterator<Item = (Instant, ObservedServer)> {
        self.heard.values().copied()
    }

    /// Returns whether hosts are to be left to another boot server. Of two bootlatch servers the lower address stays.
    pub fn must_stand_down(&self) -> bool {
        let mut others =
            self.heard.values().map(|(_, heard)| heard).filter(|heard| heard.role == ServerRole::BootServer);
        others.any(|heard| !heard.is_bootlatch || heard.server < self.ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::packet::tests::message;

    const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const OTHER: [u8; 4] = [10, 0, 0, 1];

    fn hear(kind: u8, options: &[(u8, &[u8])], edit: impl Fn(&mut Vec<u8>)) -> Option<ServerRole> {
        let mut bytes = message(kind, options);
        bytes[0] = 2;
        edit(&mut bytes);
        observe_reply(&bytes, OURS).map(|heard| heard.role)
    }

    #[test]
    fn boot_servers_are_detected() {
        let nothing = |_: &mut Vec<u8>| {};
        assert_eq!(hear(2, &[(54, &OTHER), (60, b"PXEClient")], nothing), Some(ServerRole::BootServer));
        assert_eq!(hear(5, &[(54, &OTHER), (67, b"pxelinux.0")], nothing), Some(ServerRole::BootServer));
        assert_eq!(hear(2, &[(54, &OTHER)], |bytes| bytes[108] = b'x'), Some(ServerRole::BootServer));
        assert_eq!(hear(2, &[(54, &OTHER)], nothing), Some(ServerRole::AddressServer));
        assert_eq!(hear(2, &[(54, &OURS.octets()), (60, b"PXEClient")], nothing), None, "our own");
        assert_eq!(hear(6, &[(54, &OTHER), (60, b"PXEClient")], nothing), None, "a refusal boots nobody");
        assert_eq!(hear(1, &[(54, &OTHER)], |bytes| bytes[0] = 1), None, "a client's");
    }

    #[test]
    fn a_dhcp_server_that_names_us_is_no_boot_server() {
        let role =
            hear(2, &[(54, &OTHER), (67, b"snponly.efi")], |bytes| bytes[20..24].copy_from_slice(&OURS.octets()));
        assert_eq!(role, Some(ServerRole::AddressServer));
        let role = hear(2, &[(54, &OTHER), (60, b"HTTPClient"), (67, b"http://10.0.0.9/boot/x")], |_| {});
        assert_eq!(role, Some(ServerRole::AddressServer));
    }

    #[test]
    fn our_probe_is_recognized() {
        let bytes = server_probe(Mac([2, 0, 0, 0, 0, 1]), 7);
        assert!(is_server_probe(&DhcpPacket::parse(&bytes).unwrap()));
        assert!(!is_server_probe(&DhcpPacket::parse(&message(1, &[(77, b"iPXE")])).unwrap()));
        let bytes = inform_probe(Mac([2, 0, 0, 0, 0, 1]), 7, OURS);
        let inform = DhcpPacket::parse(&bytes).unwrap();
        assert_eq!((inform.kind, inform.ciaddr()), (MessageType::Inform, OURS));
    }

    #[test]
    fn a_server_is_reported_once_and_forgotten_when_it_is_gone() {
        let (start, every) = (Instant::now(), Duration::from_secs(60));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut detector = ServerDetector::new(OURS, every, start);
        assert!(detector.is_due(at(0)) && !detector.is_due(at(59)));
        let plain = ObservedServer {
            server: OTHER.into(),
            role: ServerRole::AddressServer,
            gives_addresses: true,
            is_bootlatch: false,
        };
        let boots = ObservedServer { role: ServerRole::BootServer, ..plain };
        assert!(detector.record(plain, at(1)));
        assert!(!detector.must_stand_down());
        assert!(detector.record(boots, at(1)));
        assert!(!detector.record(boots, at(2)) && !detector.record(plain, at(3)));
        assert!(detector.must_stand_down());
        assert!(detector.is_due(at(60)) && detector.must_stand_down());
        assert!(detector.is_due(at(200)) && !detector.must_stand_down());
        assert!(detector.record(boots, at(201)));
    }

    #[test]
    fn of_two_bootlatch_servers_one_stays() {
        let stand_down = |other: Ipv4Addr| {
            let mut detector = ServerDetector::new(OURS, Duration::from_secs(60), Instant::now());
            detector.record(
                ObservedServer {
                    server: other,
                    role: ServerRole::BootServer,
                    gives_addresses: false,
                    is_bootlatch: true,
                },
                Instant::now(),
            );
            detector.must_stand_down()
        };
        assert!(stand_down([10, 0, 0, 1].into()));
        assert!(!stand_down([10, 0, 0, 77].into()));
    }

    #[test]
    fn a_bounded_number_of_servers_is_remembered() {
        let now = Instant::now();
        let mut detector = ServerDetector::new(OURS, Duration::from_secs(60), now);
        let mut record = |number: usize, role| {
            let [.., high, low] = number.to_be_bytes();
            detector.record(
                ObservedServer { server: [10, 1, high, low].into(), role, gives_addresses: true, is_bootlatch: false },
                now,
            )
        };
        for number in 0..MAX_SERVERS {
            assert!(record(number, ServerRole::AddressServer));
        }
        assert!(!record(MAX_SERVERS, ServerRole::BootServer), "one more is not reported");
        assert!(record(0, ServerRole::BootServer), "a known server may become a boot server");
        assert_eq!(detector.heard.len(), MAX_SERVERS);
    }
}
