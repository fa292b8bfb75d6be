//! What installers say: checked, bounded, without secrets, into the timeline of their host.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::boot::DropReason;
use crate::boot::diagnosis::Step;
use crate::boot::installer::{
    InstallerFailure, InstallerLine, LogLevel, MAX_MESSAGE_LENGTH, MAX_STAGE_LENGTH, PartTexts, Redactor,
    installer_failure, redact,
};
use crate::bounds::{Excess, ListenerPlace, ListenerPlaces, Rate, ShareLimits, TokenBuckets};
use crate::event::Event;
use crate::fleet::text::printable;
use crate::fleet::{BootConfig, Host, Mac, Name, Phase};
use crate::gate::Gate;
use crate::store::{StoreError, now};

/// Maximum number of machines whose lines are kept. Beyond it the machine that spoke longest ago is forgotten.
const MAX_MACHINES: usize = 4096;
/// Maximum number of configs whose redactors are kept. All are dropped when it is exceeded.
const MAX_REDACTORS: usize = 64;
/// Number of recent lines of a machine that a repeated line is looked for in, as in the timeline.
const RECENT_LINES: usize = 16;
/// Time in which a less specific failure counts as the consequence of the one before it.
const CONSEQUENCE_INTERVAL: Duration = Duration::from_secs(60);

/// Number of entries of the timeline that are read for lines after a restart.
const RESTORED_ENTRIES: usize = 10_000;
/// Limits of reports that are being received.
const REPORTS: ShareLimits = ShareLimits { total: 64, per_source: 4, reserve: 16 };

/// The bounds of one class of a machine's lines.
#[derive(Debug, Clone, Copy)]
struct ClassBounds {
    /// Lines in a time.
    rate: Rate,
    /// Lines of one boot in the timeline, without repetitions.
    lines: u32,
}

/// The class of a line. Each has its own bounds, so that details leave room for faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum LineClass {
    /// A line that says why the installer stopped.
    Failure,
    /// A warning, an error, or a report of a step.
    Notable,
    /// Any other line.
    Ordinary,
    /// A line for developers.
    Detail,
}

impl LineClass {
    const ALL: [Self; 4] = [Self::Failure, Self::Notable, Self::Ordinary, Self::Detail];

    fn of(line: &InstallerLine, failure: Option<InstallerFailure>) -> Self {
        match failure {
            Some(_) => Self::Failure,
            None if line.is_notable() => Self::Notable,
            None if line.level == Some(LogLevel::Debug) => Self::Detail,
            None => Self::Ordinary,
        }
    }

    const fn bounds(self) -> ClassBounds {
        let second = Duration::from_secs(1);
        match self {
            Self::Failure => ClassBounds { rate: Rate { tokens: 2, per: second, burst: 20 }, lines: 50 },
            Self::Notable => ClassBounds { rate: Rate { tokens: 5, per: second, burst: 100 }, lines: 200 },
            Self::Ordinary => ClassBounds { rate: Rate { tokens: 1, per: second, burst: 30 }, lines: 100 },
            Self::Detail => ClassBounds { rate: Rate { tokens: 1, per: Duration::from_secs(5), burst: 10 }, lines: 30 },
        }
    }
}

/// The last line of an installer, with its time.
#[derive(Debug, Clone)]
pub struct LastLine {
    /// Time of the line.
    pub time: Timestamp,
    /// The line, without secrets.
    pub line: InstallerLine,
}

/// The line of an installer that says why it stopped, with its time.
#[derive(Debug, Clone)]
pub struct LastFailure {
    /// Time of the line.
    pub time: Timestamp,
    /// The line, without secrets.
    pub line: InstallerLine,
    /// The failure that it reports.
    pub failure: InstallerFailure,
}

/// The lines of all machines' installers since their last boot, as far as decisions depend on them.
#[derive(Debug)]
pub struct InstallerLines {
    state: Mutex<LineState>,
    report_places: Arc<ListenerPlaces>,
    /// Finds the parts of user-data, which may have secrets.
    part_texts: PartTexts,
}

#[derive(Debug)]
struct LineState {
    machines: HashMap<Mac, MachineLines>,
    rates: [TokenBuckets<Mac>; LineClass::ALL.len()],
    redactors: HashMap<Name, (u64, Arc<Redactor>)>,
}

