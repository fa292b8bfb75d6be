//! Directory records and directories, written (ECMA-119 9.1, 6.8; SUSP 1.12; RRIP 1.10 and 1.12).

use super::descriptor::SECTOR;
use super::record::HEAD;
use crate::iso::endian::{both16, both32};

/// Is a time stamp as directory records have it (ECMA-119 9.1.5).
pub type Stamp = [u8; 7];

/// Is what a directory record says.
#[derive(Debug, Clone)]
pub struct NewRecord<'a> {
    pub identifier: &'a [u8],
    /// Is the sector where the data begin.
    pub sector: u32,
    pub length: u32,
    pub directory: bool,
    pub stamp: Stamp,
    pub system_use: &'a [u8],
}

impl NewRecord<'_> {
    /// Writes the record; nothing where it would be longer than the 254 bytes that one may have.
    pub fn write(&self) -> Option<Vec<u8>> {
        let padding = 1 - self.identifier.len() % 2;
        let length = (HEAD + self.identifier.len() + padding + self.system_use.len()).next_multiple_of(2);
        let mut record = vec![u8::try_from(length).ok().filter(|length| *length < 255)?, 0];
        record.extend(both32(self.sector));
        record.extend(both32(self.length));
        record.extend(self.stamp);
        record.extend([if self.directory { 2 } else { 0 }, 0, 0]);
        record.extend(both16(1));
        record.push(self.identifier.len() as u8);
        record.extend(self.identifier);
        record.resize(record.len() + padding, 0);
        record.extend(self.system_use);
        record.resize(length, 0);
        Some(record)
    }
}

/// Lays records out in sectors, which none may cross.
pub fn directory<'a>(records: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let sector = SECTOR as usize;
    let mut data: Vec<u8> = Vec::new();
    for record in records {
        let left = data.len().next_multiple_of(sector) - data.len();
        if left < record.len() {
            data.resize(data.len() + left, 0);
        }
        data.extend(record);
    }
    data.resize(data.len().next_multiple_of(sector).max(sector), 0);
    data
}

/// Writes Rock Ridge's POSIX attributes, in the 36 bytes of RRIP 1.10 or the 44 of 1.12, which add a serial number.
pub fn posix(mode: u32, links: u32, serial: u32, length: u8) -> Vec<u8> {
    let mut entry = vec![b'P', b'X', length, 1];
    for number in [mode, links, 0, 0, serial] {
        entry.extend(both32(number));
    }
    entry.truncate(usize::from(length));
    entry
}

/// Writes Rock Ridge's alternate name; the name is at most 250 bytes long.
pub fn alternate_name(name: &str) -> Vec<u8> {
    let mut entry = vec![b'N', b'M', 5 + name.len() as u8, 1, 0];
    entry.extend(name.as_bytes());
    entry
}

/// Spells a name for the plain tree: capitals, `;1`, a dot in it, and no letter that ISO 9660 lacks
/// (the hyphen aside, which every reader takes).
pub fn plain_identifier(name: &str) -> Vec<u8> {
    let (base, end) = name.rsplit_once('.').unwrap_or((name, ""));
    let letter = |byte: u8| match byte.to_ascii_uppercase() {
        byte @ (b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-') => byte,
        _ => b'_',
    };
    let mut spelled: Vec<u8> = base.bytes().map(letter).take(20).collect();
    spelled.push(b'.');
    spelled.extend(end.bytes().map(letter).take(8));
    spelled.extend(b";1");
    spelled
}

/// Spells a name for Joliet's tree.
pub fn joliet_identifier(name: &str) -> Vec<u8> {
    name.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::*;

    #[test]
    fn a_record_reads_back() {
        for name in [&b"A.;1"[..], b"AB.;1", &[0]] {
            let new = NewRecord {
                identifier: name,
                sector: 7,
                length: 9,
                directory: false,
                stamp: [0; 7],
                system_use: b"NM\x06\x01\0x",
            };
            let written = new.write().unwrap();
            assert_eq!(written.len() % 2, 0);
            let record = Record::parse(0, &written).unwrap();
            assert_eq!(
                (record.identifier.as_slice(), record.extent.offset, record.extent.length),
                (name, 7 * SECTOR, 9)
            );
            assert_eq!(&record.system_use[..6], b"NM\x06\x01\0x");
        }
    }

    #[test]
    fn no_record_crosses_a_sector() {
        let record = [60; 60];
        let data = directory(std::iter::repeat_n(&record[..], 40));
        assert_eq!(data.len(), 4096);
        assert_eq!((data[34 * 60 - 1], data[34 * 60], data[2048]), (60, 0, 60));
    }

    #[test]
    fn names_are_spelled_as_iso_9660_has_them() {
        assert_eq!(plain_identifier("user-data"), b"USER-DATA.;1");
        assert_eq!(plain_identifier("ks.cfg"), b"KS.CFG;1");
        assert_eq!(plain_identifier("a b.tar.gz"), b"A_B_TAR.GZ;1");
        assert_eq!(joliet_identifier("ks"), [0, b'k', 0, b's']);
    }
}
