//! The supported commands of each kind of unit, and the report of them (SPC-4 6.35).

use super::command::Cdb;
use super::medium::DeviceKind;
use super::sense::Sense;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OfferedBy {
    Both,
    Disk,
    Cdrom,
}

/// One command: opcode, optional service action, the kinds that support it, and the CDB bits that are evaluated.
struct OpcodeRow {
    code: u8,
    action: Option<u8>,
    has: OfferedBy,
    usage: &'static [u8],
}

const fn row(has: OfferedBy, usage: &'static [u8]) -> OpcodeRow {
    OpcodeRow { code: usage[0], action: None, has, usage }
}

const fn action(has: OfferedBy, usage: &'static [u8]) -> OpcodeRow {
    OpcodeRow { code: usage[0], action: Some(usage[1] & 0x1f), has, usage }
}

const FF: u8 = 0xff;

/// Ordered by opcode. The usage data is a bit map of the CDB, except for the opcode and service action themselves.
const ROWS: &[OpcodeRow] = &[
    row(OfferedBy::Both, &[0x00, 0, 0, 0, 0, 4]),
    row(OfferedBy::Both, &[0x03, 1, 0, 0, FF, 4]),
    row(OfferedBy::Both, &[0x04, FF, FF, FF, FF, 4]),
    row(OfferedBy::Both, &[0x08, 0x1f, FF, FF, FF, 4]),
    row(OfferedBy::Both, &[0x0a, 0x1f, FF, FF, FF, 4]),
    row(OfferedBy::Both, &[0x12, 1, FF, FF, FF, 4]),
    row(OfferedBy::Both, &[0x1a, 8, FF, FF, FF, 4]),
    row(OfferedBy::Both, &[0x1b, 1, 0, 0x0f, 0xf7, 4]),
    row(OfferedBy::Both, &[0x1e, 0, 0, 0, 1, 4]),
    row(OfferedBy::Both, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 4]),
    row(OfferedBy::Both, &[0x28, 0, FF, FF, FF, FF, 0x1f, FF, FF, 4]),
    row(OfferedBy::Both, &[0x2a, 0, FF, FF, FF, FF, 0x1f, FF, FF, 4]),
    row(OfferedBy::Cdrom, &[0x2b, 0, FF, FF, FF, FF, 0, 0, 0, 4]),
    row(OfferedBy::Both, &[0x2e, 6, FF, FF, FF, FF, 0x1f, FF, FF, 4]),
    row(OfferedBy::Both, &[0x2f, 2, FF, FF, FF, FF, 0x1f, FF, FF, 4]),
    row(OfferedBy::Disk, &[0x34, 2, FF, FF, FF, FF, 0x1f, FF, FF, 4]),
    row(OfferedBy::Both, &[0x35, 2, FF, FF, FF, FF, 0x1f, FF, FF, 4]),
    row(OfferedBy::Both, &[0x41, 0, FF, FF, FF, FF, 0x1f, FF, FF, 4]),
    row(OfferedBy::Both, &[0x42, 1, 0, 0, 0, 0, 0x1f, FF, FF, 4]),
    row(OfferedBy::Cdrom, &[0x43, 2, 0x0f, 0, 0, 0, FF, FF, FF, 0xc4]),
    row(OfferedBy::Cdrom, &[0x46, 3, FF, FF, 0, 0, 0, FF, FF, 4]),
    row(OfferedBy::Cdrom, &[0x4a, 1, 0, 0, FF, 0, 0, FF, FF, 4]),
    row(OfferedBy::Cdrom, &[0x51, 7, 0, 0, 0, 0, 0, FF, FF, 4]),
    row(OfferedBy::Cdrom, &[0x52, 3, FF, FF, FF, FF, 0, FF, FF, 4]),
    row(OfferedBy::Both, &[0x5a, 8, FF, FF, 0, 0, 0, FF, FF, 4]),
    row(OfferedBy::Both, &[0x88, 0, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, 0x1f, 4]),
    row(OfferedBy::Disk, &[0x89, 0, FF, FF, FF, FF, FF, FF, FF, FF, 0, 0, 0, FF, 0x1f, 4]),
    row(OfferedBy::Both, &[0x8a, 0, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, 0x1f, 4]),
    row(OfferedBy::Disk, &[0x8b, 0, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, 0x1f, 4]),
    row(OfferedBy::Disk, &[0x8e, 6, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, 0x1f, 4]),
    row(OfferedBy::Disk, &[0x8f, 2, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, 0x1f, 4]),
    row(OfferedBy::Disk, &[0x90, 2, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, 0x1f, 4]),
    row(OfferedBy::Disk, &[0x91, 2, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, 0x1f, 4]),
    row(OfferedBy::Both, &[0x93, 0x19, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, FF, 0x1f, 4]),
    action(OfferedBy::Both, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, FF, FF, FF, FF, 0, 4]),
    row(OfferedBy::Both, &[0xa0, 0, FF, 0, 0, 0, FF, FF, FF, FF, 0, 4]),
    action(OfferedBy::Both, &[0xa3, 0x0c, 0x87, FF, FF, FF, FF, FF, FF, FF, 0, 4]),
    row(OfferedBy::Both, &[0xa8, 0, FF, FF, FF, FF, FF, FF, FF, FF, 0x1f, 4]),
    row(OfferedBy::Both, &[0xaa, 0, FF, FF, FF, FF, FF, FF, FF, FF, 0x1f, 4]),
    row(OfferedBy::Cdrom, &[0xad, 0x0f, FF, FF, FF, FF, FF, FF, FF, FF, 0xc0, 4]),
    row(OfferedBy::Disk, &[0xae, 6, FF, FF, FF, FF, FF, FF, FF, FF, 0x1f, 4]),
    row(OfferedBy::Disk, &[0xaf, 2, FF, FF, FF, FF, FF, FF, FF, FF, 0x1f, 4]),
    row(OfferedBy::Cdrom, &[0xbb, 3, FF, FF, FF, FF, 0, 0, 0, 0, 0, 4]),
    row(OfferedBy::Cdrom, &[0xbd, 0, 0, 0, 0, 0, 0, 0, FF, FF, 0, 4]),
    row(OfferedBy::Cdrom, &[0xbe, 0x1c, FF, FF, FF, FF, FF, FF, FF, 0xfe, 7, 4]),
];

