//! The effect of a change on the state. Pure: the writer makes the result durable, or discards it.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::event::Event;
use crate::event::power_report::PowerReport;
use crate::fleet::enrolment::UnknownHostAction;
use crate::fleet::lifecycle::{self, InstallPolicy, advance};
use crate::fleet::rules::{self, HostReferences, ImageReferences};
use crate::fleet::{
    Bmc, BmcRecord, BootTarget, EntryPoint, FirstSeen, FirstSeenLimits, HardwareDetails, Host, HostStatus, Image, Key,
    Kind, Mac, Name, Object, Phase, Power, conditions, machine_uuid, power_request,
};

use super::boot_check::{check_boot, check_referring};
use super::change::{Change, Expect, Observation};
use super::error::StoreError;
use super::history::{ChangeKind, ChangeRecord};
use super::seen_host::action_of;
use super::snapshot::Snapshot;
use super::template_versions::{check_template_reference, keep_versions};

/// Result of a change.
#[derive(Debug)]
pub struct Applied {
    /// The changed object; a deleted object in its last state.
    pub object: Object,
    /// The records to write, in order; none if the change had no effect.
    pub records: Vec<ChangeRecord>,
    /// Events for the timeline.
    pub events: Vec<(Mac, Event)>,
}

impl Applied {
    /// Returns the result of a change without effect.
    fn unchanged(object: Object, events: Vec<(Mac, Event)>) -> Self {
        Self { object, records: Vec::new(), events }
    }
}

/// Time and policy with which a change is applied.
#[derive(Debug, Clone, Copy)]
pub struct ApplyContext<'a> {
    /// Time of the change.
    pub at: Timestamp,
    /// Install policy of the configuration.
    pub policy: &'a InstallPolicy,
    /// Number of unknown machines that the disk has room for. An enrolment takes one.
    pub room: &'a Cell<u64>,
    /// The next line of the timeline that is free. An enrolment takes one.
    pub next_line: &'a Cell<i64>,
}

/// Applies one change to the state. On an error the state is unchanged.
///
/// # Errors
/// The reason why the change is refused.
pub fn apply(
    state: &mut Snapshot,
    change: Change,
    context: ApplyContext<'_>,
    uid: impl FnOnce() -> String,
) -> Result<Applied, StoreError> {
    match change {
        Change::Put { object, expect } => put(state, object, expect, context, uid),
        Change::Delete { key, version } => delete(state, &key, version),
        Change::Enrol { host, action, entry, limits } => {
            enrol(state, *host, Enrolment { action, entry, limits }, context, uid)
        }
        Change::Advance { mac, transition, observation, event } => {
            let mut applied = advance_host(state, mac, transition, observation, context)?;
            applied.events.extend(event.map(|event| (mac, event)));
            Ok(applied)
        }
        Change::Observe { mac, observation } => observe(state, mac, observation, context),
        Change::RecordHardware { mac, hardware } => record_hardware(state, mac, hardware, context),
        Change::RecordInventory { mac, bmc, hardware } => record_inventory(state, mac, &bmc, &hardware, context),
        Change::RecordStall { mac, stall } => change_status(state, mac, context, |status| status.stall = stall),
        Change::RecordRendering { mac, rendered } => {
            change_status(state, mac, context, |status| status.rendered_template = rendered)
        }
        Change::RequestPower { mac, operation, start } => {
            let before = state.host_by_mac(mac).ok_or(StoreError::NoSuchMac(mac))?;
            let after = power_request::request_later(Host::clone(&before), operation, start, context.at);
            Ok(write(state, Object::Host(Arc::new(after)), Some(Object::Host(before)), Vec::new(), context.at))
        }
        Change::PowerReported { mac, report } => apply_power_report(state, mac, *report, context),
    }
}

