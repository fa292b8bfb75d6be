//! What the peer asks of a transfer and what it is granted: RFC 2347, 2348, 2349 and 7440.

use super::packet::{Pairs, push_option};
use std::time::Duration;

/// The block size of a peer that asks for none, in octets (RFC 1350, section 2).
pub const BLOCK_SIZE: u16 = 512;
/// The smallest and largest block size that may be granted (RFC 2348).
pub const BLOCK_SIZES: std::ops::RangeInclusive<u16> = 8..=65464;
/// The most blocks in one window. Windows of RFC 7440 go to 65535: that many in flight drown any ROM.
pub const WINDOW_BLOCKS: u16 = 64;
/// The most octets of blocks in one window: what an ordinary receive buffer (212,992) holds with its overhead.
pub const WINDOW_OCTETS: u32 = 128 * 1024;

/// What of a transfer's shape the network and the site allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The largest block size granted, in octets.
    pub block_size: u16,
    /// The largest window granted, in blocks.
    pub window: u16,
}

impl Bounds {
    /// Bounds blocks so that no packet is fragmented on a link with this MTU, in octets, for `headers`
    /// octets of IP and UDP: fragments break ROMs.
    pub fn of_mtu(mtu: u32, ipv6: bool) -> Self {
        const UDP_AND_TFTP: u32 = 8 + 4;
        let headers = UDP_AND_TFTP + if ipv6 { 40 } else { 20 };
        let room = mtu.saturating_sub(headers).clamp(BLOCK_SIZE.into(), (*BLOCK_SIZES.end()).into());
        let block_size = u16::try_from(room).unwrap_or(BLOCK_SIZE);
        Bounds { block_size, window: WINDOW_BLOCKS }
    }
}

/// The options that a request carries and this server knows; all others are left out (RFC 2347, section 3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    pub block_size: Option<u16>,
    pub size: bool,
    /// Seconds.
    pub timeout: Option<u8>,
    pub window: Option<u16>,
}

impl Asked {
    /// Reads the known options. One with a value out of its range counts as not sent, as RFC 2347 allows; of
    /// one sent twice the first counts. A block size beyond 65464 asks for the largest.
    pub fn read(pairs: Pairs<'_>) -> Self {
        let mut asked = Asked::default();
        for (name, value) in pairs.iter() {
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            let value = decimal(value);
            if is("blksize") && asked.block_size.is_none() {
                asked.block_size = value
                    .map(|size| u16::try_from(size).unwrap_or(u16::MAX).min(*BLOCK_SIZES.end()))
                    .filter(|size| BLOCK_SIZES.contains(size));
            } else if is("tsize") {
                asked.size |= value.is_some();
            } else if is("timeout") && asked.timeout.is_none() {
                asked.timeout = value.and_then(|seconds| u8::try_from(seconds).ok()).filter(|&seconds| seconds > 0);
            } else if is("windowsize") && asked.window.is_none() {
                asked.window = value.and_then(|blocks| u16::try_from(blocks).ok()).filter(|&blocks| blocks > 0);
            }
        }
        asked
    }
}

/// The shape of one transfer: what was granted of what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    asked: Asked,
    /// Octets in every block but the last.
    pub block_size: u16,
    /// Blocks in flight before an acknowledgement is due.
    pub window: u16,
    /// The peer's own wish for the pause before a retransmission (RFC 2349).
    pub timeout: Option<Duration>,
}

impl Granted {
    /// Grants what was asked as far as the bounds go.
    pub fn new(asked: Asked, bounds: Bounds) -> Self {
        let block_size = asked.block_size.map_or(BLOCK_SIZE, |size| size.min(bounds.block_size));
        let fits = u16::try_from(WINDOW_OCTETS / u32::from(block_size)).unwrap_or(u16::MAX);
        let window = asked.window.unwrap_or(1).min(bounds.window).min(fits).max(1);
        let timeout = asked.timeout.map(|seconds| Duration::from_secs(seconds.into()));
        Granted { asked, block_size, window, timeout }
    }

