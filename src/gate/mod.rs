//! The gate: asks `boot::decide` on behalf of every protocol, and makes durable what a verdict
//! depends on before the protocol may say it.

pub mod config_release;
pub mod identity;
pub mod media;
pub mod neighbours;
pub mod tokens;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::boot::{Context, Facts, Reason, ScriptFormat, Site, Stage, Verdict, bootstrap_script, decide, render};
use crate::event::{Counters, Event, Protocol, ScriptAction};
use crate::fleet::lifecycle::Transition;
use crate::fleet::{BootConfig, BootTarget, Format, Host, Image, Mac, Name, Object};
use crate::gate::neighbours::Neighbours;
use crate::gate::tokens::BootTokens;
use crate::images::library::ImageLibrary;
use crate::iso;
use crate::store::{Change, Expect, Observation, Store, StoreError};

pub use crate::gate::config_release::Releases;
use crate::gate::identity::Asks;
pub use crate::gate::media::{Attached, ConfigVisibility, MediaError, MediaLease};

/// Is what every protocol asks, with what it needs to answer.
#[derive(Debug)]
pub struct Gate {
    pub site: Arc<Site>,
    pub store: Arc<Store>,
    pub counters: Arc<Counters>,
    pub booting: RecentIpxeClients,
    pub neighbours: Neighbours,
    pub news: EventThrottle,
    pub releases: Releases,
    pub media: ImageLibrary,
    pub tokens: BootTokens,
}

/// Remembers for a moment which machines' iPXE we have just answered.
#[derive(Debug, Default)]
pub struct RecentIpxeClients(Mutex<HashMap<Mac, Instant>>);

impl RecentIpxeClients {
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

/// Remembers what machines' timelines were just told: who asks again and again is in them, and in the log, once a
/// moment.
#[derive(Debug, Default)]
pub struct EventThrottle(Mutex<HashMap<Mac, Vec<(Instant, Event)>>>);

impl EventThrottle {
    /// Is how long the same is no news.
    const MOMENT: Duration = Duration::from_secs(5);
    /// Bounds the machines that are remembered; of others, everything is news.
    const MACHINES: usize = 8192;
    /// Bounds what a machine's timeline is told in that time: who asks for many things that are not there says little
    /// with the next.
    const AT_ONCE: usize = 8;

    fn is_news(&self, mac: Mac, event: &Event) -> bool {
        let is_fresh = |(at, _): &(Instant, Event)| at.elapsed() < Self::MOMENT;
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= Self::MACHINES {
            told.retain(|_, told| told.iter().any(is_fresh));
        }
        if told.len() >= Self::MACHINES && !told.contains_key(&mac) {
            return true;
        }
        let told = told.entry(mac).or_default();
        told.retain(is_fresh);
        if told.len() == Self::AT_ONCE || told.iter().any(|(_, known)| known == event) {
            return false;
        }
        told.push((Instant::now(), event.clone()));
        true
    }
}

/// Is a verdict with the objects that it is about.
#[derive(Debug, Clone)]
pub struct Decision {
    pub verdict: Verdict,
    pub host: Option<Arc<Host>>,
    /// Is where below our URLs the host's view of its image is read, the same bytes to the end; where it is
    /// booted over HTTP.
    pub medium: Option<String>,
    /// Says whether anything but its own word ties who asks to the machine: only then is it told what is the
    /// machine's alone.
    pub tied: bool,
}

/// Says why nobody was given what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub why: Reason,
    /// Is the machine that it is about, as far as that is known.
    pub mac: Option<Mac>,
}

impl Decision {
    /// Is a ruling for who may be anybody.
    pub fn of(verdict: Verdict, host: Option<Arc<Host>>) -> Self {
        Self { verdict, host, medium: None, tied: false }
    }

    /// Is a ruling that gives a machine nothing.
    pub fn ignore(why: Reason) -> Self {
        Self::of(Verdict::Ignore(why), None)
    }
}

impl Gate {
    /// Decides from the state as it is; a machine never seen before comes back as `Enrol`.
    pub fn decide_now(&self, facts: &Facts) -> Decision {
        let state = self.store.load();
        let host = state.host_by_mac(facts.mac);
        let verdict =
            decide(facts, host.map(Arc::as_ref), &self.site).wait_if_broken(|name| state.image(name).map(Arc::as_ref));
        Decision::of(verdict, host.cloned())
    }

