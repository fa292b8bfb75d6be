//! The configuration: TOML files, read and validated at start. No other module reads them.

mod access;
mod credentials;
mod dhcp;
mod error;
mod file_keys;
mod firmware;
mod iscsi;
mod limits;
mod log_format;
mod renamed_keys;
pub mod settings;
mod sources;
mod syslog;
mod tftp;
mod validator;
mod volumes;
mod webhooks;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::{Deserializer, Spanned};

use crate::boot::{ConfigAccess, ProgramOverride, Programs};
use crate::fleet::enrolment::{EnrolmentRules, UnknownHostAction};
use crate::fleet::lifecycle::InstallPolicy;
use crate::fleet::{HostMatch, Name, Volume};

pub use access::{Api, TlsFiles};
pub use dhcp::{BootFileIn, Dhcp, DhcpInterface, DhcpMode, DhcpSocket, OnOtherServer};
use dhcp::{RawDhcp, RawInterface, RawOverride};
pub use error::{ConfigError, Logged, StartRefused};
pub use file_keys::FileKeys;
pub use firmware::{PackagedProgram, SignedPrograms};
pub use iscsi::{Iscsi, IscsiAccess};
pub use limits::Limits;
pub use log_format::LogFormat;
use sources::Sources;
pub use syslog::Syslog;
pub use tftp::Tftp;
use validator::Validator;
pub use webhooks::Webhook;

/// Path of the configuration file when the command line names none. It may be missing there.
pub const DEFAULT_PATH: &str = "/etc/bootlatch/bootlatch.toml";

/// What an `address` means that the interface does not have.
pub const NOT_OWN_ADDRESS: &str = "the sockets are bound to an address of the interface; if machines reach this server at \
                                   another one, as behind the NAT of a container's bridge, set `advertise` to that one";

/// The configuration that the appliance runs with. Every value is validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// Interfaces to answer on. Nothing is answered on any other. Without one, the only interface of the machine is taken.
    pub interfaces: Vec<DhcpInterface>,
    /// Directory of the database, the images, the tokens and the unix socket.
    pub state_dir: PathBuf,
    /// Directories of the boot programs, in the order of the search; at least one.
    pub firmware_dirs: Vec<PathBuf>,
    /// Where shim and GRUB come from.
    pub signed_programs: SignedPrograms,
    /// Directory of the operator's own files, served over TFTP and HTTP.
    pub files_dir: PathBuf,
    /// Directory of manifests, if there is one.
    pub manifests: Option<PathBuf>,
    /// User to run as after the ports are bound.
    pub user: Option<String>,
    /// Namespace of enrolled hosts.
    pub namespace: Name,
    /// The action for a machine that was never seen before.
    pub unknown_hosts: EnrolmentRules,
    /// The conditions under which an install is complete, or has failed.
    pub install: InstallPolicy,
    /// Whether the certificate of a BMC that no authority vouches for is pinned at the BMC's first use.
    pub pins_bmc_certificates: bool,
    /// Boot program of each architecture.
    pub programs: Programs,
    /// Boot programs of single machines, in the order of the file.
    pub overrides: Vec<ProgramOverride>,
    /// The messages that tell single machines their boot file, in the order of the file.
    pub boot_file_in: Vec<(HostMatch, BootFileIn)>,
    /// Settings of DHCP and ProxyDHCP.
    pub dhcp: Dhcp,
    /// Settings of TFTP.
    pub tftp: Tftp,
    /// TCP port of the machines' HTTP listener.
    pub http_port: u16,
    /// Congestion control of TCP listeners. Default: cubic, if the kernel has it.
    pub tcp_congestion_control: Option<String>,
    /// Settings of the iSCSI target.
    pub iscsi: Iscsi,
    /// Settings of the syslog receiver; `None` if it is off.
    pub syslog: Option<Syslog>,
    /// Settings of the object API.
    pub api: Api,
    /// File with the key that the database is encrypted with.
    pub encryption_key_file: Option<PathBuf>,
    /// The proof that a client needs to get a config.
    pub config_access: ConfigAccess,
    /// Storages that generated configs are written to.
    pub volumes: Vec<Volume>,
    /// Receivers of notifications.
    pub webhooks: Vec<Webhook>,
    /// Time that transfers and sessions get to end after SIGTERM.
    pub shutdown_timeout: Duration,
    /// Format of the log.
    pub log_format: LogFormat,
    /// The bounds on what one source may take.
    pub limits: Limits,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// The keys of the files, as they are written there.
    pub keys: FileKeys,
    /// Where the keys that were set come from.
    pub origins: settings::Origins,
}

