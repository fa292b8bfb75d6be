//! The Kubernetes-shaped object API.

pub mod access_reviews;
pub mod actions;
pub mod body;
pub mod discovery;
pub mod duplicate_keys;
pub mod field_validation;
pub mod handlers;
pub mod iso_files;
pub mod list;
pub mod managed_fields;
pub mod names;
pub mod options;
pub mod protobuf;
pub mod redaction;
pub mod restore;
pub mod selectors;
pub mod status;
pub mod table;
pub mod watch;
