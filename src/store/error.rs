//! Errors of the store.

use std::sync::Arc;

use crate::fleet::rules::Invalid;
use crate::fleet::{EntryPoint, Key, Kind, Mac};

/// Reason why a change was refused or failed. No part of the change was made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The object must not exist, and it does.
    #[error("{0} already exists")]
    AlreadyExists(Key),
    /// No object has this key.
    #[error("{0} not found")]
    NotFound(Key),
    /// No host has this MAC address.
    #[error("no host has the MAC address {0}")]
    NoSuchMac(Mac),
    /// The object was changed since the client read it.
    #[error("{key} was changed: its version is {now}, expected {wanted}; read it again and repeat the change")]
    Conflict {
        /// Key of the object.
        key: Key,
        /// Version that the client expected.
        wanted: u64,
        /// Current version.
        now: u64,
    },
    /// Another object refers to the object.
    #[error("{key} is in use by {by}: {}", remedy(key.kind, by.kind))]
    InUse {
        /// Key of the object.
        key: Key,
        /// Key of the object that refers to it.
        by: Key,
    },
    /// As many machines of an entry point were seen and never declared as are kept.
    #[error("{0}: too many machines were seen there and never declared")]
    EnrolmentLimit(EntryPoint),
    /// The disk of the state is nearly full: no unknown machine is enrolled.
    #[error("the disk of the state is nearly full")]
    DiskNearlyFull,
    /// The object violates a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The state could not be written.
    #[error("the state could not be written: {0}")]
    Unavailable(Arc<str>),
    /// The database is missing or empty, and the directory was in use before.
    #[error(
        "{}: missing or empty, but {trace} shows that this directory was in use: restore the database from a backup; or \
         start once with --start-empty, which forgets all hosts and what is installed on them",
        path.display()
    )]
    Lost {
        /// Path of the database.
        path: std::path::PathBuf,
        /// File that an earlier run left.
        trace: &'static str,
    },
    /// The state could not be read.
    #[error("the state could not be read: {0}")]
    Unreadable(Arc<str>),
}

/// Returns which field refers to an object of a kind, and how to remove the reference.
fn remedy(kind: Kind, by: Kind) -> &'static str {
    match (kind, by) {
        (Kind::IscsiCdrom, Kind::BareMetalHost) => {
            "its spec.image refers to it, also while the host boots its disk: set it to another ISO or to localboot"
        }
        (Kind::BootConfig, Kind::BareMetalHost) => "remove it from spec.bootConfigRef there first",
        (Kind::IscsiCdrom, _) => "remove it from spec.companions there first",
        (Kind::ConfigTemplate, _) => "remove it from spec.template there first",
        (Kind::BootConfig | Kind::BareMetalHost, _) => "remove it from spec.bootConfigs there first",
    }
}
