//! Free space of a file system: how much uploads may use, and whether the disk is nearly full.

use std::io;
use std::path::Path;

/// Maximum reserve in bytes, which uploads leave free so that the state on the same file system can be written.
const MAX_RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// Divisor of a file system's size: the reserve is at most this fraction of it.
const RESERVE_DIVISOR: u64 = 8;

/// The free space of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeSpace {
    /// Free bytes.
    pub free: u64,
    /// Bytes that uploads leave free.
    pub reserve: u64,
}

impl FreeSpace {
    /// Returns the free space of the file system that a path is on.
    ///
    /// # Errors
    /// statvfs failed.
    pub fn at(path: &Path) -> io::Result<Self> {
        let about = rustix::fs::statvfs(path)?;
        Ok(Self::of(about.f_bavail.saturating_mul(about.f_frsize), about.f_blocks.saturating_mul(about.f_frsize)))
    }

    fn of(free: u64, total: u64) -> Self {
        Self { free, reserve: MAX_RESERVE_BYTES.min(total / RESERVE_DIVISOR) }
    }

    /// Returns whether so many bytes can be written without using the reserve.
    pub fn fits(&self, bytes: u64) -> bool {
        bytes.checked_add(self.reserve).is_some_and(|needed| needed <= self.free)
    }

    /// Returns how many times so many bytes can be written without using the reserve.
    pub fn times(&self, bytes: u64) -> u64 {
        self.free.saturating_sub(self.reserve) / bytes.max(1)
    }

    /// Returns whether less than half of the reserve is free. An upload that uses all space up to the reserve must not
    /// cause a warning.
    pub fn is_low(&self) -> bool {
        self.free < self.reserve / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_stays_free() {
        const MIB: u64 = 1024 * 1024;
        let large = FreeSpace::of(1000 * MIB, 10_000 * MIB);
        assert!(large.fits(936 * MIB) && !large.fits(936 * MIB + 1) && !large.fits(u64::MAX));
        let small = FreeSpace::of(10 * MIB, 16 * MIB);
        assert_eq!(small.reserve, 2 * MIB);
        assert!(small.fits(8 * MIB) && !small.fits(9 * MIB) && !small.is_low());
        assert_eq!((small.times(MIB), small.times(3 * MIB), FreeSpace::of(MIB, 16 * MIB).times(1)), (8, 2, 0));
        assert!(!FreeSpace::of(MIB, 16 * MIB).is_low(), "an upload that fits causes no warning");
        assert!(FreeSpace::of(MIB - 1, 16 * MIB).is_low());
    }
}
