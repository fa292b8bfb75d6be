//! Rows of the taxonomy of stalls: what was seen, and the diagnosis that is due. Times are those of the firmware.

mod downloads;
mod server_faults;

use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;

use super::*;
use crate::boot::{BootProtocol, Protocol, Reason};
use crate::fleet::{Architecture, BootRisk, Kind, Mac, Object, Phase};

const US: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 2);
const DHCP_SERVER: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 1);
const VM: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 101);
const OTHER_MAC: Mac = Mac([0x52, 0x54, 0, 0x66, 0, 9]);
const UEFI: DhcpClient = DhcpClient::Firmware(BootProtocol::Pxe, Architecture(7));
const HTTP_BOOT: DhcpClient = DhcpClient::Firmware(BootProtocol::Http, Architecture(16));

/// A machine's trace, as the steps of its boot are added.
struct Story {
    trace: BootTrace,
    at: f64,
    segment: Segment,
    host: Option<Host>,
}

impl Story {
    fn new() -> Self {
        let segment = Segment {
            interface: "eth0".into(),
            address: Some(US),
            networks: vec!["10.66.0.0/24".parse().unwrap()],
            hears_offers: true,
            ..Segment::default()
        };
        let object = json!({"metadata": {"name": "vm"}, "spec": {"bootMACAddress": "52:54:00:66:00:01",
            "image": "live", "bootConfigRef": "cfg"}});
        let Ok(Object::Host(host)) = Object::from_json(Kind::BareMetalHost, object) else { panic!("a host") };
        let mut host = Host::clone(&host);
        host.status.phase = Phase::Assigned;
        Self { trace: BootTrace::default(), at: 0.0, segment, host: Some(host) }
    }

    fn see(mut self, at: f64, step: Step) -> Self {
        self.at = at;
        let now = Uptime::from_secs_f64(at);
        match step {
            Step::Offered { file, has_address, delay } => self.trace.record_offer(&file, has_address, delay, now),
            step => self.trace.record(step, now),
        }
        self
    }

    fn phase(mut self, phase: Phase) -> Self {
        self.host.as_mut().unwrap().status.phase = phase;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Segment)) -> Self {
        change(&mut self.segment);
        self
    }

    fn discover_as(self, at: f64, xid: u32, secs: u16, client: DhcpClient) -> Self {
        self.see(at, Step::Discover { xid, secs, client, relay: None, is_broadcast: true })
    }

    fn discover(self, at: f64, xid: u32) -> Self {
        self.discover_as(at, xid, 0, UEFI)
    }

    fn offered(self, at: f64) -> Self {
        self.see(at, Step::Offered { file: "a/snponly.efi".into(), has_address: false, delay: None })
    }

    /// An address of the DHCP server, and what else its offer says.
    fn other_offer(self, at: f64, change: impl FnOnce(&mut OtherOffer)) -> Self {
        let mut offer = OtherOffer {
            server: DHCP_SERVER,
            address: Some(VM),
            claims_boot: false,
            file: None,
            mac: None,
            next_server: None,
        };
        change(&mut offer);
        self.see(at, Step::OtherOffer(Box::new(offer)))
    }

    fn request_as(self, at: f64, client: DhcpClient) -> Self {
        self.see(at, Step::Request { server: Some(DHCP_SERVER), address: VM, client })
    }

    fn request(self, at: f64) -> Self {
        self.request_as(at, UEFI)
    }

    fn rrq(self, at: f64, port: u16) -> Self {
        self.see(at, Step::FileRequested { file: "snponly.efi".into(), port })
    }

    fn transfer_of(self, at: f64, file: &str, outcome: TransferOutcome, octets: u64) -> Self {
        self.see(at, Step::Transfer { file: file.into(), outcome, octets, size: 250_000, pace: None })
    }

    fn transfer(self, at: f64, outcome: TransferOutcome, octets: u64) -> Self {
        self.transfer_of(at, "snponly.efi", outcome, octets)
    }

    /// A boot of the firmware that has its address at `at + 1`.
    fn address(self, at: f64, xid: u32) -> Self {
        self.discover(at, xid).offered(at).other_offer(at, |_| ()).request(at + 1.0)
    }

    /// A boot of the firmware that has its program at `at + 2`.
    fn program(self, at: f64, xid: u32) -> Self {
        self.address(at, xid).rrq(at + 1.1, 1).transfer(at + 1.2, TransferOutcome::Probed, 0).rrq(at + 1.3, 2).transfer(
            at + 2.0,
            TransferOutcome::Complete,
            250_000,
        )
    }

    /// A boot whose iPXE has its script at `at + 5`.
    fn script(self, at: f64, xid: u32, action: ScriptStep) -> Self {
        self.program(at, xid)
            .discover_as(at + 3.0, xid + 100, 1, DhcpClient::Ipxe)
            .request_as(at + 4.0, DhcpClient::Ipxe)
            .see(at + 5.0, Step::Script { action })
    }

    fn read(self, at: f64, octets: u64, is_over: bool) -> Self {
        self.see(at, Step::Read { octets, is_over })
    }

    /// An install whose installer has its config at `at + 8`.
    fn install(self, at: f64, xid: u32, octets: u64) -> Self {
        self.script(at, xid, ScriptStep::Attach)
            .see(at + 6.0, Step::Login { image: "live".parse().unwrap() })
            .read(at + 7.0, octets, false)
            .see(at + 8.0, Step::ConfigServed { octets: 33 })
            .phase(Phase::Installing)
    }

    fn refused(self, at: f64, reason: Reason) -> Self {
        self.see(at, Step::Refused { protocol: Protocol::Http, reason, message: reason.sentence().into() })
    }

    fn look(&self, at: f64) -> Outcome {
        diagnose(&self.trace.steps(), self.host.as_ref(), &self.segment, Uptime::from_secs_f64(at))
    }

    /// Asserts that nothing is said before `at`, and this at `at`; words of the sentence are separated by `|`.
    #[track_caller]
    fn stalls(self, at: f64, reason: StallReason, certainty: Certainty, words: &str) -> Self {
        let found = self.look(at).diagnosis.unwrap_or_else(|| panic!("no diagnosis; {:?}", self.trace.steps()));
        assert_eq!((found.reason, found.certainty), (reason, certainty), "{}", found.message);
        for word in words.split('|') {
            assert!(found.message.contains(word), "{word:?} is not in {:?}", found.message);
        }
        assert!(!found.remedy.is_empty() && !found.message.ends_with('.'), "{found:?}");
        self
    }

    /// Asserts that nothing is said at `at`, and that somebody looks again at `next`.
    #[track_caller]
    fn waits(self, at: f64, next: f64) -> Self {
        let outcome = self.look(at);
        assert_eq!(outcome.diagnosis, None);
        assert_eq!(outcome.next_look, Some(Uptime::from_secs_f64(next)));
        self
    }

    #[track_caller]
    fn stays_well(self, at: f64) -> Self {
        assert_eq!(self.look(at).diagnosis, None, "{:?}", self.trace.steps());
        self
    }
}

