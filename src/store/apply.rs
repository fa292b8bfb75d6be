//! What a change makes of the state. Pure: the writer makes it durable, or drops it whole.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;

use crate::event::Event;
use crate::fleet::enrolment::UnknownHostAction;
use crate::fleet::lifecycle::{self, InstallPolicy, advance};
use crate::fleet::rules::{self, HostReferences, ImageReferences};
use crate::fleet::{
    BootTarget, Host, HostStatus, Image, Key, Kind, Mac, Name, Object, Phase, Power, conditions, power,
};

use super::{Change, ChangeRecord, Expect, Observation, Operation, PowerReport, Snapshot, StoreError};

/// Is what a change came to.
#[derive(Debug)]
pub struct Applied {
    /// Is the object that the change was about, as it now is; as it last was, where it is gone.
    pub object: Object,
    /// Is what is to be written; nothing where the change left everything as it was.
    pub past: Option<ChangeRecord>,
    pub events: Vec<(Mac, Event)>,
}

impl Applied {
    /// Is what a change came to that left everything as it was.
    fn nothing(object: Object, events: Vec<(Mac, Event)>) -> Self {
        Self { object, past: None, events }
    }
}

/// Is the moment, and the policy, that a change is applied with.
#[derive(Debug, Clone, Copy)]
pub struct ApplyContext<'a> {
    pub at: Timestamp,
    pub policy: &'a InstallPolicy,
}

/// Applies one change to the state; the state is as it was where an error comes back.
pub fn apply(
    state: &mut Snapshot,
    change: Change,
    moment: ApplyContext<'_>,
    uid: impl FnOnce() -> String,
) -> Result<Applied, StoreError> {
    match change {
        Change::Put { object, expect } => put(state, object, expect, moment, uid),
        Change::Delete { key, version } => delete(state, &key, version),
        Change::Enrol { host, action } => enrol(state, *host, action, moment, uid),
        Change::Advance { mac, change, sighting, event } => {
            let mut applied = advance_host(state, mac, change, sighting, moment)?;
            applied.events.extend(event.map(|event| (mac, event)));
            Ok(applied)
        }
        Change::Observe { mac, sighting } => sight(state, mac, sighting, moment),
        Change::PowerReported { mac, word } => hear(state, mac, *word, moment),
    }
}

fn put(
    state: &mut Snapshot,
    mut object: Object,
    expect: Expect,
    moment: ApplyContext<'_>,
    uid: impl FnOnce() -> String,
) -> Result<Applied, StoreError> {
    let key = object.key();
    let before = state.get(&key).cloned();
    check_version(&key, before.as_ref(), expect)?;
    check(state, &object, &key)?;
    keep_identity(&mut object, before.as_ref(), moment.at, uid);
    let mut events = Vec::new();
    if let Object::Host(host) = &mut object {
        let was = before.as_ref().and_then(as_host);
        let mut settled = settle(Host::clone(host), was, moment);
        settled.status.warnings = warnings(state, &settled);
        events = announce(was, &settled);
        *host = Arc::new(settled);
    }
    if before.as_ref().is_some_and(|before| unchanged(before, &object)) {
        let object = before.unwrap_or(object);
        return Ok(Applied::nothing(object, Vec::new()));
    }
    Ok(write(state, object, before, events, moment.at))
}

fn as_host(object: &Object) -> Option<&Host> {
    match object {
        Object::Host(host) => Some(host),
        Object::Image(_) | Object::BootConfig(_) => None,
    }
}

fn check_version(key: &Key, before: Option<&Object>, expect: Expect) -> Result<(), StoreError> {
    match (before, expect) {
        (Some(_), Expect::Absent) => Err(StoreError::AlreadyExists(key.clone())),
        (None, Expect::Present(_)) => Err(StoreError::NotFound(key.clone())),
        (Some(before), Expect::Present(Some(wanted))) if before.meta().resource_version != wanted => {
            Err(StoreError::Conflict { key: key.clone(), wanted, now: before.meta().resource_version })
        }
        _ => Ok(()),
    }
}

