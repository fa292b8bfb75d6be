//! The power state of a machine, its errors, and power changes in progress.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// A power change that a write of `spec.online` requested and that is not completed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PowerTransition {
    /// The requested state.
    pub target: Power,
    /// Time of the request.
    pub request_time: Timestamp,
}

impl PowerTransition {
    /// Time after which a power change is given up. A server that was stopped for longer does not resume it, because
    /// the machine may have been switched since.
    pub const TIMEOUT: Duration = Duration::from_secs(600);

    /// Returns the time until the power change is given up; `None` afterwards.
    pub fn time_left(&self, now: Timestamp) -> Option<Duration> {
        let waited = now.duration_since(self.request_time);
        match waited.is_positive() {
            true => Self::TIMEOUT.checked_sub(waited.unsigned_abs()).filter(|left| !left.is_zero()),
            false => Some(Self::TIMEOUT),
        }
    }
}

/// The error that keeps the power state unknown. Never contains a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PowerError {
    /// The reason, in one word for programs.
    pub reason: String,
    /// The reason, for people.
    pub message: String,
}
