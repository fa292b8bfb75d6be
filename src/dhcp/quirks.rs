//! The requirements of each firmware for an offer: one table, each row with its client and source. Also the boot file
//! location that works for a single host, as learned from its boots.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::boot::{BootProtocol, Firmware, Stage};
use crate::fleet::{Architecture, Mac};

/// The options that a client requires in addition to the common ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quirks {
    /// Option 60 of the reply. Without it the client does not accept the server as a boot server.
    pub vendor_class: &'static [u8],
    /// Option 43 of an offer; empty for none.
    pub vendor_options: &'static [u8],
    /// Whether the client also accepts its boot file on port 4011.
    pub supports_port_4011: bool,
}

impl Quirks {
    /// Returns the requirements for a boot file location.
    pub fn at_location(self, location: BootFileLocation) -> Self {
        match location {
            BootFileLocation::Port4011 if self.supports_port_4011 => Self { vendor_options: &[], ..self },
            BootFileLocation::Port4011 | BootFileLocation::Offer => self,
        }
    }
}

/// The message from which PXE firmware takes its boot file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootFileLocation {
    /// In the offer itself, with discovery control 8.
    Offer,
    /// On port 4011. EDK2 before 2017 needs this, because it discards offers with option 43 (boot-facts 3).
    Port4011,
}

/// PXE_DISCOVERY_CONTROL = 8 ("use the boot file of this offer", PXE 2.1, 2.2.3), and the end mark of these options.
const TAKE_THE_FILE: &[u8] = &[6, 1, 8, 255];
/// Discovery control 3, a menu prompt, and the menu entry whose text the Raspberry Pi looks for.
const RASPBERRY_PI: &[u8] = b"\x06\x01\x03\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff";

struct QuirkRow {
    /// The client, as the table in docs/boot-facts.md names it.
    client: &'static str,
    matches: fn(Stage, Firmware) -> bool,
    quirks: Quirks,
}

const TABLE: &[QuirkRow] = &[
    QuirkRow {
        // iPXE uses `file` and `siaddr` of the OFFER as they are, and never asks on port 4011 (bios-ipxe-rom-2025.pcap;
        // boot-facts 11, 12).
        client: "iPXE",
        matches: |stage, _| matches!(stage, Stage::Ipxe | Stage::LimitedIpxe),
        quirks: Quirks { vendor_class: b"PXEClient", vendor_options: &[], supports_port_4011: false },
    },
    QuirkRow {
        // UEFI HTTP Boot rejects an offer whose class is PXEClient (ovmf-2022-http-x64.pcap; boot-facts 8).
        client: "UEFI HTTP Boot",
        matches: |_, firmware| firmware.loading == BootProtocol::Http,
        quirks: Quirks { vendor_class: b"HTTPClient", vendor_options: &[], supports_port_4011: false },
    },
    QuirkRow {
        // The ROM of a Raspberry Pi rejects an offer without this text in option 43 (its maker's "Network booting"
        // page; no capture of ours). It requests files with names of its own over TFTP.
        client: "Raspberry Pi",
        matches: |_, firmware| firmware.architecture == Architecture(41),
        quirks: Quirks { vendor_class: b"PXEClient", vendor_options: RASPBERRY_PI, supports_port_4011: false },
    },
    QuirkRow {
        // BIOS PXE ROMs use the OFFER's file only with it (PXE 2.1, 2.2.3). OVMF and AAVMF skip the exchange on port
        // 4011 with it, which saves a second (ovmf-2025-pxe-x64.pcap shows it without; boot-facts 3).
        client: "PXE firmware",
        matches: |_, _| true,
        quirks: Quirks { vendor_class: b"PXEClient", vendor_options: TAKE_THE_FILE, supports_port_4011: true },
    },
];

/// Returns the requirements of a client.
pub fn for_client(stage: Stage, firmware: Firmware) -> Quirks {
    let row = TABLE.iter().find(|row| (row.matches)(stage, firmware));
    row.expect("the last row matches everything").quirks
}

/// Returns the clients of the table, in its order.
pub fn clients() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.client)
}

/// Maximum number of hosts whose location is learned.
const MAX_HOSTS: usize = 8192;
/// Time for which firmware collects offers before it continues. An earlier DISCOVER is a retry (boot-facts 2).
const OFFER_COLLECTION_TIMEOUT: Duration = Duration::from_secs(3);
/// Time after which an inactive host may be forgotten for another one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// Minimum time between two searches for inactive hosts.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);

