//! HTTP: what machines ask, and the object API. Routes are one `match` in `routes`.

mod auth;
mod body;
mod boot;
mod config;
mod discovery;
mod files;
mod image;
mod install;
mod lane;
mod list;
mod methods;
mod metrics;
mod multipart;
mod objects;
mod openapi;
mod options;
mod output;
mod ownership;
mod ranges;
mod recurring;
mod redfish;
mod reply;
mod routes;
mod select;
mod serve;
mod status;
mod table;
mod tls;
mod upload;
mod view;
mod watch;

pub use auth::{Access, Role, Tokens};
pub use serve::{Door, Folders, Peer, Serves, Shared, Socket, Trust, serve};
pub use tls::{Certificate, Tls};
