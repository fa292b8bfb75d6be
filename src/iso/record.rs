//! Directory records (ECMA-119 9.1) and the Rock Ridge entries in them (RRIP 1.12, SUSP 1.12).

use super::descriptor::{NameEncoding, SECTOR, decode_text};
use super::endian::le32;
use super::extent::Extent;
use super::timestamp::RecordTimestamp;
use super::{IsoError, ReadAt};

/// Length of a record without its identifier and its system use area, in bytes.
pub const HEAD: usize = 33;
/// Maximum number of continuation areas of one record.
const MAX_CONTINUATIONS: usize = 8;
/// Maximum length of a continuation area in bytes.
const MAX_CONTINUATION_BYTES: u32 = 8192;
/// File flag of a directory (ECMA-119 9.1.6).
const DIRECTORY: u8 = 0x02;
/// File flag of a record that is not the last of its file.
const MORE_EXTENTS: u8 = 0x80;

/// A directory record.
#[derive(Debug, Clone)]
pub struct DirectoryRecord {
    /// Offset of the record in the image, in bytes.
    pub at: u64,
    /// Length of the record in bytes.
    pub length: u8,
    /// Byte range of the content, without the extended attribute record.
    pub extent: Extent,
    /// File flags (ECMA-119 9.1.6).
    pub flags: u8,
    /// Recording date and time.
    pub timestamp: RecordTimestamp,
    /// File identifier, in the encoding of its tree.
    pub identifier: Vec<u8>,
    /// System use area: the SUSP entries.
    pub system_use: Vec<u8>,
    /// Whether the content is interleaved (ECMA-119 9.1.7).
    pub interleaved: bool,
}

impl DirectoryRecord {
    /// Parses the record at an offset of the image. `data` begins with the record and ends with its sector.
    ///
    /// # Errors
    /// Returns which length is not plausible.
    pub fn parse(at: u64, data: &[u8]) -> Result<Self, &'static str> {
        let length = usize::from(*data.first().ok_or("empty record")?);
        let data = data.get(..length).ok_or("record crosses the end of its sector")?;
        let name_length = usize::from(*data.get(32).ok_or("record shorter than 33 bytes")?);
        let identifier = data.get(HEAD..HEAD + name_length).ok_or("name longer than its record")?;
        if name_length == 0 {
            return Err("record without a name");
        }
        let padding = 1 - name_length % 2;
        let (Some(block), Some(size)) = (le32(data, 2), le32(data, 10)) else { return Err("truncated record") };
        let offset = (u64::from(block) + u64::from(data[1])) * SECTOR;
        Ok(Self {
            at,
            length: length as u8,
            extent: Extent { offset, length: u64::from(size) },
            flags: data[25],
            timestamp: data.get(18..25).and_then(|field| field.try_into().ok()).unwrap_or_default(),
            identifier: identifier.to_vec(),
            system_use: data.get(HEAD + name_length + padding..).unwrap_or_default().to_vec(),
            interleaved: data[26] != 0 || data[27] != 0,
        })
    }

    /// Returns whether the record is the directory's own (`.`) or its parent's (`..`).
    pub fn is_dot(&self) -> bool {
        matches!(self.identifier[..], [0 | 1])
    }

    /// Returns whether the record belongs to a directory.
    pub fn is_directory(&self) -> bool {
        self.flags & DIRECTORY != 0
    }

    /// Returns whether the next record holds more of the same file (files of 4 GiB and more).
    pub fn has_more(&self) -> bool {
        self.flags & MORE_EXTENTS != 0
    }

    /// Returns the name without its version number.
    pub fn name(&self, encoding: NameEncoding) -> String {
        let name = decode_text(&self.identifier, encoding);
        match name.rsplit_once(';') {
            Some((plain, version)) if version.bytes().all(|digit| digit.is_ascii_digit()) => plain.to_owned(),
            _ => name,
        }
    }
}

/// The Rock Ridge entries of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RockRidge {
    /// Alternate name (`NM`).
    pub name: Option<String>,
    /// Target of a symbolic link (`SL`).
    pub link: Option<String>,
    /// Sector of a directory that was relocated because of its depth (`CL`).
    pub child: Option<u32>,
    /// Whether this is a relocated directory, which has its logical place elsewhere (`RE`).
    pub is_relocated: bool,
    /// Whether the content is compressed (`ZF`, zisofs).
    pub compressed: bool,
}

/// Returns the number of bytes before the SUSP entries of every record, if the root's own record has the
/// SUSP indicator (`SP`, SUSP 1.12, 5.3).
pub fn susp_skip(root: &DirectoryRecord) -> Option<usize> {
    let area = &root.system_use;
    (area.get(..2)? == b"SP" && area.get(4..6)? == [0xbe, 0xef]).then(|| area.get(6).map(|skip| usize::from(*skip)))?
}

