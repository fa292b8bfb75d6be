//! The UDF side of a bridge (ECMA-167, UDF 1.02): Windows puts its files there and nothing but a
//! note in the ISO 9660 tree. Partitions that are mapped elsewhere (UDF 1.50 virtual and sparable,
//! 2.50 metadata) are refused by name: no installation image seen uses them.

use super::descriptor::{Extent, SECTOR};
use super::tree::{Entry, Kind};
use super::{NotAnIso, ReadAt};
use crate::iso::endian::{le16, le32, le64};

const ANCHOR: u64 = 256 * SECTOR;
const SEQUENCE_MAX: u64 = 64;
const DIRECTORY_MAX: u64 = 16 * 1024 * 1024;
const EXTENTS_MAX: usize = 65_536;
const CHAIN_MAX: usize = 1024;
const DEPTH_MAX: usize = 64;

/// Is an image's UDF volume.
#[derive(Debug)]
pub struct Udf<'a> {
    image: &'a dyn ReadAt,
    /// Is where the partition begins, in sectors.
    partition: u64,
    root: u32,
}

impl<'a> Udf<'a> {
    /// Opens the UDF volume of an image.
    ///
    /// # Errors
    /// Says what of it is damaged or not read here.
    pub fn open(image: &'a dyn ReadAt) -> Result<Self, NotAnIso> {
        let anchor = tagged(image, ANCHOR, &[2], "no anchor at sector 256")?;
        let (length, from) =
            le32(&anchor, 16).zip(le32(&anchor, 20)).ok_or(NotAnIso::Udf("its anchor is cut short"))?;
        let (mut partition, mut files) = (None, None);
        for sector in 0..(u64::from(length) / SECTOR).min(SEQUENCE_MAX) {
            let data = sector_at(image, (u64::from(from) + sector) * SECTOR)?;
            match le16(&data, 0) {
                Some(5) => partition = le32(&data, 188),
                Some(6) => files = Some(file_set(&data)?),
                Some(8) => break,
                _ => {}
            }
        }
        let partition = u64::from(partition.ok_or(NotAnIso::Udf("it has no partition"))?);
        let files = u64::from(files.ok_or(NotAnIso::Udf("it has no logical volume"))?);
        let set = tagged(image, (partition + files) * SECTOR, &[256], "no file set where one is named")?;
        let root = le32(&set, 404).ok_or(NotAnIso::Udf("its file set is cut short"))?;
        Ok(Self { image, partition, root })
    }

