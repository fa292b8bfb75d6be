//! Rules about installs and what comes after: the installer, its report, the local disk; and power.

use std::time::Duration;

use crate::boot::{BootProtocol, Reason};
use crate::fleet::{
    BootRisk, BootStage, Certainty, HostStatus, Phase, Power, PowerTransition, StallReason, TransitionState,
};

use super::Finding;
use super::evidence::{DhcpClient, ElsewhereRequest, Evidence, ScriptStep, Step};
use super::image::KERNEL_TIMEOUT;
use super::scene::{Boot, Progress, Scene};
use super::text::{seconds, size};

const INSTALL: BootStage = BootStage::Install;

/// Time within which a machine that is sent to its disk again and again is in a loop.
const DISK_LOOP: Duration = Duration::from_secs(300);
/// Time without a step after which the system on the disk runs.
const AWAY: Duration = Duration::from_secs(60);
/// Time after a boot from the disk within which no system can have started and restarted the machine.
const RETURN_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of boots from the disk in `DISK_LOOP` that are a loop.
const DISK_BOOTS: usize = 3;
/// Time without a sign of an installer after which somebody should look at its screen.
const INSTALLER_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Time after which a BMC that accepted to switch a machine on has done it.
const POWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time after which a BMC that refuses for now keeps a machine from its boot.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of config requests of an installed system, and their time, after which it waits for us.
const WAITING_REQUESTS: u32 = 5;
const WAITING_TIME: Duration = Duration::from_secs(25);

fn octets_read(boot: &Boot<'_>) -> u64 {
    let read = boot.steps.iter().filter_map(|evidence| match evidence.step {
        Step::Read { octets, .. } => Some(octets),
        _ => None,
    });
    read.sum()
}

/// Returns the protocol by which the firmware boots.
fn protocol(boot: &Boot<'_>) -> Option<BootProtocol> {
    boot.find_map(|evidence| match evidence.step {
        Step::Discover { client: DhcpClient::Firmware(protocol, _), .. } => Some(protocol),
        _ => None,
    })
}

fn has_script(boot: &Boot<'_>, wanted: &[ScriptStep]) -> bool {
    boot.has(|step| matches!(step, Step::Script { action } if wanted.contains(action)))
}

/// The machine is sent to its disk and comes back at once, again and again.
pub fn disk_not_bootable(scene: &Scene<'_>) -> Option<Finding> {
    let disk_boots: Vec<_> = scene
        .boots
        .iter()
        .rev()
        .skip_while(|boot| boot.reached < Progress::Script)
        .take_while(|boot| has_script(boot, &[ScriptStep::LocalDisk]))
        .filter(|boot| scene.now.saturating_sub(boot.last()) < DISK_LOOP)
        .collect();
    let (newest, oldest) = (disk_boots.first()?, disk_boots.last()?);
    if disk_boots.len() < DISK_BOOTS {
        return returned_at_once(scene);
    }
    let time = newest.last().saturating_sub(oldest.last());
    let pause = time / u32::try_from(disk_boots.len() - 1).unwrap_or(1);
    // Once it stays away for longer than it did before, the system on its disk runs.
    if scene.reached() >= Progress::Script
        && scene.now.saturating_sub(newest.last()) > pause.max(Duration::from_secs(60))
    {
        return None;
    }
    let (cause, certainty) = if pause < Duration::from_secs(45) {
        ("its disk does not boot (no boot loader, another drive, or a lost boot entry)", Certainty::Certain)
    } else {
        ("the system on its disk ends early, or restarts on purpose", Certainty::Possible)
    };
    Finding::new(
        (BootStage::Disk, StallReason::DiskNotBootable),
        certainty,
        format!("It was sent to its disk {} times in {} and came back: {cause}", disk_boots.len(), seconds(time)),
        "look at its boot order and its disk; set spec.localDisk of the host, or install it again",
    )
}

