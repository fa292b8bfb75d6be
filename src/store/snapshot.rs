//! An immutable snapshot of the state, with indexes.

use std::cmp::Ordering;
use std::mem::{Discriminant, discriminant};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Bound;
use std::sync::Arc;

use imbl::{HashMap, OrdMap, OrdSet};
use jiff::Timestamp;
use uuid::Uuid;

use crate::event::Entry;
use crate::fleet::boot_override;
use crate::fleet::first_seen::FirstSeenCounts;
use crate::fleet::{
    BootConfig, BootTarget, ConfigTemplate, EntryPoint, FirstSeen, Host, Image, Key, Kind, Lease, Mac, Name, Object,
    Phase, TemplateVersion,
};

use super::seen_host::{SeenHost, enrolment_entry};

/// The state at one version. A clone shares all objects; a change copies one path of the tree.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Version of the newest change.
    pub version: u64,
    /// All objects but `seen`.
    objects: OrdMap<Key, Object>,
    by_mac: HashMap<Mac, Arc<Host>>,
    /// Hosts that were only seen, of one namespace. They are built when they are read.
    seen: OrdMap<Mac, Arc<SeenHost>>,
    /// The namespace of `seen`.
    seen_namespace: Option<Name>,
    by_ip: HashMap<IpAddr, Mac>,
    /// Machine that was last seen at an address.
    by_last_address: HashMap<IpAddr, Mac>,
    /// Machines by the UUID that their firmware claims.
    by_uuid: OrdSet<(Uuid, Mac)>,
    /// Further interfaces of machines as their BMCs show them, with the hosts.
    by_nic: OrdSet<(Mac, Mac)>,
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
    pub fn get(&self, key: &Key) -> Option<Object> {
        self.objects.get(key).cloned().or_else(|| self.build(self.seen_by_key(key)?).map(Object::Host))
    }

    /// Returns the host with a boot MAC address.
    pub fn host_by_mac(&self, mac: Mac) -> Option<Arc<Host>> {
        self.by_mac.get(&mac).cloned().or_else(|| self.build(self.seen.get(&mac)?))
    }

    /// Returns whether a host with a boot MAC address exists.
    pub fn has_host(&self, mac: Mac) -> bool {
        self.by_mac.contains_key(&mac) || self.seen.contains_key(&mac)
    }

    /// Returns the name of the host with a boot MAC address.
    pub fn host_name(&self, mac: Mac) -> Option<Name> {
        let name = || self.seen.contains_key(&mac).then(|| mac.dashed().parse().ok()).flatten();
        self.by_mac.get(&mac).map(|host| host.metadata.name.clone()).or_else(name)
    }

    /// Returns whether the host with a boot MAC address is kept in its compact form: nothing more is known of it.
    pub fn is_only_seen(&self, mac: Mac) -> bool {
        self.seen.contains_key(&mac)
    }

    /// Returns the compact form of the host with a boot MAC address, if it has one.
    pub(super) fn seen_form(&self, mac: Mac) -> Option<&Arc<SeenHost>> {
        self.seen.get(&mac)
    }

    /// Builds a host that was only seen.
    fn build(&self, seen: &Arc<SeenHost>) -> Option<Arc<Host>> {
        seen.to_host(self.seen_namespace.as_ref()?).map(Arc::new)
    }

    fn seen_by_key(&self, key: &Key) -> Option<&Arc<SeenHost>> {
        if key.kind != Kind::BareMetalHost || self.seen.is_empty() || key.namespace != self.seen_namespace {
            return None;
        }
        self.seen.get(&Mac::from_dashed(key.name.as_str())?)
    }

    /// Returns the host with this `spec.ip`.
    pub fn host_by_ip(&self, ip: IpAddr) -> Option<Arc<Host>> {
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
        self.by_mac.get(&mac).is_some_and(|host| !host.status.is_first_seen_only())
    }

    /// Returns the number of hosts that are more than first seen.
    pub fn declared_hosts(&self) -> usize {
        self.host_count().saturating_sub(self.first_seen.len())
    }

    /// Returns the number of hosts.
    pub fn host_count(&self) -> usize {
        self.by_mac.len() + self.seen.len()
    }

    /// Returns the number of hosts in each phase, in the order of `Phase::ALL`.
    pub fn phase_counts(&self) -> [u64; Phase::ALL.len()] {
        let mut counts = [0; Phase::ALL.len()];
        let seen = self.seen.values().map(|seen| seen.phase());
        self.by_mac.values().map(|host| host.status.phase).chain(seen).for_each(|phase| counts[phase as usize] += 1);
        counts
    }

    /// Returns the hosts whose firmware claims this UUID.
    pub fn hosts_by_uuid(&self, uuid: Uuid) -> impl Iterator<Item = (Mac, bool)> {
        let macs = self.by_uuid.range((uuid, LOWEST_MAC)..=(uuid, HIGHEST_MAC));
        macs.filter_map(|(_, mac)| {
            let seen = || self.seen.get(mac).map(|seen| seen.boots_image());
            let boots_image =
                self.by_mac.get(mac).map(|host| host.spec.image != BootTarget::LocalDisk).or_else(seen)?;
            Some((*mac, boots_image))
        })
    }

    /// Returns the host whose BMC shows an interface that is not its boot interface; the first, if several do.
    pub fn host_by_nic(&self, nic: Mac) -> Option<Mac> {
        self.by_nic.range((nic, LOWEST_MAC)..=(nic, HIGHEST_MAC)).next().map(|(_, host)| *host)
    }

    /// Returns the last lease of an address, which may have expired.
    pub fn lease_by_ip(&self, ip: Ipv4Addr) -> Option<&Arc<Lease>> {
        self.leases.get(&ip)
    }

    /// Returns the leases in the order of their addresses, including expired ones.
    pub fn leases(&self) -> impl Iterator<Item = &Arc<Lease>> {
        self.leases.values()
    }

    /// Returns all leases by address. A copy shares them.
    pub fn lease_table(&self) -> OrdMap<Ipv4Addr, Arc<Lease>> {
        self.leases.clone()
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
    pub fn list<'a>(&'a self, kind: Kind, after: Option<&Key>) -> impl Iterator<Item = Object> + use<'a> {
        let start = match after {
            Some(key) => Bound::Excluded(key.clone()),
            None => Bound::Included(lowest_key(kind)),
        };
        let objects = self.objects.range((start, Bound::Unbounded)).take_while(move |(key, _)| key.kind == kind);
        let (mut objects, mut seen) = (objects.peekable(), self.list_seen(kind, after).peekable());
        std::iter::from_fn(move || {
            match (objects.peek(), seen.peek()) {
                (Some((key, _)), Some(host)) if self.is_before(host, key) => seen.next(),
                (Some(_), _) => return objects.next().map(|(_, object)| object.clone()),
                (None, _) => seen.next(),
            }
            .and_then(|seen| self.build(seen).map(Object::Host))
        })
    }

    /// Returns the hosts that were only seen in the order of their keys, from the one after `after`.
    fn list_seen<'a>(&'a self, kind: Kind, after: Option<&Key>) -> impl Iterator<Item = &'a Arc<SeenHost>> + use<'a> {
        let start = match after {
            _ if kind != Kind::BareMetalHost => None,
            None => Some(Bound::Unbounded),
            Some(key) => match key.namespace.cmp(&self.seen_namespace) {
                Ordering::Less => Some(Bound::Unbounded),
                Ordering::Equal => mac_after(key.name.as_str()),
                Ordering::Greater => None,
            },
        };
        let range = start.map(|start| self.seen.range((start, Bound::Unbounded)));
        range.into_iter().flatten().map(|(_, seen)| seen)
    }

    /// Returns whether a host that was only seen comes before a key in a list.
    fn is_before(&self, seen: &SeenHost, key: &Key) -> bool {
        let namespaces = self.seen_namespace.cmp(&key.namespace);
        namespaces.then_with(|| seen.mac.dashed().as_str().cmp(key.name.as_str())).is_lt()
    }

    /// Returns the hosts in the order of their keys.
    pub fn hosts(&self) -> impl Iterator<Item = Arc<Host>> {
        self.list(Kind::BareMetalHost, None).filter_map(|object| match object {
            Object::Host(host) => Some(host),
            Object::Image(_) | Object::BootConfig(_) | Object::ConfigTemplate(_) => None,
        })
    }

    /// Returns the hosts of which more is known than that they were seen, in no order. None of the others has a BMC, or
    /// was served a script.
    pub fn whole_hosts(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.by_mac.values()
    }

    /// Returns the hosts that may refer to an image or a boot config, in no order.
    pub fn referring_hosts(&self) -> impl Iterator<Item = Arc<Host>> {
        let seen = self.seen.values().filter(|seen| seen.phase() == Phase::Assigned);
        self.whole_hosts().cloned().chain(seen.filter_map(|seen| self.build(seen)))
    }

    /// Returns a template of configs by its name.
    pub fn template(&self, name: &Name) -> Option<&Arc<ConfigTemplate>> {
        match self.objects.get(&cluster_key(Kind::ConfigTemplate, name)) {
            Some(Object::ConfigTemplate(template)) => Some(template),
            _ => None,
        }
    }

    /// Returns the version of its template that a config has for a host; `None` without a template, or if it is not kept.
    pub fn template_version(&self, config: &BootConfig, host: &Host) -> Option<&TemplateVersion> {
        let reference = config.spec.template.as_ref()?;
        self.template(&reference.name)?.version(reference.version_for(&host.metadata.labels))
    }

    /// Returns the configs that are rendered from a template, in the order of their names.
    pub fn configs_of_template(&self, name: &Name) -> impl Iterator<Item = &Arc<BootConfig>> {
        let start = Bound::Included(lowest_key(Kind::BootConfig));
        let configs = self.objects.range((start, Bound::Unbounded)).map_while(|(_, object)| match object {
            Object::BootConfig(config) => Some(config),
            Object::Host(_) | Object::Image(_) | Object::ConfigTemplate(_) => None,
        });
        configs.filter(move |config| config.spec.template.as_ref().is_some_and(|reference| reference.name == *name))
    }

    /// Returns the images in the order of their names.
    pub fn images(&self) -> impl Iterator<Item = &Arc<Image>> {
        let start = Bound::Included(lowest_key(Kind::IscsiCdrom));
        self.objects.range((start, Bound::Unbounded)).map_while(|(_, object)| match object {
            Object::Image(image) => Some(image),
            Object::Host(_) | Object::BootConfig(_) | Object::ConfigTemplate(_) => None,
        })
    }

    /// Returns the hosts with an install under way.
    pub fn under_way(&self) -> impl Iterator<Item = Arc<Host>> {
        self.under_way.iter().filter_map(|mac| self.host_by_mac(*mac))
    }

    /// Returns the marks of the hosts that were seen and never declared, oldest first.
    pub fn first_seen(&self) -> impl DoubleEndedIterator<Item = (Mac, FirstSeen)> {
        let mark = |mac: &Mac| match self.seen.get(mac) {
            Some(seen) => Some(seen.first_seen.clone()),
            None => self.by_mac.get(mac)?.status.first_seen.as_deref().cloned(),
        };
        self.first_seen.iter().filter_map(move |(_, mac)| Some((*mac, mark(mac)?)))
    }

    /// Returns the timeline entries of enrolments that hosts stand for, with their lines, newest first.
    pub fn enrolments(&self) -> impl Iterator<Item = (i64, Entry)> {
        self.first_seen.iter().rev().filter_map(|(_, mac)| enrolment_entry(&*self.host_by_mac(*mac)?))
    }

    /// Returns whether a timeline entry is about a machine that nobody declared: strangers cause such entries at will.
    pub fn is_by_stranger(&self, entry: &Entry) -> bool {
        match entry.mac {
            Some(mac) => !self.is_declared(mac),
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
        if key.kind == Kind::ConfigTemplate {
            let config = self.configs_of_template(&key.name).next();
            return config.map(|config| Object::BootConfig(config.clone()).key());
        }
        let hosts = || {
            self.referring_hosts().find(|host| match key.kind {
                Kind::IscsiCdrom => {
                    let in_drive = host.metadata.annotations.get(boot_override::MEDIUM_IMAGE);
                    host.spec.image.image() == Some(&key.name)
                        || in_drive.is_some_and(|name| *name == key.name.as_str())
                }
                Kind::BootConfig => host.spec.boot_config_ref.as_ref() == Some(&key.name),
                Kind::BareMetalHost | Kind::ConfigTemplate => false,
            })
        };
        let images = || {
            self.images().find(|image| match key.kind {
                Kind::IscsiCdrom => image.metadata.name != key.name && image.spec.companions.contains(&key.name),
                Kind::BootConfig => image.spec.boot_configs.contains(&key.name),
                Kind::BareMetalHost | Kind::ConfigTemplate => false,
            })
        };
        let host = hosts().map(|host| Object::Host(host.clone()).key());
        host.or_else(|| images().map(|image| Object::Image(image.clone()).key()))
    }

    /// Puts an object in place of the one with its key, and updates the indexes.
    pub fn put(&mut self, object: Object) {
        let key = object.key();
        self.remove(&key);
        let Object::Host(host) = &object else {
            self.objects.insert(key, object);
            return;
        };
        let mac = host.spec.boot_mac_address;
        if let Some(ip) = host.spec.ip {
            self.by_ip.insert(ip, mac);
        }
        if host.status.phase.is_under_way() {
            self.under_way.insert(mac);
        }
        if let Some(first_seen) = &host.status.first_seen {
            self.index_first_seen(mac, first_seen);
        }
        self.index_machine(mac, host.status.address, host.status.uuid, host.status.last_seen_time);
        match SeenHost::of(host).filter(|_| self.seen.is_empty() || self.seen_namespace == key.namespace) {
            Some(seen) => self.insert_seen(key.namespace, seen),
            None => {
                self.by_nic.extend(further_nics(host).map(|nic| (nic, mac)));
                self.by_mac.insert(mac, host.clone());
                self.objects.insert(key, object);
            }
        }
    }

    /// Puts a host that was only seen, as the database has it. Its key has no object yet.
    pub fn put_seen(&mut self, namespace: Name, seen: SeenHost) {
        if !self.seen.is_empty() && self.seen_namespace.as_ref() != Some(&namespace) {
            seen.to_host(&namespace).into_iter().for_each(|host| self.put(Object::Host(Arc::new(host))));
            return;
        }
        self.index_first_seen(seen.mac, &seen.first_seen);
        self.index_machine(seen.mac, seen.address, seen.uuid, Some(seen.last_seen));
        self.insert_seen(Some(namespace), seen);
    }

    fn insert_seen(&mut self, namespace: Option<Name>, seen: SeenHost) {
        if self.seen_namespace != namespace {
            self.seen_namespace = namespace;
        }
        self.seen.insert(seen.mac, Arc::new(seen));
    }

    /// Indexes a host by its UUID, and by its last address unless another machine was seen there later.
    fn index_machine(&mut self, mac: Mac, address: Option<IpAddr>, uuid: Option<Uuid>, last_seen: Option<Timestamp>) {
        if let Some(uuid) = uuid {
            self.by_uuid.insert((uuid, mac));
        }
        let Some(address) = address else { return };
        let other = self.by_last_address.get(&address).copied().filter(|other| *other != mac);
        if other.is_none_or(|other| self.last_seen_time(other) <= last_seen) {
            self.by_last_address.insert(address, mac);
        }
    }

    /// Returns the time of the last request of a machine.
    fn last_seen_time(&self, mac: Mac) -> Option<Timestamp> {
        match self.seen.get(&mac) {
            Some(seen) => Some(seen.last_seen),
            None => self.by_mac.get(&mac)?.status.last_seen_time,
        }
    }

    fn index_first_seen(&mut self, mac: Mac, FirstSeen { entry, time, .. }: &FirstSeen) {
        self.first_seen.insert((*time, mac));
        *self.first_seen_by_entry.entry(entry.clone()).or_insert(0) += 1;
        *self.first_seen_by_kind.entry(discriminant(entry)).or_insert(0) += 1;
    }

    fn unindex_first_seen(&mut self, mac: Mac, FirstSeen { entry, time, .. }: &FirstSeen) {
        self.first_seen.remove(&(*time, mac));
        let left = self.first_seen_by_entry.get(entry).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => self.first_seen_by_entry.remove(entry),
            left => self.first_seen_by_entry.insert(entry.clone(), left),
        };
        let of_kind = self.first_seen_by_kind.entry(discriminant(entry)).or_insert(0);
        *of_kind = of_kind.saturating_sub(1);
    }

    /// Removes and returns the object with a key, and updates the indexes.
    pub fn remove(&mut self, key: &Key) -> Option<Object> {
        if let Some(seen) = self.seen_by_key(key).cloned() {
            let host = self.build(&seen);
            self.seen.remove(&seen.mac);
            self.unindex_first_seen(seen.mac, &seen.first_seen);
            self.unindex_machine(seen.mac, seen.address, seen.uuid);
            return host.map(Object::Host);
        }
        let object = self.objects.remove(key)?;
        if let Object::Host(host) = &object {
            let mac = host.spec.boot_mac_address;
            self.by_mac.remove(&mac);
            for nic in further_nics(host) {
                self.by_nic.remove(&(nic, mac));
            }
            self.under_way.remove(&mac);
            if let Some(first_seen) = &host.status.first_seen {
                self.unindex_first_seen(mac, first_seen);
            }
            if let Some(ip) = host.spec.ip {
                self.by_ip.remove(&ip);
            }
            self.unindex_machine(mac, host.status.address, host.status.uuid);
        }
        Some(object)
    }

    fn unindex_machine(&mut self, mac: Mac, address: Option<IpAddr>, uuid: Option<Uuid>) {
        if let Some(uuid) = uuid {
            self.by_uuid.remove(&(uuid, mac));
        }
        if let Some(address) = address.filter(|address| self.by_last_address.get(address) == Some(&mac)) {
            self.by_last_address.remove(&address);
        }
    }
}

