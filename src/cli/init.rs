//! `bootlatch init`: a first configuration file.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};

use crate::config::{self, Flags};

use super::exit::UsageError;
use super::prompt;
use super::show::print;

/// The commented example that the first configuration is made of.
const EXAMPLE: &str = include_str!("../../config/bootlatch.toml");

/// File that is written without an argument.
const DEFAULT_FILE: &str = "/etc/bootlatch/bootlatch.toml";

/// Directory with the interfaces of this machine.
const INTERFACES: &str = "/sys/class/net";
/// Name of the loopback interface, on which no machine boots.
const LOOPBACK: &str = "lo";

/// Options of `bootlatch init`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sudo bootlatch init\n  sudo bootlatch init --interface eth1 --mode proxy --unknown-hosts hold\n  \
                        sudo bootlatch init --interface eth1 --mode server --subnet 192.168.10.0/24 \\\n    \
                        --pool 192.168.10.100-192.168.10.199"
)]
pub struct InitArgs {
    /// File to write; it must not exist, or have no key
    #[arg(default_value = DEFAULT_FILE)]
    file: PathBuf,
    /// Interface to answer on
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// DHCP mode: proxy next to another DHCP server, server to give addresses, off for neither
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Action for a machine that was never seen before: ignore, hold, localboot, menu, or
    /// `install IMAGE [CONFIG]`
    #[arg(long, value_name = "ACTION")]
    unknown_hosts: Option<String>,
    /// Mode server: the subnet
    #[arg(long)]
    subnet: Option<String>,
    /// Mode server: the addresses to lease, as FIRST-LAST
    #[arg(long, value_name = "FIRST-LAST")]
    pool: Option<String>,
    /// Mode server: the router of the machines
    #[arg(long, value_name = "ADDRESS")]
    router: Option<String>,
}

/// DHCP mode of the first configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Name the boot file next to another DHCP server
    Proxy,
    /// Give addresses
    Server,
    /// No DHCP
    Off,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Server => "server",
            Self::Off => "off",
        }
    }
}

/// The answers that a configuration is made of.
#[derive(Debug)]
struct Answers {
    interface: String,
    mode: Mode,
    unknown_hosts: String,
    subnet: Option<String>,
    pool: Option<String>,
    router: Option<String>,
}

/// Writes a first configuration file. On a terminal, asks for what no option gives.
///
/// # Errors
/// The file exists or cannot be written, or an answer is missing or invalid.
pub fn init(args: &InitArgs) -> anyhow::Result<()> {
    let place = args.file.display();
    let is_new = args.file.symlink_metadata().is_err();
    if !is_new && !has_comments_only(&args.file) {
        bail!("{place}: the file exists: edit it, or remove it first");
    }
    let text = configuration(&answers(args)?);
    // The server reads it in the same way, and names the line and the key.
    config::parse(&text, &args.file, &Flags::default()).map_err(|error| anyhow!("{error}"))?;
    let written = if is_new { write(&args.file, &text) } else { std::fs::write(&args.file, &text) };
    written.with_context(|| place.to_string())?;
    // The unit of systemd reads the default file only. The service of a package is enabled, and waits for the interface.
    let service = match args.file == Path::new(DEFAULT_FILE) {
        true if is_new => "`systemctl enable --now bootlatch`, or ",
        true => "`systemctl restart bootlatch`, or ",
        false => "",
    };
    print(&format!("{place} written. Next: {service}`bootlatch serve --config {place}`\n"))
}

/// Returns whether a regular file sets no key, as the one that the package installs.
fn has_comments_only(path: &Path) -> bool {
    let is_comment = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file())
        && std::fs::read_to_string(path).is_ok_and(|text| text.lines().all(is_comment))
}

/// Writes a new file.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

