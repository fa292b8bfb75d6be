//! Redfish (DSP0266).

pub mod client;
mod virtual_media;
