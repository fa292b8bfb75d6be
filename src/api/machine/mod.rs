//! The requests of machines: scripts, configs and images.

pub mod configs;
pub mod downloads;
pub mod images;
pub mod query;
pub mod recent;
pub mod reports;
pub mod scripts;
