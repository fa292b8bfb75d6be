//! Writes answers to a connection without TLS; an ISO's bytes the kernel sends out of its page cache.

use std::io::{self, Write};
use std::os::fd::AsFd;

use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, HeaderName};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;

use crate::iso::{Extent, ImageFile};

use crate::api::machine::images::{self, Part};
use crate::http::reply::{Body, Reply, Span};

/// Is up to what length a body is copied behind its head, for one segment and one system call.
const SHORT: u64 = 16 << 10;
/// Is what the kernel is given to send at one time.
const LONG: u64 = 2 << 20;
/// Is after how many bytes one connection lets others have the thread.
const TURN: u64 = 4 << 20;

/// Writes answers, in a buffer that is used again.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    /// Is the date as it was last written, and the second that it is of.
    date: (i64, String),
}

impl Output {
    /// Sends a reply; a head alone where that was asked for.
    pub async fn send(&mut self, stream: &mut TcpStream, reply: Reply, is_head: bool, is_last: bool) -> io::Result<()> {
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
            Body::Medium(span) => self.send_medium(stream, span).await,
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

    /// Sends a part of an ISO as `send` does, without the way through a reply: `images::answer` says the same.
    pub async fn send_part(&mut self, stream: &mut TcpStream, part: Part) -> io::Result<()> {
        let Part { tag, whole, span } = part;
        let (start, count) = (span.start, span.count);
        self.bytes.clear();
        write!(
            self.bytes,
            "HTTP/1.1 206 Partial Content\r\nEtag: \"{tag}\"\r\nAccept-Ranges: bytes\r\nContent-Length: {count}\r\n\
             Content-Range: bytes {start}-{}/{whole}\r\n",
            start + count - 1,
        )?;
        self.write_date()?;
        self.send_medium(stream, span).await
    }

    /// Sends a medium's bytes behind the head that is written.
    async fn send_medium(&mut self, stream: &mut TcpStream, span: Span) -> io::Result<()> {
        if span.count > SHORT {
            // Each acknowledgement lets the kernel send what is there; corked, it sends whole segments only. That made
            // the segments of a long answer half as long again; for a short one the two calls cost more than they save.
            let is_corked = span.count > LONG;
            if is_corked {
                SockRef::from(&*stream).set_tcp_cork(true)?;
            }
            self.send_more(stream).await?;
            send_long(stream, span).await?;
            if is_corked {
                SockRef::from(&*stream).set_tcp_cork(false)?;
            }
            return Ok(());
        }
        let Span { medium, start, count } = span;
        let place = self.bytes.len();
        self.bytes.resize(place + usize::try_from(count).map_err(io::Error::other)?, 0);
        if medium.read_now(start, &mut self.bytes[place..]).is_err() {
            let bytes = images::read(&medium, start, count).await.inspect_err(images::cannot_be_read)?;
            self.bytes[place..].copy_from_slice(&bytes);
        }
        stream.write_all(&self.bytes).await
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
        self.write_date()
    }

    /// Ends a head.
    fn write_date(&mut self) -> io::Result<()> {
        let now = Timestamp::now();
        if self.date.0 != now.as_second() || self.date.1.is_empty() {
            let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).map_err(io::Error::other)?;
            self.date = (now.as_second(), date);
        }
        self.bytes.extend_from_slice(b"Date: ");
        self.bytes.extend_from_slice(self.date.1.as_bytes());
        self.bytes.extend_from_slice(b"\r\n\r\n");
        Ok(())
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
    // Is how far the bytes were found in the cache: what one call left over is not looked for again.
    let mut found = start;
    let mut turn = 0;
    while count > 0 {
        let lies = medium.lies_at(start, count.min(LONG));
        let lies = lies.filter(|(_, extent)| medium.is_cached(found.max(start), start + extent.length));
        let sent = match lies {
            Some((image, extent)) => {
                found = found.max(start + extent.length);
                send_file(stream, image, extent).await?
            }
            None => {
                let bytes = images::read(&medium, start, count.min(images::CHUNK)).await;
                let bytes = bytes.inspect_err(images::cannot_be_read)?;
                stream.write_all(&bytes).await?;
                bytes.len() as u64
            }
        };
        (start, count, turn) = (start + sent, count - sent, turn + sent);
        if turn >= TURN && count > 0 {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Lets the kernel send of a file what it takes now, and waits for room where that was not all.
async fn send_file(stream: &TcpStream, image: &ImageFile, extent: Extent) -> io::Result<u64> {
    match stream.try_io(Interest::WRITABLE, || image.send(stream, extent)) {
        Ok(sent) => {
            if sent < extent.length {
                room(stream).await?;
            }
            Ok(sent)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            stream.writable().await?;
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// Waits until the kernel says that there is room, which is when a third of its buffer is free: who fills each page
/// as it gets free makes a call for each. Asking by `poll` also sees to it that the room will be told of (tcp(7)
/// keeps no such promise where a call stopped short for another reason, as at the end of a file that was cut).
async fn room(stream: &TcpStream) -> io::Result<()> {
    let is_there = || {
        let mut asked = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut asked, PollTimeout::ZERO)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    };
    match stream.try_io(Interest::WRITABLE, is_there) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Poll;

    use hyper::HeaderMap;
    use hyper::header::{HeaderValue, RANGE};
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::images::library::ImageView;
    use crate::iso::ReadAt;

    /// Gives a connection's two ends.
    async fn ends() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    async fn answered(reply: Reply, is_head: bool) -> Vec<u8> {
        let (mut near, mut far) = ends().await;
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        Output::default().send(&mut near, reply, is_head, true).await.unwrap();
        drop(near);
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
        use crate::iso::FileWithin;
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
        let reply = crate::http::reply::text(StatusCode::NOT_FOUND, "no\n");
        let answer = answered(reply, false).await;
        let (head, body) = split(&answer);
        let kind = "Content-Type: text/plain; charset=utf-8";
        assert_eq!(head, ["HTTP/1.1 404 Not Found", kind, "Content-Length: 3", "Connection: close"]);
        assert_eq!(body, b"no\n");
        let answer = answered(crate::http::reply::text(StatusCode::OK, "yes\n"), true).await;
        let (head, body) = split(&answer);
        assert_eq!((head[2].as_str(), body), ("Content-Length: 4", &b""[..]));
        let mut unchanged = Reply::new(Body::Whole(None));
        *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
        let answer = answered(unchanged, false).await;
        assert_eq!(split(&answer).0, ["HTTP/1.1 304 Not Modified", "Connection: close"]);
    }

    #[tokio::test]
    async fn a_part_is_sent_as_a_reply_of_it_is() {
        let bytes: Vec<u8> = (0..100_000u32).flat_map(|word| word.to_le_bytes()).collect();
        let seen = ImageView {
            medium: Arc::new(crate::iso::Memory(bytes.into())),
            tag: "a tag".into(),
            warnings: Arc::default(),
            carries: None,
        };
        for (start, count) in [(0, 1), (2048, 2048), (10_000, 70_000)] {
            let range = HeaderValue::try_from(format!("bytes={start}-{}", start + count - 1)).unwrap();
            let headers = HeaderMap::from_iter([(RANGE, range)]);
            let (mut near, mut far) = ends().await;
            let mut output = Output::default();
            output.send(&mut near, images::answer(seen.clone(), &headers, false), false, false).await.unwrap();
            let mut reply = vec![0; output.bytes.len() + if count > SHORT { count as usize } else { 0 }];
            far.read_exact(&mut reply).await.unwrap();
            let span = Span { medium: seen.medium.clone(), start, count };
            let part = Part { tag: seen.tag.clone(), whole: seen.medium.len(), span };
            output.send_part(&mut near, part).await.unwrap();
            drop(near);
            let mut same = Vec::new();
            far.read_to_end(&mut same).await.unwrap();
            assert_eq!(split(&same), split(&reply), "{start} {count}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_cut_while_it_is_sent_ends_the_answer() {
        const LEFT: usize = 2_000_000;
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32).flat_map(|word| word.to_le_bytes()).collect();
        file.write_all(&bytes).unwrap();
        let whole: Arc<dyn ReadAt> = Arc::new(ImageFile::new(file.try_clone().unwrap()).unwrap());
        let (mut near, mut far) = ends().await;
        SockRef::from(&near).set_send_buffer_size(128 << 10).unwrap();
        let mut output = Output::default();
        let reply = Reply::new(Body::Medium(Span { medium: whole, start: 0, count: bytes.len() as u64 }));
        let mut sending = std::pin::pin!(output.send(&mut near, reply, false, false));
        // Nobody reads yet: it has sent what the buffers take, far less than what will be left of the file.
        let is_waiting = std::future::poll_fn(|context| Poll::Ready(sending.as_mut().poll(context).is_pending()));
        assert!(is_waiting.await);
        file.set_len(LEFT as u64).unwrap();
        let (mut got, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        let both = async {
            loop {
                tokio::select! {
                    ended = sending.as_mut() => return ended,
                    count = far.read(&mut buffer) => got.extend_from_slice(&buffer[..count.unwrap()]),
                }
            }
        };
        let ended = tokio::time::timeout(std::time::Duration::from_secs(10), both).await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (_, body) = split(&got);
        assert!(body.len() > 1_000_000 && body == &bytes[..body.len()]);
    }
}
