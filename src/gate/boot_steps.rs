//! The steps of boots that decisions show, for the diagnosis of boots that do not go on.

use std::net::IpAddr;

use crate::boot::diagnosis::{ElsewhereRequest, Evidence, ScriptStep, Step};
use crate::boot::{Facts, Reason, ScriptFormat, Verdict};
use crate::fleet::{BootConfig, Image, Mac, Method, Name, Reset, machine_uuid};
use crate::gate::boot_traces::DueMachine;
use crate::gate::{Gate, HostDecision};

/// Returns whether iPXE attaches an image from the target of this server.
fn is_attached_here(image: &Image) -> bool {
    image.spec.is_local() && matches!(image.spec.method, Method::Sanboot | Method::Sanhook)
}

/// Reasons to refuse a request that came from an address of somebody else than the machine that it names.
const ELSEWHERE: [Reason; 4] =
    [Reason::AddressOfOtherMachine, Reason::NotSpecIp, Reason::SeenAtOtherAddress, Reason::AddressUnverified];

impl Gate {
    /// Records the script that a machine is served. iPXE logs in to our target only for some methods of an image.
    pub fn trace_script(&self, facts: &Facts, decided: &HostDecision, format: ScriptFormat) {
        let mac = facts.mac;
        let is_ipxe = matches!(format, ScriptFormat::Ipxe | ScriptFormat::Autoexec);
        let logs_in = |name: &Name| {
            let state = self.store.load();
            is_ipxe && state.image(name).is_some_and(|image| is_attached_here(image))
        };
        let action = match &decided.decision.verdict {
            Verdict::SanBoot(name) if logs_in(name) => ScriptStep::Attach,
            Verdict::SanBoot(_) => ScriptStep::Load,
            Verdict::LocalDisk(_) => ScriptStep::LocalDisk,
            Verdict::Wait(_) | Verdict::Menu => ScriptStep::Wait,
            Verdict::Ignore(_) | Verdict::Enrol(_) | Verdict::Chainload(_) | Verdict::Configure(_) => return,
        };
        self.trace(mac, Step::Script { action });
        self.note_shown_script(facts, decided);
        if decided.lacks_config() {
            self.trace(mac, Step::ConfigWithheld { from: facts.address.map(|address| address.to_canonical()) });
        }
    }

    /// Records an operation that the BMC of a machine accepted, as far as it begins or ends a boot.
    pub fn trace_reset(&self, mac: Mac, reset: Reset) {
        match reset {
            Reset::On | Reset::GracefulRestart | Reset::ForceRestart | Reset::PowerCycle => {
                self.trace(mac, Step::PoweredOn);
            }
            Reset::ForceOff => self.trace_off(mac),
            // The system may take its time, or refuse.
            Reset::GracefulShutdown | Reset::Nmi => {}
        }
    }

    /// Records that a machine was switched off, if a boot of it was seen.
    pub fn trace_off(&self, mac: Mac) {
        if self.traces.is_known(mac) {
            self.trace(mac, Step::PoweredOff);
        }
    }

    /// Records that a command of a machine's script failed. Only the machine itself can report that.
    pub fn trace_script_failure(&self, facts: &Facts, command: &'static str, errno: u32) {
        if self.verify_address(facts.mac, facts.address) == Ok(true) {
            self.trace(facts.mac, Step::ScriptFailed { command: command.into(), errno });
        }
    }

    /// Records that a config was served, by its main file.
    pub fn trace_config(&self, mac: Mac, config: &BootConfig) {
        let length = config.file(None).map(<[u8]>::len);
        // Of a template that a machine gets with its image, what was rendered last.
        let length = length.or_else(|| self.rendered.main_length(mac, &config.metadata.name));
        self.trace(mac, Step::ConfigServed { octets: length.unwrap_or_default() as u64 });
    }

    /// Records a refused login: of the machine, or of somebody else in its name.
    pub fn trace_refused_login(&self, mac: Mac, target: &str, reason: Option<Reason>, from: IpAddr, has_token: bool) {
        match reason {
            // The machine waits for its image, which is recorded.
            Some(Reason::ImageUnavailable) => {}
            Some(reason) if ELSEWHERE.contains(&reason) => {
                self.trace_elsewhere(mac, ElsewhereRequest::Login, from, has_token);
            }
            reason => {
                let is_tied = self.verify_address(mac, Some(from)) == Ok(true);
                self.trace(mac, Step::LoginRefused { target: target.into(), reason, from, is_tied });
            }
        }
    }

    /// Records a refused request for the config in a machine's name; nothing if the reason is not its address.
    pub fn trace_refused_config(&self, mac: Mac, reason: Reason, from: Option<IpAddr>, has_token: bool) {
        if let Some(from) = from.filter(|_| ELSEWHERE.contains(&reason)) {
            self.trace_elsewhere(mac, ElsewhereRequest::Config, from, has_token);
        }
    }

    /// Records that nobody answers ARP for the relay that a machine asks through. Returns whether that is new.
    pub fn trace_unanswered_relay(&self, machine: &DueMachine) -> bool {
        let Some(Evidence { step: Step::Discover { relay: Some(relay), .. }, .. }) =
            machine.steps.iter().rev().find(|evidence| !matches!(evidence.step, Step::Offered { .. }))
        else {
            return false;
        };
        let segments = self.segments.load();
        let segment = machine.interface.and_then(|index| segments.0.get(index));
        let is_unanswered = segment.is_some_and(|segment| self.neighbours.is_unanswered(&segment.interface, *relay));
        if is_unanswered {
            self.trace(machine.mac, Step::ArpUnanswered { address: *relay });
        }
        is_unanswered
    }

    /// Records with a declared host that another interface of its machine asks, by the UUID or by what its BMC shows.
    pub fn trace_other_interface(&self, machine: &DueMachine) {
        let state = self.store.load();
        let newest = machine.steps.iter().rev().find_map(|evidence| match evidence.step {
            Step::Discover { client, .. } => Some((client, evidence.last)),
            _ => None,
        });
        let Some((client, at)) = newest else { return };
        if !machine.is_changed || state.is_declared(machine.mac) {
            return;
        }
        let others = |uuid| state.hosts_by_uuid(uuid).filter(|(mac, _)| *mac != machine.mac);
        let by_uuid = machine.uuid.and_then(|uuid| machine_uuid::machine_of(uuid, others(uuid)));
        let host = by_uuid.or_else(|| state.host_by_nic(machine.mac));
        if let Some(host) = host.filter(|host| state.is_declared(*host)) {
            let step = Step::OtherInterface { mac: machine.mac, client };
            self.traces.record_at(host, step, at, |mac| self.store.load().is_declared(mac));
        }
    }

    fn trace_elsewhere(&self, mac: Mac, what: ElsewhereRequest, from: IpAddr, has_token: bool) {
        let neighbour = self.neighbours.look_up(from);
        self.trace(mac, Step::AskedFromElsewhere { what, from, neighbour, has_token });
    }
}
