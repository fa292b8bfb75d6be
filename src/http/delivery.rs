//! Follows the body of a reply until the client has acknowledged its last byte, or the connection ends.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

/// Interval between reports of a body that is under way.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// First pause before the kernel is asked again how much the client has acknowledged.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Longest pause before the kernel is asked again.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// Time without an acknowledgement after which the end of a connection is not the client's.
const SILENCE: Duration = Duration::from_secs(8);

/// What became of the body of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// Bytes are sent.
    UnderWay,
    /// The client has every byte.
    Complete,
    /// The client ended the connection before.
    Aborted,
    /// The connection ended before, after the client had acknowledged nothing for a while.
    Silent,
}

/// The receiver of reports: the state, and the number of bytes that the client has.
type DeliveryReport = Box<dyn Fn(DeliveryState, u64) + Send + Sync>;

/// A body on its way to the client. One that is dropped before its end was aborted.
pub struct FollowedDelivery {
    report: DeliveryReport,
    /// Bytes that the client has, as far as it is known.
    sent: u64,
    /// The number of bytes in the last report.
    reported: u64,
    changed_at: Instant,
    reported_at: Instant,
    is_over: bool,
}

impl std::fmt::Debug for FollowedDelivery {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("FollowedDelivery")
            .field("sent", &self.sent)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

impl FollowedDelivery {
    /// Follows a body that is about to be sent. `report` gets its progress each second at most, and its end once.
    pub fn new(report: impl Fn(DeliveryState, u64) + Send + Sync + 'static) -> Self {
        let now = Instant::now();
        Self { report: Box::new(report), sent: 0, reported: 0, changed_at: now, reported_at: now, is_over: false }
    }

    /// Records how many bytes the client has.
    pub fn advance(&mut self, sent: u64) {
        let sent = sent.max(self.sent);
        if sent == self.reported {
            return;
        }
        let now = Instant::now();
        if sent > self.sent {
            (self.sent, self.changed_at) = (sent, now);
        }
        if now.duration_since(self.reported_at) >= REPORT_INTERVAL {
            (self.reported, self.reported_at) = (sent, now);
            (self.report)(DeliveryState::UnderWay, sent);
        }
    }

    /// Records that the client has all `size` bytes.
    pub fn complete(mut self, size: u64) {
        self.is_over = true;
        (self.report)(DeliveryState::Complete, size);
    }
}

impl Drop for FollowedDelivery {
    fn drop(&mut self) {
        if !self.is_over {
            let is_silent = self.changed_at.elapsed() >= SILENCE;
            let state = if is_silent { DeliveryState::Silent } else { DeliveryState::Aborted };
            (self.report)(state, self.sent);
        }
    }
}

/// The body that a connection sends, or has sent last.
#[derive(Debug, Default)]
pub struct FollowedBody(Option<(FollowedDelivery, u64)>);

impl FollowedBody {
    /// Follows the next body. The client of the one before has it: it has sent another request.
    pub fn begin(&mut self, delivery: Option<FollowedDelivery>) {
        self.complete();
        self.0 = delivery.map(|delivery| (delivery, 0));
    }

    /// Returns whether a body is not known to have arrived.
    pub fn is_pending(&self) -> bool {
        self.0.is_some()
    }

    /// Records that some more bytes of the body were passed to the kernel.
    pub fn add(&mut self, stream: &TcpStream, count: u64) {
        if let Some((delivery, written)) = &mut self.0 {
            *written += count;
            delivery.advance(written.saturating_sub(unacknowledged(stream)));
        }
    }

    /// Waits until the connection takes more bytes, and follows meanwhile what the client acknowledges.
    ///
    /// # Errors
    /// The connection's error.
    pub async fn writable(&mut self, stream: &TcpStream) -> io::Result<()> {
        loop {
            tokio::select! {
                ready = stream.writable() => return ready,
                () = tokio::time::sleep(REPORT_INTERVAL), if self.is_pending() => self.add(stream, 0),
            }
        }
    }