fn rows(kind: DeviceKind) -> impl Iterator<Item = &'static OpcodeRow> {
    ROWS.iter().filter(move |row| match row.has {
        OfferedBy::Both => true,
        OfferedBy::Disk => kind == DeviceKind::Disk,
        OfferedBy::Cdrom => kind == DeviceKind::Cdrom,
    })
}

/// Returns whether units of this kind support the command.
pub fn supported(cdb: &Cdb, kind: DeviceKind) -> bool {
    rows(kind).any(|row| row.code == cdb[0] && row.action.is_none_or(|action| action == cdb[1] & 0x1f))
}

/// Returns the parameter data of REPORT SUPPORTED OPERATION CODES.
///
/// # Errors
/// The reporting options do not fit the command (SPC-4 6.35.1).
pub fn report(kind: DeviceKind, options: u8, code: u8, action: u16, timeouts: bool) -> Result<Vec<u8>, Sense> {
    let same: Vec<&OpcodeRow> = rows(kind).filter(|row| row.code == code).collect();
    let actions = same.iter().any(|row| row.action.is_some());
    let one = |row: Option<&OpcodeRow>| Ok(one(row, timeouts));
    match options {
        0 => Ok(all(kind, timeouts)),
        1 if actions => Err(Sense::field(2)),
        1 => one(same.first().copied()),
        2 if !actions && !same.is_empty() => Err(Sense::field(2)),
        2 | 3 => one(same.into_iter().find(|row| u16::from(row.action.unwrap_or(0)) == action)),
        _ => Err(Sense::field(2)),
    }
}

fn all(kind: DeviceKind, timeouts: bool) -> Vec<u8> {
    let mut data = vec![0; 4];
    for row in rows(kind) {
        let flags = u8::from(timeouts) << 1 | u8::from(row.action.is_some());
        data.extend([row.code, 0, 0, row.action.unwrap_or(0), 0, flags, 0, length(row)]);
        if timeouts {
            data.extend(TIMEOUTS);
        }
    }
    let length = u32::try_from(data.len() - 4).unwrap_or(0);
    data[..4].copy_from_slice(&length.to_be_bytes());
    data
}

fn one(row: Option<&OpcodeRow>, timeouts: bool) -> Vec<u8> {
    let Some(row) = row else {
        // SUPPORT 001b: not supported.
        return vec![0, 1, 0, 0];
    };
    let mut data = vec![0, u8::from(timeouts) << 7 | 3, 0, length(row)];
    data.extend(row.usage);
    if timeouts {
        data.extend(TIMEOUTS);
    }
    data
}

/// A command timeouts descriptor without timeouts (SPC-4 6.35.4).
const TIMEOUTS: [u8; 12] = [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn length(row: &OpcodeRow) -> u8 {
    u8::try_from(row.usage.len()).unwrap_or(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ordered_and_its_lengths_fit_their_group() {
        assert!(ROWS.is_sorted_by_key(|row| row.code));
        for row in ROWS {
            let length = match row.code >> 5 {
                0 => 6,
                1 | 2 => 10,
                4 => 16,
                _ => 12,
            };
            assert_eq!(row.usage.len(), length, "{:02x}", row.code);
        }
    }

    #[test]
    fn one_command_is_reported_with_its_usage() {
        let read = report(DeviceKind::Disk, 1, 0x08, 0, true).unwrap();
        assert_eq!(read, [0, 0x83, 0, 6, 8, 0x1f, 0xff, 0xff, 0xff, 4, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(report(DeviceKind::Disk, 1, 0x43, 0, false).unwrap(), [0, 1, 0, 0]);
        assert_eq!(report(DeviceKind::Disk, 1, 0x9e, 0x10, false), Err(Sense::field(2)));
        assert_eq!(report(DeviceKind::Disk, 2, 0x9e, 0x10, false).unwrap()[1], 3);
        assert_eq!(report(DeviceKind::Disk, 2, 0x9e, 0x12, false).unwrap()[1], 1);
    }
}
