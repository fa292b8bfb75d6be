//! The network interfaces of this machine as they are now, and the address of each that machines are told.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use nix::net::if_::InterfaceFlags;

/// Hardware type of an Ethernet interface (ARPHRD_ETHER).
const ETHERNET: u16 = 1;

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkInterface {
    /// Number of the interface. One that is made anew has another number.
    pub index: u32,
    /// MAC address, if it is an Ethernet interface.
    pub mac: Option<[u8; 6]>,
    /// IPv4 addresses with their networks, in the order of the kernel.
    pub addresses: Vec<Ipv4Net>,
    /// Whether it is switched on.
    pub is_up: bool,
    /// Whether it has a link.
    pub has_link: bool,
}

/// The interfaces by their names.
pub type NetworkInterfaces = BTreeMap<String, NetworkInterface>;

/// Reads the interfaces of this machine.
///
/// # Errors
/// Those of getifaddrs(3).
pub fn read() -> std::io::Result<NetworkInterfaces> {
    let mut all = NetworkInterfaces::new();
    for found in nix::ifaddrs::getifaddrs()? {
        // An address may have a label, as in eth0:1.
        let name = found.interface_name.split(':').next().unwrap_or_default();
        let interface = all.entry(name.to_owned()).or_default();
        interface.is_up = found.flags.contains(InterfaceFlags::IFF_UP);
        interface.has_link = found.flags.contains(InterfaceFlags::IFF_RUNNING);
        let Some(address) = found.address else { continue };
        if let Some(link) = address.as_link_addr() {
            interface.index = u32::try_from(link.ifindex()).unwrap_or_default();
            interface.mac = link.addr().filter(|_| link.hatype() == ETHERNET);
        } else if let Some(address) = address.as_sockaddr_in() {
            let mask = found.netmask.and_then(|mask| Some(mask.as_sockaddr_in()?.ip())).unwrap_or(Ipv4Addr::BROADCAST);
            interface.addresses.extend(Ipv4Net::with_netmask(address.ip(), mask).ok());
        }
    }
    Ok(all)
}

impl NetworkInterface {
    /// Returns the address that machines are told: the configured one, else the first.
    pub fn choose(&self, configured: Option<IpAddr>) -> Option<Ipv4Addr> {
        let mut own = self.addresses.iter().map(Ipv4Net::addr);
        match configured {
            Some(wanted) => own.find(|address| IpAddr::from(*address) == wanted),
            None => own.next(),
        }
    }
}

/// Returns the interfaces that may be taken where the configuration names none: the Ethernet interfaces with hardware, or,
/// where there is none, as in a container, all Ethernet interfaces. Ports of a bridge or a bond are left out.
pub fn candidates(all: &NetworkInterfaces) -> Vec<String> {
    let has = |name: &str, entry: &str| std::path::Path::new("/sys/class/net").join(name).join(entry).exists();
    choose_candidates(all, |name| has(name, "device"), |name| has(name, "master"))
}

fn choose_candidates(
    all: &NetworkInterfaces,
    is_hardware: impl Fn(&str) -> bool,
    is_port: impl Fn(&str) -> bool,
) -> Vec<String> {
    let ethernet = all.iter().filter(|(_, interface)| interface.mac.is_some()).map(|(name, _)| name.clone());
    let free: Vec<String> = ethernet.filter(|name| !is_port(name)).collect();
    match free.iter().any(|name| is_hardware(name)) {
        true => free.into_iter().filter(|name| is_hardware(name)).collect(),
        false => free,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(mac: Option<[u8; 6]>, addresses: &[&str]) -> NetworkInterface {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        NetworkInterface { index: 2, mac, addresses, is_up: true, has_link: true }
    }

    #[test]
    fn the_loopback_interface_is_read() {
        let all = read().unwrap();
        let loopback = &all["lo"];
        assert!(loopback.index > 0 && loopback.mac.is_none());
    }

    #[test]
    fn the_address_is_the_configured_one_or_the_first() {
        let two = interface(None, &["10.0.0.1/24", "10.0.0.2/24"]);
        for (configured, chosen) in
            [(None, Some([10, 0, 0, 1])), (Some([10, 0, 0, 2]), Some([10, 0, 0, 2])), (Some([10, 0, 0, 3]), None)]
        {
            assert_eq!(two.choose(configured.map(IpAddr::from)), chosen.map(Ipv4Addr::from));
        }
        assert_eq!(interface(None, &[]).choose(None), None);
    }

    #[test]
    fn hardware_is_taken_before_what_software_makes() {
        let mac = Some([2, 0, 0, 0, 0, 1]);
        let names = ["docker0", "eth0", "eth1", "veth7"];
        let mut all: NetworkInterfaces = names.iter().map(|name| ((*name).to_owned(), interface(mac, &[]))).collect();
        all.insert("lo".to_owned(), interface(None, &["127.0.0.1/8"]));
        let choose = |hardware: &[&str], ports: &[&str]| {
            choose_candidates(&all, |name| hardware.contains(&name), |name| ports.contains(&name))
        };
        assert_eq!(choose(&["eth0"], &["veth7"]), ["eth0"]);
        assert_eq!(choose(&["eth0", "eth1"], &[]), ["eth0", "eth1"]);
        assert_eq!(choose(&[], &["eth0", "eth1", "docker0"]), ["veth7"]);
    }
}
