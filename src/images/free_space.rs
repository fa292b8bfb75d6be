//! FreeSpace on the disk: what uploads leave free for the state, and whether little is left even of that.

use std::io;
use std::path::Path;

use crate::api::uploads;

/// Is what uploads leave free on their file system, so that the state beside them can be written.
const RESERVE: u64 = 64 * 1024 * 1024;
/// Is the part of a small file system that the reserve takes at most.
const MOST: u64 = 8;

/// Is what a file system has left, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeSpace {
    pub free: u64,
    /// Is what uploads leave.
    pub reserve: u64,
}

impl FreeSpace {
    /// Asks the file system that a path is on.
    ///
    /// # Errors
    /// What it says.
    pub fn at(path: &Path) -> io::Result<Self> {
        let about = rustix::fs::statvfs(path)?;
        Ok(Self::of(about.f_bavail.saturating_mul(about.f_frsize), about.f_blocks.saturating_mul(about.f_frsize)))
    }

    fn of(free: u64, total: u64) -> Self {
        Self { free, reserve: RESERVE.min(total / MOST) }
    }

    /// Says whether so many bytes more leave the reserve as it is.
    pub fn takes(&self, bytes: u64) -> bool {
        bytes.checked_add(self.reserve).is_some_and(|needed| needed <= self.free)
    }

    /// Says whether little is left even of the reserve. Half of it is where this begins, since what fits to the
    /// byte must not be a warning at once.
    pub fn is_short(&self) -> bool {
        self.free < self.reserve / 2
    }
}

/// Removes the beginnings of uploads that nobody went on with in time; all that stand still, where room is short.
pub fn clear_uploads(isos: &Path, is_short: bool) {
    uploads::sweep(isos, std::time::SystemTime::now(), is_short);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_free_is_kept() {
        const MIB: u64 = 1024 * 1024;
        let large = FreeSpace::of(1000 * MIB, 10_000 * MIB);
        assert!(large.takes(936 * MIB) && !large.takes(936 * MIB + 1) && !large.takes(u64::MAX));
        let small = FreeSpace::of(10 * MIB, 16 * MIB);
        assert_eq!(small.reserve, 2 * MIB);
        assert!(small.takes(8 * MIB) && !small.takes(9 * MIB) && !small.is_short());
        assert!(!FreeSpace::of(MIB, 16 * MIB).is_short(), "an upload that fitted is no warning");
        assert!(FreeSpace::of(MIB - 1, 16 * MIB).is_short());
    }
}
