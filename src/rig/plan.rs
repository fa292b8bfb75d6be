//! A specification that was checked: names exist, values are in range, and files are where it says. Pure: whether a file
//! exists is asked through an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::event::Event;
use crate::fleet::{Mac, Name, PathPart, Phase, StallReason, deserialize_with_path};
use crate::provision::yaml_error;

use super::lan::fault::{Fault, Traffic};
use super::located_yaml::Lines;
use super::spec::{Condition, DEFAULT_LIMIT, Expectation, FaultSpec, MachineSpec, NicSpec, Spec};

/// Maximum number of machines of a rig.
pub const MAX_MACHINES: usize = 16;
/// Maximum number of network interfaces or disks of a machine.
const MAX_DEVICES: usize = 8;
/// Maximum number of CD-ROMs: the SATA controller has six ports, one of which is for the seed.
const MAX_CDROMS: usize = 5;
/// Maximum number of expectations.
const MAX_EXPECTATIONS: usize = 200;
/// Maximum number of faults.
const MAX_FAULTS: usize = 16;

/// An error of a specification: the file, the line, the field and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {message}", path.display())]
pub struct SpecError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The field and what is wrong with it.
    pub message: String,
}

/// A checked specification.
#[derive(Debug)]
pub struct Plan {
    /// The specification. Its paths are absolute.
    pub spec: Spec,
    /// MAC addresses of each machine's interfaces.
    pub macs: Vec<Vec<Mac>>,
    /// Faults of the LAN.
    pub faults: Vec<Fault>,
    /// What must happen, and what must not.
    pub goals: Vec<Goal>,
    /// Line of the first line of `server`.
    pub server_line: usize,
    /// Lines of the entries that become objects of the server, by kind and name.
    pub object_lines: BTreeMap<(&'static str, String), usize>,
}

/// An expectation.
#[derive(Debug, Clone)]
pub struct Goal {
    /// Index of the machine.
    pub machine: usize,
    /// What must happen or must not.
    pub condition: Sought,
    /// Whether it must not happen.
    pub is_forbidden: bool,
    /// Time limit; `None` of what must not happen until the end.
    pub limit: Option<Duration>,
    /// Keys to press once it is met.
    pub press: Vec<String>,
    /// Line of the specification.
    pub line: usize,
}

impl Goal {
    /// Returns whether it must not happen until everything else is decided.
    pub fn is_until_end(&self) -> bool {
        self.is_forbidden && self.limit.is_none()
    }
}

/// What is sought in what is known of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sought {
    /// A phase of the host.
    Phase(String),
    /// A text on the console.
    Console(String),
    /// An event of the timeline.
    Event(String),
    /// A reason code of the diagnosis.
    Diagnosis(String),
}

impl std::fmt::Display for Sought {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Phase(phase) => write!(to, "phase {phase}"),
            Self::Console(text) => write!(to, "console {text:?}"),
            Self::Event(event) => write!(to, "event {event}"),
            Self::Diagnosis(reason) => write!(to, "diagnosis {reason}"),
        }
    }
}

/// Parses and checks the text of a specification in YAML or JSON. `is_file` asks whether a path names a file.
///
/// # Errors
/// The first fault, with its line.
pub fn parse(path: &Path, text: &str, is_file: &dyn Fn(&Path) -> bool) -> Result<Plan, SpecError> {
    // YAML does not allow tabs between the tokens of JSON everywhere; JSON has none in its strings.
    let is_json = text.trim_start().starts_with('{');
    let text = if is_json { text.replace('\t', " ") } else { text.to_owned() };
    let invalid = |error: &serde_saphyr::Error| {
        let line = error.without_snippet().location().map_or(1, |place| usize::try_from(place.line()).unwrap_or(1));
        SpecError { path: path.to_owned(), line, message: yaml_error(error) }
    };
    let value: Value = serde_saphyr::from_str(&text).map_err(|error| invalid(&error))?;
    let lines: Lines = serde_saphyr::from_str(&text).map_err(|error| invalid(&error))?;
    let spec: Spec = deserialize_with_path(&value).map_err(|error| {
        // The field that an error of an unknown or missing field is about is in its text only.
        let field = error.message.split('`').nth(1);
        let line = lines.line(error.path.parts(), field);
        SpecError { path: path.to_owned(), line, message: plain_types(&error.to_string()) }
    })?;
    if let Some(index) = empty_host(&value) {
        let field = format!("machines[{index}].host");
        let line = lines.line(&parts(&field), None);
        let message = format!("{field}: is empty: write host: {{}} for a host without an image, or leave it out");
        return Err(SpecError { path: path.to_owned(), line, message });
    }
    let base = path.parent().filter(|base| !base.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Checker { path, lines: &lines, base, is_file }.check(spec, &text)
}

struct Checker<'a> {
    path: &'a Path,
    lines: &'a Lines,
    base: &'a Path,
    is_file: &'a dyn Fn(&Path) -> bool,
}

