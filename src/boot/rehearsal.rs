//! The values of a rehearsal: what a machine would be sent at its next boot, step by step. Pure.

use std::net::{IpAddr, Ipv4Addr};

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::fleet::lifecycle::Transition;
use crate::fleet::{Architecture, Delivery, Mac};

use super::{Decision, DropReason, Reason, Verdict};

/// Kind of the document.
const KIND: &str = "Rehearsal";

/// The firmware that a rehearsal assumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientClass {
    /// The architecture (DHCP option 93); `None` if the firmware sends only a vendor class.
    pub architecture: Option<Architecture>,
    /// The vendor class (DHCP option 60); `None` for that of usual firmware of the architecture.
    pub vendor_class: Option<String>,
}

/// A client whose DHCP messages are rehearsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RehearsedClient {
    /// The hardware address.
    pub mac: Mac,
    /// The machine's UUID (DHCP option 97); all zeros are sent if it is not known.
    pub uuid: Option<Uuid>,
    /// The firmware.
    pub class: ClientClass,
    /// The address that the client has once its DHCP server has answered; `None` if that is not known.
    pub address: Option<Ipv4Addr>,
    /// The relay that forwards its messages.
    pub relay: Option<Ipv4Addr>,
}

/// The rehearsal of a machine's next boot. Nothing was sent, recorded or changed for it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rehearsal {
    #[schemars(extend("enum" = ["Rehearsal"]))]
    kind: &'static str,
    api_version: &'static str,
    /// The machine.
    pub machine: MachineSummary,
    /// Whether REDACTED stands for tokens, CHAP secrets and the content of configs.
    pub is_redacted: bool,
    /// One boot for each firmware that the machine may have.
    pub boots: Vec<RehearsedBoot>,
}

impl Rehearsal {
    /// Creates a rehearsal.
    pub fn new(machine: MachineSummary, is_redacted: bool, boots: Vec<RehearsedBoot>) -> Self {
        Self { kind: KIND, api_version: "v1", machine, is_redacted, boots }
    }
}

/// The machine of a rehearsal, as it is before the boot.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineSummary {
    /// MAC address of the interface that boots.
    #[schemars(with = "String")]
    pub mac: Mac,
    /// Namespace and name of the host; absent for a machine that was never seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Phase of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// What the host is to boot: an image, `localboot` or `menu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Config of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_config_ref: Option<String>,
}

/// A rehearsed boot of one firmware.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RehearsedBoot {
    /// Architecture of the firmware, as in `x86_64-uefi`.
    pub architecture: String,
    /// Vendor class (DHCP option 60) of the firmware.
    pub vendor_class: String,
    /// Interface of the server that the machine's requests reach; absent where DHCP is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<InterfaceSummary>,
    /// Address that the machine is assumed to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Sentences on what is assumed about the machine.
    pub assumptions: Vec<String>,
    /// What will not work at this boot, or has no effect on it, as far as it is known before; absent if nothing is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The steps, in their order.
    pub steps: Vec<Step>,
}

/// An interface of the server.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceSummary {
    /// Name of the interface.
    pub name: String,
    /// Address of the server on it.
    pub address: Ipv4Addr,
    /// Role of the server on it.
    #[schemars(extend("enum" = ["proxy", "server"]))]
    pub mode: &'static str,
}

/// A step of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// The firmware's DHCPDISCOVER on port 67.
    Discover,
    /// The firmware's DHCPREQUEST for the offered address; in server mode only.
    Request,
    /// The firmware's request on port 4011.
    ProxyRequest,
    /// The boot program.
    BootProgram,
    /// The script that UEFI iPXE loads next to itself.
    Autoexec,
    /// The configuration of GRUB.
    GrubConfig,
    /// The configuration of PXELINUX.
    PxelinuxConfig,
    /// The DHCPDISCOVER of iPXE.
    IpxeDiscover,
    /// The DHCPREQUEST of iPXE for the offered address; in server mode only.
    IpxeRequest,
    /// The iPXE script.
    Script,
    /// The iSCSI login.
    IscsiLogin,
    /// The config of the installer.
    Config,
}

/// What would be sent at a step, and why.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The step.
    pub step: StepKind,
    /// Whether the boot gets this far, as the answers to the earlier steps are.
    pub is_reached: bool,
    /// The decision behind the answer.
    pub decision: StepDecision,
    /// The DHCP messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<DhcpExchange>,
    /// The file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<ServedFile>,
    /// The script.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<ServedScript>,
    /// The kernel arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelArguments>,
    /// The iSCSI login and the units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iscsi: Option<Attachment>,
    /// The config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<ServedConfig>,
}

impl Step {
    /// Creates a step without an answer.
    pub fn new(step: StepKind, is_reached: bool, decision: StepDecision) -> Self {
        let (dhcp, file, script, kernel, iscsi, config) = Default::default();
        Self { step, is_reached, decision, dhcp, file, script, kernel, iscsi, config }
    }

