//! The boot programs over HTTP: those of packages, then those of the directories, in order.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::library::ImageView;
use super::served_directory::ServedDirectory;

/// The files of boot programs.
#[derive(Debug)]
pub struct BootPrograms {
    packaged: Vec<PackagedFile>,
    directories: Vec<Arc<ServedDirectory>>,
}

/// A program that a package has under another name.
#[derive(Debug)]
struct PackagedFile {
    name: String,
    directory: Arc<ServedDirectory>,
    file: String,
}

impl BootPrograms {
    /// Makes the search of directories. `packaged`: the name that machines ask for, and the path of the package's file.
    pub fn new(packaged: impl IntoIterator<Item = (String, PathBuf)>, directories: &[PathBuf]) -> Self {
        let served = |path: &Path| Arc::new(ServedDirectory::new(path.to_owned()));
        let file = |(name, path): (String, PathBuf)| {
            let file = path.file_name()?.to_str()?.to_owned();
            Some(PackagedFile { name, directory: served(path.parent()?), file })
        };
        Self {
            packaged: packaged.into_iter().filter_map(file).collect(),
            directories: directories.iter().map(|path| served(path)).collect(),
        }
    }

    /// Opens a program; `None` if there is none.
    ///
    /// # Errors
    /// As [`ServedDirectory::find`].
    pub async fn find(&self, name: &str) -> io::Result<Option<ImageView>> {
        let packaged = self.packaged.iter().filter(|one| one.name == name);
        let packaged = packaged.map(|one| (&one.directory, one.file.as_str()));
        for (directory, file) in packaged.chain(self.directories.iter().map(|directory| (directory, name))) {
            if let Some(view) = directory.find(file).await? {
                return Ok(Some(view));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packages_come_first_then_the_directories_in_order() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        for (file, text) in [
            ("package/shim.signed", "from the package"),
            ("one/shim.efi", "of one, too"),
            ("one/a.efi", "first"),
            ("two/a.efi", "second, too"),
            ("two/b.efi", "second only"),
        ] {
            std::fs::create_dir_all(path(file).parent().unwrap()).unwrap();
            std::fs::write(path(file), text).unwrap();
        }
        let packaged =
            [("shim.efi".to_owned(), path("package/shim.signed")), ("gone.efi".to_owned(), path("package/gone"))];
        let programs = BootPrograms::new(packaged, &[path("one"), path("missing"), path("two")]);
        let rows = [
            ("shim.efi", Some("from the package")),
            ("a.efi", Some("first")),
            ("b.efi", Some("second only")),
            ("gone.efi", None),
            ("../package/shim.signed", None),
            ("shim.signed", None),
        ];
        for (name, expected) in rows {
            let size = programs.find(name).await.unwrap().map(|view| view.medium.len());
            assert_eq!(size, expected.map(|text: &str| text.len() as u64), "{name}");
        }
    }
}
