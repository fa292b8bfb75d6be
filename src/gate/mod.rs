//! The gate asks the pure decisions on behalf of every protocol, and commits what a decision records before the
//! protocol may answer.

mod boot_steps;
pub mod boot_traces;
pub mod config_delivery;
pub mod console_logs;
pub mod degradations;
mod enrolment;
mod finishing;
#[cfg(test)]
pub mod fixture;
mod hardware;
pub mod identity;
mod install_begins;
mod installer;
pub mod interfaces;
mod ipxe_clients;
mod ledgers;
pub mod media;
pub mod neighbours;
mod observe;
mod offer;
pub mod rehearsal;
mod render_cache;
mod script;
mod served_secrets;
pub mod stalls;
pub mod templates;
mod timeline;
pub mod tokens;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::boot::identity::{ClientIdentity, Evidence, is_proved_by_token, judge};
use crate::boot::{Decision, Facts, Reason, Site, Stage, Verdict, decide};
use crate::event::{Counters, Event, Protocol};
use crate::fleet::lifecycle::Transition;
use crate::fleet::{BootConfig, BootTarget, Host, Image, Mac, Name, Object};
use crate::gate::boot_traces::BootTraces;
use crate::gate::console_logs::ConsoleLogs;
use crate::gate::degradations::Degradations;
use crate::gate::hardware::HardwareReports;
use crate::gate::neighbours::Neighbours;
use crate::gate::stalls::{Segments, Stalls};
use crate::gate::tokens::BootTokens;
use crate::images::library::ImageLibrary;
use crate::store::{Change, Expect, Observation, Snapshot, Store, StoreError};

pub use crate::boot::identity::AdmissionRefusal;
pub use crate::gate::config_delivery::RecordedDeliveries;
pub use crate::gate::enrolment::EnrolmentBounds;
pub use crate::gate::finishing::FinishingInstalls;
pub use crate::gate::identity::IdentifiedClient;
pub use crate::gate::install_begins::InstallBegins;
pub use crate::gate::installer::{InstallerLines, LastFailure, LastLine};
pub use crate::gate::ipxe_clients::RecentIpxeClients;
pub use crate::gate::media::{Attached, ConfigVisibility, MediaError, MediaLease};
pub use crate::gate::offer::PendingOffer;
pub use crate::gate::render_cache::{RenderedConfig, RenderedConfigs};
pub use crate::gate::served_secrets::ServedSecrets;
pub use crate::gate::timeline::EventThrottle;
pub use crate::store::clock;

/// The decisions, with the state that they need and the records that they make.
#[derive(Debug)]
pub struct Gate {
    /// The configuration that decisions depend on, with our addresses. SIGHUP and a change of an address replace it.
    pub site: Arc<ArcSwap<Site>>,
    /// The state.
    pub store: Arc<Store>,
    /// The counters of answers, refusals and drops.
    pub counters: Arc<Counters>,
    /// The machines whose iPXE was recently answered.
    pub ipxe_clients: RecentIpxeClients,
    /// The installs whose installer may still read from its medium.
    pub finishing: FinishingInstalls,
    /// The requests that may have begun installs.
    pub install_begins: InstallBegins,
    /// The kernel's neighbour table.
    pub neighbours: Neighbours,
    /// The filter of repeated timeline events.
    pub throttle: EventThrottle,
    /// What the installers of machines said since their last boot.
    pub installer_lines: InstallerLines,
    /// The configs that were rendered last.
    pub rendered: RenderedConfigs,
    /// The secrets in what machines were served from templates.
    pub served_secrets: ServedSecrets,
    /// The bounds of enrolments.
    pub enrolment: EnrolmentBounds,
    /// The config deliveries that are recorded.
    pub deliveries: RecordedDeliveries,
    /// The images and the hosts' views of them.
    pub media: ImageLibrary,
    /// The tokens that prove who requests a config.
    pub tokens: BootTokens,
    /// What was seen of machines' boots.
    pub traces: BootTraces,
    /// The segments of the interfaces with DHCP.
    pub segments: ArcSwap<Segments>,
    /// The diagnoses that stand.
    pub stalls: Stalls,
    /// The rates at which the hardware of machines is written.
    pub hardware_reports: HardwareReports,
    /// What keeps the server from serving as configured.
    pub degradations: Degradations,
    /// The serial consoles as they were captured.
    pub consoles: ConsoleLogs,
}

