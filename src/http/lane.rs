//! The short way for what machines read: a GET of a script, an ISO or a boot program, on a connection without TLS.
//!
//! The same routes answer as behind hyper; what is spared is hyper's machinery for requests that have bodies, and
//! above all the copy of an ISO's bytes: the kernel sends them out of its page cache. Whatever is not plainly such a
//! request, the connection goes to hyper with all that was read of it, and stays there.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::{Method, Request, StatusCode, Uri};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::image::{self, Memory};
use super::reply::{Body, Reply, Span};
use super::serve::{HEADER_WAIT, HEADERS, told};
use super::{Peer, Shared, routes};

/// Bounds the head of a request that is answered here; hyper takes longer ones.
const HEAD: usize = 8 << 10;
/// Is up to what length a body is copied behind its head, for one segment and one system call.
const SHORT: u64 = 16 << 10;
/// Is what the kernel is given to send at one time.
const LONG: u64 = 512 << 10;
/// Is how far apart it is asked whether bytes are in the page cache, before the kernel is given them: it reads
/// ahead by so much at least, and a page that was lost in between costs this thread one read of the disk.
const PROBES: usize = 128 << 10;
/// Is after how many turns of sending one connection lets others have the thread.
const TURNS: u32 = 8;

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
    let mut since = Instant::now();
    let has_to_stop = shutdown.clone();
    // Both are made once, and not for each request: what they register with costs more than reading one.
    let mut stop = std::pin::pin!(told(&mut shutdown));
    let mut alarm = std::pin::pin!(tokio::time::sleep_until(since + HEADER_WAIT));
    loop {
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
        let Some(reply) = routes::answer_machine(shared, peer, memory, &request).await else {
            return Some(HandedOn { stream, read: input.into() });
        };
        input.drain(..length);
        let is_head = *request.method() == Method::HEAD;
        if let Err(error) = output.send(&mut stream, reply, is_head, is_last).await {
            tracing::debug!(%error, ?peer, "a connection ended badly");
            return None;
        }
        if is_last || *has_to_stop.borrow() {
            return None;
        }
        since = Instant::now();
    }
}

