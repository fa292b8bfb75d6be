//! All sockets. They are bound before privileges are dropped; if one of them fails, the start fails.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, anyhow, bail};
use ipnet::Ipv4Net;

use crate::config::{Config, DhcpInterface, DhcpMode, NOT_OWN_ADDRESS};
use crate::dhcpv6::serve::FirmwareListener;
use crate::http::{listener, tls};
use crate::syslog::serve::{self as syslog, SyslogSockets};
use crate::tftp::serve::boot_files::TftpEndpoint;
use crate::tftp::serve::{Listener, PortUse};
use crate::{dhcp, ndp};

use super::local_sockets;

/// Maximum number of TCP connections in the queue of those that are not accepted yet. It is sized for a data centre
/// after a power cut.
const MAX_BACKLOG: i32 = 4096;

/// Default of `tcp_congestion_control`. cubic needs no timers; with bbr, which paces by timers, HTTP and iSCSI took
/// three times the CPU for each octet in `integration/bench`.
const CONGESTION_CONTROL: &str = "cubic";

/// The bound sockets.
pub struct Listeners {
    /// Address of the first interface, at which machines reach HTTP and iSCSI.
    pub address: Ipv4Addr,
    /// Addresses of interfaces, with the address that machines are told instead.
    pub advertised: Vec<(IpAddr, IpAddr)>,
    /// Subnets of the interfaces.
    pub subnets: Vec<Ipv4Net>,
    /// DHCP sockets, one for each interface with DHCP.
    pub dhcp: Vec<dhcp::serve::BoundInterface>,
    /// Sockets for ICMPv6 router solicitations, for `dhcp.shorten_router_wait`.
    pub solicitations: Vec<socket2::Socket>,
    /// Sockets for DHCPv6 messages of firmware, where there is IPv6.
    pub firmware_v6: Vec<FirmwareListener>,
    /// TFTP sockets, for each address of each interface.
    pub tftp: Vec<TftpEndpoint>,
    /// HTTP listeners, one for each interface.
    pub http: Vec<std::net::TcpListener>,
    /// Local listeners of the API: `api.sock` in the state directory, and that of the group.
    pub api: Vec<std::os::unix::net::UnixListener>,
    /// Separate listener of the object API (`api.listen`).
    pub objects: Option<listener::HttpSocket>,
    /// iSCSI listeners, one for each interface.
    pub iscsi: Vec<std::net::TcpListener>,
    /// Syslog sockets, one of each protocol for each interface; none if the receiver is off.
    pub syslog: SyslogSockets,
}

impl Listeners {
    /// Binds all sockets of the configuration.
    ///
    /// # Errors
    /// An interface is missing or has no address, or a port is in use. The message names the configuration key.
    pub fn bind(config: &Config, settings: &dhcp::serve::DhcpSettings) -> anyhow::Result<Self> {
        let mut listeners = Self {
            address: Ipv4Addr::UNSPECIFIED,
            advertised: Vec::new(),
            subnets: Vec::new(),
            dhcp: Vec::new(),
            solicitations: Vec::new(),
            firmware_v6: Vec::new(),
            tftp: Vec::new(),
            http: Vec::new(),
            iscsi: Vec::new(),
            syslog: SyslogSockets::default(),
            objects: None,
            api: local_sockets::bind(&config.state_dir)?,
        };
        for interface in &config.interfaces {
            listeners.bind_on(interface, config, settings)?;
        }
        listeners.objects = bind_object_api(config, listeners.address)?;
        Ok(listeners)
    }

