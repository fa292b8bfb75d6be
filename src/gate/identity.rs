//! Whose an address is, as far as anything but its own word says: who asks claims a MAC address, and a claim is
//! no proof (boot-facts 26).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::boot::{ConfigProof, Reason};
use crate::fleet::{BootConfig, Delivery, Host, Image, Mac, Phase};
use crate::gate::tokens::BootTokens;
use crate::store::now;

use crate::gate::{Gate, Refusal};

impl Gate {
    /// Finds whose machine asks from an address: by the neighbour table, by our own lease, by the address that a
    /// spec names, and behind a router by the DHCP exchange that was seen of it.
    ///
    /// # Errors
    /// Two of them name different machines, or the machine's spec names another address.
    pub fn owner_of(&self, address: IpAddr) -> Result<Option<Mac>, Reason> {
        let address = address.to_canonical();
        match self.lookup_owner(address)? {
            Some(mac) => Ok(Some(mac)),
            None => match self.store.load().last_seen_at(address) {
                Some(mac) if self.is_elsewhere(mac, address) => Err(Reason::NotSpecIp),
                seen => Ok(seen),
            },
        }
    }

    /// Says whether anything ties an address to the machine that asks from it by its own word.
    ///
    /// # Errors
    /// The address is known to be another machine's, or the machine's to be another.
    pub fn verify_address(&self, mac: Mac, address: Option<IpAddr>) -> Result<bool, Reason> {
        let address = address.map(|address| address.to_canonical());
        // Who asks from this very machine is not the machine that it names.
        let Some(address) = address.filter(|address| !address.is_loopback()) else { return Ok(false) };
        match self.lookup_owner(address)? {
            Some(known) if known == mac => return Ok(true),
            Some(_) => return Err(Reason::AddressOfOtherMachine),
            None if self.is_elsewhere(mac, address) => return Err(Reason::NotSpecIp),
            None if self.is_there_now(mac) => return Err(Reason::SeenAtOtherAddress),
            // Machines there change their addresses without our seeing it: the last word counts.
            None if self.is_routed(address) => return Ok(true),
            None => {}
        }
        match self.store.load().last_seen_at(address) {
            Some(seen) if seen != mac => Err(Reason::AddressOfOtherMachine),
            seen => Ok(seen.is_some()),
        }
    }

    /// Finds what names the machine at an address without having it from the machine.
    fn lookup_owner(&self, address: IpAddr) -> Result<Option<Mac>, Reason> {
        let neighbour = self.neighbours.look_up(address);
        let state = self.store.load();
        let leased = match address {
            IpAddr::V4(address) => state.lease_by_ip(address).filter(|lease| lease.is_bound_at(now())),
            IpAddr::V6(_) => None,
        };
        let named = state.host_by_ip(address).map(|host| host.spec.boot_mac_address);
        let mut told = [neighbour, leased.map(|lease| lease.mac), named].into_iter().flatten();
        let Some(mac) = told.next() else { return Ok(None) };
        match told.all(|other| other == mac) {
            false => Err(Reason::AddressOfOtherMachine),
            // On our own wire a machine may have another address than its installed system will.
            true if neighbour.is_none() && self.is_elsewhere(mac, address) => Err(Reason::NotSpecIp),
            true => Ok(Some(mac)),
        }
    }

    /// Says whether a machine's spec names another address of the same family.
    fn is_elsewhere(&self, mac: Mac, address: IpAddr) -> bool {
        let ip = self.store.load().host_by_mac(mac).and_then(|host| host.spec.ip);
        ip.is_some_and(|ip| ip != address && ip.is_ipv4() == address.is_ipv4())
    }

    /// Says whether a machine is known to be at the address that it was last seen at: it is at no other then that
    /// nobody knows.
    fn is_there_now(&self, mac: Mac) -> bool {
        let address = self.store.load().host_by_mac(mac).and_then(|host| host.status.address);
        address.is_some_and(|address| self.lookup_owner(address) == Ok(Some(mac)))
    }

    fn is_routed(&self, address: IpAddr) -> bool {
        self.site.config_access.trusted_subnets.iter().any(|net| net.contains(&address))
    }

