//! An image of which only a number of bytes may be read.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ReadAt;

/// Number of bytes that a read takes in addition to its length, so that the number of reads is limited too.
const READ_COST: u64 = 64;

/// An image that can be read until a number of bytes is used up. Then every read fails.
#[derive(Debug)]
pub(super) struct LimitedImage<'a> {
    image: &'a dyn ReadAt,
    left: AtomicU64,
}

impl<'a> LimitedImage<'a> {
    /// Limits an image to a number of bytes.
    pub(super) fn new(image: &'a dyn ReadAt, bytes: u64) -> Self {
        Self { image, left: AtomicU64::new(bytes) }
    }

    /// Returns whether a read has failed, since the bytes were used up.
    pub(super) fn is_exhausted(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }
}

impl ReadAt for LimitedImage<'_> {
    fn len(&self) -> u64 {
        self.image.len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let cost = READ_COST + into.len() as u64;
        let left = self.left.load(Ordering::Relaxed).checked_sub(cost);
        self.left.store(left.unwrap_or(0), Ordering::Relaxed);
        match left {
            Some(left) if left > 0 => self.image.read_at(offset, into),
            Some(_) | None => Err(io::ErrorKind::QuotaExceeded.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iso::MemoryImage;

    #[test]
    fn reads_fail_when_the_bytes_are_used_up() {
        let image = MemoryImage::from(vec![7; 4096]);
        let limited = LimitedImage::new(&image, 2 * (READ_COST + 1000) + 1);
        let mut into = vec![0; 1000];
        assert!(limited.read_at(0, &mut into).is_ok() && limited.read_at(3000, &mut into).is_ok());
        assert!(!limited.is_exhausted());
        assert!(limited.read_at(0, &mut into[..1]).is_err());
        assert!(limited.is_exhausted());
        assert!(limited.read_at(0, &mut []).is_err(), "no later read succeeds");
    }
}
