//! Rows: what was seen of boots, and where their time went.

use std::net::Ipv4Addr;

use super::*;
use crate::boot::BootProtocol;
use crate::boot::Protocol;
use crate::boot::diagnosis::BootTrace;
use crate::boot::diagnosis::evidence::{FileTransfer, OtherOffer, TransferPace};
use crate::fleet::{Architecture, HostSpec, HostStatus, Mac, Meta};

use BootOutcome::{Installed, LocalDisk, PoweredOff, Restarted};
use LedgerStage::*;

const UEFI: DhcpClient = DhcpClient::Firmware(BootProtocol::Pxe, Architecture(7));
const HTTP_BOOT: DhcpClient = DhcpClient::Firmware(BootProtocol::Http, Architecture(16));
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 1);
const VM: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 101);
const LIMIT: Duration = Duration::from_secs(3600);

fn at(seconds: f64) -> Uptime {
    Uptime::from_secs_f64(seconds)
}

/// What was seen of a machine, step by step.
#[derive(Default)]
struct Seen(BootTrace, Option<Host>);

impl Seen {
    fn see(mut self, seconds: f64, step: Step) -> Self {
        self.0.record(step, at(seconds));
        self
    }

    fn discover(self, seconds: f64, xid: u32, secs: u16, client: DhcpClient) -> Self {
        self.see(seconds, Step::Discover { xid, secs, client, relay: None, is_broadcast: true })
    }

    fn request(self, seconds: f64, client: DhcpClient) -> Self {
        self.see(seconds, Step::Request { server: Some(SERVER), address: VM, client })
    }

    fn rrq(self, seconds: f64, file: &str, port: u16) -> Self {
        self.see(seconds, Step::FileRequested { file: file.into(), port })
    }

    fn transfer(self, seconds: f64, file: &str, outcome: TransferOutcome) -> Self {
        self.transfer_of(seconds, file, outcome, 284_672, TransferPace { block_size: 1468, window: 4 })
    }

    fn transfer_of(self, seconds: f64, file: &str, outcome: TransferOutcome, octets: u64, pace: TransferPace) -> Self {
        let transfer = FileTransfer { file: file.into(), outcome, octets, size: octets, pace: Some(pace) };
        self.see(seconds, Step::Transfer(Box::new(transfer)))
    }

    fn script(self, seconds: f64, action: ScriptStep) -> Self {
        self.see(seconds, Step::Script { action })
    }

    fn login(self, seconds: f64) -> Self {
        self.see(seconds, Step::Login { image: "live".parse().unwrap() })
    }

    fn read(self, seconds: f64, octets: u64) -> Self {
        self.see(seconds, Step::Read { octets, is_over: false })
    }

    /// The times of OVMF, as `integration/lab` has seen them, up to the script of its iPXE 3.83 s later.
    fn ovmf(self, begin: f64, xid: u32, action: ScriptStep) -> Self {
        let offer = OtherOffer {
            server: SERVER,
            address: Some(VM),
            claims_boot: false,
            file: None,
            mac: None,
            next_server: None,
        };
        self.discover(begin, xid, 0, UEFI)
            .see(begin + 0.01, Step::OtherOffer(Box::new(offer)))
            .request(begin + 3.77, UEFI)
            .rrq(begin + 3.78, "snponly.efi", 1)
            .transfer(begin + 3.78, "snponly.efi", TransferOutcome::Probed)
            .rrq(begin + 3.79, "snponly.efi", 2)
            .transfer(begin + 3.80, "snponly.efi", TransferOutcome::Complete)
            .rrq(begin + 3.83, "autoexec.ipxe", 3)
            .script(begin + 3.83, action)
            .transfer(begin + 3.84, "autoexec.ipxe", TransferOutcome::Complete)
    }

    fn ledgers(&self, now: f64) -> Vec<Ledger> {
        ledgers(&self.0.steps(), self.1.as_ref(), LIMIT, at(now))
    }

    /// Asserts the outcome, the stages with their seconds, and words of the advice of the only or the newest boot.
    #[track_caller]
    fn spent(self, now: f64, outcome: Option<BootOutcome>, stages: &[(LedgerStage, f64)], advice: &[&str]) -> Self {
        let ledgers = self.ledgers(now);
        let ledger = ledgers.last().unwrap();
        check(ledger, outcome, stages, advice);
        self
    }
}

