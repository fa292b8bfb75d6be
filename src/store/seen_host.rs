//! The compact form of a host that was only seen: in memory, and as a row of the database. Pure.
//!
//! Strangers cause such hosts at will, and a hall of racks has thousands. All that differs between two of them is kept;
//! the object is built from it when somebody reads it.

use std::fmt::{Display, Write};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::event::{Entry, Event};
use crate::fleet::enrolment::UnknownHostAction;
use crate::fleet::{
    Architecture, BootMode, BootTarget, EntryPoint, FirstSeen, Host, HostSpec, HostStatus, Install, Mac, Meta, Name,
    Phase,
};

/// Prefix of a row, with the version of its format. The JSON of an object and encrypted text begin otherwise.
const MARK: &str = "seen1 ";
/// Size of most rows, in octets.
const ROW_CAPACITY: usize = 192;

/// A host that was only seen, without its namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenHost {
    /// The boot MAC address, which the name is made of.
    pub mac: Mac,
    /// The version.
    pub version: u64,
    /// The mark of the host; its time is also that of the creation.
    pub first_seen: FirstSeen,
    /// Time of the last request.
    pub last_seen: Timestamp,
    /// The last address that is tied to the machine.
    pub address: Option<IpAddr>,
    /// The UUID that the firmware claims.
    pub uuid: Option<Uuid>,
    uid: Uuid,
    action: UnknownHostAction,
    firmware: Option<Architecture>,
}

impl SeenHost {
    /// Returns the compact form of a host; `None` if something else is known of it than that it was seen.
    pub fn of(host: &Host) -> Option<Self> {
        let Host { metadata, spec, status } = host;
        let HostStatus {
            phase,
            phase_transition_time,
            message,
            warnings,
            boot_risks: None,
            firmware,
            address,
            uuid,
            last_seen_time,
            last_boot_time: None,
            hardware: None,
            install,
            stall: None,
            rendered_template: None,
            power: None,
            power_transition_time: None,
            power_error: None,
            power_transition: None,
            last_power_transition: None,
            boot_device: None,
            bmc: None,
            transition_times: None,
            first_seen: Some(first_seen),
        } = status
        else {
            return None;
        };
        let FirstSeen { entry, time, line: _ } = &**first_seen;
        let (mac, action) = (spec.boot_mac_address, action_of(spec, *phase)?);
        let expected = (*phase == Phase::Assigned).then(Install::default);
        let is_plain = message.is_empty()
            && warnings.is_empty()
            && *install == expected
            && *phase_transition_time == Some(*time)
            && !matches!(entry, EntryPoint::Interface(name) if name.contains(char::is_whitespace));
        let uid = uid_of(metadata, mac, *time).filter(|_| is_plain)?;
        Some(Self {
            mac,
            version: metadata.resource_version,
            first_seen: FirstSeen::clone(first_seen),
            last_seen: (*last_seen_time)?,
            address: *address,
            uuid: *uuid,
            uid,
            action,
            firmware: *firmware,
        })
    }

    /// Returns the host.
    pub fn to_host(&self, namespace: &Name) -> Option<Host> {
        let mut host = self.action.draft(self.mac, namespace.clone(), self.firmware)?;
        let time = self.first_seen.time;
        host.metadata.uid = self.uid.to_string();
        host.metadata.resource_version = self.version;
        host.metadata.generation = 1;
        host.metadata.creation_timestamp = Some(time);
        let status = &mut host.status;
        status.phase_transition_time = Some(time);
        status.last_seen_time = Some(self.last_seen);
        status.install = (status.phase == Phase::Assigned).then(Default::default);
        (status.address, status.uuid) = (self.address, self.uuid);
        status.first_seen = Some(Box::new(self.first_seen.clone()));
        Some(host)
    }

    /// Returns the phase.
    pub fn phase(&self) -> Phase {
        match &self.action {
            UnknownHostAction::Ignore | UnknownHostAction::LocalBoot | UnknownHostAction::Menu => Phase::LocalBoot,
            UnknownHostAction::Hold => Phase::Held,
            UnknownHostAction::Install { .. } => Phase::Assigned,
        }
    }

    /// Returns whether the host boots an image, or is asked for one.
    pub fn boots_image(&self) -> bool {
        match &self.action {
            UnknownHostAction::Ignore | UnknownHostAction::LocalBoot | UnknownHostAction::Hold => false,
            UnknownHostAction::Menu | UnknownHostAction::Install { .. } => true,
        }
    }

