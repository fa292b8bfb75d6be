//! Who asks, and what is answered: pure, from a checked request and a verdict to a message.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::Encodable;
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, UnknownOption};

use crate::boot::{Drop, Facts, Firmware, Loading, Site, Stage, Verdict};
use crate::fleet::Architecture;

use super::packet::Request;
use super::quirks::{self, Quirks};

const SERVER: u16 = 67;
const CLIENT: u16 = 68;
/// Is the least size of a message that BOOTP relays and some ROMs take (RFC 1542 2.1).
const LEAST: usize = 300;

/// Says on which of our ports a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Is 67, where machines look for servers.
    Server,
    /// Is 4011, where PXE firmware asks a proxy for its boot file.
    Proxy,
}

/// Says how and whence a message came.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub port: Port,
    pub from: SocketAddrV4,
}

/// Is a message with where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub message: Vec<u8>,
    pub to: SocketAddrV4,
    /// Names the boot file or script that it offers, for the timeline.
    pub file: String,
}

/// Reads what a client claims of itself.
///
/// # Errors
/// Why the message is not one that a boot server answers.
pub fn facts(request: &Request<'_>, arrival: Arrival, ours: Ipv4Addr) -> Result<Facts, Drop> {
    let answered = match (arrival.port, request.kind) {
        (Port::Server, MessageType::Discover) => true,
        (Port::Proxy, MessageType::Request | MessageType::Inform) => {
            // EDK2 leaves the server identifier out here; one that is there must be ours.
            request.address(54).is_none_or(|server| server == ours)
        }
        (Port::Server | Port::Proxy, _) => return Err(Drop::NotABoot),
    };
    if !answered {
        return Err(Drop::NotForUs);
    }
    let class = request.option(60).unwrap_or_default();
    let loading = match class.as_ref() {
        class if class.starts_with(b"HTTPClient") => Loading::Http,
        class if class.starts_with(b"PXEClient") => Loading::Pxe,
        _ if is_ipxe(request) => Loading::Pxe,
        _ => return Err(Drop::NotABoot),
    };
    let architecture = architecture(request, &class);
    let stage = match is_ipxe(request) {
        false => Stage::Rom,
        true if can_all(request, architecture) => Stage::Ipxe,
        true => Stage::LesserIpxe,
    };
    let known = [request.ciaddr(), request.giaddr(), ours].into_iter().find(|address| !address.is_unspecified());
    let firmware = Some(Firmware { architecture, loading });
    Ok(Facts { mac: request.mac, firmware, stage, address: known.map(Into::into) })
}

/// Gives the address that a client asks its DHCP server to confirm: where it will ask us from.
pub fn claimed_address(request: &Request<'_>) -> Option<Ipv4Addr> {
    let boots =
        request.option(60).is_some_and(|class| class.starts_with(b"PXEClient") || class.starts_with(b"HTTPClient"));
    let is_claim = request.kind == MessageType::Request && (boots || is_ipxe(request));
    is_claim.then(|| request.address(50)).flatten()
}

/// iPXE says so in its user class, and carries its features in option 175. After a PXE chainload its
/// vendor class is a bare echo of ours (boot-facts 10), so that says nothing.
fn is_ipxe(request: &Request<'_>) -> bool {
    let class = request.option(77).unwrap_or_default();
    // RFC 3004 puts a length before each class; iPXE does not.
    matches!(class.as_ref(), b"iPXE" | b"gPXE" | [4, b'i', b'P', b'X', b'E'] | [4, b'g', b'P', b'X', b'E'])
        || request.has(175)
}

/// Says whether an iPXE can do what our scripts need: iSCSI, HTTP, and its own platform's programs.
/// Features are sub-options of 175 (iPXE's `features.h`).
fn can_all(request: &Request<'_>, architecture: Architecture) -> bool {
    const ISCSI: u8 = 17;
    const HTTP: u8 = 19;
    const EFI: u8 = 36;
    let features = request.option(175).unwrap_or_default();
    let has = |wanted| sub_options(&features).any(|(code, value)| code == wanted && value.first() != Some(&0));
    has(ISCSI) && has(HTTP) && (!architecture.is_uefi() || has(EFI))
}

fn sub_options(mut field: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [code, length, rest @ ..] = field else { return None };
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        field = rest;
        Some((*code, value))
    })
}

/// Takes the first architecture of option 93; the vendor class's where there is none.
fn architecture(request: &Request<'_>, class: &[u8]) -> Architecture {
    if let Some([high, low, ..]) = request.option(93).as_deref() {
        return Architecture(u16::from_be_bytes([*high, *low]));
    }
    let digits = class.get(15..20).and_then(|digits| std::str::from_utf8(digits).ok());
    Architecture(digits.and_then(|digits| digits.parse().ok()).unwrap_or(0))
}

