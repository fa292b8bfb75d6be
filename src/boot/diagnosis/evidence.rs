//! What was seen of a machine's boots, in order and joined where it repeats.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::boot::{BootProtocol, DropReason, Reason};
use crate::fleet::{Architecture, Mac, Name};

/// Time since the server started; no step of the wall clock changes it.
pub type Uptime = Duration;

/// A step of a boot that was seen once or several times.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Time of the first occurrence.
    pub first: Uptime,
    /// Time of the last occurrence.
    pub last: Uptime,
    /// Number of occurrences.
    pub count: u32,
    /// The step.
    pub step: Step,
}

/// The program that sends a DHCP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DhcpClient {
    /// The firmware, with the protocol that it boots by and its architecture.
    Firmware(BootProtocol, Architecture),
    /// iPXE.
    Ipxe,
    /// A system that runs: its message has no boot class.
    System,
}

/// What another server sends to clients in its offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherOffer {
    /// The server's address (option 54, else the sender's).
    pub server: Ipv4Addr,
    /// The address that it offers; `None` for a ProxyDHCP offer.
    pub address: Option<Ipv4Addr>,
    /// Whether its vendor class claims that it is a boot server (option 60 `PXEClient` or `HTTPClient`).
    pub claims_boot: bool,
    /// The boot file that it names.
    pub file: Option<Box<str>>,
    /// The server's MAC address.
    pub mac: Option<Mac>,
    /// The boot server that it names (`siaddr`), if that is another one.
    pub next_server: Option<Ipv4Addr>,
}

/// The end of a TFTP transfer, or its present state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferOutcome {
    /// Octets are acknowledged.
    UnderWay,
    /// Every octet was acknowledged.
    Complete,
    /// The client asked for the size only, and ended the transfer before the first block.
    Probed,
    /// The client ended the transfer with an error of its own.
    Aborted {
        /// The error code of RFC 1350.
        code: u16,
        /// The client's words.
        text: Box<str>,
    },
    /// The client acknowledges nothing any more.
    Silent,
    /// The transfer goes on, and takes long because of its small blocks.
    Slow,
    /// The file could not be sent to the end by this server.
    Failed,
}

/// What a TFTP client and this server agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferPace {
    /// Size of a block, in octets.
    pub block_size: u16,
    /// Number of blocks that are sent before an acknowledgement.
    pub window: u16,
}

