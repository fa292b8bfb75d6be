//! Decodes what a client claims, and encodes ProxyDHCP replies: pure functions from a checked request and a verdict.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use dhcproto::v4::MessageType;

use crate::boot::{BootProtocol, DropReason, Facts, Firmware, Site, Stage, Verdict};
use crate::fleet::{Architecture, Mac};

use super::message::{HeaderAddresses, ReplyWriter};
use super::packet::{DhcpPacket, sub_options};
use super::quirks::{self, BootFileLocation, Quirks};
use super::relay::Relay;

const CLIENT_PORT: u16 = 68;

/// The server's port that a message arrived on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DhcpPort {
    /// Port 67, where clients look for servers.
    Server,
    /// Port 4011, where PXE firmware asks a proxy for its boot file.
    Proxy,
}

/// The port that a message arrived on, and its sender.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// The port that the message arrived on.
    pub port: DhcpPort,
    /// The sender's address and port.
    pub from: SocketAddrV4,
}

/// The destination of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// A relay, or a client that has its address.
    Address(SocketAddrV4),
    /// A client that does not answer ARP for its address yet (RFC 2131 4.1): the frame carries its MAC address.
    LinkLayer {
        /// The MAC address of the client.
        mac: Mac,
        /// The address that the client is given, or has.
        address: Ipv4Addr,
    },
    /// All clients on the link.
    Broadcast,
}

/// A DHCP message and its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpReply {
    /// The UDP payload.
    pub message: Vec<u8>,
    /// The destination.
    pub to: Destination,
}

/// Returns what a client claims about itself.
///
/// # Errors
/// The reason a proxy does not answer the message.
pub fn facts(request: &DhcpPacket<'_>, arrival: Arrival, ours: Ipv4Addr) -> Result<Facts, DropReason> {
    match (arrival.port, request.kind) {
        (DhcpPort::Server, MessageType::Discover) => {}
        (DhcpPort::Proxy, MessageType::Request | MessageType::Inform) => {
            // EDK2 omits the server identifier here. One that is present must be ours.
            if request.address(54).is_some_and(|server| server != ours) {
                return Err(DropReason::OtherServer);
            }
        }
        (DhcpPort::Server | DhcpPort::Proxy, _) => return Err(DropReason::NotABootRequest),
    }
    if !request.hardware.names_machine() {
        return Err(DropReason::NoHardwareAddress);
    }
    claims(request, ours).ok_or(DropReason::NotABootRequest)
}

/// Returns what a client claims about itself; `None` if it does not boot from the network, or has no MAC address by
/// which its boot programs could ask for its script.
pub fn claims(request: &DhcpPacket<'_>, ours: Ipv4Addr) -> Option<Facts> {
    if !request.hardware.names_machine() {
        return None;
    }
    let class = request.option(60).unwrap_or_default();
    let loading = match class.as_ref() {
        class if class.starts_with(b"HTTPClient") => BootProtocol::Http,
        class if class.starts_with(b"PXEClient") || class.starts_with(U_BOOT) => BootProtocol::Pxe,
        _ if is_ipxe(request) => BootProtocol::Pxe,
        _ => return None,
    };
    let architecture = architecture(request, &class, loading);
    let stage = match is_ipxe(request) {
        false => Stage::Rom,
        true if has_required_features(request, architecture) => Stage::Ipxe,
        true => Stage::LimitedIpxe,
    };
    let own = Some(request.ciaddr()).filter(|address| !address.is_unspecified());
    let known = own.or_else(|| request.link()).unwrap_or(ours);
    let firmware = Some(Firmware { architecture, loading });
    Some(Facts { mac: request.mac, firmware, stage, address: Some(known.into()), uuid: request.uuid() })
}

/// Returns the address that a client asks its DHCP server to confirm. The firmware, or an installer with its own
/// address, uses it for later requests to this server.
pub fn claimed_address(request: &DhcpPacket<'_>) -> Option<Ipv4Addr> {
    (request.kind == MessageType::Request).then(|| request.address(50)).flatten()
}

