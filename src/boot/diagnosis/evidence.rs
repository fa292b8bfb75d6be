//! What was seen of a machine's boots, in order and joined where it repeats.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::boot::{BootProtocol, DropReason, Protocol, Reason};
use crate::fleet::{Architecture, Mac, Name};

/// Files that are boot scripts, not programs.
pub const SCRIPTS: [&str; 3] = ["autoexec.ipxe", "pxelinux.cfg", "grub.cfg"];

/// Time since the server started; no step of the wall clock changes it.
pub type Uptime = Duration;

/// A step of a boot that was seen once or several times.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Time of the first occurrence.
    pub first: Uptime,
    /// Time of the last occurrence.
    pub last: Uptime,
    /// Number of occurrences.
    pub count: u32,
    /// The step.
    pub step: Step,
}

/// The program that sends a DHCP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DhcpClient {
    /// The firmware, with the protocol that it boots by and its architecture.
    Firmware(BootProtocol, Architecture),
    /// iPXE.
    Ipxe,
    /// A system that runs: its message has no boot class.
    System,
}

/// What another server sends to clients in its offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherOffer {
    /// The server's address (option 54, else the sender's).
    pub server: Ipv4Addr,
    /// The address that it offers; `None` for a ProxyDHCP offer.
    pub address: Option<Ipv4Addr>,
    /// Whether its vendor class claims that it is a boot server (option 60 `PXEClient` or `HTTPClient`).
    pub claims_boot: bool,
    /// The boot file that it names.
    pub file: Option<Box<str>>,
    /// The server's MAC address.
    pub mac: Option<Mac>,
    /// The boot server that it names (`siaddr`), if that is another one.
    pub next_server: Option<Ipv4Addr>,
}

/// The end of a TFTP transfer, or its present state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferOutcome {
    /// Octets are acknowledged.
    UnderWay,
    /// Every octet was acknowledged.
    Complete,
    /// The client asked for the size only, and ended the transfer before the first block.
    Probed,
    /// The client ended the transfer with an error of its own.
    Aborted {
        /// The error code of RFC 1350.
        code: u16,
        /// The client's words.
        text: Box<str>,
    },
    /// The client acknowledges nothing any more.
    Silent,
    /// The transfer goes on, and takes long because of its small blocks.
    Slow,
    /// The file could not be sent to the end by this server.
    Failed,
}

/// What a machine loads over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownloadKind {
    /// A boot program.
    Program,
    /// Its image, or a file in it: a kernel, an initrd.
    Image,
}

/// The end of a download over HTTP, or its present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownloadOutcome {
    /// It goes on.
    UnderWay,
    /// The machine has every octet.
    Complete,
    /// The machine ended the connection before.
    Aborted,
    /// The connection ended before, after the machine had acknowledged nothing for a while.
    Silent,
}

/// A download over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// The file.
    pub file: Box<str>,
    /// What it is.
    pub kind: DownloadKind,
    /// How it ended, if it has.
    pub outcome: DownloadOutcome,
    /// Octets that the machine acknowledged.
    pub octets: u64,
    /// Octets that it asked for.
    pub size: u64,
    /// The program that asked (`User-Agent`); empty if it does not say that.
    pub agent: Box<str>,
}

/// What a TFTP client and this server agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferPace {
    /// Size of a block, in octets.
    pub block_size: u16,
    /// Number of blocks that are sent before an acknowledgement.
    pub window: u16,
}

/// A TFTP transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTransfer {
    /// The file.
    pub file: Box<str>,
    /// The outcome.
    pub outcome: TransferOutcome,
    /// Octets that were acknowledged.
    pub octets: u64,
    /// Size of the file, in octets.
    pub size: u64,
    /// The pace that was agreed on, once the transfer is over.
    pub pace: Option<TransferPace>,
}

