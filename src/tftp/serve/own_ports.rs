//! The port of a transfer: its own, or a shared one. A forger must not be able to predict it.

use std::io;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::{PortRole, PortState, Responder, TftpServer, TransferReport, TransferRequest};

/// Maximum number of ports that are open for one transfer each. Further transfers get no window.
const MAX_OWN_PORTS: usize = 512;

impl<C: Fn(TransferRequest, Responder), R: Fn(TransferReport)> TftpServer<C, R> {
    /// Opens a port for one transfer and returns its index; `None` if all replies leave from the listening port, or
    /// where no more ports can be opened.
    pub(super) fn open_own_port(&mut self, listener: usize) -> Option<usize> {
        let is_full = self.free_ports.is_empty()
            && self.ports.iter().filter(|port| port.role == PortRole::Own).count() >= MAX_OWN_PORTS;
        let port = self.listeners.get(&listener).filter(|_| !is_full)?.own_ports.open().ok()?;
        self.insert_port(PortState { transfers: 1, ..PortState::new(port, listener, PortRole::Own) }).ok()
    }

    /// Adds a port to those that are waited for, in the place of one that is over if there is one. Returns its index.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub(super) fn insert_port(&mut self, state: PortState) -> io::Result<usize> {
        let index = self.free_ports.last().copied().unwrap_or(self.ports.len());
        let word = u64::try_from(index).map_err(io::Error::other)?;
        if let Some(port) = &state.port {
            self.epoll.add(port, EpollEvent::new(EpollFlags::EPOLLIN, word))?;
        }
        match self.free_ports.pop() {
            None => self.ports.push(state),
            Some(index) => {
                // Datagrams that wait for the port that was here must leave before it is closed.
                self.flush();
                let closed = std::mem::replace(&mut self.ports[index], state);
                if let Some(port) = closed.port {
                    let _ = self.epoll.delete(&port);
                }
            }
        }
        Ok(index)
    }

    /// Returns a shared port: of two that are drawn by chance, the one with fewer transfers.
    pub(super) fn assign_port(&mut self, listener: usize) -> usize {
        let is_shared = |port: &PortState| port.listener == listener && port.role == PortRole::Shared;
        let ports = self.ports.iter().enumerate().filter(|(_, port)| is_shared(port));
        let shared: Vec<usize> = ports.map(|(index, _)| index).collect();
        if shared.is_empty() {
            return listener; // a single port for all
        }
        let chance = uuid::Uuid::new_v4().into_bytes();
        let drawn = [chance[0], chance[1]].map(|byte| shared[usize::from(byte) % shared.len()]);
        let port = if self.ports[drawn[0]].transfers <= self.ports[drawn[1]].transfers { drawn[0] } else { drawn[1] };
        self.ports[port].transfers += 1;
        port
    }
}