#[track_caller]
fn check(ledger: &Ledger, outcome: Option<BootOutcome>, stages: &[(LedgerStage, f64)], advice: &[&str]) {
    let seconds = |time: Duration| (time.as_secs_f64() * 100.0).round() / 100.0;
    let lines: Vec<_> = ledger.lines.iter().map(|line| (line.stage, seconds(line.duration))).collect();
    assert_eq!(ledger.outcome, outcome, "{lines:?}");
    assert_eq!(lines, stages);
    assert_eq!(ledger.advice.len(), advice.len(), "{:?}", ledger.advice);
    for (said, words) in ledger.advice.iter().zip(advice) {
        assert!(words.split('|').all(|word| said.contains(word)), "{words:?} is not in {said:?}");
        assert!(!said.ends_with('.'), "{said:?}");
    }
    assert_sums(ledger);
}

/// The stages follow each other without a gap, from the begin to the end.
#[track_caller]
fn assert_sums(ledger: &Ledger) {
    let mut end = ledger.begin;
    for line in &ledger.lines {
        assert_eq!(line.start, end, "{:?}", ledger.lines);
        end = line.start + line.duration;
    }
    assert_eq!(end, ledger.end);
    assert_eq!(ledger.milliseconds().values().sum::<u64>(), ledger.duration().as_millis() as u64);
}

/// An install whose kernel asks for its address at 8 s and that is done at 17 s.
fn install(begin: f64) -> Seen {
    Seen::default()
        .ovmf(begin, 1, ScriptStep::Attach)
        .login(begin + 4.0)
        .read(begin + 4.6, 10_000_000)
        .read(begin + 5.6, 32_700_000)
        .discover(begin + 8.0, 7, 0, DhcpClient::System)
        .request(begin + 8.0, DhcpClient::System)
        .see(begin + 9.0, Step::ConfigServed { octets: 140 })
        .see(begin + 17.0, Step::Completed)
}

const INSTALL: [(LedgerStage, f64); 7] =
    [(Dhcp, 3.78), (Program, 0.02), (ProgramStart, 0.03), (Script, 0.0), (Loader, 1.77), (Kernel, 2.4), (Install, 9.0)];

#[test]
fn an_install_goes_from_the_first_request_to_the_report() {
    let seen = install(3.0).spent(21.0, Some(Installed), &INSTALL, &[]);
    // The session that the firmware abandoned ends late, and adds nothing.
    let seen = seen.see(30.0, Step::Read { octets: 32_700_000, is_over: true });
    let seen = seen.spent(31.0, Some(Installed), &INSTALL, &[]);
    let ledgers = seen.ledgers(31.0);
    let notes: Vec<_> = ledgers[0].lines.iter().map(|line| line.note.as_deref().unwrap_or("-")).collect();
    let expected = [
        "10.66.0.101 from 10.66.0.1",
        "snponly.efi, 284 kB",
        "-",
        "attach the image",
        "32.7 MB read",
        "-",
        "config of 140 bytes",
    ];
    assert_eq!(notes, expected);
    assert_eq!((ledgers[0].begin, ledgers[0].end), (at(3.0), at(20.0)));
    assert_eq!(ledgers[0].next, None);
}

#[test]
fn a_power_on_is_the_beginning() {
    let seen = Seen::default().see(0.0, Step::PoweredOn);
    let seen = seen.spent(10.0, None, &[(Power, 10.0)], &[]);
    let seen = seen.ovmf(60.0, 1, ScriptStep::LocalDisk);
    let disk = [(Power, 60.0), (Dhcp, 3.78), (Program, 0.02), (ProgramStart, 0.03), (Script, 0.0)];
    seen.spent(70.0, Some(LocalDisk), &disk, &[]);
    // The button was pressed again after an hour: the first one led to nothing.
    let again = Seen::default().see(0.0, Step::PoweredOn).see(3600.0, Step::PoweredOn);
    again.discover(3630.0, 1, 0, UEFI).spent(3631.0, None, &[(Power, 30.0), (Dhcp, 1.0)], &[]);
}