/// Reads what is there as a request that is answered here.
fn next(input: &[u8]) -> Next {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(input) {
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

/// Writes answers, in a buffer that is used again.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    /// Is the date as it was last written, and the second that it is of.
    date: (i64, String),
}

impl Output {
    async fn send(&mut self, stream: &mut TcpStream, reply: Reply, is_head: bool, is_last: bool) -> io::Result<()> {
        let (head, body) = reply.into_parts();
        let length = match &body {
            Body::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Body::Medium(span) => span.count,
            // What machines read is never of unknown length.
            Body::Parts(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        self.bytes.clear();
        self.write_head(&head, length, is_last)?;
        match body {
            _ if is_head => stream.write_all(&self.bytes).await,
            Body::Medium(span) if length > SHORT => {
                self.send_more(stream).await?;
                send_long(stream, span).await
            }
            Body::Medium(Span { medium, start, count }) => {
                let place = self.bytes.len();
                self.bytes.resize(place + usize::try_from(count).map_err(io::Error::other)?, 0);
                if medium.read_now(start, &mut self.bytes[place..]).is_err() {
                    let bytes = image::read(&medium, start, count).await.inspect_err(image::cannot_be_read)?;
                    self.bytes[place..].copy_from_slice(&bytes);
                }
                stream.write_all(&self.bytes).await
            }
            Body::Whole(bytes) => {
                let bytes = bytes.unwrap_or_default();
                if length <= SHORT {
                    self.bytes.extend_from_slice(&bytes);
                    return stream.write_all(&self.bytes).await;
                }
                self.send_more(stream).await?;
                stream.write_all(&bytes).await
            }
            Body::Parts(_) => Ok(()),
        }
    }

    fn write_head(&mut self, head: &hyper::http::response::Parts, length: u64, is_last: bool) -> io::Result<()> {
        let out = &mut self.bytes;
        write!(out, "HTTP/1.1 {} {}\r\n", head.status.as_str(), head.status.canonical_reason().unwrap_or_default())?;
        for (name, value) in &head.headers {
            write_name(out, name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        // A 304 tells the length of nothing (RFC 9110 8.6).
        if !head.headers.contains_key(CONTENT_LENGTH) && head.status != StatusCode::NOT_MODIFIED {
            write!(out, "Content-Length: {length}\r\n")?;
        }
        if is_last {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        let now = Timestamp::now();
        if self.date.0 != now.as_second() || self.date.1.is_empty() {
            let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).map_err(io::Error::other)?;
            self.date = (now.as_second(), date);
        }
        write!(out, "Date: {}\r\n\r\n", self.date.1)
    }

    /// Sends a head that bytes follow: the kernel waits for them and fills its segments.
    async fn send_more(&self, stream: &mut TcpStream) -> io::Result<()> {
        let send = || SockRef::from(&*stream).send_with_flags(&self.bytes, nix::libc::MSG_MORE);
        let sent = match stream.try_io(Interest::WRITABLE, send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            sent => sent?,
        };
        stream.write_all(&self.bytes[sent..]).await
    }
}

/// Writes a header's name by title case: GRUB 2.12 reads names by case.
fn write_name(out: &mut Vec<u8>, name: &HeaderName) {
    let mut is_first = true;
    for octet in name.as_str().bytes() {
        out.push(if is_first { octet.to_ascii_uppercase() } else { octet });
        is_first = octet == b'-';
    }
}

/// Sends a medium's bytes: the kernel takes those that lie in a file and in its cache, the others are read here.
async fn send_long(stream: &mut TcpStream, span: Span) -> io::Result<()> {
    let Span { medium, mut start, mut count } = span;
    let mut turns = 0;
    while count > 0 {
        let lies =
            medium.lies_at(start, count.min(LONG)).filter(|(_, extent)| is_cached(&medium, start, extent.length));
        let sent = match lies {
            Some((image, extent)) => {
                let (mut offset, length) = (extent.offset, usize::try_from(extent.length).map_err(io::Error::other)?);
                let send = || Ok(rustix::fs::sendfile(&*stream, image.file(), Some(&mut offset), length)?);
                match stream.try_io(Interest::WRITABLE, send) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(sent) => sent as u64,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        stream.writable().await?;
                        0
                    }
                    Err(error) => return Err(error),
                }
            }
            None => {
                let bytes = image::read(&medium, start, count.min(image::CHUNK)).await;
                let bytes = bytes.inspect_err(image::cannot_be_read)?;
                stream.write_all(&bytes).await?;
                bytes.len() as u64
            }
        };
        (start, count) = (start + sent, count - sent);
        turns += 1;
        if turns % TURNS == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Says whether the kernel can send these bytes without waiting for a disk, as far as that shows.
fn is_cached(medium: &Arc<dyn crate::iso::ReadAt>, start: u64, length: u64) -> bool {
    let last = length.saturating_sub(1);
    let mut places = (0..length).step_by(PROBES).chain([last]);
    places.all(|place| medium.read_now(start + place, &mut [0]).is_ok())
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

    async fn answered(reply: Reply, is_head: bool) -> Vec<u8> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let reader = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            all
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        Output::default().send(&mut stream, reply, is_head, true).await.unwrap();
        drop(stream);
        reader.await.unwrap()
    }

    /// Splits an answer into the lines of its head, without the date, and its body.
    fn split(answer: &[u8]) -> (Vec<String>, &[u8]) {
        let end = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let (date, lines): (Vec<_>, Vec<_>) =
            head.split("\r\n").map(str::to_owned).partition(|line| line.starts_with("Date: "));
        assert!(date.len() == 1 && date[0].ends_with(" GMT"), "{date:?}");
        (lines, &answer[end + 4..])
    }

    #[tokio::test]
    async fn bytes_arrive_as_they_lie_whichever_way_they_take() {
        use crate::iso::{Extent, FileWithin, ImageFile, ReadAt};
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32).flat_map(|word| word.to_le_bytes()).collect();
        file.write_all(&bytes).unwrap();
        let whole: Arc<dyn ReadAt> = Arc::new(ImageFile::new(file).unwrap());
        let extents = [Extent { offset: 7_000_000, length: 700_001 }, Extent { offset: 3, length: 1_000_000 }];
        let within: Arc<dyn ReadAt> = Arc::new(FileWithin::new(whole.clone(), extents.to_vec()));
        let parts = [&bytes[7_000_000..7_700_001], &bytes[3..1_000_003]].concat();
        let memory: Arc<dyn ReadAt> = Arc::new(crate::iso::Memory(bytes.clone().into()));
        for (medium, bytes) in [(whole, &bytes), (within, &parts), (memory, &bytes)] {
            for (start, count) in [(0, bytes.len()), (5, 1), (700_000, 16 << 10), (699_999, (16 << 10) + 1)] {
                let span = Span { medium: medium.clone(), start: start as u64, count: count as u64 };
                let answer = answered(Reply::new(Body::Medium(span)), false).await;
                let (head, body) = split(&answer);
                assert_eq!(head[1..], [format!("Content-Length: {count}"), "Connection: close".into()]);
                assert!(body == &bytes[start..start + count], "{start} {count}");
            }
        }
    }

    #[tokio::test]
    async fn a_head_is_written_as_hyper_does() {
        let reply = super::super::reply::text(StatusCode::NOT_FOUND, "no\n");
        let answer = answered(reply, false).await;
        let (head, body) = split(&answer);
        let kind = "Content-Type: text/plain; charset=utf-8";
        assert_eq!(head, ["HTTP/1.1 404 Not Found", kind, "Content-Length: 3", "Connection: close"]);
        assert_eq!(body, b"no\n");
        let answer = answered(super::super::reply::text(StatusCode::OK, "yes\n"), true).await;
        let (head, body) = split(&answer);
        assert_eq!((head[2].as_str(), body), ("Content-Length: 4", &b""[..]));
        let mut unchanged = Reply::new(Body::Whole(None));
        *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
        let answer = answered(unchanged, false).await;
        assert_eq!(split(&answer).0, ["HTTP/1.1 304 Not Modified", "Connection: close"]);
    }
}
