//! ISO 9660 images: reading them, and the view of one that a host gets.
//!
//! `examine` tells once what an image is; `compose` makes, of that and of what is wished for a host,
//! the few extents in which the host's view differs; `View` reads as the whole.

mod add;
mod cidata;
mod compose;
mod coreos;
mod descriptor;
mod distribution;
mod draft;
mod eltorito;
mod emit;
mod examine;
mod fat;
mod fault;
mod hybrid;
mod implanted;
pub mod menu;
mod number;
mod overlay;
mod read;
mod record;
mod sums;
mod tell;
mod tree;
mod udf;
mod volume;
mod wishes;

pub use cidata::{SEED_FILES, meta_data, seed};
pub use compose::{Composed, ImplantedDigest, Wishes, compose};
pub use coreos::{CoreOs, KargsArea};
pub use descriptor::{Descriptor, Extent, PathTables, Spelling, Volume};
pub use distribution::{Distribution, Family, arguments};
pub use draft::Draft;
pub use eltorito::{BootEntry, Emulation, Platform};
pub use examine::{Examined, Menu, examine};
pub use fault::{CannotCompose, NotAnIso};
pub use hybrid::Hybrid;
pub use implanted::Implanted;
pub use menu::{Dialect, Edit, MenuEntry};
pub use overlay::{Overlay, Patch, Piece, Pieces, Tag, View};
pub use read::{FileWithin, ImageFile, Memory, ReadAt};
pub use tree::{Entry, Kind};
pub use volume::Iso;
pub use wishes::{kernel_arguments, wishes};
