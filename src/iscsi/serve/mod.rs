//! The I/O loop of the iSCSI target: sockets, media, clocks and challenges for
//! [`Connection`].

pub mod admission;
pub mod busy_poll;
mod chap_failures;
mod registry;
pub mod rehearsal;
pub mod sendfile;
mod types;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use nix::libc::{MSG_MORE, MSG_NOSIGNAL};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::chap::Nonce;
use super::limits;
use super::login::{Claim, LoginDecision, LoginRefusal};
use super::scsi::LogicalUnits;
use crate::bounds::{ListenerPlaces, ShareLimits};
use crate::iscsi::connection::{Connection, ConnectionStep, InitiatorView, SessionKey, UnitRead};
use crate::iscsi::outcome::End;
use crate::iscsi::serve::busy_poll::BusyPoll;
use crate::iso::ReadAt;
use registry::{Registry, SessionHandle};
pub use types::{
    Admission, ConnectionHandler, ConnectionReport, Grant, GrantedUnit, LoginClaim, MediaAccess, RecordFirstRead,
    SentBytes,
};

/// A target: its sessions, and the places for their connections. They outlast its listener.
pub struct Target {
    handler: Arc<ConnectionHandler>,
    registry: Arc<Registry>,
    places: Arc<ListenerPlaces>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Target").finish_non_exhaustive()
    }
}

impl Target {
    /// Creates a target without sessions.
    pub fn new(handler: Arc<ConnectionHandler>) -> Self {
        let (total, per_source) = (limits::MAX_SESSIONS, handler.per_source);
        let places = ListenerPlaces::new(ShareLimits { total, per_source, reserve: limits::RESERVED_SESSIONS });
        Self { handler, registry: Arc::default(), places }
    }
}

/// Accepts connections until the listener is withdrawn, and serves them until they end or `stop` turns true. Then it requests
/// a logout of every session and waits at most [`limits::LOGOUT_TIMEOUT`] for each.
pub async fn serve(
    listener: TcpListener,
    target: &Target,
    withdrawn: impl Future<Output = ()>,
    mut stop: watch::Receiver<bool>,
) {
    let Target { handler, registry, places } = target;
    if let Err(error) = set_options(&listener) {
        tracing::warn!(%error, "cannot set the options of the iSCSI listener");
    }
    // A listener that is bound to one address knows the local end of its connections.
    let local = listener.local_addr().ok().filter(|local| !local.ip().is_unspecified());
    let mut sessions = JoinSet::new();
    let mut withdrawn = std::pin::pin!(withdrawn);
    while !*stop.borrow() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = sessions.join_next() => continue,
            () = &mut withdrawn => break,
            _ = stop.changed() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(limits::ACCEPT_RETRY_INTERVAL).await;
                continue;
            }
        };
        let place = match places.take(peer.ip(), || (handler.is_known)(peer.ip())) {
            Ok(place) => place,
            Err(excess) => {
                (handler.report)(ConnectionReport::Full { peer, excess });
                continue;
            }
        };
        let (registry, handler, stop) = (Arc::clone(registry), Arc::clone(handler), stop.clone());
        sessions.spawn(async move {
            if let Ok(task) = ConnectionTask::new(stream, (peer, local), handler, registry) {
                task.run(stop).await;
            }
            drop(place);
        });
    }
    drop(listener);
    // An address may come back before its sessions have ended.
    while !*stop.borrow() && !sessions.is_empty() {
        tokio::select! {
            _ = sessions.join_next() => {}
            changed = stop.changed() => if changed.is_err() { break },
        }
    }
    let ended = async { while sessions.join_next().await.is_some() {} };
    if tokio::time::timeout(limits::STOP_TIMEOUT, ended).await.is_err() {
        tracing::debug!(left = sessions.len(), "sessions cut off at shutdown");
    }
}

/// Sets the options that each accepted connection inherits (tcp(7)).
fn set_options(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    // One response is one segment: Nagle's algorithm would cost 40 ms a read (boot-facts 21).
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(limits::KEEPALIVE_IDLE_TIMEOUT)
        .with_interval(limits::KEEPALIVE_INTERVAL)
        .with_retries(limits::MAX_KEEPALIVE_PROBES);
    // BIOS iPXE's session is abandoned without a FIN when the OS takes over (boot-facts 19).
    socket.set_tcp_keepalive(&keepalive)
}

