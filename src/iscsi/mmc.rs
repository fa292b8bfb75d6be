//! The responses of a CD-ROM drive with one finished data disc (MMC-6 6).

use super::medium::Lun;
use super::sense::Sense;

/// Maximum number of blocks of a CD: 80 minutes. A larger image is a DVD, as for drives and other emulators.
const MAX_CD_BLOCKS: u64 = 80 * 60 * 75;
const CD_ROM: u16 = 0x0008;
const DVD_ROM: u16 = 0x0010;
const LEAD_OUT: u8 = 0xaa;
/// Number of blocks before address 0 in minutes, seconds and frames: two seconds (MMC-6 4.2.3.9).
const PREGAP: u32 = 150;

fn blocks(lun: &Lun) -> u32 {
    u32::try_from(lun.blocks()).unwrap_or(u32::MAX)
}

fn profile(lun: &Lun) -> u16 {
    if lun.blocks() > MAX_CD_BLOCKS { DVD_ROM } else { CD_ROM }
}

/// Returns an address as a TOC has it: a block number, or minutes, seconds and frames (saturated for a DVD).
fn address(block: u32, msf: bool) -> [u8; 4] {
    if !msf {
        return block.to_be_bytes();
    }
    let frames = block.saturating_add(PREGAP);
    let minutes = u8::try_from(frames / (60 * 75)).unwrap_or(u8::MAX);
    let small = |number: u32| u8::try_from(number).unwrap_or(0);
    [0, minutes, small(frames / 75 % 60), small(frames % 75)]
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[high, low], body].concat()
}

/// Returns READ TOC/PMA/ATIP data: one data track (MMC-6 6.22).
///
/// # Errors
/// The format does not exist on a pressed disc, or the track does not exist.
pub fn toc(lun: &Lun, msf: bool, format: u8, track: u8) -> Result<Vec<u8>, Sense> {
    let end = blocks(lun);
    match format {
        0 => {
            let mut body = vec![1, 1];
            if track > 1 && track != LEAD_OUT {
                return Err(Sense::field(6));
            }
            // ADR 1, control 4: a data track, complete.
            if track <= 1 {
                body.extend([0, 0x14, 1, 0]);
                body.extend(address(0, msf));
            }
            body.extend([0, 0x14, LEAD_OUT, 0]);
            body.extend(address(end, msf));
            Ok(with_length(&body))
        }
        1 => {
            let mut body = vec![1, 1, 0, 0x14, 1, 0];
            body.extend(address(0, msf));
            Ok(with_length(&body))
        }
        2 => {
            let mut body = vec![1, 1];
            let [_, minute, second, frame] = address(end, true);
            for (point, [m, s, f]) in
                [(0xa0, [1, 0, 0]), (0xa1, [1, 0, 0]), (0xa2, [minute, second, frame]), (1, [0, 2, 0])]
            {
                body.extend([1, 0x14, 0, point, 0, 0, 0, 0, m, s, f]);
            }
            Ok(with_length(&body))
        }
        _ => Err(Sense::field(2)),
    }
}

/// One feature: code, version, persistence, whether it is current, and its data.
struct Feature {
    code: u16,
    /// The byte of version, persistent and current bits.
    bits: u8,
    data: Vec<u8>,
}

fn features(lun: &Lun, loaded: bool) -> Vec<Feature> {
    let dvd = profile(lun) == DVD_ROM;
    let feature = |code, bits, data: &[u8]| Feature { code, bits, data: data.to_vec() };
    let on = |current: bool| u8::from(current && loaded);
    let profiles = [0x00, 0x10, on(dvd), 0, 0x00, 0x08, on(!dvd), 0];
    vec![
        feature(0x0000, 0x03, &profiles),
        // Core: SCSI; INQ2 and DBE.
        feature(0x0001, 0x0b, &[0, 0, 0, 1, 3, 0, 0, 0]),
        // Morphing: operational change by polling.
        feature(0x0002, 0x07, &[0x02, 0, 0, 0]),
        // Removable medium: tray, ejects, locks.
        feature(0x0003, 0x03, &[0x29, 0, 0, 0]),
        // Random readable: 2048-byte blocks, one at a time.
        feature(0x0010, on(true), &[0, 0, 8, 0, 0, 1, 1, 0]),
        feature(0x001e, 0x08 | on(!dvd), &[0, 0, 0, 0]),
        feature(0x001f, on(dvd), &[]),
        feature(0x0100, 0x03, &[]),
        feature(0x0105, 0x03, &[0, 0, 0, 0]),
    ]
}