    /// Returns whether the machine gets an answer that it can boot on.
    pub fn is_answered(&self) -> bool {
        let has_reply = self.dhcp.as_ref().is_some_and(|dhcp| dhcp.reply.is_some());
        has_reply || self.file.as_ref().is_some_and(|file| file.sha256.is_some())
    }
}

/// A decision, in codes for programs and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepDecision {
    /// The verdict.
    #[schemars(extend("enum" = ["ignore", "enrol", "chainload", "boot", "wait", "menu", "config", "local_disk", "drop", "serve"]))]
    pub verdict: &'static str,
    /// Boot program, image or config of the verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Code of the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Sentence for people.
    pub message: String,
    /// Transition of the host that the real request would record before it is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<&'static str>,
}

impl StepDecision {
    /// Returns a decision of the boot policy.
    pub fn of(decision: &Decision) -> Self {
        let named = |verdict, name: String, message: String| Self {
            verdict,
            name: Some(name),
            reason: None,
            message,
            records: decision.record.map(transition_code),
        };
        let plain = |verdict, reason: Option<Reason>, message: &str| Self {
            verdict,
            name: None,
            reason: reason.map(Reason::code),
            message: message.to_owned(),
            records: decision.record.map(transition_code),
        };
        match &decision.verdict {
            Verdict::Ignore(reason) => plain("ignore", Some(*reason), reason.sentence()),
            Verdict::Enrol(_) => plain("enrol", None, "the machine is recorded as a new host first"),
            Verdict::Chainload(program) => {
                named("chainload", program.to_string(), format!("the machine loads {program}"))
            }
            Verdict::SanBoot(image) => named("boot", image.to_string(), format!("the machine boots {image}")),
            Verdict::Wait(image) => {
                named("wait", image.to_string(), format!("the machine waits: {image} cannot be served now"))
            }
            Verdict::Menu => plain("menu", None, "the machine shows a menu of the images"),
            Verdict::Configure(config) => {
                named("config", config.to_string(), format!("the machine gets the config {config}"))
            }
            Verdict::LocalDisk(reason) => plain("local_disk", Some(*reason), reason.sentence()),
        }
    }

    /// Returns a refusal of the boot policy.
    pub fn refused(reason: Reason) -> Self {
        Self::of(&Verdict::Ignore(reason).into())
    }

    /// Returns the decision about a message that is dropped before the boot policy is asked.
    pub fn dropped(reason: DropReason) -> Self {
        let message = reason.sentence().to_owned();
        Self { verdict: "drop", name: None, reason: Some(reason.code()), message, records: None }
    }

    /// Returns the decision to serve something that the boot policy does not refuse.
    pub fn served(message: impl Into<String>) -> Self {
        Self { verdict: "serve", name: None, reason: None, message: message.into(), records: None }
    }
}

/// Returns the code of a transition, in snake case.
fn transition_code(transition: Transition) -> &'static str {
    match transition {
        Transition::Assign => "assign",
        Transition::Release => "release",
        Transition::Hold => "hold",
        Transition::Offer | Transition::OfferAcknowledged { .. } => "offer",
        Transition::FetchConfig => "fetch_config",
        Transition::CarryConfig => "carry_config",
        Transition::Complete => "complete",
        Transition::TimedOut { .. } => "timed_out",
        Transition::MaxBootsReached => "max_boots_reached",
    }
}

/// A DHCP request and its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DhcpExchange {
    /// UDP port of the server that the request goes to.
    pub port: u16,
    /// The request, as usual firmware of this kind sends it. Its xid is 0.
    pub request: DhcpMessage,
    /// The reply; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<DhcpMessage>,
    /// Destination of the reply: `broadcast`, or an address and port, or a MAC address for a frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Lease that the real request would record before it is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<Ipv4Addr>,
    /// Address that would be probed on the wire before it is offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Ipv4Addr>,
}

/// A DHCP message: its octets, and what they say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DhcpMessage {
    /// The UDP payload in hexadecimal.
    pub hex: String,
    /// Message type, as in `OFFER`.
    pub message_type: String,
    /// Whether the reply is to be broadcast (flag of the header).
    pub is_broadcast: bool,
    /// Address of the client that uses it.
    pub ciaddr: Ipv4Addr,
    /// Address that the client is given.
    pub yiaddr: Ipv4Addr,
    /// Address of the boot server.
    pub siaddr: Ipv4Addr,
    /// Address of the relay.
    pub giaddr: Ipv4Addr,
    /// Boot file in the header.
    pub file: String,
    /// The options, in their order.
    pub options: Vec<DhcpOption>,
}

/// An option of a DHCP message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DhcpOption {
    /// Code of the option.
    pub code: u8,
    /// Name of the option.
    pub name: String,
    /// Value of the option, for people.
    pub value: String,
    /// Value of the option in hexadecimal.
    pub hex: String,
}

