//! A volume's tree of directories: paths to extents, to the byte.

use std::collections::HashSet;

use super::descriptor::{Descriptor, Extent, SECTOR, Spelling};
use super::record::{self, Record, RockRidge};
use super::{NotAnIso, ReadAt};

const DIRECTORY_MAX: u64 = 16 * 1024 * 1024;
const DEPTH_MAX: usize = 64;
const ENTRIES_MAX: usize = 1_000_000;
const LINKS_MAX: usize = 16;
const EXTENTS_MAX: usize = 4096;

/// Is one tree of an image: the primary one, with Rock Ridge where it has it, or Joliet's.
#[derive(Debug)]
pub struct Tree<'a> {
    image: &'a dyn ReadAt,
    root: Extent,
    spelling: Spelling,
    /// Is the number of bytes before the SUSP entries of every record, where the tree uses SUSP.
    susp: Option<usize>,
}

/// Is a file, a directory or a link of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
    /// Is where the content lies in the image, in order.
    pub extents: Vec<Extent>,
    /// Is where the directory records lie in the image, one for each extent.
    pub records: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File,
    /// A file whose extents do not hold its bytes as they are, and why.
    Unreadable(&'static str),
    Directory,
    Link(String),
}

impl Entry {
    /// Gives the content's length in bytes.
    pub fn length(&self) -> u64 {
        self.extents.iter().map(|extent| extent.length).sum()
    }

    /// Proves that the content lies inside an image of a length.
    ///
    /// # Errors
    /// `PastEnd`, naming the path.
    pub fn within(&self, image: u64, path: &str) -> Result<(), NotAnIso> {
        self.extents.iter().try_for_each(|extent| extent.within(image, path).map(|_| ()))
    }
}

impl<'a> Tree<'a> {
    /// Opens the tree of a volume descriptor.
    ///
    /// # Errors
    /// Says why its root cannot be read.
    pub fn open(image: &'a dyn ReadAt, descriptor: &Descriptor) -> Result<Self, NotAnIso> {
        let Descriptor { root, spelling, .. } = *descriptor;
        let mut tree = Self { image, root, spelling, susp: None };
        let records = tree.records(root, "/")?;
        let dot = records.first().filter(|record| record.identifier == [0]);
        let dot = dot.ok_or_else(|| tree.damaged("/", root.offset, "its first record is not its own"))?;
        if spelling == Spelling::Plain {
            tree.susp = record::susp_skip(dot);
        }
        Ok(tree)
    }

    /// Says whether its names are Rock Ridge's.
    pub fn rock_ridge(&self) -> bool {
        self.susp.is_some()
    }

    /// Gives the bytes before the SUSP entries of every record, where the tree uses SUSP.
    pub fn susp(&self) -> Option<usize> {
        self.susp
    }

    pub fn spelling(&self) -> Spelling {
        self.spelling
    }

    pub fn root(&self) -> Entry {
        Entry { name: String::new(), kind: Kind::Directory, extents: vec![self.root], records: Vec::new() }
    }

    /// Lists a directory, without itself and its parent.
    ///
    /// # Errors
    /// Says what of the directory is damaged. Where files lie is not looked at: see `Entry::within`.
    pub fn list(&self, directory: &Entry, path: &str) -> Result<Vec<Entry>, NotAnIso> {
        let Some(extent) = directory.extents.first() else { return Ok(Vec::new()) };
        let mut entries: Vec<Entry> = Vec::new();
        let mut goes_on: Option<Vec<u8>> = None;
        for record in self.records(*extent, path)? {
            if record.is_dot() {
                continue;
            }
            let more = record.has_more().then(|| record.identifier.clone());
            match (goes_on.take(), entries.last_mut()) {
                (Some(name), Some(entry)) if name == record.identifier => {
                    if entry.extents.len() >= EXTENTS_MAX {
                        return Err(self.damaged(path, record.at, "a file has more than 4096 extents"));
                    }
                    entry.extents.push(record.extent);
                    entry.records.push(record.at);
                }
                (Some(_), _) => return Err(self.damaged(path, record.at, "a file's next extent is missing")),
                (None, _) => entries.extend(self.entry(&record, path)?),
            }
            goes_on = more;
        }
        Ok(entries)
    }

