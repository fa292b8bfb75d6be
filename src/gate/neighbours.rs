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
pub enum NeighbourEntry {
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

    /// Returns whether the kernel has asked for an address on an interface and got no answer.
    pub fn is_unanswered(&self, interface: &str, address: Ipv4Addr) -> bool {
        let Ok(index) = nix::net::if_::if_nametoindex(interface) else { return false };
        let mut known = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let question = wire::neighbour(index, address.into());
        known.talk(&question, |answer| Ok(wire::is_unanswered(answer))).unwrap_or(false)
    }

    /// Returns whether an address is on a segment of ours, without a router in between.
    pub fn is_near(&self, address: IpAddr) -> bool {
        let mut known = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(known.route(address.to_canonical()), Ok(wire::NextHop::Interface(_)))
    }
}

impl NeighbourCache {
    /// Looks up which interface reaches an address, and the neighbour there, in the kernel.
    fn ask(&mut self, address: IpAddr) -> Result<NeighbourEntry, Errno> {
        let asked = self.route(address).and_then(|route| match route {
            wire::NextHop::Interface(interface) => {
                self.talk(&wire::neighbour(interface, address), |answer| Ok(wire::read_neighbour(answer)))
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

    /// Sends one question to the kernel, and reads its answer.
    fn talk<T>(
        &mut self,
        question: &[u8],
        read: impl FnOnce(&wire::Answer<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        if self.kernel.is_none() {
            let flags = SockFlag::SOCK_CLOEXEC;
            self.kernel = Some(socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?);
        }
        let kernel = self.kernel.as_ref().ok_or(Errno::EBADF)?;
        let answer = talk(kernel, question, &mut [0; 1024]).and_then(|answer| read(&answer));
        match answer {
            Err(Errno::ENOENT | Errno::ENETUNREACH | Errno::EHOSTUNREACH) | Ok(_) => {}
            // A late answer would be read as the next question's.
            Err(_) => self.kernel = None,
        }
        answer
    }
}

/// Sends a question and returns the answer. The kernel answers within the call to `send`.
fn talk<'a>(kernel: &OwnedFd, question: &[u8], buffer: &'a mut [u8; 1024]) -> Result<wire::Answer<'a>, Errno> {
    send(kernel.as_raw_fd(), question, MsgFlags::empty())?;
    let length = recv(kernel.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?;
    wire::Answer::parse(buffer.get(..length).ok_or(Errno::EMSGSIZE)?)
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

/// The rtnetlink(7) messages that are needed.
pub mod wire {
    use std::net::IpAddr;

    use netlink_packet_core::{
        Emitable, ErrorBuffer, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader, Parseable,
    };
    use netlink_packet_route::AddressFamily;
    use netlink_packet_route::neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourHeader, NeighbourMessage, NeighbourState,
    };
    use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
    use nix::errno::Errno;

    use crate::gate::neighbours::{Mac, NeighbourEntry};

    // The crate decodes by these numbers and does not export them (linux/rtnetlink.h).
    const NEW_ROUTE: u16 = 24;
    const GET_ROUTE: u16 = 26;
    const NEW_NEIGHBOUR: u16 = 28;
    const GET_NEIGHBOUR: u16 = 30;
    /// Time without a confirmation after which a stale entry names no machine: one hour, in ticks of 1/100 s (USER_HZ).
    const MAX_UNCONFIRMED: u32 = 3600 * 100;

    /// The route to an address.
    #[derive(Debug, PartialEq, Eq)]
    pub enum NextHop {
        /// The index of the interface whose segment the address is on.
        Interface(u32),
        /// A router in between.
        Router,
    }

    /// Returns the question for the route to an address (RTM_GETROUTE).
    pub fn route(address: IpAddr) -> Vec<u8> {
        let mut question = RouteMessage::default();
        let (family, prefix, destination) = match address {
            IpAddr::V4(address) => (AddressFamily::Inet, 32, RouteAddress::Inet(address)),
            IpAddr::V6(address) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(address)),
        };
        question.header.address_family = family;
        question.header.destination_prefix_length = prefix;
        question.attributes.push(RouteAttribute::Destination(destination));
        message(GET_ROUTE, &question)
    }

    /// Returns the question for one neighbour on an interface (RTM_GETNEIGH).
    pub fn neighbour(interface: u32, address: IpAddr) -> Vec<u8> {
        let (family, destination) = match address {
            IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
            IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
        };
        let mut question = NeighbourMessage::default();
        question.header = NeighbourHeader { family, ifindex: interface, ..NeighbourHeader::default() };
        question.attributes.push(NeighbourAttribute::Destination(destination));
        message(GET_NEIGHBOUR, &question)
    }

    /// Returns a question with its header.
    fn message(kind: u16, question: &impl Emitable) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        let begin = header.buffer_len();
        let mut message = vec![0; begin + question.buffer_len()];
        header.length = message.len() as u32;
        header.message_type = kind;
        header.flags = NLM_F_REQUEST;
        header.emit(&mut message);
        question.emit(message.get_mut(begin..).unwrap_or_default());
        message
    }

    /// An answer of the kernel that is not an error.
    #[derive(Debug)]
    pub struct Answer<'a> {
        kind: u16,
        payload: &'a [u8],
    }

    impl<'a> Answer<'a> {
        /// Parses the first message of a packet.
        ///
        /// # Errors
        /// The kernel's error, or EBADMSG for a short answer.
        pub fn parse(packet: &'a [u8]) -> Result<Self, Errno> {
            let message = NetlinkBuffer::new_checked(packet).map_err(|_| Errno::EBADMSG)?;
            let (kind, payload) = (message.message_type(), message.payload());
            if kind != NLMSG_ERROR {
                return Ok(Self { kind, payload });
            }
            let error = ErrorBuffer::new_checked(payload).map_err(|_| Errno::EBADMSG)?;
            Err(Errno::from_raw(error.code().map_or(0, |code| code.get().wrapping_neg())))
        }
    }

    /// Reads the route of an answer.
    ///
    /// # Errors
    /// EBADMSG if the answer has no route.
    pub fn read_route(answer: &Answer<'_>) -> Result<NextHop, Errno> {
        if answer.kind != NEW_ROUTE {
            return Err(Errno::EBADMSG);
        }
        let mut found = Err(Errno::EBADMSG);
        for attribute in RouteMessage::parse(answer.payload).map_err(|_| Errno::EBADMSG)?.attributes {
            match attribute {
                RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => return Ok(NextHop::Router),
                RouteAttribute::Oif(interface) => found = Ok(NextHop::Interface(interface)),
                _ => {}
            }
        }
        found
    }

    /// Reads the neighbour of an answer. The loopback's own entries have an address of zeros, which is no machine's. An
    /// entry that the kernel has not confirmed for long may belong to a machine that is elsewhere by now: the kernel keeps
    /// it while its table has room.
    pub fn read_neighbour(answer: &Answer<'_>) -> NeighbourEntry {
        let message = (answer.kind == NEW_NEIGHBOUR).then(|| NeighbourMessage::parse(answer.payload).ok()).flatten();
        let valid = message.filter(|message| is_valid(message.header.state) && !is_old(message));
        let mut addresses =
            valid.iter().flat_map(|message| &message.attributes).filter_map(|attribute| match attribute {
                NeighbourAttribute::LinkLayerAddress(address) => address.as_slice().try_into().ok(),
                _ => None,
            });
        addresses.find(|mac| *mac != [0; 6]).map_or(NeighbourEntry::NoEntry, |mac| NeighbourEntry::Neighbour(Mac(mac)))
    }

    /// Returns whether the entry of an answer is one that no machine has answered for.
    pub fn is_unanswered(answer: &Answer<'_>) -> bool {
        let message = (answer.kind == NEW_NEIGHBOUR).then(|| NeighbourMessage::parse(answer.payload).ok()).flatten();
        message.is_some_and(|message| matches!(message.header.state, NeighbourState::Failed))
    }

    /// Returns whether the kernel has not confirmed a stale entry for long.
    fn is_old(message: &NeighbourMessage) -> bool {
        message.header.state == NeighbourState::Stale
            && message.attributes.iter().any(|attribute| match attribute {
                NeighbourAttribute::CacheInfo(info) => info.confirmed > MAX_UNCONFIRMED,
                _ => false,
            })
    }

    /// Returns whether the hardware address of an entry is valid (NUD_VALID).
    fn is_valid(state: NeighbourState) -> bool {
        use NeighbourState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
        matches!(state, Permanent | Noarp | Reachable | Probe | Stale | Delay)
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

    /// The fixed part of a route or a neighbour, of IPv4.
    const IPV4: [u8; 12] = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

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
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }

    fn neighbour_of(packet: &[u8]) -> NeighbourEntry {
        wire::read_neighbour(&wire::Answer::parse(packet).unwrap())
    }

    #[test]
    fn only_a_valid_entry_has_a_hardware_address() {
        let card = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
        for (state, known) in [(0x02u16, true), (0x04, true), (0x80, true), (0x01, false), (0x20, false), (0, false)] {
            let mut fixed = IPV4;
            fixed[8..10].copy_from_slice(&state.to_ne_bytes());
            let bytes = answer(28, fixed, &[(1, &[10, 77, 0, 10]), (2, &card)]);
            let expected = if known { NeighbourEntry::Neighbour(Mac(card)) } else { NeighbourEntry::NoEntry };
            assert_eq!(neighbour_of(&bytes), expected, "{state:#x}");
        }
        let mut loopback = IPV4;
        loopback[8..10].copy_from_slice(&0x40u16.to_ne_bytes());
        let bytes = answer(28, loopback, &[(2, &[0; 6])]);
        assert_eq!(neighbour_of(&bytes), NeighbourEntry::NoEntry);
    }

    #[test]
    fn an_entry_that_was_not_confirmed_for_an_hour_names_no_machine() {
        let card = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
        for (state, seconds, known) in
            [(0x04u16, 3600u32, true), (0x04, 3601, false), (0x02, 3601, true), (0x80, 100_000, true)]
        {
            let mut fixed = IPV4;
            fixed[8..10].copy_from_slice(&state.to_ne_bytes());
            let info = [(seconds * 100).to_ne_bytes(), [0; 4], [0; 4], [0; 4]].concat();
            let bytes = answer(28, fixed, &[(1, &[10, 77, 0, 10]), (2, &card), (3, &info)]);
            let expected = if known { NeighbourEntry::Neighbour(Mac(card)) } else { NeighbourEntry::NoEntry };
            assert_eq!(neighbour_of(&bytes), expected, "{state:#x} after {seconds} s");
        }
    }

    #[test]
    fn a_routed_address_has_no_neighbour() {
        let route = |attributes: &[(u16, &[u8])]| {
            wire::read_route(&wire::Answer::parse(&answer(24, IPV4, attributes)).unwrap())
        };
        let card = 7u32.to_ne_bytes();
        assert_eq!(route(&[(1, &[10, 0, 0, 9]), (4, &card)]), Ok(wire::NextHop::Interface(7)));
        assert_eq!(route(&[(4, &card), (5, &[10, 0, 0, 1])]), Ok(wire::NextHop::Router));
        assert_eq!(route(&[]), Err(Errno::EBADMSG));
    }

    #[test]
    fn an_error_is_the_kernels() {
        let mut bytes = answer(2, [0; 12], &[]);
        bytes[16..20].copy_from_slice(&(-2i32).to_ne_bytes());
        assert_eq!(wire::Answer::parse(&bytes).unwrap_err(), Errno::ENOENT);
    }

    #[test]
    fn a_cut_answer_has_neither_route_nor_neighbour() {
        let mac: &[u8] = &[0x52, 0x54, 0, 0x12, 0x34, 0x56];
        let mut fixed = IPV4;
        fixed[8] = 2;
        for kind in [2, 24, 28] {
            let whole = answer(kind, fixed, &[(1, &[10, 77, 0, 10]), (2, mac)]);
            for cut in 0..whole.len() - 2 {
                assert_eq!(wire::Answer::parse(&whole[..cut]).unwrap_err(), Errno::EBADMSG, "{kind}, {cut} octets");
                let mut short = whole[..cut.max(16)].to_vec();
                let length = short.len() as u32;
                short[..4].copy_from_slice(&length.to_ne_bytes());
                let Ok(answer) = wire::Answer::parse(&short) else { continue };
                assert_eq!(wire::read_route(&answer), Err(Errno::EBADMSG), "{kind}, {cut} octets");
                assert_eq!(wire::read_neighbour(&answer), NeighbourEntry::NoEntry, "{kind}, {cut} octets");
            }
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_question_has_the_octets_of_rtnetlink() {
        let address = [10, 77, 0, 10];
        let header = |kind| [36, 0, 0, 0, kind, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let destination = [8, 0, 1, 0, 10, 77, 0, 10];
        let route = [&header(26)[..], &[2, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &destination].concat();
        assert_eq!(wire::route(IpAddr::from(address)), route);
        let neighbour = [&header(30)[..], &[2, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0], &destination].concat();
        assert_eq!(wire::neighbour(7, IpAddr::from(address)), neighbour);
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
