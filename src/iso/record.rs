//! A directory record (ECMA-119 9.1) and what Rock Ridge (RRIP 1.12, over SUSP) adds to it.

use super::descriptor::{Extent, SECTOR, Spelling, spell};
use super::emit::Stamp;
use super::{NotAnIso, ReadAt};
use crate::iso::endian::le32;

/// Is the length of a record without its identifier and its system use area.
pub const HEAD: usize = 33;
const CONTINUATIONS_MAX: usize = 8;
const CONTINUATION_MAX: u32 = 8192;
const DIRECTORY: u8 = 0x02;
const MORE_EXTENTS: u8 = 0x80;

/// Is one directory record.
#[derive(Debug, Clone)]
pub struct Record {
    /// Is where the record lies in the image, in bytes.
    pub at: u64,
    /// Is the record's own length in bytes.
    pub length: u8,
    /// Is where its data lie, behind the extended attributes.
    pub extent: Extent,
    pub flags: u8,
    pub stamp: Stamp,
    pub identifier: Vec<u8>,
    pub system_use: Vec<u8>,
    pub interleaved: bool,
}

impl Record {
    /// Reads the record that begins at a position of a directory's sector; `data` ends with the sector.
    ///
    /// # Errors
    /// Says which of its lengths contradict each other.
    pub fn parse(at: u64, data: &[u8]) -> Result<Self, &'static str> {
        let length = usize::from(*data.first().ok_or("a record is empty")?);
        let data = data.get(..length).ok_or("a record crosses the end of its sector")?;
        let name_length = usize::from(*data.get(32).ok_or("a record is shorter than its own head")?);
        let identifier = data.get(HEAD..HEAD + name_length).ok_or("a name is longer than its record")?;
        if name_length == 0 {
            return Err("a record has no name");
        }
        let padding = 1 - name_length % 2;
        let (Some(block), Some(size)) = (le32(data, 2), le32(data, 10)) else { return Err("a record is cut short") };
        let offset = (u64::from(block) + u64::from(data[1])) * SECTOR;
        Ok(Self {
            at,
            length: length as u8,
            extent: Extent { offset, length: u64::from(size) },
            flags: data[25],
            stamp: data.get(18..25).and_then(|stamp| stamp.try_into().ok()).unwrap_or_default(),
            identifier: identifier.to_vec(),
            system_use: data.get(HEAD + name_length + padding..).unwrap_or_default().to_vec(),
            interleaved: data[26] != 0 || data[27] != 0,
        })
    }

    /// Says whether it is a directory's own record, or its parent's.
    pub fn is_dot(&self) -> bool {
        matches!(self.identifier[..], [0 | 1])
    }

    pub fn is_directory(&self) -> bool {
        self.flags & DIRECTORY != 0
    }

    /// Says whether the next record holds more of the same file (files of 4 GiB and more).
    pub fn has_more(&self) -> bool {
        self.flags & MORE_EXTENTS != 0
    }

    /// Spells the identifier without its version number.
    pub fn name(&self, spelling: Spelling) -> String {
        let name = spell(&self.identifier, spelling);
        match name.rsplit_once(';') {
            Some((plain, version)) if version.bytes().all(|digit| digit.is_ascii_digit()) => plain.to_owned(),
            _ => name,
        }
    }
}

/// Is what Rock Ridge says of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RockRidge {
    pub name: Option<String>,
    /// Is a symbolic link's target.
    pub link: Option<String>,
    /// Is the sector of a directory that was moved elsewhere, for its depth.
    pub child: Option<u32>,
    /// Says that this is such a moved directory, which does not belong where it lies.
    pub moved: bool,
    /// Says that the content is compressed (zisofs).
    pub compressed: bool,
}

/// Gives the bytes to skip before the SUSP entries of every record, where the root's own record
/// says that the tree uses SUSP at all (SUSP 1.12, 5.3).
pub fn susp_skip(root: &Record) -> Option<usize> {
    let area = &root.system_use;
    (area.get(..2)? == b"SP" && area.get(4..6)? == [0xbe, 0xef]).then(|| area.get(6).map(|skip| usize::from(*skip)))?
}

/// Reads the Rock Ridge entries of a record, continuation areas included.
///
/// # Errors
/// Says what contradicts itself, or lies past the end.
pub fn rock_ridge(image: &dyn ReadAt, record: &Record, skip: usize) -> Result<RockRidge, NotAnIso> {
    let mut reading = Reading::default();
    let mut area = record.system_use.get(skip..).unwrap_or_default().to_vec();
    for _ in 0..CONTINUATIONS_MAX {
        match reading.area(&area) {
            None => return Ok(reading.finish()),
            Some(next) => area = continuation(image, next, record.at)?,
        }
    }
    Err(damaged(record.at, "its Rock Ridge continuations do not end"))
}