impl Checker<'_> {
    fn check(&self, mut spec: Spec, text: &str) -> Result<Plan, SpecError> {
        self.number("machines", spec.machines.len(), 1, MAX_MACHINES)?;
        self.number("expect", spec.expect.len(), 0, MAX_EXPECTATIONS)?;
        self.number("faults", spec.faults.len(), 0, MAX_FAULTS)?;
        self.names("machines", spec.machines.iter().map(|machine| &machine.name))?;
        self.names("images", spec.images.iter().map(|image| &image.name))?;
        self.names("configs", spec.configs.iter().map(|config| &config.name))?;
        self.objects(&mut spec)?;
        let mut macs = Vec::new();
        let mut used = BTreeSet::new();
        for index in 0..spec.machines.len() {
            let at = format!("machines[{index}]");
            self.machine(&at, &mut spec.machines[index])?;
            self.host(&at, &spec, index)?;
            let found = self.macs(&at, index, &spec.machines[index].nics)?;
            if let Some(nic) = found.iter().position(|mac| !used.insert(*mac)) {
                return Err(self.error(&format!("{at}.nics[{nic}].mac"), "another interface has this address"));
            }
            macs.push(found);
        }
        let faults = spec.faults.iter().enumerate().map(|(index, fault)| self.fault(index, fault, &spec, &macs));
        let faults = faults.collect::<Result<_, _>>()?;
        let goals = spec.expect.iter().enumerate().map(|(index, expected)| self.goal(index, expected, &spec));
        let mut goals = goals.collect::<Result<Vec<Goal>, _>>()?;
        // With nothing else to wait for, what must not happen has the default limit.
        if goals.iter().all(|goal| goal.is_forbidden && goal.limit.is_none()) {
            goals.iter_mut().for_each(|goal| goal.limit = Some(DEFAULT_LIMIT));
        }
        let (server_line, object_lines) = (self.server_line(text), self.object_lines(&spec));
        Ok(Plan { macs, faults, goals, server_line, object_lines, spec })
    }

    fn object_lines(&self, spec: &Spec) -> BTreeMap<(&'static str, String), usize> {
        let line = |field: String| self.lines.line(&parts(&field), None);
        let configs = spec.configs.iter().enumerate();
        let configs = configs.map(|(at, config)| (("BootConfig", config.name.clone()), line(format!("configs[{at}]"))));
        let images = spec.images.iter().enumerate();
        let images = images.map(|(at, image)| (("ISCSICdrom", image.name.clone()), line(format!("images[{at}]"))));
        let hosts = spec.machines.iter().enumerate();
        let hosts =
            hosts.map(|(at, machine)| (("BareMetalHost", machine.name.clone()), line(format!("machines[{at}].host"))));
        configs.chain(images).chain(hosts).collect()
    }

    fn error(&self, field: &str, message: &str) -> SpecError {
        let parts = parts(field);
        let line = self.lines.line(&parts, None);
        SpecError { path: self.path.to_owned(), line, message: format!("{field}: {message}") }
    }

    /// Returns the line of the first line of the text of `server`.
    fn server_line(&self, text: &str) -> usize {
        let line = self.lines.line(&parts("server"), None);
        let written = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        // A block begins below its key.
        let is_block = written.trim_end().ends_with(['|', '>', '-', '+']) && written.trim_start().starts_with("server");
        line + usize::from(is_block)
    }

    fn number(&self, field: &str, number: usize, least: usize, most: usize) -> Result<(), SpecError> {
        match (least..=most).contains(&number) {
            true => Ok(()),
            false => Err(self.error(field, &format!("{number} is out of range: expected {least} to {most}"))),
        }
    }

    fn names<'a>(&self, list: &str, names: impl Iterator<Item = &'a String>) -> Result<(), SpecError> {
        let mut seen = BTreeSet::new();
        for (index, name) in names.enumerate() {
            let field = format!("{list}[{index}].name");
            name.parse::<Name>().map_err(|error| self.error(&field, &error.to_string()))?;
            if !seen.insert(name) {
                return Err(self.error(&field, &format!("{name:?} is there twice")));
            }
        }
        Ok(())
    }

    /// Makes a path of the specification an absolute one.
    fn file(&self, field: &str, path: &mut PathBuf) -> Result<(), SpecError> {
        *path = self.base.join(&*path);
        if !(self.is_file)(path) {
            return Err(self.error(field, &format!("{} is not a file", path.display())));
        }
        *path = std::path::absolute(&*path).map_err(|error| self.error(field, &error.to_string()))?;
        Ok(())
    }

    fn objects(&self, spec: &mut Spec) -> Result<(), SpecError> {
        let configs: BTreeSet<String> = spec.configs.iter().map(|config| config.name.clone()).collect();
        for (index, image) in spec.images.iter_mut().enumerate() {
            let at = format!("images[{index}]");
            match &mut image.iso {
                Some(iso) => self.file(&format!("{at}.iso"), iso)?,
                None if image.spec.contains_key("url") || image.spec.contains_key("portal") => {}
                None => {
                    return Err(self.error(&at, "iso: missing; only an image with spec.url or spec.portal has no file"));
                }
            }
            if let Some(config) = image.config.as_ref().filter(|config| !configs.contains(*config)) {
                return Err(self.error(&format!("{at}.config"), &format!("no config {config:?} in configs")));
            }
        }
        for (index, config) in spec.configs.iter_mut().enumerate() {
            let at = format!("configs[{index}]");
            if config.data.is_empty() && config.files.is_empty() {
                return Err(self.error(&at, "data or files: missing"));
            }
            for (name, file) in &mut config.files {
                self.file(&format!("{at}.files.{name}"), file)?;
            }
        }
        Ok(())
    }

    fn machine(&self, at: &str, machine: &mut MachineSpec) -> Result<(), SpecError> {
        self.number(&format!("{at}.cpu_cores"), machine.cpu_cores as usize, 1, 64)?;
        self.number(&format!("{at}.memory_mib"), machine.memory_mib as usize, 32, 1 << 20)?;
        self.number(&format!("{at}.boot_order"), machine.boot_order.len(), 1, 3)?;
        let is_twice = |place: &usize| machine.boot_order[..*place].contains(&machine.boot_order[*place]);
        if let Some(place) = (0..machine.boot_order.len()).find(is_twice) {
            return Err(self.error(&format!("{at}.boot_order[{place}]"), "is there twice"));
        }
        self.number(&format!("{at}.disks"), machine.disks.len(), 0, MAX_DEVICES)?;
        self.number(&format!("{at}.cdroms"), machine.cdroms.len(), 0, MAX_CDROMS)?;
        self.number(&format!("{at}.nics"), machine.nics.len(), 0, MAX_DEVICES)?;
        let ids = machine.disks.iter().map(|disk| &disk.id).chain(machine.cdroms.iter().map(|cdrom| &cdrom.id));
        let mut seen = BTreeSet::new();
        for id in ids {
            let is_word = !id.is_empty() && id.chars().all(|sign| sign.is_ascii_alphanumeric() || "-_".contains(sign));
            if !is_word || id.len() > 32 || !seen.insert(id.clone()) {
                let message = format!("id {id:?}: expected at most 32 letters, digits, - and _, once in a machine");
                return Err(self.error(at, &message));
            }
        }
        for (index, disk) in machine.disks.iter_mut().enumerate() {
            let at = format!("{at}.disks[{index}]");
            if let Some(file) = &mut disk.backing_file {
                self.file(&format!("{at}.backing_file"), file)?;
            }
            match (disk.size_gib, &disk.backing_file) {
                (None, None) => return Err(self.error(&at, "size_gib: missing")),
                (size, _) => self.number(&format!("{at}.size_gib"), size.unwrap_or(1) as usize, 1, 65_536)?,
            }
        }
        for (index, cdrom) in machine.cdroms.iter_mut().enumerate() {
            self.file(&format!("{at}.cdroms[{index}].iso_path"), &mut cdrom.iso_path)?;
        }
        for (index, nic) in machine.nics.iter_mut().enumerate() {
            let at = format!("{at}.nics[{index}]");
            if nic.model.is_empty() || !nic.model.chars().all(|sign| sign.is_ascii_alphanumeric() || sign == '-') {
                return Err(
                    self.error(&format!("{at}.model"), "expected a model of QEMU, as in virtio-net-pci or e1000")
                );
            }
            if let Some(rom) = &mut nic.rom {
                self.file(&format!("{at}.rom"), rom)?;
            }
        }
        Ok(())
    }

    fn host(&self, at: &str, spec: &Spec, index: usize) -> Result<(), SpecError> {
        let Some(host) = &spec.machines[index].host else { return Ok(()) };
        if spec.machines[index].nics.is_empty() {
            return Err(self.error(&format!("{at}.host"), "the machine has no network interface"));
        }
        if let Some(image) = host.image.as_ref().filter(|name| !spec.images.iter().any(|image| image.name == **name)) {
            return Err(self.error(&format!("{at}.host.image"), &format!("no image {image:?} in images")));
        }
        match host.config.as_ref().filter(|name| !spec.configs.iter().any(|config| config.name == **name)) {
            Some(config) => Err(self.error(&format!("{at}.host.config"), &format!("no config {config:?} in configs"))),
            None => Ok(()),
        }
    }

    fn macs(&self, at: &str, machine: usize, nics: &[NicSpec]) -> Result<Vec<Mac>, SpecError> {
        let mac = |(index, nic): (usize, &NicSpec)| {
            let Some(text) = &nic.mac else {
                return Ok(Mac([0x52, 0x54, 0x00, 0x77, index as u8, machine as u8 + 1]));
            };
            let field = format!("{at}.nics[{index}].mac");
            let mac = text.parse::<Mac>().map_err(|error| self.error(&field, &error.to_string()))?;
            match mac.rejection_reason() {
                Some(reason) => Err(self.error(&field, reason)),
                None => Ok(mac),
            }
        };
        nics.iter().enumerate().map(mac).collect()
    }

    fn machine_index(&self, field: &str, name: Option<&String>, spec: &Spec) -> Result<usize, SpecError> {
        match name {
            None if spec.machines.len() == 1 => Ok(0),
            None => Err(self.error(field, "machine: missing; there are several")),
            Some(name) => spec
                .machines
                .iter()
                .position(|machine| machine.name == *name)
                .ok_or_else(|| self.error(&format!("{field}.machine"), &format!("no machine {name:?} in machines"))),
        }
    }

    fn fault(&self, index: usize, fault: &FaultSpec, spec: &Spec, macs: &[Vec<Mac>]) -> Result<Fault, SpecError> {
        let at = format!("faults[{index}]");
        let macs = match &fault.machine {
            None => None,
            name => Some(macs[self.machine_index(&at, name.as_ref(), spec)?].clone()),
        };
        if fault.after.is_some() && fault.drop.is_none() {
            return Err(self.error(&format!("{at}.after"), "is only for drop"));
        }
        match (&fault.drop, fault.lose, fault.delay) {
            (Some(what), None, None) => {
                let word = what.as_str().map_or_else(|| what.to_string(), str::to_owned);
                let traffic = Traffic::parse(&word).ok_or_else(|| {
                    let known = Traffic::NAMES.map(|(name, _)| name).join(", ");
                    self.error(&format!("{at}.drop"), &format!("{word:?}: expected one of {known}, or a port"))
                })?;
                Ok(Fault::Drop { traffic, after: fault.after.map_or(0, |after| after.0), macs })
            }
            (None, Some(percent), None) if percent > 0.0 && percent <= 100.0 => {
                Ok(Fault::Lose { millionths: (percent * 10_000.0) as u32, macs })
            }
            (None, Some(percent), None) => Err(self.error(
                &format!("{at}.lose"),
                &format!("{percent} is out of range: expected more than 0, at most 100"),
            )),
            (None, None, Some(delay)) if delay.0 <= Duration::from_secs(10) => Ok(Fault::Delay { time: delay.0, macs }),
            (None, None, Some(_)) => Err(self.error(&format!("{at}.delay"), "is out of range: expected at most 10s")),
            _ => Err(self.error(&at, "expected exactly one of drop, lose and delay")),
        }
    }

    fn goal(&self, index: usize, expected: &Expectation, spec: &Spec) -> Result<Goal, SpecError> {
        let at = format!("expect[{index}]");
        let machine = self.machine_index(&at, expected.machine.as_ref(), spec)?;
        let own = Condition {
            phase: expected.phase.clone(),
            console: expected.console.clone(),
            event: expected.event.clone(),
            diagnosis: expected.diagnosis.clone(),
        };
        let is_given = own.phase.is_some() || own.console.is_some() || own.event.is_some() || own.diagnosis.is_some();
        let condition = match &expected.never {
            Some(_) if is_given => return Err(self.error(&at, "expected one condition: never has its own")),
            Some(forbidden) => self.sought(&format!("{at}.never"), forbidden)?,
            None => self.sought(&at, &own)?,
        };
        let is_forbidden = expected.never.is_some();
        if is_forbidden && !expected.press.is_empty() {
            return Err(self.error(&format!("{at}.press"), "is not for never"));
        }
        let is_key = |key: &String| key.chars().all(|sign| sign.is_ascii_alphanumeric() || "-_".contains(sign));
        if let Some(key) = expected.press.iter().find(|key| key.is_empty() || key.len() > 40 || !is_key(key)) {
            return Err(
                self.error(&format!("{at}.press"), &format!("{key:?}: expected keys of QEMU, as in down, ret, ctrl-b"))
            );
        }
        let limit = expected.within.map(|limit| limit.0);
        let limit = if is_forbidden { limit } else { Some(limit.unwrap_or(DEFAULT_LIMIT)) };
        let line = self.lines.line(&parts(&at), None);
        Ok(Goal { machine, condition, is_forbidden, limit, press: expected.press.clone(), line })
    }

    fn sought(&self, at: &str, condition: &Condition) -> Result<Sought, SpecError> {
        let Condition { phase, console, event, diagnosis } = condition.clone();
        let (field, text, sought): (_, _, fn(String) -> Sought) = match (phase, console, event, diagnosis) {
            (Some(phase), None, None, None) => ("phase", phase, Sought::Phase),
            (None, Some(text), None, None) => ("console", text, Sought::Console),
            (None, None, Some(event), None) => ("event", event, Sought::Event),
            (None, None, None, Some(reason)) => ("diagnosis", reason, Sought::Diagnosis),
            _ => return Err(self.error(at, "expected exactly one of phase, console, event and diagnosis")),
        };
        let field = format!("{at}.{field}");
        if text.is_empty() || text.len() > 200 {
            return Err(self.error(&field, "expected a text of 1 to 200 octets"));
        }
        let sought = sought(text);
        let unknown = match &sought {
            Sought::Phase(text) => {
                let known = Phase::ALL.map(|phase| phase.to_string());
                (!known.contains(text)).then(|| format!("{text:?}: expected one of {}", known.join(", ")))
            }
            Sought::Diagnosis(text) => (!StallReason::ALL.iter().any(|reason| reason.code() == text))
                .then(|| format!("{text:?}: no reason code: see bootlatch's reference, stalls.md")),
            Sought::Event(text) => {
                (!is_event(text)).then(|| format!("{text:?}: no event code: see bootlatch's reference, events.md"))
            }
            Sought::Console(_) => None,
        };
        unknown.map_or(Ok(sought), |message| Err(self.error(&field, &message)))
    }
}

