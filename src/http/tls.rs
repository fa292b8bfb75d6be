use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::fleet::hex;

use crate::http::listener::Trust;

/// Says where a listener's certificate is.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Holds the files of the chain and of the key; in PEM.
    pub files: (PathBuf, PathBuf),
    /// Names the authority of the admins' certificates.
    pub client_ca: Option<PathBuf>,
    /// Names the authority of the viewers' certificates.
    pub viewer_ca: Option<PathBuf>,
}

/// Accepts TLS connections, and knows whose certificate lets its client do what.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    admins: Option<Arc<dyn ClientCertVerifier>>,
    viewers: Option<Arc<dyn ClientCertVerifier>>,
    fingerprint: Arc<str>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Tls")
    }
}

impl Tls {
    /// Makes what accepts TLS connections (1.2 and 1.3).
    ///
    /// # Errors
    /// A file that cannot be read, or is not what it should be, by its name.
    pub fn new(certificate: &Certificate) -> io::Result<Self> {
        let (chain, key) = &certificate.files;
        let certificates = read_chain(chain)?;
        let own = certificates.first().map(Sha256::digest).unwrap_or_default();
        let fingerprint = hex(&own).into();
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
        let admins = certificate.client_ca.as_ref().map(|path| verifier(&[path])).transpose()?;
        let viewers = certificate.viewer_ca.as_ref().map(|path| verifier(&[path])).transpose()?;
        let both: Vec<&PathBuf> = certificate.client_ca.iter().chain(&certificate.viewer_ca).collect();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(chain, &error))?;
        let builder = match both.as_slice() {
            [] => builder.with_no_client_auth(),
            both => builder.with_client_cert_verifier(verifier(both)?),
        };
        let mut config = builder.with_single_cert(certificates, secret).map_err(|error| wrong(chain, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), admins, viewers, fingerprint })
    }

    /// Gives the SHA-256 digest of the server's own certificate, in hexadecimal digits: what clients know it by.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Shakes hands, and says how far the client's certificate goes.
    ///
    /// # Errors
    /// No handshake; a certificate of an authority that the site does not name is none.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Trust)> {
        let stream = self.acceptor.accept(stream).await?;
        let trust = self.trust(stream.get_ref().1.peer_certificates().unwrap_or_default());
        Ok((stream, trust))
    }

    /// The handshake proved the key and one of the authorities; here it is asked which.
    fn trust(&self, chain: &[CertificateDer<'_>]) -> Trust {
        let [own, between @ ..] = chain else { return Trust::Network };
        let of = |authority: &Option<Arc<dyn ClientCertVerifier>>| {
            let checked =
                authority.as_ref().map(|authority| authority.verify_client_cert(own, between, UnixTime::now()));
            matches!(checked, Some(Ok(_)))
        };
        match (of(&self.admins), of(&self.viewers)) {
            (true, _) => Trust::Proven,
            (false, true) => Trust::Viewer,
            (false, false) => Trust::Network,
        }
    }
}

fn verifier(authorities: &[&PathBuf]) -> io::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for path in authorities {
        for root in read_chain(path)? {
            roots.add(root).map_err(|error| wrong(path, &error))?;
        }
    }
    let provider = Arc::new(ring::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated();
    builder
        .build()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("the clients' authority: {error}")))
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
        Ok(Self { files, client_ca: None, viewer_ca: None })
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
