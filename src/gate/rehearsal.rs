//! Rehearsals: the decisions of a machine's next boot, by the functions that real requests call, without their records.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use ipnet::Ipv4Net;

use crate::boot::diagnosis::withheld_config;
use crate::boot::identity::{Candidate, Evidence, Origin, TokenEvidence, admit, judge};
use crate::boot::rehearsal::{
    Attachment, InterfaceSummary, KernelArguments, RehearsedClient, ServedFile, Step, StepDecision,
};
use crate::boot::{Facts, KernelLine, Reason, ScriptFormat, Stage, Verdict, render};
use crate::bounds::Source;
use crate::fleet::lifecycle::advance;
use crate::fleet::{Architecture, BootConfig, EntryPoint, Host, Lease, Mac, Object};
use crate::gate::enrolment::refusal_reason;
use crate::gate::interfaces::HeardNetwork;
use crate::gate::media::{ConfigVisibility, is_attached_over_http, lease_path};
use crate::gate::script::config_url;
use crate::gate::{Gate, HostDecision};
use crate::store::{StoreError, check_boot, now};

pub use crate::gate::script::SecretDisplay;

/// A machine in the middle of a rehearsal.
#[derive(Debug, Clone)]
pub struct RehearsedMachine {
    /// The hardware address.
    pub mac: Mac,
    /// The host, as it is after the steps so far.
    pub host: Option<Arc<Host>>,
    /// The address that the machine is assumed to have.
    pub address: Option<IpAddr>,
    /// The evidence that a request from there would have.
    pub evidence: Evidence,
    /// Our address that the machine reaches.
    pub at: IpAddr,
}

/// The DHCP messages of a rehearsal.
#[derive(Debug, Clone)]
pub struct DhcpRehearsal {
    /// The interface.
    pub interface: InterfaceSummary,
    /// The networks on the interface's link.
    pub networks: Vec<Ipv4Net>,
    /// The messages of the firmware, then those of iPXE.
    pub steps: Vec<Step>,
    /// The host, as it is after them: a machine that was never seen is enrolled.
    pub host: Option<Arc<Host>>,
    /// The address that server mode gives the machine.
    pub leased: Option<Ipv4Addr>,
}

/// The reason that DHCP cannot be rehearsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DhcpRehearsalError {
    /// DHCP is off on every interface.
    #[error("DHCP is off on every interface")]
    Off,
    /// No interface of the name has DHCP.
    #[error("interface: {name:?} is no interface with DHCP; expected one of {}", known.join(", "))]
    NoSuchInterface {
        /// The name.
        name: String,
        /// The interfaces with DHCP.
        known: Vec<String>,
    },
    /// The DHCP service does not answer in time.
    #[error("the DHCP service is busy: try again")]
    Busy,
}

/// An iSCSI login of a rehearsal.
#[derive(Debug, Clone)]
pub struct RehearsedLogin {
    /// The machine; its evidence has the token that the initiator name carries.
    pub machine: RehearsedMachine,
    /// The name of the initiator.
    pub initiator: String,
    /// The name of the target.
    pub target: String,
}

impl RehearsedLogin {
    /// Returns the login with the token in its initiator name as evidence: the script that has it was served just now.
    pub fn with_token(mut self, token: &str) -> Self {
        if !token.is_empty() {
            self.machine.evidence.token = TokenEvidence::Valid(self.machine.mac);
        }
        self
    }
}

type DhcpPart = dyn Fn(RehearsedClient, Option<String>) -> BoxFuture<'static, Result<DhcpRehearsal, DhcpRehearsalError>>
    + Send
    + Sync;
type NetworkPart = dyn Fn() -> BoxFuture<'static, Option<HeardNetwork>> + Send + Sync;
type EndLeasePart = dyn Fn(Ipv4Addr) -> BoxFuture<'static, Option<Result<Option<Lease>, StoreError>>> + Send + Sync;
type TftpPart = dyn Fn(String, &str) -> ServedFile + Send + Sync;
type IscsiPart = dyn Fn(&RehearsedLogin) -> (StepDecision, Attachment) + Send + Sync;

/// Questions of the API that the protocols answer. The composition root connects them: the API imports no protocol.
pub struct ProtocolQueries {
    /// Answers a client's DHCP messages on an interface, or on the one that its address selects.
    pub dhcp: Box<DhcpPart>,
    /// Returns what DHCP heard; `None` if it does not answer in time.
    pub network: Box<NetworkPart>,
    /// Ends the lease of an address durably, and returns it, if somebody has the address; `None` if DHCP does not answer
    /// in time.
    pub end_lease: Box<EndLeasePart>,
    /// Describes a boot program or a file over TFTP, by its URL and its name. May wait for a disk.
    pub tftp: Box<TftpPart>,
    /// Answers an iSCSI login. May wait for a disk.
    pub iscsi: Box<IscsiPart>,
}

