//! HTTP: what machines ask, and the object API. Routes are one `match` in `routes`.

mod auth;
mod body;
mod boot;
mod install;
mod metrics;
mod neighbours;
mod objects;
mod reply;
mod routes;
mod serve;
mod status;
mod upload;
mod view;

pub use auth::{Role, Tokens};
pub use serve::{Door, Peer, Shared, Trust, serve};
