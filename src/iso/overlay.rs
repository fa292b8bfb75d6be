//! The view of an image that a host gets: the image, and a short list of bytes that differ.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::ReadAt;
use super::descriptor::Extent;
use super::read::File;

/// Is what a view has instead of its base, and behind its end. Cheap to share; small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    length: u64,
    base_length: u64,
    /// Holds the differing bytes, sorted; no two touch the same place.
    patches: Vec<Patch>,
    tag: Tag,
}

/// Is one run of bytes that differ from the base, or lie behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    pub at: u64,
    pub bytes: Bytes,
}

/// Identifies a view's bytes: the same base and the same overlay give the same tag, on every transport.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag([u8; 32]);

/// Says where the next bytes of a view come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes of the base, which a rim may hand to the kernel as they lie.
    Base(Extent),
    Bytes(Bytes),
    /// So many zeros: behind the base's end.
    Zeros(u64),
}

impl Piece {
    /// Gives its length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Base(extent) => extent.length,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(length) => *length,
        }
    }
}

impl Overlay {
    /// Puts sorted patches that do not overlap over a base of a length. `identity` is whatever
    /// identifies the base's bytes, its SHA-256 at best.
    pub(super) fn new(identity: &[u8], base_length: u64, length: u64, patches: Vec<Patch>) -> Self {
        let mut hash = Sha256::new();
        hash.update((identity.len() as u64).to_le_bytes());
        hash.update(identity);
        hash.update(base_length.to_le_bytes());
        hash.update(length.to_le_bytes());
        for Patch { at, bytes } in &patches {
            hash.update(at.to_le_bytes());
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        Self { length, base_length, patches, tag: Tag(hash.finalize().into()) }
    }

    /// Leaves a base of a length as it is.
    pub fn none(identity: &[u8], base_length: u64) -> Self {
        Self::new(identity, base_length, base_length, Vec::new())
    }

    /// Gives the view's length in bytes; never less than its base's.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn tag(&self) -> Tag {
        self.tag
    }

    pub fn patches(&self) -> &[Patch] {
        &self.patches
    }

    /// Gives the number of bytes held in memory.
    pub fn held(&self) -> usize {
        self.patches.iter().map(|patch| patch.bytes.len()).sum()
    }

    /// Gives what a range of the view consists of, in order. A range past the end is cut there.
    pub fn pieces(&self, offset: u64, length: u64) -> Pieces<'_> {
        let end = offset.saturating_add(length).min(self.length);
        let next = self.patches.partition_point(|patch| patch.at + patch.bytes.len() as u64 <= offset);
        Pieces { overlay: self, at: offset, end, next }
    }

    /// Turns extents of files in the view, as a reader of the view finds them, into pieces.
    pub fn pieces_of<'a>(&'a self, extents: &'a [Extent]) -> impl Iterator<Item = Piece> + 'a {
        extents.iter().flat_map(|extent| self.pieces(extent.offset, extent.length))
    }
}

/// Gives the pieces of a range of a view.
#[derive(Debug)]
pub struct Pieces<'a> {
    overlay: &'a Overlay,
    at: u64,
    end: u64,
    next: usize,
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.at >= self.end {
            return None;
        }
        let piece = match self.overlay.patches.get(self.next) {
            Some(patch) if patch.at <= self.at => {
                self.next += 1;
                let from = (self.at - patch.at) as usize;
                let to = (self.end - patch.at).min(patch.bytes.len() as u64) as usize;
                Piece::Bytes(patch.bytes.slice(from..to))
            }
            next => {
                let end = next.map_or(self.end, |patch| patch.at.min(self.end));
                let base = self.overlay.base_length;
                if self.at < base {
                    Piece::Base(Extent { offset: self.at, length: end.min(base) - self.at })
                } else {
                    Piece::Zeros(end - self.at)
                }
            }
        };
        self.at += piece.length();
        Some(piece)
    }
}

/// Is a base seen through an overlay.
#[derive(Debug, Clone)]
pub struct View {
    base: Arc<dyn ReadAt>,
    overlay: Arc<Overlay>,
}

impl View {
    /// Looks at a base through an overlay that was made for it.
    pub fn new(base: Arc<dyn ReadAt>, overlay: Arc<Overlay>) -> Self {
        Self { base, overlay }
    }

    pub fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    fn fill(&self, offset: u64, into: &mut [u8], base: impl Fn(u64, &mut [u8]) -> io::Result<()>) -> io::Result<()> {
        let end = offset.checked_add(into.len() as u64).filter(|end| *end <= self.len());
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut left = into;
        for piece in self.overlay.pieces(offset, left.len() as u64) {
            let (here, rest) = left.split_at_mut(piece.length() as usize);
            match piece {
                Piece::Base(extent) => base(extent.offset, here)?,
                Piece::Bytes(bytes) => here.copy_from_slice(&bytes),
                Piece::Zeros(_) => here.fill(0),
            }
            left = rest;
        }
        Ok(())
    }
}

impl ReadAt for View {
    fn len(&self) -> u64 {
        self.overlay.length
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.fill(offset, into, |from, here| self.base.read_at(from, here))
    }

    fn read_now(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.fill(offset, into, |from, here| self.base.read_now(from, here))
    }

    fn lies_at(&self, offset: u64, wanted: u64) -> Option<(&File, Extent)> {
        let left = self.len().checked_sub(offset)?;
        match self.overlay.pieces(offset, wanted.min(left)).next()? {
            Piece::Base(extent) => self.base.lies_at(extent.offset, extent.length),
            Piece::Bytes(_) | Piece::Zeros(_) => None,
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..16].iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Tag({self})")
    }
}