#[test]
fn the_bmc_ends_a_boot() {
    let seen = || Seen::default().discover(0.0, 1, 0, UEFI).request(3.0, UEFI);
    let off = seen().see(10.0, Step::PoweredOff).see(12.0, Step::PoweredOff);
    let off = off.spent(60.0, Some(PoweredOff), &[(Dhcp, 10.0)], &[]);
    assert_eq!((off.ledgers(60.0)[0].final_at, off.ledgers(60.0).len()), (Some(at(10.0)), 1));
    let on = off.see(100.0, Step::PoweredOn).discover(130.0, 2, 0, UEFI);
    assert_eq!(on.ledgers(131.0)[0].outcome, Some(PoweredOff));
    on.spent(131.0, None, &[(Power, 30.0), (Dhcp, 1.0)], &[]);
    let reset = seen().see(20.0, Step::PoweredOn);
    let first = reset.ledgers(21.0).remove(0);
    assert_eq!((first.end, first.outcome), (at(20.0), Some(Restarted)));
    // It was over for a long time: what it did since is not known.
    let late = seen().see(5000.0, Step::PoweredOff);
    late.spent(5001.0, Some(PoweredOff), &[(Dhcp, 3.0)], &[]);
    // An install goes on while nothing is heard of it.
    let install = install(0.0).see(5000.0, Step::PoweredOff);
    assert_eq!(install.ledgers(5001.0)[0].outcome, Some(Installed), "it was complete");
}

#[test]
fn the_system_of_the_disk_is_waited_for() {
    let seen = install(0.0).ovmf(20.0, 2, ScriptStep::LocalDisk);
    let disk = [(Dhcp, 3.78), (Program, 0.02), (ProgramStart, 0.03), (Script, 0.0)];
    let seen = seen.spent(30.0, Some(LocalDisk), &disk, &[]);
    let ledger = |seen: &Seen, now| seen.ledgers(now).pop().unwrap();
    assert_eq!(ledger(&seen, 30.0).final_at, Some(at(23.83 + 180.0)));
    let seen = seen.discover(45.0, 9, 0, DhcpClient::System).request(45.5, DhcpClient::System);
    let up = [(Dhcp, 3.78), (Program, 0.02), (ProgramStart, 0.03), (Script, 0.0), (System, 21.17)];
    let seen = seen.spent(50.0, Some(LocalDisk), &up, &[]);
    assert_eq!(ledger(&seen, 50.0).final_at, Some(at(45.0)));
    // Its later requests add nothing, and the config that it is refused does not either.
    let (reason, message) = (Reason::InstallCompleted, "done".into());
    let seen = seen
        .discover(4000.0, 10, 0, DhcpClient::System)
        .see(4001.0, Step::Refused { protocol: Protocol::Http, reason, message, is_tied: true });
    seen.spent(4002.0, Some(LocalDisk), &up, &[]);
}

#[test]
fn a_bios_machine_whose_firmware_is_ipxe() {
    let seen = Seen::default().discover(3.27, 1, 4, DhcpClient::Ipxe).request(3.28, DhcpClient::Ipxe);
    let seen = seen.script(3.49, ScriptStep::Attach).login(3.56).read(4.17, 31_900_000);
    let seen = seen.discover(9.05, 2, 0, DhcpClient::System).see(9.79, Step::ConfigServed { octets: 140 });
    let seen = seen.see(12.45, Step::Completed);
    let stages = [(Dhcp, 0.01), (Script, 0.21), (Loader, 0.68), (Kernel, 4.88), (Install, 3.4)];
    let seen = seen.spent(13.0, Some(Installed), &stages, &[]);
    // Its next boot begins with its next request, since it has had its script.
    let next = seen.discover(15.89, 3, 4, DhcpClient::Ipxe).request(15.9, DhcpClient::Ipxe);
    let next = next.script(15.93, ScriptStep::LocalDisk);
    next.spent(16.0, Some(LocalDisk), &[(Dhcp, 0.01), (Script, 0.03)], &[]);
}

