//! IPMI 2.0 over LAN (RMCP+).

pub mod client;
