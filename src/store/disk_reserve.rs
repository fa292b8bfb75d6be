//! A reserve on the disk of the state: a file that makes room for changes by people when the disk is full.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::free_space::FreeSpace;

/// Size of the reserve, in bytes: some hundred deletes with their log in SQLite.
const RESERVE_BYTES: usize = 1 << 20;
/// Name of the file in the state directory.
const NAME: &str = "disk.reserve";

/// The reserve. It is given up at the first write that finds the disk full, and made again once there is room.
#[derive(Debug)]
pub struct DiskReserve {
    path: PathBuf,
    is_held: bool,
}

impl DiskReserve {
    /// Makes the reserve in a state directory, unless the disk is nearly full.
    pub fn open(directory: &Path) -> Self {
        let path = directory.join(NAME);
        let is_held = fs::metadata(&path).is_ok_and(|known| known.len() == RESERVE_BYTES as u64);
        let mut reserve = Self { path, is_held };
        reserve.restore();
        reserve
    }

    /// Removes the reserve, and returns whether that made room.
    pub fn release(&mut self) -> bool {
        let is_released = std::mem::take(&mut self.is_held) && fs::remove_file(&self.path).is_ok();
        if is_released {
            tracing::warn!(path = %self.path.display(), "disk full: reserve released");
        }
        is_released
    }

    /// Makes the reserve again, if it was given up and there is room.
    pub fn restore(&mut self) {
        if self.is_held || !self.path.parent().is_some_and(has_room) {
            return;
        }
        match self.fill() {
            Ok(()) => self.is_held = true,
            Err(error) => {
                // A part of the reserve is useless.
                let _ = fs::remove_file(&self.path);
                tracing::debug!(%error, "disk reserve not created");
            }
        }
    }

    /// Returns whether the reserve is there. Without it only changes are written, and no other timeline entries.
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    fn fill(&self) -> io::Result<()> {
        let mut file = fs::File::create(&self.path)?;
        file.write_all(&vec![0; RESERVE_BYTES])?;
        file.sync_all()
    }
}

/// Returns whether a directory has room for the reserve, beyond what stays free for changes. Where the free space is
/// unknown, the write itself shows whether there is any.
pub fn has_room(directory: &Path) -> bool {
    FreeSpace::at(directory).map_or(true, |space| space.fits(RESERVE_BYTES as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_given_up_once_and_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut reserve = DiskReserve::open(directory.path());
        let size = || fs::metadata(directory.path().join(NAME)).map(|known| known.len()).unwrap_or(0);
        assert_eq!((reserve.is_held(), size()), (true, RESERVE_BYTES as u64));
        assert!(reserve.release() && !reserve.release() && size() == 0);
        reserve.restore();
        assert_eq!((reserve.is_held(), size()), (true, RESERVE_BYTES as u64));
        assert!(DiskReserve::open(directory.path()).is_held());
    }
}
