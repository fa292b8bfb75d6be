//! Loops that look after objects.

pub mod disk_space;
pub mod image_watch;
pub mod install_deadlines;
pub mod manifests;
pub mod power;
