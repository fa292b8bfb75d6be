//! Serial over LAN (IPMI 2.0, chapter 15 and section 24.1): the packets of a console that is read and never written. Pure.

use super::packet::{Command, PayloadType};

/// Activate Payload.
pub const ACTIVATE: Command = Command { function: 0x06, command: 0x48 };
/// Deactivate Payload.
pub const DEACTIVATE: Command = Command { function: 0x06, command: 0x49 };
/// Get Device ID, which keeps the session open.
pub const KEEP_ALIVE: Command = Command { function: 0x06, command: 0x01 };
/// The first instance of the payload Serial over LAN, encrypted and signed; alerts of the serial port go on.
pub const ACTIVATE_DATA: [u8; 6] = [0x01, 0x01, 0xc8, 0, 0, 0];
/// The first instance of the payload Serial over LAN.
pub const DEACTIVATE_DATA: [u8; 6] = [0x01, 0x01, 0, 0, 0, 0];
/// Completion code: the payload is active in another session.
pub const ALREADY_ACTIVE: u8 = 0x80;

/// Length of the header of a packet.
const HEADER_LENGTH: usize = 4;
/// Status: the console is or will be deactivated.
const DEACTIVATED: u8 = 0x10;

/// What is known of the packets of the BMC.
#[derive(Debug, Default)]
pub struct ConsoleReader {
    /// Number of the last packet with data, and how much of it was taken.
    last: Option<(u8, usize)>,
}

/// A packet of the BMC.
#[derive(Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// The octets that are new.
    pub text: &'a [u8],
    /// The acknowledgement to send.
    pub acknowledgement: Option<[u8; HEADER_LENGTH]>,
    /// Whether the BMC ends the console.
    pub is_over: bool,
}

impl ConsoleReader {
    /// Reads the payload of a packet; `None` for one that is too short, or of another type. A packet that is repeated, because its acknowledgement was lost,
    /// may have more octets than before.
    pub fn receive<'a>(&mut self, payload: PayloadType, packet: &'a [u8]) -> Option<Received<'a>> {
        // The answer to a keep-alive changes nothing of what is known.
        if payload != PayloadType::SerialOverLan {
            return None;
        }
        let ([number, _, _, status], text) = packet.split_first_chunk::<HEADER_LENGTH>()?;
        let is_over = status & DEACTIVATED != 0;
        if *number & 0x0f == 0 {
            return Some(Received { text: &[], acknowledgement: None, is_over });
        }
        let number = *number & 0x0f;
        let known = self.last.filter(|(last, _)| *last == number).map_or(0, |(_, taken)| taken);
        let accepted = u8::try_from(text.len()).unwrap_or(u8::MAX);
        let taken = &text[..text.len().min(usize::from(accepted))];
        self.last = Some((number, taken.len().max(known)));
        Some(Received {
            text: taken.get(known..).unwrap_or_default(),
            acknowledgement: Some([0, number, accepted, 0]),
            is_over,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_octet_is_taken_once_and_acknowledged() {
        let mut reader = ConsoleReader::default();
        let mut receive = |packet: &[u8]| {
            let found = reader.receive(PayloadType::SerialOverLan, packet)?;
            Some((String::from_utf8_lossy(found.text).into_owned(), found.acknowledgement, found.is_over))
        };
        let took = |text: &str, number, length| Some((text.to_owned(), Some([0, number, length, 0]), false));
        assert_eq!(receive(b"\x01\0\0\0boot"), took("boot", 1, 4));
        assert_eq!(receive(b"\x01\0\0\0boot"), took("", 1, 4), "its acknowledgement was lost");
        assert_eq!(receive(b"\x01\0\0\0booting"), took("ing", 1, 7));
        assert_eq!(receive(b"\x02\0\0\0."), took(".", 2, 1));
        assert_eq!(receive(b"\x01\0\0\0boot"), took("boot", 1, 4), "15 is followed by 1");
        assert_eq!(receive(&[0, 5, 0, 0]), Some((String::new(), None, false)), "an acknowledgement");
        assert_eq!(receive(&[0, 0, 0, 0x10]), Some((String::new(), None, true)));
        let long = [&[3, 0, 0, 0][..], &[b'x'; 300]].concat();
        assert_eq!(receive(&long).map(|(text, sent, _)| (text.len(), sent)), Some((255, Some([0, 3, 255, 0]))));
        assert_eq!(receive(&[1, 0, 0]), None);
    }

    #[test]
    fn a_message_between_two_packets_changes_nothing() {
        let mut reader = ConsoleReader::default();
        let mut receive =
            |payload, packet: &[u8]| reader.receive(payload, packet).map(|found| (found.text.to_vec(), found.is_over));
        let (console, message) = (PayloadType::SerialOverLan, PayloadType::Message);
        assert_eq!(receive(console, b"\x01\0\0\0boot"), Some((b"boot".to_vec(), false)));
        assert_eq!(receive(message, b"\x81\x1c\x63\x20\x04\x01\0\x20"), None, "its octets look like those of a packet");
        assert_eq!(receive(console, b"\x01\0\0\0booting"), Some((b"ing".to_vec(), false)), "a repeated packet");
    }
}
