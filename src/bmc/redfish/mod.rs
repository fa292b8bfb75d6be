//! Redfish (DSP0266).

pub mod client;
mod inventory;
pub mod virtual_media;
