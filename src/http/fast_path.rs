//! The fast path for the reads of machines, on a connection without TLS: GET and HEAD of scripts, images, boot programs,
//! configs and site files.
//!
//! The same routes answer as through hyper. The fast path avoids hyper's handling of bodies and, above all, the copy of
//! an image's bytes: the kernel sends them from its page cache. At the first request that is not plainly such a read,
//! the connection goes to hyper with every byte that was read of it, and stays there.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;

use bytes::Bytes;
use hyper::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::{Method, Request, Uri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::http::delivery::FollowedBody;
use crate::http::handler::Handler;
use crate::http::host_header::host_fault;
use crate::http::limits::{HEAD_TIMEOUT, MAX_HEADER_FIELDS, Stop, stopped};
use crate::http::peer::Peer;
use crate::http::repeated_request::RequestTemplate;
use crate::http::writer::ResponseWriter;

/// Maximum size of a head that is parsed here, in bytes; hyper takes longer ones.
const MAX_FAST_HEAD_BYTES: usize = 8 << 10;

/// A connection for hyper to continue, with the bytes that were read of it already.
#[derive(Debug)]
pub struct UnansweredConnection {
    /// The connection.
    pub stream: TcpStream,
    /// The bytes.
    pub read: Bytes,
}

/// The next bytes of a connection.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one lives at a time, on the stack; a box would cost each request one")]
pub enum RequestHead {
    /// A request, the length of its head, and whether the connection ends after the response.
    Request(Request<()>, usize, bool),
    /// The start of a request.
    Unfinished,
    /// A request for hyper.
    Other,
}

/// Answers requests until one is hyper's; returns nothing once the connection has ended.
pub async fn serve<H: Handler>(
    mut stream: TcpStream,
    peer: Peer,
    handler: &H,
    recent: &H::Recent,
    mut stop: Stop,
) -> Option<UnansweredConnection> {
    let mut input = Vec::with_capacity(MAX_FAST_HEAD_BYTES);
    let mut output = ResponseWriter::default();
    let mut template: Option<RequestTemplate<H::RepeatedKey>> = None;
    let mut last_head = Vec::new();
    let (mut idle_since, is_stopping) = (Instant::now(), stop.clone());
    // Both are made once, not for each request: their registration costs more than reading a request.
    let mut stop = std::pin::pin!(stopped(&mut stop));
    let mut alarm = std::pin::pin!(tokio::time::sleep_until(idle_since + HEAD_TIMEOUT));
    loop {
        let repeated = template.as_ref().and_then(|template| template.recall(handler, recent, &input));
        if let Some((content, length, began)) = repeated {
            input.drain(..length);
            let is_sent = is_sent(output.send_repeated(&mut stream, content).await, peer);
            idle_since = Instant::now();
            handler.record_duration(idle_since.into_std() - began);
            if is_sent && !*is_stopping.borrow() {
                continue;
            }
            return finish(stream, output.followed).await;
        }
        let (request, length, is_last) = match parse_head(&input, H::is_fast) {
            RequestHead::Request(request, length, is_last) => (request, length, is_last),
            RequestHead::Unfinished if input.len() < MAX_FAST_HEAD_BYTES => {
                let timers = (stop.as_mut(), alarm.as_mut(), idle_since);
                if !read_more(&mut stream, &mut input, &mut output.followed, timers).await {
                    return finish(stream, output.followed).await;
                }
                continue;
            }
            RequestHead::Unfinished | RequestHead::Other => {
                output.followed.begin(None);
                return Some(UnansweredConnection { stream, read: input.into() });
            }
        };
        // Whoever asks for the next file has the one before.
        output.followed.begin(None);
        let began = Instant::now();
        let Some(reply) = handler.answer_machine(peer, recent, &request).await else {
            return Some(UnansweredConnection { stream, read: input.into() });
        };
        let head = &input[..length];
        let key = |request: &Request<()>| handler.repeated_key(peer, request);
        template = RequestTemplate::new(head, &request, last_head == head, key).filter(|_| !is_last);
        head.clone_into(&mut last_head);
        input.drain(..length);
        let is_head = *request.method() == Method::HEAD;
        let is_sent = is_sent(output.send(&mut stream, reply, is_head, is_last).await, peer);
        if !is_sent {
            output.followed.fail(&stream);
        }
        if !is_sent || is_last || *is_stopping.borrow() {
            handler.record_duration(began.elapsed());
            return finish(stream, output.followed).await;
        }
        idle_since = Instant::now();
        handler.record_duration(idle_since - began);
    }
}

/// Reads more of a connection, and follows meanwhile whether its last body arrives. Returns whether the connection goes
/// on: not once it has ended, the server stops, or nothing came for `HEAD_TIMEOUT`.
async fn read_more(
    stream: &mut TcpStream,
    input: &mut Vec<u8>,
    followed: &mut FollowedBody,
    (stop, mut alarm, idle_since): (Pin<&mut impl Future<Output = ()>>, Pin<&mut Sleep>, Instant),
) -> bool {
    let (mut reader, writer) = stream.split();
    let is_pending = followed.is_pending();
    tokio::select! {
        biased;
        read = reader.read_buf(input) => read.is_ok_and(|count| count > 0),
        () = followed.settled(writer.as_ref()), if is_pending => true,
        () = stop => false,
        () = alarm.as_mut() => {
            alarm.as_mut().reset(idle_since + HEAD_TIMEOUT);
            idle_since.elapsed() < HEAD_TIMEOUT
        }
    }
}

/// Closes a connection once it is known whether its last body arrived, if it is followed.
async fn finish(mut stream: TcpStream, mut followed: FollowedBody) -> Option<UnansweredConnection> {
    if followed.is_pending() {
        // The client sees the end of the response at once.
        let _ = stream.shutdown().await;
        followed.settled(&stream).await;
    }
    None
}

fn is_sent(sent: io::Result<()>, peer: Peer) -> bool {
    let address = peer.address.map(tracing::field::display);
    sent.inspect_err(|error| tracing::debug!(%error, peer = address, "connection failed")).is_ok()
}

/// Parses the bytes as a request that is answered here. `is_fast` is the handler's.
pub fn parse_head(input: &[u8], is_fast: impl Fn(&str) -> bool) -> RequestHead {
    if input.is_empty() {
        return RequestHead::Unfinished;
    }
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADER_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(input, &mut headers) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return RequestHead::Unfinished,
        Err(_) => return RequestHead::Other,
    };
    let method = match parsed.method {
        Some("GET") => Method::GET,
        Some("HEAD") => Method::HEAD,
        _ => return RequestHead::Other,
    };
    let Some(path) = parsed.path.filter(|path| parsed.version == Some(1) && is_fast(path)) else {
        return RequestHead::Other;
    };
    let Ok(uri) = Uri::try_from(path) else { return RequestHead::Other };
    let mut request = Request::new(());
    (*request.method_mut(), *request.uri_mut()) = (method, uri);
    let mut is_last = false;
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(header.value)) else { return RequestHead::Other };
        match name {
            CONTENT_LENGTH | TRANSFER_ENCODING | EXPECT | UPGRADE => return RequestHead::Other,
            CONNECTION if value.as_bytes().eq_ignore_ascii_case(b"close") => is_last = true,
            CONNECTION if value.as_bytes().eq_ignore_ascii_case(b"keep-alive") => {}
            CONNECTION => return RequestHead::Other,
            _ => {}
        }
        request.headers_mut().append(name, value);
    }
    match host_fault(&request) {
        // hyper's part answers 400.
        Some(_) => RequestHead::Other,
        None => RequestHead::Request(request, length, is_last),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use hyper::StatusCode;
    use hyper::body::Incoming;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::http::conditional;
    use crate::http::connection_limits::MeteredStream;
    use crate::http::peer::Serves;
    use crate::http::ranges::{RequestedRange, requested};
    use crate::http::reply::{self, MediumRange, RepeatedContent, Reply};
    use crate::iso::{MemoryImage, ReadAt};

    fn is_fast(target: &str) -> bool {
        ["/ipxe?", "/iso/", "/media/"].iter().any(|start| target.starts_with(start))
    }

    /// Describes the first bytes of a connection: a request, its length and whether it is the last, or what else.
    fn describe(input: &str) -> String {
        match parse_head(input.as_bytes(), is_fast) {
            RequestHead::Request(request, length, is_last) => {
                format!("{} {} {length} {is_last}", request.method(), request.uri())
            }
            RequestHead::Unfinished => "unfinished".into(),
            RequestHead::Other => "hyper's".into(),
        }
    }

    #[test]
    fn only_plain_reads_of_fast_routes_are_answered_here() {
        let rows = [
            ("GET /iso/a HTTP/1.1\r\nHost: b\r\n\r\n", "GET /iso/a 32 false"),
            ("GET /iso/a HTTP/1.1\r\nHost: b\r\n\r\nGET /x", "GET /iso/a 32 false"),
            ("HEAD /media/t/a.iso HTTP/1.1\r\nHost: b\r\n\r\n", "HEAD /media/t/a.iso 41 false"),
            ("GET /ipxe?mac=1 HTTP/1.1\r\nConnection: Close\r\nHost: b\r\n\r\n", "GET /ipxe?mac=1 56 true"),
            ("GET /ipxe?mac=1 HTTP/1.1\r\nConnection: keep-alive\r\nHost: b\r\n\r\n", "GET /ipxe?mac=1 61 false"),
            ("GET /iso/a HTTP/1.1\r\nHost", "unfinished"),
            ("", "unfinished"),
            ("GET /iso/a HTTP/1.1\r\n\r\n", "hyper's"),
            ("GET /iso/a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "hyper's"),
            ("GET /iso/a HTTP/1.1\r\nHost: a b\r\n\r\n", "hyper's"),
            ("GET /iso/a HTTP/1.0\r\n\r\n", "hyper's"),
            ("POST /iso/a HTTP/1.1\r\n\r\n", "hyper's"),
            ("GET /api/v1/iscsi-cdroms HTTP/1.1\r\n\r\n", "hyper's"),
            ("GET http://x/iso/a HTTP/1.1\r\n\r\n", "hyper's"),
            ("GET /iso/a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "hyper's"),
            ("GET /iso/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "hyper's"),
            ("GET /iso/a HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", "hyper's"),
            ("GET /iso/a HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", "hyper's"),
            ("GET /iso/a HTTP/1.1\r\nConnection: close, te\r\n\r\n", "hyper's"),
            ("\x16\x03\x01", "hyper's"),
        ];
        for (input, expected) in rows {
            assert_eq!(describe(input), expected, "{input:?}");
        }
    }

    #[test]
    fn hyper_refuses_a_head_with_too_many_fields() {
        let many = "a: b\r\n".repeat(MAX_HEADER_FIELDS + 1);
        assert_eq!(describe(&format!("GET /iso/a HTTP/1.1\r\n{many}\r\n")), "hyper's");
    }

    /// A handler of one medium of ten bytes, which counts its calls.
    #[derive(Default)]
    struct Digits {
        answered: AtomicU64,
        recalled: AtomicU64,
        recorded: AtomicU64,
    }

    impl Digits {
        fn medium() -> Arc<dyn ReadAt> {
            Arc::new(MemoryImage(b"0123456789".to_vec().into()))
        }
    }

    impl Handler for Digits {
        type Recent = ();
        type RepeatedKey = String;

        async fn answer(&self, _: Peer, (): &(), _: Serves, _: Request<Incoming>, _: &Stop) -> Reply {
            reply::text(StatusCode::NOT_FOUND, "not the fast path's\n")
        }

        fn is_fast(target: &str) -> bool {
            is_fast(target)
        }

        async fn answer_machine(&self, _: Peer, (): &(), request: &Request<()>) -> Option<Reply> {
            self.answered.fetch_add(1, Ordering::Relaxed);
            Some(conditional::answer(Self::medium(), "a", request.headers(), *request.method() == Method::HEAD))
        }

        fn repeated_key(&self, _: Peer, request: &Request<()>) -> Option<String> {
            request.uri().path().strip_prefix("/iso/").map(str::to_owned)
        }

        fn recall(&self, (): &(), key: &String, range: Option<&str>, _: std::time::Instant) -> Option<RepeatedContent> {
            let (start, count, is_part) = match requested(range, 10) {
                RequestedRange::Part { start, count } => (start, count, true),
                RequestedRange::Whole if range.is_none() => (0, 10, false),
                RequestedRange::Whole | RequestedRange::Unsatisfiable => return None,
            };
            assert_eq!(key, "a");
            self.recalled.fetch_add(1, Ordering::Relaxed);
            Some(RepeatedContent {
                tag: "a".into(),
                whole: 10,
                media_type: None,
                is_part,
                range: MediumRange { medium: Self::medium(), start, count },
            })
        }

        fn is_known(&self, _: std::net::IpAddr) -> bool {
            false
        }

        fn record_refused(&self, _: std::net::IpAddr, _: crate::http::connection_limits::ConnectionRefusal) {}

        fn record_duration(&self, _: std::time::Duration) {
            self.recorded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends a request, and returns the status line and the body of the response, which has `length` bytes.
    async fn ask(client: &mut TcpStream, request: &str, length: usize) -> (String, String) {
        client.write_all(request.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        loop {
            client.read_buf(&mut got).await.unwrap();
            let text = String::from_utf8(got.clone()).unwrap();
            if let Some((head, body)) = text.split_once("\r\n\r\n").filter(|(_, body)| body.len() >= length) {
                return (head.lines().next().unwrap().to_owned(), body.to_owned());
            }
        }
    }

    #[tokio::test]
    async fn reads_are_answered_here_and_the_rest_goes_to_hyper_with_all_its_bytes() {
        const POST: &str = "POST /api/v1/x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut client, (server, from)) = (client.unwrap(), server.unwrap());
        let handler = Arc::new(Digits::default());
        let (_running, stop) = tokio::sync::watch::channel(false);
        let shared = handler.clone();
        let task = tokio::spawn(async move { serve(server, Peer::of_network(from, None), &*shared, &(), stop).await });
        let range = |range: &str| format!("GET /iso/a HTTP/1.1\r\nHost: b\r\nRange: bytes={range}\r\n\r\n");
        let partial = "HTTP/1.1 206 Partial Content";
        assert_eq!(ask(&mut client, &range("0-3"), 4).await, (partial.into(), "0123".into()));
        assert_eq!(ask(&mut client, &range("4-5"), 2).await, (partial.into(), "45".into()));
        let (unsatisfiable, _) = ask(&mut client, &range("10-"), 0).await;
        assert_eq!(unsatisfiable, "HTTP/1.1 416 Range Not Satisfiable");
        let whole = "GET /iso/a HTTP/1.1\r\nHost: b\r\n\r\n";
        for _ in 0..3 {
            assert_eq!(ask(&mut client, whole, 10).await, ("HTTP/1.1 200 OK".into(), "0123456789".into()));
        }
        client.write_all(POST.as_bytes()).await.unwrap();
        let UnansweredConnection { stream, read } = task.await.unwrap().unwrap();
        let mut rest = MeteredStream { stream, read, meter: None };
        drop(client);
        let mut left = String::new();
        rest.read_to_string(&mut left).await.unwrap();
        assert_eq!(left, POST);
        let counts =
            [&handler.answered, &handler.recalled, &handler.recorded].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [4, 2, 6]);
    }
}
