//! What each firmware needs of an answer: one table, each row with the client and how we know; and
//! what we learn of a single machine that does not go on.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::boot::{BootProtocol, Firmware, Stage};
use crate::fleet::{Architecture, Mac};

/// Is what an answer to a client must look like beside what all of them get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quirks {
    /// Echoes this in option 60: without it the client does not take us for a boot server.
    pub vendor_class: &'static [u8],
    /// Is option 43 of an offer; nothing where it is empty.
    pub vendor_options: &'static [u8],
    /// Says whether a client that does not go on may want the other form.
    pub has_forms: bool,
}

impl Quirks {
    /// Gives what the client needs where it is told in this form.
    pub fn in_form(self, form: Form) -> Self {
        match form {
            Form::Port4011 if self.has_forms => Self { vendor_options: &[], ..self },
            Form::Port4011 | Form::Offer => self,
        }
    }
}

/// Says how PXE firmware is told its boot file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In the offer itself, with discovery control 8.
    Offer,
    /// On port 4011, as EDK2 before 2017 wants it: it throws offers with option 43 away (boot-facts 3).
    Port4011,
}

/// PXE_DISCOVERY_CONTROL = 8 ("use the boot file of this offer", PXE 2.1, 2.2.3), then the end mark
/// that these options have of their own.
const TAKE_THE_FILE: &[u8] = &[6, 1, 8, 255];
/// Discovery control 3, a menu prompt, and the one menu entry whose text the Raspberry Pi looks for.
const RASPBERRY_PI: &[u8] = b"\x06\x01\x03\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff";

struct Row {
    /// Is the client, as the README's table names it.
    client: &'static str,
    matches: fn(Stage, Firmware) -> bool,
    quirks: Quirks,
}

const TABLE: &[Row] = &[
    Row {
        // iPXE takes file and siaddr of the OFFER as they are, and never asks on 4011
        // (bios-ipxe-rom-2025.pcap; boot-facts 11, 12).
        client: "iPXE",
        matches: |stage, _| matches!(stage, Stage::Ipxe | Stage::LimitedIpxe),
        quirks: Quirks { vendor_class: b"PXEClient", vendor_options: &[], has_forms: false },
    },
    Row {
        // UEFI HTTP Boot refuses an offer whose class is PXEClient (ovmf-2022-http-x64.pcap; boot-facts 8).
        client: "UEFI HTTP Boot",
        matches: |_, firmware| firmware.loading == BootProtocol::Http,
        quirks: Quirks { vendor_class: b"HTTPClient", vendor_options: &[], has_forms: false },
    },
    Row {
        // The ROM of a Raspberry Pi takes no offer without this text in option 43 (its maker's
        // "Network booting" page; no capture of ours). It asks for files of its own by TFTP.
        client: "Raspberry Pi",
        matches: |_, firmware| firmware.architecture == Architecture(41),
        quirks: Quirks { vendor_class: b"PXEClient", vendor_options: RASPBERRY_PI, has_forms: false },
    },
    Row {
        // BIOS PXE ROMs take the OFFER's file only with it (PXE 2.1, 2.2.3); OVMF and AAVMF skip the
        // exchange on 4011 with it, and gain a second (ovmf-2025-pxe-x64.pcap shows it without; boot-facts 3).
        client: "PXE firmware",
        matches: |_, _| true,
        quirks: Quirks { vendor_class: b"PXEClient", vendor_options: TAKE_THE_FILE, has_forms: true },
    },
];

/// Finds what a client needs.
pub fn of(stage: Stage, firmware: Firmware) -> Quirks {
    let row = TABLE.iter().find(|row| (row.matches)(stage, firmware));
    row.expect("the last row matches everything").quirks
}

/// Names the clients of the table, in its order.
pub fn clients() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.client)
}

/// Bounds the machines of which something is learned.
const LEARNED: usize = 8192;
/// Is how long firmware collects offers before it would go on: an earlier DISCOVER is a retry (boot-facts 2).
const PATIENCE: Duration = Duration::from_secs(3);
/// Is when a machine that did nothing meanwhile may be forgotten for another.
const FORGET: Duration = Duration::from_secs(600);

/// Remembers which form each machine was told in, and whether it went on.
#[derive(Debug, Default)]
pub struct Learned {
    machines: HashMap<Mac, Told>,
}

#[derive(Debug)]
struct Told {
    form: Form,
    at: Instant,
    went_on: bool,
}

impl Learned {
    /// Picks the form for a machine whose ROM asks: the one that worked, or the other one where the last
    /// brought neither a request on 4011 nor one for the file.
    pub fn form(&mut self, mac: Mac, now: Instant) -> Form {
        if !self.machines.contains_key(&mac) {
            if self.machines.len() >= LEARNED {
                self.machines.retain(|_, told| now.saturating_duration_since(told.at) < FORGET);
            }
            if self.machines.len() < LEARNED {
                self.machines.insert(mac, Told { form: Form::Offer, at: now, went_on: false });
            }
            return Form::Offer;
        }
        let Some(told) = self.machines.get_mut(&mac) else { return Form::Offer };
        if now.saturating_duration_since(told.at) < PATIENCE {
            return told.form;
        }
        if !told.went_on {
            told.form = match told.form {
                Form::Offer => Form::Port4011,
                Form::Port4011 => Form::Offer,
            };
        }
        told.at = now;
        told.went_on = false;
        told.form
    }

    /// Notes that a machine went on: it asked on 4011, for its file, or as iPXE.
    pub fn went_on(&mut self, mac: Mac) {
        if let Some(told) = self.machines.get_mut(&mac) {
            told.went_on = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

    #[test]
    fn a_machine_that_does_not_go_on_is_told_in_the_other_form() {
        let (mut learned, start) = (Learned::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(learned.form(VM, at(0)), Form::Offer);
        assert_eq!(learned.form(VM, at(2)), Form::Offer, "a retry while it collects offers");
        assert_eq!(learned.form(VM, at(4)), Form::Port4011);
        learned.went_on(VM);
        assert_eq!(learned.form(VM, at(5)), Form::Port4011);
        assert_eq!(learned.form(VM, at(3600)), Form::Port4011, "what worked is kept for the next boot");
        assert_eq!(learned.form(VM, at(3604)), Form::Offer);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut learned, start) = (Learned::default(), Instant::now());
        let mac =
            |number: u32| Mac([2, 0, (number >> 24) as u8, (number >> 16) as u8, (number >> 8) as u8, number as u8]);
        for number in 0..LEARNED as u32 + 100 {
            learned.form(mac(number), start);
        }
        assert_eq!(learned.machines.len(), LEARNED);
        learned.form(VM, start + FORGET);
        assert_eq!(learned.machines.len(), 1);
    }

    #[test]
    fn the_readme_names_every_client_of_the_table() {
        let readme = include_str!("../../README.md");
        for client in clients() {
            assert!(readme.contains(&format!("| {client} |")), "README.md's table of quirks lacks {client}");
        }
    }
}