    /// Finds what a path names, following links. A name is tried as it is spelled, then without
    /// regard to case: plain ISO 9660 writes `vmlinuz` as `VMLINUZ.;1`.
    ///
    /// # Errors
    /// Says what of the tree is damaged on the way. A path that names nothing is no error.
    pub fn find(&self, path: &str) -> Result<Option<Entry>, NotAnIso> {
        let mut left: Vec<String> = components(path).rev().collect();
        let mut trail = vec![self.root()];
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name == ".." {
                trail.truncate(trail.len().max(2) - 1);
                continue;
            }
            let Some(here) = trail.last().filter(|entry| entry.kind == Kind::Directory) else { return Ok(None) };
            let Some(found) = pick(self.list(here, path)?, &name) else { return Ok(None) };
            match &found.kind {
                Kind::Link(target) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(NotAnIso::Links { path: path.to_owned(), limit: LINKS_MAX });
                    }
                    if target.starts_with('/') {
                        trail.truncate(1);
                    }
                    left.extend(components(target).rev());
                }
                _ if trail.len() > DEPTH_MAX => return Err(limit(path, "more than 64 directories deep")),
                _ => trail.push(found),
            }
        }
        Ok(trail.pop())
    }

    /// Shows every entry with its path (`/dir/name`), a directory before what is in it.
    ///
    /// # Errors
    /// Says what of the tree is damaged: a directory that is reached twice, or lies past the end.
    pub fn walk(&self, visit: &mut dyn FnMut(&str, &Entry) -> Result<(), NotAnIso>) -> Result<(), NotAnIso> {
        let mut seen = HashSet::from([self.root.offset]);
        let mut left = vec![(String::new(), self.root())];
        let mut entries = 0;
        while let Some((path, directory)) = left.pop() {
            for entry in self.list(&directory, &path)? {
                let path = format!("{path}/{}", entry.name);
                entries += 1;
                if entries > ENTRIES_MAX {
                    return Err(limit(&path, "more than 1,000,000 entries in the volume"));
                }
                visit(&path, &entry)?;
                if entry.kind == Kind::Directory {
                    if path.split('/').count() > DEPTH_MAX {
                        return Err(limit(&path, "more than 64 directories deep"));
                    }
                    if !seen.insert(entry.extents[0].offset) {
                        return Err(NotAnIso::Loop { path });
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
    /// Says what of the directory is damaged.
    pub fn records(&self, extent: Extent, path: &str) -> Result<Vec<Record>, NotAnIso> {
        if extent.length > DIRECTORY_MAX {
            return Err(limit(path, "the directory is longer than 16 MiB"));
        }
        extent.within(self.image.len(), &format!("the directory {path:?}"))?;
        let mut data = vec![0; extent.length as usize];
        self.image.read_at(extent.offset, &mut data).map_err(NotAnIso::read(path))?;
        let mut records = Vec::new();
        for (sector, sector_at) in data.chunks(SECTOR as usize).zip((extent.offset..).step_by(SECTOR as usize)) {
            let mut from = 0;
            while let Some(rest) = sector.get(from..).filter(|rest| rest.first().is_some_and(|length| *length != 0)) {
                let at = sector_at + from as u64;
                let record = Record::parse(at, rest).map_err(|why| self.damaged(path, at, why))?;
                from += usize::from(rest[0]);
                records.push(record);
            }
        }
        Ok(records)
    }

    /// Makes an entry of a record, or nothing of a directory that belongs elsewhere.
    fn entry(&self, record: &Record, path: &str) -> Result<Option<Entry>, NotAnIso> {
        let ridge = match self.susp {
            Some(skip) => record::rock_ridge(self.image, record, skip).map_err(|error| in_directory(error, path))?,
            None => RockRidge::default(),
        };
        if ridge.moved {
            return Ok(None);
        }
        let name = ridge.name.unwrap_or_else(|| record.name(self.spelling));
        let (kind, extent) = match (ridge.child, ridge.link) {
            (Some(sector), _) => (Kind::Directory, self.moved_directory(sector, path)?),
            (None, Some(target)) => (Kind::Link(target), record.extent),
            (None, None) if record.is_directory() => (Kind::Directory, record.extent),
            (None, None) if record.interleaved => (Kind::Unreadable("it is interleaved"), record.extent),
            (None, None) if ridge.compressed => (Kind::Unreadable("it is compressed (zisofs)"), record.extent),
            (None, None) => (Kind::File, record.extent),
        };
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(self.damaged(path, record.at, "a name is no file name"));
        }
        Ok(Some(Entry { name, kind, extents: vec![extent], records: vec![record.at] }))
    }

    /// Gives the extent of a directory that Rock Ridge moved, from its own first record.
    fn moved_directory(&self, sector: u32, path: &str) -> Result<Extent, NotAnIso> {
        let first = Extent { offset: u64::from(sector) * SECTOR, length: SECTOR };
        let dot = self.records(first, path)?.into_iter().next().filter(|record| record.identifier == [0]);
        let dot =
            dot.ok_or_else(|| self.damaged(path, first.offset, "a moved directory's first record is not its own"))?;
        Ok(dot.extent)
    }

    fn damaged(&self, path: &str, at: u64, why: &'static str) -> NotAnIso {
        NotAnIso::Directory { path: path.to_owned(), at, why }
    }
}

/// Splits a path, leaving out what names the same directory.
fn components(path: &str) -> impl DoubleEndedIterator<Item = String> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".").map(str::to_owned)
}

/// Picks the entry of a name: as spelled, else without case and without the dot of a name that has no extension.
fn pick(entries: Vec<Entry>, name: &str) -> Option<Entry> {
    let exact = entries.iter().position(|entry| entry.name == name);
    let plain = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let wanted = plain(name);
    let found = exact.or_else(|| entries.iter().position(|entry| plain(&entry.name) == wanted))?;
    entries.into_iter().nth(found)
}

fn limit(path: &str, limit: &'static str) -> NotAnIso {
    NotAnIso::Limit { path: path.to_owned(), limit }
}

fn in_directory(error: NotAnIso, path: &str) -> NotAnIso {
    match error {
        NotAnIso::Directory { at, why, .. } => NotAnIso::Directory { path: path.to_owned(), at, why },
        other => other,
    }
}
