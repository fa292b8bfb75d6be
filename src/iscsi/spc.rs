//! The responses of every device: INQUIRY with its pages, REPORT LUNS, and the capacity of a disk (SPC-4, SBC-3).

use super::medium::{DeviceKind, Lun};
use super::sense::Sense;

const VENDOR: &[u8; 8] = b"BOOTLTCH";
const REVISION: &[u8; 4] = b"0001";

/// Returns standard INQUIRY data: 96 bytes (SPC-4 6.4.2). Without a unit the qualifier is 011b and the type 1Fh.
pub fn standard(lun: Option<&Lun>) -> Vec<u8> {
    let mut data = vec![0; 96];
    data[0] = lun.map_or(0x7f, |lun| lun.kind.device_type());
    data[1] = if lun.is_some_and(|lun| lun.kind == DeviceKind::Cdrom) { 0x80 } else { 0 };
    data[2] = 6;
    // HISUP: LUNs have the format of SAM-5; response data format 2.
    data[3] = 0x12;
    data[4] = 91;
    // CMDQUE.
    data[7] = 0x02;
    data[8..16].copy_from_slice(VENDOR);
    let product: &[u8; 16] = match lun.map(|lun| lun.kind) {
        Some(DeviceKind::Cdrom) => b"ISO CD-ROM      ",
        Some(DeviceKind::Disk) => b"ISO DISK        ",
        None => b"                ",
    };
    data[16..32].copy_from_slice(product);
    data[32..36].copy_from_slice(REVISION);
    let commands: u16 = match lun.map(|lun| lun.kind) {
        Some(DeviceKind::Cdrom) => 0x04e0,
        Some(DeviceKind::Disk) | None => 0x04c0,
    };
    // SAM-5, SPC-4, MMC-6 or SBC-3, iSCSI, each without a revision of the standard (SPC-4 table 144).
    for (at, version) in [0x00a0, 0x0460, commands, 0x0960].into_iter().enumerate() {
        data[58 + at * 2..60 + at * 2].copy_from_slice(&version.to_be_bytes());
    }
    data
}

/// Returns a page of vital product data (SPC-4 7.8).
///
/// # Errors
/// The unit does not have the page.
pub fn vital(lun: &Lun, target: &str, page: u8) -> Result<Vec<u8>, Sense> {
    let body = match (page, lun.kind) {
        (0x00, kind) => pages_of(kind).to_vec(),
        (0x80, _) => lun.identity.serial().as_bytes().to_vec(),
        (0x83, _) => designators(lun, target),
        (0x86, DeviceKind::Disk) => extended(),
        (0xb0, DeviceKind::Disk) => block_limits(),
        (0xb1, DeviceKind::Disk) => characteristics(),
        (0xb2, DeviceKind::Disk) => vec![0; 4],
        _ => return Err(Sense::field(2)),
    };
    let [high, low] = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut data = vec![lun.kind.device_type(), page, high, low];
    data.extend(body);
    Ok(data)
}

fn pages_of(kind: DeviceKind) -> &'static [u8] {
    match kind {
        DeviceKind::Cdrom => &[0x00, 0x80, 0x83],
        DeviceKind::Disk => &[0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2],
    }
}

/// Returns the device identification (SPC-4 7.8.6): NAA and vendor names of the unit; number, group and name of the
/// port.
fn designators(lun: &Lun, target: &str) -> Vec<u8> {
    let mut data = Vec::new();
    let mut add = |set: u8, kind: u8, value: &[u8]| {
        data.extend([set, kind, 0, u8::try_from(value.len()).unwrap_or(0)]);
        data.extend(value);
    };
    add(0x01, 0x03, &lun.identity.naa());
    let vendor: Vec<u8> = VENDOR.iter().chain(lun.identity.serial().as_bytes()).copied().collect();
    add(0x02, 0x01, &vendor);
    // Protocol 5 is iSCSI; 0x90: the association is with the target port.
    add(0x51, 0x94, &[0, 0, 0, 1]);
    add(0x51, 0x95, &[0, 0, 0, 1]);
    let mut name = format!("{},t,0x0001", target).into_bytes();
    name.push(0);
    name.resize(name.len().next_multiple_of(4).min(252), 0);
    add(0x53, 0x98, &name);
    data
}

/// Returns extended INQUIRY data: no protection; SIMPLE, ORDERED and HEAD OF QUEUE tasks (SPC-4 7.8.7).
fn extended() -> Vec<u8> {
    let mut body = vec![0; 60];
    body[1] = 0x07;
    body
}

