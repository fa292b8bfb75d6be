//! Limits of connections and requests, and the wait for the server's end.

use std::time::Duration;

use tokio::sync::watch;

/// Maximum number of concurrent connections over TCP; more are closed at once.
pub const MAX_CONNECTIONS: usize = 8192;
/// Number of connections that only known machines get.
pub const RESERVED_CONNECTIONS: usize = 2048;
/// Maximum number of concurrent connections over the Unix socket; more wait in the kernel's backlog.
pub const MAX_UNIX_CONNECTIONS: usize = 256;
/// Number of bytes of each connection's head that do not count against `MAX_HEAD_MEMORY`.
pub const FREE_HEAD_BYTES: usize = 4 * 1024;
/// Maximum memory of the heads of all connections beyond `FREE_HEAD_BYTES` each, in bytes.
pub const MAX_HEAD_MEMORY: usize = 32 * 1024 * 1024;
/// Maximum size of a request's head, in bytes.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Maximum number of header fields of a request.
pub const MAX_HEADER_FIELDS: usize = 64;
/// Time in which a client must send the head of a request, also the first one or after a pause.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Time in which a TLS handshake must be complete.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of TCP keep-alive probes on an idle connection.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
/// Time that requests in progress get to end when the server stops.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A signal that becomes true when the server stops.
pub type Stop = watch::Receiver<bool>;

/// Waits until the server stops. Waits forever when the sender is gone.
pub async fn stopped(stop: &mut Stop) {
    let is_gone = stop.wait_for(|stop| *stop).await.is_err();
    if is_gone {
        std::future::pending::<()>().await;
    }
}
