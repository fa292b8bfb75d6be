//! The places of connections and the memory of request heads: a share for each source, a reserve for known machines.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::bounds::{Excess, ShareLimits, Shares, Source};
use crate::http::limits::{FREE_HEAD_BYTES, MAX_CONNECTIONS, MAX_HEAD_MEMORY, RESERVED_CONNECTIONS};

/// The configured limits of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Maximum number of connections of one source.
    pub connections_per_source: usize,
    /// Time after which a client that takes no byte of a response is given up.
    pub send_timeout: Duration,
}

/// The reason that a connection was closed before a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// The source has as many connections as it may.
    SourceLimit,
    /// All places that the source may have are taken.
    Overload,
    /// The heads of all requests in progress use the memory that they may.
    HeadMemory,
}

/// The connections over TCP, and the memory of their heads. The Unix socket has places of its own.
#[derive(Debug)]
pub struct ConnectionLimits {
    /// The configured limits.
    pub limits: HttpLimits,
    places: Mutex<Shares<Source>>,
    heads: Arc<HeadBudget>,
}

/// The place of one connection; dropping it gives the place back.
#[derive(Debug)]
pub struct ConnectionPlace {
    limits: Arc<ConnectionLimits>,
    source: Source,
}

impl ConnectionLimits {
    /// Creates the limits of a server without connections.
    pub fn new(limits: HttpLimits) -> Arc<Self> {
        let per_source = limits.connections_per_source;
        let shares = ShareLimits { total: MAX_CONNECTIONS, per_source, reserve: RESERVED_CONNECTIONS };
        let heads = Arc::new(HeadBudget { charged: AtomicUsize::new(0), limit: MAX_HEAD_MEMORY });
        Arc::new(Self { limits, places: Mutex::new(Shares::new(shares)), heads })
    }

    /// Takes a place for a connection. `is_known` is called only where the reserve is needed.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn take(
        self: &Arc<Self>,
        from: IpAddr,
        is_known: impl FnOnce() -> bool,
    ) -> Result<ConnectionPlace, ConnectionRefusal> {
        let source = Source::of(from);
        let taken = self.places.lock().unwrap_or_else(PoisonError::into_inner).take(source, is_known);
        match taken {
            Ok(()) => Ok(ConnectionPlace { limits: self.clone(), source }),
            Err(Excess::Source) => Err(ConnectionRefusal::SourceLimit),
            Err(Excess::Total) => Err(ConnectionRefusal::Overload),
        }
    }

    /// Returns the meter of one connection's heads.
    pub fn meter(&self) -> Arc<HeadMeter> {
        let (in_request, read, charged) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(HeadMeter { budget: self.heads.clone(), in_request, read, charged })
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.limits.places.lock().unwrap_or_else(PoisonError::into_inner).give_back(&self.source);
    }
}

/// The memory that the heads of all connections may use beyond `FREE_HEAD_BYTES` each.
#[derive(Debug)]
struct HeadBudget {
    charged: AtomicUsize,
    limit: usize,
}

