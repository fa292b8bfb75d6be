//! Rules about the image: the login, its reads, and what was found on it.

use std::time::Duration;

use crate::boot::Reason;
use crate::fleet::{BootRisk, BootStage, Certainty, Phase, StallReason};

use super::Finding;
use super::evidence::{DhcpClient, DownloadKind, ElsewhereRequest, Evidence, ScriptStep, Step};
use super::ipxe_error::IpxeError;
use super::scene::{Boot, Progress, Scene};
use super::text::{seconds, size};

const IMAGE: BootStage = BootStage::Image;

/// Octets that a loader reads to find out that there is nothing to boot: descriptors and boot catalogues.
const CATALOGUE_OCTETS: u64 = 128 << 10;
/// Octets beyond which a kernel was loaded.
pub const KERNEL_OCTETS: u64 = 1_000_000;
/// Time after which a kernel that runs has asked for something.
pub const KERNEL_TIMEOUT: Duration = Duration::from_secs(60);
/// Time in which a machine that has its script attaches its image.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(45);
/// Pause between two scripts that shows a failure: our script sleeps for 10 s after one.
const MIN_PAUSE: Duration = Duration::from_secs(8);
/// Pause of our script after a failure. A refused connection fails at once; one that is dropped takes 25 s and more.
const REFUSED_PAUSE: Duration = Duration::from_secs(16);

/// Returns what was read of the image in a boot: octets, time of the last read, and whether the session is over.
fn reads(boot: &Boot<'_>) -> Option<(u64, Duration, bool)> {
    let mut all = boot.steps.iter().filter_map(|evidence| match evidence.step {
        Step::Read { octets, is_over } => Some((octets, evidence.last, is_over)),
        _ => None,
    });
    let first = all.next()?;
    Some(all.fold(first, |(octets, ..), (more, last, is_over)| (octets + more, last, is_over)))
}

fn image_name(scene: &Scene<'_>) -> String {
    let image = scene.host.and_then(|host| host.spec.image.image());
    image.map_or_else(|| "its image".to_owned(), ToString::to_string)
}

/// Returns the kind of the machine's firmware.
fn firmware_kind(scene: &Scene<'_>) -> &'static str {
    match scene.host.and_then(|host| host.status.firmware) {
        Some(architecture) if architecture.is_uefi() => "UEFI",
        Some(_) => "BIOS",
        None => "its firmware",
    }
}

/// Returns what to do about an image without a loader for the machine's firmware: the warning about it, if there is one.
fn loader_remedy(scene: &Scene<'_>) -> String {
    let warning = scene.risk(BootRisk::NoLoader).map(|warning| warning.trim_start_matches("spec.image: "));
    warning.unwrap_or("use an image with a loader for this firmware, or change the boot mode of the machine").to_owned()
}

fn us(scene: &Scene<'_>) -> String {
    scene.segment.address.map_or_else(|| "this server".to_owned(), |address| address.to_string())
}

/// A read of the image failed.
pub fn medium_unreadable(scene: &Scene<'_>) -> Option<Finding> {
    let evidence = scene.boot().fault(Progress::System, |step| matches!(step, Step::ReadFailed { .. }))?;
    let Step::ReadFailed { message } = &evidence.step else { return None };
    Finding::new(
        (IMAGE, StallReason::MediumUnreadable),
        Certainty::Certain,
        format!("Its image {} cannot be read: {message}", image_name(scene)),
        "check the file of the image and the disk that it is on",
    )
}

/// The client asks for ranges that mean nothing.
pub fn bad_range(scene: &Scene<'_>) -> Option<Finding> {
    let evidence = scene.boot().fault(Progress::System, |step| matches!(step, Step::BadRange { .. }))?;
    let Step::BadRange { range } = &evidence.step else { return None };
    Finding::new(
        (IMAGE, StallReason::BadRange),
        Certainty::Certain,
        format!("Its iPXE asks for '{range}', a known fault of that build: it will not boot this image over HTTP"),
        "let it load our iPXE, or set method = sanboot of the image",
    )
}

/// A login was refused.
pub fn login_refused(scene: &Scene<'_>) -> Option<Finding> {
    let evidence = refused_login(scene)?;
    let Step::LoginRefused { target, reason, from, is_tied } = &evidence.step else { return None };
    let assigned = scene.host.and_then(|host| host.spec.image.image());
    let assigned = assigned.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let (message, remedy) = match reason {
        None | Some(Reason::OtherImageAssigned) => (
            format!(
                "It asked for the target {target}, and is to boot {assigned}: an old script, or the root path of the DHCP \
                 server, names it"
            ),
            "boot it again with the script of this server; remove option 17 (root-path) from the DHCP server"
                .to_owned(),
        ),
        Some(Reason::ChapFailed | Reason::ChapThrottled) => (
            format!("Its login to {target} was refused: the CHAP name or secret is missing or wrong"),
            "make spec.chap of the host and the secret of the initiator equal".to_owned(),
        ),
        Some(Reason::ImageUnavailable) => (
            format!("Its login to {target} was refused: the image cannot be served now"),
            "see the status of the image (bootlatch iso show)".to_owned(),
        ),
        Some(Reason::ConfigNotRendered) => (
            format!("Its login to {target} was refused: its config cannot be rendered"),
            "see the condition ConfigRendered of the host; correct the template, or the values of the host".to_owned(),
        ),
        Some(reason) => (
            format!("Its login to {target} from {from} was refused: {}", reason.sentence()),
            "request an install, if it is to boot this image".to_owned(),
        ),
    };
    let found = Finding::new((IMAGE, StallReason::LoginRefused), Certainty::Certain, message, remedy)?;
    Some(found.refused_at(is_tied.then_some(evidence.last)))
}

/// Returns the last refused login of the machine. Anybody can name it: for a host that an operator holds or released, only
/// an address that is tied to it counts.
fn refused_login<'a>(scene: &Scene<'a>) -> Option<&'a Evidence> {
    let boot = scene.boot();
    let is_own = |step: &Step| matches!(step, Step::LoginRefused { is_tied: true, .. });
    let is_decided = scene.is_in(Phase::Held) || scene.is_in(Phase::LocalBoot);
    let any = || boot.latest_fault(Progress::Image, |step| matches!(step, Step::LoginRefused { .. }));
    boot.latest_fault(Progress::Image, is_own).or_else(|| any().filter(|_| !is_decided))
}

