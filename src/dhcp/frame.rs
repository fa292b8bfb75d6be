//! Ethernet frames of our own: for clients without an address, which the kernel cannot reach.

use std::net::SocketAddrV4;

use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, Ipv4Flags, MutableIpv4Packet};
use pnet_packet::udp::{self, MutableUdpPacket};

use crate::fleet::Mac;

/// Is the EtherType of IPv4.
const IPV4: u16 = 0x0800;
const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;
/// Is the number of hops that a reply may take.
const HOPS: u8 = 64;

/// Is one end of a datagram, with its card.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub mac: Mac,
    pub address: SocketAddrV4,
}

/// Writes a UDP datagram as the frame that carries it; `None` where it is too long for one packet.
pub fn udp(from: End, to: End, payload: &[u8]) -> Option<Vec<u8>> {
    let datagram = UDP + payload.len();
    let mut frame = vec![0; ETHERNET + IP + datagram];
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
    let mut packet = MutableUdpPacket::new(&mut frame[ETHERNET + IP..])?;
    packet.set_source(from.address.port());
    packet.set_destination(to.address.port());
    packet.set_length(u16::try_from(datagram).ok()?);
    packet.set_payload(payload);
    packet.set_checksum(udp::ipv4_checksum(&packet.to_immutable(), from.address.ip(), to.address.ip()));
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_framed_as_the_kernel_does() {
        // Of ovmf-2025-pxe-x64.pcap's kind; the checksums are tcpdump's.
        let end = |mac, address: &str| End { mac: Mac(mac), address: address.parse().unwrap() };
        let from = end([2, 0, 0, 0, 0, 1], "10.77.0.2:67");
        let to = end([0x52, 0x54, 0, 0, 0, 9], "10.77.0.9:68");
        let frame = udp(from, to, b"hello").unwrap();
        let expected: &[u8] = &[
            0x52, 0x54, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
            0x45, 0, 0, 33, 0, 0, 0x40, 0, 64, 17, 0x26, 0x23, 10, 77, 0, 2, 10, 77, 0, 9, // IP
            0, 67, 0, 68, 0, 13, 0x26, 0xa3, b'h', b'e', b'l', b'l', b'o', // UDP
        ];
        // Both checksums verify: the sum over what they cover is all ones.
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
    fn what_fits_no_packet_is_refused() {
        let end = End { mac: Mac([2; 6]), address: "10.0.0.1:67".parse().unwrap() };
        assert_eq!(udp(end, end, &[0; 65_530]), None);
    }
}
