//! bootlatch: a network boot appliance in one process.
//!
//! `boot::decide` decides what a machine boots, from values. Each protocol turns its packet into `boot::Facts`, asks
//! the decision through `gate::Gate`, and encodes the verdict in its reply.
//!
//! # Modules
//!
//! | module | content |
//! |---|---|
//! | `fleet`, `boot` | objects, lifecycle, power, rules; the decision, identity of machines, boot scripts; pure |
//! | `bounds`, `iso`, `provision` | shares and rates of one source; ISO 9660 with overlays; generated configs; pure |
//! | `event`, `config`, `store` | events; the configuration; the state: one snapshot, one writer, the timeline |
//! | `gate` | asks the decision for every protocol, records what it depends on, releases configs |
//! | `images`, `admission`, `bmc` | ISO files; checks before a write; BMC clients |
//! | `dhcp`, `dhcpv6`, `ndp`, `tftp`, `iscsi`, `syslog` | codec and session (pure), and `serve` with the sockets |
//! | `http`, `api`, `ui` | HTTP transport; everything that HTTP answers; the web page (pure) |
//! | `http_client`, `webhooks` | HTTP/1.1 client; what webhooks are sent, and when (pure) |
//! | `controllers`, `doctor` | loops that look after objects; what is wrong with an appliance and its wire (pure) |
//! | `appliance`, `cli`, `rig` | the composition root; the command line; virtual machines that boot from this program |
//!
//! # Invariants
//!
//! 1. `fleet` and `boot` are pure: no clock, files, sockets or randomness.
//! 2. A change is on disk before a reader sees it and before a reply depends on it.
//! 3. Every refusal and every dropped packet has a reason (`boot::Reason`, `boot::DropReason`), which is counted.
//! 4. Only the machine's own report ends an install, unless `install.completion` says otherwise.
//! 5. No two files import each other, and no protocol imports another. A test checks this for every `use`.
//!
//! # Path of a DISCOVER
//!
//! `dhcp::serve` -> `dhcp::packet` -> `dhcp::answer::facts` -> `gate` -> `boot::decide` -> `dhcp::answer::reply`

pub mod admission;
pub mod api;
pub mod appliance;
pub mod bmc;
pub mod boot;
pub mod bounds;
pub mod cli;
pub mod config;
pub mod controllers;
pub mod dhcp;
pub mod dhcpv6;
pub mod doctor;
pub mod event;
pub mod fleet;
pub mod gate;
pub mod http;
pub mod http_client;
pub mod images;
pub mod iscsi;
pub mod iso;
pub mod ndp;
pub mod provision;
pub mod rig;
pub mod store;
pub mod syslog;
pub mod tftp;
pub mod ui;
pub mod webhooks;
