//! A boot that does not go on: why, and how sure that is.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! stall_reasons {
    ($($variant:ident = $code:literal => $title:literal,)*) => {
        /// The reason why a boot does not go on, as a code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum StallReason { $(#[doc = concat!("`", $code, "`: ", $title, ".")] $variant,)* }

        impl StallReason {
            /// All reasons, in the order of a boot.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the stable code for metrics, logs and the API, in snake case.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// Returns a title for people.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

stall_reasons! {
    NoNetworkBoot = "no_network_boot" => "switched on, and nothing was heard of it",
    BootOverrideIgnored = "boot_override_ignored" => "its BMC was to boot it from the network, and it booted something else",
    NoRequestRelayed = "no_request_relayed" => "switched on, and its network was never heard",
    OldSystemRunning = "old_system_running" => "the system that is to be replaced runs, and the install has not begun",
    BmcFailed = "bmc_failed" => "its BMC does not do what is asked",
    BmcBusy = "bmc_busy" => "its BMC refuses for now, and is asked again",
    FirstRequestLate = "first_request_late" => "its first requests did not arrive",
    RequestsLost = "requests_lost" => "its first requests were lost before they were read",
    NeighbourTableFull = "neighbour_table_full" => "the kernel's neighbour table is full",
    NoAddressOffered = "no_address_offered" => "no DHCP server offers it an address",
    OffersRefused = "offers_refused" => "it takes none of its offers",
    OffersNotReceived = "offers_not_received" => "no machine of the segment takes our offers",
    UnexpectedDhcpServer = "unexpected_dhcp_server" => "a DHCP server of another network gave it its address",
    OtherBootServer = "other_boot_server" => "another boot server answers it",
    DhcpServerClaimsBoot = "dhcp_server_claims_boot" => "the DHCP server claims to be a boot server",
    RelayUnreachable = "relay_unreachable" => "our replies do not reach its relay",
    OfferLate = "offer_late" => "our offer left too late",
    NoBootProgram = "no_boot_program" => "no boot program is configured for its architecture",
    Held = "held" => "it asks to boot, and is held",
    HostIgnored = "host_ignored" => "it asks to boot, and the rules ignore it",
    SecondInterface = "second_interface" => "it boots over an interface that is no host's",
    OtherBootFile = "other_boot_file" => "the DHCP server names another boot file",
    Ipv6First = "ipv6_first" => "it tries to boot over IPv6",
    BootFileNotRequested = "boot_file_not_requested" => "it took an address, and not its boot file",
    ProxyRepliesLost = "proxy_replies_lost" => "our replies from port 4011 do not reach it",
    ProxyReplyUnused = "proxy_reply_unused" => "it was told its boot file on port 4011, and never asked for it",
    TftpRepliesLost = "tftp_replies_lost" => "our TFTP replies do not reach it",
    TftpPortUnreachable = "tftp_port_unreachable" => "our TFTP packets are rejected",
    ProgramNotFetched = "program_not_fetched" => "it asked for the size of its boot program, and never for the program",
    TransferAborted = "transfer_aborted" => "it broke off a transfer",
    TransferSilent = "transfer_silent" => "it fell silent in a transfer",
    TransferSlow = "transfer_slow" => "a transfer is slow",
    ProgramMissing = "program_missing" => "its boot program is missing here",
    WrongProgram = "wrong_program" => "it asks for the boot program of another architecture",
    ProgramRefused = "program_refused" => "it loads its boot program and refuses to run it",
    ProgramSilent = "program_silent" => "it loaded its boot program and is silent since",
    ScriptUnused = "script_unused" => "it loaded its boot script and is silent since",
    GrubRefused = "grub_refused" => "shim refuses to run GRUB",
    IpxeNoAddress = "ipxe_no_address" => "iPXE gets no address",
    IpxeOtherInterface = "ipxe_other_interface" => "iPXE asks over another interface than the firmware",
    ScriptRefused = "script_refused" => "its request for its boot script was refused",
    ConfigWithheld = "config_withheld" => "its boot script has no config, since nothing ties its address to it",
    ScriptNotRequested = "script_not_requested" => "iPXE never asked for its script",
    MemoryTooSmall = "memory_too_small" => "it has not enough memory for what it loads",
    ScriptFailed = "script_failed" => "its boot script failed",
    LoginNotAttempted = "login_not_attempted" => "it takes its script and never logs in",
    LoginRefused = "login_refused" => "its iSCSI login was refused",
    LoginFromOtherAddress = "login_from_other_address" => "a login in its name came from another address",
    NothingToBoot = "nothing_to_boot" => "it found nothing to boot on its image",
    KernelSilent = "kernel_silent" => "it loaded its kernel and is silent since",
    MediumNotFound = "medium_not_found" => "its system runs and does not find its image",
    MediumUnreadable = "medium_unreadable" => "its image cannot be read",
    BadRange = "bad_range" => "its iPXE asks for impossible ranges",
    HttpBootNotRequested = "http_boot_not_requested" => "it was told a URL, and never asked for it",
    HttpBootTooLarge = "http_boot_too_large" => "it looked at its boot file and left it",
    ImageUnavailable = "image_unavailable" => "its image cannot be served now",
    ConfigFromOtherAddress = "config_from_other_address" => "its config was asked for from another address",
    FileMissing = "file_missing" => "its installer asked for a file that does not exist",
    InstallerSilent = "installer_silent" => "its installer is silent",
    InstallerFailed = "installer_failed" => "its installer reports an error",
    CompletionNotReported = "completion_not_reported" => "it rebooted and never reported that its install is complete",
    CompletionRefused = "completion_refused" => "its report of completion was refused",
    DiskNotBootable = "disk_not_bootable" => "it comes back from its own disk again and again",
    InstalledSystemWaits = "installed_system_waits" => "its installed system still asks for a config",
    BootsUsedUp = "boots_used_up" => "its install failed",
}

impl StallReason {
    /// Returns whether several machines of a segment share the cause, so that it is said once for all of them.
    pub fn is_of_segment(self) -> bool {
        self == Self::OffersNotReceived
    }

    /// Returns the reason of a condition: the code in CamelCase.
    pub fn condition_reason(self) -> String {
        format!("{self:?}")
    }
}

/// The stage of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BootStage {
    /// Power, by the BMC.
    Power,
    /// DHCP and ProxyDHCP.
    Dhcp,
    /// The boot program, over TFTP or HTTP.
    Program,
    /// The boot script.
    Script,
    /// The image: iSCSI, or HTTP.
    Image,
    /// The kernel and the installer.
    Install,
    /// The machine's own disk.
    Disk,
}

/// How sure a diagnosis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// One of several causes that the evidence allows.
    Possible,
    /// The usual cause of what was seen.
    Likely,
    /// What was seen has no other cause.
    Certain,
}

impl Certainty {
    /// Returns the code, in snake case.
    pub fn code(self) -> &'static str {
        match self {
            Self::Possible => "possible",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

/// The diagnosis of a boot that does not go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stall {
    /// The stage at which the boot stands.
    pub stage: BootStage,
    /// The reason.
    pub reason: StallReason,
    /// How sure the reason is.
    pub certainty: Certainty,
    /// What was seen, and what usually causes it.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// Time since which the boot stands.
    pub since: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_that_of_the_json_and_names_its_variant() {
        for reason in StallReason::ALL {
            assert_eq!(serde_json::to_string(reason).unwrap(), format!("{:?}", reason.code()));
            let joined: String = reason.code().split('_').collect();
            assert_eq!(joined, reason.condition_reason().to_lowercase());
        }
    }
}
