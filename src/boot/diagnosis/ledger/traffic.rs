//! What a boot loaded, by the way it came.

use schemars::JsonSchema;
use serde::Serialize;

use crate::boot::diagnosis::evidence::{Evidence, Step, TransferOutcome};

/// Octets that a machine received in a boot. Headers and repeated packets do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Traffic {
    /// Files over TFTP.
    pub tftp: u64,
    /// Programs and images over HTTP. Of reads in ranges those are counted that begin a connection.
    pub http: u64,
    /// Its image over iSCSI.
    pub iscsi: u64,
    /// Its config.
    pub config: u64,
}

impl Traffic {
    /// Returns the octets of a boot's steps.
    pub fn of(steps: &[Evidence]) -> Self {
        let has_session = steps.iter().any(|evidence| matches!(evidence.step, Step::Login { .. }));
        let mut traffic = Self::default();
        for (index, evidence) in steps.iter().enumerate() {
            let (sum, octets) = match &evidence.step {
                // A transfer that ends is a step of its own.
                Step::Transfer(transfer)
                    if transfer.outcome == TransferOutcome::UnderWay
                        && has_end(&steps[index + 1..], &transfer.file) =>
                {
                    continue;
                }
                Step::Transfer(transfer) => (&mut traffic.tftp, transfer.octets),
                Step::Download(download) => (&mut traffic.http, download.octets),
                Step::Read { octets, .. } if has_session => (&mut traffic.iscsi, *octets),
                Step::Read { octets, .. } => (&mut traffic.http, *octets),
                // It is the same config each time.
                Step::ConfigServed { octets } => (&mut traffic.config, octets.saturating_mul(evidence.count.into())),
                _ => continue,
            };
            *sum = sum.saturating_add(octets);
        }
        traffic
    }
}

/// Returns whether a later step is of a transfer of the same file.
fn has_end(later: &[Evidence], file: &str) -> bool {
    later.iter().any(|evidence| matches!(&evidence.step, Step::Transfer(other) if *other.file == *file))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::boot::diagnosis::{Download, DownloadKind, DownloadOutcome, FileTransfer, TransferOutcome};

    fn seen(count: u32, step: Step) -> Evidence {
        Evidence { first: Duration::ZERO, last: Duration::ZERO, count, step }
    }

    fn transfer(outcome: TransferOutcome, octets: u64) -> Evidence {
        let transfer = FileTransfer { file: "ipxe.efi".into(), outcome, octets, size: octets, pace: None };
        seen(1, Step::Transfer(Box::new(transfer)))
    }

    fn download(octets: u64) -> Evidence {
        let (kind, outcome) = (DownloadKind::Image, DownloadOutcome::Aborted);
        let download = Download { file: "vmlinuz".into(), kind, outcome, octets, size: 9, agent: "iPXE".into() };
        seen(1, Step::Download(Box::new(download)))
    }

    #[test]
    fn octets_count_by_the_way_they_came() {
        let reads = seen(7, Step::Read { octets: 5000, is_over: false });
        let config = seen(2, Step::ConfigServed { octets: 30 });
        let login = seen(1, Step::Login { image: "live".parse().unwrap() });
        let under_way = || transfer(TransferOutcome::UnderWay, 50);
        assert_eq!(Traffic::of(&[under_way()]).tftp, 50);
        let (whole, again) = (transfer(TransferOutcome::Complete, 100), transfer(TransferOutcome::Silent, 11));
        let over_iscsi = [under_way(), whole, again, download(7), login, reads.clone(), config.clone()];
        assert_eq!(Traffic::of(&over_iscsi), Traffic { tftp: 111, http: 7, iscsi: 5000, config: 60 });
        assert_eq!(Traffic::of(&[download(7), reads, config]), Traffic { tftp: 0, http: 5007, iscsi: 0, config: 60 });
        assert_eq!(Traffic::of(&[]), Traffic::default());
    }
}