#[test]
fn http_boot_and_the_firmware_that_is_left_to_its_disk() {
    let head = Step::HeadRequested { file: "snponly.efi".into(), size: 284_672 };
    let program = |outcome, octets| {
        let (file, agent) = ("snponly.efi".into(), "UefiHttpBoot/1.0".into());
        Step::Download(Box::new(Download { file, kind: DownloadKind::Program, outcome, octets, size: 284_672, agent }))
    };
    let seen = Seen::default().discover(0.0, 1, 0, HTTP_BOOT).request(3.91, HTTP_BOOT);
    let seen = seen.see(3.94, head).see(3.95, program(DownloadOutcome::UnderWay, 0));
    let seen = seen.see(4.01, program(DownloadOutcome::Complete, 284_672)).script(4.04, ScriptStep::Attach);
    let seen = seen.login(4.16).see(6.0, Step::ConfigServed { octets: 1 }).see(8.0, Step::Completed);
    let stages = [(Dhcp, 3.94), (Program, 0.07), (ProgramStart, 0.03), (Script, 0.0), (Loader, 1.96), (Install, 2.0)];
    let seen = seen.spent(9.0, Some(Installed), &stages, &[]);
    let refused = |seen: Seen, seconds| {
        let step = Step::Refused {
            protocol: Protocol::Dhcp,
            reason: Reason::InstallCompleted,
            message: "done".into(),
            is_tied: true,
        };
        seen.discover(seconds, 2, 0, HTTP_BOOT).see(seconds, step)
    };
    let seen = [20.0, 24.0, 32.0, 48.25].into_iter().fold(seen, refused);
    let advice = ["asked the network for 28 s before its disk"];
    let seen = seen.spent(50.0, Some(LocalDisk), &[(Dhcp, 28.25)], &advice);
    let seen = seen.discover(90.25, 3, 0, DhcpClient::System);
    seen.spent(91.0, Some(LocalDisk), &[(Dhcp, 28.25), (System, 42.0)], &advice);
}

#[test]
fn what_firmware_tries_first_is_time_before_dhcp() {
    let seen = [0.0, 1.0, 3.0, 7.0].into_iter().fold(Seen::default(), |seen, time| seen.see(time, Step::SolicitV6));
    let seen = seen.spent(8.0, None, &[(Ipv6, 8.0)], &["IPv6 for 8 s"]);
    let seen = seen.discover(61.0, 1, 0, UEFI);
    let seen = seen.spent(62.0, None, &[(Ipv6, 61.0), (Dhcp, 1.0)], &["IPv6 for 61 s first|IPv4 first"]);
    assert_eq!(seen.ledgers(62.0)[0].lines[0].note.as_deref(), Some("asked 4 times"));
    // A port that has nothing behind it, after the boot from the disk of the day before.
    let other = Step::OtherInterface { mac: Mac([2, 0, 0, 0, 0, 9]), client: UEFI };
    let seen = Seen::default().ovmf(0.0, 1, ScriptStep::LocalDisk).see(90_000.0, other.clone());
    let seen = seen.see(90_004.0, other).discover(90_060.0, 2, 0, UEFI);
    let advice = ["02:00:00:00:00:09 for 60 s first"];
    let seen = seen.spent(90_061.0, None, &[(OtherInterface, 60.0), (Dhcp, 1.0)], &advice);
    check(
        &seen.ledgers(90_061.0)[0],
        Some(LocalDisk),
        &seen.ledgers(1.0)[0]
            .lines
            .iter()
            .map(|line| (line.stage, (line.duration.as_secs_f64() * 100.0).round() / 100.0))
            .collect::<Vec<_>>(),
        &[],
    );
}

#[test]
fn ipv6_after_a_try_over_ipv4_is_of_the_same_boot() {
    let seen = Seen::default().discover(0.0, 1, 0, UEFI).discover(28.0, 1, 28, UEFI).see(60.0, Step::SolicitV6);
    let seen = seen.spent(80.0, None, &[(Dhcp, 60.0), (Ipv6, 20.0)], &["IPv6 for 20 s"]);
    assert_eq!(seen.ledgers(80.0)[0].lines[0].note.as_deref(), Some("asked 2 times"));
    // The machine that is started the next day is in another boot.
    let next = seen.see(90_000.0, Step::SolicitV6);
    assert_eq!(next.ledgers(90_001.0).len(), 2);
}