/// The lines of one machine's installer since its last boot.
#[derive(Debug)]
struct MachineLines {
    /// The boot: the time of its script.
    boot: Option<Timestamp>,
    spoke: Instant,
    counts: [u32; LineClass::ALL.len()],
    recent: VecDeque<u64>,
    last: Option<LastLine>,
    failure: Option<LastFailure>,
}

impl Default for InstallerLines {
    fn default() -> Self {
        Self::new(|_| Vec::new())
    }
}

impl InstallerLines {
    /// Creates the lines of no machine. `part_texts` finds the parts of user-data, which may have secrets.
    pub fn new(part_texts: PartTexts) -> Self {
        let rates = LineClass::ALL.map(|class| TokenBuckets::new(class.bounds().rate, MAX_MACHINES));
        let state = Mutex::new(LineState { machines: HashMap::new(), rates, redactors: HashMap::new() });
        Self { state, report_places: ListenerPlaces::new(REPORTS), part_texts }
    }

    /// Returns the redactor of the secrets in a config.
    pub(super) fn redactor_of(&self, config: &BootConfig) -> Redactor {
        Redactor::of_config(config, self.part_texts)
    }

    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a token of a class, before anything costly is done with a line.
    fn admit(&self, mac: Mac, class: LineClass, at: Instant) -> Result<(), DropReason> {
        match self.state().rates[class as usize].take(mac, at) {
            true => Ok(()),
            false => Err(DropReason::RateLimit),
        }
    }

    /// Notes a line that is free of secrets. Returns whether it belongs in the timeline.
    fn note(
        &self,
        (mac, boot): (Mac, Option<Timestamp>),
        (line, failure): (&InstallerLine, Option<InstallerFailure>),
        class: LineClass,
        (time, at): (Timestamp, Instant),
    ) -> Result<(), DropReason> {
        let mut state = self.state();
        let lines = state.machine(mac, boot, at);
        lines.last = Some(LastLine { time, line: line.clone() });
        if let Some(failure) = failure.filter(|failure| lines.replaces(*failure, line, time)) {
            lines.failure = Some(LastFailure { time, line: line.clone(), failure });
        }
        let mut hasher = DefaultHasher::new();
        line.hash(&mut hasher);
        let hash = hasher.finish();
        if lines.recent.contains(&hash) {
            return Ok(());
        }
        let count = &mut lines.counts[class as usize];
        if *count >= class.bounds().lines {
            return Err(DropReason::LineLimit);
        }
        *count += 1;
        if lines.recent.len() == RECENT_LINES {
            lines.recent.pop_front();
        }
        lines.recent.push_back(hash);
        Ok(())
    }
}

impl LineState {
    /// Returns the lines of a machine's present boot.
    fn machine(&mut self, mac: Mac, boot: Option<Timestamp>, at: Instant) -> &mut MachineLines {
        if self.machines.len() >= MAX_MACHINES && !self.machines.contains_key(&mac) {
            let oldest = self.machines.iter().min_by_key(|(_, lines)| lines.spoke).map(|(mac, _)| *mac);
            oldest.inspect(|mac| drop(self.machines.remove(mac)));
        }
        let lines = self.machines.entry(mac).or_insert_with(|| MachineLines::new(boot, at));
        if lines.boot != boot {
            *lines = MachineLines::new(boot, at);
        }
        lines.spoke = at;
        lines
    }
}

impl MachineLines {
    fn new(boot: Option<Timestamp>, at: Instant) -> Self {
        Self {
            boot,
            spoke: at,
            counts: [0; LineClass::ALL.len()],
            recent: VecDeque::with_capacity(RECENT_LINES),
            last: None,
            failure: None,
        }
    }

    /// Returns whether a failure says more than the last one. What fails as a consequence says less: curtin reports the
    /// failure of a step, and then those of all steps that it is a part of.
    fn replaces(&self, failure: InstallerFailure, line: &InstallerLine, time: Timestamp) -> bool {
        let Some(last) = &self.failure else { return true };
        let is_soon = time.duration_since(last.time).unsigned_abs() < CONSEQUENCE_INTERVAL;
        let is_whole = match (&last.line.stage, &line.stage) {
            (Some(part), Some(whole)) => part != whole && part.starts_with(whole.as_str()),
            _ => false,
        };
        let is_less = last.failure.is_specific() && !failure.is_specific();
        !(is_soon && (is_less || is_whole && !failure.is_specific()))
    }
}

