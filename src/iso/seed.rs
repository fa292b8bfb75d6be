//! NoCloud seeds: small ISO 9660 images with the volume id `cidata`, which cloud-init's NoCloud data source
//! looks for. They have Joliet and Rock Ridge names. The same config results in the same bytes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ViewError;
use super::descriptor::{NameEncoding, SECTOR};
use super::emit::{self, NewRecord};
use super::endian::{both16, both32};
use super::error::ViewResult;
use super::timestamp::RecordTimestamp;

/// Names of the files of a seed. The first two always exist.
pub const SEED_FILES: [&str; 4] = ["meta-data", "user-data", "vendor-data", "network-config"];
/// Maximum length of a file in bytes.
const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;
/// Volume id by which cloud-init finds a seed.
const VOLUME_ID: &str = "cidata";
/// Recording date of every seed (1 January 2026, UTC). The current time would change its bytes.
const TIMESTAMP: RecordTimestamp = [126, 1, 1, 0, 0, 0, 0];
/// The same date in a volume descriptor (ECMA-119 8.4.26.1).
const VOLUME_TIMESTAMP: &[u8; 17] = b"2026010100000000\0";
/// An unspecified date in a volume descriptor.
const NO_TIMESTAMP: &[u8; 17] = b"0000000000000000\0";

// Layout: descriptors from sector 16, then path tables, directories, the continuation area and files.

/// First sector of the four path tables.
const PATH_TABLES: u32 = 19;
/// Sectors of the two root directories: ISO 9660, Joliet.
const ROOTS: [u32; 2] = [23, 24];
/// Sector of the Rock Ridge identification (`ER`), which is too long for the root's own record.
const CONTINUATION: u32 = 25;
/// First sector of the files.
const FILES: u32 = 26;

/// Builds a seed from files with names in [`SEED_FILES`].
///
/// A missing or empty `meta-data` becomes the instance id and the host name. A missing `user-data` becomes an
/// empty file, which cloud-init requires.
///
/// # Errors
/// Returns `File` for another name, or for a file longer than 4 MiB.
pub fn build_seed(host: &str, instance: &str, given: &BTreeMap<String, impl AsRef<[u8]>>) -> ViewResult<Bytes> {
    let mut files: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for (name, content) in given {
        let content = content.as_ref();
        let refuse = |reason| ViewError::File { path: name.clone(), reason };
        let known = SEED_FILES.iter().find(|known| *known == name);
        let known =
            known.ok_or_else(|| refuse("a seed consists of meta-data, user-data, vendor-data and network-config"))?;
        if content.len() > MAX_FILE_BYTES {
            return Err(refuse("the file is longer than 4 MiB"));
        }
        files.insert(known, content);
    }
    let meta = meta_data(host, instance);
    files.entry("user-data").or_default();
    let own = files.entry("meta-data").or_default();
    if own.trim_ascii().is_empty() {
        *own = meta.as_bytes();
    }
    Ok(image(&files).into())
}

/// Returns the minimal `meta-data` of an instance: its id and the host name.
pub fn meta_data(host: &str, instance: &str) -> String {
    // Every JSON string is a YAML string too.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    format!("instance-id: {}\nlocal-hostname: {}\n", quoted(instance), quoted(host))
}
/// Returns the bytes of a seed.
fn image(files: &BTreeMap<&str, &[u8]>) -> Vec<u8> {
    let mut next = FILES;
    let mut files_at = Vec::new();
    for (name, data) in files {
        files_at.push((*name, next, data.len() as u32));
        next += data.len().div_ceil(SECTOR as usize) as u32;
    }
    let mut image = vec![0; (u64::from(next) * SECTOR) as usize];
    let mut put = |sector: u32, data: &[u8]| {
        let at = sector as usize * SECTOR as usize;
        image[at..at + data.len()].copy_from_slice(data);
    };
    put(16, &descriptor(NameEncoding::Plain, next, ROOTS[0], PATH_TABLES));
    put(17, &descriptor(NameEncoding::Joliet, next, ROOTS[1], PATH_TABLES + 2));
    put(18, b"\xffCD001\x01");
    for (table, root) in [(PATH_TABLES, ROOTS[0]), (PATH_TABLES + 2, ROOTS[1])] {
        put(table, &path_table(root.to_le_bytes(), 1_u16.to_le_bytes()));
        put(table + 1, &path_table(root.to_be_bytes(), 1_u16.to_be_bytes()));
    }
    put(ROOTS[0], &directory(NameEncoding::Plain, ROOTS[0], &files_at));
    put(ROOTS[1], &directory(NameEncoding::Joliet, ROOTS[1], &files_at));
    put(CONTINUATION, &identification());
    for ((_, sector, _), data) in files_at.iter().zip(files.values()) {
        put(*sector, data);
    }
    image
}

