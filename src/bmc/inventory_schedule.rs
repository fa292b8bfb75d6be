//! When the hardware of which host is read from its BMC. Pure: time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::fleet::{Bmc, BmcAddress, BmcProtocol, DetectedProtocol, Host, Mac, Power};

/// Minimum time between two inventories of a machine that was switched on in between.
const INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// The same, while parts are missing: some BMCs know them only after the machine's self-test.
const INCOMPLETE_INTERVAL: Duration = Duration::from_secs(600);
/// Time that a machine's self-test is given.
const SELF_TEST: Duration = Duration::from_secs(300);
/// Pause after the first failure; it doubles with each further one, up to `INTERVAL`.
const RETRY_PAUSE: Duration = Duration::from_secs(60);

/// The inventories in progress, and the failed ones.
#[derive(Debug, Default)]
pub struct InventorySchedule {
    hosts: HashMap<Mac, Attempt>,
}

/// The last attempt for a host.
#[derive(Debug)]
struct Attempt {
    bmc: Bmc,
    failures: u32,
    /// Time of the next attempt; `None` while one is in progress.
    next: Option<Instant>,
}

impl InventorySchedule {
    /// Begins an inventory of a host if it is due. Returns whether it is.
    pub fn begin(&mut self, host: &Host, now: Instant, at: Timestamp) -> bool {
        let Some(bmc) = host.spec.bmc.as_ref().filter(|_| is_due(host, at)) else { return false };
        let mac = host.spec.boot_mac_address;
        let known = self.hosts.get(&mac);
        if known.is_some_and(|known| known.next.is_none_or(|next| known.bmc.same_access(bmc) && now < next)) {
            return false;
        }
        let failures = known.filter(|known| known.bmc.same_access(bmc)).map_or(0, |known| known.failures);
        self.hosts.insert(mac, Attempt { bmc: bmc.clone(), failures, next: None });
        true
    }

    /// Records the end of an inventory.
    pub fn end(&mut self, mac: Mac, is_done: bool, now: Instant) {
        if is_done {
            self.hosts.remove(&mac);
        } else if let Some(attempt) = self.hosts.get_mut(&mac) {
            attempt.next = Some(now + RETRY_PAUSE.saturating_mul(1 << attempt.failures.min(9)).min(INTERVAL));
            attempt.failures += 1;
        }
    }

    /// Forgets the hosts that are gone.
    pub fn retain(&mut self, exists: impl Fn(Mac) -> bool) {
        self.hosts.retain(|mac, attempt| attempt.next.is_none() || exists(*mac));
    }
}

/// Returns whether the hardware of a host is to be read: its BMC speaks Redfish and answers, and the hardware was never
/// read, or the machine was switched on or booted since.
fn is_due(host: &Host, at: Timestamp) -> bool {
    let status = &host.status;
    if !matches!(status.power, Some(Power::On | Power::Off)) || !is_redfish(host) {
        return false;
    }
    let Some(read) = status.bmc.as_ref().and_then(|bmc| bmc.inventory_time) else { return true };
    let powered_on = status.power_transition_time.filter(|_| status.power == Some(Power::On));
    let started = powered_on.max(status.last_boot_time);
    let since = |time: Timestamp| Duration::try_from(at.duration_since(time)).unwrap_or_default();
    let is_complete = status.hardware.as_ref().is_some_and(|hardware| hardware.is_complete());
    let interval = if is_complete { INTERVAL } else { INCOMPLETE_INTERVAL };
    started.is_some_and(|started| started > read && since(started) >= SELF_TEST) && since(read) >= interval
}

fn is_redfish(host: &Host) -> bool {
    let address = host.spec.bmc.as_ref().and_then(|bmc| bmc.address.parse::<BmcAddress>().ok());
    match address.map(|address| address.protocol) {
        Some(BmcProtocol::Redfish { .. }) => true,
        Some(BmcProtocol::Detected) => {
            host.status.bmc.as_ref().is_some_and(|bmc| bmc.protocol == Some(DetectedProtocol::Redfish))
        }
        Some(BmcProtocol::Ipmi) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::hardware::HardwareDetails;
    use crate::fleet::{BmcRecord, HostSpec, HostStatus, Meta, Secret};

    fn host(address: &str, power: Power) -> Host {
        let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        spec.bmc = Some(Bmc::new(address, "u", Secret::default()));
        let status = HostStatus { power: Some(power), ..HostStatus::default() };
        Host { metadata: Meta::named("h".parse().unwrap(), None), spec, status }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_bmc_is_read_once_it_answers_redfish() {
        for (address, power, expected) in [
            ("redfish://b", Power::Off, true),
            ("redfish+http://b", Power::On, true),
            ("redfish://b", Power::Unknown, false),
            ("ipmi://b", Power::On, false),
            ("b", Power::On, false),
        ] {
            assert_eq!(is_due(&host(address, power), at(0)), expected, "{address} {power}");
        }
        let mut detected = host("b", Power::On);
        detected.status.bmc =
            Some(Box::new(BmcRecord { protocol: Some(DetectedProtocol::Redfish), ..BmcRecord::new(at(0)) }));
        assert!(is_due(&detected, at(0)));
    }

    #[test]
    fn it_is_read_again_after_the_self_test_of_a_later_start() {
        let mut host = host("redfish://b", Power::On);
        host.status.bmc = Some(Box::new(BmcRecord { inventory_time: Some(at(0)), ..BmcRecord::new(at(0)) }));
        assert!(!is_due(&host, at(1 << 20)), "it was not started since");
        host.status.power_transition_time = Some(at(100));
        for (now, expected) in [(399, false), (400, false), (600, true)] {
            assert_eq!(is_due(&host, at(now)), expected, "{now}");
        }
        host.status.power_transition_time = Some(at(500));
        assert!(!is_due(&host, at(700)) && is_due(&host, at(800)), "in its self-test");
        let whole = serde_json::json!({"cpu": {"cores": 1}, "ramMebibytes": 1, "storage": [{"name": "d"}],
            "nics": [{"mac": "52:54:00:00:00:01"}]});
        let whole: HardwareDetails = serde_json::from_value(whole).unwrap();
        host.status.hardware = Some(Box::new(whole));
        assert!(!is_due(&host, at(800)) && is_due(&host, at(6 * 3600)));
    }

    #[test]
    fn a_failure_is_tried_again_later_and_later() {
        let (host, mut schedule) = (host("redfish://b", Power::On), InventorySchedule::default());
        let (mac, mut now) = (host.spec.boot_mac_address, Instant::now());
        for pause in [60, 120, 240] {
            assert!(schedule.begin(&host, now, at(0)) && !schedule.begin(&host, now, at(0)), "one at a time");
            schedule.end(mac, false, now);
            assert!(!schedule.begin(&host, now + Duration::from_secs(pause - 1), at(0)), "{pause}");
            now += Duration::from_secs(pause);
        }
        let mut other = host.clone();
        other.spec.bmc = Some(Bmc::new("redfish://c", "u", Secret::default()));
        assert!(schedule.begin(&other, now - Duration::from_secs(1), at(0)), "another BMC");
        schedule.end(mac, true, now);
        assert!(schedule.hosts.is_empty());
    }
}
