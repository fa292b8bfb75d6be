//! Events: one enum that the log and the timeline read, and the counters that the metrics read.

mod codes;
mod counters;
mod histogram;
mod host_counters;
mod log;
mod notification;
pub mod power_report;
mod printable;
mod webhook_counters;

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::boot::Reason;
use crate::boot::identity::AddressEvidence;
use crate::boot::installer::{InstallerLine, InstallerSource, LogLevel};
use crate::fleet::enrolment::UnknownHostAction;
use crate::fleet::{Architecture, BootStage, BootTarget, Certainty, Mac, Name, Phase, Power, StallReason};

pub use crate::boot::Protocol;
pub use crate::boot::ScriptAction;
pub use crate::boot::diagnosis::ledger::{BootOutcome, LedgerStage};
pub use codes::{DeliveryChannel, OtherServerRole};
pub use counters::Counters;
pub use histogram::{DurationHistogram, HistogramReading};
pub use host_counters::HostCounters;
pub use notification::{Notification, NotificationDetail};
pub use webhook_counters::{NotificationLoss, WebhookCounters};

/// An entry of the timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Time of the event; of its first occurrence if it was repeated.
    pub time: Timestamp,
    /// Time of the last occurrence of a repeated event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// Number of occurrences.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub count: u32,
    /// The machine; `None` if the event concerns the server.
    pub mac: Option<Mac>,
    /// Name of the host at the time of the event.
    pub host: Option<Name>,
    /// The event and its details.
    #[serde(flatten)]
    pub event: Event,
}

fn once() -> u32 {
    1
}

fn is_once(count: &u32) -> bool {
    *count == 1
}

/// An event of a machine, an image or the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", content = "detail", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Event {
    /// A machine was seen for the first time and recorded as a host.
    FirstSeen {
        /// The action of the first rule that matched.
        action: UnknownHostAction,
    },
    /// The machine is a known one, by its UUID, and came over another interface: no rule installs it again.
    SameMachine {
        /// Name of the known host.
        host: Name,
        /// The UUID that both interfaces claim.
        uuid: uuid::Uuid,
    },
    /// The machine is at another address than before.
    AddressChanged {
        /// The address before.
        from: IpAddr,
        /// The address now.
        to: IpAddr,
        /// The evidence that ties the new address to the machine.
        evidence: AddressEvidence,
    },
    /// An install was requested.
    Assigned {
        /// The image.
        image: BootTarget,
    },
    /// A boot from the local disk was requested.
    LocalBootRequested {},
    /// The host was held.
    Held {},
    /// A boot program was offered over DHCP.
    Offer {
        /// The client: its architecture, after `ipxe on` for an iPXE.
        architecture: String,
        /// The boot file.
        file: String,
    },
    /// A TFTP transfer started.
    TftpStarted {
        /// The requested file.
        file: String,
    },
    /// A TFTP transfer ended with the last acknowledgement.
    TftpCompleted {
        /// The requested file.
        file: String,
        /// Size of the file, in octets.
        bytes: u64,
        /// Duration of the transfer, in milliseconds.
        milliseconds: u64,
        /// Number of blocks that were sent again.
        resent: u64,
    },
    /// A boot script was served, or a virtual medium was inserted.
    Script {
        /// The content of the script.
        action: ScriptAction,
        /// The image that it boots.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<Name>,
        /// The reason for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
    },
    /// An initiator logged in to an image.
    IscsiLogin {
        /// The initiator's name, without a token in it.
        initiator: String,
        /// The target's name.
        target: String,
        /// The image that the target serves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<Name>,
    },
    /// An initiator was redirected to the portal that serves its image.
    IscsiRedirect {
        /// The initiator's name, without a token in it.
        initiator: String,
        /// The target's name.
        target: String,
        /// The image that the target serves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<Name>,
        /// Address and port of the portal.
        portal: String,
    },
    /// A config was served.
    ConfigFetched {
        /// The config.
        config: Name,
        /// The client's address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
        /// The delivery without a request for the config's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channel: Option<DeliveryChannel>,
        /// The file, if it is not the config's main file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
    },
    /// The machine reported that its install is completed.
    BootCompleted {},
    /// The machine reported a completed install while no install was in progress.
    BootCompleteIgnored {
        /// The host's phase.
        phase: Phase,
    },
    /// The machine was sent to its local disk.
    LocalDisk {
        /// The reason.
        reason: Reason,
    },
    /// An installer said something about its work.
    Installer {
        /// The way that the line came.
        source: InstallerSource,
        /// The program or the step that it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<String>,
        /// The severity.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        level: Option<LogLevel>,
        /// The text, without secrets of the host's config.
        message: String,
    },
    /// An install failed.
    InstallFailed {
        /// The reason, for people.
        message: String,
    },
    /// A request was refused.
    Refused {
        /// The protocol of the request.
        protocol: Protocol,
        /// The reason.
        reason: Reason,
        /// The reason's sentence, or one that says more.
        message: String,
    },
    /// A machine gets another image than people may expect.
    Warning {
        /// The image.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<Name>,
        /// The difference.
        message: String,
    },
    /// The power state that the BMC reports has changed.
    Power {
        /// The new power state.
        state: Power,
    },
    /// The BMC accepted a power request, because of `spec.online`.
    PowerSwitched {
        /// Redfish's word for the request.
        reset: String,
    },
    /// A request to the BMC failed.
    BmcFailed {
        /// The error.
        message: String,
    },
    /// The machine was asked to retry later: its image cannot be served now.
    WaitingForImage {
        /// The image, or a companion of it.
        image: Name,
        /// The reason, for people.
        message: String,
    },
    /// A read of an attached unit failed.
    ReadFailed {
        /// The number of the unit (LUN).
        unit: u8,
        /// The error.
        message: String,
    },
    /// The file of an image changed while the server was running.
    Image {
        /// The image.
        image: Name,
        /// The image's new phase.
        phase: String,
        /// The change, for people.
        message: String,
    },
    /// The disk that holds the state is nearly full.
    DiskNearlyFull {
        /// The directory of the state.
        directory: String,
        /// Free space, in bytes.
        free: u64,
    },
    /// The disk that holds the state has enough free space again.
    DiskSpaceRecovered {
        /// The directory of the state.
        directory: String,
        /// Free space, in bytes.
        free: u64,
    },
    /// Another DHCP server answers on an interface of this server.
    OtherDhcpServer {
        /// The interface.
        interface: String,
        /// The server's address.
        address: IpAddr,
        /// The server's service.
        role: OtherServerRole,
    },
    /// The wall clock was set; the stored times have followed.
    ClockStepped {
        /// The step, in seconds; negative if the clock was set back.
        seconds: i64,
    },
    /// The machine's boot does not go on.
    Stalled {
        /// The stage at which it stands.
        stage: BootStage,
        /// The reason.
        reason: StallReason,
        /// How sure the reason is.
        certainty: Certainty,
        /// What was seen, and what usually causes it.
        message: String,
        /// What to do.
        remedy: String,
    },
    /// The machine's boot goes on: the last diagnosis is taken back.
    StallCleared {
        /// The reason that is taken back.
        reason: StallReason,
    },
    /// A boot of the machine ended.
    BootFinished {
        /// The way in which it ended.
        outcome: BootOutcome,
        /// Its duration.
        milliseconds: u64,
        /// The milliseconds of each stage.
        stages: BTreeMap<LedgerStage, u64>,
        /// What of the time can be saved.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        advice: Vec<String>,
    },
    /// A manifest was rejected; the server runs without it.
    ManifestInvalid {
        /// The error, with file and line.
        message: String,
    },
}

