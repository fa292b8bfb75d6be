//! bootlatch owns the network boot path of a site in one process.
//!
//! What a machine boots is decided in one place, `boot::decide`, from values. Every protocol turns its
//! packet into `boot::Facts`, asks through `gate::Gate`, and says the verdict in its own words.
//!
//! Invariants, each kept by a test (`integration/tidy.rs` holds who may name whom):
//! 1. `fleet` and `boot` are pure: no clock, no files, no tokio, no randomness.
//! 2. Only the rim touches the world: `serve.rs`, `client.rs`, `store`, `http`, `cli`, `config`, `gate`, `media`,
//!    `manifest`, `admit`, `event`, `neighbours`, `token`, `privileges`, `appliance`; and `iso::read` opens files.
//! 3. A change is on disk before anybody sees it, and before anybody is told of it.
//! 4. Every refusal and every drop has a reason (`boot::Reason`, `boot::DropReason`), counted in `event::Counters`.
//! 5. Nothing ends an install but the machine's own word, unless the site chose otherwise by name.
//!
//! The way of a DISCOVER: `dhcp::serve` -> `dhcp::packet` -> `dhcp::answer::facts` -> `gate` ->
//! `boot::decide` -> `dhcp::answer::reply`.

pub mod admission;
pub mod api;
pub mod appliance;
pub mod bmc;
pub mod boot;
pub mod cli;
pub mod config;
pub mod controllers;
pub mod dhcp;
pub mod event;
pub mod fleet;
pub mod gate;
pub mod http;
pub mod images;
pub mod iscsi;
pub mod iso;
pub mod ndp;
pub mod provision;
pub mod store;
pub mod tftp;