/// Creates or replaces an object. A changed spec of a host sets its lifecycle.
fn put(
    state: &mut Snapshot,
    mut object: Object,
    expect: Expect,
    context: ApplyContext<'_>,
    uid: impl FnOnce() -> String,
) -> Result<Applied, StoreError> {
    let key = object.key();
    let before = state.get(&key);
    check_version(&key, before.as_ref(), expect)?;
    if let (None, Some(found)) = (&before, discovered(state, &object)) {
        return replace_discovered(state, object, found, context, uid);
    }
    check(state, &object, &key)?;
    keep_identity(&mut object, before.as_ref(), context.at, uid);
    let mut events = Vec::new();
    if let Object::Host(host) = &mut object {
        let was = before.as_ref().and_then(as_host);
        let mut settled = apply_spec(Host::clone(host), was, context);
        // What was seen is of the machine, not of the object.
        if was.is_some_and(|was| was.spec.boot_mac_address != settled.spec.boot_mac_address) {
            settled.status.stall = None;
        }
        settled.status.first_seen = None;
        check_boot(state, &mut settled, context.policy.completion);
        events = milestones(was, &settled);
        *host = Arc::new(settled);
    }
    if let Object::ConfigTemplate(template) = &mut object {
        keep_versions(state, Arc::make_mut(template), before.as_ref(), context.at)?;
    }
    if before.as_ref().is_some_and(|before| unchanged(before, &object)) {
        let object = before.unwrap_or(object);
        return Ok(Applied::unchanged(object, Vec::new()));
    }
    let is_known = before.is_some();
    let mut applied = write(state, object, before, events, context.at);
    if is_known {
        for (before, after) in check_referring(state, &key, context.policy.completion) {
            let (before, after) = (Object::Host(before), Object::Host(Arc::new(after)));
            applied.records.extend(write(state, after, Some(before), Vec::new(), context.at).records);
        }
    }
    Ok(applied)
}

/// Returns the host that discovery made for the machine of a new host, and that nobody has changed since.
fn discovered(state: &Snapshot, object: &Object) -> Option<Arc<Host>> {
    let Object::Host(host) = object else { return None };
    state.host_by_mac(host.spec.boot_mac_address).filter(|found| found.is_merely_discovered())
}

/// Puts a declared host in the place of the one that discovery made for its machine, with what is known of the machine.
fn replace_discovered(
    state: &mut Snapshot,
    object: Object,
    found: Arc<Host>,
    context: ApplyContext<'_>,
    uid: impl FnOnce() -> String,
) -> Result<Applied, StoreError> {
    let mut next = state.clone();
    let removed = delete(&mut next, &Object::Host(found.clone()).key(), None)?;
    let mut applied = put(&mut next, object, Expect::Absent, context, uid)?;
    if let Object::Host(host) = &mut applied.object {
        let (known, status) = (&found.status, &mut Arc::make_mut(host).status);
        (status.firmware, status.address, status.uuid) = (known.firmware, known.address, known.uuid);
        status.last_seen_time = known.last_seen_time;
        check_boot(&next, Arc::make_mut(host), context.policy.completion);
    }
    next.put(applied.object.clone());
    applied.records.iter_mut().for_each(|record| (record.object, record.seen) = (applied.object.clone(), None));
    applied.records.splice(0..0, removed.records);
    *state = next;
    Ok(applied)
}

fn as_host(object: &Object) -> Option<&Host> {
    match object {
        Object::Host(host) => Some(host),
        Object::Image(_) | Object::BootConfig(_) | Object::ConfigTemplate(_) => None,
    }
}

fn check_version(key: &Key, before: Option<&Object>, expect: Expect) -> Result<(), StoreError> {
    match (before, expect) {
        (Some(_), Expect::Absent) => Err(StoreError::AlreadyExists(key.clone())),
        (None, Expect::Present(_)) => Err(StoreError::NotFound(key.clone())),
        (Some(before), Expect::Present(Some(wanted))) if before.meta().resource_version != wanted => {
            Err(StoreError::Conflict { key: key.clone(), wanted, now: before.meta().resource_version })
        }
        (None, Expect::Absent) | (Some(_), Expect::Present(_)) | (_, Expect::Any) => Ok(()),
    }
}

