//! Files on web servers: what is there, and its bytes from any place on, over http and https.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HOST, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::tls;

/// Is how long a server may take to be reached, and to begin its answer.
const REACH: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(60);
const REDIRECTS: usize = 10;

/// Is a file's content from a place on.
#[derive(Debug)]
pub struct Content {
    /// Is where it begins: 0 where the server knows no ranges, or the file is another now.
    pub start: u64,
    /// Is the whole file's length, where the server says it.
    pub total: Option<u64>,
    /// Is what the server calls these bytes; nothing where it does not say, or only about.
    pub validator: Option<String>,
    pub body: Incoming,
}

/// Asks for a file from a place on, as long as it is still the one that the validator names.
///
/// # Errors
/// The server, in its own words where it has some.
pub async fn open(url: &str, from: u64, validator: Option<&str>) -> anyhow::Result<Content> {
    let mut url: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
    for _ in 0..REDIRECTS {
        let answer = ask(&url, from, validator).await.with_context(|| url.to_string())?;
        if answer.status().is_redirection() {
            url = behind(&url, &answer).with_context(|| format!("{url} redirects nowhere"))?;
            continue;
        }
        return read(&url, from, answer);
    }
    bail!("{url} redirects more than {REDIRECTS} times")
}

fn read(url: &Uri, from: u64, answer: Response<Incoming>) -> anyhow::Result<Content> {
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    // A weak tag names what is about the same, which is not enough to put two halves together (RFC 9110 13.1.5).
    let tag = header(ETAG).filter(|tag| !tag.starts_with("W/"));
    let validator = tag.or_else(|| header(LAST_MODIFIED)).map(str::to_owned);
    let length = hyper::body::Body::size_hint(answer.body()).exact();
    let (start, total) = match answer.status() {
        StatusCode::OK => (0, length),
        StatusCode::PARTIAL_CONTENT => {
            let range = header(CONTENT_RANGE)
                .and_then(range)
                .with_context(|| format!("{url} answers a part that it does not name"))?;
            if range.0 != from {
                bail!("{url} answers from byte {}, and was asked from {from}", range.0);
            }
            range
        }
        other => bail!("{url} answers {other}"),
    };
    Ok(Content { start, total, validator, body: answer.into_body() })
}

/// Reads `bytes 5-9/10`: where the part begins, and the whole's length.
fn range(header: &str) -> Option<(u64, Option<u64>)> {
    let (part, total) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some((part.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

fn behind(url: &Uri, answer: &Response<Incoming>) -> Option<Uri> {
    let place = answer.headers().get(LOCATION)?.to_str().ok()?;
    let (scheme, authority) = (url.scheme_str()?, url.authority()?);
    let whole = match place {
        place if place.contains("://") => place.to_owned(),
        place if place.starts_with("//") => format!("{scheme}:{place}"),
        place if place.starts_with('/') => format!("{scheme}://{authority}{place}"),
        place => format!("{scheme}://{authority}{}/{place}", url.path().rsplit_once('/')?.0),
    };
    whole.parse().ok()
}

async fn ask(url: &Uri, from: u64, validator: Option<&str>) -> anyhow::Result<Response<Incoming>> {
    let host = url.host().context("the URL names no server")?.to_owned();
    let (secure, usual) = match url.scheme_str() {
        Some("http") => (false, 80),
        Some("https") => (true, 443),
        _ => bail!("say http:// or https://"),
    };
    let port = url.port_u16().unwrap_or(usual);
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let reached = tokio::time::timeout(REACH, TcpStream::connect((bare.as_str(), port))).await;
    let stream = reached.with_context(|| format!("no answer within {} s", REACH.as_secs()))??;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let named = if port == usual { host } else { format!("{host}:{port}") };
    let mut request = Request::get(path)
        .header(HOST, named)
        .header(USER_AGENT, concat!("bootlatch/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT_ENCODING, "identity");
    if from > 0 {
        request = request.header(RANGE, format!("bytes={from}-"));
        if let Some(validator) = validator {
            request = request.header(IF_RANGE, validator);
        }
    }
    let request = request.body(Empty::new())?;
    let answered = async {
        match secure {
            false => send(stream, request).await,
            true => {
                let name = ServerName::try_from(bare)?;
                let connector = TlsConnector::from(Arc::new(trusting()?));
                send(connector.connect(name, stream).await.context("the TLS handshake")?, request).await
            }
        }
    };
    tokio::time::timeout(ANSWER, answered).await.with_context(|| format!("no answer within {} s", ANSWER.as_secs()))?
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> anyhow::Result<Response<Incoming>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The connection runs beside; what goes wrong with it is told by the body.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// Trusts the authorities that this machine does.
fn trusting() -> anyhow::Result<ClientConfig> {
    Ok(ClientConfig::builder().with_root_certificates(tls::authorities()?).with_no_client_auth())
}

/// Reads the next piece of a body; nothing at its end.
///
/// # Errors
/// It broke off, or stands still.
pub async fn piece(body: &mut Incoming, stall: Duration) -> anyhow::Result<Option<Bytes>> {
    loop {
        let frame = tokio::time::timeout(stall, body.frame()).await;
        let frame = frame.with_context(|| format!("nothing came for {} s", stall.as_secs()))?;
        let Some(frame) = frame.transpose()? else { return Ok(None) };
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_say_where_they_begin() {
        assert_eq!(range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(range("bytes 5-9/*"), Some((5, None)));
        for other in ["bytes */10", "5-9/10", "bytes 5-9"] {
            assert_eq!(range(other), None, "{other}");
        }
    }
}
