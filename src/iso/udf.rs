//! The UDF file system of a bridge image (ECMA-167, UDF 1.02). Windows images have their files there, and
//! only a note in the ISO 9660 tree.
//!
//! Partitions with a mapping (virtual and sparable of UDF 1.50, metadata of 2.50) are refused: no known
//! installation image uses them.

use super::descriptor::SECTOR;
use super::endian::{le16, le32, le64};
use super::extent::Extent;
use super::tree::{DirectoryEntry, EntryKind};
use super::{IsoError, ReadAt};

/// Offset of the anchor volume descriptor pointer in bytes (ECMA-167 3/8.4.2.1).
const ANCHOR: u64 = 256 * SECTOR;
/// Maximum length of the volume descriptor sequence, in sectors.
const MAX_SEQUENCE_SECTORS: u64 = 64;
/// Maximum length of a directory in bytes.
const MAX_DIRECTORY_BYTES: u64 = 16 * 1024 * 1024;
/// Maximum number of extents of a file.
const MAX_EXTENTS: usize = 65_536;
/// Maximum number of allocation extents of a file.
const MAX_CHAIN: usize = 1024;
/// Maximum number of extents and of allocation extents that are read for the files of one directory. A damaged directory
/// may name one file of many extents many times.
const MAX_LISTED_EXTENTS: usize = 1 << 20;
/// Maximum depth of a path, in levels below the root.
const MAX_DEPTH: usize = 64;

/// The UDF volume of an image.
#[derive(Debug)]
pub struct UdfVolume<'a> {
    image: &'a dyn ReadAt,
    /// First sector of the partition.
    partition: u64,
    /// Block of the root directory's file entry, in the partition.
    root: u32,
}

impl<'a> UdfVolume<'a> {
    /// Opens the UDF volume of an image.
    ///
    /// # Errors
    /// Returns what is damaged or not supported.
    pub fn open(image: &'a dyn ReadAt) -> Result<Self, IsoError> {
        let anchor = tagged(image, ANCHOR, &[2], "no anchor at sector 256")?;
        let (length, from) = le32(&anchor, 16).zip(le32(&anchor, 20)).ok_or(IsoError::Udf("truncated anchor"))?;
        let (mut partition, mut files) = (None, None);
        for sector in 0..(u64::from(length) / SECTOR).min(MAX_SEQUENCE_SECTORS) {
            let data = sector_at(image, (u64::from(from) + sector) * SECTOR)?;
            match le16(&data, 0) {
                Some(5) => partition = le32(&data, 188),
                Some(6) => files = Some(file_set(&data)?),
                Some(8) => break,
                _ => {}
            }
        }
        let partition = u64::from(partition.ok_or(IsoError::Udf("no partition descriptor"))?);
        let files = u64::from(files.ok_or(IsoError::Udf("no logical volume descriptor"))?);
        let set = tagged(image, (partition + files) * SECTOR, &[256], "no file set descriptor")?;
        let root = le32(&set, 404).ok_or(IsoError::Udf("truncated file set descriptor"))?;
        Ok(Self { image, partition, root })
    }

