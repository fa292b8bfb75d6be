//! ISO 9660 images: reading them, and the view of one that a host gets.

mod descriptor;
mod eltorito;
mod examine;
mod fault;
pub mod number;
mod read;

pub use descriptor::{Descriptor, Extent, PathTables, Spelling, Volume};
pub use eltorito::{BootEntry, Emulation, Platform};
pub use examine::{Examined, examine};
pub use fault::NotAnIso;
pub use read::{ImageFile, ReadAt};
