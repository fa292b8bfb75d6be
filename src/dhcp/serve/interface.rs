//! One interface, in the state that the request handler needs.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::boot::Site;
use crate::dhcp::rogue_servers::ServerDetector;

/// The role of the server on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterfaceMode {
    /// ProxyDHCP: adds what to boot to the answers of another DHCP server.
    Proxy,
    /// A DHCP server: leases addresses as well.
    Server,
}

/// The state of one interface, without its sockets.
#[derive(Debug)]
pub struct InterfaceState {
    /// Index in the list of interfaces.
    pub index: usize,
    /// Name of the network interface.
    pub name: String,
    /// The server's address on the interface.
    pub address: Ipv4Addr,
    /// The role of the server on the interface.
    pub mode: InterfaceMode,
    /// The configuration with the addresses at which hosts on this interface reach the server.
    pub site: Arc<Site>,
    /// Other DHCP and boot servers that were observed on the segment.
    pub detector: ServerDetector,
}
