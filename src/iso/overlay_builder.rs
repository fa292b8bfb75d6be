//! Construction of an overlay. The builder reads as the finished view does.

use std::collections::BTreeMap;
use std::io;

use super::descriptor::SECTOR;
use super::overlay::{Overlay, OverlayPatch};
use super::{ReadAt, ViewError};

/// Maximum number of differing bytes that one view keeps in memory (16 MiB).
const MAX_PATCH_BYTES: usize = 16 * 1024 * 1024;

/// A base image with the changes made so far.
#[derive(Debug)]
pub struct OverlayBuilder<'a> {
    base: &'a dyn ReadAt,
    /// Length of the view in bytes, at least that of the base.
    length: u64,
    /// Runs of changed bytes by their offset. No two overlap or touch.
    runs: BTreeMap<u64, Vec<u8>>,
}

impl<'a> OverlayBuilder<'a> {
    /// Creates a builder without changes.
    pub fn new(base: &'a dyn ReadAt) -> Self {
        Self { base, length: base.len(), runs: BTreeMap::new() }
    }

    /// Returns whether the view is longer than its base.
    pub fn has_grown(&self) -> bool {
        self.length > self.base.len()
    }

    /// Returns the length of the base in bytes.
    pub fn base_length(&self) -> u64 {
        self.base.len()
    }

    /// Replaces bytes of the view.
    ///
    /// # Errors
    /// Returns `TooMuch` if the view would hold more than 16 MiB, and `Outside` for bytes past its end.
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), ViewError> {
        let end = at.checked_add(bytes.len() as u64).filter(|end| *end <= self.length);
        let end = end.ok_or(ViewError::Outside { at })?;
        if bytes.is_empty() {
            return Ok(());
        }
        let touching = self.runs.range(..=end).rev().take_while(|(from, run)| **from + run.len() as u64 >= at);
        let starts: Vec<u64> = touching.map(|(from, _)| *from).collect();
        let first = starts.last().copied().unwrap_or(at).min(at);
        let mut merged = Vec::new();
        for start in starts.into_iter().rev() {
            let run = self.runs.remove(&start).unwrap_or_default();
            copy_into(&mut merged, (start - first) as usize, &run);
        }
        copy_into(&mut merged, (at - first) as usize, bytes);
        self.runs.insert(first, merged);
        let bytes: usize = self.runs.values().map(Vec::len).sum();
        if bytes > MAX_PATCH_BYTES { Err(ViewError::TooMuch { bytes, maximum: MAX_PATCH_BYTES }) } else { Ok(()) }
    }

    /// Appends bytes to the view at the start of a sector, and returns their offset.
    ///
    /// # Errors
    /// Returns the same errors as `write`.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64, ViewError> {
        let at = self.length.next_multiple_of(SECTOR);
        self.grow(at + (bytes.len() as u64).next_multiple_of(SECTOR));
        self.write(at, bytes)?;
        Ok(at)
    }

    /// Extends the view with zeros to a length in bytes. The view never becomes shorter.
    pub fn grow(&mut self, length: u64) {
        self.length = self.length.max(length);
    }

    /// Returns the finished overlay. `identity` identifies the bytes of the base.
    pub fn finish(self, identity: &[u8]) -> Overlay {
        let patches = self.runs.into_iter().map(|(at, bytes)| OverlayPatch { at, bytes: bytes.into() }).collect();
        Overlay::new(identity, self.base.len(), self.length, patches)
    }
}

/// Copies bytes into a run at an offset, and extends the run if they end after it.
fn copy_into(run: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    run.resize(run.len().max(at + bytes.len()), 0);
    run[at..at + bytes.len()].copy_from_slice(bytes);
}

impl ReadAt for OverlayBuilder<'_> {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let length = into.len() as u64;
        let end = offset.checked_add(length).filter(|end| *end <= self.length).ok_or(io::ErrorKind::UnexpectedEof)?;
        let in_base = self.base.len().saturating_sub(offset).min(length) as usize;
        let (from_base, behind) = into.split_at_mut(in_base);
        if !from_base.is_empty() {
            self.base.read_at(offset, from_base)?;
        }
        behind.fill(0);
        let touching = self.runs.range(..end).rev().take_while(|(from, run)| **from + run.len() as u64 > offset);
        for (from, run) in touching {
            let start = (*from).max(offset);
            let stop = (from + run.len() as u64).min(end);
            let source = &run[(start - from) as usize..(stop - from) as usize];
            into[(start - offset) as usize..(stop - offset) as usize].copy_from_slice(source);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::overlay::OverlayView;
    use super::super::read::MemoryImage;
    use super::*;

    proptest! {
        #[test]
        fn a_view_reads_as_its_builder_and_as_a_plain_copy(
            base in prop::collection::vec(any::<u8>(), 1..300),
            writes in prop::collection::vec((0_u64..320, prop::collection::vec(any::<u8>(), 0..60)), 0..12),
            grown in 0_u64..100,
            reads in prop::collection::vec((0_u64..420, 0_usize..200), 1..20),
        ) {
            let base = MemoryImage::from(base);
            let mut plain = base.0.to_vec();
            let mut builder = OverlayBuilder::new(&base);
            builder.grow(base.len() + grown);
            plain.resize(plain.len() + grown as usize, 0);
            for (at, bytes) in writes {
                let fits = at as usize + bytes.len() <= plain.len();
                prop_assert_eq!(builder.write(at, &bytes).is_ok(), fits);
                if fits {
                    plain[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
                }
            }
            let mut through = vec![0xaa; plain.len()];
            builder.read_at(0, &mut through).unwrap();
            prop_assert_eq!(&through, &plain);
            let overlay = builder.finish(b"base");
            let view = OverlayView::new(Arc::new(base.clone()), Arc::new(overlay.clone()));
            for (at, length) in reads {
                let mut into = vec![0x55; length];
                let read = view.read_at(at, &mut into);
                match plain.get(at as usize..at as usize + length) {
                    Some(expected) => prop_assert_eq!(into.as_slice(), expected),
                    None => prop_assert!(read.is_err()),
                }
            }
            let total: u64 = overlay.segments(0, u64::MAX).map(|segment| segment.length()).sum();
            prop_assert_eq!(total, plain.len() as u64);
        }
    }

    #[test]
    fn the_tag_follows_the_bytes() {
        let base = MemoryImage::from(vec![0; 4096]);
        let tag = |edit: &dyn Fn(&mut OverlayBuilder<'_>)| {
            let mut builder = OverlayBuilder::new(&base);
            edit(&mut builder);
            builder.finish(b"x").tag()
        };
        let one = tag(&|builder| builder.write(5, b"abc").unwrap());
        assert_eq!(one, tag(&|builder| builder.write(5, b"abc").unwrap()));
        assert_ne!(one, tag(&|builder| builder.write(6, b"abc").unwrap()));
        assert_ne!(one, tag(&|builder| builder.write(5, b"abd").unwrap()));
        assert_ne!(tag(&|_| {}), tag(&|builder| builder.grow(6000)));
    }

    #[test]
    fn a_view_has_a_size_limit() {
        let base = MemoryImage::from(vec![0; 4096]);
        let mut builder = OverlayBuilder::new(&base);
        assert!(builder.append(&vec![1; MAX_PATCH_BYTES]).is_ok());
        assert!(matches!(builder.append(&[1]), Err(ViewError::TooMuch { .. })));
    }
}
