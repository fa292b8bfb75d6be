//! The file that an upload is written to, until all of it is there.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::fleet::Name;

use crate::images::free_space::FreeSpace;

/// Bounds an uploaded ISO: a two-layer Blu-ray disc holds less.
pub const ISO_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// Is how long an upload may stand still.
pub const STALL: Duration = Duration::from_secs(60);
/// Is how long the beginning of an upload that broke off waits for the rest.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Is how long one that is written to may stand still: twice what the body that it comes from may.
const STILL: Duration = Duration::from_secs(2 * STALL.as_secs());
/// Is how much is written before the room that is left is looked at again.
const LOOK_EVERY: u64 = 1 << 20;

/// Says why an upload cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("another upload of it is under way")]
    UnderWay,
    #[error("{there} bytes of it are there, not {wanted}: ask again where to go on")]
    Offset { there: u64, wanted: u64 },
    #[error("the ISO is larger than {ISO_BYTES} bytes")]
    TooLarge,
    #[error(
        "there is no room for it: {free} bytes are free where ISOs are kept, of which {reserve} stay free for the state"
    )]
    NoRoom { free: u64, reserve: u64 },
}

/// Is the beginning of an upload that waits for the rest.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    pub key: String,
    /// Names the ISO that it was to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    pub offset: u64,
    pub last_written: Option<jiff::Timestamp>,
    pub kept_until: Option<jiff::Timestamp>,
}

/// Is a file that goes when its upload fails; where the upload can be gone on with, only when it is given up.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    file: tokio::fs::File,
    digest: Sha256,
    length: u64,
    /// Is how long it was when the room was last looked at.
    looked: u64,
    keep: bool,
}

impl Draft {
    /// Makes a new one.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn new(isos: &Path) -> Result<Self, UploadError> {
        let path = isos.join(format!(".{}.part", uuid::Uuid::new_v4().simple()));
        let file = tokio::fs::OpenOptions::new().write(true).create_new(true).open(&path).await;
        let file = file.map_err(|source| UploadError::File { path: path.clone(), source })?;
        Ok(Self { path, file, digest: Sha256::new(), length: 0, looked: 0, keep: false })
    }

    /// Goes on with one that broke off, or begins it. What is there must be as long as the client believes.
    ///
    /// # Errors
    /// What the file system says, another upload, another length.
    pub async fn go_on(isos: &Path, key: &str, offset: u64, name: Option<&Name>) -> Result<Self, UploadError> {
        let path = kept(isos, key);
        let fail = |source| UploadError::File { path: path.clone(), source };
        let at = path.clone();
        let opened = tokio::task::spawn_blocking(move || reopen(&at, offset)).await;
        let (file, digest) = opened.map_err(|error| fail(io::Error::other(error)))??;
        let file = tokio::fs::File::from_std(file);
        let mut draft = Self { file, path, digest, length: offset, looked: offset, keep: true };
        if let Some(name) = name {
            let label = label(&draft.path);
            let named = tokio::fs::write(&label, name.as_str()).await;
            named.map_err(|source| draft.failed(UploadError::File { path: label, source }))?;
        }
        Ok(draft)
    }

    /// Says how much of an upload is there.
    pub async fn length_of(isos: &Path, key: &str) -> u64 {
        tokio::fs::metadata(kept(isos, key)).await.map_or(0, |metadata| metadata.len())
    }

    /// Removes what there is of an upload; nothing where there is none.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn give_up(isos: &Path, key: &str) -> Result<(), UploadError> {
        let path = kept(isos, key);
        let _ = tokio::fs::remove_file(label(&path)).await;
        match tokio::fs::remove_file(&path).await {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(UploadError::File { path, source }),
            _ => Ok(()),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what came next.
    ///
    /// # Errors
    /// What the file system says, too much of it, or more than there is room for: then nothing of it stays.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), UploadError> {
        self.length += data.len() as u64;
        if self.length > ISO_BYTES {
            return Err(self.failed(UploadError::TooLarge));
        }
        self.digest.update(data);
        let written = self.file.write_all(data).await;
        written.map_err(|source| self.failed_to_write(source))?;
        if self.length - self.looked >= LOOK_EVERY {
            self.looked = self.length;
            self.look(0).await?;
        }
        Ok(())
    }

    /// Checks that so much more leaves the room that is the state's own.
    ///
    /// # Errors
    /// It does not.
    pub async fn look(&mut self, more: u64) -> Result<(), UploadError> {
        look(&self.path, more).await.map_err(|error| self.failed(error))
    }

    /// Notes that nothing more comes: it goes now whatever happens.
    pub fn ends(&mut self) {
        self.keep = false;
    }

    /// Makes all of it durable; gives its SHA-256 and its length in bytes.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn finish(&mut self) -> Result<(String, u64), UploadError> {
        let synced = async {
            self.file.flush().await?;
            self.file.sync_all().await
        };
        synced.await.map_err(|source| self.failed_to_write(source))?;
        let digest = std::mem::take(&mut self.digest).finalize();
        Ok((digest.iter().map(|byte| format!("{byte:02x}")).collect(), self.length))
    }

    /// Keeps nothing of an upload that there is no sense in going on with: where there is no room, what stayed of
    /// it would take the state's.
    fn failed(&mut self, error: UploadError) -> UploadError {
        let is_full =
            |source: &io::Error| matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        self.keep &= match &error {
            UploadError::File { source, .. } => !is_full(source),
            UploadError::UnderWay | UploadError::Offset { .. } => true,
            UploadError::TooLarge | UploadError::NoRoom { .. } => false,
        };
        error
    }

    fn failed_to_write(&mut self, source: io::Error) -> UploadError {
        let path = self.path.clone();
        self.failed(UploadError::File { path, source })
    }
}

