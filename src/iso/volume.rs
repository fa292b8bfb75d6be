//! An image's trees taken together: what a path names in any of them.

use super::descriptor::{Extent, Volume};
use super::tree::{Entry, Kind, Tree};
use super::udf::Udf;
use super::{NotAnIso, ReadAt};

const READ_WHOLE_MAX: u64 = 4 * 1024 * 1024;

/// Is an image opened for reading by path.
#[derive(Debug)]
pub struct Iso<'a> {
    pub(super) image: &'a dyn ReadAt,
    pub(super) volume: Volume,
    /// Holds the trees, the one with the best names first.
    pub(super) trees: Vec<Tree<'a>>,
    udf: Option<Udf<'a>>,
}

impl<'a> Iso<'a> {
    /// Opens an image.
    ///
    /// # Errors
    /// Says why it is no ISO 9660 image, or what of it is damaged.
    pub fn open(image: &'a dyn ReadAt) -> Result<Self, NotAnIso> {
        let volume = Volume::read(image)?;
        let mut trees = Vec::new();
        for descriptor in volume.descriptors() {
            let known = trees.iter().any(|tree: &Tree<'_>| tree.root().extents == [descriptor.root]);
            if !known {
                trees.push(Tree::open(image, descriptor)?);
            }
        }
        // Rock Ridge has every name in full; Joliet cuts at 64 characters; the plain names are the last resort.
        trees.sort_by_key(|tree| (!tree.rock_ridge(), tree.spelling() != super::Spelling::Joliet));
        let udf = if volume.udf { Some(Udf::open(image)?) } else { None };
        Ok(Self { image, volume, trees, udf })
    }

    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Says whether file names are Rock Ridge's.
    pub fn rock_ridge(&self) -> bool {
        self.trees.iter().any(Tree::rock_ridge)
    }

    /// Finds what a path names, in the tree with the best names that has it; a file that lies past
    /// the end of the image is an error, not a short file.
    ///
    /// # Errors
    /// Says what of the image is damaged on the way. A path that names nothing is no error.
    pub fn find(&self, path: &str) -> Result<Option<Entry>, NotAnIso> {
        for tree in &self.trees {
            if let Some(entry) = tree.find(path)? {
                entry.within(self.image.len(), path)?;
                return Ok(Some(entry));
            }
        }
        let Some(udf) = &self.udf else { return Ok(None) };
        let Some(entry) = udf.find(path)? else { return Ok(None) };
        entry.within(self.image.len(), path)?;
        Ok(Some(entry))
    }

    /// Gives the extents of the file that a path names: what HTTP serves, from the image as it lies.
    ///
    /// # Errors
    /// As `find`.
    pub fn file(&self, path: &str) -> Result<Option<Vec<Extent>>, NotAnIso> {
        match self.find(path)? {
            Some(Entry { kind: Kind::File, extents, .. }) => Ok(Some(extents)),
            Some(_) | None => Ok(None),
        }
    }

    /// Reads a small file whole; nothing where there is none, or it is longer than 4 MiB.
    ///
    /// # Errors
    /// As `find`, and what the medium says.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, NotAnIso> {
        match self.file(path)? {
            Some(extents) => read_extents(self.image, &extents, path),
            None => Ok(None),
        }
    }

    /// Shows every entry of the tree with the best names; of the UDF side where ISO 9660 has only a note.
    ///
    /// # Errors
    /// Says what of the tree is damaged.
    pub fn walk(&self, visit: &mut dyn FnMut(&str, &Entry) -> Result<(), NotAnIso>) -> Result<(), NotAnIso> {
        match self.trees.first() {
            Some(tree) => tree.walk(visit),
            None => Ok(()),
        }
    }

    /// Lists the directory that a path names; nothing where it names none.
    ///
    /// # Errors
    /// As `find`.
    pub fn list(&self, path: &str) -> Result<Option<Vec<Entry>>, NotAnIso> {
        for tree in &self.trees {
            if let Some(entry) = tree.find(path)?.filter(|entry| entry.kind == Kind::Directory) {
                return tree.list(&entry, path).map(Some);
            }
        }
        let Some(udf) = &self.udf else { return Ok(None) };
        match udf.find(path)? {
            Some(entry) if entry.kind == Kind::Directory => udf.list(&entry).map(Some),
            Some(_) | None => Ok(None),
        }
    }
}

/// Reads extents one after the other; nothing where they are longer than 4 MiB together.
pub fn read_extents(image: &dyn ReadAt, extents: &[Extent], what: &str) -> Result<Option<Vec<u8>>, NotAnIso> {
    let length: u64 = extents.iter().map(|extent| extent.length).sum();
    if length > READ_WHOLE_MAX {
        return Ok(None);
    }
    let mut data = vec![0; length as usize];
    let mut left = &mut data[..];
    for extent in extents {
        let (here, rest) = left.split_at_mut(extent.length as usize);
        image.read_at(extent.offset, here).map_err(NotAnIso::read(what))?;
        left = rest;
    }
    Ok(Some(data))
}
