//! Files of this machine: those that arguments name as NAME=FILE, and those that are written as a whole.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Maximum number of names that are tried for a temporary file.
const MAX_NAMES: usize = 100;

/// Reads the files that arguments name as `NAME=FILE`. One without a name has the default name.
///
/// # Errors
/// A file cannot be read, or two have one name.
pub fn read_named(files: &[PathBuf], default_name: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut read: Vec<(String, Vec<u8>)> = Vec::new();
    for file in files {
        let argument = file.to_string_lossy();
        let name = argument.split_once('=').map_or(default_name, |(name, _)| name);
        let path = path_of(file);
        let content = std::fs::read(&path).with_context(|| path.display().to_string())?;
        if read.iter().any(|(earlier, _)| earlier == name) {
            anyhow::bail!("{name}: given twice; name further files as NAME=FILE");
        }
        read.push((name.to_owned(), content));
    }
    Ok(read)
}

/// Returns the path of an argument `NAME=FILE` or `FILE`.
pub fn path_of(argument: &Path) -> PathBuf {
    let text = argument.to_string_lossy();
    text.split_once('=').map_or_else(|| argument.to_owned(), |(_, path)| PathBuf::from(path))
}

/// Writes a new file that only its owner can read.
///
/// # Errors
/// The file exists or cannot be written.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create_new(path)?.write_all(bytes)
}

/// Writes a file that only its owner can read, in place of what is there: readers see the old content or the new one.
///
/// # Errors
/// The file cannot be written.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (temporary, mut file) = temporary_beside(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let written = written.and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Creates a temporary file in the directory of another one, of a name that no other process uses.
fn temporary_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    for number in 0..MAX_NAMES {
        let mut temporary = name.to_owned();
        temporary.push(format!(".{}-{number}.part", std::process::id()));
        let temporary = path.with_file_name(temporary);
        match create_new(&temporary) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            created => return Ok((temporary, created?)),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        let left = place.path().join(format!("file.{}-0.part", std::process::id()));
        std::fs::write(&left, "of an earlier process").unwrap();
        for text in ["one", "two"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(left).unwrap(), "of an earlier process");
        assert_eq!(place.path().read_dir().unwrap().count(), 2);
        assert_eq!(create(&path, b"three").unwrap_err().kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_name_is_given_once() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        std::fs::write(&path, "text").unwrap();
        let named = PathBuf::from(format!("other={}", path.display()));
        let read = read_named(&[path.clone(), named.clone()], "main").unwrap();
        assert_eq!(
            read,
            [("main", "text"), ("other", "text")].map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
        );
        assert!(read_named(&[named.clone(), named], "main").unwrap_err().to_string().contains("other: given twice"));
    }
}
