//! Addition of a file to a directory of an image, in all of its trees. The directory is written again; if it
//! no longer fits in its place it moves to the end of the image, and all pointers to it are updated.

use super::descriptor::{NameEncoding, SECTOR, VolumeDescriptor};
use super::emit::{self, NewRecord};
use super::endian::both32;
use super::error::ViewResult;
use super::extent::Extent;
use super::record::{DirectoryRecord, HEAD};
use super::tree::{DirectoryTree, EntryKind};
use super::{IsoError, OverlayBuilder, ReadAt, ViewError, VolumeDescriptorSet};

/// Maximum length of a file name in bytes.
const MAX_NAME_LENGTH: usize = 64;
/// Maximum length of a path table in bytes.
const MAX_PATH_TABLE_BYTES: u32 = 4 * 1024 * 1024;
/// Offset of the root's directory record in a volume descriptor (ECMA-119 8.4.18).
const ROOT_RECORD: u64 = 156;

/// The location of new content.
#[derive(Debug, Clone, Copy)]
pub struct ContentLocation {
    /// First sector.
    pub sector: u32,
    /// Length in bytes.
    pub length: u32,
}

/// Adds a new file to an existing directory, in every tree that has the directory.
///
/// # Errors
/// Returns `File` if the name is not valid or no tree has the directory.
pub fn add_file(
    builder: &mut OverlayBuilder<'_>,
    volume: &VolumeDescriptorSet,
    path: &str,
    content: ContentLocation,
) -> ViewResult<()> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let refuse = |reason| ViewError::File { path: path.to_owned(), reason };
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_LENGTH || name.starts_with('.') || !name.bytes().all(valid) {
        return Err(refuse("a file name has 1 to 64 letters, digits and . _ - +, and does not begin with a dot"));
    }
    let mut added = false;
    let mut done: Vec<u64> = Vec::new();
    for descriptor in volume.descriptors() {
        if done.contains(&descriptor.at) {
            continue;
        }
        // ISO 9660:1999 descriptors share the tree of the primary descriptor: they are updated with it.
        let same: Vec<&VolumeDescriptor> = volume.descriptors().filter(|other| other.root == descriptor.root).collect();
        done.extend(same.iter().map(|descriptor| descriptor.at));
        let current = reread_root(builder, descriptor)?;
        let Some(update) = DirectoryUpdate::prepare(builder, &current, directory, name, content)? else { continue };
        update.apply(builder, &same)?;
        added = true;
    }
    if added { Ok(()) } else { Err(refuse("the image has no such directory")) }
}

/// Reads the root record of a descriptor again: the root may have moved.
fn reread_root(builder: &OverlayBuilder<'_>, descriptor: &VolumeDescriptor) -> ViewResult<VolumeDescriptor> {
    let mut record = [0; 34];
    builder.read_at(descriptor.at + ROOT_RECORD, &mut record).map_err(ViewError::read("a volume descriptor"))?;
    let root = DirectoryRecord::parse(0, &record).map_err(|reason| IsoError::Directory {
        path: "/".into(),
        at: descriptor.at,
        reason,
    })?;
    Ok(VolumeDescriptor { root: root.extent, ..descriptor.clone() })
}

/// The change of one directory in one tree.
#[derive(Debug)]
struct DirectoryUpdate {
    /// Previous byte range of the directory.
    old: Extent,
    /// New content.
    data: Vec<u8>,
    /// Whether the directory is the root, whose record is part of the descriptors.
    is_root: bool,
    /// Offsets of the directory's own record in its parent; empty for the root.
    records: Vec<u64>,
    /// Byte ranges of the subdirectories. Their second record points to this directory.
    children: Vec<Extent>,
}

