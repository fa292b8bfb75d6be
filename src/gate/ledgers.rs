//! The ledgers of machines' boots: where their minutes went. A boot of a declared host is recorded once, after its end.

use std::time::Duration;

use crate::boot::diagnosis::Uptime;
use crate::boot::diagnosis::ledger::{Ledger, ledgers};
use crate::event::Event;
use crate::gate::Gate;
use crate::gate::boot_traces::DueMachine;

impl Gate {
    /// Returns the ledgers of the boots of a machine that were seen, oldest first.
    pub fn ledgers(&self, machine: &DueMachine) -> Vec<Ledger> {
        let host = self.store.load().host_by_mac(machine.mac);
        ledgers(&machine.steps, host.as_deref(), self.site().install.timeout, self.traces.now())
    }

    /// Records the boots of a declared machine that ended, in its timeline and in the metrics: each once. Returns when
    /// the next one may be recorded.
    pub fn record_finished_boots(&self, machine: &DueMachine) -> Option<Uptime> {
        self.record_boots_until(machine, self.traces.now())
    }

    /// Records all boots that ended, before the server stops: also those whose system may still be heard.
    pub fn record_last_boots(&self) {
        for machine in self.traces.machines() {
            self.record_boots_until(&machine, Uptime::MAX);
        }
    }

    fn record_boots_until(&self, machine: &DueMachine, until: Uptime) -> Option<Uptime> {
        if !self.store.load().is_declared(machine.mac) {
            return None;
        }
        for ledger in self.ledgers(machine) {
            let is_recorded = machine.recorded.is_some_and(|recorded| ledger.first <= recorded);
            let (Some(outcome), Some(final_at)) = (ledger.outcome, ledger.final_at) else { continue };
            if is_recorded {
                continue;
            }
            if final_at > until {
                return Some(final_at);
            }
            let stages = ledger.milliseconds();
            for (stage, milliseconds) in &stages {
                self.counters.boot_stage(*stage).record(Duration::from_millis(*milliseconds));
            }
            let milliseconds = stages.values().sum();
            let event = Event::BootFinished { outcome, milliseconds, stages, advice: ledger.advice };
            self.store.record_event(Some(machine.mac), event);
            self.traces.set_recorded(machine.mac, ledger.newest);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::boot::BootProtocol;
    use crate::boot::diagnosis::{DhcpClient, ScriptStep, Step};
    use crate::event::{BootOutcome, Entry, LedgerStage};
    use crate::fleet::Architecture;
    use crate::gate::fixture::{Fixture, VM};

    fn discover(xid: u32) -> Step {
        let client = DhcpClient::Firmware(BootProtocol::Pxe, Architecture(7));
        Step::Discover { xid, secs: 0, client, relay: None, is_broadcast: true }
    }

    /// Looks at the machine as the controller does, and returns when it looks again.
    fn look(fixture: &Fixture) -> Option<Uptime> {
        fixture.gate.record_finished_boots(&fixture.gate.traces.look_up(VM).unwrap())
    }

    /// Returns the entries of the timeline, once everything that was recorded is in it.
    async fn entries(fixture: &Fixture) -> Vec<Entry> {
        let name = |number: usize| format!("mark {number}");
        let count = |entries: &[Entry]| entries.iter().filter(|entry| entry.event.code() == "warning").count();
        let number = count(&fixture.timeline(0).await);
        fixture.gate.store.record_event(Some(VM), Event::Warning { image: None, message: name(number) });
        loop {
            let entries = fixture.timeline(0).await;
            if count(&entries) > number {
                return entries;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn outcomes(fixture: &Fixture) -> Vec<BootOutcome> {
        let entries = entries(fixture).await.into_iter();
        let outcome = |event| match event {
            Event::BootFinished { outcome, .. } => Some(outcome),
            _ => None,
        };
        entries.filter_map(|entry| outcome(entry.event)).collect()
    }

    #[tokio::test]
    async fn a_boot_of_a_declared_host_is_recorded_once() {
        let fixture = Fixture::new("hold");
        let trace = |step| fixture.gate.trace(VM, step);
        trace(discover(1));
        trace(Step::Script { action: ScriptStep::Attach });
        trace(Step::Completed);
        assert_eq!(look(&fixture), None);
        assert!(outcomes(&fixture).await.is_empty(), "nobody declared it");
        fixture.put_vm(json!({})).await;
        for _ in 0..3 {
            assert_eq!(look(&fixture), None);
            // What comes after the end changes nothing.
            trace(Step::Read { octets: 1, is_over: true });
        }
        assert_eq!(outcomes(&fixture).await, [BootOutcome::Installed]);
        let count = |stage| fixture.gate.counters.boot_stage(stage).read().count;
        assert_eq!((count(LedgerStage::Dhcp), count(LedgerStage::Loader), count(LedgerStage::System)), (1, 1, 0));
    }

    #[tokio::test]
    async fn a_boot_from_the_disk_waits_for_its_system_or_for_the_stop() {
        let fixture = Fixture::new("hold");
        fixture.put_vm(json!({})).await;
        let trace = |step| fixture.gate.trace(VM, step);
        trace(discover(1));
        trace(Step::Script { action: ScriptStep::LocalDisk });
        assert!(look(&fixture).is_some_and(|again| again > fixture.gate.traces.now() + Duration::from_secs(100)));
        assert!(outcomes(&fixture).await.is_empty());
        trace(Step::Request { server: None, address: [10, 0, 0, 9].into(), client: DhcpClient::System });
        assert_eq!(look(&fixture), None);
        assert_eq!(outcomes(&fixture).await, [BootOutcome::LocalDisk]);
        assert_eq!(fixture.gate.counters.boot_stage(LedgerStage::System).read().count, 1);
        // Another boot whose system was not heard yet.
        trace(discover(2));
        trace(Step::Script { action: ScriptStep::LocalDisk });
        assert!(look(&fixture).is_some());
        (0..2).for_each(|_| fixture.gate.record_last_boots());
        assert_eq!(outcomes(&fixture).await, [BootOutcome::LocalDisk; 2]);
        assert_eq!(fixture.gate.counters.boot_stage(LedgerStage::Dhcp).read().count, 2);
    }

    #[tokio::test]
    async fn the_boot_that_another_one_ends_is_recorded_with_it() {
        let fixture = Fixture::new("hold");
        fixture.put_vm(json!({})).await;
        for xid in 1..=3 {
            fixture.gate.trace(VM, discover(xid));
            look(&fixture);
        }
        let entries = entries(&fixture).await;
        let restarted = entries.iter().find(|entry| entry.event.code() == "boot_finished").unwrap();
        assert_eq!(restarted.count, 2, "the same boots are one line: {entries:?}");
        assert_eq!(fixture.gate.counters.boot_stage(LedgerStage::Dhcp).read().count, 2);
    }
}
