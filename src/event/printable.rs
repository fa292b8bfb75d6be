//! Events in printable characters.

use crate::event::Event;
use crate::fleet::text::{is_printable, printable};

impl Event {
    /// Returns the event with its texts in printable characters. Some are what machines and media say.
    pub(super) fn printable(mut self) -> Self {
        for text in self.texts() {
            if !is_printable(text) {
                *text = printable(text).into_owned();
            }
        }
        self
    }

    /// Returns the texts that are not of a type with characters of its own.
    fn texts(&mut self) -> Vec<&mut String> {
        match self {
            Self::Offer { architecture, file } => vec![architecture, file],
            Self::TftpStarted { file } | Self::TftpCompleted { file, .. } => vec![file],
            Self::IscsiLogin { initiator, target, .. } => vec![initiator, target],
            Self::IscsiRedirect { initiator, target, portal, .. } => vec![initiator, target, portal],
            Self::ConfigFetched { file, .. } => file.iter_mut().collect(),
            Self::Installer { stage, message, .. } => stage.iter_mut().chain([message]).collect(),
            Self::InstallFailed { message }
            | Self::Refused { message, .. }
            | Self::Warning { message, .. }
            | Self::BmcFailed { message }
            | Self::WaitingForImage { message, .. }
            | Self::ReadFailed { message, .. }
            | Self::ManifestInvalid { message } => vec![message],
            Self::Image { phase, message, .. } => vec![phase, message],
            Self::Stalled { message, remedy, .. } => vec![message, remedy],
            Self::BootFinished { advice, .. } => advice.iter_mut().collect(),
            Self::PowerSwitched { reset } => vec![reset],
            Self::DiskNearlyFull { directory, .. } | Self::DiskSpaceRecovered { directory, .. } => vec![directory],
            Self::OtherDhcpServer { interface, .. } => vec![interface],
            Self::FirstSeen { .. }
            | Self::SameMachine { .. }
            | Self::AddressChanged { .. }
            | Self::Assigned { .. }
            | Self::LocalBootRequested {}
            | Self::Held {}
            | Self::Script { .. }
            | Self::BootCompleted {}
            | Self::BootCompleteIgnored { .. }
            | Self::LocalDisk { .. }
            | Self::ClockStepped { .. }
            | Self::StallCleared { .. }
            | Self::LeaseEnded { .. }
            | Self::WakeOnLanSent { .. }
            | Self::BootDeviceSet { .. }
            | Self::Power { .. } => Vec::new(),
        }
    }
}
