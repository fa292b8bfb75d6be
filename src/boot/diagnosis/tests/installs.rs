//! Rows about installs, the disk and the power; and a boot that is well.

use super::*;
use crate::fleet::{PowerOperation, PowerTransition, TransitionState};

#[test]
fn e1_and_e5_the_installer() {
    let from: IpAddr = [10, 66, 0, 201].into();
    let config = Step::AskedFromElsewhere { what: ElsewhereRequest::Config, from, neighbour: None, has_token: true };
    let story = Story::new().script(0.0, 1, ScriptStep::Attach).see(20.0, config);
    let story = story.stalls(21.0, StallReason::ConfigFromOtherAddress, Likely, "10.66.0.201|with its token");
    story.see(22.0, Step::ConfigServed { octets: 9 }).stays_well(23.0);
    let story = Story::new().install(0.0, 1, 3_100_000).stays_well(600.0);
    let story =
        story.stalls(8.0 + 900.0, StallReason::InstallerSilent, Possible, "15 min|33 bytes|3.1 MB|session is open");
    let story = story.with(|segment| segment.install_timeout = Uptime::from_secs(25)).stays_well(30.0);
    story.stalls(33.0, StallReason::InstallerSilent, Possible, "25 s").read(40.0, 4_000_000, false).stays_well(41.0);
    let words = Step::InstallerFailed { source: "anaconda".into(), message: "no disk found".into() };
    let story = Story::new().install(0.0, 1, 3_100_000).see(60.0, words);
    story.stalls(61.0, StallReason::InstallerFailed, Certain, "anaconda reports: no disk found");
}

#[test]
fn e4_a_file_of_the_config_does_not_exist() {
    let missing = |story: Story, at| {
        let message = "the config cfg has no file \"user-data\"; it has ks.cfg".into();
        story.see(at, Step::Refused { protocol: Protocol::Http, reason: Reason::FileNotFound, message, is_tied: true })
    };
    let story = Story::new().script(0.0, 1, ScriptStep::Attach).read(7.0, 300_000, false).phase(Phase::Offered);
    let story = missing(story, 30.0).waits(31.0, 90.0);
    let story = story.stalls(90.0, StallReason::FileMissing, Likely, "in 60 s since|has no file \"user-data\"");
    story.see(91.0, Step::ConfigServed { octets: 9 }).stays_well(92.0);
    // Installers can do without some files.
    let story = missing(Story::new().install(0.0, 1, 3_100_000), 20.0).stays_well(600.0);
    story.stalls(8.0 + 900.0, StallReason::InstallerSilent, Possible, "does not exist: the config cfg has no file");
}

#[test]
fn e8_the_system_that_is_to_be_replaced_runs() {
    let early = || Story::new().see(0.0, Step::CompletedEarly { asked_from: None });
    let story = early().stalls(1.0, StallReason::OldSystemRunning, Certain, "its present system runs|stays due");
    let renewed = story.discover_as(30.0, 9, 1, DhcpClient::System).request_as(30.1, DhcpClient::System);
    let story = renewed.stalls(32.0, StallReason::OldSystemRunning, Certain, "'complete' 32 s ago");
    story.discover(60.0, 1).stays_well(61.0);
    early().phase(Phase::Installed).stays_well(1.0);
    // Somebody asked for the image: the machine itself, or a stranger.
    let claimed = || Story::new().see(0.0, Step::CompletedEarly { asked_from: Some([10, 89, 0, 20].into()) });
    let possible = "or it booted from 10.89.0.20, which nothing ties to it";
    claimed().stalls(1.0, StallReason::OldSystemRunning, Possible, possible);
    let remedy = claimed().look(1.0).diagnosis.unwrap().remedy;
    assert!(remedy.contains("set spec.ip of the host to 10.89.0.20"), "{remedy}");
    let asked = early().see(5.0, Step::Script { action: ScriptStep::Attach });
    asked.stalls(6.0, StallReason::OldSystemRunning, Possible, "booted from an address");
    // The next report counts, also as a repetition of an older one.
    let again = claimed().see(9.0, Step::CompletedEarly { asked_from: None });
    again.stalls(10.0, StallReason::OldSystemRunning, Certain, "'complete' 1 s ago");
    // A network boot that was tried, and why it failed, says more.
    let tried = Story::new()
        .discover(0.0, 1)
        .offered(0.0)
        .discover(4.0, 1)
        .discover(12.0, 1)
        .see(60.0, Step::CompletedEarly { asked_from: None });
    tried.stalls(61.0, StallReason::NoAddressOffered, Certain, "3 times in 12 s");
}

