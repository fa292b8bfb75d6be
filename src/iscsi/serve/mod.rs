//! The rim: sockets, media, clocks and challenges for [`session::Connection`](super::session).

pub mod admission;
pub mod busy_poll;
mod registry;
pub mod sendfile;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use super::chap::{ChapTerms, Nonce};
use super::limits;
use super::login::{Claim, Entrance, Refusal};
use super::medium::Lun;
use super::scsi::Units;
use crate::iscsi::connection::{Connection, End, Read, Step, TargetEntry, View};
use crate::iscsi::full_feature::Rejection;
use crate::iscsi::serve::busy_poll::Patience;
use crate::iso::ReadAt;
use registry::{Place, Registry};

/// Is a login as the door sees it: what the initiator claims, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginClaim {
    /// Holds what the initiator says of itself.
    pub claim: Claim,
    /// Names the initiator's end of the connection.
    pub peer: SocketAddr,
    /// Names our end of the connection.
    pub local: SocketAddr,
}

/// Is what an admitted initiator gets.
#[derive(Debug, Default)]
pub struct Grant {
    /// Lists the units by their numbers, and what they read from. Empty in a discovery session.
    pub units: BTreeMap<u8, (Lun, Arc<dyn ReadAt>)>,
    /// Lists the targets that SendTargets shows.
    pub targets: Vec<TargetEntry>,
    /// Demands CHAP.
    pub chap: Option<ChapTerms>,
}

/// Is the answer to a login's claim.
#[derive(Debug)]
pub enum Admission {
    /// Lets the initiator in, after CHAP where the grant demands it.
    Admit(Grant),
    /// Sends the initiator to another portal.
    Redirect {
        /// Names the portal: `host:port`, an IPv6 address in brackets.
        portal: String,
        /// Says whether the target stays there.
        permanent: bool,
    },
    /// Fails the login.
    Refuse(Refusal),
}

/// Is something that happened at the door or behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A session began.
    Attached(LoginClaim),
    /// A connection ended that was a session.
    Ended {
        /// Holds who it was.
        login: LoginClaim,
        /// Says why; `None` where the connection just broke, as those of boot firmware do.
        end: Option<End>,
        /// Counts the bytes sent to it.
        sent: u64,
    },
    /// A connection ended that was no session.
    Refused {
        /// Names where it came from.
        peer: SocketAddr,
        /// Holds what it claimed, where it got as far.
        login: Option<LoginClaim>,
        /// Says why; `None` where the peer went away.
        end: Option<End>,
    },
    /// A PDU of a session was rejected.
    Rejected {
        /// Names where it came from.
        peer: SocketAddr,
        /// Is the PDU's opcode.
        opcode: u8,
        /// Says why.
        why: Rejection,
    },
    /// A connection was closed at once: there are as many sessions as may be.
    Full(SocketAddr),
    /// A medium could not be read.
    ReadFailed {
        /// Names who wanted to read.
        peer: SocketAddr,
        /// Is what it logged in with.
        login: Option<LoginClaim>,
        /// Holds the number of the unit.
        lun: u8,
        /// Says what went wrong.
        error: String,
    },
}

type Authorize = dyn Fn(&LoginClaim) -> Admission + Send + Sync;
type Hear = dyn Fn(Report) + Send + Sync;

/// Decides who may attach what, and hears what came of it. Both calls may wait for a disk.
pub struct Door {
    /// Answers a claim.
    pub authorize: Box<Authorize>,
    /// Hears of outcomes.
    pub report: Box<Hear>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

/// Serves connections until `stop` turns true; then asks the initiators to log out and waits for them
/// as long as [`limits::LOGOUT_TIME`] says.
pub async fn serve(listener: TcpListener, door: Arc<Door>, mut stop: watch::Receiver<bool>) {
    let registry = Arc::new(Registry::default());
    let places = Arc::new(Semaphore::new(limits::SESSIONS_AT_ONCE));
    let mut sessions = JoinSet::new();
    while !*stop.borrow() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = sessions.join_next() => continue,
            _ = stop.changed() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            (door.report)(Report::Full(peer));
            continue;
        };
        let (registry, door, stop) = (Arc::clone(&registry), Arc::clone(&door), stop.clone());
        sessions.spawn(async move {
            if let Ok(rim) = Rim::new(stream, peer, door, registry) {
                rim.run(stop).await;
            }
            drop(place);
        });
    }
    drop(listener);
    let ended = async { while sessions.join_next().await.is_some() {} };
    if tokio::time::timeout(limits::STOP_TIME, ended).await.is_err() {
        tracing::debug!(left = sessions.len(), "sessions that take nothing are cut off");
    }
}

