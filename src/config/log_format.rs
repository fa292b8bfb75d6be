//! The format of the log.

use serde::Deserialize;

/// The format of the log on standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Fields of the journal where standard error is connected to it, text elsewhere
    #[default]
    Auto,
    /// Lines of text, with time and level
    Text,
    /// One JSON object a line
    Json,
}
