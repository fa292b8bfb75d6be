//! Volumes: directories of the site's that generated configs are written to as files, each whole and durable before
//! anybody is told of it. A name that leads out, or a link, is refused.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, Mode, OFlags, ResolveFlags, access, fchmod, openat2, renameat, unlinkat};
use rustix::io::Errno;
use tokio::sync::{Mutex, MutexGuard};

use crate::fleet::Volume;

/// Bounds what is read of a file that may be replaced: no config is as long.
const FILE_BYTES: u64 = 16 << 20;

/// Holds the volumes; the first is where files go that are wanted in no other.
#[derive(Debug, Default)]
pub struct Volumes {
    list: Vec<Volume>,
    writing: Mutex<()>,
}

/// Is a file to be.
#[derive(Debug, Clone)]
pub struct NewFile {
    pub name: String,
    pub text: String,
    /// Says that it holds secrets: it is then for its owner and its group.
    pub confidential: bool,
}

/// Is a file as it was: its bytes and its mode.
type Was = Option<(Vec<u8>, u32)>;

/// Holds what files were before they were written, until nobody wants them back.
#[derive(Debug)]
#[must_use]
pub struct Written {
    volume: Volume,
    before: Vec<(String, Was)>,
}

/// Says why files are not written. None of them is.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("volume {volume}: {file}: {source}")]
    File { volume: String, file: String, source: io::Error },
    #[error("volume {volume}: {file} is there already, and was not generated here: move it away")]
    Foreign { volume: String, file: String },
}

impl Volumes {
    /// Takes the site's volumes, and warns of those that cannot be written to.
    pub fn new(list: Vec<Volume>) -> Self {
        for volume in &list {
            if let Err(error) = access(&volume.directory, Access::WRITE_OK | Access::EXEC_OK) {
                let directory = volume.directory.display();
                tracing::warn!(volume = volume.name, %directory, %error, "a volume cannot be written to");
            }
        }
        Self { list, writing: Mutex::default() }
    }

    /// Picks the volume that is named, or the first; none where the state alone is to hold a config.
    ///
    /// # Errors
    /// The names that there are.
    pub fn pick(&self, name: Option<&str>) -> Result<Option<&Volume>, String> {
        match name {
            None => Ok(self.list.first()),
            Some(Volume::BUILT_IN) => Ok(None),
            Some(name) => self.find(name).map(Some).ok_or_else(|| {
                let known = self.list.iter().map(|volume| volume.name.as_str()).chain([Volume::BUILT_IN]);
                format!("there is no such volume: {}", known.collect::<Vec<_>>().join(", "))
            }),
        }
    }

    /// Finds a volume by its name.
    pub fn find(&self, name: &str) -> Option<&Volume> {
        self.list.iter().find(|volume| volume.name == name)
    }

    /// Waits until nobody else writes.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().await
    }
}

/// Writes files, all or none; what is there already, as it is to be, stays. Waits for the disk.
///
/// # Errors
/// What the file system says, or a file that is not one of `ours`.
pub fn write(volume: &Volume, files: &[NewFile], ours: &BTreeSet<String>) -> Result<Written, VolumeError> {
    let mut written = Written { volume: volume.clone(), before: Vec::new() };
    let fail = |file: &str| {
        let (volume, file) = (volume.name.clone(), file.to_owned());
        move |source| VolumeError::File { volume, file, source }
    };
    let root = open_directory(&volume.directory).map_err(fail("."))?;
    let mut staged = Staged { root: &root, names: Vec::new() };
    let mut changed = Vec::new();
    for file in files {
        let mode = if file.confidential { 0o640 } else { 0o644 };
        let was = read(&root, &file.name).map_err(fail(&file.name))?;
        if was.as_ref().is_some_and(|(bytes, was)| bytes == file.text.as_bytes() && *was == mode) {
            continue;
        }
        let same = was.as_ref().is_some_and(|(bytes, _)| bytes == file.text.as_bytes());
        if was.is_some() && !same && !ours.contains(&file.name) {
            return Err(VolumeError::Foreign { volume: volume.name.clone(), file: file.name.clone() });
        }
        staged.names.push(part(&file.name));
        stage(&root, &file.name, file.text.as_bytes(), mode).map_err(fail(&file.name))?;
        changed.push((file.name.clone(), was));
    }
    for (name, was) in changed {
        let placed = renameat(&root, part(&name), &root, &name).map_err(io::Error::from);
        if let Err(source) = placed {
            written.undo();
            return Err(fail(&name)(source));
        }
        written.before.push((name, was));
    }
    staged.names.clear();
    match root.sync_all() {
        Ok(()) => Ok(written),
        Err(source) => {
            written.undo();
            Err(fail(".")(source))
        }
    }
}

/// Takes files away; those that are not there are gone already. Waits for the disk.
///
/// # Errors
/// What the file system says of the first that stays.
pub fn remove<'a>(volume: &Volume, files: impl IntoIterator<Item = &'a String>) -> Result<(), VolumeError> {
    let fail = |file: &str, source| VolumeError::File { volume: volume.name.clone(), file: file.to_owned(), source };
    let root = open_directory(&volume.directory).map_err(|source| fail(".", source))?;
    for file in files {
        unlink(&root, file).map_err(|source| fail(file, source))?;
    }
    root.sync_all().map_err(|source| fail(".", source))
}
impl Written {
    /// Puts back what was there before. Waits for the disk.
    pub fn undo(self) {
        let put_back = || -> io::Result<()> {
            let root = open_directory(&self.volume.directory)?;
            for (name, was) in self.before.iter().rev() {
                match was {
                    None => unlink(&root, name)?,
                    Some((bytes, mode)) => {
                        stage(&root, name, bytes, *mode)?;
                        renameat(&root, part(name), &root, name)?;
                    }
                }
            }
            root.sync_all()
        };
        if let Err(error) = put_back() {
            tracing::warn!(volume = self.volume.name, %error, "what was generated in vain could not be taken back");
        }
    }
}

