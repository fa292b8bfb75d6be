//! Packets of RMCP+ outside a session, and the IPMI messages inside one (IPMI 2.0, sections 13.6 and 13.8). Pure.

/// The RMCP header of an IPMI packet: version 1.0, no acknowledgement, the IPMI class.
pub(super) const RMCP: [u8; 4] = [0x06, 0x00, 0xff, 0x07];
/// The authentication type in the header of a session: the format of IPMI 2.0.
pub(super) const RMCP_PLUS: u8 = 0x06;
/// Length of the header of a packet up to its payload, in octets: RMCP, format, type, session, sequence, length.
pub(super) const HEADER_LENGTH: usize = 16;
/// Maximum length of a packet that is read, in octets. Responses of a BMC have less than 300.
pub const MAX_PACKET: usize = 1024;

/// Offset of the length of the payload.
const LENGTH_OFFSET: usize = 14;
/// Addresses of the BMC and of the remote console (table 5-4).
const BMC_ADDRESS: u8 = 0x20;
const CONSOLE_ADDRESS: u8 = 0x81;

/// The type of a payload (table 13-16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadType {
    /// An IPMI message.
    Message,
    /// Serial over LAN.
    SerialOverLan,
    /// RMCP+ Open Session Request.
    OpenSessionRequest,
    /// RMCP+ Open Session Response.
    OpenSessionResponse,
    /// RAKP Message 1.
    Rakp1,
    /// RAKP Message 2.
    Rakp2,
    /// RAKP Message 3.
    Rakp3,
    /// RAKP Message 4.
    Rakp4,
}

impl PayloadType {
    /// Returns the number of the type.
    pub fn number(self) -> u8 {
        match self {
            Self::Message => 0x00,
            Self::SerialOverLan => 0x01,
            Self::OpenSessionRequest => 0x10,
            Self::OpenSessionResponse => 0x11,
            Self::Rakp1 => 0x12,
            Self::Rakp2 => 0x13,
            Self::Rakp3 => 0x14,
            Self::Rakp4 => 0x15,
        }
    }

    /// Returns the type of a number.
    pub fn from_number(number: u8) -> Option<Self> {
        use PayloadType::{
            Message, OpenSessionRequest, OpenSessionResponse, Rakp1, Rakp2, Rakp3, Rakp4, SerialOverLan,
        };
        [Message, SerialOverLan, OpenSessionRequest, OpenSessionResponse, Rakp1, Rakp2, Rakp3, Rakp4]
            .into_iter()
            .find(|payload| payload.number() == number)
    }
}

/// The reason to drop a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// A packet that ends too early, or whose length is not the one in its header.
    #[error("a packet of a wrong length")]
    Length,
    /// A packet that is not RMCP+.
    #[error("not a packet of IPMI 2.0")]
    Format,
    /// A packet of another session or of no session, or one that was received before.
    #[error("a packet of another session")]
    Session,
    /// A packet without encryption or integrity, or with a wrong integrity code.
    #[error("a packet that is not encrypted and signed with the session's keys")]
    Integrity,
    /// A message that is not the response to the request.
    #[error("not the response to the request")]
    Unrelated,
}

/// The header of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether the payload is encrypted and signed.
    pub is_secured: bool,
    pub payload: PayloadType,
    pub session: u32,
    pub sequence: u32,
}

impl Header {
    /// Appends the header of a packet with a payload of this length. `None` if the payload is too long.
    pub(super) fn write(&self, length: usize, packet: &mut Vec<u8>) -> Option<()> {
        let length = u16::try_from(length).ok()?;
        packet.extend(RMCP);
        packet.extend([RMCP_PLUS, self.payload.number() | if self.is_secured { 0xc0 } else { 0 }]);
        packet.extend(self.session.to_le_bytes());
        packet.extend(self.sequence.to_le_bytes());
        packet.extend(length.to_le_bytes());
        Some(())
    }

    /// Returns the header of a packet, its payload, and what follows.
    pub(super) fn read(packet: &[u8]) -> Result<(Self, &[u8], &[u8]), PacketError> {
        if packet.len() > MAX_PACKET {
            return Err(PacketError::Length);
        }
        let header = packet.first_chunk::<HEADER_LENGTH>().ok_or(PacketError::Length)?;
        if header[..4] != RMCP || header[4] != RMCP_PLUS {
            return Err(PacketError::Format);
        }
        let is_secured = match header[5] & 0xc0 {
            0xc0 => true,
            0 => false,
            _ => return Err(PacketError::Integrity),
        };
        let payload = PayloadType::from_number(header[5] & 0x3f).ok_or(PacketError::Format)?;
        let (session, sequence) = (le32(header, 6), le32(header, 10));
        let length = usize::from(u16::from_le_bytes([header[LENGTH_OFFSET], header[LENGTH_OFFSET + 1]]));
        let (body, rest) = packet[HEADER_LENGTH..].split_at_checked(length).ok_or(PacketError::Length)?;
        Ok((Self { is_secured, payload, session, sequence }, body, rest))
    }
}

