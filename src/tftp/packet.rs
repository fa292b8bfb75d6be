//! The codec of the five packets of RFC 1350 and the option acknowledgement of RFC 2347.

use std::fmt;

/// Maximum length of a request, in octets (RFC 2347, section 2).
pub const MAX_REQUEST_LENGTH: usize = 512;
/// Length of the header of a DATA packet, in octets: opcode and block number.
pub const DATA_HEADER: usize = 4;
/// Maximum length of an ERROR message, in octets, so that no reply is larger than a first block.
const MAX_MESSAGE_LENGTH: usize = 120;

/// One TFTP packet, borrowed from the datagram that it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// RRQ (opcode 1): a read request.
    Read(FileRequest<'a>),
    /// WRQ (opcode 2): a write request.
    Write(FileRequest<'a>),
    /// DATA (opcode 3).
    Data {
        /// The block number.
        block: u16,
        /// The octets of the block.
        bytes: &'a [u8],
    },
    /// ACK (opcode 4).
    Ack(u16),
    /// ERROR (opcode 5). The message is text for people, with any content.
    Error {
        /// The error code.
        code: u16,
        /// The message, without its terminator.
        message: &'a [u8],
    },
    /// OACK (opcode 6, RFC 2347).
    OptionAck(OptionPairs<'a>),
}

/// The file, mode and options of a request, in the peer's spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRequest<'a> {
    /// The file name.
    pub name: &'a [u8],
    /// The transfer mode.
    pub mode: TransferMode,
    /// The options.
    pub options: OptionPairs<'a>,
}

/// The encoding of a file on the wire (RFC 1350, section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransferMode {
    /// Unchanged octets.
    Octet,
    /// Text with CR LF line ends (RFC 764).
    Netascii,
}

impl TransferMode {
    /// Returns the name of the mode on the wire.
    pub fn name(self) -> &'static str {
        match self {
            TransferMode::Octet => "octet",
            TransferMode::Netascii => "netascii",
        }
    }
}

/// Option names and values as text: pairs of NUL-terminated strings, checked when parsed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OptionPairs<'a>(&'a [u8]);

impl<'a> OptionPairs<'a> {
    /// No options.
    pub const NONE: OptionPairs<'static> = OptionPairs(&[]);

    /// Parses pairs up to the end of `bytes`. Trailing NULs, with which some ROMs pad, are ignored.
    fn read(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let mut rest = bytes;
        let mut used = 0;
        while rest.iter().any(|&byte| byte != 0) {
            let (_, after_name) = text(rest).ok_or(PacketError::OptionCutOff)?;
            let (_, after_value) = text(after_name).ok_or(PacketError::OptionCutOff)?;
            used += rest.len() - after_value.len();
            rest = after_value;
        }
        Ok(OptionPairs(bytes.get(..used).unwrap_or_default()))
    }

    /// Returns each option's name and value in the order sent.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (name, after_name) = text(rest)?;
            let (value, after_value) = text(after_name)?;
            rest = after_value;
            Some((name, value))
        })
    }

    /// Returns whether there are no options.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for OptionPairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        f.debug_map().entries(self.iter().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

/// The reason a datagram is no TFTP packet. It is counted and never answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PacketError {
    /// The packet is shorter than its opcode requires.
    #[error("packet shorter than its opcode requires")]
    Truncated,
    /// The opcode is unknown.
    #[error("unknown opcode {0}")]
    UnknownOpcode(u16),
    /// The request exceeds [`MAX_REQUEST_LENGTH`].
    #[error("request longer than {MAX_REQUEST_LENGTH} octets")]
    RequestTooLong,
    /// The file name is empty.
    #[error("request without a file name")]
    NoName,
    /// The file name or mode has no terminator.
    #[error("file name or mode without a terminator")]
    TextCutOff,
    /// The transfer mode is neither octet nor netascii.
    #[error("unknown transfer mode: expected octet or netascii")]
    UnknownMode,
    /// An option has no terminator or no value.
    #[error("option without a terminator or value")]
    OptionCutOff,
}

