//! An immutable snapshot of the state, with indexes.

use std::mem::{Discriminant, discriminant};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use imbl::{HashMap, OrdMap, OrdSet};
use jiff::Timestamp;
use uuid::Uuid;

use crate::event::Entry;
use crate::fleet::boot_override;
use crate::fleet::first_seen::FirstSeenCounts;
use crate::fleet::{BootConfig, EntryPoint, FirstSeen, Host, Image, Key, Kind, Lease, Mac, Name, Object};

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
    /// Machines by the UUID that their firmware claims.
    by_uuid: HashMap<Uuid, OrdSet<Mac>>,
    /// Leases of the built-in DHCP server, including expired ones.
    leases: OrdMap<Ipv4Addr, Arc<Lease>>,
    /// Hosts with an install under way, which is subject to `install.timeout`.
    under_way: OrdSet<Mac>,
    /// Hosts that were seen and never declared, oldest first.
    first_seen: OrdSet<(Timestamp, Mac)>,
    first_seen_by_entry: HashMap<EntryPoint, usize>,
    first_seen_by_kind: HashMap<Discriminant<EntryPoint>, usize>,
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

    /// Returns whether an address is the `spec.ip` of a host, or the last address of a host that is more than first
    /// seen. Bounds keep a reserve for it.
    pub fn is_known_address(&self, address: IpAddr) -> bool {
        self.by_ip.contains_key(&address) || self.last_seen_at(address).is_some_and(|mac| self.is_declared(mac))
    }

    /// Returns whether a host with this MAC address exists that is more than first seen.
    pub fn is_declared(&self, mac: Mac) -> bool {
        self.host_by_mac(mac).is_some_and(|host| !host.status.is_first_seen_only())
    }

    /// Returns the number of hosts that are more than first seen.
    pub fn declared_hosts(&self) -> usize {
        self.by_mac.len().saturating_sub(self.first_seen.len())
    }

    /// Returns the hosts whose firmware claims this UUID.
    pub fn hosts_by_uuid(&self, uuid: Uuid) -> impl Iterator<Item = &Arc<Host>> {
        self.by_uuid.get(&uuid).into_iter().flatten().filter_map(|mac| self.host_by_mac(*mac))
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

    /// Returns the hosts that were seen and never declared, oldest first.
    pub fn first_seen(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.first_seen.iter().filter_map(|(_, mac)| self.host_by_mac(*mac))
    }

    /// Returns whether a timeline entry is about a machine that nobody declared: strangers cause such entries at will.
    pub fn is_by_stranger(&self, entry: &Entry) -> bool {
        match entry.mac {
            Some(mac) => self.host_by_mac(mac).is_none_or(|host| host.status.is_first_seen_only()),
            None => entry.event.is_of_machine(),
        }
    }

    /// Returns the number of hosts that were seen and never declared, in all and of an entry point.
    pub fn first_seen_counts(&self, entry: &EntryPoint) -> FirstSeenCounts {
        FirstSeenCounts {
            total: self.first_seen.len(),
            of_kind: self.first_seen_by_kind.get(&discriminant(entry)).copied().unwrap_or(0),
            of_entry: self.first_seen_by_entry.get(entry).copied().unwrap_or(0),
        }
    }

    /// Returns the key of an object that refers to this one.
    pub fn referrer(&self, key: &Key) -> Option<Key> {
        let hosts = || {
            self.hosts().find(|host| match key.kind {
                Kind::IscsiCdrom => {
                    let in_drive = host.metadata.annotations.get(boot_override::MEDIUM_IMAGE);
                    host.spec.image.image() == Some(&key.name)
                        || in_drive.is_some_and(|name| *name == key.name.as_str())
                }
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
            if let Some(uuid) = host.status.uuid {
                self.by_uuid.entry(uuid).or_default().insert(mac);
            }
            if host.status.phase.is_under_way() {
                self.under_way.insert(mac);
            }
            self.index_first_seen(host);
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

    fn index_first_seen(&mut self, host: &Host) {
        let Some(first_seen) = &host.status.first_seen else { return };
        let FirstSeen { entry, time } = &**first_seen;
        self.first_seen.insert((*time, host.spec.boot_mac_address));
        *self.first_seen_by_entry.entry(entry.clone()).or_insert(0) += 1;
        *self.first_seen_by_kind.entry(discriminant(entry)).or_insert(0) += 1;
    }

    fn unindex_first_seen(&mut self, host: &Host) {
        let Some(first_seen) = &host.status.first_seen else { return };
        let FirstSeen { entry, time } = &**first_seen;
        self.first_seen.remove(&(*time, host.spec.boot_mac_address));
        let left = self.first_seen_by_entry.get(entry).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => self.first_seen_by_entry.remove(entry),
            left => self.first_seen_by_entry.insert(entry.clone(), left),
        };
        let of_kind = self.first_seen_by_kind.entry(discriminant(entry)).or_insert(0);
        *of_kind = of_kind.saturating_sub(1);
    }

    fn unindex_uuid(&mut self, mac: Mac, uuid: Option<Uuid>) {
        let Some(uuid) = uuid else { return };
        if let Some(macs) = self.by_uuid.get_mut(&uuid) {
            macs.remove(&mac);
            if macs.is_empty() {
                self.by_uuid.remove(&uuid);
            }
        }
    }

    /// Removes and returns the object with a key, and updates the indexes.
    pub fn remove(&mut self, key: &Key) -> Option<Object> {
        let object = self.objects.remove(key)?;
        if let Object::Host(host) = &object {
            let mac = host.spec.boot_mac_address;
            self.by_mac.remove(&mac);
            self.under_way.remove(&mac);
            self.unindex_first_seen(host);
            if let Some(ip) = host.spec.ip {
                self.by_ip.remove(&ip);
            }
            self.unindex_uuid(mac, host.status.uuid);
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