    /// Decides, remembering a machine never seen before first.
    pub async fn decide_and_enrol(&self, facts: &Facts) -> Decision {
        let ruling = self.decide_now(facts);
        let Verdict::Enrol(host) = ruling.verdict else { return ruling };
        let architecture = facts.firmware.map(|firmware| firmware.architecture);
        let action = self.site.unknown_hosts.action(facts.mac, architecture, facts.address).clone();
        match self.store.commit(Change::Enrol { host, action: action.clone() }).await {
            Ok(_) => self.decide_now(facts),
            Err(StoreError::Unavailable(_)) => Decision::ignore(Reason::StoreUnavailable),
            Err(error) => {
                tracing::warn!(mac = %facts.mac, %action, %error, "cannot apply the rule for unknown machines");
                Decision::ignore(Reason::RuleNotApplicable)
            }
        }
    }

    /// Decides what script a machine gets that reached us at an address of ours, and makes it durable that it got it.
    pub async fn script(self: &Arc<Self>, facts: &Facts, by: Protocol, at: Option<IpAddr>) -> Decision {
        let ruling = match self.verify_address(facts.mac, facts.address) {
            Ok(tied) => self.provable(Decision { tied, ..self.decide_and_enrol(facts).await }),
            // The script of a machine is not given, nor its install begun, to who is known to be another.
            Err(why) => Decision::ignore(why),
        };
        let life = match &ruling.verdict {
            Verdict::SanBoot(_) => Transition::Offer,
            // Nothing is offered: an install is not used up by waiting.
            Verdict::Wait(image) => {
                self.tell_wait(facts, by, image);
                return ruling;
            }
            Verdict::LocalDisk(Reason::MaxBootsReached) => Transition::GiveUp,
            Verdict::LocalDisk(why) => {
                self.tell(facts.mac, Event::LocalDisk { reason: *why });
                return ruling;
            }
            Verdict::Ignore(why) => {
                self.refused(facts, by, *why);
                return ruling;
            }
            Verdict::Menu => {
                self.tell(facts.mac, Event::Script { action: ScriptAction::Menu, image: None, reason: None });
                return ruling;
            }
            Verdict::Enrol(_) | Verdict::Chainload(_) | Verdict::Configure(_) => return ruling,
        };
        let event = script_event(&ruling.verdict);
        match self.advance(facts, life, Some(event)).await {
            Ok(host) => {
                self.warn(&host, &host.status.warnings);
                if life == Transition::Offer && !ruling.tied && host.spec.boot_config_ref.is_some() {
                    self.warn(&host, &[format!("its script tells of no config: {}", Reason::AddressUnverified)]);
                }
                self.with_medium(Decision { host: Some(host), ..ruling }, at).await
            }
            Err(reason) => {
                self.refused(facts, by, reason);
                Decision::ignore(reason)
            }
        }
    }

    /// Decides what script a machine would get now, and notes nothing.
    pub fn preview(&self, facts: &Facts) -> Decision {
        match self.verify_address(facts.mac, facts.address) {
            Ok(tied) => self.provable(Decision { tied, ..self.decide_now(facts) }),
            Err(why) => Decision::ignore(why),
        }
    }

    /// Decides whether a machine may load a boot program under its own path (`/boot/MAC/PROGRAM`), over any protocol.
    /// A refusal is counted, and recorded in the machine's timeline.
    ///
    /// # Errors
    /// The reason for the refusal: the host is held, or the rules ignore the unknown machine.
    pub fn authorize_program(&self, facts: &Facts, protocol: Protocol) -> Result<(), Reason> {
        match self.decide_now(&Facts { stage: Stage::Ipxe, ..*facts }).verdict {
            Verdict::Ignore(reason) => {
                self.refused(facts, protocol, reason);
                Err(reason)
            }
            Verdict::Enrol(_)
            | Verdict::Chainload(_)
            | Verdict::SanBoot(_)
            | Verdict::Wait(_)
            | Verdict::Menu
            | Verdict::Configure(_)
            | Verdict::LocalDisk(_) => Ok(()),
        }
    }

    /// Gives a ruling that can be gone through with by who asks.
    fn provable(&self, ruling: Decision) -> Decision {
        let Decision { verdict, host, tied, .. } = &ruling;
        match verdict.missing_proof(host.as_deref(), *tied, self.site.config_access.require) {
            Some(why) => Decision::ignore(why),
            None => ruling,
        }
    }

