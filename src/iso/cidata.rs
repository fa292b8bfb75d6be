//! NoCloud seeds: a small ISO 9660 image with the volume id `cidata`, which cloud-init looks for
//! (its NoCloud data source), with Joliet and Rock Ridge names. The same config gives the same bytes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::CannotCompose;
use super::descriptor::{SECTOR, Spelling};
use super::emit::{self, NewRecord};
use crate::iso::endian::{both16, both32};

/// Names the files of a seed; the first two are always there.
pub const SEED_FILES: [&str; 4] = ["meta-data", "user-data", "vendor-data", "network-config"];
const FILE_MAX: usize = 4 * 1024 * 1024;
const VOLUME_ID: &str = "cidata";
/// Is when every seed says that it was made (1 January 2026, UTC): a real clock would change its bytes.
const STAMP: emit::Stamp = [126, 1, 1, 0, 0, 0, 0];
const LONG_STAMP: &[u8; 17] = b"2026010100000000\0";
const NO_STAMP: &[u8; 17] = b"0000000000000000\0";

/// Lays the image out: descriptors from sector 16, then path tables, directories, files.
const PATH_TABLES: u32 = 19;
const ROOTS: [u32; 2] = [23, 24];
/// Holds the Rock Ridge identification (ER), too long for the root's own record.
const CONTINUATION: u32 = 25;
const FILES: u32 = 26;

/// Builds a seed of files by name, of those in `SEED_FILES`. Where `meta-data` is missing or empty it
/// says the instance id and the host name; where `user-data` is missing it is empty, which cloud-init wants.
///
/// # Errors
/// `File` for another name, or one longer than 4 MiB.
pub fn seed(host: &str, instance: &str, given: &BTreeMap<String, String>) -> Result<Bytes, CannotCompose> {
    let mut files: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for (name, text) in given {
        let refuse = |why| CannotCompose::File { path: name.clone(), why };
        let known = SEED_FILES.iter().find(|known| *known == name);
        let known = known.ok_or_else(|| refuse("a seed has meta-data, user-data, vendor-data and network-config"))?;
        if text.len() > FILE_MAX {
            return Err(refuse("longer than 4 MiB"));
        }
        files.insert(known, text.as_bytes());
    }
    let meta = meta_data(host, instance);
    files.entry("user-data").or_default();
    let own = files.entry("meta-data").or_default();
    if own.trim_ascii().is_empty() {
        *own = meta.as_bytes();
    }
    Ok(image(&files).into())
}

/// Writes the least that cloud-init wants to know of an instance.
pub fn meta_data(host: &str, instance: &str) -> String {
    // JSON's strings are YAML's as well, whatever is in them.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    format!("instance-id: {}\nlocal-hostname: {}\n", quoted(instance), quoted(host))
}

fn image(files: &BTreeMap<&str, &[u8]>) -> Vec<u8> {
    let mut next = FILES;
    let mut places = Vec::new();
    for (name, data) in files {
        places.push((*name, next, data.len() as u32));
        next += data.len().div_ceil(SECTOR as usize) as u32;
    }
    let mut image = vec![0; (u64::from(next) * SECTOR) as usize];
    let mut put = |sector: u32, data: &[u8]| {
        let at = sector as usize * SECTOR as usize;
        image[at..at + data.len()].copy_from_slice(data);
    };
    put(16, &descriptor(Spelling::Plain, next, ROOTS[0], PATH_TABLES));
    put(17, &descriptor(Spelling::Joliet, next, ROOTS[1], PATH_TABLES + 2));
    put(18, b"\xffCD001\x01");
    for (table, root) in [(PATH_TABLES, ROOTS[0]), (PATH_TABLES + 2, ROOTS[1])] {
        put(table, &path_table(root.to_le_bytes(), 1_u16.to_le_bytes()));
        put(table + 1, &path_table(root.to_be_bytes(), 1_u16.to_be_bytes()));
    }
    put(ROOTS[0], &directory(Spelling::Plain, ROOTS[0], &places));
    put(ROOTS[1], &directory(Spelling::Joliet, ROOTS[1], &places));
    put(CONTINUATION, &identification());
    for ((_, sector, _), data) in places.iter().zip(files.values()) {
        put(*sector, data);
    }
    image
}

