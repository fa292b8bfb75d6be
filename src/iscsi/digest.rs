//! Header and data digests (RFC 7143 13.1: CRC32C).

/// The digests that a connection uses; none until the login has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digests {
    /// Whether a digest follows each header.
    pub header: bool,
    /// Whether a digest follows each data segment that is not empty.
    pub data: bool,
}

/// Returns the digest of a header or a padded data segment in wire order: the CRC goes out least significant byte first
/// (RFC 3720 B.4).
#[must_use]
pub fn crc32c(bytes: &[u8]) -> [u8; 4] {
    ::crc32c::crc32c(bytes).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_equal_the_examples_of_the_rfc() {
        // RFC 3720 B.4 / RFC 7143 A.4.
        let rising: Vec<u8> = (0..32).collect();
        let falling: Vec<u8> = (0..32).rev().collect();
        let read_10: [u8; 48] = [
            0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0, 0, 0, 0, 0x14, 0, 0, 0,
            0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0,
        ];
        for (bytes, digest) in [
            (&[0u8; 32][..], [0xaa, 0x36, 0x91, 0x8a]),
            (&[0xff; 32], [0x43, 0xab, 0xa8, 0x62]),
            (&rising, [0x4e, 0x79, 0xdd, 0x46]),
            (&falling, [0x5c, 0xdb, 0x3f, 0x11]),
            (&read_10, [0x56, 0x3a, 0x96, 0xd9]),
        ] {
            assert_eq!(crc32c(bytes), digest);
        }
    }
}