/// Names where more entries lie: sector, offset, length (SUSP 5.1).
type Continuation = (u32, u32, u32);

fn continuation(image: &dyn ReadAt, (sector, offset, length): Continuation, at: u64) -> Result<Vec<u8>, NotAnIso> {
    if length > CONTINUATION_MAX {
        return Err(damaged(at, "a Rock Ridge continuation is longer than 8 KiB"));
    }
    let place = Extent { offset: u64::from(sector) * SECTOR + u64::from(offset), length: u64::from(length) };
    place.within(image.len(), "a Rock Ridge continuation")?;
    let mut area = vec![0; length as usize];
    image.read_at(place.offset, &mut area).map_err(NotAnIso::read("a Rock Ridge continuation"))?;
    Ok(area)
}

fn damaged(at: u64, why: &'static str) -> NotAnIso {
    NotAnIso::Directory { path: String::new(), at, why }
}

/// Gathers what may be spread over several entries.
#[derive(Debug, Default)]
struct Reading {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    /// Says whether the last component of the link goes on in the next one.
    link_goes_on: bool,
    found: RockRidge,
}

impl Reading {
    /// Reads one system use area; an entry that does not fit ends it, as Linux has it.
    fn area(&mut self, mut area: &[u8]) -> Option<Continuation> {
        let mut next = None;
        while let [a, b, length, _version, ..] = *area {
            let (Some(entry), Some(rest)) = (area.get(4..usize::from(length)), area.get(usize::from(length)..)) else {
                break;
            };
            match &[a, b] {
                b"CE" => next = le32(entry, 0).zip(le32(entry, 8)).zip(le32(entry, 16)).map(|((s, o), l)| (s, o, l)),
                b"ST" => break,
                b"NM" => self.name(entry),
                b"SL" => self.symlink(entry),
                b"CL" => self.found.child = le32(entry, 0),
                b"RE" => self.found.moved = true,
                b"ZF" => self.found.compressed = true,
                _ => {}
            }
            area = rest;
        }
        next
    }

    fn name(&mut self, entry: &[u8]) {
        if let [flags, part @ ..] = entry
            && flags & 0x06 == 0
        {
            self.name.get_or_insert_default().extend_from_slice(part);
        }
    }

    fn symlink(&mut self, entry: &[u8]) {
        let Some(mut components) = entry.get(1..) else { return };
        while let [flags, length, ..] = *components {
            let Some(content) = components.get(2..2 + usize::from(length)) else { return };
            let link = self.link.get_or_insert_default();
            if !self.link_goes_on && !link.is_empty() && !link.ends_with(b"/") {
                link.push(b'/');
            }
            match flags & 0x0e {
                0x02 => link.push(b'.'),
                0x04 => link.extend_from_slice(b".."),
                0x08 => link.push(b'/'),
                _ => link.extend_from_slice(content),
            }
            self.link_goes_on = flags & 1 != 0;
            components = &components[2 + usize::from(length)..];
        }
    }

    fn finish(self) -> RockRidge {
        let text = |raw: Vec<u8>| String::from_utf8_lossy(&raw).into_owned();
        RockRidge { name: self.name.map(text), link: self.link.map(text), ..self.found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(area: &[u8]) -> RockRidge {
        let mut reading = Reading::default();
        reading.area(area);
        reading.finish()
    }

    #[test]
    fn a_name_may_come_in_pieces() {
        let found = reading(b"NM\x08\x01\x01abcNM\x07\x01\0de");
        assert_eq!(found.name.as_deref(), Some("abcde"));
    }

    #[test]
    fn a_link_is_put_together() {
        let found = reading(b"SL\x0e\x01\0\x08\0\0\x02ab\x01\x01cSL\x0a\x01\0\0\x01d\x04\0");
        assert_eq!(found.link.as_deref(), Some("/ab/cd/.."));
    }

    #[test]
    fn an_entry_that_does_not_fit_ends_the_area() {
        for area in [&b"NM\x00\x01"[..], b"NM\x03\x01", b"NM\xff\x01\0a", b"NM", b"SL\x08\x01\0\0\xff\0"] {
            assert_eq!(reading(area).name, None);
        }
    }

    #[test]
    fn lengths_that_contradict_each_other_are_refused() {
        let mut data = vec![0; 64];
        let mut check = |length: u8, name: u8, good: bool| {
            data[0] = length;
            data[32] = name;
            assert_eq!(Record::parse(0, &data).is_ok(), good, "{length} {name}");
        };
        check(34, 1, true);
        check(34, 2, false);
        check(33, 0, false);
        check(20, 1, false);
        check(65, 1, false);
        assert!(Record::parse(0, &[]).is_err());
    }
}
