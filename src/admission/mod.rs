//! Admission: the checks of an object before it is written, and manifests.

pub mod manifest;
pub mod metadata;
pub mod prepare;
pub mod secrets;
