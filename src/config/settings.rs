//! The settings in force: each key with its value, and where the value comes from.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::sources::Sources;
use super::{Config, DhcpMode, Flags, OnOtherServer, SignedPrograms, TlsFiles};

/// Where the values of the keys that were set come from: `FILE:LINE`, or a flag. Tables in a list count as one key.
pub type Origins = BTreeMap<String, String>;

/// A key of the configuration, with its value in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSetting {
    /// The key, with its table.
    pub key: &'static str,
    /// The value, as the file writes it. A secret is not shown.
    pub value: String,
    /// Where it comes from: `FILE:LINE`, a flag, or `default`.
    pub origin: String,
}

/// Returns where the keys that the files and the flags set come from.
pub(super) fn origins(table: &DeTable<'_>, sources: &Sources, flags: &Flags) -> Origins {
    let mut found = Origins::new();
    add_keys(table, "", sources, &mut found);
    let given = [
        ("interface", flags.interface.is_some()),
        ("address", flags.address.is_some()),
        ("state_dir", flags.state_dir.is_some()),
        ("firmware_dir", flags.firmware_dir.is_some()),
        ("manifests", flags.manifests.is_some()),
        ("http_port", flags.http_port.is_some()),
        ("unknown_hosts", flags.unknown_hosts.is_some()),
        ("log_format", flags.log_format.is_some()),
    ];
    let given = given.into_iter().filter(|(_, is_given)| *is_given);
    found.extend(given.map(|(key, _)| (key.to_owned(), format!("--{}", key.replace('_', "-")))));
    found
}

fn add_keys(table: &DeTable<'_>, prefix: &str, sources: &Sources, found: &mut Origins) {
    let place = |start: usize| {
        let (path, line) = sources.place(start);
        (path.to_owned(), format!("{}:{line}", path.display()))
    };
    for (name, value) in table {
        let key = format!("{prefix}{}", name.get_ref());
        let (mut last, mut origin) = place(name.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => add_keys(inner, &format!("{key}."), sources, found),
            DeValue::Array(elements) => {
                // Later files append tables.
                for (path, place) in elements.iter().map(|element| place(element.span().start)) {
                    if path != last {
                        origin = format!("{origin}, {place}");
                        last = path;
                    }
                }
            }
            _ => {}
        }
        found.insert(key, origin);
    }
}

/// Returns every setting in force, in the order of the reference.
pub fn in_force(config: &Config) -> Vec<ConfigSetting> {
    let parts = [general(config), install(config), dhcp(config), services(config), access(config), limits(config)];
    let setting = |(key, value): (&'static str, String)| {
        let own = config.origins.get(key).cloned();
        // The first interface has two spellings.
        let other = || match key {
            "interfaces" => config.origins.get("interface").cloned(),
            _ => None,
        };
        ConfigSetting { key, value, origin: own.or_else(other).unwrap_or_else(|| "default".into()) }
    };
    parts.into_iter().flatten().map(setting).collect()
}

type Values = Vec<(&'static str, String)>;

fn general(config: &Config) -> Values {
    let rules = &config.unknown_hosts;
    let programs: Vec<_> =
        config.programs.0.iter().map(|(who, program)| format!("{who} = {}", text(program))).collect();
    let interfaces = config.interfaces.iter().map(|one| {
        let address = one.address.map_or_else(String::new, |address| format!(", {address}"));
        let advertised = one.advertise.map_or_else(String::new, |address| format!(", told {address}"));
        format!("{} ({}{address}{advertised})", one.name, mode(one.mode))
    });
    let signed_programs = match config.signed_programs {
        SignedPrograms::Packages => "packages",
        SignedPrograms::FirmwareDir => "firmware_dir",
    };
    vec![
        ("interfaces", if config.takes_only_interface() { "the only one".into() } else { list(interfaces) }),
        ("state_dir", text(config.state_dir.display())),
        ("firmware_dir", list(config.firmware_dirs.iter().map(|path| text(path.display())))),
        ("signed_programs", text(signed_programs)),
        ("files_dir", text(config.files_dir.display())),
        ("manifests", optional(config.manifests.as_ref().map(|path| text(path.display())))),
        ("user", config.user.as_ref().map_or_else(|| "\"bootlatch\", else \"nobody\"".into(), text)),
        ("namespace", text(&config.namespace)),
        ("http_port", config.http_port.to_string()),
        (
            "tcp_congestion_control",
            config.tcp_congestion_control.as_ref().map_or_else(|| "\"cubic\", if the kernel has it".into(), text),
        ),
        ("unknown_hosts", text(&rules.otherwise)),
        ("rules", count(rules.first.len())),
        ("programs", list(programs)),
        ("overrides", count(config.overrides.len().max(config.boot_file_in.len()))),
        ("volumes", list(config.volumes.iter().map(|volume| text(&volume.name)))),
        ("webhooks", list(config.webhooks.iter().map(|webhook| text(&webhook.name)))),
        ("log_format", word(config.log_format)),
        ("shutdown_timeout", duration(config.shutdown_timeout)),
    ]
}

fn mode(mode: DhcpMode) -> &'static str {
    match mode {
        DhcpMode::Proxy => "proxy",
        DhcpMode::Server => "server",
        DhcpMode::Off => "off",
    }
}