/// The script of the machine reported that a command failed.
pub fn script_failed(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let evidence = boot.fault(Progress::System, |step| matches!(step, Step::ScriptFailed { .. }))?;
    let Step::ScriptFailed { command, errno } = &evidence.step else { return None };
    // A script that is served again tries again; the machine has gone on if a session begins.
    let has_login = boot.steps.iter().any(|step| step.first > evidence.last && matches!(step.step, Step::Login { .. }));
    if has_login {
        return None;
    }
    let IpxeError { meaning, remedy } = IpxeError::of(*errno);
    // It read the catalogue of its image, and nothing on it can be started.
    let is_unbootable = matches!(errno >> 24 & 0x7f, 0x2c | 0x2e)
        && reads(&boot).is_some_and(|(octets, ..)| octets <= CATALOGUE_OCTETS);
    if is_unbootable {
        let octets = reads(&boot).map_or(0, |(octets, ..)| octets);
        return Finding::new(
            (IMAGE, StallReason::NothingToBoot),
            Certainty::Certain,
            format!(
                "It attached {}, read {} of it, and found nothing to boot for {}: its script reports that {command} failed \
                 ({errno:#010x})",
                image_name(scene),
                size(octets),
                firmware_kind(scene)
            ),
            loader_remedy(scene),
        );
    }
    if IpxeError::is_out_of_memory(*errno) {
        let loaded = boot.downloads(DownloadKind::Image).next_back();
        let what = loaded.map_or_else(|| image_name(scene), |(_, download)| download.file.to_string());
        let whole = loaded.map_or_else(String::new, |(_, download)| format!(" ({})", size(download.size)));
        return Finding::new(
            (IMAGE, StallReason::MemoryTooSmall),
            Certainty::Certain,
            format!(
                "It has not enough memory for {what}{whole}: its script reports that {command} failed ({errno:#010x})"
            ),
            remedy,
        );
    }
    Finding::new(
        (IMAGE, StallReason::ScriptFailed),
        Certainty::Certain,
        format!("Its script reports that {command} failed ({errno:#010x}): {meaning}"),
        remedy,
    )
}

/// The machine attached the image, read its catalogue, and asked for its script again.
pub fn nothing_to_boot(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    if scene.reached() != Progress::Image {
        return None;
    }
    let (octets, last, is_over) = reads(&boot)?;
    let logins = boot.steps.iter().filter(|evidence| matches!(evidence.step, Step::Login { .. })).count();
    let again = boot.steps.iter().any(|evidence| evidence.last > last && matches!(evidence.step, Step::Script { .. }));
    let is_small = octets <= CATALOGUE_OCTETS * (logins.max(1) as u64);
    if !is_small || !is_over || !(again || logins >= 2) {
        return None;
    }
    let kind = firmware_kind(scene);
    let image =
        scene.host.and_then(|host| host.spec.image.image()).map_or_else(|| "its image".to_owned(), ToString::to_string);
    let certainty = if scene.risk(BootRisk::NoLoader).is_some() { Certainty::Certain } else { Certainty::Likely };
    Finding::new(
        (IMAGE, StallReason::NothingToBoot),
        certainty,
        format!("It attached {image}, read {} of it and left: it found nothing to boot for {kind}", size(octets)),
        loader_remedy(scene),
    )
}