    /// Encodes the host as the body of its row.
    pub fn to_row(&self) -> String {
        let Self { first_seen: FirstSeen { entry, time, line }, .. } = self;
        let last_seen = Some(self.last_seen).filter(|last_seen| last_seen != time);
        let mut row = String::with_capacity(ROW_CAPACITY);
        row.push_str(MARK);
        let mut add = |field: Option<&dyn Display>| {
            // A string takes all that is written to it.
            let _ = match field {
                Some(field) => write!(row, "{field} "),
                None => write!(row, "- "),
            };
        };
        add(Some(&self.uid.simple()));
        add(Some(&self.version));
        add(Some(&time.as_nanosecond()));
        add(last_seen.map(Timestamp::as_nanosecond).as_ref().map(|time| time as &dyn Display));
        add(line.as_ref().map(|line| line as &dyn Display));
        add(self.firmware.as_ref().map(|firmware| &firmware.0 as &dyn Display));
        add(self.address.as_ref().map(|address| address as &dyn Display));
        add(self.uuid.map(Uuid::simple).as_ref().map(|uuid| uuid as &dyn Display));
        match entry {
            EntryPoint::Interface(name) => add(Some(&format_args!("i{name}"))),
            EntryPoint::Relay(address) => add(Some(&format_args!("r{address}"))),
            EntryPoint::Address(address) => add(Some(&format_args!("a{address}"))),
        }
        add(Some(&self.action));
        row.truncate(row.trim_end().len());
        row
    }

    /// Decodes the body of a row; `None` if it is another kind of row.
    ///
    /// # Errors
    /// The name is not a MAC address, or a field is missing or invalid.
    pub fn from_row(name: &str, body: &str) -> Option<Result<Self, String>> {
        let fields = body.strip_prefix(MARK)?;
        Some(decode(name, fields).ok_or_else(|| format!("invalid row of a host that was only seen: {body:?}")))
    }
}

/// Returns the timeline entry of an enrolment that has no row of its own, with its line: the host stands for it.
pub fn enrolment_entry(host: &Host) -> Option<(i64, Entry)> {
    let FirstSeen { time, line, .. } = &**host.status.first_seen.as_ref()?;
    let action = action_of(&host.spec, host.status.phase)?;
    let (mac, name) = (host.spec.boot_mac_address, host.metadata.name.clone());
    Some(((*line)?, Entry::once(*time, Some(mac), Some(name), Event::FirstSeen { action })))
}

/// Returns the action by which a host with this spec and phase was enrolled; `None` if it was changed since.
pub fn action_of(spec: &HostSpec, phase: Phase) -> Option<UnknownHostAction> {
    let HostSpec {
        boot_mac_address: _,
        ip: None,
        image,
        boot_config_ref,
        boot_mode: BootMode::Once,
        online: None,
        bmc: None,
        kernel_arguments,
        chap: None,
        local_disk: None,
        values: None,
    } = spec
    else {
        return None;
    };
    let action = match (image, boot_config_ref, phase) {
        (BootTarget::LocalDisk, None, Phase::Held) => UnknownHostAction::Hold,
        (BootTarget::LocalDisk, None, Phase::LocalBoot) => UnknownHostAction::LocalBoot,
        (BootTarget::Menu, None, Phase::LocalBoot) => UnknownHostAction::Menu,
        (BootTarget::Image(image), config, Phase::Assigned) => {
            UnknownHostAction::Install { image: image.clone(), config: config.clone() }
        }
        (BootTarget::LocalDisk | BootTarget::Menu | BootTarget::Image(_), _, _) => return None,
    };
    kernel_arguments.is_empty().then_some(action)
}

/// Returns the UID of an object that discovery created at a time, and that nobody named or labelled.
fn uid_of(metadata: &Meta, mac: Mac, time: Timestamp) -> Option<Uuid> {
    let Meta {
        name,
        namespace: Some(_),
        uid,
        resource_version: _,
        generation: 1,
        creation_timestamp,
        labels,
        annotations,
        generate_name: None,
        owner_references: None,
        managed_fields: None,
    } = metadata
    else {
        return None;
    };
    let is_plain = *creation_timestamp == Some(time) && labels.is_empty() && annotations.is_empty();
    let parsed = Uuid::try_parse(uid).ok().filter(|_| is_plain && mac.is_dashed(name.as_str()))?;
    let mut buffer = Uuid::encode_buffer();
    (parsed.hyphenated().encode_lower(&mut buffer) == uid.as_str()).then_some(parsed)
}

