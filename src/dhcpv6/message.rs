//! Parses what firmware sends to DHCPv6 servers: the kind of the message, and what it says of the machine.

use std::net::Ipv6Addr;

use uuid::Uuid;

use crate::boot::{BootProtocol, DropReason};
use crate::fleet::{Architecture, Mac};

/// Message types (RFC 8415 7.3).
const SOLICIT: u8 = 1;
const REQUEST: u8 = 3;
/// Options (RFC 8415 21, RFC 5970 3).
const CLIENT_IDENTIFIER: u16 = 1;
const USER_CLASS: u16 = 15;
const VENDOR_CLASS: u16 = 16;
const CLIENT_ARCHITECTURE: u16 = 61;
/// Hardware type of Ethernet in a DUID.
const ETHERNET: u16 = 1;

/// A message of firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareMessage {
    /// The kind.
    pub kind: MessageKind,
    /// The protocol that the firmware boots by.
    pub protocol: BootProtocol,
    /// The first architecture that it claims.
    pub architecture: Architecture,
    /// The MAC address in its DUID.
    pub mac: Option<Mac>,
    /// The UUID in its DUID, as firmware sends it in option 97 of DHCPv4, then in the order of RFC 6355.
    pub uuids: Vec<Uuid>,
}

/// The kind of a message of firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// It looks for servers.
    Solicit,
    /// It takes what a server offered it.
    Request,
}

impl FirmwareMessage {
    /// Parses the payload of a datagram to DHCPv6 servers.
    ///
    /// # Errors
    /// It is no SOLICIT or REQUEST of firmware, or its options are broken.
    pub fn parse(message: &[u8]) -> Result<Self, DropReason> {
        let [kind, _, _, _, options @ ..] = message else { return Err(DropReason::Truncated) };
        let kind = match *kind {
            SOLICIT => MessageKind::Solicit,
            REQUEST => MessageKind::Request,
            _ => return Err(DropReason::NotARequest),
        };
        let (mut architecture, mut protocol, mut duid, mut is_ipxe) = (None, None, None, false);
        for option in Options(options) {
            let (code, data) = option?;
            match code {
                CLIENT_IDENTIFIER => duid = Some(data),
                CLIENT_ARCHITECTURE => architecture = Some(first_architecture(data)?),
                VENDOR_CLASS => protocol = protocol.or(protocol_of(data)?),
                USER_CLASS => is_ipxe |= classes(data).any(|class| class == Ok(b"iPXE")),
                _ => {}
            }
        }
        let (Some(architecture), Some(protocol), false) = (architecture, protocol, is_ipxe) else {
            return Err(DropReason::NotABootRequest);
        };
        let (mac, uuids) = duid.map(identify).unwrap_or_default();
        Ok(Self { kind, protocol, architecture, mac, uuids })
    }
}

/// Returns the MAC address of the interface that formed a link-local address by EUI-64 (RFC 4291, appendix A).
pub fn interface_mac(address: Ipv6Addr) -> Option<Mac> {
    match address.octets() {
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, 0xff, 0xfe, d, e, f] => Some(Mac([a ^ 2, b, c, d, e, f])),
        _ => None,
    }
}

/// The options of a message, by code and content.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Result<(u16, &'a [u8]), DropReason>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let option = (|| {
            let (code, rest) = word(self.0)?;
            let (length, rest) = word(rest)?;
            let (data, rest) = rest.split_at_checked(length.into())?;
            Some((code, data, rest))
        })();
        // Nothing after a broken option can be read.
        let (code, data, rest) = match option {
            Some(option) => option,
            None => {
                self.0 = &[];
                return Some(Err(DropReason::Truncated));
            }
        };
        self.0 = rest;
        Some(Ok((code, data)))
    }
}

/// Splits a number of two octets from the begin.
fn word(octets: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = octets.split_first_chunk()?;
    Some((u16::from_be_bytes(*number), rest))
}

fn first_architecture(data: &[u8]) -> Result<Architecture, DropReason> {
    let (code, _) = word(data).filter(|_| data.len().is_multiple_of(2)).ok_or(DropReason::BadOption)?;
    Ok(Architecture(code))
}

/// Returns the strings of a class option, each after its length.
fn classes(mut data: &[u8]) -> impl Iterator<Item = Result<&[u8], DropReason>> {
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let split = word(data).and_then(|(length, rest)| rest.split_at_checked(length.into()));
        let Some((class, rest)) = split else {
            data = &[];
            return Some(Err(DropReason::BadOption));
        };
        data = rest;
        Some(Ok(class))
    })
}

/// Returns the boot protocol that a vendor class names; `None` for the class of another vendor.
fn protocol_of(data: &[u8]) -> Result<Option<BootProtocol>, DropReason> {
    const ENTERPRISE_NUMBER: usize = 4;
    let data = data.get(ENTERPRISE_NUMBER..).ok_or(DropReason::BadOption)?;
    for class in classes(data) {
        let class = class?;
        if class.starts_with(b"PXEClient") {
            return Ok(Some(BootProtocol::Pxe));
        }
        if class.starts_with(b"HTTPClient") {
            return Ok(Some(BootProtocol::Http));
        }
    }
    Ok(None)
}