/// Checks an object against the rules, including those that concern other objects.
fn check(state: &Snapshot, object: &Object, key: &Key) -> Result<(), StoreError> {
    rules::check_meta(object.meta())?;
    match object {
        Object::Host(host) => {
            let other = |host: Option<Arc<Host>>| {
                let found = host.map(|host| Object::Host(host).key());
                found.filter(|found| found != key)
            };
            let same_mac = other(state.host_by_mac(host.spec.boot_mac_address));
            let same_ip = other(host.spec.ip.and_then(|ip| state.host_by_ip(ip)));
            let found = HostReferences {
                image: host.spec.image.image().and_then(|name| state.image(name)).map(Arc::as_ref),
                config_exists: host.spec.boot_config_ref.as_ref().is_some_and(|name| state.boot_config(name).is_some()),
                same_mac: same_mac.as_ref(),
                same_ip: same_ip.as_ref(),
                keeps_bmc: matches!(state.get(key), Some(Object::Host(before)) if before.spec.bmc == host.spec.bmc),
            };
            rules::check_host(host, found)?;
        }
        Object::Image(image) => check_image(state, image)?,
        Object::BootConfig(config) => check_template_reference(state, config)?,
        Object::ConfigTemplate(_) => {}
    }
    Ok(())
}

/// Checks an image against its boot configs, its companions and the hosts that boot it.
fn check_image(state: &Snapshot, image: &Image) -> Result<(), StoreError> {
    let (name, spec) = (&image.metadata.name, &image.spec);
    let others = || state.images().filter(|other| other.metadata.name != *name);
    let found = ImageReferences {
        missing_config: spec.boot_configs.iter().find(|name| state.boot_config(name).is_none()),
        companions: spec.companions.iter().map(|name| state.image(name).map(Arc::as_ref)).collect(),
        companion_in_cycle: spec
            .companions
            .iter()
            .find(|companion| *companion != name && leads_to(state, companion, name)),
        companion_of: others().find(|other| other.spec.companions.contains(name)).map(|other| &other.metadata.name),
    };
    rules::check_image(image, &found)?;
    // Rule 2 in the other direction: hosts may combine only listed configs with the image.
    let using = |host: &Arc<Host>| host.spec.image.image() == Some(&image.metadata.name);
    let unlisted = |host: &Arc<Host>| {
        host.spec.boot_config_ref.as_ref().is_some_and(|name| !image.spec.boot_configs.contains(name))
    };
    if let Some(host) = state.referring_hosts().filter(using).find(unlisted) {
        let message =
            format!("host {} combines the image with a boot config that is not listed any more", host.metadata.name);
        return Err(rules::Invalid { field: "spec.bootConfigs".into(), message }.into());
    }
    Ok(())
}

/// Returns whether an image reaches another one through companions.
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

/// Takes over UID, creation time and versions of the stored object, or sets those of a new one.
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

/// Returns the host with the lifecycle of its new spec: a changed `spec.image` requests an install or a local boot.
fn apply_spec(mut host: Host, before: Option<&Host>, context: ApplyContext<'_>) -> Host {
    host.status = before.map_or_else(HostStatus::default, |before| before.status.clone());
    if before.is_some_and(|before| before.spec.boot_config_ref != host.spec.boot_config_ref) {
        host.status.rendered_template = None;
    }
    let host = power_request::apply_spec(host, before, context.at);
    let image_before = before.map_or(&BootTarget::LocalDisk, |before| &before.spec.image);
    let transition = match &host.spec.image {
        image if image == image_before => return host,
        BootTarget::LocalDisk | BootTarget::Menu => lifecycle::Transition::Release,
        BootTarget::Image(_) => lifecycle::Transition::Assign,
    };
    advance_with_power(host, transition, context)
}

/// Advances a host; a machine that is to install is switched on.
fn advance_with_power(host: Host, transition: lifecycle::Transition, context: ApplyContext<'_>) -> Host {
    let host = advance(host, transition, context.at, context.policy);
    match transition {
        lifecycle::Transition::Assign => power_request::on_assign(host, context.at, context.policy),
        _ => host,
    }
}

