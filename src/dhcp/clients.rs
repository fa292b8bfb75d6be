//! Messages of boot clients, as usual firmware sends them, for rehearsals. Pure.
//!
//! The options and their order are those of the captures in `integration/fixtures/captures`: EDK2's PXE and HTTP Boot,
//! and iPXE; of a BIOS ROM, those of PXE 2.1.

use std::net::Ipv4Addr;

use crate::boot::rehearsal::RehearsedClient;
use crate::fleet::Architecture;

use super::packet::{COOKIE, HEADER};

/// Flag of the header that asks for a broadcast reply.
const BROADCAST: u16 = 0x8000;
/// Maximum size of a message (option 57) of EDK2 and iPXE.
const MAX_SIZE: [u8; 2] = 1472u16.to_be_bytes();
/// Maximum size of a message (option 57) of BIOS ROMs.
const BIOS_MAX_SIZE: [u8; 2] = 1260u16.to_be_bytes();
/// The options that EDK2's PXE asks for (option 55).
const PXE_WANTS: &[u8] = &[
    1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67, 97, 128, 129,
    130, 131, 132, 133, 134, 135,
];
/// The options that EDK2's HTTP Boot asks for.
const HTTP_WANTS: &[u8] =
    &[1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 235, 67, 97];
/// The options that iPXE asks for.
const IPXE_WANTS: &[u8] =
    &[1, 3, 6, 7, 12, 15, 17, 26, 42, 43, 60, 66, 67, 119, 128, 129, 130, 131, 132, 133, 134, 135, 175, 203];
/// Option 175 of iPXE under UEFI: its features.
const IPXE_UEFI: &[u8] =
    b"\xb1\x05\x01\x1a\xf4\x10\x41\xeb\x03\x01\x00\x00\x26\x01\x01\x17\x01\x01\x27\x01\x01\x24\x01\x01\x13\x01\x01\x14\x01\x01\x11\x01\x01\x29\x01\x01\x1b\x01\x01\x15\x01\x01\x12\x01\x01";
/// Option 175 of iPXE under BIOS.
const IPXE_BIOS: &[u8] =
    b"\xb1\x05\x01\x1a\xf4\x10\x41\xeb\x03\x01\x00\x00\x26\x01\x01\x17\x01\x01\x27\x01\x01\x22\x01\x01\x13\x01\x01\x14\x01\x01\x11\x01\x01\x19\x01\x01\x29\x01\x01\x10\x01\x02\x21\x01\x01\x15\x01\x01\x18\x01\x01\x12\x01\x01";

/// The program that sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The firmware.
    Firmware,
    /// iPXE, which the firmware loaded.
    Ipxe,
}

/// Returns the vendor class of a client (option 60).
pub fn vendor_class(client: &RehearsedClient) -> String {
    match (&client.class.vendor_class, client.class.architecture) {
        (Some(class), _) => class.clone(),
        (None, None) => "PXEClient".to_owned(),
        (None, Some(architecture)) => usual_class(architecture),
    }
}

fn usual_class(architecture: Architecture) -> String {
    let (client, code) = (if is_http(architecture) { "HTTPClient" } else { "PXEClient" }, architecture.0);
    match code {
        21 => "U-Boot.armv7".to_owned(),
        22 => "U-Boot.armv8".to_owned(),
        _ if architecture.is_uefi() => format!("{client}:Arch:{code:05}:UNDI:003000"),
        _ => format!("{client}:Arch:{code:05}:UNDI:002001"),
    }
}

/// Returns whether an architecture's code is one of HTTP Boot.
fn is_http(architecture: Architecture) -> bool {
    matches!(architecture.0, 15..=20 | 23 | 24 | 28)
}

fn is_http_client(client: &RehearsedClient) -> bool {
    vendor_class(client).starts_with("HTTPClient")
}

/// Returns the DHCPDISCOVER of a client.
pub fn discover(client: &RehearsedClient, sender: Sender) -> Vec<u8> {
    encode(client, 1, BROADCAST, Ipv4Addr::UNSPECIFIED, &options(client, sender))
}

/// Returns the DHCPREQUEST with which a client takes an offer of ours.
pub fn select(client: &RehearsedClient, sender: Sender, ours: Ipv4Addr, address: Ipv4Addr) -> Vec<u8> {
    let mut options = options(client, sender);
    options.extend([(54, ours.octets().to_vec()), (50, address.octets().to_vec())]);
    encode(client, 3, BROADCAST, Ipv4Addr::UNSPECIFIED, &options)
}

/// Returns the request of firmware on port 4011, from its address.
pub fn proxy_request(client: &RehearsedClient, address: Ipv4Addr) -> Vec<u8> {
    let mut options = options(client, Sender::Firmware);
    // EDK2 sorts them here.
    options.sort_by_key(|(code, _)| *code);
    encode(client, 3, 0, address, &options)
}

type Options = Vec<(u8, Vec<u8>)>;

fn options(client: &RehearsedClient, sender: Sender) -> Options {
    match sender {
        Sender::Firmware => firmware_options(client),
        Sender::Ipxe => ipxe_options(client),
    }
}

fn firmware_options(client: &RehearsedClient) -> Options {
    let architecture = client.class.architecture;
    let is_bios = architecture.is_some_and(|architecture| !architecture.is_uefi());
    let wants = if is_http_client(client) { HTTP_WANTS } else { PXE_WANTS };
    let mut options = vec![
        (57, if is_bios { BIOS_MAX_SIZE } else { MAX_SIZE }.to_vec()),
        (55, wants.to_vec()),
        (97, uuid(client)),
        (94, if is_bios { vec![1, 2, 1] } else { vec![1, 3, 0] }),
    ];
    options.extend(architecture.map(|architecture| (93, architecture.0.to_be_bytes().to_vec())));
    options.push((60, vendor_class(client).into_bytes()));
    options
}

