//! The client of the object API: over the local socket, HTTP or HTTPS.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT, WARNING};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, Uri};
use serde_json::Value;

use crate::http_client::tls::{FINGERPRINT, TlsOptions};
use crate::http_client::{self, ConnectError, RequestBody, Server, ServerConnection};

use crate::fleet::text::printable;

use super::connection::{ConnectionArgs, SelectedServer, Timeout};

/// Maximum time to connect to a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time without a request on a connection that is used again. The server closes idle ones after 60 s.
const MAX_IDLE: Duration = Duration::from_secs(20);

/// The next step after a certificate that is not trusted.
const FINGERPRINT_HINT: &str =
    "; compare the fingerprint with the one that the server logs at start, then pass that one with --fingerprint";

/// Maximum time without progress of an upload, without `--timeout`. A source that is a URL is tried for 5 minutes.
const STALL_TIMEOUT: Duration = Duration::from_secs(600);

/// Text of the system's error that the permission to open a socket is missing.
const NOT_PERMITTED: &str = "Permission denied";

/// Error of a request to the server. It selects the exit code.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server does not answer.
    #[error("cannot connect to {server}: {cause}. Is `bootlatch serve` running? Select another server with --server")]
    Unreachable {
        /// URL of the server.
        server: String,
        /// Reason.
        cause: String,
    },
    /// The local socket of the server belongs to other users.
    #[error(
        "cannot connect to {server}: permission denied: the socket belongs to root and to the server's group. Use sudo, \
         become a member (adduser USER bootlatch, then log in again), or select a server with a token: --server https://ADDRESS:PORT --token-file FILE"
    )]
    NotPermitted {
        /// URL of the server.
        server: String,
    },
    /// The server did not answer in time.
    #[error("no answer from {server} within {} (--timeout)", seconds(*.timeout))]
    TimedOut {
        /// URL of the server.
        server: String,
        /// The time limit.
        timeout: Duration,
    },
    /// The certificate of the server is not trusted.
    #[error("cannot verify the server {server}: {cause}")]
    Unverified {
        /// URL of the server.
        server: String,
        /// Reason.
        cause: String,
    },
    /// The server refused the request.
    #[error("{message}")]
    Refused {
        /// Status code of HTTP.
        code: u16,
        /// Message of the server.
        message: String,
        /// Field or parameter that the server's first cause names.
        field: Option<String>,
    },
    /// The connection ended within the response.
    #[error("response interrupted: {cause}")]
    Interrupted {
        /// Reason.
        cause: String,
    },
}

/// Returns whether an error is that an object does not exist.
pub fn is_not_found(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::Refused { code: 404, .. }))
}

/// Formats a time limit.
pub fn seconds(timeout: Duration) -> String {
    format!("{timeout:?}")
}

/// A way to a server.
#[derive(Debug)]
enum Route {
    /// A local socket.
    Local(PathBuf),
    /// An address.
    Remote(Server, TlsOptions),
}

impl Route {
    /// Returns the way to the selected server.
    ///
    /// # Errors
    /// The URL is invalid, or options for TLS are given for a server without it.
    fn to(selected: SelectedServer) -> anyhow::Result<Self> {
        if let Some(path) = selected.url.strip_prefix("unix:") {
            return Ok(Self::Local(path.into()));
        }
        let Some(server) = parse_server(&selected.url) else {
            anyhow::bail!("--server {}: expected unix:/PATH, http://ADDRESS:PORT or https://ADDRESS:PORT", selected.url)
        };
        // Without TLS the token would be sent in plain text, which is not what the option asks for.
        if let (false, Some(given)) = (server.tls, selected.tls_option) {
            anyhow::bail!("{given}: only for https, and --server is {}", selected.url);
        }
        Ok(Self::Remote(server, selected.tls))
    }

    fn host_header(&self) -> String {
        match self {
            Self::Local(_) => "localhost".to_owned(),
            Self::Remote(server, _) => server.host_header(),
        }
    }

    /// Opens a connection.
    async fn open(&self, url: &str, timeout: Option<Duration>) -> anyhow::Result<ServerConnection> {
        let timeout = timeout.map_or(CONNECT_TIMEOUT, |timeout| timeout.min(CONNECT_TIMEOUT));
        let connection = match self {
            Self::Local(path) => ServerConnection::open_local(path, timeout).await,
            Self::Remote(server, tls) => ServerConnection::open(server, tls, timeout).await,
        };
        connection.map_err(|error| match (self, error) {
            (Self::Local(_), ConnectError::Unreachable(cause)) if cause.contains(NOT_PERMITTED) => {
                ClientError::NotPermitted { server: url.to_owned() }.into()
            }
            (_, error) => connect_error(url, error),
        })
    }
}

/// A client of one server, with one connection. A connection that the server closed is replaced before a request.
#[derive(Debug)]
pub struct ApiClient {
    connection: ServerConnection,
    route: Route,
    /// Time of the last request.
    used: Instant,
    host: String,
    token: Option<String>,
    server: String,
    timeout: Option<Duration>,
}