/// Returns the finding that the machine was sent to its disk and its firmware asked again within seconds.
fn returned_at_once(scene: &Scene<'_>) -> Option<Finding> {
    let (boot, before) = (scene.boot(), scene.boot_before()?);
    let pause = boot.begin().saturating_sub(before.last());
    let is_back = has_script(&before, &[ScriptStep::LocalDisk]) && pause < RETURN_TIMEOUT;
    // UEFI tries HTTP Boot after PXE, and the disk after both.
    let is_same_way = protocol(&boot).is_some() && protocol(&boot) == protocol(&before);
    if !is_back || !is_same_way || scene.reached() > Progress::Address {
        return None;
    }
    if scene.now.saturating_sub(boot.last()) > AWAY {
        return None;
    }
    Finding::new(
        (BootStage::Disk, StallReason::DiskNotBootable),
        Certainty::Likely,
        format!(
            "It was sent to its disk and its firmware asked again {} later: its disk does not boot",
            seconds(pause)
        ),
        "look at its boot order and its disk; set spec.localDisk of the host, or install it again",
    )
}

/// The machine was installed, rebooted, and never said that it is done.
pub fn completion_not_reported(scene: &Scene<'_>) -> Option<Finding> {
    const INSTALL_SCRIPTS: &[ScriptStep] = &[ScriptStep::Attach, ScriptStep::Load];
    let (boot, before) = (scene.boot(), scene.boot_before()?);
    let was_installing =
        before.has(|step| matches!(step, Step::ConfigServed { .. })) && before.reached == Progress::System;
    if !was_installing || !scene.is_installing() || !has_script(&boot, INSTALL_SCRIPTS) {
        return None;
    }
    // The installer is at work again, and may report this time; or it said why it stopped.
    if boot.reached >= Progress::System || before.has(|step| matches!(step, Step::InstallerFailed { .. })) {
        return None;
    }
    let read = octets_read(&before);
    let lasted = before.last().saturating_sub(before.begin());
    let config = scene.host.and_then(|host| host.spec.boot_config_ref.as_ref());
    let config = config.map_or_else(|| "its config".to_owned(), |name| format!("the config {name}"));
    if scene.risk(BootRisk::CompletionNotReported).is_some() {
        return Finding::new(
            (INSTALL, StallReason::CompletionNotReported),
            Certainty::Certain,
            format!(
                "It read {} of its image, took its config, and rebooted without a report: {config} has no call of \
                 boot-complete, and it is being installed again",
                size(read)
            ),
            "add the call of boot-complete to the config; if the machine is installed, set its image to localboot",
        );
    }
    let crash = if lasted < Duration::from_secs(60) && read < 4_000_000 {
        ". Its installer may also have stopped early"
    } else {
        ""
    };
    Finding::new(
        (INSTALL, StallReason::CompletionNotReported),
        Certainty::Likely,
        format!(
            "It read {} of its image, took its config, and rebooted without a report: most often {config} has no call of \
             boot-complete, and it is being installed again{crash}",
            size(read)
        ),
        "add the call of boot-complete to the config; if the machine is installed, set its image to localboot",
    )
}

/// The machine's report of completion was refused.
pub fn completion_refused(scene: &Scene<'_>) -> Option<Finding> {
    let evidence = scene.boot().fault(Progress::Done, |step| matches!(step, Step::CompletionRefused { .. }))?;
    let Step::CompletionRefused { reason } = evidence.step else { return None };
    if !scene.is_installing() && !scene.is_in(Phase::Failed) {
        return None;
    }
    let remedy = match reason {
        Reason::TokenInvalid => "raise config_access.token_ttl above the time that an install takes",
        _ => "see the host's address (spec.ip), or let the report carry the token",
    };
    Finding::new(
        (INSTALL, StallReason::CompletionRefused),
        Certainty::Certain,
        match (reason, scene.segment.token_ttl) {
            (Reason::TokenInvalid, ttl) if !ttl.is_zero() => format!(
                "It reported that its install is complete, {} after its script, and the report was refused: its token has \
                 expired or is another install's (tokens live {})",
                seconds(since_script(scene, evidence.last)),
                seconds(ttl)
            ),
            (reason, _) => {
                format!("It reported that its install is complete, and the report was refused: {}", reason.sentence())
            }
        },
        remedy,
    )
}