    /// Waits until the client has acknowledged all that was written, or the connection is closed.
    pub async fn settled(&mut self, stream: &TcpStream) {
        let mut pause = FIRST_PAUSE;
        // The kernel tells when a byte can be written, and not when the last one was acknowledged.
        while !self.is_acknowledged(stream) {
            if stream.peer_addr().is_err() {
                return self.abort();
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    /// Ends the body of a connection that failed while it was written.
    pub fn fail(&mut self, stream: &TcpStream) {
        if let Some((delivery, written)) = &mut self.0 {
            delivery.advance(written.saturating_sub(unacknowledged(stream)));
        }
        self.abort();
    }

    fn abort(&mut self) {
        self.0 = None;
    }

    fn is_acknowledged(&mut self, stream: &TcpStream) -> bool {
        let Some((delivery, written)) = &mut self.0 else { return true };
        let left = unacknowledged(stream);
        delivery.advance(written.saturating_sub(left));
        if left == 0 {
            self.complete();
        }
        left == 0
    }

    fn complete(&mut self) {
        if let Some((delivery, written)) = self.0.take() {
            delivery.complete(written);
        }
    }
}

/// Returns the number of bytes in the send queue of a connection that its peer has not acknowledged (SIOCOUTQ, tcp(7)).
/// After a reset these are the bytes that were not acknowledged before it.
fn unacknowledged(stream: &TcpStream) -> u64 {
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the kernel writes one int to the place that it is given.
    let result = unsafe { libc::ioctl(stream.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result == 0 { u64::try_from(count).unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    type Reports = Arc<Mutex<Vec<(DeliveryState, u64)>>>;

    fn delivery() -> (FollowedDelivery, Reports) {
        let reports = Reports::default();
        let to = reports.clone();
        (FollowedDelivery::new(move |state, sent| to.lock().unwrap().push((state, sent))), reports)
    }

    async fn ends() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn a_body_is_complete_once_it_is_acknowledged() {
        let (mut near, mut far) = ends().await;
        let (delivery, reports) = delivery();
        let mut body = FollowedBody::default();
        body.begin(Some(delivery));
        near.write_all(b"abc").await.unwrap();
        body.add(&near, 3);
        far.read_exact(&mut [0; 3]).await.unwrap();
        body.settled(&near).await;
        assert!(!body.is_pending());
        assert_eq!(*reports.lock().unwrap(), [(DeliveryState::Complete, 3)]);
    }

    #[tokio::test]
    async fn a_body_whose_client_resets_the_connection_is_aborted_where_it_was_acknowledged() {
        let (mut near, mut far) = ends().await;
        let (delivery, reports) = delivery();
        let mut body = FollowedBody::default();
        body.begin(Some(delivery));
        let bytes = vec![7; 64 << 20];
        let mut written = 0;
        // Until the buffers of both ends are full.
        while let Ok(Ok(count)) = tokio::time::timeout(Duration::from_millis(200), near.write(&bytes[written..])).await
        {
            written += count;
            body.add(&near, count as u64);
        }
        far.read_exact(&mut [0; 1000]).await.unwrap();
        // Closed with bytes that nobody has read: the kernel resets the connection.
        drop(far);
        body.settled(&near).await;
        assert!(!body.is_pending());
        let reports = reports.lock().unwrap();
        let (state, sent) = reports.last().copied().unwrap();
        assert_eq!(state, DeliveryState::Aborted);
        assert!((1000..written as u64).contains(&sent), "{sent} of {written}");
    }

    #[test]
    fn the_next_request_shows_that_the_body_before_arrived() {
        let (first, reports) = delivery();
        let mut body = FollowedBody::default();
        body.begin(Some(first));
        body.begin(None);
        assert_eq!(*reports.lock().unwrap(), [(DeliveryState::Complete, 0)]);
    }
}