    /// Looks up a path. A name is compared exactly first, then without case.
    ///
    /// # Errors
    /// Returns what is damaged on the way. A path that does not exist is not an error.
    pub fn find(&self, path: &str) -> Result<Option<DirectoryEntry>, IsoError> {
        let mut here = self.entry(String::new(), self.root, &mut { MAX_LISTED_EXTENTS })?;
        for (depth, name) in path.split('/').filter(|name| !name.is_empty() && *name != ".").enumerate() {
            if depth > MAX_DEPTH || name == ".." || here.kind != EntryKind::Directory {
                return Ok(None);
            }
            let names = self.names(&here)?;
            let exact = names.iter().find(|(found, _)| found == name);
            let found = exact.or_else(|| names.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)));
            let Some((found, icb)) = found else { return Ok(None) };
            here = self.entry(found.clone(), *icb, &mut { MAX_LISTED_EXTENTS })?;
        }
        Ok(Some(here))
    }

    /// Lists a directory.
    ///
    /// # Errors
    /// Returns what is damaged in the directory.
    pub fn list(&self, directory: &DirectoryEntry) -> Result<Vec<DirectoryEntry>, IsoError> {
        let mut left = MAX_LISTED_EXTENTS;
        self.names(directory)?.into_iter().map(|(name, icb)| self.entry(name, icb, &mut left)).collect()
    }

    /// Reads the names of a directory, each with the block of its file entry.
    fn names(&self, directory: &DirectoryEntry) -> Result<Vec<(String, u32)>, IsoError> {
        let length = directory.length();
        if length > MAX_DIRECTORY_BYTES {
            return Err(IsoError::Udf("directory longer than 16 MiB"));
        }
        let mut data = Vec::new();
        for extent in &directory.extents {
            extent.ensure_within(self.image.len(), "a UDF directory")?;
            let from = data.len();
            data.resize(from + extent.length as usize, 0);
            self.image.read_at(extent.offset, &mut data[from..]).map_err(IsoError::read("a UDF directory"))?;
        }
        let mut names = Vec::new();
        let mut rest = &data[..];
        while !rest.is_empty() {
            let (name, length) = identifier(rest).ok_or(IsoError::Udf("invalid file identifier in a directory"))?;
            names.extend(name);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(names)
    }

    /// Reads a file entry (ECMA-167 4/14.9) or an extended file entry (4/14.17).
    fn entry(&self, name: String, icb: u32, left: &mut usize) -> Result<DirectoryEntry, IsoError> {
        let at = (self.partition + u64::from(icb)) * SECTOR;
        let data = tagged(self.image, at, &[261, 266], "no file entry at the block of a file identifier")?;
        let head = if le16(&data, 0) == Some(261) { 168 } else { 208 };
        let truncated = IsoError::Udf("truncated file entry");
        let numbers = le32(&data, head).zip(le32(&data, head + 4)).zip(le16(&data, 34)).zip(le64(&data, 56));
        let Some((((attributes, length), flags), size)) = numbers else { return Err(truncated) };
        let from = head + 8 + attributes as usize;
        let allocation = from.checked_add(length as usize).and_then(|end| data.get(from..end)).ok_or(truncated)?;
        let mut extents = match flags & 7 {
            0 => self.extents(allocation.to_vec(), 8, left)?,
            1 => self.extents(allocation.to_vec(), 16, left)?,
            3 => vec![Extent { offset: at + from as u64, length: u64::from(length) }],
            _ => return Err(IsoError::Udf("file entry with extended allocation descriptors (not supported)")),
        };
        shorten(&mut extents, size)?;
        let kind = match data[27] {
            4 => EntryKind::Directory,
            5 | 0 if extents.iter().any(|extent| extent.offset == 0) => EntryKind::Unreadable("sparse"),
            5 | 0 => EntryKind::File,
            _ => EntryKind::Unreadable("not a regular file"),
        };
        Ok(DirectoryEntry { name, kind, extents, records: Vec::new() })
    }

    /// Returns the extents of allocation descriptors that are `step` bytes long, with their continuations. The
    /// extent of a hole has the offset 0.
    fn extents(&self, mut allocation: Vec<u8>, step: usize, left: &mut usize) -> Result<Vec<Extent>, IsoError> {
        let mut extents = Vec::new();
        'chain: for _ in 0..MAX_CHAIN {
            spend(left)?;
            for descriptor in allocation.clone().chunks_exact(step) {
                let Some((word, block)) = le32(descriptor, 0).zip(le32(descriptor, 4)) else { break };
                let (kind, length) = (word >> 30, u64::from(word & 0x3fff_ffff));
                let offset = (self.partition + u64::from(block)) * SECTOR;
                if length == 0 {
                    return Ok(extents);
                }
                spend(left)?;
                match kind {
                    0 => extents.push(Extent { offset, length }),
                    3 => {
                        let next = tagged(self.image, offset, &[258], "no allocation extent descriptor")?;
                        let length = le32(&next, 20).unwrap_or(0) as usize;
                        allocation = next
                            .get(24..24 + length)
                            .ok_or(IsoError::Udf("truncated allocation extent descriptor"))?
                            .to_vec();
                        continue 'chain;
                    }
                    _ => extents.push(Extent { offset: 0, length }),
                }
                if extents.len() > MAX_EXTENTS {
                    return Err(IsoError::Udf("file with more than 65,536 extents"));
                }
            }
            return Ok(extents);
        }
        Err(IsoError::Udf("file with more than 1024 allocation extents"))
    }
}