impl DirectoryUpdate {
    /// Prepares the change. Returns `None` if the tree does not have the directory.
    fn prepare(
        image: &dyn ReadAt,
        descriptor: &VolumeDescriptor,
        path: &str,
        name: &str,
        content: ContentLocation,
    ) -> ViewResult<Option<Self>> {
        let tree = DirectoryTree::open(image, descriptor)?;
        let found = tree.find(path)?.filter(|entry| entry.kind == EntryKind::Directory);
        let Some(entry) = found else { return Ok(None) };
        let Some(old) = entry.extents.first().copied() else { return Ok(None) };
        let is_root = old == descriptor.root;
        for record in &entry.records {
            let mut sector = [0; 4];
            image.read_at(record + 2, &mut sector).map_err(ViewError::read("a directory"))?;
            if u64::from(u32::from_le_bytes(sector)) * SECTOR != old.offset {
                let reason = "the directory was relocated for its depth (Rock Ridge); adding to it is not supported";
                return Err(ViewError::File { path: format!("{path}/{name}"), reason });
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
        let new = new.ok_or_else(|| ViewError::File {
            path: format!("{path}/{name}"),
            reason: "the directory record would be longer than 254 bytes",
        })?;
        let raw = raw_records(image, &records)?;
        let at = insertion_index(&records, &new);
        let all = raw[..at].iter().chain([&new]).chain(&raw[at..]).map(Vec::as_slice);
        Ok(Some(Self { old, data: emit::directory(all), is_root, records: entry.records, children }))
    }

    /// Writes the directory and updates all pointers to it.
    fn apply(mut self, builder: &mut OverlayBuilder<'_>, descriptors: &[&VolumeDescriptor]) -> ViewResult<()> {
        let room = self.old.length.next_multiple_of(SECTOR);
        let length = self.data.len() as u64;
        if length <= room {
            self.data.resize(room as usize, 0);
            return builder.write(self.old.offset, &self.data);
        }
        let at = builder.append(&self.data)?;
        let sector = sector(at)?;
        let pointer = [both32(sector), both32(length as u32)].concat();
        builder.write(at + 2, &pointer)?;
        for record in &self.records {
            builder.write(record + 2, &pointer)?;
        }
        if self.is_root {
            // The root is its own parent: its second record points to it as well.
            let mut own = [0; 1];
            builder.read_at(at, &mut own).map_err(ViewError::read("a directory"))?;
            builder.write(at + u64::from(own[0]) + 2, &pointer)?;
            for descriptor in descriptors {
                builder.write(descriptor.at + ROOT_RECORD + 2, &pointer)?;
            }
        }
        for child in &self.children {
            let mut own = [0; 1];
            builder.read_at(child.offset, &mut own).map_err(ViewError::read("a directory"))?;
            builder.write(child.offset + u64::from(own[0]) + 2, &pointer)?;
        }
        for descriptor in descriptors {
            update_path_tables(builder, descriptor, self.old.offset, sector)?;
        }
        Ok(())
    }
}

/// Returns the sector of an offset that is at the start of a sector.
///
/// # Errors
/// Returns `Outside` past 8 TiB, which is the limit of ISO 9660.
pub fn sector(at: u64) -> ViewResult<u32> {
    u32::try_from(at / SECTOR).map_err(|_| ViewError::Outside { at })
}

/// Encodes the record of a new file in the style of the other records of its directory.
fn new_record(
    tree: &DirectoryTree<'_>,
    records: &[DirectoryRecord],
    name: &str,
    content: ContentLocation,
) -> Option<Vec<u8>> {
    let first = records.first()?;
    let files = || records.iter().filter(|record| !record.is_dot() && !record.is_directory());
    let mut identifier = match tree.encoding() {
        NameEncoding::Plain => emit::plain_identifier(name),
        NameEncoding::Joliet => {
            let versioned = files().next().is_some_and(|record| record.identifier.ends_with(&[0, b';', 0, b'1']));
            emit::joliet_identifier(&if versioned { format!("{name};1") } else { name.to_owned() })
        }
    };
    // Long names may have the same beginning. The ISO 9660 tree then replaces the first character by a digit.
    for number in b'0'..=b'9' {
        if records.iter().all(|record| record.identifier != identifier) {
            break;
        }
        *identifier.first_mut()? = number;
    }
    let mut system_use = Vec::new();
    if let Some(skip) = tree.susp_skip() {
        system_use.resize(skip, 0);
        system_use.extend(emit::posix_attributes(0o100_444, 1, content.sector, posix_length(&first.system_use)));
        system_use.extend(emit::alternate_name(name));
    }
    let ContentLocation { sector, length } = content;
    let new = NewRecord {
        identifier: &identifier,
        sector,
        length,
        directory: false,
        timestamp: first.timestamp,
        system_use: &system_use,
    };
    new.encode()
}

/// Returns the length of the POSIX attributes in the records of a tree: 36 or 44, by the version of Rock Ridge.
fn posix_length(system_use: &[u8]) -> u8 {
    let found = system_use.windows(4).find(|entry| entry.starts_with(b"PX") && entry[3] == 1);
    found.map(|entry| entry[2]).filter(|length| matches!(length, 36 | 44)).unwrap_or(36)
}

/// Returns the records as they are stored.
fn raw_records(image: &dyn ReadAt, records: &[DirectoryRecord]) -> ViewResult<Vec<Vec<u8>>> {
    let raw = records.iter().map(|record| {
        let mut raw = vec![0; usize::from(record.length)];
        image.read_at(record.at, &mut raw).map_err(ViewError::read("a directory"))?;
        Ok(raw)
    });
    raw.collect()
}

/// Returns the index of a new record in the order of names (ECMA-119 9.3), never between a file's extents.
fn insertion_index(records: &[DirectoryRecord], new: &[u8]) -> usize {
    let name = new.get(HEAD..HEAD + usize::from(new[32])).unwrap_or_default();
    let later = records.iter().position(|record| !record.is_dot() && record.identifier.as_slice() > name);
    later.unwrap_or(records.len())
}

/// Replaces the old sector of a directory by the new one in the path tables (ECMA-119 9.4).
fn update_path_tables(
    builder: &mut OverlayBuilder<'_>,
    descriptor: &VolumeDescriptor,
    old: u64,
    new: u32,
) -> ViewResult<()> {
    let length = descriptor.path_table_length;
    if length > MAX_PATH_TABLE_BYTES {
        return Err(IsoError::Limit { path: "the path table".into(), limit: "longer than 4 MiB" }.into());
    }
    let old = sector(old)?;
    let tables = descriptor.path_tables;
    let little = tables.little.map(|sector| (sector, old.to_le_bytes(), new.to_le_bytes()));
    let big = tables.big.map(|sector| (sector, old.to_be_bytes(), new.to_be_bytes()));
    for (table, old, new) in little.into_iter().chain(big).filter(|(table, ..)| *table != 0) {
        let place = Extent { offset: u64::from(table) * SECTOR, length: u64::from(length) };
        place.ensure_within(builder.len(), "the path table")?;
        let mut data = vec![0; length as usize];
        builder.read_at(place.offset, &mut data).map_err(ViewError::read("the path table"))?;
        let mut at = 0;
        while let Some(entry) = data.get(at..at + 8).filter(|entry| entry[0] != 0) {
            if entry[2..6] == old {
                builder.write(place.offset + at as u64 + 2, &new)?;
            }
            at += (8 + usize::from(entry[0])).next_multiple_of(2);
        }
    }
    Ok(())
}