impl std::fmt::Debug for ProtocolQueries {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("ProtocolQueries")
    }
}

/// A boot script's decision in a rehearsal.
#[derive(Debug, Clone)]
pub struct RehearsedScript {
    /// The facts of the request.
    pub facts: Facts,
    /// The decision, with the host as it is after the record.
    pub decided: HostDecision,
    /// The token of the initiator name; empty if there is none.
    pub login_token: String,
}

impl Gate {
    /// Decides for a machine whose host is as given. A machine that was never seen is enrolled, as far as it can be told
    /// without the rate of its entry point.
    pub fn rehearse_decision(&self, facts: &Facts, host: Option<Arc<Host>>, entry: EntryPoint) -> HostDecision {
        let decided = self.decide_for(facts, host);
        let Verdict::Enrol(draft) = decided.decision.verdict else { return decided };
        let enrolled = self.enrolment_within_limits(facts, draft, entry);
        match enrolled.and_then(|change| self.store.dry_run(change).map_err(|error| refusal_reason(&error))) {
            Ok(Object::Host(host)) => self.decide_for(facts, Some(host)),
            Ok(Object::Image(_) | Object::BootConfig(_) | Object::ConfigTemplate(_)) => {
                HostDecision::ignore(Reason::InternalError)
            }
            Err(reason) => HostDecision::ignore(reason),
        }
    }

    /// Returns the evidence that a request of the machine itself from an address would have. `is_on_link`: on its own
    /// link the neighbour table has a machine by the time that it asks. `is_leased`: the address is what our DHCP
    /// server gives it.
    pub fn rehearse_evidence(&self, mac: Mac, address: Option<IpAddr>, is_on_link: bool, is_leased: bool) -> Evidence {
        let Some(address) = address else {
            let neighbour = is_on_link.then_some(mac);
            return Evidence { origin: Origin::Network, neighbour, ..Evidence::default() };
        };
        let mut evidence = self.gather(Some(address), Some(mac), None);
        // An address that another machine has is not this one's, unless our DHCP server gives it.
        if is_on_link && (evidence.neighbour.is_none() || is_leased) {
            evidence.neighbour = Some(mac);
        }
        if is_leased {
            let has_other_spec_ip =
                evidence.lease.filter(|lease| lease.mac == mac).is_some_and(|lease| lease.has_other_spec_ip);
            evidence.lease = Some(Candidate { mac, has_other_spec_ip, is_elsewhere: false });
        }
        evidence
    }

    /// Returns whether machines reach one of our addresses through a NAT: another one is advertised.
    pub fn is_behind_nat(&self, at: IpAddr) -> bool {
        self.site().advertised.iter().any(|(own, told)| *own == at || *told == at)
    }

    /// Returns the address that the machine's last script was asked from, if nothing tied that address to it.
    pub fn last_untied_address(&self, mac: Mac) -> Option<IpAddr> {
        withheld_config(&self.traces.look_up(mac)?.steps)?
    }

    /// Returns what will not work at a boot of a host whose machine has some firmware.
    pub fn rehearse_warnings(&self, host: &Host, firmware: Option<Architecture>) -> Vec<String> {
        let mut host = host.clone();
        host.status.firmware = firmware.or(host.status.firmware);
        check_boot(&self.store.load(), &mut host, self.site().install.completion);
        host.status.warnings
    }

    /// Decides whether the machine may load a boot program under its own path.
    ///
    /// # Errors
    /// The reason for the refusal.
    pub fn rehearse_program(&self, machine: &RehearsedMachine) -> Result<(), Reason> {
        self.may_load_program(&machine.facts(Stage::Ipxe), machine.host.clone())
    }

    /// Decides which boot script the machine is served.
    pub fn rehearse_script(&self, machine: &RehearsedMachine, secrets: SecretDisplay) -> RehearsedScript {
        let facts = machine.facts(Stage::Ipxe);
        let tied = match judge(&machine.evidence, Some(machine.mac)) {
            Ok(identity) => identity.is_verified(),
            Err(reason) => {
                return RehearsedScript { facts, decided: HostDecision::ignore(reason), login_token: String::new() };
            }
        };
        let address = facts.address.map_or(self.site().address, |address| Source::of(address).address());
        let entry = EntryPoint::Address(address);
        let decided = self.rehearse_decision(&facts, machine.host.clone(), entry);
        let decided = self.as_recorded(self.require_proof(decided, tied));
        let decided = self.with_previewed_medium(decided, machine.at, secrets);
        let login_token = self.rehearse_login_token(&decided);
        RehearsedScript { facts, decided, login_token }
    }