/// Flags of `bootlatch serve`. They take precedence over the keys of the same name in the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Configuration file [default: /etc/bootlatch/bootlatch.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Interface to answer on
    #[arg(long, value_name = "IF")]
    pub interface: Option<String>,
    /// Address at which machines reach this server [default: the first of the interface]
    #[arg(long, value_name = "IP")]
    pub address: Option<String>,
    /// State directory [default: /var/lib/bootlatch]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Check the configuration, and end: with 0, or with 78 and the file, line and key of the first fault
    #[arg(long)]
    pub check: bool,
    /// Start with an empty database where the earlier one was lost; use it for one start only
    #[arg(long)]
    pub start_empty: bool,
    /// Directory of the boot programs [default: /usr/share/bootlatch/firmware]
    #[arg(long, value_name = "DIR")]
    pub firmware_dir: Option<PathBuf>,
    /// Directory of manifests, loaded at start and on SIGHUP
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// HTTP port for machines [default: 80]
    #[arg(long, value_name = "N")]
    pub http_port: Option<u16>,
    /// Action for a machine that was never seen before: ignore, hold, localboot, menu, or
    /// `install IMAGE [CONFIG]` [default: hold]
    #[arg(long, value_name = "ACTION")]
    pub unknown_hosts: Option<String>,
    /// Format of the log [default: auto]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
}

