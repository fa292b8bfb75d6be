//! The HTTP/1.1 client of the command line and the BMC clients: connections over TCP, TLS and local sockets.

pub mod tls;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::LOCATION;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use tls::{TlsError, TlsOptions};

/// The body of a request.
pub type RequestBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// Returns a request body of known content.
pub fn full(content: impl Into<Bytes>) -> RequestBody {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The scheme, host and port of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Whether the scheme is https.
    pub tls: bool,
    /// The host name or address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Server {
    /// Returns the server of a URL; none for another scheme than http and https, and for a URL without a host or with
    /// a user name.
    pub fn of(url: &Uri) -> Option<Self> {
        let (tls, default_port) = match url.scheme_str()? {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return None,
        };
        if url.authority()?.as_str().contains('@') {
            return None;
        }
        let host = url.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Self { tls, host, port: url.port_u16().unwrap_or(default_port) })
    }

    /// Returns the value of the Host header (RFC 9110, section 7.2): without the default port of the scheme.
    pub fn host_header(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

/// Error of a connection that was not established.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// The TLS handshake failed, such as for a certificate that is not trusted.
    #[error("TLS handshake: {0}")]
    Handshake(String),
    /// The TLS configuration is invalid.
    #[error(transparent)]
    Configuration(#[from] TlsError),
}

/// A stream that HTTP travels over. One type for all keeps hyper's code in the binary once.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to a server.
#[derive(Debug)]
pub struct ServerConnection {
    sender: http1::SendRequest<RequestBody>,
    task: AbortHandle,
}

impl ServerConnection {
    /// Connects over TCP; for https also over TLS, with these options. The timeout holds for each of the two.
    ///
    /// # Errors
    /// The server does not answer in time, the TLS options are invalid, or the TLS handshake fails.
    pub async fn open(server: &Server, tls: &TlsOptions, timeout: Duration) -> Result<Self, ConnectError> {
        let config = server.tls.then(|| tls::config(tls)).transpose()?;
        let stream = within(timeout, TcpStream::connect((server.host.as_str(), server.port))).await;
        let stream = stream.map_err(ConnectError::Unreachable)?;
        let Some(config) = config else { return Self::start(Box::new(stream)).await };
        let name = ServerName::try_from(server.host.clone());
        let name = name.map_err(|error| ConnectError::Handshake(error.to_string()))?;
        let secured = within(timeout, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
        // rustls calls the errors of a verifier of ours "unexpected".
        let cause = |error: String| error.strip_prefix("unexpected error: ").unwrap_or(&error).to_owned();
        Self::start(Box::new(secured.map_err(|error| ConnectError::Handshake(cause(error)))?)).await
    }

    /// Connects to a local socket.
    ///
    /// # Errors
    /// No server listens there, or it does not answer in time.
    pub async fn open_local(path: &Path, timeout: Duration) -> Result<Self, ConnectError> {
        let stream = within(timeout, UnixStream::connect(path)).await;
        Self::start(Box::new(stream.map_err(ConnectError::Unreachable)?)).await
    }

    /// Starts HTTP/1.1 on a stream.
    async fn start(stream: Box<dyn Stream>) -> Result<Self, ConnectError> {
        let started = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = started.map_err(|error| ConnectError::Unreachable(error.to_string()))?;
        // Errors of the connection are reported by the request, or by the body of the response.
        let task = tokio::spawn(connection).abort_handle();
        Ok(Self { sender, task })
    }

    /// Sends a request, and returns the head of the response.
    ///
    /// # Errors
    /// The connection ends, or the response is not HTTP.
    pub async fn send(&mut self, request: Request<RequestBody>) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }

    /// Returns whether the connection has ended, such as by a server that closed an idle one.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Closes the connection. A response that was not read is lost.
    pub fn close(self) {
        self.task.abort();
    }
}

/// Returns the target of a redirect, which may be relative to the URL; none if the response is not one with a valid
/// Location (RFC 9110, section 15.4).
pub fn redirect_target<T>(url: &Uri, response: &Response<T>) -> Option<Uri> {
    let location = response.headers().get(LOCATION).filter(|_| response.status().is_redirection())?.to_str().ok()?;
    let (scheme, authority) = (url.scheme_str()?, url.authority()?);
    let whole = match location {
        whole if whole.contains("://") => whole.to_owned(),
        place if place.starts_with("//") => format!("{scheme}:{place}"),
        path if path.starts_with('/') => format!("{scheme}://{authority}{path}"),
        path => format!("{scheme}://{authority}{}/{path}", url.path().rsplit_once('/')?.0),
    };
    whole.parse().ok()
}

/// Limits the time of an attempt.
async fn within<T>(timeout: Duration, attempt: impl Future<Output = std::io::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(timeout, attempt).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", timeout.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_of_a_url_is_parsed() {
        let rows = [
            ("http://10.0.0.1", Some((false, "10.0.0.1", 80)), "10.0.0.1"),
            ("https://boot.example:6443/", Some((true, "boot.example", 6443)), "boot.example:6443"),
            ("https://[fd00::1]", Some((true, "fd00::1", 443)), "[fd00::1]"),
            ("http://[fd00::1]:443/x?y", Some((false, "fd00::1", 443)), "[fd00::1]:443"),
            ("https://a:TOKEN@b", None, ""),
            ("ftp://b", None, ""),
            ("b:80", None, ""),
        ];
        for (text, expected, header) in rows {
            let expected = expected.map(|(tls, host, port)| Server { tls, host: host.to_owned(), port });
            let server = Server::of(&text.parse().unwrap());
            assert_eq!(server, expected, "{text}");
            assert_eq!(server.map(|server| server.host_header()).unwrap_or_default(), header, "{text}");
        }
    }

    #[test]
    fn a_redirect_is_resolved_against_its_url() {
        let rows = [
            (302, "/c", Some("http://a:8/c")),
            (307, "c?d", Some("http://a:8/x/c?d")),
            (301, "//b/c", Some("http://b/c")),
            (308, "https://b/c", Some("https://b/c")),
            (200, "/c", None),
            (302, "http://", None),
        ];
        let url = "http://a:8/x/y".parse().unwrap();
        for (status, location, expected) in rows {
            let response = Response::builder().status(status).header(LOCATION, location).body(()).unwrap();
            assert_eq!(redirect_target(&url, &response), expected.map(|url| url.parse().unwrap()), "{location}");
        }
        let without = Response::builder().status(302).body(()).unwrap();
        assert_eq!(redirect_target(&url, &without), None);
    }
}
