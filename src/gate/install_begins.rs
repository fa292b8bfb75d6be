//! Requests that may have begun an install while its host is still `Assigned`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::SignedDuration;

use crate::boot::diagnosis::Uptime;
use crate::boot::{Facts, Verdict};
use crate::fleet::{Host, Mac, Phase};
use crate::gate::{Gate, HostDecision, IdentifiedClient};
use crate::store::now;

/// Greatest difference between the time of a request and that of a record of the same moment.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(1);

/// The requests that may have begun installs, by machine: logins, and boot scripts for addresses that nothing ties to the
/// machine. A script for the machine's own address makes its host `Offered`, so it is not needed here.
///
/// Anybody can ask in a machine's name. A request from an address that nothing ties to the machine is a begin only once
/// evidence ties that address to it, as after `spec.ip` was set during the install.
#[derive(Debug, Default)]
pub struct InstallBegins(Mutex<HashMap<Mac, Begins>>);

#[derive(Debug, Default)]
struct Begins {
    /// Time of the last request from an address that was tied to the machine.
    tied: Option<Instant>,
    /// The addresses of other requests, with the time of the last one; by the time of the first.
    untied: Vec<(IpAddr, Instant)>,
    /// The last other request for a script or the image, over TFTP too: no begin, and for the diagnosis only.
    shown: Option<(IpAddr, Instant)>,
}

impl Begins {
    fn last(&self) -> Option<Instant> {
        self.untied.iter().chain(&self.shown).map(|(_, at)| *at).chain(self.tied).max()
    }

    /// Notes a request of an address that nothing ties to the machine. Requests from before `age` were for another install.
    /// The first addresses stay: whoever asks later from many addresses pushes none of them out.
    fn note_untied(&mut self, address: IpAddr, age: Duration, now: Instant) {
        self.untied.retain(|(_, at)| now.saturating_duration_since(*at) <= age);
        if let Some((_, at)) = self.untied.iter_mut().find(|(known, _)| *known == address) {
            *at = now;
        } else if self.untied.len() < InstallBegins::MAX_ADDRESSES {
            self.untied.push((address, now));
        }
    }
}

impl InstallBegins {
    /// Maximum number of machines. The machine whose last request is the oldest gives way.
    const MAX_MACHINES: usize = 8192;
    /// Maximum number of addresses of a machine. The first ones stay.
    const MAX_ADDRESSES: usize = 16;

    /// Records a request from an address, which is `tied` to the machine or not, for an install that was requested at most
    /// `age` ago.
    fn record(&self, mac: Mac, address: Option<IpAddr>, tied: bool, age: Duration, now: Instant) {
        match address {
            _ if tied => self.change(mac, |begins| begins.tied = Some(now)),
            Some(address) => self.change(mac, |begins| begins.note_untied(address, age, now)),
            None => {}
        }
    }

    /// Records the last address that asked in a machine's name and that nothing ties to it.
    fn record_shown(&self, mac: Mac, address: IpAddr, now: Instant) {
        self.change(mac, |begins| begins.shown = Some((address, now)));
    }

    /// Returns the last address that asked in a machine's name at most so long ago, and that nothing tied to it.
    fn shown_within(&self, mac: Mac, age: Duration, now: Instant) -> Option<IpAddr> {
        let machines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (address, at) = machines.get(&mac)?.shown?;
        (now.saturating_duration_since(at) <= age).then_some(address)
    }

    /// Changes what is known of a machine.
    fn change(&self, mac: Mac, change: impl FnOnce(&mut Begins)) {
        let mut machines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if machines.len() >= Self::MAX_MACHINES && !machines.contains_key(&mac) {
            let oldest = machines.iter().min_by_key(|(_, begins)| begins.last()).map(|(mac, _)| *mac);
            if let Some(oldest) = oldest {
                machines.remove(&oldest);
            }
        }
        change(machines.entry(mac).or_default());
    }

