//! One rehearsed boot: from the DHCP messages over program, script and image to the config.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::api::machine::configs::nocloud_file;
use crate::boot::identity::{ClientIdentity, judge};
use crate::boot::rehearsal::{
    Attachment, ConfigFile, DhcpMessage, LoaderKind, RehearsedBoot, RehearsedClient, ServedConfig, ServedFile,
    ServedScript, Step, StepDecision, StepKind,
};
use crate::boot::{BootProtocol, Facts, Firmware, Reason, ScriptFormat, Stage, Verdict};
use crate::fleet::{Architecture, BootConfig, BootTarget, Format, Host, Image, Method};
use crate::gate::Gate;
use crate::gate::rehearsal::{
    DhcpRehearsal, ProtocolQueries, RehearsedLogin, RehearsedMachine, RehearsedScript, SecretDisplay,
};
use crate::images::library::ImageView;
use crate::iso;

/// DHCP option of the boot file.
const BOOT_FILE: u8 = 67;
/// The files of cloud-init's NoCloud source that installers ask for.
const NOCLOUD: [&str; 4] = ["user-data", "meta-data", "vendor-data", "network-config"];

/// A boot to rehearse.
pub struct BootRehearsal {
    /// The gate.
    pub gate: Arc<Gate>,
    /// Questions that the protocols answer.
    pub queries: Arc<ProtocolQueries>,
    /// The machine, as it asks over DHCP.
    pub client: RehearsedClient,
    /// The host, as it is before the boot.
    pub host: Option<Arc<Host>>,
    /// Whether the client of the API named the address.
    pub is_address_given: bool,
    /// Whether secrets are shown.
    pub secrets: SecretDisplay,
}

/// A file of the directory of boot programs, as HTTP finds it.
pub type StoredProgram = io::Result<Option<ImageView>>;

/// The boot program of the firmware.
struct BootProgram {
    name: String,
    url: String,
    is_http: bool,
}

impl BootRehearsal {
    /// Returns the name of the boot program that the firmware loads over HTTP; `None` if it loads it over TFTP.
    pub fn http_program(&self, dhcp: Option<&DhcpRehearsal>) -> Option<String> {
        let program = self.program(dhcp)?;
        program.is_http.then_some(program.name)
    }

    /// Rehearses the boot. `stored` is the boot program that HTTP would serve. May wait for a disk.
    pub fn run(self, dhcp: Option<DhcpRehearsal>, stored: Option<StoredProgram>) -> RehearsedBoot {
        let at = self.at(dhcp.as_ref());
        let machine = self.machine(dhcp.as_ref(), at);
        let mut assumptions = self.assumptions(dhcp.as_ref(), &machine);
        let program = self.program(dhcp.as_ref());
        let (mut firmware, mut ipxe) = (Vec::new(), Vec::new());
        for step in dhcp.iter().flat_map(|dhcp| dhcp.steps.iter().cloned()) {
            match step.step {
                StepKind::IpxeDiscover | StepKind::IpxeRequest => ipxe.push(step),
                _ => firmware.push(step),
            }
        }
        let is_offered = dhcp.is_none() || firmware.first().is_some_and(Step::is_answered);
        let mut steps = firmware;
        let mut is_loaded = is_offered;
        if let Some(program) = &program {
            let step = self.program_step(&machine, program, stored, is_offered);
            is_loaded = is_offered && step.is_answered();
            steps.push(step);
        }
        let loader = self.loader(program.as_ref(), &ipxe, &mut assumptions);
        let script = self.gate.rehearse_script(&machine, self.secrets);
        let is_scripted = self.script_steps(&mut steps, ipxe, (loader, is_loaded), &script, &machine, program.as_ref());
        let after = RehearsedMachine { host: script.decided.host.clone(), ..machine };
        let boots = is_scripted && matches!(script.decided.decision.verdict, Verdict::SanBoot(_));
        steps.extend(self.login_step(&script, &after, boots && loader == LoaderKind::Ipxe));
        steps.extend(self.config_step(&after, boots && script.decided.tied, script.decided.tied));
        let warnings = after.host.as_deref().filter(|_| boots);
        let warnings = warnings.map(|host| self.gate.rehearse_warnings(host, self.client.class.architecture));
        RehearsedBoot {
            architecture: self.client.class.architecture.map_or_else(|| "unknown".to_owned(), |one| one.to_string()),
            vendor_class: vendor_class(&steps).unwrap_or_default(),
            interface: dhcp.map(|dhcp| dhcp.interface),
            address: after.address,
            assumptions,
            warnings: warnings.unwrap_or_default(),
            steps,
        }
    }

