//! The gate's records in the timelines and the counters.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::boot::diagnosis::Step;
use crate::boot::identity::Evidence;
use crate::boot::{BootEvent, Facts, Reason};
use crate::event::{Event, Protocol};
use crate::fleet::{Host, Image, Mac};
use crate::gate::{Gate, IdentifiedClient};

/// Suppresses repeated timeline events: the same event of a machine is recorded at most once per `REPEAT_INTERVAL`.
#[derive(Debug, Default)]
pub struct EventThrottle(Mutex<HashMap<Mac, Vec<(Instant, Event)>>>);

impl EventThrottle {
    /// Time during which a repeated event is suppressed.
    const REPEAT_INTERVAL: Duration = Duration::from_secs(5);
    /// Maximum number of machines. Events of other machines are not suppressed.
    const MAX_MACHINES: usize = 8192;
    /// Maximum number of events of one machine per `REPEAT_INTERVAL`.
    const MAX_EVENTS: usize = 8;

    /// Admits an event unless it repeats a recent one. Returns whether it was admitted.
    fn admit(&self, mac: Mac, event: &Event) -> bool {
        let is_fresh = |(at, _): &(Instant, Event)| at.elapsed() < Self::REPEAT_INTERVAL;
        let mut machines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if machines.len() >= Self::MAX_MACHINES {
            machines.retain(|_, recent| recent.iter().any(is_fresh));
        }
        if machines.len() >= Self::MAX_MACHINES && !machines.contains_key(&mac) {
            return true;
        }
        let recent = machines.entry(mac).or_default();
        recent.retain(is_fresh);
        if recent.len() == Self::MAX_EVENTS || recent.iter().any(|(_, known)| known == event) {
            return false;
        }
        recent.push((Instant::now(), event.clone()));
        true
    }
}

impl Gate {
    /// Records an event of a machine, unless it repeats a recent one.
    pub(super) fn record_once(&self, mac: Mac, event: Event) {
        if self.throttle.admit(mac, &event) {
            self.store.record_event(Some(mac), event);
        }
    }

    /// Reports the event of a decision that needs no transition.
    pub(super) fn record_decision_event(&self, caller: &IdentifiedClient, protocol: Protocol, event: &BootEvent) {
        let (facts, is_tied) = (&caller.facts, caller.is_tied());
        match event {
            BootEvent::Refused(reason) => {
                return self.refuse_with(facts, (protocol, *reason), reason.sentence().to_owned(), is_tied);
            }
            BootEvent::WaitingForImage(_) => {
                self.counters.count_refused(protocol, Reason::ImageUnavailable, facts.address);
                if let Event::WaitingForImage { message, .. } = self.timeline_event(facts, protocol, event) {
                    let (reason, message) = (Reason::ImageUnavailable, message.into());
                    self.trace(facts.mac, Step::Refused { protocol, reason, message, is_tied });
                }
            }
            BootEvent::Script { .. } | BootEvent::LocalDisk(_) | BootEvent::ConfigFetched(_) => {}
        }
        self.record_once(facts.mac, self.timeline_event(facts, protocol, event));
    }

    /// Returns the timeline's form of a decision's event.
    pub(super) fn timeline_event(&self, facts: &Facts, protocol: Protocol, event: &BootEvent) -> Event {
        match event {
            BootEvent::Script { action, image, reason } => {
                Event::Script { action: *action, image: image.clone(), reason: *reason }
            }
            BootEvent::LocalDisk(reason) => Event::LocalDisk { reason: *reason },
            BootEvent::WaitingForImage(image) => {
                let state = self.store.load();
                let message = state.image(image).map(|image| image.status.message.clone()).unwrap_or_default();
                Event::WaitingForImage { image: image.clone(), message }
            }
            BootEvent::Refused(reason) => {
                Event::Refused { protocol, reason: *reason, message: reason.sentence().to_owned() }
            }
            BootEvent::ConfigFetched(config) => {
                Event::ConfigFetched { config: config.clone(), address: facts.address, channel: None, file: None }
            }
        }
    }

    /// Counts a refusal, and records it in the machine's timeline.
    pub fn refuse(&self, facts: &Facts, protocol: Protocol, reason: Reason) {
        self.refuse_with_message(facts, protocol, reason, reason.sentence().to_owned());
    }

    /// Counts a refusal, and records it in the machine's timeline with a message that says more than the reason.
    pub fn refuse_with_message(&self, facts: &Facts, protocol: Protocol, reason: Reason, message: String) {
        // A DHCP message has no other address yet. The neighbour table is asked for a hold only, which others may dispute.
        let is_tied = || reason == Reason::Held && self.verify_address(facts.mac, facts.address) == Ok(true);
        self.refuse_with(facts, (protocol, reason), message, protocol == Protocol::Dhcp || is_tied());
    }

    fn refuse_with(&self, facts: &Facts, (protocol, reason): (Protocol, Reason), message: String, is_tied: bool) {
        self.counters.count_refused(protocol, reason, facts.address);
        self.record_refusal_of(facts.mac, (protocol, reason), message, is_tied);
        if let Some(address) = facts.address.filter(|_| self.is_unknown_at_owned_address(facts.mac, reason)) {
            let evidence = self.gather(Some(address), None, None);
            self.record_unknown_host_refusal(facts.mac, address, &evidence, protocol);
        }
    }

