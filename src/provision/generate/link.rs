//! Bonds and VLANs of a cloud-init request, as network config version 2 has them.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::FieldError;
use super::body::{display_value, field_error};

/// Modes of a bond (`bond-mode` of netplan).
const MODES: [&str; 7] =
    ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];
/// Interval of the checks of a bond's links, in milliseconds. Without checks a bond keeps a dead link.
const MII_INTERVAL: u32 = 100;
/// Maximum ID of a VLAN (IEEE 802.1Q).
const MAX_VLAN_ID: u16 = 4094;

/// Several interfaces that are one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bond {
    /// Names of its interfaces, which are in the list too, without addresses.
    #[schemars(length(min = 1))]
    pub interfaces: Vec<String>,
    /// Mode; active-backup by default.
    #[schemars(extend("enum" = MODES.map(Some).into_iter().chain([None]).collect::<Vec<_>>()))]
    mode: Option<String>,
}

/// An interface for the frames of one VLAN (IEEE 802.1Q).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vlan {
    /// ID of the VLAN, 1 to 4094.
    #[schemars(range(min = 1, max = 4094))]
    id: u16,
    /// Name of the interface below, which is in the list too.
    pub link: String,
}

impl Bond {
    /// Returns the parameters of the bond.
    ///
    /// # Errors
    /// Returns the invalid mode.
    pub fn parameters(&self, field: &str) -> Result<Value, FieldError> {
        let mode = self.mode.as_deref().unwrap_or("active-backup");
        match MODES.contains(&mode) {
            true => Ok(json!({"mode": mode, "mii-monitor-interval": MII_INTERVAL})),
            false => Err(field_error(
                format!("{field}.mode"),
                format!("unknown mode {}: expected one of {}", display_value(mode), MODES.join(", ")),
            )),
        }
    }
}

impl Vlan {
    /// Returns the ID.
    ///
    /// # Errors
    /// Returns an ID that no VLAN has.
    pub fn id(&self, field: &str) -> Result<u16, FieldError> {
        match (1..=MAX_VLAN_ID).contains(&self.id) {
            true => Ok(self.id),
            false => Err(field_error(format!("{field}.id"), format!("{}: expected 1 to {MAX_VLAN_ID}", self.id))),
        }
    }
}
