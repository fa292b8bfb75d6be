//! The gate: asks `boot::decide` on behalf of every protocol, and makes durable what a verdict
//! depends on before the protocol may say it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::boot::{Facts, Proof, Site, Stage, Tickets, Verdict, Why, decide, ticket};
use crate::event::{Counters, Event, Protocol};
use crate::fleet::lifecycle::Change as Life;
use crate::fleet::{BootConfig, Host, Image, Mac};
use crate::neighbours;
use crate::store::{Change, Error, Sighting, Store, now};

/// Is what every protocol asks, with what it needs to answer.
#[derive(Debug)]
pub struct Gate {
    pub site: Arc<Site>,
    pub store: Arc<Store>,
    pub counters: Arc<Counters>,
    pub booting: Booting,
    pub tickets: Tickets,
}

/// Remembers for a moment which machines' iPXE we have just answered.
#[derive(Debug, Default)]
pub struct Booting(Mutex<HashMap<Mac, Instant>>);

impl Booting {
    /// Is how long after its DHCP round a machine counts as booting.
    const MOMENT: Duration = Duration::from_secs(60);
    /// Bounds the machines that are remembered.
    const MACHINES: usize = 8192;

    /// Notes that a machine's iPXE was answered.
    pub fn note(&self, mac: Mac) {
        let now = Instant::now();
        let mut machines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if machines.len() >= Self::MACHINES {
            machines.retain(|_, at| now - *at < Self::MOMENT);
        }
        if machines.len() < Self::MACHINES {
            machines.insert(mac, now);
        }
    }

    /// Says whether a machine's iPXE was just answered; each answer counts once.
    pub fn take(&self, mac: Mac) -> bool {
        let mut machines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        machines.remove(&mac).is_some_and(|at| at.elapsed() < Self::MOMENT)
    }
}

/// Is a verdict with the objects that it is about.
#[derive(Debug, Clone)]
pub struct Ruling {
    pub verdict: Verdict,
    pub host: Option<Arc<Host>>,
    /// Is what the machine's script carries in its URLs, where it was given one that boots an image.
    pub ticket: Option<String>,
}

/// Says why nobody was given what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub why: Why,
    /// Is the machine that it is about, as far as that is known.
    pub mac: Option<Mac>,
}

impl Ruling {
    /// Is a ruling that gives a machine nothing.
    pub fn ignore(why: Why) -> Self {
        Self { verdict: Verdict::Ignore(why), host: None, ticket: None }
    }
}

impl Gate {
    /// Decides from the state as it is; a machine never seen before comes back as `Enrol`.
    pub fn look(&self, facts: &Facts) -> Ruling {
        let state = self.store.glance();
        let host = state.host_by_mac(facts.mac);
        let verdict = decide(facts, host.map(Arc::as_ref), &self.site);
        Ruling { verdict, host: host.cloned(), ticket: None }
    }

    /// Decides, remembering a machine never seen before first.
    pub async fn ask(&self, facts: &Facts) -> Ruling {
        let ruling = self.look(facts);
        let Verdict::Enrol(host) = ruling.verdict else { return ruling };
        let architecture = facts.firmware.map(|firmware| firmware.architecture);
        let treatment = self.site.unknown_hosts.treatment(facts.mac, architecture, facts.address).to_string();
        match self.store.commit(Change::Enrol { host, treatment: treatment.clone() }).await {
            Ok(_) => self.look(facts),
            Err(Error::Unavailable(_)) => Ruling::ignore(Why::StoreUnavailable),
            Err(error) => {
                tracing::warn!(mac = %facts.mac, rule = treatment, %error, "the rule for machines never seen before cannot be applied");
                Ruling::ignore(Why::RuleUnfit)
            }
        }
    }

