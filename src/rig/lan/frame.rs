//! What the switch reads of an Ethernet frame. Pure.

/// The UDP protocol number.
const UDP: u8 = 17;
/// The TCP protocol number.
const TCP: u8 = 6;
/// Length of an Ethernet header.
const ETHERNET: usize = 14;

/// An Ethernet frame, as far as the switch reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Destination address.
    pub to: [u8; 6],
    /// Source address.
    pub from: [u8; 6],
    /// The UDP or TCP segment of IPv4, if it has one with ports.
    pub segment: Option<Segment>,
}

/// A UDP or TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Whether it is UDP.
    pub is_udp: bool,
    /// Source port.
    pub from: u16,
    /// Destination port.
    pub to: u16,
    /// Length of the payload in bytes.
    pub length: usize,
}

impl Frame {
    /// Parses a frame; `None` if it is shorter than its header.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let to = *bytes.first_chunk::<6>()?;
        let from = *bytes.get(6..)?.first_chunk::<6>()?;
        let kind = bytes.get(12..ETHERNET)?;
        let segment = if kind == [8, 0] { segment(&bytes[ETHERNET..]) } else { None };
        Some(Self { to, from, segment })
    }

    /// Returns whether the frame goes to several receivers.
    pub fn is_multicast(&self) -> bool {
        self.to[0] & 1 == 1
    }
}

/// Parses an IPv4 packet (RFC 791). Later fragments have no ports.
fn segment(packet: &[u8]) -> Option<Segment> {
    let first = *packet.first()?;
    let header = usize::from(first & 15) * 4;
    let total = usize::from(u16::from_be_bytes(*packet.get(2..)?.first_chunk()?));
    let fragment = u16::from_be_bytes(*packet.get(6..)?.first_chunk()?) & 0x1fff;
    let protocol = *packet.get(9)?;
    if first >> 4 != 4 || fragment != 0 || ![UDP, TCP].contains(&protocol) {
        return None;
    }
    let body = packet.get(header..total.min(packet.len()))?;
    let from = u16::from_be_bytes(*body.first_chunk()?);
    let to = u16::from_be_bytes(*body.get(2..)?.first_chunk()?);
    let own = if protocol == UDP { 8 } else { usize::from(body.get(12)? >> 4) * 4 };
    Some(Segment { is_udp: protocol == UDP, from, to, length: total.saturating_sub(header + own) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_and_a_short_one_is_not() {
        let mut bytes = vec![0xff; 6];
        bytes.extend([2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend([0, 69, 0x12, 0x34, 0, 12, 0, 0, 1, 2, 3, 4]);
        let frame = Frame::parse(&bytes).unwrap();
        assert!(frame.is_multicast() && frame.from == [2, 0, 0, 0, 0, 1]);
        assert_eq!(frame.segment, Some(Segment { is_udp: true, from: 69, to: 0x1234, length: 4 }));
        for length in 0..bytes.len() {
            let parsed = Frame::parse(&bytes[..length]);
            assert_eq!(parsed.is_some(), length >= 14, "{length}");
        }
        bytes[20] = 1; // a later fragment
        assert_eq!(Frame::parse(&bytes).unwrap().segment, None);
    }
}
