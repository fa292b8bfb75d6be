//! The counters behind the metrics.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::boot::installer::InstallerSource;
use crate::boot::{DropReason, Reason};
use crate::fleet::StallReason;

use super::{DurationHistogram, LedgerStage, Protocol, WebhookCounters};

/// Counters of every answer, refusal and drop, by protocol and reason. The metrics read them.
#[derive(Debug)]
pub struct Counters {
    answered: [AtomicU64; Protocol::ALL.len()],
    refused: [[AtomicU64; Reason::ALL.len()]; Protocol::ALL.len()],
    dropped: [[AtomicU64; DropReason::ALL.len()]; Protocol::ALL.len()],
    stalls: [AtomicU64; StallReason::ALL.len()],
    installer_lines: [AtomicU64; InstallerSource::ALL.len()],
    boot_stages: [DurationHistogram; LedgerStage::ALL.len()],
    /// Packets that the kernel dropped because a socket's receive buffer was full.
    pub socket_receive_drops: AtomicU64,
    /// Appearances of other DHCP servers on our segments.
    pub rogue_dhcp_servers: AtomicU64,
    /// Durations of HTTP requests.
    pub http_requests: DurationHistogram,
    /// Bytes of files that TFTP sent in completed transfers, without repetitions.
    pub tftp_sent_bytes: AtomicU64,
    /// Open iSCSI sessions.
    pub iscsi_sessions: AtomicU64,
    /// Bytes that iSCSI sent to its initiators.
    pub iscsi_read_bytes: AtomicU64,
    /// Counters of each webhook, set at start.
    pub webhooks: OnceLock<Vec<Arc<WebhookCounters>>>,
}

impl Default for Counters {
    fn default() -> Self {
        let zeros = |_| std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            answered: std::array::from_fn(|_| AtomicU64::new(0)),
            refused: std::array::from_fn(zeros),
            dropped: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            stalls: std::array::from_fn(|_| AtomicU64::new(0)),
            installer_lines: std::array::from_fn(|_| AtomicU64::new(0)),
            boot_stages: std::array::from_fn(|_| DurationHistogram::of_boots()),
            socket_receive_drops: AtomicU64::new(0),
            rogue_dhcp_servers: AtomicU64::new(0),
            http_requests: DurationHistogram::default(),
            tftp_sent_bytes: AtomicU64::new(0),
            iscsi_sessions: AtomicU64::new(0),
            iscsi_read_bytes: AtomicU64::new(0),
            webhooks: OnceLock::new(),
        }
    }
}

impl Counters {
    /// Counts a request that was answered.
    pub fn count_answered(&self, protocol: Protocol) {
        self.answered[protocol as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that a decision refused.
    pub fn count_refused(&self, protocol: Protocol, reason: Reason, from: Option<IpAddr>) {
        tracing::debug!(
            protocol = protocol.as_str(),
            reason = reason.code(),
            from = from.map(tracing::field::display),
            "request refused"
        );
        self.refused[protocol as usize][reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a packet or request that never reached a decision.
    pub fn count_dropped(&self, protocol: Protocol, reason: DropReason, from: Option<IpAddr>) {
        tracing::debug!(
            protocol = protocol.as_str(),
            reason = reason.code(),
            from = from.map(tracing::field::display),
            "packet dropped"
        );
        self.dropped[protocol as usize][reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a boot that stalled.
    pub fn count_stall(&self, reason: StallReason) {
        self.stalls[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of boots that stalled for a reason.
    pub fn stalls(&self, reason: StallReason) -> u64 {
        self.stalls[reason as usize].load(Ordering::Relaxed)
    }

    /// Counts a line of an installer that went into a timeline.
    pub fn count_installer_line(&self, source: InstallerSource) {
        self.installer_lines[source as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of lines of installers that went into timelines.
    pub fn installer_lines(&self, source: InstallerSource) -> u64 {
        self.installer_lines[source as usize].load(Ordering::Relaxed)
    }

    /// Returns the histogram of the durations of a stage of boots.
    pub fn boot_stage(&self, stage: LedgerStage) -> &DurationHistogram {
        &self.boot_stages[stage as usize]
    }

    /// Returns the number of answered requests.
    pub fn answered(&self, protocol: Protocol) -> u64 {
        self.answered[protocol as usize].load(Ordering::Relaxed)
    }

    /// Returns the number of requests that were refused for a reason.
    pub fn refused(&self, protocol: Protocol, reason: Reason) -> u64 {
        self.refused[protocol as usize][reason as usize].load(Ordering::Relaxed)
    }

    /// Returns the number of packets and requests that were dropped for a reason.
    pub fn dropped(&self, protocol: Protocol, reason: DropReason) -> u64 {
        self.dropped[protocol as usize][reason as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_by_itself() {
        let counters = Counters::default();
        for reason in Reason::ALL {
            counters.count_refused(Protocol::Dhcp, *reason, None);
        }
        for reason in DropReason::ALL {
            counters.count_dropped(Protocol::Iscsi, *reason, None);
        }
        assert!(Reason::ALL.iter().all(|reason| counters.refused(Protocol::Dhcp, *reason) == 1));
        assert!(DropReason::ALL.iter().all(|reason| counters.dropped(Protocol::Iscsi, *reason) == 1));
        assert_eq!(counters.refused(Protocol::Http, Reason::NoConfig), 0);
    }
}
