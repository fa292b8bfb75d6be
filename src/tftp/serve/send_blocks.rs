//! The sending of blocks: their octets are loaded, and several datagrams leave in one call.

use super::mmsg::SendBatch;
use super::port::UdpPort;
use super::session::{SendFailure, TransferSession};
use super::table::SessionId;
use super::{Responder, TftpServer, TransferReport, TransferRequest, read_ahead, send};
use crate::tftp::transfer::Blocks;

impl<C: Fn(TransferRequest, Responder), R: Fn(TransferReport)> TftpServer<C, R> {
    /// Loads the octets of blocks, and sends them.
    pub(super) fn send_blocks(&mut self, id: SessionId, blocks: Blocks) -> Result<(), SendFailure> {
        let share = read_ahead::ahead_share(self.sessions.len());
        let Some(session) = self.sessions.session(id) else { return Ok(()) };
        self.reports.borrow_mut().extend(session.start());
        let is_large = session.load(blocks, share).map_err(SendFailure::Content)?;
        let sent = self.send_loaded(id, blocks);
        if is_large {
            self.sessions.session(id).into_iter().for_each(TransferSession::forget_loaded);
        }
        sent
    }

    /// Sends blocks whose octets are loaded.
    fn send_loaded(&mut self, id: SessionId, blocks: Blocks) -> Result<(), SendFailure> {
        let Some(session) = self.sessions.session(id) else { return Ok(()) };
        let Some(port) = &self.ports[session.path.port].port else { return Ok(()) };
        let left = session.send_window(port, blocks)?;
        for block in left.iter().flat_map(|left| left.iter()) {
            self.with_batch(id, |session, port, batch| {
                session.post_block(port, block, batch).map_err(SendFailure::Content)
            })?;
        }
        Ok(())
    }

    /// Appends a session's datagram to the batch, which is sent first if it is full or belongs to another port.
    pub(super) fn with_batch(
        &mut self,
        id: SessionId,
        post: impl FnOnce(&TransferSession, &UdpPort, &mut SendBatch) -> Result<(), SendFailure>,
    ) -> Result<(), SendFailure> {
        let Some(session) = self.sessions.session(id) else { return Ok(()) };
        if session.path.port != self.batch_port || self.batch.is_full() {
            send(&self.ports, &mut self.batch, self.batch_port, &self.reports);
            self.batch_port = session.path.port;
        }
        match &self.ports[session.path.port].port {
            Some(port) => post(session, port, &mut self.batch),
            None => Ok(()),
        }
    }
}
