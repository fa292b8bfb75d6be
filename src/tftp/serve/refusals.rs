//! The ERROR packets that refuse a request or end a transfer.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{DropCause, FileRefusal, RequestOrigin, Responder, TftpServer, TransferReport, TransferRequest};
use crate::tftp::packet::{ErrorCode, Packet};
use crate::tftp::path::RequestedFile;

impl<C: Fn(TransferRequest, Responder), R: Fn(TransferReport)> TftpServer<C, R> {
    /// Refuses a request. The ERROR leaves from the listening port, because the client accepts the first answer's port.
    pub(super) fn refuse(&mut self, arrival: &RequestOrigin, asked: Option<Arc<RequestedFile>>, why: FileRefusal) {
        let code = match why {
            FileRefusal::NotFound => ErrorCode::FileNotFound,
            FileRefusal::Write | FileRefusal::Name(_) | FileRefusal::Decided(_) => ErrorCode::AccessViolation,
            FileRefusal::Netascii => ErrorCode::NotDefined,
        };
        let &RequestOrigin { peer, local, listener } = arrival;
        self.send_error(listener, local, peer, code, &why.to_string());
        self.queue_report(TransferReport::Refused { peer, asked, why });
    }

    pub(super) fn send_error(&self, port: usize, local: IpAddr, peer: SocketAddr, code: ErrorCode, message: &str) {
        let mut packet = Vec::new();
        Packet::Error { code: code as u16, message: message.as_bytes() }.emit(&mut packet);
        let Some(port) = &self.ports[port].port else { return };
        if let Err(error) = port.send(&[IoSlice::new(&packet)], None, local, peer) {
            self.report_drop(Some(peer), DropCause::NotSent(error));
        }
    }
}