    /// Binds the sockets of one interface.
    fn bind_on(
        &mut self,
        interface: &DhcpInterface,
        config: &Config,
        settings: &dhcp::serve::DhcpSettings,
    ) -> anyhow::Result<()> {
        let name = interface.name.as_str();
        let subnets = subnets(name)?;
        let addresses: Vec<_> = subnets.iter().map(Ipv4Net::addr).collect();
        self.subnets.extend(subnets.iter().map(Ipv4Net::trunc));
        let address = choose_address(name, &addresses, interface.address)?;
        if self.address.is_unspecified() {
            self.address = address;
        }
        if let Some(told) = interface.advertise {
            tracing::info!(interface = name, %address, advertised = %told, "machines are told the advertised address");
            self.advertised.extend(addresses.iter().map(|own| (IpAddr::from(*own), IpAddr::from(told))));
        }
        let mode = match interface.mode {
            DhcpMode::Server => Some(dhcp::serve::InterfaceMode::Server),
            DhcpMode::Proxy => Some(dhcp::serve::InterfaceMode::Proxy),
            DhcpMode::Off => None,
        };
        if let Some(mode) = mode {
            let ports = (config.dhcp.port, config.dhcp.proxy_port);
            self.dhcp.push(dhcp::serve::BoundInterface::bind(name, address, ports, mode, settings)?);
            if config.dhcp.shorten_router_wait {
                // Without IPv6 iPXE does not wait for a router.
                let socket = ndp::serve::open(name)
                    .inspect_err(|error| tracing::info!(interface = name, %error, "router solicitations not answered"));
                self.solicitations.extend(socket.ok());
            }
        }
        let dhcp_index = mode.map(|_| self.dhcp.len() - 1);
        match FirmwareListener::open(name, dhcp_index) {
            Ok(listener) => self.firmware_v6.push(listener),
            Err(error) => tracing::debug!(interface = name, %error, "DHCPv6 of firmware not heard"),
        }
        self.bind_tftp(interface, address, addresses, config)?;
        self.http.push(bind_tcp(SocketAddr::from((address, config.http_port)), "http_port", config)?);
        self.iscsi.push(bind_tcp(SocketAddr::from((address, config.iscsi.port)), "iscsi.port", config)?);
        if let Some(settings) = config.syslog {
            let address = SocketAddr::from((address, settings.port));
            let udp = syslog::bind_udp(address);
            self.syslog.udp.push(udp.with_context(|| format!("UDP {address} (syslog.port)"))?);
            self.syslog.tcp.push(bind_tcp(address, "syslog.port", config)?);
        }
        Ok(())
    }

    /// Binds TFTP at each address of an interface, or only at the configured one: a client that was sent to another
    /// address than the first is answered from there. Rendered boot files contain `address`, where HTTP listens.
    fn bind_tftp(
        &mut self,
        interface: &DhcpInterface,
        address: Ipv4Addr,
        addresses: Vec<Ipv4Addr>,
        config: &Config,
    ) -> anyhow::Result<()> {
        let (name, port) = (interface.name.as_str(), config.tftp.port);
        let ports = if config.tftp.single_port { PortUse::Single } else { PortUse::Own };
        let addresses = if interface.address.is_some() { vec![address] } else { addresses };
        for tftp in addresses.into_iter().map(|address| SocketAddr::from((address, port))) {
            let listener = Listener::bind(tftp, Some(name), ports);
            self.tftp.push(TftpEndpoint {
                listener: listener.with_context(|| format!("UDP {tftp} (tftp.port)"))?,
                service_address: address,
            });
        }
        match Listener::bind((Ipv6Addr::UNSPECIFIED, port).into(), Some(name), ports) {
            Ok(listener) => self.tftp.push(TftpEndpoint { listener, service_address: address }),
            Err(error) => tracing::info!(interface = name, %error, "TFTP over IPv6 not available"),
        }
        Ok(())
    }
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

/// Binds the separate listener of the object API, with TLS if it is configured.
fn bind_object_api(config: &Config, address: Ipv4Addr) -> anyhow::Result<Option<listener::HttpSocket>> {
    let Some(listen) = config.api.listen else { return Ok(None) };
    let listener = bind_tcp(listen, "api.listen", config)?;
    let Some(tls) = &config.api.tls else { return Ok(Some(listener::HttpSocket::Tcp(listener))) };
    let certificate = match &tls.certificate {
        Some(files) => tls::CertificateFiles { files: files.clone(), client_ca: None, viewer_ca: None },
        None => tls::CertificateFiles::self_signed(&config.state_dir, &[listen.ip(), address.into()])?,
    };
    let (client_ca, viewer_ca) = (tls.client_ca.clone(), tls.viewer_ca.clone());
    let certificate = tls::CertificateFiles { client_ca, viewer_ca, ..certificate };
    let tls = tls::ServerTls::new(&certificate)?;
    tracing::info!(address = %listen, fingerprint = tls.fingerprint(), "API certificate");
    Ok(Some(listener::HttpSocket::Tls(listener, tls)))
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