/// Checks an object against the rules and the objects beside it.
fn check(state: &Snapshot, object: &Object, key: &Key) -> Result<(), StoreError> {
    rules::check_meta(object.meta())?;
    match object {
        Object::Host(host) => {
            let other = |host: Option<&Arc<Host>>| {
                let found = host.map(|host| Object::Host(host.clone()).key());
                found.filter(|found| found != key)
            };
            let same_mac = other(state.host_by_mac(host.spec.boot_mac_address));
            let same_ip = other(host.spec.ip.and_then(|ip| state.host_by_ip(ip)));
            let found = HostReferences {
                image: host.spec.image.image().and_then(|name| state.image(name)).map(Arc::as_ref),
                config_exists: host.spec.boot_config_ref.as_ref().is_some_and(|name| state.boot_config(name).is_some()),
                same_mac: same_mac.as_ref(),
                same_ip: same_ip.as_ref(),
            };
            rules::check_host(host, found)?;
        }
        Object::Image(image) => check_image(state, image)?,
        Object::BootConfig(_) => {}
    }
    Ok(())
}

fn check_image(state: &Snapshot, image: &Image) -> Result<(), StoreError> {
    let (name, spec) = (&image.metadata.name, &image.spec);
    let others = || state.images().filter(|other| other.metadata.name != *name);
    let found = ImageReferences {
        missing_config: spec.boot_configs.iter().find(|name| state.boot_config(name).is_none()),
        companions: spec.companions.iter().map(|name| state.image(name).map(Arc::as_ref)).collect(),
        circular: spec.companions.iter().find(|companion| *companion != name && leads_to(state, companion, name)),
        companion_of: others().find(|other| other.spec.companions.contains(name)).map(|other| &other.metadata.name),
    };
    rules::check_image(image, &found)?;
    // An image must go on listing the configs that hosts combine with it: rule 2 holds both ways.
    let using = |host: &&Arc<Host>| host.spec.image.image() == Some(&image.metadata.name);
    let unlisted = |host: &&Arc<Host>| {
        host.spec.boot_config_ref.as_ref().is_some_and(|name| !image.spec.boot_configs.contains(name))
    };
    if let Some(host) = state.hosts().filter(using).find(unlisted) {
        let message = format!("host {} combines the image with a config that is no longer listed", host.metadata.name);
        return Err(rules::Invalid { field: "spec.bootConfigs".into(), message }.into());
    }
    Ok(())
}

/// Says whether an image has another one beside itself, or beside those beside it.
fn leads_to(state: &Snapshot, from: &Name, to: &Name) -> bool {
    let (mut known, mut next) = (vec![from], 0);
    while let Some(name) = known.get(next) {
        next += 1;
        for companion in state.image(name).map_or(&[][..], |image| &image.spec.companions) {
            if companion == to {
                return true;
            }
            if !known.contains(&companion) {
                known.push(companion);
            }
        }
    }
    false
}

fn warnings(state: &Snapshot, host: &Host) -> Vec<String> {
    rules::warnings(host, host.spec.image.image().and_then(|name| state.image(name)).map(Arc::as_ref))
}

fn keep_identity(object: &mut Object, before: Option<&Object>, at: Timestamp, uid: impl FnOnce() -> String) {
    let same_spec = before.is_some_and(|before| before.same_spec(object));
    let meta = object.meta_mut();
    match before.map(Object::meta) {
        Some(before) => {
            meta.uid.clone_from(&before.uid);
            meta.creation_timestamp = before.creation_timestamp;
            meta.generation = before.generation + u64::from(!same_spec);
            meta.resource_version = before.resource_version;
        }
        None => {
            meta.uid = uid();
            meta.creation_timestamp = Some(at);
            meta.generation = 1;
            meta.resource_version = 0;
        }
    }
}

