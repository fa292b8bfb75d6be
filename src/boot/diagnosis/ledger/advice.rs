//! What of the time of a boot can be saved.

use std::time::Duration;

use super::super::evidence::{DhcpClient, Evidence, FileTransfer, ScriptStep, Step, TransferOutcome, Uptime};
use super::super::scene::{Boot, Progress};
use super::super::text::{plural, seconds, size};
use super::{LedgerLine, LedgerStage, left_to_disk};

/// Time in a stage that an operator may want to save.
const NOTABLE: Duration = Duration::from_secs(5);
/// Time from iPXE's address to its script after which it waited for a router of IPv6: 4 s (2025) to 16 s (2019).
const ROUTER_WAIT: Duration = Duration::from_secs(4);
/// Time of an offer after the request at which firmware has nearly given up: it collects offers for 4 s.
const LATE_OFFER: Duration = Duration::from_secs(3);
/// Duration of a transfer that is worth a change.
const SLOW_TRANSFER: Duration = Duration::from_secs(20);
/// Time of a block beyond which the network loses packets: no distance takes that long.
const LOSSY_BLOCK: Duration = Duration::from_millis(500);

/// Returns the advice about a boot, by the order of its stages.
pub fn advice(boot: &Boot<'_>, lines: &[LedgerLine]) -> Vec<String> {
    let spent = |stage| lines.iter().filter(|line| line.stage == stage).map(|line| line.duration).sum::<Duration>();
    let rules = [
        other_interface(boot, spent(LedgerStage::OtherInterface)),
        notable(spent(LedgerStage::Ipv6)).map(|time| {
            format!("it tried IPv6 for {time} first: put IPv4 first in its boot order, or switch PXE over IPv6 off")
        }),
        unheard(spent(LedgerStage::Unheard)),
        late_offers(boot),
        left_out(boot),
        slow_transfer(boot),
        ipxe_address(boot),
        router_wait(boot),
        notable(spent(LedgerStage::Wait))
            .map(|time| format!("it waited {time} for its image, or at its menu: see the status of the image")),
        script_again(boot),
    ];
    rules.into_iter().flatten().collect()
}

fn notable(time: Duration) -> Option<String> {
    (time >= NOTABLE).then(|| seconds(time))
}

fn other_interface(boot: &Boot<'_>, spent: Duration) -> Option<String> {
    let time = notable(spent)?;
    let mac = boot.find_map(|evidence| match evidence.step {
        Step::OtherInterface { mac, .. } => Some(mac),
        _ => None,
    })?;
    Some(format!("it tried its interface {mac} for {time} first: put the interface that boots first in its boot order"))
}

fn unheard(spent: Duration) -> Option<String> {
    (spent >= Duration::from_secs(1)).then(|| {
        format!(
            "its first message arrived {} after it began to ask: make its switch port an edge port (portfast)",
            seconds(spent)
        )
    })
}

/// Offers that came long after the request.
fn late_offers(boot: &Boot<'_>) -> Option<String> {
    let asked = boot.steps.iter().find(|evidence| matches!(evidence.step, Step::Discover { .. }))?.first;
    let other = boot.steps.iter().find_map(|evidence| match &evidence.step {
        Step::OtherOffer(offer) if offer.address.is_some() => {
            Some((offer.server, evidence.first.saturating_sub(asked)))
        }
        _ => None,
    });
    if let Some((server, late)) = other.filter(|(_, late)| *late >= LATE_OFFER) {
        return Some(format!("the DHCP server {server} answered {} after it was asked", seconds(late)));
    }
    let ours = boot.find_map(|evidence| match evidence.step {
        Step::Offered { delay: Some(delay), .. } if delay >= LATE_OFFER => Some(delay),
        _ => None,
    })?;
    Some(format!("our offer left {} after it asked: look at the disk of the state", seconds(ours)))
}

/// Firmware that asks for a while although it is to boot its disk.
fn left_out(boot: &Boot<'_>) -> Option<String> {
    let last = left_to_disk(boot)?;
    let time = notable(last.saturating_sub(boot.begin()))?;
    Some(format!(
        "its firmware asked the network for {time} before its disk: put the disk first in its boot order, or boot it over \
         PXE, which is sent to the disk at once"
    ))
}

