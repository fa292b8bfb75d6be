//! What each event concerns, and how it relates to the entries around it.

use crate::fleet::Name;

use super::Event;

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
            | Self::WakeOnLanSent { .. }
            | Self::BootDeviceSet { .. }
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
            | Self::WakeOnLanSent { .. }
            | Self::BootDeviceSet { .. }
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
            | Self::WakeOnLanSent { .. }
            | Self::BootDeviceSet { .. }
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
            | Self::WakeOnLanSent { .. }
            | Self::BootDeviceSet { .. }
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
