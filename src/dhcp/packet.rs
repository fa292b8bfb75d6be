//! Parses DHCP messages: header fields, options and overloaded fields (RFC 2131, RFC 2132, RFC 3396).

use std::borrow::Cow;
use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;
use uuid::Uuid;

use crate::boot::DropReason;
use crate::dhcp::hardware::{self, HardwareForm};
use crate::fleet::Mac;

/// Length of the fixed part of a message with its magic cookie, in octets (RFC 2131 2).
pub const HEADER: usize = 240;
/// The magic cookie before the options (RFC 2131 3).
pub const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Maximum number of options of one message. Real clients send about 20.
const MAX_OPTIONS: usize = 128;

/// A DHCP message that was checked once and is read in place.
///
/// dhcproto's owned decoder drops every option after an invalid one and does not read overloaded fields, so the options
/// are walked here. Its types are used for their values.
#[derive(Debug)]
pub struct DhcpPacket<'a> {
    header: &'a [u8; HEADER],
    options: Vec<(u8, &'a [u8])>,
    /// The client's MAC address (`chaddr`, or what stands for it).
    pub mac: Mac,
    /// The form in which the client gives its hardware address.
    pub hardware: HardwareForm,
    /// The message type (option 53).
    pub kind: MessageType,
}

impl<'a> DhcpPacket<'a> {
    /// Parses a message from a client.
    ///
    /// # Errors
    /// The message is shorter than its fields, no BOOTREQUEST, or has no message type or no supported hardware address.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Self::parse_as(1, bytes)
    }

    /// Parses a message from a server, by the same rules.
    ///
    /// # Errors
    /// As for [`Self::parse`].
    pub fn parse_reply(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Self::parse_as(2, bytes)
    }

    fn parse_as(operation: u8, bytes: &'a [u8]) -> Result<Self, DropReason> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(DropReason::Truncated)?;
        if header[0] != operation {
            return Err(DropReason::NotARequest);
        }
        if header[236..240] != COOKIE {
            return Err(DropReason::BadHeader);
        }
        if ![12, 24].into_iter().all(|at| is_unset_or_unicast(&header[at..at + 4])) {
            return Err(DropReason::BadHeader);
        }
        let address = header[28..34].try_into().map_err(|_| DropReason::Truncated)?;
        let mut options = Vec::with_capacity(32);
        walk(rest, &mut options)?;
        // Option overload (RFC 2131 4.1): 1 puts options in `file`, 2 in `sname`, 3 in both, in this order.
        let overload = options.iter().find(|(code, _)| *code == 52).and_then(|(_, data)| data.first().copied());
        if matches!(overload, Some(1 | 3)) {
            walk(&header[108..236], &mut options)?;
        }
        if matches!(overload, Some(2 | 3)) {
            walk(&header[44..108], &mut options)?;
        }
        let kind = options.iter().find(|(code, _)| *code == 53).and_then(|(_, data)| data.first().copied());
        let kind = kind.map(MessageType::from).ok_or(DropReason::NotARequest)?;
        let client = joined(&options, 61);
        let (mac, hardware) = hardware::identify([header[1], header[2]], address, client.as_deref())?;
        Ok(Self { header, options, mac, hardware, kind })
    }

    /// Returns an option's bytes; parts of a split option are joined (RFC 3396).
    pub fn option(&self, code: u8) -> Option<Cow<'a, [u8]>> {
        joined(&self.options, code)
    }

    /// Returns the first part of an option in place, for an option that is never split.
    pub fn part(&self, code: u8) -> Option<&'a [u8]> {
        self.options.iter().find(|(found, _)| *found == code).map(|(_, data)| *data)
    }

    /// Returns the codes of the options in their order, each once.
    pub fn option_codes(&self) -> Vec<u8> {
        let mut codes = Vec::with_capacity(self.options.len());
        for (code, _) in &self.options {
            if !codes.contains(code) {
                codes.push(*code);
            }
        }
        codes
    }

    /// Returns whether the message has an option.
    pub fn has(&self, code: u8) -> bool {
        self.options.iter().any(|(found, _)| *found == code)
    }

    /// Returns the address in an option that holds one.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.option(code)?.as_ref().try_into().ok()?;
        Some(octets.into())
    }

    /// Returns the client's UUID (option 97, RFC 4578 2.3) as SMBIOS tools print it: its first three parts are
    /// little-endian on the wire (boot-facts 7). All zeros or all ones count as no UUID.
    pub fn uuid(&self) -> Option<Uuid> {
        let option = self.option(97)?;
        let (0, octets) = option.split_first().map(|(kind, octets)| (*kind, octets))? else { return None };
        let uuid = Uuid::from_bytes_le(octets.try_into().ok()?);
        (!uuid.is_nil() && !uuid.is_max()).then_some(uuid)
    }

    /// Returns an address on the client's link: link selection (RFC 3527), subnet selection (RFC 3011), or the relay's
    /// address, in this order.
    pub fn link(&self) -> Option<Ipv4Addr> {
        const LINK_SELECTION: u8 = 5;
        let relay = || Some(self.giaddr()).filter(|relay| !relay.is_unspecified());
        self.agent_address(LINK_SELECTION).or_else(|| self.address(118)).or_else(relay)
    }

    /// Returns the address in a sub-option of the relay agent's option that holds one.
    pub fn agent_address(&self, code: u8) -> Option<Ipv4Addr> {
        let agent = self.option(82)?;
        let value = sub_options(&agent).find(|(found, _)| *found == code)?.1;
        Some(<[u8; 4]>::try_from(value).ok()?.into())
    }

    /// Returns whether the relay agent's option has a sub-option.
    pub fn has_agent(&self, code: u8) -> bool {
        self.option(82).is_some_and(|agent| sub_options(&agent).any(|(found, _)| found == code))
    }

    /// Returns the transaction identifier (`xid`).
    pub fn xid(&self) -> u32 {
        u32::from_be_bytes(self.field(4))
    }

    /// Returns the flags; bit 15 asks for a broadcast reply.
    pub fn flags(&self) -> u16 {
        u16::from_be_bytes(self.field(10))
    }

    /// Returns the address that the client uses (`ciaddr`).
    pub fn ciaddr(&self) -> Ipv4Addr {
        self.field::<4>(12).into()
    }

    /// Returns the seconds since the client began to ask (`secs`).
    pub fn secs(&self) -> u16 {
        u16::from_be_bytes(self.field(8))
    }

    /// Returns the address that a server gives the client (`yiaddr`).
    /// Returns the address that the client is given (`yiaddr`).
    pub fn yiaddr(&self) -> Ipv4Addr {
        self.field::<4>(16).into()
    }

    /// Returns the address of the boot server (`siaddr`).
    pub fn siaddr(&self) -> Ipv4Addr {
        self.field::<4>(20).into()
    }

    /// Returns the header's boot file, up to its terminator.
    pub fn boot_file(&self) -> &'a [u8] {
        let field = &self.header[108..236];
        field.split(|octet| *octet == 0).next().unwrap_or_default()
    }

    /// Returns the address of the relay agent (`giaddr`).
    pub fn giaddr(&self) -> Ipv4Addr {
        self.field::<4>(24).into()
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        self.header[at..at + N].try_into().expect("every caller names a field of the header")
    }
}