#[test]
fn the_switch_port_that_learns_is_time_before_the_first_request() {
    let seen = Seen::default().discover(100.0, 1, 12, UEFI).request(104.0, UEFI);
    let advice = ["arrived 12 s after it began to ask|portfast"];
    seen.spent(105.0, None, &[(Unheard, 12.0), (Dhcp, 5.0)], &advice);
    let seen = Seen::default().see(95.0, Step::PoweredOn).discover(100.0, 1, 12, UEFI);
    seen.spent(101.0, None, &[(Power, 0.0), (Unheard, 5.0), (Dhcp, 1.0)], &["arrived 5 s after"]);
    // It was not waiting while it did something else.
    let seen = Seen::default().ovmf(0.0, 1, ScriptStep::LocalDisk).discover(10.0, 2, 12, UEFI);
    seen.spent(11.0, None, &[(Unheard, 6.16), (Dhcp, 1.0)], &["arrived 6 s after"]);
    // iPXE says 4 in its first message, and some firmware writes no seconds at all.
    for (secs, client) in [(4, DhcpClient::Ipxe), (0xf00, UEFI), (0, UEFI)] {
        Seen::default().discover(100.0, 1, secs, client).spent(101.0, None, &[(Dhcp, 1.0)], &[]);
    }
}

#[test]
fn ipxe_that_waits_is_time_to_save() {
    let seen = Seen::default().discover(0.0, 1, 0, UEFI).request(3.0, UEFI).rrq(3.1, "undionly.kpxe", 1);
    let seen = seen.transfer(3.5, "undionly.kpxe", TransferOutcome::Complete);
    let seen = seen.discover(5.0, 2, 4, DhcpClient::Ipxe).request(14.0, DhcpClient::Ipxe);
    let seen = seen.script(30.0, ScriptStep::LocalDisk);
    let stages = [(Dhcp, 3.1), (Program, 0.4), (ProgramStart, 10.5), (Script, 16.0)];
    seen.spent(31.0, Some(LocalDisk), &stages, &["iPXE waited 9 s for an address|portfast", "16 s after|IPv6 router"]);
}

#[test]
fn a_slow_transfer_says_whether_its_blocks_are_small() {
    let small = TransferPace { block_size: 512, window: 1 };
    let boot = |octets, pace| {
        let seen = Seen::default().discover(0.0, 1, 0, UEFI).request(1.0, UEFI).rrq(2.0, "shimx64.efi", 1);
        seen.transfer_of(50.0, "shimx64.efi", TransferOutcome::Complete, octets, pace)
    };
    let stages = [(Dhcp, 2.0), (Program, 48.0), (ProgramStart, 1.0)];
    let words = "shimx64.efi: 1.0 MB in 48 s over TFTP, one block of 512 octets a round trip|HTTP Boot";
    boot(1_000_000, small).spent(51.0, None, &stages, &[words]);
    boot(10_000, small).spent(51.0, None, &stages, &["10 kB in 48 s over TFTP: the network loses packets"]);
    let large = TransferPace { block_size: 1468, window: 4 };
    boot(1_000_000, large).spent(51.0, None, &stages, &["1.0 MB in 48 s over TFTP: the network loses packets"]);
}

#[test]
fn late_offers_are_named() {
    let offer =
        OtherOffer { server: SERVER, address: Some(VM), claims_boot: false, file: None, mac: None, next_server: None };
    let seen = Seen::default().discover(0.0, 1, 0, UEFI).discover(4.0, 1, 0, UEFI);
    let seen = seen.see(5.0, Step::OtherOffer(Box::new(offer))).request(6.0, UEFI);
    seen.spent(7.0, None, &[(Dhcp, 7.0)], &["10.66.0.1 answered 5 s after"]);
    let late = Step::Offered { file: "a".into(), has_address: true, delay: Some(at(5.0)) };
    let seen = Seen::default().discover(0.0, 1, 0, UEFI).see(5.0, late);
    seen.spent(7.0, None, &[(Dhcp, 7.0)], &["our offer left 5 s after"]);
}

