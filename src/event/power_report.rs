//! The report of a BMC.

use super::Event;
use crate::fleet::{Bmc, BmcRecord, BootDeviceRecord, Power, PowerError, PowerTransition};

/// Outcome of one request to a BMC. It has no effect when the host has another BMC by the time it is applied.
#[derive(Debug, Clone)]
pub struct PowerReport {
    /// The BMC that was asked; `None` if the host has none, and was sent Wake-on-LAN packets.
    pub bmc: Option<Bmc>,
    /// Power state that the BMC reported; `None` if the report does not change the known state.
    pub power: Option<Power>,
    /// Reason why the power state is unknown.
    pub error: Option<PowerError>,
    /// New state of the power change in progress, or its end.
    pub transition: Option<Box<PowerTransition>>,
    /// Boot device that the BMC was told.
    pub boot_device: Option<Box<BootDeviceRecord>>,
    /// What was learnt of the BMC.
    pub learnt: Option<BmcRecord>,
    /// Events for the timeline of the host.
    pub events: Vec<Event>,
}

impl PowerReport {
    /// Returns a report without content.
    pub fn new(bmc: &Bmc) -> Self {
        Self { bmc: Some(bmc.clone()), ..Self::without_bmc() }
    }

    /// Returns a report without content of a host without a BMC.
    pub fn without_bmc() -> Self {
        Self {
            bmc: None,
            power: None,
            error: None,
            transition: None,
            boot_device: None,
            learnt: None,
            events: Vec::new(),
        }
    }

    /// Returns whether there is something to record.
    pub fn has_content(&self) -> bool {
        let Self { bmc: _, power, error: _, transition, boot_device, learnt, events } = self;
        power.is_some() || transition.is_some() || boot_device.is_some() || learnt.is_some() || !events.is_empty()
    }
}
