//! Rows of the taxonomy of stalls: what was seen, and the diagnosis that is due. Times are those of the firmware.

mod addresses;
mod downloads;
mod images;
mod installs;
mod programs;
mod restarts;
mod scripts;
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
        let transfer = FileTransfer { file: file.into(), outcome, octets, size: 250_000, pace: None };
        self.see(at, Step::Transfer(Box::new(transfer)))
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
        self.see(
            at,
            Step::Refused { protocol: Protocol::Http, reason, message: reason.sentence().into(), is_tied: true },
        )
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
