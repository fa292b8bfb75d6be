//! The file that an upload is written to until it is complete.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::fleet::Name;

use crate::store::free_space::FreeSpace;

/// Maximum size of an uploaded ISO in bytes; a dual-layer Blu-ray disc has less.
pub const MAX_ISO_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// Time after which an upload that sends nothing is cut off.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for which an interrupted upload can be resumed.
pub(super) const ABANDONED_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// Time after which a partial upload counts as stalled: twice the time after which its connection is cut off.
pub(super) const STALLED_TTL: Duration = Duration::from_secs(2 * STALL_TIMEOUT.as_secs());
/// Number of bytes that are written between two checks of the free space.
const SPACE_CHECK_BYTES: u64 = 1 << 20;

/// The reason for which an upload is refused.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The file system failed.
    #[error("{}: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The file system's error.
        source: io::Error,
    },
    /// Another connection writes the same upload.
    #[error("the upload is in progress on another connection")]
    InProgress,
    /// The client resumes at another offset than the end of what arrived.
    #[error("{wanted}, but {found} bytes have arrived: ask for the offset again")]
    Offset {
        /// Number of bytes that arrived.
        found: u64,
        /// Offset that the client gave.
        wanted: u64,
    },
    /// The ISO is larger than `MAX_ISO_BYTES`.
    #[error("the ISO is larger than {MAX_ISO_BYTES} bytes")]
    TooLarge,
    /// The upload would use space that is reserved for the state.
    #[error("not enough disk space: {free} bytes are free for ISOs, of which {reserve} are reserved for the state")]
    NoSpace {
        /// Free bytes of the file system.
        free: u64,
        /// Bytes of these that stay reserved.
        reserve: u64,
    },
}

/// An upload in progress. Its file is removed when the upload fails; a resumable upload keeps it until it is cancelled.
#[derive(Debug)]
pub struct PartialUpload {
    path: PathBuf,
    file: tokio::fs::File,
    digest: Sha256,
    length: u64,
    /// Length at the last check of the free space.
    checked: u64,
    is_resumable: bool,
}

impl PartialUpload {
    /// Creates an upload that cannot be resumed.
    ///
    /// # Errors
    /// The file cannot be created.
    pub async fn new(isos: &Path) -> Result<Self, UploadError> {
        let path = isos.join(format!(".{}.part", uuid::Uuid::new_v4().simple()));
        let file = tokio::fs::OpenOptions::new().write(true).create_new(true).open(&path).await;
        let file = file.map_err(|source| UploadError::File { path: path.clone(), source })?;
        Ok(Self { path, file, digest: Sha256::new(), length: 0, checked: 0, is_resumable: false })
    }

    /// Resumes an upload at an offset, or starts it at offset 0.
    ///
    /// # Errors
    /// The file system's error, another connection that writes the upload, or another offset than its length.
    pub async fn resume(isos: &Path, key: &str, offset: u64, name: Option<&Name>) -> Result<Self, UploadError> {
        let path = resumable_path(isos, key);
        let fail = |source| UploadError::File { path: path.clone(), source };
        let at = path.clone();
        let opened = tokio::task::spawn_blocking(move || reopen(&at, offset)).await;
        let (file, digest) = opened.map_err(|error| fail(io::Error::other(error)))??;
        let file = tokio::fs::File::from_std(file);
        let mut upload = Self { file, path, digest, length: offset, checked: offset, is_resumable: true };
        if let Some(name) = name {
            let label = label(&upload.path);
            let named = replace(label.clone(), name.to_string()).await;
            named.map_err(|source| upload.failed(UploadError::File { path: label, source }))?;
        }
        Ok(upload)
    }

    /// Returns the number of bytes of an upload that arrived.
    pub async fn length_of(isos: &Path, key: &str) -> u64 {
        tokio::fs::metadata(resumable_path(isos, key)).await.map_or(0, |metadata| metadata.len())
    }

    /// Cancels an upload and removes its bytes, if there are any.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub async fn cancel(isos: &Path, key: &str) -> Result<(), UploadError> {
        let path = resumable_path(isos, key);
        let _ = tokio::fs::remove_file(label(&path)).await;
        match tokio::fs::remove_file(&path).await {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(UploadError::File { path, source }),
            _ => Ok(()),
        }
    }

    /// Returns the path of the upload's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// The file system's error, an ISO that is too large, or too little free space; the last two remove the upload.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), UploadError> {
        self.length += data.len() as u64;
        if self.length > MAX_ISO_BYTES {
            return Err(self.failed(UploadError::TooLarge));
        }
        self.digest.update(data);
        let written = self.file.write_all(data).await;
        written.map_err(|source| self.failed_to_write(source))?;
        if self.length - self.checked >= SPACE_CHECK_BYTES {
            self.checked = self.length;
            self.check_space(0).await?;
        }
        Ok(())
    }

    /// Checks that `more` bytes leave the space that is reserved for the state.
    ///
    /// # Errors
    /// The bytes do not fit; the upload is removed then.
    pub async fn check_space(&mut self, more: u64) -> Result<(), UploadError> {
        check_space(&self.path, more).await.map_err(|error| self.failed(error))
    }

    /// Marks the upload as complete: it cannot be resumed any more, and its file is removed with this value.
    pub fn complete(&mut self) {
        self.is_resumable = false;
    }

    /// Syncs the file, and returns its SHA-256 in hexadecimal and its length in bytes.
    ///
    /// # Errors
    /// The file cannot be written or synced.
    pub async fn finish(&mut self) -> Result<(String, u64), UploadError> {
        let synced = async {
            self.file.flush().await?;
            self.file.sync_all().await
        };
        synced.await.map_err(|source| self.failed_to_write(source))?;
        let digest = std::mem::take(&mut self.digest).finalize();
        Ok((hex::encode(digest), self.length))
    }

    /// Decides what remains of a failed upload: nothing if it cannot succeed, or if its bytes would use the state's
    /// space.
    fn failed(&mut self, error: UploadError) -> UploadError {
        let is_full =
            |source: &io::Error| matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        self.is_resumable &= match &error {
            UploadError::File { source, .. } => !is_full(source),
            UploadError::InProgress | UploadError::Offset { .. } => true,
            UploadError::TooLarge | UploadError::NoSpace { .. } => false,
        };
        error
    }

    fn failed_to_write(&mut self, source: io::Error) -> UploadError {
        let path = self.path.clone();
        self.failed(UploadError::File { path, source })
    }
}

