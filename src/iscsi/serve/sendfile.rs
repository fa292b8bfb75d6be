//! Sends bytes of a medium from the page cache with sendfile(2), without a copy in user space.

use std::io;

use nix::libc::MSG_MORE;
use socket2::SockRef;
use tokio::io::Interest;

use crate::iscsi::connection::UnitRead;
use crate::iscsi::limits;
use crate::iscsi::outcome::End;
use crate::iscsi::serve::ConnectionTask;
use crate::iso::Extent;

impl ConnectionTask {
    /// Sends the data of a read and the output before it, if the kernel can send the data from a cached file. Returns
    /// whether it did.
    ///
    /// A file error in the middle ends the session, because the header that announced the data is already sent.
    pub async fn try_sendfile(&mut self, read: &UnitRead) -> Result<bool, Option<End>> {
        let mut sent = 0;
        let lent = self.sendfile_counted(read, &mut sent).await;
        self.sent += sent;
        lent
    }

    async fn sendfile_counted(&self, read: &UnitRead, sent: &mut u64) -> Result<bool, Option<End>> {
        let (start, length) = (read.span.offset(), read.span.length());
        let medium = self.media.get(&read.lun).filter(|_| length >= limits::MIN_SENDFILE_BYTES);
        let (Some(medium), Some(mut head)) = (medium, self.connection.header_bytes(read)) else { return Ok(false) };
        let lies = medium.file_extent(start, length).filter(|(_, extent)| extent.length == length);
        let Some((image, mut extent)) = lies.filter(|_| medium.is_cached(start, start + length)) else {
            return Ok(false);
        };
        while !head.is_empty() {
            let send = || SockRef::from(&self.stream).send_with_flags(head, MSG_MORE);
            match self.stream.try_io(Interest::WRITABLE, send) {
                Ok(count) => {
                    head = &head[count..];
                    *sent += u64::try_from(count).unwrap_or(0);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_room().await?,
                Err(_) => return Err(None),
            }
        }
        while extent.length > 0 {
            match self.stream.try_io(Interest::WRITABLE, || image.send(&self.stream, extent)) {
                Ok(count) => {
                    extent = Extent { offset: extent.offset + count, length: extent.length - count };
                    *sent += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_room().await?,
                Err(error) => {
                    if !is_peer_failure(&error) {
                        self.report_read_failure(read, &error);
                    }
                    return Err(None);
                }
            }
        }
        Ok(true)
    }
}

/// Returns whether a send failed because of the peer or the network. Other errors are those of the file.
fn is_peer_failure(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable, NotConnected,
        TimedOut,
    };
    matches!(
        error.kind(),
        BrokenPipe
            | ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | NetworkDown
            | NetworkUnreachable
            | NotConnected
            | TimedOut
    )
}
