//! What the rules of the diagnosis look at: a machine's boots, one by one, and how far each has come.

use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

use crate::boot::{Protocol, Reason};
use crate::fleet::{BootMode, BootRisk, Host, Phase};

use super::Segment;
use super::evidence::{
    DhcpClient, Download, DownloadKind, DownloadOutcome, Evidence, SCRIPTS, ScriptStep, Step, TransferOutcome, Uptime,
};

/// How far a boot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// Nothing was heard of the machine.
    Nothing,
    /// It is switched on.
    Power,
    /// Its firmware asked for an address.
    Discover,
    /// Its firmware took an address.
    Address,
    /// Its firmware asked for its boot file on port 4011.
    ProxyRequest,
    /// It asked for its boot program.
    ProgramRequest,
    /// It has its boot program.
    Program,
    /// iPXE asked for an address.
    IpxeDiscover,
    /// iPXE took an address.
    IpxeAddress,
    /// It has its boot script.
    Script,
    /// It reads its image.
    Image,
    /// Its kernel runs, or its installer.
    System,
    /// It reported that its install is complete.
    Done,
}

impl Progress {
    /// Returns whether a file is a boot script.
    pub fn is_script(file: &str) -> bool {
        SCRIPTS.contains(&file)
    }

    /// Returns what a step shows of the progress; `None` for a step that is a fault or another machine's.
    pub fn of(step: &Step) -> Option<Self> {
        Some(match step {
            Step::PoweredOn | Step::WakeSent => Self::Power,
            Step::Discover { client, .. } => match client {
                DhcpClient::Firmware(..) => Self::Discover,
                DhcpClient::Ipxe => Self::IpxeDiscover,
                DhcpClient::System => Self::System,
            },
            Step::SolicitV6 => Self::Power,
            Step::Request { client, .. } => match client {
                DhcpClient::Firmware(..) => Self::Address,
                DhcpClient::Ipxe => Self::IpxeAddress,
                DhcpClient::System => Self::System,
            },
            Step::ProxyRequest { .. } => Self::ProxyRequest,
            Step::FileRequested { .. } => Self::ProgramRequest,
            Step::Transfer(transfer) if transfer.outcome == TransferOutcome::Complete => {
                if Self::is_script(&transfer.file) { Self::Script } else { Self::Program }
            }
            Step::Transfer(_) => Self::ProgramRequest,
            Step::HeadRequested { .. } => Self::ProgramRequest,
            Step::Download(download) => match (download.kind, download.outcome) {
                (DownloadKind::Program, DownloadOutcome::Complete) => Self::Program,
                (DownloadKind::Program, _) => Self::ProgramRequest,
                (DownloadKind::Image, _) => Self::Image,
            },
            Step::Script { .. } => Self::Script,
            Step::Login { .. } | Step::Read { .. } => Self::Image,
            Step::ConfigServed { .. } | Step::InstallerActive => Self::System,
            Step::Completed => Self::Done,
            Step::RequestV6
            | Step::PoweredOff
            | Step::NetworkBootSet
            | Step::Acknowledged { .. }
            | Step::Offered { .. }
            | Step::NoAddress { .. }
            | Step::ReplyNotSent { .. }
            | Step::OtherOffer(_)
            | Step::Refused { .. }
            | Step::Unreachable { .. }
            | Step::ArpUnanswered { .. }
            | Step::ConfigWithheld { .. }
            | Step::ScriptFailed { .. }
            | Step::LoginRefused { .. }
            | Step::AskedFromElsewhere { .. }
            | Step::ReadFailed { .. }
            | Step::BadRange { .. }
            | Step::InstallerFailed { .. }
            | Step::CompletedEarly { .. }
            | Step::CompletionRefused { .. }
            | Step::BmcFailed { .. }
            | Step::OtherInterface { .. } => return None,
        })
    }
}

/// One boot of a machine: its steps, and how far it has come.
#[derive(Debug, Clone, Copy)]
pub struct Boot<'a> {
    /// The steps.
    pub steps: &'a [Evidence],
    /// The furthest progress.
    pub reached: Progress,
}

