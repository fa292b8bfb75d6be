//! Options of TLS: which server is trusted, and the client certificate.

use std::path::PathBuf;

use anyhow::anyhow;

use crate::http_client::tls::{ClientCertificate, Fingerprint, TlsOptions, TrustAnchor};

use super::context_file::Context;

/// Options of TLS.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Connection options")]
pub struct TlsArgs {
    /// Certificate authority, or certificate of the server, in PEM. Default: the authorities of this system
    #[arg(
        long,
        global = true,
        env = "BOOTLATCH_CA",
        hide_env_values = true,
        value_name = "FILE",
        conflicts_with = "fingerprint"
    )]
    pub ca: Option<PathBuf>,
    /// SHA-256 fingerprint of the certificate of the server, which the server logs at start
    #[arg(long, global = true, env = "BOOTLATCH_FINGERPRINT", hide_env_values = true, value_name = "HEX")]
    pub fingerprint: Option<Fingerprint>,
    /// Client certificate with its intermediate certificates, in PEM; instead of a token
    #[arg(
        long,
        global = true,
        env = "BOOTLATCH_CLIENT_CERTIFICATE",
        hide_env_values = true,
        value_name = "FILE",
        requires = "client_key"
    )]
    pub client_certificate: Option<PathBuf>,
    /// Private key of the client certificate, in PEM
    #[arg(
        long,
        global = true,
        env = "BOOTLATCH_CLIENT_KEY",
        hide_env_values = true,
        value_name = "FILE",
        requires = "client_certificate"
    )]
    pub client_key: Option<PathBuf>,
}

impl TlsArgs {
    /// Returns the options for the HTTP client. What is not given is that of the context.
    ///
    /// # Errors
    /// The fingerprint of the context is invalid.
    pub fn options(&self, context: &Context) -> anyhow::Result<TlsOptions> {
        let of_context = context
            .fingerprint
            .as_ref()
            .map(|text| text.parse::<Fingerprint>().map_err(|error| anyhow!("fingerprint of the context: {error}")));
        let anchor = match (&self.fingerprint, &self.ca, of_context, &context.ca) {
            (Some(fingerprint), _, _, _) => TrustAnchor::Fingerprint(*fingerprint),
            (None, Some(path), _, _) => TrustAnchor::File(path.clone()),
            (None, None, Some(fingerprint), _) => TrustAnchor::Fingerprint(fingerprint?),
            (None, None, None, Some(path)) => TrustAnchor::File(path.clone()),
            (None, None, None, None) => TrustAnchor::System,
        };
        let given = self.client_certificate.as_ref().zip(self.client_key.as_ref());
        let files = given.or(context.client_certificate.as_ref().zip(context.client_key.as_ref()));
        let client_certificate = files.map(|(chain, key)| ClientCertificate { chain: chain.clone(), key: key.clone() });
        Ok(TlsOptions { anchor, client_certificate })
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
