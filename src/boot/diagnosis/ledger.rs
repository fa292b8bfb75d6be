//! Where the minutes of a boot went: its stages one after the other, and what of them can be saved. Pure.
//!
//! The stages of a ledger follow each other without a gap, so their sum is the duration of the boot. Each step that was
//! seen says what the machine does from then on.

mod advice;
mod next_step;
mod notes;
mod stage;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::boot::Reason;
use crate::fleet::{BootMode, Host, Phase};

use super::evidence::{
    DhcpClient, Download, DownloadKind, DownloadOutcome, Evidence, ScriptStep, Step, TransferOutcome, Uptime,
};
use super::scene::{Boot, Progress, divide};

pub use next_step::NextStep;
pub use stage::{BootOutcome, LedgerStage};
pub use traffic::Traffic;

/// Time in which the system on the disk is waited for after the machine was sent there.
const SYSTEM_TIMEOUT: Duration = Duration::from_secs(180);
/// Time after its last step in which a machine that installs nothing is taken to be in its boot still.
const IDLE_TIME: Duration = Duration::from_secs(600);
/// Range of the seconds that firmware says it has waited. Other values are no seconds: some firmware writes other things.
const PLAUSIBLE_SECONDS: std::ops::Range<u16> = 4..600;
/// Octets of an image beyond which its kernel was loaded.
const KERNEL_OCTETS: u64 = 1_000_000;
/// Time without a read after which a loader that has read that much has started the kernel.
const LOADER_PAUSE: Duration = Duration::from_secs(3);

/// Reasons to refuse a boot program to a machine that is to boot its disk.
const DISK_REASONS: [Reason; 4] =
    [Reason::InstallCompleted, Reason::InstallFailed, Reason::MaxBootsReached, Reason::NotAssigned];

/// Where the time of one boot went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// Time of the first step that was seen. It is later than the newest step of every earlier boot.
    pub first: Uptime,
    /// Begin of the boot: its power-on, or the first request that its firmware sent.
    pub begin: Uptime,
    /// End of the boot, or the present time.
    pub end: Uptime,
    /// Time of the newest step, when it occurred first.
    pub newest: Uptime,
    /// The way in which the boot ended; `None` while it goes on.
    pub outcome: Option<BootOutcome>,
    /// Time from which on nothing is added to a boot that ended; `None` while it goes on.
    pub final_at: Option<Uptime>,
    /// The stages, in order and without gaps.
    pub lines: Vec<LedgerLine>,
    /// What of the time can be saved, in sentences without a full stop.
    pub advice: Vec<String>,
    /// What the machine is to do next, if the boot goes on.
    pub next: Option<NextStep>,
    /// What the machine loaded.
    pub traffic: Traffic,
}

/// A stage of a boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerLine {
    /// The stage.
    pub stage: LedgerStage,
    /// Its begin.
    pub start: Uptime,
    /// Its duration.
    pub duration: Duration,
    /// What was seen in it, for people.
    pub note: Option<String>,
}

impl Ledger {
    /// Returns the duration of the boot.
    pub fn duration(&self) -> Duration {
        self.end.saturating_sub(self.begin)
    }

    /// Returns the milliseconds of each stage. Their sum is the duration of the boot in milliseconds.
    pub fn milliseconds(&self) -> BTreeMap<LedgerStage, u64> {
        let mut stages = BTreeMap::new();
        for (line, length) in self.lines.iter().zip(self.line_milliseconds()) {
            *stages.entry(line.stage).or_default() += length;
        }
        stages
    }

    /// Returns the milliseconds of each line, rounded so that their sum is the duration of the boot in milliseconds.
    pub fn line_milliseconds(&self) -> Vec<u64> {
        let since_begin = |at: Uptime| u64::try_from(at.saturating_sub(self.begin).as_millis()).unwrap_or(u64::MAX);
        let length = |line: &LedgerLine| since_begin(line.start + line.duration) - since_begin(line.start);
        self.lines.iter().map(length).collect()
    }
}