impl Gate {
    /// Records a line of the installer of the machine at an address, as far as evidence ties the address to one.
    ///
    /// # Errors
    /// The reason to drop the line.
    pub fn record_installer_line_from(
        &self,
        address: IpAddr,
        line: InstallerLine,
        is_cut: bool,
    ) -> Result<(), DropReason> {
        match self.owner_of(address) {
            Ok(Some(mac)) => self.record_installer_line(mac, line, is_cut),
            // Evidence that contradicts itself ties the address to nobody.
            Ok(None) | Err(_) => Err(DropReason::UntiedSource),
        }
    }

    /// Records a line of a machine's installer in the timeline, printable, without secrets of its config, and within the
    /// bounds of one machine, and for the diagnosis of its boot. `is_cut` is whether the end of the line is missing.
    ///
    /// # Errors
    /// The reason to drop the line.
    pub fn record_installer_line(&self, mac: Mac, line: InstallerLine, is_cut: bool) -> Result<(), DropReason> {
        let host = self.store.load().host_by_mac(mac).ok_or(DropReason::NoInstall)?;
        if !self.is_heard(&host) {
            return Err(DropReason::NoInstall);
        }
        let (failure, at) = (installer_failure(&line), Instant::now());
        let class = LineClass::of(&line, failure);
        self.installer_lines.admit(mac, class, at)?;
        let line = self.without_secrets(&host, line, is_cut);
        self.installer_lines.note((mac, host.status.last_boot_time), (&line, failure), class, (now(), at))?;
        self.counters.count_installer_line(line.source);
        self.trace(mac, Step::InstallerActive);
        if let Some(LastFailure { line, .. }) = failure.and_then(|_| self.last_installer_failure(mac)) {
            let source = line.stage.as_deref().unwrap_or(line.source.code()).into();
            self.trace(mac, Step::InstallerFailed { source, message: line.message.into() });
        }
        self.store.record_event(Some(mac), Event::from(line));
        Ok(())
    }