    /// Whether an option acknowledgement opens the transfer: only if an option was understood.
    pub fn has_options(&self) -> bool {
        self.asked != Asked::default()
    }

    /// Appends the option acknowledgement's bytes for a file of `size` octets as it travels.
    pub fn option_ack(&self, size: u64, out: &mut Vec<u8>) {
        out.extend(6u16.to_be_bytes());
        if self.asked.block_size.is_some() {
            push_option(out, "blksize", self.block_size.into());
        }
        if self.asked.size {
            push_option(out, "tsize", size);
        }
        if let Some(seconds) = self.asked.timeout {
            push_option(out, "timeout", seconds.into());
        }
        if self.asked.window.is_some() {
            push_option(out, "windowsize", self.window.into());
        }
    }
}

fn decimal(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok()?;
    // `parse` would also take a sign.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::packet::Packet;
    use super::*;

    /// What a request with these options is answered, for a file of 1000 octets on Ethernet.
    fn check(options: &[u8], acknowledged: Option<&[u8]>) {
        let request = [b"\0\x01file\0octet\0", options].concat();
        let Ok(Packet::Read(request)) = Packet::parse(&request) else { panic!("a read request") };
        let granted = Granted::new(Asked::read(request.options), Bounds::of_mtu(1500, false));
        let mut out = Vec::new();
        granted.option_ack(1000, &mut out);
        let text = String::from_utf8_lossy(options);
        assert_eq!(granted.has_options().then_some(out.get(2..).unwrap()), acknowledged, "{text:?}");
    }

    #[test]
    fn real_firmware_is_granted_what_it_asks() {
        check(
            b"tsize\x000\0blksize\x001468\0windowsize\x004\0",
            Some(b"blksize\x001468\0tsize\x001000\0windowsize\x004\0"),
        );
        check(b"blksize\x001432\0tsize\x000\0", Some(b"blksize\x001432\0tsize\x001000\0"));
    }

    #[test]
    fn unknown_and_impossible_options_count_as_not_sent() {
        check(b"", None);
        check(b"multicast\0\0", None);
        check(b"blksize\x007\0", None);
        check(b"blksize\0+512\0", None);
        check(b"blksize\0\0", None);
        check(b"timeout\x000\0timeout\x00256\0", None);
        check(b"windowsize\x000\0", None);
        check(b"windowsize\x0065536\0", None);
        check(b"tsize\0x\0", None);
        check(b"multicast\0\0tsize\x000\0", Some(b"tsize\x001000\0"));
    }

    #[test]
    fn values_are_bounded_and_names_are_read_in_any_case() {
        check(b"BlkSize\x008\0", Some(b"blksize\x008\0"));
        check(b"blksize\x0065464\0", Some(b"blksize\x001468\0"));
        check(b"blksize\x0099999999999\0", Some(b"blksize\x001468\0"));
        check(b"TIMEOUT\x00255\0", Some(b"timeout\x00255\0"));
        check(b"windowsize\x0065535\0", Some(b"windowsize\x0064\0"));
        check(b"blksize\x00512\0blksize\x001024\0", Some(b"blksize\x00512\0"));
    }

    #[test]
    fn a_block_fits_the_mtu_and_a_window_fits_a_receive_buffer() {
        assert_eq!(Bounds::of_mtu(1500, false).block_size, 1468);
        assert_eq!(Bounds::of_mtu(1500, true).block_size, 1448);
        assert_eq!(Bounds::of_mtu(9000, false).block_size, 8968);
        assert_eq!(Bounds::of_mtu(65536, false).block_size, 65464);
        assert_eq!(Bounds::of_mtu(68, false).block_size, 512);
        let asked = Asked { block_size: Some(65464), window: Some(64), ..Asked::default() };
        let granted = Granted::new(asked, Bounds { block_size: 65464, window: 64 });
        assert_eq!((granted.block_size, granted.window), (65464, 2));
    }
}
