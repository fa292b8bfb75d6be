//! The five packets of RFC 1350 and the option acknowledgement of RFC 2347, as bytes and back.

use std::fmt;

/// The longest request that is read, in octets (RFC 2347, section 2).
pub const REQUEST_MAX: usize = 512;
/// What stands before the bytes of a block: opcode and block number.
pub const DATA_HEADER: usize = 4;
/// The longest ERROR message that is written, in octets: nothing we say is larger than a first block.
const MESSAGE_MAX: usize = 120;

/// One TFTP packet, borrowed from the datagram that it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// RRQ (opcode 1): the peer wants to read.
    Read(Request<'a>),
    /// WRQ (opcode 2): the peer wants to write.
    Write(Request<'a>),
    /// DATA (opcode 3).
    Data { block: u16, bytes: &'a [u8] },
    /// ACK (opcode 4).
    Ack(u16),
    /// ERROR (opcode 5). The message is for people and may be anything.
    Error { code: u16, message: &'a [u8] },
    /// OACK (opcode 6, RFC 2347).
    OptionAck(Pairs<'a>),
}

/// What a RRQ or WRQ asks for, in the peer's own spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    pub name: &'a [u8],
    pub mode: Mode,
    pub options: Pairs<'a>,
}

/// How the bytes of a file travel (RFC 1350, section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Eight-bit bytes as they are.
    Octet,
    /// Text with CR LF line ends (RFC 764).
    Netascii,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Octet => "octet",
            Mode::Netascii => "netascii",
        }
    }
}

/// Option names and values, still as text: pairs of NUL-terminated strings that were checked when read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pairs<'a>(&'a [u8]);

impl<'a> Pairs<'a> {
    pub const NONE: Pairs<'static> = Pairs(&[]);

    /// Reads pairs up to the end of `bytes`. Trailing NULs, with which some ROMs pad, are left out.
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = bytes;
        let mut used = 0;
        while rest.iter().any(|&byte| byte != 0) {
            let (_, after_name) = text(rest).ok_or(Malformed::OptionCutOff)?;
            let (_, after_value) = text(after_name).ok_or(Malformed::OptionCutOff)?;
            used += rest.len() - after_value.len();
            rest = after_value;
        }
        Ok(Pairs(bytes.get(..used).unwrap_or_default()))
    }

    /// Yields each option's name and value in the order sent.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (name, after_name) = text(rest)?;
            let (value, after_value) = text(after_name)?;
            rest = after_value;
            Some((name, value))
        })
    }

    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Pairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        f.debug_map().entries(self.iter().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

/// Why a datagram is not a TFTP packet. Each is a counted drop, never an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    #[error("shorter than its opcode demands")]
    Truncated,
    #[error("opcode {0} is none of TFTP's")]
    UnknownOpcode(u16),
    #[error("a request longer than {REQUEST_MAX} octets")]
    RequestTooLong,
    #[error("a request for a file without a name")]
    NoName,
    #[error("a name or mode that does not end")]
    TextCutOff,
    #[error("a transfer mode other than octet and netascii")]
    UnknownMode,
    #[error("an option without an end or without a value")]
    OptionCutOff,
}

impl<'a> Packet<'a> {
    /// Reads one datagram. It never panics, whatever the bytes.
    ///
    /// # Errors
    /// [`Malformed`] names the first rule that the bytes broke.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let (opcode, body) = number(datagram).ok_or(Malformed::Truncated)?;
        match opcode {
            1 | 2 if datagram.len() > REQUEST_MAX => Err(Malformed::RequestTooLong),
            1 => Request::parse(body).map(Packet::Read),
            2 => Request::parse(body).map(Packet::Write),
            3 => {
                let (block, bytes) = number(body).ok_or(Malformed::Truncated)?;
                Ok(Packet::Data { block, bytes })
            }
            // Octets after the block number are tolerated: Ethernet's padding reaches some stacks' payload.
            4 => number(body).map(|(block, _)| Packet::Ack(block)).ok_or(Malformed::Truncated),
            5 => {
                let (code, rest) = number(body).ok_or(Malformed::Truncated)?;
                // Several clients forget the NUL after the message; the code is what counts.
                let message = text(rest).map_or(rest, |(message, _)| message);
                Ok(Packet::Error { code, message })
            }
            6 => Pairs::read(body).map(Packet::OptionAck),
            other => Err(Malformed::UnknownOpcode(other)),
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
                out.extend(message.iter().take_while(|&&byte| byte != 0).take(MESSAGE_MAX));
                out.push(0);
            }
            Packet::OptionAck(pairs) => {
                out.extend(6u16.to_be_bytes());
                out.extend(pairs.0);
            }
        }
    }
}

