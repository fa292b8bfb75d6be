//! Uploaded ISO files: their names, their removal with the image, and the partial uploads.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use schemars::JsonSchema;

use crate::fleet::{Image, Name};
use crate::images::partial_upload::{self, ABANDONED_TTL, STALLED_TTL};
use crate::iso::file;
use crate::store::Store;

/// Maximum size of the file that names an upload's image, in bytes.
const LABEL_BYTES: u64 = 1024;

/// A partial upload that waits for the rest, or is being written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingUpload {
    /// Key of the upload: 16 to 64 hexadecimal digits that the client chose.
    pub key: String,
    /// Name of the ISCSICdrom that the upload creates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Number of bytes that arrived.
    pub offset: u64,
    /// Time at which the last bytes arrived.
    pub last_written: Option<jiff::Timestamp>,
    /// Time at which the upload is removed if it is not resumed.
    pub kept_until: Option<jiff::Timestamp>,
}

/// Returns the name of the file that an uploaded image is stored in.
pub fn file_name(image: &Name) -> String {
    format!("{image}.iso")
}

/// Prepares the deletion of an image: marks its uploaded file, durably. A crash after the deletion then leaves a file
/// that `recover` removes. Does nothing for a file that was not uploaded.
///
/// # Errors
/// The file system's error.
pub async fn mark(isos: &Path, image: &Image) -> io::Result<()> {
    match own_marker(isos, image) {
        None => Ok(()),
        Some(marker) => {
            tokio::fs::write(&marker, b"").await?;
            tokio::fs::File::open(isos).await?.sync_all().await
        }
    }
}

/// Takes `mark` back: the image was not deleted.
pub async fn unmark(isos: &Path, image: &Image) {
    if let Some(marker) = own_marker(isos, image) {
        remove(&marker);
    }
}

fn own_marker(isos: &Path, image: &Image) -> Option<PathBuf> {
    is_upload(image).then(|| upload_marker(isos, &isos.join(&image.spec.iso_file)))?
}

/// Returns whether an image's file was uploaded with the image.
fn is_upload(image: &Image) -> bool {
    image.status.sha256.is_some() && image.spec.iso_file == file_name(&image.metadata.name)
}

/// Ends what a crash interrupted: removes uploaded files that no image uses. Call it at the start, before any upload.
/// An upload whose image was not created can be resumed.
pub fn recover(store: &Store, isos: &Path) {
    let Ok(entries) = std::fs::read_dir(isos) else { return };
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let state = store.load();
    let is_used = |path: &Path| state.images().any(|image| isos.join(&image.spec.iso_file) == path);
    for marker in &paths {
        let Some(path) = marked_file(marker).map(|file| isos.join(file)) else { continue };
        if !is_used(&path) {
            tracing::info!(path = %path.display(), "file of a deleted image removed");
            remove(&path);
        }
        if !is_used(&path) || state.images().any(|image| is_upload(image) && isos.join(&image.spec.iso_file) == path) {
            remove(marker);
        }
    }
    // A complete upload has the name of its image next to its own until the image exists.
    for part in paths.iter().filter(|path| partial_upload::is_part(path)) {
        let same = |path: &&PathBuf| *path != part && is_same_file(path, part);
        match paths.iter().find(same) {
            Some(path) if is_used(path) => {
                remove(&partial_upload::label(part));
                remove(part);
            }
            Some(path) => {
                tracing::info!(path = %path.display(), "file of an interrupted upload removed");
                remove(path);
            }
            None => {}
        }
    }
}

/// Returns whether two names belong to one file.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.symlink_metadata().map(|about| (about.dev(), about.ino())).ok();
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// Removes a file that may be missing.
fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "failed to remove a file of an upload");
    }
}

/// Removes the uploaded file of a deleted image, unless another image still uses it. Readers that have the file open
/// keep it until they close it.
pub async fn remove_file(store: &Store, isos: &Path, deleted: &Image) {
    let file = &deleted.spec.iso_file;
    let path = isos.join(file);
    let Some(marker) = upload_marker(isos, &path) else { return };
    let is_used = store.load().images().any(|other| isos.join(&other.spec.iso_file) == path);
    let done = match (is_upload(deleted) || marker.exists(), is_used) {
        (false, _) => return,
        // The last image that uses the file may not be the one that was uploaded.
        (true, true) => tokio::fs::write(&marker, b"").await,
        (true, false) => tokio::fs::remove_file(&path).await,
    };
    if let Err(error) = done {
        tracing::warn!(file, %error, "failed to remove an uploaded ISO");
    } else if !is_used {
        let _ = tokio::fs::remove_file(&marker).await;
    }
}

