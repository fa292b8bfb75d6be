//! TLS of the HTTP client: verification of the server, and the client certificate.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustls_platform_verifier::Verifier;
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The words before the fingerprint of a certificate in an error.
pub const FINGERPRINT: &str = "certificate fingerprint";

/// The reference that the certificate of a server is checked against.
#[derive(Debug, Clone)]
pub enum TrustAnchor {
    /// The certificate authorities of the system.
    System,
    /// The certificate authorities, or the server's own certificate, in a PEM file.
    File(PathBuf),
    /// The fingerprint of the server's certificate, with any name.
    Fingerprint(Fingerprint),
    /// Nothing: any certificate is accepted.
    Any,
}

/// The options of TLS.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    /// The reference that the certificate of the server is checked against.
    pub anchor: TrustAnchor,
    /// The certificate that the client shows, if the server asks for one.
    pub client_certificate: Option<ClientCertificate>,
}

impl From<TrustAnchor> for TlsOptions {
    /// Returns the options of a client without a certificate.
    fn from(anchor: TrustAnchor) -> Self {
        Self { anchor, client_certificate: None }
    }
}

/// The files of a client certificate, in PEM.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// The certificate with its intermediate certificates.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Error of a TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{path}: cannot read the {content}: {cause}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The content that the file must have.
        content: &'static str,
        /// The reason.
        cause: pem::Error,
    },
    /// A file contains no certificate.
    #[error("{0}: no certificate found; expected one or more in PEM")]
    NoCertificate(String),
    /// A certificate authority is not a valid certificate.
    #[error("{path}: invalid certificate authority: {cause}", path = path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// The reason.
        cause: Error,
    },
    /// The authorities of the system cannot be read.
    #[error("cannot read the certificate authorities of the system: {0}; install ca-certificates or set SSL_CERT_FILE")]
    System(Error),
    /// The client certificate and its key do not fit together, or are not supported.
    #[error("cannot use the client certificate {path}: {cause}", path = path.display())]
    ClientCertificate {
        /// The file of the certificate.
        path: PathBuf,
        /// The reason.
        cause: Error,
    },
    /// The configuration is not supported.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
}

/// Returns the TLS configuration of a client.
///
/// # Errors
/// A file cannot be read or has other content.
pub fn config(options: &TlsOptions) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let check = match &options.anchor {
        TrustAnchor::System => Check::Authorities(Arc::new(Verifier::new(provider.clone()).map_err(TlsError::System)?)),
        TrustAnchor::File(path) => {
            let roots = Arc::new(read_authorities(path)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
            Check::Authorities(verifier.map_err(|error| TlsError::Setup(error.to_string()))?)
        }
        TrustAnchor::Fingerprint(fingerprint) => Check::Fingerprint(*fingerprint),
        TrustAnchor::Any => Check::Nothing,
    };
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| TlsError::Setup(error.to_string()))?;
    let builder =
        builder.dangerous().with_custom_certificate_verifier(Arc::new(CertificateVerifier { check, provider }));
    let mut config = match &options.client_certificate {
        None => builder.with_no_client_auth(),
        Some(ClientCertificate { chain, key }) => {
            let secret = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key, "private key"))?;
            let built = builder.with_client_auth_cert(read_certificates(chain)?, secret);
            built.map_err(|cause| TlsError::ClientCertificate { path: chain.clone(), cause })?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Reads certificate authorities from a PEM file.
fn read_authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in read_certificates(path)? {
        roots.add(root).map_err(|cause| TlsError::Authority { path: path.to_owned(), cause })?;
    }
    Ok(roots)
}

/// Reads certificates from a PEM file.
fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let certificates = read().map_err(unreadable(path, "certificates"))?;
    match certificates.is_empty() {
        true => Err(TlsError::NoCertificate(path.display().to_string())),
        false => Ok(certificates),
    }
}

fn unreadable(path: &Path, content: &'static str) -> impl Fn(pem::Error) -> TlsError {
    move |cause| TlsError::Unreadable { path: path.to_owned(), content, cause }
}

