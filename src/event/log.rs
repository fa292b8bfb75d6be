use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::boot::Reason;
use crate::boot::installer::{InstallerSource, LogLevel};
use crate::fleet::{ImageStatus, Name};

use super::{BootOutcome, DeliveryChannel, Entry, Event, LedgerStage, Protocol};

/// Logs an entry at a level; absent fields are left out.
macro_rules! log_at {
    ($level:ident, $entry:expr) => {{
        let (entry, facts) = ($entry, LogFields::of(&$entry.event));
        tracing::$level!(
            event = entry.event.code(),
            mac = entry.mac.map(tracing::field::display),
            host = entry.host.as_ref().map(Name::as_str),
            action = facts.action.as_deref(),
            image = entry.event.image().map(Name::as_str),
            config = entry.event.config().map(Name::as_str),
            reason = facts.reason,
            certainty = facts.certainty,
            remedy = facts.remedy,
            protocol = facts.protocol.map(Protocol::as_str),
            architecture = facts.architecture,
            file = facts.file,
            address = facts.address.map(tracing::field::display),
            from = facts.from.map(tracing::field::display),
            evidence = facts.evidence,
            known = facts.known,
            initiator = facts.initiator,
            portal = facts.portal,
            interface = facts.interface,
            role = facts.role,
            channel = facts.channel,
            phase = facts.phase.as_deref(),
            power = facts.power,
            reset = facts.reset,
            networks = facts.networks,
            boot_device = facts.boot_device,
            file_bytes = facts.file_bytes,
            free_bytes = facts.free_bytes,
            milliseconds = facts.milliseconds,
            resent = facts.resent,
            step_seconds = facts.step_seconds,
            outcome = facts.outcome,
            unit = facts.unit,
            directory = facts.directory,
            detail = facts.detail.as_deref(),
            "{}",
            entry.event.summary()
        );
    }};
}
impl Entry {
    /// Writes the entry to the log, at its event's level.
    pub fn log(&self) {
        match Severity::of(&self.event) {
            Severity::Error => log_at!(error, self),
            Severity::Warning => log_at!(warn, self),
            Severity::Info => log_at!(info, self),
            Severity::Debug => self.log_installer_line(),
        }
    }

    /// Writes a line of an installer to the log. A macro of tracing takes 32 fields at most, so it has its own.
    fn log_installer_line(&self) {
        let Event::Installer { source, stage, level, message } = &self.event else { return };
        tracing::debug!(
            event = self.event.code(),
            mac = self.mac.map(tracing::field::display),
            host = self.host.as_ref().map(Name::as_str),
            source = InstallerSource::code(*source),
            stage,
            installer_level = level.map(LogLevel::code),
            detail = message,
            "{}",
            self.event.summary()
        );
    }
}

impl Event {
    /// Returns whether the event is a fault that an operator has to act on.
    pub fn is_fault(&self) -> bool {
        match (self, Severity::of(self)) {
            (Self::Installer { level, .. }, _) => level.is_some_and(|level| level <= LogLevel::Err),
            (_, Severity::Warning | Severity::Error) => true,
            (_, Severity::Info | Severity::Debug) => false,
        }
    }
}

/// The level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    /// A line of an installer.
    Debug,
    /// A milestone or a detail of a boot.
    Info,
    /// A fault that an operator has to act on.
    Warning,
    /// A wrong configuration.
    Error,
}

impl Severity {
    fn of(event: &Event) -> Self {
        match event {
            Event::ManifestInvalid { .. } => Self::Error,
            Event::Image { phase, .. } if phase != ImageStatus::BROKEN => Self::Info,
            Event::Installer { .. } => Self::Debug,
            Event::Image { .. }
            | Event::InstallFailed { .. }
            | Event::BmcFailed { .. }
            | Event::OtherDhcpServer { .. }
            | Event::DiskNearlyFull { .. }
            | Event::ClockStepped { .. }
            | Event::Stalled { .. }
            | Event::ReadFailed { .. } => Self::Warning,
            Event::FirstSeen { .. }
            | Event::SameMachine { .. }
            | Event::AddressChanged { .. }
            | Event::Assigned { .. }
            | Event::LocalBootRequested {}
            | Event::Held {}
            | Event::Offer { .. }
            | Event::TftpStarted { .. }
            | Event::TftpCompleted { .. }
            | Event::Script { .. }
            | Event::IscsiLogin { .. }
            | Event::IscsiRedirect { .. }
            | Event::ConfigFetched { .. }
            | Event::BootCompleted {}
            | Event::BootCompleteIgnored { .. }
            | Event::LocalDisk { .. }
            | Event::Refused { .. }
            | Event::Warning { .. }
            | Event::Power { .. }
            | Event::PowerSwitched { .. }
            | Event::LeaseEnded { .. }
            | Event::WakeOnLanSent { .. }
            | Event::BootDeviceSet { .. }
            | Event::WaitingForImage { .. }
            | Event::StallCleared { .. }
            | Event::BootFinished { .. }
            | Event::DiskSpaceRecovered { .. } => Self::Info,
        }
    }
}

