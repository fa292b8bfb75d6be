//! The head of a request on the fast path: hyper reads the same request from the same bytes.
#![no_main]

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bootlatch::api::route_search::is_fast;
use bootlatch::http::fast_path::{RequestHead, parse_head};
use bootlatch::http::limits::MAX_HEADER_FIELDS;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, Uri};
use libfuzzer_sys::fuzz_target;

/// A request after the one under test.
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
/// More polls than any connection of these inputs needs.
const POLLS: usize = 100_000;

/// A connection whose client has sent all its bytes, and takes what it is sent.
struct Client<'a>(&'a [u8]);

impl Read for Client<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let (now, later) = self.0.split_at(self.0.len().min(into.remaining()));
        into.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Client<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Returns the requests that hyper reads.
fn by_hyper(bytes: &[u8]) -> Vec<(Method, Uri, HeaderMap)> {
    let seen = RefCell::new(Vec::new());
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let (head, _) = request.into_parts();
        seen.borrow_mut().push((head.method, head.uri, head.headers));
        std::future::ready(Ok::<_, Infallible>(Response::new(String::new())))
    });
    let mut builder = http1::Builder::new();
    builder.title_case_headers(true).header_read_timeout(None).max_headers(MAX_HEADER_FIELDS);
    {
        let mut connection = pin!(builder.serve_connection(Client(bytes), service));
        let mut context = Context::from_waker(Waker::noop());
        let ended = (0..POLLS).any(|_| connection.as_mut().poll(&mut context).is_ready());
        assert!(ended, "hyper does not end the connection");
    }
    seen.into_inner()
}

fuzz_target!(|data: &[u8]| {
    let (request, length, is_last) = match parse_head(data, is_fast) {
        RequestHead::Request(request, length, is_last) => (request, length, is_last),
        RequestHead::Unfinished => return assert!(by_hyper(data).is_empty(), "hyper finds a request"),
        RequestHead::Other => return,
    };
    assert!((1..=data.len()).contains(&length));
    let (head, _) = request.into_parts();
    let expected = (head.method, head.uri, head.headers);
    assert!(is_fast(&expected.1.to_string()), "{}", expected.1);
    let found = by_hyper(&[&data[..length], NEXT].concat());
    assert_eq!(found.first(), Some(&expected));
    assert_eq!(found.len(), if is_last { 1 } else { 2 }, "the end of the head, or of the connection, differs");
    for cut in [0, length / 3, length / 2, length - 1] {
        assert!(matches!(parse_head(&data[..cut], is_fast), RequestHead::Unfinished), "{cut} of {length}");
    }
});