/// Returns the ledgers of a machine's boots, oldest first. `install_timeout` is the time limit of an install; zero for
/// none.
pub fn ledgers(steps: &[Evidence], host: Option<&Host>, install_timeout: Duration, now: Uptime) -> Vec<Ledger> {
    let boots = divide(steps);
    let last = boots.len().saturating_sub(1);
    let is_forever = host.is_some_and(|host| host.spec.boot_mode == BootMode::Forever);
    let ledger = |(index, boot): (usize, &Boot<'_>)| {
        let (first, newest) = (boot.steps.first()?.first, boot.steps.last()?.first);
        let earliest = index.checked_sub(1).map_or(Uptime::ZERO, |before| boots[before].last()).min(first);
        let path = Path::new(*boot, is_forever, earliest);
        let reset = boots.get(index + 1).and_then(|next| next.steps.first());
        let reset = reset.filter(|next| next.step == Step::PoweredOn).map(|next| next.first);
        let (end, outcome, final_at) = path.end(index < last, reset, now);
        let lines = path.lines(end);
        let begin = lines.first()?.start;
        let advice = advice::advice(boot, &lines);
        let is_held = host.is_some_and(|host| host.status.phase == Phase::Held);
        let next = outcome.is_none().then(|| next_step::next_step(boot, is_held, install_timeout)).flatten();
        let traffic = Traffic::of(boot.steps);
        Some(Ledger { first, begin, end, newest, outcome, final_at, lines, advice, next, traffic })
    };
    boots.iter().enumerate().filter_map(ledger).collect()
}

/// The stages that a boot went through.
struct Path<'a> {
    boot: Boot<'a>,
    /// The begins of the stages, in order.
    begins: Vec<(Uptime, LedgerStage)>,
    /// Time of the first sign of a system, of the installer or on the disk.
    system: Option<Uptime>,
    /// Whether the machine is to be installed in this boot.
    installs: bool,
}

impl<'a> Path<'a> {
    /// Follows a boot that began at `earliest` or later.
    fn new(boot: Boot<'a>, is_forever: bool, earliest: Uptime) -> Self {
        let installs = !is_forever
            && boot.has(|step| matches!(step, Step::Script { action: ScriptStep::Attach | ScriptStep::Load }));
        let system = first_sign(&boot);
        let mut path = Self { boot, begins: Vec::new(), system, installs };
        let mut marks: Vec<_> = boot.steps.iter().flat_map(|evidence| marks(&boot, evidence)).collect();
        marks.extend(system.map(|at| (at, LedgerStage::Install)));
        marks.sort_by_key(|(at, _)| *at);
        marks.into_iter().for_each(|(at, stage)| path.enter(at, stage));
        path.add_kernel();
        path.add_unheard(earliest);
        path
    }

    /// Begins a stage, unless the boot is beyond it.
    fn enter(&mut self, at: Uptime, stage: LedgerStage) {
        if let Some((_, present)) = self.begins.last()
            && (stage == *present || !stage.may_follow(*present))
        {
            return;
        }
        self.begins.push((at, stage));
    }

    /// Divides the time from the script to the system: the loader reads, then the kernel starts.
    fn add_kernel(&mut self) {
        let Some(loader) = self.begins.iter().rposition(|(_, stage)| *stage == LedgerStage::Loader) else { return };
        let (begin, until) = (self.begins[loader].0, self.begins.get(loader + 1).map(|(at, _)| *at));
        let is_loading = |evidence: &&Evidence| {
            let is_in = evidence.last >= begin && until.is_none_or(|until| evidence.first <= until);
            is_in && octets(&evidence.step) > 0
        };
        let reads: Vec<_> = self.boot.steps.iter().filter(is_loading).collect();
        let octets: u64 = reads.iter().map(|evidence| octets(&evidence.step)).sum();
        let last = reads.iter().map(|evidence| evidence.last).max();
        // Reads that go on after the system's first request are not divided: they may be the system's.
        if let Some(last) = last.filter(|last| octets >= KERNEL_OCTETS && until.is_none_or(|until| *last < until)) {
            self.begins.insert(loader + 1, (last, LedgerStage::Kernel));
        }
    }

    /// Puts the time before the first request in which the firmware asked and was not heard.
    fn add_unheard(&mut self, earliest: Uptime) {
        let Some((heard, secs)) = first_discover(&self.boot) else { return };
        let Some(place) = self.begins.iter().position(|mark| *mark == (heard, LedgerStage::Dhcp)) else { return };
        let asked = heard.saturating_sub(Duration::from_secs(secs.into()));
        let before = place.checked_sub(1).map_or(earliest, |before| self.begins[before].0);
        self.begins.insert(place, (asked.max(before), LedgerStage::Unheard));
    }

