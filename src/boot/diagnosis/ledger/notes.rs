//! What was seen in a stage of a boot, in a few words.

use std::ops::Range;

use super::super::evidence::{DownloadKind, Evidence, Step, TransferOutcome, Uptime};
use super::super::scene::{Boot, Progress};
use super::super::text::{describe_script, plural, size};
use super::{LedgerStage, octets};

/// Returns the note of a stage that took some time.
pub fn note(boot: &Boot<'_>, stage: LedgerStage, time: Range<Uptime>) -> Option<String> {
    // Steps of the same instant come in any order: the one that ends the stage counts as well.
    let is_in = |evidence: &&Evidence| evidence.first >= time.start && evidence.first <= time.end;
    let steps = || boot.steps.iter().filter(is_in);
    match stage {
        LedgerStage::OtherInterface => steps().find_map(|evidence| match evidence.step {
            Step::OtherInterface { mac, .. } => Some(mac.to_string()),
            _ => None,
        }),
        LedgerStage::Ipv6 => {
            let asked = steps().find(|evidence| evidence.step == Step::SolicitV6)?;
            Some(format!("asked {}", plural(asked.count as usize, "time")))
        }
        LedgerStage::Dhcp => dhcp(steps().map(|evidence| (evidence, &evidence.step)), &time),
        LedgerStage::Program => steps().find_map(|evidence| match &evidence.step {
            Step::Transfer(transfer)
                if transfer.outcome == TransferOutcome::Complete && !Progress::is_script(&transfer.file) =>
            {
                Some(format!("{}, {}", transfer.file, size(transfer.size)))
            }
            Step::Download(download) if download.kind == DownloadKind::Program => {
                Some(format!("{}, {}, over HTTP", download.file, size(download.size)))
            }
            _ => None,
        }),
        LedgerStage::Script | LedgerStage::Wait => steps().find_map(|evidence| match evidence.step {
            Step::Script { action } if stage == LedgerStage::Script => Some(describe_script(action).to_owned()),
            Step::Script { .. } if evidence.count > 1 => {
                Some(format!("asked {}", plural(evidence.count as usize, "time")))
            }
            _ => None,
        }),
        LedgerStage::Loader => {
            let read: u64 = steps().map(|evidence| octets(&evidence.step)).sum();
            (read > 0).then(|| format!("{} read", size(read)))
        }
        LedgerStage::Install => steps().find_map(|evidence| match evidence.step {
            Step::ConfigServed { octets } => Some(format!("config of {}", size(octets))),
            _ => None,
        }),
        LedgerStage::Power
        | LedgerStage::Unheard
        | LedgerStage::ProgramStart
        | LedgerStage::Kernel
        | LedgerStage::System => None,
    }
}

/// Returns the address that was taken, and how often the firmware asked.
fn dhcp<'a>(steps: impl Iterator<Item = (&'a Evidence, &'a Step)>, time: &Range<Uptime>) -> Option<String> {
    let (mut taken, mut asked) = (None, 0);
    for (evidence, step) in steps {
        match step {
            Step::Request { server, address, .. } if taken.is_none() => taken = Some((*address, *server)),
            // Firmware that is answered in time asks once.
            Step::Discover { .. } if evidence.first < time.end => asked += evidence.count as usize,
            _ => {}
        }
    }
    let address = taken.map(|(address, server)| match server {
        Some(server) => format!("{address} from {server}"),
        None => address.to_string(),
    });
    let asked = (asked > 1).then(|| format!("asked {}", plural(asked, "time")));
    let parts: Vec<_> = address.into_iter().chain(asked).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
