//! Gathers what a connection has to send, so that many answers leave in one write.

use super::digest::{Digests, crc32c};
use super::limits;
use super::pdu::{BHS, Header};

/// Holds bytes to send, in a buffer that is used again and grows no further than a connection's limit.
///
/// The bytes behind `end` stay initialised, so that a Data-In's room costs no clearing.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    end: usize,
    sent: usize,
    digests: Digests,
}

/// Is the place of a PDU whose data segment is still to be filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    start: usize,
    data: usize,
    length: usize,
}

impl Output {
    /// Uses digests from the next PDU on.
    pub fn set_digests(&mut self, digests: Digests) {
        self.digests = digests;
    }

    /// Gives the digests in use, both ways.
    #[must_use]
    pub fn digests(&self) -> Digests {
        self.digests
    }

    /// Gives what is to be sent.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..self.end]
    }

    /// Says whether nothing is to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sent == self.end
    }

    /// Forgets the first `count` bytes of what was pending.
    pub fn sent(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.end);
        if self.is_empty() {
            self.sent = 0;
            self.end = 0;
        }
    }

    /// Says whether a PDU with this much data fits beside what is pending. Into an empty output any fits.
    #[must_use]
    pub fn fits(&self, data: usize) -> bool {
        self.end == 0 || self.end + BHS + data + 12 <= limits::OUTPUT
    }

    /// Gives the buffer back while nothing is pending: an idle session costs next to nothing.
    pub fn release(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// Adds a PDU.
    pub fn push(&mut self, header: Header, data: &[u8]) {
        let room = self.reserve(header, data.len());
        self.room(room).copy_from_slice(data);
        self.finish(room);
    }

    /// Adds a PDU whose data segment of `length` bytes is filled in later: by [`Self::room`], then
    /// [`Self::finish`] or [`Self::undo`].
    pub fn reserve(&mut self, mut header: Header, length: usize) -> Room {
        header.set_data_length(length);
        let start = self.end;
        let data = start + BHS + if self.digests.header { 4 } else { 0 };
        let padded = length.next_multiple_of(4);
        let end = data + padded + if self.digests.data && length > 0 { 4 } else { 0 };
        if self.bytes.len() < end {
            self.bytes.resize(end.max(4096).next_power_of_two().min(end.max(limits::OUTPUT)), 0);
        }
        self.bytes[start..start + BHS].copy_from_slice(&header.0);
        if self.digests.header {
            self.bytes[start + BHS..data].copy_from_slice(&crc32c(&header.0));
        }
        self.bytes[data + length..data + padded].fill(0);
        self.end = end;
        Room { start, data, length }
    }

    /// Gives the data segment of a PDU in the making.
    pub fn room(&mut self, room: Room) -> &mut [u8] {
        &mut self.bytes[room.data..room.data + room.length]
    }

    /// Gives what is to be sent before the data segment of a PDU in the making, where that may be sent from elsewhere:
    /// nothing of ours lies in it or behind it.
    #[must_use]
    pub fn before(&self, room: Room) -> Option<&[u8]> {
        let is_last = !self.digests.data && self.end == room.data + room.length;
        is_last.then(|| &self.bytes[self.sent..room.data])
    }

    /// Closes the last PDU, its data being in place.
    pub fn finish(&mut self, room: Room) {
        if self.digests.data && room.length > 0 {
            let padded = room.data + room.length.next_multiple_of(4);
            let digest = crc32c(&self.bytes[room.data..padded]);
            self.bytes[padded..padded + 4].copy_from_slice(&digest);
        }
    }

    /// Takes the last PDU back: its data could not be had.
    pub fn undo(&mut self, room: Room) {
        self.end = room.start;
    }
}

#[cfg(test)]
mod tests {
    use super::super::pdu::{Answer, Pdu};
    use super::*;

    #[test]
    fn what_is_pushed_reads_back_whatever_was_in_the_buffer() {
        for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
            let digests = Digests { header, data };
            let mut output = Output { bytes: vec![0xa5; 4096], ..Output::default() };
            output.set_digests(digests);
            for payload in [&b""[..], b"1", b"12345", &[7; 300]] {
                output.push(Header::answer(Answer::Nop, 9), payload);
                let bytes = output.pending().to_vec();
                let (pdu, taken) = Pdu::take(&bytes, digests).unwrap().unwrap();
                assert_eq!((pdu.data, taken, pdu.intact), (payload, bytes.len(), true));
                output.sent(bytes.len());
                assert!(output.is_empty());
            }
        }
    }

    #[test]
    fn a_pdu_taken_back_leaves_what_was_before_it() {
        let mut output = Output::default();
        output.push(Header::answer(Answer::Nop, 1), b"one");
        let before = output.pending().to_vec();
        let room = output.reserve(Header::answer(Answer::DataIn, 2), 512);
        output.undo(room);
        assert_eq!(output.pending(), before);
    }

    #[test]
    fn data_is_sent_from_elsewhere_where_nothing_of_ours_lies_around_it() {
        for (digests, length, is_lent) in [
            (Digests::default(), 512, true),
            (Digests { header: true, data: false }, 512, true),
            (Digests { header: false, data: true }, 512, false),
            (Digests::default(), 511, false),
        ] {
            let mut output = Output::default();
            output.set_digests(digests);
            output.push(Header::answer(Answer::Nop, 1), b"one");
            output.sent(8);
            let room = output.reserve(Header::answer(Answer::DataIn, 2), length);
            let pending = output.pending().len();
            assert_eq!(output.before(room).map(<[u8]>::len), is_lent.then(|| pending - length));
        }
    }

    #[test]
    fn the_buffer_stays_within_its_limit() {
        let mut output = Output::default();
        let mut count = 0;
        while output.fits(limits::RECEIVE_SEGMENT) {
            output.push(Header::answer(Answer::Nop, 1), &[0; limits::RECEIVE_SEGMENT]);
            count += 1;
        }
        assert!(count > 1);
        assert!(output.bytes.len() <= limits::OUTPUT);
        output.sent(output.pending().len());
        output.release();
        assert_eq!(output.bytes.capacity(), 0);
    }
}
