//! The enrolment of unknown machines, within bounds of rate and number.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::boot::{Facts, Reason, Verdict};
use crate::bounds::{Rate, Source, TokenBuckets};
use crate::event::Event;
use crate::fleet::enrolment::UnknownHostAction;
use crate::fleet::{EntryPoint, FirstSeenLimits, Host, Key, Kind, Name};
use crate::gate::{Gate, HostDecision};
use crate::store::{Change, StoreError};

/// Maximum number of entry points with a rate of their own.
const MAX_ENTRY_POINTS: usize = 4096;

/// The bounds of enrolments, and the rate of each entry point.
#[derive(Debug)]
pub struct EnrolmentBounds {
    /// The bounds of hosts that were seen and never declared.
    pub limits: FirstSeenLimits,
    rates: Mutex<TokenBuckets<EntryPoint>>,
}

impl EnrolmentBounds {
    /// Creates the bounds of a server that has enrolled nothing yet.
    pub fn new(limits: FirstSeenLimits) -> Self {
        let rate = Rate { tokens: limits.per_minute, per: Duration::from_secs(60), burst: limits.per_minute };
        Self { limits, rates: Mutex::new(TokenBuckets::new(rate, MAX_ENTRY_POINTS)) }
    }

    fn take(&self, entry: &EntryPoint) -> bool {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).take(entry.clone(), Instant::now())
    }
}

impl Default for EnrolmentBounds {
    fn default() -> Self {
        Self::new(FirstSeenLimits::default())
    }
}

/// A reference of a rule for unknown machines to an object that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingReference {
    /// The action of the rule.
    pub action: UnknownHostAction,
    /// Kind of the object.
    pub kind: Kind,
    /// Name of the object.
    pub name: Name,
}

impl Gate {
    /// Returns the references of the rules for unknown machines to objects that do not exist. A rule applies once its
    /// objects exist.
    pub fn missing_references(&self) -> Vec<MissingReference> {
        let (state, site) = (self.store.load(), self.site());
        let rules = &site.unknown_hosts;
        let actions = rules.first.iter().map(|rule| &rule.action).chain([&rules.otherwise]);
        let mut missing = Vec::new();
        for action in actions {
            let UnknownHostAction::Install { image, config } = action else { continue };
            let objects = [(Kind::IscsiCdrom, Some(image)), (Kind::BootConfig, config.as_ref())];
            for (kind, name) in objects {
                let Some(name) = name.cloned() else { continue };
                let key = Key { kind, namespace: None, name };
                if state.get(&key).is_none() {
                    missing.push(MissingReference { action: action.clone(), kind, name: key.name });
                }
            }
        }
        missing
    }

    /// Decides after an unknown machine was enrolled. It entered from its address.
    pub async fn decide_and_enrol(&self, facts: &Facts) -> HostDecision {
        let address = facts.address.map_or(self.site().address, |address| Source::of(address).address());
        self.decide_and_enrol_from(facts, EntryPoint::Address(address)).await
    }

    /// Decides after an unknown machine was enrolled. Beyond the bounds of its entry point it is ignored.
    pub async fn decide_and_enrol_from(&self, facts: &Facts, entry: EntryPoint) -> HostDecision {
        let decided = self.decide_now(facts);
        let Verdict::Enrol(host) = decided.decision.verdict else { return decided };
        let change = match self.enrolment_of(facts, host, entry) {
            Ok(change) => change,
            Err(reason) => return HostDecision::ignore(reason),
        };
        match self.store.commit(change).await {
            Ok(_) => self.decide_now(facts),
            Err(error) => HostDecision::ignore(self.enrolment_refusal(facts, &error)),
        }
    }

    /// Returns the change that enrols an unknown machine as the host that was drafted for it.
    ///
    /// # Errors
    /// The entry point is beyond its bounds.
    pub fn enrolment_of(&self, facts: &Facts, host: Box<Host>, entry: EntryPoint) -> Result<Change, Reason> {
        let change = self.enrolment_within_limits(facts, host, entry.clone())?;
        if self.enrolment.take(&entry) { Ok(change) } else { Err(Reason::EnrolmentLimit) }
    }

    /// Returns the change that enrols an unknown machine, whatever the rate of its entry point is.
    ///
    /// # Errors
    /// There are too many hosts that were seen and never declared.
    pub(super) fn enrolment_within_limits(
        &self,
        facts: &Facts,
        host: Box<Host>,
        entry: EntryPoint,
    ) -> Result<Change, Reason> {
        let limits = self.enrolment.limits;
        if !limits.admits(&entry, self.store.load().first_seen_counts(&entry)) {
            return Err(Reason::EnrolmentLimit);
        }
        let architecture = facts.firmware.map(|firmware| firmware.architecture);
        let action = self.site().unknown_hosts.action(facts.mac, architecture, facts.address).clone();
        Ok(Change::Enrol { host, action, entry, limits })
    }

