//! Follows the interfaces and their addresses: binds what is there, withdraws what is gone, and tells what is missing.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::FutureExt;
use ipnet::Ipv4Net;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::state::Shared;
use crate::config::{Config, DhcpMode, NOT_OWN_ADDRESS};
use crate::dhcp::serve::{DhcpSettings, InterfaceControl};
use crate::fleet::{Image, Object};
use crate::gate::Gate;
use crate::gate::degradations::{Degradation, Severity, Source};
use crate::http::listener::{HttpListener, HttpServer, HttpSocket};
use crate::http::peer::Serves;
use crate::http::tls::ServerTls;
use crate::iscsi::serve as iscsi;
use crate::ndp;
use crate::store::{Change, Expect};
use crate::syslog::serve::SyslogReceiver;
use crate::tftp::serve::{ListenerControl, ListenerKey, ServiceAddress};

use super::capabilities::while_binding;
use super::interfaces::{self, NetworkInterface, NetworkInterfaces};
use super::link_monitor::LinkMonitor;
use super::listeners::{BoundEndpoint, Endpoint};
use super::settings::{self, OwnAddresses};

/// Time after a change in which further ones are waited for: an address seldom changes alone.
const SETTLE_TIME: Duration = Duration::from_millis(50);
/// The same while changes follow each other.
const STORM_SETTLE_TIME: Duration = Duration::from_millis(250);
/// Interval in which an endpoint that could not be bound is tried again. The kernel does not tell that a port is free.
const RETRY_INTERVAL: Duration = Duration::from_secs(3);
/// Time for the replies that wait for the store to leave the sockets of an interface whose MAC address has changed.
const REBIND_PAUSE: Duration = Duration::from_millis(200);

/// The protocols, to which sockets are handed.
#[derive(Debug)]
pub struct Protocols {
    /// The DHCP thread.
    pub dhcp: InterfaceControl,
    /// The TFTP thread.
    pub tftp: ListenerControl,
    /// HTTP on all listeners.
    pub http: Arc<HttpServer<Shared>>,
    /// The iSCSI target of each interface.
    pub iscsi: Vec<Arc<iscsi::Target>>,
    /// The syslog receiver.
    pub syslog: SyslogReceiver,
    /// TLS of the separate listener of the object API.
    pub object_tls: Option<ServerTls>,
    /// The decisions, which depend on the addresses.
    pub gate: Arc<Gate>,
}

/// An interface of the configuration.
#[derive(Debug)]
struct Slot {
    /// Name; `None` while the configuration names none, and there is not exactly one.
    name: Option<String>,
    /// The configured address.
    configured: Option<IpAddr>,
    /// The address that machines are told instead of the interface's own.
    advertise: Option<Ipv4Addr>,
    mode: DhcpMode,
    /// The interface, if it is there.
    now: Option<NetworkInterface>,
    /// The address that machines are told.
    address: Option<Ipv4Addr>,
    /// The same, for TFTP.
    service: ServiceAddress,
    /// The address and the networks that the DHCP thread knows.
    told: Option<(Ipv4Addr, Vec<Ipv4Net>)>,
}

/// An endpoint that is served until this is dropped.
#[derive(Debug)]
struct Running {
    until: watch::Sender<bool>,
    tftp: Option<ListenerKey>,
}

/// An endpoint that is not bound.
#[derive(Debug)]
struct BindFailure {
    message: String,
    /// Whether another try may succeed without a change of the configuration or of the rights.
    may_pass: bool,
}

/// The interfaces, the endpoints on them, and what is wrong with them.
#[derive(Debug)]
pub struct Supervisor {
    config: Config,
    settings: DhcpSettings,
    slots: Vec<Slot>,
    seen: NetworkInterfaces,
    running: BTreeMap<Endpoint, Running>,
    failed: BTreeMap<Endpoint, BindFailure>,
    published: OwnAddresses,
    next_key: ListenerKey,
}