impl<'a> Boot<'a> {
    fn new(steps: &'a [Evidence]) -> Self {
        let reached = steps.iter().filter_map(|evidence| Progress::of(&evidence.step)).max();
        Self { steps, reached: reached.unwrap_or(Progress::Nothing) }
    }

    /// Returns the newest step that a test admits.
    pub fn find(&self, mut test: impl FnMut(&Step) -> bool) -> Option<&'a Evidence> {
        self.steps.iter().rev().find(|evidence| test(&evidence.step))
    }

    /// Returns whether a step that a test admits was seen.
    pub fn has(&self, test: impl FnMut(&Step) -> bool) -> bool {
        self.find(test).is_some()
    }

    /// Returns what a function finds in the newest step that it finds something in.
    pub fn find_map<T>(&self, mut find: impl FnMut(&'a Evidence) -> Option<T>) -> Option<T> {
        self.steps.iter().rev().find_map(&mut find)
    }

    /// Returns the downloads of a kind, oldest first.
    pub fn downloads(&self, kind: DownloadKind) -> impl DoubleEndedIterator<Item = (&'a Evidence, &'a Download)> {
        self.steps.iter().filter_map(move |evidence| match &evidence.step {
            Step::Download(download) if download.kind == kind => Some((evidence, &**download)),
            _ => None,
        })
    }

    /// Returns when the machine was switched off in this boot.
    pub fn off_at(&self) -> Option<Uptime> {
        self.find(|step| *step == Step::PoweredOff).map(|off| off.first)
    }

    /// Returns the time of the first step.
    pub fn begin(&self) -> Uptime {
        self.steps.first().map_or(Uptime::ZERO, |evidence| evidence.first)
    }

    /// Returns the time of the last step of the machine itself. What this server tries again, and gives up, is none.
    pub fn last(&self) -> Uptime {
        let is_own = |step: &Step| match step {
            Step::WakeSent => false,
            Step::CompletedEarly { .. } => true,
            Step::Transfer(transfer) => !matches!(transfer.outcome, TransferOutcome::Silent | TransferOutcome::Failed),
            Step::Download(download) => download.outcome != DownloadOutcome::Silent,
            step => Progress::of(step).is_some(),
        };
        let own = self.steps.iter().filter(|evidence| is_own(&evidence.step));
        own.map(|evidence| evidence.last).max().unwrap_or_else(|| self.begin())
    }

    /// Returns the newest step that a test admits, unless the machine has come further since: to `beyond`, or later.
    pub fn fault(&self, beyond: Progress, test: impl FnMut(&Step) -> bool) -> Option<&'a Evidence> {
        self.unless_gone_on(self.find(test)?, beyond)
    }

    /// Returns the step that a test admits and that was seen last, also as a repetition, unless the machine has come further
    /// since.
    pub fn latest_fault(&self, beyond: Progress, test: impl FnMut(&Step) -> bool) -> Option<&'a Evidence> {
        self.unless_gone_on(self.latest(test)?, beyond)
    }

    /// Returns the step that a test admits and that was seen last, also as a repetition.
    pub fn latest(&self, mut test: impl FnMut(&Step) -> bool) -> Option<&'a Evidence> {
        self.steps.iter().filter(|evidence| test(&evidence.step)).max_by_key(|evidence| evidence.last)
    }

    fn unless_gone_on(&self, fault: &'a Evidence, beyond: Progress) -> Option<&'a Evidence> {
        let has_gone_on = |evidence: &Evidence| {
            evidence.last > fault.last && Progress::of(&evidence.step).is_some_and(|reached| reached >= beyond)
        };
        (!self.steps.iter().any(has_gone_on)).then_some(fault)
    }
}

/// Pause after which a request that comes before a boot belongs to the next one.
const MAX_LEAD: Duration = Duration::from_secs(180);

/// Shortest time from the last sign of an installer to the script of the next boot. Our script is repeated sooner.
const MIN_RESTART: Duration = Duration::from_secs(20);