/// Writes a primary (ECMA-119 8.4) or Joliet's supplementary (8.5) volume descriptor.
fn descriptor(spelling: Spelling, sectors: u32, root: u32, table: u32) -> Vec<u8> {
    let text = |text: &str, length: usize| match spelling {
        Spelling::Plain => text.bytes().chain(std::iter::repeat(b' ')).take(length).collect::<Vec<u8>>(),
        Spelling::Joliet => {
            text.encode_utf16().chain(std::iter::repeat(0x20)).flat_map(u16::to_be_bytes).take(length).collect()
        }
    };
    let joliet = spelling == Spelling::Joliet;
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
        stamp: STAMP,
        system_use: &[],
    };
    data.extend(record.write().unwrap_or_default());
    data.extend(text("", 128 * 4 + 37 * 3));
    data.truncate(813);
    for stamp in [LONG_STAMP, LONG_STAMP, NO_STAMP, NO_STAMP] {
        data.extend(stamp);
    }
    data.push(1);
    data.resize(SECTOR as usize, 0);
    data
}

fn path_table(root: [u8; 4], parent: [u8; 2]) -> Vec<u8> {
    [&[1, 0][..], &root, &parent, &[0, 0]].concat()
}

fn directory(spelling: Spelling, root: u32, files: &[(&str, u32, u32)]) -> Vec<u8> {
    let dot = |identifier: &'static [u8], system_use: &[u8]| {
        let record =
            NewRecord { identifier, sector: root, length: SECTOR as u32, directory: true, stamp: STAMP, system_use };
        record.write().unwrap_or_default()
    };
    let plain = spelling == Spelling::Plain;
    let posix = emit::posix(0o040_555, 2, root, 36);
    let first = if plain { [&b"SP\x07\x01\xbe\xef\0"[..], &posix, &continuation()].concat() } else { Vec::new() };
    let mut records = vec![dot(&[0], &first), dot(&[1], if plain { &posix } else { &[] })];
    let mut named: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, sector, length) in files {
        let (identifier, system_use) = match spelling {
            Spelling::Plain => {
                let posix = emit::posix(0o100_444, 1, *sector, 36);
                (emit::plain_identifier(name), [posix, emit::alternate_name(name)].concat())
            }
            Spelling::Joliet => (emit::joliet_identifier(name), Vec::new()),
        };
        let record = NewRecord {
            identifier: &identifier,
            sector: *sector,
            length: *length,
            directory: false,
            stamp: STAMP,
            system_use: &system_use,
        };
        let written = record.write().unwrap_or_default();
        named.push((identifier, written));
    }
    named.sort();
    records.extend(named.into_iter().map(|(_, record)| record));
    emit::directory(records.iter().map(Vec::as_slice))
}

/// Points to where the identification lies (SUSP 5.1).
fn continuation() -> Vec<u8> {
    let mut entry = b"CE\x1c\x01".to_vec();
    for number in [CONTINUATION, 0, identification().len() as u32] {
        entry.extend(both32(number));
    }
    entry
}

/// Says that the names are Rock Ridge's (RRIP 1.10, 4.3).
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
    use super::super::{Family, Iso, Memory, examine};
    use super::*;

    fn built(files: &[(&str, &str)]) -> Memory {
        let files = files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        Memory(seed("server1", "i-1", &files).unwrap())
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
    fn ones_own_meta_data_stays() {
        let image = built(&[("meta-data", "instance-id: mine\n")]);
        let iso = Iso::open(&image).unwrap();
        assert_eq!(iso.read("/meta-data").unwrap().unwrap(), b"instance-id: mine\n");
        assert_eq!(iso.read("/user-data").unwrap().unwrap(), b"");
    }

    #[test]
    fn other_files_are_refused() {
        let files = BTreeMap::from([("../x".to_owned(), String::new())]);
        assert!(matches!(seed("a", "b", &files), Err(CannotCompose::File { .. })));
    }
}
