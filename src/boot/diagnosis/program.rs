//! Rules about the boot program and iPXE: TFTP, HTTP Boot, Secure Boot, and the way to the boot script.

use std::time::Duration;

use crate::boot::Reason;
use crate::fleet::{Architecture, BootStage, Certainty, StallReason};

use super::Finding;
use super::evidence::{
    DhcpClient, Download, DownloadKind, DownloadOutcome, Evidence, FileTransfer, Step, TransferOutcome, Uptime,
};
use super::scene::{Boot, Progress, Refusal, Scene};
use super::text::{plural, seconds, size};

const PROGRAM: BootStage = BootStage::Program;
const SCRIPT: BootStage = BootStage::Script;

/// Time after the end of a program within which a new DISCOVER of the firmware means that the program was not run: no
/// program ends that fast by a person's hand.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after which a program that runs has asked for something: iPXE initializes devices and its link.
pub const PROGRAM_TIMEOUT: Duration = Duration::from_secs(20);
/// Time from the end of GRUB to its request for its config.
const GRUB_TIMEOUT: Duration = Duration::from_secs(8);
/// Time without an acknowledgement after which our replies do not arrive: EDK2 repeats its request each 4 s.
const REPLY_TIMEOUT: Duration = Duration::from_secs(8);
/// Time within which firmware that asked for a size asks for the file.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(6);
/// Time in which iPXE gives up DHCP (1, 2, 4 and 8 s, at most 10).
pub const IPXE_DHCP_TIMEOUT: Duration = Duration::from_secs(9);

/// A transfer of a boot program or another file.
struct Transfer<'a> {
    evidence: &'a Evidence,
    file: &'a str,
    outcome: &'a TransferOutcome,
    octets: u64,
    size: u64,
}

impl<'a> Transfer<'a> {
    fn of(evidence: &'a Evidence) -> Option<Self> {
        match &evidence.step {
            Step::Transfer(transfer) => {
                let FileTransfer { file, outcome, octets, size, .. } = &**transfer;
                Some(Self { evidence, file, outcome, octets: *octets, size: *size })
            }
            _ => None,
        }
    }
}

fn last_transfer<'a>(boot: &Boot<'a>) -> Option<Transfer<'a>> {
    boot.find_map(Transfer::of)
}

fn is_uefi(boot: &Boot<'_>) -> bool {
    boot.has(|step| {
        matches!(step, Step::Discover { client: DhcpClient::Firmware(_, architecture), .. } if architecture.is_uefi())
    })
}

/// Returns the program that a boot ended with, and when: nothing came after it.
fn loaded_program<'a>(boot: &Boot<'a>) -> Option<(&'a str, Uptime)> {
    if boot.reached != Progress::Program {
        return None;
    }
    let (file, end) = boot.find_map(|evidence| match &evidence.step {
        Step::Transfer(transfer) if transfer.outcome == TransferOutcome::Complete => {
            Some((&*transfer.file, evidence.last))
        }
        Step::Download(download) if download.outcome == DownloadOutcome::Complete => {
            Some((&*download.file, evidence.last))
        }
        _ => None,
    })?;
    // A program that loads another one runs.
    let goes_on = |(evidence, download): (&Evidence, &Download)| {
        evidence.first >= end && download.outcome != DownloadOutcome::Complete
    };
    (!boot.downloads(DownloadKind::Program).any(goes_on)).then_some((file, end))
}

/// The firmware loads its program and begins again at once.
pub fn program_refused(scene: &Scene<'_>) -> Option<Finding> {
    if scene.reached() > Progress::Program {
        return None;
    }
    let refusals = scene.boots.windows(2).rev().map_while(|pair| {
        let [boot, next] = pair else { return None };
        let (file, end) = loaded_program(boot)?;
        let is_at_once = next.begin().saturating_sub(end) < REFUSAL_TIMEOUT;
        (is_at_once && next.reached >= Progress::Discover)
            .then(|| (file, next.begin().saturating_sub(end), is_uefi(boot)))
    });
    let refusals: Vec<_> = refusals.collect();
    let (file, pause, is_uefi) = refusals.first().copied()?;
    let times = match refusals.len() {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    };
    let pause = seconds(pause.max(Duration::from_secs(1)));
    let (cause, remedy) = if is_uefi {
        ("most often Secure Boot is on", "serve shimx64.efi (README, Secure Boot), or switch Secure Boot off")
    } else {
        (
            "the program is damaged, or for another kind of firmware",
            "stage the boot programs again, or set another program",
        )
    };
    Finding::new(
        (PROGRAM, StallReason::ProgramRefused),
        if refusals.len() > 1 { Certainty::Certain } else { Certainty::Likely },
        format!(
            "It loaded all of {file} {times} and asked again within {pause}: its firmware refuses to run it, {cause}"
        ),
        remedy,
    )
}

