use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, WARNING};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::tls::Trusts;

/// Is how long a server may take to be reached.
const REACH: Duration = Duration::from_secs(10);

/// Says which server a command is for.
#[derive(Debug, Clone, clap::Args)]
pub struct Reach {
    /// The server: unix:/PATH/api.sock, https://ADDRESS:PORT or http://ADDRESS:PORT
    #[arg(
        long,
        global = true,
        env = "BOOTLATCH_SERVER",
        default_value = "unix:/var/lib/bootlatch/api.sock",
        value_name = "URL"
    )]
    server: String,
    /// A file with the bearer token, for servers over https and http
    #[arg(long, global = true, env = "BOOTLATCH_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    trusts: Trusts,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no server answers at {server}: {cause}. Is `bootlatch serve` running there? Say another with --server")]
    Unreachable { server: String, cause: String },
    #[error("{server} is not known to be the server: {cause}")]
    Untrusted { server: String, cause: String },
    #[error("{message}")]
    Refused { code: u16, message: String },
    #[error("the server's answer broke off: {cause}")]
    Broken { cause: String },
}

/// Asks one server, over one connection.
#[derive(Debug)]
pub struct Client {
    sender: http1::SendRequest<Content>,
    host: String,
    token: Option<String>,
}

type Content = UnsyncBoxBody<Bytes, std::io::Error>;

impl Client {
    /// Connects to the server that a command is for.
    ///
    /// # Errors
    /// Nobody answers there, or the token's file cannot be read.
    pub async fn connect(reach: &Reach) -> anyhow::Result<Self> {
        let token = reach.token_file.as_deref().map(read_token).transpose()?;
        let unreachable = |cause: String| Error::Unreachable { server: reach.server.clone(), cause };
        if let Some(path) = reach.server.strip_prefix("unix:") {
            let stream = within(UnixStream::connect(path)).await.map_err(unreachable)?;
            let sender = shake(stream).await.map_err(unreachable)?;
            return Ok(Self { sender, host: "localhost".to_owned(), token });
        }
        let Some((is_secure, host, port)) = place(&reach.server) else {
            anyhow::bail!("--server {}: say unix:/PATH, http://ADDRESS:PORT or https://ADDRESS:PORT", reach.server)
        };
        // A word too much here is a mistake that would send the token in the clear.
        if let (false, Some(given)) = (is_secure, reach.trusts.given()) {
            anyhow::bail!("{given} is for https: --server {} has no TLS", reach.server);
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let config = is_secure.then(|| reach.trusts.config()).transpose()?;
        let stream = within(TcpStream::connect((bare.as_str(), port))).await.map_err(unreachable)?;
        let host = format!("{host}:{port}");
        let sender = match config {
            None => shake(stream).await.map_err(unreachable)?,
            Some(config) => {
                let name = ServerName::try_from(bare)?;
                let untrusted = |cause: String| Error::Untrusted { server: reach.server.clone(), cause };
                let secured = within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
                shake(secured.map_err(untrusted)?).await.map_err(unreachable)?
            }
        };
        Ok(Self { sender, host, token })
    }

    /// Sends a request, and reads a JSON answer.
    ///
    /// # Errors
    /// What the server refused, with its own words.
    pub async fn ask(&mut self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        read(self.send(self.request(method, path), body.map(Value::to_string).unwrap_or_default()).await?).await
    }

    /// Sends a body of any size, part by part.
    ///
    /// # Errors
    /// As `ask`.
    pub async fn upload(&mut self, path: &str, content: Content) -> anyhow::Result<Value> {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/octet-stream");
        let answer = self.sender.send_request(request.body(content)?).await;
        read(answer.map_err(|error| Error::Broken { cause: error.to_string() })?).await
    }

    /// Reads an answer's bytes as they are.
    ///
    /// # Errors
    /// As `ask`.
    pub async fn bytes(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let answer = self.send(self.request(Method::GET, path), String::new()).await?;
        if !answer.status().is_success() {
            return Err(read(answer).await.err().unwrap_or_else(|| anyhow::anyhow!("no answer")));
        }
        let body = answer.into_body().collect().await;
        Ok(body.map_err(|error| Error::Broken { cause: error.to_string() })?.to_bytes())
    }

    /// Asks for objects as the server's own table.
    ///
    /// # Errors
    /// As `ask`.
    pub async fn table(&mut self, path: &str) -> anyhow::Result<Value> {
        let request = self.request(Method::GET, path).header(ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io");
        read(self.send(request, String::new()).await?).await
    }

    /// Asks for server-side apply.
    ///
    /// # Errors
    /// As `ask`.
    pub async fn apply(&mut self, path: &str, wish: &Value) -> anyhow::Result<Value> {
        let request = self.request(Method::PATCH, path).header(CONTENT_TYPE, "application/apply-patch+yaml");
        read(self.send(request, wish.to_string()).await?).await
    }

    /// Finds an object; none where there is no such object.
    ///
    /// # Errors
    /// As `ask`.
    pub async fn find(&mut self, path: &str) -> anyhow::Result<Option<Value>> {
        match self.ask(Method::GET, path, None).await {
            Ok(object) => Ok(Some(object)),
            Err(error) => match error.downcast_ref() {
                Some(Error::Refused { code: 404, .. }) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Reads an answer line by line as it comes.
    ///
    /// # Errors
    /// As `ask`.
    pub async fn lines(&mut self, path: &str) -> anyhow::Result<Lines> {
        let answer = self.send(self.request(Method::GET, path), String::new()).await?;
        match answer.status().is_success() {
            true => Ok(Lines { body: answer.into_body(), rest: BytesMut::new() }),
            false => Err(read(answer).await.err().unwrap_or_else(|| anyhow::anyhow!("no answer to follow"))),
        }
    }

    fn request(&self, method: Method, path: &str) -> Builder {
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.host);
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
        let content = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
        let answer = self.sender.send_request(request.body(content)?).await;
        Ok(answer.map_err(|error| Error::Broken { cause: error.to_string() })?)
    }
}

/// Is an answer that comes line by line.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    rest: BytesMut,
}

impl Lines {
    /// Gives the next line; nothing at the end, however the answer ended.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1);
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.rest.extend_from_slice(&data);
            }
        }
    }
}