/// Returns the joined parts of an option.
fn joined<'a>(options: &[(u8, &'a [u8])], code: u8) -> Option<Cow<'a, [u8]>> {
    let mut parts = options.iter().filter(|(found, _)| *found == code).map(|(_, data)| *data);
    let first = parts.next()?;
    match parts.next() {
        None => Some(Cow::Borrowed(first)),
        Some(second) => Some(Cow::Owned([first, second].into_iter().chain(parts).flatten().copied().collect())),
    }
}

/// Returns the sub-options of an option, up to the first malformed one.
pub fn sub_options(mut field: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [code, length, rest @ ..] = field else { return None };
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        field = rest;
        Some((*code, value))
    })
}

/// Returns whether an address is unset or unicast. A client or relay with a broadcast address would make this server
/// answer everyone.
fn is_unset_or_unicast(octets: &[u8]) -> bool {
    matches!(octets, [0, 0, 0, 0] | [1..=126 | 128..=223, ..])
}

/// Collects the options of a field up to its end mark, or its end: some ROMs omit the mark.
fn walk<'a>(mut field: &'a [u8], into: &mut Vec<(u8, &'a [u8])>) -> Result<(), DropReason> {
    loop {
        match field {
            [] | [255, ..] => return Ok(()),
            [0, rest @ ..] => field = rest,
            [code, length, rest @ ..] => {
                let (data, rest) = rest.split_at_checked(usize::from(*length)).ok_or(DropReason::Truncated)?;
                if into.len() == MAX_OPTIONS {
                    return Err(DropReason::BadOption);
                }
                into.push((*code, data));
                field = rest;
            }
            [_] => return Err(DropReason::Truncated),
        }
    }
}

