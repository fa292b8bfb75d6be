//! The checks: functions from what was observed to findings, tested as rows.

pub mod files;
pub mod kernel;
pub mod ports;
pub mod segments;
