//! The output of a connection, gathered so that many responses leave in one write.

use super::digest::{Digests, crc32c};
use super::limits;
use super::pdu::{BHS, Header};

/// Minimum size of the buffer, in bytes: the responses of a login. The allocator keeps blocks of this size for the next
/// connection.
const MIN_BUFFER_BYTES: usize = 1024;

/// Bytes to send, in a buffer that is reused and grows to the connection's limit at most.
///
/// The bytes after `end` stay initialized, so that reserving a Data-In segment needs no clearing.
#[derive(Debug, Default)]
pub struct OutputBuffer {
    bytes: Vec<u8>,
    end: usize,
    sent: usize,
    digests: Digests,
}

/// The position of a PDU whose data segment is not filled yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReservedSegment {
    start: usize,
    data: usize,
    length: usize,
}

impl OutputBuffer {
    /// Sets the digests of the PDUs that follow.
    pub fn set_digests(&mut self, digests: Digests) {
        self.digests = digests;
    }

    /// Returns the digests in use, for both directions.
    #[must_use]
    pub fn digests(&self) -> Digests {
        self.digests
    }

    /// Returns the pending output.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..self.end]
    }

    /// Returns whether the output is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sent == self.end
    }

    /// Removes the first `count` bytes of the pending output.
    pub fn sent(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.end);
        if self.is_empty() {
            self.sent = 0;
            self.end = 0;
        }
    }

    /// Returns whether a PDU with this much data fits after the pending output. Any PDU fits into an empty output.
    #[must_use]
    pub fn fits(&self, data: usize) -> bool {
        self.end == 0 || self.end + BHS + data + 12 <= limits::MAX_OUTPUT_BYTES
    }

    /// Releases the buffer while the output is empty, so that an idle session costs little memory.
    pub fn release(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// Appends a PDU.
    pub fn push(&mut self, header: Header, data: &[u8]) {
        let room = self.reserve(header, data.len());
        self.segment_mut(room).copy_from_slice(data);
        self.finish(room);
    }

    /// Appends a PDU whose data segment of `length` bytes is filled later: with [`Self::segment_mut`], then
    /// [`Self::finish`] or [`Self::undo`].
    pub fn reserve(&mut self, mut header: Header, length: usize) -> ReservedSegment {
        header.set_data_length(length);
        let start = self.end;
        let data = start + BHS + if self.digests.header { 4 } else { 0 };
        let padded = length.next_multiple_of(4);
        let end = data + padded + if self.digests.data && length > 0 { 4 } else { 0 };
        if self.bytes.len() < end {
            self.bytes.resize(end.max(MIN_BUFFER_BYTES).next_power_of_two().min(end.max(limits::MAX_OUTPUT_BYTES)), 0);
        }
        self.bytes[start..start + BHS].copy_from_slice(&header.0);
        if self.digests.header {
            self.bytes[start + BHS..data].copy_from_slice(&crc32c(&header.0));
        }
        self.bytes[data + length..data + padded].fill(0);
        self.end = end;
        ReservedSegment { start, data, length }
    }

    /// Returns the data segment of a reserved PDU.
    pub fn segment_mut(&mut self, room: ReservedSegment) -> &mut [u8] {
        &mut self.bytes[room.data..room.data + room.length]
    }

    /// Returns the pending output before the data segment of a reserved PDU, if that data may be sent from elsewhere:
    /// nothing follows it in the buffer, and it needs no digest.
    #[must_use]
    pub fn header_bytes(&self, room: ReservedSegment) -> Option<&[u8]> {
        let is_last = !self.digests.data && self.end == room.data + room.length;
        is_last.then(|| &self.bytes[self.sent..room.data])
    }

    /// Completes the last PDU, whose data is in place.
    pub fn finish(&mut self, room: ReservedSegment) {
        if self.digests.data && room.length > 0 {
            let padded = room.data + room.length.next_multiple_of(4);
            let digest = crc32c(&self.bytes[room.data..padded]);
            self.bytes[padded..padded + 4].copy_from_slice(&digest);
        }
    }

    /// Removes the last PDU, whose data could not be read.
    pub fn undo(&mut self, room: ReservedSegment) {
        self.end = room.start;
    }
}

#[cfg(test)]
mod tests {
    use super::super::pdu::{Pdu, TargetOpcode};
    use super::*;

    #[test]
    fn pushed_pdus_read_back_whatever_was_in_the_buffer() {
        for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
            let digests = Digests { header, data };
            let mut output = OutputBuffer { bytes: vec![0xa5; 4096], ..OutputBuffer::default() };
            output.set_digests(digests);
            for payload in [&b""[..], b"1", b"12345", &[7; 300]] {
                output.push(Header::answer(TargetOpcode::Nop, 9), payload);
                let bytes = output.pending().to_vec();
                let (pdu, taken) = Pdu::take(&bytes, digests).unwrap().unwrap();
                assert_eq!((pdu.data, taken, pdu.intact), (payload, bytes.len(), true));
                output.sent(bytes.len());
                assert!(output.is_empty());
            }
        }
    }

    #[test]
    fn a_discarded_pdu_leaves_the_output_before_it() {
        let mut output = OutputBuffer::default();
        output.push(Header::answer(TargetOpcode::Nop, 1), b"one");
        let before = output.pending().to_vec();
        let room = output.reserve(Header::answer(TargetOpcode::DataIn, 2), 512);
        output.undo(room);
        assert_eq!(output.pending(), before);
    }

    #[test]
    fn data_is_sent_from_elsewhere_if_it_ends_the_output() {
        for (digests, length, is_lent) in [
            (Digests::default(), 512, true),
            (Digests { header: true, data: false }, 512, true),
            (Digests { header: false, data: true }, 512, false),
            (Digests::default(), 511, false),
        ] {
            let mut output = OutputBuffer::default();
            output.set_digests(digests);
            output.push(Header::answer(TargetOpcode::Nop, 1), b"one");
            output.sent(8);
            let room = output.reserve(Header::answer(TargetOpcode::DataIn, 2), length);
            let pending = output.pending().len();
            assert_eq!(output.header_bytes(room).map(<[u8]>::len), is_lent.then(|| pending - length));
        }
    }

    #[test]
    fn the_buffer_stays_within_its_limit() {
        let mut output = OutputBuffer::default();
        let mut count = 0;
        while output.fits(limits::MAX_RECEIVE_SEGMENT) {
            output.push(Header::answer(TargetOpcode::Nop, 1), &[0; limits::MAX_RECEIVE_SEGMENT]);
            count += 1;
        }
        assert!(count > 1);
        assert!(output.bytes.len() <= limits::MAX_OUTPUT_BYTES);
        output.sent(output.pending().len());
        output.release();
        assert_eq!(output.bytes.capacity(), 0);
    }
}
