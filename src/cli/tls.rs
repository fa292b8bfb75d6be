//! Options of TLS: which server is trusted, and the client certificate.

use std::path::PathBuf;

use crate::http_client::tls::{ClientCertificate, Fingerprint, TlsOptions, TrustAnchor};

/// Options of TLS.
#[derive(Debug, Clone, clap::Args)]
pub struct TlsArgs {
    /// Certificate authority, or certificate of the server, in PEM. Default: the authorities of this system
    #[arg(long, global = true, env = "BOOTLATCH_CA", value_name = "FILE", conflicts_with = "fingerprint")]
    ca: Option<PathBuf>,
    /// SHA-256 fingerprint of the certificate of the server, which the server logs at start
    #[arg(long, global = true, env = "BOOTLATCH_FINGERPRINT", value_name = "HEX")]
    fingerprint: Option<Fingerprint>,
    /// Client certificate with its intermediate certificates, in PEM; instead of a token
    #[arg(long, global = true, env = "BOOTLATCH_CLIENT_CERTIFICATE", value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// Private key of the client certificate, in PEM
    #[arg(long, global = true, env = "BOOTLATCH_CLIENT_KEY", value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
}

impl TlsArgs {
    /// Returns the options for the HTTP client.
    pub fn options(&self) -> TlsOptions {
        let anchor = match (&self.fingerprint, &self.ca) {
            (Some(fingerprint), _) => TrustAnchor::Fingerprint(*fingerprint),
            (None, Some(path)) => TrustAnchor::File(path.clone()),
            (None, None) => TrustAnchor::System,
        };
        let files = self.client_certificate.clone().zip(self.client_key.clone());
        let client_certificate = files.map(|(chain, key)| ClientCertificate { chain, key });
        TlsOptions { anchor, client_certificate }
    }

    /// Returns an option that was given, for the error that the server has no TLS.
    pub fn given_option(&self) -> Option<&'static str> {
        match self {
            Self { ca: Some(_), .. } => Some("--ca"),
            Self { fingerprint: Some(_), .. } => Some("--fingerprint"),
            Self { client_certificate: Some(_), .. } => Some("--client-certificate"),
            _ => None,
        }
    }
}
