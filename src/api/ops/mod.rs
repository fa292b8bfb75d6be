//! Health and metrics.

pub mod health;
pub mod metrics;
mod process;
