//! Downloads from web servers over http and https, from any offset.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HOST, IF_RANGE, LAST_MODIFIED, RANGE, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};

use crate::http_client::tls::TrustAnchor;
use crate::http_client::{self, Server, ServerConnection};

/// Maximum time to connect to a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum time until the head of a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum number of redirects of one request.
const MAX_REDIRECTS: usize = 10;

/// The content of a file from an offset.
#[derive(Debug)]
pub struct RemoteContent {
    /// Offset at which the content begins: 0 if the server has no range requests or the file changed.
    pub start: u64,
    /// Size of the whole file in octets, if the server reports it.
    pub total: Option<u64>,
    /// Strong validator of the content (ETag or Last-Modified), if the server reports one.
    pub validator: Option<String>,
    /// Body of the response.
    pub body: Incoming,
}

/// Requests a file from an offset. The validator makes the server send the whole file if it changed.
///
/// # Errors
/// The URL is invalid, or the server does not answer with the content.
pub async fn open(url: &str, offset: u64, validator: Option<&str>) -> anyhow::Result<RemoteContent> {
    let mut url: Uri = url.parse().with_context(|| format!("{url}: invalid URL"))?;
    for _ in 0..=MAX_REDIRECTS {
        let answer = ask(&url, offset, validator).await.with_context(|| url.to_string())?;
        if !answer.status().is_redirection() {
            return read(&url, offset, answer);
        }
        let target = http_client::redirect_target(&url, &answer);
        url = target.with_context(|| format!("{url}: redirect without a valid Location"))?;
    }
    bail!("{url}: more than {MAX_REDIRECTS} redirects")
}

/// Checks the head of a response.
fn read(url: &Uri, offset: u64, answer: Response<Incoming>) -> anyhow::Result<RemoteContent> {
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    // A weak tag does not identify octets, so two parts cannot be combined with it (RFC 9110, section 13.1.5).
    let tag = header(ETAG).filter(|tag| !tag.starts_with("W/"));
    let validator = tag.or_else(|| header(LAST_MODIFIED)).map(str::to_owned);
    let length = hyper::body::Body::size_hint(answer.body()).exact();
    let (start, total) = match answer.status() {
        StatusCode::OK => (0, length),
        StatusCode::PARTIAL_CONTENT => {
            let range = header(CONTENT_RANGE)
                .and_then(range)
                .with_context(|| format!("{url}: partial response without a valid Content-Range"))?;
            if range.0 != offset {
                bail!("{url}: the response begins at byte {}, requested was {offset}", range.0);
            }
            range
        }
        other => bail!("{url}: status {other}"),
    };
    Ok(RemoteContent { start, total, validator, body: answer.into_body() })
}

/// Parses `bytes 5-9/10`: the offset of the part, and the size of the whole file.
fn range(header: &str) -> Option<(u64, Option<u64>)> {
    let (part, total) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some((part.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

/// Sends a GET request over a new connection.
async fn ask(url: &Uri, offset: u64, validator: Option<&str>) -> anyhow::Result<Response<Incoming>> {
    let server = Server::of(url).context("invalid URL; expected http://HOST/PATH or https://HOST/PATH")?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path)
        .header(HOST, server.host_header())
        .header(USER_AGENT, concat!("bootlatch/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT_ENCODING, "identity");
    if offset > 0 {
        request = request.header(RANGE, format!("bytes={offset}-"));
        if let Some(validator) = validator {
            request = request.header(IF_RANGE, validator);
        }
    }
    let request = request.body(http_client::full(Bytes::new()))?;
    let mut connection = ServerConnection::open(&server, &TrustAnchor::System.into(), CONNECT_TIMEOUT).await?;
    let answered = tokio::time::timeout(RESPONSE_TIMEOUT, connection.send(request)).await;
    Ok(answered.with_context(|| format!("no answer within {} s", RESPONSE_TIMEOUT.as_secs()))??)
}

/// Returns the next data of a body; none at its end.
///
/// # Errors
/// The connection ends, or no data arrives within the timeout.
pub async fn next_data(body: &mut Incoming, timeout: Duration) -> anyhow::Result<Option<Bytes>> {
    loop {
        let frame = tokio::time::timeout(timeout, body.frame()).await;
        let frame = frame.with_context(|| format!("no data within {} s", timeout.as_secs()))?;
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
    fn content_ranges_are_parsed() {
        assert_eq!(range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(range("bytes 5-9/*"), Some((5, None)));
        for other in ["bytes */10", "5-9/10", "bytes 5-9"] {
            assert_eq!(range(other), None, "{other}");
        }
    }
}
