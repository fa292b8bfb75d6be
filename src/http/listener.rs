use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinSet;

use crate::admission::prepare::Places;
use crate::gate::Gate;

use crate::api::auth::Access;
use crate::api::machine::images::Memory;
use crate::api::objects::list::Pages;
use crate::api::redfish::sessions::Sessions;
use crate::api::router;
use crate::http::fast_path;
use crate::http::tls::Tls;
use crate::store::volumes::Volumes;

/// Bounds the connections; beyond it they wait in the kernel's backlog.
const CONNECTIONS_AT_ONCE: usize = 8192;
/// Bounds a request's headers, in bytes, and by number.
const HEADER_BYTES: usize = 64 * 1024;
pub const HEADERS: usize = 64;
/// Is how long a connection may take to send a request's headers, or stay idle.
pub const HEADER_WAIT: Duration = Duration::from_secs(60);
/// Is how long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Is how often a connection on which nothing happens is asked whether its other end is there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Is how long requests under way may take to end once the server is told to stop.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Says which directories files are handed out of.
#[derive(Debug)]
pub struct Folders {
    /// Holds boot programs: `/boot/MAC/NAME`.
    pub firmware: PathBuf,
    /// Holds the site's own files: `/files/PATH`.
    pub files: PathBuf,
    /// Hold generated configs, for others to read.
    pub volumes: Arc<Volumes>,
}

/// Is what every request needs.
#[derive(Debug)]
pub struct Shared {
    pub gate: Arc<Gate>,
    pub places: Places,
    pub folders: Folders,
    pub access: Access,
    pub pages: Pages,
    pub sessions: Sessions,
    /// Is whose turn it is of those who change an object anew, since another writer came first.
    pub losers: Arc<Mutex<()>>,
    /// Says what the site wants and does not have; the server is ready where it is empty.
    pub faults: watch::Receiver<Vec<String>>,
}

impl Shared {
    pub fn new(
        gate: Arc<Gate>,
        places: Places,
        folders: Folders,
        access: Access,
        faults: watch::Receiver<Vec<String>>,
    ) -> Self {
        Self {
            gate,
            places,
            folders,
            access,
            pages: Pages::default(),
            sessions: Sessions::default(),
            losers: Arc::default(),
            faults,
        }
    }
}

/// Says who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Is unknown on a unix socket.
    pub address: Option<IpAddr>,
    /// Is the address of ours that it asked at; unknown on a unix socket.
    pub local: Option<IpAddr>,
    /// Says whether it connected from this machine itself, and speaks for itself.
    pub here: bool,
    pub trust: Trust,
}

/// Says how far the way that a request came by is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Needs a token for the object API.
    Network,
    /// Came with a certificate of a viewer's.
    Viewer,
    /// Came over the unix socket, which the file system guards.
    Socket,
    /// Came with a certificate of an admin's.
    Proven,
}

/// Is a socket that is served, bound and listening already, and what is served there.
#[derive(Debug)]
pub struct Door {
    pub socket: Socket,
    pub serves: Serves,
}

pub enum Socket {
    Tcp(std::net::TcpListener),
    Tls(std::net::TcpListener, Tls),
    Unix(std::os::unix::net::UnixListener),
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(listener) | Self::Tls(listener, _) => listener.fmt(out),
            Self::Unix(listener) => listener.fmt(out),
        }
    }
}

/// Says what a door leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    Everything,
    /// What machines ask, and nothing of the object API.
    Machines,
}

/// Is an accepted connection, before any of its bytes were read.
enum Caller {
    Tcp(TcpStream, SocketAddr),
    Tls(TcpStream, SocketAddr, Tls),
    Unix(UnixStream),
}

enum OpenDoor {
    Tcp(TcpListener, Option<Tls>),
    Unix(UnixListener),
}

impl Socket {
    fn open(self) -> io::Result<OpenDoor> {
        match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Ok(OpenDoor::Tcp(TcpListener::from_std(listener)?, None))
            }
            Self::Tls(listener, acceptor) => {
                listener.set_nonblocking(true)?;
                Ok(OpenDoor::Tcp(TcpListener::from_std(listener)?, Some(acceptor)))
            }
            Self::Unix(listener) => {
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(OpenDoor::Unix)
            }
        }
    }
}

