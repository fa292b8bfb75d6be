//! The sockets of syslog, and what is done with each line: it goes to the gate, or is dropped and counted.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Deframer, MAX_LINE_BYTES, parse};
use crate::boot::DropReason;
use crate::bounds::{Excess, ListenerPlace, ListenerPlaces, Rate, ShareLimits, Source, TokenBuckets};
use crate::event::Protocol;
use crate::gate::Gate;

/// Lines of one source in a time.
const SOURCE_RATE: Rate = Rate { tokens: 200, per: Duration::from_secs(1), burst: 2000 };
/// Maximum number of sources with a rate of their own.
const MAX_SOURCES: usize = 8192;
/// Lines in a time of all sources whose address no host is known by: for each the kernel is asked.
const STRANGER_RATE: Rate = Rate { tokens: 1000, per: Duration::from_secs(1), burst: 2000 };
/// Limits of TCP connections.
const CONNECTIONS: ShareLimits = ShareLimits { total: 1024, per_source: 8, reserve: 256 };
/// Time after which a connection without a line is closed. Installers log little while they copy files.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2 * 3600);
/// Interval of TCP keep-alive probes: a machine that was switched off sends no FIN.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
/// Pause after a failed `accept` or `recv`: while the process is out of file descriptors, it would fail again at once.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// Octets that are read from a connection at once.
const READ_BYTES: usize = 16 * 1024;
/// Size of the kernel's buffer for datagrams, in octets: an installer's start in a few milliseconds.
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// The bound sockets of an address.
#[derive(Debug)]
pub struct SyslogSockets {
    /// The UDP socket.
    pub udp: std::net::UdpSocket,
    /// The TCP listener.
    pub tcp: std::net::TcpListener,
}

/// Binds the UDP socket of an address.
///
/// # Errors
/// The address or the port cannot be bound.
pub fn bind_udp(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    // A smaller buffer than asked for loses lines of a burst only.
    let _ = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
    Ok(socket)
}

/// The receiver on sockets that may come and go. They share its rates.
#[derive(Clone)]
pub struct SyslogReceiver(Arc<Receiver>);

impl std::fmt::Debug for SyslogReceiver {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SyslogReceiver").finish_non_exhaustive()
    }
}

impl SyslogReceiver {
    /// Creates a receiver.
    pub fn new(gate: Arc<Gate>) -> Self {
        Self(Arc::new(Receiver::new(gate)))
    }

    /// Receives lines until `stopped` turns true.
    ///
    /// # Errors
    /// A socket cannot be waited for.
    pub async fn serve(self, sockets: SyslogSockets, stopped: watch::Receiver<bool>) -> io::Result<()> {
        let (udp, tcp) = (UdpSocket::from_std(sockets.udp)?, TcpListener::from_std(sockets.tcp)?);
        let datagrams = receive_datagrams(udp, self.0.clone(), stopped.clone());
        tokio::join!(datagrams, accept_connections(tcp, self.0, stopped));
        Ok(())
    }
}

/// Takes the lines of all sockets.
struct Receiver {
    gate: Arc<Gate>,
    rates: Mutex<TokenBuckets<Source>>,
    strangers: Mutex<TokenBuckets<()>>,
    places: Arc<ListenerPlaces>,
}

impl Receiver {
    fn new(gate: Arc<Gate>) -> Self {
        Self {
            gate,
            rates: Mutex::new(TokenBuckets::new(SOURCE_RATE, MAX_SOURCES)),
            strangers: Mutex::new(TokenBuckets::new(STRANGER_RATE, 1)),
            places: ListenerPlaces::new(CONNECTIONS),
        }
    }

    fn count_drop(&self, from: IpAddr, reason: DropReason) {
        self.gate.counters.count_dropped(Protocol::Syslog, reason, Some(from));
    }

    /// Takes one line, or counts why it is dropped.
    fn take(&self, from: IpAddr, line: &[u8], is_cut: bool) {
        match self.record(from, line, is_cut) {
            Ok(()) => self.gate.counters.count_answered(Protocol::Syslog),
            Err(reason) => self.count_drop(from, reason),
        }
    }