impl Gate {
    /// Creates a gate over a state. Nothing was requested from it yet.
    pub fn new(site: Arc<Site>, store: Arc<Store>, media: ImageLibrary, tokens: BootTokens) -> Self {
        Self {
            site: Arc::new(ArcSwap::new(site)),
            store,
            counters: Arc::default(),
            ipxe_clients: RecentIpxeClients::default(),
            finishing: FinishingInstalls::default(),
            install_begins: InstallBegins::default(),
            neighbours: Neighbours::default(),
            throttle: EventThrottle::default(),
            installer_lines: InstallerLines::default(),
            rendered: RenderedConfigs::default(),
            served_secrets: ServedSecrets::default(),
            enrolment: EnrolmentBounds::default(),
            deliveries: RecordedDeliveries::default(),
            media,
            tokens,
            traces: BootTraces::default(),
            segments: ArcSwap::default(),
            stalls: Stalls::default(),
            hardware_reports: HardwareReports::default(),
            degradations: Degradations::default(),
            consoles: ConsoleLogs::default(),
        }
    }

    /// Returns the configuration that decisions depend on, as it is now.
    pub fn site(&self) -> Guard<Arc<Site>> {
        self.site.load()
    }
}

/// A decision with the objects that it concerns.
#[derive(Debug, Clone)]
pub struct HostDecision {
    /// The decision.
    pub decision: Decision,
    /// The host, as it is after the record.
    pub host: Option<Arc<Host>>,
    /// Path below our URLs where the host's view of its image is read; for a boot over HTTP only.
    pub medium: Option<String>,
    /// Whether evidence ties the client's address to the machine. Only then the script contains what belongs to the
    /// machine alone.
    pub tied: bool,
}

impl HostDecision {
    /// Returns a decision for an unidentified client.
    pub fn untied(verdict: Verdict, host: Option<Arc<Host>>) -> Self {
        Self { decision: verdict.into(), host, medium: None, tied: false }
    }

    /// Returns whether the script boots an image without the config of its host, since nothing ties the client's address to
    /// the machine.
    pub fn lacks_config(&self) -> bool {
        let has_config = self.host.as_ref().is_some_and(|host| host.spec.boot_config_ref.is_some());
        has_config && !self.tied && matches!(self.decision.verdict, Verdict::SanBoot(_))
    }

    /// Returns a refusal.
    pub fn ignore(reason: Reason) -> Self {
        Self::untied(Verdict::Ignore(reason), None)
    }
}

impl Gate {
    /// Decides from the present state and records nothing; an unknown machine comes back as `Enrol`.
    pub fn decide_now(&self, facts: &Facts) -> HostDecision {
        let state = self.store.load();
        let host = state.host_by_mac(facts.mac);
        self.decide_in(&state, facts, host)
    }

    /// Decides for a machine whose host is as given, and records nothing.
    fn decide_for(&self, facts: &Facts, host: Option<Arc<Host>>) -> HostDecision {
        self.decide_in(&self.store.load(), facts, host)
    }

    fn decide_in(&self, state: &Snapshot, facts: &Facts, host: Option<Arc<Host>>) -> HostDecision {
        let decision = decide(facts, host.as_deref(), &self.site());
        let decision = decision.wait_if_broken(|name| state.image(name).map(Arc::as_ref));
        HostDecision { decision, host, medium: None, tied: false }
    }

    /// Decides which boot script a machine is served, and commits what the decision records. `choice` is the image that
    /// was picked from the menu, `at` our address that the machine reached.
    pub async fn script(
        self: &Arc<Self>,
        facts: &Facts,
        choice: Option<&Name>,
        protocol: Protocol,
        at: Option<IpAddr>,
    ) -> HostDecision {
        let client = match self.identify(facts, protocol) {
            Ok(client) => client,
            Err(reason) => return HostDecision::ignore(reason),
        };
        self.note_boot(facts);
        if let Some(image) = choice
            && let Err(reason) = self.choose(&client, image).await
        {
            self.refuse(facts, protocol, reason);
        }
        let decided = self.require_proof(self.decide_and_enrol(facts).await, client.is_tied());
        let decided = self.commit(&client, protocol, decided).await;
        self.with_medium(decided, at).await
    }