use Certainty::{Certain, Likely, Possible};

#[test]
fn a2_the_first_message_was_sent_long_after_the_first_try() {
    let late = Story::new().discover_as(0.0, 1, 12, UEFI).offered(0.0).other_offer(0.1, |_| ());
    let late = late.stays_well(5.0).stalls(10.0, StallReason::FirstRequestLate, Likely, "12 s|spanning tree");
    late.request(11.0).rrq(11.5, 1).stays_well(13.0);
}

#[test]
fn a3_nobody_offers_an_address() {
    let story = Story::new().discover(0.0, 1).offered(0.0).discover(4.0, 1).offered(4.0);
    let story = story.waits(5.0, 9.0).stalls(9.0, StallReason::NoAddressOffered, Certain, "eth0|2 times in 4 s");
    story.other_offer(10.0, |_| ()).request(10.5).stays_well(11.0);
    let unicast = |xid| Step::Discover { xid, secs: 0, client: UEFI, relay: None, is_broadcast: false };
    let story = Story::new().see(0.0, unicast(1)).offered(0.0).see(4.0, unicast(1));
    story.stalls(9.0, StallReason::NoAddressOffered, Likely, "may also have refused");
    let deaf = Story::new().discover(0.0, 1).offered(0.0).discover(4.0, 1).with(|one| one.hears_offers = false);
    deaf.stalls(9.0, StallReason::NoAddressOffered, Likely, "may also have refused");
    Story::new()
        .discover(0.0, 1)
        .offered(0.0)
        .discover(4.0, 1)
        .with(|one| one.is_address_server = true)
        .stays_well(4.5);
}

