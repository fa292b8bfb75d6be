//! Rows about boot programs, over TFTP, and iPXE up to its script.

use super::*;

#[test]
fn b5_our_tftp_answers_are_lost() {
    let story = Story::new().address(0.0, 1).rrq(1.0, 7).rrq(5.0, 7).stays_well(6.0).rrq(9.0, 7);
    let story = story.stalls(9.0, StallReason::TftpRepliesLost, Certain, "snponly.efi|3 times in 8 s|firewall");
    story.transfer(10.0, TransferOutcome::Complete, 250_000).discover_as(11.0, 3, 1, DhcpClient::Ipxe).stays_well(12.0);
}

#[test]
fn b6_somebody_rejects_our_tftp() {
    let icmp = |code| Step::Unreachable { by: VM, code, from_port: 40_000 };
    let story = |code| Story::new().address(0.0, 1).rrq(1.0, 7).see(1.1, icmp(code));
    story(3).stalls(4.0, StallReason::TftpPortUnreachable, Certain, "10.66.0.101 answers 'port unreachable'");
    story(13).stalls(4.0, StallReason::TftpPortUnreachable, Certain, "prohibited|a firewall");
    story(3).transfer(2.0, TransferOutcome::Complete, 250_000).stays_well(4.0);
}

#[test]
fn b8_the_size_was_asked_and_the_file_never() {
    let story = Story::new().address(0.0, 1).rrq(1.0, 1).transfer(1.1, TransferOutcome::Probed, 0);
    let story = story.stays_well(2.0).stalls(7.2, StallReason::ProgramNotFetched, Possible, "250 kB|no room");
    story.rrq(8.0, 2).stays_well(8.5);
}

#[test]
fn b9_and_b10_transfers_that_end_in_the_middle() {
    let story = || Story::new().address(0.0, 1).rrq(1.0, 1);
    let words: TransferOutcome = TransferOutcome::Aborted { code: 3, text: "Disk full".into() };
    story().transfer(2.0, words, 101_000).stalls(
        5.0,
        StallReason::TransferAborted,
        Certain,
        "101 kB of 250 kB|'Disk full'",
    );
    let story = story().transfer(9.0, TransferOutcome::Silent, 101_292);
    // What this server tries again is no step of the machine.
    assert_eq!(story.look(9.5).diagnosis.unwrap().since, Uptime::from_secs(1));
    let story = story.stalls(9.5, StallReason::TransferSilent, Certain, "101 kB of 250 kB of snponly.efi");
    story.transfer(11.0, TransferOutcome::Complete, 250_000).stays_well(12.0);
}

#[test]
fn b11_a_transfer_in_small_blocks_is_slow() {
    let story = Story::new().address(0.0, 1).rrq(1.0, 1).transfer(2.0, TransferOutcome::UnderWay, 512).stays_well(20.0);
    let story = story.transfer(21.0, TransferOutcome::Slow, 101_000);
    let story = story.stalls(21.5, StallReason::TransferSlow, Certain, "101 kB of 250 kB of snponly.efi|512 octets");
    story.transfer(49.0, TransferOutcome::Complete, 250_000).stays_well(50.0);
}

#[test]
fn b13_and_b14_wrong_or_missing_programs() {
    let story = Story::new().address(0.0, 1).rrq(1.0, 1).refused(1.1, Reason::FileNotFound);
    story.stalls(2.0, StallReason::ProgramMissing, Certain, "does not exist");
    let arm = DhcpClient::Firmware(BootProtocol::Pxe, Architecture(11));
    let story = Story::new().discover_as(0.0, 1, 0, arm).request_as(1.0, arm);
    let file = Step::FileRequested { file: "undionly.kpxe".into(), port: 1 };
    story.see(2.0, file).stalls(2.5, StallReason::WrongProgram, Certain, "architecture 11|undionly.kpxe");
}

#[test]
fn b15_the_firmware_refuses_its_program_and_b16_the_program_hangs() {
    let story = Story::new().program(0.0, 1).stays_well(3.0).discover(4.0, 2);
    let story =
        story.stalls(4.5, StallReason::ProgramRefused, Likely, "all of snponly.efi once|within 2 s|Secure Boot");
    let story =
        story.program(4.0, 2).discover(7.0, 3).stalls(7.5, StallReason::ProgramRefused, Certain, "twice|within 1 s");
    story.program(7.0, 3).discover_as(10.0, 4, 1, DhcpClient::Ipxe).stays_well(11.0);
    let story = Story::new().program(0.0, 1).waits(3.0, 22.0);
    let story = story.stalls(22.0, StallReason::ProgramSilent, Likely, "silent for 20 s|hangs");
    story.discover_as(23.0, 4, 1, DhcpClient::Ipxe).stays_well(24.0);
    Story::new().program(0.0, 1).discover(40.0, 2).stays_well(41.0);
}

#[test]
fn b17_and_b18_scripts_and_grub_that_are_not_used() {
    let script = Story::new().program(0.0, 1).see(2.9, Step::Script { action: ScriptStep::Attach });
    let script = script.transfer_of(3.0, "autoexec.ipxe", TransferOutcome::Complete, 200).stays_well(20.0);
    script.stalls(23.0, StallReason::ScriptUnused, Likely, "autoexec.ipxe");
    let shim =
        Story::new().address(0.0, 1).rrq(1.0, 1).transfer_of(2.0, "shimx64.efi", TransferOutcome::Complete, 250_000);
    let shim = shim.transfer_of(3.0, "grubx64.efi", TransferOutcome::Complete, 250_000).stays_well(10.0);
    shim.stalls(11.0, StallReason::GrubRefused, Likely, "grubx64.efi|SBAT");
}

#[test]
fn c1_ipxe_gets_no_address() {
    let story = Story::new().program(0.0, 1);
    let story =
        [3.0, 4.0, 6.0, 10.0].into_iter().fold(story, |story, at| story.discover_as(at, 9, 1, DhcpClient::Ipxe));
    story
        .stalls(12.0, StallReason::IpxeNoAddress, Likely, "though its firmware got one|spanning tree")
        .request_as(13.0, DhcpClient::Ipxe)
        .stays_well(14.0);
}

#[test]
fn c7_the_script_reports_an_error() {
    let failed = Step::ScriptFailed { command: "sanboot".into(), errno: 0x4c0a_6092 };
    let story = Story::new().script(0.0, 1, ScriptStep::Attach).see(30.0, failed);
    let story = story.stalls(31.0, StallReason::ScriptFailed, Certain, "sanboot failed (0x4c0a6092)|timed out");
    story.see(32.0, Step::Login { image: "live".parse().unwrap() }).stays_well(33.0);
}
