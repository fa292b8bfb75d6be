//! Code that the load generators share.

pub mod arguments;
pub mod dhcp_options;
