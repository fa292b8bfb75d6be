//! The kernel's neighbour table of this process's network namespace.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::fleet::Mac;

/// The table as text, for kernels that do not answer for a single neighbour (before Linux 5.0).
const TABLE: &str = "/proc/net/arp";
/// The flag of a resolved entry (ATF_COM of `net/if_arp.h`).
const COMPLETE: u32 = 0x2;
/// Time that an answer is cached: a machine sends a few requests within its boot, and the kernel itself trusts an
/// entry for longer. A missing entry is never cached, a router in between is.
const CACHE_TTL: Duration = Duration::from_secs(1);
/// Maximum number of cached answers.
const MAX_ANSWERS: usize = 4096;

/// A cached view of the neighbour table.
#[derive(Debug, Default)]
pub struct Neighbours {
    cache: Mutex<NeighbourCache>,
    #[cfg(test)]
    fake: Option<FakeTable>,
}

/// A table of a test, which counts the lookups.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct FakeTable {
    /// The entries.
    pub entries: Mutex<HashMap<IpAddr, Mac>>,
    /// The addresses that were looked up, in order.
    pub lookups: Mutex<Vec<IpAddr>>,
}

#[cfg(test)]
impl Neighbours {
    /// Returns an empty table that counts the lookups.
    pub(crate) fn fake() -> Self {
        Self { fake: Some(FakeTable::default()), ..Self::default() }
    }

    /// Returns the fake table.
    pub(crate) fn table(&self) -> &FakeTable {
        self.fake.as_ref().expect("a fake table")
    }
}

#[derive(Debug, Default)]
struct NeighbourCache {
    answers: HashMap<IpAddr, (Instant, Option<Mac>)>,
    /// The rtnetlink(7) socket, opened at the first question.
    kernel: Option<OwnedFd>,
}

/// The kernel's answer about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NeighbourEntry {
    /// A resolved entry.
    Neighbour(Mac),
    /// No resolved entry.
    NoEntry,
    /// An address behind a router.
    Routed,
}

impl Neighbours {
    /// Returns the hardware address that the kernel has for an address.
    pub fn look_up(&self, address: IpAddr) -> Option<Mac> {
        let address = address.to_canonical();
        #[cfg(test)]
        if let Some(fake) = &self.fake {
            fake.lookups.lock().unwrap().push(address);
            return fake.entries.lock().unwrap().get(&address).copied();
        }
        let now = Instant::now();
        let mut known = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, answer)) = known.answers.get(&address)
            && now.saturating_duration_since(*at) < CACHE_TTL
        {
            return *answer;
        }
        let found = known.ask(address).unwrap_or_else(|_| in_table(address));
        if known.answers.len() >= MAX_ANSWERS {
            known.answers.retain(|_, (at, _)| now.saturating_duration_since(*at) < CACHE_TTL);
        }
        let answer = match found {
            NeighbourEntry::Neighbour(mac) => Some(mac),
            NeighbourEntry::Routed | NeighbourEntry::NoEntry => None,
        };
        if found != NeighbourEntry::NoEntry && known.answers.len() < MAX_ANSWERS {
            known.answers.insert(address, (now, answer));
        } else {
            known.answers.remove(&address);
        }
        answer
    }

    /// Returns whether an address is on a segment of ours, without a router in between.
    pub fn is_near(&self, address: IpAddr) -> bool {
        let mut known = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(known.route(address.to_canonical()), Ok(wire::NextHop::Interface(_)))
    }
}

impl NeighbourCache {
    /// Asks the kernel which interface reaches an address, and for the neighbour there.
    fn ask(&mut self, address: IpAddr) -> Result<NeighbourEntry, Errno> {
        let asked = self.route(address).and_then(|route| match route {
            wire::NextHop::Interface(interface) => {
                self.talk(&wire::neighbour(interface, address), |body| Ok(wire::read_neighbour(body)))
            }
            wire::NextHop::Router => Ok(NeighbourEntry::Routed),
        });
        match asked {
            // No route, or no entry: the table in /proc has none either.
            Err(Errno::ENOENT | Errno::ENETUNREACH | Errno::EHOSTUNREACH) => Ok(NeighbourEntry::NoEntry),
            found => found,
        }
    }

    fn route(&mut self, address: IpAddr) -> Result<wire::NextHop, Errno> {
        self.talk(&wire::route(address), wire::read_route)
    }

    /// Sends one question to the kernel, and reads the body of its answer.
    fn talk<T>(&mut self, question: &[u8], read: impl FnOnce(&[u8]) -> Result<T, Errno>) -> Result<T, Errno> {
        if self.kernel.is_none() {
            let flags = SockFlag::SOCK_CLOEXEC;
            self.kernel = Some(socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?);
        }
        let kernel = self.kernel.as_ref().ok_or(Errno::EBADF)?;
        let answer = talk(kernel, question, &mut [0; 1024]).and_then(read);
        match answer {
            Err(Errno::ENOENT | Errno::ENETUNREACH | Errno::EHOSTUNREACH) | Ok(_) => {}
            // A late answer would be read as the next question's.
            Err(_) => self.kernel = None,
        }
        answer
    }
}

