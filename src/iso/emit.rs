//! Encoding of directory records and directories (ECMA-119 9.1 and 6.8; SUSP 1.12; RRIP 1.10 and 1.12).

use super::descriptor::SECTOR;
use super::endian::{both16, both32};
use super::record::HEAD;
use super::timestamp::RecordTimestamp;

/// The fields of a directory record to be written (ECMA-119 9.1).
#[derive(Debug, Clone)]
pub struct NewRecord<'a> {
    /// File identifier, in the encoding of its tree.
    pub identifier: &'a [u8],
    /// First sector of the content.
    pub sector: u32,
    /// Length of the content in bytes.
    pub length: u32,
    /// Whether the record belongs to a directory.
    pub directory: bool,
    /// Recording date and time.
    pub timestamp: RecordTimestamp,
    /// System use area: the SUSP entries.
    pub system_use: &'a [u8],
}

impl NewRecord<'_> {
    /// Encodes the record. Returns `None` if it would be longer than 254 bytes.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let padding = 1 - self.identifier.len() % 2;
        let length = (HEAD + self.identifier.len() + padding + self.system_use.len()).next_multiple_of(2);
        let mut record = vec![u8::try_from(length).ok().filter(|length| *length < 255)?, 0];
        record.extend(both32(self.sector));
        record.extend(both32(self.length));
        record.extend(self.timestamp);
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

/// Lays records out in sectors. No record crosses the end of its sector (ECMA-119 6.8.1.1).
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

/// Encodes the POSIX attributes of Rock Ridge (`PX`). The length is 36 bytes (RRIP 1.10), or 44 with a file
/// serial number (RRIP 1.12).
pub fn posix_attributes(mode: u32, links: u32, serial: u32, length: u8) -> Vec<u8> {
    let mut entry = vec![b'P', b'X', length, 1];
    for number in [mode, links, 0, 0, serial] {
        entry.extend(both32(number));
    }
    entry.truncate(usize::from(length));
    entry
}

/// Encodes the alternate name of Rock Ridge (`NM`). The name has at most 250 bytes.
pub fn alternate_name(name: &str) -> Vec<u8> {
    let mut entry = vec![b'N', b'M', 5 + name.len() as u8, 1, 0];
    entry.extend(name.as_bytes());
    entry
}

/// Encodes a name for the ISO 9660 tree: upper case, with a dot and the version `;1`. A character outside
/// of ISO 9660's set becomes `_`; the hyphen stays, because every reader accepts it.
pub fn plain_identifier(name: &str) -> Vec<u8> {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let character = |byte: u8| match byte.to_ascii_uppercase() {
        byte @ (b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-') => byte,
        _ => b'_',
    };
    let mut encoded: Vec<u8> = base.bytes().map(character).take(20).collect();
    encoded.push(b'.');
    encoded.extend(extension.bytes().map(character).take(8));
    encoded.extend(b";1");
    encoded
}

/// Encodes a name for the Joliet tree: UCS-2, big-endian.
pub fn joliet_identifier(name: &str) -> Vec<u8> {
    name.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::super::record::DirectoryRecord;
    use super::*;

    #[test]
    fn a_record_reads_back() {
        for name in [&b"A.;1"[..], b"AB.;1", &[0]] {
            let new = NewRecord {
                identifier: name,
                sector: 7,
                length: 9,
                directory: false,
                timestamp: [0; 7],
                system_use: b"NM\x06\x01\0x",
            };
            let encoded = new.encode().unwrap();
            assert_eq!(encoded.len() % 2, 0);
            let record = DirectoryRecord::parse(0, &encoded).unwrap();
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
    fn names_are_encoded_for_iso_9660_and_joliet() {
        assert_eq!(plain_identifier("user-data"), b"USER-DATA.;1");
        assert_eq!(plain_identifier("ks.cfg"), b"KS.CFG;1");
        assert_eq!(plain_identifier("a b.tar.gz"), b"A_B_TAR.GZ;1");
        assert_eq!(joliet_identifier("ks"), [0, b'k', 0, b's']);
    }
}
