//! The supervisor at work: follows the kernel's notices, and hands what is bound to the protocols.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::fleet::{Image, Object};
use crate::gate::degradations::Source;
use crate::http::listener::{HttpListener, HttpSocket};
use crate::http::peer::Serves;
use crate::iscsi::serve as iscsi;
use crate::ndp;
use crate::store::{Change, Expect};

use super::super::interfaces;
use super::super::link_monitor::LinkMonitor;
use super::super::listeners::{BoundEndpoint, Endpoint};
use super::super::settings;
use super::{Protocols, Running, Supervisor};

/// Time after a change in which further ones are waited for: an address seldom changes alone.
const SETTLE_TIME: Duration = Duration::from_millis(50);
/// The same while changes follow each other.
const STORM_SETTLE_TIME: Duration = Duration::from_millis(250);
/// Interval in which an endpoint that could not be bound is tried again. The kernel does not tell that a port is free.
const RETRY_INTERVAL: Duration = Duration::from_secs(3);
/// Time for the replies that wait for the store to leave the sockets of an interface whose MAC address has changed.
const REBIND_PAUSE: Duration = Duration::from_millis(200);

/// A supervisor with the protocols that it hands sockets to.
#[derive(Debug)]
pub struct RunningSupervisor {
    supervisor: Supervisor,
    protocols: Protocols,
    tasks: JoinSet<()>,
}

impl Supervisor {
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
