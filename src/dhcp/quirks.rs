//! What each firmware needs of an answer: one table, each row with the client and how we know.

use crate::boot::{Firmware, Loading, Stage};

/// Is what an answer to a client must look like beside what all of them get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quirks {
    /// Echoes this in option 60: without it the client does not take us for a boot server.
    pub vendor_class: &'static [u8],
    /// Sends option 43 with discovery control 8 ("use the boot file of this offer").
    pub discovery_control: bool,
}

struct Row {
    #[allow(dead_code, reason = "the table is also what the README's is made from")]
    client: &'static str,
    matches: fn(Stage, Loading) -> bool,
    quirks: Quirks,
}

const TABLE: &[Row] = &[
    Row {
        // iPXE takes file and siaddr of the OFFER as they are, and never asks on 4011
        // (bios-ipxe-rom-2025.pcap; boot-facts 11, 12).
        client: "iPXE",
        matches: |stage, _| matches!(stage, Stage::Ipxe | Stage::LesserIpxe),
        quirks: Quirks { vendor_class: b"PXEClient", discovery_control: false },
    },
    Row {
        // UEFI HTTP Boot refuses an offer whose class is PXEClient (ovmf-2022-http-x64.pcap; boot-facts 8).
        client: "UEFI HTTP Boot",
        matches: |_, loading| loading == Loading::Http,
        quirks: Quirks { vendor_class: b"HTTPClient", discovery_control: false },
    },
    Row {
        // BIOS PXE ROMs take the OFFER's file only with it (PXE 2.1, 2.2.3); OVMF and AAVMF skip the
        // exchange on 4011 with it, and gain a second (ovmf-2025-pxe-x64.pcap shows it without; boot-facts 3).
        client: "PXE firmware",
        matches: |_, _| true,
        quirks: Quirks { vendor_class: b"PXEClient", discovery_control: true },
    },
];

/// Finds what a client needs.
pub fn of(stage: Stage, firmware: Firmware) -> Quirks {
    let row = TABLE.iter().find(|row| (row.matches)(stage, firmware.loading));
    row.expect("the last row matches everything").quirks
}