/// The file as it is written, before validation.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    interface: Option<Spanned<String>>,
    address: Option<Spanned<String>>,
    advertise: Option<Spanned<String>>,
    interfaces: Vec<RawInterface>,
    state_dir: Option<PathBuf>,
    firmware_dir: Option<Spanned<firmware::RawDirectories>>,
    signed_programs: SignedPrograms,
    files_dir: Option<PathBuf>,
    manifests: Option<PathBuf>,
    user: Option<String>,
    namespace: Option<Spanned<String>>,
    http_port: Option<u16>,
    tcp_congestion_control: Option<Spanned<String>>,
    unknown_hosts: Option<Spanned<String>>,
    rules: Vec<RawRule>,
    install: RawInstall,
    bmc: RawBmc,
    dhcp: RawDhcp,
    tftp: tftp::RawTftp,
    iscsi: iscsi::RawIscsi,
    syslog: syslog::RawSyslog,
    api: access::RawApi,
    store: access::RawStore,
    config_access: access::RawConfigAccess,
    limits: limits::RawLimits,
    volumes: Vec<volumes::RawVolume>,
    webhooks: Vec<webhooks::RawWebhook>,
    programs: BTreeMap<Spanned<String>, String>,
    overrides: Vec<RawOverride>,
    shutdown_timeout: Option<Spanned<String>>,
    log_format: Option<LogFormat>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    mac: Option<Spanned<String>>,
    architecture: Option<Spanned<String>>,
    subnet: Option<Spanned<String>>,
    action: Spanned<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawInstall {
    completion: Option<RawCompletion>,
    timeout: Option<Spanned<String>>,
    max_boots: Option<Spanned<u32>>,
    power_on: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawBmc {
    pin_certificates: Option<bool>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawCompletion {
    BootComplete,
    ConfigFetched,
    ScriptFetched,
}

/// Reads and validates the file that the flags name and those of `conf.d` next to it, with the flags applied.
///
/// # Errors
/// An error of the configuration, with the file, the line and the key.
pub fn load(flags: &Flags) -> Result<Config, ConfigError> {
    let path = flags.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
    read(&Sources::read(path, flags.config.is_some())?, flags)
}

/// Reads and validates the files as [`load`] does, and leaves out those of `conf.d` that are wrong. Returns their errors as well.
pub fn load_what_is_valid(flags: &Flags) -> (Result<Config, ConfigError>, Vec<ConfigError>) {
    let path = flags.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
    let (mut left_out, mut errors) = (Vec::new(), Vec::new());
    loop {
        let found = Sources::read_without(path, flags.config.is_some(), &left_out);
        let error = match found.and_then(|sources| read(&sources, flags)) {
            Ok(config) => return (Ok(config), errors),
            Err(error) => error,
        };
        match error.file().filter(|file| sources::is_drop_in(path, file) && !left_out.contains(file)) {
            Some(file) => left_out.push(file),
            None => return (Err(error), errors),
        }
        errors.push(error);
    }
}

/// Parses and validates the text of a single configuration file, with the flags applied.
///
/// # Errors
/// An error of the configuration, with the line and the key.
pub fn parse(text: &str, path: &Path, flags: &Flags) -> Result<Config, ConfigError> {
    read(&Sources::of(text, path), flags)
}

fn read(sources: &Sources, flags: &Flags) -> Result<Config, ConfigError> {
    let validator = Validator(sources);
    let table = sources.merged()?;
    let raw = Raw::deserialize(Deserializer::from(table.clone())).map_err(|error| {
        let at = error.span().map(|span| span.start);
        let key = at.and_then(|at| file_keys::key_at(table.get_ref(), at));
        let key = key.map_or_else(String::new, |key| format!("{key}: "));
        validator.syntax(at, &format!("{key}{}", error.message()))
    })?;
    let interfaces = validator.interfaces(flags, &raw)?;
    validator.leased_subnets(&raw, &interfaces)?;
    let is_behind_nat = interfaces.iter().any(|interface| interface.advertise.is_some());
    let (overrides, boot_file_in) = validator.overrides(&raw.overrides)?;
    let otherwise = validator.choose("unknown_hosts", flags.unknown_hosts.as_deref(), raw.unknown_hosts.as_ref())?;
    let state_dir = flags.state_dir.clone().or(raw.state_dir).unwrap_or_else(|| "/var/lib/bootlatch".into());
    let shutdown_timeout = validator.duration("shutdown_timeout", raw.shutdown_timeout.as_ref())?;
    Ok(Config {
        interfaces,
        files_dir: raw.files_dir.unwrap_or_else(|| state_dir.join("files")),
        state_dir,
        firmware_dirs: validator.firmware_dirs(flags, raw.firmware_dir)?,
        signed_programs: raw.signed_programs,
        manifests: flags.manifests.clone().or(raw.manifests),
        user: raw.user,
        namespace: validator
            .choose("namespace", None, raw.namespace.as_ref())?
            .unwrap_or_else(|| "default".parse().expect("`default` is a valid name")),
        unknown_hosts: EnrolmentRules {
            first: validator.rules(&raw.rules)?,
            otherwise: otherwise.unwrap_or(UnknownHostAction::Hold),
        },
        install: validator.install(&raw.install)?,
        pins_bmc_certificates: raw.bmc.pin_certificates.unwrap_or(true),
        programs: validator.programs(raw.programs)?,
        overrides,
        boot_file_in,
        dhcp: validator.dhcp(&raw.dhcp)?,
        tftp: validator.tftp(&raw.tftp, is_behind_nat)?,
        http_port: flags.http_port.or(raw.http_port).unwrap_or(80),
        tcp_congestion_control: validator.congestion_control(raw.tcp_congestion_control)?,
        iscsi: validator.iscsi(raw.iscsi, flags.check)?,
        syslog: validator.syslog(&raw.syslog)?,
        api: validator.api(&raw.api)?,
        encryption_key_file: raw.store.encryption_key_file.map(credentials::path),
        config_access: validator.config_access(&raw.config_access)?,
        volumes: validator.volumes(&raw.volumes)?,
        webhooks: validator.webhooks(&raw.webhooks)?,
        shutdown_timeout: shutdown_timeout.unwrap_or(Duration::from_secs(10)),
        log_format: flags.log_format.or(raw.log_format).unwrap_or_default(),
        limits: validator.limits(&raw.limits)?,
        files: sources.paths().map(Path::to_owned).collect(),
        keys: FileKeys::of(&table),
        origins: settings::origins(table.get_ref(), sources, flags),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_is_named_with_its_line_and_its_place_has_no_value() {
        for (text, key) in [
            ("http_port = 1\nhttp_port = 2\n", "http_port"),
            ("user = \"a\"\n[dhcp]\nmode = \"off\"\nmode = \"proxy\"\n", "mode"),
            ("[dhcp]\nport = 67\n[dhcp]\nmode = \"off\"\n", "dhcp"),
        ] {
            let error = parse(text, Path::new("b.toml"), &Flags::default()).unwrap_err();
            let line = text.trim_end().lines().filter(|line| line.contains(key)).count();
            assert!(line > 1 && error.to_string().contains(&format!("{key}: duplicate key")), "{error}");
            assert!(error.place().starts_with("b.toml: line ") && !error.place().contains("duplicate"), "{error}");
        }
    }

    use crate::boot::Program;
    use crate::fleet::HostMatch;

    fn read(text: &str) -> Result<Config, String> {
        parse(text, Path::new("b.toml"), &Flags::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_must_be_given() {
        let config = read("interface = \"eth1\"").unwrap();
        let alone = DhcpInterface { name: "eth1".into(), address: None, advertise: None, mode: DhcpMode::Proxy };
        assert_eq!((config.interfaces, config.http_port, config.dhcp.port), (vec![alone], 80, 67));
        assert_eq!(config.unknown_hosts, EnrolmentRules { first: Vec::new(), otherwise: UnknownHostAction::Hold });
        assert_eq!(read("").unwrap().interfaces, [], "the only interface of the machine is looked for at the start");
    }

    #[test]
    fn the_syslog_receiver_is_off_unless_it_is_enabled() {
        let port =
            |text: &str| read(&format!("interface = \"eth1\"\n{text}")).unwrap().syslog.map(|syslog| syslog.port);
        assert_eq!((port(""), port("[syslog]\nport = 5514")), (None, None));
        assert_eq!(
            (port("[syslog]\nenabled = true"), port("[syslog]\nenabled = true\nport = 5514")),
            (Some(514), Some(5514))
        );
    }

    #[test]
    fn a_flag_takes_precedence_over_the_file() {
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
    fn overrides_are_read_in_order() {
        let text = "interface = \"a\"\n[[overrides]]\nmac = \"52:54:00\"\nprogram = \"ipxe.efi\"\nalso_for_ipxe = true\n\
                    [[overrides]]\nuuid = \"12345678-9abc-def0-0102-030405060708\"\nboot_file_in = \"4011\"";
        let config = read(text).unwrap();
        let who = HostMatch::MacPrefix(vec![0x52, 0x54, 0]);
        assert_eq!(
            config.overrides,
            [ProgramOverride { who, program: Program("ipxe.efi".into()), also_for_ipxe: true }]
        );
        let uuid = "12345678-9abc-def0-0102-030405060708".parse().unwrap();
        assert_eq!(config.boot_file_in, [(HostMatch::Uuid(uuid), BootFileIn::Port4011)]);
    }

    #[test]
    fn an_error_names_the_line_and_the_key() {
        let check = |text: &str, expected: &[&str]| {
            let error = read(&format!("interface = \"eth1\"\n{text}")).unwrap_err();
            for part in expected {
                assert!(error.contains(part), "{error:?} does not say {part:?}");
            }
        };
        check("intreface = 1", &["b.toml", "line 2", "intreface"]);
        check("unknown_hosts = \"instal x\"", &["line 2", "unknown_hosts", "instal x"]);
        check("\n[[rules]]\nmac = \"5g\"\naction = \"hold\"", &["line 4", "rules.mac"]);
        check("[[rules]]\narchitecture = \"vax\"\naction = \"hold\"", &["line 3", "rules.architecture"]);
        check("[install]\ntimeout = \"1 fortnight\"", &["line 3", "install.timeout"]);
        check("[install]\nmax_boots = 0", &["line 3", "install.max_boots"]);
        check("[limits]\nhttp_connections_per_source = 0", &["line 3", "limits.http_connections_per_source"]);
        check("[limits]\nhttp_send_timeout = \"0s\"", &["line 3", "limits.http_send_timeout"]);
        check("[tftp]\nmax_block_size = 7", &["line 3", "tftp.max_block_size"]);
        check("[iscsi]\niqn = \"x\"", &["line 3", "iscsi.iqn"]);
        check("[syslog]\nport = 0", &["line 3", "syslog.port"]);
        check("[iscsi.chap]\nusername = \"n\"\nsecret = \"short\"", &["iscsi.chap.secret", "12 to 128 octets"]);
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
        let webhook = "[[webhooks]]\nsecret_file = \"/x\"\nurl";
        check(&format!("{webhook} = \"ftp://a\""), &["line 4", "webhooks.url", "http://"]);
        check(&format!("{webhook} = \"http://user@a\""), &["line 4", "webhooks.url", "user name"]);
        check(&format!("{webhook} = \"http://a\"\nevents = []"), &["line 5", "webhooks.events", "empty"]);
        check(&format!("{webhook} = \"http://a\"\nevents = [\"boot\"]"), &["line 5", "webhooks.events", "stalled"]);
        check(&format!("{webhook} = \"http://a\"\nname = \"a b\""), &["line 5", "webhooks.name"]);
        check(
            &format!("{webhook} = \"http://a/1\"\n{webhook} = \"http://a/2\""),
            &["line 7", "webhooks.name", "twice"],
        );
        check("[[webhooks]]\nurl = \"http://a\"", &["secret_file"]);
        check("log_format = \"xml\"", &["line 2", "xml", "auto"]);
        check("tcp_congestion_control = \"\"", &["line 2", "tcp_congestion_control"]);
        check("tcp_congestion_control = \"sixteen-or-more.\"", &["line 2", "tcp_congestion_control"]);
        check("address = \"::1\"", &["line 2", "address"]);
    }

    #[test]
    fn the_example_is_the_default() {
        let without_origins = |config| Config { origins: settings::Origins::new(), ..config };
        let example = without_origins(read(EXAMPLE).unwrap());
        let plain = without_origins(read("interface = \"eth1\"").unwrap());
        assert_eq!(format!("{example:?}"), format!("{plain:?}"));
        // The file must stay valid without the comment marks.
        read(&uncommented_example()).unwrap();
    }

    #[test]
    fn the_example_and_the_reference_list_every_key() {
        let example = toml::Value::Table(uncommented_example().parse().unwrap());
        let mut path = Vec::new();
        let mut keys = Vec::new();
        list_keys(&example, &example, &mut path, &mut keys);
        assert!(keys.contains(&"dhcp.subnets.reservations.client_id".to_owned()), "nested tables are read: {keys:?}");
        let reference = include_str!("../../docs/reference/configuration.md");
        for key in &keys {
            let table: Vec<_> = key.split('.').collect();
            let name = table[table.len() - 1];
            // In place of a key that the example sets.
            let is_alternative = key.starts_with("iscsi.chap.") && EXAMPLE.contains(&format!("\n# {name} = "));
            assert!(is_alternative || has_key(&example, &table), "config/bootlatch.toml does not list {key}");
            let is_described = [format!("`{name}`"), format!("[{name}]"), format!("[{key}]"), format!("{name} = ")];
            assert!(
                is_described.iter().any(|text| reference.contains(text)),
                "configuration.md does not describe {key}"
            );
        }
    }

    /// The commented example configuration.
    const EXAMPLE: &str = include_str!("../../config/bootlatch.toml");

    /// Returns the example with every key set.
    fn uncommented_example() -> String {
        EXAMPLE.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
    }

    /// Lists the keys that the code reads in `value`, a table at `path` of the example, and in the tables below it. Serde
    /// names all keys of a table in its error about an unknown one.
    fn list_keys<'a>(example: &toml::Value, value: &'a toml::Value, path: &mut Vec<&'a str>, keys: &mut Vec<String>) {
        for (name, below) in value.as_table().unwrap() {
            let tables = below.as_array().map_or(std::slice::from_ref(below), Vec::as_slice);
            for table in tables.iter().filter(|below| below.is_table()) {
                path.push(name);
                list_keys(example, table, path, keys);
                path.pop();
            }
        }
        let mut example = example.clone();
        insert_unknown_key(&mut example, path);
        let Err(error) = toml::from_str::<Raw>(&toml::to_string(&example).unwrap()) else {
            assert_eq!(path[..], ["programs"], "a table that takes any key");
            return;
        };
        let (_, expected) = error.message().split_once("expected ").unwrap();
        let prefix = path.iter().map(|name| format!("{name}.")).collect::<String>();
        keys.extend(expected.split('`').skip(1).step_by(2).map(|name| format!("{prefix}{name}")));
    }

    fn insert_unknown_key(value: &mut toml::Value, path: &[&str]) {
        match (value, path) {
            (toml::Value::Array(tables), _) => insert_unknown_key(&mut tables[0], path),
            (table, [first, rest @ ..]) => insert_unknown_key(&mut table[*first], rest),
            (table, []) => {
                table.as_table_mut().unwrap().insert("unknown_key".to_owned(), true.into());
            }
        }
    }

    fn has_key(value: &toml::Value, path: &[&str]) -> bool {
        match (value, path) {
            (toml::Value::Array(tables), _) => tables.iter().any(|table| has_key(table, path)),
            (_, []) => true,
            (table, [first, rest @ ..]) => table.get(first).is_some_and(|below| has_key(below, rest)),
        }
    }

    #[test]
    fn durations_take_the_documented_forms() {
        let seconds = |text: &str| {
            let file = format!("interface = \"a\"\nshutdown_timeout = \"{text}\"");
            read(&file).map(|config| config.shutdown_timeout.as_secs_f64())
        };
        for (text, expected) in [
            ("90m", 5400.0),
            ("1h 30m", 5400.0),
            ("1h30m", 5400.0),
            ("1.5h", 5400.0),
            ("1 hour, 30 minutes", 5400.0),
            ("1 hr 30 mins", 5400.0),
            ("01:30:00", 5400.0),
            ("PT1H30M", 5400.0),
            ("P1DT12H", 129_600.0),
            ("2d", 172_800.0),
            ("1w", 604_800.0),
            ("1500ms", 1.5),
            ("366d", 31_622_400.0),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "90", "1mo", "1y", "0s", "999ms", "367d", "-5m", "1 fortnight", "m"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
