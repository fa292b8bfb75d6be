//! Lookups of the files that the menus of an image name.

use std::collections::HashMap;

use super::entry::{MenuEntry, MenuGap, Obstacle};

/// Maximum number of paths that are looked up for the menus of an image.
pub const MAX_LOOKUPS: usize = 512;
/// Maximum length of such a path, in bytes.
const MAX_LOOKUP_LENGTH: usize = 1024;

/// Returns whether an image has a file at a path, or nothing if that is not known.
pub type FileTest<'a> = &'a dyn Fn(&str) -> Option<bool>;

/// The files of an image that its menus read, and whose content is not read here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnreadFiles {
    /// Paths of the files.
    pub paths: Vec<String>,
    /// Whether the menus may read others too.
    pub has_more: bool,
}

impl UnreadFiles {
    /// Returns the files among the gaps of the menus of an image.
    pub fn of<'g>(gaps: impl Iterator<Item = &'g MenuGap>) -> Self {
        let mut unread = Self::default();
        for gap in gaps {
            match gap {
                MenuGap::UnreadFile(path) => unread.paths.push(path.clone()),
                MenuGap::Includes => unread.has_more = true,
                MenuGap::KernelLines => {}
            }
        }
        unread
    }
}

/// The lookups of an image. A path is looked up once.
pub struct FileLookup<'a> {
    is_file: FileTest<'a>,
    known: HashMap<String, Option<bool>>,
}

impl std::fmt::Debug for FileLookup<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("FileLookup").field("known", &self.known).finish_non_exhaustive()
    }
}

impl<'a> FileLookup<'a> {
    /// Creates the lookups of an image.
    pub fn new(is_file: FileTest<'a>) -> Self {
        Self { is_file, known: HashMap::new() }
    }

    /// Returns whether a file exists, or nothing if it was not looked up.
    pub fn exists(&mut self, path: &str) -> Option<bool> {
        if let Some(known) = self.known.get(path) {
            return *known;
        }
        if self.known.len() >= MAX_LOOKUPS || path.len() > MAX_LOOKUP_LENGTH {
            return None;
        }
        let exists = (self.is_file)(path);
        self.known.insert(path.to_owned(), exists);
        exists
    }

    /// Replaces the names of an entry's files by their paths. A file that does not exist is an obstacle, and so is one
    /// that was not looked up.
    pub fn resolve(&mut self, entry: &mut MenuEntry, candidates: impl Fn(&str) -> Vec<String>) {
        if matches!(entry.obstacle, Some(Obstacle::Variable { .. })) {
            return;
        }
        let mut missing = None;
        for name in [&mut entry.kernel].into_iter().chain(&mut entry.initrds) {
            let paths = candidates(name);
            let mut is_known = true;
            let found = paths.iter().find(|path| {
                let exists = self.exists(path);
                is_known &= exists.is_some();
                exists == Some(true)
            });
            let obstacle = if is_known { Obstacle::MissingFile } else { Obstacle::UncheckedFile };
            match found {
                Some(path) => name.clone_from(path),
                None => missing = missing.or(paths.into_iter().next().map(obstacle)),
            }
        }
        entry.obstacle = entry.obstacle.take().or(missing);
    }
}
