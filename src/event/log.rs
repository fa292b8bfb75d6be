use std::borrow::Cow;
use std::net::IpAddr;

use crate::boot::Reason;
use crate::fleet::Name;

use super::{DeliveryChannel, Entry, Event, Protocol};

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
            reason = facts.reason.map(Reason::code),
            protocol = facts.protocol.map(Protocol::as_str),
            file = facts.file,
            address = facts.address.map(tracing::field::display),
            initiator = facts.initiator,
            portal = facts.portal,
            interface = facts.interface,
            role = facts.role,
            channel = facts.channel,
            state = facts.state.as_deref(),
            bytes = facts.bytes,
            milliseconds = facts.milliseconds,
            resent = facts.resent,
            unit = facts.unit,
            directory = facts.directory,
            detail = facts.detail,
            "{}",
            entry.event.summary()
        );
    }};
}
impl Entry {
    /// Writes the entry to the log: ERROR for a wrong configuration, WARN where an operator has to act, else INFO.
    pub fn log(&self) {
        match (self.event.is_error(), self.event.needs_attention()) {
            (true, _) => log_at!(error, self),
            (false, true) => log_at!(warn, self),
            (false, false) => log_at!(info, self),
        }
    }
}

/// The fields of a log line that some events have.
#[derive(Debug, Default)]
struct LogFields<'a> {
    action: Option<Cow<'a, str>>,
    reason: Option<Reason>,
    protocol: Option<Protocol>,
    file: Option<&'a str>,
    address: Option<IpAddr>,
    initiator: Option<&'a str>,
    portal: Option<&'a str>,
    interface: Option<&'a str>,
    role: Option<&'a str>,
    channel: Option<&'a str>,
    state: Option<Cow<'a, str>>,
    bytes: Option<u64>,
    milliseconds: Option<u64>,
    resent: Option<u64>,
    unit: Option<u8>,
    directory: Option<&'a str>,
    detail: Option<&'a str>,
}

impl<'a> LogFields<'a> {
    fn of(event: &'a Event) -> Self {
        let none = Self::default();
        match event {
            Event::FirstSeen { action } => Self { action: Some(action.to_string().into()), ..none },
            Event::Offer { file, .. } | Event::TftpStarted { file } => Self { file: Some(file), ..none },
            Event::TftpCompleted { file, bytes, milliseconds, resent } => Self {
                file: Some(file),
                bytes: Some(*bytes),
                milliseconds: Some(*milliseconds),
                resent: Some(*resent),
                ..none
            },
            Event::Script { action, reason, .. } => {
                Self { action: Some(action.code().into()), reason: *reason, ..none }
            }
            Event::IscsiLogin { initiator, .. } => Self { initiator: Some(initiator), ..none },
            Event::IscsiRedirect { initiator, portal, .. } => {
                Self { initiator: Some(initiator), portal: Some(portal), ..none }
            }
            Event::ConfigFetched { address, channel, file, .. } => {
                Self { address: *address, channel: channel.map(DeliveryChannel::code), file: file.as_deref(), ..none }
            }
            Event::BootCompleteIgnored { phase } => Self { state: Some(phase.to_string().into()), ..none },
            Event::LocalDisk { reason } => Self { reason: Some(*reason), ..none },
            Event::Refused { protocol, reason, message } => {
                Self { protocol: Some(*protocol), reason: Some(*reason), detail: Some(message), ..none }
            }
            Event::Power { state } => Self { state: Some(state.as_str().into()), ..none },
            Event::PowerSwitched { reset } => Self { state: Some(reset.into()), ..none },
            Event::ReadFailed { unit, message } => Self { unit: Some(*unit), detail: Some(message), ..none },
            Event::Image { phase, message, .. } => Self { state: Some(phase.into()), detail: Some(message), ..none },
            Event::DiskNearlyFull { directory, free } | Event::DiskSpaceRecovered { directory, free } => {
                Self { directory: Some(directory), bytes: Some(*free), ..none }
            }
            Event::OtherDhcpServer { interface, address, role } => {
                Self { interface: Some(interface), address: Some(*address), role: Some(role.code()), ..none }
            }
            Event::InstallFailed { message }
            | Event::Warning { message, .. }
            | Event::BmcFailed { message }
            | Event::WaitingForImage { message, .. }
            | Event::ManifestInvalid { message } => Self { detail: Some(message), ..none },
            Event::Assigned { .. } | Event::LocalBootRequested {} | Event::Held {} | Event::BootCompleted {} => none,
        }
    }
}
