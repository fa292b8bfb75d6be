//! Sends a medium's bytes as they lie in a file and in the page cache, by the kernel: nothing is copied here.

use std::io;

use nix::libc::MSG_MORE;
use socket2::SockRef;
use tokio::io::Interest;

use crate::iscsi::connection::{End, Read};
use crate::iscsi::limits;
use crate::iscsi::serve::Rim;
use crate::iso::Extent;

impl Rim {
    /// Sends a reading's bytes, and what is to be sent before them, where they can be sent as they lie; says whether.
    ///
    /// A file that fails in the midst of them ends the session: the head that promised them is sent by then.
    pub async fn lend(&mut self, read: &Read) -> Result<bool, Option<End>> {
        let mut sent = 0;
        let lent = self.lend_counted(read, &mut sent).await;
        self.sent += sent;
        lent
    }

    async fn lend_counted(&self, read: &Read, sent: &mut u64) -> Result<bool, Option<End>> {
        let (start, length) = (read.span.offset(), read.span.length());
        let medium = self.media.get(&read.lun).filter(|_| length >= limits::LEND);
        let (Some(medium), Some(mut head)) = (medium, self.connection.before(read)) else { return Ok(false) };
        let lies = medium.lies_at(start, length).filter(|(_, extent)| extent.length == length);
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
                    if !is_of_peer(&error) {
                        self.tell_of_failed(read, &error);
                    }
                    return Err(None);
                }
            }
        }
        Ok(true)
    }
}

/// Says whether a send failed for the peer's sake, or the network's; what else fails is the file.
fn is_of_peer(error: &io::Error) -> bool {
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
