//! Encodes replies: the header from the request, options in the given order, the relay agent's option last.

use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;

use super::packet::{COOKIE, DhcpPacket, HEADER};

/// Minimum size of a message that BOOTP relays and some ROMs accept, in octets (RFC 1542 2.1).
const MIN_MESSAGE_BYTES: usize = 300;
/// Length of the IP and UDP headers, in octets.
const IP_AND_UDP: usize = 28;
/// Size of the datagram that every client accepts, in octets (RFC 2131 2). A client announces a larger one in option
/// 57.
const DEFAULT_DATAGRAM_BYTES: usize = 576;
/// Maximum size of a reply's datagram, in octets: Ethernet's MTU. No reply is longer, whatever option 57 says, because
/// fragments break ROMs.
const MAX_DATAGRAM_BYTES: usize = 1500;
/// Maximum length of the header's `file` field without its terminator, in octets.
const MAX_FILE_LENGTH: usize = 127;

/// The addresses of a reply's header.
#[derive(Debug, Clone, Copy)]
pub struct HeaderAddresses {
    pub ciaddr: Ipv4Addr,
    pub yiaddr: Ipv4Addr,
    pub siaddr: Ipv4Addr,
}

impl HeaderAddresses {
    /// Returns addresses with this server as the boot server and no client address.
    pub fn of_server(siaddr: Ipv4Addr) -> Self {
        Self { ciaddr: Ipv4Addr::UNSPECIFIED, yiaddr: Ipv4Addr::UNSPECIFIED, siaddr }
    }
}

/// A reply under construction. An option that would exceed the client's maximum size is omitted.
#[derive(Debug)]
pub struct ReplyWriter {
    bytes: Vec<u8>,
    /// The offset at which options must end, before the relay agent's option and the end mark.
    room: usize,
}

