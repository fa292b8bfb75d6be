//! Code that the load generators share.

pub mod arguments;
