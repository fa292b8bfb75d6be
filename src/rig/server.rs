//! The servers of a rig: bootlatch itself, and dnsmasq where the LAN has a DHCP server of its own.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::config::{self, ConfigError, Flags};

use super::lan::links::{self, FIRST_ADDRESS, INTERFACE, POOL, SECOND_ADDRESS, SUBNET};
use super::outputs::run_dir;
use super::plan::{Plan, SpecError};
use super::spec::{Dhcp, HostEntry};

/// Directory of a rig's state. It is in memory, and visible only to the rig.
pub const STATE: &str = "/run/rig/state";
/// The server's API socket.
pub const SOCKET: &str = "/run/rig/state/api.sock";
/// The server's log in the output directory.
const LOG: &str = "bootlatch.log";
/// This program.
const PROGRAM: &str = "/proc/self/exe";
/// Time that the server has to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Time between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(200);
/// Version of the objects.
const API: &str = "v1";

/// Returns bootlatch's address on the LAN.
pub fn address(dhcp: Dhcp) -> &'static str {
    match dhcp {
        Dhcp::Own => FIRST_ADDRESS,
        Dhcp::Proxy => SECOND_ADDRESS,
    }
}

/// Returns the flags of the server.
fn flags(output: &Path, firmware_dir: Option<&PathBuf>) -> Flags {
    Flags {
        config: Some(run_dir(output).join("server/bootlatch.toml")),
        state_dir: Some(STATE.into()),
        firmware_dir: firmware_dir.cloned(),
        ..Flags::default()
    }
}

/// Writes the server's configuration, and checks it; returns the directories of the boot programs.
///
/// # Errors
/// [`SpecError`] for a fault in the specification's part of it.
pub fn configure(
    plan: &Plan,
    spec: &Path,
    output: &Path,
    firmware_dir: Option<&PathBuf>,
) -> anyhow::Result<Vec<PathBuf>> {
    let directory = run_dir(output).join("server");
    let drop_in = directory.join("conf.d/rig.toml");
    std::fs::create_dir_all(directory.join("conf.d")).with_context(|| directory.display().to_string())?;
    std::fs::write(directory.join("bootlatch.toml"), &plan.spec.server)?;
    let address = address(plan.spec.dhcp);
    let own = match plan.spec.dhcp {
        Dhcp::Own => {
            format!("mode = \"server\"\n[[dhcp.subnets]]\nsubnet = \"{SUBNET}\"\npools = [\"{}-{}\"]\n", POOL.0, POOL.1)
        }
        Dhcp::Proxy => "mode = \"proxy\"\n".to_owned(),
    };
    // Root of the rig's user namespace.
    let text = format!("user = \"root\"\n[[interfaces]]\nname = \"{INTERFACE}\"\naddress = \"{address}\"\n{own}");
    std::fs::write(drop_in, text)?;
    match config::load(&flags(output, firmware_dir)) {
        Ok(config) => Ok(config.firmware_dirs),
        Err(error) => Err(spec_error(plan, spec, &directory, &error).into()),
    }
}

/// Places an error of the configuration in the specification.
fn spec_error(plan: &Plan, spec: &Path, directory: &Path, error: &ConfigError) -> SpecError {
    let text = error.to_string();
    let file = directory.join("bootlatch.toml").display().to_string();
    let rest = text.strip_prefix(&file).unwrap_or(&text).trim_start_matches([':', ' ']);
    let numbered = rest.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    let numbered = numbered.and_then(|(line, message)| Some((line.parse::<usize>().ok()?, message)));
    let (line, message) =
        numbered.map_or((plan.server_line, rest), |(line, message)| (plan.server_line + line - 1, message));
    SpecError { path: spec.to_owned(), line, message: format!("server: {message}") }
}