impl HeadBudget {
    fn charge(&self, bytes: usize) -> bool {
        let before = self.charged.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= self.limit;
        if !fits {
            self.charged.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

/// The bytes of one connection's head that was not answered yet. The bytes of a body are not counted: it is read only
/// for a client that has proved itself, or up to a few kilobytes.
#[derive(Debug)]
pub struct HeadMeter {
    budget: Arc<HeadBudget>,
    /// Whether a head is complete, so that further bytes are those of its body.
    in_request: AtomicBool,
    read: AtomicUsize,
    charged: AtomicUsize,
}

impl HeadMeter {
    /// Notes that a head is complete.
    pub fn begin_request(&self) {
        self.in_request.store(true, Ordering::Relaxed);
    }

    /// Notes that a request was answered, and gives the memory of its head back.
    pub fn end_request(&self) {
        self.in_request.store(false, Ordering::Relaxed);
        self.read.store(0, Ordering::Relaxed);
        self.budget.charged.fetch_sub(self.charged.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Counts bytes that were read, and returns whether they fit into the budget.
    fn count(&self, bytes: usize) -> bool {
        if self.in_request.load(Ordering::Relaxed) {
            return true;
        }
        let read = self.read.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let more = read.saturating_sub(FREE_HEAD_BYTES).saturating_sub(self.charged.load(Ordering::Relaxed));
        if more == 0 {
            return true;
        }
        let fits = self.budget.charge(more);
        if fits {
            self.charged.fetch_add(more, Ordering::Relaxed);
        }
        fits
    }
}

impl Drop for HeadMeter {
    fn drop(&mut self) {
        self.end_request();
    }
}

/// A connection whose heads are metered. A head that does not fit into the budget ends it.
#[derive(Debug)]
pub struct MeteredStream<S> {
    /// The connection.
    pub stream: S,
    /// Bytes that were read of it already. They are returned first, and metered as the others.
    pub read: Bytes,
    /// The meter of its heads; none on the Unix socket.
    pub meter: Option<Arc<HeadMeter>>,
}

impl<S> MeteredStream<S> {
    /// Creates the stream of a connection of which nothing was read.
    pub fn new(stream: S, meter: Option<Arc<HeadMeter>>) -> Self {
        Self { stream, read: Bytes::new(), meter }
    }
}

/// The error of a connection whose head does not fit into the budget.
#[derive(Debug, thiserror::Error)]
#[error("no memory for the head of the request")]
pub struct HeadMemoryExhausted;

impl<S: AsyncRead + Unpin> AsyncRead for MeteredStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        if self.read.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        } else {
            let part = self.read.len().min(into.remaining());
            into.put_slice(&self.read.split_to(part));
        }
        let count = into.filled().len() - before;
        Poll::Ready(match self.meter.as_ref().is_none_or(|meter| meter.count(count)) {
            true => Ok(()),
            false => Err(io::Error::other(HeadMemoryExhausted)),
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeteredStream<S> {
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

    fn limits(connections_per_source: usize) -> Arc<ConnectionLimits> {
        ConnectionLimits::new(HttpLimits { connections_per_source, send_timeout: Duration::from_secs(60) })
    }

    #[test]
    fn one_source_cannot_take_the_place_of_others() {
        let (limits, one, other) = (limits(256), IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let held: Vec<_> = (0..MAX_CONNECTIONS).filter_map(|_| limits.take(one, || false).ok()).collect();
        assert_eq!(held.len(), 256);
        assert_eq!(limits.take(one, || true).unwrap_err(), ConnectionRefusal::SourceLimit);
        assert!(limits.take(other, || false).is_ok());
        drop(held);
        assert!(limits.take(one, || false).is_ok());
    }

    #[test]
    fn many_sources_cannot_take_the_reserve() {
        let (limits, host) = (limits(256), IpAddr::from([10, 0, 1, 1]));
        let address = |number: usize| IpAddr::from([10, 1, 0, (number % 250) as u8]);
        let held: Vec<_> =
            (0..2 * MAX_CONNECTIONS).filter_map(|number| limits.take(address(number), || false).ok()).collect();
        assert_eq!(held.len(), MAX_CONNECTIONS - RESERVED_CONNECTIONS);
        assert_eq!(limits.take(host, || false).unwrap_err(), ConnectionRefusal::Overload);
        assert!(limits.take(host, || true).is_ok());
    }

    #[test]
    fn long_heads_share_a_budget_and_short_ones_always_fit() {
        let limits = limits(1);
        let big = MAX_HEAD_MEMORY / 4;
        let meters: Vec<_> = (0..8).map(|_| limits.meter()).collect();
        let fit = meters.iter().filter(|meter| meter.count(FREE_HEAD_BYTES) && meter.count(big)).count();
        assert_eq!(fit, 4);
        assert!(limits.meter().count(FREE_HEAD_BYTES));
        meters[0].begin_request();
        assert!(meters[0].count(usize::MAX / 2), "the bytes of a body are not counted");
        meters[0].end_request();
        let next = limits.meter();
        assert!(next.count(FREE_HEAD_BYTES + big));
        drop((meters, next));
        assert_eq!(limits.heads.charged.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn bytes_that_were_read_before_come_first_and_are_metered() {
        use tokio::io::AsyncReadExt;

        let limits = limits(1);
        let stream = |meter| MeteredStream { stream: &b" and the rest"[..], read: Bytes::from("the start"), meter };
        let mut text = String::new();
        stream(Some(limits.meter())).read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "the start and the rest");
        let full = limits.meter();
        assert!(full.count(FREE_HEAD_BYTES + MAX_HEAD_MEMORY));
        let error = stream(Some(full)).read_u8().await.unwrap_err();
        assert!(error.get_ref().is_some_and(|cause| cause.is::<HeadMemoryExhausted>()), "{error}");
    }
}
