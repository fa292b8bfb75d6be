//! The types of conditions, and the times at which they last changed.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The type of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum ConditionType {
    /// The machine reported a completed install, and no other was requested since.
    Installed,
    /// The config of this install was served. Absent for a host without a config.
    ConfigDelivered,
    /// The config could be rendered when it was last asked for. Absent for a config without a template.
    ConfigRendered,
    /// The BMC reports the power state. Absent for a host without a BMC.
    PowerKnown,
    /// The last power change was confirmed by reading the power state back. Absent for a host without a power change.
    PowerChanged,
    /// The boot does not go on.
    Stalled,
    /// Nothing is known that the boot of the image will fail by. Absent for a host that boots no image.
    BootReady,
}

impl ConditionType {
    /// All types, in the order of the API.
    pub const ALL: [Self; 7] = [
        Self::Installed,
        Self::ConfigDelivered,
        Self::ConfigRendered,
        Self::PowerKnown,
        Self::PowerChanged,
        Self::BootReady,
        Self::Stalled,
    ];
}

/// Times of the last change of each condition; no time for a condition that has not changed since the host was created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TransitionTimes {
    #[serde(skip_serializing_if = "Option::is_none")]
    installed: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config_delivered: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config_rendered: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    power_known: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    power_changed: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stalled: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_ready: Option<Timestamp>,
}

impl TransitionTimes {
    /// Returns the time of one condition.
    pub(super) fn of(&mut self, kind: ConditionType) -> &mut Option<Timestamp> {
        match kind {
            ConditionType::Installed => &mut self.installed,
            ConditionType::ConfigDelivered => &mut self.config_delivered,
            ConditionType::ConfigRendered => &mut self.config_rendered,
            ConditionType::PowerKnown => &mut self.power_known,
            ConditionType::PowerChanged => &mut self.power_changed,
            ConditionType::Stalled => &mut self.stalled,
            ConditionType::BootReady => &mut self.boot_ready,
        }
    }
}
