//! The report of a BMC.

use jiff::Timestamp;

use super::Event;
use crate::fleet::{Bmc, Power, PowerError};

/// Outcome of one request to a BMC. It has no effect when the host has another BMC by the time it is applied.
#[derive(Debug, Clone)]
pub struct PowerReport {
    /// The BMC that was asked.
    pub bmc: Bmc,
    /// Power state that the BMC reported; `None` if the report does not change the known state.
    pub power: Option<Power>,
    /// Reason why the power state is unknown.
    pub error: Option<PowerError>,
    /// Request time of the power transition that ended, by success or by timeout.
    pub ended_transition: Option<Timestamp>,
    /// Events for the timeline of the host.
    pub events: Vec<Event>,
}

impl PowerReport {
    /// Returns a report without content.
    pub fn new(bmc: &Bmc) -> Self {
        Self { bmc: bmc.clone(), power: None, error: None, ended_transition: None, events: Vec::new() }
    }
}
