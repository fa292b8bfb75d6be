//! Router solicitations: the address is that of an option, and nothing after the option changes it.
#![no_main]

use bootlatch::ndp::advert::solicitation_sender;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let built = [&[133, 0, 0, 0, 0, 0, 0, 0], data].concat();
    for message in [data, &built] {
        let Some(mac) = solicitation_sender(message) else { continue };
        let units = &message[8..message.len() - message.len() % 8];
        let is_option = |unit: &[u8]| unit.starts_with(&[1, 1]) && unit.ends_with(&mac.0);
        let mut ends =
            units.chunks_exact(8).enumerate().filter(|(_, unit)| is_option(unit)).map(|(at, _)| 8 + (at + 1) * 8);
        // The content of another option may look like it.
        let end = ends.find(|end| solicitation_sender(&message[..*end]) == Some(mac)).expect("the option is there");
        assert_eq!(solicitation_sender(&message[..end - 1]), None, "a cut option has no address");
        assert_eq!(solicitation_sender(&[message, &[0; 40]].concat()), Some(mac));
    }
});