/// Says a verdict in DHCP's words; `None` where it is to say nothing.
pub fn reply(request: &Request<'_>, facts: &Facts, verdict: &Verdict, site: &Site, arrival: Arrival) -> Option<Reply> {
    let firmware = facts.firmware?;
    let folder = request.mac.dashed();
    let file = match (verdict, firmware.loading) {
        (Verdict::Ignore(_) | Verdict::Enrol(_) | Verdict::Configure(_), _) => return None,
        (Verdict::Chainload(program), Loading::Pxe) => format!("{folder}/{program}"),
        (Verdict::Chainload(program), Loading::Http) => format!("{}/boot/{folder}/{program}", site.url()),
        (Verdict::SanBoot(_) | Verdict::Menu | Verdict::LocalDisk(_), _) => format!("{}/ipxe?mac={folder}", site.url()),
    };
    let std::net::IpAddr::V4(ours) = site.address else { return None };
    let kind = if arrival.port == Port::Proxy { MessageType::Ack } else { MessageType::Offer };
    let quirks = quirks::of(facts.stage, firmware);
    let message = encode(request, kind, ours, &file, quirks, arrival.port)?;
    Some(Reply { message, to: destination(request, arrival), file })
}

fn encode(
    request: &Request<'_>,
    kind: MessageType,
    ours: Ipv4Addr,
    file: &str,
    quirks: Quirks,
    port: Port,
) -> Option<Vec<u8>> {
    let nowhere = Ipv4Addr::UNSPECIFIED;
    let ciaddr = if port == Port::Proxy { request.ciaddr() } else { nowhere };
    let mut message = Message::new_with_id(request.xid(), ciaddr, nowhere, ours, request.giaddr(), &request.mac.0);
    message.set_opcode(Opcode::BootReply).set_flags(Flags::from(request.flags())).set_fname_str(file);
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(ours));
    options.insert(DhcpOption::ClassIdentifier(quirks.vendor_class.to_vec()));
    options.insert(DhcpOption::TFTPServerName(ours.to_string().into_bytes()));
    options.insert(DhcpOption::BootfileName(file.as_bytes().to_vec()));
    if quirks.discovery_control {
        // PXE_DISCOVERY_CONTROL = 8, then the end mark that these vendor options have of their own.
        options.insert(DhcpOption::Unknown(UnknownOption::new(43.into(), vec![6, 1, 8, 255])));
    }
    if let Some(uuid) = request.option(97) {
        options.insert(DhcpOption::Unknown(UnknownOption::new(97.into(), uuid.into_owned())));
    }
    let mut bytes = message.to_vec().ok()?;
    if let Some(agent) = request.option(82).filter(|agent| agent.len() <= 255) {
        // The relay's own words go back to it untouched, last (RFC 3046 2.2).
        bytes.pop();
        bytes.extend([82, u8::try_from(agent.len()).ok()?]);
        bytes.extend_from_slice(&agent);
        bytes.push(255);
    }
    bytes.resize(bytes.len().max(LEAST), 0);
    Some(bytes)
}