/// Returns the file that marks another as uploaded; `None` for a file that cannot have been uploaded.
fn upload_marker(isos: &Path, file: &Path) -> Option<PathBuf> {
    let name = file.strip_prefix(isos).ok()?.to_str().filter(|name| !name.contains('/'))?;
    Some(isos.join(format!(".{name}.uploaded")))
}

/// Returns the name of the file that a marker belongs to; `None` for other files.
fn marked_file(marker: &Path) -> Option<&str> {
    marker.file_name()?.to_str()?.strip_prefix('.')?.strip_suffix(".uploaded")
}

/// Lists the partial uploads, ordered by key. Reads the directory: call it off the runtime's threads.
pub fn list(isos: &Path) -> Vec<PendingUpload> {
    let Ok(entries) = std::fs::read_dir(isos) else { return Vec::new() };
    let mut found: Vec<PendingUpload> = entries.flatten().filter_map(|entry| describe(&entry)).collect();
    found.sort_by(|one, other| one.key.cmp(&other.key));
    found
}

fn describe(entry: &std::fs::DirEntry) -> Option<PendingUpload> {
    let key = partial_upload::key_of(entry.file_name().to_str()?)?.to_owned();
    let metadata = entry.metadata().ok()?;
    let name = file::read(&partial_upload::label(&entry.path()), LABEL_BYTES).ok();
    let name = name.and_then(|name| String::from_utf8(name).ok()?.parse().ok());
    let written = metadata.modified().ok();
    let time = |at: SystemTime| jiff::Timestamp::try_from(at).ok();
    Some(PendingUpload {
        key,
        name,
        offset: metadata.len(),
        last_written: written.and_then(time),
        kept_until: written.and_then(|at| time(at + ABANDONED_TTL)),
    })
}

/// Removes the partial uploads that were not resumed in time; all that have stalled, if `is_low` says that the disk is
/// nearly full. Reads the directory: call it off the runtime's threads.
pub fn sweep(isos: &Path, now: SystemTime, is_low: bool) {
    let Ok(entries) = std::fs::read_dir(isos) else { return };
    let limit = if is_low { STALLED_TTL } else { ABANDONED_TTL };
    for entry in entries.flatten() {
        let is_partial = partial_upload::is_part(&entry.path());
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = modified.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > limit));
        if is_partial && is_old {
            tracing::info!(path = %entry.path().display(), is_low, "abandoned upload removed");
            let _ = std::fs::remove_file(partial_upload::label(&entry.path()));
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_upload_is_removed_after_its_time() {
        let directory = tempfile::tempdir().unwrap();
        for name in [".abcd.part", "live.iso"] {
            std::fs::write(directory.path().join(name), b"x").unwrap();
        }
        sweep(directory.path(), SystemTime::now() + ABANDONED_TTL / 2, false);
        assert!(directory.path().join(".abcd.part").exists());
        sweep(directory.path(), SystemTime::now(), true);
        assert!(directory.path().join(".abcd.part").exists(), "an upload in progress stays on a full disk");
        sweep(directory.path(), SystemTime::now() + ABANDONED_TTL * 2, false);
        assert!(!directory.path().join(".abcd.part").exists() && directory.path().join("live.iso").exists());
    }

    #[test]
    fn a_stalled_upload_is_removed_if_the_disk_is_nearly_full() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(".abcd.part"), b"x").unwrap();
        std::fs::write(directory.path().join(".abcd.name"), b"live").unwrap();
        let pending = list(directory.path());
        assert_eq!((pending.len(), pending[0].offset, pending[0].key.as_str()), (1, 1, "abcd"));
        assert_eq!(pending[0].name, Some("live".parse().unwrap()));
        sweep(directory.path(), SystemTime::now() + STALLED_TTL * 2, true);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_a_file_directly_in_the_directory_can_be_an_upload() {
        let isos = Path::new("/isos");
        assert_eq!(upload_marker(isos, Path::new("/isos/a.iso")), Some("/isos/.a.iso.uploaded".into()));
        for other in ["/isos/sub/a.iso", "/elsewhere/a.iso"] {
            assert_eq!(upload_marker(isos, Path::new(other)), None, "{other}");
        }
    }
}