    /// Returns a decision with the host as it is after its record.
    fn as_recorded(&self, decided: HostDecision) -> HostDecision {
        let Some(transition) = decided.decision.record else { return decided };
        let after = |host: &Arc<Host>| advance(Host::clone(host), transition, now(), &self.site().install);
        let host = decided.host.as_ref().map(|host| Arc::new(after(host)));
        HostDecision { host, ..decided }
    }

    /// Adds the path of the medium to a decision to boot an image over HTTP. The medium is not leased.
    fn with_previewed_medium(&self, decided: HostDecision, at: IpAddr, secrets: SecretDisplay) -> HostDecision {
        let (Verdict::SanBoot(name), Some(host)) = (&decided.decision.verdict, &decided.host) else { return decided };
        let Some(image) = self.store.load().image(name).cloned().filter(|image| is_attached_over_http(image)) else {
            return decided;
        };
        let shown = ConfigVisibility::whole_if(decided.tied);
        match self.preview_medium(&image, Some((host, shown)), Some(at)) {
            Ok(seen) => {
                let token = secrets.text(self.lease_token(host, name, &seen));
                HostDecision { medium: Some(lease_path(&token, name)), ..decided }
            }
            Err(_) => decided,
        }
    }

    fn rehearse_login_token(&self, decided: &HostDecision) -> String {
        let (Verdict::SanBoot(name), Some(host), true) = (&decided.decision.verdict, &decided.host, decided.tied)
        else {
            return String::new();
        };
        self.store.load().image(name).map(|image| self.login_token(image, host)).unwrap_or_default()
    }

    /// Renders the script of a rehearsal for a boot loader.
    pub fn render_rehearsed(
        &self,
        script: &RehearsedScript,
        format: ScriptFormat,
        at: IpAddr,
        secrets: SecretDisplay,
    ) -> String {
        let RehearsedScript { facts, decided, .. } = script;
        self.with_context(facts, decided, Some(at), secrets, |context| {
            render(&decided.decision.verdict, format, context)
        })
    }

    /// Returns the kernel arguments of a script that boots an image; `None` for other scripts.
    pub fn rehearse_kernel(
        &self,
        script: &RehearsedScript,
        at: IpAddr,
        secrets: SecretDisplay,
    ) -> Option<KernelArguments> {
        self.with_context(&script.facts, &script.decided, Some(at), secrets, |context| {
            let image = context.image?;
            let (kernel, initrds, line) = match context.kernel_line() {
                Some(KernelLine { kernel, initrds, arguments }) => (Some(kernel), initrds, Some(arguments)),
                None => (None, Vec::new(), None),
            };
            let (added, removed) = (context.arguments.to_vec(), image.spec.remove_arguments.clone());
            Some(KernelArguments { added, removed, kernel, initrds, line })
        })
    }

    /// Decides which config the installer is served. `has_token`: the machine's script contains its token.
    ///
    /// # Errors
    /// The reason for the refusal.
    pub fn rehearse_config(
        &self,
        machine: &RehearsedMachine,
        has_token: bool,
    ) -> Result<(Arc<Host>, Arc<BootConfig>), Reason> {
        let token = if has_token { TokenEvidence::Valid(machine.mac) } else { TokenEvidence::Absent };
        let evidence = Evidence { token, ..machine.evidence };
        let admitted = admit(&evidence, self.site().config_access.require).map_err(|refusal| refusal.reason)?;
        self.config_for(&Facts { mac: admitted, ..machine.facts(Stage::Installer) }, machine.host.clone())
    }

    /// Returns the URL of a host's config.
    pub fn rehearse_config_url(&self, host: &Host, config: &BootConfig, at: IpAddr, secrets: SecretDisplay) -> String {
        config_url(&self.site_at(Some(at)), secrets.text(self.token(Some(host))), Some(config))
    }
}

impl RehearsedMachine {
    /// Returns the facts of a request at a stage.
    pub fn facts(&self, stage: Stage) -> Facts {
        Facts { mac: self.mac, firmware: None, stage, address: self.address, uuid: None }
    }
}