/// Returns the time from the last script of the machine to a moment.
fn since_script(scene: &Scene<'_>, at: Duration) -> Duration {
    scene.script().map_or(Duration::ZERO, |(script, _)| at.saturating_sub(script.last))
}

/// The install failed by its limits.
pub fn boots_used_up(scene: &Scene<'_>) -> Option<Finding> {
    let host = scene.host.filter(|host| host.status.phase == Phase::Failed)?;
    let boot = scene.boots.iter().rev().find(|boot| boot.reached >= Progress::Script);
    if let Some(silent) = boot.and_then(|boot| silent_installer(scene, boot)) {
        return Some(silent);
    }
    Finding::new(
        (INSTALL, StallReason::BootsUsedUp),
        Certainty::Certain,
        format!("Its install failed: {}", host.status.message),
        "see its timeline for the reason, then request another install",
    )
}

/// The installer itself reported an error.
pub fn installer_failed(scene: &Scene<'_>) -> Option<Finding> {
    let evidence = scene.boot().fault(Progress::Done, |step| matches!(step, Step::InstallerFailed { .. }))?;
    let Step::InstallerFailed { source, message } = &evidence.step else { return None };
    Finding::new(
        (INSTALL, StallReason::InstallerFailed),
        Certainty::Certain,
        format!("{source} reports: {message}"),
        "look at the log of the installer in the timeline, and at its screen",
    )
}

/// Somebody asks in the machine's name from another address.
pub fn asked_from_elsewhere(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let evidence = boot.find(|step| matches!(step, Step::AskedFromElsewhere { .. }))?;
    let Step::AskedFromElsewhere { what, from, neighbour, has_token } = &evidence.step else { return None };
    let is_settled = boot.steps.iter().any(|step| {
        step.last > evidence.last
            && Progress::of(&step.step).is_some_and(|reached| match what {
                ElsewhereRequest::Login => reached >= Progress::Image,
                ElsewhereRequest::Config => reached >= Progress::System,
            })
    });
    if is_settled || scene.is_in(Phase::Installed) {
        return None;
    }
    let mac = neighbour.map_or_else(String::new, |mac| format!(" ({mac})"));
    let name = scene.host.map_or_else(|| "this machine".to_owned(), |host| host.metadata.name.to_string());
    let at = scene.host.and_then(|host| host.status.address.or(host.spec.ip));
    let at = at.map_or_else(String::new, |address| format!("; {name} is {address}"));
    match what {
        ElsewhereRequest::Login => Finding::new(
            (BootStage::Image, StallReason::LoginFromOtherAddress),
            Certainty::Certain,
            format!(
                "{from}{mac} asks for the image in {name}'s name{at}: most often its second interface, or a stale lease"
            ),
            "boot that interface, disconnect it, or set config_access.require = \"token\"",
        ),
        ElsewhereRequest::Config => Finding::new(
            (INSTALL, StallReason::ConfigFromOtherAddress),
            if *has_token { Certainty::Likely } else { Certainty::Possible },
            format!(
                "The config of {name} was asked for from {from}{mac}{}{at}: most often its second interface",
                if *has_token { ", with its token" } else { "" }
            ),
            "let the installer use the interface that it booted from (BOOTIF), or set config_access.require = \"token\"",
        ),
    }
}

/// The installed system still asks for a config at each boot.
pub fn installed_system_waits(scene: &Scene<'_>) -> Option<Finding> {
    if !scene.is_in(Phase::Installed) {
        return None;
    }
    const REASONS: &[Reason] = &[
        Reason::InstallCompleted,
        Reason::ConfigWindowClosed,
        Reason::TokenInvalid,
        Reason::NoConfig,
        Reason::NotAssigned,
    ];
    let evidence = scene.refusal(Progress::Done, REASONS)?.evidence;
    if evidence.count < WAITING_REQUESTS || evidence.last.saturating_sub(evidence.first) < WAITING_TIME {
        return None;
    }
    if scene.now.saturating_sub(evidence.last) > WAITING_TIME {
        return None;
    }
    Finding::new(
        (INSTALL, StallReason::InstalledSystemWaits),
        Certainty::Certain,
        format!(
            "Its installed system has asked for its config for {} ({} times): its cloud-init still names this server",
            seconds(scene.now.saturating_sub(evidence.first)),
            evidence.count
        ),
        "let the installer write a datasource list without this server (datasource_list: [None])",
    )
}

