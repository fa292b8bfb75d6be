//! The El Torito boot catalogue: which firmware finds what to boot, and where.

use super::descriptor::{Extent, SECTOR};
use super::{NotAnIso, ReadAt};
use crate::iso::endian::{le16, le32};

const CATALOGUE_MAX: usize = 2048;
const ENTRY: usize = 32;

/// Is what can be booted from an ISO by one firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootEntry {
    pub platform: Platform,
    pub emulation: Emulation,
    pub bootable: bool,
    /// Is where the boot image lies. The catalogue counts in units of 512 bytes; 0 and 1 are often
    /// written where the image is longer, so the length is a lower bound.
    pub image: Extent,
    /// Is where the entry itself lies in the image, in bytes.
    pub at: u64,
}

/// Is the platform of a catalogue's section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    Bios,
    PowerPc,
    Mac,
    Uefi,
    Other(u8),
}

/// Says what the firmware is to pretend the boot image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emulation {
    None,
    /// A floppy disk; iPXE does not emulate one (boot-facts 17).
    Floppy,
    HardDisk,
    Other(u8),
}

impl Platform {
    fn of(code: u8) -> Self {
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
/// Says what is damaged, or lies past the end.
pub fn catalogue(image: &dyn ReadAt, sector: u32) -> Result<Vec<BootEntry>, NotAnIso> {
    let at = u64::from(sector) * SECTOR;
    let extent = Extent { offset: at, length: CATALOGUE_MAX as u64 };
    extent.within(image.len(), "the boot catalogue")?;
    let mut data = vec![0; CATALOGUE_MAX];
    image.read_at(at, &mut data).map_err(NotAnIso::read("the boot catalogue"))?;
    let mut entries = data.chunks_exact(ENTRY).zip((at..).step_by(ENTRY));
    let (validation, _) = entries.next().ok_or(NotAnIso::Catalogue("it is empty"))?;
    let mut platform = validate(validation)?;
    let mut found = Vec::new();
    let (initial, initial_at) = entries.next().ok_or(NotAnIso::Catalogue("it has no initial entry"))?;
    found.push(entry(platform, initial, initial_at)?);
    let (mut left, mut last) = (0, false);
    for (data, at) in entries {
        match (left, data[0]) {
            (0, _) if last => break,
            (0, 0x90 | 0x91) => {
                platform = Platform::of(data[1]);
                last = data[0] == 0x91;
                left = le16(data, 2).unwrap_or(0);
            }
            (0, _) => break,
            (_, 0x44) => {}
            (_, 0x00 | 0x88) => {
                found.push(entry(platform, data, at)?);
                left -= 1;
            }
            (_, _) => return Err(NotAnIso::Catalogue("a section entry is neither bootable nor not")),
        }
    }
    found.retain(|entry| entry.image.offset != 0);
    for entry in &found {
        entry.image.within(image.len(), "a boot image")?;
    }
    Ok(found)
}

fn validate(data: &[u8]) -> Result<Platform, NotAnIso> {
    if data[0] != 1 || le16(data, 30) != Some(0xaa55) {
        return Err(NotAnIso::Catalogue("its validation entry has no key"));
    }
    let sum = (0..ENTRY).step_by(2).filter_map(|at| le16(data, at)).fold(0_u16, u16::wrapping_add);
    if sum != 0 {
        return Err(NotAnIso::Catalogue("its validation entry's checksum is wrong"));
    }
    Ok(Platform::of(data[1]))
}

fn entry(platform: Platform, data: &[u8], at: u64) -> Result<BootEntry, NotAnIso> {
    let cut = NotAnIso::Catalogue("an entry is cut short");
    let (Some(units), Some(sector)) = (le16(data, 6), le32(data, 8)) else { return Err(cut) };
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
