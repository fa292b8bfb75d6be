//! The power state of a machine, its errors, power changes, and the boot device.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reset;

/// The power state of a machine, as its BMC reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// On.
    On,
    /// Off.
    Off,
    /// Not known: the BMC was not asked yet, or does not answer.
    Unknown,
}

impl Power {
    /// Returns the state as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Power {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A power operation that was requested of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PowerOperation {
    /// Switch on.
    On,
    /// Shut down; cut the power if that takes too long.
    Off,
    /// Cut the power.
    ForceOff,
    /// As off, then as on. A machine that is off is only switched on.
    Restart,
    /// Restart without a shutdown. A machine that is off is switched on.
    Reset,
}

impl PowerOperation {
    /// Returns the power state at its end.
    pub fn target(self) -> Power {
        match self {
            Self::On | Self::Restart | Self::Reset => Power::On,
            Self::Off | Self::ForceOff => Power::Off,
        }
    }
}

/// The state of a power change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TransitionState {
    /// Requested; the BMC has not accepted anything yet.
    #[default]
    Asked,
    /// The BMC accepted the operation in `accepted`.
    Accepted,
    /// The power state was read back as it was requested.
    Confirmed,
    /// Wake-on-LAN packets were sent. Nothing but the machine's first request confirms it.
    Sent,
    /// Given up, for the reason in `message`.
    Failed,
    /// Replaced by another request.
    Replaced,
}

impl TransitionState {
    /// Returns whether the power change is over.
    pub fn is_end(self) -> bool {
        match self {
            Self::Asked | Self::Accepted => false,
            Self::Confirmed | Self::Sent | Self::Failed | Self::Replaced => true,
        }
    }
}

/// An operation that the BMC accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AcceptedReset {
    /// Redfish's word for the operation.
    pub reset: Reset,
    /// Time at which it was accepted.
    pub time: Timestamp,
}

/// A power change: what was requested, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PowerTransition {
    /// The requested power state.
    pub target: Power,
    /// The requested operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<PowerOperation>,
    /// Time of the request.
    pub request_time: Timestamp,
    /// Time at which it begins, if that is later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// The state.
    #[serde(default)]
    pub state: TransitionState,
    /// The last operation that the BMC accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<AcceptedReset>,
    /// Number of times that this operation was tried.
    #[serde(default)]
    pub tries: u32,
    /// The reason why it does not go on, in one word for programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The reason why it does not go on, in the BMC's own words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Time at which it was confirmed, given up or replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Timestamp>,
}

impl PowerTransition {
    /// The reason of a BMC that refuses for now: the machine is in its self-test, or the BMC starts or is overloaded.
    pub const BUSY: &str = "Busy";

    /// Returns whether the BMC refuses for now, and is asked again.
    pub fn waits_for_bmc(&self) -> bool {
        self.reason == Self::BUSY && !self.state.is_end()
    }

    /// Returns a power change that nothing was done for yet.
    pub fn new(operation: PowerOperation, request_time: Timestamp) -> Self {
        Self {
            target: operation.target(),
            operation: Some(operation),
            request_time,
            start_time: None,
            state: TransitionState::Asked,
            accepted: None,
            tries: 0,
            reason: String::new(),
            message: String::new(),
            end_time: None,
        }
    }

    /// Returns the requested operation.
    pub fn operation(&self) -> PowerOperation {
        self.operation.unwrap_or(match self.target {
            Power::On => PowerOperation::On,
            Power::Off | Power::Unknown => PowerOperation::Off,
        })
    }

    /// Returns the power change at its end.
    pub fn ended(&self, state: TransitionState, at: Timestamp) -> Self {
        Self { state, end_time: Some(at), ..self.clone() }
    }

    /// Time after which a power change is given up. A server that was stopped for longer does not resume it, because
    /// the machine may have been switched since.
    pub const TIMEOUT: Duration = Duration::from_secs(600);

    /// Returns the time until the power change is given up; `None` afterwards.
    pub fn time_left(&self, now: Timestamp) -> Option<Duration> {
        let waited = now.duration_since(self.start_time.unwrap_or(self.request_time));
        match waited.is_positive() {
            true => Self::TIMEOUT.checked_sub(waited.unsigned_abs()).filter(|left| !left.is_zero()),
            false => Some(Self::TIMEOUT),
        }
    }
}

/// Boot device that overrides the boot order of the firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BootDevice {
    /// Network boot (PXE or HTTP).
    Network,
    /// Local disk.
    Disk,
    /// The virtual CD drive of the BMC.
    Cd,
    /// No override: the boot order of the firmware.
    Default,
}

impl BootDevice {
    /// Returns the device as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Disk => "disk",
            Self::Cd => "cd",
            Self::Default => "default",
        }
    }
}

/// The boot device that the BMC was last told (`status.bootDevice`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootDeviceRecord {
    /// The device, for one boot.
    pub device: BootDevice,
    /// Time at which the BMC accepted or refused it.
    pub time: Timestamp,
    /// Whether an operator asked for it, and not the decision for the host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub requested: bool,
    /// The BMC's reason for its refusal; empty if it accepted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// The error that keeps the power state unknown. Never contains a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PowerError {
    /// The reason, in one word for programs.
    pub reason: String,
    /// The reason, for people.
    pub message: String,
}
