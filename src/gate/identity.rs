//! Gathers the evidence of a request, once, and obeys `boot::identity`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::boot::identity::{
    AddressEvidence, AdmissionRefusal, Candidate, ClaimEvidence, ClientIdentity, Evidence, Origin, TokenEvidence,
    admit, is_proved_by_token, judge, may_see_config,
};
use crate::boot::{ConfigProof, Facts, Reason, Stage, check_config_window, install_end, is_within_ttl};
use crate::fleet::machine_uuid::is_same_machine;
use crate::fleet::{BootConfig, Delivery, Host, Image, Mac, Phase};
use crate::gate::Gate;
use crate::gate::tokens::BootTokens;
use crate::store::{Snapshot, now};

/// A client of one request, after its evidence was judged.
#[derive(Debug, Clone, Copy)]
pub struct IdentifiedClient {
    /// The client's claims; the MAC address is the judged one.
    pub facts: Facts,
    /// The evidence that ties the client's address to the machine. Only then the client is sent what belongs to the machine alone,
    /// and the address is recorded as the machine's.
    pub evidence: Option<AddressEvidence>,
}

impl IdentifiedClient {
    /// Returns a client whose evidence was judged.
    pub fn new(facts: &Facts, evidence: &Evidence, identity: Result<ClientIdentity, Reason>) -> Self {
        let verified = identity.ok().and_then(ClientIdentity::verified).filter(|mac| *mac == facts.mac);
        Self { facts: *facts, evidence: verified.and_then(|mac| evidence.proof(mac)) }
    }

    /// Returns whether the evidence ties the client's address to the machine.
    pub fn is_tied(&self) -> bool {
        self.evidence.is_some()
    }
}

impl Gate {
    /// Gathers the evidence of one request. Asks the neighbour table once for the client's address, and once for the
    /// claimed machine's last address if no record names a machine for the client's.
    pub fn gather(&self, address: Option<IpAddr>, claimed: Option<Mac>, token: Option<&str>) -> Evidence {
        let token = self.token_evidence(token);
        let Some(address) = address.map(|address| address.to_canonical()) else {
            return Evidence { token, ..Evidence::default() };
        };
        let evidence = Evidence { token, ..self.address_evidence(address) };
        let evidence = Evidence { is_other_interface: self.is_other_interface(&evidence), ..evidence };
        match claimed {
            Some(mac) => Evidence { claim: self.claim_evidence(&evidence, address, mac), ..evidence },
            None => evidence,
        }
    }

    /// Returns whether the machine at the address may be another interface of the machine that a valid token names.
    fn is_other_interface(&self, evidence: &Evidence) -> bool {
        let TokenEvidence::Valid(mac) = evidence.token else { return false };
        let Ok(Some(owner)) = evidence.owner() else { return false };
        let state = self.store.load();
        match (state.host_by_mac(owner), state.host_by_mac(mac)) {
            (None, _) => true,
            (Some(there), Some(host)) => is_same_machine(&there, &host),
            (Some(_), None) => false,
        }
    }

    pub(super) fn address_evidence(&self, address: IpAddr) -> Evidence {
        let state = self.store.load();
        let lease = match address {
            IpAddr::V4(address) => state.lease_by_ip(address).filter(|lease| lease.is_bound_at(now())),
            IpAddr::V6(_) => None,
        };
        let candidate =
            |mac| Candidate { mac, has_other_spec_ip: has_other_spec_ip(&state, mac, address), is_elsewhere: false };
        let neighbour = self.neighbours.look_up(address);
        let leased =
            |mac| Candidate { is_elsewhere: neighbour.is_none() && self.is_elsewhere(mac, address), ..candidate(mac) };
        Evidence {
            origin: if address.is_loopback() { Origin::Loopback } else { Origin::Network },
            neighbour,
            lease: lease.map(|lease| leased(lease.mac)),
            spec_ip_owner: state.host_by_ip(address).map(|host| host.spec.boot_mac_address),
            heard: state.last_seen_at(address).map(candidate),
            is_trusted_subnet: self.site().config_access.trusted_subnets.iter().any(|net| net.contains(&address)),
            ..Evidence::default()
        }
    }