/// Checks that so many bytes more leave the reserve of the file system that a path is on.
///
/// # Errors
/// They do not.
pub async fn look(path: &Path, more: u64) -> Result<(), UploadError> {
    let at = path.to_owned();
    match tokio::task::spawn_blocking(move || FreeSpace::at(&at)).await {
        Ok(Ok(room)) if !room.takes(more) => Err(UploadError::NoRoom { free: room.free, reserve: room.reserve }),
        // A file system that does not tell says it when it is full.
        _ => Ok(()),
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        let _ = std::fs::remove_file(label(&self.path));
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "an upload's file could not be removed");
        }
    }
}

fn kept(isos: &Path, key: &str) -> PathBuf {
    isos.join(format!(".{key}.part"))
}

/// Gives the file beside a draft that names the ISO to be.
fn label(part: &Path) -> PathBuf {
    part.with_extension("name")
}

/// Opens the beginning of an upload at its end, alone, with the digest of what is there.
fn reopen(path: &Path, offset: u64) -> Result<(File, Sha256), UploadError> {
    let fail = |source| UploadError::File { path: path.to_owned(), source };
    let open = std::fs::OpenOptions::new().read(true).append(true).create(true).open(path);
    let mut file = open.map_err(fail)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => UploadError::UnderWay,
        TryLockError::Error(source) => fail(source),
    })?;
    if offset == 0 {
        file.set_len(0).map_err(fail)?;
    }
    let (mut digest, mut there, mut part) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        match file.read(&mut part).map_err(fail)? {
            0 => break,
            count => {
                digest.update(&part[..count]);
                there += count as u64;
            }
        }
    }
    if there != offset {
        return Err(UploadError::Offset { there, wanted: offset });
    }
    Ok((file, digest))
}

/// Lists the beginnings of uploads that wait for the rest, or are being written.
pub fn list(isos: &Path) -> Vec<Kept> {
    let Ok(entries) = std::fs::read_dir(isos) else { return Vec::new() };
    let mut found: Vec<Kept> = entries.flatten().filter_map(|entry| about(&entry)).collect();
    found.sort_by(|one, other| one.key.cmp(&other.key));
    found
}

