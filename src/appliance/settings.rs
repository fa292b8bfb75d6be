//! Conversion of the configuration into the settings of each part.

use std::path::PathBuf;
use std::sync::Arc;

use crate::api::auth;
use crate::api::settings::Setting;
use crate::api::state::Folders;
use crate::boot::Site;
use crate::config::{self, Api, BootFileIn, Config, Dhcp, DhcpSocket, IscsiAccess, OnOtherServer};
use crate::dhcp;
use crate::http::connection_limits::HttpLimits;
use crate::images::boot_programs::BootPrograms;
use crate::images::served_directory::ServedDirectory;
use crate::iscsi::serve::admission;
use crate::store::volumes::Volumes;
use crate::tftp::serve::boot_files;

use super::listeners::Listeners;

/// Returns the settings of the boot decisions.
pub fn site(config: &Config, listeners: &Listeners) -> Site {
    let served = config.dhcp.subnets.iter().map(|subnet| subnet.net.trunc());
    let own = listeners.address.into();
    let told = listeners.advertised.iter().find(|(known, _)| *known == own).map_or(own, |(_, told)| *told);
    let tftp = listeners.tftp.iter().map(|endpoint| endpoint.service_address.into());
    Site {
        unknown_hosts: config.unknown_hosts.clone(),
        install: config.install.clone(),
        pins_bmc_certificates: config.pins_bmc_certificates,
        programs: config.programs.clone(),
        overrides: config.overrides.clone(),
        namespace: config.namespace.clone(),
        address: told,
        nets: listeners.subnets.iter().copied().chain(served).collect(),
        ours: tftp.chain(listeners.advertised.iter().map(|(_, told)| *told)).collect(),
        advertised: listeners.advertised.clone(),
        http: (told, config.http_port).into(),
        iscsi: (told, config.iscsi.port).into(),
        syslog: config.syslog.map(|syslog| (told, syslog.port).into()),
        iqn: config.iscsi.iqn.clone(),
        config_access: config.config_access.clone(),
        chap: config.iscsi.chap.clone(),
    }
}

/// Returns the directories that the API serves and writes.
pub fn folders(config: &Config) -> Folders {
    Folders {
        firmware: BootPrograms::new(packaged_programs(config), &config.firmware_dirs),
        files: Arc::new(ServedDirectory::new(config.files_dir.clone())),
        volumes: Arc::new(Volumes::new(config.volumes.clone())),
    }
}

/// Returns the authentication settings of the API.
pub fn api_access(config: &Config, tokens: auth::Tokens) -> auth::Access {
    let Api { trust_loopback, trust_socket, proxies, .. } = &config.api;
    auth::Access { tokens, trust_loopback: *trust_loopback, trust_socket: *trust_socket, proxies: proxies.clone() }
}

/// Returns the settings in force, as the API shows them.
pub fn in_force(config: &Config) -> Vec<Setting> {
    let found = config::settings::in_force(config).into_iter();
    found.map(|one| Setting { key: one.key.to_owned(), value: one.value, origin: one.origin }).collect()
}

/// Returns the limits of HTTP.
pub fn http_limits(config: &Config) -> HttpLimits {
    HttpLimits {
        connections_per_source: config.limits.http_connections_per_source,
        send_timeout: config.limits.http_send_timeout,
    }
}

/// Returns the settings of the TFTP service.
pub fn boot_file_settings(config: &Config) -> boot_files::BootFileSettings {
    boot_files::BootFileSettings {
        max_block_size: config.tftp.max_block_size,
        drain: config.shutdown_timeout,
        transfers_per_source: config.limits.tftp_transfers_per_source,
        folders: config.firmware_dirs.iter().chain([&config.files_dir]).cloned().collect(),
        packaged: packaged_programs(config),
    }
}

/// Returns the shims and GRUBs of packages that are installed in pairs, by the name that machines ask for.
pub fn packaged_programs(config: &Config) -> Vec<(String, PathBuf)> {
    let pairs = config.signed_programs.pairs().into_iter();
    let installed = pairs.filter(|pair| pair.iter().all(|program| program.path.is_file()));
    installed.flatten().map(|program| (program.name.to_owned(), program.path)).collect()
}

/// Returns which images initiators may attach by the configuration.
pub fn attach_policy(config: &Config) -> admission::AttachPolicy {
    match config.iscsi.access {
        IscsiAccess::Assigned => admission::AttachPolicy::Assigned,
        IscsiAccess::Any => admission::AttachPolicy::Any,
    }
}

/// Returns the settings of the DHCP service.
pub fn dhcp_settings(config: &Config) -> dhcp::serve::DhcpSettings {
    use dhcp::quirks::BootFileLocation;
    let location = |chosen| match chosen {
        BootFileIn::Offer => BootFileLocation::Offer,
        BootFileIn::Port4011 => BootFileLocation::Port4011,
    };
    let boot_file_locations =
        config.boot_file_in.iter().map(|(who, chosen)| (who.clone(), location(*chosen))).collect();
    let Dhcp { subnets, relays, authoritative, conflict_check, on_other_server, other_server_check_interval, .. } =
        &config.dhcp;
    dhcp::serve::DhcpSettings {
        boot_file_locations,
        subnets: subnets.clone(),
        relays: relays.clone(),
        authoritative: *authoritative,
        conflict_check: *conflict_check,
        stand_down: *on_other_server == OnOtherServer::StandDown,
        check_interval: *other_server_check_interval,
        socket: match config.dhcp.socket {
            DhcpSocket::Auto => dhcp::serve::SocketChoice::Auto,
            DhcpSocket::Udp => dhcp::serve::SocketChoice::Udp,
            DhcpSocket::Packet => dhcp::serve::SocketChoice::Packet,
        },
    }
}
