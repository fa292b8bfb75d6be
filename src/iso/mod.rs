//! ISO 9660 images: reading them, and the view of an image that is made for one host.
//!
//! `examine` inspects an image once. `compose` turns the result and a host's `Customization` into an
//! `Overlay`: the few byte ranges in which the host's view differs. `OverlayView` reads as the whole image.
//!
//! Pure, except `file`, which opens files, and `read`, which reads open ones.

mod add_file;
mod checksum_files;
mod compose;
pub mod content_digest;
mod coreos;
pub mod customization;
mod descriptor;
mod distribution;
mod eltorito;
mod emit;
mod endian;
mod error;
mod examine;
mod extent;
mod fat;
pub mod file;
mod hybrid;
mod isomd5;
mod limited_image;
pub mod menu;
mod overlay;
mod overlay_builder;
mod read;
mod record;
mod report;
mod seed;
mod timestamp;
mod tree;
mod udf;
mod volume;

pub use compose::{ComposedView, compose};
pub use coreos::{CoreOs, KargsArea};
pub use customization::{Customization, DigestPolicy, ServerAddresses, customization_for, kernel_arguments};
pub use descriptor::{NameEncoding, PathTables, VolumeDescriptor, VolumeDescriptorSet};
pub use distribution::{Distribution, Family, config_arguments, syslog_arguments};
pub use eltorito::{BootEntry, BootPlatform, Emulation};
pub use error::{IsoError, ViewError};
pub use examine::{BootMenu, Examined, examine};
pub use extent::Extent;
pub use hybrid::Hybrid;
pub use isomd5::ImplantedDigest;
pub use menu::{Dialect, MenuEdit, MenuEntry, Obstacle};
pub use overlay::{Overlay, OverlayPatch, OverlayView, Segment, Segments, ViewTag};
pub use overlay_builder::OverlayBuilder;
pub use read::{FileInImage, ImageFile, MemoryImage, ReadAt, try_read_file_at};
pub use seed::{SEED_FILES, build_seed, meta_data};
pub use tree::{DirectoryEntry, EntryKind};
pub use udf::UdfVolume;
pub use volume::Iso;