/// Takes one from the number of extents that may still be read.
fn spend(left: &mut usize) -> Result<(), IsoError> {
    *left = left.checked_sub(1).ok_or(IsoError::Udf("directory whose files have more than 1,048,576 extents"))?;
    Ok(())
}

/// Cuts extents, which may end at a block boundary, to the length of the file.
fn shorten(extents: &mut Vec<Extent>, size: u64) -> Result<(), IsoError> {
    let mut left = size;
    for extent in &mut *extents {
        extent.length = extent.length.min(left);
        left -= extent.length;
    }
    extents.retain(|extent| extent.length > 0);
    if left > 0 { Err(IsoError::Udf("file longer than its extents")) } else { Ok(()) }
}

/// Parses a file identifier (ECMA-167 4/14.4) and returns its length. The name and the block of the file entry
/// are absent for a deleted file and for the parent directory.
fn identifier(data: &[u8]) -> Option<(Option<(String, u32)>, usize)> {
    (le16(data, 0)? == 257).then_some(())?;
    let (characteristics, name_length) = (*data.get(18)?, usize::from(*data.get(19)?));
    let icb = le32(data, 24)?;
    let from = 38 + usize::from(le16(data, 36)?);
    let raw = data.get(from..from + name_length)?;
    let length = (from + name_length).next_multiple_of(4);
    if characteristics & 0x0c != 0 {
        return Some((None, length));
    }
    let name = match raw.split_first()? {
        (8, text) => text.iter().map(|byte| char::from(*byte)).collect(),
        (16, text) => {
            let units = text.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        _ => return None,
    };
    Some((Some((name, icb)), length))
}

/// Returns the block of the file set that a logical volume descriptor points to (ECMA-167 3/10.6).
fn file_set(data: &[u8]) -> Result<u32, IsoError> {
    if le32(data, 212) != Some(SECTOR as u32) {
        return Err(IsoError::Udf("logical block size is not 2048 bytes"));
    }
    if le32(data, 268) != Some(1) || data.get(440) != Some(&1) {
        return Err(IsoError::Udf("virtual, sparable or split partition (UDF 1.50 and later): not supported"));
    }
    le32(data, 252).ok_or(IsoError::Udf("truncated logical volume descriptor"))
}

/// Reads a sector that begins with a descriptor tag (ECMA-167 3/7.2) with one of the identifiers.
fn tagged(image: &dyn ReadAt, at: u64, tags: &[u16], reason: &'static str) -> Result<Vec<u8>, IsoError> {
    let data = sector_at(image, at)?;
    let sum = data
        .iter()
        .take(16)
        .enumerate()
        .filter(|(at, _)| *at != 4)
        .fold(0_u8, |sum, (_, byte)| sum.wrapping_add(*byte));
    let known = le16(&data, 0).is_some_and(|tag| tags.contains(&tag));
    if known && data.get(4) == Some(&sum) { Ok(data) } else { Err(IsoError::Udf(reason)) }
}

/// Reads the sector at an offset.
fn sector_at(image: &dyn ReadAt, at: u64) -> Result<Vec<u8>, IsoError> {
    Extent { offset: at, length: SECTOR }.ensure_within(image.len(), "a UDF descriptor")?;
    let mut data = vec![0; SECTOR as usize];
    image.read_at(at, &mut data).map_err(IsoError::read("a UDF descriptor"))?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iso::MemoryImage;

    const SECTOR_BYTES: usize = SECTOR as usize;
    /// First sector of the partition. Its blocks: the file set, the root's entry, the file's entry, the root's names.
    const PARTITION: u32 = 257;

    /// Writes a descriptor with its tag at a sector.
    fn put(image: &mut [u8], sector: usize, tag: u16, fields: &[(usize, &[u8])]) {
        let data = &mut image[sector * SECTOR_BYTES..][..SECTOR_BYTES];
        data[..2].copy_from_slice(&tag.to_le_bytes());
        for (at, bytes) in fields {
            data[*at..][..bytes.len()].copy_from_slice(bytes);
        }
        data[4] = data[..16].iter().fold(0, |sum, byte| sum.wrapping_add(*byte));
    }

    /// Writes a file entry with its extents, each of which begins at block 3.
    fn put_entry(image: &mut [u8], block: u32, kind: u8, extents: &[u32]) {
        let allocation: Vec<u8> =
            extents.iter().flat_map(|length| [length.to_le_bytes(), 3_u32.to_le_bytes()]).flatten().collect();
        let size = extents.iter().map(|length| u64::from(*length)).sum::<u64>();
        let length = (allocation.len() as u32).to_le_bytes();
        let fields: [(usize, &[u8]); 4] =
            [(27, &[kind]), (56, &size.to_le_bytes()), (172, &length), (176, &allocation)];
        put(image, (PARTITION + block) as usize, 261, &fields);
    }

    /// Returns an image whose root has a file of some extents, under the same name many times.
    fn image(names: usize, extents: usize) -> MemoryImage {
        let mut identifier = [0; 40];
        identifier[..2].copy_from_slice(&257_u16.to_le_bytes());
        (identifier[19], identifier[24], identifier[38], identifier[39]) = (2, 2, 8, b'a');
        let directory = identifier.repeat(names);
        let from = (PARTITION as usize + 3) * SECTOR_BYTES;
        let mut image = vec![0; from + directory.len().next_multiple_of(SECTOR_BYTES)];
        image[from..][..directory.len()].copy_from_slice(&directory);
        let (sector, one) = ((SECTOR as u32).to_le_bytes(), 1_u32.to_le_bytes());
        put(&mut image, 256, 2, &[(16, &(3 * SECTOR as u32).to_le_bytes()), (20, &20_u32.to_le_bytes())]);
        put(&mut image, 20, 5, &[(188, &PARTITION.to_le_bytes())]);
        put(&mut image, 21, 6, &[(212, &sector), (268, &one), (440, &[1])]);
        put(&mut image, PARTITION as usize, 256, &[(404, &one)]);
        put_entry(&mut image, 1, 4, &[directory.len() as u32]);
        put_entry(&mut image, 2, 5, &vec![SECTOR as u32; extents]);
        MemoryImage::from(image)
    }

    #[test]
    fn a_directory_that_names_a_file_many_times_is_refused() {
        for (names, extents, is_listed) in [(3, 2, true), (10_000, 2, true), (10_000, 200, false)] {
            let image = image(names, extents);
            let volume = UdfVolume::open(&image).unwrap();
            let root = volume.find("/").unwrap().unwrap();
            assert_eq!(volume.find("/a").unwrap().unwrap().extents.len(), extents);
            match volume.list(&root) {
                Ok(entries) => assert_eq!((entries.len(), is_listed), (names, true)),
                Err(error) => assert!(!is_listed && error.to_string().contains("1,048,576 extents"), "{error}"),
            }
        }
    }
}
