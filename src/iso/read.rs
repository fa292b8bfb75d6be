use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::descriptor::Extent;
use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, preadv2, retry_on_intr};

/// Is how far apart it is asked whether bytes are in the page cache, beside the last of them. What is lost in
/// between is read from the disk by who hands the bytes to the kernel, while others wait; asked for each 512 KiB, three
/// in four system calls of a long answer were such questions.
const PROBES: usize = 2 << 20;

/// Is a medium that is read by position: a file, or a view of one.
pub trait ReadAt: std::fmt::Debug + Send + Sync {
    /// Gives the medium's length in bytes. It does not change while the medium is open.
    fn len(&self) -> u64;

    /// Says whether there is nothing to read.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills the buffer from an offset.
    ///
    /// # Errors
    /// `UnexpectedEof` past the end, and what the file system says.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Fills the buffer from an offset where that needs no waiting for a disk: what a task that
    /// others wait for calls first. What a failed call left in the buffer means nothing.
    ///
    /// # Errors
    /// `WouldBlock` where [`Self::read_at`] must be called, on a thread that may wait.
    fn read_now(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let _ = (offset, into);
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Says where the next bytes lie as they are, for who hands them to the kernel: in which file, from where,
    /// and how many of those that are wanted. Nothing where they lie in no file, or are past the end.
    fn lies_at(&self, offset: u64, wanted: u64) -> Option<(&ImageFile, Extent)> {
        let _ = (offset, wanted);
        None
    }

    /// Says whether the kernel can send these bytes without waiting for a disk, as far as that shows.
    fn is_cached(&self, from: u64, until: u64) -> bool {
        let mut places = (from..until).step_by(PROBES).chain((from < until).then(|| until - 1));
        places.all(|place| self.read_now(place, &mut [0]).is_ok())
    }
}

/// Is an image file, whose length was taken once.
#[derive(Debug)]
pub struct ImageFile {
    file: File,
    length: u64,
}

impl ImageFile {
    /// Takes an open regular file.
    ///
    /// # Errors
    /// What the file system says of its metadata.
    pub fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }

    /// Has the kernel send bytes of the file, as many as the socket takes now; gives how many.
    ///
    /// # Errors
    /// `UnexpectedEof` where the file ends before them, `WouldBlock` where the socket takes none, and what else the
    /// kernel says.
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

    /// Reads from the page cache. A file system that has no such read (EOPNOTSUPP) says `WouldBlock` too.
    fn read_now(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let wanted = into.len();
        let read = preadv2(&self.file, &mut [io::IoSliceMut::new(into)], offset, ReadWriteFlags::NOWAIT);
        match read {
            Ok(read) if read == wanted => Ok(()),
            Ok(_) | Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn lies_at(&self, offset: u64, wanted: u64) -> Option<(&ImageFile, Extent)> {
        let length = wanted.min(self.length.checked_sub(offset)?);
        Some((self, Extent { offset, length }))
    }
}

/// Is a file within an image, as the extents that hold it.
#[derive(Debug, Clone)]
pub struct FileWithin {
    image: Arc<dyn ReadAt>,
    extents: Vec<Extent>,
    length: u64,
}

impl FileWithin {
    /// Takes the extents in the file's order.
    pub fn new(image: Arc<dyn ReadAt>, extents: Vec<Extent>) -> Self {
        let length = extents.iter().map(|extent| extent.length).sum();
        Self { image, extents, length }
    }

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

impl ReadAt for FileWithin {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.fill(offset, into, |from, here| self.image.read_at(from, here))
    }

    fn read_now(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.fill(offset, into, |from, here| self.image.read_now(from, here))
    }

    fn lies_at(&self, mut offset: u64, wanted: u64) -> Option<(&ImageFile, Extent)> {
        for extent in &self.extents {
            if offset < extent.length {
                return self.image.lies_at(extent.offset + offset, wanted.min(extent.length - offset));
            }
            offset -= extent.length;
        }
        None
    }
}

/// Is an image in memory: a NoCloud seed, a test's.
#[derive(Debug, Clone)]
pub struct Memory(pub Bytes);

impl From<Vec<u8>> for Memory {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl ReadAt for Memory {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let range = from.and_then(|from| self.0.get(from..from.checked_add(into.len())?));
        into.copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn read_now(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_at(offset, into)
    }
}