/// Checks that `more` bytes leave the reserve of the file system that a path is on.
///
/// # Errors
/// The bytes do not fit.
pub async fn check_space(path: &Path, more: u64) -> Result<(), UploadError> {
    let at = path.to_owned();
    match tokio::task::spawn_blocking(move || FreeSpace::at(&at)).await {
        Ok(Ok(space)) if !space.fits(more) => Err(UploadError::NoSpace { free: space.free, reserve: space.reserve }),
        // Without statvfs, a write fails when the file system is full.
        _ => Ok(()),
    }
}

impl Drop for PartialUpload {
    fn drop(&mut self) {
        if self.is_resumable {
            return;
        }
        let _ = std::fs::remove_file(label(&self.path));
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "failed to remove an upload's file");
        }
    }
}

/// Returns the path of a resumable upload.
fn resumable_path(isos: &Path, key: &str) -> PathBuf {
    isos.join(format!(".{key}.part"))
}

/// Returns the key of a partial upload by the name of its file; `None` for other files.
pub(super) fn key_of(file_name: &str) -> Option<&str> {
    file_name.strip_prefix('.')?.strip_suffix(".part")
}

/// Returns whether a file is a partial upload, by its name.
pub(super) fn is_part(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| key_of(name).is_some())
}

/// Returns the path of the file that holds the name of the image that an upload creates.
pub(super) fn label(part: &Path) -> PathBuf {
    part.with_extension("name")
}

/// Writes a small file in place of whatever has its name.
async fn replace(path: PathBuf, text: String) -> io::Result<()> {
    let write = move || {
        let _ = std::fs::remove_file(&path);
        std::fs::OpenOptions::new().write(true).create_new(true).open(&path)?.write_all(text.as_bytes())
    };
    tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
}

/// Opens a partial upload at its end and locks it; returns it with the digest of its bytes.
fn reopen(path: &Path, offset: u64) -> Result<(File, Sha256), UploadError> {
    let fail = |source| UploadError::File { path: path.to_owned(), source };
    // NONBLOCK and the check: what lies here instead of an upload, a FIFO, must not be waited for.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW).bits().cast_signed();
    let open = std::fs::OpenOptions::new().read(true).append(true).create(true).custom_flags(flags).open(path);
    let mut file = open.map_err(fail)?;
    if !file.metadata().map_err(fail)?.is_file() {
        return Err(fail(io::Error::other("not a regular file")));
    }
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => UploadError::InProgress,
        TryLockError::Error(source) => fail(source),
    })?;
    if offset == 0 {
        file.set_len(0).map_err(fail)?;
    }
    let (mut digest, mut found, mut part) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        match file.read(&mut part).map_err(fail)? {
            0 => break,
            count => {
                digest.update(&part[..count]);
                found += count as u64;
            }
        }
    }
    if found != offset {
        return Err(UploadError::Offset { found, wanted: offset });
    }
    Ok((file, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_interrupted_upload_is_resumed() {
        let directory = tempfile::tempdir().unwrap();
        let isos = directory.path();
        let mut upload = PartialUpload::resume(isos, "abcd", 0, None).await.unwrap();
        upload.write(b"first, ").await.unwrap();
        upload.file.flush().await.unwrap();
        assert!(matches!(PartialUpload::resume(isos, "abcd", 7, None).await, Err(UploadError::InProgress)));
        drop(upload);
        assert_eq!(PartialUpload::length_of(isos, "abcd").await, 7);
        assert!(matches!(
            PartialUpload::resume(isos, "abcd", 5, None).await,
            Err(UploadError::Offset { found: 7, wanted: 5 })
        ));
        let mut upload = PartialUpload::resume(isos, "abcd", 7, None).await.unwrap();
        upload.write(b"then").await.unwrap();
        upload.complete();
        let (digest, length) = upload.finish().await.unwrap();
        let whole = hex::encode(Sha256::digest(b"first, then"));
        assert_eq!((digest, length), (whole, 11));
        drop(upload);
        assert_eq!(PartialUpload::length_of(isos, "abcd").await, 0, "a complete upload cannot be resumed");
    }

    #[tokio::test]
    async fn an_upload_that_does_not_fit_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let name = "live".parse().unwrap();
        let mut upload = PartialUpload::resume(directory.path(), "abcd", 0, Some(&name)).await.unwrap();
        upload.write(b"some").await.unwrap();
        assert!(matches!(upload.check_space(u64::MAX).await, Err(UploadError::NoSpace { .. })));
        drop(upload);
        let mut upload = PartialUpload::resume(directory.path(), "abcd", 0, Some(&name)).await.unwrap();
        upload.failed_to_write(io::ErrorKind::StorageFull.into());
        drop(upload);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