/// Gives a host the state that its new spec means: a changed wish is a new install, or none.
fn settle(mut host: Host, before: Option<&Host>, moment: ApplyContext<'_>) -> Host {
    host.status = before.map_or_else(HostStatus::default, |before| before.status.clone());
    let host = power::apply_spec(host, before, moment.at);
    let wished_before = before.map_or(&BootTarget::LocalDisk, |before| &before.spec.image);
    let change = match &host.spec.image {
        image if image == wished_before => return host,
        BootTarget::LocalDisk | BootTarget::Menu => lifecycle::Transition::Release,
        BootTarget::Image(_) => lifecycle::Transition::Assign,
    };
    advance(host, change, moment.at, moment.policy)
}

/// Says whether a write left an object as it was, so that applying a manifest twice is no change.
fn unchanged(before: &Object, after: &Object) -> bool {
    before == after
}

fn delete(state: &mut Snapshot, key: &Key, version: Option<u64>) -> Result<Applied, StoreError> {
    let before = state.get(key).cloned();
    check_version(key, before.as_ref(), Expect::Present(version))?;
    if let Some(by) = match key.kind {
        Kind::BareMetalHost => None,
        Kind::IscsiCdrom | Kind::BootConfig => state.referrer(key),
    } {
        return Err(StoreError::InUse { key: key.clone(), by });
    }
    let mut object = state.remove(key).ok_or_else(|| StoreError::NotFound(key.clone()))?;
    state.version += 1;
    object.meta_mut().resource_version = state.version;
    let past = ChangeRecord {
        version: state.version,
        verb: Operation::Deleted,
        object: object.clone(),
        before,
        wire: OnceLock::new(),
    };
    Ok(Applied { object, past: Some(past), events: Vec::new() })
}

fn enrol(
    state: &mut Snapshot,
    host: Host,
    action: UnknownHostAction,
    moment: ApplyContext<'_>,
    uid: impl FnOnce() -> String,
) -> Result<Applied, StoreError> {
    let mac = host.spec.boot_mac_address;
    if let Some(known) = state.host_by_mac(mac) {
        return Ok(Applied::nothing(Object::Host(known.clone()), Vec::new()));
    }
    let phase = host.status.phase;
    let mut object = Object::Host(Arc::new(host));
    check_version(&object.key(), state.get(&object.key()), Expect::Absent)?;
    check(state, &object, &object.key())?;
    keep_identity(&mut object, None, moment.at, uid);
    if let Object::Host(host) = &mut object {
        let status = &mut Arc::make_mut(host).status;
        status.phase_transition_time = Some(moment.at);
        status.last_seen_time = Some(moment.at);
        status.install = (phase == Phase::Assigned).then(Default::default);
    }
    Ok(write(state, object, None, vec![(mac, Event::FirstSeen { action })], moment.at))
}

fn advance_host(
    state: &mut Snapshot,
    mac: Mac,
    change: lifecycle::Transition,
    sighting: Observation,
    moment: ApplyContext<'_>,
) -> Result<Applied, StoreError> {
    let before = state.host_by_mac(mac).cloned().ok_or(StoreError::NoSuchMac(mac))?;
    let mut after = advance(Host::clone(&before), change, moment.at, moment.policy);
    after.status.warnings = warnings(state, &after);
    let mut events = announce(Some(&before), &after);
    if change == lifecycle::Transition::Assign && events.is_empty() {
        events.push((mac, Event::Assigned { image: after.spec.image.clone() }));
    }
    let after = seen(after, sighting, moment.at);
    if after == *before {
        return Ok(Applied::nothing(Object::Host(before), events));
    }
    Ok(write(state, Object::Host(Arc::new(after)), Some(Object::Host(before)), events, moment.at))
}

