//! Parses command descriptor blocks into commands (SPC-4 4.3, SBC-3 5, MMC-6 6).

use super::command::Cdb;
use super::medium::DeviceKind;
use super::opcodes;
use super::sense::Sense;

/// A command of a unit, whose block numbers are not checked against the medium yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScsiCommand {
    /// TEST UNIT READY.
    TestUnitReady,
    /// REQUEST SENSE, in descriptor format if requested.
    RequestSense { descriptor: bool, room: usize },
    /// INQUIRY: standard data, or a page of vital product data.
    Inquiry { page: Option<u8>, room: usize },
    /// REPORT LUNS.
    ReportLuns { select: u8, room: usize },
    /// REPORT SUPPORTED OPERATION CODES.
    ReportOpcodes { options: u8, opcode: u8, action: u16, timeouts: bool, room: usize },
    /// MODE SENSE(6) and (10).
    ModeSense { ten: bool, no_descriptor: bool, control: u8, page: u8, subpage: u8, room: usize },
    /// READ(6), (10), (12), (16), and READ CD of user data.
    Read { start: u64, blocks: u32 },
    /// VERIFY without data, PRE-FETCH, SEEK, SYNCHRONIZE CACHE: only the range is checked.
    Touch { start: u64, blocks: u32 },
    /// VERIFY with data to compare (BYTCHK).
    Compare { start: u64, blocks: u32 },
    /// READ CAPACITY(10).
    ReadCapacity10,
    /// READ CAPACITY(16).
    ReadCapacity16 { room: usize },
    /// START STOP UNIT.
    StartStop { start: bool, eject: bool, power: u8 },
    /// PREVENT ALLOW MEDIUM REMOVAL.
    Prevent(bool),
    /// SET CD SPEED and other commands without an effect.
    Nothing,
    /// A command that writes.
    Write,
    /// READ TOC/PMA/ATIP.
    ReadToc { msf: bool, format: u8, track: u8, room: usize },
    /// GET CONFIGURATION.
    Configuration { which: u8, first: u16, room: usize },
    /// GET EVENT STATUS NOTIFICATION.
    EventStatus { polled: bool, classes: u8, room: usize },
    /// READ DISC INFORMATION.
    DiscInformation { kind: u8, room: usize },
    /// READ TRACK INFORMATION.
    TrackInformation { by: u8, address: u32, room: usize },
    /// READ DVD STRUCTURE.
    DvdStructure { format: u8, room: usize },
    /// MECHANISM STATUS.
    MechanismStatus { room: usize },
}

/// Parses a descriptor block for a unit of this kind.
///
/// # Errors
/// The sense to answer with: an unsupported opcode or an invalid field.
pub fn parse(cdb: &Cdb, kind: DeviceKind) -> Result<ScsiCommand, Sense> {
    if !opcodes::supported(cdb, kind) {
        return Err(Sense::OPCODE);
    }
    // NACA: auto contingent allegiance is not supported (SAM-5 5.2).
    let control = control_byte(cdb[0]);
    if cdb[control] & 0x04 != 0 {
        return Err(Sense::field(u16::try_from(control).unwrap_or(0)));
    }
    if kind == DeviceKind::Disk && cdb[1] & cache_bits(cdb[0]) != 0 {
        return Err(Sense::field(1));
    }
    match cdb[0] {
        0x00 | 0x03 | 0x12 | 0x1a | 0x1b | 0x1e | 0x5a | 0xa0 | 0xa3 => primary(cdb),
        0x08 | 0x25 | 0x28 | 0x2b | 0x2f | 0x34 | 0x35 | 0x88 | 0x8f | 0x90 | 0x91 | 0x9e | 0xa8 | 0xaf => block(cdb),
        0x43 | 0x46 | 0x4a | 0x51 | 0x52 | 0xad | 0xbb | 0xbd | 0xbe => multimedia(cdb),
        _ => Ok(ScsiCommand::Write),
    }
}

fn primary(cdb: &Cdb) -> Result<ScsiCommand, Sense> {
    Ok(match cdb[0] {
        0x00 => ScsiCommand::TestUnitReady,
        0x03 => ScsiCommand::RequestSense { descriptor: cdb[1] & 1 != 0, room: cdb[4].into() },
        0x12 => inquiry(cdb)?,
        0x1a => mode_sense(cdb, false, cdb[4].into()),
        0x5a => mode_sense(cdb, true, half(cdb, 7).into()),
        0x1b => ScsiCommand::StartStop { start: cdb[4] & 1 != 0, eject: cdb[4] & 2 != 0, power: cdb[4] >> 4 },
        0x1e => ScsiCommand::Prevent(cdb[4] & 1 != 0),
        0xa0 => ScsiCommand::ReportLuns { select: cdb[2], room: room(cdb, 6) },
        _ => ScsiCommand::ReportOpcodes {
            options: cdb[2] & 7,
            opcode: cdb[3],
            action: half(cdb, 4),
            timeouts: cdb[2] & 0x80 != 0,
            room: room(cdb, 6),
        },
    })
}

