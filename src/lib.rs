//! bootlatch owns the network boot path of a site in one process.
pub mod boot;
pub mod config;
pub mod dhcp;
pub mod event;
pub mod fleet;
pub mod gate;
pub mod iso;
pub mod store;
pub mod tftp;