/// Returns whether the client is iPXE, by its user class or option 175. The vendor class is no evidence: after a PXE
/// chainload iPXE echoes ours (boot-facts 10).
fn is_ipxe(request: &DhcpPacket<'_>) -> bool {
    let class = request.option(77).unwrap_or_default();
    // RFC 3004 puts a length before each class; iPXE does not.
    matches!(class.as_ref(), b"iPXE" | b"gPXE" | [4, b'i', b'P', b'X', b'E'] | [4, b'g', b'P', b'X', b'E'])
        || request.has(175)
}

/// Returns whether an iPXE has the features that our scripts need: iSCSI, HTTP, and EFI programs on UEFI. Features are
/// sub-options of option 175 (`features.h` of iPXE).
fn has_required_features(request: &DhcpPacket<'_>, architecture: Architecture) -> bool {
    const ISCSI: u8 = 17;
    const HTTP: u8 = 19;
    const EFI: u8 = 36;
    let features = request.option(175).unwrap_or_default();
    let has = |wanted| sub_options(&features).any(|(code, value)| code == wanted && value.first() != Some(&0));
    has(ISCSI) && has(HTTP) && (!architecture.is_uefi() || has(EFI))
}

/// The start of U-Boot's vendor class (its `CONFIG_BOOTP_VCI_STRING`); boards append their instruction set.
const U_BOOT: &[u8] = b"U-Boot";

/// Returns the first architecture of option 93, else the one in the vendor class, else the usual one of such clients.
fn architecture(request: &DhcpPacket<'_>, class: &[u8], loading: BootProtocol) -> Architecture {
    if let Some([high, low, ..]) = request.option(93).as_deref() {
        return Architecture(u16::from_be_bytes([*high, *low]));
    }
    match (class_architecture(class), loading) {
        (Some(architecture), _) => architecture,
        (None, _) if class.starts_with(U_BOOT) => Architecture::UNKNOWN,
        // PXE ROMs from before RFC 4578 are BIOSes. HTTP Boot began with UEFI on x86-64.
        (None, BootProtocol::Pxe) => Architecture(0),
        (None, BootProtocol::Http) => Architecture(16),
    }
}

/// Returns the architecture in a vendor class: five digits in `PXEClient:Arch:00007:UNDI:003000` and
/// `HTTPClient:Arch:00016:...`, a name in `U-Boot.armv8`.
fn class_architecture(class: &[u8]) -> Option<Architecture> {
    let class = std::str::from_utf8(class).ok()?.trim_end_matches('\0');
    if let Some(board) = class.strip_prefix("U-Boot") {
        return match board.trim_start_matches('.') {
            "armv8" => Some(Architecture(22)),
            "arm" | "armv7" => Some(Architecture(21)),
            _ => None,
        };
    }
    let (_, digits) = class.split_once(":Arch:")?;
    digits.split(':').next()?.parse().ok().map(Architecture)
}

/// The boot file for a client, and the options without which that client does not load it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootOffer {
    /// The boot file or script, as the message and the timeline show it.
    pub file: String,
    server: Ipv4Addr,
    quirks: Quirks,
}

impl BootOffer {
    /// Returns the boot offer of a verdict; `None` if the client gets none.
    pub fn new(facts: &Facts, verdict: &Verdict, site: &Site, location: BootFileLocation) -> Option<Self> {
        let (firmware, IpAddr::V4(server)) = (facts.firmware?, site.address) else { return None };
        let folder = facts.mac.dashed();
        let file = match (verdict, firmware.loading) {
            (Verdict::Ignore(_) | Verdict::Enrol(_) | Verdict::Configure(_), _) => return None,
            (Verdict::Chainload(program), BootProtocol::Pxe) => format!("{folder}/{program}"),
            (Verdict::Chainload(program), BootProtocol::Http) => format!("{}/boot/{folder}/{program}", site.url()),
            // An iPXE asks here. A configured program must not be iPXE, which would ask again.
            (Verdict::SanBoot(_) | Verdict::Wait(_) | Verdict::Menu | Verdict::LocalDisk(_), _) => {
                match site.program_for_ipxe(facts) {
                    Some(program) => format!("{folder}/{program}"),
                    None => format!("{}/ipxe?mac={folder}", site.url()),
                }
            }
        };
        Some(Self { file, server, quirks: quirks::for_client(facts.stage, firmware).at_location(location) })
    }

