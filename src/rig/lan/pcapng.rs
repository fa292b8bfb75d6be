//! A capture in the pcapng format (draft-ietf-opsawg-pcapng). Pure: encodes blocks.

use std::time::Duration;

/// Length of a captured frame that is neither a small one nor of a boot protocol.
const SNAP: usize = 512;
/// Maximum size of a capture in bytes.
pub const MAX_BYTES: u64 = 256 << 20;

/// Encodes the section header and the one interface: Ethernet, with times in microseconds.
pub fn header() -> Vec<u8> {
    let mut section = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
    section.extend([1, 0, 0, 0]);
    section.extend([0xff; 8]);
    let mut bytes = block(0x0a0d_0d0a, &section);
    bytes.extend(block(1, &[1, 0, 0, 0, 0, 0, 0, 0]));
    bytes
}

/// Encodes a frame; `time` is since 1970. Long frames are cut, but those of UDP: they are DHCP and TFTP.
pub fn frame(time: Duration, frame: &[u8], is_whole: bool) -> Vec<u8> {
    let kept = &frame[..frame.len().min(if is_whole { usize::MAX } else { SNAP })];
    let micros = time.as_micros() as u64;
    let mut body = vec![0; 4];
    body.extend(((micros >> 32) as u32).to_le_bytes());
    body.extend((micros as u32).to_le_bytes());
    body.extend((kept.len() as u32).to_le_bytes());
    body.extend((frame.len() as u32).to_le_bytes());
    body.extend(kept);
    body.resize(body.len().next_multiple_of(4), 0);
    block(6, &body)
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 12).to_le_bytes();
    [&kind.to_le_bytes()[..], &length, body, &length].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_have_their_length_twice() {
        let bytes = frame(Duration::from_micros((7 << 32) + 9), &[0xaa; 61], true);
        assert_eq!(bytes.len(), 32 + 64);
        assert_eq!(
            (&bytes[..4], &bytes[4..8], &bytes[92..]),
            (&[6, 0, 0, 0][..], &[96, 0, 0, 0][..], &[96, 0, 0, 0][..])
        );
        assert_eq!((bytes[12], bytes[16], bytes[20], bytes[24]), (7, 9, 61, 61));
        assert_eq!(frame(Duration::ZERO, &[0; 1000], false).len(), 32 + SNAP);
        assert_eq!(header().len(), 28 + 20);
    }
}
