//! An overlay while it is being made: it reads as the finished view would.

use std::collections::BTreeMap;
use std::io;

use super::descriptor::SECTOR;
use super::overlay::{Overlay, Patch};
use super::{CannotCompose, ReadAt};

/// Bounds what one host's view keeps in memory.
const HELD_MAX: usize = 16 * 1024 * 1024;

/// Is a base with the changes made so far.
#[derive(Debug)]
pub struct Draft<'a> {
    base: &'a dyn ReadAt,
    length: u64,
    /// Holds runs of changed bytes by where they begin; no two overlap.
    runs: BTreeMap<u64, Vec<u8>>,
}

impl<'a> Draft<'a> {
    /// Begins with a base as it is.
    pub fn new(base: &'a dyn ReadAt) -> Self {
        Self { base, length: base.len(), runs: BTreeMap::new() }
    }

    /// Says whether the view has become longer than its base.
    pub fn has_grown(&self) -> bool {
        self.length > self.base.len()
    }

    /// Gives the base's length in bytes.
    pub fn base_length(&self) -> u64 {
        self.base.len()
    }

    /// Changes bytes inside the view.
    ///
    /// # Errors
    /// `TooMuch` where the view would hold more than 16 MiB; `Outside` past its end.
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), CannotCompose> {
        let end = at.checked_add(bytes.len() as u64).filter(|end| *end <= self.length);
        let end = end.ok_or(CannotCompose::Outside { at })?;
        if bytes.is_empty() {
            return Ok(());
        }
        let touching = self.runs.range(..=end).rev().take_while(|(from, run)| **from + run.len() as u64 >= at);
        let starts: Vec<u64> = touching.map(|(from, _)| *from).collect();
        let first = starts.last().copied().unwrap_or(at).min(at);
        let mut merged = Vec::new();
        for start in starts.into_iter().rev() {
            let run = self.runs.remove(&start).unwrap_or_default();
            lay(&mut merged, (start - first) as usize, &run);
        }
        lay(&mut merged, (at - first) as usize, bytes);
        self.runs.insert(first, merged);
        let held: usize = self.runs.values().map(Vec::len).sum();
        if held > HELD_MAX { Err(CannotCompose::TooMuch { held, most: HELD_MAX }) } else { Ok(()) }
    }

    /// Puts bytes behind the end, at the start of a sector, and gives where.
    ///
    /// # Errors
    /// As `write`.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64, CannotCompose> {
        let at = self.length.next_multiple_of(SECTOR);
        self.grow(at + (bytes.len() as u64).next_multiple_of(SECTOR));
        self.write(at, bytes)?;
        Ok(at)
    }

    /// Makes the view so long, with zeros; never shorter.
    pub fn grow(&mut self, length: u64) {
        self.length = self.length.max(length);
    }

    /// Ends the making. `identity` identifies the base's bytes.
    pub fn finish(self, identity: &[u8]) -> Overlay {
        let patches = self.runs.into_iter().map(|(at, bytes)| Patch { at, bytes: bytes.into() }).collect();
        Overlay::new(identity, self.base.len(), self.length, patches)
    }
}

/// Lays bytes into a run, making it longer where they end behind it.
fn lay(run: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    run.resize(run.len().max(at + bytes.len()), 0);
    run[at..at + bytes.len()].copy_from_slice(bytes);
}

impl ReadAt for Draft<'_> {
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

    use super::super::overlay::View;
    use super::super::read::Memory;
    use super::*;

    proptest! {
        #[test]
        fn a_view_reads_as_its_draft_and_as_a_plain_copy(
            base in prop::collection::vec(any::<u8>(), 1..300),
            writes in prop::collection::vec((0_u64..320, prop::collection::vec(any::<u8>(), 0..60)), 0..12),
            grown in 0_u64..100,
            reads in prop::collection::vec((0_u64..420, 0_usize..200), 1..20),
        ) {
            let base = Memory::from(base);
            let mut plain = base.0.to_vec();
            let mut draft = Draft::new(&base);
            draft.grow(base.len() + grown);
            plain.resize(plain.len() + grown as usize, 0);
            for (at, bytes) in writes {
                let fits = at as usize + bytes.len() <= plain.len();
                prop_assert_eq!(draft.write(at, &bytes).is_ok(), fits);
                if fits {
                    plain[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
                }
            }
            let mut through = vec![0xaa; plain.len()];
            draft.read_at(0, &mut through).unwrap();
            prop_assert_eq!(&through, &plain);
            let overlay = draft.finish(b"base");
            let view = View::new(Arc::new(base.clone()), Arc::new(overlay.clone()));
            for (at, length) in reads {
                let mut into = vec![0x55; length];
                let read = view.read_at(at, &mut into);
                match plain.get(at as usize..at as usize + length) {
                    Some(expected) => prop_assert_eq!(into.as_slice(), expected),
                    None => prop_assert!(read.is_err()),
                }
            }
            let told: u64 = overlay.pieces(0, u64::MAX).map(|piece| piece.length()).sum();
            prop_assert_eq!(told, plain.len() as u64);
        }
    }

    #[test]
    fn the_tag_follows_the_bytes() {
        let base = Memory::from(vec![0; 4096]);
        let tag = |edit: &dyn Fn(&mut Draft<'_>)| {
            let mut draft = Draft::new(&base);
            edit(&mut draft);
            draft.finish(b"x").tag()
        };
        let one = tag(&|draft| draft.write(5, b"abc").unwrap());
        assert_eq!(one, tag(&|draft| draft.write(5, b"abc").unwrap()));
        assert_ne!(one, tag(&|draft| draft.write(6, b"abc").unwrap()));
        assert_ne!(one, tag(&|draft| draft.write(5, b"abd").unwrap()));
        assert_ne!(tag(&|_| {}), tag(&|draft| draft.grow(6000)));
    }

    #[test]
    fn a_view_holds_little() {
        let base = Memory::from(vec![0; 4096]);
        let mut draft = Draft::new(&base);
        assert!(draft.append(&vec![1; HELD_MAX]).is_ok());
        assert!(matches!(draft.append(&[1]), Err(CannotCompose::TooMuch { .. })));
    }
}
