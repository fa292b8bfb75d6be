//! What a person can do on the page about a diagnosis. Pure.

use crate::fleet::StallReason;

/// Something that the page does, or leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Assigns an ISO, and declares the machine.
    Approve,
    /// Leaves the machine to its disk.
    Release,
    /// Installs again.
    Reinstall,
    /// Restarts the machine by its BMC.
    Restart,
    /// Cuts the power of a machine that hangs, and switches it on again.
    Reset,
    /// Boots the machine from the network once, by its BMC.
    BootFromNetwork,
    /// The page of the ISOs.
    Isos,
    /// The editor, with the config of the host.
    Config,
    /// The page of the network.
    Network,
    /// The lines of the installer in the host's history.
    InstallerLines,
    /// The power log in the host's history.
    PowerLog,
    /// A key of the configuration.
    Setting(&'static str),
}

impl Advice {
    /// Returns the code by which the page's module knows it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Release => "release",
            Self::Reinstall => "reinstall",
            Self::Restart => "restart",
            Self::Reset => "reset",
            Self::BootFromNetwork => "network_boot",
            Self::Isos => "isos",
            Self::Config => "config",
            Self::Network => "network",
            Self::InstallerLines => "installer_lines",
            Self::PowerLog => "power_log",
            Self::Setting(key) => key,
        }
    }
}

/// Returns what the page offers for a diagnosis; nothing where only a hand at the machine or at the network helps.
pub fn advice(reason: StallReason) -> &'static [Advice] {
    use Advice::{
        Approve, BootFromNetwork, Config, InstallerLines, Isos, Network, PowerLog, Reinstall, Release, Reset, Restart,
        Setting,
    };
    use StallReason as R;
    match reason {
        R::NoNetworkBoot | R::OldSystemRunning => &[BootFromNetwork, Restart],
        R::BootOverrideIgnored => &[Restart, PowerLog],
        R::BmcFailed | R::BmcBusy => &[PowerLog],
        R::NoRequestRelayed | R::RelayUnreachable => &[Network],
        R::OtherBootServer
        | R::DhcpServerClaimsBoot
        | R::OtherBootFile
        | R::UnexpectedDhcpServer
        | R::RequestsLost
        | R::OffersNotReceived => &[Network],
        R::NoAddressOffered => &[Network, Setting("dhcp.mode")],
        R::OffersRefused => &[Setting("dhcp.mode")],
        R::BootFileNotRequested | R::ProxyReplyUnused => &[Setting("overrides")],
        R::NoBootProgram | R::WrongProgram | R::IpxeOtherInterface | R::ProgramRefused | R::ProgramSilent => {
            &[Setting("programs")]
        }
        R::ProgramMissing => &[Setting("firmware_dir"), Setting("programs")],
        R::GrubRefused => &[Setting("firmware_dir")],
        R::Held => &[Approve, Release],
        R::HostIgnored => &[Approve, Setting("rules")],
        R::IpxeNoAddress
        | R::ScriptUnused
        | R::ScriptNotRequested
        | R::LoginNotAttempted
        | R::TransferAborted
        | R::TransferSilent
        | R::ScriptFailed => &[Restart],
        R::LoginRefused | R::MediumUnreadable | R::ImageUnavailable | R::MemoryTooSmall | R::BadRange => &[Isos],
        R::NothingToBoot => &[Approve, Isos],
        R::HttpBootTooLarge => &[Setting("programs")],
        R::LoginFromOtherAddress | R::ConfigFromOtherAddress | R::ScriptRefused => &[Network],
        R::ConfigWithheld => &[Setting("config_access.trusted_subnets"), Network],
        R::FileMissing => &[Config, Isos],
        R::KernelSilent => &[InstallerLines, Reset],
        R::MediumNotFound => &[Isos, Config],
        R::InstallerSilent => &[InstallerLines, Reset, Reinstall],
        R::InstallerFailed => &[InstallerLines, Config, Reinstall],
        R::CompletionNotReported => &[Config, Release],
        R::CompletionRefused => &[Setting("config_access.token_ttl"), Release],
        R::InstalledSystemWaits => &[Release, Config],
        R::BootsUsedUp => &[Reinstall, Release, InstallerLines],
        R::DiskNotBootable => &[Reinstall],
        // The machine's firmware, its cable, a switch, a firewall, or the server's own kernel: no page changes those.
        R::FirstRequestLate
        | R::NeighbourTableFull
        | R::OfferLate
        | R::SecondInterface
        | R::Ipv6First
        | R::ProxyRepliesLost
        | R::TftpRepliesLost
        | R::TftpPortUnreachable
        | R::ProgramNotFetched
        | R::TransferSlow
        | R::HttpBootNotRequested => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every advice but the settings.
    const ALL: [Advice; 11] = [
        Advice::Approve,
        Advice::Release,
        Advice::Reinstall,
        Advice::Restart,
        Advice::Reset,
        Advice::BootFromNetwork,
        Advice::Isos,
        Advice::Config,
        Advice::Network,
        Advice::InstallerLines,
        Advice::PowerLog,
    ];

    #[test]
    fn the_module_of_the_page_knows_every_advice_and_the_reference_every_key() {
        let module = include_str!("assets/advice.js");
        for advice in ALL {
            assert!(module.contains(&format!("\n  {}: ", advice.code())), "advice.js: {}", advice.code());
        }
        let reference = include_str!("../../docs/reference/configuration.md");
        for advice in StallReason::ALL.iter().flat_map(|reason| advice(*reason)) {
            match advice {
                Advice::Setting(key) => assert!(reference.contains(key.rsplit('.').next().unwrap()), "{key}"),
                other => assert!(ALL.contains(other), "{other:?}"),
            }
        }
    }

    #[test]
    fn a_sentence_that_names_a_button_has_it() {
        // The keys of the configuration that the remedies name are those that the page leads to.
        assert!(advice(StallReason::NoAddressOffered).contains(&Advice::Setting("dhcp.mode")));
        assert!(advice(StallReason::CompletionRefused).contains(&Advice::Setting("config_access.token_ttl")));
        for reason in StallReason::ALL {
            let found = advice(*reason);
            assert!(found.len() <= 3 && !found.iter().enumerate().any(|(at, one)| found[..at].contains(one)));
        }
    }
}
