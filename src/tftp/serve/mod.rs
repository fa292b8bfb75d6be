//! The I/O loop of the TFTP server: one thread waits for all sockets and executes the steps of the transfers.
//!
//! One thread, because a packet of a lockstep transfer is two microseconds of work: passing packets to tasks costs
//! more. Many transfers share a socket, because one system call receives their packets and one sends their answers.

pub mod boot_files;
mod content;
mod first_ack;
mod listeners;
mod mmsg;
mod own_ports;
mod places;
mod port;
mod read_ahead;
mod refusals;
mod responder;
mod send_blocks;
mod session;
mod table;
mod types;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;

pub use self::content::{FileContent, SiteError, SiteFolder};
use self::listeners::ListenerState;
pub use self::listeners::{ListenerChanges, ListenerControl, ListenerKey};
use self::places::{TransferPlace, TransferPlaces};
pub use self::port::{Listener, PortUse, ServiceAddress};
use self::port::{MtuCache, UdpPort};
use self::read_ahead::DiskReads;
pub use self::responder::Responder;
use self::responder::StopOnDrop;
use self::session::{PeerPath, SendFailure, SessionRequest, SessionState, TransferSession};
use self::table::{SessionId, SessionTable};
use super::options::RequestedOptions;
use super::packet::{ErrorCode, FileRequest, Packet, TransferMode};
use super::path::RequestedFile;
use super::transfer::{RepeatedRequest, TransferStep};
use crate::bounds::{Excess, ShareLimits, Source};
use crate::tftp::serve::mmsg::{MAX_BATCH, OnSendError, PacketInfo, ReceivedDatagram, RecvBatch, SendBatch};
pub use crate::tftp::serve::types::{
    DropCause, FileAnswer, FileRefusal, FirstAck, TftpSettings, TransferEnd, TransferReport, TransferRequest,
};

/// Maximum length of a client's error message that is kept, in octets.
const MAX_CLIENT_MESSAGE: usize = 128;
/// Maximum number of sockets that are reported ready at once.
const MAX_READY_SOCKETS: usize = 64;
/// Time for the answer of the content callback. After it the request is dropped, and the client asks again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The epoll data of the wake-up event; other values are indexes of ports.
const WAKE: u64 = u64::MAX;

