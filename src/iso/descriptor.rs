//! The volume descriptors (ECMA-119 8): what kinds of tree there are, and where their roots are.

use super::{NotAnIso, ReadAt};
use crate::iso::endian::{le16, le32};

/// Is the length of a logical sector and, in every image that is read here, of a logical block.
pub const SECTOR: u64 = 2048;
/// Is where the volume descriptors begin: behind the 32 KiB of system area.
pub const SYSTEM_AREA: u64 = 16 * SECTOR;
const DESCRIPTORS_MAX: u32 = 64;
const IDENTIFIER: &[u8] = b"CD001";

/// Is a place in the image, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    pub offset: u64,
    pub length: u64,
}

impl Extent {
    /// Gives the first byte behind it, if the sum is a number at all.
    pub fn end(self) -> Option<u64> {
        self.offset.checked_add(self.length)
    }

    /// Proves that it lies inside an image of a length. Where nothing lies does not matter.
    ///
    /// # Errors
    /// `PastEnd`, naming what it is.
    pub fn within(self, image: u64, what: &str) -> Result<Self, NotAnIso> {
        match self.end() {
            _ if self.length == 0 => Ok(self),
            Some(end) if end <= image => Ok(self),
            end => Err(NotAnIso::PastEnd {
                what: what.to_owned(),
                offset: self.offset,
                end: end.unwrap_or(u64::MAX),
                image,
            }),
        }
    }
}

/// Says how the names of a tree are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// ISO 9660 names in a primary (or ISO 9660:1999 enhanced) descriptor's tree, Rock Ridge aside.
    Plain,
    /// Joliet: UCS-2, big-endian.
    Joliet,
}

/// Is a primary or supplementary volume descriptor.
#[derive(Debug, Clone)]
pub struct Descriptor {
    /// Is where the descriptor itself lies, in bytes.
    pub at: u64,
    pub spelling: Spelling,
    pub volume_id: String,
    pub system_id: String,
    pub publisher: String,
    pub preparer: String,
    pub application: String,
    /// Is the volume space's size in sectors.
    pub sectors: u32,
    pub root: Extent,
    /// Is the path tables' length in bytes.
    pub path_table_length: u32,
    /// Holds the sectors of the path tables: little-endian ones first, each with its optional copy (0: none).
    pub path_tables: PathTables,
    /// Is the 512 bytes for the application's use, where isomd5sum leaves its digest.
    pub application_use: Vec<u8>,
}

/// Holds the path tables' sectors; 0 is "there is none".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathTables {
    pub little: [u32; 2],
    pub big: [u32; 2],
}

/// Is what the volume descriptors say.
#[derive(Debug, Clone)]
pub struct Volume {
    pub primary: Descriptor,
    /// Holds the supplementary descriptors: Joliet, ISO 9660:1999.
    pub others: Vec<Descriptor>,
    /// Is the sector of the El Torito boot catalogue.
    pub catalogue: Option<u32>,
    /// Says whether a UDF bridge's recognition sequence (BEA01, NSR0x) follows.
    pub udf: bool,
}

impl Volume {
    /// Reads the volume descriptors of an image.
    ///
    /// # Errors
    /// Says what is missing or out of bounds.
    pub fn read(image: &dyn ReadAt) -> Result<Self, NotAnIso> {
        let length = image.len();
        if length < SYSTEM_AREA + 2 * SECTOR {
            return Err(NotAnIso::TooShort { length });
        }
        let (mut primary, mut others, mut catalogue) = (None, Vec::new(), None);
        let mut sector = 16;
        loop {
            if sector - 16 >= DESCRIPTORS_MAX {
                return Err(NotAnIso::TooManyDescriptors(DESCRIPTORS_MAX));
            }
            let at = u64::from(sector) * SECTOR;
            let data = sector_at(image, at)?.ok_or(NotAnIso::NoDescriptor { sector })?;
            if data.get(1..6) != Some(IDENTIFIER) {
                return Err(NotAnIso::NoDescriptor { sector });
            }
            match data[0] {
                0 => catalogue = catalogue.or_else(|| el_torito(&data)),
                1 if primary.is_none() => primary = Some(Descriptor::parse(at, &data, Spelling::Plain)?),
                2 => others.push(Descriptor::parse(at, &data, spelling(&data))?),
                255 => break,
                _ => {}
            }
            sector += 1;
        }
        let primary = primary.ok_or(NotAnIso::NoPrimary)?;
        let volume = u64::from(primary.sectors) * SECTOR;
        if volume > length {
            return Err(NotAnIso::Truncated { volume, image: length });
        }
        Ok(Self { primary, others, catalogue, udf: has_udf(image, sector + 1)? })
    }

