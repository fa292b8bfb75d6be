//! Where an ISO comes from: a file here, or one on a web server that is gone on with when it breaks off.

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

use super::web;

/// Is how much of an ISO is read and sent at once.
const PART: usize = 256 * 1024;
/// Is how often in a row a server may give nothing before we give up, and how long is waited in between at most.
const TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_secs(8);
/// Is how long a server may send nothing.
const STALL: Duration = Duration::from_secs(30);

/// Is where an ISO is.
#[derive(Debug, Clone)]
pub enum Source {
    File(PathBuf),
    Url(String),
}

/// Is an ISO as it was found: what names its bytes, and how many they are.
#[derive(Debug)]
pub struct Found {
    source: Source,
    pub total: Option<u64>,
    /// Is the same for the same bytes; nothing where nobody can tell.
    pub key: Option<String>,
    validator: Option<String>,
}

/// Says why the rest of an ISO does not fit what came of it before.
#[derive(Debug, thiserror::Error)]
#[error("{url} is another file now than it was when it was begun")]
pub struct Changed {
    url: String,
}

/// Is what went wrong while an ISO was being sent, for who sees only that the sending broke off.
pub type Trouble = Arc<Mutex<Option<anyhow::Error>>>;

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_url = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
        match text.split_once("://") {
            _ if is_url => Ok(Self::Url(text.to_owned())),
            Some((scheme, _)) if is_scheme(scheme) => {
                Err(format!("{scheme} is not spoken: http:// or https:// only, or a file"))
            }
            _ => Ok(Self::File(text.into())),
        }
    }
}

/// Says whether a text is a URL's scheme (RFC 3986, section 3.1).
fn is_scheme(text: &str) -> bool {
    let within = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(within)
}

impl Source {
    /// Looks at what is there.
    ///
    /// # Errors
    /// The file or the server, in its own words.
    pub async fn find(self) -> anyhow::Result<Found> {
        let (total, validator) = match &self {
            Self::File(path) => {
                let metadata = tokio::fs::metadata(path).await.with_context(|| path.display().to_string())?;
                if !metadata.is_file() {
                    anyhow::bail!("{} is no regular file", path.display());
                }
                let identity = [metadata.dev(), metadata.ino(), metadata.mtime() as u64, metadata.mtime_nsec() as u64];
                (Some(metadata.len()), Some(format!("{identity:?}")))
            }
            Self::Url(url) => {
                let content = web::open(url, 0, None).await?;
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
        Ok(Found { source: self, total, key, validator })
    }
}

impl Found {
    /// Reads from a place on. What goes wrong is told to `trouble` as well.
    pub async fn read(
        &self,
        from: u64,
        trouble: Trouble,
    ) -> anyhow::Result<std::pin::Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>> {
        match &self.source {
            Source::File(path) => {
                let mut file = tokio::fs::File::open(path).await.with_context(|| path.display().to_string())?;
                file.seek(io::SeekFrom::Start(from)).await?;
                Ok(Box::pin(of_file(file)))
            }
            Source::Url(url) => {
                let (validator, total) = (self.validator.clone(), self.total);
                let download = Download { url: url.clone(), validator, total, at: from, skip: 0, body: None, tries: 0 };
                Ok(Box::pin(futures_util::stream::try_unfold(download, move |mut download| {
                    let trouble = trouble.clone();
                    async move {
                        match download.next().await {
                            Ok(data) => Ok(data.map(|data| (data, download))),
                            Err(error) => {
                                let message = io::Error::other(error.to_string());
                                *trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                                Err(message)
                            }
                        }
                    }
                })))
            }
        }
    }
}

fn of_file(file: tokio::fs::File) -> impl Stream<Item = io::Result<Bytes>> + Send {
    futures_util::stream::try_unfold(file, |mut file| async move {
        let mut part = BytesMut::with_capacity(PART);
        while part.len() < PART && file.read_buf(&mut part).await? > 0 {}
        Ok((!part.is_empty()).then(|| (part.freeze(), file)))
    })
}

/// Is a download that goes on where it broke off.
struct Download {
    url: String,
    validator: Option<String>,
    total: Option<u64>,
    at: u64,
    /// Is what comes again from a server that knows no ranges.
    skip: u64,
    body: Option<Incoming>,
    tries: u32,
}

impl Download {
    async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            if self.total == Some(self.at) {
                return Ok(None);
            }
            match self.some().await {
                Ok(Some(data)) => {
                    self.tries = 0;
                    return Ok(Some(data));
                }
                Ok(None) if self.total.is_none() => return Ok(None),
                Ok(None) => self.broke_off(anyhow::anyhow!("{} broke off", self.url)).await?,
                Err(error) if error.is::<Changed>() => return Err(error),
                Err(error) => self.broke_off(error).await?,
            }
        }
    }

    /// Reads the next data that are news; nothing at the body's end.
    async fn some(&mut self) -> anyhow::Result<Option<Bytes>> {
        if self.body.is_none() {
            self.open().await?;
        }
        let Some(body) = &mut self.body else { return Ok(None) };
        while let Some(mut data) = web::piece(body, STALL).await? {
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

    async fn open(&mut self) -> anyhow::Result<()> {
        let content = web::open(&self.url, self.at, self.validator.as_deref()).await?;
        let same = content.validator == self.validator && content.total == self.total;
        if self.at > 0 && !(same && self.validator.is_some()) {
            return Err(Changed { url: self.url.clone() }.into());
        }
        self.skip = self.at - content.start;
        self.body = Some(content.body);
        Ok(())
    }

    async fn broke_off(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        self.body = None;
        self.tries += 1;
        if self.tries > TRIES {
            return Err(error.context(format!("given up after {TRIES} tries at byte {}", self.at)));
        }
        tokio::time::sleep(PAUSE.min(Duration::from_millis(250) * 2u32.pow(self.tries))).await;
        Ok(())
    }
}
