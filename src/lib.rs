//! bootlatch owns the network boot path of a site in one process.
pub mod admit;
pub mod boot;
pub mod cli;
pub mod config;
pub mod dhcp;
pub mod event;
pub mod fleet;
pub mod gate;
pub mod http;
pub mod iso;
pub mod provision;
pub mod store;