impl Supervisor {
    /// Looks at the interfaces of the configuration.
    ///
    /// # Errors
    /// The interfaces cannot be read.
    pub fn new(config: &Config, settings: DhcpSettings) -> anyhow::Result<Self> {
        let slot = |name: Option<String>, configured, advertise, mode| Slot {
            name,
            configured,
            advertise,
            mode,
            now: None,
            address: None,
            service: ServiceAddress::default(),
            told: None,
        };
        let named = config.interfaces.iter();
        let mut slots: Vec<_> =
            named.map(|one| slot(Some(one.name.clone()), one.address, one.advertise, one.mode)).collect();
        if slots.is_empty() {
            slots.push(slot(None, None, None, config.dhcp.mode));
        }
        let mut supervisor = Self {
            config: config.clone(),
            settings,
            slots,
            seen: NetworkInterfaces::new(),
            running: BTreeMap::new(),
            failed: BTreeMap::new(),
            published: OwnAddresses::default(),
            next_key: 0,
        };
        supervisor.look(interfaces::read().context("interfaces of this machine")?);
        supervisor.published = supervisor.own_addresses();
        Ok(supervisor)
    }

    /// Returns the number of interfaces.
    pub fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// Returns the addresses that machines are told.
    pub fn own_addresses(&self) -> OwnAddresses {
        let all = self.slots.iter().filter_map(|slot| Some((slot, slot.now.as_ref()?, slot.address?)));
        let mut found = OwnAddresses::default();
        for (slot, now, address) in all {
            found.nets.extend(now.addresses.iter().map(Ipv4Net::trunc));
            found.ours.push(address);
            let told = slot.advertise.into_iter();
            found.advertised.extend(told.flat_map(|told| now.addresses.iter().map(move |own| (own.addr(), told))));
        }
        found
    }

    /// Returns the name of the first interface, for the log.
    pub fn first_name(&self) -> Option<&str> {
        self.slots.first()?.name.as_deref()
    }

    /// Binds what is there at the start, while this process may have more rights than later.
    ///
    /// # Errors
    /// An endpoint cannot be bound, and no change of an interface or of another program would help.
    pub fn bind_first(&mut self) -> anyhow::Result<Vec<(Endpoint, BoundEndpoint)>> {
        let bound = self.bind_missing();
        match self.failed.values().find(|failure| !failure.may_pass) {
            Some(failure) => Err(anyhow::anyhow!("{}", failure.message)),
            None => Ok(bound),
        }
    }

    /// Serves what was bound at the start.
    pub async fn start(self, bound: Vec<(Endpoint, BoundEndpoint)>, protocols: Protocols) -> RunningSupervisor {
        let mut running = RunningSupervisor { supervisor: self, protocols, tasks: JoinSet::new() };
        for (endpoint, bound) in bound {
            running.launch(endpoint, bound).await;
        }
        // The state may be from a time with another address.
        running.rewrite_portals().await;
        running.report();
        running
    }

    /// Takes over the interfaces as they are now.
    fn look(&mut self, seen: NetworkInterfaces) {
        self.seen = seen;
        let is_untouched = self.config.is_untouched();
        for slot in &mut self.slots {
            if slot.name.is_none()
                && !is_untouched
                && slot.mode != DhcpMode::Server
                && let [only] = interfaces::candidates(&self.seen).as_slice()
            {
                tracing::info!(
                    interface = only,
                    "no interface configured: the only one is served, unknown machines are held"
                );
                slot.name = Some(only.clone());
            }
            slot.now = slot.name.as_ref().and_then(|name| self.seen.get(name)).cloned();
            slot.address = slot.now.as_ref().and_then(|now| now.choose(slot.configured));
            slot.service.set(slot.address.map(IpAddr::from));
        }
    }

