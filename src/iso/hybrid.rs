//! The partition tables of a hybrid image, kept in step when the image grows: an MBR, and a GPT
//! (UEFI 2.10, chapter 5) with its copy at the very end.

use super::descriptor::SECTOR;
use super::{CannotCompose, Draft, ReadAt};
use crate::iso::endian::{le32, le64};

const BLOCK: u64 = 512;
const MBR_ENTRIES: [u64; 4] = [446, 462, 478, 494];
const GPT_ENTRIES_MAX: u32 = 256;
/// Is the cylinder of isohybrid's geometry (64 heads, 32 sectors): a BIOS may refuse a disk that ends elsewhere.
const CYLINDER: u64 = 1024 * 1024;
const EFI_SYSTEM: [u8; 16] =
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];

/// Says which partition tables an image carries beside its ISO 9660 volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hybrid {
    pub mbr: bool,
    pub gpt: bool,
}

type Result<T, E = CannotCompose> = std::result::Result<T, E>;

impl Hybrid {
    /// Looks for partition tables in the system area.
    ///
    /// # Errors
    /// What the medium says.
    pub fn read(image: &dyn ReadAt) -> std::io::Result<Self> {
        let mut head = [0; 1024];
        image.read_at(0, &mut head)?;
        let used = MBR_ENTRIES.iter().any(|at| le32(&head, *at as usize + 12) != Some(0));
        Ok(Self { mbr: used && head[510..512] == [0x55, 0xaa], gpt: head.get(512..520) == Some(b"EFI PART") })
    }

    /// Brings the tables in step with an image that has grown from a length.
    ///
    /// # Errors
    /// What the medium says.
    pub fn grow(self, draft: &mut Draft<'_>, from: u64) -> Result<()> {
        let step = if self.mbr && from.is_multiple_of(CYLINDER) { CYLINDER } else { SECTOR };
        let gpt = if self.gpt { Gpt::read(draft)? } else { None };
        let copy = gpt.as_ref().map_or(0, |gpt| gpt.entries.len() as u64 + BLOCK);
        let length = (draft.len() + copy).next_multiple_of(step);
        draft.grow(length);
        if self.mbr {
            grow_mbr(draft, from, length)?;
        }
        match gpt {
            Some(gpt) => gpt.grow(draft, from, length),
            None => Ok(()),
        }
    }
}

fn grow_mbr(draft: &mut Draft<'_>, from: u64, length: u64) -> Result<()> {
    let mut head = [0; 512];
    draft.read_at(0, &mut head).map_err(CannotCompose::read("the MBR"))?;
    for at in MBR_ENTRIES {
        let (Some(start), Some(count)) = (le32(&head, at as usize + 8), le32(&head, at as usize + 12)) else {
            continue;
        };
        let kind = head[at as usize + 4];
        let end = (u64::from(start) + u64::from(count)) * BLOCK;
        let ends_with_the_image = count != 0 && end + CYLINDER > from;
        if kind == 0xef || !ends_with_the_image {
            continue;
        }
        let count = u32::try_from(length / BLOCK - u64::from(start)).unwrap_or(u32::MAX);
        draft.write(at + 12, &count.to_le_bytes())?;
    }
    Ok(())
}

/// Is a GPT: its header and its array of entries, as they lie.
#[derive(Debug)]
struct Gpt {
    header: Vec<u8>,
    entries: Vec<u8>,
    entries_at: u64,
    entry: usize,
}

impl Gpt {
    /// Reads the first copy; nothing where it is damaged, for then nobody reads it.
    fn read(image: &dyn ReadAt) -> Result<Option<Self>> {
        let mut block = vec![0; BLOCK as usize];
        image.read_at(BLOCK, &mut block).map_err(CannotCompose::read("the GPT"))?;
        let Some(size) = le32(&block, 12).filter(|size| (92..=512).contains(size)) else { return Ok(None) };
        let mut header = block[..size as usize].to_vec();
        let told = le32(&header, 16);
        header[16..20].fill(0);
        let numbers = le64(&header, 72).zip(le32(&header, 80)).zip(le32(&header, 84));
        let Some(((block, count), entry)) = numbers else { return Ok(None) };
        let sound = told == Some(crc32(&header)) && count <= GPT_ENTRIES_MAX && (128..=512).contains(&entry);
        let length = u64::from(count) * u64::from(entry);
        let entries_at = block.saturating_mul(BLOCK);
        if !sound || entries_at.saturating_add(length) > image.len() {
            return Ok(None);
        }
        let mut entries = vec![0; length as usize];
        image.read_at(entries_at, &mut entries).map_err(CannotCompose::read("the GPT"))?;
        Ok(Some(Self { header, entries, entries_at, entry: entry as usize }))
    }

    fn grow(mut self, draft: &mut Draft<'_>, from: u64, length: u64) -> Result<()> {
        let array = (self.entries.len() as u64).next_multiple_of(BLOCK);
        let last_block = length / BLOCK - 1;
        let copy_at = last_block * BLOCK - array;
        let last_usable = copy_at / BLOCK - 1;
        let last = self.entries.chunks_exact(self.entry).filter_map(|entry| le64(entry, 40)).max().unwrap_or(0);
        for entry in self.entries.chunks_exact_mut(self.entry) {
            let ends_with_the_image = le64(entry, 40) == Some(last) && (last + 1) * BLOCK + CYLINDER > from;
            if entry[..16] != [0; 16] && entry[..16] != EFI_SYSTEM && ends_with_the_image {
                entry[40..48].copy_from_slice(&last_usable.to_le_bytes());
            }
        }
        self.header[48..56].copy_from_slice(&last_usable.to_le_bytes());
        let sum = crc32(&self.entries);
        self.header[88..92].copy_from_slice(&sum.to_le_bytes());
        let first = self.header(1, last_block, self.entries_at / BLOCK);
        let copy = self.header(last_block, 1, copy_at / BLOCK);
        draft.write(BLOCK, &first)?;
        draft.write(self.entries_at, &self.entries)?;
        draft.write(copy_at, &self.entries)?;
        draft.write(last_block * BLOCK, &copy)
    }

    /// Writes a header for a place, with its checksum.
    fn header(&self, own: u64, other: u64, entries: u64) -> Vec<u8> {
        let mut header = self.header.clone();
        header[16..20].fill(0);
        header[24..32].copy_from_slice(&own.to_le_bytes());
        header[32..40].copy_from_slice(&other.to_le_bytes());
        header[72..80].copy_from_slice(&entries.to_le_bytes());
        let sum = crc32(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        header
    }
}

/// Sums as GPT and Ethernet do (IEEE 802.3, reflected).
fn crc32(data: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 != 0 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
    !data.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_ieees() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
