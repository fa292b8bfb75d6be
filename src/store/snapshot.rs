use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use imbl::{HashMap, OrdMap, OrdSet};

use crate::fleet::{BootConfig, Host, Image, Key, Kind, Lease, Mac, Name, Object};

/// Is the whole state at one moment. Cloning it costs nothing; changing one object costs one path.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Is the version of the newest change.
    pub version: u64,
    objects: OrdMap<Key, Object>,
    by_mac: HashMap<Mac, Arc<Host>>,
    by_ip: HashMap<IpAddr, Mac>,
    /// Holds where machines were last seen, the latest of them where several were seen at one address.
    by_sight: HashMap<IpAddr, Mac>,
    /// Holds the leases of our own DHCP server, those that have ended too.
    leases: OrdMap<Ipv4Addr, Arc<Lease>>,
    /// Holds the hosts whose install is under way: those that can run out of time.
    under_way: OrdSet<Mac>,
}

impl Snapshot {
    pub fn get(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)
    }

    pub fn host_by_mac(&self, mac: Mac) -> Option<&Arc<Host>> {
        self.by_mac.get(&mac)
    }

    /// Finds the host whose spec names this address.
    pub fn host_by_ip(&self, ip: IpAddr) -> Option<&Arc<Host>> {
        self.by_ip.get(&ip).and_then(|mac| self.host_by_mac(*mac))
    }

    /// Finds the machine that was last seen at an address.
    pub fn last_seen_at(&self, address: IpAddr) -> Option<Mac> {
        self.by_sight.get(&address).copied()
    }

    /// Finds the last lease of an address, which may have ended.
    pub fn lease_by_ip(&self, ip: Ipv4Addr) -> Option<&Arc<Lease>> {
        self.leases.get(&ip)
    }

    /// Lists the leases in the order of their addresses, those that have ended too.
    pub fn leases(&self) -> impl Iterator<Item = &Arc<Lease>> {
        self.leases.values()
    }

    pub fn put_lease(&mut self, lease: Lease) {
        self.leases.insert(lease.address, Arc::new(lease));
    }

    pub fn image(&self, name: &Name) -> Option<&Arc<Image>> {
        match self.objects.get(&cluster(Kind::IscsiCdrom, name)) {
            Some(Object::Image(image)) => Some(image),
            _ => None,
        }
    }

    pub fn boot_config(&self, name: &Name) -> Option<&Arc<BootConfig>> {
        match self.objects.get(&cluster(Kind::BootConfig, name)) {
            Some(Object::BootConfig(config)) => Some(config),
            _ => None,
        }
    }

    /// Lists the objects of a kind in the order of their keys, beginning after one.
    pub fn list<'a>(&'a self, kind: Kind, after: Option<&Key>) -> impl Iterator<Item = &'a Object> + use<'a> {
        let start = match after {
            Some(key) => std::ops::Bound::Excluded(key.clone()),
            None => std::ops::Bound::Included(least(kind)),
        };
        let objects = self.objects.range((start, std::ops::Bound::Unbounded));
        objects.map(|(_, object)| object).take_while(move |object| object.kind() == kind)
    }

    pub fn hosts(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.list(Kind::BareMetalHost, None).filter_map(|object| match object {
            Object::Host(host) => Some(host),
            Object::Image(_) | Object::BootConfig(_) => None,
        })
    }

    pub fn images(&self) -> impl Iterator<Item = &Arc<Image>> {
        self.list(Kind::IscsiCdrom, None).filter_map(|object| match object {
            Object::Image(image) => Some(image),
            Object::Host(_) | Object::BootConfig(_) => None,
        })
    }

    /// Lists the hosts whose install is under way.
    pub fn under_way(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.under_way.iter().filter_map(|mac| self.host_by_mac(*mac))
    }

    /// Finds an object that refers to this one.
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

    /// Puts an object in place of the one with its key, and keeps the indices true.
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
                self.see(mac, address, host);
            }
            if host.status.phase.is_under_way() {
                self.under_way.insert(mac);
            }
        }
        self.objects.insert(key, object);
    }

    fn see(&mut self, mac: Mac, address: IpAddr, host: &Host) {
        let other = self.by_sight.get(&address).and_then(|other| self.by_mac.get(other));
        let later = |other: &Arc<Host>| {
            other.status.last_seen_time > host.status.last_seen_time && other.spec.boot_mac_address != mac
        };
        if !other.is_some_and(later) {
            self.by_sight.insert(address, mac);
        }
    }

    pub fn remove(&mut self, key: &Key) -> Option<Object> {
        let object = self.objects.remove(key)?;
        if let Object::Host(host) = &object {
            let mac = host.spec.boot_mac_address;
            self.by_mac.remove(&mac);
            self.under_way.remove(&mac);
            if let Some(ip) = host.spec.ip {
                self.by_ip.remove(&ip);
            }
            if let Some(address) = host.status.address.filter(|address| self.by_sight.get(address) == Some(&mac)) {
                self.by_sight.remove(&address);
            }
        }
        Some(object)
    }
}

/// Gives a key that no object of the kind comes before: names begin with a letter or a digit.
fn least(kind: Kind) -> Key {
    Key { kind, namespace: None, name: "0".parse().expect("a digit is a name") }
}

fn cluster(kind: Kind, name: &Name) -> Key {
    Key { kind, namespace: None, name: name.clone() }
}