/// Returns whether a write had no effect: applying a manifest twice is no change.
fn unchanged(before: &Object, after: &Object) -> bool {
    before == after
}

fn delete(state: &mut Snapshot, key: &Key, version: Option<u64>) -> Result<Applied, StoreError> {
    let before = state.get(key);
    check_version(key, before.as_ref(), Expect::Present(version))?;
    if let Some(by) = match key.kind {
        Kind::BareMetalHost => None,
        Kind::IscsiCdrom | Kind::BootConfig | Kind::ConfigTemplate => state.referrer(key),
    } {
        return Err(StoreError::InUse { key: key.clone(), by });
    }
    let mut object = state.remove(key).ok_or_else(|| StoreError::NotFound(key.clone()))?;
    state.version += 1;
    object.meta_mut().resource_version = state.version;
    let record = ChangeRecord::new(state.version, ChangeKind::Deleted, object.clone(), before);
    Ok(Applied { object, records: vec![record], events: Vec::new() })
}

/// The enrolment of an unknown machine.
struct Enrolment {
    action: UnknownHostAction,
    entry: EntryPoint,
    limits: FirstSeenLimits,
}

fn enrol(
    state: &mut Snapshot,
    host: Host,
    Enrolment { action, entry, limits }: Enrolment,
    context: ApplyContext<'_>,
    uid: impl FnOnce() -> String,
) -> Result<Applied, StoreError> {
    let mac = host.spec.boot_mac_address;
    if let Some(known) = state.host_by_mac(mac) {
        return Ok(Applied::unchanged(Object::Host(known), Vec::new()));
    }
    let Some(room) = context.room.get().checked_sub(1) else { return Err(StoreError::DiskNearlyFull) };
    if !limits.admits(&entry, state.first_seen_counts(&entry)) {
        return Err(StoreError::EnrolmentLimit(entry));
    }
    context.room.set(room);
    let (host, action, known) = recognise(state, host, action);
    let phase = host.status.phase;
    let mut object = Object::Host(Arc::new(host));
    let key = object.key();
    check_version(&key, state.get(&key).as_ref(), Expect::Absent)?;
    check(state, &object, &key)?;
    keep_identity(&mut object, None, context.at, uid);
    let mut events = Vec::new();
    if let Object::Host(host) = &mut object {
        let Host { spec, status, .. } = Arc::make_mut(host);
        // The host stands for the entry in the timeline that follows from it, and takes the place of one.
        let line = match action_of(spec, phase) {
            Some(known) if known == action => Some(context.next_line.replace(context.next_line.get() + 1)),
            Some(_) | None => None,
        };
        if line.is_none() {
            events.push((mac, Event::FirstSeen { action }));
        }
        status.phase_transition_time = Some(context.at);
        status.last_seen_time = Some(context.at);
        status.first_seen = Some(Box::new(FirstSeen { entry, time: context.at, line }));
        status.install = (phase == Phase::Assigned).then(Default::default);
    }
    events.extend(known.map(|event| (mac, event)));
    Ok(write(state, object, None, events, context.at))
}

/// Returns the draft of an unknown interface, its action, and the event that it belongs to a known machine: by its UUID,
/// or by the interfaces that a BMC shows.
fn recognise(state: &Snapshot, host: Host, action: UnknownHostAction) -> (Host, UnknownHostAction, Option<Event>) {
    let uuid = host.status.uuid;
    let by_uuid = uuid.and_then(|uuid| machine_uuid::machine_of(uuid, state.hosts_by_uuid(uuid)));
    let known = by_uuid.or_else(|| state.host_by_nic(host.spec.boot_mac_address));
    let name = known.and_then(|known| state.host_name(known));
    let (Some(name), Some(namespace)) = (name, host.metadata.namespace.clone()) else {
        return (host, action, None);
    };
    let action = action.for_known_machine();
    let event = Event::SameMachine { host: name, uuid: uuid.filter(|_| by_uuid.is_some()) };
    match action.draft(host.spec.boot_mac_address, namespace, host.status.firmware) {
        Some(mut draft) => {
            draft.status.uuid = uuid;
            (draft, action, Some(event))
        }
        None => (host, action, Some(event)),
    }
}

