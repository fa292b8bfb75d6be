//! The I/O of router solicitations: one raw socket an interface.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::gate::Gate;

use super::advert;

const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Hop limit of neighbour discovery, which proves that no router was crossed (RFC 4861 6.1.2).
const HOPS: u32 = 255;
/// Pause after a failed receive: it may fail again at once.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum size of a received datagram, in octets.
const MAX_DATAGRAM_BYTES: usize = 1500;

/// Opens the socket on an interface.
///
/// # Errors
/// The interface has no IPv6, or the process may not open raw sockets.
pub fn open(interface: &str) -> io::Result<Socket> {
    let index = nix::net::if_::if_nametoindex(interface)?;
    let socket = Socket::new(Domain::IPV6, Type::RAW.nonblocking(), Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.join_multicast_v6(&ALL_ROUTERS, index)?;
    socket.set_unicast_hops_v6(HOPS)?;
    Ok(socket)
}

/// Answers each booting iPXE once, until `stopped` turns true.
///
/// # Errors
/// The socket cannot be waited for.
pub async fn serve(socket: Socket, gate: Arc<Gate>, mut stopped: watch::Receiver<bool>) -> io::Result<()> {
    // A raw socket receives and sends like a datagram socket.
    let socket = UdpSocket::from_std(socket.into())?;
    let mut buffer = [0; MAX_DATAGRAM_BYTES];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        };
        let (length, from) = match received {
            Ok((length, SocketAddr::V6(from))) => (length, from),
            Ok((_, SocketAddr::V4(_))) => continue,
            Err(error) => {
                tracing::debug!(%error, "receive of router solicitations failed");
                tokio::time::sleep(RETRY_INTERVAL).await;
                continue;
            }
        };
        let Some(mac) = buffer.get(..length).and_then(advert::solicitation_sender) else { continue };
        if from.ip().is_unicast_link_local() && gate.ipxe_clients.take(mac) {
            let sent = socket.send_to(&advert::empty_advertisement(), SocketAddr::V6(from)).await;
            let error = sent.err().map(tracing::field::display);
            tracing::debug!(%mac, %from, error, "router solicitation answered");
        }
    }
}
