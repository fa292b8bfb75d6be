//! Rules about downloads over HTTP: boot programs, kernels and initrds.

use std::time::Duration;

use crate::fleet::{BootStage, Certainty, StallReason};

use super::Finding;
use super::evidence::{Download, DownloadKind, DownloadOutcome, Evidence, Step, Uptime};
use super::image::{KERNEL_OCTETS, KERNEL_TIMEOUT};
use super::scene::{Progress, Scene};
use super::text::{seconds, size};

/// Time without an acknowledgement after which a download stands. TCP repeats a lost segment several times in it.
const SILENT_TIMEOUT: Duration = Duration::from_secs(8);
/// Time in which a client that broke off a download asks for something else.
const ABORT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time in which an installer that broke off a download asks for something else.
const INSTALLER_ABORT_TIMEOUT: Duration = Duration::from_secs(60);
/// Clients that read the beginning of a file and close the connection, as they do when all is well.
const SEEKING_CLIENTS: [&str; 1] = ["GRUB"];

/// The download of the boot program stands, or was broken off.
pub fn program_download_ended(scene: &Scene<'_>) -> Option<Finding> {
    // A program may load another one.
    if !matches!(scene.reached(), Progress::ProgramRequest | Progress::Program) {
        return None;
    }
    let (evidence, download) = scene.boot().downloads(DownloadKind::Program).next_back()?;
    ended(scene, BootStage::Program, (evidence, download), ABORT_TIMEOUT)
}

/// The download of a kernel, an initrd or an image stands, or was broken off.
pub fn image_download_ended(scene: &Scene<'_>) -> Option<Finding> {
    let wait = match scene.reached() {
        Progress::Image => ABORT_TIMEOUT,
        Progress::System if scene.is_installing() => INSTALLER_ABORT_TIMEOUT,
        _ => return None,
    };
    let (evidence, download) = scene.boot().downloads(DownloadKind::Image).next_back()?;
    let seeks = SEEKING_CLIENTS.iter().any(|client| download.agent.starts_with(client));
    if seeks && download.outcome == DownloadOutcome::Aborted {
        return None;
    }
    ended(scene, BootStage::Image, (evidence, download), wait)
}

fn ended(
    scene: &Scene<'_>,
    stage: BootStage,
    (evidence, download): (&Evidence, &Download),
    abort_timeout: Duration,
) -> Option<Finding> {
    let Download { file, outcome, octets, size: whole, agent, .. } = download;
    if scene.last_progress() > evidence.last {
        return None;
    }
    let of = format!("{} of {}", size(*octets), size(*whole));
    let by = if agent.is_empty() { String::new() } else { format!(" ({agent})") };
    match outcome {
        DownloadOutcome::Complete => None,
        DownloadOutcome::Aborted => {
            scene.has_passed(evidence.last, abort_timeout).then_some(())?;
            let cause = match stage {
                BootStage::Program => "most often its firmware has no room for it, or somebody pressed a key",
                _ => "most often its memory is too small for it, or it was restarted",
            };
            Finding::new(
                (stage, StallReason::TransferAborted),
                Certainty::Certain,
                format!("It broke off the download of {file} over HTTP after {of}{by}: {cause}"),
                "look at its screen; give it more memory, or a smaller file",
            )
        }
        DownloadOutcome::UnderWay | DownloadOutcome::Silent => {
            scene.has_passed(evidence.last, SILENT_TIMEOUT).then_some(())?;
            Finding::new(
                (stage, StallReason::TransferSilent),
                Certainty::Certain,
                format!(
                    "It has {of} of {file} over HTTP{by} and has acknowledged nothing for {}: it was switched off, its cable \
                     was pulled, or its network driver hangs",
                    seconds(scene.now.saturating_sub(evidence.last))
                ),
                "look at its power, its cable and its screen; it begins again at its next boot",
            )
        }
    }
}

/// The kernel was loaded over HTTP, and nothing was heard since.
pub fn loaded_kernel_silent(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    if scene.reached() != Progress::Image
        || !scene.is_installing()
        || boot.has(|step| matches!(step, Step::Login { .. }))
    {
        return None;
    }
    let downloads: Vec<_> = boot.downloads(DownloadKind::Image).collect();
    let is_complete = downloads.iter().all(|(_, download)| download.outcome == DownloadOutcome::Complete);
    let octets: u64 = downloads.iter().map(|(_, download)| download.octets).sum();
    let last: Uptime = downloads.last()?.0.last;
    if !is_complete || octets < KERNEL_OCTETS || !scene.has_passed(boot.last(), KERNEL_TIMEOUT) {
        return None;
    }
    let files: Vec<&str> = downloads.iter().map(|(_, download)| &*download.file).collect();
    Finding::new(
        (BootStage::Install, StallReason::KernelSilent),
        Certainty::Possible,
        format!(
            "It loaded all of {} ({}) over HTTP, and nothing was heard for {}: its kernel has no driver for its network \
             interface, its memory is too small to unpack the initrd, or it stopped",
            files.join(" and "),
            size(octets),
            seconds(scene.now.saturating_sub(last))
        ),
        "look at its screen; use a newer image, or give it more memory",
    )
}
