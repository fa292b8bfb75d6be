//! The rim of the TFTP server: one thread that waits for all sockets at once and does what the transfers say.
//!
//! One thread, because a lockstep transfer is a few microseconds of work a packet: handing packets to tasks
//! costs more than the work. A transfer has a port of its own (a connected socket: no route to look up, no
//! address to write, strangers kept out by the kernel), or all share the listening port if the site says so.

mod content;
mod listen;
mod session;
mod table;

use std::collections::HashMap;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

pub use self::content::{Content, SiteError, SiteFolder};
pub use self::listen::Listener;
use self::listen::{Arrival, DATAGRAM};
use self::session::{Line, Session, Stage};
use self::table::{Id, Table};
use super::options::Asked as Options;
use super::packet::{ErrorCode, Malformed, Mode, Packet, Request as Wire};
use super::path::{Asked, BadPath};
use super::transfer::{Ending, Repeated, Step};

/// How many datagrams are taken from one listening socket before the others have their turn.
const BATCH: usize = 64;
/// How many sockets are reported ready at once.
const READY: usize = 256;
/// How long whoever decides about a request may take before it is forgotten; the client asks again.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Descriptors that the rest of the process needs beside one a transfer.
const OTHER_DESCRIPTORS: u64 = 1024;
/// The epoll word of the wake-up call; listening sockets count down from the one below it.
const WAKE: u64 = u64::MAX;

/// Says what of the server the site may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether all transfers share the listening port, for firewalls and cross-subnet ROMs.
    pub single_port: bool,
    /// Transfers at once; a request beyond them is dropped, and its client asks again.
    pub transfers: usize,
    /// How long a silent peer is waited for.
    pub patience: Duration,
    /// How long transfers under way may go on after the server was told to stop.
    pub drain: Duration,
    /// The largest block size in octets in place of what the MTU allows.
    pub block_size: Option<u16>,
    /// The largest file that is converted to netascii, in octets: the copy is held in memory.
    pub netascii: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            single_port: false,
            transfers: 4096, // a hall of racks after a power cut
            patience: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            block_size: None,
            netascii: 1 << 20,
        }
    }
}

/// Is a read request that waits for its answer.
#[derive(Debug, Clone)]
pub struct Request {
    pub peer: SocketAddr,
    /// The address of ours that the peer sent to.
    pub local: IpAddr,
    /// Which of the listeners heard it, by its place in the list given to [`serve`].
    pub listener: usize,
    pub asked: Arc<Asked>,
}

/// Says what a request gets.
#[derive(Debug, Clone)]
pub enum Answer {
    Content(Content),
    /// Error 1: the client may try another name.
    NotFound,
    /// Error 2, with these words.
    Refused(&'static str),
    /// Nothing at all.
    Silence,
}

/// Is the right to answer one request, once, from any thread. Dropped, it answers with silence.
#[derive(Debug)]
pub struct Ticket {
    id: Id,
    thread: ThreadId,
    wake: Arc<EventFd>,
    answers: Option<mpsc::Sender<(Id, Answer)>>,
}

impl Ticket {
    pub fn answer(mut self, answer: Answer) {
        self.send(answer);
    }

