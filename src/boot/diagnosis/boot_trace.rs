//! The steps of one machine: bounded, and joined where they repeat.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::evidence::{
    DhcpClient, Download, DownloadKind, DownloadOutcome, Evidence, FileTransfer, Step, TransferOutcome, Uptime,
};

/// The steps of one machine, oldest first. Bounded: the oldest step gives way to a new one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BootTrace(VecDeque<Kept>);

/// A step that is kept. It fills one line of a CPU's cache: with a thousand machines that boot, each DHCP message finds the
/// last steps of its machine in main memory.
#[derive(Debug, Clone, PartialEq)]
#[repr(align(64))]
struct Kept {
    /// Time of the first occurrence, in nanoseconds.
    first: u64,
    /// Time of the last occurrence, in nanoseconds.
    last: u64,
    /// Number of occurrences.
    count: u32,
    step: Step,
}

const _: () = assert!(size_of::<Kept>() == 64, "a step fills one line");

impl BootTrace {
    /// Maximum number of steps of one machine: three to four boots.
    pub const MAX_STEPS: usize = 64;
    /// Number of the newest steps that a repeated step is looked for in.
    const JOIN_WINDOW: usize = 6;
    /// Number of downloads of the image among them that are steps of their own.
    const MAX_DOWNLOADS: usize = 4;
    /// Pause after which a request that begins no boot by itself is not a repetition: the machine was started again.
    const JOIN_PAUSE: Duration = Duration::from_secs(120);

    /// Returns the steps, by the time of their first occurrence.
    pub fn steps(&self) -> Vec<Evidence> {
        self.0.iter().map(Kept::evidence).collect()
    }

    /// Returns the relays that the machine asked through.
    pub fn relays(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.0.iter().filter_map(|evidence| match evidence.step {
            Step::Discover { relay, .. } => relay,
            _ => None,
        })
    }

    /// Returns the time of the last step.
    pub fn last(&self) -> Option<Uptime> {
        self.0.iter().map(|kept| kept.last).max().map(Duration::from_nanos)
    }

    /// Records our offer of a boot file.
    pub fn record_offer(&mut self, file: &str, has_address: bool, delay: Option<Duration>, now: Uptime) {
        let is_same = |known: &Kept| matches!(&known.step, Step::Offered { file: known, .. } if **known == *file);
        match self.recent(is_same, Kept::is_discover) {
            Some(known) => {
                (known.last, known.count) = (nanoseconds(now), known.count.saturating_add(1));
                if let Step::Offered { delay: longest, .. } = &mut known.step {
                    *longest = (*longest).max(delay);
                }
            }
            None => {
                let file = self.known_file(file).unwrap_or_else(|| file.into());
                self.push(Step::Offered { file, has_address, delay }, now);
            }
        }
    }

    /// Returns the name of a boot file as an offer before has it: most machines are offered one file at every boot.
    fn known_file(&self, file: &str) -> Option<Arc<str>> {
        self.0.iter().rev().take(Self::JOIN_WINDOW).find_map(|evidence| match &evidence.step {
            Step::Offered { file: known, .. } if **known == *file => Some(known.clone()),
            _ => None,
        })
    }

    /// Returns the octets of the reads that further ones are joined to.
    pub fn octets_read(&mut self) -> u64 {
        let ends = |known: &Kept| known.is_discover() || matches!(known.step, Step::Login { .. });
        match self
            .recent(|known| matches!(known.step, Step::Read { is_over: false, .. }), ends)
            .map(|known| &known.step)
        {
            Some(Step::Read { octets, .. }) => *octets,
            _ => 0,
        }
    }

