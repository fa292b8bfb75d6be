//! Redfish (DSP0266).

pub mod client;