/// Returns GET CONFIGURATION data: the features from `first` on (MMC-6 6.6).
///
/// # Errors
/// MMC-6 reserves the request type.
pub fn configuration(lun: &Lun, loaded: bool, which: u8, first: u16) -> Result<Vec<u8>, Sense> {
    let wanted = |feature: &Feature| match which {
        0 => feature.code >= first,
        1 => feature.code >= first && feature.bits & 1 != 0,
        _ => feature.code == first,
    };
    if which > 2 {
        return Err(Sense::field(1));
    }
    let [high, low] = if loaded { profile(lun) } else { 0 }.to_be_bytes();
    let mut data = vec![0, 0, 0, 0, 0, 0, high, low];
    for feature in features(lun, loaded).into_iter().filter(wanted) {
        data.extend(feature.code.to_be_bytes());
        data.extend([feature.bits, u8::try_from(feature.data.len()).unwrap_or(0)]);
        data.extend(feature.data);
    }
    let length = u32::try_from(data.len() - 4).unwrap_or(0);
    data[..4].copy_from_slice(&length.to_be_bytes());
    Ok(data)
}

const MEDIA: u8 = 4;

/// Returns GET EVENT STATUS NOTIFICATION data for a poll: whether the medium is present (MMC-6 6.7).
///
/// # Errors
/// The request is to wait for an event.
pub fn events(loaded: bool, polled: bool, classes: u8) -> Result<Vec<u8>, Sense> {
    if !polled {
        return Err(Sense::field(1));
    }
    if classes & (1 << MEDIA) == 0 {
        // NEA: none of the requested classes is supported.
        return Ok(vec![0, 2, 0x80, 1 << MEDIA]);
    }
    let state = if loaded { 0x02 } else { 0x01 };
    Ok(vec![0, 6, MEDIA, 1 << MEDIA, 0, state, 0, 0])
}

/// Returns READ DISC INFORMATION data: one finished session with one track (MMC-6 6.21).
///
/// # Errors
/// The data type describes writable discs.
pub fn disc(kind: u8) -> Result<Vec<u8>, Sense> {
    if kind != 0 {
        return Err(Sense::field(1));
    }
    let mut data = vec![0; 34];
    data[1] = 32;
    // Last session complete, disc finalised.
    data[2] = 0x0e;
    data[3..7].fill(1);
    // Unrestricted use; no disc identification, bar code or application code.
    data[7] = 0x20;
    // No last session's lead-in and no space for another: all ones on a finalised disc.
    data[16..24].fill(0xff);
    Ok(data)
}

/// Returns READ TRACK INFORMATION data: the only track, by block, track or session (MMC-6 6.23).
///
/// # Errors
/// The address, track or session does not exist.
pub fn track(lun: &Lun, by: u8, address: u32) -> Result<Vec<u8>, Sense> {
    let end = blocks(lun);
    match by {
        0 if address >= end => return Err(Sense::OUT_OF_RANGE),
        0 => {}
        1 | 2 if address == 1 => {}
        _ => return Err(Sense::field(2)),
    }
    let mut data = vec![0; 36];
    data[1..4].copy_from_slice(&[34, 1, 1]);
    // Track mode 4: data, uninterrupted; data mode 1.
    data[5..7].copy_from_slice(&[4, 1]);
    data[24..28].copy_from_slice(&end.to_be_bytes());
    Ok(data)
}