fn advance_host(
    state: &mut Snapshot,
    mac: Mac,
    transition: lifecycle::Transition,
    observation: Observation,
    context: ApplyContext<'_>,
) -> Result<Applied, StoreError> {
    let before = state.host_by_mac(mac).ok_or(StoreError::NoSuchMac(mac))?;
    let mut after = advance_with_power(Host::clone(&before), transition, context);
    after.status.first_seen = None;
    let mut events = milestones(Some(&before), &after);
    if transition == lifecycle::Transition::Assign && events.is_empty() {
        events.push((mac, Event::Assigned { image: after.spec.image.clone() }));
    }
    let mut after = with_observation(after, observation, context.at);
    check_boot(state, &mut after, context.policy.completion);
    events.extend(address_change(&before, &after, observation));
    if after == *before {
        return Ok(Applied::unchanged(Object::Host(before), events));
    }
    Ok(write(state, Object::Host(Arc::new(after)), Some(Object::Host(before)), events, context.at))
}

fn observe(
    state: &mut Snapshot,
    mac: Mac,
    observation: Observation,
    context: ApplyContext<'_>,
) -> Result<Applied, StoreError> {
    let before = state.host_by_mac(mac).ok_or(StoreError::NoSuchMac(mac))?;
    let mut after = with_observation(Host::clone(&before), observation, context.at);
    let learnt = |host: &Host| (host.status.firmware, host.status.uuid);
    if after.status.boot_risks.is_some() && learnt(&after) != learnt(&before) {
        check_boot(state, &mut after, context.policy.completion);
    }
    let events = address_change(&before, &after, observation).into_iter().collect();
    Ok(write(state, Object::Host(Arc::new(after)), Some(Object::Host(before)), events, context.at))
}

/// Returns the event of a host that was at another address before.
fn address_change(before: &Host, after: &Host, observation: Observation) -> Option<(Mac, Event)> {
    let (from, to) = (before.status.address?, after.status.address?);
    let (_, evidence) = observation.address?;
    (from != to).then_some((after.spec.boot_mac_address, Event::AddressChanged { from, to, evidence }))
}

/// Changes the status of a host. Nothing is written if it is the same afterwards.
fn change_status(
    state: &mut Snapshot,
    mac: Mac,
    context: ApplyContext<'_>,
    change: impl FnOnce(&mut HostStatus),
) -> Result<Applied, StoreError> {
    let before = state.host_by_mac(mac).ok_or(StoreError::NoSuchMac(mac))?;
    let mut after = Host::clone(&before);
    change(&mut after.status);
    if after.status == before.status {
        return Ok(Applied::unchanged(Object::Host(before), Vec::new()));
    }
    Ok(write(state, Object::Host(Arc::new(after)), Some(Object::Host(before)), Vec::new(), context.at))
}

/// Records the hardware of a host, by which its image may not fit.
fn record_hardware(
    state: &mut Snapshot,
    mac: Mac,
    hardware: Box<HardwareDetails>,
    context: ApplyContext<'_>,
) -> Result<Applied, StoreError> {
    let before = state.host_by_mac(mac).ok_or(StoreError::NoSuchMac(mac))?;
    if before.status.hardware.as_ref() == Some(&hardware) {
        return Ok(Applied::unchanged(Object::Host(before), Vec::new()));
    }
    let mut after = Host::clone(&before);
    after.status.hardware = Some(hardware);
    check_boot(state, &mut after, context.policy.completion);
    Ok(write(state, Object::Host(Arc::new(after)), Some(Object::Host(before)), Vec::new(), context.at))
}