/// A step of a boot.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The BMC was asked to switch the machine on or to restart it, or reported that it is on.
    PoweredOn,
    /// The BMC did not do what was asked.
    BmcFailed {
        /// The error.
        message: Box<str>,
    },
    /// The machine broadcast a DHCPDISCOVER.
    Discover {
        /// The transaction number.
        xid: u32,
        /// The seconds that the client says it has waited, in the first message that arrived.
        secs: u16,
        /// The sender.
        client: DhcpClient,
        /// The relay that passed it on.
        relay: Option<Ipv4Addr>,
        /// Whether it wants its replies by broadcast, so that other servers' replies are heard here.
        is_broadcast: bool,
    },
    /// We answered a DISCOVER.
    Offered {
        /// The boot file.
        file: Box<str>,
        /// Whether it contains an address (server mode).
        has_address: bool,
        /// Time from the message to the reply, if it was long.
        delay: Option<Duration>,
    },
    /// This server gives addresses, and had none for the machine.
    NoAddress {
        /// The reason.
        reason: DropReason,
    },
    /// Our reply could not be sent.
    ReplyNotSent {
        /// The destination.
        to: Ipv4Addr,
        /// The error of the system.
        error: Box<str>,
    },
    /// Another server's offer to the machine was heard.
    OtherOffer(Box<OtherOffer>),
    /// The machine took an address.
    Request {
        /// The server that it takes it from.
        server: Option<Ipv4Addr>,
        /// The address.
        address: Ipv4Addr,
        /// The sender.
        client: DhcpClient,
    },
    /// The machine asked on port 4011, and we answered.
    ProxyRequest {
        /// The transaction number.
        xid: u32,
    },
    /// The machine asked over DHCPv6 as PXE firmware does.
    SolicitV6,
    /// The machine took what a DHCPv6 server offered it.
    RequestV6,
    /// A request was refused.
    Refused {
        /// The reason.
        reason: Reason,
        /// The sentence for people.
        message: Box<str>,
    },
    /// The machine requested a file over TFTP.
    FileRequested {
        /// The file.
        file: Box<str>,
        /// The client's port.
        port: u16,
    },
    /// A TFTP transfer ended, or stands.
    Transfer {
        /// The file.
        file: Box<str>,
        /// The outcome.
        outcome: TransferOutcome,
        /// Octets that were acknowledged.
        octets: u64,
        /// Size of the file, in octets.
        size: u64,
        /// The pace that was agreed on, once the transfer is over.
        pace: Option<TransferPace>,
    },
    /// Somebody answered a packet of ours with an ICMP error.
    Unreachable {
        /// The sender of the error.
        by: Ipv4Addr,
        /// The ICMP code of a destination-unreachable message.
        code: u8,
        /// The port of ours that the packet came from.
        from_port: u16,
    },
    /// Nobody answers ARP for an address that we reply to.
    ArpUnanswered {
        /// The address.
        address: Ipv4Addr,
    },
    /// The machine asked for its boot program over HTTP.
    ProgramRequested {
        /// The file.
        file: Box<str>,
        /// Whether it asked for the head only.
        is_head: bool,
        /// Size of the file, in octets.
        size: u64,
    },
    /// A boot script was served.
    Script {
        /// What the script does.
        action: ScriptStep,
    },
    /// The boot script reported a failure.
    ScriptFailed {
        /// The command that failed, as our scripts name it.
        command: Box<str>,
        /// iPXE's error number.
        errno: u32,
    },
    /// A login to the iSCSI target was accepted.
    Login {
        /// The image.
        image: Name,
    },
    /// A login was refused.
    LoginRefused {
        /// The image that it asked for, as far as the target names one of ours.
        target: Box<str>,
        /// The reason; `None` if no image has that target name.
        reason: Option<Reason>,
        /// The client's address.
        from: IpAddr,
    },
    /// Somebody at an address that is not the machine's asked in its name.
    AskedFromElsewhere {
        /// The protocol of the request.
        what: ElsewhereRequest,
        /// The address.
        from: IpAddr,
        /// The MAC address that the neighbour table has for it.
        neighbour: Option<Mac>,
        /// Whether the request carried the machine's token.
        has_token: bool,
    },
    /// Data of the image was read, over iSCSI or HTTP. `last` is the time of the last read.
    Read {
        /// Octets in all.
        octets: u64,
        /// Whether the session or the connection has ended.
        is_over: bool,
    },
    /// A read of the image failed.
    ReadFailed {
        /// The error.
        message: Box<str>,
    },
    /// A client asked for a range that no client can mean (`bytes=u-u`).
    BadRange {
        /// The range.
        range: Box<str>,
    },
    /// The config was served.
    ConfigServed {
        /// Its size, in octets.
        octets: u64,
    },
    /// The installer asked for another file, or reported something.
    InstallerActive,
    /// The installer reported a failure.
    InstallerFailed {
        /// The program that reports it.
        source: Box<str>,
        /// Its words.
        message: Box<str>,
    },
    /// The machine reported that its install is complete.
    Completed,
    /// A report of completion was refused.
    CompletionRefused {
        /// The reason.
        reason: Reason,
    },
    /// Another interface of the machine asked, by its UUID.
    OtherInterface {
        /// The MAC address of that interface.
        mac: Mac,
        /// The sender.
        client: DhcpClient,
    },
}

/// What a boot script does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptStep {
    /// It boots the image by an iSCSI login.
    Attach,
    /// It boots the image without iSCSI: a kernel over HTTP, or the whole image.
    Load,
    /// It boots the local disk.
    LocalDisk,
    /// It waits for the image, or shows a menu.
    Wait,
}

/// What somebody at another address asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElsewhereRequest {
    /// An iSCSI login.
    Login,
    /// The config.
    Config,
}

/// The steps of one machine, oldest first. Bounded: the oldest step gives way to a new one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BootTrace(VecDeque<Evidence>);

impl BootTrace {
    /// Maximum number of steps of one machine: three to four boots.
    pub const MAX_STEPS: usize = 64;
    /// Number of the newest steps that a repeated step is looked for in.
    const JOIN_WINDOW: usize = 6;
    /// Pause after which a request that begins no boot by itself is not a repetition: the machine was started again.
    const JOIN_PAUSE: Duration = Duration::from_secs(120);

    /// Returns the steps, by the time of their first occurrence.
    pub fn steps(&self) -> Vec<Evidence> {
        self.0.iter().cloned().collect()
    }

    /// Returns the time of the last step.
    pub fn last(&self) -> Option<Uptime> {
        self.0.iter().map(|evidence| evidence.last).max()
    }

