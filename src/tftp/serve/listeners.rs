//! Listeners come and go while the server runs: an interface or an address is added, or is no longer there.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::{mpsc, oneshot};

use super::port::{Listener, OwnPorts, ServiceAddress, UdpPort};
use super::{PortRole, PortState, Responder, TftpServer, TransferEnd, TransferReport, TransferRequest};

/// Maximum number of changes that wait for the thread: an address of each interface at a time.
const MAX_QUEUED_CHANGES: usize = 256;

/// Identifies a listener to the one who added it.
pub type ListenerKey = u64;

/// A change of the listeners.
#[derive(Debug)]
enum ListenerChange {
    Add(ListenerKey, Box<Listener>),
    /// The answer is dropped once the sockets are closed.
    Remove(ListenerKey, oneshot::Sender<()>),
}

/// Adds listeners to a running server, and removes them.
#[derive(Debug, Clone)]
pub struct ListenerControl {
    changes: mpsc::Sender<ListenerChange>,
    wake: Arc<EventFd>,
}

/// The server's end of [`ListenerControl`].
#[derive(Debug)]
pub struct ListenerChanges {
    queued: mpsc::Receiver<ListenerChange>,
    pub(super) wake: Arc<EventFd>,
}

impl ListenerControl {
    /// Creates both ends.
    ///
    /// # Errors
    /// Those of eventfd(2).
    pub fn new() -> io::Result<(Self, ListenerChanges)> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        let (changes, queued) = mpsc::channel(MAX_QUEUED_CHANGES);
        Ok((Self { changes, wake: wake.clone() }, ListenerChanges { queued, wake }))
    }

    /// Adds a listener.
    pub async fn add(&self, key: ListenerKey, listener: Listener) {
        self.send(ListenerChange::Add(key, Box::new(listener))).await;
    }

    /// Removes a listener, and waits until its sockets are closed. Its transfers end.
    pub async fn remove(&self, key: ListenerKey) {
        let (done, is_done) = oneshot::channel();
        self.send(ListenerChange::Remove(key, done)).await;
        let _ = is_done.await;
    }

    async fn send(&self, change: ListenerChange) {
        // A server that has ended has no listeners.
        let _ = self.changes.send(change).await;
        let _ = self.wake.write(1);
    }
}

/// What the server knows of a listener besides its ports.
#[derive(Debug)]
pub(super) struct ListenerState {
    key: Option<ListenerKey>,
    pub(super) own_ports: OwnPorts,
    pub(super) service: ServiceAddress,
}

impl<C: Fn(TransferRequest, Responder), R: Fn(TransferReport)> TftpServer<C, R> {
    /// Adds a listener. It is known by the index of its port for requests.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub(super) fn add_listener(&mut self, key: Option<ListenerKey>, listener: Listener) -> io::Result<()> {
        let Listener { requests, transfers, own_ports, service } = listener;
        let index = self.insert_port(PortState::new(requests, 0, PortRole::Requests))?;
        self.ports[index].listener = index;
        for port in transfers {
            self.insert_port(PortState::new(port, index, PortRole::Shared))?;
        }
        self.listeners.insert(index, ListenerState { key, own_ports, service });
        Ok(())
    }

    /// Applies the changes that are queued.
    pub(super) fn apply_changes(&mut self, now: Instant) {
        while let Some(change) = self.changes.as_mut().and_then(|changes| changes.queued.try_recv().ok()) {
            match change {
                ListenerChange::Add(key, listener) => {
                    if let Err(error) = self.add_listener(Some(key), *listener) {
                        tracing::error!(%error, "TFTP listener unusable");
                    }
                }
                ListenerChange::Remove(key, done) => {
                    self.remove_listener(key, now);
                    drop(done);
                }
            }
        }
    }

    /// Ends the transfers of a listener, and closes its ports.
    fn remove_listener(&mut self, key: ListenerKey, now: Instant) {
        let found = self.listeners.iter().find(|(_, listener)| listener.key == Some(key));
        let Some(listener) = found.map(|(index, _)| *index) else { return };
        self.listeners.remove(&listener);
        let of_it: Vec<_> =
            self.by_peer.iter().filter(|((at, _), _)| *at == listener).map(|(_, session)| *session).collect();
        of_it.into_iter().for_each(|session| self.end(session, TransferEnd::Stopped, now));
        // What waits to be sent leaves before the ports are closed.
        self.flush();
        for index in 0..self.ports.len() {
            let state = &mut self.ports[index];
            if state.listener != listener || state.role == PortRole::Closed {
                continue;
            }
            if let Some(port) = state.port.take() {
                let _ = self.epoll.delete(&port);
            }
            // One that had a single transfer is in the list already.
            if state.role != PortRole::Own {
                self.free_ports.push(index);
            }
            self.ports[index].role = PortRole::Closed;
        }
    }
}

impl PortState {
    pub(super) fn new(port: UdpPort, listener: usize, role: PortRole) -> Self {
        Self { port: Some(port), listener, transfers: 0, role, overflowed: 0 }
    }
}