impl<'a> Packet<'a> {
    /// Parses one datagram. It never panics, whatever the bytes.
    ///
    /// # Errors
    /// The first rule that the bytes violate.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, PacketError> {
        let (opcode, body) = number(datagram).ok_or(PacketError::Truncated)?;
        match opcode {
            1 | 2 if datagram.len() > MAX_REQUEST_LENGTH => Err(PacketError::RequestTooLong),
            1 => FileRequest::parse(body).map(Packet::Read),
            2 => FileRequest::parse(body).map(Packet::Write),
            3 => {
                let (block, bytes) = number(body).ok_or(PacketError::Truncated)?;
                Ok(Packet::Data { block, bytes })
            }
            // Octets after the block number are accepted: some stacks pass Ethernet's padding on.
            4 => number(body).map(|(block, _)| Packet::Ack(block)).ok_or(PacketError::Truncated),
            5 => {
                let (code, rest) = number(body).ok_or(PacketError::Truncated)?;
                // Several clients omit the NUL after the message.
                let message = text(rest).map_or(rest, |(message, _)| message);
                Ok(Packet::Error { code, message })
            }
            6 => OptionPairs::read(body).map(Packet::OptionAck),
            other => Err(PacketError::UnknownOpcode(other)),
        }
    }

    /// Appends the packet's bytes to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match *self {
            Packet::Read(request) => request.emit(1, out),
            Packet::Write(request) => request.emit(2, out),
            Packet::Data { block, bytes } => {
                out.extend(data_header(block));
                out.extend(bytes);
            }
            Packet::Ack(block) => {
                out.extend(4u16.to_be_bytes());
                out.extend(block.to_be_bytes());
            }
            Packet::Error { code, message } => {
                out.extend(5u16.to_be_bytes());
                out.extend(code.to_be_bytes());
                out.extend(message.iter().take_while(|&&byte| byte != 0).take(MAX_MESSAGE_LENGTH));
                out.push(0);
            }
            Packet::OptionAck(pairs) => {
                out.extend(6u16.to_be_bytes());
                out.extend(pairs.0);
            }
        }
    }
}

impl<'a> FileRequest<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, PacketError> {
        let (name, rest) = text(body).ok_or(PacketError::TextCutOff)?;
        if name.is_empty() {
            return Err(PacketError::NoName);
        }
        let (mode, rest) = text(rest).ok_or(PacketError::TextCutOff)?;
        let mode = [TransferMode::Octet, TransferMode::Netascii]
            .into_iter()
            .find(|known| mode.eq_ignore_ascii_case(known.name().as_bytes()))
            .ok_or(PacketError::UnknownMode)?;
        Ok(FileRequest { name, mode, options: OptionPairs::read(rest)? })
    }

    fn emit(&self, opcode: u16, out: &mut Vec<u8>) {
        out.extend(opcode.to_be_bytes());
        out.extend(self.name);
        out.push(0);
        out.extend(self.mode.name().as_bytes());
        out.push(0);
        out.extend(self.options.0);
    }
}

/// Returns the header of a DATA packet. The number on the wire is the block's, modulo 65536.
pub fn data_header(block: u16) -> [u8; DATA_HEADER] {
    let [high, low] = block.to_be_bytes();
    [0, 3, high, low]
}

/// Appends one option to a request or an option acknowledgement.
pub fn push_option(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend(name.as_bytes());
    out.push(0);
    out.extend(value.to_string().as_bytes());
    out.push(0);
}

/// The error codes that this server sends (RFC 1350, appendix; RFC 2347).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Not defined: the message says what failed.
    NotDefined = 0,
    /// File not found.
    FileNotFound = 1,
    /// Access violation.
    AccessViolation = 2,
}

fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*head), rest))
}