/// Returns the answers of the options, else of the terminal, else the defaults.
fn answers(args: &InitArgs) -> anyhow::Result<Answers> {
    let all = interfaces(Path::new(INTERFACES));
    let interfaces: Vec<_> = all.iter().map(String::as_str).filter(|name| *name != LOOPBACK).collect();
    let known = interfaces.join(", ");
    let interface = match (&args.interface, prompt::is_interactive()) {
        (Some(interface), _) => interface.clone(),
        (None, true) => {
            ask(&format!("Interface to answer on ({known})"), interfaces.first().copied().unwrap_or_default())?
        }
        (None, false) => return Err(UsageError(format!("name the interface: --interface, one of {known}")).into()),
    };
    if !all.is_empty() && !all.contains(&interface) {
        return Err(UsageError(format!("interface {interface:?} does not exist: --interface, one of {known}")).into());
    }
    let mode = match args.mode {
        Some(mode) => mode,
        None => match or_ask(None, "DHCP: proxy (next to a DHCP server), server (give addresses) or off", "proxy")?
            .as_str()
        {
            "proxy" => Mode::Proxy,
            "server" => Mode::Server,
            "off" => Mode::Off,
            other => return Err(UsageError(format!("mode {other:?}: expected proxy, server or off")).into()),
        },
    };
    let question = "Machines that were never seen before: ignore, hold, localboot, menu or install IMAGE [CONFIG]";
    let unknown_hosts = or_ask(args.unknown_hosts.as_ref(), question, "hold")?;
    let (mut subnet, mut pool, mut router) = (args.subnet.clone(), args.pool.clone(), args.router.clone());
    if mode == Mode::Server {
        subnet = given(or_ask(subnet.as_ref(), "Subnet, such as 192.168.10.0/24", "")?);
        pool = given(or_ask(pool.as_ref(), "Addresses to lease, such as 192.168.10.100-192.168.10.199", "")?);
        router = given(or_ask(router.as_ref(), "Router of the machines, empty for none", "")?);
        if subnet.is_none() || pool.is_none() {
            return Err(UsageError("mode server needs --subnet and --pool".to_owned()).into());
        }
    } else if subnet.is_some() || pool.is_some() || router.is_some() {
        let message =
            format!("--subnet, --pool and --router: only for --mode server, and the mode is {}", mode.as_str());
        return Err(UsageError(message).into());
    }
    Ok(Answers { interface, mode, unknown_hosts, subnet, pool, router })
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Returns the value of an option, else the answer of the terminal, else the default.
fn or_ask(option: Option<&String>, question: &str, default: &str) -> anyhow::Result<String> {
    match option {
        Some(value) => Ok(value.clone()),
        None if prompt::is_interactive() => ask(question, default),
        None => Ok(default.to_owned()),
    }
}

fn ask(question: &str, default: &str) -> anyhow::Result<String> {
    let answer = prompt::ask(&format!("{question} [{default}]:"))?;
    Ok(if answer.is_empty() { default.to_owned() } else { answer })
}

/// Returns the interfaces that a directory as `/sys/class/net` lists, the loopback last. Those of a device come first,
/// before bridges and the like.
fn interfaces(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    // Other files are settings of a driver, such as bonding_masters.
    names.retain(|name| directory.join(name).join("ifindex").exists());
    names.sort_by_key(|name| (name == LOOPBACK, !directory.join(name).join("device").exists(), name.clone()));
    names
}

/// Returns the text of a configuration: the example with the answers in place of its values.
fn configuration(answers: &Answers) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let line = |key: &str, value: &str| format!("{key} = {}", quoted(value));
    let mut lines: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
    lines[0] = "# Configuration of bootlatch, written by `bootlatch init`. Every other key is listed with its default, or with an".to_owned();
    let mut replace = |from: &str, to: String| {
        if let Some(found) = lines.iter_mut().find(|line| line.starts_with(from)) {
            *found = to;
        }
    };
    replace("interface = ", line("interface", &answers.interface));
    replace("#: mode = ", line("mode", answers.mode.as_str()));
    replace("#: unknown_hosts = ", line("unknown_hosts", &answers.unknown_hosts));
    if let (Some(subnet), Some(pool)) = (&answers.subnet, &answers.pool) {
        replace("#: [[dhcp.subnets]]", "[[dhcp.subnets]]".to_owned());
        replace("#: subnet = ", line("subnet", subnet));
        replace("#: pools = ", format!("pools = [{}]", quoted(pool)));
        if let Some(router) = &answers.router {
            replace("#: routers = ", format!("routers = [{}]", quoted(router)));
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(mode: Mode, unknown_hosts: &str, pool: Option<&str>) -> Result<config::Config, String> {
        let answers = Answers {
            interface: "eth7".into(),
            mode,
            unknown_hosts: unknown_hosts.into(),
            subnet: pool.map(|_| "192.168.10.0/24".to_owned()),
            pool: pool.map(str::to_owned),
            router: pool.map(|_| "192.168.10.254".to_owned()),
        };
        let text = configuration(&answers);
        config::parse(&text, Path::new("x"), &Flags::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn interfaces_of_a_device_come_first() {
        let place = tempfile::tempdir().unwrap();
        for path in ["br0/ifindex", "eth1/ifindex", "eth1/device", "eth0/ifindex", "eth0/device", "lo/ifindex"] {
            std::fs::create_dir_all(place.path().join(path)).unwrap();
        }
        std::fs::write(place.path().join("bonding_masters"), "").unwrap();
        assert_eq!(interfaces(place.path()), ["eth0", "eth1", "br0", "lo"]);
    }

    #[test]
    fn a_file_without_keys_is_replaced_and_another_one_is_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("bootlatch.toml");
        let args = || InitArgs {
            file: path.clone(),
            interface: Some("lo".to_owned()),
            mode: Some(Mode::Proxy),
            unknown_hosts: Some("hold".to_owned()),
            subnet: None,
            pool: None,
            router: None,
        };
        std::fs::write(&path, include_str!("../../packaging/bootlatch.toml")).unwrap();
        init(&args()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("interface = \"lo\""));
        assert!(init(&args()).unwrap_err().to_string().contains("the file exists"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn the_first_configuration_is_valid_and_has_the_answers() {
        let config = parsed(Mode::Off, "install live cfg", None).unwrap();
        assert_eq!(config.interfaces[0].name, "eth7");
        assert_eq!(config.unknown_hosts.otherwise.to_string(), "install live cfg");
        parsed(Mode::Proxy, "hold", None).unwrap();
        parsed(Mode::Server, "hold", Some("192.168.10.100-192.168.10.199")).unwrap();
        assert!(parsed(Mode::Server, "hold", Some("192.168.11.1-192.168.11.9")).is_err());
        assert!(parsed(Mode::Proxy, "instal", None).unwrap_err().contains("unknown_hosts"));
    }
}
