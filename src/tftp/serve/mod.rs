//! The rim of the TFTP server: one thread that waits for all sockets at once and does what the transfers say.
//!
//! One thread, because a lockstep transfer is two microseconds of work a packet: handing packets to tasks
//! costs more than the work. Many transfers take place on one socket, because what arrives for them is taken
//! in one system call, and what they answer is sent in one.

pub mod boot_files;
mod content;
mod mmsg;
mod port;
mod session;
mod table;
mod ticket;
mod types;

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

pub use self::content::{Content, SiteError, SiteFolder};
use self::port::Port;
pub use self::port::{Listener, Ports};
use self::session::{Asking, Session, Stage, Unsent, Way};
use self::table::{Id, Table};
pub use self::ticket::Ticket;
use super::options::Asked as Options;
use super::packet::{ErrorCode, Mode, Packet, Request as Wire};
use super::path::Asked;
use super::transfer::{Blocks, Repeated, Step};
use crate::tftp::serve::mmsg::{Beside, Inbox, Outbox, Received, Then};
pub use crate::tftp::serve::types::{Answer, Dropped, Ended, Refusal, Report, Request, Settings};

/// How many sockets are reported ready at once.
const READY: usize = 64;
/// How long whoever decides about a request may take before it is forgotten; the client asks again.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long an interface's MTU counts as known.
const MTU_KNOWN: Duration = Duration::from_secs(10);
/// The epoll word of the wake-up call; the others are places in the list of ports.
const WAKE: u64 = u64::MAX;

/// Serves until `shutdown` is ready, and then the transfers under way for at most [`Settings::drain`].
///
/// `content` is called on the server's thread for each request: it answers its ticket at once where that takes
/// no waiting, and elsewhere hands it on. `report` is called on the same thread, after the datagrams that it
/// is about were sent, and must not wait either.
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
    /// The listening ports, and after them the ports of each one's transfers.
    ports: Vec<Door>,
    listeners: usize,
    settings: Settings,
    content: C,
    report: R,
    /// What is to be told once the datagrams at hand are on their way: whoever listens may want this core.
    untold: RefCell<Vec<Report>>,
    sessions: Table<Session>,
    by_peer: HashMap<(usize, SocketAddr), Id>,
    /// MTUs by the listener and the number of the interface.
    mtus: HashMap<(usize, u32), (u32, Instant)>,
    answered: mpsc::Sender<(Id, Answer)>,
    answers: mpsc::Receiver<(Id, Answer)>,
    wake: Arc<EventFd>,
    asked_to_stop: Arc<AtomicBool>,
    /// When transfers under way are cut off, once the server is stopping.
    stop_at: Option<Instant>,
    outbox: Outbox,
    /// Which port the outbox's datagrams leave from.
    outbox_port: usize,
}

/// Is a port and how it is used.
struct Door {
    port: Port,
    listener: usize,
    transfers: usize,
    /// When it was last given to a transfer, counted in transfers.
    given: u64,
    overflowed: u32,
}

