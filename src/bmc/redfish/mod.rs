//! Redfish (DSP0266).

pub mod client;
mod inventory;
mod virtual_media;
