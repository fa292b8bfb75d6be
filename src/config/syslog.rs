//! The settings of the syslog receiver.

use serde::Deserialize;
use toml::Spanned;

use super::{ConfigError, Validator};

/// Settings of the syslog receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syslog {
    /// UDP and TCP port.
    pub port: u16,
}

/// `[syslog]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSyslog {
    enabled: bool,
    port: Option<Spanned<u16>>,
}

impl Validator<'_> {
    /// Validates the settings; `None` if the receiver is off.
    pub(super) fn syslog(&self, raw: &RawSyslog) -> Result<Option<Syslog>, ConfigError> {
        const SYSLOG_PORT: u16 = 514;
        if let Some(port) = raw.port.as_ref().filter(|port| *port.get_ref() == 0) {
            return Err(self.error("syslog.port", Some(port.span()), "0 is out of range: expected 1 to 65535"));
        }
        let port = raw.port.as_ref().map_or(SYSLOG_PORT, |port| *port.get_ref());
        Ok(raw.enabled.then_some(Syslog { port }))
    }
}