    /// Returns whether a machine was last seen in another network than the address's, where the neighbour table or a
    /// lease still has it.
    fn is_elsewhere(&self, mac: Mac, address: IpAddr) -> bool {
        let state = self.store.load();
        let last = state.host_by_mac(mac).and_then(|host| host.status.address).map(|last| last.to_canonical());
        let Some(last) = last.filter(|last| !self.is_same_network(*last, address)) else { return false };
        let is_leased = match last {
            IpAddr::V4(last) => {
                state.lease_by_ip(last).is_some_and(|lease| lease.mac == mac && lease.is_bound_at(now()))
            }
            IpAddr::V6(_) => false,
        };
        match self.neighbours.look_up(last) {
            Some(neighbour) => neighbour == mac,
            None => is_leased,
        }
    }

    /// Returns whether two addresses are the same, or lie in one of the networks that this server knows.
    pub(super) fn is_same_network(&self, one: IpAddr, other: IpAddr) -> bool {
        match (one, other) {
            (one, other) if one == other => true,
            (IpAddr::V4(one), IpAddr::V4(other)) => {
                self.site().nets.iter().any(|net| net.contains(&one) && net.contains(&other))
            }
            _ => false,
        }
    }

    /// Gathers the evidence about the claimed machine, if it matters.
    fn claim_evidence(&self, evidence: &Evidence, address: IpAddr, mac: Mac) -> ClaimEvidence {
        if evidence.origin != Origin::Network || evidence.has_owner() {
            return ClaimEvidence::default();
        }
        let state = self.store.load();
        let has_other_spec_ip = has_other_spec_ip(&state, mac, address);
        let last = state.host_by_mac(mac).and_then(|host| host.status.address);
        let last = last.filter(|last| !has_other_spec_ip && last.to_canonical() != address);
        let is_present_elsewhere = last.is_some_and(|last| self.address_evidence(last).owner() == Ok(Some(mac)));
        ClaimEvidence { has_other_spec_ip, is_present_elsewhere }
    }

    /// Classifies the token of a request.
    fn token_evidence(&self, token: Option<&str>) -> TokenEvidence {
        let Some(token) = token else { return TokenEvidence::Absent };
        let Some(mac) = BootTokens::claimed(token) else { return TokenEvidence::Invalid(None) };
        let state = self.store.load();
        let issued = |host: &Arc<Host>| self.tokens.holds(token, host) && host.status.phase != Phase::Held;
        let Some(host) = state.host_by_mac(mac).filter(issued) else { return TokenEvidence::Invalid(Some(mac)) };
        let is_offered = host.status.install.as_ref().is_some_and(|install| install.first_offer_time.is_some());
        match is_offered && self.is_within_token_ttl(&host) {
            true => TokenEvidence::Valid(mac),
            false => TokenEvidence::Expired(mac),
        }
    }

    /// Returns the machine that a token was issued to for its present install, also if the token has expired.
    pub fn token_machine(&self, token: &str) -> Option<Mac> {
        let host = self.store.load().host_by_mac(BootTokens::claimed(token)?)?;
        self.tokens.holds(token, &host).then_some(host.spec.boot_mac_address)
    }

    /// Returns the machine at an address, as far as evidence names one.
    ///
    /// # Errors
    /// The evidence contradicts itself.
    pub fn owner_of(&self, address: IpAddr) -> Result<Option<Mac>, Reason> {
        judge(&self.gather(Some(address), None, None), None).map(ClientIdentity::verified)
    }

    /// Returns whether the evidence ties an address to the machine that the client claims to be.
    ///
    /// # Errors
    /// The evidence contradicts the claim.
    pub fn verify_address(&self, mac: Mac, address: Option<IpAddr>) -> Result<bool, Reason> {
        judge(&self.gather(address, Some(mac), None), Some(mac)).map(ClientIdentity::is_verified)
    }

