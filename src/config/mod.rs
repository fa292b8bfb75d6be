//! The configuration: one TOML file, proven at start, and the only place that reads it.

mod dhcp;
mod http;
mod volumes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use crate::boot::{Program, ProgramOverride, Programs};
use crate::fleet::enrolment::{EnrolmentRule, EnrolmentRules, UnknownHostAction};
use crate::fleet::lifecycle::{Completion, InstallPolicy};
use crate::fleet::{Architecture, Chap, HostMatch, Name, Secret};

pub use dhcp::{BootFileIn, Dhcp, DhcpMode, Interface, OtherServer};
use dhcp::{RawDhcp, RawInterface, RawOverride};
pub use http::{Api, Tls};

/// Is where the file is looked for when none is named; it may be missing there.
pub const DEFAULT_PATH: &str = "/etc/bootlatch/bootlatch.toml";

/// Is what the appliance runs with: every value proven.
#[derive(Debug, Clone)]
pub struct Config {
    /// Holds the interfaces to answer on, and on no other; at least one.
    pub interfaces: Vec<Interface>,
    pub state_dir: PathBuf,
    pub firmware_dir: PathBuf,
    /// Holds what the site itself hands out, over TFTP and HTTP.
    pub files_dir: PathBuf,
    pub manifests: Option<PathBuf>,
    pub user: Option<String>,
    pub namespace: Name,
    pub unknown_hosts: EnrolmentRules,
    pub install: InstallPolicy,
    pub programs: Programs,
    /// Gives some machines another program than their architecture's, in the file's order.
    pub overrides: Vec<ProgramOverride>,
    /// Tells some machines over DHCP in a form of the site's choice, in the file's order.
    pub forms: Vec<(HostMatch, BootFileIn)>,
    pub dhcp: Dhcp,
    pub tftp: Tftp,
    pub http_port: u16,
    /// Names the congestion control of TCP connections; without, cubic where the kernel has it.
    pub tcp_congestion_control: Option<String>,
    pub iscsi: Iscsi,
    pub api: Api,
    pub trust: crate::boot::ConfigAccess,
    /// Holds the storages that generated configs are written to.
    pub volumes: Vec<crate::fleet::Volume>,
    /// Is how long transfers and sessions may go on after SIGTERM.
    pub stop_within: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tftp {
    pub port: u16,
    pub single_port: bool,
    /// Bounds the block size; the interface's MTU bounds it where this is not given.
    pub max_block_size: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Iscsi {
    pub port: u16,
    pub iqn: String,
    pub access: IscsiAccess,
    pub chap: Option<Chap>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IscsiAccess {
    /// A host attaches the image that the decision gives it, and no other.
    Assigned,
    /// Whoever can reach the port attaches any image.
    Any,
}

/// Says what is wrong with the configuration: the file, the line where there is one, the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {message}", path.display())]
    Syntax { path: PathBuf, message: String },
    #[error("{place}: {key}: {message}")]
    Value { place: String, key: String, message: String },
}

/// Holds the flags of `bootlatch serve`, which go before the file's keys of the same name.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// The configuration file [default: /etc/bootlatch/bootlatch.toml, where there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The interface to answer on
    #[arg(long, value_name = "IF")]
    pub interface: Option<String>,
    /// The address that machines reach us at [default: the interface's first]
    #[arg(long, value_name = "IP")]
    pub address: Option<String>,
    /// Where the state is kept [default: /var/lib/bootlatch]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where the boot programs are [default: /usr/share/bootlatch/firmware]
    #[arg(long, value_name = "DIR")]
    pub firmware_dir: Option<PathBuf>,
    /// A directory of YAML manifests, loaded at start and on SIGHUP
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// The port of the HTTP side [default: 80]
    #[arg(long, value_name = "N")]
    pub http_port: Option<u16>,
    /// What becomes of a machine never seen before: ignore, hold, localboot, menu, or install NAME [CONFIG]
    /// [default: hold]
    #[arg(long, value_name = "RULE")]
    pub unknown_hosts: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    interface: Option<Spanned<String>>,
    address: Option<Spanned<String>>,
    interfaces: Vec<RawInterface>,
    state_dir: Option<PathBuf>,
    firmware_dir: Option<PathBuf>,
    files_dir: Option<PathBuf>,
    manifests: Option<PathBuf>,
    user: Option<String>,
    namespace: Option<Spanned<String>>,
    http_port: Option<u16>,
    tcp_congestion_control: Option<Spanned<String>>,
    unknown_hosts: Option<Spanned<String>>,
    rules: Vec<RawRule>,
    install: RawInstall,
    dhcp: RawDhcp,
    tftp: RawTftp,
    iscsi: RawIscsi,
    api: http::RawApi,
    trust: http::RawTrust,
    volumes: Vec<volumes::RawVolume>,
    programs: BTreeMap<Spanned<String>, String>,
    overrides: Vec<RawOverride>,
    stop_within: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    mac: Option<Spanned<String>>,
    architecture: Option<Spanned<String>>,
    subnet: Option<Spanned<String>>,
    then: Spanned<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawInstall {
    done_when: Option<RawDoneWhen>,
    limit: Option<Spanned<String>>,
    offers: Option<Spanned<u32>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawDoneWhen {
    BootComplete,
    ConfigFetched,
    ScriptFetched,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTftp {
    port: Option<u16>,
    single_port: Option<bool>,
    max_block_size: Option<Spanned<u16>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawIscsi {
    port: Option<u16>,
    iqn: Option<Spanned<String>>,
    access: Option<IscsiAccess>,
    chap: Option<Spanned<RawChap>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChap {
    username: String,
    secret: Secret,
    target_username: Option<String>,
    target_secret: Option<Secret>,
}

/// Reads the file that the flags name, and proves it with the flags laid over it.
///
/// # Errors
/// What is wrong, with the file, the line and the key.
pub fn load(flags: &Flags) -> Result<Config, ConfigError> {
    let default = Path::new(DEFAULT_PATH);
    let path = flags.config.as_deref().unwrap_or(default);
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && flags.config.is_none() => String::new(),
        Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
    };
    parse(&text, path, flags)
}

/// Proves a configuration file's text with the flags laid over it.
///
/// # Errors
/// What is wrong, with the line and the key.
pub fn parse(text: &str, path: &Path, flags: &Flags) -> Result<Config, ConfigError> {
    let raw: Raw = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| line(text, span.start));
        let message = match line {
            Some(line) => format!("line {line}: {}", error.message()),
            None => error.message().to_owned(),
        };
        ConfigError::Syntax { path: path.to_owned(), message }
    })?;
    let proof = Validator { text, path };
    let interfaces = proof.interfaces(flags, &raw)?;
    let (overrides, forms) = proof.overrides(&raw.overrides)?;
    let otherwise = proof.choose("unknown_hosts", flags.unknown_hosts.as_deref(), raw.unknown_hosts.as_ref())?;
    let state_dir = flags.state_dir.clone().or(raw.state_dir).unwrap_or_else(|| "/var/lib/bootlatch".into());
    Ok(Config {
        interfaces,
        files_dir: raw.files_dir.unwrap_or_else(|| state_dir.join("files")),
        state_dir,
        firmware_dir: flags
            .firmware_dir
            .clone()
            .or(raw.firmware_dir)
            .unwrap_or_else(|| "/usr/share/bootlatch/firmware".into()),
        manifests: flags.manifests.clone().or(raw.manifests),
        user: raw.user,
        namespace: proof
            .choose("namespace", None, raw.namespace.as_ref())?
            .unwrap_or_else(|| "default".parse().expect("a name")),
        unknown_hosts: EnrolmentRules {
            first: proof.rules(&raw.rules)?,
            otherwise: otherwise.unwrap_or(UnknownHostAction::Hold),
        },
        install: proof.install(&raw.install)?,
        programs: proof.programs(raw.programs)?,
        overrides,
        forms,
        dhcp: proof.dhcp(&raw.dhcp)?,
        tftp: proof.tftp(&raw.tftp)?,
        http_port: flags.http_port.or(raw.http_port).unwrap_or(80),
        tcp_congestion_control: proof.congestion_control(raw.tcp_congestion_control)?,
        iscsi: proof.iscsi(raw.iscsi)?,
        api: proof.api(&raw.api)?,
        trust: proof.trust(&raw.trust)?,
        volumes: proof.volumes(&raw.volumes)?,
        stop_within: proof.duration("stop_within", raw.stop_within.as_ref())?.unwrap_or(Duration::from_secs(10)),
    })
}

/// Is the text that values are proven against, so that an error names its line.
struct Validator<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Validator<'_> {
    fn error(&self, key: &str, span: Option<std::ops::Range<usize>>, message: &str) -> ConfigError {
        let place = match span {
            Some(span) => format!("{}: line {}", self.path.display(), line(self.text, span.start)),
            None => self.path.display().to_string(),
        };
        ConfigError::Value { place, key: key.to_owned(), message: message.to_owned() }
    }

    fn read<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        key: &str,
        value: &Spanned<String>,
    ) -> Result<T, ConfigError> {
        value.get_ref().parse().map_err(|error: T::Err| self.error(key, Some(value.span()), &error.to_string()))
    }