fn install(config: &Config) -> Values {
    vec![
        ("install.completion", word(config.install.completion)),
        ("install.timeout", duration(config.install.timeout)),
        ("install.max_boots", config.install.max_boots.to_string()),
        ("install.power_on", config.install.power_on.to_string()),
        ("bmc.pin_certificates", config.pins_bmc_certificates.to_string()),
    ]
}

fn dhcp(config: &Config) -> Values {
    let dhcp = &config.dhcp;
    let on_other_server = match dhcp.on_other_server {
        OnOtherServer::Warn => "warn",
        OnOtherServer::StandDown => "stand_down",
    };
    vec![
        ("dhcp.port", dhcp.port.to_string()),
        ("dhcp.proxy_port", dhcp.proxy_port.to_string()),
        ("dhcp.socket", word(dhcp.socket)),
        ("dhcp.shorten_router_wait", dhcp.shorten_router_wait.to_string()),
        ("dhcp.on_other_server", text(on_other_server)),
        ("dhcp.other_server_check_interval", duration(dhcp.other_server_check_interval)),
        ("dhcp.relays", list(&dhcp.relays)),
        ("dhcp.authoritative", dhcp.authoritative.to_string()),
        ("dhcp.conflict_check", dhcp.conflict_check.to_string()),
        ("dhcp.subnets", list(dhcp.subnets.iter().map(|subnet| subnet.net))),
    ]
}

fn services(config: &Config) -> Values {
    let Config { tftp, iscsi, syslog, .. } = config;
    vec![
        ("tftp.port", tftp.port.to_string()),
        ("tftp.single_port", tftp.single_port.to_string()),
        ("tftp.max_block_size", tftp.max_block_size.map_or_else(|| "by the MTU".into(), |size| size.to_string())),
        ("iscsi.port", iscsi.port.to_string()),
        ("iscsi.iqn", text(&iscsi.iqn)),
        ("iscsi.access", word(iscsi.access)),
        ("iscsi.chap", if iscsi.chap.is_some() { "set (not shown)".into() } else { optional(None) }),
        ("syslog.enabled", syslog.is_some().to_string()),
        ("syslog.port", syslog.map_or_else(|| "off".into(), |syslog| syslog.port.to_string())),
    ]
}

fn access(config: &Config) -> Values {
    let (api, proof) = (&config.api, &config.config_access);
    let file = |of: fn(&TlsFiles) -> Option<&std::path::PathBuf>| {
        optional(api.tls.as_ref().and_then(of).map(|path| text(path.display())))
    };
    // Without a certificate of its own the server makes one.
    let made = |name: &str, of: fn(&(PathBuf, PathBuf)) -> &PathBuf| {
        let path = |tls: &TlsFiles| {
            tls.certificate.as_ref().map_or_else(|| config.state_dir.join(name), |pair| of(pair).clone())
        };
        optional(api.tls.as_ref().map(path).map(|path| text(path.display())))
    };
    vec![
        ("api.listen", api.listen.map_or_else(|| "on http_port".into(), text)),
        ("api.tls", api.tls.is_some().to_string()),
        ("api.certificate", made("tls.crt", |(certificate, _)| certificate)),
        ("api.key", made("tls.key", |(_, key)| key)),
        ("api.client_ca", file(|tls| tls.client_ca.as_ref())),
        ("api.viewer_ca", file(|tls| tls.viewer_ca.as_ref())),
        ("api.trust_loopback", api.trust_loopback.to_string()),
        ("api.trust_socket", api.trust_socket.to_string()),
        ("api.proxies", list(&api.proxies)),
        ("store.encryption_key_file", optional(config.encryption_key_file.as_ref().map(|path| text(path.display())))),
        ("config_access.require", word(proof.require)),
        ("config_access.token_ttl", duration(proof.token_ttl)),
        ("config_access.trusted_subnets", list(&proof.trusted_subnets)),
    ]
}