/// A file that would be served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServedFile {
    /// URL of the file.
    pub url: String,
    /// Size in bytes; absent if there is no such file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// SHA-256 of the bytes, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Why there is no such file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A boot script that would be served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServedScript {
    /// URL of the script.
    pub url: String,
    /// The script. UTF-8.
    pub text: String,
}

/// The kernel arguments of an installer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KernelArguments {
    /// Arguments that are added on every kernel line.
    pub added: Vec<String>,
    /// Arguments that are removed, whole or by name.
    pub removed: Vec<String>,
    /// Kernel that methods `kernel` and `sanhook`, GRUB and PXELINUX load: path in the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Its initrds: paths in the image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub initrds: Vec<String>,
    /// Its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
}

/// An iSCSI login and the units that it attaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Name of the target.
    pub target: String,
    /// Address and port of the target.
    pub portal: String,
    /// Name of the initiator.
    pub initiator: String,
    /// Name under which the initiator proves itself by CHAP; absent without CHAP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chap_username: Option<String>,
    /// The units by number. Empty if the login is refused, or another portal serves the image.
    pub units: Vec<AttachedUnit>,
    /// Why the units cannot be attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A logical unit of an iSCSI target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttachedUnit {
    /// Number of the unit.
    pub lun: u8,
    /// Kind of the device.
    #[schemars(extend("enum" = ["cdrom", "disk"]))]
    pub device: &'static str,
    /// Image of the unit; absent for the seed of a config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Size in bytes.
    pub bytes: u64,
    /// Size of a block in bytes.
    pub block_size: u32,
    /// Serial number.
    pub serial: String,
    /// Whether the unit holds the host's config.
    pub carries_config: bool,
}

/// A config that would be served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServedConfig {
    /// Name of the config.
    pub name: String,
    /// Format of the config.
    pub format: String,
    /// URL of the config; for cloud-init the directory of its files.
    pub url: String,
    /// How the installer finds it, by the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// The files.
    pub files: Vec<ConfigFile>,
}

/// A file of a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigFile {
    /// Name of the file.
    pub name: String,
    /// Size in bytes.
    pub bytes: usize,
    /// Content of the file.
    pub text: String,
}

/// The boot loader that a boot program starts, as far as its name says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoaderKind {
    /// iPXE.
    Ipxe,
    /// GRUB, also behind shim.
    Grub,
    /// PXELINUX or SYSLINUX.
    Pxelinux,
}

impl LoaderKind {
    /// Returns the loader of a program. A program with another name is taken for an iPXE, as the default ones are.
    pub fn of_program(program: &str) -> Self {
        let file = program.rsplit('/').next().unwrap_or(program).to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| file.contains(word));
        match () {
            () if has(&["ipxe", "snponly", "undionly"]) => Self::Ipxe,
            () if has(&["pxelinux", "syslinux"]) => Self::Pxelinux,
            () if has(&["shim", "grub"]) => Self::Grub,
            () => Self::Ipxe,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Program;

    #[test]
    fn the_loader_follows_from_the_name_of_the_program() {
        let rows = [
            ("undionly.kpxe", LoaderKind::Ipxe),
            ("snponly.efi", LoaderKind::Ipxe),
            ("ipxe-arm64.efi", LoaderKind::Ipxe),
            ("shimx64.efi", LoaderKind::Grub),
            ("boot/grubx64.efi", LoaderKind::Grub),
            ("lpxelinux.0", LoaderKind::Pxelinux),
            ("syslinux.efi", LoaderKind::Pxelinux),
            ("own.efi", LoaderKind::Ipxe),
        ];
        for (program, loader) in rows {
            assert_eq!(LoaderKind::of_program(program), loader, "{program}");
        }
    }

    #[test]
    fn a_decision_is_its_code_and_its_sentence() {
        let name = || "live".parse().unwrap();
        let rows = [
            (Verdict::Ignore(Reason::Held), "ignore", None, Some("held"), None),
            (Verdict::Chainload(Program("p.efi".into())), "chainload", Some("p.efi"), None, None),
            (Verdict::SanBoot(name()), "boot", Some("live"), None, Some("offer")),
            (Verdict::Wait(name()), "wait", Some("live"), None, None),
            (Verdict::Menu, "menu", None, None, None),
            (Verdict::Configure(name()), "config", Some("live"), None, Some("fetch_config")),
            (
                Verdict::LocalDisk(Reason::MaxBootsReached),
                "local_disk",
                None,
                Some("max_boots_reached"),
                Some("max_boots_reached"),
            ),
        ];
        for (verdict, code, name, reason, records) in rows {
            let step = StepDecision::of(&verdict.into());
            assert_eq!(
                (step.verdict, step.name.as_deref(), step.reason, step.records),
                (code, name, reason, records),
                "{step:?}"
            );
            assert!(!step.message.is_empty());
        }
    }
}
