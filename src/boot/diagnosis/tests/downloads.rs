//! Rows about downloads over HTTP.

use super::*;

/// A download of 250 kB at a time.
fn download(file: &str, kind: DownloadKind, outcome: DownloadOutcome, octets: u64) -> Step {
    let (file, agent) = (file.into(), "UefiHttpBoot/1.0".into());
    Step::Download(Box::new(Download { file, kind, outcome, octets, size: 250_000, agent }))
}

fn http_boot() -> Story {
    Story::new().discover_as(0.0, 1, 0, HTTP_BOOT).offered(0.0).other_offer(0.0, |_| ()).request_as(1.0, HTTP_BOOT)
}

fn program(outcome: DownloadOutcome, octets: u64) -> Step {
    download("snponly.efi", DownloadKind::Program, outcome, octets)
}

#[test]
fn a_program_is_loaded_with_its_last_byte() {
    let story = http_boot().see(2.0, program(DownloadOutcome::UnderWay, 0)).stays_well(4.0);
    // It goes on, slowly.
    let story = (1..12).fold(story, |story, step| {
        story
            .see(2.0 + 4.0 * f64::from(step), program(DownloadOutcome::UnderWay, 20_000 * step as u64))
            .stays_well(3.0 + 4.0 * f64::from(step))
    });
    let story = story.see(50.0, program(DownloadOutcome::Complete, 250_000)).waits(51.0, 70.0);
    let story = story.stalls(70.0, StallReason::ProgramSilent, Likely, "all of snponly.efi|silent for 20 s");
    story.discover_as(71.0, 2, 1, DhcpClient::Ipxe).stays_well(72.0);
}

#[test]
fn a_program_that_was_broken_off_was_not_refused() {
    let aborted = || {
        http_boot().see(2.0, program(DownloadOutcome::UnderWay, 0)).see(3.0, program(DownloadOutcome::Aborted, 101_000))
    };
    let story = aborted().waits(4.0, 6.0);
    let facts = "snponly.efi over HTTP after 101 kB of 250 kB|UefiHttpBoot/1.0|no room";
    let story = story.stalls(6.0, StallReason::TransferAborted, Certain, facts);
    story.see(7.0, program(DownloadOutcome::UnderWay, 0)).stays_well(8.0);
    // It begins again at once: it did not have the program, so nothing refused to run it.
    aborted().discover_as(4.0, 2, 0, HTTP_BOOT).stays_well(5.0);
    let loaded = http_boot().see(2.0, program(DownloadOutcome::Complete, 250_000));
    loaded.discover_as(4.0, 2, 0, HTTP_BOOT).stalls(5.0, StallReason::ProgramRefused, Likely, "snponly.efi");
}

#[test]
fn the_second_program_of_a_connection_is_followed() {
    let grub = |outcome, octets| download("grubx64.efi", DownloadKind::Program, outcome, octets);
    let story = http_boot().see(2.0, program(DownloadOutcome::Complete, 250_000));
    let story = story.see(2.5, grub(DownloadOutcome::UnderWay, 0)).see(3.0, grub(DownloadOutcome::Aborted, 9_000));
    story.stalls(6.0, StallReason::TransferAborted, Certain, "grubx64.efi over HTTP after 9 kB");
}

#[test]
fn a_download_that_stands_is_silent_before_the_connection_ends() {
    let story = http_boot().see(2.0, program(DownloadOutcome::UnderWay, 0));
    let story = story.see(3.0, program(DownloadOutcome::UnderWay, 101_000)).waits(4.0, 11.0);
    let facts = "101 kB of 250 kB of snponly.efi over HTTP|UefiHttpBoot/1.0|nothing for 8 s";
    let story = story.stalls(11.0, StallReason::TransferSilent, Certain, facts);
    let story = story.see(63.0, program(DownloadOutcome::Silent, 101_000));
    story.stalls(64.0, StallReason::TransferSilent, Certain, "101 kB of 250 kB");
}

#[test]
fn kernels_and_initrds() {
    let loads = || Story::new().script(0.0, 1, ScriptStep::Load).phase(Phase::Offered);
    let file = |name, outcome, octets| download(name, DownloadKind::Image, outcome, octets);
    let story = loads().see(6.0, file("vmlinuz", DownloadOutcome::Complete, 1_000_000));
    let story = story.see(6.5, file("initrd", DownloadOutcome::UnderWay, 0)).stays_well(7.0);
    let broken = story.see(8.0, file("initrd", DownloadOutcome::Aborted, 90_000));
    let broken = broken.stalls(11.0, StallReason::TransferAborted, Certain, "initrd over HTTP after 90 kB|memory");
    // Its script says more.
    let failed = Step::ScriptFailed { command: "initrd".into(), errno: 0x3122_e001 };
    broken.see(12.0, failed).stalls(13.0, StallReason::MemoryTooSmall, Certain, "initrd|250 kB|0x3122e001");
    let story = loads().see(6.0, file("vmlinuz", DownloadOutcome::Complete, 1_000_000));
    let story = story.see(9.0, file("initrd", DownloadOutcome::Complete, 250_000)).waits(10.0, 69.0);
    let story =
        story.stalls(69.0, StallReason::KernelSilent, Possible, "vmlinuz and initrd (1.2 MB)|60 s|driver|memory");
    story.request_as(70.0, DhcpClient::System).stays_well(71.0);
}

#[test]
fn a_client_that_seeks_breaks_off_what_it_does_not_need() {
    let grub = |outcome| {
        let (file, agent) = ("vmlinuz".into(), "GRUB 2.12".into());
        Step::Download(Box::new(Download {
            file,
            kind: DownloadKind::Image,
            outcome,
            octets: 9_000,
            size: 250_000,
            agent,
        }))
    };
    let story = Story::new().script(0.0, 1, ScriptStep::Load).see(6.0, grub(DownloadOutcome::UnderWay));
    story.see(7.0, grub(DownloadOutcome::Aborted)).stays_well(30.0);
    let story = Story::new()
        .install(0.0, 1, 3_000_000)
        .see(20.0, download("a.deb", DownloadKind::Image, DownloadOutcome::Aborted, 9));
    let story = story.stays_well(70.0);
    story.stalls(80.0, StallReason::TransferAborted, Certain, "a.deb");
}