#[test]
fn a_script_that_fails_is_asked_for_again() {
    let seen = [3.83, 14.0, 24.0, 34.0]
        .into_iter()
        .fold(Seen::default().ovmf(0.0, 1, ScriptStep::Attach), |seen, time| seen.script(time, ScriptStep::Attach));
    let stages = [(Dhcp, 3.78), (Program, 0.02), (ProgramStart, 0.03), (Script, 0.0), (Loader, 31.17)];
    seen.spent(35.0, None, &stages, &["asked for again 4 times"]);
    let waits = Seen::default().discover(0.0, 1, 0, DhcpClient::Ipxe).request(0.1, DhcpClient::Ipxe);
    let waits = waits.script(0.2, ScriptStep::Wait).script(30.2, ScriptStep::Wait).script(60.2, ScriptStep::Attach);
    let stages = [(Dhcp, 0.1), (Script, 0.1), (Wait, 60.0), (Loader, 0.8)];
    waits.spent(61.0, None, &stages, &["waited 60 s for its image"]);
}

#[test]
fn an_install_that_never_reports_ends_with_what_was_seen_last() {
    let seen = Seen::default().ovmf(0.0, 1, ScriptStep::Attach).login(4.0).read(5.0, 30_000_000);
    let seen = seen.see(9.0, Step::ConfigServed { octets: 33 }).read(120.0, 700_000_000);
    let stages = [(Dhcp, 3.78), (Program, 0.02), (ProgramStart, 0.03), (Script, 0.0), (Loader, 5.17), (Install, 111.0)];
    let boots = seen.ovmf(300.0, 2, ScriptStep::Attach).ledgers(310.0);
    check(&boots[0], Some(Restarted), &stages, &[]);
    assert_eq!(boots[0].final_at, Some(at(120.0)));
    assert_eq!(boots[1].outcome, None);
    assert!(boots[0].newest < boots[1].first);
}

#[test]
fn a_system_that_always_boots_the_image_is_up_with_its_first_request() {
    let mut host = Host {
        metadata: Meta::named("vm".parse().unwrap(), None),
        spec: HostSpec::for_mac(Mac([2; 6])),
        status: HostStatus::default(),
    };
    host.spec.boot_mode = BootMode::Forever;
    let seen = Seen(BootTrace::default(), Some(host)).ovmf(0.0, 1, ScriptStep::Attach).login(4.0);
    let seen = seen.read(6.0, 30_000_000).discover(10.0, 5, 0, DhcpClient::System).read(90_000.0, 60_000_000);
    let boots = seen.ovmf(90_100.0, 2, ScriptStep::Attach).ledgers(90_110.0);
    let stages = [(Dhcp, 3.78), (Program, 0.02), (ProgramStart, 0.03), (Script, 0.0), (Loader, 6.17)];
    check(&boots[0], Some(Restarted), &stages, &[]);
}

#[test]
fn a_kernel_that_attaches_the_image_again_is_a_sign_of_it() {
    let seen = Seen::default().ovmf(0.0, 1, ScriptStep::Attach).login(4.0).read(5.0, 30_000_000);
    let seen =
        seen.login(9.0).read(10.0, 50_000).see(11.0, Step::ConfigServed { octets: 1 }).see(20.0, Step::Completed);
    let start = [(Dhcp, 3.78), (Program, 0.02), (ProgramStart, 0.03), (Script, 0.0)];
    let stages = [&start[..], &[(Loader, 1.17), (Kernel, 4.0), (Install, 11.0)]].concat();
    seen.spent(21.0, Some(Installed), &stages, &[]);
    // The second session of BIOS firmware follows the boot catalogue, and is no kernel.
    let seen = Seen::default().ovmf(0.0, 1, ScriptStep::Attach).login(4.0).read(4.5, 40_000).login(5.0);
    let seen = seen.read(6.0, 30_000_000).spent(7.0, None, &[&start[..], &[(Loader, 3.17)]].concat(), &[]);
    // It runs once nothing was read for a while.
    seen.spent(20.0, None, &[&start[..], &[(Loader, 2.17), (Kernel, 14.0)]].concat(), &[]);
}