#[test]
fn e12_a_host_that_is_held_in_its_install() {
    let held = Story::new().install(0.0, 1, 3_100_000).phase(Phase::Held).refused(20.0, Reason::Held);
    let held = held.stalls(21.0, StallReason::Held, Certain, "is held");
    // The decision to hold it came after its last step, and before the request that was refused.
    assert_eq!(held.look(21.0).diagnosis.unwrap().since, Uptime::from_secs(20));
    held.phase(Phase::LocalBoot).stays_well(21.0);
    let refused =
        Step::LoginRefused { target: "iqn:live".into(), reason: Some(Reason::Held), from: VM.into(), is_tied: true };
    let held = Story::new().script(0.0, 1, ScriptStep::Attach).phase(Phase::Held).see(6.0, refused);
    let held = held.stalls(7.0, StallReason::LoginRefused, Certain, "held until an operator decides");
    assert_eq!(held.look(7.0).diagnosis.unwrap().since, Uptime::from_secs(6));
}

#[test]
fn a_strangers_request_does_not_date_a_diagnosis() {
    let since = |story: &Story, at| story.look(at).diagnosis.map(|found| (found.reason, found.since.as_secs()));
    let login = |is_tied| Step::LoginRefused {
        target: "iqn:live".into(),
        reason: Some(Reason::Held),
        from: VM.into(),
        is_tied,
    };
    let held =
        |is_tied| Step::Refused { protocol: Protocol::Iscsi, reason: Reason::Held, message: "held".into(), is_tied };
    for phase in [Phase::Held, Phase::LocalBoot] {
        let story = Story::new().script(0.0, 1, ScriptStep::LocalDisk).phase(phase).see(60.0, login(false));
        let story = story.see(60.0, held(false));
        assert_ne!(since(&story, 61.0), Some((StallReason::LoginRefused, 60)), "{phase}");
        assert!(since(&story, 61.0).is_none_or(|(_, since)| since == 5), "{phase}: {:?}", since(&story, 61.0));
        let story = story.see(70.0, login(true)).see(80.0, login(false));
        assert_eq!(since(&story, 81.0), Some((StallReason::LoginRefused, 70)), "{phase}");
    }
    // The last repetition counts, not the step that came first.
    let story = Story::new().phase(Phase::Held).see(0.0, held(true));
    let story = story.refused(1.0, Reason::NotAssigned).see(30.0, held(true));
    assert_eq!(since(&story, 31.0), Some((StallReason::Held, 30)));
}

#[test]
fn e6_and_e7_the_report_of_completion() {
    let story = Story::new().install(0.0, 1, 1_600_000).script(700.0, 2, ScriptStep::Attach);
    let story = story.stalls(
        706.0,
        StallReason::CompletionNotReported,
        Likely,
        "1.6 MB|the config cfg has no call|installed again",
    );
    story.phase(Phase::Installed).stays_well(707.0);
    let refused = Step::CompletionRefused { reason: Reason::TokenInvalid };
    let story = Story::new().install(0.0, 1, 1_600_000).see(4000.0, refused);
    let story = story.stalls(4001.0, StallReason::CompletionRefused, Certain, "token is invalid or has expired");
    story.see(4002.0, Step::Completed).phase(Phase::Installed).stays_well(4003.0);
}

#[test]
fn e9_the_disk_does_not_boot() {
    let boot = |story: Story, number: u32| story.script(6.0 * f64::from(number), number + 1, ScriptStep::LocalDisk);
    let back = boot(Story::new(), 0).stays_well(6.0).discover(6.5, 9);
    back.stalls(8.0, StallReason::DiskNotBootable, Likely, "asked again 2 s later");
    let two = boot(boot(Story::new(), 0), 1).phase(Phase::Installed).stays_well(12.0);
    let three = boot(two, 2).stalls(18.0, StallReason::DiskNotBootable, Certain, "3 times in 12 s|no boot loader");
    three.stays_well(90.0);
}

#[test]
fn e10_and_e11_after_the_install() {
    let waits = (0..10).fold(Story::new().phase(Phase::Installed), |story, number| {
        story.refused(10.0 * f64::from(number), Reason::InstallCompleted)
    });
    waits.stalls(91.0, StallReason::InstalledSystemWaits, Certain, "10 times|cloud-init").stays_well(200.0);
    let mut failed = Story::new().script(0.0, 1, ScriptStep::LocalDisk).phase(Phase::Failed);
    failed.host.as_mut().unwrap().status.message = "3 boots used".to_owned();
    failed.stalls(6.0, StallReason::BootsUsedUp, Certain, "3 boots used");
}

