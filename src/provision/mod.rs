//! Configs for installers: what is valid for its format.

mod check;

pub use check::{Fault, check};