/// Returns what was said of the last file that the installer asked for and that does not exist, unless it went on since.
fn missing_file<'a>(boot: &Boot<'a>) -> Option<(&'a Evidence, &'a str)> {
    let missing = |step: &Step| matches!(step, Step::Refused { reason: Reason::FileNotFound, .. });
    let evidence = boot.fault(Progress::System, missing)?;
    let Step::Refused { message, .. } = &evidence.step else { return None };
    Some((evidence, message))
}

/// The kernel or the installer asked for a file that does not exist, and for nothing since.
pub fn file_missing(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let (evidence, message) = missing_file(&boot)?;
    // Installers ask for files that they can do without; once they have their config, they work without a word.
    let is_early = matches!(scene.reached(), Progress::Script | Progress::Image | Progress::System)
        && !boot.has(|step| matches!(step, Step::ConfigServed { .. } | Step::InstallerActive));
    if !is_early || !scene.has_passed(evidence.last.max(boot.last()), KERNEL_TIMEOUT) {
        return None;
    }
    Finding::new(
        (INSTALL, StallReason::FileMissing),
        Certainty::Likely,
        format!(
            "It asked for a file that does not exist, and for nothing in {} since: {message}",
            seconds(scene.now.saturating_sub(evidence.last))
        ),
        "correct the name in the config or in the kernel arguments, or add the file",
    )
}

/// The installer took its config and is silent.
pub fn installer_silent(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    if !scene.is_installing() {
        return None;
    }
    silent_installer(scene, &boot)
}

/// Returns the finding that the installer of a boot is silent since a long time.
fn silent_installer(scene: &Scene<'_>, boot: &Boot<'_>) -> Option<Finding> {
    let config = boot.find_map(|evidence| match evidence.step {
        Step::ConfigServed { octets } => Some((evidence, octets)),
        _ => None,
    });
    let limit = Some(scene.segment.install_timeout).filter(|limit| !limit.is_zero());
    let patience = limit.map_or(INSTALLER_TIMEOUT, |limit| limit.min(INSTALLER_TIMEOUT));
    let (_, octets) = config.filter(|_| boot.reached == Progress::System)?;
    let last = boot.last();
    let has_failed = scene.is_in(Phase::Failed);
    if !has_failed && !scene.has_passed(last, patience) {
        return None;
    }
    let off = boot.off_at().map(|at| format!("; it was switched off {} ago", seconds(scene.now.saturating_sub(at))));
    let session = boot.find_map(|evidence| match evidence.step {
        Step::Read { is_over, .. } => Some(if is_over { "; its session is closed" } else { "; its session is open" }),
        Step::Login { .. } => Some("; its session is open"),
        _ => None,
    });
    let missing =
        missing_file(boot).map(|(_, message)| format!("; the last file that it asked for does not exist: {message}"));
    Finding::new(
        (INSTALL, StallReason::InstallerSilent),
        Certainty::Possible,
        format!(
            "Its installer is silent for {}: it took its config ({}) and read {} of its image{}{}",
            seconds(scene.now.saturating_sub(last)),
            size(octets),
            size(octets_read(boot)),
            off.as_deref().or(session).unwrap_or_default(),
            missing.unwrap_or_default()
        ),
        "look at its screen: a disk that was not found, a mirror that does not answer, or a question",
    )
}

/// Returns the address of the host's BMC for sentences, in parentheses.
pub fn bmc_address(scene: &Scene<'_>) -> String {
    let bmc = scene.host.and_then(|host| host.spec.bmc.as_ref());
    bmc.map_or_else(String::new, |bmc| format!(" ({})", bmc.address))
}

/// Returns whether a power change is in progress, or failed and was not made up for since.
fn awaits_power(status: &HostStatus) -> bool {
    let is_unmet = |change: &PowerTransition| {
        change.state == TransitionState::Failed && status.power.is_some_and(|power| power != change.target)
    };
    status.power_transition.is_some() || status.last_power_transition.as_deref().is_some_and(is_unmet)
}