#[test]
fn f_power() {
    let story = Story::new().see(0.0, Step::PoweredOn).waits(10.0, 300.0);
    story
        .stalls(300.0, StallReason::NoNetworkBoot, Possible, "5 min ago|sent nothing")
        .discover(310.0, 1)
        .stays_well(311.0);
    let failed = |is_final| Step::BmcFailed { message: "401".into(), is_final };
    let mut story = Story::new().see(0.0, failed(false));
    let error = crate::fleet::PowerError { reason: "Refused".into(), message: "401".into() };
    story.host.as_mut().unwrap().status.power_error = Some(Box::new(error));
    let story = story.stalls(1.0, StallReason::BmcFailed, Likely, "asked again: 401");
    story.see(2.0, failed(true)).stalls(3.0, StallReason::BmcFailed, Certain, "asked: 401");
    let mut story = Story::new().see(0.0, Step::PoweredOn);
    let status = &mut story.host.as_mut().unwrap().status;
    let change = PowerTransition::new(PowerOperation::On, jiff::Timestamp::UNIX_EPOCH);
    (status.power, status.power_transition) = (Some(crate::fleet::Power::Off), Some(Box::new(change)));
    let story =
        story.waits(10.0, 30.0).stalls(30.0, StallReason::BmcFailed, Certain, "30 s ago|still reports it as off");
    story.discover(31.0, 1).stays_well(32.0);
}

/// A power change, and what its BMC says.
fn power_change(operation: PowerOperation, state: TransitionState, reason: &str) -> PowerTransition {
    let change = PowerTransition::new(operation, jiff::Timestamp::UNIX_EPOCH);
    PowerTransition { state, reason: reason.to_owned(), ..change }
}

/// Adds a power change in progress to the story of a machine.
fn changing(mut story: Story, operation: PowerOperation, state: TransitionState, reason: &str) -> Story {
    let change = power_change(operation, state, reason);
    story.host.as_mut().unwrap().status.power_transition = Some(Box::new(change));
    story
}

fn refuses(message: &str) -> Step {
    Step::BmcFailed { message: message.into(), is_final: false }
}

use TransitionState::{Accepted, Asked};
const BUSY: &str = PowerTransition::BUSY;

#[test]
fn f3_the_bmc_is_busy() {
    let story = changing(Story::new().see(2.0, refuses("503: in POST")), PowerOperation::On, Asked, BUSY);
    let story =
        story.waits(3.0, 12.0).stalls(12.0, StallReason::BmcBusy, Certain, "for 10 s|asked again: 503: in POST");
    // A shutdown that it accepts begins no boot.
    let story = changing(story, PowerOperation::On, Accepted, "");
    story.stays_well(13.0).see(14.0, Step::PoweredOn).stays_well(15.0);
}

#[test]
fn f3_a_reason_between_does_not_begin_the_time_anew() {
    let story = Story::new().see(2.0, refuses("503: in POST")).see(7.0, refuses("no answer"));
    let story = changing(story.see(12.0, refuses("503: in POST")), PowerOperation::On, Asked, BUSY);
    let story = story.stalls(13.0, StallReason::BmcBusy, Certain, "for 11 s|503: in POST");
    // What it did between is an end.
    let story = story.see(20.0, Step::PoweredOn).see(40.0, refuses("503: in POST"));
    story.waits(41.0, 50.0).stalls(50.0, StallReason::BmcBusy, Certain, "for 10 s");
    let given_up = Step::BmcFailed { message: "not switched on".into(), is_final: true };
    let story = Story::new().see(2.0, refuses("503: in POST")).see(7.0, given_up).see(12.0, refuses("503: in POST"));
    changing(story, PowerOperation::On, Asked, BUSY).waits(13.0, 22.0);
}

#[test]
fn f3_a_power_off_and_an_installed_host_wait_without_a_word() {
    let story = || Story::new().see(2.0, refuses("503: in POST"));
    for operation in [PowerOperation::Off, PowerOperation::ForceOff] {
        changing(story(), operation, Asked, BUSY).stays_well(60.0);
    }
    changing(story(), PowerOperation::Restart, Asked, BUSY).phase(Phase::Installed).stays_well(60.0);
    let story = changing(story(), PowerOperation::Restart, Asked, BUSY);
    story.stalls(60.0, StallReason::BmcBusy, Certain, "for 58 s");
}