/// Divides what was seen of a machine into boots, oldest first. There is always one.
pub fn divide(steps: &[Evidence]) -> Vec<Boot<'_>> {
    let mut begins = vec![0];
    let mut begun_at_script = false;
    let mut has_begun = false;
    let mut has_system = false;
    for (index, evidence) in steps.iter().enumerate() {
        let begin = begins.last().copied().unwrap_or(0);
        let has = |wanted: Step| steps[begin..index].iter().any(|evidence| evidence.step == wanted);
        let is_new = match &evidence.step {
            step if is_request(step) && has(Step::PoweredOff) => true,
            Step::PoweredOn => has_begun || has(Step::SolicitV6),
            Step::Discover { client: DhcpClient::Firmware(..), .. } => has_begun,
            // The firmware is iPXE: it has its script already, and begins again.
            Step::Discover { client: DhcpClient::Ipxe, .. } => begun_at_script,
            // It wakes no machine that is on.
            Step::WakeSent => is_late(&steps[..index], evidence),
            // Firmware that fails over IPv4 goes on over IPv6, in the same boot.
            Step::SolicitV6 => begun_at_script || is_late(&steps[..index], evidence),
            // The DISCOVERs of machines that another server's boot file sends here are not heard.
            Step::Script { .. } => begun_at_script && has_system && is_after_pause(&steps[begin..index], evidence),
            step => begun_at_script && is_first_program(&steps[begin..index], step),
        };
        if is_new {
            let begin = lead(steps, index).max(begin + 1);
            begins.push(begin.min(index));
            (begun_at_script, has_begun, has_system) = (false, false, false);
        }
        let is_power = matches!(evidence.step, Step::PoweredOn | Step::WakeSent | Step::SolicitV6);
        has_begun |= !is_power && Progress::of(&evidence.step).is_some();
        begun_at_script |= matches!(evidence.step, Step::Script { .. });
        has_system |= matches!(evidence.step, Step::ConfigServed { .. } | Step::InstallerActive | Step::Completed);
    }
    let ends = begins.iter().skip(1).copied().chain([steps.len()]);
    begins.iter().zip(ends).map(|(begin, end)| Boot::new(&steps[*begin..end])).collect()
}

/// Returns the address that the last script was asked from, if that script has no config for want of evidence: the step is
/// recorded after the script.
pub fn withheld_config(steps: &[Evidence]) -> Option<Option<IpAddr>> {
    let last = steps.iter().rev().find(|evidence| matches!(evidence.step, Step::Script { .. }))?.last;
    steps.iter().rev().find_map(|evidence| match evidence.step {
        Step::ConfigWithheld { from } if evidence.last >= last => Some(from),
        _ => None,
    })
}

/// Returns whether a step shows that the machine is on.
fn is_request(step: &Step) -> bool {
    let is_sent = matches!(step, Step::Discover { .. } | Step::Request { .. } | Step::SolicitV6 | Step::Script { .. });
    is_sent || *step == Step::PoweredOn || step.requested_program().is_some()
}

/// Returns whether a step is a request for the program that a boot began with. Loaders ask for other files after their
/// script.
fn is_first_program(boot: &[Evidence], step: &Step) -> bool {
    let Some(file) = step.requested_program() else { return false };
    let is_tftp = matches!(step, Step::FileRequested { .. });
    boot.iter().find_map(|evidence| evidence.step.requested_program()).map_or(is_tftp, |first| first == file)
}

/// Returns whether a script comes too late for a repetition of the script before, and no failure explains it.
fn is_after_pause(boot: &[Evidence], script: &Evidence) -> bool {
    let last = boot.iter().map(|evidence| evidence.last).max();
    let has_failed = boot.iter().any(|evidence| matches!(evidence.step, Step::ScriptFailed { .. }));
    !has_failed && last.is_some_and(|last| script.first.saturating_sub(last) >= MIN_RESTART)
}

/// Returns whether a step comes long after all others.
fn is_late(before: &[Evidence], step: &Evidence) -> bool {
    let last = before.iter().map(|evidence| evidence.last).max();
    last.is_some_and(|last| step.first.saturating_sub(last) > MAX_LEAD)
}

/// Returns the place at which a boot begins whose first own request is known: firmware may have tried other interfaces
/// before.
fn lead(steps: &[Evidence], begin: usize) -> usize {
    let is_of_it = |evidence: &&Evidence| match evidence.step {
        Step::OtherInterface { client: DhcpClient::Firmware(..), .. } => {
            steps[begin].first.saturating_sub(evidence.last) <= MAX_LEAD
        }
        _ => false,
    };
    begin - steps[..begin].iter().rev().take_while(is_of_it).count()
}