    /// Returns whether a machine made a request at most so long ago. `is_its_own` says of which addresses that is known now.
    fn has_begun_within(&self, mac: Mac, age: Duration, now: Instant, is_its_own: impl Fn(IpAddr) -> bool) -> bool {
        let is_within = |at: Instant| now.saturating_duration_since(at) <= age;
        let (is_tied, untied) = {
            let machines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(begins) = machines.get(&mac) else { return false };
            (begins.tied.is_some_and(is_within), begins.untied.clone())
        };
        is_tied || untied.into_iter().any(|(address, at)| is_within(at) && is_its_own(address))
    }

    fn forget(&self, mac: Mac) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&mac);
    }
}

/// Returns the time since the install of a host was requested; `None` if it is not known, or the clock went back.
fn request_age(host: &Host) -> Option<Duration> {
    let requested = host.status.phase_transition_time?;
    Duration::try_from(now().duration_since(requested) + CLOCK_TOLERANCE).ok()
}

impl Gate {
    /// Notes that a client was served the script of an image over HTTP in the name of a machine whose address it may not
    /// have. A TFTP client is not noted: the source address of its request may be forged.
    pub fn note_untied_script(&self, facts: &Facts, decided: &HostDecision) {
        let is_boot = matches!(decided.decision.verdict, Verdict::SanBoot(_));
        if is_boot && !decided.tied {
            self.note_begin(decided.host.as_deref(), facts.address, false);
        }
    }

    /// Notes that a client attached the image of a host.
    pub(super) fn note_login(&self, client: &IdentifiedClient, host: &Host) {
        self.note_begin(Some(host), client.facts.address, client.is_tied());
        if !client.is_tied() {
            self.note_shown(Some(host), client.facts.address);
        }
    }

    /// Notes for the diagnosis that a client was served the script of an image, over any protocol, in the name of a machine
    /// whose address it may not have.
    pub(super) fn note_shown_script(&self, facts: &Facts, decided: &HostDecision) {
        let is_boot = matches!(decided.decision.verdict, Verdict::SanBoot(_));
        if is_boot && !decided.tied {
            self.note_shown(decided.host.as_deref(), facts.address);
        }
    }

    fn note_shown(&self, host: Option<&Host>, address: Option<IpAddr>) {
        let host = host.filter(|host| host.status.phase == Phase::Assigned);
        if let Some((host, address)) = host.zip(address) {
            self.install_begins.record_shown(host.spec.boot_mac_address, address.to_canonical(), Instant::now());
        }
    }

    fn note_begin(&self, host: Option<&Host>, address: Option<IpAddr>, tied: bool) {
        if let Some(host) = host.filter(|host| host.status.phase == Phase::Assigned) {
            let address = address.map(|address| address.to_canonical());
            let age = request_age(host).unwrap_or(Duration::MAX);
            self.install_begins.record(host.spec.boot_mac_address, address, tied, age, Instant::now());
        }
    }

    /// Returns the address that the script or the image of a host was last asked for from since its install was requested, if
    /// nothing tied it to the machine.
    pub fn untied_request(&self, host: &Host) -> Option<IpAddr> {
        self.install_begins.shown_within(host.spec.boot_mac_address, request_age(host)?, Instant::now())
    }

    /// Forgets the requests of a machine whose install is complete.
    pub(super) fn forget_begin(&self, mac: Mac) {
        self.install_begins.forget(mac);
    }