/// Is one connection with the world around it.
struct Rim {
    stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    door: Arc<Door>,
    registry: Arc<Registry>,
    connection: Connection,
    /// Is told when a new login replaces this session.
    replaced: Arc<Notify>,
    place: Option<Place>,
    login: Option<LoginClaim>,
    media: BTreeMap<u8, Arc<dyn ReadAt>>,
    sent: u64,
}

/// Is what the peer sent and the connection did not take yet.
struct Input {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Rim {
    fn new(stream: TcpStream, peer: SocketAddr, door: Arc<Door>, registry: Arc<Registry>) -> io::Result<Self> {
        // One answer is one segment: waiting for more costs 40 ms a read (boot-facts 21).
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(limits::KEEPALIVE_IDLE)
            .with_interval(limits::KEEPALIVE_INTERVAL)
            .with_retries(limits::KEEPALIVE_PROBES);
        // BIOS iPXE's session is abandoned without a FIN when the OS takes over (boot-facts 19).
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(Self {
            peer,
            local: stream.local_addr()?,
            stream,
            door,
            registry,
            connection: Connection::new(Instant::now()),
            replaced: Arc::new(Notify::new()),
            place: None,
            login: None,
            media: BTreeMap::new(),
            sent: 0,
        })
    }

    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let Err(end) = self.converse(&mut stop).await;
        let attached = self.place.is_some();
        let (peer, sent) = (self.peer, self.sent);
        let report = match self.login.take() {
            Some(login) if attached => Report::Ended { login, end, sent },
            login => Report::Refused { peer, login, end },
        };
        (self.door.report)(report);
    }

    /// Obeys the connection until it ends; with `None` where the peer just went away.
    async fn converse(&mut self, stop: &mut watch::Receiver<bool>) -> Result<Infallible, Option<End>> {
        let mut input = Input { bytes: vec![0; limits::INPUT].into(), start: 0, end: 0 };
        let timer = tokio::time::sleep_until(self.wake());
        tokio::pin!(timer);
        let mut leave = None;
        let mut patience = Patience::default();
        loop {
            match self.connection.step() {
                Step::Ask(claim) => self.ask(claim).await,
                Step::Attach(key) => self.attach(key).await.ok_or(None)?,
                Step::Read(read) => {
                    if self.lend(&read).await? {
                        self.connection.on_lent(read);
                        self.look_up(&mut input, stop, &mut leave).await?;
                    } else {
                        self.read(read).await;
                    }
                }
                Step::Send => {
                    self.send().await?;
                    self.look_up(&mut input, stop, &mut leave).await?;
                }
                Step::Close(end) => return Err(Some(end)),
                Step::Receive => {
                    if self.take(&mut input) {
                        continue;
                    }
                    if let Some(time) = patience.look() {
                        let came = self.look_out(time, &mut input).await;
                        patience.waited(came);
                        if came {
                            self.take(&mut input);
                            self.heed(stop, &mut leave).await?;
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
                            // An answered ping brings the next one nearer than the end that was feared.
                            timer.as_mut().reset(self.wake().min(tokio::time::Instant::now() + limits::IDLE_PING));
                        }
                        _ = stop.changed(), if leave.is_none() => leave = Some(self.begin_to_stop()),
                    }
                    self.take(&mut input);
                }
            }
        }
    }