    /// Returns our address that the machine reaches.
    fn at(&self, dhcp: Option<&DhcpRehearsal>) -> IpAddr {
        dhcp.map_or(self.gate.site().address, |dhcp| dhcp.interface.address.into())
    }

    /// Returns the machine, as it asks for its script.
    fn machine(&self, dhcp: Option<&DhcpRehearsal>, at: IpAddr) -> RehearsedMachine {
        let mac = self.client.mac;
        let leased = dhcp.and_then(|dhcp| dhcp.leased).filter(|_| !self.is_address_given);
        let untied = self.untied_address().filter(|_| leased.is_none());
        let address = leased.or(untied).or(self.client.address);
        let is_on_link = match (address, dhcp) {
            (None, _) => !self.gate.is_behind_nat(at),
            (Some(_), _) if untied.is_some() => false,
            (Some(address), Some(dhcp)) => dhcp.networks.iter().any(|net| net.contains(&address)),
            (Some(address), None) => self.gate.is_known_network(address),
        };
        let (address, is_leased) = (address.map(IpAddr::from), leased.is_some());
        let evidence = self.gate.rehearse_evidence(mac, address, is_on_link && self.client.relay.is_none(), is_leased);
        let host = dhcp.map_or_else(|| self.host.clone(), |dhcp| dhcp.host.clone());
        RehearsedMachine { mac, host, address, evidence, at }
    }

