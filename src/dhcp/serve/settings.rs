//! The settings of the DHCP service.

use std::time::Duration;

use ipnet::IpNet;

use crate::dhcp::quirks::BootFileLocation;
use crate::fleet::{HostMatch, Subnet};

/// The configuration of DHCP, as far as the other protocols do not share it.
#[derive(Debug, Clone)]
pub struct DhcpSettings {
    /// Configured places of the boot file for some hosts; the first entry that matches a host applies.
    pub boot_file_locations: Vec<(HostMatch, BootFileLocation)>,
    /// The subnets whose addresses server mode leases.
    pub subnets: Vec<Subnet>,
    /// Addresses of relays that are believed whatever giaddr they write.
    pub relays: Vec<IpNet>,
    /// Whether no other server leases these addresses, so that an impossible request is answered with a NAK.
    pub authoritative: bool,
    /// Whether an address is probed on the wire before it is offered.
    pub conflict_check: bool,
    /// Whether hosts are left to another boot server as soon as one is found.
    pub stand_down: bool,
    /// Interval of the probes for other boot servers.
    pub check_interval: Duration,
    /// How the ports are read in proxy mode.
    pub socket: SocketChoice,
}

/// How the ports are read in proxy mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketChoice {
    /// By a UDP socket, or by a packet socket if another program has the port.
    Auto,
    /// By a UDP socket.
    Udp,
    /// By a packet socket.
    Packet,
}