    /// Judges a client that requests a script.
    ///
    /// # Errors
    /// The evidence contradicts the claim. Another machine gets no script in this one's name, and begins no install of
    /// it.
    fn identify(&self, facts: &Facts, protocol: Protocol) -> Result<IdentifiedClient, Reason> {
        let evidence = self.gather(facts.address, Some(facts.mac), None);
        let identity = judge(&evidence, Some(facts.mac));
        if let Err(reason) = identity {
            self.refuse_contradicted(facts, protocol, reason, &evidence);
            return Err(reason);
        }
        Ok(IdentifiedClient::new(facts, &evidence, identity))
    }

    /// Commits what a decision records, then returns the decision that may be answered: a refusal if the record could
    /// not be written.
    async fn commit(&self, caller: &IdentifiedClient, protocol: Protocol, decided: HostDecision) -> HostDecision {
        let facts = &caller.facts;
        let Decision { record, event, .. } = &decided.decision;
        let Some(transition) = *record else {
            event.iter().for_each(|event| self.record_decision_event(caller, protocol, event));
            self.warn_untied(&decided);
            return decided;
        };
        let event = event.as_ref().map(|event| self.timeline_event(facts, protocol, event));
        match self.advance(caller, transition, event).await {
            Ok(host) => {
                self.warn(&host, &host.status.warnings);
                HostDecision { host: Some(host), ..decided }
            }
            Err(reason) => {
                self.refuse(facts, protocol, reason);
                HostDecision::ignore(reason)
            }
        }
    }

    /// Decides which boot script a machine would be served now, and records nothing.
    pub fn preview(&self, facts: &Facts) -> HostDecision {
        match self.verify_address(facts.mac, facts.address) {
            Ok(tied) => self.require_proof(self.decide_now(facts), tied),
            Err(reason) => HostDecision::ignore(reason),
        }
    }

    /// Decides whether a machine may load a boot program under its own path (`/boot/MAC/PROGRAM`), over any protocol.
    /// A refusal is counted, and recorded in the machine's timeline.
    ///
    /// # Errors
    /// The reason for the refusal: the host is held, or the rules ignore the unknown machine.
    pub fn authorize_program(&self, facts: &Facts, protocol: Protocol) -> Result<(), Reason> {
        self.note_boot(facts);
        let host = self.store.load().host_by_mac(facts.mac);
        self.may_load_program(facts, host).inspect_err(|reason| self.refuse(facts, protocol, *reason))
    }

    /// Decides as [`Self::authorize_program`] for a machine whose host is as given, and records nothing.
    ///
    /// # Errors
    /// The reason for the refusal.
    fn may_load_program(&self, facts: &Facts, host: Option<Arc<Host>>) -> Result<(), Reason> {
        match self.decide_for(&Facts { stage: Stage::Ipxe, ..*facts }, host).decision.verdict {
            Verdict::Ignore(reason) => Err(reason),
            Verdict::Enrol(_)
            | Verdict::Chainload(_)
            | Verdict::SanBoot(_)
            | Verdict::Wait(_)
            | Verdict::Menu
            | Verdict::Configure(_)
            | Verdict::LocalDisk(_) => Ok(()),
        }
    }

    /// Adds whether the client's address is tied to the machine, and refuses an install whose config the client could
    /// not fetch.
    fn require_proof(&self, decided: HostDecision, tied: bool) -> HostDecision {
        let HostDecision { decision, host, medium, .. } = decided;
        let decision = decision.require_proof(host.as_deref(), tied, self.site().config_access.require);
        HostDecision { decision: decision.for_client(tied), host, medium, tied }
    }

    /// Records in a host's timeline that a script has no config, because its client's address is not tied to the machine.
    fn warn_untied(&self, decided: &HostDecision) {
        if let Some(host) = decided.host.as_ref().filter(|_| decided.lacks_config()) {
            self.warn(host, &[format!("its script has no config: {}", Reason::AddressUnverified)]);
        }
    }