impl ApiClient {
    /// Connects to the selected server.
    ///
    /// # Errors
    /// The server does not answer or is not trusted, an option is invalid, or the token file cannot be read.
    pub async fn connect(connection_args: &ConnectionArgs) -> anyhow::Result<Self> {
        let selected = connection_args.selected()?;
        let token = selected.token_file.as_deref().map(read_token).transpose()?;
        let (server, timeout) = (selected.url.clone(), connection_args.answer_timeout());
        let route = Route::to(selected)?;
        let connection = route.open(&server, timeout).await?;
        let (host, used) = (route.host_header(), Instant::now());
        Ok(Self { connection, route, used, host, token, server, timeout })
    }

    /// Connects again if the connection is closed, or was idle for so long that the server may close it.
    async fn ensure_open(&mut self) -> anyhow::Result<()> {
        if self.connection.is_closed() || self.used.elapsed() > MAX_IDLE {
            self.connection = self.route.open(&self.server, self.timeout).await?;
        }
        self.used = Instant::now();
        Ok(())
    }

    /// Returns the URL of the server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Sends a request, and returns the JSON response.
    ///
    /// # Errors
    /// The server refuses the request, or the connection ends.
    pub async fn ask(&mut self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let request = self.request(method, path);
        self.exchange(request, body.map(Value::to_string).unwrap_or_default()).await
    }

    /// Sends a streamed body, and returns the JSON response. The upload may take any time, as long as the position moves.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn upload(
        &mut self,
        path: &str,
        content: RequestBody,
        position: impl Fn() -> u64,
        timeout: Option<Timeout>,
    ) -> anyhow::Result<Value> {
        let timeout = timeout.map_or(Some(STALL_TIMEOUT), |timeout| timeout.0);
        let server = self.server.clone();
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/octet-stream");
        let sent = async {
            self.ensure_open().await?;
            let answer = self.connection.send(request.body(content)?).await;
            read(answer.map_err(|error| ClientError::Interrupted { cause: error.to_string() })?).await
        };
        let Some(timeout) = timeout else { return sent.await };
        tokio::select! {
            answer = sent => answer,
            () = stalled(position, timeout) => Err(ClientError::TimedOut { server, timeout }.into()),
        }
    }

    /// Sends a GET request, and returns the response as it is.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn bytes(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let request = self.request(Method::GET, path);
        let (timeout, server) = (self.timeout, self.server.clone());
        within(timeout, &server, async {
            collect(successful(self.send_request(request, String::new()).await?).await?).await
        })
        .await
    }

    /// Returns the status and the text of a page that needs no role, such as `/readyz`.
    ///
    /// # Errors
    /// The connection ends, or the server does not answer in time.
    pub async fn page(&mut self, path: &str) -> anyhow::Result<(u16, String)> {
        let request = self.request(Method::GET, path);
        let (timeout, server) = (self.timeout, self.server.clone());
        let asked = async {
            let answer = self.send_request(request, String::new()).await?;
            let code = answer.status().as_u16();
            Ok((code, String::from_utf8_lossy(&collect(answer).await?).into_owned()))
        };
        within(timeout, &server, asked).await
    }

    /// Requests objects as a table, laid out by the server.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn table(&mut self, path: &str) -> anyhow::Result<Value> {
        let request = self.request(Method::GET, path).header(ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io");
        self.exchange(request, String::new()).await
    }

    /// Sends a manifest as a server-side apply.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn apply(&mut self, path: &str, manifest: &Value) -> anyhow::Result<Value> {
        let request = self.request(Method::PATCH, path).header(CONTENT_TYPE, "application/apply-patch+yaml");
        self.exchange(request, manifest.to_string()).await
    }

    /// Changes fields of an object by a merge patch (RFC 7386).
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn merge(&mut self, path: &str, patch: &Value) -> anyhow::Result<Value> {
        let request = self.request(Method::PATCH, path).header(CONTENT_TYPE, "application/merge-patch+json");
        self.exchange(request, patch.to_string()).await
    }

    /// Returns an object; none if it does not exist.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn find(&mut self, path: &str) -> anyhow::Result<Option<Value>> {
        match self.ask(Method::GET, path, None).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a GET request, and returns the response as a stream of lines.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn lines(&mut self, path: &str) -> anyhow::Result<LineStream> {
        let request = self.request(Method::GET, path);
        let (timeout, server) = (self.timeout, self.server.clone());
        let asked = async { successful(self.send_request(request, String::new()).await?).await };
        Ok(LineStream { body: within(timeout, &server, asked).await?.into_body(), buffer: BytesMut::new() })
    }

    fn request(&self, method: Method, path: &str) -> Builder {
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.host);
        request = request.header(USER_AGENT, concat!("bootlatch/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        request
    }

    /// Sends a request and reads its JSON response, within the time limit.
    async fn exchange(&mut self, request: Builder, body: String) -> anyhow::Result<Value> {
        let (timeout, server) = (self.timeout, self.server.clone());
        within(timeout, &server, async { read(self.send_request(request, body).await?).await }).await
    }

    async fn send_request(&mut self, mut request: Builder, body: String) -> anyhow::Result<Response<Incoming>> {
        let typed = request.headers_ref().is_some_and(|headers| headers.contains_key(CONTENT_TYPE));
        if !typed && !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let content = http_client::full(body);
        self.ensure_open().await?;
        let answer = self.connection.send(request.body(content)?).await;
        Ok(answer.map_err(|error| ClientError::Interrupted { cause: error.to_string() })?)
    }
}