/// The SHA-256 digest of a certificate, as printed by `openssl x509 -fingerprint -sha256`, with or without colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut octets = [0; 32];
        let decoded = hex::decode_to_slice(text.replace(':', ""), &mut octets);
        decoded.map_err(|_| format!("{text:?}: expected 64 hexadecimal digits (SHA-256), with or without colons"))?;
        Ok(Self(octets))
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

/// The check of a server's certificate.
#[derive(Debug)]
enum Check {
    /// Its authority and its name.
    Authorities(Arc<dyn ServerCertVerifier>),
    /// Its fingerprint.
    Fingerprint(Fingerprint),
    /// None.
    Nothing,
}

/// A verifier of the server. Its error contains the fingerprint, so that a person can compare it.
#[derive(Debug)]
struct CertificateVerifier {
    check: Check,
    provider: Arc<CryptoProvider>,
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
        let found = Fingerprint::of(own);
        match &self.check {
            Check::Nothing => Ok(ServerCertVerified::assertion()),
            Check::Fingerprint(expected) if *expected == found => Ok(ServerCertVerified::assertion()),
            Check::Fingerprint(expected) => Err(Error::General(format!("{FINGERPRINT} {found}, expected {expected}"))),
            Check::Authorities(verifier) => {
                let verified = verifier.verify_server_cert(own, between, name, ocsp, now);
                verified.map_err(|error| Error::General(format!("{error} ({FINGERPRINT} {found})")))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
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

    #[test]
    fn an_error_names_the_file_and_what_it_must_contain() {
        let folder = tempfile::tempdir().unwrap();
        let [empty, broken, missing] = ["empty", "broken", "missing"].map(|name| folder.path().join(name));
        std::fs::write(&empty, "").unwrap();
        std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        for (path, expected) in [
            (&empty, "no certificate found; expected one or more in PEM"),
            (&broken, "invalid certificate authority: "),
            (&missing, "cannot read the certificates: "),
        ] {
            let error = config(&TrustAnchor::File(path.clone()).into()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}: {expected}", path.display())), "{error}");
        }
        let own = ClientCertificate { chain: empty.clone(), key: missing.clone() };
        let options = TlsOptions { anchor: TrustAnchor::Any, client_certificate: Some(own) };
        let error = config(&options).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: cannot read the private key: ", missing.display())), "{error}");
    }

    /// Returns the error of a verifier for a certificate.
    fn refusal(check: Check, certificate: &CertificateDer<'_>) -> Option<String> {
        let verifier = CertificateVerifier { check, provider: Arc::new(ring::default_provider()) };
        let name = ServerName::try_from("boot.example").unwrap();
        verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now()).err().map(|error| error.to_string())
    }

    #[test]
    fn a_refused_certificate_is_reported_with_its_fingerprint() {
        let signed = rcgen::generate_simple_self_signed(["boot.example".to_owned()]).unwrap();
        let stranger = rcgen::generate_simple_self_signed(["other.example".to_owned()]).unwrap();
        let certificate = signed.cert.der();
        let found = Fingerprint::of(certificate);
        let trusting = |trusted: &CertificateDer<'static>| {
            let mut roots = RootCertStore::empty();
            roots.add(trusted.clone()).unwrap();
            let provider = Arc::new(ring::default_provider());
            Check::Authorities(WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap())
        };
        assert_eq!(refusal(Check::Nothing, certificate), None);
        assert_eq!(refusal(Check::Fingerprint(found), certificate), None);
        assert_eq!(refusal(trusting(certificate), certificate), None);
        let other = refusal(Check::Fingerprint(Fingerprint([0xab; 32])), certificate).unwrap();
        assert!(other.ends_with(&format!("certificate fingerprint {found}, expected {}", "ab".repeat(32))), "{other}");
        let unknown = refusal(trusting(stranger.cert.der()), certificate).unwrap();
        assert!(unknown.contains("invalid peer certificate: "), "{unknown}");
        assert!(unknown.ends_with(&format!(" (certificate fingerprint {found})")), "{unknown}");
    }
}
