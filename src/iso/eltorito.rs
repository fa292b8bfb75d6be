//! The El Torito boot catalogue: the boot images of an ISO and the firmware that they are for.

use super::descriptor::SECTOR;
use super::endian::{le16, le32};
use super::extent::Extent;
use super::{IsoError, ReadAt};

/// Maximum number of bytes that are read of the catalogue.
const MAX_CATALOGUE_BYTES: usize = 2048;
/// Length of a catalogue entry in bytes.
const ENTRY: usize = 32;

/// A boot image of an ISO, for one kind of firmware (El Torito 1.0, chapter 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootEntry {
    /// Firmware that the entry is for.
    pub platform: BootPlatform,
    /// Emulated disk.
    pub emulation: Emulation,
    /// Whether the entry is marked as bootable.
    pub bootable: bool,
    /// Byte range of the boot image. The catalogue counts units of 512 bytes, and often has 0 or 1 for a longer
    /// image, so the length is a lower bound.
    pub image: Extent,
    /// Offset of the entry in the ISO, in bytes.
    pub at: u64,
}

/// The platform id of a catalogue section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootPlatform {
    /// 80x86 (0).
    Bios,
    /// PowerPC (1).
    PowerPc,
    /// Mac (2).
    Mac,
    /// UEFI (0xef).
    Uefi,
    /// Any other id.
    Other(u8),
}

/// The disk that the firmware emulates with the boot image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emulation {
    /// No emulation: the boot image is loaded and started.
    None,
    /// A floppy disk. iPXE does not emulate one (boot-facts 17).
    Floppy,
    /// A hard disk.
    HardDisk,
    /// Any other media type.
    Other(u8),
}

impl BootPlatform {
    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Bios,
            1 => Self::PowerPc,
            2 => Self::Mac,
            0xef => Self::Uefi,
            code => Self::Other(code),
        }
    }
}

/// Reads the boot catalogue at a sector.
///
/// # Errors
/// Returns what is damaged, or lies past the end.
pub fn read_catalogue(image: &dyn ReadAt, sector: u32) -> Result<Vec<BootEntry>, IsoError> {
    let at = u64::from(sector) * SECTOR;
    let extent = Extent { offset: at, length: MAX_CATALOGUE_BYTES as u64 };
    extent.ensure_within(image.len(), "the boot catalogue")?;
    let mut data = vec![0; MAX_CATALOGUE_BYTES];
    image.read_at(at, &mut data).map_err(IsoError::read("the boot catalogue"))?;
    let mut entries = data.chunks_exact(ENTRY).zip((at..).step_by(ENTRY));
    let (validation, _) = entries.next().ok_or(IsoError::Catalogue("no validation entry"))?;
    let mut platform = validate(validation)?;
    let mut found = Vec::new();
    let (initial, initial_at) = entries.next().ok_or(IsoError::Catalogue("no initial entry"))?;
    found.push(entry(platform, initial, initial_at)?);
    let (mut left, mut last) = (0, false);
    for (data, at) in entries {
        match (left, data[0]) {
            (0, _) if last => break,
            (0, 0x90 | 0x91) => {
                platform = BootPlatform::from_code(data[1]);
                last = data[0] == 0x91;
                left = le16(data, 2).unwrap_or(0);
            }
            (0, _) => break,
            (_, 0x44) => {}
            (_, 0x00 | 0x88) => {
                found.push(entry(platform, data, at)?);
                left -= 1;
            }
            (_, _) => return Err(IsoError::Catalogue("boot indicator of a section entry is neither 0x88 nor 0x00")),
        }
    }
    found.retain(|entry| entry.image.offset != 0);
    for entry in &found {
        entry.image.ensure_within(image.len(), "a boot image")?;
    }
    Ok(found)
}

/// Checks the validation entry and returns its platform.
fn validate(data: &[u8]) -> Result<BootPlatform, IsoError> {
    if data[0] != 1 || le16(data, 30) != Some(0xaa55) {
        return Err(IsoError::Catalogue("no key (55 AA) in the validation entry"));
    }
    let sum = (0..ENTRY).step_by(2).filter_map(|at| le16(data, at)).fold(0_u16, u16::wrapping_add);
    if sum != 0 {
        return Err(IsoError::Catalogue("wrong checksum of the validation entry"));
    }
    Ok(BootPlatform::from_code(data[1]))
}

/// Parses an initial or section entry at an offset of the image.
fn entry(platform: BootPlatform, data: &[u8], at: u64) -> Result<BootEntry, IsoError> {
    let truncated = IsoError::Catalogue("truncated entry");
    let (Some(units), Some(sector)) = (le16(data, 6), le32(data, 8)) else { return Err(truncated) };
    let (emulation, length) = match data[1] & 0xf {
        0 => (Emulation::None, u64::from(units) * 512),
        1 => (Emulation::Floppy, 1_228_800),
        2 => (Emulation::Floppy, 1_474_560),
        3 => (Emulation::Floppy, 2_949_120),
        4 => (Emulation::HardDisk, u64::from(units) * 512),
        other => (Emulation::Other(other), u64::from(units) * 512),
    };
    let image = Extent { offset: u64::from(sector) * SECTOR, length };
    Ok(BootEntry { platform, emulation, bootable: data[0] == 0x88, image, at })
}
