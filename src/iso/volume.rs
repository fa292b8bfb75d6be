//! An image as one file system: lookup of paths in all of its trees.

use super::descriptor::VolumeDescriptorSet;
use super::extent::Extent;
use super::tree::{DirectoryEntry, DirectoryTree, EntryKind};
use super::udf::UdfVolume;
use super::{IsoError, ReadAt};

/// Maximum length of a file that is read as a whole, in bytes.
const MAX_READ_WHOLE_BYTES: u64 = 4 * 1024 * 1024;

/// An image that is open for reading by path.
#[derive(Debug)]
pub struct Iso<'a> {
    /// Bytes of the image.
    pub(super) image: &'a dyn ReadAt,
    /// Volume descriptors.
    pub(super) volume: VolumeDescriptorSet,
    /// ISO 9660 and Joliet trees, the one with the most complete names first.
    pub(super) trees: Vec<DirectoryTree<'a>>,
    /// UDF volume of a bridge image.
    udf: Option<UdfVolume<'a>>,
}

impl<'a> Iso<'a> {
    /// Opens an image.
    ///
    /// # Errors
    /// Returns why the file is not an ISO 9660 image, or what is damaged.
    pub fn open(image: &'a dyn ReadAt) -> Result<Self, IsoError> {
        let volume = VolumeDescriptorSet::read(image)?;
        let mut trees = Vec::new();
        for descriptor in volume.descriptors() {
            let known = trees.iter().any(|tree: &DirectoryTree<'_>| tree.root().extents == [descriptor.root]);
            if !known {
                trees.push(DirectoryTree::open(image, descriptor)?);
            }
        }
        // Rock Ridge names are complete. Joliet truncates at 64 characters. Plain names are the last resort.
        trees.sort_by_key(|tree| (!tree.rock_ridge(), tree.encoding() != super::NameEncoding::Joliet));
        let udf = if volume.udf { Some(UdfVolume::open(image)?) } else { None };
        Ok(Self { image, volume, trees, udf })
    }

    /// Returns the volume descriptors.
    pub fn volume(&self) -> &VolumeDescriptorSet {
        &self.volume
    }

    /// Returns whether a tree has Rock Ridge names.
    pub fn rock_ridge(&self) -> bool {
        self.trees.iter().any(DirectoryTree::rock_ridge)
    }

    /// Looks up a path, in the ISO 9660 and Joliet trees first, then in UDF.
    ///
    /// # Errors
    /// Returns what is damaged on the way, and `PastEnd` for a file that lies past the end of the image. A path
    /// that does not exist is not an error.
    pub fn find(&self, path: &str) -> Result<Option<DirectoryEntry>, IsoError> {
        for tree in &self.trees {
            if let Some(entry) = tree.find(path)? {
                entry.ensure_within(self.image.len(), path)?;
                return Ok(Some(entry));
            }
        }
        let Some(udf) = &self.udf else { return Ok(None) };
        let Some(entry) = udf.find(path)? else { return Ok(None) };
        entry.ensure_within(self.image.len(), path)?;
        Ok(Some(entry))
    }

    /// Returns the extents of the file at a path, from which HTTP serves it. Returns `None` if there is no file
    /// whose extents hold its bytes.
    ///
    /// # Errors
    /// Returns the same errors as `find`.
    pub fn file_extents(&self, path: &str) -> Result<Option<Vec<Extent>>, IsoError> {
        match self.find(path)? {
            Some(DirectoryEntry { kind: EntryKind::File, extents, .. }) => Ok(Some(extents)),
            Some(_) | None => Ok(None),
        }
    }

    /// Reads a whole file. Returns `None` if there is none, or if it is longer than 4 MiB.
    ///
    /// # Errors
    /// Returns the same errors as `find`, or the error of reading the image.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, IsoError> {
        match self.file_extents(path)? {
            Some(extents) => read_extents(self.image, &extents, path),
            None => Ok(None),
        }
    }

    /// Visits every entry of the tree with the most complete names. UDF is not visited.
    ///
    /// # Errors
    /// Returns what is damaged in the tree.
    pub fn walk(&self, visit: &mut dyn FnMut(&str, &DirectoryEntry) -> Result<(), IsoError>) -> Result<(), IsoError> {
        match self.trees.first() {
            Some(tree) => tree.walk(visit),
            None => Ok(()),
        }
    }

    /// Lists the directory at a path. Returns `None` if there is none.
    ///
    /// # Errors
    /// Returns the same errors as `find`.
    pub fn list(&self, path: &str) -> Result<Option<Vec<DirectoryEntry>>, IsoError> {
        for tree in &self.trees {
            if let Some(entry) = tree.find(path)?.filter(|entry| entry.kind == EntryKind::Directory) {
                return tree.list(&entry, path).map(Some);
            }
        }
        let Some(udf) = &self.udf else { return Ok(None) };
        match udf.find(path)? {
            Some(entry) if entry.kind == EntryKind::Directory => udf.list(&entry).map(Some),
            Some(_) | None => Ok(None),
        }
    }
}

/// Reads the content of extents. Returns `None` if their total length is above 4 MiB. `what` is the path of the
/// file, for errors.
pub fn read_extents(image: &dyn ReadAt, extents: &[Extent], what: &str) -> Result<Option<Vec<u8>>, IsoError> {
    let length: u64 = extents.iter().map(|extent| extent.length).sum();
    if length > MAX_READ_WHOLE_BYTES {
        return Ok(None);
    }
    let mut data = vec![0; length as usize];
    let mut left = &mut data[..];
    for extent in extents {
        let (here, rest) = left.split_at_mut(extent.length as usize);
        image.read_at(extent.offset, here).map_err(IsoError::read(what))?;
        left = rest;
    }
    Ok(Some(data))
}