/// Says how a request reached us.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    peer: SocketAddr,
    local: IpAddr,
    listener: usize,
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
        let door = |port, listener| Door { port, listener, transfers: 0, given: 0, overflowed: 0 };
        let count = listeners.len();
        let (requests, transfers): (Vec<_>, Vec<_>) =
            listeners.into_iter().map(|listener| (listener.requests, listener.transfers)).unzip();
        let mut ports: Vec<Door> = requests.into_iter().zip(0..).map(|(port, listener)| door(port, listener)).collect();
        for (transfers, listener) in transfers.into_iter().zip(0..) {
            ports.extend(transfers.into_iter().map(|port| door(port, listener)));
        }
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        for (door, word) in ports.iter().zip(0..) {
            epoll.add(&door.port, EpollEvent::new(EpollFlags::EPOLLIN, word))?;
        }
        let (answered, answers) = mpsc::channel();
        Ok(Server {
            epoll,
            ports,
            listeners: count,
            settings,
            content,
            report,
            untold: RefCell::default(),
            sessions: Table::default(),
            by_peer: HashMap::new(),
            mtus: HashMap::new(),
            answered,
            answers,
            wake,
            asked_to_stop,
            stop_at: None,
            outbox: Outbox::new(),
            outbox_port: 0,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = vec![EpollEvent::empty(); READY];
        let mut inbox = Inbox::new();
        loop {
            let ready = match self.epoll.wait(&mut events, self.until_next_alarm()) {
                Err(nix::Error::EINTR) => 0,
                other => other?,
            };
            let now = Instant::now();
            for event in events.iter().take(ready) {
                match usize::try_from(event.data()) {
                    Ok(port) if port < self.ports.len() => self.on_port(port, &mut inbox, now),
                    _ => drop(self.wake.read()),
                }
            }
            self.take_answers(now);
            while let Some(id) = self.sessions.rung(now) {
                self.on_alarm(id, now);
            }
            self.send_outbox();
            self.untold.take().into_iter().for_each(&self.report);
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
            self.send_outbox();
            self.untold.take().into_iter().for_each(&self.report);
        }
        self.sessions.len() == 0
    }

    fn on_port(&mut self, port: usize, inbox: &mut Inbox, now: Instant) {
        if inbox.receive(self.ports[port].port.as_fd()).is_err() {
            return; // nothing there after all
        }
        for received in inbox.iter() {
            match Packet::parse(received.octets) {
                Ok(Packet::Read(request)) if port < self.listeners => {
                    if let Some((arrival, interface)) = self.arrival(port, &received) {
                        self.on_request(&arrival, interface, &request, now);
                    }
                }
                Ok(Packet::Write(_)) if port < self.listeners => {
                    if let Some((arrival, _)) = self.arrival(port, &received) {
                        self.refuse(&arrival, None, Refusal::Write);
                    }
                }
                Ok(packet) => self.on_packet(port, received.peer, packet, now),
                Err(why) => self.drop_with(Some(received.peer), why.into()),
            }
        }
        self.send_outbox();
    }

    /// Says how a request came, unless it was sent to many (RFC 1123, section 4.2.3.4).
    fn arrival(&mut self, port: usize, received: &Received<'_>) -> Option<(Arrival, u32)> {
        let Beside { local, to_many, overflowed } = received.beside();
        let door = &mut self.ports[port];
        let lost = overflowed.map_or(0, |count| count.wrapping_sub(std::mem::replace(&mut door.overflowed, count)));
        if lost > 0 {
            self.drop_with(None, Dropped::Overflow(lost));
        }
        if to_many {
            self.drop_with(Some(received.peer), Dropped::ToMany);
            return None;
        }
        let (local, interface) = local.unwrap_or((Ipv4Addr::UNSPECIFIED.into(), 0));
        Some((Arrival { peer: received.peer, local, listener: port }, interface))
    }

    fn on_request(&mut self, arrival: &Arrival, interface: u32, wire: &Wire<'_>, now: Instant) {
        let asked = match Asked::read(wire.name) {
            Ok(asked) => Arc::new(asked),
            Err(bad) => return self.refuse(arrival, None, bad.into()),
        };
        let &Arrival { peer, local, listener } = arrival;
        let asking = Asking { asked: asked.clone(), options: Options::read(wire.options), mode: wire.mode };
        if self.is_repeated(arrival, &asking, now) {
            return;
        }
        if self.stop_at.is_some() {
            return self.drop_with(Some(peer), Dropped::Stopping);
        }
        if self.sessions.len() >= self.settings.transfers {
            return self.drop_with(Some(peer), Dropped::Overload);
        }
        let mtu = match self.mtu(listener, interface, peer, now) {
            Ok(mtu) => mtu,
            Err(error) => return self.drop_with(Some(peer), Dropped::NoWay(error)),
        };
        let port = self.give_port(listener);
        let way = Way { peer, name: peer.into(), local, listener, port, mtu };
        let id = self.sessions.insert(Session::new(way, asking, now));
        self.by_peer.insert((listener, peer), id);
        self.sessions.ring_by(id, now + ANSWER_WITHIN);
        let ticket = Ticket::new(id, self.wake.clone(), self.answered.clone());
        (self.content)(Request { peer, local, listener, asked }, ticket);
        self.take_answers(now);
    }

    /// Says whether a request is one that is being served already, and serves it. If it is another, or the
    /// client begins anew, what was before is forgotten.
    fn is_repeated(&mut self, arrival: &Arrival, asking: &Asking, now: Instant) -> bool {
        let Some(&id) = self.by_peer.get(&(arrival.listener, arrival.peer)) else { return false };
        let Some(session) = self.sessions.session(id) else { return false };
        if session.request == *asking {
            match &mut session.stage {
                Stage::Waiting => return true,
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

    /// Asks the kernel for the MTU towards a peer, at times.
    fn mtu(&mut self, listener: usize, interface: u32, peer: SocketAddr, now: Instant) -> io::Result<u32> {
        let known = self.mtus.get(&(listener, interface));
        if let Some((mtu, _)) = known.filter(|(_, asked_at)| now < *asked_at + MTU_KNOWN) {
            return Ok(*mtu);
        }
        let mtu = port::mtu(peer)?;
        self.mtus.insert((listener, interface), (mtu, now));
        Ok(mtu)
    }

    /// Chooses the port with the fewest transfers, of those the one whose last transfer is longest ago: late
    /// packets of a client's last transfer then find nobody, and not its next one.
    fn give_port(&mut self, listener: usize) -> usize {
        let given = self.ports.iter().map(|door| door.given).max().unwrap_or(0) + 1;
        let of_listener = |(_, door): &(usize, &mut Door)| door.listener == listener;
        let transfers = self.ports.iter_mut().enumerate().skip(self.listeners).filter(of_listener);
        let Some((port, door)) = transfers.min_by_key(|(_, door)| (door.transfers, door.given)) else {
            return listener; // a single port for all
        };
        door.transfers += 1;
        door.given = given;
        port
    }

    fn take_answers(&mut self, now: Instant) {
        while let Ok((id, answer)) = self.answers.try_recv() {
            self.on_answer(id, answer, now);
        }
    }

    fn on_answer(&mut self, id: Id, answer: Answer, now: Instant) {
        let Some(session) = self.sessions.session(id) else { return };
        let content = match answer {
            Answer::Content(content) if session.request.mode == Mode::Octet => Ok(content),
            Answer::Content(content) => session::netascii(&content, self.settings.netascii),
            Answer::NotFound => Err(Refusal::NotFound),
            Answer::Refused(why) => Err(Refusal::Decided(why)),
            Answer::Silence => {
                let peer = session.way.peer;
                self.forget(id);
                return self.drop_with(Some(peer), Dropped::Silence);
            }
        };
        match content {
            Ok(content) => {
                let step = session.begin(content, &self.settings, now);
                self.take_step(id, step, now);
            }
            Err(why) => {
                let Way { peer, local, listener, .. } = session.way;
                let asked = self.forget(id).map(|session| session.request.asked);
                self.refuse(&Arrival { peer, local, listener }, asked, why);
            }
        }
    }

    fn on_packet(&mut self, port: usize, peer: SocketAddr, packet: Packet<'_>, now: Instant) {
        let listener = self.ports[port].listener;
        let id = self.by_peer.get(&(listener, peer)).copied();
        let session = id.and_then(|id| self.sessions.session(id)).filter(|session| session.way.port == port);
        let (Some(id), Some(Session { stage: Stage::Sending { transfer, .. }, .. })) = (id, session) else {
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
            Stage::Waiting => {
                let peer = session.way.peer;
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
        let sent = match step {
            Step::Wait => Ok(()),
            Step::End(ending) => return self.end(id, Ended::Peer(ending), now),
            Step::OptionAck => self.with_outbox(id, |session, port, outbox| {
                session.post_option_ack(port, outbox);
                Ok(())
            }),
            Step::Data(blocks) => self.send_blocks(id, blocks),
        };
        let Some(session) = self.sessions.session(id) else { return };
        let (peer, deadline) = (session.way.peer, session.deadline());
        match sent {
            Ok(()) => {}
            Err(Unsent::Content(error)) => return self.end(id, Ended::Unreadable(error), now),
            // A full send buffer or a passing trouble on the way: a lost packet like any other.
            Err(Unsent::Port(error)) => self.drop_with(Some(peer), Dropped::NotSent(error)),
        }
        if let Some(deadline) = deadline {
            self.sessions.ring_by(id, deadline);
        }
    }

    fn send_blocks(&mut self, id: Id, blocks: Blocks) -> Result<(), Unsent> {
        let Some(session) = self.sessions.session(id) else { return Ok(()) };
        if let Some(started) = session.start() {
            self.untold.borrow_mut().push(started);
        }
        let Some(left) = session.send_window(&self.ports[session.way.port].port, blocks)? else { return Ok(()) };
        for block in left.iter() {
            self.with_outbox(id, |session, port, outbox| {
                session.post_block(port, block, outbox).map_err(Unsent::Content)
            })?;
        }
        Ok(())
    }

    /// Gives the outbox, for the port of a session and with room for a datagram.
    fn with_outbox(
        &mut self,
        id: Id,
        post: impl FnOnce(&Session, &Port, &mut Outbox) -> Result<(), Unsent>,
    ) -> Result<(), Unsent> {
        let Some(session) = self.sessions.session(id) else { return Ok(()) };
        if session.way.port != self.outbox_port || self.outbox.is_full() {
            send(&self.ports, &mut self.outbox, self.outbox_port, &self.untold);
            self.outbox_port = session.way.port;
        }
        post(session, &self.ports[session.way.port].port, &mut self.outbox)
    }

    fn send_outbox(&mut self) {
        send(&self.ports, &mut self.outbox, self.outbox_port, &self.untold);
    }

    fn end(&mut self, id: Id, how: Ended, now: Instant) {
        let Some(session) = self.forget(id) else { return };
        let last_word = match &how {
            Ended::Unreadable(_) => Some("the file cannot be read"),
            Ended::Stopped => Some("the server is stopping"),
            Ended::Peer(_) | Ended::Replaced => None,
        };
        let Way { peer, local, port, .. } = session.way;
        if let Some(message) = last_word {
            self.say_error(port, local, peer, ErrorCode::NotDefined, message);
        }
        if let Some(report) = session.end(how, now) {
            self.tell(report);
        }
    }

    fn forget(&mut self, id: Id) -> Option<Session> {
        let session = self.sessions.remove(id)?;
        let Way { listener, peer, port, .. } = session.way;
        self.by_peer.remove(&(listener, peer));
        let door = &mut self.ports[port];
        door.transfers = door.transfers.saturating_sub(1);
        Some(session)
    }

    /// Tells a client no. Its ERROR leaves from the listening port: a client takes the first answer's port.
    fn refuse(&mut self, arrival: &Arrival, asked: Option<Arc<Asked>>, why: Refusal) {
        let code = match why {
            Refusal::NotFound => ErrorCode::FileNotFound,
            Refusal::Write | Refusal::Name(_) | Refusal::Decided(_) => ErrorCode::AccessViolation,
            Refusal::Netascii => ErrorCode::NotDefined,
        };
        let &Arrival { peer, local, listener } = arrival;
        self.say_error(listener, local, peer, code, &why.to_string());
        self.tell(Report::Refused { peer, asked, why });
    }

    fn say_error(&self, port: usize, local: IpAddr, peer: SocketAddr, code: ErrorCode, message: &str) {
        let mut packet = Vec::new();
        Packet::Error { code: code as u16, message: message.as_bytes() }.emit(&mut packet);
        if let Err(error) = self.ports[port].port.send(&[IoSlice::new(&packet)], None, local, peer) {
            self.drop_with(Some(peer), Dropped::NotSent(error));
        }
    }

    fn tell(&self, report: Report) {
        self.untold.borrow_mut().push(report);
    }

    fn drop_with(&self, peer: Option<SocketAddr>, why: Dropped) {
        self.tell(Report::Dropped { peer, why });
    }
}

fn send(ports: &[Door], outbox: &mut Outbox, port: usize, untold: &RefCell<Vec<Report>>) {
    let port = &ports[port].port;
    outbox.send(port.as_fd(), |peer, error| {
        if error.raw_os_error() == Some(nix::libc::EMSGSIZE) && port.let_fragment() {
            return Then::Again;
        }
        untold.borrow_mut().push(Report::Dropped { peer, why: Dropped::NotSent(error) });
        Then::Forget
    });
}

#[cfg(test)]
#[path = "../tests/serve.rs"]
mod tests;