    /// Takes a place for a report that is received, from an address of the network.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn take_report_place(&self, from: Option<IpAddr>) -> Result<ListenerPlace, DropReason> {
        let from = from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let taken = self.installer_lines.report_places.take(from, || self.store.load().is_known_address(from));
        taken.map_err(|excess| match excess {
            Excess::Source => DropReason::SourceLimit,
            Excess::Total => DropReason::Overload,
        })
    }

    /// Returns the line by which the installer of a machine's present boot says why it stopped.
    pub fn last_installer_failure(&self, mac: Mac) -> Option<LastFailure> {
        let boot = self.store.load().host_by_mac(mac)?.status.last_boot_time;
        let state = self.installer_lines.state();
        state.machines.get(&mac).filter(|lines| lines.boot == boot)?.failure.clone()
    }

    /// Returns the last line of the installer of a machine's present boot.
    pub fn last_installer_line(&self, mac: Mac) -> Option<LastLine> {
        let boot = self.store.load().host_by_mac(mac)?.status.last_boot_time;
        let state = self.installer_lines.state();
        state.machines.get(&mac).filter(|lines| lines.boot == boot)?.last.clone()
    }

    /// Reads the lines of present boots back from the timeline, after a restart. Reads the disk: call it off the runtime's
    /// threads.
    ///
    /// # Errors
    /// The timeline cannot be read.
    pub fn restore_installer_lines(&self) -> Result<(), StoreError> {
        let at = Instant::now();
        for entry in self.store.timeline(None, RESTORED_ENTRIES)? {
            let time = entry.last.unwrap_or(entry.time);
            let (Some(mac), Event::Installer { source, stage, level, message }) = (entry.mac, entry.event) else {
                continue;
            };
            let boot = self.store.load().host_by_mac(mac).and_then(|host| host.status.last_boot_time);
            if boot.is_none_or(|boot| boot > time) {
                continue;
            }
            let line = InstallerLine { source, stage, level, message };
            let failure = installer_failure(&line);
            // A line that was recorded is within the bounds.
            let _ = self.installer_lines.note((mac, boot), (&line, failure), LineClass::of(&line, failure), (time, at));
        }
        Ok(())
    }

    /// Returns whether lines of a host belong to an install. An installed system that logs here is not heard for longer than
    /// its first boot takes.
    fn is_heard(&self, host: &Host) -> bool {
        let Some(install) = &host.status.install else { return false };
        match host.status.phase {
            Phase::LocalBoot | Phase::Held => false,
            Phase::Assigned | Phase::Offered | Phase::Installing | Phase::Failed => true,
            Phase::Installed => install
                .completion_time
                .is_none_or(|done| now().duration_since(done).unsigned_abs() < self.site().config_access.token_ttl),
        }
    }

    /// Returns a line without secrets, in printable characters, and no longer than the timeline shows it.
    fn without_secrets(&self, host: &Host, line: InstallerLine, is_cut: bool) -> InstallerLine {
        let (of_config, of_host) = (self.config_redactors(host), self.host_redactor(host));
        let redactors: Vec<&Redactor> = of_config.iter().map(Arc::as_ref).chain([&of_host]).collect();
        let clean = |text: &str, is_cut: bool, length: usize| {
            let text = printable(text.trim());
            shortened(redact(&text, &redactors, is_cut).trim(), length)
        };
        InstallerLine {
            source: line.source,
            stage: line.stage.map(|stage| clean(&stage, false, MAX_STAGE_LENGTH)).filter(|stage| !stage.is_empty()),
            level: line.level,
            message: clean(&line.message, is_cut, MAX_MESSAGE_LENGTH),
        }
    }

    /// Returns the redactors of the secrets in a host's config.
    fn config_redactors(&self, host: &Host) -> Vec<Arc<Redactor>> {
        match self.assigned_config(host) {
            Some(config) if config.spec.template.is_some() => self.served_redactors(host, &config),
            config => {
                // The machine may still run what it was served of a template before.
                let before = self.served_secrets.of(host.spec.boot_mac_address);
                config.map(|config| self.config_redactor(&config)).into_iter().chain(before).collect()
            }
        }
    }

    /// Returns the redactor of the secrets in a config that is not rendered.
    fn config_redactor(&self, config: &BootConfig) -> Arc<Redactor> {
        let (name, version) = (&config.metadata.name, config.metadata.resource_version);
        if let Some((known, redactor)) = self.installer_lines.state().redactors.get(name)
            && *known == version
        {
            return redactor.clone();
        }
        // A large config takes a while: other lines go on.
        let redactor = Arc::new(self.installer_lines.redactor_of(config));
        let mut state = self.installer_lines.state();
        if state.redactors.len() >= MAX_REDACTORS {
            state.redactors.clear();
        }
        state.redactors.insert(name.clone(), (version, redactor.clone()));
        redactor
    }

    /// Returns the redactor of the secrets of a host besides its config: its token, and those of its BMC and of CHAP.
    fn host_redactor(&self, host: &Host) -> Redactor {
        let state = self.store.load();
        let image = host.spec.image.image().and_then(|name| state.image(name)).cloned();
        let portal = image.and_then(|image| image.spec.portal.as_ref().and_then(|portal| portal.chap.clone()));
        let site = self.site();
        let chaps = host.spec.chap.iter().chain(&site.chap).chain(&portal);
        let chaps = chaps.flat_map(|chap| [Some(&chap.secret), chap.target_secret.as_ref()]).flatten();
        let bmc = host.spec.bmc.iter().map(|bmc| &bmc.password);
        let secrets = chaps.chain(bmc).map(|secret| secret.0.clone());
        Redactor::new(secrets.chain([self.tokens.of(host)]))
    }
}