fn sight(
    state: &mut Snapshot,
    mac: Mac,
    sighting: Observation,
    moment: ApplyContext<'_>,
) -> Result<Applied, StoreError> {
    let before = state.host_by_mac(mac).cloned().ok_or(StoreError::NoSuchMac(mac))?;
    let after = seen(Host::clone(&before), sighting, moment.at);
    Ok(write(state, Object::Host(Arc::new(after)), Some(Object::Host(before)), Vec::new(), moment.at))
}

/// Takes a controller's word; one that says nothing new is no change.
fn hear(state: &mut Snapshot, mac: Mac, word: PowerReport, moment: ApplyContext<'_>) -> Result<Applied, StoreError> {
    let before = state.host_by_mac(mac).cloned().ok_or(StoreError::NoSuchMac(mac))?;
    if before.spec.bmc.as_ref() != Some(&word.bmc) {
        return Ok(Applied::nothing(Object::Host(before), Vec::new()));
    }
    let mut after = Host::clone(&before);
    let status = &mut after.status;
    let mut events = word.events;
    if let Some(power) = word.power {
        if status.power != Some(power) {
            (status.power, status.power_transition_time) = (Some(power), Some(moment.at));
            if power != Power::Unknown {
                events.push(Event::Power { state: power });
            }
        }
        // The same fault in other words is no news.
        if status.power_error.as_ref().map(|known| &known.reason) != word.fault.as_ref().map(|told| &told.reason) {
            status.power_error = word.fault.map(Box::new);
        }
    }
    if status.power_transition.as_ref().is_some_and(|switching| Some(switching.request_time) == word.over) {
        status.power_transition = None;
    }
    let events = events.into_iter().map(|event| (mac, event)).collect();
    if after == *before {
        return Ok(Applied::nothing(Object::Host(before), events));
    }
    Ok(write(state, Object::Host(Arc::new(after)), Some(Object::Host(before)), events, moment.at))
}

fn seen(mut host: Host, sighting: Observation, at: Timestamp) -> Host {
    let address = sighting.address.filter(|address| !is_nowhere(*address));
    if sighting.firmware.is_none() && address.is_none() && sighting.uuid.is_none() {
        return host;
    }
    host.status.last_seen_time = Some(at);
    host.status.firmware = sighting.firmware.or(host.status.firmware);
    host.status.address = address.or(host.status.address);
    host.status.uuid = sighting.uuid.or(host.status.uuid);
    host
}

fn is_nowhere(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_loopback()
}

/// Tells the milestones that lie between two states of a host.
fn announce(before: Option<&Host>, after: &Host) -> Vec<(Mac, Event)> {
    let phase = before.map_or(Phase::LocalBoot, |before| before.status.phase);
    let again = before.is_some_and(|before| before.status.phase_transition_time != after.status.phase_transition_time);
    if phase == after.status.phase && !again {
        return Vec::new();
    }
    let event = match after.status.phase {
        Phase::Assigned => Event::Assigned { image: after.spec.image.clone() },
        Phase::LocalBoot => Event::LocalBootRequested {},
        Phase::Held => Event::Held {},
        Phase::Installed => Event::BootCompleted {},
        Phase::Failed => Event::InstallFailed { message: after.status.message.clone() },
        Phase::Offered | Phase::Installing => return Vec::new(),
    };
    vec![(after.spec.boot_mac_address, event)]
}

fn write(
    state: &mut Snapshot,
    mut object: Object,
    before: Option<Object>,
    events: Vec<(Mac, Event)>,
    at: Timestamp,
) -> Applied {
    if let (Object::Host(after), Some(Object::Host(before))) = (&mut object, &before) {
        conditions::record_transitions(before, Arc::make_mut(after), at);
    }
    state.version += 1;
    object.meta_mut().resource_version = state.version;
    state.put(object.clone());
    let verb = if before.is_some() { Operation::Modified } else { Operation::Added };
    let past = ChangeRecord { version: state.version, verb, object: object.clone(), before, wire: OnceLock::new() };
    Applied { object, past: Some(past), events }
}
