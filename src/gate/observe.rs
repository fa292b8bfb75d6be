//! Records facts about a host outside of a decision.

use crate::boot::Facts;
use crate::gate::Gate;
use crate::store::{Change, Observation, StoreError};

impl Gate {
    /// Records the address, firmware and UUID of a known host, durably.
    ///
    /// # Errors
    /// The store's: no host has the MAC address, or the state cannot be written.
    pub async fn observe(&self, facts: &Facts) -> Result<(), StoreError> {
        let firmware = facts.firmware.map(|firmware| firmware.architecture);
        let observation = Observation { firmware, address: facts.address, uuid: facts.uuid };
        self.store.commit(Change::Observe { mac: facts.mac, observation }).await?;
        Ok(())
    }
}