    /// Records our offer of a boot file.
    pub fn record_offer(&mut self, file: &str, has_address: bool, delay: Option<Duration>, now: Uptime) {
        let is_same = |known: &Evidence| matches!(&known.step, Step::Offered { file: known, .. } if **known == *file);
        match self.recent(is_same, Evidence::is_discover) {
            Some(known) => {
                (known.last, known.count) = (now, known.count.saturating_add(1));
                if let Step::Offered { delay: longest, .. } = &mut known.step {
                    *longest = (*longest).max(delay);
                }
            }
            None => self.push(Step::Offered { file: file.into(), has_address, delay }, now),
        }
    }

    /// Records a step. A repetition of a recent one is joined to it.
    pub fn record(&mut self, step: Step, now: Uptime) {
        let is_same = |known: &Evidence| {
            let is_in_time = !step.precedes_boot() || now.saturating_sub(known.last) < Self::JOIN_PAUSE;
            is_in_time && known.step.is_repeated_by(&step)
        };
        // The reads of a session are no repetition of those of the session before.
        let is_read = matches!(step, Step::Read { .. });
        let ends = |known: &Evidence| known.is_discover() || (is_read && matches!(known.step, Step::Login { .. }));
        match self.recent(is_same, ends) {
            Some(known) => {
                if !known.step.is_end_of(&step) {
                    known.last = now;
                }
                known.count = known.count.saturating_add(1);
                known.step.take_progress_of(step);
            }
            None => self.push(step, now),
        }
    }

    /// Returns the newest step that a test admits, among the last few and not before one that ends the search: a new boot
    /// is no repetition of steps of the boot before.
    fn recent(&mut self, test: impl Fn(&Evidence) -> bool, ends: impl Fn(&Evidence) -> bool) -> Option<&mut Evidence> {
        for evidence in self.0.iter_mut().rev().take(Self::JOIN_WINDOW) {
            if test(evidence) {
                return Some(evidence);
            }
            if ends(evidence) {
                return None;
            }
        }
        None
    }

    fn push(&mut self, step: Step, now: Uptime) {
        if self.0.len() == Self::MAX_STEPS {
            // Boots go as a whole. The only one keeps its first step, which tells when it began.
            match self.second_boot() {
                Some(begin) => drop(self.0.drain(..begin)),
                None => drop(self.0.remove(1)),
            }
        }
        self.0.push_back(Evidence { first: now, last: now, count: 1, step });
    }

    /// Returns the place at which the second boot begins.
    fn second_boot(&self) -> Option<usize> {
        let (mut has_begun, mut has_script) = (false, false);
        self.0.iter().position(|evidence| match evidence.step {
            Step::PoweredOn => has_begun,
            Step::Discover { client: DhcpClient::Firmware(..), .. } => std::mem::replace(&mut has_begun, true),
            Step::Discover { client: DhcpClient::Ipxe, .. } => {
                has_begun = true;
                has_script
            }
            Step::Script { .. } => {
                has_script = true;
                false
            }
            _ => false,
        })
    }
}

impl Evidence {
    /// Returns whether this is a DISCOVER of a boot program.
    fn is_discover(&self) -> bool {
        matches!(self.step, Step::Discover { client: DhcpClient::Firmware(..) | DhcpClient::Ipxe, .. })
    }
}

impl Step {
    /// Returns whether the step may come before a boot, and may repeat at the next one.
    fn precedes_boot(&self) -> bool {
        matches!(self, Self::SolicitV6 | Self::RequestV6 | Self::OtherInterface { .. })
    }

