//! Protocol data units: the 48-byte header, additional headers, data and digests (RFC 7143 11).

use super::digest::{Digests, crc32c};
use super::limits;

/// Length of the basic header segment, in bytes.
pub const BHS: usize = 48;
/// The reserved value of a task or transfer tag.
pub const NO_TAG: u32 = 0xffff_ffff;

/// A basic header segment in wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header(pub [u8; BHS]);

impl Header {
    /// Returns a header with a target's opcode, the final bit and this task tag.
    #[must_use]
    pub fn answer(opcode: TargetOpcode, tag: u32) -> Self {
        let mut header = Self([0; BHS]);
        header.0[0] = opcode as u8;
        header.0[1] = 0x80;
        header.set_word(16, tag);
        header
    }

    /// Returns the opcode, without the immediate bit.
    #[must_use]
    pub fn opcode(&self) -> u8 {
        self.0[0] & 0x3f
    }

    /// Returns whether the request is immediate: it has no command number of its own.
    #[must_use]
    pub fn immediate(&self) -> bool {
        self.0[0] & 0x40 != 0
    }

    /// Returns the byte of flags after the opcode.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.0[1]
    }

    /// Returns the length of the data segment, in bytes, without padding.
    #[must_use]
    pub fn data_length(&self) -> usize {
        usize::from(self.0[5]) << 16 | usize::from(self.0[6]) << 8 | usize::from(self.0[7])
    }

    /// Returns the length of the additional header segments, in bytes.
    #[must_use]
    pub fn ahs_length(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// Returns the logical unit number field.
    #[must_use]
    pub fn lun(&self) -> [u8; 8] {
        let mut lun = [0; 8];
        lun.copy_from_slice(&self.0[8..16]);
        lun
    }

    /// Returns the initiator task tag.
    #[must_use]
    pub fn task_tag(&self) -> u32 {
        self.word(16)
    }

    /// Returns the 32-bit field at a byte offset.
    #[must_use]
    pub fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// Returns the 16-bit field at a byte offset.
    #[must_use]
    pub fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    /// Writes the 32-bit field at a byte offset.
    pub fn set_word(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Writes the length of the data segment, which has 24 bits.
    pub fn set_data_length(&mut self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        self.0[5..8].copy_from_slice(&length[1..]);
    }
}

/// The opcodes of an initiator (RFC 7143 11.2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitiatorOpcode {
    /// NOP-Out.
    Nop,
    /// SCSI Command.
    Command,
    /// SCSI Task Management Function Request.
    TaskManagement,
    /// Login Request.
    Login,
    /// Text Request.
    Text,
    /// SCSI Data-Out.
    DataOut,
    /// Logout Request.
    Logout,
    /// SNACK Request.
    Snack,
    /// An opcode that the RFC does not define for initiators.
    Unknown(u8),
}

impl From<u8> for InitiatorOpcode {
    fn from(opcode: u8) -> Self {
        match opcode {
            0x00 => Self::Nop,
            0x01 => Self::Command,
            0x02 => Self::TaskManagement,
            0x03 => Self::Login,
            0x04 => Self::Text,
            0x05 => Self::DataOut,
            0x06 => Self::Logout,
            0x10 => Self::Snack,
            other => Self::Unknown(other),
        }
    }
}

/// The opcodes of a target (RFC 7143 11.2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TargetOpcode {
    /// NOP-In.
    Nop = 0x20,
    /// SCSI Response.
    Response = 0x21,
    /// SCSI Task Management Function Response.
    TaskManagement = 0x22,
    /// Login Response.
    Login = 0x23,
    /// Text Response.
    Text = 0x24,
    /// SCSI Data-In.
    DataIn = 0x25,
    /// Logout Response.
    Logout = 0x26,
    /// Ready To Transfer.
    ReadyToTransfer = 0x31,
    /// Asynchronous Message.
    Async = 0x32,
    /// Reject.
    Reject = 0x3f,
}

/// A request: its header and its data segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pdu<'a> {
    /// The basic header segment.
    pub header: Header,
    /// The additional header segments.
    pub ahs: &'a [u8],
    /// The data segment, without padding and digest.
    pub data: &'a [u8],
    /// Whether the data digest is right, or there is none.
    pub intact: bool,
}

/// The reason a byte stream is invalid. The connection must end, because the start of the next PDU is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PduError {
    /// The data segment is longer than our MaxRecvDataSegmentLength.
    #[error("data segment of {0} bytes, longer than the declared maximum")]
    DataTooLong(usize),
    /// The header does not match its digest; the connection ends (RFC 7143 7.7).
    #[error("header digest mismatch")]
    HeaderDigest,
}

impl<'a> Pdu<'a> {
    /// Returns the first PDU of `bytes` and its length; `None` while the PDU is incomplete.
    ///
    /// # Errors
    /// The byte stream is invalid.
    pub fn take(bytes: &'a [u8], digests: Digests) -> Result<Option<(Self, usize)>, PduError> {
        let Some(basic) = bytes.first_chunk::<BHS>() else {
            return Ok(None);
        };
        let header = Header(*basic);
        let data_length = header.data_length();
        if data_length > limits::MAX_RECEIVE_SEGMENT {
            return Err(PduError::DataTooLong(data_length));
        }
        let Some(parts) = PduParts::split(bytes, &header, digests) else { return Ok(None) };
        if digests.header && *parts.header_digest != crc32c(parts.headers) {
            return Err(PduError::HeaderDigest);
        }
        let intact = parts.data_digest.is_empty() || *parts.data_digest == crc32c(parts.segment);
        let ahs = parts.headers.get(BHS..).unwrap_or_default();
        let data = parts.segment.get(..data_length).unwrap_or_default();
        Ok(Some((Self { header, ahs, data, intact }, parts.length)))
    }
}