    /// Returns the endpoints that are to be served.
    fn wanted(&self) -> Vec<Endpoint> {
        let mut wanted: Vec<_> = self.config.api.listen.into_iter().map(Endpoint::ObjectApi).collect();
        for (slot, found) in self.slots.iter().enumerate() {
            let (Some(name), Some(now), Some(address)) = (&found.name, &found.now, found.address) else { continue };
            let index = now.index;
            let has_dhcp = found.mode != DhcpMode::Off;
            if has_dhcp {
                wanted.push(Endpoint::Dhcp { slot, index, mac: now.mac });
            }
            if has_dhcp && self.config.dhcp.shorten_router_wait {
                wanted.push(Endpoint::Solicitations { index, name: name.clone() });
            }
            wanted.push(Endpoint::FirmwareV6 { index, name: name.clone(), dhcp: has_dhcp.then_some(slot) });
            // A client that was sent to another address than the first is answered from there.
            let own =
                now.addresses.iter().map(Ipv4Net::addr).filter(|own| found.configured.is_none() || *own == address);
            let tftp = own.map(IpAddr::from).chain([Ipv6Addr::UNSPECIFIED.into()]);
            let port = self.config.tftp.port;
            wanted.extend(tftp.map(|at| Endpoint::Tftp { slot, index, at: SocketAddr::new(at, port) }));
            let at = |port: u16| SocketAddr::from((address, port));
            wanted.push(Endpoint::Http(at(self.config.http_port)));
            wanted.push(Endpoint::Iscsi { slot, at: at(self.config.iscsi.port) });
            wanted.extend(self.config.syslog.map(|syslog| Endpoint::Syslog(at(syslog.port))));
        }
        wanted
    }

    /// Binds the endpoints that are wanted and not served.
    fn bind_missing(&mut self) -> Vec<(Endpoint, BoundEndpoint)> {
        let wanted = self.wanted();
        self.failed.retain(|endpoint, _| wanted.contains(endpoint));
        let mut bound = Vec::new();
        for endpoint in wanted.into_iter().filter(|endpoint| !self.running.contains_key(endpoint)) {
            match while_binding(|| endpoint.bind(&self.config, &self.settings, self.interface_of(&endpoint))) {
                Ok(sockets) => {
                    self.failed.remove(&endpoint);
                    bound.push((endpoint, sockets));
                }
                Err(error) if endpoint.is_needed() => {
                    let failure = BindFailure { may_pass: may_pass(&error), message: format!("{error:#}") };
                    self.failed.insert(endpoint, failure);
                }
                Err(error) => {
                    tracing::debug!(endpoint = %endpoint, error = format!("{error:#}"), "endpoint not available")
                }
            }
        }
        bound
    }

    /// Returns the name, the address and the mode of the interface of an endpoint.
    fn interface_of(&self, endpoint: &Endpoint) -> (&str, Ipv4Addr, DhcpMode) {
        let slot = match endpoint {
            Endpoint::Dhcp { slot, .. } | Endpoint::Tftp { slot, .. } | Endpoint::Iscsi { slot, .. } => Some(*slot),
            Endpoint::Solicitations { .. }
            | Endpoint::FirmwareV6 { .. }
            | Endpoint::Http(_)
            | Endpoint::Syslog(_)
            | Endpoint::ObjectApi(_) => None,
        };
        let found = slot.and_then(|slot| self.slots.get(slot));
        let name = found.and_then(|slot| slot.name.as_deref()).unwrap_or_default();
        let address = found.and_then(|slot| slot.address).unwrap_or(Ipv4Addr::UNSPECIFIED);
        (name, address, found.map_or(DhcpMode::Off, |slot| slot.mode))
    }

    /// Returns what is wrong with the interfaces.
    fn degradations(&self) -> Vec<Degradation> {
        let is_untouched = self.config.is_untouched();
        let slots = self.slots.iter().filter_map(|slot| slot.degradation(&self.seen, is_untouched));
        let failed = self.failed.iter().map(|(endpoint, failure)| Degradation {
            code: "not_bound",
            subject: match endpoint {
                Endpoint::Dhcp { .. } => format!("DHCP on {}", self.interface_of(endpoint).0),
                other => other.to_string(),
            },
            message: failure.message.clone(),
            public: None,
            severity: match endpoint {
                Endpoint::ObjectApi(_) => Severity::Fault,
                _ => Severity::Unserved,
            },
        });
        slots.chain(failed).collect()
    }
}