impl<'a> Request<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let (name, rest) = text(body).ok_or(Malformed::TextCutOff)?;
        if name.is_empty() {
            return Err(Malformed::NoName);
        }
        let (mode, rest) = text(rest).ok_or(Malformed::TextCutOff)?;
        let mode = [Mode::Octet, Mode::Netascii]
            .into_iter()
            .find(|known| mode.eq_ignore_ascii_case(known.name().as_bytes()))
            .ok_or(Malformed::UnknownMode)?;
        Ok(Request { name, mode, options: Pairs::read(rest)? })
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

/// The four octets before a block's bytes. The number on the wire is the block's, modulo 65536.
pub fn data_header(block: u16) -> [u8; DATA_HEADER] {
    let [high, low] = block.to_be_bytes();
    [0, 3, high, low]
}

/// Appends one option to the bytes of an option acknowledgement or request.
pub fn push_option(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend(name.as_bytes());
    out.push(0);
    out.extend(value.to_string().as_bytes());
    out.push(0);
}

/// The error codes that this server says (RFC 1350, appendix; RFC 2347).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    NotDefined = 0,
    FileNotFound = 1,
    AccessViolation = 2,
}

fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*head), rest))
}

/// Splits at the first NUL: what stands before it and what comes after it.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(datagram: &[u8], expected: Result<Packet<'_>, Malformed>) {
        assert_eq!(Packet::parse(datagram), expected, "{:?}", String::from_utf8_lossy(datagram));
    }

    fn pairs(bytes: &[u8]) -> Pairs<'_> {
        Pairs::read(bytes).unwrap()
    }

    /// `tcpdump -r /work/shared/captures/<name>.pcap 'udp dst port 69'`, payload only.
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
        check(b"", Err(Malformed::Truncated));
        check(b"\0", Err(Malformed::Truncated));
        check(b"\0\0", Err(Malformed::UnknownOpcode(0)));
        check(b"\0\x07", Err(Malformed::UnknownOpcode(7)));
        check(b"\0\x01", Err(Malformed::TextCutOff));
        check(b"\0\x01\0octet\0", Err(Malformed::NoName));
        check(b"\0\x01name", Err(Malformed::TextCutOff));
        check(b"\0\x01name\0", Err(Malformed::TextCutOff));
        check(b"\0\x01name\0octet", Err(Malformed::TextCutOff));
        check(b"\0\x01name\0mail\0", Err(Malformed::UnknownMode));
        check(b"\0\x01name\0octet\0blksize", Err(Malformed::OptionCutOff));
        check(b"\0\x01name\0octet\0blksize\0", Err(Malformed::OptionCutOff));
        check(b"\0\x01name\0octet\0blksize\x00512", Err(Malformed::OptionCutOff));
        check(b"\0\x03\0", Err(Malformed::Truncated));
        check(b"\0\x04\x01", Err(Malformed::Truncated));
        check(b"\0\x05\0", Err(Malformed::Truncated));
        let long = [&b"\0\x01"[..], &[b'a'; 510], b"\0octet\0"].concat();
        check(&long, Err(Malformed::RequestTooLong));
    }

    #[test]
    fn small_liberties_of_clients_are_taken_in_stride() {
        let plain = Request { name: b"a", mode: Mode::Octet, options: Pairs::NONE };
        check(b"\0\x01a\0OCTET\0", Ok(Packet::Read(plain)));
        check(b"\0\x01a\0octet\0\0\0\0", Ok(Packet::Read(plain)));
        check(b"\0\x02a\0NetAscii\0", Ok(Packet::Write(Request { mode: Mode::Netascii, ..plain })));
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
            let mode = if ascii { Mode::Netascii } else { Mode::Octet };
            let request = Request { name: &name, mode, options: pairs(&bytes) };
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
