//! Events: one enum that the log and the timeline read, and the counters that the metrics read.

mod codes;
mod counters;
mod histogram;
mod host_counters;
mod log;
mod notification;
pub mod power_report;
mod printable;
mod relations;
mod summary;
mod webhook_counters;

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::boot::Reason;
use crate::boot::identity::AddressEvidence;
use crate::boot::installer::{InstallerLine, InstallerSource, LogLevel};
use crate::fleet::enrolment::UnknownHostAction;
use crate::fleet::{Architecture, BootDevice, BootStage, BootTarget, Certainty, Mac, Name, Phase, Power, StallReason};

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
    /// The machine is a known one, by its UUID or the interfaces that its BMC shows, and came over another interface: no
    /// rule installs it again.
    SameMachine {
        /// Name of the known host.
        host: Name,
        /// The UUID that both interfaces claim; absent if the BMC shows the interface.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uuid: Option<uuid::Uuid>,
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
        /// The request: `on`, `off`, `forceOff`, `restart`, `reset`, `powerCycle` or `nmi`.
        reset: String,
    },
    /// An operator ended the machine's lease of an address.
    LeaseEnded {
        /// The address.
        address: IpAddr,
    },
    /// Wake-on-LAN packets were sent to the machine. Nothing confirms that they woke it.
    WakeOnLanSent {
        /// Number of networks that they were sent to.
        networks: usize,
    },
    /// The BMC was told the device of the next boot, or of all boots.
    BootDeviceSet {
        /// The device.
        device: BootDevice,
        /// Whether an operator asked for it, and not the decision for the host.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        requested: bool,
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
