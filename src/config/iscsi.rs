//! The settings of the iSCSI target.

use serde::Deserialize;
use toml::Spanned;

use crate::fleet::{Chap, Secret};

use super::{ConfigError, Validator};

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
    secret: Secret,
    target_username: Option<String>,
    target_secret: Option<Secret>,
}

impl Validator<'_> {
    pub(super) fn iscsi(&self, raw: RawIscsi) -> Result<Iscsi, ConfigError> {
        let iqn = match raw.iqn {
            None => "iqn.2026-11.org.bootlatch".to_owned(),
            Some(iqn) if iqn.get_ref().starts_with("iqn.") && iqn.get_ref().len() <= 120 => iqn.into_inner(),
            Some(iqn) => {
                let message =
                    "a target prefix begins with `iqn.` (RFC 7143, section 4.2.7) and has at most 120 characters";
                return Err(self.error("iscsi.iqn", Some(iqn.span()), message));
            }
        };
        let chap = raw.chap.map(|chap| self.chap(chap)).transpose()?;
        Ok(Iscsi { port: raw.port.unwrap_or(3260), iqn, access: raw.access.unwrap_or(IscsiAccess::Assigned), chap })
    }

    fn chap(&self, raw: Spanned<RawChap>) -> Result<Chap, ConfigError> {
        let (span, RawChap { username, secret, target_username, target_secret }) = (raw.span(), raw.into_inner());
        let chap = Chap { username, secret, target_username, target_secret };
        let key = |field| match field {
            "targetUsername" => "target_username",
            "targetSecret" => "target_secret",
            field => field,
        };
        match chap.check() {
            Ok(()) => Ok(chap),
            Err((field, message)) => Err(self.error(&format!("iscsi.chap.{}", key(field)), Some(span), message)),
        }
    }
}
