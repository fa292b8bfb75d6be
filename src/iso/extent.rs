//! Byte ranges in an image.

use super::error::IsoError;

/// A byte range in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

impl Extent {
    /// Returns the first byte after the range, or `None` if it overflows.
    pub fn end(self) -> Option<u64> {
        self.offset.checked_add(self.length)
    }

    /// Returns the range if it lies inside an image of a length in bytes. An empty range may lie anywhere.
    ///
    /// # Errors
    /// Returns `PastEnd` with the name of the structure or file.
    pub fn ensure_within(self, image: u64, what: &str) -> Result<Self, IsoError> {
        match self.end() {
            _ if self.length == 0 => Ok(self),
            Some(end) if end <= image => Ok(self),
            end => Err(IsoError::PastEnd {
                what: what.to_owned(),
                offset: self.offset,
                end: end.unwrap_or(u64::MAX),
                image,
            }),
        }
    }
}
