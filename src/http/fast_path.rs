//! The short way for what machines read: a GET of a script, an ISO or a boot program, on a connection without TLS.
//!
//! The same routes answer as behind hyper; what is spared is hyper's machinery for requests that have bodies, and
//! above all the copy of an ISO's bytes: the kernel sends them out of its page cache. Whatever is not plainly such a
//! request, the connection goes to hyper with all that was read of it, and stays there.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::{Method, Request, Uri};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::machine::images::Memory;
use crate::api::router;
use crate::http::listener::{HEADER_WAIT, HEADERS, told};
use crate::http::listener::{Peer, Shared};
use crate::http::repeated_range::Recurring;
use crate::http::writer::Output;

/// Bounds the head of a request that is answered here; hyper takes longer ones.
const HEAD: usize = 8 << 10;

/// Is a connection that hyper is to go on with, and what was already read of it.
#[derive(Debug)]
pub struct HandedOn {
    stream: TcpStream,
    read: Bytes,
}

/// Is what a connection's next bytes are.
#[allow(clippy::large_enum_variant, reason = "one lives at a time, on the stack; a box would cost each request one")]
enum Next {
    /// A request, how long its head is, and whether the connection ends after its answer.
    Request(Request<()>, usize, bool),
    /// The beginning of one.
    Unfinished,
    /// Hyper's.
    Other,
}

/// Answers requests until one is hyper's; nothing where the connection has ended.
pub async fn serve(
    mut stream: TcpStream,
    peer: Peer,
    shared: &Shared,
    memory: &Memory,
    mut shutdown: watch::Receiver<bool>,
) -> Option<HandedOn> {
    let mut input = Vec::with_capacity(HEAD);
    let mut output = Output::default();
    let mut recurring: Option<Recurring> = None;
    let mut since = Instant::now();
    let has_to_stop = shutdown.clone();
    // Both are made once, and not for each request: what they register with costs more than reading one.
    let mut stop = std::pin::pin!(told(&mut shutdown));
    let mut alarm = std::pin::pin!(tokio::time::sleep_until(since + HEADER_WAIT));
    loop {
        let part = recurring.as_ref().and_then(|recurring| recurring.part(shared, memory, &input));
        if let Some((part, length)) = part {
            input.drain(..length);
            if !is_sent(output.send_part(&mut stream, part).await, peer) || *has_to_stop.borrow() {
                return None;
            }
            since = Instant::now();
            continue;
        }
        let (request, length, is_last) = match next(&input) {
            Next::Request(request, length, is_last) => (request, length, is_last),
            Next::Unfinished if input.len() < HEAD => {
                let count = tokio::select! {
                    biased;
                    read = stream.read_buf(&mut input) => read.ok()?,
                    () = stop.as_mut() => return None,
                    () = alarm.as_mut() => {
                        if since.elapsed() >= HEADER_WAIT {
                            return None;
                        }
                        alarm.as_mut().reset(since + HEADER_WAIT);
                        continue;
                    }
                };
                match count {
                    0 => return None,
                    _ => continue,
                }
            }
            Next::Unfinished | Next::Other => return Some(HandedOn { stream, read: input.into() }),
        };
        let Some(reply) = router::answer_machine(shared, peer, memory, &request).await else {
            return Some(HandedOn { stream, read: input.into() });
        };
        recurring = Recurring::of(&input[..length], &request).filter(|_| !is_last);
        input.drain(..length);
        let is_head = *request.method() == Method::HEAD;
        let is_sent = is_sent(output.send(&mut stream, reply, is_head, is_last).await, peer);
        if !is_sent || is_last || *has_to_stop.borrow() {
            return None;
        }
        since = Instant::now();
    }
}

fn is_sent(sent: io::Result<()>, peer: Peer) -> bool {
    sent.inspect_err(|error| tracing::debug!(%error, ?peer, "a connection ended badly")).is_ok()
}

/// Reads what is there as a request that is answered here.
fn next(input: &[u8]) -> Next {
    if input.is_empty() {
        return Next::Unfinished;
    }
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(input, &mut headers) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Next::Unfinished,
        Err(_) => return Next::Other,
    };
    let method = match parsed.method {
        Some("GET") => Method::GET,
        Some("HEAD") => Method::HEAD,
        _ => return Next::Other,
    };
    let Some(path) = parsed.path.filter(|path| parsed.version == Some(1) && is_machines(path)) else {
        return Next::Other;
    };
    let Ok(uri) = Uri::try_from(path) else { return Next::Other };
    let mut request = Request::new(());
    (*request.method_mut(), *request.uri_mut()) = (method, uri);
    let mut is_last = false;
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(header.value)) else { return Next::Other };
        match name {
            CONTENT_LENGTH | TRANSFER_ENCODING | EXPECT | UPGRADE => return Next::Other,
            CONNECTION if value.as_bytes().eq_ignore_ascii_case(b"close") => is_last = true,
            CONNECTION if value.as_bytes().eq_ignore_ascii_case(b"keep-alive") => {}
            CONNECTION => return Next::Other,
            _ => {}
        }
        request.headers_mut().append(name, value);
    }
    Next::Request(request, length, is_last)
}

/// Says whether a path is one that machines read often.
fn is_machines(path: &str) -> bool {
    ["/ipxe?", "/iso/", "/media/", "/files/", "/boot/", "/boot.ipxe"].iter().any(|first| path.starts_with(first))
}

impl AsyncRead for HandedOn {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let count = self.read.len().min(into.remaining());
        into.put_slice(&self.read[..count]);
        self.read.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HandedOn {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says what a connection's first bytes are: a request's target and whether it is the last, or whose it is.
    fn told_of(input: &str) -> String {
        match next(input.as_bytes()) {
            Next::Request(request, length, is_last) => {
                format!("{} {} {length} {is_last}", request.method(), request.uri())
            }
            Next::Unfinished => "unfinished".into(),
            Next::Other => "hyper's".into(),
        }
    }

    #[test]
    fn only_plain_reads_of_machines_are_answered_here() {
        let rows = [
            ("GET /iso/a HTTP/1.1\r\nHost: b\r\n\r\n", "GET /iso/a 32 false"),
            ("GET /iso/a HTTP/1.1\r\nHost: b\r\n\r\nGET /x", "GET /iso/a 32 false"),
            ("HEAD /media/t/a.iso HTTP/1.1\r\n\r\n", "HEAD /media/t/a.iso 32 false"),
            ("GET /ipxe?mac=1 HTTP/1.1\r\nConnection: Close\r\n\r\n", "GET /ipxe?mac=1 47 true"),
            ("GET /ipxe?mac=1 HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", "GET /ipxe?mac=1 52 false"),
            ("GET /iso/a HTTP/1.1\r\nHost", "unfinished"),
            ("", "unfinished"),
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
            assert_eq!(told_of(input), expected, "{input:?}");
        }
    }

    #[test]
    fn a_header_more_than_hyper_takes_is_hypers_to_refuse() {
        let many = "a: b\r\n".repeat(HEADERS + 1);
        assert_eq!(told_of(&format!("GET /iso/a HTTP/1.1\r\n{many}\r\n")), "hyper's");
    }
}
