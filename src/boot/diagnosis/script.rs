//! Rules about the boot script: the way to it, and what it lacks.

use std::time::Duration;

use crate::boot::{Protocol, Reason};
use crate::fleet::{BootStage, Certainty, StallReason};

use super::Finding;
use super::evidence::{DhcpClient, SCRIPTS, ScriptStep, Step, TransferOutcome};
use super::network::asked;
use super::program::PROGRAM_TIMEOUT;
use super::scene::{Progress, Refusal, Scene};

const SCRIPT: BootStage = BootStage::Script;

/// Time from iPXE's address to its request for the script.
pub const SCRIPT_TIMEOUT: Duration = Duration::from_secs(10);

/// What makes the address of a machine known.
const TIE: &str = "set spec.ip of the host to the address that it boots with, or list its network in \
                   config_access.trusted_subnets";

/// The machine asked for its script, and was refused.
pub fn script_refused(scene: &Scene<'_>) -> Option<Finding> {
    const REASONS: &[Reason] = &[
        Reason::AddressUnverified,
        Reason::AddressOfOtherMachine,
        Reason::NotSpecIp,
        Reason::SeenAtOtherAddress,
        Reason::StoreUnavailable,
        Reason::InternalError,
    ];
    let Refusal { evidence, protocol, reason, message } = scene.refusal(Progress::Script, REASONS)?;
    // Anybody can ask in the name of a machine that does not boot; evidence against the claim says that somebody did.
    let is_booting = scene.reached() >= Progress::ProgramRequest || reason == Reason::AddressUnverified;
    if protocol == Protocol::Dhcp || scene.reached() >= Progress::Script || !is_booting {
        return None;
    }
    let remedy = match reason {
        Reason::AddressUnverified => TIE,
        Reason::StoreUnavailable | Reason::InternalError => {
            "look at the log of this server, and at the disk of the state: bootlatch doctor"
        }
        _ => "see which machine has the address (neighbour table, leases, spec.ip), and correct spec.ip of the host",
    };
    let (certainty, who) = match scene.reached() >= Progress::ProgramRequest {
        true => (Certainty::Certain, "It"),
        false => (Certainty::Possible, "It, or somebody in its name,"),
    };
    Finding::new(
        (SCRIPT, StallReason::ScriptRefused),
        certainty,
        format!("{who} asked for its script over {} ({}) and was refused: {message}", protocol.name(), asked(evidence)),
        remedy,
    )
}

/// The script has no config, since nothing ties the machine to its address.
pub fn config_withheld(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let from = scene.withheld_config()?;
    let has_config = |step: &Step| matches!(step, Step::ConfigServed { .. } | Step::Completed);
    if boot.has(has_config) || scene.host.is_none_or(|host| host.spec.boot_config_ref.is_none()) {
        return None;
    }
    let from = from.map_or_else(String::new, |from| format!(" {from}"));
    Finding::new(
        (SCRIPT, StallReason::ConfigWithheld),
        Certainty::Certain,
        format!(
            "Its script has no config, so that its installer asks questions: nothing ties the address{from} that it was asked \
             from to the machine, as behind a router or a NAT"
        ),
        TIE,
    )
}

/// iPXE has its address and does not ask for its script.
pub fn script_not_requested(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    if scene.reached() != Progress::IpxeAddress {
        return None;
    }
    let request = boot.find(|step| matches!(step, Step::Request { client: DhcpClient::Ipxe, .. }))?;
    // A program that loads another one gets its address first. Behind a relay iPXE waits for a router, up to 16 s.
    let loads = boot.steps.iter().any(|evidence| {
        evidence.last > request.last && matches!(evidence.step, Step::FileRequested { .. } | Step::Transfer(_))
    });
    // It came, and was refused.
    let came = boot.steps.iter().any(|evidence| {
        evidence.last > request.last && matches!(evidence.step, Step::Refused { protocol: Protocol::Http, .. })
    });
    let is_relayed = boot.has(|step| matches!(step, Step::Discover { relay: Some(_), .. }));
    let patience = if is_relayed { 2 * SCRIPT_TIMEOUT } else { SCRIPT_TIMEOUT };
    if loads || came || !scene.has_passed(request.last, patience) {
        return None;
    }
    let url = boot.find_map(|evidence| match &evidence.step {
        Step::Offered { file, .. } => Some(&**file),
        _ => None,
    });
    // A machine that is offered no script, such as a held one, has only its address.
    if url.is_none() && boot.has(|step| matches!(step, Step::Refused { protocol: Protocol::Dhcp, .. })) {
        return None;
    }
    let url = url.map_or_else(String::new, |url| format!(" {url}"));
    let us = scene.segment.address.map_or_else(|| "this server".to_owned(), |address| address.to_string());
    let (cause, certainty) = if scene.segment.is_half_open {
        (format!("its connection arrives, and the answers of {us} are lost on the way back"), Certainty::Certain)
    } else {
        (format!("TCP 80 to {us} is closed on the way"), Certainty::Likely)
    };
    Finding::new(
        (SCRIPT, StallReason::ScriptNotRequested),
        certainty,
        format!("iPXE has its address and that of its script,{url}, and did not come: {cause}"),
        format!("let TCP 80 to {us} through; look at its netmask and gateway"),
    )
}

/// iPXE got its script over TFTP and did nothing with it.
pub fn script_unused(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let (_, action) = scene.script()?;
    if scene.reached() != Progress::Script || !matches!(action, ScriptStep::Attach | ScriptStep::Load) {
        return None;
    }
    let (evidence, file, outcome) = boot.find_map(|evidence| match &evidence.step {
        Step::Transfer(transfer) => Some((evidence, &*transfer.file, &transfer.outcome)),
        _ => None,
    })?;
    let is_last = evidence.last + Duration::from_secs(2) >= scene.last_progress();
    let is_script = SCRIPTS.contains(&file) && *outcome == TransferOutcome::Complete;
    if !is_script || !is_last || !scene.has_passed(evidence.last, PROGRAM_TIMEOUT) {
        return None;
    }
    Finding::new(
        (SCRIPT, StallReason::ScriptUnused),
        Certainty::Likely,
        format!(
            "It got its boot script over TFTP ({file}) and did nothing with it: its boot program hangs, or TCP 3260 and 80 are \
             dropped on the way"
        ),
        "look at its screen; give it another boot program by an override; let TCP 80 and 3260 through",
    )
}
