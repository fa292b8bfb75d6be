//! Encodes Ethernet frames for clients without an address, which the kernel cannot reach, and for address probes.

use std::net::{Ipv4Addr, SocketAddrV4};

use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, Ipv4Flags, Ipv4Packet, MutableIpv4Packet};
use pnet_packet::udp::MutableUdpPacket;

use crate::fleet::Mac;

/// The EtherType of IPv4.
const IPV4: u16 = 0x0800;
const ETHERNET: usize = 14;
/// The EtherType of ARP.
const ARP_TYPE: u16 = 0x0806;
const ARP: usize = 28;
const IP: usize = 20;
const UDP: usize = 8;
/// Time to live of a reply, in hops.
const HOPS: u8 = 64;

/// One end of a datagram, with its MAC address.
#[derive(Debug, Clone, Copy)]
pub struct LinkEndpoint {
    pub mac: Mac,
    pub address: SocketAddrV4,
}

/// The Ethernet, IPv4 and UDP headers of a frame.
pub type FrameHeader = [u8; ETHERNET + IP + UDP];

/// Returns the sender's MAC address of an Ethernet frame.
pub fn sender(frame: &[u8]) -> Option<Mac> {
    frame.get(6..12)?.try_into().ok().map(Mac)
}

/// An ICMP error about a UDP packet of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpError<'a> {
    /// The sender of the error.
    pub by: Ipv4Addr,
    /// The code of a destination-unreachable message (RFC 792, RFC 1812).
    pub code: u8,
    /// The source of the packet, as the error quotes it.
    pub from: Ipv4Addr,
    /// The destination of our packet.
    pub to: Ipv4Addr,
    /// The port that our packet came from.
    pub from_port: u16,
    /// What the error quotes of the payload of our packet.
    pub payload: &'a [u8],
}

/// Decodes an IPv4 packet with a destination-unreachable message about a UDP packet.
pub fn icmp_error(packet: &[u8]) -> Option<IcmpError<'_>> {
    const UNREACHABLE: u8 = 3;
    const ICMP_HEADER: usize = 8;
    let outer = Ipv4Packet::new(packet)?;
    let icmp = packet.get(usize::from(outer.get_header_length()) * 4..)?;
    let quoted = icmp.get(ICMP_HEADER..)?;
    let inner = Ipv4Packet::new(quoted)?;
    let is_udp = inner.get_next_level_protocol() == IpNextHeaderProtocols::Udp && inner.get_fragment_offset() == 0;
    if icmp.first() != Some(&UNREACHABLE) || !is_udp {
        return None;
    }
    let udp = quoted.get(usize::from(inner.get_header_length()) * 4..)?;
    let from_port = u16::from_be_bytes(udp.get(..2)?.try_into().ok()?);
    let payload = udp.get(UDP..).unwrap_or_default();
    Some(IcmpError {
        by: outer.get_source(),
        code: *icmp.get(1)?,
        from: inner.get_source(),
        to: inner.get_destination(),
        from_port,
        payload,
    })
}

/// Returns the headers of the frame for a UDP datagram; `None` if the datagram exceeds one packet.
pub fn udp(from: LinkEndpoint, to: LinkEndpoint, payload: &[u8]) -> Option<FrameHeader> {
    let datagram = UDP + payload.len();
    let mut frame = [0; ETHERNET + IP + UDP];
    frame[..6].copy_from_slice(&to.mac.0);
    frame[6..12].copy_from_slice(&from.mac.0);
    frame[12..14].copy_from_slice(&IPV4.to_be_bytes());
    let mut ip = MutableIpv4Packet::new(&mut frame[ETHERNET..])?;
    ip.set_version(4);
    ip.set_header_length(5);
    ip.set_total_length(u16::try_from(IP + datagram).ok()?);
    ip.set_flags(Ipv4Flags::DontFragment);
    ip.set_ttl(HOPS);
    ip.set_next_level_protocol(IpNextHeaderProtocols::Udp);
    ip.set_source(*from.address.ip());
    ip.set_destination(*to.address.ip());
    ip.set_checksum(ipv4::checksum(&ip.to_immutable()));
    let length = u16::try_from(datagram).ok()?;
    let mut packet = MutableUdpPacket::new(&mut frame[ETHERNET + IP..])?;
    packet.set_source(from.address.port());
    packet.set_destination(to.address.port());
    packet.set_length(length);
    // The pseudo-header (RFC 768) has addresses, protocol and length; the addresses precede the UDP header in the
    // frame.
    let pseudo = u64::from(IpNextHeaderProtocols::Udp.0) + u64::from(length);
    let covered = sum(&frame[ETHERNET + 12..]) + pseudo + sum(payload);
    let checksum = match !fold(covered) {
        0 => 0xffff,
        checksum => checksum,
    };
    frame[ETHERNET + IP + 6..].copy_from_slice(&checksum.to_be_bytes());
    Some(frame)
}