    /// Returns the end of the boot, the way in which it ended, and when nothing is added to it any more. `reset` is when
    /// its BMC began the next one.
    fn end(&self, has_next: bool, reset: Option<Uptime>, now: Uptime) -> (Uptime, Option<BootOutcome>, Option<Uptime>) {
        let time = |test: fn(&Step) -> bool| {
            self.boot.steps.iter().find(|evidence| test(&evidence.step)).map(|evidence| evidence.first)
        };
        if let Some(at) = time(|step| matches!(step, Step::Completed)) {
            return (at, Some(BootOutcome::Installed), Some(at));
        }
        if let Some(sent) = self.sent_to_disk() {
            let settled = self.system.or(self.boot.off_at()).unwrap_or(sent + SYSTEM_TIMEOUT);
            return (
                self.system.unwrap_or(sent),
                Some(BootOutcome::LocalDisk),
                Some(if has_next { sent } else { settled }),
            );
        }
        let last = if self.installs { self.boot.last() } else { self.system.unwrap_or_else(|| self.boot.last()) };
        if let Some(off) = self.boot.off_at() {
            return (self.cut(last, off), Some(BootOutcome::PoweredOff), Some(off));
        }
        match has_next {
            true => {
                let end = reset.map_or(last, |reset| self.cut(last, reset));
                (end, Some(BootOutcome::Restarted), Some(end))
            }
            // The last reads tell that the kernel runs once they have stopped for a while.
            false => (if self.installs { now } else { self.system.unwrap_or(now) }, None, None),
        }
    }

    /// Returns the end of a boot that the BMC cut: then, unless the boot was over long before.
    fn cut(&self, last: Uptime, at: Uptime) -> Uptime {
        if self.installs || at.saturating_sub(last) < IDLE_TIME { at.max(last) } else { last }
    }

    /// Returns when the machine was sent to its disk: by a script, or by no answer to its firmware.
    fn sent_to_disk(&self) -> Option<Uptime> {
        let script = self.boot.find_map(|evidence| match evidence.step {
            Step::Script { action } => Some((evidence.first, action)),
            _ => None,
        });
        match script {
            Some((at, action)) => (action == ScriptStep::LocalDisk).then_some(at),
            None => left_to_disk(&self.boot),
        }
    }

    /// Returns the stages up to the end of the boot.
    fn lines(&self, end: Uptime) -> Vec<LedgerLine> {
        let mut begins: Vec<_> = self.begins.iter().filter(|(at, _)| *at <= end).copied().collect();
        // A loader that has just read something may go on.
        if self.system.is_none()
            && begins.last().is_some_and(|(at, stage)| *stage == LedgerStage::Kernel && end - *at < LOADER_PAUSE)
        {
            begins.pop();
        }
        // A stage that begins with the end of the boot takes no time.
        if begins.len() > 1 && begins.last().is_some_and(|(at, _)| *at == end) {
            begins.pop();
        }
        let ends = begins.iter().skip(1).map(|(at, _)| *at).chain([end]);
        let line = |((start, stage), end): (&(Uptime, LedgerStage), Uptime)| {
            let note = notes::note(&self.boot, *stage, *start..end);
            LedgerLine { stage: *stage, start: *start, duration: end.saturating_sub(*start), note }
        };
        begins.iter().zip(ends).map(line).collect()
    }
}

/// Returns what a step says of the machine from then on. A script that is served was asked for, and a program that was
/// loaded over HTTP starts.
fn marks(boot: &Boot<'_>, evidence: &Evidence) -> impl Iterator<Item = (Uptime, LedgerStage)> {
    let asked = matches!(evidence.step, Step::Script { .. }).then_some((evidence.first, LedgerStage::Script));
    let is_program =
        |download: &Download| (download.kind, download.outcome) == (DownloadKind::Program, DownloadOutcome::Complete);
    let loaded = matches!(&evidence.step, Step::Download(download) if is_program(download));
    let starts = loaded.then_some((evidence.last, LedgerStage::ProgramStart));
    asked.into_iter().chain(mark(boot, evidence)).chain(starts)
}

