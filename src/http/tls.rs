use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Says where a listener's certificate is.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Holds the files of the chain and of the key; in PEM.
    pub files: (PathBuf, PathBuf),
    /// Names the authority of the clients' certificates.
    pub client_ca: Option<PathBuf>,
}

/// Makes what accepts TLS connections (1.2 and 1.3).
///
/// # Errors
/// A file that cannot be read, or is not what it should be, by its name.
pub fn acceptor(certificate: &Certificate) -> io::Result<TlsAcceptor> {
    let (chain, key) = &certificate.files;
    let certificates = read_chain(chain)?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(chain, &error))?;
    let builder = match &certificate.client_ca {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            for root in read_chain(authority)? {
                roots.add(root).map_err(|error| wrong(authority, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| wrong(authority, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(certificates, secret).map_err(|error| wrong(chain, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Certificate {
    /// Finds the certificate that was made at the first start, or makes it: for ten years, for these addresses.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn own(state_dir: &Path, addresses: &[IpAddr]) -> io::Result<Self> {
        let files = (state_dir.join("tls.crt"), state_dir.join("tls.key"));
        if !files.0.exists() || !files.1.exists() {
            make(&files, addresses).map_err(|error| wrong(&files.0, &error))?;
        }
        Ok(Self { files, client_ca: None })
    }
}

fn make(files: &(PathBuf, PathBuf), addresses: &[IpAddr]) -> Result<(), Box<dyn std::error::Error>> {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let names = names.into_iter().chain(host).chain(addresses.iter().map(IpAddr::to_string));
    let mut parameters = rcgen::CertificateParams::new(names.collect::<Vec<_>>())?;
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "bootlatch");
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let year = i32::from(jiff::Zoned::now().year());
    parameters.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(year + 10, 1, 1);
    let key = rcgen::KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    let mut secret = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&files.1)?;
    secret.write_all(key.serialize_pem().as_bytes())?;
    secret.sync_all()?;
    std::fs::write(&files.0, certificate.pem())?;
    Ok(())
}

fn read_chain(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| wrong(path, &error))?;
    let chain: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| wrong(path, &error))?;
    match chain.is_empty() {
        true => Err(wrong(path, &"there is no certificate in it")),
        false => Ok(chain),
    }
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
}
