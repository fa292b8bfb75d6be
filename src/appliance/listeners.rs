//! The endpoints: where the server listens, and how their sockets are bound.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, anyhow, bail};
use ipnet::Ipv4Net;

use crate::config::{Config, DhcpMode, NOT_OWN_ADDRESS};
use crate::dhcpv6::serve::FirmwareListener;
use crate::http::tls;
use crate::syslog::serve::{self as syslog, SyslogSockets};
use crate::tftp::serve::{Listener, PortUse};
use crate::{dhcp, ndp};

/// Maximum number of TCP connections in the queue of those that are not accepted yet. It is sized for a data centre
/// after a power cut.
const MAX_BACKLOG: i32 = 4096;

/// Default of `tcp_congestion_control`. cubic needs no timers; with bbr, which paces by timers, HTTP and iSCSI took
/// three times the CPU for each octet in `integration/bench`.
const CONGESTION_CONTROL: &str = "cubic";

/// A place where the server listens. What it is bound to is in it: with another address or another interface it is another
/// endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// DHCP and ProxyDHCP on an interface.
    Dhcp { slot: usize, index: u32, mac: Option<[u8; 6]> },
    /// ICMPv6 router solicitations, for `dhcp.shorten_router_wait`.
    Solicitations { index: u32, name: String },
    /// DHCPv6 messages of firmware.
    FirmwareV6 { index: u32, name: String, dhcp: Option<usize> },
    /// TFTP at an address of an interface.
    Tftp { slot: usize, index: u32, at: SocketAddr },
    /// The machines' HTTP.
    Http(SocketAddr),
    /// iSCSI, with the sessions of an interface.
    Iscsi { slot: usize, at: SocketAddr },
    /// The syslog receiver.
    Syslog(SocketAddr),
    /// The separate listener of the object API.
    ObjectApi(SocketAddr),
}

/// The sockets of an endpoint.
#[derive(Debug)]
pub enum BoundEndpoint {
    Dhcp(dhcp::serve::BoundInterface),
    Solicitations(socket2::Socket),
    FirmwareV6(FirmwareListener),
    Tftp(Listener),
    Http(std::net::TcpListener),
    Iscsi(std::net::TcpListener),
    Syslog(SyslogSockets),
    ObjectApi(std::net::TcpListener),
}

impl Endpoint {
    /// Returns whether machines or operators are not served without the endpoint. The others need IPv6.
    pub fn is_needed(&self) -> bool {
        match self {
            Self::Dhcp { .. } | Self::Http(_) | Self::Iscsi { .. } | Self::Syslog(_) | Self::ObjectApi(_) => true,
            Self::Tftp { at, .. } => at.is_ipv4(),
            Self::Solicitations { .. } | Self::FirmwareV6 { .. } => false,
        }
    }

    /// Binds the sockets. `name` and `address` are those of the interface, `mode` is its DHCP role.
    ///
    /// # Errors
    /// A port is in use or forbidden, or the address or the interface is not there. The message names the configuration key.
    pub fn bind(
        &self,
        config: &Config,
        settings: &dhcp::serve::DhcpSettings,
        (name, address, mode): (&str, Ipv4Addr, DhcpMode),
    ) -> anyhow::Result<BoundEndpoint> {
        match self {
            Self::Dhcp { .. } => {
                let mode = match mode {
                    DhcpMode::Server => dhcp::serve::InterfaceMode::Server,
                    DhcpMode::Proxy | DhcpMode::Off => dhcp::serve::InterfaceMode::Proxy,
                };
                let ports = (config.dhcp.port, config.dhcp.proxy_port);
                let bound = dhcp::serve::BoundInterface::bind(name, address, ports, mode, settings)?;
                Ok(BoundEndpoint::Dhcp(bound))
            }
            Self::Solicitations { name, .. } => Ok(BoundEndpoint::Solicitations(ndp::serve::open(name)?)),
            Self::FirmwareV6 { name, dhcp, .. } => Ok(BoundEndpoint::FirmwareV6(FirmwareListener::open(name, *dhcp)?)),
            Self::Tftp { at, .. } => {
                let ports = if config.tftp.single_port { PortUse::Single } else { PortUse::Own };
                let listener = Listener::bind(*at, Some(name), ports);
                Ok(BoundEndpoint::Tftp(listener.with_context(|| format!("UDP {at} (tftp.port)"))?))
            }
            Self::Http(at) => Ok(BoundEndpoint::Http(bind_tcp(*at, "http_port", config)?)),
            Self::Iscsi { at, .. } => Ok(BoundEndpoint::Iscsi(bind_tcp(*at, "iscsi.port", config)?)),
            Self::Syslog(at) => {
                let udp = syslog::bind_udp(*at).with_context(|| format!("UDP {at} (syslog.port)"))?;
                Ok(BoundEndpoint::Syslog(SyslogSockets { udp, tcp: bind_tcp(*at, "syslog.port", config)? }))
            }
            Self::ObjectApi(at) => Ok(BoundEndpoint::ObjectApi(bind_tcp(*at, "api.listen", config)?)),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dhcp { .. } => out.write_str("DHCP"),
            Self::Solicitations { name, .. } => write!(out, "router solicitations on {name}"),
            Self::FirmwareV6 { name, .. } => write!(out, "DHCPv6 on {name}"),
            Self::Tftp { at, .. } => write!(out, "UDP {at} (tftp.port)"),
            Self::Http(at) => write!(out, "TCP {at} (http_port)"),
            Self::Iscsi { at, .. } => write!(out, "TCP {at} (iscsi.port)"),
            Self::Syslog(at) => write!(out, "{at} (syslog.port)"),
            Self::ObjectApi(at) => write!(out, "TCP {at} (api.listen)"),
        }
    }
}

