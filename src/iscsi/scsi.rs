//! Carries out commands on the units of a session: the one place where a CDB becomes an outcome.

use super::cdb::{self, Cdb, Command};
use super::medium::{Kind, Lun, Span};
use super::sense::Sense;
use super::{mmc, mode, opcodes, spc};

/// Is what a command leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// GOOD, without data.
    Good,
    /// GOOD, with parameter data cut to the room that the initiator gave.
    Data(Vec<u8>),
    /// The bytes of a span of the unit with this number.
    Read(u8, Span),
    /// Data-Out is to be compared with the bytes of a span of the unit with this number.
    Compare(u8, Span),
    /// CHECK CONDITION.
    Check(Sense),
}

/// A unit as one session sees it: its tray and its lock are this initiator's own.
#[derive(Debug)]
struct Unit {
    number: u8,
    lun: Lun,
    loaded: bool,
    locked: bool,
}

/// Holds the units of a target, as one session sees them.
#[derive(Debug)]
pub struct Units {
    name: String,
    units: Vec<Unit>,
}

impl Units {
    /// Shows units under the numbers they are listed with, in the target of this name.
    #[must_use]
    pub fn new(name: &str, luns: impl IntoIterator<Item = (u8, Lun)>) -> Self {
        let units = luns.into_iter().map(|(number, lun)| Unit { number, lun, loaded: true, locked: false }).collect();
        Self { name: name.to_owned(), units }
    }

    /// Gives the unit of this number.
    #[must_use]
    pub fn lun(&self, number: u8) -> Option<&Lun> {
        self.units.iter().find(|unit| unit.number == number).map(|unit| &unit.lun)
    }

    /// Forgets trays and locks, as a reset does.
    pub fn reset(&mut self, number: Option<u8>) {
        for unit in self.units.iter_mut().filter(|unit| number.is_none_or(|number| number == unit.number)) {
            unit.loaded = true;
            unit.locked = false;
        }
    }

    /// Carries out a command on the unit that a LUN field addresses.
    pub fn execute(&mut self, lun: [u8; 8], cdb: &Cdb) -> Outcome {
        let number = number_of(lun);
        let Some(at) = self.units.iter().position(|unit| Some(unit.number) == number) else {
            return self.nobody(cdb).unwrap_or_else(Outcome::Check);
        };
        let command = match cdb::parse(cdb, self.units[at].lun.kind) {
            Ok(Command::ReportLuns { select, room }) => {
                return self.report(select, room).unwrap_or_else(Outcome::Check);
            }
            Ok(command) => command,
            Err(sense) => return Outcome::Check(sense),
        };
        self.units[at].execute(command, &self.name).unwrap_or_else(Outcome::Check)
    }

    fn report(&self, select: u8, room: usize) -> Result<Outcome, Sense> {
        Ok(cut(spc::luns(self.units.iter().map(|unit| unit.number), select)?, room))
    }

    /// Answers for a number where no unit is (SPC-4 5.11).
    fn nobody(&self, cdb: &Cdb) -> Result<Outcome, Sense> {
        match cdb::parse(cdb, Kind::Disk) {
            Ok(Command::Inquiry { page: None, room }) => Ok(cut(spc::standard(None), room)),
            Ok(Command::ReportLuns { select, room }) => self.report(select, room),
            Ok(Command::RequestSense { descriptor, room }) => Ok(cut(written(Sense::NO_UNIT, descriptor), room)),
            _ => Err(Sense::NO_UNIT),
        }
    }
}

/// Gives the number in a LUN field: peripheral or flat addressing, on the first level (SAM-5 4.7).
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

fn cut(mut data: Vec<u8>, room: usize) -> Outcome {
    data.truncate(room);
    Outcome::Data(data)
}

impl Unit {
    fn execute(&mut self, command: Command, target: &str) -> Result<Outcome, Sense> {
        match command {
            Command::Inquiry { page: None, room } => Ok(cut(spc::standard(Some(&self.lun)), room)),
            Command::Inquiry { page: Some(page), room } => Ok(cut(spc::vital(&self.lun, target, page)?, room)),
            Command::RequestSense { descriptor, room } => {
                let sense = if self.loaded { Sense::NONE } else { Sense::NO_MEDIUM };
                Ok(cut(written(sense, descriptor), room))
            }
            Command::ReportOpcodes { options, opcode, action, timeouts, room } => {
                Ok(cut(opcodes::report(self.lun.kind, options, opcode, action, timeouts)?, room))
            }
            Command::ModeSense { ten, no_descriptor, control, page, subpage, room } => {
                let asked = mode::Asked { ten, no_descriptor, control, page, subpage };
                Ok(cut(mode::sense(&self.lun, asked)?, room))
            }
            Command::StartStop { start, eject, power } => self.start_stop(start, eject, power),
            Command::Prevent(locked) => {
                self.locked = locked;
                Ok(Outcome::Good)
            }
            Command::Configuration { which, first, room } => {
                Ok(cut(mmc::configuration(&self.lun, self.loaded, which, first)?, room))
            }
            Command::EventStatus { polled, classes, room } => Ok(cut(mmc::events(self.loaded, polled, classes)?, room)),
            Command::MechanismStatus { room } => Ok(cut(mmc::mechanism(), room)),
            Command::Nothing => Ok(Outcome::Good),
            _ if !self.loaded => Err(Sense::NO_MEDIUM),
            medium => self.on_medium(medium),
        }
    }