/// The boot file location that each host was last offered, and whether the host continued its boot.
#[derive(Debug, Default)]
pub struct LearnedLocations {
    machines: HashMap<Mac, PlacementRecord>,
    /// Time of the last search for inactive hosts.
    searched: Option<Instant>,
}

#[derive(Debug)]
struct PlacementRecord {
    location: BootFileLocation,
    at: Instant,
    progressed: bool,
}

impl PlacementRecord {
    /// Returns whether a DISCOVER is a retry, while the firmware collects offers.
    fn is_retry(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < OFFER_COLLECTION_TIMEOUT
    }

    /// Returns the location for the next DISCOVER.
    fn next(&self, now: Instant) -> BootFileLocation {
        match self.location {
            location if self.is_retry(now) || self.progressed => location,
            BootFileLocation::Offer => BootFileLocation::Port4011,
            BootFileLocation::Port4011 => BootFileLocation::Offer,
        }
    }
}

impl LearnedLocations {
    /// Returns the location for a host whose ROM sends a DISCOVER: the one that worked. If the host neither asked on
    /// port 4011 nor for its file since the last offer, the location changes.
    pub fn choose(&mut self, mac: Mac, now: Instant) -> BootFileLocation {
        if let Some(record) = self.machines.get_mut(&mac) {
            let chosen = record.next(now);
            if !record.is_retry(now) {
                *record = PlacementRecord { location: chosen, at: now, progressed: false };
            }
            return chosen;
        }
        // A search looks at every host: in a flood of new hosts, not for each of them.
        let is_due = self.searched.is_none_or(|at| now.saturating_duration_since(at) >= SEARCH_INTERVAL);
        if self.machines.len() >= MAX_HOSTS && is_due {
            self.searched = Some(now);
            self.machines.retain(|_, record| now.saturating_duration_since(record.at) < IDLE_TIMEOUT);
        }
        let location = BootFileLocation::Offer;
        if self.machines.len() < MAX_HOSTS {
            self.machines.insert(mac, PlacementRecord { location, at: now, progressed: false });
        }
        location
    }

    /// Returns the location that `choose` would return, and records nothing.
    pub fn next(&self, mac: Mac, now: Instant) -> BootFileLocation {
        self.machines.get(&mac).map_or(BootFileLocation::Offer, |record| record.next(now))
    }

    /// Marks a host that continued its boot: it asked on port 4011, for its file, or as iPXE.
    pub fn mark_progress(&mut self, mac: Mac) {
        if let Some(record) = self.machines.get_mut(&mac) {
            record.progressed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

    #[test]
    fn a_host_that_does_not_continue_gets_the_other_location() {
        let (mut learned, start) = (LearnedLocations::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(learned.choose(VM, at(0)), BootFileLocation::Offer);
        assert_eq!(learned.choose(VM, at(2)), BootFileLocation::Offer, "a retry while it collects offers");
        assert_eq!(learned.choose(VM, at(4)), BootFileLocation::Port4011);
        learned.mark_progress(VM);
        assert_eq!(learned.choose(VM, at(5)), BootFileLocation::Port4011);
        assert_eq!(learned.choose(VM, at(3600)), BootFileLocation::Port4011, "what worked is kept for the next boot");
        assert_eq!(learned.choose(VM, at(3604)), BootFileLocation::Offer);
    }

    #[test]
    fn learned_hosts_are_bounded() {
        let (mut learned, start) = (LearnedLocations::default(), Instant::now());
        let mac =
            |number: u32| Mac([2, 0, (number >> 24) as u8, (number >> 16) as u8, (number >> 8) as u8, number as u8]);
        for number in 0..MAX_HOSTS as u32 + 100 {
            learned.choose(mac(number), start);
        }
        assert_eq!(learned.machines.len(), MAX_HOSTS);
        learned.choose(VM, start + IDLE_TIMEOUT);
        assert_eq!(learned.machines.len(), 1);
    }

    #[test]
    fn the_documentation_lists_every_client_of_the_table() {
        let document = include_str!("../../docs/boot-facts.md");
        for client in clients() {
            assert!(
                document.contains(&format!("| {client} |")),
                "docs/boot-facts.md: {client} is missing in the quirk table"
            );
        }
    }
}