    /// Looks for more of the peer, letting others have the thread in between, before it is waited for; tells
    /// whether something came. An end or an error is found again by who waits.
    async fn look_out(&self, time: Duration, input: &mut Input) -> bool {
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

    /// Looks up from work that may never end, an initiator keeping its queue full: what it asks for meanwhile
    /// does not wait for what it is to abort, nor does the end of the session.
    async fn look_up(
        &mut self,
        input: &mut Input,
        stop: &watch::Receiver<bool>,
        leave: &mut Option<tokio::time::Instant>,
    ) -> Result<(), Option<End>> {
        if !self.connection.works() {
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
        self.heed(stop, leave).await
    }

    /// Heeds what ends a session whose initiator never lets it wait, and lets others have the thread now and then.
    async fn heed(
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
            None if stop.has_changed().unwrap_or(true) => *leave = Some(self.begin_to_stop()),
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Asks the initiator to log out; gives when it has to be gone.
    fn begin_to_stop(&mut self) -> tokio::time::Instant {
        self.connection.on_stop(limits::LOGOUT_TIME);
        tokio::time::Instant::now() + limits::LOGOUT_TIME
    }

    /// Hands the connection what was read; tells whether it took anything.
    fn take(&mut self, input: &mut Input) -> bool {
        let used = self.connection.on_bytes(&input.bytes[input.start..input.end], Instant::now());
        input.used(used);
        if let Some((opcode, why)) = self.connection.rejected() {
            (self.door.report)(Report::Rejected { peer: self.peer, opcode, why });
        }
        used > 0
    }

    fn wake(&self) -> tokio::time::Instant {
        self.connection.deadline().unwrap_or_else(Instant::now).into()
    }

    async fn ask(&mut self, claim: Claim) {
        let login = LoginClaim { claim, peer: self.peer, local: self.local };
        self.login = Some(login.clone());
        let door = Arc::clone(&self.door);
        // The answer may need a file opened or a fact recorded: not on a thread that others wait for.
        let asked = tokio::task::spawn_blocking(move || (door.authorize)(&login)).await;
        let admission = asked.unwrap_or(Admission::Refuse(Refusal::Unavailable));
        let name = self.login.as_ref().and_then(|login| login.claim.target.clone()).unwrap_or_default();
        let (entrance, grant) = match admission {
            Admission::Admit(grant) => (Entrance::Admit(grant.chap.clone()), grant),
            Admission::Redirect { portal, permanent } => (Entrance::Redirect { portal, permanent }, Grant::default()),
            Admission::Refuse(refusal) => (Entrance::Refuse(refusal), Grant::default()),
        };
        let mut luns = Vec::new();
        for (number, (lun, medium)) in grant.units.into_iter().take(limits::LUNS) {
            luns.push((number, lun));
            self.media.insert(number, medium);
        }
        let view = View { units: Units::new(&name, luns), targets: grant.targets };
        self.connection.on_entrance(entrance, nonce(), view);
    }

    /// Finds the session its place; waits for the end of one that it replaces.
    async fn attach(&mut self, key: crate::iscsi::connection::SessionKey) -> Option<()> {
        let (place, former) = self.registry.attach(key, Arc::clone(&self.replaced));
        if let Some(mut ended) = former {
            // Fails once the former session is gone, which is what we wait for.
            let _ = ended.changed().await;
        }
        self.connection.on_attached(place.tsih(), Instant::now());
        self.place = Some(place);
        (self.door.report)(Report::Attached(self.login.clone()?));
        Some(())
    }

    async fn read(&mut self, read: Read) {
        let result = match self.media.get(&read.lun) {
            Some(medium) => fill(medium, &read, self.connection.room(&read)).await,
            None => Err(io::ErrorKind::NotFound.into()),
        };
        if let Err(error) = &result {
            self.tell_of_failed(&read, error);
        }
        self.connection.on_read(read, result.is_ok());
    }

    fn tell_of_failed(&self, read: &Read, error: &io::Error) {
        let error = match error.kind() {
            io::ErrorKind::UnexpectedEof => "its file ends before what was asked for".to_owned(),
            _ => error.to_string(),
        };
        let report = Report::ReadFailed { peer: self.peer, login: self.login.clone(), lun: read.lun, error };
        (self.door.report)(report);
    }

    /// Sends all that is pending. A peer that takes nothing for too long has gone.
    async fn send(&mut self) -> Result<(), Option<End>> {
        while !self.connection.pending().is_empty() {
            match self.stream.try_write(self.connection.pending()) {
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

    async fn wait_for_room(&self) -> Result<(), Option<End>> {
        let ready = self.stream.ready(Interest::WRITABLE);
        tokio::select! {
            ready = tokio::time::timeout(limits::SEND_STALL, ready) => match ready {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) => Err(None),
                Err(_) => Err(Some(End::Silent)),
            },
            () = self.replaced.notified() => Err(Some(End::Replaced)),
        }
    }
}

impl Input {
    /// Gives the free room behind what is there; one largest PDU always finds room.
    fn room(&mut self) -> &mut [u8] {
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

/// Reads from the page cache where the bytes are in it, else on a thread that may wait for the disk.
async fn fill(medium: &Arc<dyn ReadAt>, read: &Read, room: &mut [u8]) -> io::Result<()> {
    let offset = read.span.offset();
    match medium.read_now(offset, room) {
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