/// A system runs and does not come back for its image.
pub fn medium_not_found(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let system = boot.find(|step| {
        matches!(
            step,
            Step::Discover { client: DhcpClient::System, .. } | Step::Request { client: DhcpClient::System, .. }
        )
    })?;
    let came_back = boot.steps.iter().any(|evidence| {
        evidence.last > system.first
            && matches!(
                evidence.step,
                Step::Login { .. }
                    | Step::Read { .. }
                    | Step::ConfigServed { .. }
                    | Step::InstallerActive
                    | Step::Completed
            )
    });
    let has_image = boot.has(|step| matches!(step, Step::Login { .. } | Step::Read { .. }));
    if came_back || !has_image || !scene.is_installing() || boot.has(|step| matches!(step, Step::ConfigServed { .. })) {
        return None;
    }
    if !scene.has_passed(system.last, KERNEL_TIMEOUT) {
        return None;
    }
    Finding::new(
        (BootStage::Install, StallReason::MediumNotFound),
        Certainty::Possible,
        "Its kernel runs (it asked for an address) and neither reads its image again nor asks for its config: the \
         installer does not find the image that it was started from, or runs from memory"
            .to_owned(),
        "use method = sanhook or kernel of the image, or an image whose installer reads the iBFT",
    )
}

/// The kernel was loaded, and nothing was heard since.
pub fn kernel_silent(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    if scene.reached() != Progress::Image || !scene.is_installing() {
        return None;
    }
    let (octets, last, _) = reads(&boot)?;
    // A second login is that of the kernel. What is read over HTTP is not followed to its end.
    let logins = boot.steps.iter().filter(|evidence| matches!(evidence.step, Step::Login { .. })).count();
    if logins != 1 || octets < KERNEL_OCTETS || !scene.has_passed(last.max(boot.last()), KERNEL_TIMEOUT) {
        return None;
    }
    Finding::new(
        (BootStage::Install, StallReason::KernelSilent),
        Certainty::Possible,
        format!(
            "It read {} of its image, and nothing was heard for {}: a menu waits for a key, its kernel has no driver for its \
             network interface, or it stopped",
            size(octets),
            seconds(scene.now.saturating_sub(last))
        ),
        "look at its screen; use a newer image, or add the driver",
    )
}

/// The image cannot be served.
pub fn image_unavailable(scene: &Scene<'_>) -> Option<Finding> {
    let refusal = scene.refusal(Progress::Image, &[Reason::ImageUnavailable, Reason::ConfigNotRendered])?;
    let image =
        scene.host.and_then(|host| host.spec.image.image()).map_or_else(|| "its image".to_owned(), ToString::to_string);
    let (what, remedy) = match refusal.reason {
        Reason::ConfigNotRendered => (
            format!("its config on {image}, which cannot be rendered"),
            "correct the template, or the values of the host",
        ),
        _ => (format!("{image}, which cannot be served now"), "bring the file of the image back"),
    };
    Finding::new(
        (IMAGE, StallReason::ImageUnavailable),
        Certainty::Certain,
        format!("It waits for {what}: {}", refusal.message),
        format!("{remedy}; the machine asks again by itself"),
    )
}

/// The machine takes its script again and again, and never logs in.
pub fn login_not_attempted(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let (script, ScriptStep::Attach) = scene.script()? else { return None };
    if scene.reached() != Progress::Script {
        return None;
    }
    let us = us(scene);
    let elsewhere = boot.has(|step| matches!(step, Step::AskedFromElsewhere { what: ElsewhereRequest::Login, .. }));
    if elsewhere {
        return None;
    }
    let remedy = format!("let TCP 3260 to {us} through");
    let name = (IMAGE, StallReason::LoginNotAttempted);
    let pause = script.last.saturating_sub(script.first) / script.count.saturating_sub(1).max(1);
    // A loader may fetch its script twice at once.
    if script.count >= 2 && pause >= MIN_PAUSE {
        let how = if pause <= REFUSED_PAUSE {
            "is probably refused on the way (it fails at once; a silent drop would take 25 s)"
        } else {
            "is probably dropped on the way (it fails after a time limit; a refusal would fail at once), or it was restarted"
        };
        return Finding::new(
            name,
            Certainty::Likely,
            format!("It takes its script every {} and never logs in: TCP 3260 to {us} {how}", seconds(pause)),
            remedy,
        );
    }
    if !scene.has_passed(script.last, LOGIN_TIMEOUT) {
        return None;
    }
    Finding::new(
        name,
        Certainty::Possible,
        format!(
            "It took its script {} ago and did not log in: TCP 3260 to {us} may be closed on the way, or it was switched off",
            seconds(scene.now.saturating_sub(script.last))
        ),
        remedy,
    )
}
