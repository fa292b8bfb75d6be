use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use hyper::body::{Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::iso::ReadAt;

/// Is a reply's body: bytes that are there, bytes of a medium, or parts that come.
pub enum Body {
    Whole(Option<Bytes>),
    /// Leaves it to the connection how they are read; hyper takes them as parts.
    Medium(Span),
    Parts(Pin<Box<dyn Stream<Item = Part> + Send>>),
}

/// Is a run of bytes of a medium.
#[derive(Debug, Clone)]
pub struct Span {
    pub medium: Arc<dyn ReadAt>,
    pub start: u64,
    pub count: u64,
}

/// Is a part of a body; where one cannot be had, the connection is cut, so that nobody takes less for all.
type Part = Result<Frame<Bytes>, io::Error>;

impl Body {
    pub fn parts(parts: impl Stream<Item = Part> + Send + 'static) -> Self {
        Self::Parts(Box::pin(parts))
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(bytes) => bytes.fmt(out),
            Self::Medium(span) => span.fmt(out),
            Self::Parts(_) => out.write_str("parts"),
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Part>> {
        let body = self.get_mut();
        match body {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Medium(span) => {
                let span = span.clone();
                *body = crate::api::machine::images::parts(span);
                Pin::new(body).poll_frame(context)
            }
            Self::Parts(parts) => parts.as_mut().poll_next(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Medium(span) => span.count == 0,
            Self::Parts(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Medium(span) => SizeHint::with_exact(span.count),
            Self::Parts(_) => SizeHint::default(),
        }
    }
}

pub type Reply = Response<Body>;

pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Answers with bytes of a media type.
pub fn bytes(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Reply {
    let body: Bytes = body.into();
    let mut reply = Response::new(Body::Whole((!body.is_empty()).then_some(body)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}

/// Answers with a line for a person, or a script for a machine.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    bytes(status, TEXT, body)
}

/// Answers with a value as JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => bytes(status, JSON, body),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written\n")
        }
    }
}
