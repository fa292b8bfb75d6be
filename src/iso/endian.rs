//! Numbers in untrusted bytes. A number that is not there is `None`; nothing is indexed.

/// Reads a little-endian 16-bit number.
pub fn le16(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(data.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// Reads a little-endian 32-bit number.
pub fn le32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Reads a little-endian 64-bit number.
pub fn le64(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(data.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Encodes a number in both byte orders, little-endian first (ECMA-119 7.3.3).
pub fn both32(value: u32) -> [u8; 8] {
    let mut both = [0; 8];
    both[..4].copy_from_slice(&value.to_le_bytes());
    both[4..].copy_from_slice(&value.to_be_bytes());
    both
}

/// Encodes a number in both byte orders, little-endian first (ECMA-119 7.2.3).
pub fn both16(value: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_past_the_end_is_none() {
        assert_eq!(le32(&[1, 0, 0, 0], 0), Some(1));
        assert_eq!(le32(&[1, 0, 0, 0], 1), None);
        assert_eq!(le16(&[1], usize::MAX), None);
        assert_eq!(le64(&[0; 8], 1), None);
        assert_eq!(both32(0x0102_0304), [4, 3, 2, 1, 1, 2, 3, 4]);
        assert_eq!(both16(0x0102), [2, 1, 1, 2]);
    }
}