    /// Decides what script a machine gets, and makes it durable that it got it.
    pub async fn script(&self, facts: &Facts) -> Ruling {
        let ruling = self.ask(facts).await;
        let life = match ruling.verdict {
            Verdict::SanBoot(_) => Life::Offer,
            Verdict::LocalDisk(Why::OffersUsedUp) => Life::GiveUp,
            Verdict::LocalDisk(why) => {
                self.store.note(Some(facts.mac), Event::LocalDisk { why: why.to_string() });
                return ruling;
            }
            Verdict::Ignore(why) => {
                self.refused(facts, Protocol::Http, why);
                return ruling;
            }
            Verdict::Enrol(_) | Verdict::Chainload(_) | Verdict::Configure(_) => return ruling,
        };
        match self.advance(facts, life).await {
            Ok(host) => {
                self.store.note(Some(facts.mac), Event::Script { verdict: told(&ruling.verdict) });
                let ticket =
                    matches!(ruling.verdict, Verdict::SanBoot(_)).then(|| self.tickets.issue(facts.mac, now()));
                Ruling { host: Some(host), ticket, ..ruling }
            }
            Err(_) => Ruling::ignore(Why::StoreUnavailable),
        }
    }

    /// Decides whether a machine may attach an image.
    pub fn login(&self, facts: &Facts, image: &crate::fleet::Name) -> Result<Arc<Image>, Why> {
        let facts = Facts { stage: Stage::IscsiLogin, ..*facts };
        match self.look(&facts).verdict {
            Verdict::SanBoot(assigned) if assigned == *image => {
                self.store.glance().image(image).cloned().ok_or(Why::OtherImage)
            }
            Verdict::SanBoot(_) => Err(Why::OtherImage),
            Verdict::Ignore(why) | Verdict::LocalDisk(why) => Err(why),
            Verdict::Enrol(_) | Verdict::Chainload(_) | Verdict::Configure(_) => Err(Why::NothingAssigned),
        }
    }

    /// Decides which config an installer gets.
    ///
    /// # Errors
    /// Why it gets none.
    pub fn config(&self, facts: &Facts) -> Result<(Arc<Host>, Arc<BootConfig>), Why> {
        let Ruling { verdict, host, .. } = self.look(&Facts { stage: Stage::Installer, ..*facts });
        let name = match verdict {
            Verdict::Configure(name) => name,
            Verdict::Ignore(why) | Verdict::LocalDisk(why) => return Err(why),
            Verdict::Enrol(_) | Verdict::Chainload(_) | Verdict::SanBoot(_) => return Err(Why::NoConfig),
        };
        let config = self.store.glance().boot_config(&name).cloned().ok_or(Why::NoConfig)?;
        Ok((host.ok_or(Why::NoSuchHost)?, config))
    }

    /// Decides which config an installer gets, and makes it durable that it asked.
    ///
    /// # Errors
    /// Why it gets none.
    pub async fn configure(&self, facts: &Facts) -> Result<(Arc<Host>, Arc<BootConfig>), Why> {
        let (_, config) = self.config(facts)?;
        let host = self.advance(facts, Life::FetchConfig).await.map_err(|_| Why::StoreUnavailable)?;
        let name = &config.metadata.name;
        let address = facts.address.map(|address| address.to_string()).unwrap_or_default();
        self.store.note(Some(facts.mac), Event::ConfigFetched { config: name.to_string(), address });
        Ok((host, config))
    }

    /// Makes it durable that a machine said it is done.
    ///
    /// # Errors
    /// The state could not be written.
    pub async fn complete(&self, facts: &Facts) -> Result<Arc<Host>, Error> {
        self.advance(facts, Life::Complete).await
    }

