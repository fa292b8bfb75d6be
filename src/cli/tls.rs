//! Whom the command line believes that it is the server, and how it proves itself to it.

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

/// Is where Debian, Ubuntu and Alpine keep the authorities that they trust; `SSL_CERT_FILE` names another.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Says how a server is known over https, and the client to it.
#[derive(Debug, Clone, clap::Args)]
pub struct Trusts {
    /// The authority, or the server's own certificate, to trust over https. Default: those of this machine
    #[arg(long, global = true, env = "BOOTLATCH_CA", value_name = "FILE", conflicts_with = "fingerprint")]
    ca: Option<PathBuf>,
    /// The SHA-256 fingerprint of the server's certificate, which the server logs as it starts
    #[arg(long, global = true, env = "BOOTLATCH_FINGERPRINT", value_name = "HEX")]
    fingerprint: Option<Fingerprint>,
    /// A client certificate, and the authorities between, in PEM; in place of a token
    #[arg(long, global = true, env = "BOOTLATCH_CLIENT_CERTIFICATE", value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// The key of the client certificate, in PEM
    #[arg(long, global = true, env = "BOOTLATCH_CLIENT_KEY", value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
}

impl Trusts {
    /// Makes what opens connections to the server.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what it should be.
    pub fn config(&self) -> anyhow::Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let known = match (&self.fingerprint, &self.ca) {
            (Some(fingerprint), _) => Known::Fingerprint(*fingerprint),
            (None, ca) => {
                let roots = match ca {
                    Some(path) => read_authorities(path)?,
                    None => authorities()?,
                };
                let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
                Known::Authorities(builder.build()?)
            }
        };
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder =
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier { known, usual: provider }));
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

    /// Says which of these was given; a server without TLS is known by none of them.
    pub fn given(&self) -> Option<&'static str> {
        match self {
            Self { ca: Some(_), .. } => Some("--ca"),
            Self { fingerprint: Some(_), .. } => Some("--fingerprint"),
            Self { client_certificate: Some(_), .. } => Some("--client-certificate"),
            _ => None,
        }
    }
}

/// Reads the authorities that this machine trusts.
///
/// # Errors
/// The file that has them cannot be read.
pub fn authorities() -> anyhow::Result<RootCertStore> {
    let path = std::env::var("SSL_CERT_FILE").unwrap_or_else(|_| AUTHORITIES.to_owned());
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(&path)
        .with_context(|| format!("{path}: the authorities to trust (install ca-certificates)"))?;
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    Ok(roots)
}

fn read_authorities(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for root in read_chain(path)? {
        roots.add(root).with_context(|| path.display().to_string())?;
    }
    Ok(roots)
}

fn read_chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let chain = read().with_context(|| path.display().to_string())?;
    if chain.is_empty() {
        bail!("{}: there is no certificate in it", path.display());
    }
    Ok(chain)
}

/// Is the SHA-256 digest of a certificate, as `openssl x509 -fingerprint -sha256` prints it, or without its colons.
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
        let bad = || format!("{text:?} is no SHA-256 fingerprint: 64 hexadecimal digits, with or without colons");
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

#[derive(Debug)]
enum Known {
    Authorities(Arc<WebPkiServerVerifier>),
    /// Whatever name it goes by.
    Fingerprint(Fingerprint),
}

/// Checks who the server is, and tells the fingerprint of one that nobody vouches for: a person can compare it.
#[derive(Debug)]
struct Verifier {
    known: Known,
    usual: Arc<tokio_rustls::rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = Fingerprint::of(own);
        match &self.known {
            Known::Fingerprint(known) if *known == shown => Ok(ServerCertVerified::assertion()),
            Known::Fingerprint(_) => Err(Error::General(format!("its certificate is another, {shown}"))),
            Known::Authorities(authorities) => {
                let checked = authorities.verify_server_cert(own, between, name, ocsp, now);
                checked.map_err(|error| {
                    let hint = "if that is the one which the server logs as it starts, say so with --fingerprint";
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
        let algorithms = &self.usual.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.usual.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_openssl_prints_it() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(plain.parse::<Fingerprint>().unwrap(), colons.parse().unwrap());
        assert_eq!(colons.parse::<Fingerprint>().unwrap().to_string(), plain);
        for bad in ["", "ab", &"xy".repeat(32), &"ab".repeat(33), &format!("{plain}0")] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