/// Adds bytes up as 16-bit words; an odd last byte is padded with zero (RFC 1071).
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(2);
    let last = words.remainder().first().map_or(0, |octet| u64::from(*octet) << 8);
    words.map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u64>() + last
}

fn fold(sum: u64) -> u16 {
    // The sum has fewer than 2^17 words, so two folds add every carry.
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    u16::try_from(twice & 0xffff).unwrap_or(u16::MAX)
}

/// Returns an ARP probe for an address. A probe claims no address itself (RFC 5227 2.1.1).
pub fn arp_probe(from: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET + ARP];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&from.0);
    frame[12..14].copy_from_slice(&ARP_TYPE.to_be_bytes());
    // Ethernet and IPv4 addresses of 6 and 4 octets; operation 1, a request (RFC 826).
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&from.0);
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

/// Returns the sender's address and MAC address of an ARP request or reply.
pub fn arp_sender(frame: &[u8]) -> Option<(Ipv4Addr, Mac)> {
    let frame = frame.first_chunk::<{ ETHERNET + ARP }>()?;
    if frame[12..14] != ARP_TYPE.to_be_bytes() || frame[14..20] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let mac = Mac(frame[22..28].try_into().ok()?);
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(&frame[28..32]).ok()?);
    (!address.is_unspecified()).then_some((address, mac))
}

/// Returns the payload of a UDP datagram to a port, from the frame that carries it.
pub fn udp_payload(frame: &[u8], port: u16) -> Option<&[u8]> {
    const PROTOCOL: u8 = 17;
    let (ethernet, packet) = frame.split_first_chunk::<ETHERNET>()?;
    let ip = packet.first_chunk::<IP>().filter(|ip| ethernet[12..] == IPV4.to_be_bytes() && ip[9] == PROTOCOL)?;
    let datagram = packet.get(usize::from(ip[0] & 15) * 4..)?;
    let [_, _, high, low, length @ .., _, _] = datagram.first_chunk::<UDP>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    ([*high, *low] == port.to_be_bytes()).then(|| datagram.get(UDP..length)).flatten()
}

/// Returns source, destination address and payload of a UDP datagram, from the IP packet that carries it.
pub fn udp_datagram(packet: &[u8]) -> Option<(SocketAddrV4, Ipv4Addr, &[u8])> {
    let ip = Ipv4Packet::new(packet).filter(|ip| ip.get_next_level_protocol() == IpNextHeaderProtocols::Udp)?;
    let datagram = packet.get(usize::from(ip.get_header_length()) * 4..)?;
    let [source_high, source_low, _, _, length @ .., _, _] = datagram.first_chunk::<UDP>()?;
    let from = SocketAddrV4::new(ip.get_source(), u16::from_be_bytes([*source_high, *source_low]));
    let payload = datagram.get(UDP..usize::from(u16::from_be_bytes(*length)))?;
    Some((from, ip.get_destination(), payload))
}