fn limits(config: &Config) -> Values {
    let limits = &config.limits;
    vec![
        ("limits.http_connections_per_source", limits.http_connections_per_source.to_string()),
        ("limits.http_send_timeout", duration(limits.http_send_timeout)),
        ("limits.tftp_transfers_per_source", limits.tftp_transfers_per_source.to_string()),
        ("limits.iscsi_connections_per_source", limits.iscsi_connections_per_source.to_string()),
        ("limits.unknown_hosts", limits.first_seen.total.to_string()),
        ("limits.unknown_hosts_per_network", limits.first_seen.per_network.to_string()),
        ("limits.unknown_hosts_per_minute", limits.first_seen.per_minute.to_string()),
        ("limits.unknown_host_expiry", duration(limits.first_seen.expiry)),
    ]
}

fn text(value: impl Display) -> String {
    format!("\"{value}\"")
}

/// Returns a variant as the file writes it: `BootComplete` as "boot-complete".
fn word(value: impl Debug) -> String {
    let mut out = String::from("\"");
    for (at, letter) in format!("{value:?}").chars().enumerate() {
        if at > 0 && letter.is_uppercase() {
            out.push('-');
        }
        out.extend(letter.to_lowercase());
    }
    out + "\""
}

fn optional(value: Option<String>) -> String {
    value.unwrap_or_else(|| "not set".into())
}

fn count(number: usize) -> String {
    match number {
        0 => "none".into(),
        number => format!("{number} in the file"),
    }
}

fn list(values: impl IntoIterator<Item = impl Display>) -> String {
    let values: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
    if values.is_empty() { "none".into() } else { values.join(", ") }
}

/// Returns a duration in the largest unit that divides it.
fn duration(value: Duration) -> String {
    let seconds = value.as_secs();
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm')];
    let unit = units.into_iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    let (unit, letter) = unit.unwrap_or((1, 's'));
    format!("\"{}{letter}\"", seconds / unit)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn settings(file: &str, flags: &Flags) -> BTreeMap<&'static str, (String, String)> {
        let config = parse(file, Path::new("b.toml"), flags).unwrap();
        in_force(&config).into_iter().map(|one| (one.key, (one.value, one.origin))).collect()
    }

    #[test]
    fn a_setting_shows_its_value_and_its_origin() {
        let file = "interface = \"eth1\"\nhttp_port = 81\n[install]\ntimeout = \"90m\"\n[iscsi.chap]\n\
                    username = \"u\"\nsecret = \"geheim-geheim\"\n[[dhcp.subnets]]\nsubnet = \"192.168.9.0/24\"\n";
        let flags = Flags { http_port: Some(8080), ..Flags::default() };
        let found = settings(file, &flags);
        let rows = [
            ("interfaces", "eth1 (proxy)", "b.toml:1"),
            ("http_port", "8080", "--http-port"),
            ("install.timeout", "\"90m\"", "b.toml:4"),
            ("install.completion", "\"boot-complete\"", "default"),
            ("dhcp.subnets", "192.168.9.0/24", "b.toml:8"),
            ("iscsi.access", "\"assigned\"", "default"),
            ("iscsi.chap", "set (not shown)", "b.toml:5"),
            ("limits.unknown_host_expiry", "\"7d\"", "default"),
            ("api.listen", "on http_port", "default"),
            ("user", "\"bootlatch\", else \"nobody\"", "default"),
            ("tftp.max_block_size", "by the MTU", "default"),
            ("manifests", "not set", "default"),
        ];
        for (key, value, origin) in rows {
            assert_eq!(found[key], (value.to_owned(), origin.to_owned()), "{key}");
        }
        assert!(!format!("{found:?}").contains("geheim"));
    }

    #[test]
    fn every_key_of_the_example_is_a_setting() {
        let found = settings("interface = \"eth1\"", &Flags::default());
        let example = include_str!("../../config/bootlatch.toml");
        let lines = example.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line));
        let table: toml::Table = lines.collect::<Vec<_>>().join("\n").parse().unwrap();
        let mut missing = Vec::new();
        for (key, value) in &table {
            match value {
                toml::Value::Table(inner) if key != "programs" => {
                    let keys = inner.keys().map(|name| format!("{key}.{name}"));
                    missing.extend(keys.filter(|key| !found.contains_key(key.as_str())));
                }
                _ => missing.extend((!found.contains_key(key.as_str())).then(|| key.clone())),
            }
        }
        // They are shown as the first of `interfaces`.
        missing.retain(|key| !["interface", "address", "advertise", "dhcp.mode"].contains(&key.as_str()));
        assert!(missing.is_empty(), "{missing:?}");
    }
}