/// Returns the options of the iPXE that the firmware loaded. After PXE it repeats the vendor class of our offer, after
/// HTTP Boot it sends its own (boot-facts 10).
fn ipxe_options(client: &RehearsedClient) -> Options {
    let architecture = client.class.architecture.unwrap_or(Architecture(0)).over_tftp();
    let is_uefi = architecture.is_uefi();
    let class = match is_http_client(client) {
        true => format!("PXEClient:Arch:{:05}:UNDI:003010", architecture.0),
        false => "PXEClient".to_owned(),
    };
    vec![
        (57, MAX_SIZE.to_vec()),
        (93, architecture.0.to_be_bytes().to_vec()),
        (94, if is_uefi { vec![1, 3, 10] } else { vec![1, 2, 1] }),
        (60, class.into_bytes()),
        (77, b"iPXE".to_vec()),
        (55, IPXE_WANTS.to_vec()),
        (175, if is_uefi { IPXE_UEFI } else { IPXE_BIOS }.to_vec()),
        (61, [&[1], &client.mac.0[..]].concat()),
        (97, uuid(client)),
    ]
}

/// Returns the value of option 97, with its kind before the UUID.
fn uuid(client: &RehearsedClient) -> Vec<u8> {
    let uuid = client.uuid.unwrap_or_default();
    [&[0], &uuid.to_bytes_le()[..]].concat()
}

fn encode(client: &RehearsedClient, kind: u8, flags: u16, ciaddr: Ipv4Addr, options: &Options) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[..3].copy_from_slice(&[1, 1, 6]);
    bytes[10..12].copy_from_slice(&flags.to_be_bytes());
    bytes[12..16].copy_from_slice(&ciaddr.octets());
    if let Some(relay) = client.relay {
        bytes[3] = 1;
        bytes[24..28].copy_from_slice(&relay.octets());
    }
    bytes[28..34].copy_from_slice(&client.mac.0);
    bytes[HEADER - COOKIE.len()..].copy_from_slice(&COOKIE);
    bytes.extend([53, 1, kind]);
    for (code, value) in options {
        // A vendor class of the operator may be longer than an option.
        let value = &value[..value.len().min(255)];
        bytes.extend([*code, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
        bytes.extend(value);
    }
    bytes.push(255);
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::capture;
    use super::*;
    use crate::boot::rehearsal::ClientClass;
    use crate::fleet::Mac;

    fn client(architecture: u16, class: Option<&str>) -> RehearsedClient {
        RehearsedClient {
            mac: Mac([0x52, 0x54, 0, 0xaa, 0, 1]),
            uuid: Some("11111111-2222-4333-8444-525400aa0001".parse().unwrap()),
            class: ClientClass {
                architecture: Some(Architecture(architecture)),
                vendor_class: class.map(str::to_owned),
            },
            address: Some([10, 77, 0, 185].into()),
            relay: None,
        }
    }

    /// Returns the DHCP messages of a capture without their xid and secs, and without padding.
    fn captured(file: &str) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        for (_, mut bytes) in capture(file).into_iter().filter(|(port, _)| [67, 4011].contains(port)) {
            bytes[4..10].fill(0);
            let end = bytes.iter().rposition(|octet| *octet == 255).unwrap();
            bytes.truncate(end + 1);
            messages.push(bytes);
        }
        messages
    }

    #[test]
    fn the_messages_are_those_of_real_firmware() {
        let address = Ipv4Addr::new(10, 77, 0, 185);
        let rows = [
            ("ovmf-2025-pxe-x64.pcap", discover(&client(7, None), Sender::Firmware)),
            ("ovmf-2025-pxe-x64.pcap", proxy_request(&client(7, None), address)),
            ("aavmf-2022-pxe-arm64.pcap", discover(&client(11, None), Sender::Firmware)),
            ("ovmf-2022-http-x64.pcap", discover(&client(16, None), Sender::Firmware)),
            ("ovmf-2022-http-x64.pcap", discover(&client(16, None), Sender::Ipxe)),
            ("ovmf-2025-pxe-x64.pcap", discover(&client(7, None), Sender::Ipxe)),
            ("ovmf-2025-pxe-x64.pcap", select(&client(7, None), Sender::Ipxe, [10, 77, 0, 1].into(), address)),
            ("aavmf-2022-pxe-arm64.pcap", discover(&client(11, None), Sender::Ipxe)),
            ("bios-rom-2019-then-undionly.pcap", discover(&client(0, None), Sender::Ipxe)),
        ];
        for (file, bytes) in rows {
            assert!(captured(file).contains(&bytes), "{file}: {}", hex::encode(bytes));
        }
    }

    #[test]
    fn the_vendor_class_says_how_the_program_is_loaded() {
        let rows = [
            (0, None, "PXEClient:Arch:00000:UNDI:002001"),
            (7, None, "PXEClient:Arch:00007:UNDI:003000"),
            (16, None, "HTTPClient:Arch:00016:UNDI:003000"),
            (22, None, "U-Boot.armv8"),
            (7, Some("PXEClient:own"), "PXEClient:own"),
        ];
        for (architecture, class, expected) in rows {
            assert_eq!(vendor_class(&client(architecture, class)), expected);
        }
    }
}
