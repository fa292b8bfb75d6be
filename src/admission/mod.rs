//! What an object must fulfil before it is written.

pub mod manifest;
pub mod prepare;
pub mod secrets;