/// Parses the Rock Ridge entries of a record and of its continuation areas.
///
/// # Errors
/// Returns what is damaged, or lies past the end.
pub fn rock_ridge(image: &dyn ReadAt, record: &DirectoryRecord, skip: usize) -> Result<RockRidge, IsoError> {
    let mut parser = SystemUseParser::default();
    let mut area = record.system_use.get(skip..).unwrap_or_default().to_vec();
    for _ in 0..MAX_CONTINUATIONS {
        match parser.parse_area(&area) {
            None => return Ok(parser.finish()),
            Some(next) => area = continuation(image, next, record.at)?,
        }
    }
    Err(damaged(record.at, "more than 8 Rock Ridge continuations"))
}

/// The location of more entries: sector, offset and length in bytes (`CE`, SUSP 1.12, 5.1).
type Continuation = (u32, u32, u32);

fn continuation(image: &dyn ReadAt, (sector, offset, length): Continuation, at: u64) -> Result<Vec<u8>, IsoError> {
    if length > MAX_CONTINUATION_BYTES {
        return Err(damaged(at, "Rock Ridge continuation longer than 8 KiB"));
    }
    let place = Extent { offset: u64::from(sector) * SECTOR + u64::from(offset), length: u64::from(length) };
    place.ensure_within(image.len(), "a Rock Ridge continuation")?;
    let mut area = vec![0; length as usize];
    image.read_at(place.offset, &mut area).map_err(IsoError::read("a Rock Ridge continuation"))?;
    Ok(area)
}

fn damaged(at: u64, reason: &'static str) -> IsoError {
    IsoError::Directory { path: String::new(), at, reason }
}

/// A parser of SUSP entries. Names and link targets may span several entries.
#[derive(Debug, Default)]
struct SystemUseParser {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    /// Whether the last component of the link continues in the next one.
    link_continues: bool,
    found: RockRidge,
}

impl SystemUseParser {
    /// Parses one system use area and returns its continuation. An invalid entry ends the area, as in Linux.
    fn parse_area(&mut self, mut area: &[u8]) -> Option<Continuation> {
        let mut next = None;
        while let [a, b, length, _version, ..] = *area {
            let (Some(entry), Some(rest)) = (area.get(4..usize::from(length)), area.get(usize::from(length)..)) else {
                break;
            };
            match &[a, b] {
                b"CE" => next = le32(entry, 0).zip(le32(entry, 8)).zip(le32(entry, 16)).map(|((s, o), l)| (s, o, l)),
                b"ST" => break,
                b"NM" => self.parse_name(entry),
                b"SL" => self.parse_symlink(entry),
                b"CL" => self.found.child = le32(entry, 0),
                b"RE" => self.found.is_relocated = true,
                b"ZF" => self.found.compressed = true,
                _ => {}
            }
            area = rest;
        }
        next
    }

    fn parse_name(&mut self, entry: &[u8]) {
        if let [flags, part @ ..] = entry
            && flags & 0x06 == 0
        {
            self.name.get_or_insert_default().extend_from_slice(part);
        }
    }

    fn parse_symlink(&mut self, entry: &[u8]) {
        let Some(mut components) = entry.get(1..) else { return };
        while let [flags, length, ..] = *components {
            let Some(content) = components.get(2..2 + usize::from(length)) else { return };
            let link = self.link.get_or_insert_default();
            if !self.link_continues && !link.is_empty() && !link.ends_with(b"/") {
                link.push(b'/');
            }
            match flags & 0x0e {
                0x02 => link.push(b'.'),
                0x04 => link.extend_from_slice(b".."),
                0x08 => link.push(b'/'),
                _ => link.extend_from_slice(content),
            }
            self.link_continues = flags & 1 != 0;
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

    fn parsed(area: &[u8]) -> RockRidge {
        let mut parser = SystemUseParser::default();
        parser.parse_area(area);
        parser.finish()
    }

    #[test]
    fn a_name_may_come_in_pieces() {
        let found = parsed(b"NM\x08\x01\x01abcNM\x07\x01\0de");
        assert_eq!(found.name.as_deref(), Some("abcde"));
    }

    #[test]
    fn a_link_is_joined_from_components() {
        let found = parsed(b"SL\x0e\x01\0\x08\0\0\x02ab\x01\x01cSL\x0a\x01\0\0\x01d\x04\0");
        assert_eq!(found.link.as_deref(), Some("/ab/cd/.."));
    }

    #[test]
    fn an_entry_that_does_not_fit_ends_the_area() {
        for area in [&b"NM\x00\x01"[..], b"NM\x03\x01", b"NM\xff\x01\0a", b"NM", b"SL\x08\x01\0\0\xff\0"] {
            assert_eq!(parsed(area).name, None);
        }
    }

    #[test]
    fn implausible_lengths_are_refused() {
        let mut data = vec![0; 64];
        let mut check = |length: u8, name: u8, good: bool| {
            data[0] = length;
            data[32] = name;
            assert_eq!(DirectoryRecord::parse(0, &data).is_ok(), good, "{length} {name}");
        };
        check(34, 1, true);
        check(34, 2, false);
        check(33, 0, false);
        check(20, 1, false);
        check(65, 1, false);
        assert!(DirectoryRecord::parse(0, &[]).is_err());
    }
}
