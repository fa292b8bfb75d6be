//! Follows the interfaces and their addresses: binds what is there, withdraws what is gone, and tells what is missing.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use ipnet::Ipv4Net;
use tokio::sync::watch;

use crate::api::state::Shared;
use crate::config::{Config, DhcpMode, NOT_OWN_ADDRESS};
use crate::dhcp::serve::{DhcpSettings, InterfaceControl};
use crate::gate::Gate;
use crate::gate::degradations::{Degradation, Severity};
use crate::http::listener::HttpServer;
use crate::http::tls::ServerTls;
use crate::iscsi::serve as iscsi;
use crate::syslog::serve::SyslogReceiver;
use crate::tftp::serve::{ListenerControl, ListenerKey, ServiceAddress};

use super::capabilities::while_binding;
use super::interfaces::{self, NetworkInterface, NetworkInterfaces};
use super::listeners::{BoundEndpoint, Endpoint};
use super::settings::OwnAddresses;

mod running;

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
