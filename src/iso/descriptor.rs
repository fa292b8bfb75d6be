//! Volume descriptors (ECMA-119 8): the trees of an image and the location of their roots.

use super::endian::{le16, le32};
use super::extent::Extent;
use super::{IsoError, ReadAt};
use crate::fleet::text::printable;

/// Length of a logical sector in bytes. Only images whose logical blocks have the same length are supported.
pub const SECTOR: u64 = 2048;
/// Length of the system area in bytes. The volume descriptors follow it.
pub const SYSTEM_AREA: u64 = 16 * SECTOR;
/// Maximum number of volume descriptors.
const MAX_DESCRIPTORS: u32 = 64;
/// Standard identifier of a volume descriptor (ECMA-119 8.1.2).
const IDENTIFIER: &[u8] = b"CD001";

/// The encoding of the names in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameEncoding {
    /// ISO 9660 identifiers in the tree of a primary or an ISO 9660:1999 enhanced descriptor.
    Plain,
    /// UCS-2, big-endian (Joliet).
    Joliet,
}

/// A primary or supplementary volume descriptor (ECMA-119 8.4 and 8.5).
#[derive(Debug, Clone)]
pub struct VolumeDescriptor {
    /// Offset of the descriptor in the image, in bytes.
    pub at: u64,
    /// Encoding of the names and texts.
    pub encoding: NameEncoding,
    /// Volume identifier.
    pub volume_id: String,
    /// Volume space size in sectors.
    pub sectors: u32,
    /// Byte range of the root directory.
    pub root: Extent,
    /// Length of a path table in bytes.
    pub path_table_length: u32,
    /// Location of the path tables.
    pub path_tables: PathTables,
    /// The 512 bytes of application use, where isomd5sum stores its digest.
    pub application_use: Vec<u8>,
}

/// The sectors of the path tables (ECMA-119 8.4.14 to 8.4.17). Sector 0 means that a table is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathTables {
    /// Little-endian table and its optional copy.
    pub little: [u32; 2],
    /// Big-endian table and its optional copy.
    pub big: [u32; 2],
}

/// The volume descriptor set of an image.
#[derive(Debug, Clone)]
pub struct VolumeDescriptorSet {
    /// Primary volume descriptor.
    pub primary: VolumeDescriptor,
    /// Supplementary descriptors: Joliet and ISO 9660:1999.
    pub others: Vec<VolumeDescriptor>,
    /// Sector of the El Torito boot catalogue.
    pub catalogue: Option<u32>,
    /// Whether a UDF volume recognition sequence (BEA01, NSR0x) follows: a bridge image.
    pub udf: bool,
}

impl VolumeDescriptorSet {
    /// Reads the volume descriptors of an image.
    ///
    /// # Errors
    /// Returns which descriptor is missing or damaged.
    pub fn read(image: &dyn ReadAt) -> Result<Self, IsoError> {
        let length = image.len();
        if length < SYSTEM_AREA + 2 * SECTOR {
            return Err(IsoError::TooShort { length });
        }
        let (mut primary, mut others, mut catalogue) = (None, Vec::new(), None);
        let mut sector = 16;
        loop {
            if sector - 16 >= MAX_DESCRIPTORS {
                return Err(IsoError::TooManyDescriptors(MAX_DESCRIPTORS));
            }
            let at = u64::from(sector) * SECTOR;
            let data = sector_at(image, at)?.ok_or(IsoError::NoDescriptor { sector })?;
            if data.get(1..6) != Some(IDENTIFIER) {
                return Err(IsoError::NoDescriptor { sector });
            }
            match data[0] {
                0 => catalogue = catalogue.or_else(|| el_torito(&data)),
                1 if primary.is_none() => primary = Some(VolumeDescriptor::parse(at, &data, NameEncoding::Plain)?),
                2 => others.push(VolumeDescriptor::parse(at, &data, encoding_of(&data))?),
                255 => break,
                _ => {}
            }
            sector += 1;
        }
        let primary = primary.ok_or(IsoError::NoPrimary)?;
        let volume = u64::from(primary.sectors) * SECTOR;
        if volume > length {
            return Err(IsoError::Truncated { volume, image: length });
        }
        Ok(Self { primary, others, catalogue, udf: has_udf(image, sector + 1)? })
    }

