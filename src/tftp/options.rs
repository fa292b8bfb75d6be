//! The options of a transfer: requested, limited and negotiated (RFC 2347, 2348, 2349, 7440).

use super::packet::{OptionPairs, push_option};
use std::time::Duration;

/// Block size without the option, in octets (RFC 1350, section 2).
pub const BLOCK_SIZE: u16 = 512;
/// The range of block sizes, in octets (RFC 2348).
pub const BLOCK_SIZES: std::ops::RangeInclusive<u16> = 8..=65464;
/// Maximum number of blocks in one window. RFC 7440 allows 65535, which no ROM's receive buffer holds.
pub const MAX_WINDOW_BLOCKS: u16 = 64;
/// Maximum size of one window, in octets: an ordinary receive buffer (212,992) holds it with its overhead.
pub const MAX_WINDOW_OCTETS: u32 = 128 * 1024;

/// The limits of the network and the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionLimits {
    /// Maximum block size, in octets.
    pub block_size: u16,
    /// Maximum window, in blocks.
    pub window: u16,
}

impl OptionLimits {
    /// Returns limits under which no packet is fragmented on a link with this MTU, in octets: fragments break ROMs.
    pub fn of_mtu(mtu: u32, ipv6: bool) -> Self {
        const UDP_AND_TFTP: u32 = 8 + 4;
        let headers = UDP_AND_TFTP + if ipv6 { 40 } else { 20 };
        let room = mtu.saturating_sub(headers).clamp(BLOCK_SIZE.into(), (*BLOCK_SIZES.end()).into());
        let block_size = u16::try_from(room).unwrap_or(BLOCK_SIZE);
        OptionLimits { block_size, window: MAX_WINDOW_BLOCKS }
    }
}

/// The options of a request that this server supports. Others are ignored (RFC 2347, section 3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestedOptions {
    /// Block size, in octets (`blksize`).
    pub block_size: Option<u16>,
    /// Whether the file size is requested (`tsize`).
    pub size: bool,
    /// Retransmission timeout, in seconds.
    pub timeout: Option<u8>,
    /// Window, in blocks (`windowsize`).
    pub window: Option<u16>,
}

impl RequestedOptions {
    /// Decodes the supported options. A value out of range counts as not sent, as RFC 2347 allows; of a repeated option
    /// the first one counts. A block size above 65464 requests the largest.
    pub fn read(pairs: OptionPairs<'_>) -> Self {
        let mut asked = RequestedOptions::default();
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

/// The options of one transfer: the granted part of the requested ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NegotiatedOptions {
    asked: RequestedOptions,
    /// Size of every block but the last, in octets.
    pub block_size: u16,
    /// Maximum number of blocks in flight before an acknowledgement.
    pub window: u16,
    /// The retransmission timeout that the peer requested (RFC 2349).
    pub timeout: Option<Duration>,
}

impl NegotiatedOptions {
    /// Grants the requested options within the limits.
    pub fn new(asked: RequestedOptions, bounds: OptionLimits) -> Self {
        let block_size = asked.block_size.map_or(BLOCK_SIZE, |size| size.min(bounds.block_size));
        let fits = u16::try_from(MAX_WINDOW_OCTETS / u32::from(block_size)).unwrap_or(u16::MAX);
        let window = asked.window.unwrap_or(1).min(bounds.window).min(fits).max(1);
        let timeout = asked.timeout.map(|seconds| Duration::from_secs(seconds.into()));
        NegotiatedOptions { asked, block_size, window, timeout }
    }

    /// Returns whether the transfer starts with an option acknowledgement, which needs at least one known option.
    pub fn has_options(&self) -> bool {
        self.asked != RequestedOptions::default()
    }

    /// Appends the option acknowledgement for a file of `size` octets on the wire.
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
    // `parse` would accept a sign.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::packet::Packet;
    use super::*;

    /// Checks the option acknowledgement to these options, for a file of 1000 octets on Ethernet.
    fn check(options: &[u8], acknowledged: Option<&[u8]>) {
        let request = [b"\0\x01file\0octet\0", options].concat();
        let Ok(Packet::Read(request)) = Packet::parse(&request) else { panic!("a read request") };
        let granted =
            NegotiatedOptions::new(RequestedOptions::read(request.options), OptionLimits::of_mtu(1500, false));
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
    fn a_client_reads_what_it_was_granted() {
        let (sizes, seconds, windows) =
            ([None, Some(8), Some(65464)], [None, Some(1), Some(255)], [None, Some(1), Some(64)]);
        for block_size in sizes {
            for timeout in seconds {
                for window in windows {
                    for size in [false, true] {
                        let asked = RequestedOptions { block_size, size, timeout, window };
                        let granted = NegotiatedOptions::new(asked, OptionLimits::of_mtu(9000, true));
                        let mut out = vec![0xa5; 3];
                        granted.option_ack(u64::MAX, &mut out);
                        let Ok(Packet::OptionAck(pairs)) = Packet::parse(&out[3..]) else { panic!("{out:?}") };
                        let read = RequestedOptions::read(pairs);
                        assert_eq!(read.block_size, block_size.map(|_| granted.block_size));
                        assert_eq!(read.window, window.map(|_| granted.window));
                        assert_eq!((read.timeout, read.size), (timeout, size));
                        let told = pairs.iter().find(|(name, _)| *name == b"tsize").map(|(_, value)| value);
                        assert_eq!(told, size.then_some(&b"18446744073709551615"[..]));
                    }
                }
            }
        }
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
        assert_eq!(OptionLimits::of_mtu(1500, false).block_size, 1468);
        assert_eq!(OptionLimits::of_mtu(1500, true).block_size, 1448);
        assert_eq!(OptionLimits::of_mtu(9000, false).block_size, 8968);
        assert_eq!(OptionLimits::of_mtu(65536, false).block_size, 65464);
        assert_eq!(OptionLimits::of_mtu(68, false).block_size, 512);
        let asked = RequestedOptions { block_size: Some(65464), window: Some(64), ..RequestedOptions::default() };
        let granted = NegotiatedOptions::new(asked, OptionLimits { block_size: 65464, window: 64 });
        assert_eq!((granted.block_size, granted.window), (65464, 2));
    }
}