#[test]
fn f3_the_power_on_of_a_restart_is_refused() {
    // The shutdown was accepted before.
    let story = || Story::new().see(2.0, refuses("503: in POST"));
    let busy = changing(story(), PowerOperation::Restart, Accepted, BUSY);
    busy.stalls(12.0, StallReason::BmcBusy, Certain, "in POST");
    let failing = changing(story().see(20.0, refuses("500: no")), PowerOperation::Restart, Accepted, "Refused");
    failing.stalls(21.0, StallReason::BmcFailed, Likely, "asked again: 500: no");
    changing(story(), PowerOperation::Restart, Accepted, "").stays_well(60.0);
}

#[test]
fn f3_a_reinstall_of_a_machine_that_booted_before() {
    let healthy = Story::new().install(0.0, 1, 400_000_000).see(300.0, Step::Completed).phase(Phase::Installed);
    let assigned = || Story { trace: healthy.trace.clone(), segment: Segment::default(), ..Story::new() };
    let booted = assigned().script(330.0, 2, ScriptStep::LocalDisk).phase(Phase::Assigned);
    let busy = changing(booted.see(4000.0, refuses("503: in POST")), PowerOperation::On, Asked, BUSY);
    let busy = busy.stalls(4010.0, StallReason::BmcBusy, Certain, "for 10 s");
    assert_eq!(busy.look(4010.0).diagnosis.unwrap().since, Uptime::from_secs(4000), "it is later than the decision");
    let failing = busy.see(4020.0, Step::BmcFailed { message: "401".into(), is_final: true });
    let failing = failing.stalls(4021.0, StallReason::BmcFailed, Certain, "401");
    assert_eq!(failing.look(4021.0).diagnosis.unwrap().since, Uptime::from_secs(4020));
}

#[test]
fn f_wake_on_lan_confirms_nothing() {
    let story = Story::new().see(0.0, Step::WakeSent).waits(10.0, 300.0);
    let story =
        story.stalls(300.0, StallReason::NoNetworkBoot, Possible, "Wake-on-LAN packets 5 min ago|on eth0|on already");
    story.discover(310.0, 1).stays_well(311.0);
    // Packets for a machine that boots change nothing; later ones are another boot.
    let stuck = || Story::new().program(0.0, 1).see(30.0, Step::WakeSent);
    stuck().stalls(31.0, StallReason::ProgramSilent, Likely, "silent");
    let again = stuck().see(400.0, Step::WakeSent).waits(401.0, 700.0);
    again.stalls(700.0, StallReason::NoNetworkBoot, Possible, "Wake-on-LAN");
}

#[test]
fn f_a_machine_that_is_off_stalls_no_more() {
    let stuck = || Story::new().program(0.0, 1).stalls(22.0, StallReason::ProgramSilent, Likely, "silent");
    stuck().see(60.0, Step::PoweredOff).see(65.0, Step::PoweredOff).stays_well(66.0);
    let restarted = stuck().see(60.0, Step::PoweredOff).see(62.0, Step::PoweredOn).waits(63.0, 362.0);
    restarted.address(90.0, 2).stalls(99.0, StallReason::BootFileNotRequested, Likely, "8 s");
    stuck().see(60.0, Step::PoweredOn).stays_well(61.0);
    // Nobody reported the end of the install.
    let install = Story::new().install(0.0, 1, 3_100_000).see(60.0, Step::PoweredOff).stays_well(600.0);
    install.stalls(8.0 + 900.0, StallReason::InstallerSilent, Possible, "it was switched off 14 min ago");
}

#[test]
fn a_healthy_boot_is_never_diagnosed() {
    let healthy = Story::new().install(0.0, 1, 400_000_000).see(300.0, Step::Completed).phase(Phase::Installed);
    let healthy = healthy.script(330.0, 2, ScriptStep::LocalDisk);
    let steps = healthy.trace.steps();
    for second in 0..700 {
        let now = Uptime::from_secs_f64(f64::from(second) / 2.0);
        let until = steps.iter().take_while(|evidence| evidence.last <= now).count();
        // The installer reads on and on; its reads are one step.
        let outcome = diagnose(&steps[..until], healthy.host.as_ref(), &healthy.segment, now);
        assert_eq!(outcome.diagnosis, None, "at {now:?}");
    }
}
