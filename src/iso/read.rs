//! Access to image bytes by position: open files, files within an image, and images in memory.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, preadv2, retry_on_intr};

use super::extent::Extent;

/// Distance in bytes between the probes of the page cache in [`ReadAt::is_cached`].
///
/// A page that is missing between two probes is read from disk inside `sendfile`, while other connections
/// wait. With a probe every 512 KiB, three in four system calls of a long reply were probes.
const PROBES: usize = 2 << 20;

/// An image that is read by position: a file, or a view of one.
pub trait ReadAt: std::fmt::Debug + Send + Sync {
    /// Returns the length in bytes. It does not change while the image is open.
    fn len(&self) -> u64;

    /// Returns whether the length is 0.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills the buffer with the bytes at an offset. May wait for the disk.
    ///
    /// # Errors
    /// Returns `UnexpectedEof` past the end, or the error of the file system.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Fills the buffer with the bytes at an offset if that is possible without waiting for the disk.
    /// After an error the content of the buffer is unspecified.
    ///
    /// # Errors
    /// Returns `WouldBlock` if the caller must use [`Self::read_at`], on a thread that may wait.
    fn try_read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let _ = (offset, into);
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Returns the file and the byte range in it that hold the next bytes of the image unchanged, at most
    /// `wanted` bytes, for `sendfile`. Returns `None` if no file holds them, or past the end.
    fn file_extent(&self, offset: u64, wanted: u64) -> Option<(&ImageFile, Extent)> {
        let _ = (offset, wanted);
        None
    }

    /// Returns whether the probed pages between two offsets are in the page cache, so that `sendfile` does not
    /// wait for the disk.
    fn is_cached(&self, from: u64, until: u64) -> bool {
        let mut offsets = (from..until).step_by(PROBES).chain((from < until).then(|| until - 1));
        offsets.all(|offset| self.try_read_at(offset, &mut [0]).is_ok())
    }
}

/// An open image file. Its length is read once.
#[derive(Debug)]
pub struct ImageFile {
    file: File,
    length: u64,
}

impl ImageFile {
    /// Wraps an open regular file.
    ///
    /// # Errors
    /// Returns the error of reading its metadata.
    pub fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }

    /// Wraps an open regular file whose length was read.
    pub fn with_length(file: File, length: u64) -> Self {
        Self { file, length }
    }

    /// Sends bytes of the file with `sendfile`, as many as the socket accepts, and returns their number.
    ///
    /// # Errors
    /// Returns `UnexpectedEof` if the file ends before them, `WouldBlock` if the socket accepts none, or
    /// another error of the kernel.
    pub fn send(&self, socket: impl AsFd, extent: Extent) -> io::Result<u64> {
        let (mut offset, length) = (extent.offset, usize::try_from(extent.length).map_err(io::Error::other)?);
        match retry_on_intr(|| rustix::fs::sendfile(&socket, &self.file, Some(&mut offset), length))? {
            0 if length > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            sent => Ok(sent as u64),
        }
    }
}

impl ReadAt for ImageFile {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    /// Reads from the page cache.
    fn try_read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        try_read_file_at(&self.file, offset, into)
    }

    fn file_extent(&self, offset: u64, wanted: u64) -> Option<(&ImageFile, Extent)> {
        let length = wanted.min(self.length.checked_sub(offset)?);
        Some((self, Extent { offset, length }))
    }
}

/// Fills the buffer with the bytes of a file at an offset, from the page cache. After an error the content of the buffer is
/// unspecified.
///
/// # Errors
/// Returns `WouldBlock` if they are not all there, or the file system or the kernel has no such reads (EOPNOTSUPP, ENOSYS).
pub fn try_read_file_at(file: &File, offset: u64, into: &mut [u8]) -> io::Result<()> {
    let wanted = into.len();
    match preadv2(file, &mut [io::IoSliceMut::new(into)], offset, ReadWriteFlags::NOWAIT) {
        Ok(read) if read == wanted => Ok(()),
        Ok(_) | Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// A file within an image: the extents that hold its content.
#[derive(Debug, Clone)]
pub struct FileInImage {
    image: Arc<dyn ReadAt>,
    extents: Vec<Extent>,
    length: u64,
}

impl FileInImage {
    /// Creates a file from its extents, in the order of the content.
    pub fn new(image: Arc<dyn ReadAt>, extents: Vec<Extent>) -> Self {
        let length = extents.iter().map(|extent| extent.length).sum();
        Self { image, extents, length }
    }

    /// Fills the buffer from the extents, with a function that reads the image.
    fn fill(
        &self,
        mut offset: u64,
        mut into: &mut [u8],
        read: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        for extent in &self.extents {
            if into.is_empty() {
                return Ok(());
            }
            if offset >= extent.length {
                offset -= extent.length;
                continue;
            }
            let here = usize::try_from(extent.length - offset).map_or(into.len(), |left| left.min(into.len()));
            let (part, rest) = into.split_at_mut(here);
            read(extent.offset + offset, part)?;
            (offset, into) = (0, rest);
        }
        match into.is_empty() {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl ReadAt for FileInImage {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.fill(offset, into, |from, here| self.image.read_at(from, here))
    }

    fn try_read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.fill(offset, into, |from, here| self.image.try_read_at(from, here))
    }

    fn file_extent(&self, mut offset: u64, wanted: u64) -> Option<(&ImageFile, Extent)> {
        for extent in &self.extents {
            if offset < extent.length {
                return self.image.file_extent(extent.offset + offset, wanted.min(extent.length - offset));
            }
            offset -= extent.length;
        }
        None
    }
}

/// An image in memory, for example a NoCloud seed.
#[derive(Debug, Clone)]
pub struct MemoryImage(
    /// Content of the image.
    pub Bytes,
);

impl From<Vec<u8>> for MemoryImage {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl ReadAt for MemoryImage {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let range = from.and_then(|from| self.0.get(from..from.checked_add(into.len())?));
        into.copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn try_read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_at(offset, into)
    }
}