impl ReplyWriter {
    /// Starts a reply with the request's transaction, flags, relay and hardware address.
    pub fn reply(request: &DhcpPacket<'_>, kind: MessageType, addresses: HeaderAddresses) -> Self {
        let mut bytes = Vec::with_capacity(DEFAULT_DATAGRAM_BYTES);
        let [hardware, length] = request.hardware.type_and_length();
        bytes.extend([2, hardware, length, 0]);
        bytes.extend(request.xid().to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(request.flags().to_be_bytes());
        for address in [addresses.ciaddr, addresses.yiaddr, addresses.siaddr, request.giaddr()] {
            bytes.extend(address.octets());
        }
        if request.hardware.is_in_header() {
            bytes.extend(request.mac.0);
        }
        bytes.resize(HEADER - COOKIE.len(), 0);
        bytes.extend(COOKIE);
        let claimed = request.option(57).and_then(|size| <[u8; 2]>::try_from(size.as_ref()).ok());
        let datagram = claimed.map_or(DEFAULT_DATAGRAM_BYTES, |size| usize::from(u16::from_be_bytes(size)));
        let agent = request.option(82).map_or(0, |agent| agent.len() + 2 * agent.len().div_ceil(255).max(1));
        let room = datagram.clamp(DEFAULT_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES)
            - IP_AND_UDP
            - agent.min(DEFAULT_DATAGRAM_BYTES / 2)
            - 1;
        let mut writer = Self { bytes, room };
        writer.option(53, &[kind.into()]);
        writer
    }

    /// Appends an option, in parts if it is long (RFC 3396). Returns whether there was space for it.
    pub fn option(&mut self, code: u8, value: &[u8]) -> bool {
        let parts = value.len().div_ceil(255).max(1);
        if self.bytes.len() + value.len() + 2 * parts > self.room {
            return false;
        }
        if value.is_empty() {
            self.bytes.extend([code, 0]);
        }
        for part in value.chunks(255) {
            self.bytes.extend([code, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
            self.bytes.extend_from_slice(part);
        }
        true
    }

    pub fn address(&mut self, code: u8, address: Ipv4Addr) -> bool {
        self.option(code, &address.octets())
    }

    /// Sets the header's flags. By default they are those of the request.
    pub fn set_flags(&mut self, flags: u16) {
        self.bytes[10..12].copy_from_slice(&flags.to_be_bytes());
    }

    /// Writes the boot file to every field that some client reads: U-Boot reads `file` only, others option 67.
    pub fn boot_file(&mut self, server: Ipv4Addr, file: &str) {
        let file = file.as_bytes();
        if file.len() <= MAX_FILE_LENGTH {
            self.bytes[108..108 + file.len()].copy_from_slice(file);
        }
        self.text(67, file);
        let mut digits = [0u8; 15];
        self.text(66, format_address(server, &mut digits));
    }

    /// Appends a text with a pad option behind it. PXE ROMs of about 2000 to 2014 take these options for C strings, and
    /// ask TFTP for the text and all octets that follow it, up to the next zero (boot-facts 27).
    fn text(&mut self, code: u8, value: &[u8]) -> bool {
        self.room -= 1;
        let is_written = self.option(code, value);
        self.room += 1;
        if is_written {
            self.bytes.push(0);
        }
        is_written
    }

    /// Ends the message. The relay agent's option is returned unchanged, as the last one (RFC 3046 2.2).
    pub fn finish(mut self, request: &DhcpPacket<'_>) -> Vec<u8> {
        if let Some(agent) = request.option(82) {
            self.room = usize::MAX;
            self.option(82, &agent);
        }
        self.bytes.push(255);
        self.bytes.resize(self.bytes.len().max(MIN_MESSAGE_BYTES), 0);
        self.bytes
    }
}

/// Formats an address without `core::fmt`, which would take longer than the rest of the reply.
fn format_address(address: Ipv4Addr, into: &mut [u8; 15]) -> &[u8] {
    let mut length = 0;
    let mut put = |octet: u8| {
        into[length] = octet;
        length += 1;
    };
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            put(b'.');
        }
        for (least, digit) in [(100, octet / 100), (10, octet / 10 % 10), (0, octet % 10)] {
            if octet >= least {
                put(b'0' + digit);
            }
        }
    }
    &into[..length]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::packet::tests::message;
    use super::*;

    #[test]
    fn a_reply_does_not_exceed_its_clients_maximum() {
        let check = |claimed: Option<u16>, longest: usize| {
            let size = claimed.map(u16::to_be_bytes);
            let options: Vec<(u8, &[u8])> = size.as_ref().map(|size| (57, &size[..])).into_iter().collect();
            let bytes = message(1, &options);
            let request = DhcpPacket::parse(&bytes).unwrap();
            let mut writer =
                ReplyWriter::reply(&request, MessageType::Offer, HeaderAddresses::of_server([10, 0, 0, 1].into()));
            while writer.option(119, &[7; 40]) {}
            while writer.option(12, b"x") {}
            let reply = writer.finish(&request);
            assert!((longest - 3..=longest).contains(&(reply.len() + IP_AND_UDP)), "{claimed:?}: {}", reply.len());
            assert_eq!(reply.last(), Some(&255));
        };
        check(None, 576);
        check(Some(100), 576);
        check(Some(1260), 1260);
        check(Some(65535), 1500);
    }

    #[test]
    fn a_long_option_is_sent_in_parts() {
        let bytes = message(1, &[(57, &[5, 0])]);
        let request = DhcpPacket::parse(&bytes).unwrap();
        let mut writer =
            ReplyWriter::reply(&request, MessageType::Offer, HeaderAddresses::of_server([10, 0, 0, 1].into()));
        assert!(writer.option(119, &[7; 300]));
        let mut reply = writer.finish(&request);
        reply[0] = 1;
        assert_eq!(DhcpPacket::parse(&reply).unwrap().option(119).as_deref(), Some(&[7; 300][..]));
    }

    #[test]
    fn a_reply_has_the_octets_of_the_rfcs() {
        let bytes = message(1, &[(82, &[1, 1, 9])]);
        let request = DhcpPacket::parse(&bytes).unwrap();
        let addresses =
            HeaderAddresses { yiaddr: [10, 0, 0, 9].into(), ..HeaderAddresses::of_server([10, 0, 0, 1].into()) };
        let mut writer = ReplyWriter::reply(&request, MessageType::Offer, addresses);
        assert!(writer.address(54, [10, 0, 0, 1].into()));
        writer.boot_file([10, 0, 0, 1].into(), "a.efi");
        let mut expected = vec![0; HEADER];
        expected[..8].copy_from_slice(&[2, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef]);
        expected[16..24].copy_from_slice(&[10, 0, 0, 9, 10, 0, 0, 1]);
        expected[28..34].copy_from_slice(&[0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        expected[108..113].copy_from_slice(b"a.efi");
        expected[236..].copy_from_slice(&COOKIE);
        expected.extend(b"\x35\x01\x02\x36\x04\x0a\0\0\x01\x43\x05a.efi\0\x42\x0810.0.0.1\0\x52\x03\x01\x01\x09\xff");
        expected.resize(MIN_MESSAGE_BYTES, 0);
        assert_eq!(writer.finish(&request), expected);
    }

    proptest! {
        #[test]
        fn a_reply_survives_the_wire(
            xid: [u8; 4], flags: u16, yiaddr: [u8; 4], hardware in 0..3usize,
            values in proptest::collection::vec((1..255u8, proptest::collection::vec(any::<u8>(), 0..300)), 0..6),
            agent in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..255)),
        ) {
            let client: &[u8] = &[32, 1, 2, 3, 4, 5, 6, 7, 8];
            let mut given: Vec<(u8, &[u8])> = vec![(57, &[5, 220]), (61, client)];
            given.extend(agent.iter().map(|agent| (82, &agent[..])));
            let mut bytes = message(1, &given);
            bytes[1..3].copy_from_slice(&[[1, 6], [32, 6], [32, 0]][hardware]);
            bytes[4..8].copy_from_slice(&xid);
            bytes[24..28].copy_from_slice(&[10, 0, 0, 2]);
            let request = DhcpPacket::parse(&bytes).unwrap();
            let addresses =
                HeaderAddresses { yiaddr: yiaddr.into(), ..HeaderAddresses::of_server([10, 0, 0, 1].into()) };
            let mut writer = ReplyWriter::reply(&request, MessageType::Ack, addresses);
            writer.set_flags(flags);
            let mut written: Vec<(u8, Vec<u8>)> = Vec::new();
            for (code, value) in values {
                // These have a meaning of their own for the reader, and a code is written once.
                let is_other = ![52, 53, 61, 82].contains(&code) && written.iter().all(|(known, _)| *known != code);
                if is_other && writer.option(code, &value) {
                    written.push((code, value));
                }
            }
            let mut reply = writer.finish(&request);
            prop_assert_eq!(&reply[16..20], &yiaddr[..]);
            if hardware == 2 {
                // A client without an address in the header knows its reply by the transaction.
                prop_assert_eq!(&reply[1..3], &[32, 0]);
                prop_assert_eq!(&reply[28..44], &[0; 16]);
                reply[1..3].copy_from_slice(&[1, 6]);
                reply[28..34].copy_from_slice(&request.mac.0);
            }
            let read = DhcpPacket::parse_reply(&reply).unwrap();
            prop_assert_eq!((read.kind, read.mac), (MessageType::Ack, request.mac));
            prop_assert_eq!((read.xid(), read.flags()), (u32::from_be_bytes(xid), flags));
            prop_assert_eq!((read.siaddr(), read.giaddr()), ([10, 0, 0, 1].into(), [10, 0, 0, 2].into()));
            for (code, value) in &written {
                assert_eq!(read.option(*code).as_deref(), Some(&value[..]), "option {code}");
            }
            assert_eq!(read.option(82).as_deref(), agent.as_deref());
        }
    }

    #[test]
    fn a_client_that_reads_to_the_next_zero_finds_the_boot_file() {
        let check = |file: &str, agent: &[u8], size: u16| {
            let bytes = message(1, &[(82, agent), (57, &size.to_be_bytes())]);
            let request = DhcpPacket::parse(&bytes).unwrap();
            let mut writer =
                ReplyWriter::reply(&request, MessageType::Offer, HeaderAddresses::of_server([10, 0, 0, 1].into()));
            writer.boot_file([10, 77, 0, 2].into(), file);
            let reply = writer.finish(&request);
            for (code, text) in [(67, file), (66, "10.77.0.2")] {
                let head = [code, u8::try_from(text.len()).unwrap()];
                let at = (HEADER..reply.len()).find(|at| reply[*at..].starts_with(&head)).unwrap();
                let c_string = reply[at + 2..].split(|octet| *octet == 0).next().unwrap();
                assert_eq!(c_string, text.as_bytes(), "option {code}");
            }
        };
        check("52-54-00-12-34-56/undionly.kpxe", &[1, 2, 9, 9], 576);
        check("52-54-00-12-34-56/undionly.kpxe", &[7; 200], 1260);
        check("http://10.77.0.2/ipxe?mac=52-54-00-12-34-56", &[], 1500);
    }

    #[test]
    fn a_text_without_space_for_its_end_is_omitted() {
        let bytes = message(1, &[]);
        let request = DhcpPacket::parse(&bytes).unwrap();
        for (left, is_written) in [(6, false), (7, true)] {
            let mut writer =
                ReplyWriter::reply(&request, MessageType::Offer, HeaderAddresses::of_server([10, 0, 0, 1].into()));
            writer.room = writer.bytes.len() + left;
            assert_eq!(writer.text(67, b"file"), is_written, "{left} octets left");
        }
    }

    #[test]
    fn addresses_are_formatted_in_full() {
        for address in ["0.0.0.0", "255.255.255.255", "10.77.0.2", "1.99.100.209"] {
            assert_eq!(format_address(address.parse().unwrap(), &mut [0; 15]), address.as_bytes());
        }
    }
}
