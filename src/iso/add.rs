//! Files added to a directory of an image, in all of its trees: the directory is laid out anew, moves
//! behind the end where it no longer fits, and whatever points to it follows.

use super::descriptor::{Descriptor, Extent, SECTOR, Spelling};
use super::emit::{self, NewRecord};
use super::record::Record;
use super::tree::{Kind, Tree};
use super::{CannotCompose, Draft, NotAnIso, ReadAt, Volume};
use crate::iso::endian::both32;

const NAME_MAX: usize = 64;
const PATH_TABLE_MAX: u32 = 4 * 1024 * 1024;
/// Is where the root's directory record lies in a volume descriptor.
const ROOT_RECORD: u64 = 156;

/// Is where new content lies, by the sector.
#[derive(Debug, Clone, Copy)]
pub struct Content {
    pub sector: u32,
    pub length: u32,
}

type Result<T, E = CannotCompose> = std::result::Result<T, E>;

/// Adds a file that is not there yet to a directory that is, in every tree that has the directory.
///
/// # Errors
/// `File` where its name cannot be used or no tree has the directory.
pub fn add(draft: &mut Draft<'_>, volume: &Volume, path: &str, content: Content) -> Result<()> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let refuse = |why| CannotCompose::File { path: path.to_owned(), why };
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    if name.is_empty() || name.len() > NAME_MAX || name.starts_with('.') || !name.bytes().all(harmless) {
        return Err(refuse("a name is 1 to 64 letters, digits and . _ - +, and does not begin with a dot"));
    }
    let mut added = false;
    let mut done: Vec<u64> = Vec::new();
    for descriptor in volume.descriptors() {
        if done.contains(&descriptor.at) {
            continue;
        }
        // ISO 9660:1999 descriptors share the primary one's tree: they are patched with it.
        let same: Vec<&Descriptor> = volume.descriptors().filter(|other| other.root == descriptor.root).collect();
        done.extend(same.iter().map(|descriptor| descriptor.at));
        let fresh = fresh(draft, descriptor)?;
        let Some(plan) = Plan::make(draft, &fresh, directory, name, content)? else { continue };
        plan.carry_out(draft, &same)?;
        added = true;
    }
    if added { Ok(()) } else { Err(refuse("the image has no such directory")) }
}

/// Reads a descriptor's root again, for it may have moved since.
fn fresh(draft: &Draft<'_>, descriptor: &Descriptor) -> Result<Descriptor> {
    let mut record = [0; 34];
    draft.read_at(descriptor.at + ROOT_RECORD, &mut record).map_err(CannotCompose::read("a volume descriptor"))?;
    let root =
        Record::parse(0, &record).map_err(|why| NotAnIso::Directory { path: "/".into(), at: descriptor.at, why })?;
    Ok(Descriptor { root: root.extent, ..descriptor.clone() })
}

/// Is what changes in one tree.
#[derive(Debug)]
struct Plan {
    /// Is where the directory lay.
    old: Extent,
    data: Vec<u8>,
    /// Says whether the directory is the root, whose record the descriptors hold.
    is_root: bool,
    /// Is where the directory's own record lies in its parent, unless it is the root.
    records: Vec<u64>,
    /// Holds the extents of the directories in it, whose second record points back.
    children: Vec<Extent>,
}

impl Plan {
    fn make(
        image: &dyn ReadAt,
        descriptor: &Descriptor,
        path: &str,
        name: &str,
        content: Content,
    ) -> Result<Option<Self>> {
        let tree = Tree::open(image, descriptor)?;
        let found = tree.find(path)?.filter(|entry| entry.kind == Kind::Directory);
        let Some(entry) = found else { return Ok(None) };
        let Some(old) = entry.extents.first().copied() else { return Ok(None) };
        let is_root = old == descriptor.root;
        for record in &entry.records {
            let mut sector = [0; 4];
            image.read_at(record + 2, &mut sector).map_err(CannotCompose::read("a directory"))?;
            if u64::from(u32::from_le_bytes(sector)) * SECTOR != old.offset {
                let why = "its directory was moved for its depth (Rock Ridge), where nothing is added";
                return Err(CannotCompose::File { path: format!("{path}/{name}"), why });
            }
        }
        let mut records = Vec::new();
        let mut children = Vec::new();
        for record in tree.records(old, path)? {
            if record.is_directory() && !record.is_dot() {
                children.push(record.extent);
            }
            records.push(record);
        }
        let new = new_record(&tree, &records, name, content);
        let new = new.ok_or_else(|| CannotCompose::File {
            path: format!("{path}/{name}"),
            why: "its directory record does not fit",
        })?;
        let raw = raw_records(image, &records)?;
        let at = place(&records, &new);
        let all = raw[..at].iter().chain([&new]).chain(&raw[at..]).map(Vec::as_slice);
        Ok(Some(Self { old, data: emit::directory(all), is_root, records: entry.records, children }))
    }