/// Returns the block limits: a transfer granularity of 8 blocks, and an optimal transfer length (SBC-3 6.6.3).
fn block_limits() -> Vec<u8> {
    let mut body = vec![0; 60];
    body[2..4].copy_from_slice(&8u16.to_be_bytes());
    // Optimal transfer length: 64 KiB, the data of one Data-In.
    body[8..12].copy_from_slice(&128u32.to_be_bytes());
    body
}

/// Returns the block device characteristics: the medium does not rotate (SBC-3 6.6.2).
fn characteristics() -> Vec<u8> {
    let mut body = vec![0; 60];
    body[1] = 1;
    body
}

/// Returns REPORT LUNS data: the numbers of the units (SPC-4 6.33).
///
/// # Errors
/// SPC-4 does not define the SELECT REPORT code.
pub fn luns(present: impl Iterator<Item = u8>, select: u8) -> Result<Vec<u8>, Sense> {
    let shown = match select {
        0 | 2 => present.collect(),
        // No well-known units.
        1 => Vec::new(),
        _ => return Err(Sense::field(2)),
    };
    let mut data = vec![0; 8];
    for number in &shown {
        data.extend([0, *number, 0, 0, 0, 0, 0, 0]);
    }
    let length = u32::try_from(shown.len() * 8).unwrap_or(0);
    data[..4].copy_from_slice(&length.to_be_bytes());
    Ok(data)
}

/// Returns READ CAPACITY(10) data: the address of the last block, or all ones if it has more than 32 bits (SBC-3 5.15).
pub fn capacity_10(lun: &Lun) -> Vec<u8> {
    let last = u32::try_from(lun.blocks().saturating_sub(1)).unwrap_or(u32::MAX);
    let mut data = last.to_be_bytes().to_vec();
    data.extend(lun.kind.block_size().to_be_bytes());
    data
}

/// Returns READ CAPACITY(16) data: 32 bytes (SBC-3 5.16).
pub fn capacity_16(lun: &Lun) -> Vec<u8> {
    let mut data = lun.blocks().saturating_sub(1).to_be_bytes().to_vec();
    data.extend(lun.kind.block_size().to_be_bytes());
    data.resize(32, 0);
    data
}

#[cfg(test)]
mod tests {
    use super::super::medium::UnitIdentity;
    use super::*;

    const TARGET: &str = "iqn.2026-11.org.bootlatch:iso";

    fn unit(kind: DeviceKind, bytes: u64) -> Lun {
        Lun::new(kind, bytes, UnitIdentity::from_seed(b"iso"))
    }

    #[test]
    fn standard_data_has_kind_and_versions() {
        let cdrom = standard(Some(&unit(DeviceKind::Cdrom, 2048)));
        assert_eq!(cdrom[..5], [0x05, 0x80, 6, 0x12, 91]);
        assert_eq!(cdrom[58..66], [0, 0xa0, 0x04, 0x60, 0x04, 0xe0, 0x09, 0x60]);
        assert_eq!(standard(Some(&unit(DeviceKind::Disk, 512)))[..2], [0, 0]);
        assert_eq!(standard(None)[0], 0x7f);
    }

    #[test]
    fn every_listed_page_exists_and_its_length_is_right() {
        for kind in [DeviceKind::Cdrom, DeviceKind::Disk] {
            let unit = unit(kind, 1 << 30);
            for page in pages_of(kind) {
                let data = vital(&unit, TARGET, *page).unwrap();
                assert_eq!(data[..2], [kind.device_type(), *page]);
                assert_eq!(usize::from(u16::from_be_bytes([data[2], data[3]])) + 4, data.len());
            }
            assert_eq!(vital(&unit, TARGET, 0xc0), Err(Sense::field(2)));
        }
        assert_eq!(vital(&unit(DeviceKind::Cdrom, 1), TARGET, 0xb0), Err(Sense::field(2)));
    }

    #[test]
    fn capacities_beyond_32_bits_are_saturated() {
        for (bytes, ten, sixteen) in
            [(512, 0, 0u64), (512 << 32, u32::MAX, 0xffff_ffff), (512 << 33, u32::MAX, 0x1_ffff_ffff)]
        {
            let unit = unit(DeviceKind::Disk, bytes);
            assert_eq!(capacity_10(&unit), [ten.to_be_bytes(), 512u32.to_be_bytes()].concat());
            assert_eq!(capacity_16(&unit)[..8], sixteen.to_be_bytes());
            assert_eq!(capacity_16(&unit).len(), 32);
        }
    }

    #[test]
    fn units_are_listed_by_number() {
        let two = luns([0, 3].into_iter(), 0).unwrap();
        assert_eq!(two, [0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(luns([0].into_iter(), 1).unwrap(), [0; 8]);
        assert_eq!(luns([0].into_iter(), 0x40), Err(Sense::field(2)));
    }
}
