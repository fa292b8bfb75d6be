//! Accepts connections, and serves each until it ends or the server stops.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header::X_CONTENT_TYPE_OPTIONS;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::http::connection_limits::{
    ConnectionLimits, ConnectionPlace, ConnectionRefusal, HeadMemoryExhausted, HttpLimits, MeteredStream,
};
use crate::http::fast_path::{self, UnansweredConnection};
use crate::http::handler::Handler;
use crate::http::host_header::host_fault;
use crate::http::limits::{
    DRAIN_TIMEOUT, HANDSHAKE_TIMEOUT, HEAD_TIMEOUT, KEEPALIVE_INTERVAL, MAX_HEAD_BYTES, MAX_HEADER_FIELDS,
    MAX_UNIX_CONNECTIONS, Stop, stopped,
};
use crate::http::peer::{Peer, Serves};
use crate::http::reply;
use crate::http::tls::ServerTls;

/// A listening socket, and the routes that it serves.
#[derive(Debug)]
pub struct HttpListener {
    /// The socket.
    pub socket: HttpSocket,
    /// The routes.
    pub serves: Serves,
}

/// A socket that is bound and listening.
pub enum HttpSocket {
    /// TCP in the clear.
    Tcp(std::net::TcpListener),
    /// TCP with TLS.
    Tls(std::net::TcpListener, ServerTls),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

impl std::fmt::Debug for HttpSocket {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(listener) | Self::Tls(listener, _) => listener.fmt(out),
            Self::Unix(listener) => listener.fmt(out),
        }
    }
}

/// A socket that accepts on the runtime. The Unix socket has its own places, which no TCP connection takes.
enum Acceptor {
    Tcp(TcpListener, Option<ServerTls>),
    Unix(UnixListener, Arc<Semaphore>),
}

/// The place of a connection, for as long as it is served.
enum HeldPlace {
    Tcp(#[expect(dead_code, reason = "dropped at the end")] ConnectionPlace),
    Unix(#[expect(dead_code, reason = "dropped at the end")] OwnedSemaphorePermit),
}

/// An accepted connection of which nothing was read.
enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Tls(TcpStream, SocketAddr, ServerTls),
    Unix(UnixStream),
}

/// HTTP on listeners that may come and go. Their connections share its limits.
pub struct HttpServer<H> {
    handler: Arc<H>,
    limits: Arc<ConnectionLimits>,
    stop: Stop,
}

impl<H> std::fmt::Debug for HttpServer<H> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("HttpServer").finish_non_exhaustive()
    }
}

impl<H: Handler> HttpServer<H> {
    /// Creates a server that serves until `stop` becomes true.
    pub fn new(handler: Arc<H>, limits: HttpLimits, stop: Stop) -> Self {
        Self { handler, limits: ConnectionLimits::new(limits), stop }
    }

    /// Returns the signal that becomes true when the server stops.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves a listener until it is withdrawn, and its connections until they end. When the server stops, requests in
    /// progress get `DRAIN_TIMEOUT` to end.
    pub async fn serve(&self, listener: HttpListener, withdrawn: impl Future<Output = ()>) {
        let HttpListener { socket, serves } = listener;
        match socket.open() {
            Ok(acceptor) => accept_all(acceptor, serves, self, withdrawn).await,
            Err(error) => tracing::error!(%error, "listening socket unusable"),
        }
    }
}

impl HttpSocket {
    fn open(self) -> io::Result<Acceptor> {
        let open = |listener: std::net::TcpListener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        match self {
            Self::Tcp(listener) => Ok(Acceptor::Tcp(open(listener)?, None)),
            Self::Tls(listener, tls) => Ok(Acceptor::Tcp(open(listener)?, Some(tls))),
            Self::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let places = Arc::new(Semaphore::new(MAX_UNIX_CONNECTIONS));
                UnixListener::from_std(listener).map(|listener| Acceptor::Unix(listener, places))
            }
        }
    }
}

impl Acceptor {
    /// Accepts the next connection that gets a place.
    async fn accept<H: Handler>(
        &self,
        limits: &Arc<ConnectionLimits>,
        handler: &H,
    ) -> io::Result<(Accepted, HeldPlace)> {
        match self {
            Self::Tcp(listener, tls) => loop {
                let (stream, from) = listener.accept().await?;
                let address = from.ip().to_canonical();
                let place = match limits.take(address, || handler.is_known(address)) {
                    Ok(place) => HeldPlace::Tcp(place),
                    Err(refusal) => {
                        handler.record_refused(address, refusal);
                        continue;
                    }
                };
                // With Nagle's algorithm, small ranges wait for the client's delayed acknowledgement.
                stream.set_nodelay(true)?;
                // Finds a watch whose client disappeared without a FIN.
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_INTERVAL).with_interval(KEEPALIVE_INTERVAL);
                SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                // The kernel ends a connection whose client takes no byte, also one with a closed window (tcp(7)).
                SockRef::from(&stream).set_tcp_user_timeout(Some(limits.limits.send_timeout))?;
                let accepted = match tls {
                    Some(tls) => Accepted::Tls(stream, from, tls.clone()),
                    None => Accepted::Tcp(stream, from),
                };
                return Ok((accepted, place));
            },
            Self::Unix(listener, places) => {
                let (stream, place) = accept_unix(listener, places).await?;
                Ok((Accepted::Unix(stream), HeldPlace::Unix(place)))
            }
        }
    }
}

