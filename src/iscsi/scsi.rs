//! The execution of commands on the units of a session: a CDB becomes an outcome.

use super::cdb::{self, ScsiCommand};
use super::command::Cdb;
use super::medium::{ByteRange, DeviceKind, Lun};
use super::sense::Sense;
use super::{mmc, mode_sense, opcodes, spc};

/// The outcome of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandOutcome {
    /// GOOD, without data.
    Good,
    /// GOOD, with parameter data truncated to the allocation length.
    Data(Vec<u8>),
    /// GOOD, with a byte range of the unit with this number.
    Read(u8, ByteRange),
    /// Data-Out that is compared with a byte range of the unit with this number.
    Compare(u8, ByteRange),
    /// CHECK CONDITION.
    Check(Sense),
}

/// The state of a unit in one session: the tray and the lock belong to its initiator.
#[derive(Debug)]
struct UnitState {
    number: u8,
    lun: Lun,
    loaded: bool,
    locked: bool,
}

/// The units of a target in one session.
#[derive(Debug)]
pub struct LogicalUnits {
    name: String,
    units: Vec<UnitState>,
}

impl LogicalUnits {
    /// Creates units with their numbers, for the target of this name.
    #[must_use]
    pub fn new(name: &str, luns: impl IntoIterator<Item = (u8, Lun)>) -> Self {
        let units =
            luns.into_iter().map(|(number, lun)| UnitState { number, lun, loaded: true, locked: false }).collect();
        Self { name: name.to_owned(), units }
    }

    /// Returns the unit with this number.
    #[must_use]
    pub fn lun(&self, number: u8) -> Option<&Lun> {
        self.units.iter().find(|unit| unit.number == number).map(|unit| &unit.lun)
    }

    /// Resets trays and locks, of one unit or of all.
    pub fn reset(&mut self, number: Option<u8>) {
        for unit in self.units.iter_mut().filter(|unit| number.is_none_or(|number| number == unit.number)) {
            unit.loaded = true;
            unit.locked = false;
        }
    }

    /// Executes a command on the unit that a LUN field addresses.
    pub fn execute(&mut self, lun: [u8; 8], cdb: &Cdb) -> CommandOutcome {
        let number = number_of(lun);
        let Some(at) = self.units.iter().position(|unit| Some(unit.number) == number) else {
            return self.without_unit(cdb).unwrap_or_else(CommandOutcome::Check);
        };
        let command = match cdb::parse(cdb, self.units[at].lun.kind) {
            Ok(ScsiCommand::ReportLuns { select, room }) => {
                return self.report(select, room).unwrap_or_else(CommandOutcome::Check);
            }
            Ok(command) => command,
            Err(sense) => return CommandOutcome::Check(sense),
        };
        self.units[at].execute(command, &self.name).unwrap_or_else(CommandOutcome::Check)
    }

    fn report(&self, select: u8, room: usize) -> Result<CommandOutcome, Sense> {
        Ok(cut(spc::luns(self.units.iter().map(|unit| unit.number), select)?, room))
    }

    /// Answers for a number without a unit (SPC-4 5.11).
    fn without_unit(&self, cdb: &Cdb) -> Result<CommandOutcome, Sense> {
        match cdb::parse(cdb, DeviceKind::Disk) {
            Ok(ScsiCommand::Inquiry { page: None, room }) => Ok(cut(spc::standard(None), room)),
            Ok(ScsiCommand::ReportLuns { select, room }) => self.report(select, room),
            Ok(ScsiCommand::RequestSense { descriptor, room }) => Ok(cut(written(Sense::NO_UNIT, descriptor), room)),
            _ => Err(Sense::NO_UNIT),
        }
    }
}

/// Returns the unit number of a LUN field: peripheral or flat addressing, first level (SAM-5 4.7).
#[must_use]
pub fn number_of(lun: [u8; 8]) -> Option<u8> {
    match lun {
        [0x00 | 0x40, number, 0, 0, 0, 0, 0, 0] => Some(number),
        _ => None,
    }
}

fn written(sense: Sense, descriptor: bool) -> Vec<u8> {
    if descriptor { sense.descriptor().to_vec() } else { sense.fixed().to_vec() }
}

