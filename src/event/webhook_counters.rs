//! The counters of the deliveries to a webhook.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The reason that a notification was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationLoss {
    /// It was the oldest of more than the queue takes.
    QueueFull,
    /// It could not be delivered within its time.
    Expired,
    /// The receiver answered that it will not take it.
    Rejected,
}

impl NotificationLoss {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::QueueFull, Self::Expired, Self::Rejected];

    /// Returns the code of the reason, in snake case.
    pub fn code(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
        }
    }
}

/// Counters of the deliveries to a webhook.
#[derive(Debug)]
pub struct WebhookCounters {
    /// Name of the webhook.
    pub name: String,
    /// Notifications that the receiver took.
    pub delivered: AtomicU64,
    /// Attempts that failed.
    pub failed: AtomicU64,
    /// The last line of the queue that is done with.
    pub position: AtomicI64,
    lost: [AtomicU64; NotificationLoss::ALL.len()],
}

impl WebhookCounters {
    /// Returns the counters of a webhook.
    pub fn new(name: String) -> Self {
        Self {
            name,
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            position: AtomicI64::new(0),
            lost: Default::default(),
        }
    }

    /// Counts notifications that are not delivered.
    pub fn count_lost(&self, reason: NotificationLoss, count: u64) {
        self.lost[reason as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the number of notifications that were not delivered, for a reason.
    pub fn lost(&self, reason: NotificationLoss) -> u64 {
        self.lost[reason as usize].load(Ordering::Relaxed)
    }
}
