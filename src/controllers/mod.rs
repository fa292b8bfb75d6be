//! Loops that look after objects and their files.

pub mod cleanup;
pub mod clock;
pub mod console;
pub mod disk_space;
pub mod first_seen;
pub mod image_watch;
pub mod install_deadlines;
pub mod inventory;
pub mod manifests;
pub mod power;
pub mod stalls;
pub mod webhooks;