/// Encodes a primary (ECMA-119 8.4) or a Joliet supplementary (8.5) volume descriptor.
fn descriptor(encoding: NameEncoding, sectors: u32, root: u32, table: u32) -> Vec<u8> {
    let text = |text: &str, length: usize| match encoding {
        NameEncoding::Plain => text.bytes().chain(std::iter::repeat(b' ')).take(length).collect::<Vec<u8>>(),
        NameEncoding::Joliet => {
            text.encode_utf16().chain(std::iter::repeat(0x20)).flat_map(u16::to_be_bytes).take(length).collect()
        }
    };
    let joliet = encoding == NameEncoding::Joliet;
    let mut data = vec![if joliet { 2 } else { 1 }];
    data.extend(b"CD001\x01\0");
    data.extend(text("LINUX", 32));
    data.extend(text(VOLUME_ID, 32));
    data.extend([0; 8]);
    data.extend(both32(sectors));
    let escape: &[u8] = if joliet { b"%/E" } else { b"" };
    data.extend(escape.iter().copied().chain(std::iter::repeat(0)).take(32));
    data.extend([both16(1), both16(1), both16(SECTOR as u16)].concat());
    data.extend(both32(10));
    data.extend([table.to_le_bytes(), [0; 4], (table + 1).to_be_bytes(), [0; 4]].concat());
    let record = NewRecord {
        identifier: &[0],
        sector: root,
        length: SECTOR as u32,
        directory: true,
        timestamp: TIMESTAMP,
        system_use: &[],
    };
    data.extend(record.encode().unwrap_or_default());
    data.extend(text("", 128 * 4 + 37 * 3));
    data.truncate(813);
    for timestamp in [VOLUME_TIMESTAMP, VOLUME_TIMESTAMP, NO_TIMESTAMP, NO_TIMESTAMP] {
        data.extend(timestamp);
    }
    data.push(1);
    data.resize(SECTOR as usize, 0);
    data
}
/// Encodes a path table with the root directory alone (ECMA-119 9.4), in the byte order of its numbers.
fn path_table(root: [u8; 4], parent: [u8; 2]) -> Vec<u8> {
    [&[1, 0][..], &root, &parent, &[0, 0]].concat()
}
/// Encodes the root directory. Each file is a name with its first sector and its length in bytes.
fn directory(encoding: NameEncoding, root: u32, files: &[(&str, u32, u32)]) -> Vec<u8> {
    let dot = |identifier: &'static [u8], system_use: &[u8]| {
        let record = NewRecord {
            identifier,
            sector: root,
            length: SECTOR as u32,
            directory: true,
            timestamp: TIMESTAMP,
            system_use,
        };
        record.encode().unwrap_or_default()
    };
    let plain = encoding == NameEncoding::Plain;
    let posix = emit::posix_attributes(0o040_555, 2, root, 36);
    let first = if plain { [&b"SP\x07\x01\xbe\xef\0"[..], &posix, &continuation()].concat() } else { Vec::new() };
    let mut records = vec![dot(&[0], &first), dot(&[1], if plain { &posix } else { &[] })];
    let mut named: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, sector, length) in files {
        let (identifier, system_use) = match encoding {
            NameEncoding::Plain => {
                let posix = emit::posix_attributes(0o100_444, 1, *sector, 36);
                (emit::plain_identifier(name), [posix, emit::alternate_name(name)].concat())
            }
            NameEncoding::Joliet => (emit::joliet_identifier(name), Vec::new()),
        };
        let record = NewRecord {
            identifier: &identifier,
            sector: *sector,
            length: *length,
            directory: false,
            timestamp: TIMESTAMP,
            system_use: &system_use,
        };
        let encoded = record.encode().unwrap_or_default();
        named.push((identifier, encoded));
    }
    named.sort();
    records.extend(named.into_iter().map(|(_, record)| record));
    emit::directory(records.iter().map(Vec::as_slice))
}