    /// Returns whether another step is the end of these reads, and no read.
    fn is_end_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Read { octets, .. }, Self::Read { octets: whole, is_over: true }) => octets == whole,
            _ => false,
        }
    }

    fn is_repeated_by(&self, other: &Self) -> bool {
        match (self, other) {
            // A running system asks with another number each time.
            (Self::Discover { client: DhcpClient::System, .. }, Self::Discover { client: DhcpClient::System, .. }) => {
                true
            }
            (Self::Discover { xid, client, .. }, Self::Discover { xid: again, client: by, .. }) => {
                xid == again && client == by
            }
            (Self::Transfer { file, outcome, .. }, Self::Transfer { file: again, outcome: ended, .. }) => {
                file == again && outcome == ended && *outcome == TransferOutcome::Silent
            }
            (Self::Read { is_over: false, .. }, Self::Read { .. }) => true,
            (Self::Unreachable { from_port, .. }, Self::Unreachable { from_port: again, .. }) => {
                from_port == again || from_port.min(again) >= &1024
            }
            (Self::OtherInterface { .. }, Self::OtherInterface { .. }) => true,
            _ => self == other && !matches!(self, Self::Transfer { .. } | Self::Login { .. }),
        }
    }

    /// Takes over how far a repeated step has come.
    fn take_progress_of(&mut self, again: Self) {
        if matches!(self, Self::Read { .. } | Self::Transfer { .. }) {
            *self = again;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discover(xid: u32) -> Step {
        let client = DhcpClient::Firmware(BootProtocol::Pxe, Architecture(7));
        Step::Discover { xid, secs: 0, client, relay: None, is_broadcast: true }
    }

    fn offered() -> Step {
        Step::Offered { file: "a".into(), has_address: false, delay: None }
    }

    #[test]
    fn a_retry_is_joined_and_a_new_boot_is_not() {
        let mut trace = BootTrace::default();
        for (second, step) in [(0, discover(1)), (0, offered()), (4, discover(1)), (4, offered()), (9, discover(2))] {
            trace.record(step, Uptime::from_secs(second));
        }
        trace.record(offered(), Uptime::from_secs(9));
        let counts: Vec<_> = trace.steps().iter().map(|evidence| (evidence.first.as_secs(), evidence.count)).collect();
        assert_eq!(counts, [(0, 2), (0, 2), (9, 1), (9, 1)]);
        assert_eq!(trace.last(), Some(Uptime::from_secs(9)));
    }

    #[test]
    fn the_oldest_steps_give_way() {
        let mut trace = BootTrace::default();
        (0..100).for_each(|xid| trace.record(discover(xid), Uptime::from_secs(u64::from(xid))));
        assert_eq!(trace.steps().len(), BootTrace::MAX_STEPS);
        assert_eq!(trace.steps()[0].first, Uptime::from_secs(36));
    }

    #[test]
    fn a_boot_goes_as_a_whole_and_the_only_one_keeps_its_beginning() {
        let mut trace = BootTrace::default();
        let file = |port| Step::FileRequested { file: "a".into(), port };
        trace.record(discover(1), Uptime::ZERO);
        (0..70).for_each(|port| trace.record(file(port), Uptime::from_secs(1 + u64::from(port))));
        assert_eq!(trace.steps().len(), BootTrace::MAX_STEPS);
        assert_eq!(trace.steps()[0].step, discover(1));
        trace.record(discover(2), Uptime::from_secs(100));
        (0..9).for_each(|port| trace.record(file(port), Uptime::from_secs(101)));
        assert_eq!(trace.steps()[0].step, discover(2), "the boot before is gone");
        assert_eq!(trace.steps().len(), 10);
    }

    #[test]
    fn what_comes_before_a_boot_is_joined_for_a_while() {
        let mut trace = BootTrace::default();
        for second in [0, 1, 100, 221] {
            trace.record(Step::SolicitV6, Uptime::from_secs(second));
        }
        let counts: Vec<_> = trace.steps().iter().map(|evidence| (evidence.first.as_secs(), evidence.count)).collect();
        assert_eq!(counts, [(0, 3), (221, 1)]);
    }

    #[test]
    fn reads_are_one_step_that_grows() {
        let mut trace = BootTrace::default();
        for (octets, is_over) in [(10, false), (20, false), (30, true), (5, false)] {
            trace.record(Step::Read { octets, is_over }, Uptime::from_secs(octets));
        }
        let steps: Vec<_> = trace.steps().iter().map(|evidence| evidence.step.clone()).collect();
        assert_eq!(steps, [Step::Read { octets: 30, is_over: true }, Step::Read { octets: 5, is_over: false }]);
    }

    #[test]
    fn the_end_of_a_session_is_no_read_and_the_next_session_reads_by_itself() {
        let mut trace = BootTrace::default();
        let read = |octets, is_over| Step::Read { octets, is_over };
        let login = || Step::Login { image: "live".parse().unwrap() };
        for (second, step) in [
            (0, login()),
            (1, read(10, false)),
            (2, read(20, false)),
            (60, read(20, true)),
            (61, login()),
            (62, read(5, false)),
        ] {
            trace.record(step, Uptime::from_secs(second));
        }
        let reads = trace.steps();
        assert_eq!((reads[1].last.as_secs(), &reads[1].step), (2, &read(20, true)));
        assert_eq!((reads[3].last.as_secs(), &reads[3].step), (62, &read(5, false)));
    }
}