    /// Assigns the image that was picked from the menu of a machine.
    ///
    /// # Errors
    /// The client's address is not tied to the machine, the machine has no menu, or the image cannot be assigned to it.
    pub async fn choose(&self, client: &IdentifiedClient, image: &Name) -> Result<(), Reason> {
        let mac = client.facts.mac;
        let host = self.store.load().host_by_mac(mac);
        let mut host = host.filter(|host| host.spec.image == BootTarget::Menu).ok_or(Reason::NotAssigned)?;
        if !client.is_tied() {
            return Err(Reason::AddressUnverified);
        }
        let expect = Expect::Present(Some(host.metadata.resource_version));
        Arc::make_mut(&mut host).spec.image = BootTarget::Image(image.clone());
        match self.store.commit(Change::Put { object: Object::Host(host), expect }).await {
            Ok(_) => Ok(()),
            // The image cannot be assigned to the host, or another one was assigned meanwhile.
            Err(StoreError::Invalid(_) | StoreError::Conflict { .. }) => Err(Reason::OtherImageAssigned),
            Err(error) => Err(refusal_reason(&error, mac)),
        }
    }

    /// Decides whether an initiator may attach an image in a machine's name, and how much it sees of what belongs to
    /// the machine alone.
    ///
    /// # Errors
    /// The reason for the refusal.
    pub fn attach(&self, facts: &Facts, token: Option<&str>, image: &Name) -> Result<Attached, Reason> {
        let evidence = self.gather(facts.address, Some(facts.mac), token);
        let stage = self.login_stage(facts.mac, image);
        let host = self.store.load().host_by_mac(facts.mac);
        let attached = self.decide_attach(&Facts { stage, ..*facts }, &evidence, host, image)?;
        let client = IdentifiedClient::new(facts, &evidence, judge(&evidence, Some(facts.mac)));
        self.note_login(&client, &attached.host);
        self.note_attached(&attached.host, &attached.image);
        Ok(attached)
    }

    /// Decides as [`Self::attach`] for a machine whose host is as given, and records nothing.
    ///
    /// # Errors
    /// The reason for the refusal.
    pub fn decide_attach(
        &self,
        facts: &Facts,
        evidence: &Evidence,
        host: Option<Arc<Host>>,
        image: &Name,
    ) -> Result<Attached, Reason> {
        let tied = match judge(evidence, Some(facts.mac)).map(ClientIdentity::is_verified) {
            // Where the token alone is proof, it is valid from any address.
            Err(_) if is_proved_by_token(evidence, facts.mac, self.site().config_access.require) => false,
            tied => tied?,
        };
        let (image, host) = self.decide_login(facts, host, image)?;
        let shown = ConfigVisibility::whole_if(self.shows_config(evidence, tied, &host, &image)?);
        Ok(Attached { image, host, shown })
    }

    /// Decides whether a machine may attach an image.
    ///
    /// # Errors
    /// The reason for the refusal.
    pub fn login(&self, facts: &Facts, image: &Name) -> Result<(Arc<Image>, Arc<Host>), Reason> {
        let stage = self.login_stage(facts.mac, image);
        self.decide_login(&Facts { stage, ..*facts }, self.store.load().host_by_mac(facts.mac), image)
    }

    /// Returns the stage of a machine that logs in to an image.
    fn login_stage(&self, mac: Mac, image: &Name) -> Stage {
        if self.is_returning(mac, image) { Stage::IscsiReturn } else { Stage::IscsiLogin }
    }

    fn decide_login(
        &self,
        facts: &Facts,
        host: Option<Arc<Host>>,
        image: &Name,
    ) -> Result<(Arc<Image>, Arc<Host>), Reason> {
        let HostDecision { decision, host, .. } = self.decide_for(facts, host);
        match decision.verdict {
            Verdict::SanBoot(assigned) if assigned == *image => {
                self.store.load().image(image).cloned().zip(host).ok_or(Reason::OtherImageAssigned)
            }
            Verdict::SanBoot(_) => Err(Reason::OtherImageAssigned),
            Verdict::Ignore(reason) | Verdict::LocalDisk(reason) => Err(reason),
            Verdict::Wait(_) => Err(Reason::ImageUnavailable),
            Verdict::Menu | Verdict::Enrol(_) | Verdict::Chainload(_) | Verdict::Configure(_) => {
                Err(Reason::NotAssigned)
            }
        }
    }

