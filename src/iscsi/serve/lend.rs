//! Sends a medium's bytes as they lie in a file and in the page cache, by the kernel: nothing is copied here.

use std::io;
use std::sync::Arc;

use nix::libc::MSG_MORE;
use socket2::SockRef;
use tokio::io::Interest;

use super::Rim;
use crate::iscsi::limits;
use crate::iscsi::session::{End, Read};
use crate::iso::{Extent, ImageFile, ReadAt};

impl Rim {
    /// Says whether a reading's bytes can be sent as they lie.
    pub(super) fn lends(&self, read: &Read) -> bool {
        let (start, length) = (read.span.offset(), read.span.length());
        let Some(medium) = self.media.get(&read.lun).filter(|_| length >= limits::LEND) else { return false };
        self.connection.before(read).is_some()
            && lies(medium, read).is_some()
            && medium.is_at_hand(start, start + length)
    }

    /// Sends a reading's bytes, and what is to be sent before them.
    pub(super) async fn lend(&mut self, read: Read) -> Result<(), Option<End>> {
        let (Some(medium), Some(before)) = (self.media.get(&read.lun), self.connection.before(&read)) else {
            return Err(None);
        };
        let Some((image, mut extent)) = lies(medium, &read) else { return Err(None) };
        let (mut rest, length) = (before, before.len() as u64 + extent.length);
        while !rest.is_empty() {
            let send = || SockRef::from(&self.stream).send_with_flags(rest, MSG_MORE);
            match self.stream.try_io(Interest::WRITABLE, send) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_room().await?,
                Err(_) => return Err(None),
            }
        }
        while extent.length > 0 {
            match self.stream.try_io(Interest::WRITABLE, || image.send(&self.stream, extent)) {
                Ok(sent) => extent = Extent { offset: extent.offset + sent, length: extent.length - sent },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_room().await?,
                Err(error) => {
                    self.tell_of_failed(&read, &error);
                    return Err(None);
                }
            }
        }
        self.sent += length;
        self.connection.on_lent(read);
        Ok(())
    }
}

/// Says where all of a reading's bytes lie, where that is one place.
fn lies<'a>(medium: &'a Arc<dyn ReadAt>, read: &Read) -> Option<(&'a ImageFile, Extent)> {
    let length = read.span.length();
    medium.lies_at(read.span.offset(), length).filter(|(_, extent)| extent.length == length)
}
