//! Interfaces come and go while the DHCP thread runs: sockets are bound elsewhere, and handed to it.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use nix::sys::eventfd::EventFd;
use tokio::sync::{mpsc, oneshot};

use crate::dhcp::serve::interface::InterfaceMode;
use crate::dhcp::serve::settings::{DhcpSettings, SocketChoice};
use crate::dhcp::serve::sockets::InterfaceSockets;

/// Maximum number of changes that wait for the DHCP thread.
const MAX_QUEUED_CHANGES: usize = 64;

/// An interface whose sockets are bound.
#[derive(Debug)]
pub struct BoundInterface {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    pub(super) mode: InterfaceMode,
    pub(super) sockets: InterfaceSockets,
}

impl BoundInterface {
    /// Binds the DHCP port and the ProxyDHCP port of an interface.
    ///
    /// # Errors
    /// A port is in use or forbidden; the error names it. In server mode also: raw sockets are forbidden.
    pub fn bind(
        name: &str,
        address: Ipv4Addr,
        ports: (u16, u16),
        mode: InterfaceMode,
        settings: &DhcpSettings,
    ) -> io::Result<Self> {
        // Two servers that give addresses on one interface are a mistake, and renewals come by unicast: the port is needed.
        let choice = if mode == InterfaceMode::Server { SocketChoice::Udp } else { settings.socket };
        let mut sockets = InterfaceSockets::bind(name, ports, choice)?;
        if mode == InterfaceMode::Server {
            sockets.serve_addresses(name, settings.conflict_check)?;
        }
        Ok(Self { name: name.to_owned(), address, mode, sockets })
    }
}

/// A change of an interface, by its index in the configuration.
#[derive(Debug)]
pub(super) enum InterfaceChange {
    /// Its sockets are bound.
    Serve(usize, Box<BoundInterface>),
    /// It has another address, or other networks.
    Move(usize, Ipv4Addr),
    /// It is gone, or has no address.
    Withdraw(usize),
}

/// A change, and the one who waits for it: the answer is dropped once it is applied.
pub(super) type QueuedChange = (InterfaceChange, oneshot::Sender<()>);

/// Changes the interfaces of the running DHCP thread.
#[derive(Debug, Clone)]
pub struct InterfaceControl {
    changes: mpsc::Sender<QueuedChange>,
    wake: Arc<EventFd>,
}

impl InterfaceControl {
    pub(super) fn new(wake: Arc<EventFd>) -> (Self, mpsc::Receiver<QueuedChange>) {
        let (changes, queued) = mpsc::channel(MAX_QUEUED_CHANGES);
        (Self { changes, wake }, queued)
    }

    /// Serves an interface, by its index in the configuration.
    pub async fn serve(&self, index: usize, bound: BoundInterface) {
        self.apply(InterfaceChange::Serve(index, Box::new(bound))).await;
    }

    /// Reports that an interface has another address or other networks.
    pub async fn move_to(&self, index: usize, address: Ipv4Addr) {
        self.apply(InterfaceChange::Move(index, address)).await;
    }

    /// Stops to serve an interface, and waits until its sockets are closed.
    pub async fn withdraw(&self, index: usize) {
        self.apply(InterfaceChange::Withdraw(index)).await;
    }

    async fn apply(&self, change: InterfaceChange) {
        let (done, is_done) = oneshot::channel();
        // A thread that has ended serves nothing.
        let _ = self.changes.send((change, done)).await;
        let _ = self.wake.write(1);
        let _ = is_done.await;
    }
}
