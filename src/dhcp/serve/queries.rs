//! Questions of the API to the DHCP thread. It answers them between two batches of packets, and changes nothing for them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use nix::sys::eventfd::EventFd;
use tokio::sync::{mpsc, oneshot};

use crate::boot::rehearsal::RehearsedClient;
use crate::dhcp::rogue_servers::{ObservedServer, ServerRole};
use crate::dhcp::serve::handler::RequestHandler;
use crate::dhcp::serve::interface::InterfaceState;
use crate::dhcp::serve::rehearsal::choose;
use crate::fleet::Lease;
use crate::gate::interfaces::{HeardNetwork, HeardServer, InterfaceReport, RelayReport};
use crate::gate::rehearsal::{DhcpRehearsal, DhcpRehearsalError};
use crate::store::{self, StoreError};

/// Maximum number of questions that wait for the DHCP thread.
const MAX_QUEUED: usize = 16;
/// Maximum time to wait for the DHCP thread.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The DHCP thread does not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// A question that waits for the DHCP thread.
#[derive(Debug)]
pub(super) enum Query {
    /// What a client would be answered on an interface, or on the one that its address selects.
    Rehearsal(RehearsedClient, Option<String>, oneshot::Sender<Result<DhcpRehearsal, DhcpRehearsalError>>),
    /// What was heard on each interface, and which relays.
    Network(oneshot::Sender<HeardNetwork>),
    /// The end of the lease of an address.
    EndLease(Ipv4Addr, oneshot::Sender<Result<Option<Lease>, StoreError>>),
}

/// The queue of questions to the DHCP thread.
#[derive(Debug, Clone)]
pub struct DhcpQueries {
    queue: mpsc::Sender<Query>,
    /// Wakes the thread.
    wake: Arc<EventFd>,
}

impl DhcpQueries {
    /// Creates a queue and its other end.
    pub(super) fn new(wake: Arc<EventFd>) -> (Self, mpsc::Receiver<Query>) {
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        (Self { queue, wake }, queued)
    }

    /// Rehearses the messages of a client on an interface, or on the one that its address selects.
    ///
    /// # Errors
    /// No such interface has DHCP, or the DHCP thread does not answer in time.
    pub async fn rehearse(
        &self,
        client: RehearsedClient,
        interface: Option<String>,
    ) -> Result<DhcpRehearsal, DhcpRehearsalError> {
        let asked = self.ask(|answer| Query::Rehearsal(client, interface, answer)).await;
        asked.unwrap_or(Err(DhcpRehearsalError::Busy))
    }

    /// Returns what was heard on each interface with DHCP, and which relays.
    ///
    /// # Errors
    /// The DHCP thread does not answer in time.
    pub async fn network(&self) -> Result<HeardNetwork, Busy> {
        self.ask(Query::Network).await
    }

    /// Ends the lease of an address, durably. Returns the lease; `None` if nobody has the address.
    ///
    /// # Errors
    /// The DHCP thread does not answer in time, or the lease cannot be written.
    pub async fn end_lease(&self, address: Ipv4Addr) -> Result<Result<Option<Lease>, StoreError>, Busy> {
        self.ask(|answer| Query::EndLease(address, answer)).await
    }

    async fn ask<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, Busy> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(query(answer)).map_err(|_| Busy)?;
        let _ = self.wake.write(1);
        match tokio::time::timeout(TIMEOUT, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(Busy),
        }
    }
}

impl Query {
    /// Answers the question. Where nobody waits any more, the client has hung up.
    pub fn answer<'a>(
        self,
        handler: &mut RequestHandler,
        interfaces: impl Iterator<Item = &'a InterfaceState> + Clone,
    ) {
        match self {
            Self::Rehearsal(client, name, answer) => {
                let found = choose(name.as_deref(), &client, interfaces);
                let _ = answer.send(found.map(|interface| handler.rehearse(interface, &client)));
            }
            Self::Network(answer) => {
                let clock = ReportClock::read();
                let relays = relays(handler, interfaces.clone(), &clock);
                let interfaces = interfaces.map(|interface| report(handler, interface, &clock)).collect();
                let _ = answer.send(HeardNetwork { interfaces, relays });
            }
            Self::EndLease(address, answer) => handler.end_lease(address, move |done| drop(answer.send(done))),
        }
    }
}

/// The time, by the clock of deadlines and by that of people.
struct ReportClock {
    now: Instant,
    wall: Timestamp,
}

impl ReportClock {
    fn read() -> Self {
        Self { now: Instant::now(), wall: store::now() }
    }

    /// Returns a past time, to the second.
    fn time_of(&self, at: Instant) -> Timestamp {
        let ago = SignedDuration::try_from(self.now.saturating_duration_since(at)).unwrap_or(SignedDuration::MAX);
        let time = self.wall.saturating_sub(ago).unwrap_or(Timestamp::MIN);
        // Rounded, so that the time of the same packet does not change from report to report.
        Timestamp::from_second((time.as_millisecond() + 500) / 1000).unwrap_or(time)
    }
}

/// Returns the relays whose messages arrived, by address.
fn relays<'a>(
    handler: &RequestHandler,
    interfaces: impl Iterator<Item = &'a InterfaceState> + Clone,
    clock: &ReportClock,
) -> Vec<RelayReport> {
    let heard = handler.exchanges.relays_heard.iter().map(|(address, heard)| RelayReport {
        address,
        source: heard.source,
        interface: interfaces
            .clone()
            .find(|one| one.index == heard.interface)
            .map(|one| one.name.clone())
            .unwrap_or_default(),
        is_believed: heard.standing.is_believed(),
        reason: heard.standing.code(),
        messages: heard.messages,
        refused: heard.refused,
        last_heard_time: clock.time_of(heard.last),
    });
    let mut relays: Vec<RelayReport> = heard.collect();
    relays.sort_by_key(|relay| relay.address);
    relays
}

/// Returns what was heard on an interface.
fn report(handler: &RequestHandler, interface: &InterfaceState, clock: &ReportClock) -> InterfaceReport {
    let heard = |(at, server): (Instant, ObservedServer)| HeardServer {
        address: server.server,
        role: match server.role {
            ServerRole::BootServer => "boot_server",
            ServerRole::AddressServer => "address_server",
        },
        gives_addresses: server.gives_addresses,
        is_bootlatch: server.is_bootlatch,
        last_heard_time: clock.time_of(at),
    };
    let mut servers: Vec<HeardServer> = interface.detector.servers().map(heard).collect();
    servers.sort_by_key(|server| server.address);
    InterfaceReport {
        name: interface.name.clone(),
        address: interface.address,
        mode: interface.mode.code(),
        stands_down: handler.stands_down(interface),
        servers,
    }
}
