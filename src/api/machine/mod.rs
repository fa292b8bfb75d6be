//! What machines ask: scripts, configs and images.

pub mod configs;
pub mod images;
pub mod scripts;