/// The parts of a PDU in the order of the wire.
struct PduParts<'a> {
    /// The basic and the additional header segments.
    headers: &'a [u8],
    /// The header digest; empty without one.
    header_digest: &'a [u8],
    /// The data segment with its padding.
    segment: &'a [u8],
    /// The data digest; empty without one.
    data_digest: &'a [u8],
    /// Length of all parts, in bytes.
    length: usize,
}

impl<'a> PduParts<'a> {
    /// Splits the first PDU of `bytes`; `None` while it is incomplete.
    fn split(bytes: &'a [u8], header: &Header, digests: Digests) -> Option<Self> {
        let digest = |is_sent: bool| if is_sent { 4 } else { 0 };
        let padded = header.data_length().next_multiple_of(4);
        let (headers, rest) = bytes.split_at_checked(BHS + header.ahs_length())?;
        let (header_digest, rest) = rest.split_at_checked(digest(digests.header))?;
        let (segment, rest) = rest.split_at_checked(padded)?;
        let (data_digest, rest) = rest.split_at_checked(digest(digests.data && padded > 0))?;
        Some(Self { headers, header_digest, segment, data_digest, length: bytes.len() - rest.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Digests = Digests { header: false, data: false };
    const BOTH: Digests = Digests { header: true, data: true };

    fn nop_out(data: &[u8], digests: Digests) -> Vec<u8> {
        let mut header = Header([0; BHS]);
        header.0[0] = 0x40;
        header.0[1] = 0x80;
        header.set_data_length(data.len());
        let mut bytes = header.0.to_vec();
        if digests.header {
            bytes.extend(crc32c(&header.0));
        }
        let mut padded = data.to_vec();
        padded.resize(data.len().next_multiple_of(4), 0);
        bytes.extend(&padded);
        if digests.data && !data.is_empty() {
            bytes.extend(crc32c(&padded));
        }
        bytes
    }

    #[test]
    fn a_pdu_is_returned_once_it_is_complete() {
        for digests in [PLAIN, BOTH] {
            for data in [&b""[..], b"ping", b"pings"] {
                let bytes = nop_out(data, digests);
                for short in 0..bytes.len() {
                    assert_eq!(Pdu::take(&bytes[..short], digests), Ok(None));
                }
                let mut longer = bytes.clone();
                longer.push(0x55);
                let (pdu, taken) = Pdu::take(&longer, digests).unwrap().unwrap();
                assert_eq!((pdu.data, taken, pdu.intact), (data, bytes.len(), true));
                assert!(pdu.header.immediate());
                assert_eq!(InitiatorOpcode::from(pdu.header.opcode()), InitiatorOpcode::Nop);
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_detected_by_its_digest() {
        let mut bytes = nop_out(b"ping", BOTH);
        bytes[20] ^= 1;
        assert_eq!(Pdu::take(&bytes, BOTH), Err(PduError::HeaderDigest));
        let mut bytes = nop_out(b"ping", BOTH);
        bytes[BHS + 4] ^= 1;
        let (pdu, _) = Pdu::take(&bytes, BOTH).unwrap().unwrap();
        assert!(!pdu.intact);
    }

    #[test]
    fn a_segment_longer_than_declared_ends_the_stream() {
        let mut bytes = nop_out(b"", PLAIN);
        bytes[5..8].copy_from_slice(&[0, 0x20, 1]);
        assert_eq!(Pdu::take(&bytes, PLAIN), Err(PduError::DataTooLong(8193)));
    }

    #[test]
    fn header_fields_read_back_and_touch_no_other() {
        let mut header = Header([0xa5; BHS]);
        header.set_data_length(0x01_0203);
        header.set_word(16, 0x0405_0607);
        assert_eq!((header.data_length(), header.task_tag(), header.word(16)), (0x01_0203, 0x0405_0607, 0x0405_0607));
        assert_eq!((header.half(16), header.half(18)), (0x0405, 0x0607));
        for (at, octet) in header.0.into_iter().enumerate() {
            let is_set = (5..8).contains(&at) || (16..20).contains(&at);
            assert_eq!(octet == 0xa5, !is_set, "octet {at}");
        }
    }

    #[test]
    fn additional_headers_are_between_header_and_data() {
        for digests in [PLAIN, BOTH] {
            let mut header = Header([0; BHS]);
            header.0[4] = 2;
            header.set_data_length(3);
            let headers = [&header.0[..], &[7; 8]].concat();
            let mut bytes = headers.clone();
            if digests.header {
                bytes.extend(crc32c(&headers));
            }
            bytes.extend(b"abc\0");
            if digests.data {
                bytes.extend(crc32c(b"abc\0"));
            }
            let (pdu, taken) = Pdu::take(&bytes, digests).unwrap().unwrap();
            assert_eq!((pdu.ahs, pdu.data, pdu.intact, taken), (&[7; 8][..], &b"abc"[..], true, bytes.len()));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes: Vec<u8>, header: bool, data: bool) {
            if let Ok(Some((pdu, taken))) = Pdu::take(&bytes, Digests { header, data }) {
                prop_assert!(taken <= bytes.len());
                prop_assert!(pdu.data.len() <= limits::MAX_RECEIVE_SEGMENT);
            }
        }
    }
}
