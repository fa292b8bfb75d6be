//! The mode parameters of MODE SENSE (SPC-4 7.5, SBC-3 6.5, MMC-6 7).

use super::medium::{DeviceKind, Lun};
use super::sense::Sense;

/// The request of a MODE SENSE.
#[derive(Debug, Clone, Copy)]
pub struct RequestedPages {
    /// Whether it is MODE SENSE(10), not (6).
    pub ten: bool,
    /// DBD: the block descriptor is omitted.
    pub no_descriptor: bool,
    /// Current, changeable, default or saved values (0 to 3).
    pub control: u8,
    /// The page code.
    pub page: u8,
    /// The subpage code.
    pub subpage: u8,
}

const ALL: u8 = 0x3f;

/// Returns the parameter data.
///
/// # Errors
/// The unit does not have the page, or saved values are requested.
pub fn sense(lun: &Lun, asked: RequestedPages) -> Result<Vec<u8>, Sense> {
    if asked.control == 3 {
        return Err(Sense::NO_SAVING);
    }
    if asked.subpage != 0 && !(asked.subpage == 0xff && asked.page == ALL) {
        return Err(Sense::field(3));
    }
    let mut pages: Vec<u8> = Vec::new();
    for page in pages_of(lun.kind).iter().filter(|page| asked.page == ALL || page[0] == asked.page) {
        let at = pages.len();
        pages.extend(*page);
        if asked.control == 1 {
            // No value can be changed.
            pages[at + 2..].fill(0);
        }
    }
    if pages.is_empty() {
        return Err(Sense::field(2));
    }
    let descriptor = match lun.kind {
        DeviceKind::Disk if !asked.no_descriptor => descriptor(lun).to_vec(),
        // MMC-6 has no block descriptors.
        DeviceKind::Disk | DeviceKind::Cdrom => Vec::new(),
    };
    let mut data = header(lun.kind, asked.ten, descriptor.len(), pages.len());
    data.extend(descriptor);
    data.extend(pages);
    Ok(data)
}

fn header(kind: DeviceKind, ten: bool, descriptor: usize, pages: usize) -> Vec<u8> {
    // Write-protected, without DPO and FUA (SBC-3 6.5.1); MMC-6 defines no such bits.
    let specific = match kind {
        DeviceKind::Disk => 0x80,
        DeviceKind::Cdrom => 0,
    };
    let rest = descriptor + pages;
    let byte = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
    if ten {
        let [high, low] = u16::try_from(6 + rest).unwrap_or(u16::MAX).to_be_bytes();
        vec![high, low, 0, specific, 0, 0, 0, byte(descriptor)]
    } else {
        vec![byte(3 + rest), 0, specific, byte(descriptor)]
    }
}

/// Returns the short block descriptor: the number of blocks, saturated, and their size.
fn descriptor(lun: &Lun) -> [u8; 8] {
    let mut bytes = [0; 8];
    let blocks = u32::try_from(lun.blocks()).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&blocks.to_be_bytes());
    bytes[4..].copy_from_slice(&lun.kind.block_size().to_be_bytes());
    bytes
}

const RECOVERY: &[u8] = &[0x01, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// DRA off: the page cache reads ahead.
const CACHING: &[u8] = &[0x08, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Unrestricted reordering.
const CONTROL: &[u8] = &[0x0a, 0x0a, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0];
const EXCEPTIONS: &[u8] = &[0x1c, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const MMC_RECOVERY: &[u8] = &[0x01, 0x0a, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
const POWER: &[u8] = &[0x1a, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const TIMEOUT: &[u8] = &[0x1d, 0x0a, 0, 0, 0, 0, 0, 60, 0, 60, 0, 0];
/// Capabilities and mechanical status: reads DVD-ROM and CD-R; tray, eject and lock; 16x.
const CAPABILITIES: &[u8] =
    &[0x2a, 0x14, 0x0b, 0, 0x70, 0, 0x29, 0, 0x0b, 0x00, 0, 2, 2, 0, 0x0b, 0x00, 0, 0, 0, 0, 0, 0];

fn pages_of(kind: DeviceKind) -> &'static [&'static [u8]] {
    match kind {
        DeviceKind::Disk => &[RECOVERY, CACHING, CONTROL, EXCEPTIONS],
        DeviceKind::Cdrom => &[MMC_RECOVERY, POWER, TIMEOUT, CAPABILITIES],
    }
}

#[cfg(test)]
mod tests {
    use super::super::medium::UnitIdentity;
    use super::*;

    fn asked(ten: bool, control: u8, page: u8) -> RequestedPages {
        RequestedPages { ten, no_descriptor: false, control, page, subpage: 0 }
    }

    #[test]
    fn a_disk_is_reported_as_write_protected() {
        let lun = Lun::new(DeviceKind::Disk, 512 * 7, UnitIdentity::from_seed(b""));
        let six = sense(&lun, asked(false, 0, 0x0a)).unwrap();
        assert_eq!(six[..12], [3 + 8 + 12, 0, 0x80, 8, 0, 0, 0, 7, 0, 0, 2, 0]);
        let ten = sense(&lun, asked(true, 0, ALL)).unwrap();
        assert_eq!(usize::from(ten[1]) + 2, ten.len());
        assert_eq!(ten[3], 0x80);
        let changeable = sense(&lun, asked(false, 1, 0x0a)).unwrap();
        assert!(changeable[14..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_length_of_a_page_is_right() {
        for kind in [DeviceKind::Disk, DeviceKind::Cdrom] {
            for page in pages_of(kind) {
                assert_eq!(page.len(), usize::from(page[1]) + 2);
            }
        }
    }

    #[test]
    fn saved_values_and_unknown_pages_are_refused() {
        let lun = Lun::new(DeviceKind::Cdrom, 2048, UnitIdentity::from_seed(b""));
        assert_eq!(sense(&lun, asked(false, 3, ALL)), Err(Sense::NO_SAVING));
        assert_eq!(sense(&lun, asked(false, 0, 0x08)), Err(Sense::field(2)));
        let subpage = RequestedPages { subpage: 1, ..asked(false, 0, 0x2a) };
        assert_eq!(sense(&lun, subpage), Err(Sense::field(3)));
    }
}