/// Splits at the first NUL: the text before it, and the rest after it.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(datagram: &[u8], expected: Result<Packet<'_>, PacketError>) {
        assert_eq!(Packet::parse(datagram), expected, "{:?}", String::from_utf8_lossy(datagram));
    }

    fn pairs(bytes: &[u8]) -> OptionPairs<'_> {
        OptionPairs::read(bytes).unwrap()
    }

    /// Payloads of `udp dst port 69` in the captures of the same name.
    #[test]
    fn requests_of_real_firmware_are_read_and_written_back_to_the_octet() {
        let ovmf_probe = b"\0\x01ipxe-amd64.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0";
        let ovmf_read = b"\0\x01ipxe-amd64.efi\0octet\0blksize\x001468\0windowsize\x004\0";
        let aavmf_probe = b"\0\x01ipxe-arm64.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0";
        let ipxe_autoexec = b"\0\x01autoexec.ipxe\0octet\0blksize\x001432\0tsize\x000\0";
        let rom_2019 = b"\0\x01undionly.kpxe\0octet\0blksize\x001432\0tsize\x000\0";
        let sizes = [57, 49, 57, 43, 43];
        let all: [&[u8]; 5] = [ovmf_probe, ovmf_read, aavmf_probe, ipxe_autoexec, rom_2019];
        for (datagram, size) in all.into_iter().zip(sizes) {
            assert_eq!(datagram.len(), size);
            let packet = Packet::parse(datagram).unwrap();
            let mut out = vec![0xa5; 3];
            packet.emit(&mut out);
            assert_eq!(out.get(3..).unwrap(), datagram);
        }
        let Ok(Packet::Read(request)) = Packet::parse(ovmf_probe) else { panic!("a read request") };
        assert_eq!(request.name, b"ipxe-amd64.efi");
        let options: Vec<_> = request.options.iter().collect();
        assert_eq!(options, [(&b"tsize"[..], &b"0"[..]), (b"blksize", b"1468"), (b"windowsize", b"4")]);
    }

    #[test]
    fn what_is_not_tftp_is_dropped_with_its_reason() {
        check(b"", Err(PacketError::Truncated));
        check(b"\0", Err(PacketError::Truncated));
        check(b"\0\0", Err(PacketError::UnknownOpcode(0)));
        check(b"\0\x07", Err(PacketError::UnknownOpcode(7)));
        check(b"\0\x01", Err(PacketError::TextCutOff));
        check(b"\0\x01\0octet\0", Err(PacketError::NoName));
        check(b"\0\x01name", Err(PacketError::TextCutOff));
        check(b"\0\x01name\0", Err(PacketError::TextCutOff));
        check(b"\0\x01name\0octet", Err(PacketError::TextCutOff));
        check(b"\0\x01name\0mail\0", Err(PacketError::UnknownMode));
        check(b"\0\x01name\0octet\0blksize", Err(PacketError::OptionCutOff));
        check(b"\0\x01name\0octet\0blksize\0", Err(PacketError::OptionCutOff));
        check(b"\0\x01name\0octet\0blksize\x00512", Err(PacketError::OptionCutOff));
        check(b"\0\x03\0", Err(PacketError::Truncated));
        check(b"\0\x04\x01", Err(PacketError::Truncated));
        check(b"\0\x05\0", Err(PacketError::Truncated));
        let long = [&b"\0\x01"[..], &[b'a'; 510], b"\0octet\0"].concat();
        check(&long, Err(PacketError::RequestTooLong));
    }

    #[test]
    fn small_deviations_of_clients_are_accepted() {
        let plain = FileRequest { name: b"a", mode: TransferMode::Octet, options: OptionPairs::NONE };
        check(b"\0\x01a\0OCTET\0", Ok(Packet::Read(plain)));
        check(b"\0\x01a\0octet\0\0\0\0", Ok(Packet::Read(plain)));
        check(b"\0\x02a\0NetAscii\0", Ok(Packet::Write(FileRequest { mode: TransferMode::Netascii, ..plain })));
        check(b"\0\x04\x12\x34", Ok(Packet::Ack(0x1234)));
        check(b"\0\x04\x12\x34junk", Ok(Packet::Ack(0x1234)));
        check(b"\0\x05\0\x08no NUL", Ok(Packet::Error { code: 8, message: b"no NUL" }));
        check(b"\0\x05\0\x08", Ok(Packet::Error { code: 8, message: b"" }));
        check(b"\0\x06tsize\x0042\0", Ok(Packet::OptionAck(pairs(b"tsize\x0042\0"))));
    }

    fn word() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(1u8..=255, 1..40)
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(packet) = Packet::parse(&bytes) {
                let mut out = Vec::new();
                packet.emit(&mut out);
                prop_assert!(out.len() <= bytes.len() + 1);
            }
        }

        #[test]
        fn requests_survive_the_wire(name in word(), ascii: bool, write: bool,
                                     options in proptest::collection::vec((word(), word()), 0..4)) {
            let mut bytes = Vec::new();
            for (name, value) in &options {
                bytes.extend(name); bytes.push(0);
                bytes.extend(value); bytes.push(0);
            }
            let mode = if ascii { TransferMode::Netascii } else { TransferMode::Octet };
            let request = FileRequest { name: &name, mode, options: pairs(&bytes) };
            let packet = if write { Packet::Write(request) } else { Packet::Read(request) };
            let mut out = Vec::new();
            packet.emit(&mut out);
            prop_assert_eq!(Packet::parse(&out), Ok(packet));
            prop_assert_eq!(request.options.iter().count(), options.len());
        }

        #[test]
        fn blocks_acknowledgements_and_errors_survive_the_wire(
            number: u16, bytes in proptest::collection::vec(any::<u8>(), 0..600), message in word()
        ) {
            for packet in [Packet::Data { block: number, bytes: &bytes }, Packet::Ack(number),
                           Packet::Error { code: number, message: &message }] {
                let mut out = Vec::new();
                packet.emit(&mut out);
                prop_assert_eq!(Packet::parse(&out), Ok(packet));
            }
        }
    }
}
