//! What each event concerns, and how it relates to the entries around it.

use crate::fleet::Name;

use super::Event;

/// Who or what causes an event, and whether it changes the state of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A request of the machine, which changes the state.
    MachineMilestone,
    /// A request of the machine.
    Machine,
    /// The server or an operator, with a change of the state.
    ServerMilestone,
    /// The server or an operator.
    Server,
}

impl Event {
    /// Returns the image that the event concerns.
    pub fn image(&self) -> Option<&Name> {
        match self {
            Self::Assigned { image } => image.image(),
            Self::Script { image, .. }
            | Self::IscsiLogin { image, .. }
            | Self::IscsiRedirect { image, .. }
            | Self::Warning { image, .. } => image.as_ref(),
            Self::WaitingForImage { image, .. } | Self::Image { image, .. } => Some(image),
            _ => None,
        }
    }

    /// Returns the config that the event concerns.
    pub fn config(&self) -> Option<&Name> {
        match self {
            Self::ConfigFetched { config, .. } => Some(config),
            _ => None,
        }
    }

    /// Returns whether the event changes the state of its host. A milestone is never joined with other entries, and
    /// later entries are not joined with those before it.
    pub fn is_milestone(&self) -> bool {
        matches!(self.origin(), Origin::MachineMilestone | Origin::ServerMilestone)
    }

    /// Returns whether a machine's request causes the event, and not the server or an operator.
    pub fn is_of_machine(&self) -> bool {
        matches!(self.origin(), Origin::MachineMilestone | Origin::Machine)
    }

    fn origin(&self) -> Origin {
        match self {
            Self::FirstSeen { .. } | Self::BootCompleted {} => Origin::MachineMilestone,
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
            | Self::WaitingForImage { .. }
            | Self::ReadFailed { .. }
            | Self::BootFinished { .. } => Origin::Machine,
            Self::Assigned { .. }
            | Self::LocalBootRequested {}
            | Self::Held {}
            | Self::InstallFailed { .. }
            | Self::Power { .. }
            | Self::PowerSwitched { .. }
            | Self::Image { .. }
            | Self::DiskNearlyFull { .. }
            | Self::DiskSpaceRecovered { .. } => Origin::ServerMilestone,
            Self::LeaseEnded { .. }
            | Self::Warning { .. }
            | Self::WakeOnLanSent { .. }
            | Self::BootDeviceSet { .. }
            | Self::BmcFailed { .. }
            | Self::OtherDhcpServer { .. }
            | Self::ClockStepped { .. }
            | Self::Stalled { .. }
            | Self::StallCleared { .. }
            | Self::ManifestInvalid { .. } => Origin::Server,
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
