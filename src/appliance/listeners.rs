//! Every socket, bound before privileges are dropped: all of them, or none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use ipnet::Ipv4Net;

use crate::config::{Config, DhcpMode, Interface};
use crate::http::{listener, tls};
use crate::tftp::serve::boot_files::Endpoint;
use crate::tftp::serve::{Listener, PortUse};
use crate::{dhcp, ndp};

/// Bounds the TCP connections that wait to be accepted: a hall of racks after a power cut.
const BACKLOG: i32 = 4096;

/// Is the congestion control where the site names none: it needs no timers. bbr, which paces what it sends by them, took
/// three times the CPU for each byte of HTTP and iSCSI in `integration/bench`, on a machine where it is the system's own.
const CONGESTION_CONTROL: &str = "cubic";

/// Holds what is bound.
pub struct Doors {
    /// Is the first interface's address.
    pub address: Ipv4Addr,
    /// Holds the networks that the interfaces are on.
    pub nets: Vec<Ipv4Net>,
    pub dhcp: Vec<dhcp::serve::BoundInterface>,
    /// Holds a socket an interface where the site wants iPXE's wait for a router shortened, and there is IPv6.
    pub solicitations: Vec<socket2::Socket>,
    pub tftp: Vec<Endpoint>,
    pub http: Vec<std::net::TcpListener>,
    pub api: std::os::unix::net::UnixListener,
    /// Is the object API's own listener, where it has one.
    pub objects: Option<listener::HttpSocket>,
    pub iscsi: Vec<std::net::TcpListener>,
}

impl Doors {
    /// Binds all that the configuration asks for.
    ///
    /// # Errors
    /// The interface that is missing or has no address, the port that is in use.
    pub fn open(config: &Config, settings: &dhcp::serve::DhcpSettings) -> anyhow::Result<Self> {
        let mut doors = Self {
            address: Ipv4Addr::UNSPECIFIED,
            nets: Vec::new(),
            dhcp: Vec::new(),
            solicitations: Vec::new(),
            tftp: Vec::new(),
            http: Vec::new(),
            iscsi: Vec::new(),
            objects: None,
            api: listen_locally(&config.state_dir.join("api.sock"))?,
        };
        for interface in &config.interfaces {
            doors.open_on(interface, config, settings)?;
        }
        doors.objects = objects(config, doors.address)?;
        Ok(doors)
    }

    fn open_on(
        &mut self,
        interface: &Interface,
        config: &Config,
        settings: &dhcp::serve::DhcpSettings,
    ) -> anyhow::Result<()> {
        let name = interface.name.as_str();
        let nets = nets(name)?;
        let addresses: Vec<_> = nets.iter().map(Ipv4Net::addr).collect();
        self.nets.extend(nets.iter().map(Ipv4Net::trunc));
        let address = choose(name, &addresses, interface.address)?;
        if self.address.is_unspecified() {
            self.address = address;
        }
        match interface.mode {
            DhcpMode::Proxy | DhcpMode::Server => {
                let ports = (config.dhcp.port, config.dhcp.proxy_port);
                let mode = match interface.mode {
                    DhcpMode::Server => dhcp::serve::InterfaceMode::Server,
                    DhcpMode::Proxy | DhcpMode::Off => dhcp::serve::InterfaceMode::Proxy,
                };
                self.dhcp.push(dhcp::serve::BoundInterface::bind(name, address, ports, mode, settings)?);
                if config.dhcp.shorten_router_wait {
                    let socket = ndp::serve::open(name).inspect_err(
                        |error| tracing::info!(interface = name, %error, "iPXE's wait for an IPv6 router cannot be shortened"),
                    );
                    self.solicitations.extend(socket.ok());
                }
            }
            DhcpMode::Off => {}
        }
        self.open_tftp(interface, address, addresses, config)?;
        self.http.push(listen(SocketAddr::from((address, config.http_port)), "http_port", config)?);
        self.iscsi.push(listen(SocketAddr::from((address, config.iscsi.port)), "iscsi.port", config)?);
        Ok(())
    }

    /// Opens TFTP at every address of an interface, unless one of them was chosen: a client that was pointed to
    /// another than the first is answered from there. Files that name us name `address`, where HTTP is.
    fn open_tftp(
        &mut self,
        interface: &Interface,
        address: Ipv4Addr,
        addresses: Vec<Ipv4Addr>,
        config: &Config,
    ) -> anyhow::Result<()> {
        let (name, port) = (interface.name.as_str(), config.tftp.port);
        let ports = if config.tftp.single_port { PortUse::Single } else { PortUse::Own };
        let every = if interface.address.is_some() { vec![address] } else { addresses };
        for tftp in every.into_iter().map(|address| SocketAddr::from((address, port))) {
            let listener = Listener::bind(tftp, Some(name), ports);
            self.tftp.push(Endpoint {
                listener: listener.with_context(|| format!("UDP {tftp} (tftp.port)"))?,
                service_address: address,
            });
        }
        match Listener::bind((Ipv6Addr::UNSPECIFIED, port).into(), Some(name), ports) {
            Ok(listener) => self.tftp.push(Endpoint { listener, service_address: address }),
            Err(error) => tracing::info!(interface = name, %error, "TFTP is served over IPv4 alone"),
        }
        Ok(())
    }
}