/// Returns the IPv4 and UDP headers of a datagram that the kernel routes; `None` if it exceeds one packet.
pub fn datagram_header(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Option<[u8; IP + UDP]> {
    let nobody = Mac([0; 6]);
    let head = udp(LinkEndpoint { mac: nobody, address: from }, LinkEndpoint { mac: nobody, address: to }, payload)?;
    head.last_chunk().copied()
}

/// Returns an ICMP echo request (RFC 792), without its IP header.
pub fn echo_request(identifier: u16) -> [u8; 8] {
    let [high, low] = identifier.to_be_bytes();
    let sum = !(0x0800u16.wrapping_add(identifier) + u16::from(0x0800u16.overflowing_add(identifier).1));
    let [first, second] = sum.to_be_bytes();
    [8, 0, first, second, high, low, 0, 0]
}

/// Returns the sender of an echo reply to our request, from an IP packet.
pub fn echo_reply(packet: &[u8], identifier: u16) -> Option<Ipv4Addr> {
    let header = usize::from(packet.first()? & 15) * 4;
    let icmp = packet.get(header..).filter(|icmp| icmp.len() >= 8)?;
    let is_ours = icmp[..2] == [0, 0] && icmp[4..6] == identifier.to_be_bytes();
    let from = <[u8; 4]>::try_from(packet.get(12..16)?).ok()?;
    is_ours.then(|| from.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_that_the_kernel_routes_is_read_back() {
        let (from, to) = (SocketAddrV4::new([10, 0, 0, 9].into(), 67), SocketAddrV4::new([10, 1, 0, 2].into(), 68));
        let head = datagram_header(from, to, b"message").unwrap();
        let packet = [&head[..], b"message"].concat();
        assert_eq!(udp_datagram(&packet), Some((from, *to.ip(), &b"message"[..])));
        // Octets after the datagram, as the padding of a short frame, are not its own.
        assert_eq!(udp_datagram(&[&packet[..], &[0; 9]].concat()), Some((from, *to.ip(), &b"message"[..])));
        for length in 0..packet.len() {
            assert_eq!(udp_datagram(&packet[..length]), None, "{length}");
        }
        let mut tcp = packet;
        tcp[9] = 6;
        assert_eq!(udp_datagram(&tcp), None);
        assert_eq!(datagram_header(from, to, &[0; 70_000]), None);
    }

    #[test]
    fn a_probe_claims_no_address() {
        let (us, them) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let mut frame = arp_probe(us, [10, 0, 0, 9].into());
        assert_eq!(arp_sender(&frame), None);
        frame[21] = 2;
        frame[22..28].copy_from_slice(&them.0);
        frame[28..32].copy_from_slice(&[10, 0, 0, 9]);
        assert_eq!(arp_sender(&frame), Some(([10, 0, 0, 9].into(), them)));
        assert_eq!(arp_sender(&frame[..41]), None);
    }

    #[test]
    fn an_echo_reply_is_recognized_by_its_identifier() {
        let mut packet = vec![0x45; 20];
        packet[12..16].copy_from_slice(&[10, 0, 0, 9]);
        packet.extend([0, 0, 0, 0, 0xb0, 0x07, 0, 0]);
        assert_eq!(echo_reply(&packet, 0xb007), Some([10, 0, 0, 9].into()));
        assert_eq!(echo_reply(&packet, 1), None);
        packet[20] = 8;
        assert_eq!(echo_reply(&packet, 0xb007), None);
        for identifier in [0, 0xb007, 0xf7ff, 0xf800, 0xffff] {
            let words = echo_request(identifier)
                .chunks(2)
                .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
                .sum::<u32>();
            assert_eq!((words & 0xffff) + (words >> 16), 0xffff, "{identifier:#x}");
        }
    }

    #[test]
    fn a_frame_equals_the_kernels() {
        // Like ovmf-2025-pxe-x64.pcap; the checksums are tcpdump's.
        let end = |mac, address: &str| LinkEndpoint { mac: Mac(mac), address: address.parse().unwrap() };
        let from = end([2, 0, 0, 0, 0, 1], "10.77.0.2:67");
        let to = end([0x52, 0x54, 0, 0, 0, 9], "10.77.0.9:68");
        let frame = [&udp(from, to, b"hello").unwrap()[..], b"hello"].concat();
        let expected: &[u8] = &[
            0x52, 0x54, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
            0x45, 0, 0, 33, 0, 0, 0x40, 0, 64, 17, 0x26, 0x23, 10, 77, 0, 2, 10, 77, 0, 9, // IP
            0, 67, 0, 68, 0, 13, 0x26, 0xa3, b'h', b'e', b'l', b'l', b'o', // UDP
        ];
        // Both checksums verify: the sum over the covered octets is all ones.
        let sum = |bytes: &[u8]| {
            let words =
                bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
            let sum: u32 = words.sum();
            (sum & 0xffff) + (sum >> 16)
        };
        assert_eq!(sum(&frame[14..34]), 0xffff);
        let pseudo = [10, 77, 0, 2, 10, 77, 0, 9, 0, 17, 0, 13];
        assert_eq!(sum(&[&pseudo[..], &frame[34..]].concat()), 0xffff);
        assert_eq!((&frame[..24], &frame[26..40]), (&expected[..24], &expected[26..40]));
        assert_eq!(&frame[42..], b"hello");
    }

    #[test]
    fn a_datagram_reads_back_from_its_frame() {
        let end = |last, port| LinkEndpoint {
            mac: Mac([2, 0, 0, 0, 0, last]),
            address: SocketAddrV4::new([10, 77, 0, last].into(), port),
        };
        for payload in [&b""[..], b"h", b"hello", &[7; 1472]] {
            let header = udp(end(2, 67), end(9, 68), payload).unwrap();
            // Ethernet pads a short frame; the padding is not part of the datagram.
            let frame = [&header[..], payload, &[0xa5; 18]].concat();
            assert_eq!(udp_payload(&frame, 68), Some(payload));
            assert_eq!(udp_payload(&frame, 67), None, "another port");
            for cut in 0..header.len() + payload.len() {
                assert_eq!(udp_payload(&frame[..cut], 68), None, "{cut} octets");
            }
        }
    }

    #[test]
    fn a_datagram_that_exceeds_a_packet_is_refused() {
        let end = LinkEndpoint { mac: Mac([2; 6]), address: "10.0.0.1:67".parse().unwrap() };
        assert_eq!(udp(end, end, &[0; 65_530]), None);
    }
}