/// Waits until a position has not moved for a time.
async fn stalled(position: impl Fn() -> u64, timeout: Duration) {
    let mut last = position();
    loop {
        tokio::time::sleep(timeout).await;
        let now = position();
        if now == last {
            return;
        }
        last = now;
    }
}

/// Limits the time of a request.
async fn within<T>(
    timeout: Option<Duration>,
    server: &str,
    request: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let Some(timeout) = timeout else { return request.await };
    let late = |_| ClientError::TimedOut { server: server.to_owned(), timeout };
    tokio::time::timeout(timeout, request).await.map_err(late)?
}

/// A response that is read line by line.
#[derive(Debug)]
pub struct LineStream {
    body: Incoming,
    buffer: BytesMut,
}

impl LineStream {
    /// Returns the next line; none at the end of the response or of the connection.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

/// Reads the body of a response.
async fn collect(answer: Response<Incoming>) -> anyhow::Result<Bytes> {
    let body = answer.into_body().collect().await;
    Ok(body.map_err(|error| ClientError::Interrupted { cause: error.to_string() })?.to_bytes())
}

/// Returns a response that is no refusal.
async fn successful(answer: Response<Incoming>) -> anyhow::Result<Response<Incoming>> {
    match answer.status().is_success() {
        true => Ok(answer),
        false => Err(read(answer).await.err().unwrap_or_else(|| anyhow::anyhow!("no answer"))),
    }
}

/// Reads a JSON response. Prints its warnings.
async fn read(answer: Response<Incoming>) -> anyhow::Result<Value> {
    let code = answer.status();
    for header in answer.headers().get_all(WARNING).iter().filter_map(|value| value.to_str().ok()) {
        eprintln!("bootlatch: warning: {}", printable(&warning(header)));
    }
    let body = collect(answer).await?;
    let value = serde_json::from_slice::<Value>(&body).ok();
    if code.is_success() {
        return Ok(value.unwrap_or_default());
    }
    // Redfish has its message within an object of its own.
    let said = |value: &Value| Some(value.get("message").or(value.pointer("/error/message"))?.as_str()?.to_owned());
    let said = value.as_ref().and_then(said);
    let message = said.unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
    let field = value.as_ref().and_then(|value| value.pointer("/details/causes/0/field")?.as_str()).map(str::to_owned);
    Err(ClientError::Refused { code: code.as_u16(), message, field }.into())
}

/// Returns the text of a warning header: `299 - "text"`, with escaped quotes (RFC 7234, section 5.5).
fn warning(header: &str) -> String {
    let words = header.split_once('"').and_then(|(_, rest)| rest.strip_suffix('"')).unwrap_or(header);
    words.replace("\\\"", "\"").replace("\\\\", "\\")
}

/// Returns the error of a connection that was not established.
fn connect_error(server: &str, error: ConnectError) -> anyhow::Error {
    let server = server.to_owned();
    match error {
        ConnectError::Unreachable(cause) => ClientError::Unreachable { server, cause }.into(),
        ConnectError::Handshake(cause) => {
            let hint = if cause.contains(FINGERPRINT) { FINGERPRINT_HINT } else { "" };
            ClientError::Unverified { server, cause: format!("{cause}{hint}") }.into()
        }
        ConnectError::Configuration(error) => error.into(),
    }
}

/// Parses the URL of a server, which has no path.
fn parse_server(server: &str) -> Option<Server> {
    let url: Uri = server.parse().ok()?;
    let plain = url.path_and_query().is_none_or(|path| path.as_str() == "/");
    Server::of(&url).filter(|_| plain)
}

/// Reads the token file: one word of visible ASCII characters.
///
/// # Errors
/// The file cannot be read, or has other content.
pub fn read_token(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    let token = text.trim();
    match token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Err(anyhow::anyhow!("--token-file {}: expected a token of visible ASCII characters", path.display())),
        false => Ok(token.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_server_has_no_path() {
        let server = |tls, host: &str, port| Some(Server { tls, host: host.to_owned(), port });
        let rows = [
            ("http://10.0.0.1", server(false, "10.0.0.1", 80)),
            ("https://boot.example:6443/", server(true, "boot.example", 6443)),
            ("https://b/api", None),
            ("https://b?x", None),
            ("https://a:TOKEN@b", None),
            ("b:80", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse_server(text), expected, "{text}");
        }
    }
}
