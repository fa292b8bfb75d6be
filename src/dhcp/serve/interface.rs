//! One interface, in the state that the request handler needs.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;

use crate::boot::Site;
use crate::boot::diagnosis::Segment;
use crate::dhcp::rogue_servers::ServerDetector;

/// The role of the server on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterfaceMode {
    /// ProxyDHCP: adds what to boot to the answers of another DHCP server.
    Proxy,
    /// A DHCP server: leases addresses as well.
    Server,
}

impl InterfaceMode {
    /// Returns the code of the mode.
    pub fn code(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Server => "server",
        }
    }
}

/// The state of one interface, without its sockets.
#[derive(Debug)]
pub struct InterfaceState {
    /// Index in the list of interfaces.
    pub index: usize,
    /// Name of the network interface.
    pub name: String,
    /// The server's address for the machines on the interface.
    pub address: Ipv4Addr,
    /// Addresses of this machine on the interface, with their broadcast addresses.
    pub own: Vec<Ipv4Addr>,
    /// The networks of the interface's addresses.
    pub networks: Vec<Ipv4Net>,
    /// The role of the server on the interface.
    pub mode: InterfaceMode,
    /// The configuration with the addresses at which hosts on this interface reach the server.
    pub site: Arc<Site>,
    /// Other DHCP and boot servers that were observed on the segment.
    pub detector: ServerDetector,
}

impl InterfaceState {
    /// Returns what a diagnosis needs to know of the segment.
    pub fn segment(&self, hears_offers: bool) -> Segment {
        Segment {
            interface: self.name.clone(),
            address: Some(self.address),
            networks: self.networks.clone(),
            is_address_server: self.mode == InterfaceMode::Server,
            hears_offers,
            ..Segment::default()
        }
    }

    /// Returns whether an address lies in a network of the interface.
    pub fn is_on_link(&self, address: Ipv4Addr) -> bool {
        self.networks.iter().any(|net| net.contains(&address))
    }
}
