//! Records facts about a host outside of a decision: the DHCP exchanges in which it takes an address.

use std::net::{IpAddr, Ipv4Addr};

use crate::boot::identity::{AddressEvidence, PresentAddress};
use crate::boot::{Facts, Reason};
use crate::event::Protocol;
use crate::fleet::{Mac, Phase};
use crate::gate::Gate;
use crate::store::{Change, Observation, StoreError, now};

impl Gate {
    /// Records the firmware and UUID of a known host, and an address with what ties it, durably. The address in `facts`
    /// is recorded only with `evidence`. A UUID that is known already stays: a datagram is no proof of another one.
    ///
    /// # Errors
    /// The store's: no host has the MAC address, or the state cannot be written.
    pub async fn observe(&self, facts: &Facts, evidence: Option<AddressEvidence>) -> Result<(), StoreError> {
        self.store.commit(self.observation_of(facts, evidence)).await?;
        Ok(())
    }

    /// Returns the change by which `observe` records.
    pub fn observation_of(&self, facts: &Facts, evidence: Option<AddressEvidence>) -> Change {
        let firmware = facts.firmware.map(|firmware| firmware.architecture);
        let known = self.store.load().host_by_mac(facts.mac).and_then(|host| host.status.uuid);
        let uuid = facts.uuid.filter(|_| known.is_none());
        let address = facts.address.map(|address| address.to_canonical()).zip(evidence);
        Change::Observe { mac: facts.mac, observation: Observation { firmware, address, uuid } }
    }

    /// Returns the address at which a machine's host was last seen, next to one that it takes. `is_same_relay` is
    /// whether the relay that names the new address may have named the present one.
    pub fn present_address(&self, mac: Mac, address: Ipv4Addr, is_same_relay: bool) -> PresentAddress {
        let address = IpAddr::from(address);
        let state = self.store.load();
        let Some(host) = state.host_by_mac(mac) else { return PresentAddress::Unknown };
        let Some(present) = host.status.address.map(|present| present.to_canonical()) else {
            return PresentAddress::Unknown;
        };
        if present == address {
            return PresentAddress::Same;
        }
        PresentAddress::Other {
            is_tied: self.address_evidence(present).owner() == Ok(Some(mac)),
            is_same_network: match present {
                IpAddr::V4(present) if is_same_relay && !self.is_known_network(present) => true,
                _ => self.is_same_network(present, address),
            },
            is_installing: matches!(host.status.phase, Phase::Offered | Phase::Installing),
        }
    }

    /// Returns whether an address lies in one of the networks that this server knows.
    pub fn is_known_network(&self, address: Ipv4Addr) -> bool {
        self.site().nets.iter().any(|net| net.contains(&address))
    }

    /// Returns whether a lease or a `spec.ip` gives an address to another machine.
    pub fn is_address_of_other(&self, mac: Mac, address: Ipv4Addr) -> bool {
        let state = self.store.load();
        let is_leased = state.lease_by_ip(address).is_some_and(|lease| lease.mac != mac && lease.is_bound_at(now()));
        is_leased || state.host_by_ip(address.into()).is_some_and(|host| host.spec.boot_mac_address != mac)
    }

    /// Returns whether an address is known to be a machine's: by a lease, a `spec.ip`, or because it was seen there.
    pub fn is_machines_address(&self, address: Ipv4Addr) -> bool {
        let state = self.store.load();
        state.lease_by_ip(address).is_some_and(|lease| lease.is_bound_at(now()))
            || state.host_by_ip(address.into()).is_some()
            || state.last_seen_at(address.into()).is_some()
    }

    /// Records in a host's timeline that a DHCP message contradicts what is known of it.
    pub fn record_contradiction(&self, mac: Mac, address: Ipv4Addr, reason: Reason) {
        self.record_refusal(mac, Protocol::Dhcp, reason, format!("{reason}: a DHCP message names {address}"));
    }
}
