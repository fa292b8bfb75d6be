//! HTTP as a transport: listeners, TLS, the fast path, replies, ranges and limits. The content of the answers is in
//! `api`.

pub mod conditional;
pub mod connection_limits;
pub mod delivery;
pub mod fast_path;
pub mod handler;
pub mod host_header;
pub mod limits;
pub mod listener;
pub mod multipart;
pub mod peer;
pub mod ranges;
pub mod repeated_request;
pub mod reply;
pub mod tls;
pub mod writer;