    /// Returns the address that the last script was asked from, if nothing tied it to the machine, and nobody names another.
    fn untied_address(&self) -> Option<Ipv4Addr> {
        let is_named = self.is_address_given || self.host.as_ref().is_some_and(|host| host.spec.ip.is_some());
        match self.gate.last_untied_address(self.client.mac).filter(|_| !is_named)? {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    fn assumptions(&self, dhcp: Option<&DhcpRehearsal>, machine: &RehearsedMachine) -> Vec<String> {
        let mut all = Vec::new();
        if dhcp.is_none() {
            all.push("DHCP is off here: another server names the boot program".to_owned());
        }
        if self.host.is_none() {
            all.push("the machine was never seen: its first request records it as a new host".to_owned());
        }
        if self.client.uuid.is_none() {
            all.push("its UUID is not known: option 97, which the server repeats, has zeros".to_owned());
        }
        all.push(self.address_assumption(machine, dhcp.is_some()));
        if dhcp.is_some_and(|dhcp| {
            dhcp.steps.iter().any(|step| step.dhcp.as_ref().is_some_and(|dhcp| dhcp.probe.is_some()))
        }) {
            all.push("nobody else uses the address that it is offered".to_owned());
        }
        all
    }

    /// Returns what is assumed of the machine's address, and what ties it to the machine.
    fn address_assumption(&self, machine: &RehearsedMachine, has_dhcp: bool) -> String {
        let is_tied = judge(&machine.evidence, Some(machine.mac)).is_ok_and(ClientIdentity::is_verified);
        match (machine.address, machine.evidence.neighbour) {
            (None, Some(_)) if has_dhcp => "its address is not known: any on the link of the interface".to_owned(),
            (None, Some(_)) => {
                "its address is not known: any on the link of the server. Behind a router nothing ties it to its \
                                address, and its script has no config: name the address to see that"
                    .to_owned()
            }
            (None, None) => {
                "its address is not known, and a NAT is before this server (advertise): nothing ties the address \
                             to the machine. Name the address that its requests come from"
                    .to_owned()
            }
            (Some(address), Some(mac)) if mac == machine.mac => {
                format!("it asks from {address}, on the link of the interface")
            }
            (Some(address), Some(other)) => {
                format!("it asks from {address}, which the neighbour table has for {other}")
            }
            (Some(address), None) if is_tied => format!("it asks from {address}, behind a router"),
            (Some(address), None) => {
                let last = if self.untied_address().is_some() { " as for its last script" } else { "" };
                format!(
                    "it asks from {address}{last}, behind a router, and nothing ties that address to it: no lease, no spec.ip, \
                     no DHCP exchange that was heard"
                )
            }
        }
    }

    /// Returns the boot program: the offered one, else the configured one.
    fn program(&self, dhcp: Option<&DhcpRehearsal>) -> Option<BootProgram> {
        let first = dhcp.and_then(|dhcp| dhcp.steps.first()).and_then(|step| step.dhcp.as_ref());
        let offered = first.and_then(|dhcp| dhcp.reply.as_ref()).map(boot_file);
        let offered = offered.filter(|file| !file.is_empty());
        let facts = self.firmware_facts(first.map(|dhcp| &dhcp.request));
        let (at, folder) = (self.at(dhcp), self.client.mac.dashed());
        let is_http = facts.firmware.is_some_and(|firmware| firmware.loading == BootProtocol::Http);
        let name = match offered {
            Some(file) => file.rsplit_once(&format!("{folder}/")).map_or(file.clone(), |(_, name)| name.to_owned()),
            None => self.gate.site().program(&facts)?.to_string(),
        };
        let url = match is_http {
            true => format!("{}/boot/{folder}/{name}", self.gate.site().reached_at(at).url()),
            false => format!("tftp://{at}/{folder}/{name}"),
        };
        Some(BootProgram { name, url, is_http })
    }

    /// Returns what the firmware claims, by its DISCOVER.
    fn firmware_facts(&self, request: Option<&DhcpMessage>) -> Facts {
        let class = request.and_then(|request| request.options.iter().find(|option| option.code == 60));
        let is_http = class.is_some_and(|class| class.value.starts_with("HTTPClient"));
        let architecture = self.client.class.architecture.unwrap_or(Architecture::UNKNOWN);
        let loading = if is_http { BootProtocol::Http } else { BootProtocol::Pxe };
        let firmware = Some(Firmware { architecture, loading });
        let address = self.client.address.map(IpAddr::from);
        Facts { mac: self.client.mac, firmware, stage: Stage::Rom, address, uuid: self.client.uuid }
    }

    fn program_step(
        &self,
        machine: &RehearsedMachine,
        program: &BootProgram,
        stored: Option<StoredProgram>,
        is_reached: bool,
    ) -> Step {
        if let Err(reason) = self.gate.rehearse_program(machine) {
            return Step::new(StepKind::BootProgram, is_reached, StepDecision::refused(reason));
        }
        let file = match stored {
            Some(stored) => describe(program.url.clone(), stored),
            None => {
                let name = format!("{}/{}", self.client.mac.dashed(), program.name);
                (self.queries.tftp)(program.url.clone(), &name)
            }
        };
        let decision = StepDecision::served(match &file.error {
            Some(error) => error.clone(),
            None => format!("the machine may load {}", program.name),
        });
        Step { file: Some(file), ..Step::new(StepKind::BootProgram, is_reached, decision) }
    }

    /// Returns the loader that asks for the script. An iPXE may be given another program in place of its script.
    fn loader(&self, program: Option<&BootProgram>, ipxe: &[Step], assumptions: &mut Vec<String>) -> LoaderKind {
        let Some(program) = program else { return LoaderKind::Ipxe };
        let loader = LoaderKind::of_program(&program.name);
        let file = ipxe.first().and_then(|step| step.dhcp.as_ref()?.reply.as_ref()).map(boot_file);
        match file.filter(|file| loader == LoaderKind::Ipxe && !file.is_empty() && !file.contains("://")) {
            Some(file) => {
                assumptions.push(format!("iPXE loads {file} in place of its script"));
                LoaderKind::of_program(&file)
            }
            None => loader,
        }
    }

    /// Adds the steps from the loader to its script. Returns whether the machine gets a script.
    fn script_steps(
        &self,
        steps: &mut Vec<Step>,
        ipxe: Vec<Step>,
        (loader, is_loaded): (LoaderKind, bool),
        script: &RehearsedScript,
        machine: &RehearsedMachine,
        program: Option<&BootProgram>,
    ) -> bool {
        let (at, folder) = (machine.at, self.client.mac.dashed());
        let root = self.gate.site().reached_at(at).url();
        let kind = match loader {
            LoaderKind::Grub => (StepKind::GrubConfig, ScriptFormat::Grub, format!("tftp://{at}/grub/grub.cfg")),
            LoaderKind::Pxelinux => {
                let url = format!("tftp://{at}/{folder}/pxelinux.cfg/01-{folder}");
                (StepKind::PxelinuxConfig, ScriptFormat::Pxelinux, url)
            }
            LoaderKind::Ipxe => {
                let is_uefi = self.client.class.architecture.is_some_and(Architecture::is_uefi);
                if is_uefi && let Some(program) = program {
                    let url = match program.is_http {
                        true => format!("{root}/boot/{folder}/autoexec.ipxe"),
                        false => format!("tftp://{at}/{folder}/autoexec.ipxe"),
                    };
                    steps.push(self.script_step(
                        StepKind::Autoexec,
                        ScriptFormat::Autoexec,
                        url,
                        script,
                        at,
                        is_loaded,
                    ));
                }
                (StepKind::Script, ScriptFormat::Ipxe, format!("{root}/ipxe?mac={folder}"))
            }
        };
        let mut is_asked = is_loaded;
        if loader == LoaderKind::Ipxe {
            is_asked &= ipxe.first().is_none_or(Step::is_answered);
            steps.extend(ipxe.into_iter().map(|step| Step { is_reached: is_loaded, ..step }));
        }
        let (kind, format, url) = kind;
        steps.push(self.script_step(kind, format, url, script, at, is_asked));
        is_asked
    }

    fn script_step(
        &self,
        kind: StepKind,
        format: ScriptFormat,
        url: String,
        script: &RehearsedScript,
        at: IpAddr,
        is_reached: bool,
    ) -> Step {
        let text = self.gate.render_rehearsed(script, format, at, self.secrets);
        let kernel = self.gate.rehearse_kernel(script, at, self.secrets);
        let decision = StepDecision::of(&script.decided.decision);
        Step { script: Some(ServedScript { url, text }), kernel, ..Step::new(kind, is_reached, decision) }
    }

    /// Returns the iSCSI login of a host with an image that is attached over iSCSI.
    fn login_step(&self, script: &RehearsedScript, machine: &RehearsedMachine, is_booted: bool) -> Option<Step> {
        let host = machine.host.as_ref()?;
        let BootTarget::Image(name) = &host.spec.image else { return None };
        let image = self.gate.store.load().image(name).cloned()?;
        if !is_attached_over_iscsi(&image) {
            return None;
        }
        let iqn = &self.gate.site().iqn;
        let initiator = |token: &str| match token {
            "" => format!("{iqn}:{}", self.client.mac.dashed()),
            token => format!("{iqn}:{}:{token}", self.client.mac.dashed()),
        };
        let login = RehearsedLogin {
            machine: machine.clone(),
            initiator: initiator(&script.login_token),
            target: self.gate.site().target_iqn(name),
        };
        let (decision, attached) = (self.queries.iscsi)(&login.with_token(&script.login_token));
        let target = image.spec.portal.as_ref().map_or(attached.target.clone(), |portal| portal.target_iqn.clone());
        let initiator = initiator(&self.secrets.text(script.login_token.clone()));
        let attached = Attachment { target, initiator, ..attached };
        Some(Step { iscsi: Some(attached), ..Step::new(StepKind::IscsiLogin, is_booted, decision) })
    }

    /// Returns the config of a host that has one.
    fn config_step(&self, machine: &RehearsedMachine, is_booted: bool, has_token: bool) -> Option<Step> {
        let host = machine.host.as_ref()?;
        let name = host.spec.boot_config_ref.as_ref()?;
        let (host, config) = match self.gate.rehearse_config(machine, has_token) {
            Ok(found) => found,
            Err(reason) => return Some(Step::new(StepKind::Config, is_booted, StepDecision::refused(reason))),
        };
        let config = match self.gate.render_config(&host, &config, Some(machine.at)) {
            Ok(rendered) => rendered.config,
            Err(error) => {
                let refused = StepDecision::refused(Reason::ConfigNotRendered);
                let decision = StepDecision { message: error.to_string(), ..refused };
                return Some(Step::new(StepKind::Config, is_booted, decision));
            }
        };
        let decision = StepDecision::of(&Verdict::Configure(name.clone()).into());
        let state = self.gate.store.load();
        let image = host.spec.image.image().and_then(|image| state.image(image));
        let served = ServedConfig {
            name: config.metadata.name.to_string(),
            format: config.spec.format.to_string(),
            url: self.gate.rehearse_config_url(&host, &config, machine.at, self.secrets),
            delivery: image.map(|image| image.spec.config_delivery),
            files: config_files(&host, &config, &self.gate.report_url(&host, Some(machine.at)))
                .into_iter()
                .map(|file| self.shown(file))
                .collect(),
        };
        Some(Step { config: Some(served), ..Step::new(StepKind::Config, is_booted, decision) })
    }

    /// Returns a file of a config as it is shown: its content may hold passwords.
    fn shown(&self, (name, content): (String, Vec<u8>)) -> ConfigFile {
        let bytes = content.len();
        let text = String::from_utf8(content).unwrap_or_else(|_| "(not text)".to_owned());
        ConfigFile { name, bytes, text: self.secrets.text(text) }
    }
}

/// Returns the boot file of an offer.
fn boot_file(reply: &DhcpMessage) -> String {
    let option = reply.options.iter().find(|option| option.code == BOOT_FILE);
    option.map_or_else(|| reply.file.clone(), |option| option.value.clone())
}

/// Returns the vendor class of the first DHCP message.
fn vendor_class(steps: &[Step]) -> Option<String> {
    let request = &steps.first()?.dhcp.as_ref()?.request;
    request.options.iter().find(|option| option.code == 60).map(|option| option.value.clone())
}

/// Returns whether iPXE attaches an image over iSCSI.
fn is_attached_over_iscsi(image: &Image) -> bool {
    match image.spec.method {
        Method::Sanboot | Method::Sanhook => true,
        Method::Http | Method::Chain | Method::Kernel => false,
    }
}

/// Describes a boot program as HTTP would serve it. May wait for a disk.
fn describe(url: String, stored: StoredProgram) -> ServedFile {
    let missing = |url: String, error: String| ServedFile { url, bytes: None, sha256: None, error: Some(error) };
    let view = match stored {
        Ok(Some(view)) => view,
        Ok(None) => {
            return missing(
                url,
                "no such boot program in firmware_dir: install bootlatch-firmware, or run firmware/stage".to_owned(),
            );
        }
        Err(error) => return missing(url, error.to_string()),
    };
    let size = view.medium.len();
    let read = iso::content_digest::sha256(size, |part| {
        let mut bytes = vec![0; usize::try_from(part.end - part.start).map_err(io::Error::other)?];
        view.medium.read_at(part.start, &mut bytes)?;
        Ok(bytes.into())
    });
    match read {
        Ok(sha256) => ServedFile { url, bytes: Some(size), sha256: Some(sha256), error: None },
        Err(error) => missing(url, error.to_string()),
    }
}

/// Returns the files that the installer can fetch, which reports at `report_url`.
fn config_files(host: &Host, config: &BootConfig, report_url: &str) -> Vec<(String, Vec<u8>)> {
    if config.spec.format != Format::CloudInit {
        return config.spec.files().map(|(name, content)| (name.to_owned(), content.to_vec())).collect();
    }
    let made =
        NOCLOUD.iter().filter_map(|name| Some(((*name).to_owned(), nocloud_file(host, config, name, report_url)?)));
    let others = config.spec.files().filter(|(name, _)| !NOCLOUD.contains(name));
    made.chain(others.map(|(name, content)| (name.to_owned(), content.to_vec()))).collect()
}