/// A step of a boot. Small: a trace has many, and every DHCP message writes some.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The BMC was asked to switch the machine on or to restart it, or reported that it is on.
    PoweredOn,
    /// The BMC accepted to cut the machine's power, or reported that it is off.
    PoweredOff,
    /// Wake-on-LAN packets were sent to the machine. Nothing confirms that it was off, or that it woke.
    WakeSent,
    /// The BMC accepted to boot the machine from the network.
    NetworkBootSet,
    /// The BMC did not do what was asked.
    BmcFailed {
        /// The error.
        message: Box<str>,
        /// Whether it is not tried again.
        is_final: bool,
    },
    /// The machine broadcast a DHCPDISCOVER.
    Discover {
        /// The transaction number.
        xid: u32,
        /// The seconds that the client says it has waited, in the first message that arrived.
        secs: u16,
        /// The sender.
        client: DhcpClient,
        /// The relay that passed it on.
        relay: Option<Ipv4Addr>,
        /// Whether it wants its replies by broadcast, so that other servers' replies are heard here.
        is_broadcast: bool,
    },
    /// We answered a DISCOVER.
    Offered {
        /// The boot file, shared with the offers before.
        file: Arc<str>,
        /// Whether it contains an address (server mode).
        has_address: bool,
        /// Time from the message to the reply, if it was long.
        delay: Option<Duration>,
    },
    /// This server gives addresses, and had none for the machine.
    NoAddress {
        /// The reason.
        reason: DropReason,
    },
    /// Our reply could not be sent.
    ReplyNotSent {
        /// The destination.
        to: Ipv4Addr,
        /// The error of the system.
        error: Box<str>,
    },
    /// Another server's offer to the machine was heard.
    OtherOffer(Box<OtherOffer>),
    /// The machine took an address.
    Request {
        /// The server that it takes it from.
        server: Option<Ipv4Addr>,
        /// The address.
        address: Ipv4Addr,
        /// The sender.
        client: DhcpClient,
    },
    /// Our acknowledgement of an address was sent, after its lease was written (server mode).
    Acknowledged {
        /// The address.
        address: Ipv4Addr,
    },
    /// The machine asked on port 4011, and we answered.
    ProxyRequest {
        /// The transaction number.
        xid: u32,
    },
    /// The machine asked over DHCPv6 as PXE firmware does.
    SolicitV6,
    /// The machine took what a DHCPv6 server offered it.
    RequestV6,
    /// A request was refused.
    Refused {
        /// The protocol of the request.
        protocol: Protocol,
        /// The reason.
        reason: Reason,
        /// The sentence for people.
        message: Box<str>,
        /// Whether it is known that the machine itself asked, and not somebody in its name.
        is_tied: bool,
    },
    /// The machine requested a file over TFTP.
    FileRequested {
        /// The file.
        file: Box<str>,
        /// The client's port.
        port: u16,
    },
    /// A TFTP transfer ended, or stands.
    Transfer(Box<FileTransfer>),
    /// Somebody answered a packet of ours with an ICMP error.
    Unreachable {
        /// The sender of the error.
        by: Ipv4Addr,
        /// The ICMP code of a destination-unreachable message.
        code: u8,
        /// The port of ours that the packet came from.
        from_port: u16,
    },
    /// Nobody answers ARP for an address that we reply to.
    ArpUnanswered {
        /// The address.
        address: Ipv4Addr,
    },
    /// The machine asked for the size of its boot program over HTTP.
    HeadRequested {
        /// The file.
        file: Box<str>,
        /// Size of the file, in octets.
        size: u64,
    },
    /// The machine loads a whole file over HTTP. `last` is the time of the last acknowledgement.
    Download(Box<Download>),
    /// A boot script was served.
    Script {
        /// What the script does.
        action: ScriptStep,
    },
    /// The script that was just served has no config: nothing ties the client's address to the machine.
    ConfigWithheld {
        /// The client's address.
        from: Option<IpAddr>,
    },
    /// The boot script reported a failure.
    ScriptFailed {
        /// The command that failed, as our scripts name it.
        command: Box<str>,
        /// iPXE's error number.
        errno: u32,
    },
    /// A login to the iSCSI target was accepted.
    Login {
        /// The image.
        image: Name,
    },
    /// A login was refused.
    LoginRefused {
        /// The image that it asked for, as far as the target names one of ours.
        target: Box<str>,
        /// The reason; `None` if no image has that target name.
        reason: Option<Reason>,
        /// The client's address.
        from: IpAddr,
        /// Whether that address was tied to the machine.
        is_tied: bool,
    },
    /// Somebody at an address that is not the machine's asked in its name.
    AskedFromElsewhere {
        /// The protocol of the request.
        what: ElsewhereRequest,
        /// The address.
        from: IpAddr,
        /// The MAC address that the neighbour table has for it.
        neighbour: Option<Mac>,
        /// Whether the request carried the machine's token.
        has_token: bool,
    },
    /// Data of the image was read, over iSCSI or HTTP. `last` is the time of the last read.
    Read {
        /// Octets in all.
        octets: u64,
        /// Whether the session or the connection has ended.
        is_over: bool,
    },
    /// A read of the image failed.
    ReadFailed {
        /// The error.
        message: Box<str>,
    },
    /// A client asked for a range that no client can mean (`bytes=u-u`).
    BadRange {
        /// The range.
        range: Box<str>,
    },
    /// The config was served.
    ConfigServed {
        /// Its size, in octets.
        octets: u64,
    },
    /// The installer asked for another file, or reported something.
    InstallerActive,
    /// The installer reported a failure.
    InstallerFailed {
        /// The program that reports it.
        source: Box<str>,
        /// Its words.
        message: Box<str>,
    },
    /// The machine reported that its install is complete.
    Completed,
    /// The machine reported that it is complete before its install began: its present system runs.
    CompletedEarly {
        /// The address that its script or its image was last asked for from since the install was requested, if nothing tied
        /// it to the machine.
        asked_from: Option<IpAddr>,
    },
    /// A report of completion was refused.
    CompletionRefused {
        /// The reason.
        reason: Reason,
    },
    /// Another interface of the machine asked, by its UUID.
    OtherInterface {
        /// The MAC address of that interface.
        mac: Mac,
        /// The sender.
        client: DhcpClient,
    },
}

impl Step {
    /// Returns the TFTP transfer that the step is, if it has this outcome.
    pub fn transfer_with(&self, outcome: &TransferOutcome) -> Option<&FileTransfer> {
        match self {
            Self::Transfer(transfer) if transfer.outcome == *outcome => Some(transfer),
            _ => None,
        }
    }

    /// Returns the boot program that the step is a request for. Boot scripts are none.
    pub fn requested_program(&self) -> Option<&str> {
        match self {
            Self::FileRequested { file, .. } if SCRIPTS.contains(&&**file) => None,
            Self::FileRequested { file, .. } | Self::HeadRequested { file, .. } => Some(file),
            Self::Download(download) if download.kind == DownloadKind::Program => Some(&download.file),
            _ => None,
        }
    }
}

/// What a boot script does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptStep {
    /// It boots the image by an iSCSI login.
    Attach,
    /// It boots the image without iSCSI: a kernel over HTTP, or the whole image.
    Load,
    /// It boots the local disk.
    LocalDisk,
    /// It waits for the image, or shows a menu.
    Wait,
}

/// What somebody at another address asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElsewhereRequest {
    /// An iSCSI login.
    Login,
    /// The config.
    Config,
}
