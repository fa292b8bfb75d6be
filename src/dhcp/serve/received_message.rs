//! A DHCP message on its way to the handler.

use std::borrow::Cow;
use std::time::Instant;

use crate::dhcp::answer::Arrival;
use crate::store::StoreError;

/// A message that is answered later, once what it waits for has happened.
pub type DeferredMessage = ReceivedMessage<'static>;

/// A message as it arrived.
#[derive(Debug)]
pub struct ReceivedMessage<'a> {
    /// Index of the interface.
    pub interface: usize,
    /// The UDP payload.
    pub bytes: Cow<'a, [u8]>,
    /// The port that it arrived on, and its sender.
    pub arrival: Arrival,
    /// Time of the arrival.
    pub received: Instant,
    /// Whether the message comes again, after what it waited for.
    pub is_repeated: bool,
    /// The result of enrolling the host; `None` before the attempt.
    pub enrolled: Option<Result<(), StoreError>>,
}

impl ReceivedMessage<'_> {
    /// Returns a copy that owns its bytes.
    pub fn to_deferred(&self) -> DeferredMessage {
        ReceivedMessage {
            interface: self.interface,
            bytes: self.bytes.to_vec().into(),
            arrival: self.arrival,
            received: self.received,
            is_repeated: true,
            enrolled: self.enrolled.clone(),
        }
    }
}
