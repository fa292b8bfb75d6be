//! The partition tables of a hybrid image: an MBR, and a GPT (UEFI 2.10, chapter 5) with its backup at the
//! end. They are updated when the image grows.

use super::descriptor::SECTOR;
use super::endian::{le32, le64};
use super::error::ViewResult;
use super::{OverlayBuilder, ReadAt, ViewError};

/// Length of a disk block in bytes.
const BLOCK: u64 = 512;
/// Offsets of the partition entries in an MBR.
const MBR_ENTRIES: [u64; 4] = [446, 462, 478, 494];
/// MBR partition type of an EFI system partition.
const MBR_EFI_SYSTEM: u8 = 0xef;
/// Maximum number of entries of a GPT.
const MAX_GPT_ENTRIES: u32 = 256;
/// Length of a cylinder in isohybrid's geometry (64 heads, 32 sectors), in bytes. A BIOS may refuse a disk
/// that does not end at a cylinder boundary.
const CYLINDER: u64 = 1024 * 1024;
/// GPT partition type of an EFI system partition (C12A7328-F81F-11D2-BA4B-00A0C93EC93B), as stored.
const EFI_SYSTEM: [u8; 16] =
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];

/// The partition tables of an image in addition to its ISO 9660 volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hybrid {
    /// Whether the image has an MBR with partitions.
    pub mbr: bool,
    /// Whether the image has a GPT.
    pub gpt: bool,
}

impl Hybrid {
    /// Looks for partition tables in the system area.
    ///
    /// # Errors
    /// Returns the error of reading the image.
    pub fn read(image: &dyn ReadAt) -> std::io::Result<Self> {
        let mut head = [0; 1024];
        image.read_at(0, &mut head)?;
        let used = MBR_ENTRIES.iter().any(|at| le32(&head, *at as usize + 12) != Some(0));
        Ok(Self { mbr: used && head[510..512] == [0x55, 0xaa], gpt: head.get(512..520) == Some(b"EFI PART") })
    }

    /// Updates the tables of an image that was `from` bytes long and has grown, and appends the GPT backup.
    ///
    /// # Errors
    /// Returns the error of reading the image, or `TooMuch` if the view is full.
    pub fn grow(self, builder: &mut OverlayBuilder<'_>, from: u64) -> ViewResult<()> {
        let step = if self.mbr && from.is_multiple_of(CYLINDER) { CYLINDER } else { SECTOR };
        let gpt = if self.gpt { Gpt::read(builder)? } else { None };
        let copy = gpt.as_ref().map_or(0, |gpt| gpt.entries.len() as u64 + BLOCK);
        let length = (builder.len() + copy).next_multiple_of(step);
        builder.grow(length);
        if self.mbr {
            grow_mbr(builder, from, length)?;
        }
        match gpt {
            Some(gpt) => gpt.grow(builder, from, length),
            None => Ok(()),
        }
    }
}

fn grow_mbr(builder: &mut OverlayBuilder<'_>, from: u64, length: u64) -> ViewResult<()> {
    let mut head = [0; 512];
    builder.read_at(0, &mut head).map_err(ViewError::read("the MBR"))?;
    for at in MBR_ENTRIES {
        let (Some(start), Some(count)) = (le32(&head, at as usize + 8), le32(&head, at as usize + 12)) else {
            continue;
        };
        let kind = head[at as usize + 4];
        let end = (u64::from(start) + u64::from(count)) * BLOCK;
        let ends_with_the_image = count != 0 && end + CYLINDER > from;
        if kind == MBR_EFI_SYSTEM || !ends_with_the_image {
            continue;
        }
        let Some(blocks) = (length / BLOCK).checked_sub(u64::from(start)) else { continue };
        let count = u32::try_from(blocks).unwrap_or(u32::MAX);
        builder.write(at + 12, &count.to_le_bytes())?;
    }
    Ok(())
}

/// A GPT as it is stored.
#[derive(Debug)]
struct Gpt {
    /// Header, 92 to 512 bytes, with a zero checksum.
    header: Vec<u8>,
    /// Array of partition entries.
    entries: Vec<u8>,
    /// Offset of the array in the image, in bytes.
    entries_at: u64,
    /// Length of one partition entry in bytes.
    entry_length: usize,
}

impl Gpt {
    /// Reads the primary GPT. Returns `None` if it is damaged: no firmware would use it.
    fn read(image: &dyn ReadAt) -> ViewResult<Option<Self>> {
        let mut block = vec![0; BLOCK as usize];
        image.read_at(BLOCK, &mut block).map_err(ViewError::read("the GPT"))?;
        let Some(size) = le32(&block, 12).filter(|size| (92..=512).contains(size)) else { return Ok(None) };
        let mut header = block[..size as usize].to_vec();
        let checksum = le32(&header, 16);
        header[16..20].fill(0);
        let numbers = le64(&header, 72).zip(le32(&header, 80)).zip(le32(&header, 84));
        let Some(((block, count), entry)) = numbers else { return Ok(None) };
        let valid =
            checksum == Some(crc32fast::hash(&header)) && count <= MAX_GPT_ENTRIES && (128..=512).contains(&entry);
        let length = u64::from(count) * u64::from(entry);
        let entries_at = block.saturating_mul(BLOCK);
        if !valid || entries_at.saturating_add(length) > image.len() {
            return Ok(None);
        }
        let mut entries = vec![0; length as usize];
        image.read_at(entries_at, &mut entries).map_err(ViewError::read("the GPT"))?;
        Ok(Some(Self { header, entries, entries_at, entry_length: entry as usize }))
    }

    fn grow(mut self, builder: &mut OverlayBuilder<'_>, from: u64, length: u64) -> ViewResult<()> {
        let array = (self.entries.len() as u64).next_multiple_of(BLOCK);
        let last_block = length / BLOCK - 1;
        let copy_at = last_block * BLOCK - array;
        let last_usable = copy_at / BLOCK - 1;
        let last = self.entries.chunks_exact(self.entry_length).filter_map(|entry| le64(entry, 40)).max().unwrap_or(0);
        for entry in self.entries.chunks_exact_mut(self.entry_length) {
            let ends_with_the_image = le64(entry, 40) == Some(last)
                && last.saturating_add(1).saturating_mul(BLOCK).saturating_add(CYLINDER) > from;
            if entry[..16] != [0; 16] && entry[..16] != EFI_SYSTEM && ends_with_the_image {
                entry[40..48].copy_from_slice(&last_usable.to_le_bytes());
            }
        }
        self.header[48..56].copy_from_slice(&last_usable.to_le_bytes());
        let sum = crc32fast::hash(&self.entries);
        self.header[88..92].copy_from_slice(&sum.to_le_bytes());
        let first = self.header_at(1, last_block, self.entries_at / BLOCK);
        let copy = self.header_at(last_block, 1, copy_at / BLOCK);
        builder.write(BLOCK, &first)?;
        builder.write(self.entries_at, &self.entries)?;
        builder.write(copy_at, &self.entries)?;
        builder.write(last_block * BLOCK, &copy)
    }

    /// Returns the header for a block, with its checksum. `own`, `other` and `entries` are block numbers of the
    /// header, of the other copy and of the partition entries.
    fn header_at(&self, own: u64, other: u64, entries: u64) -> Vec<u8> {
        let mut header = self.header.clone();
        header[16..20].fill(0);
        header[24..32].copy_from_slice(&own.to_le_bytes());
        header[32..40].copy_from_slice(&other.to_le_bytes());
        header[72..80].copy_from_slice(&entries.to_le_bytes());
        let sum = crc32fast::hash(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        header
    }
}
