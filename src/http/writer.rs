//! Writes responses to a connection without TLS. The kernel sends an image's bytes from its page cache.

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

use crate::http::delivery::FollowedBody;
use crate::http::reply::{self, Body, MediumRange, RepeatedContent, Reply};
use crate::iso::{Extent, ImageFile};

/// Maximum body size that is sent in the same write as the head, in bytes.
const MAX_COPIED_BYTES: u64 = 16 << 10;
/// Maximum number of bytes that one `sendfile` is given.
const MAX_SENDFILE_BYTES: u64 = 2 << 20;
/// Maximum number of bytes that a connection sends before it yields its thread.
const MAX_BYTES_BEFORE_YIELD: u64 = 4 << 20;

/// A writer of responses with a buffer that it reuses.
#[derive(Debug, Default)]
pub struct ResponseWriter {
    /// Bytes of the response that is being written.
    bytes: Vec<u8>,
    /// Second of the last `Date` header, and its text.
    date: (i64, String),
    /// The body that is sent, or was sent last.
    pub followed: FollowedBody,
}

impl ResponseWriter {
    /// Sends a reply; only its head for a HEAD request.
    ///
    /// # Errors
    /// The connection's error, the medium's read error, or a streamed body, which only hyper sends.
    pub async fn send(&mut self, stream: &mut TcpStream, reply: Reply, is_head: bool, is_last: bool) -> io::Result<()> {
        let (head, body) = reply.into_parts();
        let (body, delivery) = match body {
            Body::Followed(range, delivery) => (Body::Medium(range), Some(delivery)),
            body => (body, None),
        };
        self.followed.begin(delivery);
        let length = match &body {
            Body::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Body::Medium(range) => range.count,
            // What the fast path answers has a known length.
            Body::Followed(..) | Body::Stream(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        self.bytes.clear();
        self.write_head(&head, length, is_last)?;
        match body {
            _ if is_head => stream.write_all(&self.bytes).await,
            Body::Medium(range) => self.send_medium(stream, range).await,
            Body::Whole(bytes) => {
                let bytes = bytes.unwrap_or_default();
                if length <= MAX_COPIED_BYTES {
                    self.bytes.extend_from_slice(&bytes);
                    return stream.write_all(&self.bytes).await;
                }
                self.send_more(stream).await?;
                stream.write_all(&bytes).await
            }
            Body::Followed(..) | Body::Stream(_) => Ok(()),
        }
    }

    /// Sends bytes of a medium as `send` sends the reply of `conditional::answer`, without making that reply.
    ///
    /// # Errors
    /// As `send`.
    pub async fn send_repeated(&mut self, stream: &mut TcpStream, content: RepeatedContent) -> io::Result<()> {
        // A client that pipelines its requests leaves the others their turn.
        tokio::task::coop::consume_budget().await;
        self.followed.begin(None);
        let RepeatedContent { tag, whole, media_type, is_part, range } = content;
        let (start, count) = (range.start, range.count);
        self.bytes.clear();
        let status = if is_part { "206 Partial Content" } else { "200 OK" };
        write!(
            self.bytes,
            "HTTP/1.1 {status}\r\nEtag: \"{tag}\"\r\nAccept-Ranges: bytes\r\nContent-Length: {count}\r\n",
        )?;
        if is_part {
            write!(self.bytes, "Content-Range: bytes {start}-{}/{whole}\r\n", start + count - 1)?;
        }
        if let Some(media_type) = media_type {
            write!(self.bytes, "Content-Type: {media_type}\r\n")?;
        }
        self.write_end()?;
        self.send_medium(stream, range).await
    }

    /// Sends a medium's bytes after the head that is in the buffer.
    async fn send_medium(&mut self, stream: &mut TcpStream, range: MediumRange) -> io::Result<()> {
        if range.count > MAX_COPIED_BYTES {
            // At each acknowledgement the kernel sends what is there; corked, it sends whole segments only. That made
            // the segments of a long response 50 % longer; for a short one the two calls cost more than they save.
            let is_corked = range.count > MAX_SENDFILE_BYTES;
            if is_corked {
                SockRef::from(&*stream).set_tcp_cork(true)?;
            }
            self.send_more(stream).await?;
            send_long(stream, range, &mut self.followed).await?;
            if is_corked {
                SockRef::from(&*stream).set_tcp_cork(false)?;
            }
            return Ok(());
        }
        let MediumRange { medium, start, count } = range;
        let place = self.bytes.len();
        self.bytes.resize(place + usize::try_from(count).map_err(io::Error::other)?, 0);
        if medium.try_read_at(start, &mut self.bytes[place..]).is_err() {
            let bytes = reply::read(&medium, start, count).await.inspect_err(reply::log_read_error)?;
            self.bytes[place..].copy_from_slice(&bytes);
        }
        stream.write_all(&self.bytes).await?;
        self.followed.add(stream, count);
        Ok(())
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
        // A 304 must not send the length of its empty body (RFC 9110, section 8.6).
        if !head.headers.contains_key(CONTENT_LENGTH) && head.status != StatusCode::NOT_MODIFIED {
            write!(out, "Content-Length: {length}\r\n")?;
        }
        if is_last {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        self.write_end()
    }

    /// Writes the fields of every response and the end of the head.
    fn write_end(&mut self) -> io::Result<()> {
        let now = Timestamp::now();
        if self.date.0 != now.as_second() || self.date.1.is_empty() {
            let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).map_err(io::Error::other)?;
            self.date = (now.as_second(), date);
        }
        self.bytes.extend_from_slice(b"X-Content-Type-Options: nosniff\r\nDate: ");
        self.bytes.extend_from_slice(self.date.1.as_bytes());
        self.bytes.extend_from_slice(b"\r\n\r\n");
        Ok(())
    }

    /// Sends a head that bytes follow: with MSG_MORE the kernel waits for them to fill its segments.
    async fn send_more(&self, stream: &mut TcpStream) -> io::Result<()> {
        let send = || SockRef::from(&*stream).send_with_flags(&self.bytes, nix::libc::MSG_MORE);
        let sent = match stream.try_io(Interest::WRITABLE, send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            sent => sent?,
        };
        stream.write_all(&self.bytes[sent..]).await
    }
}

/// Writes a field name in title case: GRUB 2.12 matches names by case.
fn write_name(out: &mut Vec<u8>, name: &HeaderName) {
    let mut is_first = true;
    for octet in name.as_str().bytes() {
        out.push(if is_first { octet.to_ascii_uppercase() } else { octet });
        is_first = octet == b'-';
    }
}

/// Sends a medium's bytes: by the kernel those that are in a file and in its cache; the others are read here.
async fn send_long(stream: &mut TcpStream, range: MediumRange, followed: &mut FollowedBody) -> io::Result<()> {
    let MediumRange { medium, mut start, mut count } = range;
    // End of the bytes that were found in the cache: the rest of a short `sendfile` is not looked up again.
    let mut found = start;
    let mut turn = 0;
    while count > 0 {
        let in_file = medium.file_extent(start, count.min(MAX_SENDFILE_BYTES));
        let in_file = in_file.filter(|(_, extent)| medium.is_cached(found.max(start), start + extent.length));
        let sent = match in_file {
            Some((image, extent)) => {
                found = found.max(start + extent.length);
                send_file(stream, image, extent, followed).await?
            }
            None => {
                let bytes = reply::read(&medium, start, count.min(reply::MAX_CHUNK_BYTES)).await;
                let bytes = bytes.inspect_err(reply::log_read_error)?;
                stream.write_all(&bytes).await?;
                followed.add(stream, bytes.len() as u64);
                bytes.len() as u64
            }
        };
        (start, count, turn) = (start + sent, count - sent, turn + sent);
        if turn >= MAX_BYTES_BEFORE_YIELD && count > 0 {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Sends as much of a file as the socket takes now, and waits for space if bytes are left.
async fn send_file(
    stream: &TcpStream,
    image: &ImageFile,
    extent: Extent,
    followed: &mut FollowedBody,
) -> io::Result<u64> {
    match stream.try_io(Interest::WRITABLE, || image.send(stream, extent)) {
        Ok(sent) => {
            followed.add(stream, sent);
            if sent < extent.length {
                wait_for_room(stream, followed).await?;
            }
            Ok(sent)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            followed.writable(stream).await?;
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// Waits until a third of the socket's buffer is free, which is when the kernel reports it writable: filling each page
/// as it gets free costs a call for each. The `poll` also makes sure that the kernel will report it (after a call that
/// stopped short for another reason, as at the end of a truncated file, it need not).
async fn wait_for_room(stream: &TcpStream, followed: &mut FollowedBody) -> io::Result<()> {
    let is_writable = || {
        let mut polled = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut polled, PollTimeout::ZERO)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    };
    match stream.try_io(Interest::WRITABLE, is_writable) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => followed.writable(stream).await,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Poll;

    use hyper::HeaderMap;
    use hyper::header::{CONTENT_TYPE, HeaderValue, RANGE};
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::http::conditional;
    use crate::iso::ReadAt;

    /// Returns the two ends of a connection.
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
        ResponseWriter::default().send(&mut near, reply, is_head, true).await.unwrap();
        drop(near);
        reader.await.unwrap()
    }

    /// Splits a response into the lines of its head, without the date, and its body.
    fn split(answer: &[u8]) -> (Vec<String>, &[u8]) {
        let end = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let is_common = |line: &String| line.starts_with("Date: ") || line.starts_with("X-");
        let (common, lines): (Vec<_>, Vec<_>) = head.split("\r\n").map(str::to_owned).partition(is_common);
        assert!(common.len() == 2 && common[1].ends_with(" GMT"), "{common:?}");
        assert_eq!(common[0], "X-Content-Type-Options: nosniff");
        (lines, &answer[end + 4..])
    }

    #[tokio::test]
    async fn bytes_arrive_unchanged_by_every_way_of_sending() {
        use crate::iso::FileInImage;
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32).flat_map(|word| word.to_le_bytes()).collect();
        file.write_all(&bytes).unwrap();
        let whole: Arc<dyn ReadAt> = Arc::new(ImageFile::new(file).unwrap());
        let extents = [Extent { offset: 7_000_000, length: 700_001 }, Extent { offset: 3, length: 1_000_000 }];
        let within: Arc<dyn ReadAt> = Arc::new(FileInImage::new(whole.clone(), extents.to_vec()));
        let parts = [&bytes[7_000_000..7_700_001], &bytes[3..1_000_003]].concat();
        let memory: Arc<dyn ReadAt> = Arc::new(crate::iso::MemoryImage(bytes.clone().into()));
        for (medium, bytes) in [(whole, &bytes), (within, &parts), (memory, &bytes)] {
            for (start, count) in [(0, bytes.len()), (5, 1), (700_000, 16 << 10), (699_999, (16 << 10) + 1)] {
                let range = MediumRange { medium: medium.clone(), start: start as u64, count: count as u64 };
                let answer = answered(Reply::new(Body::Medium(range)), false).await;
                let (head, body) = split(&answer);
                assert_eq!(head[1..], [format!("Content-Length: {count}"), "Connection: close".into()]);
                assert!(body == &bytes[start..start + count], "{start} {count}");
            }
        }
    }

    #[tokio::test]
    async fn a_head_is_written_as_by_hyper() {
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
    async fn a_part_is_sent_as_its_reply_would_be() {
        let bytes: Vec<u8> = (0..100_000u32).flat_map(|word| word.to_le_bytes()).collect();
        let medium: Arc<dyn ReadAt> = Arc::new(crate::iso::MemoryImage(bytes.into()));
        let rows = [(0, 1, None), (2048, 2048, Some("text/plain")), (10_000, 70_000, None), (0, 400_000, None)];
        for (start, count, media_type) in rows {
            let is_part = count < 400_000;
            let range = HeaderValue::try_from(format!("bytes={start}-{}", start + count - 1)).unwrap();
            let headers = HeaderMap::from_iter(is_part.then_some((RANGE, range)));
            let (mut near, mut far) = ends().await;
            let mut output = ResponseWriter::default();
            let mut reply = conditional::answer(medium.clone(), "a tag", &headers, false);
            if let Some(media_type) = media_type {
                reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            }
            output.send(&mut near, reply, false, false).await.unwrap();
            let mut reply = vec![0; output.bytes.len() + if count > MAX_COPIED_BYTES { count as usize } else { 0 }];
            far.read_exact(&mut reply).await.unwrap();
            let range = MediumRange { medium: medium.clone(), start, count };
            let part = RepeatedContent { tag: "a tag".into(), whole: medium.len(), media_type, is_part, range };
            output.send_repeated(&mut near, part).await.unwrap();
            drop(near);
            let mut same = Vec::new();
            far.read_to_end(&mut same).await.unwrap();
            assert_eq!(split(&same), split(&reply), "{start} {count}");
        }
    }

    #[tokio::test]
    async fn a_file_truncated_while_it_is_sent_ends_the_response() {
        const LEFT: usize = 2_000_000;
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32).flat_map(|word| word.to_le_bytes()).collect();
        file.write_all(&bytes).unwrap();
        let whole: Arc<dyn ReadAt> = Arc::new(ImageFile::new(file.try_clone().unwrap()).unwrap());
        let (mut near, mut far) = ends().await;
        SockRef::from(&near).set_send_buffer_size(128 << 10).unwrap();
        let mut output = ResponseWriter::default();
        let reply = Reply::new(Body::Medium(MediumRange { medium: whole, start: 0, count: bytes.len() as u64 }));
        let mut sending = std::pin::pin!(output.send(&mut near, reply, false, false));
        // Nobody reads yet: the buffers take far less than what the truncated file will hold.
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