/// Takes away what was staged and never placed.
struct Staged<'a> {
    root: &'a File,
    names: Vec<String>,
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            if let Err(error) = unlink(self.root, name) {
                tracing::warn!(name, %error, "a file that was never finished could not be removed");
            }
        }
    }
}

/// Names a file while it is written: always so, that what a power cut leaves is found by the next who writes it.
/// Proxmox lists no names that begin with a dot.
fn part(name: &str) -> String {
    format!(".{name}.part")
}

fn open_directory(path: &Path) -> io::Result<File> {
    let root = File::open(path)?;
    match root.metadata()?.is_dir() {
        true => Ok(root),
        false => Err(Errno::NOTDIR.into()),
    }
}

/// Opens what is right in the directory, and is no link.
fn within(root: &File, name: &str, flags: OFlags) -> io::Result<File> {
    if name.contains('/') {
        return Err(Errno::XDEV.into());
    }
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mode = if flags.contains(OFlags::CREATE) { Mode::RUSR | Mode::WUSR } else { Mode::empty() };
    Ok(openat2(root, name, flags, mode, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)?.into())
}

fn read(root: &File, name: &str) -> io::Result<Was> {
    let file = match within(root, name, OFlags::RDONLY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let about = file.metadata()?;
    if !about.is_file() || about.len() > FILE_BYTES {
        return Err(io::Error::other("what is there is no file of ours"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(Some((bytes, about.permissions().mode() & 0o7777)))
}

/// Writes a file under another name, durably.
fn stage(root: &File, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let part = part(name);
    unlink(root, &part)?;
    let mut file = within(root, &part, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
    fchmod(&file, Mode::from_raw_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn unlink(root: &File, name: &str) -> io::Result<()> {
    match unlinkat(root, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> NewFile {
        NewFile { name: name.into(), text: text.into(), confidential: false }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn volume(directory: &Path) -> Volume {
        Volume { name: "v".into(), directory: directory.to_owned() }
    }

    #[test]
    fn files_are_written_whole_and_can_be_taken_back() {
        let place = tempfile::tempdir().unwrap();
        let (volume, none) = (volume(place.path()), BTreeSet::new());
        let text = |name: &str| std::fs::read_to_string(place.path().join(name)).unwrap();
        std::fs::write(place.path().join(".a.part"), "left by a power cut").unwrap();
        let first = write(&volume, &[file("a", "1"), file("b", "2")], &none).unwrap();
        assert_eq!((text("a"), text("b"), names(place.path()).len()), ("1".into(), "2".into(), 2));
        assert_eq!(first.before, [("a".to_owned(), None), ("b".to_owned(), None)]);
        let mode = |name: &str| place.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("a"), 0o644);
        let secret = NewFile { confidential: true, ..file("a", "3") };
        let ours: BTreeSet<String> = ["a".to_owned(), "b".to_owned()].into();
        let second = write(&volume, &[secret, file("b", "2"), file("c", "4")], &ours).unwrap();
        assert_eq!((text("a"), mode("a"), second.before.len()), ("3".into(), 0o640, 2));
        second.undo();
        assert_eq!((text("a"), mode("a"), names(place.path())), ("1".into(), 0o644, vec!["a".into(), "b".into()]));
        assert!(write(&volume, &[file("a", "1")], &none).unwrap().before.is_empty(), "what is so already stays");
        first.undo();
        assert!(names(place.path()).is_empty());
        remove(&volume, &ours).unwrap();
    }

    #[test]
    fn none_is_written_where_one_cannot_be() {
        let (place, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (volume, none) = (volume(place.path()), BTreeSet::new());
        std::fs::create_dir(place.path().join("directory")).unwrap();
        std::fs::write(place.path().join("theirs"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path().join("target"), place.path().join("link")).unwrap();
        let before = names(place.path());
        for bad in ["directory", "link", "theirs", "..", "../out", "/etc/out", "a/b", "", &"n".repeat(300)] {
            let wrong = write(&volume, &[file("good", "1"), file(bad, "2")], &none);
            assert!(wrong.is_err(), "{bad}");
            assert_eq!(names(place.path()), before, "{bad}");
        }
        assert!(names(outside.path()).is_empty());
        let gone = Volume { name: "gone".into(), directory: place.path().join("gone") };
        assert!(write(&gone, &[file("a", "1")], &none).unwrap_err().to_string().contains("volume gone: "));
    }

    #[test]
    fn a_volume_is_picked_by_its_name() {
        let place = tempfile::tempdir().unwrap();
        let both = ["a", "b"].map(|name| Volume { name: name.into(), ..volume(place.path()) });
        let volumes = Volumes::new(both.into());
        let picked = |name: Option<&str>| volumes.pick(name).map(|volume| volume.map(|volume| volume.name.clone()));
        assert_eq!(picked(None), Ok(Some("a".into())));
        assert_eq!(picked(Some("b")), Ok(Some("b".into())));
        assert_eq!(picked(Some(Volume::BUILT_IN)), Ok(None));
        assert!(picked(Some("../c")).unwrap_err().contains("a, b, bootlatch"));
        assert_eq!(Volumes::default().pick(None).unwrap().map(|volume| &volume.name), None);
    }
}
