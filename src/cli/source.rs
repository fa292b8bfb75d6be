//! Source of an ISO: a local file, or a file on a web server. Interrupted downloads are resumed.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use hyper::body::Incoming;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::download;

/// Number of octets that are read and sent at a time.
const READ_SIZE: usize = 256 * 1024;
/// Maximum number of consecutive failed attempts to download.
const MAX_ATTEMPTS: u32 = 8;
/// Maximum pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(8);
/// Maximum time without data from a server.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Location of an ISO.
#[derive(Debug, Clone)]
pub enum IsoSource {
    /// Local file.
    File(PathBuf),
    /// URL with http or https.
    Url(String),
}

/// An ISO that was found at its source.
#[derive(Debug)]
pub struct SourceFile {
    source: IsoSource,
    /// Size in octets, if it is known.
    pub total: Option<u64>,
    /// Identity of the content, with which an upload is resumed; `None` if it cannot be determined.
    pub key: Option<String>,
    validator: Option<String>,
}

/// Error of a download that is resumed after the file changed.
#[derive(Debug, thiserror::Error)]
#[error("{url}: the file changed during the download")]
pub struct SourceChanged {
    url: String,
}

/// Error of the source during an upload. The HTTP client reports only that the upload ended.
pub type SharedReadError = Arc<Mutex<Option<anyhow::Error>>>;

impl std::str::FromStr for IsoSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_url = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
        match text.split_once("://") {
            _ if is_url => Ok(Self::Url(text.to_owned())),
            Some((scheme, _)) if is_scheme(scheme) => {
                Err(format!("{scheme}: not supported; expected http://, https:// or a file"))
            }
            _ => Ok(Self::File(text.into())),
        }
    }
}

/// Returns whether a text is the scheme of a URL (RFC 3986, section 3.1).
fn is_scheme(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_allowed)
}

impl IsoSource {
    /// Reads size and identity of the ISO.
    ///
    /// # Errors
    /// The file cannot be read, or the server refuses the request.
    pub async fn find(self) -> anyhow::Result<SourceFile> {
        let (total, validator) = match &self {
            Self::File(path) => {
                let metadata = tokio::fs::metadata(path).await.with_context(|| path.display().to_string())?;
                if !metadata.is_file() {
                    anyhow::bail!("{}: not a regular file", path.display());
                }
                let identity = [metadata.dev(), metadata.ino(), metadata.mtime() as u64, metadata.mtime_nsec() as u64];
                (Some(metadata.len()), Some(format!("{identity:?}")))
            }
            Self::Url(url) => {
                let content = download::open(url, 0, None).await?;
                (content.total, content.validator)
            }
        };
        let name = match &self {
            Self::File(path) => std::path::absolute(path)?.display().to_string(),
            Self::Url(url) => url.clone(),
        };
        let key = validator.as_ref().zip(total).map(|(validator, total)| {
            let digest = Sha256::digest(format!("{name}\n{validator}\n{total}"));
            digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
        });
        Ok(SourceFile { source: self, total, key, validator })
    }
}

impl SourceFile {
    /// Returns the content from an offset. Errors are also stored in `read_error`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub async fn read(
        &self,
        from: u64,
        read_error: SharedReadError,
    ) -> anyhow::Result<std::pin::Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>> {
        match &self.source {
            IsoSource::File(path) => {
                let mut file = tokio::fs::File::open(path).await.with_context(|| path.display().to_string())?;
                file.seek(io::SeekFrom::Start(from)).await?;
                Ok(Box::pin(file_stream(file)))
            }
            IsoSource::Url(url) => {
                let (validator, total) = (self.validator.clone(), self.total);
                let download =
                    UrlDownload { url: url.clone(), validator, total, at: from, skip: 0, body: None, attempts: 0 };
                Ok(Box::pin(futures_util::stream::try_unfold(download, move |mut download| {
                    let read_error = read_error.clone();
                    async move {
                        match download.next().await {
                            Ok(data) => Ok(data.map(|data| (data, download))),
                            Err(error) => {
                                let message = io::Error::other(error.to_string());
                                *read_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                                Err(message)
                            }
                        }
                    }
                })))
            }
        }
    }
}

fn file_stream(file: tokio::fs::File) -> impl Stream<Item = io::Result<Bytes>> + Send {
    futures_util::stream::try_unfold(file, |mut file| async move {
        let mut buffer = BytesMut::with_capacity(READ_SIZE);
        while buffer.len() < READ_SIZE && file.read_buf(&mut buffer).await? > 0 {}
        Ok((!buffer.is_empty()).then(|| (buffer.freeze(), file)))
    })
}

/// A download that is resumed after an interruption.
struct UrlDownload {
    url: String,
    validator: Option<String>,
    total: Option<u64>,
    at: u64,
    /// Number of octets to skip, from a server without range requests.
    skip: u64,
    body: Option<Incoming>,
    attempts: u32,
}

impl UrlDownload {
    /// Returns the next data; `None` at the end of the file.
    async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            if self.total == Some(self.at) {
                return Ok(None);
            }
            match self.read_some().await {
                Ok(Some(data)) => {
                    self.attempts = 0;
                    return Ok(Some(data));
                }
                Ok(None) if self.total.is_none() => return Ok(None),
                Ok(None) => self.retry(anyhow::anyhow!("{}: download interrupted", self.url)).await?,
                Err(error) if error.is::<SourceChanged>() => return Err(error),
                Err(error) => self.retry(error).await?,
            }
        }
    }

    /// Returns the next data after the data that was read before; `None` at the end of the response.
    async fn read_some(&mut self) -> anyhow::Result<Option<Bytes>> {
        if self.body.is_none() {
            self.open().await?;
        }
        let Some(body) = &mut self.body else { return Ok(None) };
        while let Some(mut data) = download::next_data(body, READ_TIMEOUT).await? {
            let old = usize::try_from(self.skip).map_or(data.len(), |skip| skip.min(data.len()));
            self.skip -= old as u64;
            let data = data.split_off(old);
            if !data.is_empty() {
                self.at += data.len() as u64;
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Requests the rest of the file.
    async fn open(&mut self) -> anyhow::Result<()> {
        let content = download::open(&self.url, self.at, self.validator.as_deref()).await?;
        let same = content.validator == self.validator && content.total == self.total;
        if self.at > 0 && !(same && self.validator.is_some()) {
            return Err(SourceChanged { url: self.url.clone() }.into());
        }
        self.skip = self.at - content.start;
        self.body = Some(content.body);
        Ok(())
    }

    /// Waits before the next attempt; fails after the last one.
    async fn retry(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        self.body = None;
        self.attempts += 1;
        if self.attempts > MAX_ATTEMPTS {
            return Err(error.context(format!("download failed at byte {} after {MAX_ATTEMPTS} attempts", self.at)));
        }
        tokio::time::sleep(MAX_PAUSE.min(Duration::from_millis(250) * 2u32.pow(self.attempts))).await;
        Ok(())
    }
}
