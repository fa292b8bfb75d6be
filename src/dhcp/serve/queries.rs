//! Questions of the API to the DHCP thread. It answers them between two batches of packets, and changes nothing for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use tokio::sync::{mpsc, oneshot};

use crate::boot::rehearsal::RehearsedClient;
use crate::dhcp::rogue_servers::{ObservedServer, ServerRole};
use crate::dhcp::serve::handler::RequestHandler;
use crate::dhcp::serve::interface::InterfaceState;
use crate::dhcp::serve::rehearsal::choose;
use crate::gate::interfaces::{HeardServer, InterfaceReport};
use crate::gate::rehearsal::{DhcpRehearsal, DhcpRehearsalError};

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
    /// What was heard on each interface.
    Interfaces(oneshot::Sender<Vec<InterfaceReport>>),
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

    /// Returns what was heard on each interface with DHCP.
    ///
    /// # Errors
    /// The DHCP thread does not answer in time.
    pub async fn interfaces(&self) -> Result<Vec<InterfaceReport>, Busy> {
        self.ask(Query::Interfaces).await
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
    pub fn answer<'a>(self, handler: &RequestHandler, interfaces: impl Iterator<Item = &'a InterfaceState> + Clone) {
        match self {
            Self::Rehearsal(client, name, answer) => {
                let found = choose(name.as_deref(), &client, interfaces);
                let _ = answer.send(found.map(|interface| handler.rehearse(interface, &client)));
            }
            Self::Interfaces(answer) => {
                let now = Instant::now();
                let _ = answer.send(interfaces.map(|interface| report(handler, interface, now)).collect());
            }
        }
    }
}

/// Returns what was heard on an interface.
fn report(handler: &RequestHandler, interface: &InterfaceState, now: Instant) -> InterfaceReport {
    let heard = |(at, server): (Instant, ObservedServer)| HeardServer {
        address: server.server,
        role: match server.role {
            ServerRole::BootServer => "boot_server",
            ServerRole::AddressServer => "address_server",
        },
        gives_addresses: server.gives_addresses,
        is_bootlatch: server.is_bootlatch,
        seconds_ago: now.saturating_duration_since(at).as_secs(),
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
