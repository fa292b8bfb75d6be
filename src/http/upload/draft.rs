//! The file that an upload is written to, until all of it is there.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

/// Bounds an uploaded ISO: a two-layer Blu-ray disc holds less.
pub const ISO_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// Is how long the beginning of an upload that broke off waits for the rest.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Says why an upload cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("another upload of it is under way")]
    UnderWay,
    #[error("{there} bytes of it are there, not {wanted}: ask again where to go on")]
    Offset { there: u64, wanted: u64 },
    #[error("the ISO is larger than {ISO_BYTES} bytes")]
    TooLarge,
}

/// Is a file that goes when its upload fails; where the upload can be gone on with, only when it is given up.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    file: tokio::fs::File,
    digest: Sha256,
    length: u64,
    keep: bool,
}

impl Draft {
    /// Makes a new one.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn new(isos: &Path) -> Result<Self, Error> {
        let path = isos.join(format!(".{}.part", uuid::Uuid::new_v4().simple()));
        let file = tokio::fs::OpenOptions::new().write(true).create_new(true).open(&path).await;
        let file = file.map_err(|source| Error::File { path: path.clone(), source })?;
        Ok(Self { path, file, digest: Sha256::new(), length: 0, keep: false })
    }

    /// Goes on with one that broke off, or begins it. What is there must be as long as the client believes.
    ///
    /// # Errors
    /// What the file system says, another upload, another length.
    pub async fn go_on(isos: &Path, key: &str, offset: u64) -> Result<Self, Error> {
        let path = kept(isos, key);
        let fail = |source| Error::File { path: path.clone(), source };
        let at = path.clone();
        let opened = tokio::task::spawn_blocking(move || reopen(&at, offset)).await;
        let (file, digest) = opened.map_err(|error| fail(io::Error::other(error)))??;
        Ok(Self { file: tokio::fs::File::from_std(file), path, digest, length: offset, keep: true })
    }

    /// Says how much of an upload is there.
    pub async fn length_of(isos: &Path, key: &str) -> u64 {
        tokio::fs::metadata(kept(isos, key)).await.map_or(0, |metadata| metadata.len())
    }

    /// Removes what there is of an upload; nothing where there is none.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn give_up(isos: &Path, key: &str) -> Result<(), Error> {
        let path = kept(isos, key);
        match tokio::fs::remove_file(&path).await {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::File { path, source }),
            _ => Ok(()),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what came next.
    ///
    /// # Errors
    /// What the file system says, or too much.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), Error> {
        self.length += data.len() as u64;
        if self.length > ISO_BYTES {
            self.keep = false;
            return Err(Error::TooLarge);
        }
        self.digest.update(data);
        let written = self.file.write_all(data).await;
        written.map_err(|source| Error::File { path: self.path.clone(), source })
    }

    /// Makes all of it durable; gives its SHA-256 and its length in bytes. It goes now whatever happens.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn finish(&mut self) -> Result<(String, u64), Error> {
        let synced = async {
            self.file.flush().await?;
            self.file.sync_all().await
        };
        synced.await.map_err(|source| Error::File { path: self.path.clone(), source })?;
        self.keep = false;
        let digest = std::mem::take(&mut self.digest).finalize();
        Ok((digest.iter().map(|byte| format!("{byte:02x}")).collect(), self.length))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "an upload's file could not be removed");
        }
    }
}

fn kept(isos: &Path, key: &str) -> PathBuf {
    isos.join(format!(".{key}.part"))
}

/// Opens the beginning of an upload at its end, alone, with the digest of what is there.
fn reopen(path: &Path, offset: u64) -> Result<(File, Sha256), Error> {
    let fail = |source| Error::File { path: path.to_owned(), source };
    let open = std::fs::OpenOptions::new().read(true).append(true).create(true).open(path);
    let mut file = open.map_err(fail)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Error::UnderWay,
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
        return Err(Error::Offset { there, wanted: offset });
    }
    Ok((file, digest))
}

/// Removes the beginnings of uploads that nobody went on with.
pub fn sweep(isos: &Path, now: SystemTime) {
    let Ok(entries) = std::fs::read_dir(isos) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_draft = name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(".part"));
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = modified.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > KEPT));
        if is_draft && is_old {
            tracing::info!(path = %entry.path().display(), "an upload that nobody went on with is removed");
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
        let mut draft = Draft::go_on(isos, "abcd", 0).await.unwrap();
        draft.write(b"first, ").await.unwrap();
        draft.file.flush().await.unwrap();
        assert!(matches!(Draft::go_on(isos, "abcd", 7).await, Err(Error::UnderWay)));
        drop(draft);
        assert_eq!(Draft::length_of(isos, "abcd").await, 7);
        assert!(matches!(Draft::go_on(isos, "abcd", 5).await, Err(Error::Offset { there: 7, wanted: 5 })));
        let mut draft = Draft::go_on(isos, "abcd", 7).await.unwrap();
        draft.write(b"then").await.unwrap();
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
        sweep(place.path(), SystemTime::now() + KEPT / 2);
        assert!(place.path().join(".abcd.part").exists());
        sweep(place.path(), SystemTime::now() + KEPT * 2);
        assert!(!place.path().join(".abcd.part").exists() && place.path().join("live.iso").exists());
    }
}