/// Sends a question and returns the body of the answer. The kernel answers within the call to `send`.
fn talk<'a>(kernel: &OwnedFd, question: &[u8], buffer: &'a mut [u8; 1024]) -> Result<&'a [u8], Errno> {
    send(kernel.as_raw_fd(), question, MsgFlags::empty())?;
    let length = recv(kernel.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?;
    wire::body(buffer.get(..length).ok_or(Errno::EMSGSIZE)?)
}

fn in_table(address: IpAddr) -> NeighbourEntry {
    let IpAddr::V4(address) = address else { return NeighbourEntry::NoEntry };
    let table = std::fs::read_to_string(TABLE).unwrap_or_default();
    find(&table, address).map_or(NeighbourEntry::NoEntry, NeighbourEntry::Neighbour)
}

/// Finds an address in the table of `/proc/net/arp`. Columns: address, hardware type, flags, hardware address, mask, device.
fn find(table: &str, address: Ipv4Addr) -> Option<Mac> {
    let row = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let (ip, _, flags, mac) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
        let flags = u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok()?;
        (ip.parse() == Ok(address) && flags & COMPLETE != 0).then(|| mac.parse().ok())?
    };
    table.lines().find_map(row)
}

/// The four rtnetlink(7) messages that are needed. Numbers are in the host's byte order.
mod wire {
    use std::net::IpAddr;

    use nix::errno::Errno;

    use crate::gate::neighbours::{Mac, NeighbourEntry};

    const HEADER: usize = 16;
    const ERROR: u16 = 2; // NLMSG_ERROR
    const NEW_ROUTE: u16 = 24;
    const GET_ROUTE: u16 = 26;
    const NEW_NEIGHBOUR: u16 = 28;
    const GET_NEIGHBOUR: u16 = 30;
    const IPV4: u8 = 2; // AF_INET
    const IPV6: u8 = 10;
    /// NUD_VALID: the states in which an entry's hardware address is valid.
    const VALID: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;

    /// The route to an address.
    #[derive(Debug, PartialEq, Eq)]
    pub enum NextHop {
        /// The index of the interface whose segment the address is on.
        Interface(i32),
        /// A router in between.
        Router,
    }

