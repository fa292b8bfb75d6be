//! Other boot servers on a segment: heard when they answer machines, and looked for by a question of our own.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use dhcproto::v4::MessageType;

use crate::fleet::Mac;

use crate::dhcp::packet::{COOKIE, HEADER, Request};

/// Bounds the servers that are remembered on one segment.
const SERVERS: usize = 64;
/// Is how long a question may take to be answered, over what lies between two of them.
const GRACE: Duration = Duration::from_secs(5);
/// Marks our own questions and answers, in the user class: another bootlatch does not take them for a machine.
pub const MARK: &[u8] = b"bootlatch";

/// Is what a server was heard to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// It tells machines what to boot.
    Boots,
    /// It gives addresses, which is nothing new beside a proxy.
    GivesAddresses,
}

/// Is a server that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    pub server: Ipv4Addr,
    pub deed: Deed,
    /// Says that it is another bootlatch.
    pub is_kin: bool,
}

/// Reads what a server's answer to some client says of the server; nothing where it is ours, or points to us.
pub fn heard(bytes: &[u8], ours: Ipv4Addr) -> Option<Heard> {
    let reply = Request::parse_reply(bytes).ok()?;
    let server = reply.address(54).filter(|server| *server != ours)?;
    if !matches!(reply.kind, MessageType::Offer | MessageType::Ack) {
        return None;
    }
    let class = reply.option(60).unwrap_or_default();
    let is_proxy = class.starts_with(b"PXEClient") || class.starts_with(b"HTTPClient");
    let file = reply.option(67).unwrap_or_default();
    let file = if file.is_empty() { reply.boot_file() } else { &file };
    // The site's own DHCP server may name us as its boot server: `mode = "off"`.
    let spelled = ours.to_string();
    let names_us = reply.siaddr() == ours || file.windows(spelled.len()).any(|part| part == spelled.as_bytes());
    let boots = !names_us && (is_proxy || !file.is_empty());
    let deed = if boots { Deed::Boots } else { Deed::GivesAddresses };
    Some(Heard { server, deed, is_kin: reply.part(77) == Some(MARK) })
}

/// Writes a question as a booting machine's, with our own card's address: who tells machines what to boot here?
pub fn question(mac: Mac, xid: u32) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
    bytes[4..8].copy_from_slice(&xid.to_be_bytes());
    bytes[10] = 0x80;
    bytes[28..34].copy_from_slice(&mac.0);
    bytes[HEADER - COOKIE.len()..].copy_from_slice(&COOKIE);
    let options: [(u8, &[u8]); 6] = [
        (53, &[1]),
        (55, &[1, 3, 43, 54, 60, 66, 67]),
        (60, b"PXEClient:Arch:00000:UNDI:002001"),
        (77, MARK),
        (93, &[0, 0]),
        (94, &[1, 2, 1]),
    ];
    for (code, value) in options {
        bytes.extend([code, u8::try_from(value.len()).unwrap_or(0)]);
        bytes.extend(value);
    }
    bytes.push(255);
    bytes.resize(bytes.len().max(300), 0);
    bytes
}

/// Says whether a message is such a question.
pub fn is_question(request: &Request<'_>) -> bool {
    request.kind == MessageType::Discover && request.part(77) == Some(MARK)
}

/// Remembers who was heard on one segment.
#[derive(Debug)]
pub struct Rivals {
    ours: Ipv4Addr,
    every: Duration,
    next: Instant,
    heard: HashMap<Ipv4Addr, (Instant, Heard)>,
}

impl Rivals {
    /// Begins with a question at once.
    pub fn new(ours: Ipv4Addr, every: Duration, now: Instant) -> Self {
        Self { ours, every, next: now, heard: HashMap::new() }
    }

