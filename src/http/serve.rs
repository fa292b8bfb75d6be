use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::admit::Places;
use crate::gate::Gate;

use super::list::Pages;
use super::{Tokens, routes};

/// Bounds the connections; beyond it they wait in the kernel's backlog.
const CONNECTIONS_AT_ONCE: usize = 8192;
/// Bounds a request's headers, in bytes, and by number.
const HEADER_BYTES: usize = 64 * 1024;
const HEADERS: usize = 64;
/// Is how long a connection may take to send a request's headers, or stay idle.
const HEADER_WAIT: Duration = Duration::from_secs(60);
/// Is how long requests under way may take to end once the server is told to stop.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Is what every request needs.
#[derive(Debug)]
pub struct Shared {
    pub gate: Arc<Gate>,
    pub places: Places,
    pub firmware_dir: PathBuf,
    pub tokens: Tokens,
    pub(super) pages: Pages,
}

impl Shared {
    pub fn new(gate: Arc<Gate>, places: Places, firmware_dir: PathBuf, tokens: Tokens) -> Self {
        Self { gate, places, firmware_dir, tokens, pages: Pages::default() }
    }
}

/// Says who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Is unknown on a unix socket.
    pub address: Option<IpAddr>,
    /// Is the address of ours that it asked at; unknown on a unix socket.
    pub local: Option<IpAddr>,
    pub trust: Trust,
}

/// Says how far the way that a request came by is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Needs a token for the object API.
    Network,
    /// Came over the unix socket, which the file system guards.
    Local,
}

/// Is a socket that is served, bound and listening already.
#[derive(Debug)]
pub enum Door {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

#[derive(Debug)]
enum OpenDoor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Caller {
    Tcp(TcpStream, Peer),
    Unix(UnixStream),
}

impl Door {
    fn open(self) -> io::Result<OpenDoor> {
        match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(OpenDoor::Tcp)
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
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                // Without it, small ranges wait for the other side's delayed acknowledgement.
                stream.set_nodelay(true)?;
                let local = Some(canonical(stream.local_addr()?));
                Ok(Caller::Tcp(stream, Peer { address: Some(canonical(from)), local, trust: Trust::Network }))
            }
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Caller::Unix(stream)),
        }
    }
}

/// Serves HTTP until told to stop, and lets requests under way end within a limit.
pub async fn serve(doors: Vec<Door>, shared: Arc<Shared>, shutdown: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_AT_ONCE));
    let mut open = JoinSet::new();
    for door in doors {
        match door.open() {
            Ok(door) => drop(open.spawn(attend(door, shared.clone(), room.clone(), shutdown.clone()))),
            Err(error) => tracing::error!(%error, "a listening socket cannot be served"),
        }
    }
    while open.join_next().await.is_some() {}
}

async fn attend(door: OpenDoor, shared: Arc<Shared>, room: Arc<Semaphore>, mut shutdown: watch::Receiver<bool>) {
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
            Ok(Caller::Tcp(stream, peer)) => drop(connections.spawn(async move {
                converse(stream, peer, shared, shutdown).await;
                drop(permit);
            })),
            Ok(Caller::Unix(stream)) => drop(connections.spawn(async move {
                converse(stream, Peer { address: None, local: None, trust: Trust::Local }, shared, shutdown).await;
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
async fn told(shutdown: &mut watch::Receiver<bool>) {
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
    shared: Arc<Shared>,
    mut shutdown: watch::Receiver<bool>,
) {
    let stop = shutdown.clone();
    let answer = service_fn(|request| {
        let (shared, stop) = (shared.clone(), stop.clone());
        async move { Ok::<_, Infallible>(routes::answer(&shared, peer, request, &stop).await) }
    });
    let connection = http1::Builder::new()
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