/// Accepts the next connection of the local socket once one of its places is free. Others wait in the kernel's queue.
async fn accept_unix(
    listener: &UnixListener,
    places: &Arc<Semaphore>,
) -> io::Result<(UnixStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

impl Accepted {
    /// Serves the connection until it ends.
    async fn serve<H: Handler>(self, serves: Serves, handler: Arc<H>, limits: &ConnectionLimits, stop: Stop) {
        let recent = H::Recent::default();
        match self {
            Self::Tcp(stream, from) => {
                let peer = Peer::of_network(from, stream.local_addr().ok());
                let rest = fast_path::serve(stream, peer, &*handler, &recent, stop.clone()).await;
                if let Some(UnansweredConnection { stream, read }) = rest {
                    let stream = MeteredStream { stream, read, meter: Some(limits.meter()) };
                    serve_http1(stream, peer, &recent, serves, &*handler, stop).await;
                }
            }
            Self::Unix(stream) => {
                let stream = MeteredStream::new(stream, None);
                serve_http1(stream, Peer::of_socket(), &recent, serves, &*handler, stop).await;
            }
            Self::Tls(stream, from, tls) => {
                let peer = Peer::of_network(from, stream.local_addr().ok());
                let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await;
                let (stream, trust) = match shaken {
                    Ok(Ok(accepted)) => accepted,
                    Ok(Err(error)) => return tracing::debug!(%from, %error, "TLS handshake failed"),
                    Err(_) => return tracing::debug!(%from, "TLS handshake timed out"),
                };
                let stream = MeteredStream::new(stream, Some(limits.meter()));
                serve_http1(stream, Peer { trust, is_encrypted: Some(true), ..peer }, &recent, serves, &*handler, stop)
                    .await;
            }
        }
    }
}

async fn accept_all<H: Handler>(
    acceptor: Acceptor,
    serves: Serves,
    server: &HttpServer<H>,
    withdrawn: impl Future<Output = ()>,
) {
    let HttpServer { handler, limits, stop } = server;
    let (mut connections, mut stopping) = (JoinSet::new(), stop.clone());
    let mut withdrawn = std::pin::pin!(withdrawn);
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.accept(limits, &**handler) => accepted,
            () = &mut withdrawn => break,
            () = stopped(&mut stopping) => break,
        };
        let (handler, limits, stop) = (handler.clone(), limits.clone(), stop.clone());
        match accepted {
            Ok((accepted, place)) => {
                connections.spawn(async move {
                    accepted.serve(serves, handler, &limits, stop).await;
                    drop(place);
                });
            }
            Err(error) => pause(&error).await,
        }
        while connections.try_join_next().is_some() {}
    }
    drop(acceptor);
    // An address may come back before its connections have ended.
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        () = stopped(&mut stopping) => drain(connections).await,
    }
}

/// Waits briefly: while the process is out of file descriptors, `accept` would fail again at once.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "accept failed");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn drain(mut connections: JoinSet<()>) {
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, ended).await.is_err() {
        tracing::info!(timeout_seconds = DRAIN_TIMEOUT.as_secs(), "open connections closed at shutdown");
    }
}

/// Serves a connection by hyper until it ends; after `stop`, only the request in progress.
pub async fn serve_http1<H: Handler>(
    stream: MeteredStream<impl AsyncRead + AsyncWrite + Unpin>,
    peer: Peer,
    recent: &H::Recent,
    serves: Serves,
    handler: &H,
    mut stop: Stop,
) {
    let is_stopping = stop.clone();
    let meter = stream.meter.clone();
    let answer = service_fn(|request| {
        let (is_stopping, meter) = (is_stopping.clone(), meter.clone());
        async move {
            let began = Instant::now();
            meter.iter().for_each(|meter| meter.begin_request());
            let mut reply = match host_fault(&request) {
                Some(fault) => reply::text(StatusCode::BAD_REQUEST, format!("{fault}\n")),
                None => handler.answer(peer, recent, serves, request, &is_stopping).await,
            };
            reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, reply::NO_SNIFF);
            meter.iter().for_each(|meter| meter.end_request());
            handler.record_duration(began.elapsed());
            Ok::<_, Infallible>(reply)
        }
    });
    let connection = http1::Builder::new()
        // GRUB 2.12 matches header names by case, and takes a file without `Content-Length` for endless.
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADER_FIELDS)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        if let (true, Some(address)) = (is_head_memory(&error), peer.address) {
            handler.record_refused(address, ConnectionRefusal::HeadMemory);
        }
        tracing::debug!(%error, peer = peer.address.map(tracing::field::display), "connection failed");
    }
}

/// Returns whether a connection ended because the heads of all connections use the memory that they may.
fn is_head_memory(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.and_then(io::Error::get_ref).is_some_and(|cause| cause.is::<HeadMemoryExhausted>())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_bounded_number_of_local_connections_is_served() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let socket = HttpSocket::Unix(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let Ok(Acceptor::Unix(listener, places)) = socket.open() else { panic!("a local socket") };
        let mut held: Vec<_> = (0..MAX_UNIX_CONNECTIONS).map(|_| places.clone().try_acquire_owned().unwrap()).collect();
        let _client = UnixStream::connect(&path).await.unwrap();
        assert!(accept_unix(&listener, &places).now_or_never().is_none(), "the connection waits for a place");
        held.pop();
        let _accepted = accept_unix(&listener, &places).await.unwrap();
    }
}