    fn send(&mut self, answer: Answer) {
        let Some(answers) = self.answers.take() else { return };
        // A server that has stopped needs no answer. On its own thread it looks by itself.
        if answers.send((self.id, answer)).is_ok() && std::thread::current().id() != self.thread {
            let _ = self.wake.write(1);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.send(Answer::Silence);
    }
}

/// Is what the server tells of its work.
#[derive(Debug)]
pub enum Report {
    /// The first blocks of a file leave: the peer has accepted the options, or asked for none.
    Started { peer: SocketAddr, asked: Arc<Asked>, size: u64 },
    /// A transfer is over. `octets` is what the peer acknowledged, `resent` counts packets.
    Ended { peer: SocketAddr, asked: Arc<Asked>, how: Ended, octets: u64, took: Duration, resent: u64 },
    /// A client was told no.
    Refused { peer: SocketAddr, why: Refusal },
    /// A datagram got no answer, or several that the kernel had no room for.
    Dropped { peer: Option<SocketAddr>, why: Dropped },
}

/// Says how a transfer came to its end.
#[derive(Debug)]
pub enum Ended {
    /// By the protocol: complete, probed for its size only, aborted by the peer, or given up in silence.
    Peer(Ending),
    /// The peer's port is closed: it went without a word.
    Gone,
    /// The peer asked for something else from the same port.
    Replaced,
    /// The file could not be read.
    Unreadable(io::Error),
    /// The server stopped.
    Stopped,
}

/// Why a client was told no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    #[error("writing is not offered")]
    Write,
    #[error(transparent)]
    Name(#[from] BadPath),
    #[error("there is no such file")]
    NotFound,
    #[error("too large to be sent as netascii")]
    Netascii,
    #[error("{0}")]
    Decided(&'static str),
}

/// Why a datagram got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Dropped {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("it belongs to no transfer")]
    Stray,
    #[error("sent to a broadcast or multicast address")]
    ToMany,
    #[error("as many transfers as the site allows are under way")]
    Overload,
    #[error("whoever decides kept silent")]
    Silence,
    #[error("the server is stopping")]
    Stopping,
    #[error("the kernel had no room for {0} datagrams")]
    Overflow(u32),
    #[error("opening a socket towards the peer")]
    NoSocket(#[source] io::Error),
    #[error("sending to the peer")]
    NotSent(#[source] io::Error),
}

/// Serves until `shutdown` is ready, and then the transfers under way for at most [`Settings::drain`].
///
/// `content` is called on the server's thread for each request: it answers its ticket at once where that takes
/// no waiting, and elsewhere hands it on. `report` is called on the same thread and must not wait either.
///
/// # Errors
/// What kept the server from starting, or from waiting for its sockets.
pub async fn serve<C, R>(
    listeners: Vec<Listener>,
    settings: Settings,
    content: C,
    report: R,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()>
where
    C: Fn(Request, Ticket) + Send + 'static,
    R: Fn(Report) + Send + 'static,
{
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
    let stop = Stop { asked: Arc::new(AtomicBool::new(false)), wake: wake.clone() };
    let (end, mut ended) = tokio::sync::oneshot::channel();
    let asked_to_stop = stop.asked.clone();
    std::thread::Builder::new().name("tftp".into()).spawn(move || {
        let server = Server::new(listeners, settings, content, report, wake, asked_to_stop);
        let _ = end.send(server.and_then(Server::run));
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

/// Tells the thread to stop when it is dropped: with the future of [`serve`] goes the server.
struct Stop {
    asked: Arc<AtomicBool>,
    wake: Arc<EventFd>,
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.asked.store(true, Ordering::Release);
        let _ = self.wake.write(1);
    }
}

struct Server<C, R> {
    epoll: Epoll,
    listeners: Vec<Listener>,
    settings: Settings,
    content: C,
    report: R,
    sessions: Table<Session>,
    by_peer: HashMap<(usize, SocketAddr), Id>,
    answered: mpsc::Sender<(Id, Answer)>,
    answers: mpsc::Receiver<(Id, Answer)>,
    wake: Arc<EventFd>,
    asked_to_stop: Arc<AtomicBool>,
    /// When transfers under way are cut off, once the server is stopping.
    stop_at: Option<Instant>,
    out: Vec<u8>,
}

impl<C: Fn(Request, Ticket), R: Fn(Report)> Server<C, R> {
    fn new(
        listeners: Vec<Listener>,
        settings: Settings,
        content: C,
        report: R,
        wake: Arc<EventFd>,
        asked_to_stop: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        raise_descriptor_limit(settings.transfers as u64 + OTHER_DESCRIPTORS);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        for (listener, word) in listeners.iter().zip((0..WAKE).rev()) {
            epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, word))?;
        }
        let (answered, answers) = mpsc::channel();
        Ok(Server {
            epoll,
            listeners,
            settings,
            content,
            report,
            sessions: Table::default(),
            by_peer: HashMap::new(),
            answered,
            answers,
            wake,
            asked_to_stop,
            stop_at: None,
            out: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = vec![EpollEvent::empty(); READY];
        loop {
            let ready = match self.epoll.wait(&mut events, self.until_next_alarm()) {
                Err(nix::Error::EINTR) => 0,
                other => other?,
            };
            let now = Instant::now();
            for event in events.iter().take(ready) {
                match event.data() {
                    WAKE => {
                        let _ = self.wake.read();
                    }
                    word => match usize::try_from(WAKE - 1 - word) {
                        Ok(listener) if listener < self.listeners.len() => self.on_listener(listener, now),
                        _ => self.on_line(Id::of_word(word), now),
                    },
                }
            }
            self.take_answers(now);
            while let Some(id) = self.sessions.rung(now) {
                self.on_alarm(id, now);
            }
            if self.asked_to_stop.load(Ordering::Acquire) && self.has_stopped(now) {
                return Ok(());
            }
        }
    }

    fn until_next_alarm(&self) -> EpollTimeout {
        let next = [self.sessions.next_alarm(), self.stop_at].into_iter().flatten().min();
        next.map_or(EpollTimeout::NONE, |at| {
            // Rounded up: waking before the alarm would mean to wait once more.
            let pause = at.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            EpollTimeout::try_from(pause).unwrap_or(EpollTimeout::MAX)
        })
    }

    /// Goes on for those under way until the time is up; new requests are dropped from the first call on.
    fn has_stopped(&mut self, now: Instant) -> bool {
        let stop_at = *self.stop_at.get_or_insert(now + self.settings.drain);
        if now >= stop_at {
            for id in self.sessions.ids() {
                self.end(id, Ended::Stopped, now);
            }
        }
        self.sessions.len() == 0
    }

    fn on_listener(&mut self, listener: usize, now: Instant) {
        let mut datagram = [0; DATAGRAM];
        for _ in 0..BATCH {
            let arrival = match self.listeners[listener].receive(&mut datagram) {
                Ok(arrival) => arrival,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error that an earlier datagram met: it says nothing of this socket.
                Err(_) => continue,
            };
            if arrival.overflowed > 0 {
                self.drop_with(None, Dropped::Overflow(arrival.overflowed));
            }
            match Packet::parse(datagram.get(..arrival.octets).unwrap_or_default()) {
                Err(why) => self.drop_with(Some(arrival.peer), why.into()),
                Ok(_) if arrival.to_many => self.drop_with(Some(arrival.peer), Dropped::ToMany),
                Ok(Packet::Read(request)) => self.on_request(listener, &arrival, &request, now),
                Ok(Packet::Write(_)) => self.refuse(listener, &arrival, Refusal::Write),
                Ok(packet) => match self.by_peer.get(&(listener, arrival.peer)) {
                    Some(&id) if self.settings.single_port => self.on_packet(id, packet, now),
                    _ => self.drop_with(Some(arrival.peer), Dropped::Stray),
                },
            }
        }
    }

    fn on_request(&mut self, listener: usize, arrival: &Arrival, wire: &Wire<'_>, now: Instant) {
        let asked = match Asked::read(wire.name) {
            Ok(asked) => asked,
            Err(bad) => return self.refuse(listener, arrival, bad.into()),
        };
        if self.is_repeated(listener, arrival, &asked, wire, now) {
            return;
        }
        if self.stop_at.is_some() {
            return self.drop_with(Some(arrival.peer), Dropped::Stopping);
        }
        if self.sessions.len() >= self.settings.transfers {
            return self.drop_with(Some(arrival.peer), Dropped::Overload);
        }
        let line = match Line::open(&self.listeners[listener], arrival, self.settings.single_port) {
            Ok(line) => line,
            Err(error) => return self.drop_with(Some(arrival.peer), Dropped::NoSocket(error)),
        };
        let asked = Arc::new(asked);
        let options = Options::read(wire.options);
        let session = Session::new(listener, arrival, line, asked.clone(), options, wire.mode, now);
        let id = self.sessions.insert(session);
        self.by_peer.insert((listener, arrival.peer), id);
        self.sessions.ring_by(id, now + ANSWER_WITHIN);
        let ticket = Ticket {
            id,
            thread: std::thread::current().id(),
            wake: self.wake.clone(),
            answers: Some(self.answered.clone()),
        };
        (self.content)(Request { peer: arrival.peer, local: arrival.local, listener, asked }, ticket);
        self.take_answers(now);
    }

    /// Says whether a request is one that is being served already, and serves it. If it is another, or the
    /// client begins anew, what was before is forgotten.
    fn is_repeated(
        &mut self,
        listener: usize,
        arrival: &Arrival,
        asked: &Asked,
        wire: &Wire<'_>,
        now: Instant,
    ) -> bool {
        let Some(&id) = self.by_peer.get(&(listener, arrival.peer)) else { return false };
        let Some(session) = self.sessions.session(id) else { return false };
        if session.is_for(asked, Options::read(wire.options), wire.mode) {
            match &mut session.stage {
                Stage::Asking => return true,
                Stage::Sending { transfer, .. } => {
                    if let Repeated::Again(step) = transfer.on_request(now) {
                        self.take_step(id, step, now);
                        return true;
                    }
                }
            }
        }
        self.end(id, Ended::Replaced, now);
        false
    }

    fn take_answers(&mut self, now: Instant) {
        while let Ok((id, answer)) = self.answers.try_recv() {
            self.on_answer(id, answer, now);
        }
    }

    fn on_answer(&mut self, id: Id, answer: Answer, now: Instant) {
        let Some(session) = self.sessions.session(id) else { return };
        let content = match answer {
            Answer::Content(content) if session.mode == Mode::Octet => Ok(content),
            Answer::Content(content) => session::netascii(&content, self.settings.netascii),
            Answer::NotFound => Err(Refusal::NotFound),
            Answer::Refused(why) => Err(Refusal::Decided(why)),
            Answer::Silence => {
                let peer = session.peer;
                self.forget(id);
                return self.drop_with(Some(peer), Dropped::Silence);
            }
        };
        let content = match content {
            Ok(content) => content,
            Err(why) => {
                let (listener, arrival) = (session.listener, session.arrival());
                self.forget(id);
                return self.refuse(listener, &arrival, why);
            }
        };
        let watched = session.line.watch(&self.epoll, id);
        let step = session.begin(content, &self.listeners, &self.settings, now);
        match watched.and(step) {
            Ok(step) => self.take_step(id, step, now),
            Err(error) => {
                let peer = session.peer;
                self.forget(id);
                self.drop_with(Some(peer), Dropped::NoSocket(error));
            }
        }
    }

    /// Hears what came in on a port of its own.
    fn on_line(&mut self, id: Id, now: Instant) {
        let mut datagram = [0; DATAGRAM];
        let Some(session) = self.sessions.session(id) else { return };
        let peer = session.peer;
        match session.line.receive(&mut datagram) {
            Ok(octets) => match Packet::parse(datagram.get(..octets).unwrap_or_default()) {
                Ok(packet) => self.on_packet(id, packet, now),
                Err(why) => self.drop_with(Some(peer), why.into()),
            },
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.end(id, Ended::Gone, now),
            // Nothing there after all, or a passing trouble on the way: the clock goes on.
            Err(_) => {}
        }
    }

    fn on_packet(&mut self, id: Id, packet: Packet<'_>, now: Instant) {
        let Some(session) = self.sessions.session(id) else { return };
        let peer = session.peer;
        let Stage::Sending { transfer, .. } = &mut session.stage else {
            return self.drop_with(Some(peer), Dropped::Stray);
        };
        let step = match packet {
            Packet::Ack(block) => transfer.on_ack(block, now),
            Packet::Error { code, .. } => Step::End(transfer.on_error(code)),
            Packet::Read(_) | Packet::Write(_) | Packet::Data { .. } | Packet::OptionAck(_) => {
                return self.drop_with(Some(peer), Dropped::Stray);
            }
        };
        self.take_step(id, step, now);
    }

    fn on_alarm(&mut self, id: Id, now: Instant) {
        let Some(session) = self.sessions.session(id) else { return };
        match &mut session.stage {
            Stage::Asking => {
                let peer = session.peer;
                self.forget(id);
                self.drop_with(Some(peer), Dropped::Silence);
            }
            Stage::Sending { transfer, .. } => {
                let step = transfer.on_timeout(now);
                self.take_step(id, step, now);
            }
        }
    }

    fn take_step(&mut self, id: Id, step: Step, now: Instant) {
        let Some(session) = self.sessions.session(id) else { return };
        let sent = match step {
            Step::Wait => Ok(()),
            Step::End(ending) => return self.end(id, Ended::Peer(ending), now),
            Step::OptionAck => session.send_option_ack(&self.listeners, &mut self.out),
            Step::Data(blocks) => {
                if let Some(started) = session.start() {
                    (self.report)(started);
                }
                session.send_blocks(&self.listeners, blocks, &mut self.out)
            }
        };
        let deadline = session.deadline();
        let peer = session.peer;
        match sent {
            Ok(()) => {}
            Err(session::Unsent::Content(error)) => return self.end(id, Ended::Unreadable(error), now),
            Err(session::Unsent::Line(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return self.end(id, Ended::Gone, now);
            }
            // A full send buffer or a passing trouble on the way: a lost packet like any other.
            Err(session::Unsent::Line(error)) => self.drop_with(Some(peer), Dropped::NotSent(error)),
        }
        if let Some(deadline) = deadline {
            self.sessions.ring_by(id, deadline);
        }
    }

    fn end(&mut self, id: Id, how: Ended, now: Instant) {
        let Some(session) = self.forget(id) else { return };
        let last_word = match &how {
            Ended::Unreadable(_) => Some("the file cannot be read"),
            Ended::Stopped => Some("the server is stopping"),
            Ended::Peer(_) | Ended::Gone | Ended::Replaced => None,
        };
        if let Some(message) = last_word {
            self.out.clear();
            let code = ErrorCode::NotDefined as u16;
            Packet::Error { code, message: message.as_bytes() }.emit(&mut self.out);
            let _ = session.send(&self.listeners, &[IoSlice::new(&self.out)], None);
        }
        if let Some(report) = session.ended(how, now) {
            (self.report)(report);
        }
    }

    fn forget(&mut self, id: Id) -> Option<Session> {
        let session = self.sessions.remove(id)?;
        self.by_peer.remove(&(session.listener, session.peer));
        Some(session)
    }

    /// Tells a client no. Its ERROR leaves from the listening port: a client takes the first answer's port.
    fn refuse(&mut self, listener: usize, arrival: &Arrival, why: Refusal) {
        let code = match why {
            Refusal::NotFound => ErrorCode::FileNotFound,
            Refusal::Write | Refusal::Name(_) | Refusal::Decided(_) => ErrorCode::AccessViolation,
            Refusal::Netascii => ErrorCode::NotDefined,
        };
        self.out.clear();
        Packet::Error { code: code as u16, message: why.to_string().as_bytes() }.emit(&mut self.out);
        let peer = arrival.peer;
        let sent = self.listeners[listener].send(&[IoSlice::new(&self.out)], None, arrival.local, peer);
        if let Err(error) = sent {
            self.drop_with(Some(peer), Dropped::NotSent(error));
        }
        (self.report)(Report::Refused { peer, why });
    }

    fn drop_with(&self, peer: Option<SocketAddr>, why: Dropped) {
        (self.report)(Report::Dropped { peer, why });
    }
}

/// Lets the process open as many descriptors as it needs, as far as it may.
fn raise_descriptor_limit(needed: u64) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < needed {
        // Refused, it is what it was, and a request that finds no descriptor left is a counted drop.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard);
    }
}

#[cfg(test)]
#[path = "tests/serve.rs"]
mod tests;