fn about(entry: &std::fs::DirEntry) -> Option<Kept> {
    let key = entry.file_name().to_str()?.strip_prefix('.')?.strip_suffix(".part")?.to_owned();
    let metadata = entry.metadata().ok()?;
    let name = std::fs::read_to_string(label(&entry.path())).ok().and_then(|name| name.parse().ok());
    let written = metadata.modified().ok();
    let time = |at: SystemTime| jiff::Timestamp::try_from(at).ok();
    Some(Kept {
        key,
        name,
        offset: metadata.len(),
        last_written: written.and_then(time),
        kept_until: written.and_then(|at| time(at + KEPT)),
    })
}

/// Removes the beginnings of uploads that nobody went on with; where room is short, all that stand still.
pub fn sweep(isos: &Path, now: SystemTime, is_short: bool) {
    let Ok(entries) = std::fs::read_dir(isos) else { return };
    let limit = if is_short { STILL } else { KEPT };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_draft = name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(".part"));
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = modified.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > limit));
        if is_draft && is_old {
            tracing::info!(path = %entry.path().display(), is_short, "an upload that nobody went on with is removed");
            let _ = std::fs::remove_file(label(&entry.path()));
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_upload_goes_on_where_it_broke_off() {
        let place = tempfile::tempdir().unwrap();
        let isos = place.path();
        let mut draft = Draft::go_on(isos, "abcd", 0, None).await.unwrap();
        draft.write(b"first, ").await.unwrap();
        draft.file.flush().await.unwrap();
        assert!(matches!(Draft::go_on(isos, "abcd", 7, None).await, Err(UploadError::UnderWay)));
        drop(draft);
        assert_eq!(Draft::length_of(isos, "abcd").await, 7);
        assert!(matches!(Draft::go_on(isos, "abcd", 5, None).await, Err(UploadError::Offset { there: 7, wanted: 5 })));
        let mut draft = Draft::go_on(isos, "abcd", 7, None).await.unwrap();
        draft.write(b"then").await.unwrap();
        draft.ends();
        let (digest, length) = draft.finish().await.unwrap();
        let whole: String = Sha256::digest(b"first, then").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((digest, length), (whole, 11));
        drop(draft);
        assert_eq!(Draft::length_of(isos, "abcd").await, 0, "what is finished is not gone on with");
    }

    #[test]
    fn what_nobody_goes_on_with_goes() {
        let place = tempfile::tempdir().unwrap();
        for name in [".abcd.part", "live.iso"] {
            std::fs::write(place.path().join(name), b"x").unwrap();
        }
        sweep(place.path(), SystemTime::now() + KEPT / 2, false);
        assert!(place.path().join(".abcd.part").exists());
        sweep(place.path(), SystemTime::now(), true);
        assert!(place.path().join(".abcd.part").exists(), "it is written to just now");
        sweep(place.path(), SystemTime::now() + KEPT * 2, false);
        assert!(!place.path().join(".abcd.part").exists() && place.path().join("live.iso").exists());
    }

    #[test]
    fn where_room_is_short_what_stands_still_goes() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join(".abcd.part"), b"x").unwrap();
        std::fs::write(place.path().join(".abcd.name"), b"live").unwrap();
        let kept = list(place.path());
        assert_eq!((kept.len(), kept[0].offset, kept[0].key.as_str()), (1, 1, "abcd"));
        assert_eq!(kept[0].name, Some("live".parse().unwrap()));
        sweep(place.path(), SystemTime::now() + STILL * 2, true);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn nothing_stays_of_an_upload_that_there_is_no_room_for() {
        let place = tempfile::tempdir().unwrap();
        let name = "live".parse().unwrap();
        let mut draft = Draft::go_on(place.path(), "abcd", 0, Some(&name)).await.unwrap();
        draft.write(b"some").await.unwrap();
        assert!(matches!(draft.look(u64::MAX).await, Err(UploadError::NoRoom { .. })));
        drop(draft);
        let mut draft = Draft::go_on(place.path(), "abcd", 0, Some(&name)).await.unwrap();
        draft.failed_to_write(io::ErrorKind::StorageFull.into());
        drop(draft);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