#[test]
fn a4_two_offers_are_refused() {
    let both = Story::new().discover(0.0, 1).offered(0.0).other_offer(0.1, |_| ());
    let both = both.stays_well(3.0).discover(4.0, 1).offered(4.0).waits(4.0, 10.0).discover(12.0, 1);
    let words = "an address by 10.66.0.1|a boot file by 10.66.0.2|took neither|3 times in 12 s";
    both.stalls(12.0, StallReason::OffersRefused, Likely, words).request(13.0).stays_well(13.5);
    // A DHCP server that answers after 5 s.
    let slow = Story::new().discover(0.0, 1).offered(0.0).discover(4.0, 1).offered(4.0).other_offer(5.0, |_| ());
    slow.stays_well(6.0).request(6.5).stays_well(7.0);
    let late = Step::Offered { file: "a".into(), has_address: false, delay: Some(Uptime::from_secs(5)) };
    let late = Story::new().discover(0.0, 1).other_offer(0.1, |_| ()).see(5.0, late).waits(5.5, 6.0);
    late.stalls(6.0, StallReason::OfferLate, Certain, "5 s after").discover(12.0, 1).request(16.0).stays_well(17.0);
}

#[test]
fn a5_no_machine_of_the_segment_takes_our_offers() {
    let one = Story::new().address(0.0, 1);
    one.waits(2.0, 9.0)
        .stalls(9.0, StallReason::BootFileNotRequested, Likely, "UDP 67, 69, 4011")
        .with(|segment| segment.stuck_machines = 2)
        .stalls(9.0, StallReason::OffersNotReceived, Likely, "2 other machines|eth0|DHCP snooping")
        .with(|segment| segment.booting_machines = 1)
        .stalls(9.0, StallReason::BootFileNotRequested, Likely, "8 s since")
        .rrq(10.0, 1)
        .stays_well(11.0);
}

#[test]
fn a6_an_address_of_another_network() {
    let (server, address) = (Some([192, 168, 99, 1].into()), [192, 168, 99, 50].into());
    let story = Story::new().discover(0.0, 1).offered(0.0).see(1.0, Step::Request { server, address, client: UEFI });
    story.stalls(5.0, StallReason::UnexpectedDhcpServer, Certain, "192.168.99.50|from 192.168.99.1|eth0");
}

#[test]
fn a7_another_boot_server() {
    let rival = |story: Story, at| {
        story.other_offer(at, |offer| {
            (offer.server, offer.address, offer.claims_boot) = ([10, 66, 0, 3].into(), None, true);
        })
    };
    let story = rival(Story::new().discover(0.0, 1).offered(0.0).other_offer(0.1, |_| ()), 0.2).request(1.0);
    let story = story.stalls(5.0, StallReason::OtherBootServer, Likely, "10.66.0.3 also tells|may have gone");
    story.rrq(6.0, 1).transfer(7.0, TransferOutcome::Complete, 250_000).stays_well(8.0);
}

#[test]
fn a8_and_a18_the_dhcp_server_misleads_the_firmware() {
    let story =
        |change: fn(&mut OtherOffer)| Story::new().discover(0.0, 1).offered(0.0).other_offer(0.1, change).request(1.0);
    story(|offer| offer.claims_boot = true).stalls(
        6.0,
        StallReason::DhcpServerClaimsBoot,
        Likely,
        "10.66.0.1|option 60",
    );
    let other = |offer: &mut OtherOffer| {
        (offer.file, offer.next_server) = (Some("pxelinux.0".into()), Some([10, 0, 0, 9].into()));
    };
    story(other).stalls(6.0, StallReason::OtherBootFile, Certain, "pxelinux.0 at 10.0.0.9");
}

#[test]
fn a10_the_relay_cannot_be_reached() {
    let relay = Ipv4Addr::new(10, 99, 0, 1);
    let discover = || Step::Discover { xid: 1, secs: 0, client: UEFI, relay: Some(relay), is_broadcast: false };
    let story = || Story::new().see(0.0, discover()).offered(0.0);
    for step in [
        Step::ArpUnanswered { address: relay },
        Step::ReplyNotSent { to: relay, error: "Network is unreachable".into() },
        Step::Unreachable { by: US, code: 1, from_port: 67 },
    ] {
        let story = story().see(3.0, step).stalls(4.0, StallReason::RelayUnreachable, Certain, "the relay 10.99.0.1");
        story.request(5.0).rrq(5.5, 1).stays_well(6.0);
    }
}

#[test]
fn a14_and_a15_refusals_of_our_own() {
    let story = |reason| Story::new().discover(0.0, 1).refused(0.0, reason).discover(4.0, 1).refused(4.0, reason);
    story(Reason::Held).stays_well(4.5).phase(Phase::Held).stalls(
        4.5,
        StallReason::Held,
        Certain,
        "2 times in 4 s|held",
    );
    let mut ignored = story(Reason::UnknownHostIgnored).stays_well(4.5);
    ignored.host = None;
    ignored.stalls(4.5, StallReason::HostIgnored, Certain, "gets no answer");
    let arm = DhcpClient::Firmware(BootProtocol::Pxe, Architecture(10));
    let story = Story::new().discover_as(0.0, 1, 0, arm).refused(0.0, Reason::NoBootProgram);
    story.stalls(1.0, StallReason::NoBootProgram, Certain, "architecture 10");
}

