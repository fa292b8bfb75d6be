//! The settings of the iSCSI target.

use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::fleet::{Chap, Secret};

use super::{ConfigError, Validator, credentials};

/// Settings of the iSCSI target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Iscsi {
    /// TCP port.
    pub port: u16,
    /// Prefix of each target name (RFC 7143, section 4.2.7).
    pub iqn: String,
    /// The images that initiators may attach.
    pub access: IscsiAccess,
    /// CHAP credentials of initiators whose host has none.
    pub chap: Option<Chap>,
}

/// The images that initiators may attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IscsiAccess {
    /// A host attaches the image that the boot decision gives it, and no other.
    Assigned,
    /// Any initiator attaches any image.
    Any,
}

/// `[iscsi]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawIscsi {
    port: Option<u16>,
    iqn: Option<Spanned<String>>,
    access: Option<IscsiAccess>,
    chap: Option<Spanned<RawChap>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChap {
    username: String,
    secret: Option<Secret>,
    secret_file: Option<PathBuf>,
    target_username: Option<String>,
    target_secret: Option<Secret>,
    target_secret_file: Option<PathBuf>,
}

impl Validator<'_> {
    /// `is_check`: credentials that only the service has are not read.
    pub(super) fn iscsi(&self, raw: RawIscsi, is_check: bool) -> Result<Iscsi, ConfigError> {
        let iqn = match raw.iqn {
            None => "iqn.2026-11.org.bootlatch".to_owned(),
            Some(iqn) if iqn.get_ref().starts_with("iqn.") && iqn.get_ref().len() <= 120 => iqn.into_inner(),
            Some(iqn) => {
                let message =
                    "a target prefix begins with `iqn.` (RFC 7143, section 4.2.7) and has at most 120 characters";
                return Err(self.error("iscsi.iqn", Some(iqn.span()), message));
            }
        };
        let chap = raw.chap.map(|chap| self.chap(chap, is_check)).transpose()?.flatten();
        Ok(Iscsi { port: raw.port.unwrap_or(3260), iqn, access: raw.access.unwrap_or(IscsiAccess::Assigned), chap })
    }

    fn chap(&self, raw: Spanned<RawChap>, is_check: bool) -> Result<Option<Chap>, ConfigError> {
        let (span, raw) = (raw.span(), raw.into_inner());
        let files = [&raw.secret_file, &raw.target_secret_file];
        if is_check && files.into_iter().flatten().any(|file| credentials::is_elsewhere(file)) {
            return Ok(None);
        }
        let secret = self.secret(("secret", &span), raw.secret, raw.secret_file)?;
        let target_secret = self.secret(("target_secret", &span), raw.target_secret, raw.target_secret_file)?;
        let Some(secret) = secret else {
            return Err(self.error("iscsi.chap.secret", Some(span), "set `secret` or `secret_file`"));
        };
        let chap = Chap { username: raw.username, secret, target_username: raw.target_username, target_secret };
        let key = |field| match field {
            "targetUsername" => "target_username",
            "targetSecret" => "target_secret",
            field => field,
        };
        match chap.check() {
            Ok(()) => Ok(Some(chap)),
            Err((field, message)) => Err(self.error(&format!("iscsi.chap.{}", key(field)), Some(span), message)),
        }
    }

    /// Returns a secret that is written here or in a file.
    fn secret(
        &self,
        (key, span): (&str, &Range<usize>),
        written: Option<Secret>,
        file: Option<PathBuf>,
    ) -> Result<Option<Secret>, ConfigError> {
        let error = |message: &str| self.error(&format!("iscsi.chap.{key}_file"), Some(span.clone()), message);
        match (written, file) {
            (Some(_), Some(_)) => Err(error(&format!("set `{key}` or `{key}_file`, not both"))),
            (None, Some(file)) => credentials::read(&file).map(Some).map_err(|message| error(&message)),
            (written, None) => Ok(written),
        }
    }
}
