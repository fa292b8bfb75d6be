//! The words of an installer: its lines, which of them say why it stopped, and the removal of secrets. Pure.

mod config_secrets;
mod failure;
mod redaction;
mod reporting;
mod secret_forms;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use config_secrets::PartTexts;
pub use failure::{InstallerFailure, installer_failure};
pub use redaction::{Redactor, redact};
pub use reporting::vendor_data;

/// Maximum length of a line's message in the timeline, in characters.
pub const MAX_MESSAGE_LENGTH: usize = 512;
/// Maximum length of a line's stage, in characters.
pub const MAX_STAGE_LENGTH: usize = 64;

/// A line that an installer said about its work.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InstallerLine {
    /// The way that the line came.
    pub source: InstallerSource,
    /// The program or the step that it is about.
    pub stage: Option<String>,
    /// The severity.
    pub level: Option<LogLevel>,
    /// The text.
    pub message: String,
}

/// The way that an installer's line came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstallerSource {
    /// The syslog receiver.
    Syslog,
    /// The reporter of cloud-init.
    CloudInit,
    /// The reporter of curtin.
    Curtin,
    /// The reporter of Subiquity.
    Subiquity,
    /// A plain report.
    Report,
}

impl InstallerSource {
    /// All sources, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Syslog, Self::CloudInit, Self::Curtin, Self::Subiquity, Self::Report];

    /// Returns the code of the source, in snake case.
    pub fn code(self) -> &'static str {
        match self {
            Self::Syslog => "syslog",
            Self::CloudInit => "cloud_init",
            Self::Curtin => "curtin",
            Self::Subiquity => "subiquity",
            Self::Report => "report",
        }
    }
}

/// The severity of a line (RFC 5424, section 6.2.1), the most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// The system is unusable.
    Emerg,
    /// Action must be taken at once.
    Alert,
    /// A critical condition.
    Crit,
    /// An error.
    Err,
    /// A warning.
    Warning,
    /// A normal but significant condition.
    Notice,
    /// Information.
    Info,
    /// Details for developers.
    Debug,
}

impl LogLevel {
    /// All levels, in the order of their numbers.
    pub const ALL: [Self; 8] =
        [Self::Emerg, Self::Alert, Self::Crit, Self::Err, Self::Warning, Self::Notice, Self::Info, Self::Debug];

    /// Returns the keyword of the level, as in syslog.conf(5).
    pub fn code(self) -> &'static str {
        match self {
            Self::Emerg => "emerg",
            Self::Alert => "alert",
            Self::Crit => "crit",
            Self::Err => "err",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// Returns the level with a number of syslog (0 to 7).
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Returns the level that a word names: a keyword of syslog, or a level of Python's `logging`.
    pub fn from_word(word: &str) -> Option<Self> {
        let word = word.trim().to_ascii_lowercase();
        Some(match word.as_str() {
            "emerg" | "panic" => Self::Emerg,
            "alert" => Self::Alert,
            "crit" | "critical" | "fatal" => Self::Crit,
            "err" | "error" => Self::Err,
            "warning" | "warn" => Self::Warning,
            "notice" => Self::Notice,
            "info" => Self::Info,
            "debug" => Self::Debug,
            _ => return None,
        })
    }
}

impl InstallerLine {
    /// Returns whether people should read the line first: it is a warning or worse, or a report of a step.
    pub fn is_notable(&self) -> bool {
        match (self.source, self.level) {
            (_, Some(level)) if level <= LogLevel::Warning => true,
            (InstallerSource::Syslog, _) | (_, Some(LogLevel::Debug)) => false,
            (
                InstallerSource::CloudInit
                | InstallerSource::Curtin
                | InstallerSource::Subiquity
                | InstallerSource::Report,
                _,
            ) => true,
        }
    }
}

impl fmt::Display for InstallerLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stage {
            Some(stage) => write!(out, "{stage}: {}", self.message),
            None => out.write_str(&self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_has_one_keyword_and_one_number() {
        for (number, level) in (0..).zip(LogLevel::ALL) {
            assert_eq!(LogLevel::from_number(number), Some(level));
            assert_eq!(LogLevel::from_word(level.code()), Some(level));
            assert_eq!(serde_json::to_value(level).unwrap(), level.code());
        }
        assert_eq!(LogLevel::from_number(8), None);
        let rows = [
            ("WARN", Some(LogLevel::Warning)),
            ("ERROR", Some(LogLevel::Err)),
            (" Critical", Some(LogLevel::Crit)),
            ("x", None),
        ];
        for (word, level) in rows {
            assert_eq!(LogLevel::from_word(word), level, "{word}");
        }
    }

    #[test]
    fn a_source_is_its_code_in_json() {
        for (number, source) in InstallerSource::ALL.into_iter().enumerate() {
            assert_eq!(source as usize, number);
            assert_eq!(serde_json::to_value(source).unwrap(), source.code());
        }
    }

    #[test]
    fn warnings_and_reports_are_notable() {
        let line = |source, level| InstallerLine { source, stage: None, level, message: String::new() };
        for (source, level, expected) in [
            (InstallerSource::Syslog, None, false),
            (InstallerSource::Syslog, Some(LogLevel::Notice), false),
            (InstallerSource::Syslog, Some(LogLevel::Warning), true),
            (InstallerSource::Curtin, None, true),
            (InstallerSource::Subiquity, Some(LogLevel::Debug), false),
            (InstallerSource::Report, Some(LogLevel::Info), true),
        ] {
            assert_eq!(line(source, level).is_notable(), expected, "{source:?} {level:?}");
        }
    }
}