/// Messages and captures, also for the tests of other modules.
#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns a client's message with these options.
    pub fn message(kind: u8, options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&0xdead_beef_u32.to_be_bytes());
        bytes[28..34].copy_from_slice(&[0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        bytes[236..240].copy_from_slice(&COOKIE);
        bytes.extend([53, 1, kind]);
        for (code, data) in options {
            bytes.extend([*code, u8::try_from(data.len()).unwrap()]);
            bytes.extend(*data);
        }
        bytes.push(255);
        bytes
    }

    /// Returns the UDP payloads of a capture with their destination ports.
    pub fn capture(file: &str) -> Vec<(u16, Vec<u8>)> {
        let path = format!("{}/integration/fixtures/captures/{file}", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let (mut at, mut packets) = (24, Vec::new());
        while at < bytes.len() {
            let (start, length) = (at + 16, word(at + 8));
            let frame = &bytes[start..start + length];
            at = start + length;
            if frame[12..14] == [8, 0] && frame[23] == 17 {
                let udp = 14 + usize::from(frame[14] & 15) * 4;
                let port = u16::from_be_bytes([frame[udp + 2], frame[udp + 3]]);
                packets.push((port, frame[udp + 8..].to_vec()));
            }
        }
        packets
    }

    #[test]
    fn options_after_an_invalid_one_and_in_overloaded_fields_are_read() {
        let mut bytes = message(1, &[(12, &[0xff, 0xfe]), (57, &[1]), (93, &[0, 7]), (52, &[3])]);
        bytes[108..111].copy_from_slice(&[60, 1, b'P']);
        bytes[44..48].copy_from_slice(&[60, 2, b'X', b'E']);
        let request = DhcpPacket::parse(&bytes).unwrap();
        assert_eq!(request.option(93).as_deref(), Some(&[0, 7][..]));
        assert_eq!(request.option(60).as_deref(), Some(&b"PXE"[..]));
        assert_eq!(request.xid(), 0xdead_beef);
    }

    #[test]
    fn a_uuid_is_printed_as_smbios_tools_do() {
        let wire = [0, 0x78, 0x56, 0x34, 0x12, 0xbc, 0x9a, 0xf0, 0xde, 1, 2, 3, 4, 5, 6, 7, 8];
        let check = |wire: &[u8], expected: Option<&str>| {
            let bytes = message(1, &[(97, wire)]);
            let uuid = DhcpPacket::parse(&bytes).unwrap().uuid().map(|uuid| uuid.to_string());
            assert_eq!(uuid.as_deref(), expected, "{wire:?}");
        };
        check(&wire, Some("12345678-9abc-def0-0102-030405060708"));
        check(&wire[..16], None);
        check(&[1; 17], None);
        check(&[0; 17], None);
        check(&[], None);
    }

    #[test]
    fn the_relay_determines_the_link() {
        let check = |relay: [u8; 4], options: &[(u8, &[u8])], expected: Option<[u8; 4]>| {
            let mut bytes = message(1, options);
            bytes[24..28].copy_from_slice(&relay);
            assert_eq!(DhcpPacket::parse(&bytes).unwrap().link(), expected.map(Ipv4Addr::from));
        };
        check([0; 4], &[], None);
        check([10, 1, 0, 1], &[], Some([10, 1, 0, 1]));
        check([10, 1, 0, 1], &[(82, &[1, 1, 9, 5, 4, 10, 2, 0, 0])], Some([10, 2, 0, 0]));
        check([10, 1, 0, 1], &[(82, &[1, 9, 9])], Some([10, 1, 0, 1]));
        check([0; 4], &[(118, &[10, 3, 0, 0])], Some([10, 3, 0, 0]));
    }

    #[test]
    fn an_invalid_request_is_dropped_with_its_reason() {
        let good = message(1, &[]);
        let check = |edit: &dyn Fn(&mut Vec<u8>), why| {
            let mut bytes = good.clone();
            edit(&mut bytes);
            assert_eq!(DhcpPacket::parse(&bytes).unwrap_err(), why);
        };
        check(&|bytes| bytes[0] = 2, DropReason::NotARequest);
        check(&|bytes| bytes[236] = 0, DropReason::BadHeader);
        check(&|bytes| bytes[2] = 16, DropReason::NoHardwareAddress);
        check(&|bytes| bytes[2] = 255, DropReason::NoHardwareAddress);
        check(&|bytes| bytes[28] = 1, DropReason::NoHardwareAddress);
        check(&|bytes| bytes[1..3].copy_from_slice(&[32, 0]), DropReason::NoHardwareAddress);
        for address in [[255; 4], [224, 0, 0, 1], [127, 0, 0, 1], [0, 0, 0, 1], [240, 0, 0, 1]] {
            check(&|bytes| bytes[24..28].copy_from_slice(&address), DropReason::BadHeader);
            check(&|bytes| bytes[12..16].copy_from_slice(&address), DropReason::BadHeader);
        }
        check(&|bytes| bytes.truncate(239), DropReason::Truncated);
        check(&|bytes| bytes.truncate(HEADER), DropReason::NotARequest);
        check(&|bytes| bytes[241] = 200, DropReason::Truncated);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), header: bool) {
            let mut bytes = bytes;
            if header && bytes.len() >= HEADER {
                bytes[..3].copy_from_slice(&[1, 1, 6]);
                bytes[236..240].copy_from_slice(&COOKIE);
            }
            if let Ok(request) = DhcpPacket::parse(&bytes) {
                let _ = (request.option(60), request.address(54), request.giaddr(), request.ciaddr());
            }
        }
    }
}