    /// Returns the Joliet descriptor.
    pub fn joliet(&self) -> Option<&VolumeDescriptor> {
        self.others.iter().find(|descriptor| descriptor.encoding == NameEncoding::Joliet)
    }

    /// Returns all descriptors that have a tree.
    pub fn descriptors(&self) -> impl Iterator<Item = &VolumeDescriptor> {
        std::iter::once(&self.primary).chain(&self.others)
    }
}

impl VolumeDescriptor {
    fn parse(at: u64, data: &[u8], encoding: NameEncoding) -> Result<Self, IsoError> {
        let damaged = || IsoError::NoDescriptor { sector: u32::try_from(at / SECTOR).unwrap_or(u32::MAX) };
        let block = le16(data, 128).ok_or_else(damaged)?;
        if u64::from(block) != SECTOR {
            return Err(IsoError::BlockSize(block));
        }
        let number = |at| le32(data, at).ok_or_else(damaged);
        let big = |at: usize| number(at).map(u32::swap_bytes);
        let text = |from: usize, to: usize| {
            printable(&decode_text(data.get(from..to).unwrap_or_default(), encoding)).into_owned()
        };
        let attributes = u64::from(*data.get(157).ok_or_else(damaged)?);
        let root = Extent { offset: (u64::from(number(158)?) + attributes) * SECTOR, length: u64::from(number(166)?) };
        Ok(Self {
            at,
            encoding,
            volume_id: text(40, 72),
            sectors: number(80)?,
            root,
            path_table_length: number(132)?,
            path_tables: PathTables { little: [number(140)?, number(144)?], big: [big(148)?, big(152)?] },
            application_use: data.get(883..1395).ok_or_else(damaged)?.to_vec(),
        })
    }
}

/// Reads the sector at an offset. Returns `None` if the image ends before its end.
fn sector_at(image: &dyn ReadAt, at: u64) -> Result<Option<Vec<u8>>, IsoError> {
    if at.saturating_add(SECTOR) > image.len() {
        return Ok(None);
    }
    let mut data = vec![0; SECTOR as usize];
    image.read_at(at, &mut data).map_err(IsoError::read("a volume descriptor"))?;
    Ok(Some(data))
}

/// Returns the sector of the boot catalogue if a boot record belongs to El Torito (El Torito 1.0, figure 7).
fn el_torito(data: &[u8]) -> Option<u32> {
    let system = data.get(7..39)?;
    system.starts_with(b"EL TORITO SPECIFICATION").then(|| le32(data, 71))?
}

/// Returns the encoding of a supplementary descriptor. The escape sequences of UCS-2 levels 1 to 3 identify Joliet.
fn encoding_of(data: &[u8]) -> NameEncoding {
    match data.get(88..91) {
        Some(b"%/@" | b"%/C" | b"%/E") => NameEncoding::Joliet,
        _ => NameEncoding::Plain,
    }
}

/// Returns whether a UDF volume recognition sequence (ECMA-167 2/9.1) follows the descriptors.
fn has_udf(image: &dyn ReadAt, from: u32) -> Result<bool, IsoError> {
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

/// Decodes the padded text of a descriptor, or the name of a record.
pub fn decode_text(raw: &[u8], encoding: NameEncoding) -> String {
    let text = match encoding {
        NameEncoding::Plain => String::from_utf8_lossy(raw).into_owned(),
        NameEncoding::Joliet => {
            let units = raw.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
    };
    text.trim_end_matches([' ', '\0']).to_owned()
}
