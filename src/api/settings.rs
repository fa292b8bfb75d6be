//! The settings in force, as the API shows them.

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::reply::{Reply, json};

/// The settings in force.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SettingList<'a> {
    #[schemars(extend("enum" = ["SettingList"]))]
    kind: &'static str,
    api_version: &'static str,
    /// The settings, in the order of the reference.
    items: &'a [Setting],
}

/// A key of the configuration, with its value in force.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Setting {
    /// The key, with its table.
    pub key: String,
    /// The value, as the file writes it. A secret is not shown.
    pub value: String,
    /// Where it comes from: `FILE:LINE`, a flag of `serve`, or `default`.
    pub origin: String,
}

/// Answers `/api/v1/settings`.
pub fn list(settings: &[Setting]) -> Reply {
    json(StatusCode::OK, &SettingList { kind: "SettingList", api_version: "v1", items: settings })
}
