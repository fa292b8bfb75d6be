//! Reads of octets that the kernel does not have in memory. Another thread waits for the disk: this one sends
//! everybody's blocks, and a file system may never answer.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::content::{FileContent, ReadAhead};
use super::session::SessionState;
use super::table::SessionId;
use super::{FileAnswer, Responder, TftpServer, TransferEnd, TransferReport, TransferRequest};
use crate::bounds::Source;
use crate::tftp::transfer::{Ending, TransferStep};

/// Minimum number of octets of such a read: the octets of the next steps.
const MIN_OCTETS: u64 = 32 << 10;
/// Number of octets that all transfers together read before they are due, and maximum of each transfer. The kernel has them
/// in memory. A transfer keeps the buffer that it has when others begin, so the sum may be more for a while.
const MAX_AHEAD_OCTETS: (u64, u64) = (8 << 20, 16 << 10);
/// Maximum number of reads that wait for a disk at once. Transfers beyond it wait for their turn.
pub const MAX_WAITING_READS: usize = 128;
/// Maximum number of such reads for one source. A read goes on when its transfer has ended.
pub const MAX_READS_PER_SOURCE: usize = 16;

/// Returns how many octets each of so many transfers reads before they are due.
pub fn ahead_share(transfers: usize) -> u64 {
    let (all, each) = MAX_AHEAD_OCTETS;
    (all / (transfers as u64).max(1)).min(each)
}

/// The reads that wait for a disk, and the transfers that wait for their turn.
#[derive(Debug, Default)]
pub struct DiskReads {
    /// Each read has a copy.
    all: Arc<()>,
    by_source: HashMap<Source, Arc<()>>,
    queue: VecDeque<SessionId>,
}

/// The place of a read, until it is dropped.
#[derive(Debug)]
struct ReadPlace {
    _all: Arc<()>,
    _source: Arc<()>,
}

impl DiskReads {
    /// Returns whether there is no place for any read.
    fn is_full(&self) -> bool {
        Arc::strong_count(&self.all) > MAX_WAITING_READS
    }

    /// Returns a place for a read, if there is one.
    fn place(&mut self, source: Source) -> Option<ReadPlace> {
        if self.is_full() {
            return None;
        }
        self.by_source.retain(|_, reads| Arc::strong_count(reads) > 1);
        let of_source = self.by_source.entry(source).or_default();
        let is_free = Arc::strong_count(of_source) <= MAX_READS_PER_SOURCE;
        is_free.then(|| ReadPlace { _all: self.all.clone(), _source: of_source.clone() })
    }
}

impl<C: Fn(TransferRequest, Responder), R: Fn(TransferReport)> TftpServer<C, R> {
    /// Reads the octets of a step on another thread. The step is taken when they are there.
    pub(super) fn read_ahead(&mut self, id: SessionId, step: TransferStep) {
        let Some(session) = self.sessions.session(id) else { return };
        session.blocked = Some(step);
        if session.is_reading || session.is_queued {
            return;
        }
        let (SessionState::Sending { transfer, content }, TransferStep::Data(blocks)) = (&session.stage, step) else {
            return;
        };
        let Some(place) = self.disk_reads.place(Source::of(session.path.peer.ip())) else {
            session.is_queued = true;
            let sessions = &mut self.sessions;
            if self.disk_reads.queue.len() >= 2 * self.settings.transfers {
                self.disk_reads.queue.retain(|id| sessions.session(*id).is_some());
            }
            return self.disk_reads.queue.push_back(id);
        };
        let wanted = transfer.span_of(blocks);
        let span = wanted.start..wanted.end.max(wanted.start.saturating_add(MIN_OCTETS)).min(content.size());
        let content = content.clone();
        session.is_reading = true;
        let responder = Responder::new(id, self.wake.clone(), self.answered.clone());
        drop(self.runtime.spawn_blocking(move || {
            let octets = content.part(span.clone()).map_err(Arc::new);
            drop(place);
            responder.answer(FileAnswer::Octets(span.start, octets));
        }));
    }

