//! An open RMCP+ session: sequence numbers, requests and their responses (IPMI 2.0, sections 6.12 and 13.6). Pure: the
//! initialization vectors are arguments.

use super::cipher::SessionKeys;
use super::packet::{Command, PacketError, PayloadType};

/// Number of sequence numbers behind the highest one in which a packet is taken (section 6.12.13 has 16 as an example).
const WINDOW: u32 = 32;
/// Number of request numbers of IPMI messages.
const REQUEST_NUMBERS: u8 = 64;

/// The sequence numbers of packets that were received.
#[derive(Debug, Clone, Copy, Default)]
struct ReplayWindow {
    highest: u32,
    /// Whether the numbers up to `WINDOW` below the highest one were seen; bit 0 is the highest one.
    seen: u32,
}

impl ReplayWindow {
    /// Takes a number. Returns whether it is new: neither 0, seen before, nor too old.
    fn take(&mut self, number: u32) -> bool {
        if number == 0 {
            return false;
        }
        if number > self.highest {
            self.seen = self.seen.checked_shl(number - self.highest).unwrap_or(0) | 1;
            self.highest = number;
            return true;
        }
        let behind = self.highest - number;
        let is_new = behind < WINDOW && self.seen & (1 << behind) == 0;
        if is_new {
            self.seen |= 1 << behind;
        }
        is_new
    }
}

/// A session.
#[derive(Debug)]
pub struct Session {
    keys: SessionKeys,
    /// The ID of the session in packets to the console.
    console: u32,
    /// The ID of the session in packets to the BMC.
    bmc: u32,
    sent: u32,
    received: ReplayWindow,
    request: u8,
}

impl Session {
    /// Returns a session that has just been opened.
    pub fn new(keys: SessionKeys, console: u32, bmc: u32) -> Self {
        Self { keys, console, bmc, sent: 0, received: ReplayWindow::default(), request: 0 }
    }

    /// Returns the BMC's ID of the session.
    pub fn bmc_id(&self) -> u32 {
        self.bmc
    }

    /// Begins a request. Returns its number, from 0 to 63.
    pub fn next_request(&mut self) -> u8 {
        self.request = (self.request + 1) % REQUEST_NUMBERS;
        self.request
    }

    /// Returns the packet of a request. One that is repeated keeps its request number, so that the BMC does not carry it out
    /// twice, and gets a sequence number of its own. `None` when the sequence numbers or the packet's room are used up.
    pub fn request(&mut self, number: u8, command: Command, data: &[u8], vector: [u8; 16]) -> Option<Vec<u8>> {
        self.seal(PayloadType::Message, &command.request(number, data), vector)
    }

    /// Returns the packet of a payload.
    pub fn seal(&mut self, payload: PayloadType, body: &[u8], vector: [u8; 16]) -> Option<Vec<u8>> {
        self.sent = self.sent.checked_add(1)?;
        self.keys.seal(payload, self.bmc, self.sent, body, vector)
    }

    /// Reads a packet of the BMC. Returns the type and the payload.
    ///
    /// # Errors
    /// It is not one of the session, or was received before.
    pub fn open(&mut self, packet: &[u8]) -> Result<(PayloadType, Vec<u8>), PacketError> {
        let (payload, sequence, body) = self.keys.open(packet, self.console)?;
        // The numbers count only when the code was right.
        if self.received.take(sequence) { Ok((payload, body)) } else { Err(PacketError::Session) }
    }

    /// Reads the response to a request. Returns the completion code and the data.
    ///
    /// # Errors
    /// The packet is not that response.
    pub fn response(&mut self, number: u8, command: Command, packet: &[u8]) -> Result<(u8, Vec<u8>), PacketError> {
        let (PayloadType::Message, message) = self.open(packet)? else { return Err(PacketError::Unrelated) };
        let (code, data) = command.read_response(number, &message)?;
        Ok((code, data.to_vec()))
    }
}

#[cfg(test)]
mod tests;
