//! Changes of the state, and their preconditions.

use jiff::Timestamp;

use crate::boot::identity::AddressEvidence;
use crate::event::Event;
use crate::event::power_report::PowerReport;
use crate::fleet::enrolment::UnknownHostAction;
use crate::fleet::lifecycle;
use crate::fleet::{
    Architecture, Bmc, EntryPoint, FirstSeenLimits, HardwareDetails, Host, Key, Mac, Object, PowerOperation,
    RenderedTemplate, Stall,
};

/// A change of the state.
#[derive(Debug, Clone)]
pub enum Change {
    /// Creates or replaces an object.
    Put {
        /// The new object; its identity (UID, creation time, versions) is set by the store.
        object: Object,
        /// Precondition of the write.
        expect: Expect,
    },
    /// Deletes an object that no other object refers to.
    Delete {
        /// Key of the object.
        key: Key,
        /// Required resource version; none for any.
        version: Option<u64>,
    },
    /// Creates the host of an unknown machine. A host with the same MAC address is left unchanged.
    Enrol {
        /// The new host.
        host: Box<Host>,
        /// Rule that the machine was enrolled by.
        action: UnknownHostAction,
        /// The entry point of the machine's request.
        entry: EntryPoint,
        /// The bounds of such hosts.
        limits: FirstSeenLimits,
    },
    /// Applies a lifecycle transition to a host. The event is written in the same transaction.
    Advance {
        /// Boot MAC address of the host.
        mac: Mac,
        /// The transition.
        transition: lifecycle::Transition,
        /// The facts about the machine in the request.
        observation: Observation,
        /// Event for the timeline.
        event: Option<Event>,
    },
    /// Records the facts about a machine in a request.
    Observe {
        /// Boot MAC address of the host.
        mac: Mac,
        /// The facts in the request.
        observation: Observation,
    },
    /// Records the hardware that a machine reports.
    RecordHardware {
        /// Boot MAC address of the host.
        mac: Mac,
        /// What is known of the hardware now.
        hardware: Box<HardwareDetails>,
    },
    /// Records the hardware that a BMC shows.
    RecordInventory {
        /// Boot MAC address of the host.
        mac: Mac,
        /// The BMC that was asked.
        bmc: Box<Bmc>,
        /// What it shows.
        hardware: Box<HardwareDetails>,
    },
    /// Records the diagnosis of a host's boot, or that it goes on.
    RecordStall {
        /// Boot MAC address of the host.
        mac: Mac,
        /// The diagnosis.
        stall: Option<Box<Stall>>,
    },
    /// Records the rendering of a host's config from its template, or that it has no template.
    RecordRendering {
        /// Boot MAC address of the host.
        mac: Mac,
        /// The rendering.
        rendered: Option<Box<RenderedTemplate>>,
    },
    /// Requests a power change of a host with a BMC.
    RequestPower {
        /// Boot MAC address of the host.
        mac: Mac,
        /// The operation.
        operation: PowerOperation,
        /// Time at which it begins, if not at once.
        start: Option<Timestamp>,
    },
    /// Records the report of a host's BMC.
    PowerReported {
        /// Boot MAC address of the host.
        mac: Mac,
        /// The report.
        report: Box<PowerReport>,
    },
}

/// The facts about a machine in a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Observation {
    /// Architecture of the firmware (RFC 4578, section 2.1).
    pub firmware: Option<Architecture>,
    /// Address of the machine, and what ties it to the machine.
    pub address: Option<(std::net::IpAddr, AddressEvidence)>,
    /// SMBIOS UUID of the machine.
    pub uuid: Option<uuid::Uuid>,
}

/// Precondition of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The object must not exist.
    Absent,
    /// The object must exist, with this resource version if one is given.
    Present(Option<u64>),
    /// No precondition.
    Any,
}