    /// Counts and records the refusal of a client whose claim the evidence contradicts.
    pub(super) fn refuse_contradicted(&self, facts: &Facts, protocol: Protocol, reason: Reason, evidence: &Evidence) {
        self.counters.count_refused(protocol, reason, facts.address);
        self.record_refusal(facts.mac, protocol, reason, reason.sentence().to_owned());
        if let Some(address) = facts.address.filter(|_| self.is_unknown_at_owned_address(facts.mac, reason)) {
            self.record_unknown_host_refusal(facts.mac, address, evidence, protocol);
        }
    }

    fn is_unknown_at_owned_address(&self, mac: Mac, reason: Reason) -> bool {
        reason == Reason::AddressOfOtherMachine && !self.store.load().has_host(mac)
    }

    /// Records in the server's timeline that an unknown machine was not enrolled, because its address belongs to
    /// another machine. The address's owner bounds the entries: an unknown machine can claim any MAC address.
    fn record_unknown_host_refusal(&self, mac: Mac, address: IpAddr, evidence: &Evidence, protocol: Protocol) {
        let Some(owner) = evidence.neighbour.or(evidence.spec_ip_owner) else { return };
        let reason = Reason::AddressOfOtherMachine;
        let event = Event::Refused { protocol, reason, message: format!("{reason}: {address} belongs to {owner}") };
        if self.throttle.admit(owner, &event) {
            self.store.record_event(Some(mac), event);
        }
    }

    /// Records a refusal in the timeline of a known machine.
    pub fn record_refusal(&self, mac: Mac, protocol: Protocol, reason: Reason, message: String) {
        self.record_refusal_of(mac, (protocol, reason), message, false);
    }

    fn record_refusal_of(&self, mac: Mac, (protocol, reason): (Protocol, Reason), message: String, is_tied: bool) {
        if self.store.load().has_host(mac) {
            self.trace(mac, Step::Refused { protocol, reason, message: message.as_str().into(), is_tied });
            self.record_once(mac, Event::Refused { protocol, reason, message });
        }
    }

    /// Records a refusal in the timeline of the machine at an address, if evidence names one.
    pub fn record_refusal_at_address(
        &self,
        address: Option<IpAddr>,
        protocol: Protocol,
        reason: Reason,
        message: String,
    ) {
        let owner = address.and_then(|address| self.owner_of(address).ok().flatten());
        owner.inspect(|mac| self.record_refusal(*mac, protocol, reason, message));
    }

    /// Records in a host's timeline that its view of the image differs from what people may expect.
    pub fn warn(&self, host: &Host, warnings: &[String]) {
        if !warnings.is_empty() {
            let (image, message) = (host.spec.image.image().cloned(), warnings.join("; "));
            self.record_once(host.spec.boot_mac_address, Event::Warning { image, message });
        }
    }

    /// Records that a machine cannot read an attached unit; in the server's timeline if the machine is unknown.
    pub fn record_read_failure(&self, mac: Option<Mac>, unit: u8, message: String) {
        if let Some(mac) = mac {
            self.trace(mac, Step::ReadFailed { message: message.as_str().into() });
        }
        let event = Event::ReadFailed { unit, message };
        if self.throttle.admit(mac.unwrap_or(Mac([0; 6])), &event) {
            self.store.record_event(mac, event);
        }
    }

    /// Returns the reason that an image, or a companion that is attached with it, cannot be served now.
    pub fn unavailable_reason(&self, image: &Image) -> Option<String> {
        let state = self.store.load();
        let companions = image.spec.attached_companions().iter().filter_map(|name| state.image(name));
        let own = self.media.reason(image).map(str::to_owned);
        own.or_else(|| {
            let mut broken = companions.filter_map(|other| Some((&other.metadata.name, self.media.reason(other)?)));
            broken.next().map(|(name, reason)| format!("companion {name}: {reason}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_events_are_recorded_once_and_a_flood_of_events_in_a_few_entries() {
        let (throttle, vm, other) = (EventThrottle::default(), Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let refused = |number: usize| Event::Refused {
            protocol: Protocol::Http,
            reason: Reason::FileNotFound,
            message: number.to_string(),
        };
        let count = |mac| (0..100).filter(|number| throttle.admit(mac, &refused(number % 2))).count();
        assert_eq!(count(vm), 2);
        let many = (0..100).filter(|number| throttle.admit(other, &refused(*number))).count();
        assert_eq!(many, EventThrottle::MAX_EVENTS);
    }

    #[test]
    fn events_of_a_bounded_number_of_machines_are_suppressed() {
        let throttle = EventThrottle::default();
        let mac = |number: usize| {
            let [.., a, b, c] = number.to_be_bytes();
            Mac([2, 0, 0, a, b, c])
        };
        for number in 0..EventThrottle::MAX_MACHINES {
            assert!(throttle.admit(mac(number), &Event::Held {}));
        }
        assert!(!throttle.admit(mac(0), &Event::Held {}), "a repetition");
        for _ in 0..2 {
            assert!(throttle.admit(mac(EventThrottle::MAX_MACHINES), &Event::Held {}), "one more is not suppressed");
        }
        assert_eq!(throttle.0.lock().unwrap().len(), EventThrottle::MAX_MACHINES);
        let past = Instant::now().checked_sub(EventThrottle::REPEAT_INTERVAL).unwrap();
        throttle.0.lock().unwrap().insert(mac(0), vec![(past, Event::Held {})]);
        assert!(throttle.admit(mac(EventThrottle::MAX_MACHINES), &Event::Held {}));
        assert!(
            !throttle.admit(mac(EventThrottle::MAX_MACHINES), &Event::Held {}),
            "it takes the place of an old event"
        );
    }
}