/// A request that was refused.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    /// The step.
    pub evidence: &'a Evidence,
    /// The protocol of the request.
    pub protocol: Protocol,
    /// The reason.
    pub reason: Reason,
    /// The sentence for people.
    pub message: &'a str,
}

/// What the rules look at.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The boots, oldest first. There is always one.
    pub boots: Vec<Boot<'a>>,
    /// The host, if there is one.
    pub host: Option<&'a Host>,
    /// The segment.
    pub segment: &'a Segment,
    /// The present time.
    pub now: Uptime,
    next_look: Cell<Option<Uptime>>,
}

impl<'a> Scene<'a> {
    /// Divides what was seen into boots.
    pub fn new(steps: &'a [Evidence], host: Option<&'a Host>, segment: &'a Segment, now: Uptime) -> Self {
        Self { boots: divide(steps), host, segment, now, next_look: Cell::new(None) }
    }

    /// Returns the present boot.
    pub fn boot(&self) -> Boot<'a> {
        self.boots.last().copied().unwrap_or(Boot { steps: &[], reached: Progress::Nothing })
    }

    /// Returns the boot before the present one.
    pub fn boot_before(&self) -> Option<Boot<'a>> {
        self.boots.len().checked_sub(2).and_then(|index| self.boots.get(index).copied())
    }

    /// Returns how far the present boot has come.
    pub fn reached(&self) -> Progress {
        self.boot().reached
    }

    /// Returns the time of the last step of the machine.
    pub fn last_progress(&self) -> Uptime {
        self.boot().last()
    }

    /// Returns whether some time has passed since another. Otherwise the machine is looked at again at that time.
    pub fn has_passed(&self, since: Uptime, wait: Duration) -> bool {
        let due = since + wait;
        if self.now >= due {
            return true;
        }
        let next = self.next_look.get().map_or(due, |next| next.min(due));
        self.next_look.set(Some(next));
        false
    }

    /// Returns the earliest time that a rule waits for.
    pub fn next_look(&self) -> Option<Uptime> {
        self.next_look.get()
    }

    /// Returns whether an install of the host has begun and not ended. A host that boots its image at every boot is never
    /// done.
    pub fn is_installing(&self) -> bool {
        self.host.is_some_and(|host| host.status.phase.is_under_way() && host.spec.boot_mode == BootMode::Once)
    }

    /// Returns the warning of a risk that was known before the boot.
    pub fn risk(&self, risk: BootRisk) -> Option<&'a str> {
        let status = &self.host?.status;
        let mut known = status.boot_risks.iter().flatten().zip(&status.warnings);
        known.find(|(known, _)| **known == risk).map(|(_, warning)| warning.as_str())
    }

    /// Returns whether the host is in a phase.
    pub fn is_in(&self, phase: Phase) -> bool {
        self.host.is_some_and(|host| host.status.phase == phase)
    }

    /// Returns the newest refusal of the present boot for one of some reasons, unless the machine has come further since.
    pub fn refusal(&self, beyond: Progress, reasons: &[Reason]) -> Option<Refusal<'a>> {
        let is_meant = |step: &Step| matches!(step, Step::Refused { reason, .. } if reasons.contains(reason));
        let evidence = self.boot().fault(beyond, is_meant)?;
        match &evidence.step {
            Step::Refused { protocol, reason, message, .. } => {
                Some(Refusal { evidence, protocol: *protocol, reason: *reason, message })
            }
            _ => None,
        }
    }

    /// Returns the address that the last script was asked from, if that script has no config for want of evidence.
    pub fn withheld_config(&self) -> Option<Option<IpAddr>> {
        withheld_config(self.boot().steps)
    }

    /// Returns the script of the present boot, if it is the last that the machine asked for.
    pub fn script(&self) -> Option<(&'a Evidence, ScriptStep)> {
        self.boot().find_map(|evidence| match &evidence.step {
            Step::Script { action } => Some((evidence, *action)),
            _ => None,
        })
    }
}
