//! The owner of an address, by evidence other than the client's own claim. Pure.
//!
//! A client claims a MAC address, and a claim is no proof (boot-facts 26). The gate gathers the evidence of a request
//! once; these functions judge it.

use serde::{Deserialize, Serialize};

use crate::fleet::Mac;

use super::{ConfigProof, Reason};

pub use self::exchange::{
    AddressChange, ExchangeEvidence, ExchangePath, ExchangeRefusal, PresentAddress, judge_exchange,
};

mod exchange;

/// The evidence about the client of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The origin of the request.
    pub origin: Origin,
    /// The machine that the kernel's neighbour table has at the address.
    pub neighbour: Option<Mac>,
    /// The machine that holds a lease of our DHCP server for the address.
    pub lease: Option<Candidate>,
    /// The machine whose host has the address as its `spec.ip`.
    pub spec_ip_owner: Option<Mac>,
    /// The machine that was last heard to take the address in a DHCP exchange.
    pub heard: Option<Candidate>,
    /// Whether the address lies in one of `config_access.trusted_subnets`.
    pub is_trusted_subnet: bool,
    /// The evidence about the machine that the client claims to be.
    pub claim: ClaimEvidence,
    /// The token that the request carries.
    pub token: TokenEvidence,
    /// Whether the machine at the address may be another interface of the machine that the token names: no host has its
    /// MAC address, or a host that claims the same UUID.
    pub is_other_interface: bool,
}

/// The kind of evidence that ties an address to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressEvidence {
    /// The kernel's neighbour table.
    Neighbour,
    /// A lease of our DHCP server.
    Lease,
    /// The host's `spec.ip`.
    SpecIp,
    /// A DHCP exchange that was heard.
    DhcpExchange,
    /// A claim from one of `config_access.trusted_subnets`.
    TrustedSubnet,
}

impl AddressEvidence {
    /// Returns the code of the evidence, in snake case.
    pub fn code(self) -> &'static str {
        match self {
            Self::Neighbour => "neighbour",
            Self::Lease => "lease",
            Self::SpecIp => "spec_ip",
            Self::DhcpExchange => "dhcp_exchange",
            Self::TrustedSubnet => "trusted_subnet",
        }
    }
}

/// The origin of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// No address is known.
    #[default]
    Unknown,
    /// A program on this computer, which is not the machine that it names.
    Loopback,
    /// An address on a network.
    Network,
}

/// A machine that a record names for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The machine.
    pub mac: Mac,
    /// Whether the machine's host has another address of the same family as its `spec.ip`.
    pub has_other_spec_ip: bool,
    /// Whether the machine's host was last seen in another network, where the neighbour table or a lease has it.
    pub is_elsewhere: bool,
}

/// The evidence about the machine that a client claims to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClaimEvidence {
    /// Whether the machine's host has another address of the same family as its `spec.ip`.
    pub has_other_spec_ip: bool,
    /// Whether the neighbour table, a lease or a `spec.ip` has the machine at the address that it was last seen at.
    pub is_present_elsewhere: bool,
}

/// The token of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TokenEvidence {
    /// No token.
    #[default]
    Absent,
    /// A token that this server did not issue, or that belongs to an earlier install; with the MAC address that it
    /// claims, if it has the form of a token.
    Invalid(Option<Mac>),
    /// The token of the machine's present install, older than `config_access.token_ttl`.
    Expired(Mac),
    /// The token of the machine's present install.
    Valid(Mac),
}

/// The machine that a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientIdentity {
    /// No machine is known at the address, and none is claimed.
    Unknown,
    /// The machine that the client claims to be; nothing confirms or contradicts it.
    Claimed(Mac),
    /// The machine that the evidence ties to the address.
    Verified(Mac),
}

impl ClientIdentity {
    /// Returns whether the evidence ties the address to the machine.
    pub fn is_verified(self) -> bool {
        matches!(self, Self::Verified(_))
    }

