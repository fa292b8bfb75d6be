//! ISO 9660 images: reading them, and the view of one that a host gets.
//!
//! `examine` tells once what an image is; `compose` makes, of that and of what is wished for a host,
//! the few extents in which the host's view differs; `View` reads as the whole.

mod add;
mod cidata;
mod compose;
mod coreos;
pub mod customization;
mod descriptor;
mod distribution;
mod draft;
mod eltorito;
mod emit;
pub mod endian;
pub mod error;
mod examine;
mod fat;
mod hybrid;
mod implanted;
pub mod menu;
mod overlay;
mod read;
mod record;
pub mod report;
mod sums;
mod tree;
mod udf;
mod volume;

pub use crate::iso::customization::{kernel_arguments, wishes};
pub use crate::iso::error::{CannotCompose, NotAnIso};
pub use cidata::{SEED_FILES, meta_data, seed};
pub use compose::{Composed, ImplantedDigest, Wishes, compose};
pub use coreos::{CoreOs, KargsArea};
pub use descriptor::{Descriptor, Extent, PathTables, Spelling, Volume};
pub use distribution::{Distribution, Family, arguments};
pub use draft::Draft;
pub use eltorito::{BootEntry, Emulation, Platform};
pub use examine::{Examined, Menu, examine};
pub use hybrid::Hybrid;
pub use implanted::Implanted;
pub use menu::{Dialect, Edit, MenuEntry};
pub use overlay::{Overlay, Patch, Piece, Pieces, Tag, View};
pub use read::{FileWithin, ImageFile, Memory, ReadAt};
pub use tree::{Entry, Kind};
pub use volume::Iso;
