//! Answers of HTTP: machines' requests, the object API, Redfish, the web page, health and metrics.

pub mod auth;
pub mod browser;
mod cleanup;
#[cfg(test)]
pub mod fixture;
pub mod generate;
pub mod machine;
pub mod network;
pub mod objects;
pub mod openapi;
pub mod ops;
pub mod redfish;
pub mod rehearsal;
pub mod route;
pub mod route_search;
pub mod router;
pub mod routes;
pub mod session;
pub mod settings;
pub mod state;
pub mod ui;
pub mod uploads;