    /// Records one line. The cheapest checks come first: a flood costs little.
    fn record(&self, from: IpAddr, line: &[u8], is_cut: bool) -> Result<(), DropReason> {
        let now = Instant::now();
        if !self.rates.lock().unwrap_or_else(PoisonError::into_inner).take(Source::of(from), now) {
            return Err(DropReason::RateLimit);
        }
        self.admit_stranger(from, now)?;
        let line = parse(line).ok_or(DropReason::BadHeader)?;
        if is_cut {
            self.count_drop(from, DropReason::LineTooLong);
        }
        self.gate.record_installer_line_from(from, line, is_cut)
    }

    /// Takes a share of the work that is done for strangers, unless the source is a known one.
    fn admit_stranger(&self, from: IpAddr, now: Instant) -> Result<(), DropReason> {
        match self.is_known(from) || self.strangers.lock().unwrap_or_else(PoisonError::into_inner).take((), now) {
            true => Ok(()),
            false => Err(DropReason::Overload),
        }
    }

    /// Takes a place for a connection. One of a stranger would take it in vain: none of its lines belongs to a host.
    fn admit_connection(&self, from: IpAddr) -> Result<ListenerPlace, DropReason> {
        self.admit_stranger(from, Instant::now())?;
        match self.gate.owner_of(from) {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Err(DropReason::UntiedSource),
        }
        self.places.take(from, || self.is_known(from)).map_err(|excess| match excess {
            Excess::Source => DropReason::SourceLimit,
            Excess::Total => DropReason::Overload,
        })
    }

    fn is_known(&self, from: IpAddr) -> bool {
        self.gate.store.load().is_known_address(from)
    }
}

async fn receive_datagrams(socket: UdpSocket, receiver: Arc<Receiver>, mut stopped: watch::Receiver<bool>) {
    // One octet more shows that a datagram was longer.
    let mut buffer = vec![0; MAX_LINE_BYTES + 1];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        match received {
            Ok((length, from)) => {
                let line = &buffer[..length.min(MAX_LINE_BYTES)];
                receiver.take(from.ip().to_canonical(), line, length > MAX_LINE_BYTES);
            }
            Err(error) => {
                tracing::debug!(%error, "syslog receive failed");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }
}

async fn accept_connections(listener: TcpListener, receiver: Arc<Receiver>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        while connections.try_join_next().is_some() {}
        let (stream, from) = match accepted {
            Ok((stream, from)) => (stream, from.ip().to_canonical()),
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(RETRY_INTERVAL).await;
                continue;
            }
        };
        match receiver.admit_connection(from) {
            Ok(place) => {
                let receiver = receiver.clone();
                connections.spawn(async move {
                    read_lines(stream, from, &receiver).await;
                    drop(place);
                });
            }
            Err(reason) => receiver.count_drop(from, reason),
        }
    }
    // Connections in progress end with the process: their lines are in the timeline already.
    connections.abort_all();
}

/// Reads the lines of a connection until it ends.
async fn read_lines(mut stream: TcpStream, from: IpAddr, receiver: &Receiver) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_INTERVAL).with_interval(KEEPALIVE_INTERVAL);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    let (mut deframer, mut buffer) = (Deframer::default(), vec![0; READ_BYTES]);
    loop {
        let read = match tokio::time::timeout(IDLE_TIMEOUT, stream.read(&mut buffer)).await {
            Ok(Ok(read)) if read > 0 => read,
            Ok(Ok(_) | Err(_)) | Err(_) => break,
        };
        let read = deframer.push(&buffer[..read], |frame| receiver.take(from, &frame.line, frame.is_cut));
        if read.is_err() {
            return receiver.count_drop(from, DropReason::BadHeader);
        }
    }
    if let Some(frame) = deframer.finish() {
        receiver.take(from, &frame.line, frame.is_cut);
    }
}