    /// Finds which machine asks for what is its alone, by what the site takes for proof.
    ///
    /// # Errors
    /// Reason nobody is believed to be asking, and the machine that it is about where that is known.
    pub fn admit(&self, address: Option<IpAddr>, token: Option<&str>, proof: ConfigProof) -> Result<Mac, Refusal> {
        let shown = token.map(|token| self.token_owner(token)).transpose()?;
        let there = match address.map(|address| self.owner_of(address)).transpose() {
            Ok(found) => found.flatten(),
            // A machine may speak from another card than it booted from: where its token is proof, it is enough.
            Err(_) if proof == ConfigProof::Token && shown.is_some() => None,
            Err(why) => return Err(Refusal { why, mac: shown }),
        };
        match (proof, shown, there) {
            (ConfigProof::Address | ConfigProof::Both, Some(shown), Some(there)) if shown != there => {
                Err(Refusal { why: Reason::AddressOfOtherMachine, mac: Some(shown) })
            }
            (ConfigProof::Token | ConfigProof::Both, None, mac) => Err(Refusal { why: Reason::TokenMissing, mac }),
            (ConfigProof::Both, Some(shown), None) => Err(Refusal { why: Reason::AddressUnverified, mac: Some(shown) }),
            (_, Some(mac), _) | (ConfigProof::Address, None, Some(mac)) => Ok(mac),
            (ConfigProof::Address, None, None) => Err(Refusal { why: Reason::UnknownHost, mac: None }),
        }
    }

    /// Says whether who asks for a host's view of an image, which holds the host's config or where that is, is
    /// shown it.
    ///
    /// # Errors
    /// Reason it is shown nothing: the site asks for the token of its script.
    pub fn may_see_config(&self, asks: Asks<'_>, host: &Host, image: &Image) -> Result<bool, Reason> {
        let Asks { address, tied, token } = asks;
        if self.told_of(host, image).is_none() {
            return Ok(true);
        }
        let proof = match self.site.config_access.require {
            ConfigProof::Address => return Ok(tied),
            proof @ (ConfigProof::Token | ConfigProof::Both) => proof,
        };
        match self.admit(address, token, proof) {
            Ok(mac) if mac == host.spec.boot_mac_address => Ok(true),
            Ok(_) => Err(Reason::TokenInvalid),
            // A machine that runs off its image logs in again after hours: its own address keeps its token good.
            Err(refusal) if refusal.why == Reason::TokenInvalid && tied && self.issued(token, host) => Ok(true),
            Err(refusal) => Err(refusal.why),
        }
    }

    pub fn is_proved_anywhere(&self, mac: Mac, token: Option<&str>) -> bool {
        let holds = |token| self.token_owner(token).is_ok_and(|holder| holder == mac);
        self.site.config_access.require == ConfigProof::Token && token.is_some_and(holds)
    }

    /// Finds the config that a host is told of by its view of an image.
    pub fn told_of(&self, host: &Host, image: &Image) -> Option<Arc<BootConfig>> {
        let name = host.spec.boot_config_ref.as_ref().filter(|_| image.spec.config_delivery != Delivery::None)?;
        self.store.load().boot_config(name).cloned()
    }

    /// Says whether a token is that of a host's present install, however old.
    fn issued(&self, token: Option<&str>, host: &Host) -> bool {
        token.is_some_and(|token| self.tokens.holds(token, host)) && host.status.phase != Phase::Held
    }

    /// Says whether a host was given its script not too long ago.
    fn is_in_window(&self, host: &Host) -> bool {
        let age = host.status.last_boot_time.map(|given| now().duration_since(given));
        age.is_some_and(|age| age.unsigned_abs() <= self.site.config_access.token_ttl)
    }

    /// Says whether a medium that was read so long ago may be read on, though it holds the host's config.
    pub fn is_in_time(&self, host: &Host, idle: Duration) -> bool {
        idle <= self.site.config_access.token_ttl || self.is_in_window(host)
    }

    /// Finds whose a token is: that of a host's present install, given with a script not too long ago.
    fn token_owner(&self, token: &str) -> Result<Mac, Refusal> {
        let mac = BootTokens::claimed(token).ok_or(Refusal { why: Reason::TokenInvalid, mac: None })?;
        let state = self.store.load();
        let offered =
            |host: &Host| host.status.install.as_ref().is_some_and(|install| install.first_offer_time.is_some());
        let good = |host: &Arc<Host>| offered(host) && self.is_in_window(host) && self.issued(Some(token), host);
        match state.host_by_mac(mac).is_some_and(good) {
            true => Ok(mac),
            false => Err(Refusal { why: Reason::TokenInvalid, mac: Some(mac) }),
        }
    }
}

/// Is what is known of who asks in a machine's name.
#[derive(Debug, Clone, Copy)]
pub struct Asks<'a> {
    pub address: Option<IpAddr>,
    /// Says whether anything ties the address to the machine.
    pub tied: bool,
    /// Is the token that is shown.
    pub token: Option<&'a str>,
}