/// A relay gets it on its server port; a client on 4011 where it asked from; one without an address
/// by broadcast, since a proxy gives it none to be reached at (RFC 2131 4.1).
fn destination(request: &Request<'_>, arrival: Arrival) -> SocketAddrV4 {
    if !request.giaddr().is_unspecified() {
        return SocketAddrV4::new(request.giaddr(), SERVER);
    }
    match arrival.port {
        Port::Proxy if !arrival.from.ip().is_unspecified() => arrival.from,
        Port::Proxy | Port::Server => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::packet::tests::{capture, message};
    use super::*;
    use crate::boot::site::tests::site;
    use crate::boot::{Program, Why};

    const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

    fn arrival(port: Port) -> Arrival {
        let from = match port {
            Port::Server => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
            Port::Proxy => SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 185), 4011),
        };
        Arrival { port, from }
    }

    /// Reads who asks in a capture: every message that a boot server would answer.
    fn askers(file: &str) -> Vec<(u16, u16, Loading, Stage)> {
        let mut found = Vec::new();
        for (port, bytes) in capture(file) {
            let side = if port == 4011 { Port::Proxy } else { Port::Server };
            let Ok(request) = Request::parse(&bytes) else { continue };
            if let Ok(facts) = facts(&request, arrival(side), OURS) {
                let firmware = facts.firmware.unwrap();
                found.push((port, firmware.architecture.0, firmware.loading, facts.stage));
            }
        }
        found
    }

    #[test]
    fn real_clients_are_known_for_what_they_are() {
        use Loading::{Http, Pxe};
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

    fn offer(bytes: &[u8], port: Port, verdict: &Verdict) -> Option<Message> {
        let request = Request::parse(bytes).unwrap();
        let facts = facts(&request, arrival(port), OURS).ok()?;
        let reply = reply(&request, &facts, verdict, &site("hold"), arrival(port))?;
        assert!(reply.message.len() >= LEAST);
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
    fn an_offer_has_what_its_firmware_needs() {
        use dhcproto::v4::OptionCode as Code;
        let load = Verdict::Chainload(Program("p.efi".into()));
        let boot = Verdict::SanBoot("live".parse().unwrap());
        let rows = [
            ("ovmf-2025-pxe-x64.pcap", 0, Port::Server, &load, "PXEClient", "52-54-00-aa-00-01/p.efi", true),
            ("ovmf-2025-pxe-x64.pcap", 5, Port::Proxy, &load, "PXEClient", "52-54-00-aa-00-01/p.efi", true),
            (
                "ovmf-2022-http-x64.pcap",
                0,
                Port::Server,
                &load,
                "HTTPClient",
                "http://10.77.0.2/boot/52-54-00-aa-00-01/p.efi",
                false,
            ),
            (
                "bios-ipxe-rom-2025.pcap",
                0,
                Port::Server,
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
    fn what_is_no_boot_request_is_not_answered() {
        let verdict = Verdict::Chainload(Program("p".into()));
        assert!(offer(&message(1, &[]), Port::Server, &verdict).is_none());
        assert!(offer(&message(1, &[(60, b"MSFT 5.0")]), Port::Server, &verdict).is_none());
        assert!(offer(&message(3, &[(60, b"PXEClient")]), Port::Server, &verdict).is_none());
        assert!(offer(&message(3, &[(60, b"PXEClient"), (54, &[10, 0, 0, 1])]), Port::Proxy, &verdict).is_none());
        assert!(
            offer(&message(1, &[(60, b"PXEClient")]), Port::Server, &Verdict::Ignore(Why::HeldByOperator)).is_none()
        );
    }

    #[test]
    fn an_ipxe_that_lacks_a_protocol_is_given_ours() {
        let stage = |features: &[u8]| {
            let bytes = message(1, &[(60, b"PXEClient"), (77, b"iPXE"), (93, &[0, 7]), (175, features)]);
            facts(&Request::parse(&bytes).unwrap(), arrival(Port::Server), OURS).unwrap().stage
        };
        assert_eq!(stage(&[17, 1, 1, 19, 1, 1, 36, 1, 1]), Stage::Ipxe);
        assert_eq!(stage(&[17, 1, 1, 19, 1, 1]), Stage::LesserIpxe);
        assert_eq!(stage(&[19, 1, 1, 36, 1, 1]), Stage::LesserIpxe);
        assert_eq!(stage(&[17, 1, 0, 19, 1, 1, 36, 1, 1]), Stage::LesserIpxe);
        assert_eq!(stage(&[17, 9]), Stage::LesserIpxe);
    }

    #[test]
    fn a_relay_gets_its_words_back() {
        let mut bytes = message(1, &[(60, b"PXEClient"), (82, &[1, 2, 0xaa, 0xbb])]);
        bytes[24..28].copy_from_slice(&[10, 9, 0, 1]);
        let request = Request::parse(&bytes).unwrap();
        let facts = facts(&request, arrival(Port::Server), OURS).unwrap();
        let reply =
            reply(&request, &facts, &Verdict::Chainload(Program("p".into())), &site("hold"), arrival(Port::Server))
                .unwrap();
        assert_eq!(reply.to, SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 1), 67));
        let agent = [82, 4, 1, 2, 0xaa, 0xbb, 255];
        assert!(reply.message.windows(agent.len()).any(|window| window == agent));
        assert_eq!(facts.address, Some(Ipv4Addr::new(10, 9, 0, 1).into()));
    }

    proptest! {
        #[test]
        fn a_reply_is_the_requests_own_and_never_gives_an_address(xid: u32, flags: u16, uuid: [u8; 17], mac: [u8; 5], port: bool) {
            let mut bytes = message(if port { 3 } else { 1 }, &[(60, b"PXEClient:Arch:00007"), (97, &uuid)]);
            bytes[4..8].copy_from_slice(&xid.to_be_bytes());
            bytes[10..12].copy_from_slice(&flags.to_be_bytes());
            bytes[29..34].copy_from_slice(&mac);
            let port = if port { Port::Proxy } else { Port::Server };
            let offer = offer(&bytes, port, &Verdict::Chainload(Program("p".into()))).unwrap();
            prop_assert_eq!((offer.xid(), u16::from(offer.flags())), (xid, flags));
            prop_assert_eq!(offer.chaddr(), &bytes[28..34]);
            prop_assert_eq!(offer.yiaddr(), Ipv4Addr::UNSPECIFIED);
            prop_assert!(offer.opts().contains(dhcproto::v4::OptionCode::ClientMachineIdentifier));
        }
    }
}