fn cut(mut data: Vec<u8>, room: usize) -> CommandOutcome {
    data.truncate(room);
    CommandOutcome::Data(data)
}

impl UnitState {
    fn execute(&mut self, command: ScsiCommand, target: &str) -> Result<CommandOutcome, Sense> {
        match command {
            ScsiCommand::Inquiry { page: None, room } => Ok(cut(spc::standard(Some(&self.lun)), room)),
            ScsiCommand::Inquiry { page: Some(page), room } => Ok(cut(spc::vital(&self.lun, target, page)?, room)),
            ScsiCommand::RequestSense { descriptor, room } => {
                let sense = if self.loaded { Sense::NONE } else { Sense::NO_MEDIUM };
                Ok(cut(written(sense, descriptor), room))
            }
            ScsiCommand::ReportOpcodes { options, opcode, action, timeouts, room } => {
                Ok(cut(opcodes::report(self.lun.kind, options, opcode, action, timeouts)?, room))
            }
            ScsiCommand::ModeSense { ten, no_descriptor, control, page, subpage, room } => {
                let asked = mode_sense::RequestedPages { ten, no_descriptor, control, page, subpage };
                Ok(cut(mode_sense::sense(&self.lun, asked)?, room))
            }
            ScsiCommand::StartStop { start, eject, power } => self.start_stop(start, eject, power),
            ScsiCommand::Prevent(locked) => {
                self.locked = locked;
                Ok(CommandOutcome::Good)
            }
            ScsiCommand::Configuration { which, first, room } => {
                Ok(cut(mmc::configuration(&self.lun, self.loaded, which, first)?, room))
            }
            ScsiCommand::EventStatus { polled, classes, room } => {
                Ok(cut(mmc::events(self.loaded, polled, classes)?, room))
            }
            ScsiCommand::MechanismStatus { room } => Ok(cut(mmc::mechanism(), room)),
            ScsiCommand::Nothing => Ok(CommandOutcome::Good),
            _ if !self.loaded => Err(Sense::NO_MEDIUM),
            medium => self.on_medium(medium),
        }
    }

    /// Executes the commands that need the medium.
    fn on_medium(&self, command: ScsiCommand) -> Result<CommandOutcome, Sense> {
        let span = |start, blocks| self.lun.span(start, blocks).ok_or(Sense::OUT_OF_RANGE);
        match command {
            ScsiCommand::Read { start, blocks } => Ok(CommandOutcome::Read(self.number, span(start, blocks)?)),
            ScsiCommand::Touch { start, blocks } => span(start, blocks).map(|_| CommandOutcome::Good),
            ScsiCommand::Compare { start, blocks } => Ok(CommandOutcome::Compare(self.number, span(start, blocks)?)),
            ScsiCommand::ReadCapacity10 => Ok(CommandOutcome::Data(spc::capacity_10(&self.lun))),
            ScsiCommand::ReadCapacity16 { room } => Ok(cut(spc::capacity_16(&self.lun), room)),
            ScsiCommand::ReadToc { msf, format, track, room } => {
                Ok(cut(mmc::toc(&self.lun, msf, format, track)?, room))
            }
            ScsiCommand::DiscInformation { kind, room } => Ok(cut(mmc::disc(kind)?, room)),
            ScsiCommand::TrackInformation { by, address, room } => Ok(cut(mmc::track(&self.lun, by, address)?, room)),
            ScsiCommand::DvdStructure { format, room } => Ok(cut(mmc::dvd_structure(&self.lun, format)?, room)),
            ScsiCommand::Write => Err(Sense::WRITE_PROTECTED),
            // All but TEST UNIT READY need no medium and were handled before.
            ScsiCommand::TestUnitReady
            | ScsiCommand::RequestSense { .. }
            | ScsiCommand::Inquiry { .. }
            | ScsiCommand::ReportLuns { .. }
            | ScsiCommand::ReportOpcodes { .. }
            | ScsiCommand::ModeSense { .. }
            | ScsiCommand::StartStop { .. }
            | ScsiCommand::Prevent(_)
            | ScsiCommand::Nothing
            | ScsiCommand::Configuration { .. }
            | ScsiCommand::EventStatus { .. }
            | ScsiCommand::MechanismStatus { .. } => Ok(CommandOutcome::Good),
        }
    }