#[test]
fn the_next_step_is_due_by_the_clocks_of_the_firmware() {
    let next = |seen: &Seen, now: f64| seen.ledgers(now).pop().unwrap().next.unwrap();
    #[track_caller]
    fn is_due(next: &NextStep, stage: LedgerStage, words: &str, due: Option<f64>) {
        assert_eq!((next.stage, next.due), (stage, due.map(at)));
        assert!(next.text.contains(words), "{next:?}");
    }
    let seen = Seen::default().see(0.0, Step::PoweredOn);
    is_due(&next(&seen, 1.0), Power, "first request", Some(300.0));
    let seen = seen.see(2.0, Step::SolicitV6);
    is_due(&next(&seen, 3.0), Ipv6, "IPv4", Some(77.0));
    let seen = seen.discover(10.0, 1, 0, UEFI);
    is_due(&next(&seen, 11.0), Dhcp, "an address", Some(16.0));
    let seen = seen.request(13.0, UEFI);
    is_due(&next(&seen, 14.0), Dhcp, "boot file", Some(21.0));
    let seen = seen.rrq(14.0, "a.efi", 1).transfer(14.0, "a.efi", TransferOutcome::Probed);
    is_due(&next(&seen, 15.0), Program, "boot program", Some(20.0));
    let seen = seen.rrq(14.1, "a.efi", 2);
    is_due(&next(&seen, 15.0), Program, "boot program", None);
    let seen = seen.transfer(16.0, "a.efi", TransferOutcome::Complete);
    is_due(&next(&seen, 17.0), ProgramStart, "starts", Some(36.0));
    let seen = seen.discover(18.0, 2, 4, DhcpClient::Ipxe);
    is_due(&next(&seen, 19.0), ProgramStart, "iPXE", Some(27.0));
    let seen = seen.request(19.0, DhcpClient::Ipxe);
    is_due(&next(&seen, 20.0), Script, "script", Some(29.0));
    let seen = seen.script(20.0, ScriptStep::Attach);
    is_due(&next(&seen, 21.0), Loader, "attaches", Some(65.0));
    let seen = seen.login(21.0).read(22.0, 30_000_000);
    is_due(&next(&seen, 23.0), Kernel, "kernel", Some(82.0));
    let seen = seen.see(30.0, Step::ConfigServed { octets: 1 });
    is_due(&next(&seen, 31.0), Install, "complete", Some(3620.0));
    assert_eq!(seen.see(40.0, Step::Completed).ledgers(41.0)[0].next, None);
    let (metadata, spec) = (Meta::named("h".parse().unwrap(), None), HostSpec::for_mac(Mac([2; 6])));
    let held = Host { metadata, spec, status: HostStatus { phase: Phase::Held, ..HostStatus::default() } };
    let steps = Seen::default().discover(0.0, 1, 0, UEFI).0.steps();
    let next = ledgers(&steps, Some(&held), LIMIT, at(1.0)).pop().unwrap().next.unwrap();
    is_due(&next, Dhcp, "it is held", None);
}

#[test]
fn every_order_of_steps_gives_stages_without_a_gap() {
    let steps = [
        Step::PoweredOn,
        Step::PoweredOff,
        Step::SolicitV6,
        Step::Discover { xid: 1, secs: 12, client: UEFI, relay: None, is_broadcast: true },
        Step::Request { server: None, address: VM, client: UEFI },
        Step::FileRequested { file: "a".into(), port: 1 },
        Step::Script { action: ScriptStep::Attach },
        Step::Script { action: ScriptStep::LocalDisk },
        Step::Read { octets: 5_000_000, is_over: false },
        Step::Discover { xid: 2, secs: 0, client: DhcpClient::System, relay: None, is_broadcast: true },
        Step::Refused {
            protocol: Protocol::Dhcp,
            reason: Reason::InstallCompleted,
            message: "done".into(),
            is_tied: true,
        },
        Step::Completed,
        Step::OtherInterface { mac: Mac([2; 6]), client: UEFI },
    ];
    // A linear congruential generator: all orders of three steps, and many long ones.
    let mut random = 1_u64;
    for round in 0..5000 {
        let mut trace = BootTrace::default();
        let mut now = 0.0;
        for _ in 0..(round % 80) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pick = usize::try_from(random >> 33).unwrap();
            now += [0.0, 0.2, 1.0, 9.0, 200.0][pick % 5];
            trace.record(steps[pick / 5 % steps.len()].clone(), at(now));
        }
        let ledgers = ledgers(&trace.steps(), None, LIMIT, at(now + 1.0));
        ledgers.iter().for_each(assert_sums);
        for pair in ledgers.windows(2) {
            assert!(pair[0].outcome.is_some() && pair[0].newest <= pair[1].first, "{ledgers:#?}");
        }
    }
}