impl Slot {
    /// Returns why nothing, or nobody, is served on the interface.
    fn degradation(&self, seen: &NetworkInterfaces, is_untouched: bool) -> Option<Degradation> {
        let (code, message, severity) = match (&self.name, &self.now, self.address) {
            (None, ..) => ("no_interface_chosen", no_interface(self.mode, seen, is_untouched), Severity::Unserved),
            (Some(name), None, _) => {
                let others: Vec<_> = seen.keys().map(String::as_str).collect();
                let message = format!("waiting for the interface {name}: there are {}", others.join(", "));
                ("no_interface", message, Severity::Unserved)
            }
            (Some(name), Some(_), None) => {
                let message = match self.configured {
                    Some(address) => format!("waiting for the address {address} on {name}: {NOT_OWN_ADDRESS}"),
                    None => format!("waiting for an address on {name}"),
                };
                ("no_address", message, Severity::Unserved)
            }
            (Some(name), Some(now), _) if !now.is_up => {
                ("interface_down", format!("{name} is switched off"), Severity::Unserved)
            }
            // Where a machine is plugged in directly there is no link until it is switched on.
            (Some(name), Some(now), _) if !now.has_link => ("no_link", format!("no link on {name}"), Severity::Note),
            (Some(_), Some(_), Some(_)) => return None,
        };
        let subject = self.name.clone().unwrap_or_default();
        Some(Degradation { code, subject, message, public: None, severity })
    }
}

/// Returns why no interface is chosen where the configuration names none.
fn no_interface(mode: DhcpMode, seen: &NetworkInterfaces, is_untouched: bool) -> String {
    let why = match (interfaces::candidates(seen).as_slice(), mode) {
        ([], _) => "this machine has no Ethernet interface".to_owned(),
        (all, _) if is_untouched => format!("run `bootlatch init`, or set `interface` to one of {}", all.join(", ")),
        ([only], DhcpMode::Server) => format!("in mode \"server\" set `interface`, such as to {only:?}"),
        (several, _) => format!("set `interface` to one of {}", several.join(", ")),
    };
    format!("no interface chosen: {why}")
}

/// Returns whether a bind that failed may succeed later: another program may end, an address or an interface may come.
fn may_pass(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| !matches!(io.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported))
}

/// A supervisor with the protocols that it hands sockets to.
#[derive(Debug)]
pub struct RunningSupervisor {
    supervisor: Supervisor,
    protocols: Protocols,
    tasks: JoinSet<()>,
}