    /// Finds what a path names, first as it is spelled, then without regard to case.
    ///
    /// # Errors
    /// Says what of the tree is damaged on the way. A path that names nothing is no error.
    pub fn find(&self, path: &str) -> Result<Option<Entry>, NotAnIso> {
        let mut here = self.entry(String::new(), self.root)?;
        for (depth, name) in path.split('/').filter(|name| !name.is_empty() && *name != ".").enumerate() {
            if depth > DEPTH_MAX || name == ".." || here.kind != Kind::Directory {
                return Ok(None);
            }
            let names = self.names(&here)?;
            let exact = names.iter().find(|(found, _)| found == name);
            let found = exact.or_else(|| names.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)));
            let Some((found, icb)) = found else { return Ok(None) };
            here = self.entry(found.clone(), *icb)?;
        }
        Ok(Some(here))
    }

    /// Lists a directory.
    ///
    /// # Errors
    /// Says what of the directory is damaged.
    pub fn list(&self, directory: &Entry) -> Result<Vec<Entry>, NotAnIso> {
        self.names(directory)?.into_iter().map(|(name, icb)| self.entry(name, icb)).collect()
    }

    /// Reads a directory's names, each with its file entry's block.
    fn names(&self, directory: &Entry) -> Result<Vec<(String, u32)>, NotAnIso> {
        let length = directory.length();
        if length > DIRECTORY_MAX {
            return Err(NotAnIso::Udf("a directory is longer than 16 MiB"));
        }
        let mut data = Vec::new();
        for extent in &directory.extents {
            extent.within(self.image.len(), "a UDF directory")?;
            let from = data.len();
            data.resize(from + extent.length as usize, 0);
            self.image.read_at(extent.offset, &mut data[from..]).map_err(NotAnIso::read("a UDF directory"))?;
        }
        let mut names = Vec::new();
        let mut rest = &data[..];
        while !rest.is_empty() {
            let (name, length) =
                identifier(rest).ok_or(NotAnIso::Udf("a directory's entries contradict each other"))?;
            names.extend(name);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(names)
    }

    /// Reads a file entry (ECMA-167 4/14.9) or an extended one (4/14.17).
    fn entry(&self, name: String, icb: u32) -> Result<Entry, NotAnIso> {
        let at = (self.partition + u64::from(icb)) * SECTOR;
        let data = tagged(self.image, at, &[261, 266], "no file entry where one is named")?;
        let head = if le16(&data, 0) == Some(261) { 168 } else { 208 };
        let cut = NotAnIso::Udf("a file entry is cut short");
        let numbers = le32(&data, head).zip(le32(&data, head + 4)).zip(le16(&data, 34)).zip(le64(&data, 56));
        let Some((((attributes, length), flags), size)) = numbers else { return Err(cut) };
        let from = head + 8 + attributes as usize;
        let allocation = from.checked_add(length as usize).and_then(|end| data.get(from..end)).ok_or(cut)?;
        let mut extents = match flags & 7 {
            0 => self.extents(allocation.to_vec(), 8)?,
            1 => self.extents(allocation.to_vec(), 16)?,
            3 => vec![Extent { offset: at + from as u64, length: u64::from(length) }],
            _ => return Err(NotAnIso::Udf("a file entry uses extended allocation descriptors")),
        };
        shorten(&mut extents, size)?;
        let kind = match data[27] {
            4 => Kind::Directory,
            5 | 0 if extents.iter().any(|extent| extent.offset == 0) => Kind::Unreadable("it has holes"),
            5 | 0 => Kind::File,
            _ => Kind::Unreadable("it is no regular file"),
        };
        Ok(Entry { name, kind, extents, records: Vec::new() })
    }

    /// Reads allocation descriptors of a length, on to where they continue. A hole has the offset 0.
    fn extents(&self, mut allocation: Vec<u8>, step: usize) -> Result<Vec<Extent>, NotAnIso> {
        let mut extents = Vec::new();
        'chain: for _ in 0..CHAIN_MAX {
            for descriptor in allocation.clone().chunks_exact(step) {
                let Some((word, block)) = le32(descriptor, 0).zip(le32(descriptor, 4)) else { break };
                let (kind, length) = (word >> 30, u64::from(word & 0x3fff_ffff));
                let offset = (self.partition + u64::from(block)) * SECTOR;
                match kind {
                    _ if length == 0 => return Ok(extents),
                    0 => extents.push(Extent { offset, length }),
                    3 => {
                        let next = tagged(self.image, offset, &[258], "no allocation extent where one is named")?;
                        let length = le32(&next, 20).unwrap_or(0) as usize;
                        allocation = next
                            .get(24..24 + length)
                            .ok_or(NotAnIso::Udf("an allocation extent is cut short"))?
                            .to_vec();
                        continue 'chain;
                    }
                    _ => extents.push(Extent { offset: 0, length }),
                }
                if extents.len() > EXTENTS_MAX {
                    return Err(NotAnIso::Udf("a file has more than 65,536 extents"));
                }
            }
            return Ok(extents);
        }
        Err(NotAnIso::Udf("the allocation descriptors of a file do not end"))
    }
}

/// Cuts extents, which may end with their block, to a file's length.
fn shorten(extents: &mut Vec<Extent>, size: u64) -> Result<(), NotAnIso> {
    let mut left = size;
    for extent in &mut *extents {
        extent.length = extent.length.min(left);
        left -= extent.length;
    }
    extents.retain(|extent| extent.length > 0);
    if left > 0 { Err(NotAnIso::Udf("a file is longer than its extents")) } else { Ok(()) }
}

/// Reads a file identifier (ECMA-167 4/14.4): the name with its file entry's block, unless it is
/// deleted or the parent's, and its length.
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

/// Gives the block of the file set that a logical volume descriptor names (ECMA-167 3/10.6).
fn file_set(data: &[u8]) -> Result<u32, NotAnIso> {
    if le32(data, 212) != Some(SECTOR as u32) {
        return Err(NotAnIso::Udf("its blocks are not 2048 bytes long"));
    }
    if le32(data, 268) != Some(1) || data.get(440) != Some(&1) {
        return Err(NotAnIso::Udf(
            "its partition is virtual, sparable or split (UDF 1.50 and later), which is not read",
        ));
    }
    le32(data, 252).ok_or(NotAnIso::Udf("its logical volume is cut short"))
}

/// Reads a sector that begins with a tag (ECMA-167 3/7.2) of one of some kinds.
fn tagged(image: &dyn ReadAt, at: u64, kinds: &[u16], why: &'static str) -> Result<Vec<u8>, NotAnIso> {
    let data = sector_at(image, at)?;
    let sum = data
        .iter()
        .take(16)
        .enumerate()
        .filter(|(at, _)| *at != 4)
        .fold(0_u8, |sum, (_, byte)| sum.wrapping_add(*byte));
    let known = le16(&data, 0).is_some_and(|kind| kinds.contains(&kind));
    if known && data.get(4) == Some(&sum) { Ok(data) } else { Err(NotAnIso::Udf(why)) }
}

fn sector_at(image: &dyn ReadAt, at: u64) -> Result<Vec<u8>, NotAnIso> {
    Extent { offset: at, length: SECTOR }.within(image.len(), "a UDF descriptor")?;
    let mut data = vec![0; SECTOR as usize];
    image.read_at(at, &mut data).map_err(NotAnIso::read("a UDF descriptor"))?;
    Ok(data)
}
