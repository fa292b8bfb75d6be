//! An immutable snapshot of the state, with indexes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use imbl::{HashMap, OrdMap, OrdSet};

use crate::fleet::{BootConfig, Host, Image, Key, Kind, Lease, Mac, Name, Object};

/// The state at one version. A clone shares all objects; a change copies one path of the tree.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Version of the newest change.
    pub version: u64,
    objects: OrdMap<Key, Object>,
    by_mac: HashMap<Mac, Arc<Host>>,
    by_ip: HashMap<IpAddr, Mac>,
    /// Machine that was last seen at an address.
    by_last_address: HashMap<IpAddr, Mac>,
    /// Leases of the built-in DHCP server, including expired ones.
    leases: OrdMap<Ipv4Addr, Arc<Lease>>,
    /// Hosts with an install under way, which is subject to `install.timeout`.
    under_way: OrdSet<Mac>,
}

impl Snapshot {
    /// Returns the object with a key.
    pub fn get(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)
    }

    /// Returns the host with a boot MAC address.
    pub fn host_by_mac(&self, mac: Mac) -> Option<&Arc<Host>> {
        self.by_mac.get(&mac)
    }

    /// Returns the host with this `spec.ip`.
    pub fn host_by_ip(&self, ip: IpAddr) -> Option<&Arc<Host>> {
        self.by_ip.get(&ip).and_then(|mac| self.host_by_mac(*mac))
    }

    /// Returns the machine that was last seen at an address.
    pub fn last_seen_at(&self, address: IpAddr) -> Option<Mac> {
        self.by_last_address.get(&address).copied()
    }

    /// Returns the last lease of an address, which may have expired.
    pub fn lease_by_ip(&self, ip: Ipv4Addr) -> Option<&Arc<Lease>> {
        self.leases.get(&ip)
    }

    /// Returns the leases in the order of their addresses, including expired ones.
    pub fn leases(&self) -> impl Iterator<Item = &Arc<Lease>> {
        self.leases.values()
    }

    /// Puts a lease in place of the last one of its address.
    pub fn put_lease(&mut self, lease: Lease) {
        self.leases.insert(lease.address, Arc::new(lease));
    }

    /// Returns the image with a name.
    pub fn image(&self, name: &Name) -> Option<&Arc<Image>> {
        match self.objects.get(&cluster_key(Kind::IscsiCdrom, name)) {
            Some(Object::Image(image)) => Some(image),
            _ => None,
        }
    }

    /// Returns the boot config with a name.
    pub fn boot_config(&self, name: &Name) -> Option<&Arc<BootConfig>> {
        match self.objects.get(&cluster_key(Kind::BootConfig, name)) {
            Some(Object::BootConfig(config)) => Some(config),
            _ => None,
        }
    }

    /// Returns the objects of a kind in the order of their keys, from the one after `after`.
    pub fn list<'a>(&'a self, kind: Kind, after: Option<&Key>) -> impl Iterator<Item = &'a Object> + use<'a> {
        let start = match after {
            Some(key) => std::ops::Bound::Excluded(key.clone()),
            None => std::ops::Bound::Included(lowest_key(kind)),
        };
        let objects = self.objects.range((start, std::ops::Bound::Unbounded));
        objects.map(|(_, object)| object).take_while(move |object| object.kind() == kind)
    }

    /// Returns the hosts in the order of their keys.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.list(Kind::BareMetalHost, None).filter_map(|object| match object {
            Object::Host(host) => Some(host),
            Object::Image(_) | Object::BootConfig(_) => None,
        })
    }

    /// Returns the images in the order of their names.
    pub fn images(&self) -> impl Iterator<Item = &Arc<Image>> {
        self.list(Kind::IscsiCdrom, None).filter_map(|object| match object {
            Object::Image(image) => Some(image),
            Object::Host(_) | Object::BootConfig(_) => None,
        })
    }

    /// Returns the hosts with an install under way.
    pub fn under_way(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.under_way.iter().filter_map(|mac| self.host_by_mac(*mac))
    }

    /// Returns the key of an object that refers to this one.
    pub fn referrer(&self, key: &Key) -> Option<Key> {
        let hosts = || {
            self.hosts().find(|host| match key.kind {
                Kind::IscsiCdrom => host.spec.image.image() == Some(&key.name),
                Kind::BootConfig => host.spec.boot_config_ref.as_ref() == Some(&key.name),
                Kind::BareMetalHost => false,
            })
        };
        let images = || {
            self.images().find(|image| match key.kind {
                Kind::IscsiCdrom => image.metadata.name != key.name && image.spec.companions.contains(&key.name),
                Kind::BootConfig => image.spec.boot_configs.contains(&key.name),
                Kind::BareMetalHost => false,
            })
        };
        let host = hosts().map(|host| Object::Host(host.clone()).key());
        host.or_else(|| images().map(|image| Object::Image(image.clone()).key()))
    }

    /// Puts an object in place of the one with its key, and updates the indexes.
    pub fn put(&mut self, object: Object) {
        let key = object.key();
        self.remove(&key);
        if let Object::Host(host) = &object {
            let mac = host.spec.boot_mac_address;
            self.by_mac.insert(mac, host.clone());
            if let Some(ip) = host.spec.ip {
                self.by_ip.insert(ip, mac);
            }
            if let Some(address) = host.status.address {
                self.index_address(mac, address, host);
            }
            if host.status.phase.is_under_way() {
                self.under_way.insert(mac);
            }
        }
        self.objects.insert(key, object);
    }

    /// Indexes a host by its last address, unless another machine was seen there later.
    fn index_address(&mut self, mac: Mac, address: IpAddr, host: &Host) {
        let other = self.by_last_address.get(&address).and_then(|other| self.by_mac.get(other));
        let later = |other: &Arc<Host>| {
            other.status.last_seen_time > host.status.last_seen_time && other.spec.boot_mac_address != mac
        };
        if !other.is_some_and(later) {
            self.by_last_address.insert(address, mac);
        }
    }

    /// Removes and returns the object with a key, and updates the indexes.
    pub fn remove(&mut self, key: &Key) -> Option<Object> {
        let object = self.objects.remove(key)?;
        if let Object::Host(host) = &object {
            let mac = host.spec.boot_mac_address;
            self.by_mac.remove(&mac);
            self.under_way.remove(&mac);
            if let Some(ip) = host.spec.ip {
                self.by_ip.remove(&ip);
            }
            if let Some(address) = host.status.address.filter(|address| self.by_last_address.get(address) == Some(&mac))
            {
                self.by_last_address.remove(&address);
            }
        }
        Some(object)
    }
}

/// Returns the lowest possible key of a kind: names begin with a letter or a digit.
fn lowest_key(kind: Kind) -> Key {
    Key { kind, namespace: None, name: "0".parse().expect("a digit is a name") }
}

/// Returns the key of an object without namespace.
fn cluster_key(kind: Kind, name: &Name) -> Key {
    Key { kind, namespace: None, name: name.clone() }
}