    /// Returns the machine that the evidence ties to the address.
    pub fn verified(self) -> Option<Mac> {
        match self {
            Self::Verified(mac) => Some(mac),
            Self::Unknown | Self::Claimed(_) => None,
        }
    }
}

/// A refused request, with the machine that it concerns, if that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionRefusal {
    /// The reason for the refusal.
    pub reason: Reason,
    /// The machine that the request concerns.
    pub mac: Option<Mac>,
}

impl Evidence {
    /// Returns whether the neighbour table, a lease or a `spec.ip` names a machine for the address. Evidence about the
    /// claimed machine matters only if none does.
    pub fn has_owner(&self) -> bool {
        self.neighbour.is_some() || self.lease.is_some() || self.spec_ip_owner.is_some()
    }

    /// Returns the machine that the neighbour table, a lease or a `spec.ip` names for the address.
    ///
    /// # Errors
    /// The records name different machines, or the machine's `spec.ip` is another address.
    pub fn owner(&self) -> Result<Option<Mac>, Reason> {
        let mut named = [self.neighbour, self.lease.map(|lease| lease.mac), self.spec_ip_owner].into_iter().flatten();
        let Some(mac) = named.next() else { return Ok(None) };
        if named.any(|other| other != mac) {
            return Err(Reason::AddressOfOtherMachine);
        }
        // On our own segment a machine may boot with another address than its installed system will have.
        let has_other_spec_ip = self.lease.is_some_and(|lease| lease.has_other_spec_ip);
        if self.neighbour.is_none() && has_other_spec_ip {
            return Err(Reason::NotSpecIp);
        }
        // A lease that somebody took in the machine's name is contradicted by the machine itself.
        let is_elsewhere = self.lease.is_some_and(|lease| lease.is_elsewhere);
        match self.neighbour.is_none() && self.spec_ip_owner.is_none() && is_elsewhere {
            true => Err(Reason::SeenAtOtherAddress),
            false => Ok(Some(mac)),
        }
    }

    /// Returns the strongest evidence that ties the address to a machine, for one that `judge` verified.
    pub fn proof(&self, mac: Mac) -> Option<AddressEvidence> {
        let names = |candidate: Option<Candidate>| candidate.is_some_and(|candidate| candidate.mac == mac);
        let kinds = [
            (self.neighbour == Some(mac), AddressEvidence::Neighbour),
            (names(self.lease), AddressEvidence::Lease),
            (self.spec_ip_owner == Some(mac), AddressEvidence::SpecIp),
            (names(self.heard), AddressEvidence::DhcpExchange),
            (self.is_trusted_subnet, AddressEvidence::TrustedSubnet),
        ];
        kinds.into_iter().find(|(holds, _)| *holds).map(|(_, kind)| kind)
    }
}

/// Judges which machine a request comes from: the `claimed` one, or the one that the evidence names.
///
/// # Errors
/// The evidence contradicts itself or the claim.
pub fn judge(evidence: &Evidence, claimed: Option<Mac>) -> Result<ClientIdentity, Reason> {
    match claimed {
        Some(claimed) => judge_claim(evidence, claimed),
        None => judge_address(evidence),
    }
}

fn judge_address(evidence: &Evidence) -> Result<ClientIdentity, Reason> {
    match (evidence.owner()?, evidence.heard) {
        (Some(mac), _) => Ok(ClientIdentity::Verified(mac)),
        (None, Some(heard)) if heard.has_other_spec_ip => Err(Reason::NotSpecIp),
        (None, Some(heard)) => Ok(ClientIdentity::Verified(heard.mac)),
        (None, None) => Ok(ClientIdentity::Unknown),
    }
}