    /// Takes a flag before the file's key.
    fn choose<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        key: &str,
        flag: Option<&str>,
        file: Option<&Spanned<String>>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(flag) = flag else { return file.map(|value| self.read(key, value)).transpose() };
        let place = || format!("--{}", key.replace('_', "-"));
        let wrong =
            |error: T::Err| ConfigError::Value { place: place(), key: key.to_owned(), message: error.to_string() };
        flag.parse().map(Some).map_err(wrong)
    }

    fn duration(&self, key: &str, value: Option<&Spanned<String>>) -> Result<Option<Duration>, ConfigError> {
        let Some(value) = value else { return Ok(None) };
        let wrong = || {
            self.error(
                key,
                Some(value.span()),
                &format!("{:?} is no duration: a number with s, m, h or d, as in 90m", value.get_ref()),
            )
        };
        let text = value.get_ref();
        let unit = match text.chars().last() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86400,
            _ => return Err(wrong()),
        };
        let number: u64 = text[..text.len() - 1].trim().parse().map_err(|_| wrong())?;
        let seconds = number.checked_mul(unit).filter(|seconds| (1..=366 * 86400).contains(seconds));
        seconds.map(|seconds| Some(Duration::from_secs(seconds))).ok_or_else(wrong)
    }

    fn program(&self, key: &str, span: std::ops::Range<usize>, name: &str) -> Result<Program, ConfigError> {
        if name.is_empty() || name.starts_with('/') || name.split('/').any(|part| part == "..") {
            return Err(self.error(key, Some(span), &format!("{name:?} is no file within firmware_dir")));
        }
        Ok(Program(name.into()))
    }

    fn mac_prefix(&self, key: &str, text: &Spanned<String>) -> Result<Vec<u8>, ConfigError> {
        crate::fleet::octets(text.get_ref()).ok_or_else(|| {
            let message = format!("{:?} is no MAC address or beginning of one", text.get_ref());
            self.error(key, Some(text.span()), &message)
        })
    }

    fn rules(&self, raw: &[RawRule]) -> Result<Vec<EnrolmentRule>, ConfigError> {
        raw.iter().map(|rule| self.rule(rule)).collect()
    }

    fn rule(&self, raw: &RawRule) -> Result<EnrolmentRule, ConfigError> {
        let mac_prefix = raw.mac.as_ref().map(|mac| self.mac_prefix("rules.mac", mac)).transpose()?.unwrap_or_default();
        Ok(EnrolmentRule {
            mac_prefix,
            architecture: raw.architecture.as_ref().map(|text| self.read("rules.architecture", text)).transpose()?,
            subnet: raw.subnet.as_ref().map(|text| self.read::<IpNet>("rules.subnet", text)).transpose()?,
            then: self.read("rules.then", &raw.then)?,
        })
    }

    fn install(&self, raw: &RawInstall) -> Result<InstallPolicy, ConfigError> {
        let offers = match &raw.offers {
            Some(offers) if *offers.get_ref() == 0 => {
                return Err(self.error("install.offers", Some(offers.span()), "0 boots would never install anything"));
            }
            Some(offers) => *offers.get_ref(),
            None => 10,
        };
        Ok(InstallPolicy {
            done_when: match raw.done_when.unwrap_or(RawDoneWhen::BootComplete) {
                RawDoneWhen::BootComplete => Completion::BootComplete,
                RawDoneWhen::ConfigFetched => Completion::ConfigFetched,
                RawDoneWhen::ScriptFetched => Completion::ScriptFetched,
            },
            limit: self.duration("install.limit", raw.limit.as_ref())?.unwrap_or(Duration::from_secs(3600)),
            offers,
        })
    }

    fn programs(&self, raw: BTreeMap<Spanned<String>, String>) -> Result<Programs, ConfigError> {
        let usual = [(0, "undionly.kpxe"), (7, "snponly.efi"), (11, "ipxe-arm64.efi")];
        let mut programs: BTreeMap<_, _> = usual.map(|(code, name)| (Architecture(code), Program(name.into()))).into();
        for (key, name) in raw {
            let program = self.program("programs", key.span(), &name)?;
            programs.insert(self.read("programs", &key)?, program);
        }
        Ok(Programs(programs))
    }

    fn congestion_control(&self, name: Option<Spanned<String>>) -> Result<Option<String>, ConfigError> {
        let Some(name) = name else { return Ok(None) };
        // TCP_CA_NAME_MAX of the kernel counts the zero at its end.
        let is_name = |name: &str| (1..16).contains(&name.len()) && name.bytes().all(|octet| octet.is_ascii_graphic());
        if !is_name(name.get_ref()) {
            let message = "the name of a congestion control has 1 to 15 characters, as in cubic";
            return Err(self.error("tcp_congestion_control", Some(name.span()), message));
        }
        Ok(Some(name.into_inner()))
    }

    fn tftp(&self, raw: &RawTftp) -> Result<Tftp, ConfigError> {
        if let Some(size) = raw.max_block_size.as_ref().filter(|size| !(8..=65464).contains(size.get_ref())) {
            return Err(self.error(
                "tftp.max_block_size",
                Some(size.span()),
                "a block is 8 to 65464 octets (RFC 2348)",
            ));
        }
        Ok(Tftp {
            port: raw.port.unwrap_or(69),
            single_port: raw.single_port.unwrap_or(false),
            max_block_size: raw.max_block_size.as_ref().map(|size| *size.get_ref()),
        })
    }

    fn iscsi(&self, raw: RawIscsi) -> Result<Iscsi, ConfigError> {
        let iqn = match raw.iqn {
            None => "iqn.2026-11.org.bootlatch".to_owned(),
            Some(iqn) if iqn.get_ref().starts_with("iqn.") && iqn.get_ref().len() <= 120 => iqn.into_inner(),
            Some(iqn) => {
                return Err(self.error(
                    "iscsi.iqn",
                    Some(iqn.span()),
                    "an iSCSI name begins with iqn. (RFC 7143 4.2.7), and has at most 120 characters here",
                ));
            }
        };
        let chap = raw.chap.map(|chap| self.chap(chap)).transpose()?;
        Ok(Iscsi { port: raw.port.unwrap_or(3260), iqn, access: raw.access.unwrap_or(IscsiAccess::Assigned), chap })
    }

    fn chap(&self, raw: Spanned<RawChap>) -> Result<Chap, ConfigError> {
        let (span, RawChap { username, secret, target_username, target_secret }) = (raw.span(), raw.into_inner());
        let chap = Chap { username, secret, target_username, target_secret };
        let key = |field| match field {
            "targetUsername" => "target_username",
            "targetSecret" => "target_secret",
            field => field,
        };
        match chap.check() {
            Ok(()) => Ok(chap),
            Err((field, wrong)) => Err(self.error(&format!("iscsi.chap.{}", key(field)), Some(span), wrong)),
        }
    }
}

fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        parse(text, Path::new("b.toml"), &Flags::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_interface_must_be_given() {
        let config = read("interface = \"eth1\"").unwrap();
        let alone = Interface { name: "eth1".into(), address: None, mode: DhcpMode::Proxy };
        assert_eq!((config.interfaces, config.http_port, config.dhcp.port), (vec![alone], 80, 67));
        assert_eq!(config.unknown_hosts, EnrolmentRules { first: Vec::new(), otherwise: UnknownHostAction::Hold });
        assert!(read("").unwrap_err().contains("interface"));
    }

    #[test]
    fn flags_go_before_the_file() {
        let flags = Flags {
            interface: Some("eth9".into()),
            unknown_hosts: Some("install live cfg".into()),
            http_port: Some(8080),
            ..Flags::default()
        };
        let config = parse("interface = \"eth1\"\nhttp_port = 81", Path::new("b.toml"), &flags).unwrap();
        assert_eq!((config.interfaces[0].name.as_str(), config.http_port), ("eth9", 8080));
        assert_eq!(config.unknown_hosts.otherwise.to_string(), "install live cfg");
    }

    #[test]
    fn each_interface_has_its_own_mode() {
        let text = "[dhcp]\nmode = \"off\"\n[[interfaces]]\nname = \"a\"\nmode = \"proxy\"\naddress = \"10.0.0.1\"\n\
                    [[interfaces]]\nname = \"b\"";
        let config = read(text).unwrap();
        let modes: Vec<_> = config.interfaces.iter().map(|found| (found.name.as_str(), found.mode)).collect();
        assert_eq!(modes, [("a", DhcpMode::Proxy), ("b", DhcpMode::Off)]);
        assert_eq!(config.interfaces[0].address, Some([10, 0, 0, 1].into()));
        let twice = read("interface = \"a\"\n[[interfaces]]\nname = \"a\"").unwrap_err();
        assert!(twice.contains("line 3") && twice.contains("twice"), "{twice}");
    }

    #[test]
    fn some_machines_are_told_otherwise() {
        let text = "interface = \"a\"\n[[overrides]]\nmac = \"52:54:00\"\nprogram = \"ipxe.efi\"\nfor_ipxe = true\n\
                    [[overrides]]\nuuid = \"12345678-9abc-def0-0102-030405060708\"\nboot_file = \"4011\"";
        let config = read(text).unwrap();
        let who = HostMatch::MacPrefix(vec![0x52, 0x54, 0]);
        assert_eq!(config.overrides, [ProgramOverride { who, program: Program("ipxe.efi".into()), for_ipxe: true }]);
        let uuid = "12345678-9abc-def0-0102-030405060708".parse().unwrap();
        assert_eq!(config.forms, [(HostMatch::Uuid(uuid), BootFileIn::Port4011)]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let check = |text: &str, expected: &[&str]| {
            let error = read(&format!("interface = \"eth1\"\n{text}")).unwrap_err();
            for part in expected {
                assert!(error.contains(part), "{error:?} does not say {part:?}");
            }
        };
        check("intreface = 1", &["b.toml", "line 2", "intreface"]);
        check("unknown_hosts = \"instal x\"", &["line 2", "unknown_hosts", "instal x"]);
        check("\n[[rules]]\nmac = \"5g\"\nthen = \"hold\"", &["line 4", "rules.mac"]);
        check("[[rules]]\narchitecture = \"vax\"\nthen = \"hold\"", &["line 3", "rules.architecture"]);
        check("[install]\nlimit = \"1 fortnight\"", &["line 3", "install.limit"]);
        check("[install]\noffers = 0", &["line 3", "install.offers"]);
        check("[tftp]\nmax_block_size = 7", &["line 3", "tftp.max_block_size"]);
        check("[iscsi]\niqn = \"x\"", &["line 3", "iscsi.iqn"]);
        check("[iscsi.chap]\nusername = \"n\"\nsecret = \"short\"", &["iscsi.chap.secret", "12 octets"]);
        check("[[volumes]]\nname = \"../x\"\ndirectory = \"/x\"", &["line 3", "volumes.name"]);
        check("[[volumes]]\nname = \"bootlatch\"\ndirectory = \"/x\"", &["line 3", "volumes.name"]);
        check("[[volumes]]\nname = \"a\"\ndirectory = \"x\"", &["line 4", "volumes.directory"]);
        check(
            "[[volumes]]\nname = \"a\"\ndirectory = \"/x\"\n[[volumes]]\nname = \"a\"\ndirectory = \"/y\"",
            &["line 6", "twice"],
        );
        check("[programs]\nbios = \"../x\"", &["line 3", "programs"]);
        check("[dhcp]\nmode = \"sever\"", &["line 3", "sever"]);
        check("[[overrides]]\nmac = \"x\"", &["line 3", "overrides.mac"]);
        check("[[overrides]]\nuuid = \"x\"", &["line 3", "overrides.uuid"]);
        check("[[overrides]]\nprogram = \"x\"", &["overrides", "mac or uuid"]);
        check("[[overrides]]\nmac = \"52\"\nprogram = \"../x\"", &["line 4", "overrides.program"]);
        check("tcp_congestion_control = \"\"", &["line 2", "tcp_congestion_control"]);
        check("tcp_congestion_control = \"sixteen-or-more.\"", &["line 2", "tcp_congestion_control"]);
        check("address = \"::1\"", &["line 2", "address"]);
    }

    #[test]
    fn the_example_is_the_default() {
        let text = include_str!("../../config/bootlatch.toml");
        let example = read(text).unwrap();
        let plain = read("interface = \"eth1\"").unwrap();
        assert_eq!(format!("{example:?}"), format!("{plain:?}"));
        // Every key is there, as a comment or in force: taking the marks away must leave a file that is read.
        let all = text.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).collect::<Vec<_>>().join("\n");
        read(&all).unwrap();
    }
}