/// Serves the listeners that `changes` adds, until `shutdown` is ready, and then finishes open transfers within
/// [`TftpSettings::drain`].
///
/// `content` is called on the server's thread for each request. It must not block: it answers the responder at once, or
/// passes it to another thread. `report` is called on the same thread after the related datagrams were sent, and must
/// not block either.
///
/// `is_known` returns whether an address belongs to a machine that the reserve of transfers is for.
///
/// # Errors
/// The server cannot start, or cannot wait for its sockets.
pub async fn serve<C, R, K>(
    changes: ListenerChanges,
    settings: TftpSettings,
    content: C,
    report: R,
    is_known: K,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()>
where
    C: Fn(TransferRequest, Responder) + Send + 'static,
    R: Fn(TransferReport) + Send + 'static,
    K: Fn(IpAddr) -> bool + Send + 'static,
{
    let stop = StopOnDrop { asked: Arc::new(AtomicBool::new(false)), wake: changes.wake.clone() };
    let (end, mut ended) = tokio::sync::oneshot::channel();
    let (asked_to_stop, runtime) = (stop.asked.clone(), tokio::runtime::Handle::current());
    std::thread::Builder::new().name("tftp".into()).spawn(move || {
        let callbacks = (content, report, Box::new(is_known) as IsKnownSource);
        let server = TftpServer::new(changes, settings, callbacks, asked_to_stop, runtime);
        let _ = end.send(server.and_then(TftpServer::run));
    })?;
    let gone = |_| Err(io::Error::other("the TFTP thread is gone"));
    tokio::select! {
        ended = &mut ended => ended.unwrap_or_else(gone),
        () = shutdown => {
            drop(stop);
            ended.await.unwrap_or_else(gone)
        }
    }
}

struct TftpServer<C, R> {
    epoll: Epoll,
    /// The ports of all listeners.
    ports: Vec<PortState>,
    /// The listeners, by the index of their port for requests.
    listeners: BTreeMap<usize, ListenerState>,
    changes: Option<ListenerChanges>,
    settings: TftpSettings,
    content: C,
    report: R,
    is_known: IsKnownSource,
    places: TransferPlaces,
    /// Ports whose place another one may take: their one transfer or their listener is over.
    free_ports: Vec<usize>,
    /// Reports that are delivered after the current datagrams were sent, because their receiver may need this core.
    reports: RefCell<Vec<TransferReport>>,
    sessions: SessionTable<TransferSession>,
    by_peer: HashMap<(usize, SocketAddr), SessionId>,
    mtus: MtuCache,
    answered: mpsc::Sender<(SessionId, FileAnswer)>,
    answers: mpsc::Receiver<(SessionId, FileAnswer)>,
    wake: Arc<EventFd>,
    asked_to_stop: Arc<AtomicBool>,
    /// Where reads wait for a disk.
    runtime: tokio::runtime::Handle,
    disk_reads: DiskReads,
    /// Time at which open transfers are cut off while the server stops.
    stop_at: Option<Instant>,
    batch: SendBatch,
    /// The port that the batch's datagrams leave from.
    batch_port: usize,
}

/// Returns whether an address belongs to a known machine.
type IsKnownSource = Box<dyn Fn(IpAddr) -> bool + Send>;

/// A port and its use.
struct PortState {
    /// The socket; `None` once it is closed.
    port: Option<UdpPort>,
    listener: usize,
    transfers: usize,
    role: PortRole,
    overflowed: u32,
}

/// The use of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PortRole {
    /// It receives the requests of a listener.
    Requests,
    /// It is shared by transfers of a listener.
    Shared,
    /// It was opened for one transfer.
    Own,
    /// Its listener is gone.
    Closed,
}

/// The origin of a request.
#[derive(Debug, Clone, Copy)]
struct RequestOrigin {
    peer: SocketAddr,
    local: IpAddr,
    listener: usize,
}