/// Returns whether the timeline has events with this code.
fn is_event(code: &str) -> bool {
    // Only a known code is followed by an error about its detail, if by any.
    let read = serde_json::from_value::<Event>(json!({"event": code, "detail": {}}));
    !read.is_err_and(|error| error.to_string().starts_with("unknown variant"))
}

/// Returns the index of the first machine whose `host` has no value.
fn empty_host(spec: &Value) -> Option<usize> {
    let machines = spec["machines"].as_array()?;
    machines.iter().position(|machine| machine.get("host").is_some_and(Value::is_null))
}

/// Writes the types of Rust in an error as YAML has them.
fn plain_types(message: &str) -> String {
    let Some((before, expected)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    let plain = match expected.split_whitespace().next() {
        Some("struct" | "map") => "a mapping",
        Some("f64" | "f32") => "a number",
        Some("u32" | "u64" | "usize") => "a whole number",
        Some("sequence") => "a list",
        _ => expected,
    };
    format!("{before}, expected {plain}")
}

/// Splits a path as an error shows it: `machines[0].disks[1].id`.
fn parts(field: &str) -> Vec<PathPart> {
    let words = field.split(['.', '[', ']']).filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_or_else(|_| PathPart::Key(word.to_owned()), PathPart::Index)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        match parse(Path::new("ci/a.yaml"), text, &|path| path != Path::new("ci/gone")) {
            Ok(_) => "valid".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    const WHOLE: &str = "kind: Rig\ndhcp: proxy\nserver: |\n  unknown_hosts = \"menu\"\nimages:\n- {name: a, iso: a.iso, config: c, spec: {method: kernel}}\n\
        configs:\n- {name: c, format: preseed, data: {preseed.cfg: x}}\nmachines:\n- name: one\n  cpu_cores: 2\n  memory_mib: 512\n  \
        firmware: FIRMWARE_UEFI\n  boot_order: [BOOT_DEVICE_NETWORK, disk]\n  disks: [{id: d, size_gib: 2, bootable: true, backing_file: null}]\n  \
        cdroms: [{id: e, iso_path: /e.iso, bootable: false}]\n  cloud_init: {user_data: x, meta_data: v, network_config: z, vendor_data: w}\n  \
        nics: [{mac: 52-54-00-00-00-01}, {model: e1000}]\n  host: {image: a, config: c}\nfaults: [{drop: 4011}, {drop: tftp, after: 100kB, machine: one}, {lose: 5}, {delay: 20ms}]\n\
        expect:\n- {phase: Installed, within: 10m}\n- {console: \"login:\", press: [ret, ctrl-c]}\n- {never: {event: refused}}\n";

    #[test]
    fn every_field_is_read_from_yaml_and_json() {
        let plan = parse(Path::new("ci/a.yaml"), WHOLE, &|_| true).unwrap();
        let iso = std::env::current_dir().unwrap().join("ci/a.iso");
        assert_eq!(plan.spec.images[0].iso, Some(iso), "a script with it runs from anywhere");
        assert_eq!(plan.macs, [vec!["52:54:00:00:00:01".parse().unwrap(), "52:54:00:77:01:01".parse().unwrap()]]);
        assert_eq!(plan.faults.len(), 4);
        let limits: Vec<_> = plan.goals.iter().map(|goal| goal.limit.map(|limit| limit.as_secs())).collect();
        assert_eq!(limits, [Some(600), Some(300), None]);
        assert_eq!(plan.server_line, 4);
        let value: Value = serde_saphyr::from_str(WHOLE).unwrap();
        let json = serde_json::to_string_pretty(&value).unwrap().replace("  ", "\t");
        assert_eq!(parse(Path::new("a.json"), &json, &|_| true).unwrap().goals.len(), 3);
    }

    #[test]
    fn the_examples_are_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rig");
        let mut found = 0;
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let plan = parse(&path, &std::fs::read_to_string(&path).unwrap(), &|_| true).unwrap();
                assert!(!plan.goals.is_empty(), "{}", path.display());
                found += 1;
            }
        }
        assert_eq!(found, 6);
    }

    #[test]
    fn an_error_names_file_line_and_field() {
        let rows = [
            ("machines: [", "ci/a.yaml:1: "),
            ("\nmachines: []", "ci/a.yaml:2: machines: 0 is out of range: expected 1 to 16"),
            ("x: 1\nmachines: []", "ci/a.yaml:1: x: unknown field `x`"),
            ("machines:\n- name: a\n  memry: 1", "ci/a.yaml:3: machines[0].memry: unknown field `memry`"),
            ("machines:\n- name: a\n  cpu_cores: two", "ci/a.yaml:3: machines[0].cpu_cores: invalid type"),
            ("text", "ci/a.yaml:1: invalid type: string \"text\", expected a mapping"),
            (
                "machines: [{name: a}]\nfaults: [{lose: much}]",
                "ci/a.yaml:2: faults[0].lose: invalid type: string \"much\", expected a number",
            ),
            ("machines:\n- name: a\n  host:", "ci/a.yaml:3: machines[0].host: is empty: write host: {}"),
            ("machines:\n- name: a\n  boot_order: []", "ci/a.yaml:3: machines[0].boot_order: 0 is out of range"),
            (
                "machines:\n- name: a\n  boot_order: [disk, BOOT_DEVICE_DISK]",
                "ci/a.yaml:3: machines[0].boot_order[1]: is there twice",
            ),
            ("machines:\n- name: a\n  disks:\n  - id: b\n", "ci/a.yaml:4: machines[0].disks[0]: size_gib: missing"),
            (
                "machines:\n- name: a\n  cdroms:\n  - id: b\n    iso_path: gone\n",
                "ci/a.yaml:5: machines[0].cdroms[0].iso_path: ci/gone is not a file",
            ),
            ("machines:\n- name: a\n  firmware: efi", "ci/a.yaml:3: machines[0].firmware: unknown variant `efi`"),
            ("machines:\n- name: a\n- name: a", "ci/a.yaml:3: machines[1].name: \"a\" is there twice"),
            (
                "machines:\n- name: a\n  host: {image: b}",
                "ci/a.yaml:3: machines[0].host.image: no image \"b\" in images",
            ),
            (
                "machines: [{name: a}]\nexpect:\n- {phase: Done}",
                "ci/a.yaml:3: expect[0].phase: \"Done\": expected one of",
            ),
            (
                "machines: [{name: a}]\nexpect:\n- {phase: Failed}\n- {event: offered}",
                "ci/a.yaml:4: expect[1].event: \"offered\": no event code",
            ),
            (
                "machines: [{name: a}]\nexpect:\n- never: {diagnosis: silent}",
                "ci/a.yaml:3: expect[0].never.diagnosis: \"silent\": no reason code",
            ),
            ("machines: [{name: a}]\nexpect:\n- {within: 3m}", "ci/a.yaml:3: expect[0]: expected exactly one of"),
            ("machines: [{name: a}]\nexpect:\n- console: a\n  within: 3", "ci/a.yaml:4: expect[0].within: "),
            (
                "machines: [{name: a}]\nexpect:\n- {console: a, machine: b}",
                "ci/a.yaml:3: expect[0].machine: no machine \"b\"",
            ),
            ("machines: [{name: a}]\nfaults:\n- drop: ftp", "ci/a.yaml:3: faults[0].drop: \"ftp\": expected one of"),
            ("machines: [{name: a}]\nfaults: [{lose: 101}]", "ci/a.yaml:2: faults[0].lose: 101 is out of range"),
            ("machines: [{name: a, nics: [{mac: '01:00:00:00:00:00'}]}]", "ci/a.yaml:1: machines[0].nics[0].mac: "),
            ("machines: [{name: a}]\nimages:\n- {name: i}", "ci/a.yaml:3: images[0]: iso: missing"),
        ];
        for (text, expected) in rows {
            let said = said(text);
            assert!(said.starts_with(expected), "{text:?}: {said}, expected {expected}");
        }
    }
}