    /// Says when to ask next.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Says whether to ask now.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next <= now;
        if due {
            self.next = now + self.every;
            self.heard.retain(|_, (at, _)| now.saturating_duration_since(*at) <= 2 * self.every + GRACE);
        }
        due
    }

    /// Notes who was heard; says whether that is news.
    pub fn note(&mut self, heard: Heard, now: Instant) -> bool {
        if let Some((at, known)) = self.heard.get_mut(&heard.server) {
            let news = known.deed == Deed::GivesAddresses && heard.deed == Deed::Boots;
            // A server that boots some machines and only gives addresses to others does boot.
            if known.deed == heard.deed || news {
                (*at, *known) = (now, heard);
            }
            return news;
        }
        self.heard.len() < SERVERS && self.heard.insert(heard.server, (now, heard)).is_none()
    }

    /// Says whether machines are to be left to another boot server. Of two bootlatches the lower address stays.
    pub fn is_yielded(&self) -> bool {
        let mut others = self.heard.values().map(|(_, heard)| heard).filter(|heard| heard.deed == Deed::Boots);
        others.any(|heard| !heard.is_kin || heard.server < self.ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::packet::tests::message;

    const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const OTHER: [u8; 4] = [10, 0, 0, 1];

    fn hear(kind: u8, options: &[(u8, &[u8])], edit: impl Fn(&mut Vec<u8>)) -> Option<Deed> {
        let mut bytes = message(kind, options);
        bytes[0] = 2;
        edit(&mut bytes);
        heard(&bytes, OURS).map(|heard| heard.deed)
    }

    #[test]
    fn who_tells_machines_what_to_boot_is_heard() {
        let nothing = |_: &mut Vec<u8>| {};
        assert_eq!(hear(2, &[(54, &OTHER), (60, b"PXEClient")], nothing), Some(Deed::Boots));
        assert_eq!(hear(5, &[(54, &OTHER), (67, b"pxelinux.0")], nothing), Some(Deed::Boots));
        assert_eq!(hear(2, &[(54, &OTHER)], |bytes| bytes[108] = b'x'), Some(Deed::Boots));
        assert_eq!(hear(2, &[(54, &OTHER)], nothing), Some(Deed::GivesAddresses));
        assert_eq!(hear(2, &[(54, &OURS.octets()), (60, b"PXEClient")], nothing), None, "our own");
        assert_eq!(hear(6, &[(54, &OTHER), (60, b"PXEClient")], nothing), None, "a refusal boots nobody");
        assert_eq!(hear(1, &[(54, &OTHER)], |bytes| bytes[0] = 1), None, "a client's");
    }

    #[test]
    fn a_dhcp_server_that_points_to_us_is_no_rival() {
        let deed =
            hear(2, &[(54, &OTHER), (67, b"snponly.efi")], |bytes| bytes[20..24].copy_from_slice(&OURS.octets()));
        assert_eq!(deed, Some(Deed::GivesAddresses));
        let deed = hear(2, &[(54, &OTHER), (60, b"HTTPClient"), (67, b"http://10.0.0.9/boot/x")], |_| {});
        assert_eq!(deed, Some(Deed::GivesAddresses));
    }

    #[test]
    fn our_question_is_known_for_what_it_is() {
        let bytes = question(Mac([2, 0, 0, 0, 0, 1]), 7);
        assert!(is_question(&Request::parse(&bytes).unwrap()));
        assert!(!is_question(&Request::parse(&message(1, &[(77, b"iPXE")])).unwrap()));
    }

    #[test]
    fn a_server_is_told_of_once_and_forgotten_when_it_is_gone() {
        let (start, every) = (Instant::now(), Duration::from_secs(60));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rivals = Rivals::new(OURS, every, start);
        assert!(rivals.is_due(at(0)) && !rivals.is_due(at(59)));
        let plain = Heard { server: OTHER.into(), deed: Deed::GivesAddresses, is_kin: false };
        let boots = Heard { deed: Deed::Boots, ..plain };
        assert!(rivals.note(plain, at(1)));
        assert!(!rivals.is_yielded());
        assert!(rivals.note(boots, at(1)));
        assert!(!rivals.note(boots, at(2)) && !rivals.note(plain, at(3)));
        assert!(rivals.is_yielded());
        assert!(rivals.is_due(at(60)) && rivals.is_yielded());
        assert!(rivals.is_due(at(200)) && !rivals.is_yielded());
        assert!(rivals.note(boots, at(201)));
    }

    #[test]
    fn of_two_of_us_one_stays() {
        let yields = |other: Ipv4Addr| {
            let mut rivals = Rivals::new(OURS, Duration::from_secs(60), Instant::now());
            rivals.note(Heard { server: other, deed: Deed::Boots, is_kin: true }, Instant::now());
            rivals.is_yielded()
        };
        assert!(yields([10, 0, 0, 1].into()));
        assert!(!yields([10, 0, 0, 77].into()));
    }
}