/// Returns the MAC address and the UUIDs of a DUID (RFC 8415 11, RFC 6355).
fn identify(duid: &[u8]) -> (Option<Mac>, Vec<Uuid>) {
    let mac = |hardware: u16, address: &[u8]| address.try_into().ok().map(Mac).filter(|_| hardware == ETHERNET);
    match duid {
        // DUID-LLT: the time comes before the address.
        [0, 1, a, b, _, _, _, _, address @ ..] => (mac(u16::from_be_bytes([*a, *b]), address), Vec::new()),
        // DUID-LL.
        [0, 3, a, b, address @ ..] => (mac(u16::from_be_bytes([*a, *b]), address), Vec::new()),
        [0, 4, octets @ ..] => match <[u8; 16]>::try_from(octets) {
            Ok(octets) => {
                let both = [Uuid::from_bytes_le(octets), Uuid::from_bytes(octets)];
                (None, both.into_iter().filter(|uuid| !uuid.is_nil() && !uuid.is_max()).collect())
            }
            Err(_) => (None, Vec::new()),
        },
        _ => (None, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::uuid;

    use super::*;

    const MAC: Mac = Mac([0x52, 0x54, 0, 0x77, 0, 1]);

    fn option(code: u16, data: &[u8]) -> Vec<u8> {
        [&code.to_be_bytes()[..], &u16::try_from(data.len()).unwrap().to_be_bytes(), data].concat()
    }

    fn class(text: &[u8]) -> Vec<u8> {
        [&[0, 0, 1, 0x57][..], &u16::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
    }

    /// Returns a message of PXE firmware with a DUID.
    fn message(kind: u8, duid: &[u8]) -> Vec<u8> {
        let options = [option(1, duid), option(61, &[0, 7]), option(16, &class(b"PXEClient:Arch:00007:UNDI:003000"))];
        [vec![kind, 1, 2, 3], options.concat()].concat()
    }

    /// Returns the source addresses and payloads of a capture of IPv6 over Ethernet.
    fn capture(file: &str) -> Vec<(Ipv6Addr, Vec<u8>)> {
        let path = format!("{}/integration/fixtures/captures/{file}", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).unwrap();
        let (mut rest, mut packets) = (&bytes[24..], Vec::new());
        while !rest.is_empty() {
            let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
            let frame = &rest[16..16 + length];
            let source: [u8; 16] = frame[22..38].try_into().unwrap();
            packets.push((source.into(), frame[62..].to_vec()));
            rest = &rest[16 + length..];
        }
        packets
    }

    #[test]
    fn the_solicits_of_ovmf_are_those_of_its_machine() {
        let packets = capture("ovmf-2022-pxe6-x64.pcap");
        assert_eq!(packets.len(), 4);
        for (source, payload) in packets {
            let message = FirmwareMessage::parse(&payload).unwrap();
            assert_eq!(interface_mac(source), Some(MAC));
            assert_eq!((message.kind, message.protocol), (MessageKind::Solicit, BootProtocol::Pxe));
            assert_eq!((message.architecture, message.mac), (Architecture(7), None));
            // The machine was started with this UUID; firmware sends the first parts unswapped.
            assert_eq!(message.uuids[0], uuid!("12345678-9abc-def0-1122-334455667788"));
            assert_eq!(message.uuids[1], uuid!("78563412-bc9a-f0de-1122-334455667788"));
        }
    }

    #[test]
    fn each_form_of_duid_names_its_machine() {
        let mac = |duid: &[u8]| FirmwareMessage::parse(&message(1, duid)).unwrap().mac;
        assert_eq!(mac(&[&[0, 3, 0, 1][..], &MAC.0].concat()), Some(MAC));
        assert_eq!(mac(&[&[0, 1, 0, 1, 9, 9, 9, 9][..], &MAC.0].concat()), Some(MAC));
        for other in [&[0, 3, 0, 32][..], &[0, 1, 0, 6, 9, 9, 9, 9], &[0, 2, 0, 0, 1, 1]] {
            assert_eq!(mac(&[other, &MAC.0].concat()), None, "no Ethernet address: {other:?}");
        }
        for bad in [&[][..], &[0], &[0, 3], &[0, 3, 0, 1, 2], &[0, 4, 1, 2], &[0, 1, 0, 1, 9, 9]] {
            let message = FirmwareMessage::parse(&message(1, bad)).unwrap();
            assert_eq!((message.mac, message.uuids), (None, Vec::new()), "{bad:?}");
        }
        let nil = [&[0, 4][..], &[0; 16]].concat();
        assert!(FirmwareMessage::parse(&message(1, &nil)).unwrap().uuids.is_empty());
        let request = FirmwareMessage::parse(&message(3, &[0, 3, 0, 1, 2, 2, 2, 2, 2, 2])).unwrap();
        assert_eq!(request.kind, MessageKind::Request);
    }

    #[test]
    fn what_is_not_of_firmware_says_why_it_is_dropped() {
        let parse =
            |kind: u8, options: &[Vec<u8>]| FirmwareMessage::parse(&[vec![kind, 0, 0, 0], options.concat()].concat());
        let (arch, pxe) = (option(61, &[0, 16]), option(16, &class(b"HTTPClient:Arch:00016:UNDI:003000")));
        assert_eq!(parse(1, &[arch.clone(), pxe.clone()]).map(|message| message.protocol), Ok(BootProtocol::Http));
        let ipxe = option(15, &[0, 4, b'i', b'P', b'X', b'E']);
        let system = option(16, &class(b"MSFT 5.0"));
        for (kind, options, expected) in [
            (1, vec![], DropReason::NotABootRequest),
            (1, vec![arch.clone()], DropReason::NotABootRequest),
            (1, vec![pxe.clone()], DropReason::NotABootRequest),
            (1, vec![arch.clone(), system], DropReason::NotABootRequest),
            (1, vec![arch.clone(), pxe.clone(), ipxe], DropReason::NotABootRequest),
            (2, vec![arch.clone(), pxe.clone()], DropReason::NotARequest),
            (12, vec![arch.clone(), pxe.clone()], DropReason::NotARequest),
            (1, vec![arch.clone(), pxe.clone(), vec![0]], DropReason::Truncated),
            (1, vec![arch.clone(), pxe.clone(), vec![0, 1, 0, 9, 1]], DropReason::Truncated),
            (1, vec![option(61, &[]), pxe.clone()], DropReason::BadOption),
            (1, vec![option(61, &[0, 7, 0]), pxe], DropReason::BadOption),
            (1, vec![arch.clone(), option(16, &[0, 0, 1])], DropReason::BadOption),
            (1, vec![arch, option(16, &[0, 0, 1, 0x57, 0, 9, b'P'])], DropReason::BadOption),
        ] {
            assert_eq!(parse(kind, &options), Err(expected), "{kind} {options:?}");
        }
        for short in [&[][..], &[1], &[1, 2, 3]] {
            assert_eq!(FirmwareMessage::parse(short), Err(DropReason::Truncated));
        }
    }

    #[test]
    fn a_link_local_address_of_eui_64_names_its_interface() {
        assert_eq!(interface_mac("fe80::5054:ff:fe77:1".parse().unwrap()), Some(MAC));
        for other in ["fe80::1", "fe80::5054:ff:ff77:1", "fe80:0:0:1:5054:ff:fe77:1", "2001:db8::5054:ff:fe77:1", "::"]
        {
            assert_eq!(interface_mac(other.parse().unwrap()), None, "{other}");
        }
    }

    proptest! {
        /// Whatever is received, and whatever of a real message is changed or cut, is parsed or refused.
        #[test]
        fn no_message_breaks_the_parser(
            octets in proptest::collection::vec(any::<u8>(), 0..300),
            places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let _ = FirmwareMessage::parse(&octets);
            for (_, real) in capture("ovmf-2022-pxe6-x64.pcap") {
                let mut changed = real.clone();
                places.iter().for_each(|(place, octet)| changed[place.index(real.len())] = *octet);
                let _ = FirmwareMessage::parse(&changed);
                let short = &real[..cut.index(real.len())];
                // Cut within an option it is refused, and between two options it lacks what firmware sends last.
                prop_assert!(FirmwareMessage::parse(short).is_err());
                let whole = FirmwareMessage::parse(&real).unwrap();
                let longer = [&real[..], &octets[..octets.len().min(3)]].concat();
                prop_assert_eq!(FirmwareMessage::parse(&longer).is_ok(), octets.is_empty());
                // Unknown options change nothing, wherever they are.
                let unknown = [&real[..4], &option(4000, &octets), &real[4..]].concat();
                prop_assert_eq!(FirmwareMessage::parse(&unknown), Ok(whole));
            }
        }

        #[test]
        fn what_is_written_is_read(mac in any::<[u8; 6]>(), code in any::<u16>(), uuid in any::<[u8; 16]>(), http in any::<bool>()) {
            let (name, protocol) = if http { (&b"HTTPClient"[..], BootProtocol::Http) } else { (&b"PXEClient"[..], BootProtocol::Pxe) };
            let build = |duid: Vec<u8>| {
                let options = [option(16, &class(name)), option(61, &code.to_be_bytes()), option(1, &duid)];
                FirmwareMessage::parse(&[vec![1, 0, 0, 0], options.concat()].concat()).unwrap()
            };
            let by_mac = build([&[0, 3, 0, 1][..], &mac].concat());
            prop_assert_eq!((by_mac.mac, by_mac.architecture, by_mac.protocol), (Some(Mac(mac)), Architecture(code), protocol));
            let by_uuid = build([&[0, 4][..], &uuid].concat());
            let is_used = uuid != [0; 16] && uuid != [0xff; 16];
            prop_assert_eq!(by_uuid.uuids.len(), if is_used { 2 } else { 0 });
            let address = [&[0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe][..], &mac[3..]].concat();
            let address: [u8; 16] = address.try_into().unwrap();
            prop_assert_eq!(interface_mac(address.into()), Some(Mac(mac)));
        }
    }
}