/// Encodes the continuation entry (`CE`, SUSP 5.1) that points to the identification.
fn continuation() -> Vec<u8> {
    let mut entry = b"CE\x1c\x01".to_vec();
    for number in [CONTINUATION, 0, identification().len() as u32] {
        entry.extend(both32(number));
    }
    entry
}

/// Encodes the extension reference (`ER`) that identifies Rock Ridge (RRIP 1.10, 4.3).
fn identification() -> Vec<u8> {
    let identifier = b"RRIP_1991A";
    let description = b"THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS";
    let source =
        b"PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN PRIMARY VOLUME \
                   DESCRIPTOR FOR CONTACT INFORMATION.";
    let parts = [&identifier[..], description, source];
    let mut entry = b"ER".to_vec();
    entry.push((8 + parts.iter().map(|part| part.len()).sum::<usize>()) as u8);
    entry.push(1);
    entry.extend(parts.iter().map(|part| part.len() as u8));
    entry.push(1);
    entry.extend(parts.concat());
    entry
}

#[cfg(test)]
mod tests {
    use super::super::{Family, Iso, MemoryImage, examine};
    use super::*;

    fn built(files: &[(&str, &str)]) -> MemoryImage {
        let files: BTreeMap<String, String> =
            files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        MemoryImage(build_seed("server1", "i-1", &files).unwrap())
    }

    #[test]
    fn a_seed_reads_back_by_every_name() {
        let image = built(&[("user-data", "#cloud-config\n"), ("network-config", "version: 2\n")]);
        let examined = examine(&image).unwrap();
        assert_eq!((examined.volume_id.as_str(), examined.joliet, examined.rock_ridge), ("cidata", true, true));
        assert_eq!(examined.distribution.family, Family::CloudSeed);
        let iso = Iso::open(&image).unwrap();
        assert_eq!(iso.read("/user-data").unwrap().unwrap(), b"#cloud-config\n");
        assert_eq!(iso.read("/network-config").unwrap().unwrap(), b"version: 2\n");
        assert_eq!(iso.read("/meta-data").unwrap().unwrap(), b"instance-id: \"i-1\"\nlocal-hostname: \"server1\"\n");
        assert_eq!(iso.read("/vendor-data").unwrap(), None);
        for tree in &iso.trees {
            assert_eq!(tree.list(&tree.root(), "/").unwrap().len(), 3);
        }
    }

    #[test]
    fn given_meta_data_is_kept() {
        let image = built(&[("meta-data", "instance-id: mine\n")]);
        let iso = Iso::open(&image).unwrap();
        assert_eq!(iso.read("/meta-data").unwrap().unwrap(), b"instance-id: mine\n");
        assert_eq!(iso.read("/user-data").unwrap().unwrap(), b"");
    }

    #[test]
    fn unknown_files_are_refused() {
        let files = BTreeMap::from([("../x".to_owned(), String::new())]);
        assert!(matches!(build_seed("a", "b", &files), Err(ViewError::File { .. })));
    }
}
