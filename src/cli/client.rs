//! The client of the object API: over the local socket, HTTP or HTTPS.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT, WARNING};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, Uri};
use serde_json::Value;

use crate::http_client::tls::FINGERPRINT;
use crate::http_client::{self, ConnectError, RequestBody, Server, ServerConnection};

use crate::fleet::text::printable;

use super::tls::TlsArgs;

/// Maximum time to connect to a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The next step after a certificate that is not trusted.
const FINGERPRINT_HINT: &str =
    "; compare the fingerprint with the one that the server logs at start, then pass that one with --fingerprint";

/// Options that select a server.
#[derive(Debug, Clone, clap::Args)]
pub struct ConnectionArgs {
    /// Server: unix:/PATH/api.sock, https://ADDRESS:PORT or http://ADDRESS:PORT
    #[arg(
        long,
        global = true,
        env = "BOOTLATCH_SERVER",
        default_value = "unix:/var/lib/bootlatch/api.sock",
        value_name = "URL"
    )]
    server: String,
    /// File with the bearer token, for https and http
    #[arg(long, global = true, env = "BOOTLATCH_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
}

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

/// A client of one server, with one connection.
#[derive(Debug)]
pub struct ApiClient {
    connection: ServerConnection,
    host: String,
    token: Option<String>,
}

impl ApiClient {
    /// Connects to the selected server.
    ///
    /// # Errors
    /// The server does not answer or is not trusted, an option is invalid, or the token file cannot be read.
    pub async fn connect(connection_args: &ConnectionArgs) -> anyhow::Result<Self> {
        let token = connection_args.token_file.as_deref().map(read_token).transpose()?;
        let server_url = &connection_args.server;
        if let Some(path) = server_url.strip_prefix("unix:") {
            let connection = ServerConnection::open_local(Path::new(path), CONNECT_TIMEOUT).await;
            let connection = connection.map_err(|error| connect_error(server_url, error))?;
            return Ok(Self { connection, host: "localhost".to_owned(), token });
        }
        let Some(server) = parse_server(server_url) else {
            anyhow::bail!("--server {server_url}: expected unix:/PATH, http://ADDRESS:PORT or https://ADDRESS:PORT")
        };
        // Without TLS the token would be sent in plain text, which is not what the option asks for.
        if let (false, Some(given)) = (server.tls, connection_args.tls.given_option()) {
            anyhow::bail!("{given}: only for https, and --server is {server_url}");
        }
        let connection = ServerConnection::open(&server, &connection_args.tls.options(), CONNECT_TIMEOUT).await;
        let connection = connection.map_err(|error| connect_error(server_url, error))?;
        Ok(Self { connection, host: server.host_header(), token })
    }

    /// Sends a request, and returns the JSON response.
    ///
    /// # Errors
    /// The server refuses the request, or the connection ends.
    pub async fn ask(&mut self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        read(self.send(self.request(method, path), body.map(Value::to_string).unwrap_or_default()).await?).await
    }

    /// Sends a streamed body, and returns the JSON response.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn upload(&mut self, path: &str, content: RequestBody) -> anyhow::Result<Value> {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/octet-stream");
        let answer = self.connection.send(request.body(content)?).await;
        read(answer.map_err(|error| ClientError::Interrupted { cause: error.to_string() })?).await
    }

    /// Sends a GET request, and returns the response as it is.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn bytes(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let answer = self.send(self.request(Method::GET, path), String::new()).await?;
        if !answer.status().is_success() {
            return Err(read(answer).await.err().unwrap_or_else(|| anyhow::anyhow!("no answer")));
        }
        let body = answer.into_body().collect().await;
        Ok(body.map_err(|error| ClientError::Interrupted { cause: error.to_string() })?.to_bytes())
    }

    /// Requests objects as a table, laid out by the server.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn table(&mut self, path: &str) -> anyhow::Result<Value> {
        let request = self.request(Method::GET, path).header(ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io");
        read(self.send(request, String::new()).await?).await
    }

    /// Sends a manifest as a server-side apply.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn apply(&mut self, path: &str, manifest: &Value) -> anyhow::Result<Value> {
        let request = self.request(Method::PATCH, path).header(CONTENT_TYPE, "application/apply-patch+yaml");
        read(self.send(request, manifest.to_string()).await?).await
    }

    /// Returns an object; none if it does not exist.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn find(&mut self, path: &str) -> anyhow::Result<Option<Value>> {
        match self.ask(Method::GET, path, None).await {
            Ok(object) => Ok(Some(object)),
            Err(error) => match error.downcast_ref() {
                Some(ClientError::Refused { code: 404, .. }) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Sends a GET request, and returns the response as a stream of lines.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn lines(&mut self, path: &str) -> anyhow::Result<LineStream> {
        let answer = self.send(self.request(Method::GET, path), String::new()).await?;
        match answer.status().is_success() {
            true => Ok(LineStream { body: answer.into_body(), buffer: BytesMut::new() }),
            false => Err(read(answer).await.err().unwrap_or_else(|| anyhow::anyhow!("no answer to follow"))),
        }
    }

    fn request(&self, method: Method, path: &str) -> Builder {
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.host);
        request = request.header(USER_AGENT, concat!("bootlatch/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        request
    }

    async fn send(&mut self, mut request: Builder, body: String) -> anyhow::Result<Response<Incoming>> {
        let typed = request.headers_ref().is_some_and(|headers| headers.contains_key(CONTENT_TYPE));
        if !typed && !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let content = http_client::full(body);
        let answer = self.connection.send(request.body(content)?).await;
        Ok(answer.map_err(|error| ClientError::Interrupted { cause: error.to_string() })?)
    }
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

/// Reads a JSON response. Prints its warnings.
async fn read(answer: Response<Incoming>) -> anyhow::Result<Value> {
    let code = answer.status();
    for header in answer.headers().get_all(WARNING).iter().filter_map(|value| value.to_str().ok()) {
        eprintln!("bootlatch: warning: {}", printable(&warning(header)));
    }
    let body =
        answer.into_body().collect().await.map_err(|error| ClientError::Interrupted { cause: error.to_string() })?;
    let body = body.to_bytes();
    let value = serde_json::from_slice::<Value>(&body).ok();
    if code.is_success() {
        return Ok(value.unwrap_or_default());
    }
    let said = value.as_ref().and_then(|value| value.get("message")?.as_str()).map(str::to_owned);
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
fn read_token(path: &Path) -> anyhow::Result<String> {
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
