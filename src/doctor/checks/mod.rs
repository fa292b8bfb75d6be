//! The checks: functions from what was observed to findings, tested as rows.

pub mod certificate_names;
pub mod files;
pub mod ipv6;
pub mod kernel;
pub mod ports;
pub mod segments;