    /// Judges a client by its claims alone; one whose claim is contradicted is not tied to the machine.
    pub fn caller(&self, facts: &Facts) -> IdentifiedClient {
        let evidence = self.gather(facts.address, Some(facts.mac), None);
        IdentifiedClient::new(facts, &evidence, judge(&evidence, Some(facts.mac)))
    }

    /// Admits a request for what belongs to one machine, and returns the machine.
    ///
    /// # Errors
    /// The proof that `require` demands is missing or wrong.
    pub fn admit(
        &self,
        address: Option<IpAddr>,
        token: Option<&str>,
        require: ConfigProof,
    ) -> Result<Mac, AdmissionRefusal> {
        admit(&self.gather(address, None, token), require)
    }

    /// Admits an installer, or an installed system, that requests what belongs to one machine.
    ///
    /// # Errors
    /// The proof that `require` demands is missing or wrong.
    pub fn authenticate(
        &self,
        address: Option<IpAddr>,
        token: Option<&str>,
        require: ConfigProof,
    ) -> Result<IdentifiedClient, AdmissionRefusal> {
        let evidence = self.gather(address, None, token);
        let mac = admit(&evidence, require)?;
        let claim = address.map(|address| self.claim_evidence(&evidence, address.to_canonical(), mac));
        let evidence = Evidence { claim: claim.unwrap_or_default(), ..evidence };
        let facts = Facts { mac, firmware: None, stage: Stage::Installer, address, uuid: None };
        Ok(IdentifiedClient::new(&facts, &evidence, judge(&evidence, Some(mac))))
    }

    /// Returns whether a client sees what belongs to the host alone in the host's view of an image: its config, and its
    /// own kernel arguments.
    ///
    /// # Errors
    /// The reason to show nothing: the token that the configuration demands is missing or wrong.
    pub(super) fn shows_config(
        &self,
        evidence: &Evidence,
        tied: bool,
        host: &Host,
        image: &Image,
    ) -> Result<bool, Reason> {
        match self.config_in_view(host, image) {
            Some(_) => may_see_config(evidence, host.spec.boot_mac_address, tied, self.site().config_access.require),
            None => Ok(tied
                || host.spec.kernel_arguments.is_empty()
                || is_proved_by_token(evidence, host.spec.boot_mac_address, self.site().config_access.require)),
        }
    }

    /// Checks whether a config of a host is given away now (`boot::check_config_window`).
    ///
    /// # Errors
    /// The time is over, or the install has ended.
    pub fn check_window(&self, host: &Host, config: &BootConfig) -> Result<(), Reason> {
        let (ttl, completion) = (self.site().config_access.token_ttl, self.site().install.completion);
        check_config_window(host, config.spec.confidential, now(), ttl, completion)
    }

    /// Returns whether a config is confidential and the install that needs it has ended.
    pub(super) fn is_over(&self, host: &Host, config: &BootConfig) -> bool {
        config.spec.confidential && install_end(host, self.site().install.completion).is_some()
    }

    /// Returns the config that a host's view of an image contains or points to.
    pub fn config_in_view(&self, host: &Host, image: &Image) -> Option<Arc<BootConfig>> {
        let name = host.spec.boot_config_ref.as_ref().filter(|_| image.spec.config_delivery != Delivery::None)?;
        self.store.load().boot_config(name).cloned()
    }

    /// Returns whether the host was served its last script within `config_access.token_ttl`.
    fn is_within_token_ttl(&self, host: &Host) -> bool {
        is_within_ttl(host, now(), self.site().config_access.token_ttl) == Some(true)
    }

    /// Returns whether a medium that contains the host's config may be read on after a pause of `idle`.
    pub fn may_resume_reading(&self, host: &Host, idle: Duration) -> bool {
        idle <= self.site().config_access.token_ttl || self.is_within_token_ttl(host)
    }
}

/// Returns whether the machine's host has another address of the same family as its `spec.ip`.
fn has_other_spec_ip(state: &Snapshot, mac: Mac, address: IpAddr) -> bool {
    let ip = state.host_by_mac(mac).and_then(|host| host.spec.ip);
    ip.is_some_and(|ip| ip != address && ip.is_ipv4() == address.is_ipv4())
}
