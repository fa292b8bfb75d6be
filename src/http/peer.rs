//! The other end of a connection.

use std::net::{IpAddr, SocketAddr};

/// The client at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Address of the client; `None` on a Unix socket, or if a proxy hides it.
    pub address: Option<IpAddr>,
    /// Address of ours that the client connected to; `None` on a Unix socket.
    pub local: Option<IpAddr>,
    /// Whether the client connected over this machine's loopback, without a proxy.
    pub is_local: bool,
    /// Trust that the connection itself earns, before any token.
    pub trust: PeerTrust,
    /// Whether the client's own connection is encrypted; `None` if that is not known, since a proxy that is not configured
    /// may have ended TLS.
    pub is_encrypted: Option<bool>,
}

/// The trust in a connection, by its transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerTrust {
    /// A connection over the network: the object API asks it for a token.
    Network,
    /// A TLS connection with a client certificate of the viewers' authority.
    ViewerCertificate,
    /// A connection over the Unix socket, which the file system guards.
    Socket,
    /// A TLS connection with a client certificate of the admins' authority.
    ClientCertificate,
}

/// The routes that a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// Every route.
    Everything,
    /// The routes of machines, health and metrics; not the object API.
    Machines,
}

impl Peer {
    /// Returns the client of a TCP connection without a certificate.
    pub fn of_network(from: SocketAddr, local: Option<SocketAddr>) -> Self {
        let canonical = |address: SocketAddr| address.ip().to_canonical();
        let address = canonical(from);
        let (local, is_local) = (local.map(canonical), address.is_loopback());
        Self { address: Some(address), local, is_local, trust: PeerTrust::Network, is_encrypted: None }
    }

    /// Returns the client of a connection over the Unix socket.
    pub fn of_socket() -> Self {
        Self { address: None, local: None, is_local: false, trust: PeerTrust::Socket, is_encrypted: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_is_an_ipv4_client() {
        let rows = [
            ("[::ffff:127.0.0.1]:1", "127.0.0.1", true),
            ("[::ffff:10.0.0.1]:1", "10.0.0.1", false),
            ("[::1]:1", "::1", true),
            ("10.0.0.1:1", "10.0.0.1", false),
        ];
        for (from, address, is_local) in rows {
            let peer = Peer::of_network(from.parse().unwrap(), Some(from.parse().unwrap()));
            let expected: Option<IpAddr> = address.parse().ok();
            assert_eq!((peer.address, peer.local, peer.is_local), (expected, expected, is_local), "{from}");
        }
    }
}