impl<C: Fn(TransferRequest, Responder), R: Fn(TransferReport)> TftpServer<C, R> {
    fn new(
        changes: ListenerChanges,
        settings: TftpSettings,
        (content, report, is_known): (C, R, IsKnownSource),
        asked_to_stop: Arc<AtomicBool>,
        runtime: tokio::runtime::Handle,
    ) -> io::Result<Self> {
        let TftpSettings { transfers: total, transfers_per_source: per_source, reserve, .. } = settings;
        let wake = changes.wake.clone();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let (answered, answers) = mpsc::channel();
        Ok(TftpServer {
            epoll,
            ports: Vec::new(),
            listeners: BTreeMap::new(),
            changes: Some(changes),
            settings,
            content,
            report,
            is_known,
            places: TransferPlaces::new(ShareLimits { total, per_source, reserve: reserve.min(total / 4) }),
            free_ports: Vec::new(),
            reports: RefCell::default(),
            sessions: SessionTable::default(),
            by_peer: HashMap::new(),
            mtus: MtuCache::default(),
            answered,
            answers,
            wake,
            asked_to_stop,
            runtime,
            disk_reads: DiskReads::default(),
            stop_at: None,
            batch: SendBatch::new(),
            batch_port: 0,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = vec![EpollEvent::empty(); MAX_READY_SOCKETS];
        let mut batch = RecvBatch::new();
        loop {
            let ready = match self.epoll.wait(&mut events, self.next_timeout()) {
                Err(nix::Error::EINTR) => 0,
                other => other?,
            };
            let now = Instant::now();
            for event in events.iter().take(ready) {
                match usize::try_from(event.data()) {
                    Ok(port) if port < self.ports.len() => self.on_port(port, &mut batch, now),
                    _ => {
                        let _ = self.wake.read();
                        self.apply_changes(now);
                    }
                }
            }
            self.take_answers(now);
            while let Some(id) = self.sessions.next_expired(now) {
                self.on_alarm(id, now);
            }
            self.flush();
            self.reports.take().into_iter().for_each(&self.report);
            if self.asked_to_stop.load(Ordering::Acquire) && self.has_stopped(now) {
                return Ok(());
            }
        }
    }

    fn next_timeout(&self) -> EpollTimeout {
        let next = [self.sessions.next_alarm(), self.stop_at].into_iter().flatten().min();
        next.map_or(EpollTimeout::NONE, |at| {
            // Rounded up, so that the deadline has passed after the wait.
            let pause = at.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            EpollTimeout::try_from(pause).unwrap_or(EpollTimeout::MAX)
        })
    }

    /// Returns whether all transfers have ended. At the deadline it ends the rest; new requests are dropped.
    fn has_stopped(&mut self, now: Instant) -> bool {
        let stop_at = *self.stop_at.get_or_insert(now + self.settings.drain);
        if now >= stop_at {
            for id in self.sessions.ids() {
                self.end(id, TransferEnd::Stopped, now);
            }
            self.flush();
            self.reports.take().into_iter().for_each(&self.report);
        }
        self.sessions.len() == 0
    }

    fn on_port(&mut self, port: usize, batch: &mut RecvBatch, now: Instant) {
        let state = &self.ports[port];
        let takes_requests = state.role == PortRole::Requests;
        let Some(socket) = &state.port else { return };
        // One client has sent one acknowledgement. To look for another costs as much.
        if batch.receive(socket.as_fd(), if state.role == PortRole::Own { 1 } else { MAX_BATCH }).is_err() {
            return; // nothing there after all
        }
        for received in batch.iter() {
            match Packet::parse(received.octets) {
                Ok(Packet::Read(request)) if takes_requests => {
                    if let Some((arrival, interface)) = self.arrival(port, &received) {
                        self.on_request(&arrival, interface, &request, now);
                    }
                }
                Ok(Packet::Write(_)) if takes_requests => {
                    if let Some((arrival, _)) = self.arrival(port, &received) {
                        self.refuse(&arrival, None, FileRefusal::Write);
                    }
                }
                Ok(packet) => self.on_packet(port, received.peer, packet, now),
                Err(why) => self.report_drop(Some(received.peer), why.into()),
            }
        }
        self.flush();
    }

    /// Returns the origin of a request, unless it was sent to a multicast address (RFC 1123, section 4.2.3.4).
    fn arrival(&mut self, port: usize, received: &ReceivedDatagram<'_>) -> Option<(RequestOrigin, u32)> {
        let PacketInfo { local, is_multicast, overflowed } = received.packet_info();
        let port_state = &mut self.ports[port];
        let lost =
            overflowed.map_or(0, |count| count.wrapping_sub(std::mem::replace(&mut port_state.overflowed, count)));
        if lost > 0 {
            self.report_drop(None, DropCause::Overflow(lost));
        }
        if is_multicast {
            self.report_drop(Some(received.peer), DropCause::Multicast);
            return None;
        }
        let (local, interface) = local.unwrap_or((Ipv4Addr::UNSPECIFIED.into(), 0));
        Some((RequestOrigin { peer: received.peer, local, listener: port }, interface))
    }

    fn on_request(&mut self, arrival: &RequestOrigin, interface: u32, wire: &FileRequest<'_>, now: Instant) {
        let asked = match RequestedFile::parse(wire.name) {
            Ok(asked) => Arc::new(asked),
            Err(bad) => return self.refuse(arrival, None, bad.into()),
        };
        let &RequestOrigin { peer, local, listener } = arrival;
        let asking =
            SessionRequest { asked: asked.clone(), options: RequestedOptions::read(wire.options), mode: wire.mode };
        if self.is_repeated(arrival, &asking, now) {
            return;
        }
        if self.stop_at.is_some() {
            return self.report_drop(Some(peer), DropCause::Stopping);
        }
        let source = Source::of(peer.ip());
        if !self.make_place(source, peer, now) {
            return;
        }
        let mtu = match self.mtus.find(listener, interface, peer, now) {
            Ok(mtu) => mtu,
            Err(error) => return self.report_drop(Some(peer), DropCause::NoRoute(error)),
        };
        let wants_window = asking.options.window.is_some_and(|blocks| blocks > 1);
        let own = if wants_window { self.open_own_port(listener) } else { None };
        let port = own.unwrap_or_else(|| self.assign_port(listener));
        let path = PeerPath { peer, name: peer.into(), local, listener, port, mtu, has_own_port: own.is_some() };
        let id = self.sessions.insert(TransferSession::new(path, asking, now));
        self.places.begin(source, id);
        self.by_peer.insert((listener, peer), id);
        self.sessions.arm(id, now + ANSWER_TIMEOUT);
        let responder = Responder::new(id, self.wake.clone(), self.answered.clone());
        self.queue_report(TransferReport::Requested { peer, asked: asked.clone() });
        let service = self.listeners.get(&listener).and_then(|listener| listener.service.address());
        (self.content)(TransferRequest { peer, local, service, asked }, responder);
        self.take_answers(now);
    }

    /// Returns whether a request repeats one that is being served, and handles the repetition. Another request of the
    /// same client replaces its session.
    fn is_repeated(&mut self, arrival: &RequestOrigin, asking: &SessionRequest, now: Instant) -> bool {
        let Some(&id) = self.by_peer.get(&(arrival.listener, arrival.peer)) else { return false };
        let Some(session) = self.sessions.session(id) else { return false };
        if session.request == *asking {
            let report = TransferReport::Requested { peer: arrival.peer, asked: asking.asked.clone() };
            self.reports.borrow_mut().push(report);
            if session.held.is_some() || session.blocked.is_some() {
                return true;
            }
            match &mut session.stage {
                SessionState::Waiting => return true,
                SessionState::Sending { transfer, .. } => {
                    if let RepeatedRequest::Again(step) = transfer.on_request(now) {
                        self.take_step(id, step, now);
                        return true;
                    }
                }
            }
        }
        self.end(id, TransferEnd::Replaced, now);
        false
    }

    /// Makes a place for a transfer, and returns whether there is one.
    fn make_place(&mut self, source: Source, peer: SocketAddr, now: Instant) -> bool {
        let (sessions, is_known) = (&mut self.sessions, &self.is_known);
        let is_unproven = |id| sessions.session(id).is_some_and(|session: &mut TransferSession| !session.is_proven());
        let cause = |excess| match excess {
            Excess::Source => DropCause::SourceLimit,
            Excess::Total => DropCause::Overload,
        };
        match self.places.find(source, || is_known(peer.ip()), is_unproven) {
            TransferPlace::Free => true,
            TransferPlace::Of(id, excess) => {
                let displaced = self.sessions.session(id).map(|session| session.path.peer);
                self.end(id, TransferEnd::Displaced, now);
                self.report_drop(displaced, cause(excess));
                true
            }
            TransferPlace::None(excess) => {
                self.report_drop(Some(peer), cause(excess));
                false
            }
        }
    }

    fn take_answers(&mut self, now: Instant) {
        while let Ok((id, answer)) = self.answers.try_recv() {
            self.on_answer(id, answer, now);
            // A read may have ended, and left its place to another one.
            self.serve_queue();
        }
    }

    fn on_answer(&mut self, id: SessionId, answer: FileAnswer, now: Instant) {
        if let FileAnswer::Octets(start, octets) = answer {
            return self.on_octets(id, start, octets, now);
        }
        let Some(session) = self.sessions.session(id) else { return };
        if session.is_reading && matches!(answer, FileAnswer::NoAnswer) {
            return self.on_octets(id, 0, Err(Arc::new(io::ErrorKind::Interrupted.into())), now);
        }
        if let Some((step, _)) = session.held.take() {
            return self.on_confirmation(id, step, answer, now);
        }
        let content = match answer {
            FileAnswer::Confirmable(content, first_ack) => {
                session.first_ack = Some(first_ack);
                Ok(content)
            }
            FileAnswer::Content(content) => Ok(content),
            FileAnswer::NotFound => Err(FileRefusal::NotFound),
            FileAnswer::Refused(why) => Err(FileRefusal::Decided(why)),
            FileAnswer::NoAnswer | FileAnswer::Confirmed | FileAnswer::Octets(..) => {
                let peer = session.path.peer;
                self.forget(id);
                return self.report_drop(Some(peer), DropCause::NoAnswer);
            }
        };
        let content = match (content, session.request.mode) {
            (Ok(content), TransferMode::Netascii) => match session::netascii(&content, self.settings.netascii) {
                Some(encoded) => encoded,
                None => return self.read_whole(id, content),
            },
            (content, TransferMode::Octet | TransferMode::Netascii) => content,
        };
        match content {
            Ok(content) => {
                let step = session.begin(content, &self.settings, now);
                self.take_step(id, step, now);
            }
            Err(why) => {
                let PeerPath { peer, local, listener, .. } = session.path;
                let asked = self.forget(id).map(|session| session.request.asked);
                self.refuse(&RequestOrigin { peer, local, listener }, asked, why);
            }
        }
    }

    fn on_packet(&mut self, port: usize, peer: SocketAddr, packet: Packet<'_>, now: Instant) {
        let listener = self.ports[port].listener;
        let id = self.by_peer.get(&(listener, peer)).copied();
        let session = id.and_then(|id| self.sessions.session(id));
        let is_there = session.as_ref().is_some_and(|session| session.path.port == port);
        let (
            Some(id),
            Some(TransferSession {
                stage: SessionState::Sending { transfer, .. }, held, blocked, client_error, ..
            }),
        ) = (id, session)
        else {
            return self.report_drop(Some(peer), DropCause::Stray);
        };
        if !is_there {
            // A forger who has received none of our packets guesses the port. Late packets of the client's last
            // transfer come to another port too, so the first ones do no harm.
            let step = if transfer.is_proven() { TransferStep::Wait } else { transfer.on_forged_ack() };
            self.report_drop(Some(peer), DropCause::Stray);
            return self.take_step(id, step, now);
        }
        let step = match packet {
            // A repetition, while the step after the first acknowledgement runs.
            Packet::Ack(_) if held.is_some() => return,
            // The client repeats itself, because the next blocks wait for a disk. None of them was sent.
            Packet::Ack(_) if blocked.is_some() => return,
            Packet::Ack(block) => transfer.on_ack(block, now),
            Packet::Error { code, message } => {
                let message = &message[..message.len().min(MAX_CLIENT_MESSAGE)];
                *client_error = Some(String::from_utf8_lossy(message).into());
                TransferStep::End(transfer.on_error(code))
            }
            Packet::Read(_) | Packet::Write(_) | Packet::Data { .. } | Packet::OptionAck(_) => {
                return self.report_drop(Some(peer), DropCause::Stray);
            }
        };
        if matches!(packet, Packet::Ack(_)) && self.confirm(id, step, now) {
            return;
        }
        let report_of = |session: &mut TransferSession| session.slowness(now).or_else(|| session.resumption(now));
        if let Some(report) = self.sessions.session(id).and_then(report_of) {
            self.queue_report(report);
        }
        self.take_step(id, step, now);
    }

    fn on_alarm(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.session(id) else { return };
        if session.blocked.is_some() {
            return self.on_blocked_alarm(id, now);
        }
        match (&session.held, &mut session.stage) {
            (Some((_, until)), _) if now < *until => {
                let until = *until;
                self.sessions.arm(id, until);
            }
            (Some(_), _) => self.end(id, TransferEnd::Unconfirmed("no answer from the boot policy"), now),
            (None, SessionState::Waiting) => {
                let peer = session.path.peer;
                self.forget(id);
                self.report_drop(Some(peer), DropCause::NoAnswer);
            }
            (None, SessionState::Sending { transfer, .. }) => {
                let step = transfer.on_timeout(now);
                if let Some(report) = session.silence(now) {
                    self.queue_report(report);
                }
                self.take_step(id, step, now);
            }
        }
    }

    fn take_step(&mut self, id: SessionId, step: TransferStep, now: Instant) {
        let sent = match step {
            TransferStep::Wait => Ok(()),
            TransferStep::End(ending) => return self.end_by_peer(id, ending, now),
            TransferStep::OptionAck => self.with_batch(id, |session, port, batch| {
                session.post_option_ack(port, batch);
                Ok(())
            }),
            TransferStep::Data(blocks) => self.send_blocks(id, blocks),
        };
        let Some(session) = self.sessions.session(id) else { return };
        let peer = session.path.peer;
        match sent {
            Ok(()) => drop(session.blocked.take_if(|_| matches!(step, TransferStep::Data(_)))),
            Err(SendFailure::Content(error)) if error.kind() == io::ErrorKind::WouldBlock => self.read_ahead(id, step),
            Err(SendFailure::Content(error)) => return self.end(id, TransferEnd::Unreadable(error), now),
            // A full send buffer or a temporary network error counts as a lost packet.
            Err(SendFailure::Port(error)) => self.report_drop(Some(peer), DropCause::NotSent(error)),
        }
        if let Some(deadline) = self.sessions.session(id).and_then(|session| session.deadline()) {
            self.sessions.arm(id, deadline);
        }
    }

    fn flush(&mut self) {
        send(&self.ports, &mut self.batch, self.batch_port, &self.reports);
    }

    fn end(&mut self, id: SessionId, how: TransferEnd, now: Instant) {
        let Some(session) = self.forget(id) else { return };
        let last_word = match &how {
            TransferEnd::Unreadable(_) => Some("the file cannot be read"),
            TransferEnd::Stopped => Some("the server is stopping"),
            TransferEnd::Unconfirmed(message) => Some(*message),
            TransferEnd::Peer(_) | TransferEnd::Replaced | TransferEnd::Displaced => None,
        };
        let PeerPath { peer, local, port, .. } = session.path;
        if let Some(message) = last_word {
            self.send_error(port, local, peer, ErrorCode::NotDefined, message);
        }
        if let Some(report) = session.end(how, now) {
            self.queue_report(report);
        }
    }

    fn forget(&mut self, id: SessionId) -> Option<TransferSession> {
        let session = self.sessions.remove(id)?;
        let PeerPath { listener, peer, port, .. } = session.path;
        self.by_peer.remove(&(listener, peer));
        self.places.end(Source::of(peer.ip()));
        let port_state = &mut self.ports[port];
        port_state.transfers = port_state.transfers.saturating_sub(1);
        if port_state.role == PortRole::Own {
            self.free_ports.push(port);
        }
        Some(session)
    }

    fn queue_report(&self, report: TransferReport) {
        self.reports.borrow_mut().push(report);
    }

    fn report_drop(&self, peer: Option<SocketAddr>, why: DropCause) {
        self.queue_report(TransferReport::Dropped { peer, why });
    }
}

fn send(ports: &[PortState], batch: &mut SendBatch, port: usize, reports: &RefCell<Vec<TransferReport>>) {
    let Some(port) = ports.get(port).and_then(|state| state.port.as_ref()) else { return };
    batch.send(port.as_fd(), |peer, error| {
        if error.raw_os_error() == Some(nix::libc::EMSGSIZE) && port.allow_fragmentation() {
            return OnSendError::Again;
        }
        reports.borrow_mut().push(TransferReport::Dropped { peer, why: DropCause::NotSent(error) });
        OnSendError::Forget
    });
}

#[cfg(test)]
#[path = "../tests/serve.rs"]
mod tests;
