//! The counters of what happens to hosts: phases, boots, power. The store counts each change and event once it is made.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::fleet::{Phase, Power};

use super::{BootOutcome, Event};

/// The reset types of Redfish (DSP0268, `ResetType`) that a server sends, and one for any other. A label of a metric
/// takes no value from outside.
const RESETS: [&str; 9] = [
    "On",
    "ForceOff",
    "ForceOn",
    "ForceRestart",
    "GracefulRestart",
    "GracefulShutdown",
    "PowerCycle",
    "PushPowerButton",
    "other",
];

/// Counters of what happens to hosts.
#[derive(Debug, Default)]
pub struct HostCounters {
    phases: [AtomicU64; Phase::ALL.len()],
    boots: [AtomicU64; BootOutcome::ALL.len()],
    switched_on: AtomicU64,
    switched_off: AtomicU64,
    resets: [AtomicU64; RESETS.len()],
    bmc_failures: AtomicU64,
    unqueued: AtomicU64,
}

impl HostCounters {
    /// Counts a host that entered a phase.
    pub fn count_phase(&self, phase: Phase) {
        self.phases[phase as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an event, if it is one of those that are counted.
    pub fn count(&self, event: &Event) {
        let counter = if let Event::BootFinished { outcome, .. } = event {
            &self.boots[*outcome as usize]
        } else if let Event::Power { state: Power::On } = event {
            &self.switched_on
        } else if let Event::Power { state: Power::Off } = event {
            &self.switched_off
        } else if let Event::PowerSwitched { reset } = event {
            let known = RESETS.iter().position(|known| known == reset);
            &self.resets[known.unwrap_or(RESETS.len() - 1)]
        } else if let Event::BmcFailed { .. } = event {
            &self.bmc_failures
        } else {
            return;
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts notifications about machines that nobody declared that were not queued: there were too many.
    pub fn count_unqueued(&self, count: u64) {
        if count > 0 {
            self.unqueued.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Returns the number of notifications that were not queued.
    pub fn unqueued(&self) -> u64 {
        self.unqueued.load(Ordering::Relaxed)
    }

    /// Returns how often hosts entered a phase.
    pub fn phase(&self, phase: Phase) -> u64 {
        self.phases[phase as usize].load(Ordering::Relaxed)
    }

    /// Returns the number of boots that ended in a way.
    pub fn boots(&self, outcome: BootOutcome) -> u64 {
        self.boots[outcome as usize].load(Ordering::Relaxed)
    }

    /// Returns how often machines were seen to go on and off.
    pub fn power_transitions(&self) -> [(Power, u64); 2] {
        let on = self.switched_on.load(Ordering::Relaxed);
        [(Power::On, on), (Power::Off, self.switched_off.load(Ordering::Relaxed))]
    }

    /// Returns the number of resets of each type that BMCs accepted.
    pub fn resets(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RESETS.into_iter().zip(self.resets.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// Returns the number of failures of BMCs that were recorded.
    pub fn bmc_failures(&self) -> u64 {
        self.bmc_failures.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_power_are_counted_by_their_values() {
        let counters = HostCounters::default();
        counters.count(&Event::Power { state: Power::Off });
        counters.count(&Event::Power { state: Power::Unknown });
        for reset in ["On", "On", "Nmi"] {
            counters.count(&Event::PowerSwitched { reset: reset.to_owned() });
        }
        counters.count(&Event::BmcFailed { message: "no answer".to_owned() });
        counters.count(&Event::Held {});
        assert_eq!(counters.power_transitions(), [(Power::On, 0), (Power::Off, 1)]);
        let sent: Vec<_> = counters.resets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(sent, [("On", 2), ("other", 1)]);
        assert_eq!(counters.bmc_failures(), 1);
    }

    #[test]
    fn boots_are_counted_by_their_outcome() {
        let counters = HostCounters::default();
        let (stages, advice) = (std::collections::BTreeMap::new(), Vec::new());
        counters.count(&Event::BootFinished { outcome: BootOutcome::Restarted, milliseconds: 1, stages, advice });
        assert_eq!(BootOutcome::ALL.iter().map(|outcome| counters.boots(*outcome)).collect::<Vec<_>>(), [0, 0, 1, 0]);
    }
}