/// Shim loaded GRUB and does not run it.
pub fn grub_refused(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let (file, end) = loaded_program(&boot)?;
    let is_grub = file.starts_with("grub") && file.ends_with(".efi");
    let has_shim = boot.has(|step| matches!(step, Step::Transfer(transfer) if transfer.file.starts_with("shim")));
    if !is_grub || !has_shim || !scene.has_passed(end, GRUB_TIMEOUT) {
        return None;
    }
    Finding::new(
        (PROGRAM, StallReason::GrubRefused),
        Certainty::Likely,
        format!("shim loaded {file} and did not run it: one of the two is older than the other's revocations (SBAT)"),
        "take both from one release: install bootlatch-firmware again, or run firmware/stage",
    )
}

/// The program was loaded, and nothing was heard since.
pub fn program_silent(scene: &Scene<'_>) -> Option<Finding> {
    let (file, end) = loaded_program(&scene.boot())?;
    if !scene.has_passed(end, PROGRAM_TIMEOUT) {
        return None;
    }
    let other = match file {
        file if file.contains("snponly") => "ipxe.efi",
        file if file.contains("undionly") => "ipxe.pxe",
        _ => "snponly.efi or undionly.kpxe",
    };
    Finding::new(
        (PROGRAM, StallReason::ProgramSilent),
        Certainty::Likely,
        format!(
            "It loaded all of {file} and has been silent for {}: most often the program hangs when it starts its network \
             interface",
            seconds(scene.now.saturating_sub(end))
        ),
        format!("give it {other} by an override, and update its firmware; look at its screen"),
    )
}

/// Firmware with HTTP Boot looked at the file and left it.
pub fn http_boot_left(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let is_loaded = boot.downloads(DownloadKind::Program).next().is_some();
    if scene.reached() != Progress::ProgramRequest || is_loaded {
        return None;
    }
    let (evidence, file, whole) = boot.find_map(|evidence| match &evidence.step {
        Step::HeadRequested { file, size } => Some((evidence, file, *size)),
        _ => None,
    })?;
    if !scene.has_passed(evidence.last, PROBE_TIMEOUT) {
        return None;
    }
    Finding::new(
        (PROGRAM, StallReason::HttpBootTooLarge),
        Certainty::Likely,
        format!(
            "It asked how large {file} is ({}) over HTTP and never for the file: HTTP Boot loads all of it into memory",
            size(whole)
        ),
        "boot it over PXE, or give the machine more memory",
    )
}

/// The boot program is not in the firmware directory.
pub fn program_missing(scene: &Scene<'_>) -> Option<Finding> {
    let Refusal { protocol, message, .. } = scene.refusal(Progress::Program, &[Reason::FileNotFound])?;
    (scene.reached() < Progress::Program).then_some(())?;
    Finding::new(
        (PROGRAM, StallReason::ProgramMissing),
        Certainty::Certain,
        format!("It asked over {} for a file that does not exist: {message}", protocol.name()),
        "install bootlatch-firmware, or run firmware/stage, or set another program in [programs]",
    )
}

/// The boot program runs, and a part of it is not in the firmware directory.
pub fn second_stage_missing(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let Refusal { evidence, protocol, message, .. } = scene.refusal(Progress::Script, &[Reason::FileNotFound])?;
    let (file, loaded) = loaded_program(&boot)?;
    // PXELINUX looks for its second stage in several places.
    if evidence.first < loaded || !scene.has_passed(evidence.last, Duration::from_secs(2)) {
        return None;
    }
    Finding::new(
        (PROGRAM, StallReason::ProgramMissing),
        Certainty::Certain,
        format!("{file} runs, and asked over {} for a file that does not exist: {message}", protocol.name()),
        "put the file next to the program in firmware_dir: both are of the same release",
    )
}

/// Returns the architecture that a boot program is for by its name; `None` if the name does not tell.
fn architecture_of(file: &str) -> Option<fn(Architecture) -> bool> {
    let name = file.rsplit('/').next().unwrap_or(file).to_ascii_lowercase();
    let is_arm = name.contains("arm64") || name.contains("aa64");
    match () {
        () if name.ends_with(".kpxe") || name.ends_with(".kkpxe") || name.ends_with(".pxe") || name.ends_with(".0") => {
            Some(|architecture| !architecture.is_uefi())
        }
        () if name.ends_with(".efi") && is_arm => Some(|architecture| matches!(architecture.0, 11 | 19 | 22)),
        () if name == "snponly.efi" || name == "ipxe.efi" || name.contains("x64") => {
            Some(|architecture| matches!(architecture.0, 7 | 9 | 16))
        }
        () => None,
    }
}

