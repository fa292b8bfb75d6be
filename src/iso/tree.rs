//! Directory trees of a volume: lookup of paths, and the extents of files.

use std::collections::HashSet;

use super::descriptor::{NameEncoding, SECTOR, VolumeDescriptor};
use super::extent::Extent;
use super::record::{self, DirectoryRecord, RockRidge};
use super::{IsoError, ReadAt};

/// Maximum length of a directory in bytes.
const MAX_DIRECTORY_BYTES: u64 = 16 * 1024 * 1024;
/// Maximum depth of a directory, in levels below the root.
const MAX_DEPTH: usize = 64;
/// Maximum number of entries in a tree.
const MAX_ENTRIES: usize = 1_000_000;
/// Maximum number of symbolic links that one path may follow.
const MAX_LINKS: usize = 16;
/// Maximum number of extents of a file.
const MAX_EXTENTS: usize = 4096;

/// A directory tree of an image: the primary tree, with or without Rock Ridge, or the Joliet tree.
#[derive(Debug)]
pub struct DirectoryTree<'a> {
    image: &'a dyn ReadAt,
    root: Extent,
    encoding: NameEncoding,
    /// Number of bytes before the SUSP entries of every record, if the tree uses SUSP.
    susp_skip: Option<usize>,
}

/// A file, a directory or a symbolic link of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Name without its path.
    pub name: String,
    /// Type of the entry.
    pub kind: EntryKind,
    /// Byte ranges of the content, in order.
    pub extents: Vec<Extent>,
    /// Offsets of the directory records in the image, one for each extent.
    pub records: Vec<u64>,
}

/// The type of a directory entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A file whose extents hold its bytes.
    File,
    /// A file whose extents do not hold its bytes as they are, and the reason.
    Unreadable(&'static str),
    /// A directory.
    Directory,
    /// A symbolic link, and its target.
    Link(String),
}

impl DirectoryEntry {
    /// Returns the length of the content in bytes.
    pub fn length(&self) -> u64 {
        self.extents.iter().map(|extent| extent.length).sum()
    }

    /// Checks that the content lies inside an image of a length in bytes.
    ///
    /// # Errors
    /// Returns `PastEnd` with the path.
    pub fn ensure_within(&self, image: u64, path: &str) -> Result<(), IsoError> {
        self.extents.iter().try_for_each(|extent| extent.ensure_within(image, path).map(|_| ()))
    }
}

impl<'a> DirectoryTree<'a> {
    /// Opens the tree of a volume descriptor.
    ///
    /// # Errors
    /// Returns why its root cannot be read.
    pub fn open(image: &'a dyn ReadAt, descriptor: &VolumeDescriptor) -> Result<Self, IsoError> {
        let VolumeDescriptor { root, encoding, .. } = *descriptor;
        let mut tree = Self { image, root, encoding, susp_skip: None };
        let records = tree.records(root, "/")?;
        let dot = records.first().filter(|record| record.identifier == [0]);
        let dot = dot.ok_or_else(|| damaged("/", root.offset, "the first record is not the directory's own"))?;
        if encoding == NameEncoding::Plain {
            tree.susp_skip = record::susp_skip(dot);
        }
        Ok(tree)
    }

    /// Returns whether the names are Rock Ridge names.
    pub fn rock_ridge(&self) -> bool {
        self.susp_skip.is_some()
    }

    /// Returns the number of bytes before the SUSP entries of every record, if the tree uses SUSP.
    pub fn susp_skip(&self) -> Option<usize> {
        self.susp_skip
    }

    /// Returns the encoding of the names.
    pub fn encoding(&self) -> NameEncoding {
        self.encoding
    }

    /// Returns the root directory.
    pub fn root(&self) -> DirectoryEntry {
        DirectoryEntry {
            name: String::new(),
            kind: EntryKind::Directory,
            extents: vec![self.root],
            records: Vec::new(),
        }
    }

