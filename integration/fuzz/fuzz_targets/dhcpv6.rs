//! DHCPv6 messages of firmware: what is read does not depend on options that nobody knows, and a cut message is refused.
#![no_main]

use bootlatch::dhcpv6::message::{FirmwareMessage, interface_mac};
use libfuzzer_sys::fuzz_target;

/// Code of an option that no message of firmware has.
const UNKNOWN: [u8; 4] = [0xff, 0xf0, 0, 0];

fuzz_target!(|data: &[u8]| {
    // Options of the fuzzer's, in a message of the kind that is read.
    let built = [&[1, 0, 0, 0], data].concat();
    for message in [data, &built] {
        let Ok(read) = FirmwareMessage::parse(message) else { continue };
        let (head, options) = message.split_at(4);
        assert_eq!(FirmwareMessage::parse(&[head, &UNKNOWN, options].concat()), Ok(read.clone()));
        assert_eq!(FirmwareMessage::parse(&[message, &UNKNOWN].concat()), Ok(read.clone()));
        assert!(FirmwareMessage::parse(&[message, &UNKNOWN[..3]].concat()).is_err(), "a cut option");
        assert!(read.mac.is_none() || read.uuids.is_empty(), "a DUID is one thing");
    }
    if let Ok(address) = <[u8; 16]>::try_from(data)
        && let Some(mac) = interface_mac(address.into())
    {
        assert_eq!([mac.0[0] ^ 2, mac.0[5]], [address[8], address[15]]);
    }
});
