//! Changes of hosts that DHCP messages lead to: those of one batch of messages are one job of the store.

use std::sync::Arc;

use nix::sys::eventfd::EventFd;
use tokio::sync::mpsc::Sender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::boot::{DropReason, Facts};
use crate::dhcp::serve::received_message::DeferredMessage;
use crate::event::Protocol;
use crate::fleet::Mac;
use crate::gate::Gate;
use crate::store::{Change, StoreError};

/// Maximum number of changes that wait for the store.
pub const MAX_PENDING_CHANGES: usize = 4096;
/// Maximum number of deferred messages. Their places are free again, so more may follow; a client repeats what is lost.
pub const MAX_DEFERRED_MESSAGES: usize = 2 * MAX_PENDING_CHANGES;

/// The changes of a batch of messages.
#[derive(Debug, Default)]
pub struct PendingChanges {
    changes: Vec<Change>,
    waiting: Vec<Waiting>,
}

impl PendingChanges {
    /// Returns whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// A change that waits for the store, with the message that waits for it.
#[derive(Debug)]
struct Waiting {
    mac: Mac,
    /// The message of an unknown host; `None` if nothing depends on the change.
    message: Option<DeferredMessage>,
    _place: OwnedSemaphorePermit,
}

/// The queue of deferred messages to the event loop.
#[derive(Debug, Clone)]
pub struct DeferredQueue {
    /// Messages that the event loop passes to the handler again.
    pub messages: Sender<DeferredMessage>,
    /// Wakes the event loop for deferred messages.
    pub wake: Arc<EventFd>,
}

impl DeferredQueue {
    /// Queues messages for the next turn of the event loop.
    pub fn send(&self, messages: impl IntoIterator<Item = DeferredMessage>) {
        let mut sent = 0;
        for message in messages {
            // A client repeats a message that is lost.
            sent += usize::from(self.messages.try_send(message).is_ok());
        }
        if sent > 0 {
            let _ = self.wake.write(1);
        }
    }
}

/// Passes changes of hosts to the store, a bounded number at a time.
#[derive(Debug)]
pub struct HostChanges {
    places: Arc<Semaphore>,
    /// The queue for messages whose host is durable.
    pub deferred: DeferredQueue,
}

impl HostChanges {
    /// Returns the changes of a server that has made none yet.
    pub fn new(deferred: DeferredQueue) -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_PENDING_CHANGES)), deferred }
    }

    /// Reserves a place for a change of a host; `None` if too many changes wait.
    pub fn reserve(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Adds a change to a batch, with the message that waits for it.
    pub fn add(
        batch: &mut PendingChanges,
        facts: &Facts,
        change: Change,
        message: Option<DeferredMessage>,
        place: OwnedSemaphorePermit,
    ) {
        batch.changes.push(change);
        batch.waiting.push(Waiting { mac: facts.mac, message, _place: place });
    }

    /// Passes a batch to the store. Messages are deferred once their hosts are durable, or cannot be recorded.
    pub fn commit(&self, gate: &Gate, batch: &mut PendingChanges) {
        let PendingChanges { changes, waiting } = std::mem::take(batch);
        let (deferred, messages) = (self.deferred.clone(), waiting.iter().filter(|one| one.message.is_some()).count());
        let then = move |outcomes: Vec<Result<(), StoreError>>| {
            let messages = waiting.into_iter().zip(outcomes).filter_map(|(waiting, outcome)| waiting.finish(outcome));
            deferred.send(messages);
        };
        if let Err(error) = gate.store.change_each(changes, then) {
            // The messages are counted. While the disk stalls this may happen for each batch.
            tracing::debug!(%error, messages, "failed to record hosts");
            for _ in 0..messages {
                gate.counters.count_dropped(Protocol::Dhcp, DropReason::Overload, None);
            }
        }
    }
}

impl Waiting {
    /// Returns the message with the outcome of its enrolment.
    fn finish(self, outcome: Result<(), StoreError>) -> Option<DeferredMessage> {
        let Self { mac, message, .. } = self;
        match message {
            Some(message) => Some(DeferredMessage { enrolled: Some(outcome), ..message }),
            None => {
                if let Err(error) = outcome {
                    tracing::debug!(%mac, %error, "failed to record a host's address and firmware");
                }
                None
            }
        }
    }
}