#[test]
fn a16_and_c4_another_interface_of_the_machine() {
    let other = |client| Step::OtherInterface { mac: OTHER_MAC, client };
    Story::new().see(0.0, other(UEFI)).stays_well(1.0).stalls(
        8.0,
        StallReason::SecondInterface,
        Likely,
        "52:54:00:66:00:09|same UUID",
    );
    let story = Story::new().program(0.0, 1).see(4.0, other(DhcpClient::Ipxe));
    let story = story.stalls(8.0, StallReason::IpxeOtherInterface, Likely, "52:54:00:66:00:09");
    story.discover_as(9.0, 2, 1, DhcpClient::Ipxe).request_as(10.0, DhcpClient::Ipxe).stays_well(11.0);
}

#[test]
fn a19_ipv6_comes_first() {
    Story::new()
        .see(0.0, Step::SolicitV6)
        .stays_well(5.0)
        .stalls(8.0, StallReason::Ipv6First, Certain, "IPv6")
        .address(60.0, 1)
        .stays_well(61.0);
    // A server answers: it may boot from there.
    Story::new().see(0.0, Step::SolicitV6).see(1.0, Step::RequestV6).stays_well(60.0);
    // It comes after IPv4 here, which has failed: that is said.
    let story = Story::new().discover(0.0, 1).offered(0.0).discover(4.0, 1).discover(12.0, 1).discover(28.0, 1);
    story.see(60.0, Step::SolicitV6).stalls(70.0, StallReason::NoAddressOffered, Certain, "4 times in 28 s");
}

#[test]
fn b2_and_b3_port_4011() {
    let ask = |xid| Step::ProxyRequest { xid };
    let story = Story::new().address(0.0, 1).see(2.0, ask(9)).waits(3.0, 7.0);
    let story = story.stalls(7.0, StallReason::ProxyReplyUnused, Possible, "port 4011");
    let story = story.see(7.5, ask(9)).see(8.0, ask(9));
    let story = story.stalls(8.0, StallReason::ProxyRepliesLost, Certain, "3 times in 6 s").rrq(9.0, 1).stays_well(9.5);
    drop(story);
    let icmp = Step::Unreachable { by: VM, code: 3, from_port: 4011 };
    let story = Story::new().address(0.0, 1).see(2.0, ask(9)).see(2.1, icmp);
    story.stalls(3.0, StallReason::ProxyRepliesLost, Certain, "10.66.0.101 answers");
}

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
    let story = story.stalls(9.5, StallReason::TransferSilent, Certain, "101 kB of 250 kB of snponly.efi");
    story.transfer(11.0, TransferOutcome::Complete, 250_000).stays_well(12.0);
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
    shim.stalls(13.0, StallReason::GrubRefused, Likely, "grubx64.efi|SBAT");
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
fn c3_ipxe_does_not_come_for_its_script() {
    let story = Story::new().program(0.0, 1).discover_as(3.0, 9, 1, DhcpClient::Ipxe).request_as(4.0, DhcpClient::Ipxe);
    let story = story.stalls(14.0, StallReason::ScriptNotRequested, Likely, "TCP 80 to 10.66.0.2 is closed");
    let story = story.with(|one| one.is_half_open = true).stalls(
        14.0,
        StallReason::ScriptNotRequested,
        Certain,
        "lost on the way back",
    );
    story.see(15.0, Step::Script { action: ScriptStep::Attach }).stays_well(16.0);
}

#[test]
fn c7_the_script_reports_an_error() {
    let failed = Step::ScriptFailed { command: "sanboot".into(), errno: 0x4c0a_6092 };
    let story = Story::new().script(0.0, 1, ScriptStep::Attach).see(30.0, failed);
    let story = story.stalls(31.0, StallReason::ScriptFailed, Certain, "sanboot failed (0x4c0a6092)|timed out");
    story.see(32.0, Step::Login { image: "live".parse().unwrap() }).stays_well(33.0);
}

#[test]
fn d1_no_login_follows_the_script() {
    let script = || Step::Script { action: ScriptStep::Attach };
    let story = || Story::new().script(0.0, 1, ScriptStep::Attach);
    story().stays_well(10.0).see(15.2, script()).stalls(
        16.0,
        StallReason::LoginNotAttempted,
        Likely,
        "every 10 s|is refused",
    );
    story().see(40.0, script()).stalls(41.0, StallReason::LoginNotAttempted, Likely, "every 35 s|is dropped");
    story()
        .stalls(50.0, StallReason::LoginNotAttempted, Possible, "45 s ago")
        .see(51.0, Step::Login { image: "live".parse().unwrap() })
        .stays_well(52.0);
}

