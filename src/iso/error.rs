//! Errors of reading an ISO image and of composing a view of one.

use std::io;

/// The reason why an image cannot be read as an ISO 9660 volume.
#[derive(Debug, thiserror::Error)]
pub enum IsoError {
    /// The image is shorter than the system area and two volume descriptors (36,864 bytes).
    #[error("image too short: {length} bytes, expected at least 36864 (system area and two volume descriptors)")]
    TooShort {
        /// Length of the image in bytes.
        length: u64,
    },
    /// A sector of the volume descriptor set is not a volume descriptor (ECMA-119 8.1).
    #[error("no ISO 9660 volume descriptor (\"CD001\") at sector {sector}")]
    NoDescriptor {
        /// Sector that was read, from 16.
        sector: u32,
    },
    /// The volume descriptor set has no primary volume descriptor (ECMA-119 8.4).
    #[error("no primary volume descriptor")]
    NoPrimary,
    /// No set terminator within the given number of volume descriptors.
    #[error("more than {0} volume descriptors")]
    TooManyDescriptors(u32),
    /// Logical block size, in bytes, other than 2048.
    #[error("logical block size {0}: only 2048 bytes are supported")]
    BlockSize(u16),
    /// The image is shorter than its volume.
    #[error("truncated image: the volume has {volume} bytes, the image only {image}")]
    Truncated {
        /// Length of the volume by its primary descriptor, in bytes.
        volume: u64,
        /// Length of the image in bytes.
        image: u64,
    },
    /// A structure or a file points past the end of the image.
    #[error("{what} lies past the end of the image: bytes {offset} to {end} of {image}")]
    PastEnd {
        /// Name of the structure, or path of the file.
        what: String,
        /// First byte.
        offset: u64,
        /// First byte after the structure or file.
        end: u64,
        /// Length of the image in bytes.
        image: u64,
    },
    /// The El Torito boot catalogue contradicts its specification.
    #[error("boot catalogue is damaged: {0}")]
    Catalogue(&'static str),
    /// A directory, or a record in it, contradicts ECMA-119 or Rock Ridge.
    #[error("directory {path:?} is damaged at byte {at} of the image: {reason}")]
    Directory {
        /// Path of the directory; the empty string is the root.
        path: String,
        /// Offset of the record in the image, in bytes.
        at: u64,
        /// Contradiction that was found.
        reason: &'static str,
    },
    /// Two directory records point to the same directory.
    #[error("directory {path:?} is its own ancestor, or is reached twice")]
    Loop {
        /// Second path of the directory.
        path: String,
    },
    /// A limit of this reader is exceeded.
    #[error("{path:?}: {limit}")]
    Limit {
        /// Path of the file or directory, or name of the structure.
        path: String,
        /// Limit that is exceeded.
        limit: &'static str,
    },
    /// A path resolves through too many symbolic links.
    #[error("{path:?}: more than {limit} symbolic links")]
    Links {
        /// Path that was looked up.
        path: String,
        /// Maximum number of symbolic links.
        limit: usize,
    },
    /// The UDF file system of a bridge image contradicts ECMA-167.
    #[error("UDF file system is damaged: {0}")]
    Udf(&'static str),
    /// The image file cannot be read.
    #[error("cannot read {what}")]
    Read {
        /// Structure or file that was being read.
        what: String,
        /// Error of the file system.
        source: io::Error,
    },
}

impl IsoError {
    /// Returns a function that wraps an I/O error with the name of the structure that was being read.
    pub fn read(what: &str) -> impl FnOnce(io::Error) -> Self + use<> {
        let what = what.to_owned();
        move |source| Self::Read { what, source }
    }
}

/// Result of a step that composes a view.
pub(super) type ViewResult<T> = Result<T, ViewError>;

/// The reason why a view of an image cannot be composed.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The image itself is damaged.
    #[error("image: {0}")]
    Image(#[from] IsoError),
    /// The image file cannot be read.
    #[error("cannot read {what}")]
    Read {
        /// Structure or file that was being read.
        what: String,
        /// Error of the file system.
        source: io::Error,
    },
    /// A write outside the view, or past the 8 TiB that ISO 9660 can address.
    #[error("byte {at} is outside the view")]
    Outside {
        /// Offset in the view, in bytes.
        at: u64,
    },
    /// The bytes that differ from the image exceed the memory limit of one view.
    #[error("view too large: {bytes} bytes differ from the image, the maximum is {maximum}")]
    TooMuch {
        /// Bytes that differ from the image.
        bytes: usize,
        /// Maximum number of differing bytes.
        maximum: usize,
    },
    /// A kernel argument that is empty, has a control character, or is longer than 1024 bytes.
    #[error("kernel argument {0:?}: expected 1 to 1024 bytes without control characters")]
    Argument(String),
    /// Total length of the kernel arguments, in bytes, above the maximum.
    #[error("kernel arguments: {0} bytes in total, the maximum is 2000 (kernels read 2048)")]
    Arguments(usize),
    /// A file cannot be added or replaced.
    #[error("cannot add file {path:?}: {reason}")]
    File {
        /// Path in the image.
        path: String,
        /// Rule that the file breaks.
        reason: &'static str,
    },
    /// The FAT file system of the EFI partition is damaged, or has no room.
    #[error("EFI partition: {0}")]
    Fat(&'static str),
    /// An embed area of a CoreOS live image cannot take the config or the arguments.
    #[error("CoreOS embed area: {0}")]
    CoreOs(&'static str),
    /// An Ignition config cannot be embedded: the image has no Ignition embed area.
    #[error("not a CoreOS live image: it has no Ignition embed area")]
    NotCoreOs,
}

impl ViewError {
    /// Returns a function that wraps an I/O error with the name of the structure that was being read.
    pub fn read(what: &str) -> impl FnOnce(io::Error) -> Self + use<> {
        let what = what.to_owned();
        move |source| Self::Read { what, source }
    }
}