    /// Records a step. A repetition of a recent one is joined to it.
    pub fn record(&mut self, step: Step, now: Uptime) {
        let is_same = |known: &Kept| {
            let is_in_time =
                !step.precedes_boot() || now.saturating_sub(Duration::from_nanos(known.last)) < Self::JOIN_PAUSE;
            is_in_time && known.step.is_repeated_by(&step)
        };
        // The reads of a session are no repetition of those of the session before.
        let is_read = matches!(step, Step::Read { .. });
        // Machines whose DISCOVERs are not heard begin again at their program, or at their script.
        let (is_program, is_script) = (step.requested_program().is_some(), matches!(step, Step::Script { .. }));
        let is_power = matches!(step, Step::PoweredOn | Step::PoweredOff);
        let ends = |known: &Kept| match &known.step {
            Step::Login { .. } => is_read,
            Step::Script { .. } => is_program,
            Step::PoweredOn | Step::PoweredOff | Step::SolicitV6 => is_power && known.step != step,
            Step::ConfigServed { .. } | Step::InstallerActive | Step::Completed => is_script,
            step => known.is_discover() || (is_script && step.requested_program().is_some()),
        };
        match self.recent(is_same, ends) {
            Some(known) => {
                if !known.step.is_end_of(&step) && !is_silent(&step) {
                    known.last = nanoseconds(now);
                }
                if !matches!(step, Step::Download(_)) {
                    known.count = known.count.saturating_add(1);
                }
                known.step.take_progress_of(step);
            }
            None => self.push(step, now),
        }
    }

    /// Returns the newest step that a test admits, among the last few and not before one that ends the search: a new boot
    /// is no repetition of steps of the boot before.
    fn recent(&mut self, test: impl Fn(&Kept) -> bool, ends: impl Fn(&Kept) -> bool) -> Option<&mut Kept> {
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
        if matches!(&step, Step::Download(download) if download.kind == DownloadKind::Image) {
            self.fold_downloads();
        }
        if self.0.len() == Self::MAX_STEPS {
            // Boots go as a whole. The only one keeps its first step, which tells when it began.
            match self.second_boot() {
                Some(begin) => drop(self.0.drain(..begin)),
                None => drop(self.0.remove(1)),
            }
        }
        let now = nanoseconds(now);
        self.0.push_back(Kept { first: now, last: now, count: 1, step });
    }