/// Returns the finding that the BMC accepted to switch the machine on, and the machine is still off.
fn bmc_ignored(scene: &Scene<'_>, boot: &Boot<'_>) -> Option<Finding> {
    let switched = boot.find(|step| matches!(step, Step::PoweredOn))?;
    let status = &scene.host?.status;
    let is_off = status.power == Some(Power::Off) && awaits_power(status);
    if scene.reached() != Progress::Power || !is_off || !scene.has_passed(switched.last, POWER_TIMEOUT) {
        return None;
    }
    Finding::new(
        (BootStage::Power, StallReason::BmcFailed),
        Certainty::Certain,
        format!(
            "Its BMC{} accepted to switch it on {} ago, and still reports it as off",
            bmc_address(scene),
            seconds(scene.now.saturating_sub(switched.last))
        ),
        "look at the BMC: restart it, or switch the machine on by hand",
    )
}

/// Returns the time since which the BMC refuses for now. Other reasons may come between, and no boot or end.
fn busy_since(boot: &Boot<'_>, refused: &Evidence) -> Duration {
    let is_end = |step: &Step| {
        Progress::of(step).is_some() || matches!(step, Step::PoweredOff | Step::BmcFailed { is_final: true, .. })
    };
    let is_other = boot.steps.iter().any(|evidence| evidence.last > refused.first && is_end(&evidence.step));
    if is_other { refused.last } else { refused.first }
}

/// Returns the finding that the BMC has refused for now since a while, and keeps the machine from its boot.
fn bmc_busy(scene: &Scene<'_>, change: &PowerTransition, refused: &Evidence, message: &str) -> Option<Finding> {
    let since = busy_since(&scene.boot(), refused);
    let begins_boot = change.target == Power::On && !scene.is_in(Phase::Installed);
    if !begins_boot || !scene.has_passed(since, BUSY_TIMEOUT) {
        return None;
    }
    Finding::new(
        (BootStage::Power, StallReason::BmcBusy),
        Certainty::Certain,
        format!(
            "Its BMC{} has refused for {} what is asked of it, and is asked again: {message}",
            bmc_address(scene),
            seconds(scene.now.saturating_sub(since))
        ),
        "wait: a BMC refuses while the machine is in its self-test, and while it starts or is updated; if it stays so, \
         restart the BMC",
    )
}

/// The BMC does not do what is asked, or says that it did, and the machine stays off.
pub fn bmc_failed(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    if let Some(finding) = bmc_ignored(scene, &boot) {
        return Some(finding);
    }
    let evidence = boot.latest_fault(Progress::Power, |step| matches!(step, Step::BmcFailed { .. }))?;
    let found = bmc_refused(scene, evidence)?;
    Some(found.refused_at(Some(evidence.last)))
}

/// Returns the finding that the BMC refused, or gave no answer, and was not asked with success since.
fn bmc_refused(scene: &Scene<'_>, evidence: &Evidence) -> Option<Finding> {
    let Step::BmcFailed { message, is_final } = &evidence.step else { return None };
    let change = scene.host.and_then(|host| host.status.power_transition.as_deref());
    if !is_final && let Some(change) = change {
        if change.waits_for_bmc() {
            return bmc_busy(scene, change, evidence, message);
        }
        // What the BMC accepts ends the reason. A later step of the same change may have another.
        if change.reason.is_empty() && change.state == TransitionState::Accepted {
            return None;
        }
    }
    let is_pending = scene.host.is_some_and(|host| {
        awaits_power(&host.status) || (host.status.power_error.is_some() && host.status.phase != Phase::Installed)
    });
    is_pending.then_some(())?;
    Finding::new(
        (BootStage::Power, StallReason::BmcFailed),
        if *is_final { Certainty::Certain } else { Certainty::Likely },
        format!(
            "Its BMC{} does not do what is asked{}: {message}",
            bmc_address(scene),
            if *is_final { "" } else { ", and is asked again" }
        ),
        "see the address, the user and the password of spec.bmc, and the BMC itself",
    )
}