    /// Assigns what somebody picked from the menu before a machine.
    ///
    /// # Errors
    /// The machine is not one that is shown a menu, or the image cannot be its own.
    pub async fn choose(&self, mac: Mac, image: &Name) -> Result<(), Reason> {
        let host = self.store.load().host_by_mac(mac).cloned();
        let mut host = host.filter(|host| host.spec.image == BootTarget::Menu).ok_or(Reason::NotAssigned)?;
        let expect = Expect::Present(Some(host.metadata.resource_version));
        Arc::make_mut(&mut host).spec.image = BootTarget::Image(image.clone());
        match self.store.commit(Change::Put { object: Object::Host(host), expect }).await {
            Ok(_) => Ok(()),
            // The image cannot be the host's, or somebody assigned another one meanwhile.
            Err(StoreError::Invalid(_) | StoreError::Conflict { .. }) => Err(Reason::OtherImageAssigned),
            Err(error) => Err(refusal_reason(&error, mac)),
        }
    }

    /// Writes a verdict in a boot loader's words, for a machine that reached us at an address of ours.
    pub fn render(&self, facts: &Facts, ruling: &Decision, form: ScriptFormat, at: Option<IpAddr>) -> String {
        let site = self.site_at(at);
        let state = self.store.load();
        let host = ruling.host.as_deref();
        let image = match &ruling.verdict {
            Verdict::SanBoot(name) => state.image(name).map(Arc::as_ref),
            _ => None,
        };
        let choices = match &ruling.verdict {
            Verdict::Menu => {
                state.images().map(|image| (image.metadata.name.to_string(), image.spec.description.clone())).collect()
            }
            _ => Vec::new(),
        };
        // A script may be asked for in another's name: what is the machine's alone goes to its own address alone.
        let own = host.filter(|_| ruling.tied);
        let config = own.and_then(|host| state.boot_config(host.spec.boot_config_ref.as_ref()?)).map(Arc::as_ref);
        let url = image.map(|_| config_url(&site, self.token(host), config)).unwrap_or_default();
        let mut arguments = image.map(|image| iso::kernel_arguments(image, host, config, &url)).unwrap_or_default();
        if let Some(image) = image {
            site.fill(&mut arguments, &image.metadata.name, facts.mac);
        }
        let config_url = if config.is_some() && image.is_some() { url.as_str() } else { "" };
        let medium_url = ruling.medium.as_ref().map(|path| format!("{}/{path}", site.url())).unwrap_or_default();
        let chap = image.zip(own).and_then(|(image, own)| self.chap_for(image, own));
        let shown = image.zip(own).map(|(image, own)| self.shown_at_login(image, own)).unwrap_or_default();
        let token = shown.as_str();
        let chap = chap.as_ref();
        let (mac, arguments, choices) = (facts.mac, arguments.as_slice(), choices.as_slice());
        let medium_url = medium_url.as_str();
        let context =
            Context { site: &site, mac, host, image, arguments, config_url, token, chap, medium_url, choices };
        render(&ruling.verdict, form, &context)
    }

    /// Writes the script that brings an iPXE back, to the address of ours that it reached.
    pub fn hook(&self, at: Option<IpAddr>) -> String {
        bootstrap_script(&self.site_at(at))
    }

