//! The code and the log message of each event.

use super::Event;

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
            Self::WakeOnLanSent { .. } => "wake_on_lan_sent",
            Self::BootDeviceSet { .. } => "boot_device_set",
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
            Self::WakeOnLanSent { .. } => "Wake-on-LAN packets sent",
            Self::BootDeviceSet { .. } => "boot device set",
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
}