/// Starts the server, and waits until it is ready.
///
/// # Errors
/// It ends, or is not ready in time. The error has the end of its log.
pub fn start(output: &Path, firmware_dir: Option<&PathBuf>) -> anyhow::Result<Child> {
    std::fs::create_dir_all(STATE).context(STATE)?;
    let ready = UnixDatagram::bind("/run/rig/notify").context("/run/rig/notify")?;
    ready.set_read_timeout(Some(LOOK))?;
    let log = output.join(LOG);
    let mut command = Command::new(PROGRAM);
    let flags = flags(output, firmware_dir);
    command.arg("serve").arg("--config").args(&flags.config).arg("--state-dir").args(&flags.state_dir);
    if let Some(directory) = &flags.firmware_dir {
        command.arg("--firmware-dir").arg(directory);
    }
    command.env("NOTIFY_SOCKET", "/run/rig/notify").env_remove("RUNTIME_DIRECTORY").env_remove("JOURNAL_STREAM");
    let logged = File::create(&log).with_context(|| log.display().to_string())?;
    let mut child = command.stdin(Stdio::null()).stdout(logged.try_clone()?).stderr(logged).spawn().context(PROGRAM)?;
    let end = Instant::now() + READY_TIMEOUT;
    let mut message = [0; 4096];
    while Instant::now() < end {
        match ready.recv(&mut message) {
            Ok(length) if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") => {
                return Ok(child);
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        if child.try_wait()?.is_some() {
            bail!("bootlatch does not start:\n{}", last_lines(&log));
        }
    }
    bail!("bootlatch is not ready after {} s:\n{}", READY_TIMEOUT.as_secs(), last_lines(&log))
}

/// Starts dnsmasq as the DHCP server of the LAN, which knows nothing of booting. `port` is the switch's end of its interface.
///
/// # Errors
/// It cannot be started.
pub fn start_dnsmasq(output: &Path, port: &str) -> anyhow::Result<Child> {
    let log = output.join("dnsmasq.log");
    let mut command = Command::new("dnsmasq");
    // As a daemon it would change its groups, which a user namespace does not let it.
    command.args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--log-dhcp", "--no-resolv", "--no-hosts"]);
    command.args(["--pid-file=", "--dhcp-leasefile=/run/rig/dnsmasq.leases"]);
    command.arg(format!("--interface={INTERFACE}")).arg(format!("--dhcp-range={},{},1h", POOL.0, POOL.1));
    let logged = File::create(&log).with_context(|| log.display().to_string())?;
    command.stdin(Stdio::null()).stdout(logged.try_clone()?).stderr(logged);
    links::start_beside(FIRST_ADDRESS, port, command).context("dnsmasq")
}

/// Writes the objects of a specification into the server.
///
/// # Errors
/// [`SpecError`] for the first that the server refuses, with the server's text. Another error has the end of its log.
pub fn declare(plan: &Plan, spec_file: &Path, output: &Path) -> anyhow::Result<()> {
    let isos = Path::new(STATE).join("isos");
    std::fs::create_dir_all(&isos)?;
    let mut objects = Vec::new();
    for config in &plan.spec.configs {
        let mut data = config.data.clone();
        for (name, file) in &config.files {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            data.insert(name.clone(), text);
        }
        let spec = json!({"format": config.format, "data": data});
        objects.push(object("BootConfig", &config.name, spec));
    }
    for image in &plan.spec.images {
        let mut spec = image.spec.clone();
        if let Some(iso) = &image.iso {
            let name = format!("{}.iso", image.name);
            std::os::unix::fs::symlink(std::fs::canonicalize(iso)?, isos.join(&name))?;
            spec.insert("isoFile".to_owned(), name.into());
        }
        if let Some(config) = &image.config {
            spec.insert("bootConfigs".to_owned(), json!([config]));
        }
        objects.push(object("ISCSICdrom", &image.name, spec.into()));
    }
    for (machine, macs) in plan.spec.machines.iter().zip(&plan.macs) {
        if let (Some(HostEntry { image, config, spec }), Some(mac)) = (&machine.host, macs.first()) {
            let mut spec = spec.clone();
            spec.insert("bootMACAddress".to_owned(), mac.to_string().into());
            let fields = [("image", image), ("bootConfigRef", config)];
            spec.extend(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into()))));
            objects.push(object("BareMetalHost", &machine.name, spec.into()));
        }
    }
    if objects.is_empty() {
        return Ok(());
    }
    let file = "/run/rig/objects.yaml";
    std::fs::write(file, json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())?;
    client(&["apply", "-f", file]).map(drop).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        // `KIND NAME: what is wrong`
        let is_named = |(kind, name): &(&str, String)| first.starts_with(&format!("{kind} {name}: "));
        match plan.object_lines.iter().find(|(key, _)| is_named(key)) {
            Some((_, line)) => SpecError { path: spec_file.to_owned(), line: *line, message: first.to_owned() }.into(),
            None => anyhow::anyhow!("{text}\nThe end of bootlatch.log:\n{}", last_lines(&output.join(LOG))),
        }
    })
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// Runs a client command of this program against the server; returns what it prints.
///
/// # Errors
/// What the command prints as its error.
pub fn client(arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).args(["--server", &format!("unix:{SOCKET}")]);
    for variable in ["BOOTLATCH_SERVER", "BOOTLATCH_CONTEXT", "BOOTLATCH_TOKEN_FILE"] {
        command.env_remove(variable);
    }
    let output = command.stdin(Stdio::null()).output().context(PROGRAM)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => bail!("{}", String::from_utf8_lossy(&output.stderr).trim().trim_start_matches("bootlatch: ")),
    }
}

/// Returns the end of a log.
fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