impl Event {
    /// Returns the stable code of the event, in snake case: the `event` of the timeline and the log.
    pub fn code(&self) -> &'static str {
        match self {
            Self::FirstSeen { .. } => "first_seen",
            Self::SameMachine { .. } => "same_machine",
            Self::AddressChanged { .. } => "address_changed",
            Self::Assigned { .. } => "assigned",
            Self::LocalBootRequested {} => "local_boot_requested",
            Self::Held {} => "held",
            Self::Offer { .. } => "offer",
            Self::TftpStarted { .. } => "tftp_started",
            Self::TftpCompleted { .. } => "tftp_completed",
            Self::Script { .. } => "script",
            Self::IscsiLogin { .. } => "iscsi_login",
            Self::IscsiRedirect { .. } => "iscsi_redirect",
            Self::ConfigFetched { .. } => "config_fetched",
            Self::BootCompleted {} => "boot_completed",
            Self::BootCompleteIgnored { .. } => "boot_complete_ignored",
            Self::LocalDisk { .. } => "local_disk",
            Self::Installer { .. } => "installer",
            Self::InstallFailed { .. } => "install_failed",
            Self::Refused { .. } => "refused",
            Self::Warning { .. } => "warning",
            Self::Power { .. } => "power",
            Self::PowerSwitched { .. } => "power_switched",
            Self::BmcFailed { .. } => "bmc_failed",
            Self::WaitingForImage { .. } => "waiting_for_image",
            Self::ReadFailed { .. } => "read_failed",
            Self::Image { .. } => "image",
            Self::DiskNearlyFull { .. } => "disk_nearly_full",
            Self::DiskSpaceRecovered { .. } => "disk_space_recovered",
            Self::OtherDhcpServer { .. } => "other_dhcp_server",
            Self::ClockStepped { .. } => "clock_stepped",
            Self::Stalled { .. } => "stalled",
            Self::StallCleared { .. } => "stall_cleared",
            Self::BootFinished { .. } => "boot_finished",
            Self::ManifestInvalid { .. } => "manifest_invalid",
        }
    }

    /// Returns the stable message of the event's log line.
    pub fn summary(&self) -> &'static str {
        match self {
            Self::FirstSeen { .. } => "host first seen",
            Self::SameMachine { .. } => "known machine on another interface",
            Self::AddressChanged { .. } => "host address changed",
            Self::Assigned { .. } => "install requested",
            Self::LocalBootRequested {} => "local boot requested",
            Self::Held {} => "host held",
            Self::Offer { .. } => "boot program offered",
            Self::TftpStarted { .. } => "TFTP transfer started",
            Self::TftpCompleted { .. } => "TFTP transfer completed",
            Self::Script { .. } => "boot script served",
            Self::IscsiLogin { .. } => "iSCSI login accepted",
            Self::IscsiRedirect { .. } => "iSCSI login redirected",
            Self::ConfigFetched { .. } => "config served",
            Self::BootCompleted {} => "install completed",
            Self::BootCompleteIgnored { .. } => "boot-complete ignored",
            Self::LocalDisk { .. } => "local disk boot served",
            Self::Installer { .. } => "installer line received",
            Self::InstallFailed { .. } => "install failed",
            Self::Refused { .. } => "request refused",
            Self::Warning { .. } => "host warning",
            Self::Power { .. } => "power state changed",
            Self::PowerSwitched { .. } => "power request sent",
            Self::BmcFailed { .. } => "BMC request failed",
            Self::WaitingForImage { .. } => "waiting for image",
            Self::ReadFailed { .. } => "image read failed",
            Self::Image { .. } => "image file changed",
            Self::DiskNearlyFull { .. } => "disk nearly full",
            Self::DiskSpaceRecovered { .. } => "disk space recovered",
            Self::OtherDhcpServer { .. } => "other DHCP server detected",
            Self::ClockStepped { .. } => "clock set",
            Self::Stalled { .. } => "boot stalled",
            Self::StallCleared { .. } => "boot goes on",
            Self::BootFinished { .. } => "boot finished",
            Self::ManifestInvalid { .. } => "manifest invalid",
        }
    }

    /// Returns the image that the event concerns.
    pub fn image(&self) -> Option<&Name> {
        match self {
            Self::Assigned { image } => image.image(),
            Self::Script { image, .. }
            | Self::IscsiLogin { image, .. }
            | Self::IscsiRedirect { image, .. }
            | Self::Warning { image, .. } => image.as_ref(),
            Self::WaitingForImage { image, .. } | Self::Image { image, .. } => Some(image),
            Self::FirstSeen { .. }
            | Self::SameMachine { .. }
            | Self::AddressChanged { .. }
            | Self::LocalBootRequested {}
            | Self::Held {}
            | Self::Offer { .. }
            | Self::TftpStarted { .. }
            | Self::TftpCompleted { .. }
            | Self::ConfigFetched { .. }
            | Self::BootCompleted {}
            | Self::BootCompleteIgnored { .. }
            | Self::LocalDisk { .. }
            | Self::Installer { .. }
            | Self::InstallFailed { .. }
            | Self::Refused { .. }
            | Self::Power { .. }
            | Self::PowerSwitched { .. }
            | Self::BmcFailed { .. }
            | Self::ReadFailed { .. }
            | Self::DiskNearlyFull { .. }
            | Self::DiskSpaceRecovered { .. }
            | Self::OtherDhcpServer { .. }
            | Self::ClockStepped { .. }
            | Self::Stalled { .. }
            | Self::StallCleared { .. }
            | Self::BootFinished { .. }
            | Self::ManifestInvalid { .. } => None,
        }
    }

    /// Returns the config that the event concerns.
    pub fn config(&self) -> Option<&Name> {
        match self {
            Self::ConfigFetched { config, .. } => Some(config),
            Self::FirstSeen { .. }
            | Self::SameMachine { .. }
            | Self::AddressChanged { .. }
            | Self::Assigned { .. }
            | Self::LocalBootRequested {}
            | Self::Held {}
            | Self::Offer { .. }
            | Self::TftpStarted { .. }
            | Self::TftpCompleted { .. }
            | Self::Script { .. }
            | Self::IscsiLogin { .. }
            | Self::IscsiRedirect { .. }
            | Self::BootCompleted {}
            | Self::BootCompleteIgnored { .. }
            | Self::LocalDisk { .. }
            | Self::Installer { .. }
            | Self::InstallFailed { .. }
            | Self::Refused { .. }
            | Self::Warning { .. }
            | Self::Power { .. }
            | Self::PowerSwitched { .. }
            | Self::BmcFailed { .. }
            | Self::WaitingForImage { .. }
            | Self::ReadFailed { .. }
            | Self::Image { .. }
            | Self::DiskNearlyFull { .. }
            | Self::DiskSpaceRecovered { .. }
            | Self::OtherDhcpServer { .. }
            | Self::ClockStepped { .. }
            | Self::Stalled { .. }
            | Self::StallCleared { .. }
            | Self::BootFinished { .. }
            | Self::ManifestInvalid { .. } => None,
        }
    }

    /// Returns whether the event changes the state of its host. A milestone is never joined with other entries, and
    /// later entries are not joined with those before it.
    pub fn is_milestone(&self) -> bool {
        match self {
            Self::FirstSeen { .. }
            | Self::Assigned { .. }
            | Self::LocalBootRequested {}
            | Self::Held {}
            | Self::BootCompleted {}
            | Self::InstallFailed { .. }
            | Self::Power { .. }
            | Self::PowerSwitched { .. }
            | Self::Image { .. }
            | Self::DiskNearlyFull { .. }
            | Self::DiskSpaceRecovered { .. } => true,
            Self::SameMachine { .. }
            | Self::AddressChanged { .. }
            | Self::Offer { .. }
            | Self::TftpStarted { .. }
            | Self::TftpCompleted { .. }
            | Self::Script { .. }
            | Self::IscsiLogin { .. }
            | Self::IscsiRedirect { .. }
            | Self::ConfigFetched { .. }
            | Self::BootCompleteIgnored { .. }
            | Self::LocalDisk { .. }
            | Self::Installer { .. }
            | Self::Refused { .. }
            | Self::Warning { .. }
            | Self::BmcFailed { .. }
            | Self::WaitingForImage { .. }
            | Self::ReadFailed { .. }
            | Self::OtherDhcpServer { .. }
            | Self::ClockStepped { .. }
            | Self::Stalled { .. }
            | Self::StallCleared { .. }
            | Self::BootFinished { .. }
            | Self::ManifestInvalid { .. } => false,
        }
    }

    /// Returns whether a machine's request causes the event, and not the server or an operator.
    pub fn is_of_machine(&self) -> bool {
        match self {
            Self::FirstSeen { .. }
            | Self::SameMachine { .. }
            | Self::AddressChanged { .. }
            | Self::Offer { .. }
            | Self::TftpStarted { .. }
            | Self::TftpCompleted { .. }
            | Self::Script { .. }
            | Self::IscsiLogin { .. }
            | Self::IscsiRedirect { .. }
            | Self::ConfigFetched { .. }
            | Self::BootCompleted {}
            | Self::BootCompleteIgnored { .. }
            | Self::LocalDisk { .. }
            | Self::Installer { .. }
            | Self::Refused { .. }
            | Self::WaitingForImage { .. }
            | Self::ReadFailed { .. }
            | Self::BootFinished { .. } => true,
            Self::Assigned { .. }
            | Self::LocalBootRequested {}
            | Self::Held {}
            | Self::InstallFailed { .. }
            | Self::Warning { .. }
            | Self::Power { .. }
            | Self::PowerSwitched { .. }
            | Self::BmcFailed { .. }
            | Self::Image { .. }
            | Self::DiskNearlyFull { .. }
            | Self::DiskSpaceRecovered { .. }
            | Self::OtherDhcpServer { .. }
            | Self::ClockStepped { .. }
            | Self::Stalled { .. }
            | Self::StallCleared { .. }
            | Self::ManifestInvalid { .. } => false,
        }
    }

    /// Returns whether the event repeats another one. The duration of a transfer, and those of the stages of a boot, make
    /// no difference.
    pub fn is_repeat_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::TftpCompleted { file, bytes, .. }, Self::TftpCompleted { file: known, bytes: size, .. }) => {
                file == known && bytes == size
            }
            (Self::BootFinished { outcome, stages, .. }, Self::BootFinished { outcome: known, stages: before, .. }) => {
                outcome == known && stages.keys().eq(before.keys())
            }
            _ => self == other,
        }
    }
}

impl From<InstallerLine> for Event {
    fn from(line: InstallerLine) -> Self {
        let InstallerLine { source, stage, level, message } = line;
        Self::Installer { source, stage, level, message }
    }
}

impl Entry {
    /// Returns an entry for an event that happened once, in printable characters.
    pub fn once(time: Timestamp, mac: Option<Mac>, host: Option<Name>, event: Event) -> Self {
        let event = event.printable();
        Self { time, last: None, count: 1, mac, host, event }
    }
}

/// Returns the text of a claimed architecture; `unknown` if the client claims none.
pub fn architecture_text(claimed: Option<Architecture>) -> String {
    claimed.map_or_else(|| "unknown".to_owned(), |architecture| architecture.to_string())
}

#[cfg(test)]
mod tests;