/// Returns the interfaces of a machine but the one it boots over. A BMC that does not show that one may be another
/// machine's.
fn further_nics(host: &Host) -> impl Iterator<Item = Mac> {
    let mac = host.spec.boot_mac_address;
    let nics = host.status.hardware.as_ref().map(|hardware| hardware.nics.as_slice()).unwrap_or_default();
    let is_its_own = nics.iter().any(|nic| nic.mac == mac);
    nics.iter().map(|nic| nic.mac).filter(move |nic| is_its_own && *nic != mac)
}

const LOWEST_MAC: Mac = Mac([0; 6]);
const HIGHEST_MAC: Mac = Mac([0xff; 6]);

/// Returns the lower bound of the MAC addresses that, with dashes, come after a name; `None` if none does.
fn mac_after(name: &str) -> Option<Bound<Mac>> {
    let (mut octets, mut name) = ([0; 6], name.bytes());
    for digit in 0..12 {
        if digit > 0 && digit % 2 == 0 {
            match name.next().map(|byte| byte.cmp(&b'-')) {
                None | Some(Ordering::Less) => return Some(Bound::Included(Mac(octets))),
                Some(Ordering::Greater) => return after_prefix(octets, digit),
                Some(Ordering::Equal) => {}
            }
        }
        let Some(byte) = name.next() else { return Some(Bound::Included(Mac(octets))) };
        let Some(value) = (0..16).find(|value| HEXADECIMAL[usize::from(*value)] >= byte) else {
            return after_prefix(octets, digit);
        };
        octets[digit / 2] |= if digit % 2 == 0 { value << 4 } else { value };
        if HEXADECIMAL[usize::from(value)] > byte {
            return Some(Bound::Included(Mac(octets)));
        }
    }
    Some(Bound::Excluded(Mac(octets)))
}

const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";

/// Returns the lower bound of the MAC addresses after all those that begin with these digits.
fn after_prefix(octets: [u8; 6], digits: usize) -> Option<Bound<Mac>> {
    let mut last = octets;
    for digit in digits..12 {
        last[digit / 2] |= if digit % 2 == 0 { 0xf0 } else { 0x0f };
    }
    (digits > 0).then_some(Bound::Excluded(Mac(last)))
}

/// Returns the lowest possible key of a kind: names begin with a letter or a digit.
fn lowest_key(kind: Kind) -> Key {
    Key { kind, namespace: None, name: "0".parse().expect("a digit is a name") }
}

/// Returns the key of an object without namespace.
fn cluster_key(kind: Kind, name: &Name) -> Key {
    Key { kind, namespace: None, name: name.clone() }
}