/// Parses an optional field.
fn optional<T>(field: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if field == "-" { Some(None) } else { parse(field).map(Some) }
}

fn decode(name: &str, fields: &str) -> Option<SeenHost> {
    let mut fields = fields.splitn(10, ' ');
    let mut next = || fields.next();
    let time = |field: &str| Timestamp::from_nanosecond(field.parse().ok()?).ok();
    let uid = Uuid::try_parse(next()?).ok()?;
    let version = next()?.parse().ok()?;
    let seen = time(next()?)?;
    let last_seen = optional(next()?, time)?.unwrap_or(seen);
    let line = optional(next()?, |field| field.parse().ok())?;
    let firmware = optional(next()?, |field| field.parse().ok().map(Architecture))?;
    let address = optional(next()?, |field| field.parse().ok())?;
    let uuid = optional(next()?, |field| Uuid::try_parse(field).ok())?;
    let entry = next()?;
    let entry = match entry.split_at_checked(1)? {
        ("i", name) => EntryPoint::Interface(name.into()),
        ("r", address) => EntryPoint::Relay(address.parse().ok()?),
        ("a", address) => EntryPoint::Address(address.parse().ok()?),
        _ => return None,
    };
    let action = next()?.parse().ok().filter(|action| *action != UnknownHostAction::Ignore)?;
    let first_seen = FirstSeen { entry, time: seen, line };
    Some(SeenHost {
        mac: Mac::from_dashed(name)?,
        version,
        first_seen,
        last_seen,
        address,
        uuid,
        uid,
        action,
        firmware,
    })
}

/// The interned parts of hosts that are read from a database: most hosts share them.
#[derive(Debug, Default)]
pub struct SharedParts {
    entry: Option<Arc<str>>,
    action: Option<UnknownHostAction>,
}

