//! Configs for installers: what is valid for its format.

mod check;
mod cloud_config;
mod ignition;

pub use check::{Fault, check};
