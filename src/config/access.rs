//! Access to the object API, to configs, and to the database.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use crate::boot::{ConfigAccess, ConfigProof};

use super::{ConfigError, Validator, credentials};

/// The listeners and clients of the object API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Api {
    /// Address of a listener for the object API alone. Without one, the machines' listener serves it.
    pub listen: Option<SocketAddr>,
    /// TLS of that listener.
    pub tls: Option<TlsFiles>,
    /// Whether a local program that connects over the loopback needs no token.
    pub trust_loopback: bool,
    /// Whether a client of the unix socket needs no token.
    pub trust_socket: bool,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub proxies: Vec<IpNet>,
}

/// Files of the API's certificate and of the authorities of its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain and private key (PEM). Without them, a certificate is made at the first start.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Authority of the client certificates of admins.
    pub client_ca: Option<PathBuf>,
    /// Authority of the client certificates of viewers.
    pub viewer_ca: Option<PathBuf>,
}

/// `[api]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawApi {
    listen: Option<Spanned<String>>,
    tls: Option<Spanned<bool>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<PathBuf>,
    client_ca: Option<Spanned<PathBuf>>,
    viewer_ca: Option<Spanned<PathBuf>>,
    trust_loopback: Option<bool>,
    trust_socket: Option<bool>,
    proxies: Vec<Spanned<String>>,
}

/// `[store]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStore {
    pub encryption_key_file: Option<PathBuf>,
}

/// `[config_access]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfigAccess {
    require: Option<RawProof>,
    token_ttl: Option<Spanned<String>>,
    trusted_subnets: Vec<Spanned<String>>,
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
                    let message = "a certificate has no effect without `tls = true`";
                    return Err(self.error("api.tls", Some(stray.span()), message));
                }
                None
            }
        };
        let listen = raw.listen.as_ref().map(|text| self.read("api.listen", text)).transpose()?;
        if let (None, Some(_), Some(span)) = (listen, &tls, raw.tls.as_ref().map(Spanned::span)) {
            let message = "TLS needs a listener for the API alone, because machines ask over plain HTTP: set `listen`";
            return Err(self.error("api.tls", Some(span), message));
        }
        Ok(Api {
            listen,
            tls,
            trust_loopback: raw.trust_loopback.unwrap_or(false),
            trust_socket: raw.trust_socket.unwrap_or(true),
            proxies: raw
                .proxies
                .iter()
                .map(|text| self.subnet_or_address("api.proxies", text))
                .collect::<Result<_, _>>()?,
        })
    }

    fn tls(&self, raw: &RawApi) -> Result<TlsFiles, ConfigError> {
        let certificate = match (&raw.certificate, &raw.key) {
            (Some(certificate), Some(key)) => {
                Some((credentials::path(certificate.get_ref().clone()), credentials::path(key.clone())))
            }
            (None, None) => None,
            (certificate, _) => {
                let span = certificate.as_ref().map(Spanned::span);
                return Err(self.error("api.certificate", span, "set both `certificate` and `key`, or neither"));
            }
        };
        let path =
            |path: &Option<Spanned<PathBuf>>| path.as_ref().map(|path| credentials::path(path.get_ref().clone()));
        Ok(TlsFiles { certificate, client_ca: path(&raw.client_ca), viewer_ca: path(&raw.viewer_ca) })
    }

    /// Parses a subnet, or a single address as a subnet of its own.
    pub(super) fn subnet_or_address(&self, key: &str, text: &Spanned<String>) -> Result<IpNet, ConfigError> {
        match text.get_ref().parse::<std::net::IpAddr>() {
            Ok(address) => Ok(address.into()),
            Err(_) => self.read(key, text),
        }
    }

    pub(super) fn config_access(&self, raw: &RawConfigAccess) -> Result<ConfigAccess, ConfigError> {
        let require = match raw.require.unwrap_or(RawProof::Address) {
            RawProof::Address => ConfigProof::Address,
            RawProof::Token => ConfigProof::Token,
            RawProof::Both => ConfigProof::Both,
        };
        let token_ttl = self.duration("config_access.token_ttl", raw.token_ttl.as_ref())?;
        let subnet = |text| self.subnet_or_address("config_access.trusted_subnets", text);
        Ok(ConfigAccess {
            require,
            token_ttl: token_ttl.unwrap_or(Duration::from_secs(3600)),
            trusted_subnets: raw.trusted_subnets.iter().map(subnet).collect::<Result<_, _>>()?,
        })
    }
}
