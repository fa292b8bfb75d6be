//! The Kubernetes-shaped object API.

pub mod access_reviews;
pub mod actions;
mod apply;
pub mod body;
mod boot_ledger;
pub mod console;
pub mod diagnosis;
pub mod discovery;
mod duplicate_keys;
pub mod events;
pub mod field_validation;
pub mod handlers;
pub mod iso_files;
pub mod list;
pub mod managed_fields;
pub mod names;
pub mod namespaces;
pub mod options;
pub mod pages;
mod plain_lists;
pub mod power;
pub mod protobuf;
pub mod redaction;
mod restore;
pub mod selectors;
pub mod status;
pub mod table;
pub mod template_preview;
pub mod templates;
#[cfg(test)]
mod tests;
pub mod timeline_watch;

pub mod watch;
pub mod write;
