//! Decodes DHCP messages for people: header, and each option with its name and value. Pure.

use std::net::Ipv4Addr;

use dhcproto::v4::{MessageType, OptionCode};

use crate::boot::DropReason;
use crate::boot::rehearsal::{DhcpMessage, DhcpOption};
use crate::fleet::Architecture;
use crate::fleet::text::printable;

use super::packet::{DhcpPacket, sub_options};

/// Flag of the header that asks for a broadcast reply.
const BROADCAST: u16 = 0x8000;

/// Decodes the message of a client.
///
/// # Errors
/// As for [`DhcpPacket::parse`].
pub fn request(bytes: &[u8]) -> Result<DhcpMessage, DropReason> {
    Ok(message(&DhcpPacket::parse(bytes)?, bytes))
}

/// Decodes the message of a server.
///
/// # Errors
/// As for [`DhcpPacket::parse_reply`].
pub fn reply(bytes: &[u8]) -> Result<DhcpMessage, DropReason> {
    Ok(message(&DhcpPacket::parse_reply(bytes)?, bytes))
}

fn message(packet: &DhcpPacket<'_>, bytes: &[u8]) -> DhcpMessage {
    let option = |code: u8| {
        let value = packet.option(code).unwrap_or_default();
        DhcpOption { code, name: name(code), value: value_text(code, &value), hex: hex::encode(&value) }
    };
    DhcpMessage {
        hex: hex::encode(bytes),
        message_type: message_type(packet.kind),
        is_broadcast: packet.flags() & BROADCAST != 0,
        ciaddr: packet.ciaddr(),
        yiaddr: packet.yiaddr(),
        siaddr: packet.siaddr(),
        giaddr: packet.giaddr(),
        file: printable(&String::from_utf8_lossy(packet.boot_file())).into_owned(),
        options: packet.option_codes().into_iter().map(option).collect(),
    }
}

fn message_type(kind: MessageType) -> String {
    format!("{kind:?}").to_ascii_uppercase()
}

/// Returns the name of an option in words.
fn name(code: u8) -> String {
    match code {
        175 => return "iPXE options".to_owned(),
        _ if matches!(OptionCode::from(code), OptionCode::Unknown(_)) => return format!("option {code}"),
        _ => {}
    }
    let mut words = String::new();
    let mut is_lower = false;
    for letter in format!("{:?}", OptionCode::from(code)).chars() {
        if letter.is_ascii_uppercase() && is_lower {
            words.push(' ');
        }
        is_lower = letter.is_ascii_lowercase();
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// Returns the value of an option as text; of an option without a known form, its octets.
fn value_text(code: u8, value: &[u8]) -> String {
    let known = match code {
        1 | 3 | 6 | 28 | 42 | 50 | 54 | 118 => addresses(value),
        51 | 58 | 59 => <[u8; 4]>::try_from(value).ok().map(|time| format!("{} s", u32::from_be_bytes(time))),
        53 => value.first().map(|kind| message_type(MessageType::from(*kind))),
        55 => Some(value.iter().map(u8::to_string).collect::<Vec<_>>().join(",")),
        57 => <[u8; 2]>::try_from(value).ok().map(|size| u16::from_be_bytes(size).to_string()),
        12 | 15 | 60 | 66 | 67 | 77 => Some(printable(&String::from_utf8_lossy(value)).into_owned()),
        93 => architectures(value),
        97 => uuid(value),
        43 | 82 | 175 => nested(value),
        _ => None,
    };
    known.unwrap_or_else(|| hex::encode(value))
}

fn addresses(value: &[u8]) -> Option<String> {
    let (octets, rest) = value.as_chunks::<4>();
    let all: Vec<String> = octets.iter().map(|octets| Ipv4Addr::from(*octets).to_string()).collect();
    (rest.is_empty() && !all.is_empty()).then(|| all.join(","))
}

fn architectures(value: &[u8]) -> Option<String> {
    let (codes, rest) = value.as_chunks::<2>();
    let all: Vec<String> = codes.iter().map(|code| format!("{:?}", Architecture(u16::from_be_bytes(*code)))).collect();
    (rest.is_empty() && !all.is_empty()).then(|| all.join(","))
}

fn uuid(value: &[u8]) -> Option<String> {
    let [0, octets @ ..] = value else { return None };
    Some(uuid::Uuid::from_bytes_le(octets.try_into().ok()?).to_string())
}

/// Returns sub-options as `code=hex`.
fn nested(value: &[u8]) -> Option<String> {
    let all: Vec<String> = sub_options(value).map(|(code, value)| format!("{code}={}", hex::encode(value))).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::message as client_message;
    use super::*;

    #[test]
    fn options_have_their_names_and_values() {
        let uuid = [0, 0x78, 0x56, 0x34, 0x12, 0xbc, 0x9a, 0xf0, 0xde, 1, 2, 3, 4, 5, 6, 7, 8];
        let rows: [(u8, &[u8], &str, &str); 12] = [
            (60, b"PXEClient\x1b", "class identifier", "PXEClient"),
            (93, &[0, 7], "client system architecture", "x86_64-uefi (7)"),
            (97, &uuid, "client machine identifier", "12345678-9abc-def0-0102-030405060708"),
            (54, &[10, 0, 0, 1], "server identifier", "10.0.0.1"),
            (51, &[0, 0, 1, 0], "address lease time", "256 s"),
            (55, &[1, 3], "parameter request list", "1,3"),
            (57, &[5, 192], "max message size", "1472"),
            (43, &[6, 1, 8, 255], "vendor extensions", "6=08"),
            (175, &[17, 1, 1], "iPXE options", "17=01"),
            (3, &[10, 0, 0, 1, 10, 0, 0, 2], "router", "10.0.0.1,10.0.0.2"),
            (1, &[10, 0], "subnet mask", "0a00"),
            (250, &[1], "option 250", "01"),
        ];
        for (code, value, name, text) in rows {
            let decoded = request(&client_message(1, &[(code, value)])).unwrap();
            let option = decoded.options.iter().find(|option| option.code == code).unwrap();
            assert_eq!((option.name.as_str(), option.value.as_str()), (name, text));
            assert_eq!(option.hex, hex::encode(value));
        }
    }

    #[test]
    fn the_header_and_the_type_are_decoded() {
        let mut bytes = client_message(2, &[(54, &[10, 0, 0, 1])]);
        assert!(reply(&bytes).is_err() && request(&bytes).is_ok());
        bytes[0] = 2;
        bytes[10] = 0x80;
        bytes[16..24].copy_from_slice(&[10, 0, 0, 9, 10, 0, 0, 1]);
        bytes[108..113].copy_from_slice(b"a.efi");
        let decoded = reply(&bytes).unwrap();
        assert_eq!((decoded.message_type.as_str(), decoded.is_broadcast), ("OFFER", true));
        assert_eq!((decoded.yiaddr, decoded.siaddr), ([10, 0, 0, 9].into(), [10, 0, 0, 1].into()));
        assert_eq!((decoded.file.as_str(), decoded.hex), ("a.efi", hex::encode(&bytes)));
        assert_eq!(decoded.options.iter().map(|option| option.code).collect::<Vec<_>>(), [53, 54]);
    }
}