/// Returns READ DVD STRUCTURE data: physical format and copyright (MMC-6 6.24).
///
/// # Errors
/// The medium is a CD, or the format needs a physical disc.
pub fn dvd_structure(lun: &Lun, format: u8) -> Result<Vec<u8>, Sense> {
    if profile(lun) != DVD_ROM {
        return Err(Sense::field(7));
    }
    let body = match format {
        0 => {
            let mut body = vec![0; 2 + 2048];
            // DVD-ROM, part version 1; 120 mm, rate not specified; one layer, parallel, embossed.
            body[2..6].copy_from_slice(&[0x01, 0x0f, 0x01, 0]);
            let last = 0x0003_0000u32.saturating_add(blocks(lun)).saturating_sub(1).to_be_bytes();
            body[6..10].copy_from_slice(&0x0003_0000u32.to_be_bytes());
            body[10..14].copy_from_slice(&last);
            body
        }
        // No copyright protection, no regions.
        1 => vec![0; 2 + 4],
        _ => return Err(Sense::field(7)),
    };
    Ok(with_length(&body))
}

/// Returns MECHANISM STATUS data: an idle drive without a changer (MMC-6 6.11).
pub fn mechanism() -> Vec<u8> {
    vec![0, 0, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::super::medium::{DeviceKind, UnitIdentity};
    use super::*;

    fn disc_of(blocks: u64) -> Lun {
        Lun::new(DeviceKind::Cdrom, blocks * 2048, UnitIdentity::from_seed(b""))
    }

    #[test]
    fn a_toc_has_one_track_and_the_lead_out() {
        let lun = disc_of(1000);
        let whole = toc(&lun, false, 0, 0).unwrap();
        assert_eq!(whole, [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 3, 0xe8]);
        let end = toc(&lun, true, 0, LEAD_OUT).unwrap();
        assert_eq!(end, [0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 15, 25]);
        assert_eq!(toc(&lun, false, 1, 0).unwrap(), [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0]);
        assert_eq!(toc(&lun, true, 2, 1).unwrap().len(), 4 + 4 * 11);
        assert_eq!(toc(&lun, false, 0, 2), Err(Sense::field(6)));
        assert_eq!(toc(&lun, false, 4, 0), Err(Sense::field(2)));
    }

    #[test]
    fn the_size_determines_the_profile() {
        for (blocks, wanted) in [(MAX_CD_BLOCKS, [0, 8]), (MAX_CD_BLOCKS + 1, [0, 16])] {
            let data = configuration(&disc_of(blocks), true, 0, 0).unwrap();
            assert_eq!(data[6..8], wanted);
            let length = u32::from_be_bytes([data[0], data[1], data[2], data[3]]);
            assert_eq!(usize::try_from(length).unwrap() + 4, data.len());
        }
        let core = configuration(&disc_of(1), true, 2, 1).unwrap();
        assert_eq!(core[8..12], [0, 1, 0x0b, 8]);
        assert_eq!(configuration(&disc_of(1), false, 2, 1).unwrap()[6..8], [0, 0]);
    }

    #[test]
    fn only_the_medium_has_events() {
        assert_eq!(events(true, true, 0x10).unwrap(), [0, 6, 4, 0x10, 0, 2, 0, 0]);
        assert_eq!(events(false, true, 0xff).unwrap(), [0, 6, 4, 0x10, 0, 1, 0, 0]);
        assert_eq!(events(true, true, 0x02).unwrap(), [0, 2, 0x80, 0x10]);
        assert_eq!(events(true, false, 0x10), Err(Sense::field(1)));
    }

    #[test]
    fn disc_and_track_describe_one_finished_session() {
        let disc = disc(0).unwrap();
        assert_eq!(disc[..8], [0, 32, 0x0e, 1, 1, 1, 1, 0x20]);
        let lun = disc_of(77);
        for (by, address) in [(0, 76), (1, 1), (2, 1)] {
            let track = track(&lun, by, address).unwrap();
            assert_eq!((track.len(), track[27]), (36, 77));
        }
        assert_eq!(track(&lun, 0, 77), Err(Sense::OUT_OF_RANGE));
        assert_eq!(track(&lun, 1, 2), Err(Sense::field(2)));
    }

    #[test]
    fn a_dvd_has_a_physical_format_and_a_cd_has_none() {
        let data = dvd_structure(&disc_of(MAX_CD_BLOCKS + 1), 0).unwrap();
        assert_eq!((data.len(), data[..2].to_vec()), (2052, vec![8, 2]));
        assert_eq!(dvd_structure(&disc_of(5), 0), Err(Sense::field(7)));
    }
}
