//! Replies and their bodies.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, stream};
use hyper::body::{Frame, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::http::delivery::{DeliveryState, FollowedDelivery};
use crate::iso::ReadAt;

/// Maximum number of bytes of a medium that are read and sent at a time.
pub const MAX_CHUNK_BYTES: u64 = 256 << 10;

/// A reply to a request.
pub type Reply = Response<Body>;

/// The media type of JSON.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The media type of plain text.
pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The value of `X-Content-Type-Options` in every response: no browser takes a file for a page.
pub const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// The body of a reply.
pub enum Body {
    /// Bytes in memory; empty without a body.
    Whole(Option<Bytes>),
    /// Bytes of a medium. The fast path lets the kernel send them; hyper takes them in chunks.
    Medium(MediumRange),
    /// The same, followed until the client has them.
    Followed(MediumRange, FollowedDelivery),
    /// Chunks that come one after another.
    Stream(Pin<Box<dyn Stream<Item = Chunk> + Send>>),
}

/// A run of bytes of a medium.
#[derive(Debug, Clone)]
pub struct MediumRange {
    /// The medium.
    pub medium: Arc<dyn ReadAt>,
    /// Offset of the first byte.
    pub start: u64,
    /// Number of bytes.
    pub count: u64,
}

/// A 200 or 206 reply with bytes of a medium, before it is written.
#[derive(Debug)]
pub struct RepeatedContent {
    /// Tag of the whole medium's bytes, without quotes.
    pub tag: String,
    /// Length of the whole medium, in bytes.
    pub whole: u64,
    /// Media type, if the reply has one.
    pub media_type: Option<&'static str>,
    /// Whether the request has a range: a 206.
    pub is_part: bool,
    /// The bytes.
    pub range: MediumRange,
}

/// A chunk of a body. An error cuts the connection, so that no client takes a part for the whole.
pub type Chunk = Result<Frame<Bytes>, io::Error>;

impl Body {
    /// Makes a body of chunks that come one after another.
    pub fn stream(chunks: impl Stream<Item = Chunk> + Send + 'static) -> Self {
        Self::Stream(Box::pin(chunks))
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(bytes) => bytes.fmt(out),
            Self::Medium(range) | Self::Followed(range, _) => range.fmt(out),
            Self::Stream(_) => out.write_str("stream"),
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Chunk>> {
        let body = self.get_mut();
        match body {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Medium(_) | Self::Followed(..) => {
                let begun = match std::mem::replace(body, Self::Whole(None)) {
                    Self::Medium(range) => chunks(range, None),
                    Self::Followed(range, delivery) => chunks(range, Some(delivery)),
                    other => other,
                };
                *body = begun;
                Pin::new(body).poll_frame(context)
            }
            Self::Stream(chunks) => chunks.as_mut().poll_next(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Medium(range) | Self::Followed(range, _) => range.count == 0,
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Medium(range) | Self::Followed(range, _) => SizeHint::with_exact(range.count),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// Returns a reply with bytes of a media type.
pub fn bytes(status: StatusCode, media_type: HeaderValue, body: impl Into<Bytes>) -> Reply {
    let body: Bytes = body.into();
    let is_empty = body.is_empty();
    let mut reply = Response::new(Body::Whole((!is_empty).then_some(body)));
    *reply.status_mut() = status;
    // hyper leaves it out of the reply to a HEAD. A 204 must not have it (RFC 9110, section 8.6).
    if is_empty && status != StatusCode::NO_CONTENT {
        reply.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    reply.headers_mut().insert(CONTENT_TYPE, media_type);
    reply
}

/// Returns a reply with plain text: a line for a person, or a script for a machine.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    bytes(status, TEXT, body)
}

/// Returns a reply with a value as JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => bytes(status, JSON, body),
        Err(error) => {
            tracing::error!(%error, "reply not serializable as JSON");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the reply could not be written as JSON\n")
        }
    }
}

/// Follows the bytes of a medium that a reply sends, if it sends any. `report` gets what becomes of them and how
/// many the client has.
pub fn follow(reply: Reply, report: impl Fn(DeliveryState, u64) + Send + Sync + 'static) -> Reply {
    reply.map(|body| match body {
        Body::Medium(range) if range.count > 0 => Body::Followed(range, FollowedDelivery::new(report)),
        body => body,
    })
}

/// Makes a body of a medium's bytes; each chunk is read when it is sent. The client has a followed body once its last
/// chunk is passed on, give or take what the transport buffers.
fn chunks(range: MediumRange, delivery: Option<FollowedDelivery>) -> Body {
    let (whole, state) = (range.count, (range, delivery));
    Body::stream(stream::try_unfold(state, move |(MediumRange { medium, start, count }, mut delivery)| async move {
        if count == 0 {
            return Ok(None);
        }
        let length = count.min(MAX_CHUNK_BYTES);
        let bytes = read(&medium, start, length).await.inspect_err(log_read_error)?;
        let left = count - length;
        if let Some(delivery) = &mut delivery {
            delivery.advance(whole - left);
        }
        if left == 0
            && let Some(delivery) = delivery.take()
        {
            delivery.complete(whole);
        }
        Ok(Some((Frame::data(bytes), (MediumRange { medium, start: start + length, count: left }, delivery))))
    }))
}

/// Logs that a medium could not be read while it was sent.
pub fn log_read_error(error: &io::Error) {
    tracing::warn!(%error, "image read failed");
}

/// Reads bytes of a medium: from the page cache at once, from the disk on a blocking thread.
///
/// # Errors
/// The medium's read error.
pub async fn read(medium: &Arc<dyn ReadAt>, start: u64, count: u64) -> io::Result<Bytes> {
    let length = usize::try_from(count).map_err(io::Error::other)?;
    let mut buffer = vec![0; length];
    match medium.try_read_at(start, &mut buffer) {
        Ok(()) => return Ok(buffer.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    let medium = medium.clone();
    let waited = tokio::task::spawn_blocking(move || medium.read_at(start, &mut buffer).map(|()| buffer.into()));
    waited.await.map_err(io::Error::other)?
}
