use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use crate::boot;

use super::{ConfigError, Validator};

/// Is how the object API is reached, and by whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Api {
    /// Is a listener of the object API's own; it is then no longer on the machines'.
    pub listen: Option<SocketAddr>,
    pub tls: Option<Tls>,
    /// Says whether who asks from this machine over its loopback needs no token.
    pub trust_loopback: bool,
    /// Says whether who asks over the unix socket needs none.
    pub trust_socket: bool,
    /// Lists the proxies whose `X-Forwarded-For` is believed.
    pub proxies: Vec<IpNet>,
    /// Names the file with the key that the state is encrypted under.
    pub key_file: Option<PathBuf>,
}

/// Says where the API's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Holds the files of the certificate's chain and of its key; made at the first start where there are none.
    pub files: Option<(PathBuf, PathBuf)>,
    /// Names the authority whose certificates let clients in as admins.
    pub client_ca: Option<PathBuf>,
    /// Names the authority whose certificates let clients in as viewers.
    pub viewer_ca: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawApi {
    listen: Option<Spanned<String>>,
    tls: Option<Spanned<bool>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<PathBuf>,
    client_ca: Option<Spanned<PathBuf>>,
    viewer_ca: Option<Spanned<PathBuf>>,
    trust_loopback: Option<bool>,
    trust_socket: Option<bool>,
    proxies: Vec<Spanned<String>>,
    key_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTrust {
    config: Option<RawProof>,
    window: Option<Spanned<String>>,
    routed: Vec<Spanned<String>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawProof {
    Address,
    Token,
    Both,
}

impl Validator<'_> {
    pub(super) fn api(&self, raw: &RawApi) -> Result<Api, ConfigError> {
        let tls = match raw.tls.as_ref().is_some_and(|tls| *tls.get_ref()) {
            true => Some(self.tls(raw)?),
            false => {
                let stray = raw.certificate.as_ref().or(raw.client_ca.as_ref()).or(raw.viewer_ca.as_ref());
                if let (Some(stray), None) = (stray, &raw.tls) {
                    return Err(self.error(
                        "api.tls",
                        Some(stray.span()),
                        "a certificate is of no use without `tls = true`",
                    ));
                }
                None
            }
        };
        let listen = raw.listen.as_ref().map(|text| self.read("api.listen", text)).transpose()?;
        if let (None, Some(_), Some(span)) = (listen, &tls, raw.tls.as_ref().map(Spanned::span)) {
            let message = "machines cannot speak TLS to us: give the API a listener of its own with `listen`";
            return Err(self.error("api.tls", Some(span), message));
        }
        Ok(Api {
            listen,
            tls,
            trust_loopback: raw.trust_loopback.unwrap_or(false),
            trust_socket: raw.trust_socket.unwrap_or(true),
            proxies: raw.proxies.iter().map(|text| self.net("api.proxies", text)).collect::<Result<_, _>>()?,
            key_file: raw.key_file.clone(),
        })
    }

    fn tls(&self, raw: &RawApi) -> Result<Tls, ConfigError> {
        let files = match (&raw.certificate, &raw.key) {
            (Some(certificate), Some(key)) => Some((certificate.get_ref().clone(), key.clone())),
            (None, None) => None,
            (certificate, _) => {
                let span = certificate.as_ref().map(Spanned::span);
                return Err(self.error(
                    "api.certificate",
                    span,
                    "a certificate needs its key, and a key its certificate",
                ));
            }
        };
        let place = |path: &Option<Spanned<PathBuf>>| path.as_ref().map(|path| path.get_ref().clone());
        Ok(Tls { files, client_ca: place(&raw.client_ca), viewer_ca: place(&raw.viewer_ca) })
    }

    fn net(&self, key: &str, text: &Spanned<String>) -> Result<IpNet, ConfigError> {
        match text.get_ref().parse::<std::net::IpAddr>() {
            Ok(address) => Ok(address.into()),
            Err(_) => self.read(key, text),
        }
    }

    pub(super) fn trust(&self, raw: &RawTrust) -> Result<boot::ConfigAccess, ConfigError> {
        let config = match raw.config.unwrap_or(RawProof::Address) {
            RawProof::Address => boot::ConfigProof::Address,
            RawProof::Token => boot::ConfigProof::Token,
            RawProof::Both => boot::ConfigProof::Both,
        };
        let window = self.duration("trust.window", raw.window.as_ref())?.unwrap_or(Duration::from_secs(3600));
        let routed = raw.routed.iter().map(|text| self.net("trust.routed", text)).collect::<Result<_, _>>()?;
        Ok(boot::ConfigAccess { config, window, routed })
    }
}
