//! ISO 9660 images: reading them, and the view of one that a host gets.

mod read;

pub use read::{ImageFile, ReadAt};