    /// Gives the site as machines see it that reach us at one of our addresses.
    fn site_at(&self, at: Option<IpAddr>) -> Cow<'_, Site> {
        match at {
            Some(at) if at != self.site.address => Cow::Owned(self.site.reached_at(at)),
            _ => Cow::Borrowed(&*self.site),
        }
    }

    fn token(&self, host: Option<&Host>) -> String {
        host.map(|host| self.tokens.of(host)).unwrap_or_default()
    }

    /// Decides whether an initiator may attach an image in a machine's name, and how much it is shown of what is the
    /// machine's alone.
    ///
    /// # Errors
    /// Reason it may not.
    pub fn attach(&self, facts: &Facts, token: Option<&str>, image: &Name) -> Result<Attached, Reason> {
        let tied = match self.verify_address(facts.mac, facts.address) {
            // Where the site takes the token alone for proof, it holds wherever it comes from.
            Err(_) if self.is_proved_anywhere(facts.mac, token) => false,
            tied => tied?,
        };
        let (image, host) = self.login(facts, image)?;
        let asks = Asks { address: facts.address, tied, token };
        let shown = ConfigVisibility::whole_if(self.may_see_config(asks, &host, &image)?);
        Ok(Attached { image, host, shown })
    }

    /// Decides whether a machine may attach an image.
    pub fn login(&self, facts: &Facts, image: &crate::fleet::Name) -> Result<(Arc<Image>, Arc<Host>), Reason> {
        let facts = Facts { stage: Stage::IscsiLogin, ..*facts };
        let ruling = self.decide_now(&facts);
        match ruling.verdict {
            Verdict::SanBoot(assigned) if assigned == *image => {
                self.store.load().image(image).cloned().zip(ruling.host).ok_or(Reason::OtherImageAssigned)
            }
            Verdict::SanBoot(_) => Err(Reason::OtherImageAssigned),
            Verdict::Ignore(why) | Verdict::LocalDisk(why) => Err(why),
            Verdict::Wait(_) => Err(Reason::ImageUnavailable),
            Verdict::Menu | Verdict::Enrol(_) | Verdict::Chainload(_) | Verdict::Configure(_) => {
                Err(Reason::NotAssigned)
            }
        }
    }

    /// Decides which config an installer gets.
    ///
    /// # Errors
    /// Reason it gets none.
    pub fn config(&self, facts: &Facts) -> Result<(Arc<Host>, Arc<BootConfig>), Reason> {
        let Decision { verdict, host, .. } = self.decide_now(&Facts { stage: Stage::Installer, ..*facts });
        let name = match verdict {
            Verdict::Configure(name) => name,
            Verdict::Ignore(why) | Verdict::LocalDisk(why) => return Err(why),
            Verdict::Menu | Verdict::Enrol(_) | Verdict::Chainload(_) | Verdict::SanBoot(_) | Verdict::Wait(_) => {
                return Err(Reason::NoConfig);
            }
        };
        let config = self.store.load().boot_config(&name).cloned().ok_or(Reason::NoConfig)?;
        Ok((host.ok_or(Reason::UnknownHost)?, config))
    }

    /// Makes it durable that a machine said it is done.
    ///
    /// # Errors
    /// The reason that it is not recorded.
    pub async fn complete(&self, facts: &Facts) -> Result<Arc<Host>, Reason> {
        self.advance(facts, Transition::Complete, None).await
    }

    /// Counts a refusal, and puts it in the machine's timeline.
    pub fn refused(&self, facts: &Facts, protocol: Protocol, why: Reason) {
        self.refuse_with(facts, protocol, why, why.to_string());
    }

    /// Counts a refusal, and puts it in the machine's timeline in words that say more than the reason does.
    pub fn refuse_with(&self, facts: &Facts, protocol: Protocol, why: Reason, words: String) {
        self.counters.count_refused(protocol, why, facts.address);
        self.record_refusal(facts.mac, protocol, why, words);
        let is_stranger = || self.store.load().host_by_mac(facts.mac).is_none();
        if let Some(address) = facts.address.filter(|_| why == Reason::AddressOfOtherMachine && is_stranger()) {
            self.tell_stranger(facts.mac, address, protocol);
        }
    }

    /// Puts into the server's timeline that a machine never seen before is not met by the site's rule, since its
    /// address is another's. That one bounds it: a stranger's MAC address is anything.
    fn tell_stranger(&self, mac: Mac, address: IpAddr, protocol: Protocol) {
        let named = || self.store.load().host_by_ip(address).map(|host| host.spec.boot_mac_address);
        let Some(owner) = self.neighbours.look_up(address).or_else(named) else { return };
        let reason = Reason::AddressOfOtherMachine;
        let message = format!("{reason}: {address} belongs to {owner}");
        let event = Event::Refused { protocol, reason, message };
        if self.news.is_news(owner, &event) {
            self.store.record_event(Some(mac), event);
        }
    }

    /// Puts into a host's timeline what of its image is not as people may expect.
    pub fn warn(&self, host: &Host, warnings: &[String]) {
        if !warnings.is_empty() {
            let (image, message) = (host.spec.image.image().cloned(), warnings.join("; "));
            self.tell(host.spec.boot_mac_address, Event::Warning { image, message });
        }
    }

    /// Says in words why an image, or one that goes beside it, cannot be served now; nothing where they can.
    pub fn unavailable_reason(&self, image: &Image) -> Option<String> {
        let state = self.store.load();
        let beside = image.spec.attached_companions().iter().filter_map(|name| state.image(name));
        let its_own = self.media.reason(image).map(str::to_owned);
        its_own.or_else(|| {
            let found = beside.filter_map(|other| Some((&other.metadata.name, self.media.reason(other)?))).next();
            found.map(|(name, reason)| format!("{name}, which goes beside it: {reason}"))
        })
    }

    /// Puts into a machine's timeline that it waits for its image, or for one that goes beside it, and why.
    fn tell_wait(&self, facts: &Facts, by: Protocol, image: &Name) {
        let state = self.store.load();
        let message = state.image(image).map(|image| image.status.message.clone()).unwrap_or_default();
        self.counters.count_refused(by, Reason::ImageUnavailable, facts.address);
        self.tell(facts.mac, Event::WaitingForImage { image: image.clone(), message });
    }

    /// Puts into a host's timeline what it asked for in vain.
    pub fn record_refusal(&self, mac: Mac, protocol: Protocol, reason: Reason, message: String) {
        if self.store.load().host_by_mac(mac).is_some() {
            self.tell(mac, Event::Refused { protocol, reason, message });
        }
    }

    /// Puts into the timeline of the machine at an address what it asked for in vain.
    pub fn record_refusal_at(&self, address: Option<IpAddr>, protocol: Protocol, reason: Reason, message: String) {
        let known = address.and_then(|address| self.owner_of(address).ok().flatten());
        known.inspect(|mac| self.record_refusal(*mac, protocol, reason, message));
    }

    /// Puts into a machine's timeline, the server's where it is none that is known, that it cannot read what it has
    /// attached.
    pub fn tell_unreadable(&self, mac: Option<Mac>, unit: u8, message: String) {
        let event = Event::ReadFailed { unit, message };
        if self.news.is_news(mac.unwrap_or(Mac([0; 6])), &event) {
            self.store.record_event(mac, event);
        }
    }

    /// Puts into a machine's timeline what it has not just been told there.
    fn tell(&self, mac: Mac, event: Event) {
        if self.news.is_news(mac, &event) {
            self.store.record_event(Some(mac), event);
        }
    }

    async fn advance(&self, facts: &Facts, change: Transition, event: Option<Event>) -> Result<Arc<Host>, Reason> {
        let firmware = facts.firmware.map(|firmware| firmware.architecture);
        // What a machine says of itself does not make an address its own.
        let address = facts.address.filter(|_| self.verify_address(facts.mac, facts.address) == Ok(true));
        let sighting = Observation { firmware, address, uuid: facts.uuid };
        match self.store.commit(Change::Advance { mac: facts.mac, change, sighting, event }).await {
            Ok(Object::Host(host)) => Ok(host),
            Ok(Object::Image(_) | Object::BootConfig(_)) => Err(Reason::UnknownHost),
            Err(error) => Err(refusal_reason(&error, facts.mac)),
        }
    }
}

