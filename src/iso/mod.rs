//! ISO 9660 images: reading them, and the view of one that a host gets.

mod descriptor;
mod draft;
mod eltorito;
mod examine;
mod fault;
mod menu;
pub mod number;
mod overlay;
mod read;
mod record;
mod tree;
mod udf;
mod volume;

pub use descriptor::{Descriptor, Extent, PathTables, Spelling, Volume};
pub use draft::Draft;
pub use eltorito::{BootEntry, Emulation, Platform};
pub use examine::{Examined, examine};
pub use fault::{CannotCompose, NotAnIso};
pub use menu::{Dialect, Edit, MenuEntry};
pub use overlay::{Overlay, Patch, Piece, Pieces, Tag, View};
pub use read::{ImageFile, Memory, ReadAt};
pub use tree::{Entry, Kind};
pub use volume::Iso;