    /// Lists a directory, without `.` and `..`.
    ///
    /// # Errors
    /// Returns what is damaged in the directory. The extents of files are not checked, see
    /// [`DirectoryEntry::ensure_within`].
    pub fn list(&self, directory: &DirectoryEntry, path: &str) -> Result<Vec<DirectoryEntry>, IsoError> {
        let Some(extent) = directory.extents.first() else { return Ok(Vec::new()) };
        let mut entries: Vec<DirectoryEntry> = Vec::new();
        let mut continued: Option<Vec<u8>> = None;
        for record in self.records(*extent, path)? {
            if record.is_dot() {
                continue;
            }
            let more = record.has_more().then(|| record.identifier.clone());
            match (continued.take(), entries.last_mut()) {
                (Some(name), Some(entry)) if name == record.identifier => {
                    if entry.extents.len() >= MAX_EXTENTS {
                        return Err(damaged(path, record.at, "file with more than 4096 extents"));
                    }
                    entry.extents.push(record.extent);
                    entry.records.push(record.at);
                }
                (Some(_), _) => return Err(damaged(path, record.at, "missing next extent of a file")),
                (None, _) => entries.extend(self.entry(&record, path)?),
            }
            continued = more;
        }
        Ok(entries)
    }

    /// Looks up a path and follows symbolic links. A name is compared exactly first, then without case:
    /// plain ISO 9660 stores `vmlinuz` as `VMLINUZ.;1`.
    ///
    /// # Errors
    /// Returns what is damaged on the way. A path that does not exist is not an error.
    pub fn find(&self, path: &str) -> Result<Option<DirectoryEntry>, IsoError> {
        let mut left: Vec<String> = components(path).rev().collect();
        let mut trail = vec![self.root()];
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name == ".." {
                trail.truncate(trail.len().max(2) - 1);
                continue;
            }
            let Some(here) = trail.last().filter(|entry| entry.kind == EntryKind::Directory) else { return Ok(None) };
            let Some(found) = pick(self.list(here, path)?, &name) else { return Ok(None) };
            match &found.kind {
                EntryKind::Link(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(IsoError::Links { path: path.to_owned(), limit: MAX_LINKS });
                    }
                    if target.starts_with('/') {
                        trail.truncate(1);
                    }
                    left.extend(components(target).rev());
                }
                EntryKind::File | EntryKind::Unreadable(_) | EntryKind::Directory => {
                    if trail.len() > MAX_DEPTH {
                        return Err(limit(path, "more than 64 directory levels"));
                    }
                    trail.push(found);
                }
            }
        }
        Ok(trail.pop())
    }

    /// Visits every entry with its path (`/dir/name`), a directory before its content.
    ///
    /// # Errors
    /// Returns what is damaged in the tree, for example a directory that is reached twice.
    pub fn walk(&self, visit: &mut dyn FnMut(&str, &DirectoryEntry) -> Result<(), IsoError>) -> Result<(), IsoError> {
        let mut seen = HashSet::from([self.root.offset]);
        let mut left = vec![(String::new(), self.root())];
        let mut entries = 0;
        while let Some((path, directory)) = left.pop() {
            for entry in self.list(&directory, &path)? {
                let path = format!("{path}/{}", entry.name);
                entries += 1;
                if entries > MAX_ENTRIES {
                    return Err(limit(&path, "more than 1,000,000 entries in the volume"));
                }
                visit(&path, &entry)?;
                if entry.kind == EntryKind::Directory {
                    if path.split('/').count() > MAX_DEPTH {
                        return Err(limit(&path, "more than 64 directory levels"));
                    }
                    if !seen.insert(entry.extents[0].offset) {
                        return Err(IsoError::Loop { path });
                    }
                    left.push((path, entry));
                }
            }
        }
        Ok(())
    }

    /// Reads the records of a directory's extent.
    ///
    /// # Errors
    /// Returns what is damaged in the directory.
    pub fn records(&self, extent: Extent, path: &str) -> Result<Vec<DirectoryRecord>, IsoError> {
        if extent.length > MAX_DIRECTORY_BYTES {
            return Err(limit(path, "directory longer than 16 MiB"));
        }
        extent.ensure_within(self.image.len(), &format!("the directory {path:?}"))?;
        let mut data = vec![0; extent.length as usize];
        self.image.read_at(extent.offset, &mut data).map_err(IsoError::read(path))?;
        let mut records = Vec::new();
        for (sector, sector_at) in data.chunks(SECTOR as usize).zip((extent.offset..).step_by(SECTOR as usize)) {
            let mut from = 0;
            while let Some(rest) = sector.get(from..).filter(|rest| rest.first().is_some_and(|length| *length != 0)) {
                let at = sector_at + from as u64;
                let record = DirectoryRecord::parse(at, rest).map_err(|reason| damaged(path, at, reason))?;
                from += usize::from(rest[0]);
                records.push(record);
            }
        }
        Ok(records)
    }

    /// Converts a record to an entry. Returns `None` for a relocated directory, which has another logical place.
    fn entry(&self, record: &DirectoryRecord, path: &str) -> Result<Option<DirectoryEntry>, IsoError> {
        let ridge = match self.susp_skip {
            Some(skip) => record::rock_ridge(self.image, record, skip).map_err(|error| in_directory(error, path))?,
            None => RockRidge::default(),
        };
        if ridge.is_relocated {
            return Ok(None);
        }
        let name = ridge.name.unwrap_or_else(|| record.name(self.encoding));
        let (kind, extent) = match (ridge.child, ridge.link) {
            (Some(sector), _) => (EntryKind::Directory, self.relocated_directory(sector, path)?),
            (None, Some(target)) => (EntryKind::Link(target), record.extent),
            (None, None) if record.is_directory() => (EntryKind::Directory, record.extent),
            (None, None) if record.interleaved => (EntryKind::Unreadable("interleaved"), record.extent),
            (None, None) if ridge.compressed => (EntryKind::Unreadable("compressed (zisofs)"), record.extent),
            (None, None) => (EntryKind::File, record.extent),
        };
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(damaged(path, record.at, "invalid file name"));
        }
        Ok(Some(DirectoryEntry { name, kind, extents: vec![extent], records: vec![record.at] }))
    }

    /// Returns the extent of a directory that Rock Ridge relocated, from its own first record.
    fn relocated_directory(&self, sector: u32, path: &str) -> Result<Extent, IsoError> {
        let first = Extent { offset: u64::from(sector) * SECTOR, length: SECTOR };
        let dot = self.records(first, path)?.into_iter().next().filter(|record| record.identifier == [0]);
        let reason = "the first record of a relocated directory is not its own";
        let dot = dot.ok_or_else(|| damaged(path, first.offset, reason))?;
        Ok(dot.extent)
    }
}

/// Returns the error of a damaged directory.
fn damaged(path: &str, at: u64, reason: &'static str) -> IsoError {
    IsoError::Directory { path: path.to_owned(), at, reason }
}

/// Splits a path into names, without empty ones and `.`.
fn components(path: &str) -> impl DoubleEndedIterator<Item = String> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".").map(str::to_owned)
}

/// Returns the entry with a name: exactly, or else without case and without the trailing dot of a name that has
/// no extension.
fn pick(entries: Vec<DirectoryEntry>, name: &str) -> Option<DirectoryEntry> {
    let exact = entries.iter().position(|entry| entry.name == name);
    let plain = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let wanted = plain(name);
    let found = exact.or_else(|| entries.iter().position(|entry| plain(&entry.name) == wanted))?;
    entries.into_iter().nth(found)
}

/// Returns the error of an exceeded limit.
fn limit(path: &str, limit: &'static str) -> IsoError {
    IsoError::Limit { path: path.to_owned(), limit }
}

/// Adds the path of the directory to the error of a damaged record.
fn in_directory(error: IsoError, path: &str) -> IsoError {
    match error {
        IsoError::Directory { at, reason, .. } => IsoError::Directory { path: path.to_owned(), at, reason },
        other => other,
    }
}