/// Returns the stage that begins with a step.
fn mark(boot: &Boot<'_>, evidence: &Evidence) -> Option<(Uptime, LedgerStage)> {
    let is_firmware_ipxe = || !boot.has(|step| matches!(step, Step::Discover { client: DhcpClient::Firmware(..), .. }));
    let stage = match &evidence.step {
        // The last one counts: those before led to nothing.
        Step::PoweredOn | Step::WakeSent => return Some((evidence.last, LedgerStage::Power)),
        Step::SolicitV6 => LedgerStage::Ipv6,
        Step::OtherInterface { client: DhcpClient::Firmware(..), .. } => LedgerStage::OtherInterface,
        Step::Discover { client, .. } | Step::Request { client, .. } => match client {
            DhcpClient::Firmware(..) => LedgerStage::Dhcp,
            DhcpClient::Ipxe if matches!(evidence.step, Step::Request { .. }) => LedgerStage::Script,
            DhcpClient::Ipxe if is_firmware_ipxe() => LedgerStage::Dhcp,
            DhcpClient::Ipxe => LedgerStage::ProgramStart,
            DhcpClient::System => return None,
        },
        Step::ProxyRequest { .. } => LedgerStage::Dhcp,
        Step::FileRequested { file, .. } if Progress::is_script(file) => LedgerStage::Script,
        Step::Transfer(transfer) if Progress::is_script(&transfer.file) => return None,
        Step::FileRequested { .. } | Step::HeadRequested { .. } => LedgerStage::Program,
        Step::Download(download) if download.kind == DownloadKind::Program => LedgerStage::Program,
        Step::Transfer(transfer) if transfer.outcome == TransferOutcome::Complete => LedgerStage::ProgramStart,
        Step::Script { action } => match action {
            ScriptStep::Attach | ScriptStep::Load => LedgerStage::Loader,
            ScriptStep::LocalDisk => LedgerStage::System,
            ScriptStep::Wait => LedgerStage::Wait,
        },
        Step::Refused { .. } => return left_to_disk(boot).map(|at| (at, LedgerStage::System)),
        Step::Login { .. } | Step::Read { .. } | Step::Download(_) => LedgerStage::Loader,
        _ => return None,
    };
    Some((evidence.first, stage))
}

/// Returns when the firmware last asked for a program that it is not given, so that it boots its disk.
fn left_to_disk(boot: &Boot<'_>) -> Option<Uptime> {
    let goes_on = |step: &Step| {
        matches!(
            step,
            Step::Script { .. } | Step::FileRequested { .. } | Step::HeadRequested { .. } | Step::Download(_)
        )
    };
    let is_left = |step: &Step| matches!(step, Step::Refused { reason, .. } if DISK_REASONS.contains(reason));
    boot.find(is_left).filter(|_| !boot.has(goes_on)).map(|evidence| evidence.last)
}

/// Returns the time of the first sign of a system after the machine was told what to boot.
fn first_sign(boot: &Boot<'_>) -> Option<Uptime> {
    let told = |step: &Step| matches!(step, Step::Script { .. } | Step::Login { .. } | Step::Refused { .. });
    let begin = boot.steps.iter().position(|evidence| told(&evidence.step))?;
    let mut read = 0;
    let mut config = None;
    for evidence in &boot.steps[begin..] {
        match &evidence.step {
            Step::Discover { client: DhcpClient::System, .. }
            | Step::Request { client: DhcpClient::System, .. }
            | Step::InstallerActive => return Some(evidence.first),
            // The kernel attaches the image again. Firmware does so too, after it has read the boot catalogue.
            Step::Login { .. } if read >= KERNEL_OCTETS => return Some(evidence.first),
            Step::Script { .. } => read = 0,
            Step::Read { .. } | Step::Download(_) => read += octets(&evidence.step),
            // A config that is embedded in the image may have been read by the loader: any other sign says more.
            Step::ConfigServed { .. } => config = config.or(Some(evidence.first)),
            _ => {}
        }
    }
    config
}

/// Returns the first request of the firmware, with the seconds that it says it has waited, if it was not heard before.
fn first_discover(boot: &Boot<'_>) -> Option<(Uptime, u16)> {
    let first = boot.steps.iter().find_map(|evidence| match evidence.step {
        Step::Discover { secs, client: DhcpClient::Firmware(..), .. } => Some((evidence.first, secs)),
        _ => None,
    });
    first.filter(|(_, secs)| PLAUSIBLE_SECONDS.contains(secs))
}

fn octets(step: &Step) -> u64 {
    match step {
        Step::Read { octets, .. } => *octets,
        Step::Download(download) if download.kind == DownloadKind::Image => download.octets,
        _ => 0,
    }
}