async fn read(answer: Response<Incoming>) -> anyhow::Result<Value> {
    let code = answer.status();
    for told in answer.headers().get_all(WARNING).iter().filter_map(|value| value.to_str().ok()) {
        eprintln!("bootlatch: warning: {}", warning(told));
    }
    let body = answer.into_body().collect().await.map_err(|error| Error::Broken { cause: error.to_string() })?;
    let body = body.to_bytes();
    let value = serde_json::from_slice::<Value>(&body).ok();
    if code.is_success() {
        return Ok(value.unwrap_or_default());
    }
    let said = value.as_ref().and_then(|value| value.get("message")?.as_str()).map(str::to_owned);
    let message = said.unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
    Err(Error::Refused { code: code.as_u16(), message }.into())
}

/// Gives the words of a warning: `299 - "words"`, its quotes escaped (RFC 7234, section 5.5).
fn warning(told: &str) -> String {
    let words = told.split_once('"').and_then(|(_, rest)| rest.strip_suffix('"')).unwrap_or(told);
    words.replace("\\\"", "\"").replace("\\\\", "\\")
}

/// Reads a server's URL: whether it is spoken to over TLS, its host (IPv6 in brackets) and its port.
fn place(server: &str) -> Option<(bool, String, u16)> {
    let url: Uri = server.parse().ok()?;
    let (is_secure, usual) = match url.scheme_str()? {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return None,
    };
    let plain = url.path_and_query().is_none_or(|path| path.as_str() == "/");
    let nobody = !url.authority()?.as_str().contains('@');
    (plain && nobody).then_some((is_secure, url.host()?.to_owned(), url.port_u16().unwrap_or(usual)))
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    let token = text.trim();
    match token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Err(anyhow::anyhow!("{}: a token is one word, and this file holds none", path.display())),
        false => Ok(token.to_owned()),
    }
}

async fn within<T>(connecting: impl Future<Output = std::io::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(REACH, connecting).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", REACH.as_secs())),
    }
}

async fn shake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<http1::SendRequest<Content>, String> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // The connection runs beside; what goes wrong with it is told by the request.
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_url() {
        let rows = [
            ("http://10.0.0.1", Some((false, "10.0.0.1", 80))),
            ("https://boot.example:6443/", Some((true, "boot.example", 6443))),
            ("https://[fd00::1]", Some((true, "[fd00::1]", 443))),
            ("https://a:TOKEN@b", None),
            ("https://b/api", None),
            ("ftp://b", None),
            ("b:80", None),
        ];
        for (text, expected) in rows {
            let expected = expected.map(|(secure, host, port)| (secure, host.to_owned(), port));
            assert_eq!(place(text), expected, "{text}");
        }
    }
}