    /// Writes the boot file options into a reply whose `siaddr` is this server.
    pub fn write(&self, request: &DhcpPacket<'_>, writer: &mut ReplyWriter) {
        writer.option(60, self.quirks.vendor_class);
        if !self.quirks.vendor_options.is_empty() {
            writer.option(43, self.quirks.vendor_options);
        }
        if let Some(uuid) = request.option(97) {
            writer.option(97, &uuid);
        }
        writer.boot_file(self.server, &self.file);
    }
}

/// Returns whether a client accepts its boot file on port 4011 as well, so that the working location must be learned.
pub fn supports_port_4011(facts: &Facts) -> bool {
    facts.firmware.is_some_and(|firmware| quirks::for_client(facts.stage, firmware).supports_port_4011)
}

/// Encodes a proxy's reply: the boot file, and never an address.
pub fn reply(request: &DhcpPacket<'_>, boot: &BootOffer, arrival: Arrival, relay: Option<Relay>) -> DhcpReply {
    let (kind, ciaddr) = match arrival.port {
        DhcpPort::Server => (MessageType::Offer, Ipv4Addr::UNSPECIFIED),
        DhcpPort::Proxy => (MessageType::Ack, request.ciaddr()),
    };
    let mut writer =
        ReplyWriter::reply(request, kind, HeaderAddresses { ciaddr, ..HeaderAddresses::of_server(boot.server) });
    writer.address(54, boot.server);
    boot.write(request, &mut writer);
    DhcpReply { message: writer.finish(request), to: destination(arrival, relay) }
}

/// Encodes the reply to the probe of another bootlatch server.
pub fn presence_reply(request: &DhcpPacket<'_>, ours: Ipv4Addr, arrival: Arrival, relay: Option<Relay>) -> DhcpReply {
    let mut writer = ReplyWriter::reply(request, MessageType::Offer, HeaderAddresses::of_server(ours));
    writer.address(54, ours);
    writer.option(60, b"PXEClient");
    writer.option(77, crate::dhcp::rogue_servers::USER_CLASS);
    DhcpReply { message: writer.finish(request), to: destination(arrival, relay) }
}

/// Returns the destination of a proxy's reply: a relay; on port 4011 the sender; otherwise broadcast,
/// because a proxy gives the client no address (RFC 2131 4.1).
fn destination(arrival: Arrival, relay: Option<Relay>) -> Destination {
    if let Some(relay) = relay {
        return Destination::Address(relay.address);
    }
    match arrival.port {
        DhcpPort::Proxy if !arrival.from.ip().is_unspecified() => Destination::Address(arrival.from),
        DhcpPort::Proxy | DhcpPort::Server => Destination::Broadcast,
    }
}

/// The destination for clients without an address.
pub const BROADCAST_CLIENTS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);

#[cfg(test)]
mod tests {
    use dhcproto::v4::{DhcpOption, Message};
    use proptest::prelude::*;

    use super::super::packet::tests::{capture, message};
    use super::super::relay::RelayTrust;
    use super::*;
    use crate::boot::site::tests::site;
    use crate::boot::{Program, ProgramOverride, Reason};

    const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