fn inquiry(cdb: &Cdb) -> Result<ScsiCommand, Sense> {
    let vital = cdb[1] & 1 != 0;
    // CMDDT is obsolete; a page code is invalid without EVPD (SPC-4 6.4.1).
    if cdb[1] & 2 != 0 {
        return Err(Sense::field(1));
    }
    if !vital && cdb[2] != 0 {
        return Err(Sense::field(2));
    }
    Ok(ScsiCommand::Inquiry { page: vital.then_some(cdb[2]), room: half(cdb, 3).into() })
}

fn mode_sense(cdb: &Cdb, ten: bool, room: usize) -> ScsiCommand {
    ScsiCommand::ModeSense {
        ten,
        no_descriptor: cdb[1] & 8 != 0,
        control: cdb[2] >> 6,
        page: cdb[2] & 0x3f,
        subpage: cdb[3],
        room,
    }
}

fn block(cdb: &Cdb) -> Result<ScsiCommand, Sense> {
    let ten = (word(cdb, 2).into(), half(cdb, 7).into());
    let twelve = (word(cdb, 2).into(), word(cdb, 6));
    let sixteen = (long(cdb, 2), word(cdb, 10));
    Ok(match cdb[0] {
        0x08 => {
            let start = u64::from(word(cdb, 0) & 0x001f_ffff);
            // Length 0 means 256 blocks (SBC-3 5.10).
            let blocks = if cdb[4] == 0 { 256 } else { cdb[4].into() };
            ScsiCommand::Read { start, blocks }
        }
        0x28 => read(cdb, ten)?,
        0xa8 => read(cdb, twelve)?,
        0x88 => read(cdb, sixteen)?,
        0x2f => verify(cdb, ten)?,
        0xaf => verify(cdb, twelve)?,
        0x8f => verify(cdb, sixteen)?,
        0x34 | 0x35 => ScsiCommand::Touch { start: ten.0, blocks: ten.1 },
        0x90 | 0x91 => ScsiCommand::Touch { start: sixteen.0, blocks: sixteen.1 },
        0x2b => ScsiCommand::Touch { start: ten.0, blocks: 0 },
        0x25 => ScsiCommand::ReadCapacity10,
        _ => ScsiCommand::ReadCapacity16 { room: room(cdb, 10) },
    })
}

fn read(cdb: &Cdb, (start, blocks): (u64, u32)) -> Result<ScsiCommand, Sense> {
    // No unit is formatted with protection information (SBC-3 4.22).
    check_unprotected(cdb)?;
    Ok(ScsiCommand::Read { start, blocks })
}

fn verify(cdb: &Cdb, (start, blocks): (u64, u32)) -> Result<ScsiCommand, Sense> {
    check_unprotected(cdb)?;
    match cdb[1] >> 1 & 3 {
        0 => Ok(ScsiCommand::Touch { start, blocks }),
        1 => Ok(ScsiCommand::Compare { start, blocks }),
        _ => Err(Sense::field(1)),
    }
}

fn check_unprotected(cdb: &Cdb) -> Result<(), Sense> {
    if cdb[1] >> 5 == 0 { Ok(()) } else { Err(Sense::field(1)) }
}

fn multimedia(cdb: &Cdb) -> Result<ScsiCommand, Sense> {
    let room = half(cdb, 7).into();
    Ok(match cdb[0] {
        0x43 => {
            // SFF-8020 drivers put the format into the control byte.
            let format = if cdb[2] & 0x0f == 0 { cdb[9] >> 6 } else { cdb[2] & 0x0f };
            ScsiCommand::ReadToc { msf: cdb[1] & 2 != 0, format, track: cdb[6], room }
        }
        0x46 => ScsiCommand::Configuration { which: cdb[1] & 3, first: half(cdb, 2), room },
        0x4a => ScsiCommand::EventStatus { polled: cdb[1] & 1 != 0, classes: cdb[4], room },
        0x51 => ScsiCommand::DiscInformation { kind: cdb[1] & 7, room },
        0x52 => ScsiCommand::TrackInformation { by: cdb[1] & 3, address: word(cdb, 2), room },
        0xad => ScsiCommand::DvdStructure { format: cdb[7], room: half(cdb, 8).into() },
        0xbd => ScsiCommand::MechanismStatus { room: half(cdb, 8).into() },
        0xbe => return read_cd(cdb),
        _ => ScsiCommand::Nothing,
    })
}

