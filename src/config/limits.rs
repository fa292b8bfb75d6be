//! Bounds on what one source may take.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::fleet::FirstSeenLimits;

use super::{ConfigError, Validator};

/// Maximum of each number.
const MAX: usize = 1_000_000;

/// The bounds on what one source may take, and on machines that nobody declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of HTTP connections of one source.
    pub http_connections_per_source: usize,
    /// Time after which an HTTP client that takes no byte of a response is given up.
    pub http_send_timeout: Duration,
    /// Maximum number of TFTP transfers of one source.
    pub tftp_transfers_per_source: usize,
    /// Maximum number of iSCSI connections of one source.
    pub iscsi_connections_per_source: usize,
    /// The bounds of hosts that were seen and never declared.
    pub first_seen: FirstSeenLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            http_connections_per_source: 256,
            http_send_timeout: Duration::from_secs(60),
            tftp_transfers_per_source: 64,
            iscsi_connections_per_source: 64,
            first_seen: FirstSeenLimits::default(),
        }
    }
}

/// `[limits]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    http_connections_per_source: Option<Spanned<usize>>,
    http_send_timeout: Option<Spanned<String>>,
    tftp_transfers_per_source: Option<Spanned<usize>>,
    iscsi_connections_per_source: Option<Spanned<usize>>,
    unknown_hosts: Option<Spanned<usize>>,
    unknown_hosts_per_network: Option<Spanned<usize>>,
    unknown_hosts_per_minute: Option<Spanned<usize>>,
    unknown_host_expiry: Option<Spanned<String>>,
}

impl Validator<'_> {
    pub(super) fn limits(&self, raw: &RawLimits) -> Result<Limits, ConfigError> {
        let usual = Limits::default();
        let count = |key: &str, value: &Option<Spanned<usize>>, usual| self.count(key, value.as_ref(), usual);
        let timeout = self.duration("limits.http_send_timeout", raw.http_send_timeout.as_ref())?;
        Ok(Limits {
            http_connections_per_source: count(
                "limits.http_connections_per_source",
                &raw.http_connections_per_source,
                usual.http_connections_per_source,
            )?,
            http_send_timeout: timeout.unwrap_or(usual.http_send_timeout),
            tftp_transfers_per_source: count(
                "limits.tftp_transfers_per_source",
                &raw.tftp_transfers_per_source,
                usual.tftp_transfers_per_source,
            )?,
            iscsi_connections_per_source: count(
                "limits.iscsi_connections_per_source",
                &raw.iscsi_connections_per_source,
                usual.iscsi_connections_per_source,
            )?,
            first_seen: self.first_seen_limits(raw, usual.first_seen)?,
        })
    }

    fn first_seen_limits(&self, raw: &RawLimits, usual: FirstSeenLimits) -> Result<FirstSeenLimits, ConfigError> {
        let count = |key: &str, value: &Option<Spanned<usize>>, usual| self.count(key, value.as_ref(), usual);
        let usual_rate = usize::try_from(usual.per_minute).unwrap_or(MAX);
        let per_minute = count("limits.unknown_hosts_per_minute", &raw.unknown_hosts_per_minute, usual_rate)?;
        let per_network = &raw.unknown_hosts_per_network;
        let expiry = self.duration("limits.unknown_host_expiry", raw.unknown_host_expiry.as_ref())?;
        Ok(FirstSeenLimits {
            total: count("limits.unknown_hosts", &raw.unknown_hosts, usual.total)?,
            per_network: count("limits.unknown_hosts_per_network", per_network, usual.per_network)?,
            per_minute: u32::try_from(per_minute).unwrap_or(u32::MAX),
            expiry: expiry.unwrap_or(usual.expiry),
        })
    }

    /// Validates a number of at least 1 and at most a million.
    fn count(&self, key: &str, value: Option<&Spanned<usize>>, usual: usize) -> Result<usize, ConfigError> {
        let Some(value) = value else { return Ok(usual) };
        match *value.get_ref() {
            count if (1..=MAX).contains(&count) => Ok(count),
            count => Err(self.error(key, Some(value.span()), &format!("{count} is out of range: expected 1 to {MAX}"))),
        }
    }
}