    /// Executes START STOP UNIT: an open tray has no medium until it closes (MMC-6 6.42, SBC-3 5.25).
    fn start_stop(&mut self, start: bool, eject: bool, power: u8) -> Result<CommandOutcome, Sense> {
        if power != 0 || !eject || self.lun.kind == DeviceKind::Disk {
            return Ok(CommandOutcome::Good);
        }
        if !start && self.locked {
            return Err(Sense::REMOVAL_PREVENTED);
        }
        self.loaded = start;
        Ok(CommandOutcome::Good)
    }
}

#[cfg(test)]
mod tests {
    use super::super::medium::UnitIdentity;
    use super::*;

    fn units() -> LogicalUnits {
        let lun = |kind, bytes| Lun::new(kind, bytes, UnitIdentity::from_seed(b"iso"));
        LogicalUnits::new(
            "iqn.2026-11.org.bootlatch:iso",
            [(0, lun(DeviceKind::Cdrom, 20480)), (1, lun(DeviceKind::Disk, 20480))],
        )
    }

    fn run(units: &mut LogicalUnits, lun: u8, bytes: &[u8]) -> CommandOutcome {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        units.execute([0, lun, 0, 0, 0, 0, 0, 0], &cdb)
    }

    #[test]
    fn a_read_is_a_range_or_out_of_range() {
        let mut units = units();
        let CommandOutcome::Read(1, span) = run(&mut units, 1, &[0x28, 0, 0, 0, 0, 39, 0, 0, 1, 0]) else {
            panic!("no read")
        };
        assert_eq!((span.offset(), span.length()), (39 * 512, 512));
        for cdb in
            [&[0x28, 0, 0, 0, 0, 39, 0, 0, 2, 0][..], &[0x88, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 1]]
        {
            assert_eq!(run(&mut units, 1, cdb), CommandOutcome::Check(Sense::OUT_OF_RANGE));
        }
    }

    #[test]
    fn a_write_fails_with_write_protect_sense() {
        let mut units = units();
        for opcode in [0x04, 0x0a, 0x2a, 0x2e, 0x41, 0x42, 0x8a, 0x93, 0xaa] {
            for lun in [0, 1] {
                assert_eq!(run(&mut units, lun, &[opcode]), CommandOutcome::Check(Sense::WRITE_PROTECTED));
            }
        }
    }

    #[test]
    fn a_number_without_a_unit_is_reported() {
        let mut units = units();
        let CommandOutcome::Data(data) = run(&mut units, 5, &[0x12, 0, 0, 0, 36, 0]) else { panic!("no data") };
        assert_eq!((data[0], data.len()), (0x7f, 36));
        let CommandOutcome::Data(data) = run(&mut units, 5, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0]) else {
            panic!("no data")
        };
        assert_eq!(data.len(), 24);
        for cdb in [&[0u8][..], &[0x28], &[0x12, 1, 0x80, 0, 255]] {
            assert_eq!(run(&mut units, 5, cdb), CommandOutcome::Check(Sense::NO_UNIT));
        }
        assert_eq!(units.execute([0x01, 0, 0, 0, 0, 0, 0, 0], &[0; 16]), CommandOutcome::Check(Sense::NO_UNIT));
    }

    #[test]
    fn a_tray_opens_unless_it_is_locked() {
        let mut units = units();
        let (eject, load) = (&[0x1b, 0, 0, 0, 2, 0], &[0x1b, 0, 0, 0, 3, 0]);
        assert_eq!(run(&mut units, 0, &[0x1e, 0, 0, 0, 1, 0]), CommandOutcome::Good);
        assert_eq!(run(&mut units, 0, eject), CommandOutcome::Check(Sense::REMOVAL_PREVENTED));
        assert_eq!(run(&mut units, 0, &[0x1e, 0, 0, 0, 0, 0]), CommandOutcome::Good);
        assert_eq!(run(&mut units, 0, eject), CommandOutcome::Good);
        assert_eq!(run(&mut units, 0, &[0]), CommandOutcome::Check(Sense::NO_MEDIUM));
        assert_eq!(run(&mut units, 0, load), CommandOutcome::Good);
        assert_eq!(run(&mut units, 0, &[0]), CommandOutcome::Good);
    }
}
