//! Configs for installers: what is valid for its format, and what is generated from a few words.

mod check;
mod cloud_config;
pub mod generate;
mod ignition;
mod yaml;

pub use check::{Fault, check};
pub use yaml::yaml_fault;