/// The machine asks for the program of another architecture: its DHCP server names one file for all.
pub fn wrong_program(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    if !matches!(scene.reached(), Progress::ProgramRequest | Progress::Program) {
        return None;
    }
    let architecture = boot.find_map(|evidence| match evidence.step {
        Step::Discover { client: DhcpClient::Firmware(_, architecture), .. } => Some(architecture),
        _ => None,
    })?;
    let file = boot.find_map(|evidence| match &evidence.step {
        Step::FileRequested { file, .. } => Some(&**file),
        Step::Transfer(transfer) => Some(&*transfer.file),
        _ => None,
    })?;
    let offered = boot.find_map(|evidence| match &evidence.step {
        Step::Offered { file, .. } => Some(&**file),
        _ => None,
    });
    // A program that this server names is the operator's choice.
    if architecture_of(file)?(architecture) || offered.is_some_and(|offered| offered.ends_with(file)) {
        return None;
    }
    Finding::new(
        (PROGRAM, StallReason::WrongProgram),
        Certainty::Certain,
        format!(
            "Its firmware is {architecture} (architecture {}), and it asks for {file}, a program for another one",
            architecture.0
        ),
        "remove the boot file from the DHCP server, which names one for all machines",
    )
}

/// Somebody rejects our TFTP packets.
pub fn tftp_port_unreachable(scene: &Scene<'_>) -> Option<Finding> {
    if scene.reached() != Progress::ProgramRequest {
        return None;
    }
    let is_tftp = |port: u16| port == 69 || port >= 1024 && port != 4011;
    let unreachable = |step: &Step| matches!(step, Step::Unreachable { from_port, .. } if is_tftp(*from_port));
    let boot = scene.boot();
    let is = |wanted: TransferOutcome| move |step: &Step| step.transfer_with(&wanted).is_some();
    // An answer to a request for a size that was given up is rejected as well; the transfer after it goes on.
    if boot.has(is(TransferOutcome::UnderWay)) && !boot.has(is(TransferOutcome::Silent)) {
        return None;
    }
    let evidence = boot.fault(Progress::Program, unreachable)?;
    if !scene.has_passed(evidence.last, Duration::from_secs(2)) {
        return None;
    }
    let Step::Unreachable { by, code, .. } = &evidence.step else { return None };
    let (words, cause, remedy) = match code {
        9 | 10 | 13 => ("administratively prohibited", "a firewall rejects them", "let UDP from this server through"),
        _ => (
            "port unreachable",
            "its firmware gave the transfer up, or a firewall answers for it",
            "look for a firewall between; let UDP from this server through",
        ),
    };
    Finding::new(
        (PROGRAM, StallReason::TftpPortUnreachable),
        Certainty::Certain,
        format!("{by} answers '{words}' to our TFTP packets: {cause}"),
        remedy,
    )
}

/// The machine asks for a file again and again, and hears nothing of us.
pub fn tftp_replies_lost(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    if scene.reached() != Progress::ProgramRequest {
        return None;
    }
    let (evidence, file) = boot.find_map(|evidence| match &evidence.step {
        Step::FileRequested { file, .. } => Some((evidence, file)),
        _ => None,
    })?;
    let has_answered = boot.steps.iter().any(|step| {
        step.last >= evidence.first
            && matches!(&step.step, Step::Transfer(one) if one.outcome != TransferOutcome::Silent || one.octets > 0)
    });
    if has_answered || evidence.count < 2 || !scene.has_passed(evidence.first, REPLY_TIMEOUT) {
        return None;
    }
    let us = scene.segment.address.map_or_else(|| "this server".to_owned(), |address| address.to_string());
    Finding::new(
        (PROGRAM, StallReason::TftpRepliesLost),
        Certainty::Certain,
        format!(
            "It asks for {file} again and again ({} in {}, from one port) and hears nothing of us: most often a firewall or \
             NAT that does not know TFTP",
            plural(evidence.count as usize, "time"),
            seconds(scene.now.saturating_sub(evidence.first)),
        ),
        format!("set tftp.single_port = true, or let UDP from {us} (any port) through to it"),
    )
}