    /// Finds whose machine asks from an address: by the neighbour table, the address that its spec names,
    /// or the one that it was last seen at (which is all there is to know behind a router).
    ///
    /// # Errors
    /// The neighbour table knows the address as another machine's.
    pub fn whose(&self, address: IpAddr) -> Result<Option<Mac>, Why> {
        let neighbour = neighbours::look_up(address);
        let state = self.store.glance();
        let named = state.host_by_ip(address).map(|host| host.spec.boot_mac_address);
        match (named, neighbour) {
            (Some(named), Some(neighbour)) if named != neighbour => Err(Why::AddressContradicted),
            (named, neighbour) => Ok(neighbour.or(named).or_else(|| state.last_seen_at(address))),
        }
    }

    /// Finds which machine asks for what is its alone, by what the site takes for proof.
    ///
    /// # Errors
    /// Why nobody is believed to be asking, and the machine that it is about where that is known.
    pub fn admit(&self, address: Option<IpAddr>, ticket: Option<&str>, proof: Proof) -> Result<Mac, Refusal> {
        let shown = ticket.map(|ticket| self.holder(ticket)).transpose()?;
        let there = match address.map(|address| self.whose(address)).transpose() {
            Ok(found) => found.flatten(),
            Err(why) => return Err(Refusal { why, mac: shown }),
        };
        match (proof, shown, there) {
            (_, Some(shown), Some(there)) if shown != there && proof != Proof::Ticket => {
                Err(Refusal { why: Why::AddressContradicted, mac: Some(shown) })
            }
            (Proof::Ticket | Proof::Both, None, mac) => Err(Refusal { why: Why::NoTicket, mac }),
            (Proof::Both, Some(shown), None) => Err(Refusal { why: Why::NoSuchHost, mac: Some(shown) }),
            (_, Some(mac), _) | (Proof::Address, None, Some(mac)) => Ok(mac),
            (Proof::Address, None, None) => Err(Refusal { why: Why::NoSuchHost, mac: None }),
        }
    }

    fn holder(&self, ticket: &str) -> Result<Mac, Refusal> {
        let (mac, issued) = self.tickets.read(ticket).ok_or(Refusal { why: Why::BadTicket, mac: None })?;
        let state = self.store.glance();
        let good = |host: &Arc<Host>| ticket::is_good(host, issued, now(), self.site.trust.window);
        match state.host_by_mac(mac).is_some_and(good) {
            true => Ok(mac),
            false => Err(Refusal { why: Why::BadTicket, mac: Some(mac) }),
        }
    }

    /// Says whether an address is known to be another machine's than the one that is claimed.
    pub fn contradicts(&self, mac: Mac, address: Option<IpAddr>) -> bool {
        address.and_then(neighbours::look_up).is_some_and(|neighbour| neighbour != mac)
    }

    /// Counts a refusal, and puts it in the machine's timeline.
    pub fn refused(&self, facts: &Facts, protocol: Protocol, why: Why) {
        self.counters.refuse(protocol, why, facts.address);
        if self.store.glance().host_by_mac(facts.mac).is_some() {
            let (protocol, why) = (protocol.as_str().to_owned(), why.to_string());
            self.store.note(Some(facts.mac), Event::Refused { protocol, why });
        }
    }

    async fn advance(&self, facts: &Facts, change: Life) -> Result<Arc<Host>, Error> {
        let firmware = facts.firmware.map(|firmware| firmware.architecture);
        let sighting = Sighting { firmware, address: facts.address };
        match self.store.commit(Change::Advance { mac: facts.mac, change, sighting }).await? {
            crate::fleet::Object::Host(host) => Ok(host),
            crate::fleet::Object::Image(_) | crate::fleet::Object::BootConfig(_) => Err(Error::NoSuchMac(facts.mac)),
        }
    }
}

fn told(verdict: &Verdict) -> String {
    match verdict {
        Verdict::SanBoot(image) => format!("boot {image}"),
        Verdict::LocalDisk(why) | Verdict::Ignore(why) => format!("local disk: {why}"),
        Verdict::Chainload(program) => format!("load {program}"),
        Verdict::Enrol(_) | Verdict::Configure(_) => "nothing".to_owned(),
    }
}