    /// Returns the question for the route to an address (RTM_GETROUTE).
    pub fn route(address: IpAddr) -> Vec<u8> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        message(GET_ROUTE, address, [bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// Returns the question for one neighbour on an interface (RTM_GETNEIGH).
    pub fn neighbour(interface: i32, address: IpAddr) -> Vec<u8> {
        let [a, b, c, d] = interface.to_ne_bytes();
        message(GET_NEIGHBOUR, address, [0, 0, 0, a, b, c, d, 0, 0, 0, 0])
    }

    /// Returns a question: the header, the family and the rest of the fixed part, and the address as RTA_DST or NDA_DST,
    /// which are both 1.
    fn message(kind: u16, address: IpAddr, rest: [u8; 11]) -> Vec<u8> {
        const REQUEST: u16 = 1; // NLM_F_REQUEST
        let (family, octets) = match address {
            IpAddr::V4(address) => (IPV4, address.octets().to_vec()),
            IpAddr::V6(address) => (IPV6, address.octets().to_vec()),
        };
        let attribute = 4 + octets.len() as u16;
        let mut message = Vec::with_capacity(HEADER + 32);
        message.extend((HEADER as u32 + 12 + u32::from(attribute)).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(REQUEST.to_ne_bytes());
        message.extend([0; 8]);
        message.push(family);
        message.extend(rest);
        message.extend(attribute.to_ne_bytes());
        message.extend(1u16.to_ne_bytes());
        message.extend(octets);
        message
    }

    /// Returns an answer from its type field on.
    ///
    /// # Errors
    /// The kernel's error, or EBADMSG for a short answer.
    pub fn body(answer: &[u8]) -> Result<&[u8], Errno> {
        let body = answer.get(4..).filter(|_| answer.len() >= HEADER + 4).ok_or(Errno::EBADMSG)?;
        match half(body, 0) {
            Some(ERROR) => Err(Errno::from_raw(word(body, HEADER - 4).map_or(0, |code| code.wrapping_neg()))),
            _ => Ok(body),
        }
    }

    /// Reads the route of an answer.
    ///
    /// # Errors
    /// EBADMSG if the answer has no route.
    pub fn read_route(body: &[u8]) -> Result<NextHop, Errno> {
        const OUT: u16 = 4; // RTA_OIF
        const GATEWAY: u16 = 5;
        const VIA: u16 = 18;
        let wanted = half(body, 0) == Some(NEW_ROUTE);
        let mut found = None;
        for (kind, value) in attributes(body).filter(|_| wanted) {
            match kind {
                GATEWAY | VIA => return Ok(NextHop::Router),
                OUT => found = word(value, 0).map(NextHop::Interface),
                _ => {}
            }
        }
        found.ok_or(Errno::EBADMSG)
    }

    /// Reads the neighbour of an answer. The loopback's own entries have an address of zeros, which is no machine's.
    pub fn read_neighbour(body: &[u8]) -> NeighbourEntry {
        const ADDRESS: u16 = 2; // NDA_LLADDR
        let state = half(body, HEADER - 4 + 8).unwrap_or(0);
        let valid = half(body, 0) == Some(NEW_NEIGHBOUR) && state & VALID != 0;
        let mut addresses = attributes(body).filter(|(kind, _)| valid && *kind == ADDRESS);
        let mac = addresses.find_map(|(_, value)| value.try_into().ok().filter(|mac| *mac != [0; 6]).map(Mac));
        mac.map_or(NeighbourEntry::NoEntry, NeighbourEntry::Neighbour)
    }

    /// Returns the attributes after the 12 octets of the fixed part of a route or a neighbour.
    fn attributes(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
        let mut rest = body.get(HEADER - 4 + 12..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (length, kind) = (usize::from(half(rest, 0)?), half(rest, 2)?);
            let value = rest.get(4..length)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((kind, value))
        })
    }

    fn half(bytes: &[u8], at: usize) -> Option<u16> {
        Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
    }

    fn word(bytes: &[u8], at: usize) -> Option<i32> {
        Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_resolved_entry_names_a_machine() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.77.0.9        0x1         0x0         00:00:00:00:00:00     *        br0\n\
                     10.77.0.10       0x1         0x2         52:54:00:12:34:56     *        br0\n";
        let found = find(table, Ipv4Addr::new(10, 77, 0, 10));
        assert_eq!(found, Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])));
        assert_eq!(find(table, Ipv4Addr::new(10, 77, 0, 9)), None);
        assert_eq!(find(table, Ipv4Addr::new(10, 77, 0, 1)), None);
    }

    /// Returns an answer as the kernel writes it: a header, a fixed part, attributes.
    fn answer(kind: u16, fixed: [u8; 12], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend(fixed);
        for (kind, value) in attributes {
            bytes.extend((value.len() as u16 + 4).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(*value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn only_a_valid_entry_has_a_hardware_address() {
        let card = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
        for (state, known) in [(0x02u16, true), (0x04, true), (0x80, true), (0x01, false), (0x20, false), (0, false)] {
            let mut fixed = [0; 12];
            fixed[8..10].copy_from_slice(&state.to_ne_bytes());
            let bytes = answer(28, fixed, &[(1, &[10, 77, 0, 10]), (2, &card)]);
            let expected = if known { NeighbourEntry::Neighbour(Mac(card)) } else { NeighbourEntry::NoEntry };
            assert_eq!(wire::read_neighbour(wire::body(&bytes).unwrap()), expected, "{state:#x}");
        }
        let mut loopback = [0; 12];
        loopback[8..10].copy_from_slice(&0x40u16.to_ne_bytes());
        let bytes = answer(28, loopback, &[(2, &[0; 6])]);
        assert_eq!(wire::read_neighbour(wire::body(&bytes).unwrap()), NeighbourEntry::NoEntry);
    }

    #[test]
    fn a_routed_address_has_no_neighbour() {
        let route =
            |attributes: &[(u16, &[u8])]| wire::read_route(wire::body(&answer(24, [2; 12], attributes)).unwrap());
        let card = 7i32.to_ne_bytes();
        assert_eq!(route(&[(1, &[10, 0, 0, 9]), (4, &card)]), Ok(wire::NextHop::Interface(7)));
        assert_eq!(route(&[(4, &card), (5, &[10, 0, 0, 1])]), Ok(wire::NextHop::Router));
        assert_eq!(route(&[]), Err(Errno::EBADMSG));
    }

    #[test]
    fn an_error_is_the_kernels() {
        let mut bytes = answer(2, [0; 12], &[]);
        bytes[16..20].copy_from_slice(&(-2i32).to_ne_bytes());
        assert_eq!(wire::body(&bytes), Err(Errno::ENOENT));
        for cut in 0..bytes.len() {
            let _ = wire::body(&bytes[..cut]).map(|body| (wire::read_route(body).is_ok(), wire::read_neighbour(body)));
        }
    }

    #[test]
    fn the_kernel_itself_answers() {
        // The loopback has no neighbours, also at the second question.
        let neighbours = Neighbours::default();
        for _ in 0..2 {
            assert_eq!(neighbours.look_up(IpAddr::from([127, 0, 0, 1])), None);
        }
        assert!(neighbours.is_near(IpAddr::from([127, 0, 0, 1])), "no router lies in between");
        let mut known = NeighbourCache::default();
        assert_eq!(known.ask(IpAddr::from([127, 0, 0, 9])), Ok(NeighbourEntry::NoEntry));
        // A kernel without IPv6 has no route to itself; any other has no neighbour there.
        assert!(matches!(known.ask("::1".parse().unwrap()), Ok(NeighbourEntry::NoEntry)));
    }
}