    /// Lends the Joliet descriptor.
    pub fn joliet(&self) -> Option<&Descriptor> {
        self.others.iter().find(|descriptor| descriptor.spelling == Spelling::Joliet)
    }

    /// Lends all descriptors that have a tree.
    pub fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.primary).chain(&self.others)
    }
}

impl Descriptor {
    fn parse(at: u64, data: &[u8], spelling: Spelling) -> Result<Self, NotAnIso> {
        let damaged = || NotAnIso::NoDescriptor { sector: u32::try_from(at / SECTOR).unwrap_or(u32::MAX) };
        let block = le16(data, 128).ok_or_else(damaged)?;
        if u64::from(block) != SECTOR {
            return Err(NotAnIso::BlockSize(block));
        }
        let number = |at| le32(data, at).ok_or_else(damaged);
        let big = |at: usize| number(at).map(u32::swap_bytes);
        let text = |from: usize, to: usize| spell(data.get(from..to).unwrap_or_default(), spelling);
        let attributes = u64::from(*data.get(157).ok_or_else(damaged)?);
        let root = Extent { offset: (u64::from(number(158)?) + attributes) * SECTOR, length: u64::from(number(166)?) };
        Ok(Self {
            at,
            spelling,
            system_id: text(8, 40),
            volume_id: text(40, 72),
            publisher: text(318, 446),
            preparer: text(446, 574),
            application: text(574, 702),
            sectors: number(80)?,
            root,
            path_table_length: number(132)?,
            path_tables: PathTables { little: [number(140)?, number(144)?], big: [big(148)?, big(152)?] },
            application_use: data.get(883..1395).ok_or_else(damaged)?.to_vec(),
        })
    }
}

/// Reads the sector at an offset, or nothing where the image ends before.
fn sector_at(image: &dyn ReadAt, at: u64) -> Result<Option<Vec<u8>>, NotAnIso> {
    if at.saturating_add(SECTOR) > image.len() {
        return Ok(None);
    }
    let mut data = vec![0; SECTOR as usize];
    image.read_at(at, &mut data).map_err(NotAnIso::read("a volume descriptor"))?;
    Ok(Some(data))
}

/// Gives the boot catalogue's sector where a boot record is El Torito's (El Torito 1.0, figure 7).
fn el_torito(data: &[u8]) -> Option<u32> {
    let system = data.get(7..39)?;
    system.starts_with(b"EL TORITO SPECIFICATION").then(|| le32(data, 71))?
}

/// Knows Joliet by its escape sequences (UCS-2 levels 1 to 3).
fn spelling(data: &[u8]) -> Spelling {
    match data.get(88..91) {
        Some(b"%/@" | b"%/C" | b"%/E") => Spelling::Joliet,
        _ => Spelling::Plain,
    }
}

/// Looks for a UDF volume recognition sequence (ECMA-167 2/9.1) behind the descriptors.
fn has_udf(image: &dyn ReadAt, from: u32) -> Result<bool, NotAnIso> {
    for sector in from..from + 8 {
        let Some(data) = sector_at(image, u64::from(sector) * SECTOR)? else { return Ok(false) };
        match data.get(1..6) {
            Some(b"NSR02" | b"NSR03") => return Ok(true),
            Some(b"BEA01" | b"BOOT2" | b"CD001") => {}
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// Turns a descriptor's padded text or a record's name into a string.
pub fn spell(raw: &[u8], spelling: Spelling) -> String {
    let text = match spelling {
        Spelling::Plain => String::from_utf8_lossy(raw).into_owned(),
        Spelling::Joliet => {
            let units = raw.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
    };
    text.trim_end_matches([' ', '\0']).to_owned()
}