/// Records the hardware that a BMC shows, unless the host has another BMC by now.
fn record_inventory(
    state: &mut Snapshot,
    mac: Mac,
    bmc: &Bmc,
    hardware: &HardwareDetails,
    context: ApplyContext<'_>,
) -> Result<Applied, StoreError> {
    let before = state.host_by_mac(mac).ok_or(StoreError::NoSuchMac(mac))?;
    if !before.spec.bmc.as_ref().is_some_and(|known| known.same_access(bmc)) {
        return Ok(Applied::unchanged(Object::Host(before), Vec::new()));
    }
    let mut after = Host::clone(&before);
    let status = &mut after.status;
    status.hardware = Some(Box::new(status.hardware.as_deref().cloned().unwrap_or_default().updated(hardware)));
    status.bmc.get_or_insert_with(|| Box::new(BmcRecord::new(context.at))).inventory_time = Some(context.at);
    check_boot(state, &mut after, context.policy.completion);
    Ok(write(state, Object::Host(Arc::new(after)), Some(Object::Host(before)), Vec::new(), context.at))
}

/// Applies the report of a BMC. A report that changes nothing has no effect.
fn apply_power_report(
    state: &mut Snapshot,
    mac: Mac,
    report: PowerReport,
    context: ApplyContext<'_>,
) -> Result<Applied, StoreError> {
    let before = state.host_by_mac(mac).ok_or(StoreError::NoSuchMac(mac))?;
    let is_same = match (&before.spec.bmc, &report.bmc) {
        (Some(known), Some(asked)) => known.same_access(asked),
        (known, asked) => known == asked,
    };
    if !is_same {
        return Ok(Applied::unchanged(Object::Host(before), Vec::new()));
    }
    let mut after = Host::clone(&before);
    let status = &mut after.status;
    let mut events = report.events;
    if let Some(power) = report.power {
        if status.power != Some(power) {
            (status.power, status.power_transition_time) = (Some(power), Some(context.at));
            if power != Power::Unknown {
                events.push(Event::Power { state: power });
            }
        }
        // The same reason with another message is not a change.
        if status.power_error.as_ref().map(|known| &known.reason) != report.error.as_ref().map(|error| &error.reason) {
            status.power_error = report.error.map(Box::new);
        }
    }
    power_request::apply_progress(status, report.transition);
    if let Some(told) = report.boot_device {
        status.boot_device = Some(told);
    }
    if let Some(learnt) = report.learnt {
        let inventory_time = status.bmc.as_ref().and_then(|known| known.inventory_time);
        status.bmc = Some(Box::new(BmcRecord { inventory_time, ..learnt }));
    }
    let after = power_request::reconcile(after, &before, context.at);
    let events = events.into_iter().map(|event| (mac, event)).collect();
    if after == *before {
        return Ok(Applied::unchanged(Object::Host(before), events));
    }
    Ok(write(state, Object::Host(Arc::new(after)), Some(Object::Host(before)), events, context.at))
}

/// Returns the host with the facts about it in a request.
fn with_observation(mut host: Host, observation: Observation, at: Timestamp) -> Host {
    let address = observation.address.map(|(address, _)| address).filter(|address| !is_unusable(*address));
    if observation.firmware.is_none() && address.is_none() && observation.uuid.is_none() {
        return host;
    }
    host.status.last_seen_time = Some(at);
    host.status.firmware = observation.firmware.or(host.status.firmware);
    host.status.address = address.or(host.status.address);
    host.status.uuid = observation.uuid.or(host.status.uuid);
    host
}

fn is_unusable(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_loopback()
}

/// Returns the milestone event between two states of a host.
fn milestones(before: Option<&Host>, after: &Host) -> Vec<(Mac, Event)> {
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

/// Puts an object into the snapshot with a new version, and returns the record of the change.
pub(super) fn write(
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
    let operation = if before.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
    let mut record = ChangeRecord::new(state.version, operation, object.clone(), before);
    if let Object::Host(host) = &object {
        record.seen = state.seen_form(host.spec.boot_mac_address).cloned();
    }
    Applied { object, records: vec![record], events }
}