/// Parses READ CD. The sectors are mode 1, and their user data is the image's (MMC-6 6.19).
fn read_cd(cdb: &Cdb) -> Result<ScsiCommand, Sense> {
    if !matches!(cdb[1] >> 2 & 7, 0 | 2) {
        return Err(Sense::field(1));
    }
    if cdb[10] & 7 != 0 {
        return Err(Sense::field(10));
    }
    let blocks = word(cdb, 5) & 0x00ff_ffff;
    match cdb[9] & 0xfe {
        0x00 => Ok(ScsiCommand::Touch { start: word(cdb, 2).into(), blocks }),
        0x10 => Ok(ScsiCommand::Read { start: word(cdb, 2).into(), blocks }),
        _ => Err(Sense::field(9)),
    }
}

/// Returns the DPO and FUA bits of a command. By its mode sense data a disk supports neither (SBC-3 6.5.1).
fn cache_bits(opcode: u8) -> u8 {
    match opcode {
        0x28 | 0x2a | 0x88 | 0x89 | 0x8a | 0x8b | 0xa8 | 0xaa => 0x18,
        0x2e | 0x2f | 0x8e | 0x8f | 0xae | 0xaf => 0x10,
        _ => 0,
    }
}

/// Returns the offset of the control byte of a CDB, by the group of its opcode (SPC-4 4.3.5).
fn control_byte(opcode: u8) -> usize {
    match opcode >> 5 {
        0 => 5,
        1 | 2 => 9,
        4 => 15,
        _ => 11,
    }
}

fn half(cdb: &Cdb, at: usize) -> u16 {
    u16::from_be_bytes([cdb[at], cdb[at + 1]])
}

fn word(cdb: &Cdb, at: usize) -> u32 {
    u32::from_be_bytes([cdb[at], cdb[at + 1], cdb[at + 2], cdb[at + 3]])
}

fn long(cdb: &Cdb, at: usize) -> u64 {
    u64::from(word(cdb, at)) << 32 | u64::from(word(cdb, at + 4))
}

fn room(cdb: &Cdb, at: usize) -> usize {
    usize::try_from(word(cdb, at)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], kind: DeviceKind, wanted: Result<ScsiCommand, Sense>) {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        assert_eq!(parse(&cdb, kind), wanted, "{bytes:02x?}");
    }

    #[test]
    fn reads_of_every_length_are_parsed() {
        for (bytes, start, blocks) in [
            (&[0x08, 0xff, 0x02, 0x03, 0, 0][..], 0x001f_0203, 256),
            (&[0x08, 0, 0, 1, 7, 0], 1, 7),
            (&[0x28, 0, 1, 2, 3, 4, 0, 5, 6, 0], 0x0102_0304, 0x0506),
            (&[0xa8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0], 0x0102_0304, 0x0506_0708),
            (&[0x88, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0], 0x0102_0304_0506_0708, 0x090a_0b0c),
        ] {
            check(bytes, DeviceKind::Disk, Ok(ScsiCommand::Read { start, blocks }));
        }
    }

    #[test]
    fn invalid_fields_are_pointed_at() {
        for (bytes, kind, wanted) in [
            (&[0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0][..], DeviceKind::Disk, Sense::field(1)),
            (&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 4], DeviceKind::Disk, Sense::field(9)),
            (&[0x28, 0x10, 0, 0, 0, 0, 0, 0, 1, 0], DeviceKind::Disk, Sense::field(1)),
            (&[0x2f, 0x06, 0, 0, 0, 0, 0, 0, 1, 0], DeviceKind::Disk, Sense::field(1)),
            (&[0x12, 0, 0x80, 0, 96, 0], DeviceKind::Disk, Sense::field(2)),
            (&[0x12, 2, 0, 0, 96, 0], DeviceKind::Disk, Sense::field(1)),
            (&[0x2f, 4, 0, 0, 0, 0, 0, 0, 1, 0], DeviceKind::Disk, Sense::field(1)),
            (&[0xbe, 4, 0, 0, 0, 0, 0, 0, 1, 0x10, 0, 0], DeviceKind::Cdrom, Sense::field(1)),
            (&[0xbe, 0, 0, 0, 0, 0, 0, 0, 1, 0xf8, 0, 0], DeviceKind::Cdrom, Sense::field(9)),
            (&[0x43, 0], DeviceKind::Disk, Sense::OPCODE),
            (&[0x7f, 0], DeviceKind::Disk, Sense::OPCODE),
            (&[0xa3, 0x1f], DeviceKind::Disk, Sense::OPCODE),
        ] {
            check(bytes, kind, Err(wanted));
        }
    }

    #[test]
    fn writing_commands_are_writes_on_every_kind() {
        for opcode in [0x04u8, 0x0a, 0x2a, 0x2e, 0x41, 0x42, 0x8a, 0x93, 0xaa] {
            for kind in [DeviceKind::Cdrom, DeviceKind::Disk] {
                check(&[opcode], kind, Ok(ScsiCommand::Write));
            }
        }
    }
}