/// A transfer of a boot program that took long.
fn slow_transfer(boot: &Boot<'_>) -> Option<String> {
    let (transfer, end) = boot.find_map(|evidence| {
        let transfer = evidence.step.transfer_with(&TransferOutcome::Complete)?;
        (!Progress::is_script(&transfer.file)).then_some((transfer, evidence.first))
    })?;
    let FileTransfer { file, octets, pace, .. } = transfer;
    let (octets, pace) = (*octets, *pace);
    let begin = requested(boot, file, end)?.first;
    let took = end.saturating_sub(begin);
    if took <= SLOW_TRANSFER {
        return None;
    }
    let what = format!("{file}: {} in {} over TFTP", size(octets), seconds(took));
    let pace = pace?;
    let blocks = u32::try_from(octets / u64::from(pace.block_size.max(1)) + 1).unwrap_or(u32::MAX);
    Some(if pace.window == 1 && took / blocks < LOSSY_BLOCK {
        format!(
            "{what}, one block of {} octets a round trip: serve the program over HTTP Boot, or one that asks for larger blocks",
            pace.block_size
        )
    } else {
        format!("{what}: the network loses packets, or is slow")
    })
}

/// Returns the last request for a file before a time.
fn requested<'a>(boot: &Boot<'a>, wanted: &str, before: Uptime) -> Option<&'a Evidence> {
    let is_wanted = |step: &Step| matches!(step, Step::FileRequested { file, .. } if **file == *wanted);
    boot.steps.iter().rev().find(|evidence| evidence.first <= before && is_wanted(&evidence.step))
}

/// iPXE that waits for an address.
fn ipxe_address(boot: &Boot<'_>) -> Option<String> {
    let asked = boot.steps.iter().find(|evidence| is_ipxe(&evidence.step, false))?.first;
    let taken = boot.steps.iter().find(|evidence| evidence.first >= asked && is_ipxe(&evidence.step, true))?.first;
    let time = notable(taken.saturating_sub(asked))?;
    let had_address = boot.has(|step| matches!(step, Step::Request { client: DhcpClient::Firmware(..), .. }));
    let cause = if had_address {
        "make its switch port an edge port (portfast), or set LACP fallback"
    } else {
        "look at the DHCP server, and at spanning tree on its switch port"
    };
    Some(format!("iPXE waited {time} for an address: {cause}"))
}

/// Returns whether a step is a DISCOVER of iPXE, or its REQUEST.
fn is_ipxe(step: &Step, is_request: bool) -> bool {
    match step {
        Step::Discover { client: DhcpClient::Ipxe, .. } => !is_request,
        Step::Request { client: DhcpClient::Ipxe, .. } => is_request,
        _ => false,
    }
}

/// iPXE that has its address and waits for a router of IPv6.
fn router_wait(boot: &Boot<'_>) -> Option<String> {
    let taken = boot.steps.iter().find(|evidence| is_ipxe(&evidence.step, true))?.last;
    let script = boot.steps.iter().find(|evidence| matches!(evidence.step, Step::Script { .. }))?.first;
    let wait = script.saturating_sub(taken);
    (wait >= ROUTER_WAIT).then(|| {
        format!(
            "iPXE asked for its script {} after it had its address: most often it waits for an IPv6 router \
             (dhcp.shorten_router_wait = true)",
            seconds(wait)
        )
    })
}

/// A script that was asked for again and again because it failed.
fn script_again(boot: &Boot<'_>) -> Option<String> {
    let is_attempt = |step: &Step| matches!(step, Step::Script { action: ScriptStep::Attach | ScriptStep::Load });
    let attempts = || boot.steps.iter().filter(|evidence| is_attempt(&evidence.step));
    let again = attempts().map(|evidence| evidence.count as usize).sum::<usize>().checked_sub(1)?;
    let (first, last) = (attempts().next()?.first, attempts().map(|evidence| evidence.last).max()?);
    // A loader may ask under several names at once.
    (again > 0 && last.saturating_sub(first) >= NOTABLE).then(|| {
        format!("the script was asked for again {}: its image could not be booted at once", plural(again, "time"))
    })
}