/// The I/O of one connection.
struct ConnectionTask {
    stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    handler: Arc<ConnectionHandler>,
    registry: Arc<Registry>,
    connection: Connection,
    /// Notified when a new login replaces this session.
    replaced: Arc<Notify>,
    place: Option<SessionHandle>,
    login: Option<LoginClaim>,
    media: BTreeMap<u8, Arc<dyn ReadAt>>,
    recorders: BTreeMap<u8, RecordFirstRead>,
    /// Bytes sent to the initiator.
    sent: u64,
    /// Bytes of them that were reported.
    reported: u64,
    /// The same count for others to read.
    progress: SentBytes,
}

/// Bytes from the peer that the connection did not accept yet.
struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ConnectionTask {
    fn new(
        stream: TcpStream,
        (peer, local): (SocketAddr, Option<SocketAddr>),
        handler: Arc<ConnectionHandler>,
        registry: Arc<Registry>,
    ) -> io::Result<Self> {
        Ok(Self {
            peer,
            local: local.map_or_else(|| stream.local_addr(), Ok)?,
            stream,
            handler,
            registry,
            connection: Connection::new(Instant::now()),
            replaced: Arc::new(Notify::new()),
            place: None,
            login: None,
            media: BTreeMap::new(),
            recorders: BTreeMap::new(),
            sent: 0,
            reported: 0,
            progress: SentBytes::default(),
        })
    }

    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let Err(end) = self.converse(&mut stop).await;
        let attached = self.place.is_some();
        if attached {
            self.report_sent(1);
        }
        let (peer, sent, session) = (self.peer, self.sent, self.progress.clone());
        let report = match self.login.take() {
            Some(login) if attached => ConnectionReport::Ended { login, end, sent, session },
            login => ConnectionReport::Refused { peer, login, end },
        };
        (self.handler.report)(report);
    }

    /// Executes the steps of the connection until it ends. Returns `None` if the peer closed or broke it.
    async fn converse(&mut self, stop: &mut watch::Receiver<bool>) -> Result<Infallible, Option<End>> {
        let mut input = Input::new();
        let timer = tokio::time::sleep_until(self.wake());
        tokio::pin!(timer);
        let mut leave = None;
        let mut poller = BusyPoll::default();
        loop {
            match self.connection.step() {
                ConnectionStep::Ask(claim) => self.admit(claim).await,
                ConnectionStep::Attach(key) => self.attach(key).await.ok_or(None)?,
                ConnectionStep::Record(lun) => self.record(lun).await,
                ConnectionStep::Read(read) => {
                    if self.try_sendfile(&read).await? {
                        self.connection.on_sendfile_done(read);
                        self.report_sent(limits::REPORT_BYTES);
                        self.poll_input(&mut input, stop, &mut leave).await?;
                    } else {
                        self.read(read).await;
                    }
                }
                ConnectionStep::Send => {
                    self.send().await?;
                    self.report_sent(limits::REPORT_BYTES);
                    self.poll_input(&mut input, stop, &mut leave).await?;
                }
                ConnectionStep::Close(end) => {
                    // The end of the stream, before anything is received that would reset the connection.
                    let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
                    return Err(Some(end));
                }
                ConnectionStep::Receive => {
                    if self.take(&mut input) {
                        continue;
                    }
                    if let Some(time) = poller.next_poll() {
                        let came = self.busy_poll(time, &mut input).await;
                        poller.record(came);
                        if came {
                            self.take(&mut input);
                            self.check_signals(stop, &mut leave).await?;
                            continue;
                        }
                    }
                    if let Some(leave) = leave {
                        timer.as_mut().reset(leave);
                    }
                    tokio::select! {
                        biased;
                        read = self.stream.read(input.room()) => match read {
                            Ok(0) | Err(_) => return Err(None),
                            Ok(count) => input.end += count,
                        },
                        () = self.replaced.notified() => return Err(Some(End::Replaced)),
                        () = &mut timer => {
                            if leave.is_some() {
                                return Err(Some(End::Stopped));
                            }
                            self.connection.on_time(Instant::now());
                            // After an answered ping the next one is due before the deadline of the previous ping.
                            timer.as_mut().reset(self.wake().min(tokio::time::Instant::now() + limits::PING_INTERVAL));
                        }
                        _ = stop.changed(), if leave.is_none() => leave = Some(self.request_logout()),
                    }
                    self.take(&mut input);
                }
            }
        }
    }

    /// Polls the socket for `time`, yielding to other tasks in between, and returns whether bytes came. An end of file
    /// or an error is left for the wait that follows.
    async fn busy_poll(&self, time: Duration, input: &mut Input) -> bool {
        let started = Instant::now();
        while started.elapsed() < time {
            match self.stream.try_read(input.room()) {
                Ok(count) => {
                    input.end += count;
                    return count > 0;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::task::yield_now().await,
                Err(_) => return false,
            }
        }
        false
    }

    /// Polls the socket between data PDUs, so that an ABORT or the end of the session is seen while the initiator keeps
    /// its queue full.
    async fn poll_input(
        &mut self,
        input: &mut Input,
        stop: &watch::Receiver<bool>,
        leave: &mut Option<tokio::time::Instant>,
    ) -> Result<(), Option<End>> {
        if !self.connection.has_tasks() {
            return Ok(());
        }
        let room = input.room();
        if !room.is_empty() {
            match self.stream.try_read(room) {
                Ok(0) => return Err(None),
                Ok(count) => input.end += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(None),
            }
        }
        self.take(input);
        self.check_signals(stop, leave).await
    }

    /// Checks for a replacement of the session and for the shutdown, and yields to other tasks now and then.
    async fn check_signals(
        &mut self,
        stop: &watch::Receiver<bool>,
        leave: &mut Option<tokio::time::Instant>,
    ) -> Result<(), Option<End>> {
        tokio::task::consume_budget().await;
        if self.replaced.notified().now_or_never().is_some() {
            return Err(Some(End::Replaced));
        }
        match leave {
            Some(leave) if tokio::time::Instant::now() >= *leave => return Err(Some(End::Stopped)),
            None if stop.has_changed().unwrap_or(true) => *leave = Some(self.request_logout()),
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Requests a logout and returns the time at which the connection is closed.
    fn request_logout(&mut self) -> tokio::time::Instant {
        self.connection.on_stop(limits::LOGOUT_TIMEOUT);
        tokio::time::Instant::now() + limits::LOGOUT_TIMEOUT
    }

    /// Passes the input to the connection and returns whether it accepted any byte.
    fn take(&mut self, input: &mut Input) -> bool {
        let used = self.connection.on_bytes(&input.bytes[input.start..input.end], Instant::now());
        input.used(used);
        if let Some((opcode, why)) = self.connection.rejected() {
            (self.handler.report)(ConnectionReport::Rejected { peer: self.peer, opcode, why });
        }
        used > 0
    }

    fn wake(&self) -> tokio::time::Instant {
        self.connection.deadline().unwrap_or_else(Instant::now).into()
    }

    async fn admit(&mut self, claim: Claim) {
        let login = LoginClaim { claim, peer: self.peer, local: self.local };
        self.login = Some(login.clone());
        let admission = match (self.handler.authorize)(&login, MediaAccess::InMemory) {
            Some(admission) => admission,
            // The decision opens files or waits for the disk, which must not block the runtime's threads.
            None => {
                let handler = Arc::clone(&self.handler);
                let decided =
                    tokio::task::spawn_blocking(move || (handler.authorize)(&login, MediaAccess::MayWait)).await;
                decided.ok().flatten().unwrap_or(Admission::Refuse(LoginRefusal::Unavailable))
            }
        };
        let name = self.login.as_ref().and_then(|login| login.claim.target.clone()).unwrap_or_default();
        let (decision, grant) = match admission {
            Admission::Admit(grant) => (LoginDecision::Admit(grant.chap.clone()), grant),
            Admission::Redirect { portal, permanent } => {
                (LoginDecision::Redirect { portal, permanent }, Grant::default())
            }
            Admission::Refuse(refusal) => (LoginDecision::Refuse(refusal), Grant::default()),
        };
        let (mut luns, mut record_first) = (Vec::new(), Vec::new());
        for (number, unit) in grant.units.into_iter().take(limits::MAX_LUNS) {
            luns.push((number, unit.lun));
            self.media.insert(number, unit.medium);
            if let Some(record) = unit.record_first {
                record_first.push(number);
                self.recorders.insert(number, record);
            }
        }
        let view = InitiatorView { units: LogicalUnits::new(&name, luns), targets: grant.targets, record_first };
        self.connection.on_decision(decision, nonce, view);
    }

    /// Registers the session, and waits for the end of the session that it replaces.
    async fn attach(&mut self, key: SessionKey) -> Option<()> {
        let (place, former) = self.registry.attach(key, Arc::clone(&self.replaced));
        if let Some(mut ended) = former {
            // Returns an error once the former session is gone, which is the awaited state.
            let _ = ended.changed().await;
        }
        self.connection.on_attached(place.tsih(), Instant::now());
        self.place = Some(place);
        (self.handler.report)(ConnectionReport::Attached { login: self.login.clone()?, sent: self.progress.clone() });
        Some(())
    }

    /// Records the first read of a unit. The step after a failed record sends a read error instead of data.
    async fn record(&mut self, lun: u8) {
        let result = match self.recorders.get(&lun) {
            Some(record) => record().await,
            None => Ok(()),
        };
        let recorded = result.is_ok();
        if let Err(error) = result {
            self.report_failure(lun, error);
        }
        self.connection.on_recorded(lun, recorded);
    }

    async fn read(&mut self, read: UnitRead) {
        let result = match self.media.get(&read.lun) {
            Some(medium) => fill(medium, &read, self.connection.read_buffer(&read)).await,
            None => Err(io::ErrorKind::NotFound.into()),
        };
        if let Err(error) = &result {
            self.report_read_failure(&read, error);
        }
        self.connection.on_read(read, result.is_ok());
    }

    fn report_read_failure(&self, read: &UnitRead, error: &io::Error) {
        let error = match error.kind() {
            io::ErrorKind::UnexpectedEof => "the file ends before the requested bytes".to_owned(),
            _ => error.to_string(),
        };
        self.report_failure(read.lun, error);
    }

    fn report_failure(&self, lun: u8, error: String) {
        let report = ConnectionReport::ReadFailed { peer: self.peer, login: self.login.clone(), lun, error };
        (self.handler.report)(report);
    }

    /// Reports the bytes that were sent since the last report, if there are at least `at_least`.
    fn report_sent(&mut self, at_least: u64) {
        self.progress.0.store(self.sent, Ordering::Relaxed);
        let count = self.sent - self.reported;
        if count >= at_least {
            self.reported = self.sent;
            (self.handler.report)(ConnectionReport::Sent(count));
        }
    }

    /// Sends all pending output. A peer that accepts no byte for [`limits::SEND_TIMEOUT`] is given up.
    async fn send(&mut self) -> Result<(), Option<End>> {
        while !self.connection.pending().is_empty() {
            match self.write(self.connection.pending()) {
                Ok(count) => {
                    self.sent += u64::try_from(count).unwrap_or(0);
                    self.connection.sent(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_room().await?,
                Err(_) => return Err(None),
            }
        }
        Ok(())
    }

    /// Writes as many bytes as the socket accepts. Those before the end of the session leave with the end of the stream,
    /// in one segment.
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if !self.connection.is_logged_out() {
            return self.stream.try_write(bytes);
        }
        let send = || SockRef::from(&self.stream).send_with_flags(bytes, MSG_MORE | MSG_NOSIGNAL);
        self.stream.try_io(Interest::WRITABLE, send)
    }

    async fn wait_for_room(&self) -> Result<(), Option<End>> {
        let ready = self.stream.ready(Interest::WRITABLE);
        tokio::select! {
            ready = tokio::time::timeout(limits::SEND_TIMEOUT, ready) => match ready {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) => Err(None),
                Err(_) => Err(Some(End::Silent)),
            },
            () = self.replaced.notified() => Err(Some(End::Replaced)),
        }
    }
}

impl Input {
    fn new() -> Self {
        Self { bytes: vec![0; limits::MIN_INPUT_BUFFER_BYTES], start: 0, end: 0 }
    }

    /// Returns the free space of the buffer, which grows once if it is full. One PDU of the largest size always fits.
    fn room(&mut self) -> &mut [u8] {
        if self.end == self.bytes.len() && self.end < limits::INPUT_BUFFER_BYTES {
            self.bytes.resize(limits::INPUT_BUFFER_BYTES, 0);
        }
        &mut self.bytes[self.end..]
    }

    fn used(&mut self, count: usize) {
        self.start += count;
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }
}

/// Fills the buffer from the page cache if the bytes are there, else on a thread that may wait for the disk.
async fn fill(medium: &Arc<dyn ReadAt>, read: &UnitRead, room: &mut [u8]) -> io::Result<()> {
    let offset = read.span.offset();
    match medium.try_read_at(offset, room) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        result => return result,
    }
    let (medium, length) = (Arc::clone(medium), room.len());
    let waited = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; length];
        medium.read_at(offset, &mut bytes).map(|()| bytes)
    });
    room.copy_from_slice(&waited.await.map_err(io::Error::other)??);
    Ok(())
}

fn nonce() -> Nonce {
    let challenge = uuid::Uuid::new_v4().into_bytes();
    Nonce { id: uuid::Uuid::new_v4().into_bytes()[0], challenge }
}

#[cfg(test)]
#[path = "../tests/serve.rs"]
mod tests;