    /// Returns the reason that an unknown machine was not enrolled. An error that only the configuration explains is logged,
    /// and recorded for the machine.
    pub fn enrolment_refusal(&self, facts: &Facts, error: &StoreError) -> Reason {
        let reason = refusal_reason(error);
        if reason == Reason::RuleNotApplicable {
            let architecture = facts.firmware.map(|firmware| firmware.architecture);
            let action = self.site().unknown_hosts.action(facts.mac, architecture, facts.address).clone();
            tracing::warn!(mac = %facts.mac, %action, %error, "cannot apply the rule for unknown machines");
            let message =
                format!("rule {action:?} for unknown machines not applied: {error}", action = action.to_string());
            self.record_once(facts.mac, Event::Warning { image: action.image().cloned(), message });
        }
        reason
    }
}

/// Returns the reason for which an unknown machine cannot be enrolled.
pub(super) fn refusal_reason(error: &StoreError) -> Reason {
    match error {
        StoreError::Unavailable(_) => Reason::StoreUnavailable,
        StoreError::EnrolmentLimit(_) => Reason::EnrolmentLimit,
        StoreError::DiskNearlyFull => Reason::DiskNearlyFull,
        StoreError::AlreadyExists(_)
        | StoreError::Conflict { .. }
        | StoreError::InUse { .. }
        | StoreError::Invalid(_)
        | StoreError::Lost { .. }
        | StoreError::NoSuchMac(_)
        | StoreError::NotFound(_)
        | StoreError::Unreadable(_) => Reason::RuleNotApplicable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Stage;
    use crate::fleet::{Mac, Phase};
    use crate::gate::fixture::Fixture;

    fn facts(number: u16) -> Facts {
        let [high, low] = number.to_be_bytes();
        let mac = Mac([2, 0, 0, 0, high, low]);
        Facts { mac, firmware: None, stage: Stage::Rom, address: None, uuid: None }
    }

    #[tokio::test]
    async fn a_flood_on_one_interface_leaves_room_for_the_machines_of_another() {
        let limits = FirstSeenLimits { per_network: 20, ..FirstSeenLimits::default() };
        let fixture = Fixture::with_enrolment("hold", limits);
        let gate = &fixture.gate;
        let enrol = async |number, interface: &str| {
            let decided = gate.decide_and_enrol_from(&facts(number), EntryPoint::Interface(interface.into())).await;
            decided.decision.verdict
        };
        for number in 0..100 {
            enrol(number, "eth1").await;
        }
        assert_eq!(gate.store.load().first_seen().count(), 20);
        assert_eq!(enrol(100, "eth1").await, Verdict::Ignore(Reason::EnrolmentLimit));
        assert_eq!(enrol(101, "eth2").await, Verdict::Ignore(Reason::Held));
        assert_eq!(enrol(0, "eth1").await, Verdict::Ignore(Reason::Held), "a machine that was enrolled stays");
    }

    #[tokio::test]
    async fn a_rule_that_names_nothing_is_reported() {
        let fixture = Fixture::with_enrolment("install no-iso no-config", FirstSeenLimits::default());
        let gate = &fixture.gate;
        let missing = gate.missing_references();
        let named: Vec<_> = missing.iter().map(|missing| format!("{} {}", missing.kind, missing.name)).collect();
        assert_eq!(named, ["ISCSICdrom no-iso", "BootConfig no-config"]);
    }

    #[tokio::test]
    async fn a_flood_is_slowed_down_to_the_rate() {
        let limits = FirstSeenLimits { per_minute: 5, ..FirstSeenLimits::default() };
        let fixture = Fixture::with_enrolment("hold", limits);
        for number in 0..50 {
            fixture.gate.decide_and_enrol_from(&facts(number), EntryPoint::Interface("eth1".into())).await;
        }
        assert_eq!(fixture.gate.store.load().first_seen().count(), 5);
    }

    #[tokio::test]
    async fn a_host_that_somebody_wrote_is_no_longer_only_seen() {
        let fixture = Fixture::with_enrolment("hold", FirstSeenLimits::default());
        let (gate, mac) = (&fixture.gate, facts(7).mac);
        gate.decide_and_enrol(&facts(7)).await;
        assert_eq!(gate.store.load().first_seen().count(), 1);
        let (transition, observation) = (crate::fleet::lifecycle::Transition::Release, Default::default());
        gate.store.commit(Change::Advance { mac, transition, observation, event: None }).await.unwrap();
        assert_eq!(gate.store.load().first_seen().count(), 0);
        assert_eq!(gate.store.load().host_by_mac(mac).unwrap().status.phase, Phase::LocalBoot);
    }
}