/// Returns the little-endian number at an offset of a header.
fn le32(header: &[u8; HEADER_LENGTH], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

/// Returns a packet outside a session.
pub fn outside_session(payload: PayloadType, body: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER_LENGTH + body.len());
    let header = Header { is_secured: false, payload, session: 0, sequence: 0 };
    header.write(body.len(), &mut packet).expect("the messages of a login have less than 64 KiB");
    packet.extend(body);
    packet
}

/// Returns the type and the payload of a packet outside a session.
///
/// # Errors
/// It is none.
pub fn read_outside_session(packet: &[u8]) -> Result<(PayloadType, &[u8]), PacketError> {
    let (header, body, _) = Header::read(packet)?;
    match header {
        Header { is_secured: false, session: 0, .. } => Ok((header.payload, body)),
        _ => Err(PacketError::Session),
    }
}

/// A command and its network function (IPMI 2.0, appendix G).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// The network function of the request; that of the response is one more.
    pub function: u8,
    /// The command.
    pub command: u8,
}

impl Command {
    /// Returns the message of a request, with a sequence number from 0 to 63.
    pub fn request(self, sequence: u8, data: &[u8]) -> Vec<u8> {
        let mut message = vec![BMC_ADDRESS, self.function << 2];
        message.push(checksum(&message));
        message.extend([CONSOLE_ADDRESS, sequence << 2, self.command]);
        message.extend(data);
        message.push(checksum(&message[3..]));
        message
    }

    /// Returns the completion code and the data of the response to a request.
    ///
    /// # Errors
    /// The message is not that response.
    pub fn read_response(self, sequence: u8, message: &[u8]) -> Result<(u8, &[u8]), PacketError> {
        let [to, function, _, from, reply_sequence, command, code, data @ .., _] = message else {
            return Err(PacketError::Length);
        };
        let is_intact = checksum(&message[..3]) == 0 && checksum(&message[3..]) == 0;
        let is_response = (*to, *function, *from, *reply_sequence, *command)
            == (CONSOLE_ADDRESS, (self.function | 1) << 2, BMC_ADDRESS, sequence << 2, self.command);
        if is_intact && is_response { Ok((*code, data)) } else { Err(PacketError::Unrelated) }
    }
}

/// Returns the two's complement of a sum; 0 for octets that end with their checksum.
fn checksum(octets: &[u8]) -> u8 {
    octets.iter().fold(0_u8, |sum, octet| sum.wrapping_add(*octet)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHASSIS_STATUS: Command = Command { function: 0, command: 1 };

    #[test]
    fn a_message_is_read_as_the_response_to_its_request_only() {
        // ipmitool's request, and the simulator's response.
        assert_eq!(CHASSIS_STATUS.request(2, &[]), [0x20, 0x00, 0xe0, 0x81, 0x08, 0x01, 0x76]);
        let mut response = vec![0x81, 0x04, 0x7b, 0x20, 0x08, 0x01, 0x00, 0x01, 0x00, 0x00];
        response.push(checksum(&response[3..]));
        assert_eq!(CHASSIS_STATUS.read_response(2, &response), Ok((0, &[1, 0, 0][..])));
        assert_eq!(CHASSIS_STATUS.read_response(3, &response), Err(PacketError::Unrelated));
        assert_eq!(Command { function: 6, command: 1 }.read_response(2, &response), Err(PacketError::Unrelated));
        for at in 0..response.len() {
            let mut damaged = response.clone();
            damaged[at] ^= 0x10;
            assert_eq!(CHASSIS_STATUS.read_response(2, &damaged), Err(PacketError::Unrelated), "octet {at}");
        }
        for length in 0..8 {
            assert_eq!(CHASSIS_STATUS.read_response(2, &response[..length]), Err(PacketError::Length), "{length}");
        }
    }

    #[test]
    fn a_packet_outside_a_session_is_read_as_it_was_written() {
        let packet = outside_session(PayloadType::Rakp1, b"abc");
        assert_eq!(hex::encode(&packet), "0600ff07061200000000000000000300616263");
        assert_eq!(read_outside_session(&packet), Ok((PayloadType::Rakp1, &b"abc"[..])));
        for length in 0..packet.len() {
            assert_eq!(read_outside_session(&packet[..length]), Err(PacketError::Length), "{length}");
        }
        for (at, octet, error) in [
            (0, 5, PacketError::Format),
            (4, 0, PacketError::Format),
            (5, 0x3f, PacketError::Format),
            (5, 0x52, PacketError::Integrity),
            (5, 0xd2, PacketError::Session),
            (6, 1, PacketError::Session),
            (14, 4, PacketError::Length),
        ] {
            let mut damaged = packet.clone();
            damaged[at] = octet;
            assert_eq!(read_outside_session(&damaged), Err(error), "octet {at}");
        }
        assert_eq!(read_outside_session(&[6; MAX_PACKET + 1]), Err(PacketError::Length));
    }
}