    /// The commands that need the medium.
    fn on_medium(&self, command: Command) -> Result<Outcome, Sense> {
        let span = |start, blocks| self.lun.span(start, blocks).ok_or(Sense::OUT_OF_RANGE);
        match command {
            Command::Read { start, blocks } => Ok(Outcome::Read(self.number, span(start, blocks)?)),
            Command::Touch { start, blocks } => span(start, blocks).map(|_| Outcome::Good),
            Command::Compare { start, blocks } => Ok(Outcome::Compare(self.number, span(start, blocks)?)),
            Command::ReadCapacity10 => Ok(Outcome::Data(spc::capacity_10(&self.lun))),
            Command::ReadCapacity16 { room } => Ok(cut(spc::capacity_16(&self.lun), room)),
            Command::ReadToc { msf, format, track, room } => Ok(cut(mmc::toc(&self.lun, msf, format, track)?, room)),
            Command::DiscInformation { kind, room } => Ok(cut(mmc::disc(kind)?, room)),
            Command::TrackInformation { by, address, room } => Ok(cut(mmc::track(&self.lun, by, address)?, room)),
            Command::DvdStructure { format, room } => Ok(cut(mmc::dvd_structure(&self.lun, format)?, room)),
            Command::Write => Err(Sense::WRITE_PROTECTED),
            // TEST UNIT READY; all others need no medium and were answered before.
            _ => Ok(Outcome::Good),
        }
    }

    /// START STOP UNIT: a tray that opens shows no medium until it closes (MMC-6 6.42, SBC-3 5.25).
    fn start_stop(&mut self, start: bool, eject: bool, power: u8) -> Result<Outcome, Sense> {
        if power != 0 || !eject || self.lun.kind == Kind::Disk {
            return Ok(Outcome::Good);
        }
        if !start && self.locked {
            return Err(Sense::REMOVAL_PREVENTED);
        }
        self.loaded = start;
        Ok(Outcome::Good)
    }
}

#[cfg(test)]
mod tests {
    use super::super::medium::Identity;
    use super::*;

    fn units() -> Units {
        let lun = |kind, bytes| Lun::new(kind, bytes, Identity::of(b"iso"));
        Units::new("iqn.2026-11.org.bootlatch:iso", [(0, lun(Kind::Cdrom, 20480)), (1, lun(Kind::Disk, 20480))])
    }

    fn run(units: &mut Units, lun: u8, bytes: &[u8]) -> Outcome {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        units.execute([0, lun, 0, 0, 0, 0, 0, 0], &cdb)
    }

    #[test]
    fn a_read_is_a_span_or_out_of_range() {
        let mut units = units();
        let Outcome::Read(1, span) = run(&mut units, 1, &[0x28, 0, 0, 0, 0, 39, 0, 0, 1, 0]) else { panic!("no read") };
        assert_eq!((span.offset(), span.length()), (39 * 512, 512));
        for cdb in
            [&[0x28, 0, 0, 0, 0, 39, 0, 0, 2, 0][..], &[0x88, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 1]]
        {
            assert_eq!(run(&mut units, 1, cdb), Outcome::Check(Sense::OUT_OF_RANGE));
        }
    }

    #[test]
    fn what_writes_is_refused_with_write_protect_sense() {
        let mut units = units();
        for opcode in [0x04, 0x0a, 0x2a, 0x2e, 0x41, 0x42, 0x8a, 0x93, 0xaa] {
            for lun in [0, 1] {
                assert_eq!(run(&mut units, lun, &[opcode]), Outcome::Check(Sense::WRITE_PROTECTED));
            }
        }
    }

    #[test]
    fn a_number_without_a_unit_says_so() {
        let mut units = units();
        let Outcome::Data(data) = run(&mut units, 5, &[0x12, 0, 0, 0, 36, 0]) else { panic!("no data") };
        assert_eq!((data[0], data.len()), (0x7f, 36));
        let Outcome::Data(data) = run(&mut units, 5, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0]) else { panic!("no data") };
        assert_eq!(data.len(), 24);
        for cdb in [&[0u8][..], &[0x28], &[0x12, 1, 0x80, 0, 255]] {
            assert_eq!(run(&mut units, 5, cdb), Outcome::Check(Sense::NO_UNIT));
        }
        assert_eq!(units.execute([0x01, 0, 0, 0, 0, 0, 0, 0], &[0; 16]), Outcome::Check(Sense::NO_UNIT));
    }

    #[test]
    fn a_tray_opens_unless_it_is_locked() {
        let mut units = units();
        let (eject, load) = (&[0x1b, 0, 0, 0, 2, 0], &[0x1b, 0, 0, 0, 3, 0]);
        assert_eq!(run(&mut units, 0, &[0x1e, 0, 0, 0, 1, 0]), Outcome::Good);
        assert_eq!(run(&mut units, 0, eject), Outcome::Check(Sense::REMOVAL_PREVENTED));
        assert_eq!(run(&mut units, 0, &[0x1e, 0, 0, 0, 0, 0]), Outcome::Good);
        assert_eq!(run(&mut units, 0, eject), Outcome::Good);
        assert_eq!(run(&mut units, 0, &[0]), Outcome::Check(Sense::NO_MEDIUM));
        assert_eq!(run(&mut units, 0, load), Outcome::Good);
        assert_eq!(run(&mut units, 0, &[0]), Outcome::Good);
    }
}
