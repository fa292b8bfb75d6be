//! The doctor's eyes: collects what the checks in `doctor` judge, from the configuration, the system and the running
//! server. It changes nothing.

mod clock;
mod files;
mod ipv6;
mod kernel;
mod ports;
mod server;
mod wire;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::Ipv4Net;
use jiff::Timestamp;

use crate::config::{self, Config, ConfigError, DhcpInterface, DhcpMode, Flags};
use crate::doctor::checks::certificate_names::check_names;
use crate::doctor::checks::files as file_checks;
use crate::doctor::checks::ipv6::check_ipv6;
use crate::doctor::checks::kernel::{
    ClockState, NeighbourTable, ReceiveBuffers, check_buffers, check_clock, check_neighbours, check_paths,
};
use crate::doctor::checks::ports::{InterfaceState, check_interfaces, check_ports};
use crate::doctor::checks::segments::check_segments;
use crate::doctor::firewall::{Bridge, ServedInterface, check_firewall, check_legacy};
use crate::doctor::{Finding, Looked, Report};

use super::listeners::{choose_address, subnets};
use super::privileges;
use server::RunningServer;

/// Reason of what only root may look at.
const NEEDS_ROOT: &str = "needs root";
/// What follows from a file of `conf.d` that is wrong.
const LEFT_OUT: &str = ". The server does not start with it; all else was looked at without this file";

/// An interface of the configuration that exists and has an address.
#[derive(Debug, Clone)]
struct UsableInterface {
    name: String,
    mode: DhcpMode,
    /// Address at which machines reach the server.
    address: Ipv4Addr,
    /// Addresses of the interface with their networks.
    addresses: Vec<Ipv4Net>,
}

/// Looks at the appliance of a configuration. `probe`: whether to ask for other DHCP servers on the wire.
pub fn examine(flags: &Flags, probe: bool) -> Report {
    let (config, errors) = config::load_what_is_valid(flags);
    let mut invalid: Vec<Finding> = errors.iter().map(|error| broken(error, LEFT_OUT)).collect();
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            let mut report = Report::new(None);
            invalid.push(broken(&error, ""));
            report.add("configuration", &Ok(()), |()| invalid);
            return report;
        }
    };
    let found = RunningServer::find(&config.state_dir);
    let mut report = Report::new(found.as_ref().ok().map(Option::is_some));
    report.add("server", &found, |_| Vec::new());
    let server = found.as_ref().ok().and_then(Option::as_ref);
    invalid.extend(check_user(&config));
    report.add("configuration", &Ok(()), |()| invalid);
    let (states, usable) = interfaces(&config);
    report.add("interfaces", &Ok(states), |states| check_interfaces(states));
    let pid = server.map(|server| server.pid);
    let ports = ports::observe(&config, &usable, server.is_some());
    report.add("ports", &ports, |ports| check_ports(ports, pid));
    report.add("programs", &files::programs(&config), |programs| file_checks::check_programs(programs));
    add_state(&mut report, &config, &usable, server);
    add_kernel(&mut report, &config, &usable, server);
    let segments = wire::segments(&config, &usable, found.as_ref().map(Option::as_ref), probe);
    report.add("segments", &segments, |all| check_segments(all));
    report.add("ipv6", &ipv6::segments(&usable, probe), |all| check_ipv6(all));
    let served: Vec<ServedInterface> = usable.iter().map(|one| served(one, &config)).collect();
    let judged = kernel::firewall().and_then(|rules| check_firewall(&rules, &served));
    report.add("firewall", &judged, Clone::clone);
    report.add("firewall_legacy", &kernel::legacy_firewall(), |save| check_legacy(save, &served));
    report.sort();
    report
}

/// Returns the finding of an error of the configuration.
fn broken(error: &ConfigError, what_follows: &str) -> Finding {
    let seen = format!("{error}{what_follows}");
    Finding::error("configuration_invalid", "the configuration", seen, "correct the file")
}

fn check_user(config: &Config) -> Vec<Finding> {
    let remedy = "create the user, or configure another one";
    match privileges::find(config.user.as_deref()) {
        Ok(_) => Vec::new(),
        Err(error) => vec![Finding::error("user_missing", "user", format!("{error:#}"), remedy)],
    }
}