/// Lists an interface's IPv4 addresses, each with its network.
fn nets(interface: &str) -> anyhow::Result<Vec<Ipv4Net>> {
    let interfaces = pnet_datalink::interfaces();
    let Some(found) = interfaces.iter().find(|found| found.name == interface) else {
        let names: Vec<_> = interfaces.iter().map(|found| found.name.as_str()).collect();
        bail!("interface: there is no {interface:?} here; there are {}", names.join(", "));
    };
    let v4 = found.ips.iter().filter_map(|net| match net.ip() {
        IpAddr::V4(address) => Ipv4Net::new(address, net.prefix()).ok(),
        IpAddr::V6(_) => None,
    });
    Ok(v4.collect())
}

/// Finds the address to be reached at: the one that is configured, or the interface's first.
fn choose(interface: &str, addresses: &[Ipv4Addr], configured: Option<IpAddr>) -> anyhow::Result<Ipv4Addr> {
    match configured {
        Some(IpAddr::V4(wanted)) if addresses.contains(&wanted) => Ok(wanted),
        Some(wanted) => bail!("address: {interface} does not have {wanted}"),
        None => addresses
            .first()
            .copied()
            .ok_or_else(|| anyhow!("interface: {interface} has no IPv4 address yet: give it one, or name another")),
    }
}

/// Opens a listener, whose connections inherit its congestion control.
fn listen(address: SocketAddr, key: &str, config: &Config) -> anyhow::Result<std::net::TcpListener> {
    let open = || socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None);
    let socket = open().with_context(|| format!("TCP {address} ({key})"))?;
    control_congestion(&socket, config.tcp_congestion_control.as_deref())?;
    let bind = || -> std::io::Result<()> {
        // Connections of the process before us may still be in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)
    };
    bind().with_context(|| format!("TCP {address} ({key})"))?;
    Ok(socket.into())
}

fn control_congestion(socket: &socket2::Socket, configured: Option<&str>) -> anyhow::Result<()> {
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

/// Returns why the kernel refused a congestion control algorithm (tcp(7)), and the sysctl that lists what it takes.
fn congestion_error(error: &std::io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(nix::libc::EPERM) => {
            "not allowed for this user or network namespace: see net.ipv4.tcp_allowed_congestion_control"
        }
        Some(nix::libc::ENOENT) => "not available in this kernel: see net.ipv4.tcp_available_congestion_control",
        _ => "refused by the kernel",
    }
}

fn objects(config: &Config, address: Ipv4Addr) -> anyhow::Result<Option<listener::HttpSocket>> {
    let Some(place) = config.api.listen else { return Ok(None) };
    let listener = listen(place, "api.listen", config)?;
    let Some(tls) = &config.api.tls else { return Ok(Some(listener::HttpSocket::Tcp(listener))) };
    let certificate = match &tls.certificate {
        Some(files) => tls::CertificateFiles { files: files.clone(), client_ca: None, viewer_ca: None },
        None => tls::CertificateFiles::self_signed(&config.state_dir, &[place.ip(), address.into()])?,
    };
    let (client_ca, viewer_ca) = (tls.client_ca.clone(), tls.viewer_ca.clone());
    let certificate = tls::CertificateFiles { client_ca, viewer_ca, ..certificate };
    let tls = tls::ServerTls::new(&certificate)?;
    tracing::info!(address = %place, fingerprint = tls.fingerprint(), "the API's certificate");
    Ok(Some(listener::HttpSocket::Tls(listener, tls)))
}

fn listen_locally(path: &Path) -> anyhow::Result<std::os::unix::net::UnixListener> {
    // We hold the directory's lock: a socket that is there was left by a process that died.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| path.display().to_string());
        }
        _ => {}
    }
    let bind = || -> std::io::Result<_> {
        let listener = std::os::unix::net::UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_algorithm_is_told_from_a_missing_one() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let error = control_congestion(&socket, Some("nosuchalgorithm")).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("tcp_available_congestion_control"), "{text}");
        let refused = congestion_error(&std::io::Error::from_raw_os_error(nix::libc::EPERM));
        assert!(refused.contains("tcp_allowed_congestion_control"), "{refused}");
    }
}