    /// Decides which config an installer is served.
    ///
    /// # Errors
    /// The reason for the refusal.
    pub fn config(&self, facts: &Facts) -> Result<(Arc<Host>, Arc<BootConfig>), Reason> {
        self.config_for(facts, self.store.load().host_by_mac(facts.mac))
    }

    /// Decides as [`Self::config`] for a machine whose host is as given.
    ///
    /// # Errors
    /// The reason for the refusal.
    fn config_for(&self, facts: &Facts, host: Option<Arc<Host>>) -> Result<(Arc<Host>, Arc<BootConfig>), Reason> {
        let HostDecision { decision, host, .. } = self.decide_for(&Facts { stage: Stage::Installer, ..*facts }, host);
        let name = match decision.verdict {
            Verdict::Configure(name) => name,
            Verdict::Ignore(reason) | Verdict::LocalDisk(reason) => return Err(reason),
            Verdict::Menu | Verdict::Enrol(_) | Verdict::Chainload(_) | Verdict::SanBoot(_) | Verdict::Wait(_) => {
                return Err(Reason::NoConfig);
            }
        };
        let config = self.store.load().boot_config(&name).cloned().ok_or(Reason::NoConfig)?;
        let host = host.ok_or(Reason::UnknownHost)?;
        self.check_window(&host, &config)?;
        Ok((host, config))
    }

    /// Commits that a machine reported a completed install. The report of the system that is to be replaced changes nothing.
    ///
    /// # Errors
    /// The reason that it is not recorded.
    pub async fn complete(&self, caller: &IdentifiedClient) -> Result<Arc<Host>, Reason> {
        if let Some(host) = self.unbegun_install(caller.facts.mac) {
            return Ok(host);
        }
        let host = self.advance(caller, Transition::Complete, None).await?;
        self.forget_begin(caller.facts.mac);
        Ok(host)
    }

    /// Commits a transition of a host, with its event. The client's address is recorded only if it is tied to the
    /// machine.
    async fn advance(
        &self,
        caller: &IdentifiedClient,
        change: Transition,
        event: Option<Event>,
    ) -> Result<Arc<Host>, Reason> {
        let IdentifiedClient { facts, evidence } = caller;
        let firmware = facts.firmware.map(|firmware| firmware.architecture);
        let address = facts.address.map(|address| address.to_canonical()).zip(*evidence);
        let observation = Observation { firmware, address, uuid: facts.uuid };
        let was_installed = self.is_installed(facts.mac);
        match self.store.commit(Change::Advance { mac: facts.mac, transition: change, observation, event }).await {
            Ok(Object::Host(host)) => {
                if !was_installed {
                    self.note_completed(&host, change);
                }
                Ok(host)
            }
            Ok(Object::Image(_) | Object::BootConfig(_) | Object::ConfigTemplate(_)) => Err(Reason::UnknownHost),
            Err(error) => Err(refusal_reason(&error, facts.mac)),
        }
    }
}

/// Returns the reason to refuse a request whose record could not be written. An error other than an outage of the
/// store is logged with its cause.
fn refusal_reason(error: &StoreError, mac: Mac) -> Reason {
    match error {
        StoreError::Unavailable(_) => Reason::StoreUnavailable,
        StoreError::EnrolmentLimit(_) => Reason::EnrolmentLimit,
        StoreError::DiskNearlyFull => Reason::DiskNearlyFull,
        StoreError::NoSuchMac(_) | StoreError::NotFound(_) => Reason::UnknownHost,
        StoreError::AlreadyExists(_)
        | StoreError::Conflict { .. }
        | StoreError::InUse { .. }
        | StoreError::Invalid(_)
        | StoreError::Lost { .. }
        | StoreError::Unreadable(_) => {
            tracing::error!(%mac, error = error as &dyn std::error::Error, "unexpected store error");
            Reason::InternalError
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
