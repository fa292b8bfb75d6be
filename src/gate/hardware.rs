//! What machines report of their hardware.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::boot::Facts;
use crate::bounds::{Rate, TokenBuckets};
use crate::fleet::{HardwareDetails, Mac};
use crate::gate::Gate;
use crate::store::Change;

/// Writes of one machine's hardware: it seldom changes.
const WRITE_RATE: Rate = Rate { tokens: 1, per: Duration::from_secs(60), burst: 4 };
/// Maximum number of machines with a rate of their own.
const MAX_MACHINES: usize = 4096;

/// The rates at which the hardware of machines is written.
#[derive(Debug, Default)]
pub struct HardwareReports(Mutex<Option<TokenBuckets<Mac>>>);

impl HardwareReports {
    fn admit(&self, mac: Mac) -> bool {
        let mut rates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rates.get_or_insert_with(|| TokenBuckets::new(WRITE_RATE, MAX_MACHINES)).take(mac, Instant::now())
    }
}

impl Gate {
    /// Records the hardware that a machine reports of itself, if that is new: only of a declared host, and only if the
    /// client's address is tied to the machine.
    pub async fn record_hardware(&self, facts: &Facts, report: &HardwareDetails) {
        let state = self.store.load();
        let host = state.host_by_mac(facts.mac).filter(|_| state.is_declared(facts.mac));
        let Some(host) = host.filter(|_| *report != HardwareDetails::default()) else { return };
        let known = host.status.hardware.as_deref().cloned().unwrap_or_default();
        let hardware = known.updated(report);
        if hardware == known || self.verify_address(facts.mac, facts.address) != Ok(true) {
            return;
        }
        if !self.hardware_reports.admit(facts.mac) {
            return;
        }
        let change = Change::RecordHardware { mac: facts.mac, hardware: Box::new(hardware) };
        if let Err(error) = self.store.commit(change).await {
            tracing::debug!(mac = %facts.mac, %error, "failed to record the hardware");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::boot::Stage;
    use crate::gate::fixture::{Fixture, VM};

    #[tokio::test]
    async fn hardware_is_written_once_and_by_its_own_machine() {
        let fixture = Fixture::new("hold");
        let report = |memory: &str| HardwareDetails::reported(Some(memory), [Some("Acme"), None, None, None]);
        let facts = |address: [u8; 4]| Facts {
            mac: VM,
            firmware: None,
            stage: Stage::Ipxe,
            address: Some(address.into()),
            uuid: None,
        };
        let (own, other) = ([10, 77, 0, 10], [10, 77, 0, 11]);
        let version = || fixture.gate.store.snapshot().version;
        fixture.put_vm(json!({"ip": "10.77.0.10"})).await;
        fixture.gate.record_hardware(&facts(other), &report("2048")).await;
        assert_eq!(fixture.vm().status.hardware, None, "somebody else says so");
        fixture.gate.record_hardware(&facts(own), &report("2048")).await;
        assert_eq!(fixture.vm().status.hardware.as_ref().unwrap().ram_mebibytes, Some(2048));
        let before = version();
        fixture.gate.record_hardware(&facts(own), &report("2048")).await;
        fixture.gate.record_hardware(&facts(own), &HardwareDetails::default()).await;
        assert_eq!(version(), before, "nothing is new");
        for memory in 1..100 {
            fixture.gate.record_hardware(&facts(own), &report(&memory.to_string())).await;
        }
        assert_eq!(version() - before, 3, "a machine that changes all the time is not written all the time");
    }
}