    /// Continues a transfer with octets that were read for it, or ends it.
    pub(super) fn on_octets(&mut self, id: SessionId, start: u64, octets: Result<Bytes, Arc<io::Error>>, now: Instant) {
        let Some(session) = self.sessions.session(id) else { return };
        session.is_reading = false;
        match (octets, session.blocked.take(), &mut session.stage) {
            (Ok(octets), Some(step), SessionState::Sending { transfer, .. }) => {
                transfer.on_late_send(now);
                session.ahead = ReadAhead::new(start, octets.into());
                self.take_step(id, step, now);
            }
            (Ok(_), _, _) => {}
            (Err(error), _, _) => self.end(id, TransferEnd::Unreadable(io::Error::other(error)), now),
        }
    }

    /// Starts the reads that wait for a place, as far as there are free ones. One whose source has none waits on.
    pub(super) fn serve_queue(&mut self) {
        for _ in 0..self.disk_reads.queue.len() {
            if self.disk_reads.is_full() {
                return;
            }
            let Some(next) = self.disk_reads.queue.pop_front() else { return };
            let Some(session) = self.sessions.session(next) else { continue };
            session.is_queued = false;
            if let (Some(step), false) = (session.blocked, session.is_reading) {
                self.read_ahead(next, step);
            }
        }
    }

    /// Handles the alarm of a transfer that waits for a disk.
    pub(super) fn on_blocked_alarm(&mut self, id: SessionId, now: Instant) {
        match self.sessions.session(id).and_then(|session| session.deadline()) {
            Some(deadline) if now < deadline => self.sessions.arm(id, deadline),
            Some(_) | None => self.end_by_peer(id, Ending::Silent, now),
        }
    }

    /// Ends a transfer as its state machine wants. A client that waited for a disk is not silent.
    pub(super) fn end_by_peer(&mut self, id: SessionId, ending: Ending, now: Instant) {
        let is_blocked = self.sessions.session(id).is_some_and(|session| session.blocked.is_some());
        let how = match ending {
            Ending::Silent if is_blocked => {
                TransferEnd::Unreadable(io::Error::new(io::ErrorKind::TimedOut, "the file system does not answer"))
            }
            ending => TransferEnd::Peer(ending),
        };
        self.end(id, how, now);
    }

    /// Reads a whole file on another thread, and answers the request of a session with its content. Without a place for
    /// the read there is no answer, and the client asks again.
    pub(super) fn read_whole(&mut self, id: SessionId, content: FileContent) {
        let Some(session) = self.sessions.session(id) else { return };
        let place = self.disk_reads.place(Source::of(session.path.peer.ip()));
        let responder = Responder::new(id, self.wake.clone(), self.answered.clone());
        let Some(place) = place else { return responder.answer(FileAnswer::NoAnswer) };
        drop(self.runtime.spawn_blocking(move || {
            let octets = content.part(0..content.size());
            drop(place);
            let content = octets.map(|octets| FileAnswer::Content(FileContent::Shared(octets)));
            responder.answer(content.unwrap_or(FileAnswer::NotFound));
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> Source {
        Source::of([10, 0, 0, last].into())
    }

    #[test]
    fn octets_read_ahead_are_bounded_for_each_transfer_and_for_all() {
        let rows = [(0, 16 << 10), (1, 16 << 10), (512, 16 << 10), (1024, 8 << 10), (usize::MAX, 0)];
        for (transfers, share) in rows {
            assert_eq!(ahead_share(transfers), share, "{transfers}");
        }
    }

    #[test]
    fn reads_are_bounded_for_each_source_and_for_all() {
        let mut reads = DiskReads::default();
        let mut places: Vec<ReadPlace> = (0..MAX_READS_PER_SOURCE).map_while(|_| reads.place(source(1))).collect();
        assert_eq!((places.len(), reads.place(source(1)).is_some()), (MAX_READS_PER_SOURCE, false));
        places.extend((2..).flat_map(|last| [last; MAX_READS_PER_SOURCE]).map_while(|last| reads.place(source(last))));
        assert_eq!(places.len(), MAX_WAITING_READS);
        assert!(reads.place(source(250)).is_none());
        places.truncate(1);
        assert!(reads.place(source(250)).is_some());
        assert!(reads.by_source.len() <= 2, "sources without a read are forgotten");
    }
}