/// The fields of a log line that some events have.
#[derive(Debug, Default)]
struct LogFields<'a> {
    action: Option<Cow<'a, str>>,
    /// The code of the reason.
    reason: Option<&'a str>,
    certainty: Option<&'a str>,
    remedy: Option<&'a str>,
    protocol: Option<Protocol>,
    architecture: Option<&'a str>,
    file: Option<&'a str>,
    address: Option<IpAddr>,
    initiator: Option<&'a str>,
    portal: Option<&'a str>,
    interface: Option<&'a str>,
    role: Option<&'a str>,
    channel: Option<&'a str>,
    from: Option<IpAddr>,
    evidence: Option<&'a str>,
    known: Option<&'a str>,
    phase: Option<Cow<'a, str>>,
    power: Option<&'a str>,
    networks: Option<usize>,
    boot_device: Option<&'a str>,
    reset: Option<&'a str>,
    /// Size of the transferred file, in octets.
    file_bytes: Option<u64>,
    /// Free space of the disk, in octets.
    free_bytes: Option<u64>,
    milliseconds: Option<u64>,
    resent: Option<u64>,
    /// Step of the wall clock, in seconds.
    step_seconds: Option<i64>,
    outcome: Option<&'a str>,
    unit: Option<u8>,
    directory: Option<&'a str>,
    detail: Option<Cow<'a, str>>,
}

impl<'a> LogFields<'a> {
    fn of_boot(outcome: BootOutcome, milliseconds: u64, detail: String) -> Self {
        let (outcome, milliseconds) = (Some(outcome.code()), Some(milliseconds));
        Self { outcome, milliseconds, detail: Some(detail.into()), ..Self::default() }
    }

    fn of_stall(certainty: &'a str, message: &'a str, remedy: &'a str) -> Self {
        Self { certainty: Some(certainty), detail: Some(message.into()), remedy: Some(remedy), ..Self::default() }
    }

    fn of(event: &'a Event) -> Self {
        Self::filled(event, Self::default())
    }

    /// Returns the fields of an event in place of those of `none`.
    fn filled(event: &'a Event, none: Self) -> Self {
        match event {
            Event::FirstSeen { action } => Self { action: Some(action.to_string().into()), ..none },
            Event::SameMachine { host, .. } => Self { known: Some(host.as_str()), ..none },
            Event::AddressChanged { from, to, evidence } => {
                Self { address: Some(*to), from: Some(*from), evidence: Some(evidence.code()), ..none }
            }
            Event::Offer { architecture, file } => Self { architecture: Some(architecture), file: Some(file), ..none },
            Event::TftpStarted { file } => Self { file: Some(file), ..none },
            Event::TftpCompleted { file, bytes, milliseconds, resent } => Self {
                file: Some(file),
                file_bytes: Some(*bytes),
                milliseconds: Some(*milliseconds),
                resent: Some(*resent),
                ..none
            },
            Event::Script { action, reason, .. } => {
                Self { action: Some(action.code().into()), reason: reason.map(Reason::code), ..none }
            }
            Event::IscsiLogin { initiator, .. } => Self { initiator: Some(initiator), ..none },
            Event::IscsiRedirect { initiator, portal, .. } => {
                Self { initiator: Some(initiator), portal: Some(portal), ..none }
            }
            Event::ConfigFetched { address, channel, file, .. } => {
                Self { address: *address, channel: channel.map(DeliveryChannel::code), file: file.as_deref(), ..none }
            }
            Event::BootCompleteIgnored { phase } => Self { phase: Some(phase.to_string().into()), ..none },
            Event::LocalDisk { reason } => Self { reason: Some(reason.code()), ..none },
            Event::Refused { protocol, reason, message } => {
                Self { protocol: Some(*protocol), reason: Some(reason.code()), detail: Some(message.into()), ..none }
            }
            Event::Power { state } => Self { power: Some(state.as_str()), ..none },
            Event::PowerSwitched { reset } => Self { reset: Some(reset), ..none },
            Event::LeaseEnded { address } => Self { address: Some(*address), ..none },
            Event::WakeOnLanSent { networks } => Self { networks: Some(*networks), ..none },
            Event::BootDeviceSet { device, .. } => Self { boot_device: Some(device.as_str()), ..none },
            Event::ReadFailed { unit, message } => Self { unit: Some(*unit), detail: Some(message.into()), ..none },
            Event::Image { phase, message, .. } => {
                Self { phase: Some(phase.into()), detail: Some(message.into()), ..none }
            }
            Event::DiskNearlyFull { directory, free } | Event::DiskSpaceRecovered { directory, free } => {
                Self { directory: Some(directory), free_bytes: Some(*free), ..none }
            }
            Event::ClockStepped { seconds } => Self { step_seconds: Some(*seconds), ..none },
            Event::OtherDhcpServer { interface, address, role } => {
                Self { interface: Some(interface), address: Some(*address), role: Some(role.code()), ..none }
            }
            Event::Stalled { reason, certainty, message, remedy, .. } => {
                Self { reason: Some(reason.code()), ..Self::of_stall(certainty.code(), message, remedy) }
            }
            Event::BootFinished { outcome, milliseconds, stages, advice } => {
                Self::of_boot(*outcome, *milliseconds, spent(stages, advice))
            }
            Event::StallCleared { reason } => Self { reason: Some(reason.code()), ..none },
            Event::InstallFailed { message }
            | Event::Warning { message, .. }
            | Event::BmcFailed { message }
            | Event::WaitingForImage { message, .. }
            | Event::ManifestInvalid { message } => Self { detail: Some(message.into()), ..none },
            Event::Assigned { .. }
            | Event::LocalBootRequested {}
            | Event::Held {}
            | Event::BootCompleted {}
            // Its fields are in a log line of its own.
            | Event::Installer { .. } => none,
        }
    }
}

/// Returns the stages of a boot with their seconds, then what of the time can be saved.
fn spent(stages: &BTreeMap<LedgerStage, u64>, advice: &[String]) -> String {
    let stages = stages.iter().map(|(stage, milliseconds)| {
        format!("{} {}.{} s", stage.code(), milliseconds / 1000, milliseconds % 1000 / 100)
    });
    let stages = stages.collect::<Vec<_>>().join(", ");
    [stages].iter().chain(advice).cloned().collect::<Vec<_>>().join("; ")
}