impl SharedParts {
    /// Replaces parts of a host by equal ones of the host before.
    pub fn share(&mut self, host: &mut SeenHost) {
        if let EntryPoint::Interface(name) = &mut host.first_seen.entry {
            match self.entry.as_ref().filter(|known| *known == name) {
                Some(known) => *name = known.clone(),
                None => self.entry = Some(name.clone()),
            }
        }
        match self.action.as_ref().filter(|known| **known == host.action) {
            Some(known) => host.action = known.clone(),
            None => self.action = Some(host.action.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Key, Kind, Object, Power};
    use crate::store::snapshot::Snapshot;

    const UUID: Uuid = uuid::uuid!("04030201-0605-0807-090a-0b0c0d0e0f10");

    fn at(second: i64) -> Timestamp {
        Timestamp::new(1_800_000_000 + second, 123_456_789).unwrap()
    }

    /// Returns a host as an enrolment makes it.
    fn enrolled(mac: Mac, action: &str, entry: EntryPoint) -> Host {
        let action: UnknownHostAction = action.parse().unwrap();
        let mut host = action.draft(mac, "default".parse().unwrap(), Some(Architecture(7))).unwrap();
        host.metadata.uid = Uuid::from_u128(7).to_string();
        host.metadata.resource_version = 12;
        host.metadata.generation = 1;
        host.metadata.creation_timestamp = Some(at(0));
        let status = &mut host.status;
        (status.phase_transition_time, status.last_seen_time) = (Some(at(0)), Some(at(0)));
        status.install = (status.phase == Phase::Assigned).then(Default::default);
        status.first_seen = Some(Box::new(FirstSeen { entry, time: at(0), line: Some(3) }));
        host
    }

    fn lan0() -> EntryPoint {
        EntryPoint::Interface("lan0".into())
    }

    const VM: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    #[test]
    fn a_host_that_was_only_seen_is_the_same_from_its_compact_form_and_from_its_row() {
        let relay = EntryPoint::Relay("10.9.0.1".parse().unwrap());
        let address = EntryPoint::Address("fd00::".parse().unwrap());
        for (action, entry) in [
            ("hold", lan0()),
            ("localboot", relay),
            ("menu", address),
            ("install live", lan0()),
            ("install live c", lan0()),
        ] {
            let mut host = enrolled(VM, action, entry);
            for step in 0..4 {
                match step {
                    1 => host.status.address = Some("10.9.0.50".parse().unwrap()),
                    2 => (host.status.uuid, host.status.last_seen_time) = (Some(UUID), Some(at(9))),
                    3 => host.status.firmware = None,
                    _ => {}
                }
                let seen = SeenHost::of(&host).unwrap();
                let namespace = "default".parse().unwrap();
                assert_eq!(seen.to_host(&namespace), Some(host.clone()), "{action}");
                assert_eq!(seen.phase(), host.status.phase, "{action}");
                let row = seen.to_row();
                assert_eq!(SeenHost::from_row("52-54-00-12-34-56", &row), Some(Ok(seen)), "{row}");
                assert!(row.len() <= 200, "{row}");
            }
        }
    }

    #[test]
    fn a_host_of_which_more_is_known_has_no_compact_form() {
        let changes: [fn(&mut Host); 11] = [
            |host| host.status.first_seen = None,
            |host| host.metadata.generation = 2,
            |host| host.metadata.name = "node1".parse().unwrap(),
            |host| host.metadata.uid = "other".to_owned(),
            |host| host.metadata.labels.insert("a".to_owned(), "b".to_owned()),
            |host| host.metadata.creation_timestamp = Some(at(1)),
            |host| host.spec.ip = Some("10.9.0.50".parse().unwrap()),
            |host| host.spec.kernel_arguments.push("quiet".to_owned()),
            |host| host.status.message = "m".to_owned(),
            |host| host.status.power = Some(Power::On),
            |host| host.status.phase = Phase::Installing,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut host = enrolled(VM, "install live", lan0());
            change(&mut host);
            assert_eq!(SeenHost::of(&host), None, "change {number}");
        }
        let spaced = EntryPoint::Interface("a b".into());
        assert_eq!(SeenHost::of(&enrolled(VM, "hold", spaced)), None);
    }

    #[test]
    fn a_damaged_row_is_an_error_and_other_rows_are_left_to_others() {
        let row = SeenHost::of(&enrolled(VM, "hold", lan0())).unwrap().to_row();
        for length in MARK.len()..row.len() - "hold".len() + 1 {
            assert!(SeenHost::from_row("52-54-00-12-34-56", &row[..length]).unwrap().is_err(), "{}", &row[..length]);
        }
        assert!(SeenHost::from_row("node1", &row).unwrap().is_err());
        for other in ["{}", "sealed:x", ""] {
            assert_eq!(SeenHost::from_row("node1", other), None);
        }
    }

    #[test]
    fn hosts_are_listed_in_the_order_of_their_names_in_either_form() {
        let mut state = Snapshot::default();
        let mac = |last: u8| Mac([2, 0, 0, 0, 0xa0, last]);
        for last in [9, 0x10, 0x9f, 0xa0, 0xff] {
            state.put(Object::Host(Arc::new(enrolled(mac(last), "hold", lan0()))));
        }
        for name in ["02-00-00-00-a0-0a", "02-00-00-00-a0-9f.x", "02-00", "node1", "0", "1-2"] {
            let mut host = enrolled(Mac([6, 0, 0, 0, name.len() as u8, 1]), "hold", lan0());
            host.metadata.name = name.parse().unwrap();
            state.put(Object::Host(Arc::new(host)));
        }
        let keys: Vec<Key> = state.list(Kind::BareMetalHost, None).map(|object| object.key()).collect();
        assert_eq!((keys.len(), keys.is_sorted()), (11, true), "{keys:?}");
        for (number, key) in keys.iter().enumerate() {
            let rest: Vec<Key> = state.list(Kind::BareMetalHost, Some(key)).map(|object| object.key()).collect();
            assert_eq!(rest, keys[number + 1..], "after {key}");
            assert_eq!(state.get(key).map(|object| object.key()).as_ref(), Some(key));
        }
        for name in ["02-00-00-00-a0-0g", "02-00-00-00-a0-1", "02.a", "02-000", "02-00-00-00-a0-ff.a", "f", "g", "a0"] {
            let after = Key { name: name.parse().unwrap(), ..keys[0].clone() };
            let rest: Vec<Key> = state.list(Kind::BareMetalHost, Some(&after)).map(|object| object.key()).collect();
            let expected: Vec<Key> = keys.iter().filter(|key| **key > after).cloned().collect();
            assert_eq!(rest, expected, "after {name}");
        }
        for key in &keys {
            assert!(state.remove(key).is_some());
        }
        assert_eq!((state.hosts().count(), state.host_count(), state.first_seen().count()), (0, 0, 0));
    }

    #[test]
    fn a_host_that_was_only_seen_takes_little_memory() {
        assert!(size_of::<SeenHost>() <= 200, "{} bytes", size_of::<SeenHost>());
    }
}