impl RunningSupervisor {
    /// Follows the interfaces until `stopped` turns true.
    ///
    /// # Errors
    /// The kernel's notices cannot be received, or a service panicked.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
        let monitor = LinkMonitor::open().context("rtnetlink")?;
        // What changed before the monitor was opened.
        let mut last_change = self.follow().await.then(Instant::now);
        loop {
            let may_retry = !self.supervisor.failed.is_empty();
            tokio::select! {
                () = monitor.changed() => {}
                () = tokio::time::sleep(RETRY_INTERVAL), if may_retry => {}
                Some(ended) = self.tasks.join_next() => {
                    ended.context("a service panicked")?;
                    continue;
                }
                _ = stopped.wait_for(|stop| *stop) => break,
            }
            let is_storm = last_change.is_some_and(|at| at.elapsed() < 4 * STORM_SETTLE_TIME);
            let pause = if is_storm { STORM_SETTLE_TIME } else { SETTLE_TIME };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|stop| *stop) => break,
            }
            let _ = monitor.changed().now_or_never();
            if self.follow().await {
                last_change = Some(Instant::now());
            }
        }
        self.supervisor.running.clear();
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a service panicked")?;
        }
        Ok(())
    }

    /// Takes over the interfaces as they are now. Returns whether an endpoint or an address changed.
    async fn follow(&mut self) -> bool {
        match interfaces::read() {
            Ok(seen) => self.supervisor.look(seen),
            Err(error) => {
                tracing::warn!(%error, "interfaces of this machine not read");
                return false;
            }
        }
        let wanted = self.supervisor.wanted();
        let gone: Vec<_> = self.supervisor.running.keys().filter(|one| !wanted.contains(one)).cloned().collect();
        let mut has_changed = !gone.is_empty();
        for endpoint in &gone {
            self.withdraw(endpoint).await;
        }
        let place = |endpoint: &Endpoint| match endpoint {
            Endpoint::Dhcp { index, .. } => Some(*index),
            _ => None,
        };
        if gone.iter().filter_map(place).any(|index| wanted.iter().filter_map(place).any(|other| other == index)) {
            tokio::time::sleep(REBIND_PAUSE).await;
        }
        has_changed |= self.publish().await;
        for (endpoint, bound) in self.supervisor.bind_missing() {
            has_changed = true;
            self.launch(endpoint, bound).await;
        }
        self.report();
        has_changed
    }

    /// Publishes the addresses that machines are told. Returns whether they changed.
    async fn publish(&mut self) -> bool {
        let addresses = self.supervisor.own_addresses();
        let mut has_changed = addresses != self.supervisor.published;
        if has_changed {
            let list: Vec<_> = addresses.ours.iter().map(ToString::to_string).collect();
            tracing::info!(addresses = list.join(", "), "addresses of the server changed");
            let config = &self.supervisor.config;
            self.protocols.gate.site.rcu(|site| settings::addressed(site, config, &addresses));
            self.supervisor.published = addresses;
            self.rewrite_portals().await;
        }
        for (index, slot) in self.supervisor.slots.iter_mut().enumerate() {
            let now = slot.address.zip(slot.now.as_ref().map(|now| now.addresses.clone()));
            if let (Some(told), Some(now)) = (&slot.told, now)
                && *told != now
            {
                has_changed = true;
                self.protocols.dhcp.move_to(index, now.0).await;
                slot.told = Some(now);
            }
        }
        has_changed
    }

    /// Writes our portal's address into the status of the images, where it is another one.
    async fn rewrite_portals(&self) {
        let gate = &self.protocols.gate;
        let portal = gate.site().iscsi.ip();
        if portal.is_unspecified() {
            return;
        }
        let is_stale = |image: &&Arc<Image>| {
            image.spec.portal.is_none() && image.status.portal_ip.is_some_and(|address| address != portal)
        };
        let stale: Vec<_> = gate.store.load().images().filter(is_stale).cloned().collect();
        for mut image in stale {
            let expect = Expect::Present(Some(image.metadata.resource_version));
            Arc::make_mut(&mut image).status.portal_ip = Some(portal);
            let name = image.metadata.name.clone();
            // Who changed it meanwhile has examined it with the new address.
            if let Err(error) = gate.store.commit(Change::Put { object: Object::Image(image), expect }).await {
                tracing::debug!(%name, %error, "portal of an image not updated");
            }
        }
    }

    /// Reports what is wrong with the interfaces.
    fn report(&self) {
        self.protocols.gate.degradations.set(Source::Interfaces, self.supervisor.degradations());
    }

    /// Serves an endpoint.
    async fn launch(&mut self, endpoint: Endpoint, bound: BoundEndpoint) {
        let (until, mut withdrawn) = watch::channel(false);
        let is_over = withdrawn.clone();
        let ended = async move {
            // The sender is dropped when the endpoint is withdrawn.
            let _ = withdrawn.wait_for(|is_over| *is_over).await;
        };
        let mut tftp = None;
        let gate = self.protocols.gate.clone();
        match bound {
            BoundEndpoint::Dhcp(bound) => {
                if let Endpoint::Dhcp { slot: index, .. } = endpoint {
                    self.protocols.dhcp.serve(index, bound).await;
                    if let Some(slot) = self.supervisor.slots.get_mut(index) {
                        slot.told = slot.address.zip(slot.now.as_ref().map(|now| now.addresses.clone()));
                    }
                }
            }
            BoundEndpoint::Solicitations(socket) => {
                self.spawn(
                    &endpoint,
                    async move { ndp::serve::serve(socket, gate, is_over).await.map_err(Into::into) },
                );
            }
            BoundEndpoint::FirmwareV6(listener) => {
                self.spawn(&endpoint, async move { listener.serve(gate, is_over).await.map_err(Into::into) });
            }
            BoundEndpoint::Tftp(listener) => {
                let key = self.supervisor.next_key;
                self.supervisor.next_key += 1;
                let found = match endpoint {
                    Endpoint::Tftp { slot, .. } => self.supervisor.slots.get(slot),
                    _ => None,
                };
                let service = found.map(|slot| slot.service.clone()).unwrap_or_default();
                self.protocols.tftp.add(key, listener.serving_at(service)).await;
                tftp = Some(key);
            }
            BoundEndpoint::Http(listener) => {
                let serves =
                    if self.supervisor.config.api.listen.is_some() { Serves::Machines } else { Serves::Everything };
                self.serve_http(HttpSocket::Tcp(listener), serves, ended);
            }
            BoundEndpoint::ObjectApi(listener) => {
                let socket = match self.protocols.object_tls.clone() {
                    Some(tls) => HttpSocket::Tls(listener, tls),
                    None => HttpSocket::Tcp(listener),
                };
                self.serve_http(socket, Serves::Everything, ended);
            }
            BoundEndpoint::Iscsi(listener) => self.serve_iscsi(&endpoint, listener, ended),
            BoundEndpoint::Syslog(sockets) => {
                let receiver = self.protocols.syslog.clone();
                self.spawn(&endpoint, async move { receiver.serve(sockets, is_over).await.map_err(Into::into) });
            }
        }
        self.supervisor.running.insert(endpoint, Running { until, tftp });
    }

    fn serve_http(&mut self, socket: HttpSocket, serves: Serves, withdrawn: impl Future<Output = ()> + Send + 'static) {
        let http = self.protocols.http.clone();
        self.tasks.spawn(async move { http.serve(HttpListener { socket, serves }, withdrawn).await });
    }

    fn serve_iscsi(
        &mut self,
        endpoint: &Endpoint,
        listener: std::net::TcpListener,
        withdrawn: impl Future<Output = ()> + Send + 'static,
    ) {
        let target = match endpoint {
            Endpoint::Iscsi { slot, .. } => self.protocols.iscsi.get(*slot).cloned(),
            _ => None,
        };
        let (Some(target), stop) = (target, self.protocols.http.stop()) else { return };
        self.spawn(endpoint, async move {
            iscsi::serve(TcpListener::from_std(listener)?, &target, withdrawn, stop).await;
            Ok(())
        });
    }

    /// Runs the service of an endpoint.
    fn spawn(&mut self, endpoint: &Endpoint, service: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let endpoint = endpoint.to_string();
        self.tasks.spawn(async move {
            if let Err(error) = service.await {
                tracing::warn!(endpoint, error = format!("{error:#}"), "endpoint no longer served");
            }
        });
    }

    /// Stops to serve an endpoint.
    async fn withdraw(&mut self, endpoint: &Endpoint) {
        let Some(Running { until, tftp }) = self.supervisor.running.remove(endpoint) else { return };
        drop(until);
        if let Some(key) = tftp {
            self.protocols.tftp.remove(key).await;
        }
        if let Endpoint::Dhcp { slot: index, .. } = endpoint {
            self.protocols.dhcp.withdraw(*index).await;
            if let Some(slot) = self.supervisor.slots.get_mut(*index) {
                slot.told = None;
            }
        }
    }
}