impl OpenDoor {
    async fn accept(&self) -> io::Result<Caller> {
        match self {
            Self::Tcp(listener, acceptor) => {
                let (stream, from) = listener.accept().await?;
                // Without it, small ranges wait for the other side's delayed acknowledgement.
                stream.set_nodelay(true)?;
                // A watch's client that went away without a word is noticed.
                let alive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
                SockRef::from(&stream).set_tcp_keepalive(&alive)?;
                Ok(match acceptor {
                    Some(acceptor) => Caller::Tls(stream, from, acceptor.clone()),
                    None => Caller::Tcp(stream, from),
                })
            }
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Caller::Unix(stream)),
        }
    }
}

impl Caller {
    /// Serves the connection to its end.
    async fn attend(self, serves: Serves, shared: Arc<Shared>, shutdown: watch::Receiver<bool>) {
        let from_network = |stream: &TcpStream, from| Peer {
            address: Some(canonical(from)),
            local: stream.local_addr().ok().map(canonical),
            here: canonical(from).is_loopback(),
            trust: Trust::Network,
        };
        match self {
            Self::Tcp(stream, from) => {
                let (peer, memory) = (from_network(&stream, from), Memory::default());
                let lane = fast_path::serve(stream, peer, &shared, &memory, shutdown.clone());
                if let Some(handed_on) = lane.await {
                    converse(handed_on, peer, memory, serves, shared, shutdown).await;
                }
            }
            Self::Unix(stream) => {
                let peer = Peer { address: None, local: None, here: false, trust: Trust::Socket };
                converse(stream, peer, Memory::default(), serves, shared, shutdown).await;
            }
            Self::Tls(stream, from, acceptor) => {
                let peer = from_network(&stream, from);
                let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
                let Ok(Ok((stream, trust))) = shaken else { return tracing::debug!(%from, "no TLS handshake") };
                converse(stream, Peer { trust, ..peer }, Memory::default(), serves, shared, shutdown).await;
            }
        }
    }
}

/// Serves HTTP until told to stop, and lets requests under way end within a limit.
pub async fn serve(doors: Vec<Door>, shared: Arc<Shared>, shutdown: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_AT_ONCE));
    let mut open = JoinSet::new();
    for door in doors {
        let serves = door.serves;
        match door.socket.open() {
            Ok(door) => drop(open.spawn(attend(door, serves, shared.clone(), room.clone(), shutdown.clone()))),
            Err(error) => tracing::error!(%error, "a listening socket cannot be served"),
        }
    }
    while open.join_next().await.is_some() {}
}

async fn attend(
    door: OpenDoor,
    serves: Serves,
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let permit = room.clone().acquire_owned().await;
            (permit, door.accept().await)
        };
        let (permit, caller) = tokio::select! {
            next = next => next,
            () = told(&mut shutdown) => break,
        };
        let (shared, shutdown) = (shared.clone(), shutdown.clone());
        match caller {
            Ok(caller) => drop(connections.spawn(async move {
                caller.attend(serves, shared, shutdown).await;
                drop(permit);
            })),
            Err(error) => pause(&error).await,
        }
        while connections.try_join_next().is_some() {}
    }
    drop(door);
    finish(connections).await;
}

fn canonical(from: SocketAddr) -> IpAddr {
    from.ip().to_canonical()
}

/// Waits a moment where the process is out of file descriptors: `accept` would fail at once again.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// Waits until the server is told to stop; forever where nobody is left to tell it.
pub async fn told(shutdown: &mut watch::Receiver<bool>) {
    let gone = shutdown.wait_for(|stop| *stop).await.is_err();
    if gone {
        std::future::pending::<()>().await;
    }
}

async fn finish(mut connections: JoinSet<()>) {
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_WORDS, ended).await.is_err() {
        tracing::info!("connections that would not end were cut");
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    memory: Memory,
    serves: Serves,
    shared: Arc<Shared>,
    mut shutdown: watch::Receiver<bool>,
) {
    let stop = shutdown.clone();
    let memory = &memory;
    let answer = service_fn(|request| {
        let (shared, stop) = (shared.clone(), stop.clone());
        async move { Ok::<_, Infallible>(router::answer(&shared, peer, memory, serves, request, &stop).await) }
    });
    let connection = http1::Builder::new()
        // GRUB 2.12 reads header names by case, and takes a file without `Content-Length` for endless.
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WAIT)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, ?peer, "a connection ended badly");
    }
}
