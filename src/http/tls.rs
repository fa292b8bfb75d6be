//! TLS of the API's listener, and the trust in client certificates.

use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::http::peer::PeerTrust;

/// The files of a listener's certificate and of its clients' authorities, in PEM.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The certificate chain, and its key.
    pub files: (PathBuf, PathBuf),
    /// Authority of the admins' client certificates.
    pub client_ca: Option<PathBuf>,
    /// Authority of the viewers' client certificates.
    pub viewer_ca: Option<PathBuf>,
}

/// An acceptor of TLS connections, with the authorities of client certificates.
#[derive(Clone)]
pub struct ServerTls {
    acceptor: TlsAcceptor,
    admins: Option<Arc<dyn ClientCertVerifier>>,
    viewers: Option<Arc<dyn ClientCertVerifier>>,
    fingerprint: Arc<str>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("ServerTls")
    }
}

impl ServerTls {
    /// Makes an acceptor of TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// The file that cannot be read, or whose content does not fit.
    pub fn new(certificate: &CertificateFiles) -> io::Result<Self> {
        let (chain, key) = &certificate.files;
        let certificates = read_chain(chain)?;
        let own = certificates.first().map(Sha256::digest).unwrap_or_default();
        let fingerprint = own.iter().map(|octet| format!("{octet:02x}")).collect::<String>().into();
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| file_error(key, &error))?;
        let admins = certificate.client_ca.as_ref().map(|path| verifier(&[path])).transpose()?;
        let viewers = certificate.viewer_ca.as_ref().map(|path| verifier(&[path])).transpose()?;
        let both: Vec<&PathBuf> = certificate.client_ca.iter().chain(&certificate.viewer_ca).collect();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| file_error(chain, &error))?;
        let builder = match both.as_slice() {
            [] => builder.with_no_client_auth(),
            both => builder.with_client_cert_verifier(verifier(both)?),
        };
        let mut config = builder.with_single_cert(certificates, secret).map_err(|error| file_error(chain, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), admins, viewers, fingerprint })
    }

    /// Returns the SHA-256 digest of the server's own certificate in hexadecimal digits, by which clients pin it.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Completes the handshake, and returns the trust in the client's certificate.
    ///
    /// # Errors
    /// The handshake's; a client certificate of an unknown authority fails it. A request without TLS is answered with
    /// 400 first.
    pub async fn accept(&self, mut stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, PeerTrust)> {
        let mut first = [0];
        // A TLS record begins with its type, 22 for a handshake (RFC 8446, section 5.1); a request with its method.
        if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
            refuse_plain_http(&mut stream).await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a request without TLS"));
        }
        let stream = self.acceptor.accept(stream).await?;
        let trust = self.trust(stream.get_ref().1.peer_certificates().unwrap_or_default());
        Ok((stream, trust))
    }

    /// Returns which authority issued a certificate. The handshake proved that one of them did.
    fn trust(&self, chain: &[CertificateDer<'_>]) -> PeerTrust {
        let [own, between @ ..] = chain else { return PeerTrust::Network };
        let of = |authority: &Option<Arc<dyn ClientCertVerifier>>| {
            let checked =
                authority.as_ref().map(|authority| authority.verify_client_cert(own, between, UnixTime::now()));
            matches!(checked, Some(Ok(_)))
        };
        match (of(&self.admins), of(&self.viewers)) {
            (true, _) => PeerTrust::ClientCertificate,
            (false, true) => PeerTrust::ViewerCertificate,
            (false, false) => PeerTrust::Network,
        }
    }
}

/// Answers a request without TLS. It is read first: a connection that is closed with unread bytes loses its reply.
async fn refuse_plain_http(stream: &mut TcpStream) -> io::Result<()> {
    let _ = stream.read(&mut vec![0; MAX_PLAIN_REQUEST_BYTES]).await?;
    // A Status, as all errors of this listener: kubectl shows its message.
    let text = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"this port speaks HTTPS: use https:// in place of http://","reason":"BadRequest","code":400}"#;
    let length = text.len();
    let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff";
    let reply = format!("{head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{text}");
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}

/// Maximum number of bytes of a request without TLS that are read.
const MAX_PLAIN_REQUEST_BYTES: usize = 8192;

fn verifier(authorities: &[&PathBuf]) -> io::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for path in authorities {
        for root in read_chain(path)? {
            roots.add(root).map_err(|error| file_error(path, &error))?;
        }
    }
    let provider = Arc::new(ring::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated();
    builder.build().map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("the authority of client certificates: {error}"))
    })
}

impl CertificateFiles {
    /// Returns the self-signed certificate of the state directory; makes it at the first start, for ten years and for
    /// these addresses.
    ///
    /// # Errors
    /// The files could not be written.
    pub fn self_signed(state_dir: &Path, addresses: &[IpAddr]) -> io::Result<Self> {
        let files = (state_dir.join("tls.crt"), state_dir.join("tls.key"));
        if !files.0.exists() || !files.1.exists() {
            make(&files, addresses).map_err(|error| file_error(&files.0, &error))?;
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
    // After a crash both are there in whole, or are made again.
    replace(&files.1, key.serialize_pem().as_bytes(), 0o600)?;
    replace(&files.0, certificate.pem().as_bytes(), 0o640)?;
    if let Some(directory) = files.0.parent() {
        std::fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Writes a file under another name, syncs it, and renames it. A link is replaced, not followed.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}

/// Reads the certificates of a PEM file.
///
/// # Errors
/// The file cannot be read, or has no certificate.
pub fn read_chain(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| file_error(path, &error))?;
    let chain: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| file_error(path, &error))?;
    match chain.is_empty() {
        true => Err(file_error(path, &"no certificate found in the file")),
        false => Ok(chain),
    }
}

fn file_error(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
}