    /// Returns the host of a machine whose install was requested while the machine itself asked for nothing since: no
    /// script, no login, no config. A report of completion then comes from the system that is to be replaced. `None` if
    /// that cannot be known: the server started after the request, or the clock went back.
    pub(super) fn unbegun_install(&self, mac: Mac) -> Option<Arc<Host>> {
        let host = self.store.load().host_by_mac(mac).filter(|host| host.status.phase == Phase::Assigned)?;
        let has_config = host.status.install.as_ref().is_some_and(|install| install.config_fetch_time.is_some());
        let requested = host.status.phase_transition_time?;
        let age = request_age(&host)?;
        let started = self.trace_clock().time_of(Uptime::ZERO);
        let is_known = started.duration_since(requested) <= CLOCK_TOLERANCE;
        let is_its_own = |address| self.verify_address(mac, Some(address)) == Ok(true);
        let has_begun = has_config || self.install_begins.has_begun_within(mac, age, Instant::now(), is_its_own);
        (is_known && !has_begun).then_some(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
    const MINUTE: Duration = Duration::from_secs(60);

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 77, 0, last])
    }

    #[test]
    fn a_request_counts_for_the_install_that_was_requested_before_it() {
        let (begins, now) = (InstallBegins::default(), Instant::now());
        let has_begun = |later: Duration| begins.has_begun_within(VM, MINUTE, now + later, |_| false);
        assert!(!has_begun(Duration::ZERO), "nothing was seen");
        begins.record(VM, Some(address(50)), true, MINUTE, now);
        assert!(has_begun(MINUTE) && !has_begun(MINUTE + Duration::from_secs(1)));
        assert!(!begins.has_begun_within(Mac([2; 6]), MINUTE, now, |_| true));
        begins.forget(VM);
        assert!(!has_begun(Duration::ZERO));
    }

    #[test]
    fn an_untied_request_counts_once_its_address_is_tied() {
        let (begins, now) = (InstallBegins::default(), Instant::now());
        let has_begun = |own: u8| begins.has_begun_within(VM, MINUTE, now, |asked| asked == address(own));
        let record = |last: u8| begins.record(VM, Some(address(last)), false, MINUTE, now);
        begins.record(VM, None, false, MINUTE, now);
        assert!(begins.0.lock().unwrap().is_empty(), "no address, no entry");
        record(50);
        assert!(has_begun(50) && !has_begun(60));
        for other in 60..60 + InstallBegins::MAX_ADDRESSES as u8 - 1 {
            record(other);
            record(other);
        }
        assert!(has_begun(50) && has_begun(60), "an address counts once");
        record(99);
        assert!(has_begun(50) && has_begun(60) && !has_begun(99), "strangers push nobody out");
        // For the next install all of them are strangers of the past.
        let later = now + 2 * MINUTE;
        begins.record(VM, Some(address(70)), false, MINUTE, later);
        assert!(begins.has_begun_within(VM, MINUTE, later, |asked| asked == address(70)));
        assert_eq!(begins.0.lock().unwrap()[&VM].untied.len(), 1);
    }

    #[test]
    fn the_last_untied_request_is_shown_until_the_next_install() {
        let (begins, now) = (InstallBegins::default(), Instant::now());
        for last in 50..60 {
            begins.record_shown(VM, address(last), now);
        }
        assert_eq!(begins.shown_within(VM, MINUTE, now + MINUTE), Some(address(59)));
        assert_eq!(begins.shown_within(VM, MINUTE, now + 2 * MINUTE), None);
        assert!(!begins.has_begun_within(VM, MINUTE, now, |_| true), "it begins nothing");
    }

    #[test]
    fn machines_are_bounded() {
        let (begins, now) = (InstallBegins::default(), Instant::now());
        let mac = |number: usize| {
            let [.., a, b, c, d] = number.to_be_bytes();
            Mac([2, 0, a, b, c, d])
        };
        for number in 0..InstallBegins::MAX_MACHINES + 3 {
            begins.record(mac(number), Some(address(1)), true, MINUTE, now + Duration::from_millis(number as u64));
        }
        assert_eq!(begins.0.lock().unwrap().len(), InstallBegins::MAX_MACHINES);
        let has_begun = |number| begins.has_begun_within(mac(number), MINUTE, now + MINUTE, |_| false);
        assert_eq!((has_begun(2), has_begun(3)), (false, true));
    }
}