fn judge_claim(evidence: &Evidence, claimed: Mac) -> Result<ClientIdentity, Reason> {
    match evidence.origin {
        Origin::Unknown | Origin::Loopback => return Ok(ClientIdentity::Claimed(claimed)),
        Origin::Network => {}
    }
    match evidence.owner()? {
        Some(owner) if owner == claimed => return Ok(ClientIdentity::Verified(claimed)),
        Some(_) => return Err(Reason::AddressOfOtherMachine),
        None => {}
    }
    if evidence.claim.has_other_spec_ip {
        return Err(Reason::NotSpecIp);
    }
    if evidence.claim.is_present_elsewhere {
        return Err(Reason::SeenAtOtherAddress);
    }
    match evidence.heard {
        // Machines behind a router change their addresses unseen: the last claim counts.
        _ if evidence.is_trusted_subnet => Ok(ClientIdentity::Verified(claimed)),
        Some(heard) if heard.mac != claimed => Err(Reason::AddressOfOtherMachine),
        Some(_) => Ok(ClientIdentity::Verified(claimed)),
        None => Ok(ClientIdentity::Claimed(claimed)),
    }
}

/// Admits a request for what belongs to one machine, such as its config, and returns the machine.
///
/// # Errors
/// The proof that `require` demands is missing or wrong.
pub fn admit(evidence: &Evidence, require: ConfigProof) -> Result<Mac, AdmissionRefusal> {
    let shown = match evidence.token {
        TokenEvidence::Absent => None,
        TokenEvidence::Invalid(mac) => return Err(AdmissionRefusal { reason: Reason::TokenInvalid, mac }),
        TokenEvidence::Expired(mac) => return Err(AdmissionRefusal { reason: Reason::TokenInvalid, mac: Some(mac) }),
        TokenEvidence::Valid(mac) => Some(mac),
    };
    let owner = match judge(evidence, None) {
        Ok(identity) => identity.verified(),
        // A machine may send from another interface than it booted from: where the token is proof, it is enough.
        Err(_) if require == ConfigProof::Token && shown.is_some() => None,
        Err(reason) => return Err(AdmissionRefusal { reason, mac: shown }),
    };
    match (require, shown, owner) {
        // The token says who asks, and the address says nothing against it.
        (ConfigProof::Address, Some(shown), Some(_)) if evidence.is_other_interface => Ok(shown),
        (ConfigProof::Address | ConfigProof::Both, Some(shown), Some(owner)) if shown != owner => {
            Err(AdmissionRefusal { reason: Reason::AddressOfOtherMachine, mac: Some(shown) })
        }
        (ConfigProof::Token | ConfigProof::Both, None, mac) => {
            Err(AdmissionRefusal { reason: Reason::TokenMissing, mac })
        }
        (ConfigProof::Both, Some(shown), None) => {
            Err(AdmissionRefusal { reason: Reason::AddressUnverified, mac: Some(shown) })
        }
        (_, Some(mac), _) | (ConfigProof::Address, None, Some(mac)) => Ok(mac),
        (ConfigProof::Address, None, None) => Err(AdmissionRefusal { reason: Reason::UnknownHost, mac: None }),
    }
}

/// Returns whether a client that boots as `mac` sees the config of that machine in its view of an image. `tied` is
/// whether its address is tied to the machine.
///
/// # Errors
/// The token that `require` demands is missing or wrong.
pub fn may_see_config(evidence: &Evidence, mac: Mac, tied: bool, require: ConfigProof) -> Result<bool, Reason> {
    if require == ConfigProof::Address {
        return Ok(tied);
    }
    match admit(evidence, require) {
        Ok(admitted) if admitted == mac => Ok(true),
        Ok(_) => Err(Reason::TokenInvalid),
        // A machine that runs from its image logs in again after hours: its own address keeps its token valid.
        Err(AdmissionRefusal { reason: Reason::TokenInvalid, .. })
            if tied && evidence.token == TokenEvidence::Expired(mac) =>
        {
            Ok(true)
        }
        Err(refusal) => Err(refusal.reason),
    }
}

/// Returns whether the token alone proves that the client is the machine, whatever its address is.
pub fn is_proved_by_token(evidence: &Evidence, mac: Mac, require: ConfigProof) -> bool {
    require == ConfigProof::Token && evidence.token == TokenEvidence::Valid(mac)
}

#[cfg(test)]
mod tests;
