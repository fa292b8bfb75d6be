//! Conversion of the configuration into the settings of each part.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::Ipv4Net;

use crate::api::auth;
use crate::api::settings::Setting;
use crate::api::state::Folders;
use crate::boot::Site;
use crate::config::{self, Api, BootFileIn, Config, Dhcp, DhcpSocket, IscsiAccess, OnOtherServer};
use crate::dhcp;
use crate::fleet::enrolment::{EnrolmentRules, UnknownHostAction};
use crate::http::connection_limits::HttpLimits;
use crate::images::boot_programs::BootPrograms;
use crate::images::served_directory::ServedDirectory;
use crate::iscsi::serve::admission;
use crate::store::volumes::Volumes;
use crate::tftp::serve::boot_files;

/// The addresses of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnAddresses {
    /// Networks of the interfaces.
    pub nets: Vec<Ipv4Net>,
    /// One address of each interface that has one.
    pub ours: Vec<Ipv4Addr>,
    /// Addresses of interfaces, with the address that machines are told instead.
    pub advertised: Vec<(Ipv4Addr, Ipv4Addr)>,
}

/// Returns the rules for unknown machines. Where no interface was named, none is answered unasked.
pub fn unknown_hosts(config: &Config) -> EnrolmentRules {
    match config.interfaces.as_slice() {
        [] => EnrolmentRules { first: Vec::new(), otherwise: UnknownHostAction::Hold },
        _ => config.unknown_hosts.clone(),
    }
}

/// Returns the settings of the boot decisions with other addresses.
pub fn addressed(site: &Site, config: &Config, addresses: &OwnAddresses) -> Site {
    let address = addresses.ours.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
    let served = config.dhcp.subnets.iter().map(|subnet| subnet.net.trunc());
    let advertised: Vec<(IpAddr, IpAddr)> =
        addresses.advertised.iter().map(|(own, told)| ((*own).into(), (*told).into())).collect();
    let told = advertised.iter().map(|(_, told)| *told);
    let ours = addresses.ours.iter().copied().map(IpAddr::from).chain(told).collect();
    let nets = addresses.nets.iter().copied().chain(served).collect();
    Site { ours, nets, advertised, ..site.clone() }.reached_at(address.into())
}

/// Returns the settings of the boot decisions.
pub fn site(config: &Config, addresses: &OwnAddresses) -> Site {
    let nowhere = Ipv4Addr::UNSPECIFIED;
    let site = Site {
        unknown_hosts: unknown_hosts(config),
        install: config.install.clone(),
        pins_bmc_certificates: config.pins_bmc_certificates,
        programs: config.programs.clone(),
        overrides: config.overrides.clone(),
        namespace: config.namespace.clone(),
        address: nowhere.into(),
        nets: Vec::new(),
        ours: Vec::new(),
        advertised: Vec::new(),
        http: (nowhere, config.http_port).into(),
        https: config.api.listen.filter(|listen| config.api.tls.is_some() && !listen.ip().is_loopback()),
        iscsi: (nowhere, config.iscsi.port).into(),
        syslog: config.syslog.map(|syslog| (nowhere, syslog.port).into()),
        iqn: config.iscsi.iqn.clone(),
        config_access: config.config_access.clone(),
        chap: config.iscsi.chap.clone(),
    };
    addressed(&site, config, addresses)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_told_what_is_advertised_for_the_present_address() {
        let path = std::path::Path::new("bootlatch.toml");
        let config = config::parse("interface = \"eth1\"\n", path, &config::Flags::default()).unwrap();
        let (own, told, moved) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(192, 0, 2, 9), Ipv4Addr::new(10, 0, 0, 2));
        let at = |own| OwnAddresses { nets: Vec::new(), ours: vec![own], advertised: vec![(own, told)] };
        let first = site(&config, &at(own));
        let later = addressed(&first, &config, &at(moved));
        for (site, own) in [(first, own), (later, moved)] {
            assert_eq!((site.address, site.iscsi.ip(), site.http.ip()), (told.into(), told.into(), told.into()));
            assert_eq!(site.ours, [IpAddr::from(own), IpAddr::from(told)]);
            assert_eq!(site.reached_at(own.into()).address, IpAddr::from(told));
        }
        let gone = addressed(&site(&config, &at(own)), &config, &OwnAddresses::default());
        assert_eq!((gone.address, gone.advertised.len()), (IpAddr::from(Ipv4Addr::UNSPECIFIED), 0));
    }
}