/// A transfer that was broken off, or fell silent.
pub fn transfer_ended(scene: &Scene<'_>) -> Option<Finding> {
    if scene.reached() != Progress::ProgramRequest {
        return None;
    }
    let Transfer { evidence, file, outcome, octets, size: whole } = last_transfer(&scene.boot())?;
    let of = format!("{} of {}", size(octets), size(whole));
    match outcome {
        TransferOutcome::Aborted { text, .. } => {
            let again = scene.boot().has(|step| matches!(step, Step::FileRequested { .. }))
                && scene.last_progress() > evidence.last;
            if again || !scene.has_passed(evidence.last, Duration::from_secs(3)) {
                return None;
            }
            Finding::new(
                (PROGRAM, StallReason::TransferAborted),
                Certainty::Certain,
                format!("It broke off the transfer of {file} after {of}, and said: '{text}'"),
                "its own words say why; most often its memory or its disk is full, or somebody pressed a key",
            )
        }
        TransferOutcome::Silent if octets > 0 => Finding::new(
            (PROGRAM, StallReason::TransferSilent),
            Certainty::Certain,
            format!(
                "It fell silent after {of} of {file}: it was switched off, its cable was pulled, or its network driver hangs"
            ),
            "look at its power, its cable and its screen; it begins again at its next boot",
        ),
        TransferOutcome::Slow => Finding::new(
            (PROGRAM, StallReason::TransferSlow),
            Certainty::Certain,
            format!(
                "It has {of} of {file} after 20 s: it asks for blocks of 512 octets, one a round trip, and is far away or on a \
                 slow network"
            ),
            "wait; boot it over HTTP Boot, or load iPXE from nearby",
        ),
        TransferOutcome::Silent
        | TransferOutcome::UnderWay
        | TransferOutcome::Complete
        | TransferOutcome::Probed
        | TransferOutcome::Failed => None,
    }
}

/// The machine asked for the size of its program, and never for the program.
pub fn program_not_fetched(scene: &Scene<'_>) -> Option<Finding> {
    if scene.reached() != Progress::ProgramRequest {
        return None;
    }
    let boot = scene.boot();
    let Transfer { evidence, file, outcome: TransferOutcome::Probed, size: whole, .. } = last_transfer(&boot)? else {
        return None;
    };
    // Different sockets see the end of a probe and the next request, in any order.
    let count = |test: fn(&Step) -> bool| boot.steps.iter().filter(|evidence| test(&evidence.step)).count();
    let requests = count(|step| matches!(step, Step::FileRequested { .. }));
    let probes = count(|step| step.transfer_with(&TransferOutcome::Probed).is_some());
    let asked_since = requests > probes;
    if asked_since || !scene.has_passed(evidence.last, PROBE_TIMEOUT) {
        return None;
    }
    Finding::new(
        (PROGRAM, StallReason::ProgramNotFetched),
        Certainty::Possible,
        format!(
            "It asked how large {file} is ({}) and never for the file: most often the firmware has no room for it, or the \
             boot was cut short at the keyboard",
            size(whole)
        ),
        if is_uefi(&boot) {
            "look at its screen"
        } else {
            "serve it a smaller program (undionly.kpxe), and look at its screen"
        },
    )
}

/// iPXE runs and gets no address.
pub fn ipxe_no_address(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    if scene.reached() != Progress::IpxeDiscover {
        return None;
    }
    let discover = boot.find(|step| matches!(step, Step::Discover { client: DhcpClient::Ipxe, .. }))?;
    if !scene.has_passed(discover.first, IPXE_DHCP_TIMEOUT) {
        return None;
    }
    let had_address = boot.has(|step| matches!(step, Step::Request { client: DhcpClient::Firmware(..), .. }));
    let asked = seconds(scene.now.saturating_sub(discover.first));
    let (message, remedy) = if had_address {
        (
            format!(
                "iPXE runs and gets no address (it has asked for {asked}; 10 s is all it waits), though its firmware got one: \
                 most often the switch port waits for spanning tree or LACP after the link came up again"
            ),
            "make its switch port an edge port (portfast), or set LACP fallback",
        )
    } else {
        (
            format!(
                "iPXE runs and gets no address (it has asked for {asked}): no DHCP server offers it one, or the offers do not arrive"
            ),
            "look at the DHCP server of this network, and at spanning tree on its switch port",
        )
    };
    Finding::new((SCRIPT, StallReason::IpxeNoAddress), Certainty::Likely, message, remedy)
}

/// iPXE asks over another interface than the one that the firmware booted from.
pub fn ipxe_other_interface(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    if !matches!(scene.reached(), Progress::Program | Progress::IpxeDiscover) {
        return None;
    }
    let is_ipxe = |step: &Step| matches!(step, Step::OtherInterface { client: DhcpClient::Ipxe, .. });
    let evidence = boot.fault(Progress::IpxeAddress, is_ipxe)?;
    let Step::OtherInterface { mac, .. } = evidence.step else { return None };
    if !scene.has_passed(evidence.last, Duration::from_secs(4)) {
        return None;
    }
    Finding::new(
        (SCRIPT, StallReason::IpxeOtherInterface),
        Certainty::Likely,
        format!("iPXE asks over another interface ({mac}) than the one that its firmware booted from"),
        "serve it snponly.efi (or undionly.kpxe), which uses the interface of the firmware; or connect its first interface",
    )
}
