//! Reads and writes protocol data units: the 48-byte header, additional headers, data, digests (RFC 7143 11).

use super::digest::{Digests, crc32c};
use super::limits;

/// Is the length of the basic header segment, in bytes.
pub const BHS: usize = 48;
/// Is the value of a task or transfer tag that names nothing.
pub const NO_TAG: u32 = 0xffff_ffff;

/// Is a basic header segment as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header(pub [u8; BHS]);

impl Header {
    /// Starts a header of a target's opcode, with the final bit and no task tag.
    #[must_use]
    pub fn answer(opcode: Answer, tag: u32) -> Self {
        let mut header = Self([0; BHS]);
        header.0[0] = opcode as u8;
        header.0[1] = 0x80;
        header.set_word(16, tag);
        header
    }

    /// Gives the opcode, without the immediate bit.
    #[must_use]
    pub fn opcode(&self) -> u8 {
        self.0[0] & 0x3f
    }

    /// Says whether the request is immediate: it does not take a command number.
    #[must_use]
    pub fn immediate(&self) -> bool {
        self.0[0] & 0x40 != 0
    }

    /// Gives the byte of flags that follows the opcode.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.0[1]
    }

    /// Gives the length of the data segment, in bytes, without padding.
    #[must_use]
    pub fn data_length(&self) -> usize {
        usize::from(self.0[5]) << 16 | usize::from(self.0[6]) << 8 | usize::from(self.0[7])
    }

    /// Gives the length of the additional header segments, in bytes.
    #[must_use]
    pub fn ahs_length(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// Gives the logical unit number field.
    #[must_use]
    pub fn lun(&self) -> [u8; 8] {
        let mut lun = [0; 8];
        lun.copy_from_slice(&self.0[8..16]);
        lun
    }

    /// Gives the initiator task tag.
    #[must_use]
    pub fn task_tag(&self) -> u32 {
        self.word(16)
    }

    /// Gives the 32-bit field at a byte offset of a multiple of four.
    #[must_use]
    pub fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// Gives the 16-bit field at a byte offset.
    #[must_use]
    pub fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    /// Writes the 32-bit field at a byte offset.
    pub fn set_word(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Writes the length of the data segment; a segment is never longer than 24 bits say.
    pub fn set_data_length(&mut self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        self.0[5..8].copy_from_slice(&length[1..]);
    }
}

/// Lists the opcodes of an initiator (RFC 7143 11.2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
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
    /// An opcode that no initiator has.
    Unknown(u8),
}

impl From<u8> for Asked {
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

/// Lists the opcodes of a target (RFC 7143 11.2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Answer {
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

/// Is one request as it came: its header and its data segment without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pdu<'a> {
    /// The basic header segment.
    pub header: Header,
    /// The additional header segments.
    pub ahs: &'a [u8],
    /// The data segment, without padding and digest.
    pub data: &'a [u8],
    /// Whether the data digest was right (or there is none).
    pub intact: bool,
}

/// Says why bytes are no PDU. The connection cannot go on: where the next one starts is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The data segment is longer than we declared to take.
    #[error("data segment of {0} bytes")]
    DataTooLong(usize),
    /// The header does not match its digest (RFC 7143 7.7: the connection ends).
    #[error("header digest mismatch")]
    HeaderDigest,
}

impl<'a> Pdu<'a> {
    /// Takes the first PDU of `bytes`: itself and how many bytes it took; `None` while it is not whole.
    ///
    /// # Errors
    /// When the stream cannot be a PDU stream any more.
    pub fn take(bytes: &'a [u8], digests: Digests) -> Result<Option<(Self, usize)>, Malformed> {
        let Some(basic) = bytes.first_chunk::<BHS>() else {
            return Ok(None);
        };
        let header = Header(*basic);
        let data_length = header.data_length();
        if data_length > limits::RECEIVE_SEGMENT {
            return Err(Malformed::DataTooLong(data_length));
        }
        let headers = BHS + header.ahs_length();
        let data_at = headers + if digests.header { 4 } else { 0 };
        let padded = data_length.next_multiple_of(4);
        let data_digest = digests.data && data_length > 0;
        let total = data_at + padded + if data_digest { 4 } else { 0 };
        if bytes.len() < total {
            return Ok(None);
        }
        if digests.header && bytes[headers..data_at] != crc32c(&bytes[..headers]) {
            return Err(Malformed::HeaderDigest);
        }
        let segment = &bytes[data_at..data_at + padded];
        let intact = !data_digest || bytes[data_at + padded..total] == crc32c(segment);
        let pdu = Self { header, ahs: &bytes[BHS..headers], data: &segment[..data_length], intact };
        Ok(Some((pdu, total)))
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
    fn a_pdu_is_taken_once_it_is_whole() {
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
                assert_eq!(Asked::from(pdu.header.opcode()), Asked::Nop);
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_seen_by_the_digest_that_covers_it() {
        let mut bytes = nop_out(b"ping", BOTH);
        bytes[20] ^= 1;
        assert_eq!(Pdu::take(&bytes, BOTH), Err(Malformed::HeaderDigest));
        let mut bytes = nop_out(b"ping", BOTH);
        bytes[BHS + 4] ^= 1;
        let (pdu, _) = Pdu::take(&bytes, BOTH).unwrap().unwrap();
        assert!(!pdu.intact);
    }

    #[test]
    fn a_segment_longer_than_declared_ends_the_stream() {
        let mut bytes = nop_out(b"", PLAIN);
        bytes[5..8].copy_from_slice(&[0, 0x20, 1]);
        assert_eq!(Pdu::take(&bytes, PLAIN), Err(Malformed::DataTooLong(8193)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes: Vec<u8>, header: bool, data: bool) {
            if let Ok(Some((pdu, taken))) = Pdu::take(&bytes, Digests { header, data }) {
                prop_assert!(taken <= bytes.len());
                prop_assert!(pdu.data.len() <= limits::RECEIVE_SEGMENT);
            }
        }
    }
}
