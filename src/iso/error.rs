use std::io;

/// Says why an image cannot be used as an ISO 9660 volume. Every message names what was being read.
#[derive(Debug, thiserror::Error)]
pub enum NotAnIso {
    #[error("it is {length} bytes long: too short for an ISO 9660 volume, which begins with 32 KiB of system area")]
    TooShort { length: u64 },
    #[error("no ISO 9660 volume descriptor (\"CD001\") at sector {sector}")]
    NoDescriptor { sector: u32 },
    #[error("its volume descriptors do not include a primary one")]
    NoPrimary,
    #[error("more than {0} volume descriptors")]
    TooManyDescriptors(u32),
    #[error("its logical blocks are {0} bytes long: only 2048 is read")]
    BlockSize(u16),
    #[error("it is truncated: the volume is {volume} bytes long and the image {image}")]
    Truncated { volume: u64, image: u64 },
    #[error("{what} lies past the end: bytes {offset} to {end} of an image of {image}")]
    PastEnd { what: String, offset: u64, end: u64, image: u64 },
    #[error("the boot catalogue is damaged: {0}")]
    Catalogue(&'static str),
    #[error("the directory {path:?} is damaged at byte {at} of the image: {why}")]
    Directory { path: String, at: u64, why: &'static str },
    #[error("the directory {path:?} is its own ancestor, or is reached twice")]
    Loop { path: String },
    #[error("{path:?}: {limit}")]
    Limit { path: String, limit: &'static str },
    #[error("{path:?} leads through more than {limit} symbolic links")]
    Links { path: String, limit: usize },
    #[error("the UDF side is damaged: {0}")]
    Udf(&'static str),
    #[error("reading {what}")]
    Read { what: String, source: io::Error },
}

impl NotAnIso {
    /// Says what was being read when the medium itself failed.
    pub fn read(what: &str) -> impl FnOnce(io::Error) -> Self + use<> {
        let what = what.to_owned();
        move |source| Self::Read { what, source }
    }
}

/// Says why a view of an image cannot be made as asked.
#[derive(Debug, thiserror::Error)]
pub enum CannotCompose {
    #[error("the image: {0}")]
    Image(#[from] NotAnIso),
    #[error("reading {what}")]
    Read { what: String, source: io::Error },
    #[error("byte {at} is outside the view")]
    Outside { at: u64 },
    #[error("the view would hold {held} bytes of its own, more than {most}")]
    TooMuch { held: usize, most: usize },
    #[error("the kernel argument {0:?} has a control character, or is longer than 1024 bytes")]
    Argument(String),
    #[error("the kernel arguments are {0} bytes long together, more than 2000: kernels read 2048")]
    Arguments(usize),
    #[error("no boot configuration in the image has a kernel line to add arguments to")]
    NoKernelLine,
    #[error("{path:?} cannot be added: {why}")]
    File { path: String, why: &'static str },
    #[error("the EFI partition's file system: {0}")]
    Fat(&'static str),
    #[error("CoreOS's embed area: {0}")]
    CoreOs(&'static str),
    #[error("the image is no CoreOS live image: it has no Ignition embed area")]
    NotCoreOs,
}

impl CannotCompose {
    /// Says what was being read when the medium itself failed.
    pub fn read(what: &str) -> impl FnOnce(io::Error) -> Self + use<> {
        let what = what.to_owned();
        move |source| Self::Read { what, source }
    }
}