#[test]
fn d2_and_d3_refused_logins() {
    let refused = |reason| Step::LoginRefused { target: "iqn:old".into(), reason, from: VM.into() };
    let story = || Story::new().script(0.0, 1, ScriptStep::Attach);
    story().see(6.0, refused(None)).stalls(7.0, StallReason::LoginRefused, Certain, "iqn:old|is to boot live");
    story().see(6.0, refused(Some(Reason::ChapFailed))).stalls(7.0, StallReason::LoginRefused, Certain, "CHAP");
    let from: IpAddr = [10, 66, 0, 102].into();
    let login =
        Step::AskedFromElsewhere { what: ElsewhereRequest::Login, from, neighbour: Some(OTHER_MAC), has_token: false };
    let story = story().see(6.0, login);
    let story =
        story.stalls(7.0, StallReason::LoginFromOtherAddress, Certain, "10.66.0.102 (52:54:00:66:00:09)|vm's name");
    story.see(8.0, Step::Login { image: "live".parse().unwrap() }).stays_well(9.0);
}

#[test]
fn d4_to_d8_what_is_on_the_image() {
    let login = || Step::Login { image: "live".parse().unwrap() };
    let script = || Step::Script { action: ScriptStep::Attach };
    let attached = || Story::new().script(0.0, 1, ScriptStep::Attach).see(6.0, login()).phase(Phase::Offered);
    let story = attached().read(7.0, 40_000, true).stays_well(8.0).see(17.0, script());
    let mut story = story.stalls(18.0, StallReason::NothingToBoot, Likely, "attached live|40 kB|nothing to boot");
    let status = &mut story.host.as_mut().unwrap().status;
    status.boot_risks = Some(vec![BootRisk::SecondInterface, BootRisk::NoLoader]);
    status.warnings = vec!["another host".to_owned(), "spec.image: live boots with BIOS only".to_owned()];
    let story = story.stalls(18.0, StallReason::NothingToBoot, Certain, "nothing to boot");
    assert_eq!(story.look(18.0).diagnosis.unwrap().remedy, "live boots with BIOS only");
    let loaded = || attached().read(9.0, 2_000_000, true);
    loaded().waits(10.0, 69.0).stalls(69.0, StallReason::KernelSilent, Possible, "2.0 MB|60 s|menu");
    let system = loaded().request_as(15.0, DhcpClient::System).stays_well(20.0);
    system.stalls(75.0, StallReason::MediumNotFound, Possible, "kernel runs").see(76.0, login()).stays_well(77.0);
    let failed = Step::ReadFailed { message: "the file ends".into() };
    attached().see(8.0, failed).stalls(9.0, StallReason::MediumUnreadable, Certain, "the file ends");
    let range = Step::BadRange { range: "bytes=u-u".into() };
    attached().see(8.0, range).stalls(9.0, StallReason::BadRange, Certain, "bytes=u-u");
}

#[test]
fn d10_to_d12_http_boot_and_images_that_are_gone() {
    let offer = Step::Offered { file: "http://10.66.0.2/boot/a/snponly.efi".into(), has_address: false, delay: None };
    let story = || Story::new().discover_as(0.0, 1, 0, HTTP_BOOT).see(0.0, offer.clone()).request_as(1.0, HTTP_BOOT);
    story().stays_well(9.0).stalls(
        11.0,
        StallReason::HttpBootNotRequested,
        Likely,
        "http://10.66.0.2/boot/a/snponly.efi|https only",
    );
    let head = Step::HeadRequested { file: "live.iso".into(), size: 2_600_000_000 };
    story().see(2.0, head).stays_well(3.0).stalls(8.0, StallReason::HttpBootTooLarge, Likely, "2.6 GB");
    let story = Story::new().script(0.0, 1, ScriptStep::Wait).refused(5.0, Reason::ImageUnavailable);
    story
        .stalls(6.0, StallReason::ImageUnavailable, Certain, "waits for live")
        .see(36.0, Step::Login { image: "live".parse().unwrap() })
        .stays_well(37.0);
}

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
    let failed = Step::BmcFailed { message: "401".into() };
    let mut story = Story::new().see(0.0, failed);
    let error = crate::fleet::PowerError { reason: "Refused".into(), message: "401".into() };
    story.host.as_mut().unwrap().status.power_error = Some(Box::new(error));
    story.stalls(1.0, StallReason::BmcFailed, Certain, "401");
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
