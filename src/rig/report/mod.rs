//! The reports of a run. Pure.

pub mod junit;
pub mod summary;