/// Gives the address at which an installer finds its config, with the token of this install.
fn config_url(site: &Site, token: String, config: Option<&BootConfig>) -> String {
    match config.map(|config| config.spec.format) {
        Some(Format::CloudInit) => format!("{}/nocloud/{token}/", site.url()),
        _ => format!("{}/api/v1/bootconfig?token={token}", site.url()),
    }
}

/// Returns the event of a script that is about to be served.
fn script_event(verdict: &Verdict) -> Event {
    let (action, image, reason) = match verdict {
        Verdict::SanBoot(image) => (ScriptAction::Boot, Some(image.clone()), None),
        Verdict::Menu => (ScriptAction::Menu, None, None),
        Verdict::LocalDisk(reason) => (ScriptAction::LocalDisk, None, Some(*reason)),
        Verdict::Ignore(_) | Verdict::Enrol(_) | Verdict::Chainload(_) | Verdict::Wait(_) | Verdict::Configure(_) => {
            (ScriptAction::LocalDisk, None, None)
        }
    };
    Event::Script { action, image, reason }
}

/// Returns the reason to refuse a request whose record could not be written. An error that is no outage of the
/// store's is a fault of this program: it is logged with its cause.
pub(crate) fn refusal_reason(error: &StoreError, mac: Mac) -> Reason {
    match error {
        StoreError::Unavailable(_) => Reason::StoreUnavailable,
        StoreError::NoSuchMac(_) | StoreError::NotFound(_) => Reason::UnknownHost,
        StoreError::AlreadyExists(_)
        | StoreError::Conflict { .. }
        | StoreError::InUse { .. }
        | StoreError::Invalid(_)
        | StoreError::Unreadable(_) => {
            tracing::error!(%mac, error = error as &dyn std::error::Error, "unexpected store error");
            Reason::InternalError
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_again_and_again_is_told_of_once_and_of_many_things_in_a_few_lines() {
        let (news, vm, other) = (EventThrottle::default(), Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let refused = |number: usize| Event::Refused {
            protocol: Protocol::Http,
            reason: Reason::FileNotFound,
            message: number.to_string(),
        };
        let told = |mac| (0..100).filter(|number| news.is_news(mac, &refused(number % 2))).count();
        assert_eq!(told(vm), 2);
        let many = (0..100).filter(|number| news.is_news(other, &refused(*number))).count();
        assert_eq!(many, EventThrottle::AT_ONCE);
    }
}