/// Adds the checks of files.
fn add_state(report: &mut Report, config: &Config, usable: &[UsableInterface], server: Option<&RunningServer>) {
    report.add("disk_space", &files::space(config), |space| file_checks::check_space(space));
    let user = privileges::find(config.user.as_deref()).map_err(|error| format!("{error:#}"));
    let name = user.as_ref().ok().and_then(Option::as_ref).map_or("root", privileges::ServiceUser::name).to_owned();
    let entries = user.and_then(|user| files::entries(&config.state_dir, user.as_ref()));
    report.add("state_directory", &entries, |entries| file_checks::check_rights(entries, &name));
    let certificates = files::certificates(config);
    report.add("certificates", &certificates, |all| file_checks::check_certificates(all, Timestamp::now()));
    let addresses: Vec<IpAddr> = usable.iter().map(|one| one.address.into()).collect();
    let named = files::certificate_names(config, &addresses);
    report.add("certificate_names", &named, |named| named.iter().flat_map(check_names).collect());
    let ready = server.map(|server| server.ready.clone());
    let lines = ready.clone().unwrap_or(Ok(Vec::new())).unwrap_or_default();
    let faults = file_checks::manifest_faults(files::manifests(config), &lines);
    report.add("manifests", &faults, |faults| file_checks::check_manifests(faults));
    if let Some(ready) = ready {
        report.add("readiness", &ready, |lines| file_checks::check_readiness(lines));
    }
}

/// Adds the checks of the kernel.
fn add_kernel(report: &mut Report, config: &Config, usable: &[UsableInterface], server: Option<&RunningServer>) {
    let pools = config.dhcp.subnets.iter().flat_map(|subnet| &subnet.pools);
    let leases: u64 =
        pools.map(|pool| u64::from(u32::from(*pool.end()).saturating_sub(u32::from(*pool.start()))) + 1).sum();
    let hosts = server.and_then(|server| server.hosts.as_ref().ok().copied()).unwrap_or_default();
    let machines = leases.max(hosts);
    let table = kernel::neighbour_limit().map(|limit| NeighbourTable { limit, machines });
    report.add("neighbour_table", &table, check_neighbours);
    let lost = server.and_then(|server| server.lost.as_ref().ok().copied());
    let buffers = kernel::receive_buffer().map(|(wanted, granted)| ReceiveBuffers { granted, wanted, lost });
    report.add("receive_buffers", &buffers, check_buffers);
    report.add("paths", &kernel::paths(config, usable), check_paths);
    let clock = clock::is_synchronized().map(|is_synchronized| ClockState {
        is_synchronized,
        future_file: clock::future_file(&config.state_dir),
        has_tls: config.api.tls.is_some(),
    });
    report.add("clock", &clock, check_clock);
}

/// Returns the interfaces of the configuration, and those that can be used.
fn interfaces(config: &Config) -> (Vec<InterfaceState>, Vec<UsableInterface>) {
    let (mut states, mut usable) = (Vec::new(), Vec::new());
    for interface in &config.interfaces {
        let found = look_at(interface);
        let is_up = kernel::is_up(&interface.name);
        let exists = subnets(&interface.name).is_ok();
        let (name, bridge) = (interface.name.clone(), kernel::bridge_of(&interface.name));
        states.push(InterfaceState { name, exists, is_up, has_address: found.is_some(), bridge });
        usable.extend(found);
    }
    (states, usable)
}

fn look_at(interface: &DhcpInterface) -> Option<UsableInterface> {
    let addresses = subnets(&interface.name).ok()?;
    let own: Vec<Ipv4Addr> = addresses.iter().map(Ipv4Net::addr).collect();
    let address = choose_address(&interface.name, &own, interface.address).ok()?;
    Some(UsableInterface { name: interface.name.clone(), mode: interface.mode, address, addresses })
}

/// Returns the ports that machines reach on an interface.
fn served(interface: &UsableInterface, config: &Config) -> ServedInterface {
    let network = interface.addresses.iter().find(|net| net.addr() == interface.address);
    let has_dhcp = interface.mode != DhcpMode::Off;
    let bridge = kernel::bridge(&interface.name).map(|(ports, calls_iptables)| Bridge {
        ports,
        calls_iptables,
        carries_dhcp: interface.mode == DhcpMode::Proxy,
    });
    ServedInterface {
        name: interface.name.clone(),
        address: interface.address,
        network: network.copied().unwrap_or_else(|| interface.address.into()).trunc(),
        dhcp: has_dhcp.then_some((config.dhcp.port, config.dhcp.proxy_port)),
        tftp: config.tftp.port,
        is_tftp_single_port: config.tftp.single_port,
        tcp: vec![("HTTP", config.http_port), ("iSCSI", config.iscsi.port)],
        bridge,
    }
}

/// Returns whether this process is root's.
fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// Returns the reason of a look that failed.
fn failed(what: &str, error: &dyn std::fmt::Display) -> String {
    format!("{what}: {error}")
}

/// Reads a small file of the kernel.
fn read(path: &Path) -> Looked<String> {
    std::fs::read_to_string(path).map_err(|error| failed(&path.display().to_string(), &error))
}
