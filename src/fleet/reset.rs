//! Power operations of a BMC.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A power operation, named as in Redfish (DSP2046, ResetType).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Reset {
    /// Power on.
    On,
    /// Power off without shutdown.
    ForceOff,
    /// Shutdown by the operating system, then power off.
    GracefulShutdown,
    /// Restart by the operating system.
    GracefulRestart,
    /// Hard reset.
    ForceRestart,
    /// Power off and on again.
    PowerCycle,
    /// Non-maskable interrupt.
    Nmi,
}

impl Reset {
    /// All operations.
    pub const ALL: [Self; 7] = [
        Self::On,
        Self::ForceOff,
        Self::GracefulShutdown,
        Self::GracefulRestart,
        Self::ForceRestart,
        Self::PowerCycle,
        Self::Nmi,
    ];

    /// Returns whether the machine boots after the operation.
    pub fn begins_boot(self) -> bool {
        match self {
            Self::On | Self::GracefulRestart | Self::ForceRestart | Self::PowerCycle => true,
            Self::ForceOff | Self::GracefulShutdown | Self::Nmi => false,
        }
    }

    /// Returns the name in Redfish.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "On",
            Self::ForceOff => "ForceOff",
            Self::GracefulShutdown => "GracefulShutdown",
            Self::GracefulRestart => "GracefulRestart",
            Self::ForceRestart => "ForceRestart",
            Self::PowerCycle => "PowerCycle",
            Self::Nmi => "Nmi",
        }
    }

    /// Returns the word for it in the timeline, which is that of `bootlatch host` where that has one.
    pub fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::ForceOff => "forceOff",
            Self::GracefulShutdown => "off",
            Self::GracefulRestart => "restart",
            Self::ForceRestart => "reset",
            Self::PowerCycle => "powerCycle",
            Self::Nmi => "nmi",
        }
    }

    /// Returns the operation of a word in the timeline.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reset| reset.word() == word)
    }

    /// Parses the name in Redfish; `ForceOn` is a synonym of `On`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "ForceOn" => Some(Self::On),
            word => Self::ALL.into_iter().find(|reset| reset.as_str() == word),
        }
    }
}

impl fmt::Display for Reset {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}
