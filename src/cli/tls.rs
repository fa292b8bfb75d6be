//! TLS of the client: verification of the server, and the client certificate.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Certificate authorities of the system on Debian, Ubuntu and Alpine. `SSL_CERT_FILE` overrides it.
const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

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
    /// Returns the TLS configuration of the client.
    ///
    /// # Errors
    /// A file cannot be read or has other content.
    pub fn config(&self) -> anyhow::Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let anchor = match (&self.fingerprint, &self.ca) {
            (Some(fingerprint), _) => TrustAnchor::Fingerprint(*fingerprint),
            (None, ca) => {
                let roots = match ca {
                    Some(path) => read_authorities(path)?,
                    None => authorities()?,
                };
                let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
                TrustAnchor::Authorities(builder.build()?)
            }
        };
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder =
            builder.dangerous().with_custom_certificate_verifier(Arc::new(CertificateVerifier { anchor, provider }));
        let mut config = match (&self.client_certificate, &self.client_key) {
            (Some(chain), Some(key)) => {
                let secret = PrivateKeyDer::from_pem_file(key).with_context(|| key.display().to_string())?;
                builder.with_client_auth_cert(read_chain(chain)?, secret)?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
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

/// Reads the certificate authorities of the system.
///
/// # Errors
/// The file cannot be read.
pub fn authorities() -> anyhow::Result<RootCertStore> {
    let path = std::env::var("SSL_CERT_FILE").unwrap_or_else(|_| CA_BUNDLE.to_owned());
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(&path)
        .with_context(|| format!("{path}: cannot read the certificate authorities; install ca-certificates"))?;
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    Ok(roots)
}

/// Reads certificate authorities from a PEM file.
fn read_authorities(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for root in read_chain(path)? {
        roots.add(root).with_context(|| path.display().to_string())?;
    }
    Ok(roots)
}

/// Reads certificates from a PEM file.
fn read_chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let chain = read().with_context(|| path.display().to_string())?;
    if chain.is_empty() {
        bail!("{}: no certificate found in the file", path.display());
    }
    Ok(chain)
}

/// SHA-256 digest of a certificate, as printed by `openssl x509 -fingerprint -sha256`, with or without colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?}: expected 64 hexadecimal digits (SHA-256), with or without colons");
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
        let bytes = bytes.filter(|_| digits.len() == 64).ok_or_else(bad)?;
        bytes.try_into().map(Self).map_err(|_| bad())
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// The reference that the certificate of the server is checked against.
#[derive(Debug)]
enum TrustAnchor {
    /// Certificate authorities; the name is checked as well.
    Authorities(Arc<WebPkiServerVerifier>),
    /// Fingerprint of the certificate, with any name.
    Fingerprint(Fingerprint),
}

/// Verifier of the server. Its error contains the fingerprint, for comparison by a person.
#[derive(Debug)]
struct CertificateVerifier {
    anchor: TrustAnchor,
    provider: Arc<tokio_rustls::rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for CertificateVerifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = Fingerprint::of(own);
        match &self.anchor {
            TrustAnchor::Fingerprint(anchor) if *anchor == shown => Ok(ServerCertVerified::assertion()),
            TrustAnchor::Fingerprint(_) => {
                Err(Error::General(format!("the fingerprint of its certificate is {shown}, not that of --fingerprint")))
            }
            TrustAnchor::Authorities(authorities) => {
                let checked = authorities.verify_server_cert(own, between, name, ocsp, now);
                checked.map_err(|error| {
                    let hint = "compare it with the one that the server logs at start, then use --fingerprint";
                    Error::General(format!("{error}. The fingerprint of its certificate is {shown}: {hint}"))
                })
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_parsed_as_openssl_prints_it() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(plain.parse::<Fingerprint>().unwrap(), colons.parse().unwrap());
        assert_eq!(colons.parse::<Fingerprint>().unwrap().to_string(), plain);
        for bad in ["", "ab", &"xy".repeat(32), &"ab".repeat(33), &format!("{plain}0")] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
