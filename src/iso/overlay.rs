//! The view of an image for one host: the image, and a short list of bytes that differ.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::extent::Extent;
use super::{ImageFile, ReadAt};

/// The bytes of a view that differ from its base, or lie after its end. Small, and cheap to share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Length of the view in bytes.
    length: u64,
    /// Length of the base in bytes.
    base_length: u64,
    /// Differing bytes, sorted by offset, without overlaps.
    patches: Vec<OverlayPatch>,
    tag: ViewTag,
}

/// A run of bytes that differ from the base, or lie after its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayPatch {
    /// Offset in the view, in bytes.
    pub at: u64,
    /// Content.
    pub bytes: Bytes,
}

/// A digest that identifies the bytes of a view: the same base and the same overlay have the same tag.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ViewTag([u8; 32]);

/// The source of the next bytes of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A byte range of the base, unchanged. The I/O loop may send it with `sendfile`.
    Base(Extent),
    /// Bytes of the overlay.
    Bytes(Bytes),
    /// A number of zeros, after the end of the base.
    Zeros(u64),
}

impl Segment {
    /// Returns the length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Base(extent) => extent.length,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(length) => *length,
        }
    }
}

impl Overlay {
    /// Creates an overlay from sorted patches that do not overlap. `identity` identifies the bytes of the
    /// base, for example by its SHA-256. The lengths are those of the base and of the view, in bytes.
    pub(super) fn new(identity: &[u8], base_length: u64, length: u64, patches: Vec<OverlayPatch>) -> Self {
        let mut hash = Sha256::new();
        hash.update((identity.len() as u64).to_le_bytes());
        hash.update(identity);
        hash.update(base_length.to_le_bytes());
        hash.update(length.to_le_bytes());
        for OverlayPatch { at, bytes } in &patches {
            hash.update(at.to_le_bytes());
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        Self { length, base_length, patches, tag: ViewTag(hash.finalize().into()) }
    }

    /// Returns the length of the view in bytes, at least that of its base.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the tag that identifies the bytes of the view.
    pub fn tag(&self) -> ViewTag {
        self.tag
    }

    /// Returns the number of differing bytes, which are held in memory.
    pub fn patch_bytes(&self) -> usize {
        self.patches.iter().map(|patch| patch.bytes.len()).sum()
    }

    /// Returns the segments of a byte range of the view, in order. A range past the end is cut there.
    pub fn segments(&self, offset: u64, length: u64) -> Segments<'_> {
        let end = offset.saturating_add(length).min(self.length);
        let next = self.patches.partition_point(|patch| patch.at + patch.bytes.len() as u64 <= offset);
        Segments { overlay: self, at: offset, end, next }
    }
}

/// An iterator over the segments of a byte range of a view.
#[derive(Debug)]
pub struct Segments<'a> {
    overlay: &'a Overlay,
    /// Offset of the next byte.
    at: u64,
    /// First byte after the range.
    end: u64,
    /// Index of the first patch that ends after `at`.
    next: usize,
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        if self.at >= self.end {
            return None;
        }
        let segment = match self.overlay.patches.get(self.next) {
            Some(patch) if patch.at <= self.at => {
                self.next += 1;
                let from = (self.at - patch.at) as usize;
                let to = (self.end - patch.at).min(patch.bytes.len() as u64) as usize;
                Segment::Bytes(patch.bytes.slice(from..to))
            }
            next => {
                let end = next.map_or(self.end, |patch| patch.at.min(self.end));
                let base = self.overlay.base_length;
                if self.at < base {
                    Segment::Base(Extent { offset: self.at, length: end.min(base) - self.at })
                } else {
                    Segment::Zeros(end - self.at)
                }
            }
        };
        self.at += segment.length();
        Some(segment)
    }
}

/// An image seen through an overlay.
#[derive(Debug, Clone)]
pub struct OverlayView {
    base: Arc<dyn ReadAt>,
    overlay: Arc<Overlay>,
}

impl OverlayView {
    /// Creates the view of a base through an overlay that was built for it.
    pub fn new(base: Arc<dyn ReadAt>, overlay: Arc<Overlay>) -> Self {
        Self { base, overlay }
    }

    /// Returns the overlay.
    pub fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// Fills the buffer from the segments, with a function that reads the base.
    fn fill(&self, offset: u64, into: &mut [u8], base: impl Fn(u64, &mut [u8]) -> io::Result<()>) -> io::Result<()> {
        let end = offset.checked_add(into.len() as u64).filter(|end| *end <= self.len());
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut left = into;
        for segment in self.overlay.segments(offset, left.len() as u64) {
            let (here, rest) = left.split_at_mut(segment.length() as usize);
            match segment {
                Segment::Base(extent) => base(extent.offset, here)?,
                Segment::Bytes(bytes) => here.copy_from_slice(&bytes),
                Segment::Zeros(_) => here.fill(0),
            }
            left = rest;
        }
        Ok(())
    }
}

impl ReadAt for OverlayView {
    fn len(&self) -> u64 {
        self.overlay.length
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.fill(offset, into, |from, here| self.base.read_at(from, here))
    }

    fn try_read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.fill(offset, into, |from, here| self.base.try_read_at(from, here))
    }

    fn file_extent(&self, offset: u64, wanted: u64) -> Option<(&ImageFile, Extent)> {
        let left = self.len().checked_sub(offset)?;
        match self.overlay.segments(offset, wanted.min(left)).next()? {
            Segment::Base(extent) => self.base.file_extent(extent.offset, extent.length),
            Segment::Bytes(_) | Segment::Zeros(_) => None,
        }
    }
}

impl fmt::Display for ViewTag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(&self.0[..16]))
    }
}

impl fmt::Debug for ViewTag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ViewTag({self})")
    }
}