    /// Makes the oldest of several downloads of the image that are complete one with the reads: an installer loads
    /// thousands of files, and the steps before them are to stay.
    fn fold_downloads(&mut self) {
        let begin = self.0.len().saturating_sub(Self::JOIN_WINDOW);
        let complete = |evidence: &Kept| match &evidence.step {
            Step::Download(download) if download.kind == DownloadKind::Image => {
                (download.outcome == DownloadOutcome::Complete).then_some(download.octets)
            }
            _ => None,
        };
        let mut places = (begin..self.0.len()).filter_map(|at| Some((at, complete(&self.0[at])?)));
        let Some((place, loaded)) = places.next() else { return };
        if places.count() + 1 < Self::MAX_DOWNLOADS {
            return;
        }
        let is_read = |evidence: &Kept| matches!(evidence.step, Step::Read { is_over: false, .. });
        let end = self.0[place].last;
        match (begin..place).rev().find(|at| is_read(&self.0[*at])) {
            Some(at) => {
                let reads = &mut self.0[at];
                if let Step::Read { octets, .. } = &mut reads.step {
                    *octets = octets.saturating_add(loaded);
                }
                (reads.last, reads.count) = (reads.last.max(end), reads.count.saturating_add(1));
                drop(self.0.remove(place));
            }
            None => self.0[place].step = Step::Read { octets: loaded, is_over: false },
        }
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

/// Returns whether a step is the end of a download whose machine did nothing at that time.
fn is_silent(step: &Step) -> bool {
    matches!(step, Step::Download(download) if download.outcome == DownloadOutcome::Silent)
}

/// Returns a time in nanoseconds.
fn nanoseconds(time: Uptime) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Kept {
    fn evidence(&self) -> Evidence {
        let Self { first, last, count, step } = self.clone();
        Evidence { first: Duration::from_nanos(first), last: Duration::from_nanos(last), count, step }
    }

    /// Returns whether this is a DISCOVER of a boot program.
    fn is_discover(&self) -> bool {
        matches!(self.step, Step::Discover { client: DhcpClient::Firmware(..) | DhcpClient::Ipxe, .. })
    }
}

impl Step {
    /// Returns whether the step may come before a boot, and may repeat at the next one.
    fn precedes_boot(&self) -> bool {
        matches!(
            self,
            Self::WakeSent | Self::SolicitV6 | Self::RequestV6 | Self::OtherInterface { .. } | Self::BmcFailed { .. }
        )
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
            (Self::Transfer(transfer), Self::Transfer(again)) => {
                let is_silent = |one: &FileTransfer| one.outcome == TransferOutcome::Silent;
                transfer.file == again.file && is_silent(transfer) && is_silent(again)
            }
            (Self::Read { is_over: false, .. }, Self::Read { .. }) => true,
            (Self::Download(download), Self::Download(again)) => download.goes_on_as(again),
            (Self::Unreachable { from_port, .. }, Self::Unreachable { from_port: again, .. }) => {
                from_port == again || from_port.min(again) >= &1024
            }
            (Self::OtherInterface { .. }, Self::OtherInterface { .. }) => true,
            _ => self == other && !matches!(self, Self::Transfer(_) | Self::Login { .. }),
        }
    }

    /// Takes over how far a repeated step has come.
    fn take_progress_of(&mut self, again: Self) {
        if matches!(self, Self::Read { .. } | Self::Transfer(_) | Self::Download(_)) {
            *self = again;
        }
    }
}

impl Download {
    /// Returns whether another step is a later state of this download.
    fn goes_on_as(&self, other: &Self) -> bool {
        let key = |one: &Self| (one.kind, one.size);
        self.outcome == DownloadOutcome::UnderWay && key(self) == key(other) && self.file == other.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::BootProtocol;
    use crate::fleet::Architecture;

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

    fn download(file: &str, outcome: DownloadOutcome, octets: u64) -> Step {
        let (file, agent) = (file.into(), "iPXE/1.21.1".into());
        Step::Download(Box::new(Download { file, kind: DownloadKind::Image, outcome, octets, size: 100, agent }))
    }

    #[test]
    fn a_download_is_one_step_from_its_request_to_its_end() {
        let mut trace = BootTrace::default();
        let states =
            [(0, DownloadOutcome::UnderWay, 0), (3, DownloadOutcome::UnderWay, 50), (5, DownloadOutcome::Aborted, 70)];
        for (second, outcome, octets) in states {
            trace.record(download("vmlinuz", outcome, octets), Uptime::from_secs(second));
        }
        trace.record(download("vmlinuz", DownloadOutcome::UnderWay, 0), Uptime::from_secs(9));
        trace.record(download("initrd", DownloadOutcome::UnderWay, 0), Uptime::from_secs(10));
        trace.record(download("vmlinuz", DownloadOutcome::Complete, 100), Uptime::from_secs(11));
        let steps = trace.steps();
        let times: Vec<_> = steps.iter().map(|one| (one.first.as_secs(), one.last.as_secs(), one.count)).collect();
        assert_eq!(times, [(0, 5, 1), (9, 11, 1), (10, 10, 1)]);
        assert_eq!(steps[0].step, download("vmlinuz", DownloadOutcome::Aborted, 70));
        assert_eq!(steps[1].step, download("vmlinuz", DownloadOutcome::Complete, 100));
    }

    #[test]
    fn the_many_files_of_an_installer_become_one_step() {
        let mut trace = BootTrace::default();
        trace.record(discover(1), Uptime::ZERO);
        for number in 0..200 {
            let (file, second) = (number.to_string(), Uptime::from_secs(number));
            trace.record(download(&file, DownloadOutcome::UnderWay, 0), second);
            trace.record(download(&file, DownloadOutcome::Complete, 100), second);
        }
        let steps = trace.steps();
        assert_eq!(steps[0].step, discover(1));
        assert_eq!(steps[1].step, Step::Read { octets: 196 * 100, is_over: false });
        assert_eq!(steps.len(), 6);
    }
}