    fn arrival(port: DhcpPort) -> Arrival {
        let from = match port {
            DhcpPort::Server => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
            DhcpPort::Proxy => SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 185), 4011),
        };
        Arrival { port, from }
    }

    /// Returns the clients in a capture: every message that a boot server answers.
    fn askers(file: &str) -> Vec<(u16, u16, BootProtocol, Stage)> {
        let mut found = Vec::new();
        for (port, bytes) in capture(file) {
            let side = if port == 4011 { DhcpPort::Proxy } else { DhcpPort::Server };
            let Ok(request) = DhcpPacket::parse(&bytes) else { continue };
            if let Ok(facts) = facts(&request, arrival(side), OURS) {
                let firmware = facts.firmware.unwrap();
                found.push((port, firmware.architecture.0, firmware.loading, facts.stage));
            }
        }
        found
    }

    #[test]
    fn real_clients_are_classified() {
        use BootProtocol::{Http, Pxe};
        use Stage::{Ipxe, Rom};
        let check = |file, expected: &[_]| assert_eq!(askers(file), expected, "{file}");
        check("bios-ipxe-rom-2025.pcap", &[(67, 0, Pxe, Ipxe)]);
        check("bios-rom-2019-then-undionly.pcap", &[(67, 0, Pxe, Ipxe), (67, 0, Pxe, Ipxe)]);
        for file in ["ovmf-2022-pxe-x64.pcap", "ovmf-2025-pxe-x64.pcap"] {
            check(file, &[(67, 7, Pxe, Rom), (4011, 7, Pxe, Rom), (67, 7, Pxe, Ipxe)]);
        }
        check("ovmf-2022-http-x64.pcap", &[(67, 16, Http, Rom), (67, 7, Pxe, Ipxe)]);
        check("aavmf-2022-pxe-arm64.pcap", &[(67, 11, Pxe, Rom), (4011, 11, Pxe, Rom), (67, 11, Pxe, Ipxe)]);
    }

    fn offer(bytes: &[u8], port: DhcpPort, verdict: &Verdict) -> Option<Message> {
        let request = DhcpPacket::parse(bytes).unwrap();
        let facts = facts(&request, arrival(port), OURS).ok()?;
        let boot = BootOffer::new(&facts, verdict, &site("hold"), BootFileLocation::Offer)?;
        let reply = reply(&request, &boot, arrival(port), None);
        assert!(reply.message.len() >= 300);
        Some(dhcproto::Decodable::decode(&mut dhcproto::Decoder::new(&reply.message)).unwrap())
    }

    fn text(option: Option<&DhcpOption>) -> String {
        match option {
            Some(DhcpOption::ClassIdentifier(bytes) | DhcpOption::BootfileName(bytes)) => {
                String::from_utf8_lossy(bytes).into()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_offer_has_the_options_that_its_firmware_requires() {
        use dhcproto::v4::OptionCode as Code;
        let load = Verdict::Chainload(Program("p.efi".into()));
        let boot = Verdict::SanBoot("live".parse().unwrap());
        let rows = [
            ("ovmf-2025-pxe-x64.pcap", 0, DhcpPort::Server, &load, "PXEClient", "52-54-00-aa-00-01/p.efi", true),
            ("ovmf-2025-pxe-x64.pcap", 5, DhcpPort::Proxy, &load, "PXEClient", "52-54-00-aa-00-01/p.efi", true),
            (
                "ovmf-2022-http-x64.pcap",
                0,
                DhcpPort::Server,
                &load,
                "HTTPClient",
                "http://10.77.0.2/boot/52-54-00-aa-00-01/p.efi",
                false,
            ),
            (
                "bios-ipxe-rom-2025.pcap",
                0,
                DhcpPort::Server,
                &boot,
                "PXEClient",
                "http://10.77.0.2/ipxe?mac=52-54-00-aa-00-01",
                false,
            ),
        ];
        for (file, index, port, verdict, class, boot_file, discovery) in rows {
            let bytes = &capture(file)[index].1;
            let offer = offer(bytes, port, verdict).expect(file);
            assert_eq!(offer.siaddr(), OURS);
            assert_eq!(offer.yiaddr(), Ipv4Addr::UNSPECIFIED);
            assert_eq!(offer.fname().unwrap().strip_suffix(&[0]), Some(boot_file.as_bytes()), "{file}");
            assert_eq!(text(offer.opts().get(Code::BootfileName)), boot_file);
            assert_eq!(text(offer.opts().get(Code::ClassIdentifier)), class);
            assert_eq!(offer.opts().get(Code::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(OURS)));
            assert_eq!(offer.opts().contains(Code::VendorExtensions), discovery, "{file}");
        }
    }

    #[test]
    fn every_architecture_gets_a_program_that_it_can_load() {
        let rows: &[(u16, &str, &str)] = &[
            (0, "PXEClient", "52-54-00-12-34-56/undionly.kpxe"),
            (7, "PXEClient", "52-54-00-12-34-56/snponly.efi"),
            (9, "PXEClient", "52-54-00-12-34-56/snponly.efi"),
            (11, "PXEClient", "52-54-00-12-34-56/ipxe-arm64.efi"),
            (16, "HTTPClient", "http://10.77.0.2/boot/52-54-00-12-34-56/snponly.efi"),
            (17, "HTTPClient", "http://10.77.0.2/boot/52-54-00-12-34-56/snponly.efi"),
            (19, "HTTPClient", "http://10.77.0.2/boot/52-54-00-12-34-56/ipxe-arm64.efi"),
            (20, "HTTPClient", "http://10.77.0.2/boot/52-54-00-12-34-56/undionly.kpxe"),
            (6, "PXEClient", "52-54-00-12-34-56/p6"),
            (10, "PXEClient", "52-54-00-12-34-56/p10"),
            (15, "HTTPClient", "http://10.77.0.2/boot/52-54-00-12-34-56/p6"),
            (18, "HTTPClient", "http://10.77.0.2/boot/52-54-00-12-34-56/p10"),
            (27, "PXEClient", "52-54-00-12-34-56/p27"),
            (28, "HTTPClient", "http://10.77.0.2/boot/52-54-00-12-34-56/p27"),
            (41, "PXEClient", "52-54-00-12-34-56/p41"),
            (21, "PXEClient", "52-54-00-12-34-56/p10"),
            (22, "PXEClient", "52-54-00-12-34-56/ipxe-arm64.efi"),
            (23, "HTTPClient", "http://10.77.0.2/boot/52-54-00-12-34-56/p10"),
            (24, "HTTPClient", "http://10.77.0.2/boot/52-54-00-12-34-56/ipxe-arm64.efi"),
        ];
        let mut site = site("hold");
        site.programs.0.extend([6, 10, 27, 41].map(|code| (Architecture(code), Program(format!("p{code}").into()))));
        for (code, class, file) in rows {
            let claimed = format!("{class}:Arch:{code:05}:UNDI:003000");
            let bytes = message(1, &[(60, claimed.as_bytes()), (93, &code.to_be_bytes())]);
            let request = DhcpPacket::parse(&bytes).unwrap();
            let facts = facts(&request, arrival(DhcpPort::Server), OURS).unwrap();
            let verdict = Verdict::Chainload(site.program(&facts).unwrap().clone());
            let boot = BootOffer::new(&facts, &verdict, &site, BootFileLocation::Offer).unwrap();
            assert_eq!((boot.file.as_str(), boot.quirks.vendor_class), (*file, class.as_bytes()), "{code}");
        }
    }

    #[test]
    fn the_architecture_is_read_from_the_class_where_option_93_is_missing() {
        type Row<'a> = (&'a str, Option<&'a [u8]>, Option<u16>);
        let rows: &[Row<'_>] = &[
            ("PXEClient:Arch:00007:UNDI:003016", None, Some(7)),
            ("PXEClient:Arch:00000:UNDI:002001", None, Some(0)),
            ("PXEClient:Arch:00011", None, Some(11)),
            ("PXEClient", None, Some(0)),
            ("PXEClient:Arch:", None, Some(0)),
            ("PXEClient", Some(&[0, 7]), Some(7)),
            ("PXEClient", Some(&[0, 7, 0, 9]), Some(7)),
            ("PXEClient:Arch:00007:UNDI:003016", Some(&[7]), Some(7)),
            ("HTTPClient:Arch:00016:UNDI:003000", None, Some(16)),
            ("HTTPClient:Arch:00019:UNDI:003000", None, Some(19)),
            ("HTTPClient", None, Some(16)),
            ("U-Boot.armv8", None, Some(22)),
            ("U-Boot.armv8", Some(&[0, 22]), Some(22)),
            ("U-Boot.armv7", None, Some(21)),
            ("U-Boot.arm", None, Some(21)),
            ("U-Boot", None, Some(Architecture::UNKNOWN.0)),
            ("U-Boot SPL", Some(&[0, 27]), Some(27)),
            ("MSFT 5.0", Some(&[0, 7]), None),
            ("", Some(&[0, 7]), None),
        ];
        for (class, option, expected) in rows {
            let mut options = vec![(60, class.as_bytes())];
            options.extend(option.map(|option| (93, option)));
            let bytes = message(1, &options);
            let facts = claims(&DhcpPacket::parse(&bytes).unwrap(), OURS);
            let found = facts.and_then(|facts| facts.firmware).map(|firmware| firmware.architecture.0);
            assert_eq!(found, *expected, "{class:?} {option:?}");
        }
    }

    #[test]
    fn a_board_with_u_boot_is_told_its_program_in_the_header() {
        let class = (60, &b"U-Boot.armv8"[..]);
        let boards: [&[(u8, &[u8])]; 4] = [
            &[class],
            &[class, (93, &[0, 22])],
            &[(60, b"PXEClient:Arch:00022:UNDI:003000"), (93, &[0, 22])],
            &[(60, b"PXEClient:Arch:00011:UNDI:003000"), (93, &[0, 11])],
        ];
        let file = "52-54-00-12-34-56/ipxe-arm64.efi";
        for options in boards {
            let bytes = message(1, options);
            let facts = claims(&DhcpPacket::parse(&bytes).unwrap(), OURS).unwrap();
            let verdict = Verdict::Chainload(site("hold").program(&facts).unwrap().clone());
            let offer = offer(&bytes, DhcpPort::Server, &verdict).unwrap();
            assert_eq!(offer.fname().unwrap().strip_suffix(&[0]), Some(file.as_bytes()), "{options:?}");
            assert_eq!(offer.siaddr(), OURS);
        }
        let unknown = message(1, &[(60, b"U-Boot")]);
        let facts = claims(&DhcpPacket::parse(&unknown).unwrap(), OURS).unwrap();
        assert_eq!(site("hold").program(&facts), None, "no program is guessed for an unknown instruction set");
    }

    #[test]
    fn a_client_on_infiniband_gets_its_own_hardware_type() {
        let card = [0xe4, 0x1d, 0x2d, 0xf8, 0xf0, 0x0c];
        let guid = [32, 0xe4, 0x1d, 0x2d, 3, 0, 0xf8, 0xf0, 0x0c];
        let verdict = Verdict::Chainload(Program("p".into()));
        for (length, chaddr) in [(6, card), (0, [0; 6])] {
            let mut bytes = message(1, &[(60, b"PXEClient"), (93, &[0, 7]), (61, &guid)]);
            bytes[1..3].copy_from_slice(&[32, length]);
            bytes[28..34].copy_from_slice(&chaddr);
            let request = DhcpPacket::parse(&bytes).unwrap();
            let facts = facts(&request, arrival(DhcpPort::Server), OURS).unwrap();
            assert_eq!(facts.mac, Mac(card));
            let boot = BootOffer::new(&facts, &verdict, &site("hold"), BootFileLocation::Offer).unwrap();
            assert_eq!(boot.file, "e4-1d-2d-f8-f0-0c/p");
            let reply = reply(&request, &boot, arrival(DhcpPort::Server), None);
            assert_eq!((&reply.message[..3], &reply.message[28..34]), (&[2, 32, length][..], &chaddr[..]));
            assert_eq!(reply.to, Destination::Broadcast);
        }
        let mut bytes = message(1, &[(60, b"PXEClient"), (93, &[0, 7]), (61, &[255, 1, 2, 3])]);
        bytes[1..3].copy_from_slice(&[32, 0]);
        let request = DhcpPacket::parse(&bytes).unwrap();
        let refused = facts(&request, arrival(DhcpPort::Server), OURS);
        assert_eq!(refused, Err(DropReason::NoHardwareAddress), "its boot program could not say who it is");
    }

    #[test]
    fn a_host_can_have_another_program() {
        use crate::fleet::HostMatch;
        let wire = [0, 0x78, 0x56, 0x34, 0x12, 0xbc, 0x9a, 0xf0, 0xde, 1, 2, 3, 4, 5, 6, 7, 8];
        let bytes = message(1, &[(60, b"PXEClient"), (93, &[0, 7]), (97, &wire)]);
        let facts = facts(&DhcpPacket::parse(&bytes).unwrap(), arrival(DhcpPort::Server), OURS).unwrap();
        let mut site = site("hold");
        let mut check = |who: HostMatch, expected: &str| {
            site.overrides = vec![ProgramOverride { who, program: Program("other.efi".into()), also_for_ipxe: false }];
            assert_eq!(site.program(&facts), Some(&Program(expected.into())));
        };
        check(HostMatch::MacPrefix(vec![0x52, 0x54]), "other.efi");
        check(HostMatch::MacPrefix(vec![0x52, 0x55]), "snponly.efi");
        check(HostMatch::Uuid("12345678-9abc-def0-0102-030405060708".parse().unwrap()), "other.efi");
        check(HostMatch::Uuid("12345678-9abc-def0-0102-030405060709".parse().unwrap()), "snponly.efi");
    }

    #[test]
    fn an_ipxe_rom_can_have_a_program_instead_of_our_script() {
        use crate::fleet::HostMatch;
        let (_, bytes) = capture("bios-ipxe-rom-2025.pcap").remove(0);
        let facts = facts(&DhcpPacket::parse(&bytes).unwrap(), arrival(DhcpPort::Server), OURS).unwrap();
        let mut site = site("hold");
        for (for_ipxe, expected) in
            [(false, "http://10.77.0.2/ipxe?mac=52-54-00-aa-00-01"), (true, "52-54-00-aa-00-01/pxelinux.0")]
        {
            let who = HostMatch::MacPrefix(facts.mac.0.to_vec());
            site.overrides =
                vec![ProgramOverride { who, program: Program("pxelinux.0".into()), also_for_ipxe: for_ipxe }];
            let boot =
                BootOffer::new(&facts, &Verdict::SanBoot("live".parse().unwrap()), &site, BootFileLocation::Offer)
                    .unwrap();
            assert_eq!(boot.file, expected);
        }
    }

    #[test]
    fn the_other_form_leaves_the_file_to_port_4011() {
        let bytes = message(1, &[(60, b"PXEClient"), (93, &[0, 7])]);
        let request = DhcpPacket::parse(&bytes).unwrap();
        let facts = facts(&request, arrival(DhcpPort::Server), OURS).unwrap();
        let verdict = Verdict::Chainload(Program("p".into()));
        for (form, expected) in [(BootFileLocation::Offer, true), (BootFileLocation::Port4011, false)] {
            let boot = BootOffer::new(&facts, &verdict, &site("hold"), form).unwrap();
            let message = reply(&request, &boot, arrival(DhcpPort::Server), None).message;
            assert_eq!(message.windows(4).any(|window| window == [43, 4, 6, 1]), expected, "{form:?}");
        }
    }

    #[test]
    fn other_requests_are_not_answered() {
        let verdict = Verdict::Chainload(Program("p".into()));
        assert!(offer(&message(1, &[]), DhcpPort::Server, &verdict).is_none());
        assert!(offer(&message(1, &[(60, b"MSFT 5.0")]), DhcpPort::Server, &verdict).is_none());
        assert!(offer(&message(3, &[(60, b"PXEClient")]), DhcpPort::Server, &verdict).is_none());
        assert!(offer(&message(3, &[(60, b"PXEClient"), (54, &[10, 0, 0, 1])]), DhcpPort::Proxy, &verdict).is_none());
        assert!(offer(&message(1, &[(60, b"PXEClient")]), DhcpPort::Server, &Verdict::Ignore(Reason::Held)).is_none());
    }

    #[test]
    fn an_ipxe_without_a_required_feature_gets_our_ipxe() {
        let stage = |features: &[u8]| {
            let bytes = message(1, &[(60, b"PXEClient"), (77, b"iPXE"), (93, &[0, 7]), (175, features)]);
            facts(&DhcpPacket::parse(&bytes).unwrap(), arrival(DhcpPort::Server), OURS).unwrap().stage
        };
        assert_eq!(stage(&[17, 1, 1, 19, 1, 1, 36, 1, 1]), Stage::Ipxe);
        assert_eq!(stage(&[17, 1, 1, 19, 1, 1]), Stage::LimitedIpxe);
        assert_eq!(stage(&[19, 1, 1, 36, 1, 1]), Stage::LimitedIpxe);
        assert_eq!(stage(&[17, 1, 0, 19, 1, 1, 36, 1, 1]), Stage::LimitedIpxe);
        assert_eq!(stage(&[17, 9]), Stage::LimitedIpxe);
    }

    #[test]
    fn a_relay_agents_option_is_returned() {
        let mut bytes = message(1, &[(60, b"PXEClient"), (82, &[1, 2, 0xaa, 0xbb])]);
        bytes[24..28].copy_from_slice(&[10, 9, 0, 1]);
        let request = DhcpPacket::parse(&bytes).unwrap();
        let facts = facts(&request, arrival(DhcpPort::Server), OURS).unwrap();
        let boot =
            BootOffer::new(&facts, &Verdict::Chainload(Program("p".into())), &site("hold"), BootFileLocation::Offer)
                .unwrap();
        let relay = Relay::of(&request, arrival(DhcpPort::Server).from, || RelayTrust::None);
        let reply = reply(&request, &boot, arrival(DhcpPort::Server), relay);
        assert_eq!(reply.to, Destination::Address(SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 1), 67)));
        assert_eq!(reply.message[24..28], [10, 9, 0, 1]);
        let agent = [82, 4, 1, 2, 0xaa, 0xbb, 255];
        assert!(reply.message.windows(agent.len()).any(|window| window == agent));
        assert_eq!(facts.address, Some(Ipv4Addr::new(10, 9, 0, 1).into()));
    }

    proptest! {
        #[test]
        fn a_reply_is_the_requests_own_and_never_gives_an_address(
            xid: u32, flags: u16, uuid: [u8; 17], mac: [u8; 5], port: bool, architecture: u16, ipxe: bool, http: bool, leave: bool,
        ) {
            let class: &[u8] = if http { b"HTTPClient" } else { b"PXEClient" };
            let mut options: Vec<(u8, &[u8])> = vec![(60, class), (97, &uuid)];
            let architecture = architecture.to_be_bytes();
            options.push((93, &architecture));
            options.extend(ipxe.then_some((77, &b"iPXE"[..])));
            let mut bytes = message(if port { 3 } else { 1 }, &options);
            bytes[4..8].copy_from_slice(&xid.to_be_bytes());
            bytes[10..12].copy_from_slice(&flags.to_be_bytes());
            bytes[29..34].copy_from_slice(&mac);
            let port = if port { DhcpPort::Proxy } else { DhcpPort::Server };
            let verdict = if leave { Verdict::LocalDisk(Reason::InstallCompleted) } else { Verdict::Chainload(Program("p".into())) };
            let offer = offer(&bytes, port, &verdict).unwrap();
            prop_assert_eq!((offer.xid(), u16::from(offer.flags())), (xid, flags));
            prop_assert_eq!(offer.chaddr(), &bytes[28..34]);
            prop_assert_eq!(offer.yiaddr(), Ipv4Addr::UNSPECIFIED);
            let given = offer.opts().get(dhcproto::v4::OptionCode::ClientMachineIdentifier);
            prop_assert_eq!(given, Some(&DhcpOption::ClientMachineIdentifier(uuid.to_vec())));
            prop_assert!(!offer.opts().contains(dhcproto::v4::OptionCode::AddressLeaseTime));
        }
    }
}