/// Returns a text of at most `length` characters; one that is longer ends with an ellipsis.
fn shortened(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        None => text.to_owned(),
        Some(_) => text.chars().take(length.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::boot::installer::InstallerSource;
    use crate::boot::{Facts, Stage};
    use crate::event::Protocol;
    use crate::fleet::Kind;
    use crate::gate::fixture::{Fixture, VM};

    const ADDRESS: [u8; 4] = [10, 77, 0, 10];

    fn line(stage: &str, level: LogLevel, message: &str) -> InstallerLine {
        let (source, stage) = (InstallerSource::Syslog, Some(stage.to_owned()));
        InstallerLine { source, stage, level: Some(level), message: message.to_owned() }
    }

    fn info(message: &str) -> InstallerLine {
        line("anaconda", LogLevel::Info, message)
    }

    /// Serves the host `vm` the script of its install.
    async fn boot(fixture: &Fixture) {
        let facts = Facts { mac: VM, firmware: None, stage: Stage::Ipxe, address: Some(ADDRESS.into()), uuid: None };
        fixture.gate.script(&facts, None, Protocol::Http, None).await;
        assert_eq!(fixture.vm().status.phase, Phase::Offered);
    }

    async fn booted(config: serde_json::Value) -> Fixture {
        let fixture = Fixture::new("hold");
        fixture.put(Kind::BootConfig, "cfg", config).await;
        fixture.put_image(json!({"bootConfigs": ["cfg"]})).await;
        let bmc = json!({"address": "192.0.2.9", "password": "bmc-parole"});
        fixture.put_host(json!({"ip": "10.77.0.10", "bootConfigRef": "cfg", "bmc": bmc})).await;
        boot(&fixture).await;
        fixture
    }

    fn kickstart() -> serde_json::Value {
        json!({"format": "kickstart", "data": {"ks.cfg": "rootpw geheim\nuser --name=a --password=hidden\n"}})
    }

    async fn installer_entries(fixture: &Fixture, count: usize) -> Vec<(u32, Event)> {
        loop {
            let entries = fixture.timeline(count).await.into_iter();
            let lines: Vec<_> = entries
                .filter(|entry| matches!(entry.event, Event::Installer { .. }))
                .map(|entry| (entry.count, entry.event))
                .collect();
            if lines.len() >= count {
                return lines;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_line_belongs_to_the_machine_that_evidence_ties_its_address_to() {
        let fixture = booted(kickstart()).await;
        let gate = &fixture.gate;
        assert_eq!(gate.record_installer_line_from(ADDRESS.into(), info("hello"), false), Ok(()));
        let stranger = IpAddr::from([10, 77, 0, 99]);
        let refused = gate.record_installer_line_from(stranger, info("hello"), false);
        assert_eq!(refused, Err(DropReason::UntiedSource));
        let lines = installer_entries(&fixture, 1).await;
        assert_eq!(lines, [(1, Event::from(info("hello")))]);
        assert_eq!(gate.counters.installer_lines(InstallerSource::Syslog), 1);
        assert_eq!(gate.last_installer_line(VM).unwrap().line, info("hello"));
    }

    #[tokio::test]
    async fn no_secret_of_the_host_is_in_a_line() {
        let fixture = booted(kickstart()).await;
        let gate = &fixture.gate;
        let token = gate.tokens.of(&fixture.vm());
        let said = format!("geheim hidden bmc-parole {token} password=other \u{1b}[31mred\u{202e}");
        gate.record_installer_line(VM, line("geheim", LogLevel::Info, &said), false).unwrap();
        let expected = "REDACTED REDACTED REDACTED REDACTED password=REDACTED [31mred";
        assert_eq!(installer_entries(&fixture, 1).await[0].1, Event::from(line("REDACTED", LogLevel::Info, expected)));
        gate.record_installer_line(VM, info("the password is gehe"), true).unwrap();
        assert_eq!(gate.last_installer_line(VM).unwrap().line.message, "the password is REDACTED");
        fixture
            .put(Kind::BootConfig, "cfg", json!({"format": "kickstart", "data": {"ks.cfg": "rootpw neues-wort\n"}}))
            .await;
        gate.record_installer_line(VM, info("neues-wort"), false).unwrap();
        assert_eq!(gate.last_installer_line(VM).unwrap().line.message, "REDACTED", "the config that it has now");
    }

    #[tokio::test]
    async fn details_leave_room_for_faults() {
        let fixture = booted(kickstart()).await;
        let gate = &fixture.gate;
        let burst = LineClass::Ordinary.bounds().rate.burst as usize;
        let taken =
            (0..1000).filter(|number| gate.record_installer_line(VM, info(&number.to_string()), false).is_ok()).count();
        assert!((burst..burst + 5).contains(&taken), "{taken}");
        assert_eq!(gate.record_installer_line(VM, info("more"), false), Err(DropReason::RateLimit));
        gate.record_installer_line(VM, line("anaconda", LogLevel::Err, "no disks found"), false).unwrap();
        let last = gate.last_installer_failure(VM).unwrap();
        assert_eq!((last.failure, last.line.message.as_str()), (InstallerFailure::NoDisk, "no disks found"));
    }

    #[tokio::test]
    async fn the_lines_of_a_boot_are_bounded_and_repetitions_are_not_counted() {
        let fixture = booted(kickstart()).await;
        let gate = &fixture.gate;
        let limit = LineClass::Ordinary.bounds().lines;
        let boot = fixture.vm().status.last_boot_time;
        let note = |boot, message: &str| {
            let times = (now(), Instant::now());
            gate.installer_lines.note((VM, boot), (&info(message), None), LineClass::Ordinary, times)
        };
        for number in 0..limit {
            assert_eq!(note(boot, &number.to_string()), Ok(()));
        }
        assert_eq!(note(boot, &(limit - 1).to_string()), Ok(()), "a repetition is no further entry");
        assert_eq!(note(boot, "another"), Err(DropReason::LineLimit));
        assert_eq!(
            gate.last_installer_line(VM).unwrap().line.message,
            "another",
            "the last words are known all the same"
        );
        assert_eq!(note(Some(Timestamp::UNIX_EPOCH), "another"), Ok(()), "the next boot has its own lines");
    }

    #[tokio::test]
    async fn the_first_and_most_specific_failure_is_kept() {
        let fixture = booted(kickstart()).await;
        let gate = &fixture.gate;
        let said = |stage: &str, message: &str| {
            gate.record_installer_line(VM, line(stage, LogLevel::Err, message), false).unwrap();
            gate.last_installer_failure(VM).unwrap().line.message
        };
        assert_eq!(said("curtin-a/b/c", "odd"), "odd");
        assert_eq!(said("curtin-a/b", "whole"), "odd", "the failure of the whole follows from that of its part");
        assert_eq!(said("curtin-d", "next"), "next");
        assert_eq!(said("partman", "No root file system is defined."), "No root file system is defined.");
        assert_eq!(said("main-menu", "Menu item 'x' failed."), "No root file system is defined.");
        assert_eq!(
            said("debootstrap", "E: Failed getting release file http://x"),
            "E: Failed getting release file http://x"
        );
        boot(&fixture).await;
        assert!(gate.last_installer_failure(VM).is_none() && gate.last_installer_line(VM).is_none(), "another boot");
    }

    #[tokio::test]
    async fn the_lines_of_the_present_boot_are_known_after_a_restart() {
        let fixture = booted(kickstart()).await;
        fixture.gate.record_installer_line(VM, line("partman", LogLevel::Err, "no disk found"), false).unwrap();
        fixture.gate.record_installer_line(VM, info("the last words"), false).unwrap();
        installer_entries(&fixture, 2).await;
        let gate = &fixture.gate;
        let restart = || {
            let media = crate::images::library::ImageLibrary::new(fixture.directory.path().join("isos"));
            let tokens = crate::gate::tokens::BootTokens::with_key([0; 32]);
            Gate::new(gate.site.load_full(), gate.store.clone(), media, tokens)
        };
        let restarted = restart();
        assert!(restarted.last_installer_failure(VM).is_none());
        restarted.restore_installer_lines().unwrap();
        assert_eq!(restarted.last_installer_failure(VM).unwrap().failure, InstallerFailure::NoDisk);
        assert_eq!(restarted.last_installer_line(VM).unwrap().line, info("the last words"));
        boot(&fixture).await;
        let restarted = restart();
        restarted.restore_installer_lines().unwrap();
        assert!(
            restarted.last_installer_line(VM).is_none_or(|last| Some(last.time) >= fixture.vm().status.last_boot_time)
        );
    }

    #[tokio::test]
    async fn only_hosts_with_an_install_are_heard() {
        let fixture = Fixture::new("hold");
        assert_eq!(fixture.gate.record_installer_line(VM, info("x"), false), Err(DropReason::NoInstall));
        fixture.put_host(json!({"image": "localboot"})).await;
        assert_eq!(fixture.gate.record_installer_line(VM, info("x"), false), Err(DropReason::NoInstall));
        let mut site = crate::boot::site::tests::site("hold");
        site.config_access.token_ttl = Duration::ZERO;
        let fixture = Fixture::with_site(site);
        fixture.put_vm(json!({"ip": "10.77.0.10"})).await;
        boot(&fixture).await;
        fixture.gate.record_installer_line(VM, info("x"), false).unwrap();
        let facts =
            Facts { mac: VM, firmware: None, stage: Stage::Installer, address: Some(ADDRESS.into()), uuid: None };
        fixture.gate.complete(&fixture.gate.caller(&facts)).await.unwrap();
        assert_eq!(
            fixture.gate.record_installer_line(VM, info("x"), false),
            Err(DropReason::NoInstall),
            "its system logs here"
        );
    }

    #[test]
    fn machines_and_lengths_are_bounded() {
        let lines = InstallerLines::default();
        for number in 0..MAX_MACHINES + 10 {
            let [.., a, b, c] = number.to_be_bytes();
            let times = (Timestamp::UNIX_EPOCH, Instant::now());
            lines.note((Mac([2, 0, 0, a, b, c]), None), (&info("x"), None), LineClass::Ordinary, times).unwrap();
        }
        assert_eq!(lines.state().machines.len(), MAX_MACHINES);
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüß", 3), "äö…");
    }
}