    fn carry_out(mut self, draft: &mut Draft<'_>, descriptors: &[&Descriptor]) -> Result<()> {
        let room = self.old.length.next_multiple_of(SECTOR);
        let length = self.data.len() as u64;
        if length <= room {
            self.data.resize(room as usize, 0);
            return draft.write(self.old.offset, &self.data);
        }
        let at = draft.append(&self.data)?;
        let sector = sector(at)?;
        let pointer = [both32(sector), both32(length as u32)].concat();
        draft.write(at + 2, &pointer)?;
        for record in &self.records {
            draft.write(record + 2, &pointer)?;
        }
        if self.is_root {
            // The root is its own parent: its second record names it as well.
            let mut own = [0; 1];
            draft.read_at(at, &mut own).map_err(CannotCompose::read("a directory"))?;
            draft.write(at + u64::from(own[0]) + 2, &pointer)?;
            for descriptor in descriptors {
                draft.write(descriptor.at + ROOT_RECORD + 2, &pointer)?;
            }
        }
        for child in &self.children {
            let mut own = [0; 1];
            draft.read_at(child.offset, &mut own).map_err(CannotCompose::read("a directory"))?;
            draft.write(child.offset + u64::from(own[0]) + 2, &pointer)?;
        }
        for descriptor in descriptors {
            path_tables(draft, descriptor, self.old.offset, sector)?;
        }
        Ok(())
    }
}

/// Gives the sector of a place that begins one.
///
/// # Errors
/// `Outside` past the 8 TiB that ISO 9660 can count.
pub fn sector(at: u64) -> Result<u32> {
    u32::try_from(at / SECTOR).map_err(|_| CannotCompose::Outside { at })
}

/// Writes the record of a new file as the others of its directory are written.
fn new_record(tree: &Tree<'_>, records: &[Record], name: &str, content: Content) -> Option<Vec<u8>> {
    let first = records.first()?;
    let files = || records.iter().filter(|record| !record.is_dot() && !record.is_directory());
    let mut identifier = match tree.spelling() {
        Spelling::Plain => emit::plain_identifier(name),
        Spelling::Joliet => {
            let versioned = files().next().is_some_and(|record| record.identifier.ends_with(&[0, b';', 0, b'1']));
            emit::joliet_identifier(&if versioned { format!("{name};1") } else { name.to_owned() })
        }
    };
    // Two long names may have the same beginning: the plain tree numbers them.
    for number in b'0'..=b'9' {
        if records.iter().all(|record| record.identifier != identifier) {
            break;
        }
        *identifier.first_mut()? = number;
    }
    let mut system_use = Vec::new();
    if let Some(skip) = tree.susp() {
        system_use.resize(skip, 0);
        system_use.extend(emit::posix(0o100_444, 1, content.sector, posix_length(&first.system_use)));
        system_use.extend(emit::alternate_name(name));
    }
    let Content { sector, length } = content;
    let new = NewRecord {
        identifier: &identifier,
        sector,
        length,
        directory: false,
        stamp: first.stamp,
        system_use: &system_use,
    };
    new.write()
}

/// Says how long the POSIX attributes of a tree's records are, which differs with Rock Ridge's version.
fn posix_length(system_use: &[u8]) -> u8 {
    let found = system_use.windows(4).find(|entry| entry.starts_with(b"PX") && entry[3] == 1);
    found.map(|entry| entry[2]).filter(|length| matches!(length, 36 | 44)).unwrap_or(36)
}

fn raw_records(image: &dyn ReadAt, records: &[Record]) -> Result<Vec<Vec<u8>>> {
    let raw = records.iter().map(|record| {
        let mut raw = vec![0; usize::from(record.length)];
        image.read_at(record.at, &mut raw).map_err(CannotCompose::read("a directory"))?;
        Ok(raw)
    });
    raw.collect()
}

/// Finds where a new record goes in the order of names (ECMA-119 9.3), never between a file's extents.
fn place(records: &[Record], new: &[u8]) -> usize {
    let name = new.get(33..33 + usize::from(new[32])).unwrap_or_default();
    let later = records.iter().position(|record| !record.is_dot() && record.identifier.as_slice() > name);
    later.unwrap_or(records.len())
}

/// Points the path tables (ECMA-119 9.4) to where a directory has moved.
fn path_tables(draft: &mut Draft<'_>, descriptor: &Descriptor, old: u64, new: u32) -> Result<()> {
    let length = descriptor.path_table_length;
    if length > PATH_TABLE_MAX {
        return Err(NotAnIso::Limit { path: "the path table".into(), limit: "longer than 4 MiB" }.into());
    }
    let old = sector(old)?;
    let tables = descriptor.path_tables;
    let little = tables.little.map(|sector| (sector, old.to_le_bytes(), new.to_le_bytes()));
    let big = tables.big.map(|sector| (sector, old.to_be_bytes(), new.to_be_bytes()));
    for (table, old, new) in little.into_iter().chain(big).filter(|(table, ..)| *table != 0) {
        let place = Extent { offset: u64::from(table) * SECTOR, length: u64::from(length) };
        place.within(draft.len(), "the path table")?;
        let mut data = vec![0; length as usize];
        draft.read_at(place.offset, &mut data).map_err(CannotCompose::read("the path table"))?;
        let mut at = 0;
        while let Some(entry) = data.get(at..at + 8).filter(|entry| entry[0] != 0) {
            if entry[2..6] == old {
                draft.write(place.offset + at as u64 + 2, &new)?;
            }
            at += (8 + usize::from(entry[0])).next_multiple_of(2);
        }
    }
    Ok(())
}
