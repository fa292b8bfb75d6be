//! Logical units: their kind, size and identity, and the byte ranges that a read may touch.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The device kind of a logical unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A CD-ROM: peripheral device type 5, blocks of 2048 bytes.
    Cdrom,
    /// A write-protected disk: peripheral device type 0, blocks of 512 bytes.
    Disk,
}

impl DeviceKind {
    /// Returns the block size, in bytes.
    #[must_use]
    pub fn block_size(self) -> u32 {
        match self {
            Self::Cdrom => 2048,
            Self::Disk => 512,
        }
    }

    /// Returns the peripheral device type (SPC-4 6.4.2).
    #[must_use]
    pub fn device_type(self) -> u8 {
        match self {
            Self::Cdrom => 5,
            Self::Disk => 0,
        }
    }
}

/// The identity of a logical unit: a serial number and an NAA name, derived from a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitIdentity {
    serial: String,
    naa: [u8; 8],
}

impl UnitIdentity {
    /// Derives an identity from a seed that is stable for the same content (an ISO's digest or name).
    #[must_use]
    pub fn from_seed(seed: &[u8]) -> Self {
        let digest = Sha256::digest(seed);
        let mut serial = String::with_capacity(20);
        for byte in &digest[..10] {
            // Writing to a String does not fail.
            let _ = write!(serial, "{byte:02X}");
        }
        let mut naa = [0; 8];
        naa.copy_from_slice(&digest[10..18]);
        // NAA 3: locally assigned (SPC-4 7.8.6.6.4).
        naa[0] = 0x30 | naa[0] & 0x0f;
        Self { serial, naa }
    }

    /// Returns the unit serial number: 20 characters.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Returns the NAA designator, locally assigned.
    #[must_use]
    pub fn naa(&self) -> [u8; 8] {
        self.naa
    }
}

/// A logical unit in a session. Its bytes are with the I/O loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lun {
    /// The device kind.
    pub kind: DeviceKind,
    /// Serial number and NAA name.
    pub identity: UnitIdentity,
    bytes: u64,
}

/// A byte range that lies inside a logical unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    offset: u64,
    length: u64,
}

impl ByteRange {
    /// Returns the offset of the first byte.
    #[must_use]
    pub fn offset(self) -> u64 {
        self.offset
    }

    /// Returns the number of bytes.
    #[must_use]
    pub fn length(self) -> u64 {
        self.length
    }

    /// Returns the first `length` bytes of the range, or all of it.
    #[must_use]
    pub fn first(self, length: u64) -> Self {
        Self { length: self.length.min(length), ..self }
    }

    /// Returns the range without its first `length` bytes.
    #[must_use]
    pub fn after(self, length: u64) -> Self {
        let skipped = length.min(self.length);
        Self { offset: self.offset + skipped, length: self.length - skipped }
    }
}

impl Lun {
    /// Returns a unit over a medium of `bytes` bytes. A last block that the medium does not fill is padded with zeros.
    #[must_use]
    pub fn new(kind: DeviceKind, bytes: u64, identity: UnitIdentity) -> Self {
        Self { kind, identity, bytes }
    }

    /// Returns the number of blocks.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.bytes.div_ceil(self.kind.block_size().into())
    }

    /// Returns the bytes of `count` blocks from `start` on; `None` if they exceed the unit.
    #[must_use]
    pub fn span(&self, start: u64, count: u32) -> Option<ByteRange> {
        let end = start.checked_add(count.into())?;
        let size = u64::from(self.kind.block_size());
        // The product is at most the medium's length and one block; the multiplication is checked nevertheless.
        (end <= self.blocks()).then_some(())?;
        Some(ByteRange { offset: start.checked_mul(size)?, length: u64::from(count) * size })
    }

    /// Returns the part of a range that the medium holds. The rest reads as zeros.
    #[must_use]
    pub fn stored(&self, span: ByteRange) -> ByteRange {
        span.first(self.bytes.saturating_sub(span.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cdrom(bytes: u64) -> Lun {
        Lun::new(DeviceKind::Cdrom, bytes, UnitIdentity::from_seed(b"x"))
    }

    #[test]
    fn a_range_never_leaves_its_unit() {
        let lun = cdrom(2048 * 10 + 1);
        assert_eq!(lun.blocks(), 11);
        for (start, count, wanted) in [
            (0, 11, Some((0, 22528))),
            (10, 1, Some((20480, 2048))),
            (11, 0, Some((22528, 0))),
            (11, 1, None),
            (0, 12, None),
            (12, 0, None),
            (u64::MAX, 1, None),
            (u64::MAX, 0, None),
            (1, u32::MAX, None),
        ] {
            let span = lun.span(start, count).map(|span| (span.offset(), span.length()));
            assert_eq!(span, wanted, "{start}+{count}");
        }
    }

    #[test]
    fn the_last_block_is_stored_as_far_as_the_medium_goes() {
        let lun = cdrom(2048 * 10 + 1);
        let span = lun.span(9, 2).unwrap();
        assert_eq!(lun.stored(span).length(), 2049);
        assert_eq!(lun.stored(span.after(2048)).length(), 1);
        assert_eq!(lun.stored(span.after(4096)).length(), 0);
    }

    #[test]
    fn identities_differ_by_seed_and_stay_the_same_for_one() {
        let (one, other) = (UnitIdentity::from_seed(b"one"), UnitIdentity::from_seed(b"other"));
        assert_eq!(one, UnitIdentity::from_seed(b"one"));
        assert_ne!(one.serial(), other.serial());
        assert_ne!(one.naa(), other.naa());
        assert_eq!((one.serial().len(), one.naa()[0] >> 4), (20, 3));
    }
}
