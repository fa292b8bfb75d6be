//! The settings of TFTP.

use serde::Deserialize;
use toml::Spanned;

use super::{ConfigError, Validator};

/// Settings of TFTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tftp {
    /// UDP port.
    pub port: u16,
    /// Whether every reply leaves from that port.
    pub single_port: bool,
    /// Maximum block size in octets (8 to 65464, RFC 2348). Default: what fits the interface's MTU.
    pub max_block_size: Option<u16>,
}

/// `[tftp]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTftp {
    port: Option<u16>,
    single_port: Option<bool>,
    max_block_size: Option<Spanned<u16>>,
}

impl Validator<'_> {
    /// `is_behind_nat`: an address is advertised that is not the interface's own.
    pub(super) fn tftp(&self, raw: &RawTftp, is_behind_nat: bool) -> Result<Tftp, ConfigError> {
        if let Some(size) = raw.max_block_size.as_ref().filter(|size| !(8..=65464).contains(size.get_ref())) {
            let message = format!("{} is out of range: a block has 8 to 65464 octets (RFC 2348)", size.get_ref());
            return Err(self.error("tftp.max_block_size", Some(size.span()), &message));
        }
        Ok(Tftp {
            port: raw.port.unwrap_or(69),
            single_port: raw.single_port.unwrap_or(is_behind_nat),
            max_block_size: raw.max_block_size.as_ref().map(|size| *size.get_ref()),
        })
    }
}