/// Checks the configured congestion control.
///
/// # Errors
/// The kernel does not accept it.
pub fn check_congestion_control(config: &Config) -> anyhow::Result<()> {
    let Some(name) = &config.tcp_congestion_control else { return Ok(()) };
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    set_congestion_control(&socket, Some(name))
}

/// Returns the IPv4 addresses of an interface with their subnets.
pub fn subnets(interface: &str) -> anyhow::Result<Vec<Ipv4Net>> {
    let interfaces = pnet_datalink::interfaces();
    let Some(found) = interfaces.iter().find(|found| found.name == interface) else {
        let names: Vec<_> = interfaces.iter().map(|found| found.name.as_str()).collect();
        bail!("interface: no interface {interface:?}; expected one of {}", names.join(", "));
    };
    let v4 = found.ips.iter().filter_map(|net| match net.ip() {
        IpAddr::V4(address) => Ipv4Net::new(address, net.prefix()).ok(),
        IpAddr::V6(_) => None,
    });
    Ok(v4.collect())
}

/// Returns the configured address of an interface, or its first one.
pub fn choose_address(interface: &str, addresses: &[Ipv4Addr], configured: Option<IpAddr>) -> anyhow::Result<Ipv4Addr> {
    match configured {
        Some(IpAddr::V4(wanted)) if addresses.contains(&wanted) => Ok(wanted),
        Some(wanted) => bail!("address: interface {interface} does not have the address {wanted}: {NOT_OWN_ADDRESS}"),
        None => addresses.first().copied().ok_or_else(|| {
            anyhow!("interface: {interface} has no IPv4 address: assign one, or configure another interface")
        }),
    }
}

/// Binds a TCP listener. Its connections inherit the congestion control.
pub fn bind_tcp(address: SocketAddr, key: &str, config: &Config) -> anyhow::Result<std::net::TcpListener> {
    let open = || socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None);
    let socket = open().with_context(|| format!("TCP {address} ({key})"))?;
    set_congestion_control(&socket, config.tcp_congestion_control.as_deref())?;
    let bind = || -> std::io::Result<()> {
        // Connections of a previous process may still be in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(MAX_BACKLOG)
    };
    bind().with_context(|| format!("TCP {address} ({key})"))?;
    Ok(socket.into())
}

/// Sets the congestion control. The default one may be missing; a configured one must not.
fn set_congestion_control(socket: &socket2::Socket, configured: Option<&str>) -> anyhow::Result<()> {
    let name = configured.unwrap_or(CONGESTION_CONTROL);
    let Err(error) = socket.set_tcp_congestion(name.as_bytes()) else { return Ok(()) };
    let reason = congestion_error(&error);
    match configured {
        Some(name) => Err(error).with_context(|| format!("tcp_congestion_control: {name:?}: {reason}")),
        None => {
            tracing::info!(algorithm = name, reason, %error, "congestion control not set, kernel default in use");
            Ok(())
        }
    }
}

/// Returns why the kernel refused a congestion control algorithm (tcp(7)), and the sysctl that lists the accepted ones.
fn congestion_error(error: &std::io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(nix::libc::EPERM) => {
            "not allowed for this user or network namespace: see net.ipv4.tcp_allowed_congestion_control"
        }
        Some(nix::libc::ENOENT) => "not available in this kernel: see net.ipv4.tcp_available_congestion_control",
        _ => "refused by the kernel",
    }
}

/// Reads the certificate of the separate listener of the object API, if it has TLS. `addresses`: those of the interfaces.
///
/// # Errors
/// A file cannot be read, or is no certificate or key.
pub fn object_api_tls(config: &Config, addresses: &[Ipv4Addr]) -> anyhow::Result<Option<tls::ServerTls>> {
    let (Some(listen), Some(tls)) = (config.api.listen, &config.api.tls) else { return Ok(None) };
    let names: Vec<IpAddr> = [listen.ip()].into_iter().chain(addresses.iter().map(|one| IpAddr::from(*one))).collect();
    let certificate = match &tls.certificate {
        Some(files) => tls::CertificateFiles { files: files.clone(), client_ca: None, viewer_ca: None },
        None => tls::CertificateFiles::self_signed(&config.state_dir, &names)?,
    };
    let (client_ca, viewer_ca) = (tls.client_ca.clone(), tls.viewer_ca.clone());
    let certificate = tls::CertificateFiles { client_ca, viewer_ca, ..certificate };
    let tls = tls::ServerTls::new(&certificate)?;
    tracing::info!(address = %listen, fingerprint = tls.fingerprint(), "API certificate");
    Ok(Some(tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_distinguishes_a_refused_algorithm_from_a_missing_one() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let error = set_congestion_control(&socket, Some("nosuchalgorithm")).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("tcp_available_congestion_control"), "{text}");
        let refused = congestion_error(&std::io::Error::from_raw_os_error(nix::libc::EPERM));
        assert!(refused.contains("tcp_allowed_congestion_control"), "{refused}");
    }
}
