use std::time::Duration;

use jiff::Timestamp;

use super::history::ChangeKind;
use super::*;
use crate::boot::identity::AddressEvidence;
use crate::event::ScriptAction;
use crate::fleet::enrolment::UnknownHostAction;
use crate::fleet::lifecycle::{Completion, Transition};
use crate::fleet::{BootConfig, Host, HostSpec, Kind, Meta, Phase};

mod boot_check;
mod enrolment;
mod template_versions;
mod timeline_watch;

const VM: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

fn script() -> Event {
    Event::Script { action: ScriptAction::Boot, image: "live".parse().ok(), reason: None }
}

fn policy() -> InstallPolicy {
    InstallPolicy {
        completion: Completion::BootComplete,
        timeout: Duration::from_secs(60),
        max_boots: 3,
        power_on: false,
    }
}

fn open(directory: &Path) -> Arc<Store> {
    Store::open(directory, policy(), OpenOptions::default()).unwrap().0
}

fn host(name: &str, mac: Mac) -> Object {
    let metadata = Meta::named(name.parse().unwrap(), Some("default".parse().unwrap()));
    Object::Host(Arc::new(Host { metadata, spec: HostSpec::for_mac(mac), status: Default::default() }))
}

fn image(name: &str) -> Object {
    let body = serde_json::json!({"metadata": {"name": name}, "spec": {"isoFile": "a.iso"}});
    Object::from_json(Kind::IscsiCdrom, body).unwrap()
}

fn assigned(name: &str, mac: Mac) -> Object {
    let Object::Host(host) = host(name, mac) else { unreachable!() };
    let mut host = Host::clone(&host);
    host.spec.image = "live".parse().unwrap();
    Object::Host(Arc::new(host))
}

fn put(object: Object) -> Change {
    Change::Put { object, expect: Expect::Any }
}

fn advance(transition: Transition) -> Change {
    Change::Advance { mac: VM, transition, observation: Observation::default(), event: None }
}

#[tokio::test]
async fn an_acknowledged_change_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.commit(put(image("live"))).await.unwrap();
    store.commit(put(assigned("vm", VM))).await.unwrap();
    store.commit(advance(Transition::Offer)).await.unwrap();
    // A second handle reads the files while the first was not closed, as after kill -9.
    let again = open(directory.path());
    let (one, two) = (store.snapshot(), again.snapshot());
    assert_eq!(one.host_by_mac(VM), two.host_by_mac(VM));
    assert_eq!(two.host_by_mac(VM).unwrap().status.phase, Phase::Offered);
    assert_eq!(one.version, two.version);
}

#[tokio::test]
async fn what_a_killed_process_left_in_the_log_is_durable_before_it_is_seen() {
    let (killed, started, lost) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy = |name: &str, from: &tempfile::TempDir, to: &tempfile::TempDir| {
        std::fs::copy(from.path().join(name), to.path().join(name)).unwrap();
    };
    let store = open(killed.path());
    store.commit(put(host("vm", VM))).await.unwrap();
    copy("bootlatch.db", &killed, &started);
    copy("bootlatch.db-wal", &killed, &started);
    let again = open(started.path());
    assert!(again.snapshot().host_by_mac(VM).is_some());
    // The log's content has reached the database itself, which SQLite does only after a sync of the log.
    copy("bootlatch.db", &started, &lost);
    assert!(open(lost.path()).snapshot().host_by_mac(VM).is_some());
}

#[tokio::test]
async fn every_write_is_checked_against_the_rules() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let refused = store.commit(put(assigned("vm", VM))).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Invalid(error) if error.field == "spec.image"), "{refused}");
    store.commit(put(image("live"))).await.unwrap();
    store.commit(put(assigned("vm", VM))).await.unwrap();
    let twin = store.commit(put(host("twin", VM))).await.unwrap_err();
    assert!(matches!(&twin, StoreError::Invalid(error) if error.field == "spec.bootMACAddress"), "{twin}");
    let key = image("live").key();
    let used = store.commit(Change::Delete { key, version: None }).await.unwrap_err();
    assert!(matches!(used, StoreError::InUse { .. }) && used.to_string().contains("to localboot"), "{used}");
}

#[tokio::test]
async fn a_write_for_an_old_version_is_a_conflict() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let first = store.commit(put(host("vm", VM))).await.unwrap().meta().resource_version;
    let mut changed = host("vm", VM);
    changed.meta_mut().labels.insert("rack".into(), "1".into());
    let expect = Expect::Present(Some(first));
    store.commit(Change::Put { object: changed.clone(), expect }).await.unwrap();
    changed.meta_mut().labels.insert("rack".into(), "2".into());
    let error = store.commit(Change::Put { object: changed, expect }).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
}

#[tokio::test]
async fn the_same_manifest_twice_is_one_change_and_no_second_install() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.commit(put(image("live"))).await.unwrap();
    store.commit(put(assigned("vm", VM))).await.unwrap();
    for change in [Transition::Offer, Transition::FetchConfig, Transition::Complete] {
        store.commit(advance(change)).await.unwrap();
    }
    let before = store.snapshot().version;
    store.commit(put(assigned("vm", VM))).await.unwrap();
    assert_eq!(store.snapshot().version, before);
    assert_eq!(store.snapshot().host_by_mac(VM).unwrap().status.phase, Phase::Installed);
    store.commit(advance(Transition::Assign)).await.unwrap();
    assert_eq!(store.snapshot().host_by_mac(VM).unwrap().status.phase, Phase::Assigned);
}

#[tokio::test]
async fn the_history_is_complete_and_without_repetition() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let start = store.snapshot().version;
    for number in 0..50 {
        store.commit(put(host(&format!("h{number}"), Mac([2, 0, 0, 0, 0, number])))).await.unwrap();
    }
    let versions: Vec<_> = store.since(start, usize::MAX).unwrap().iter().map(|past| past.version).collect();
    assert_eq!(versions, (start + 1..=start + 50).collect::<Vec<_>>());
    assert_eq!(store.since(start + 49, usize::MAX).unwrap().len(), 1);
    let again = open(directory.path());
    assert_eq!(again.since(start, usize::MAX).unwrap_err().oldest, start + 50);
}

#[tokio::test]
async fn a_failed_write_is_not_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.commit(put(host("vm", VM))).await.unwrap();
    let blocker = rusqlite::Connection::open(directory.path().join("bootlatch.db")).unwrap();
    blocker.execute_batch("DROP TABLE objects").unwrap();
    let error = store.commit(put(host("other", Mac([2, 0, 0, 0, 0, 9])))).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(store.snapshot().host_by_mac(Mac([2, 0, 0, 0, 0, 9])).is_none());
}

/// Enrols a machine that claims a UUID, by a rule.
async fn enrol(store: &Store, mac: Mac, uuid: &str, rule: &str) -> Arc<Host> {
    let action: UnknownHostAction = rule.parse().unwrap();
    let mut host = action.draft(mac, "default".parse().unwrap(), None).unwrap();
    host.status.uuid = uuid.parse().ok();
    let entry = crate::fleet::EntryPoint::Interface("eth0".into());
    let limits = crate::fleet::FirstSeenLimits {
        total: 100,
        per_network: 100,
        per_minute: 100,
        expiry: Duration::from_secs(86_400),
    };
    store.commit(Change::Enrol { host: Box::new(host), action, entry, limits }).await.unwrap();
    store.load().host_by_mac(mac).unwrap()
}

#[tokio::test]
async fn a_known_machine_is_enrolled_as_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (store, writer) = Store::open(directory.path(), policy(), OpenOptions::default()).unwrap();
    store.commit(put(image("live"))).await.unwrap();
    let mac = |last| Mac([2, 0, 0, 0, 0, last]);
    let uuid = "04030201-0605-0807-090a-0b0c0d0e0f10";
    assert_eq!(enrol(&store, mac(1), uuid, "install live").await.status.phase, Phase::Assigned);
    let second = enrol(&store, mac(2), uuid, "install live").await;
    assert_eq!((second.status.phase, &second.spec), (Phase::LocalBoot, &HostSpec::for_mac(mac(2))));
    let blank = "03000200-0400-0500-0006-000700080009";
    for last in [3, 4] {
        assert_eq!(enrol(&store, mac(last), blank, "install live").await.status.phase, Phase::Assigned);
    }
    drop(store);
    writer.join().unwrap();
    let store = open(directory.path());
    assert_eq!(enrol(&store, mac(5), uuid, "install live").await.status.phase, Phase::LocalBoot, "after a restart too");
    let events: Vec<_> = store.timeline(Some(mac(2)), 9).unwrap().into_iter().map(|entry| entry.event).collect();
    let known = Event::SameMachine { host: "02-00-00-00-00-01".parse().unwrap(), uuid: uuid.parse().ok() };
    assert_eq!(events, [Event::FirstSeen { action: UnknownHostAction::LocalBoot }, known]);
}

#[tokio::test]
async fn an_interface_that_a_bmc_shows_is_the_hosts_unless_it_has_a_host() {
    let directory = tempfile::tempdir().unwrap();
    let (store, writer) = Store::open(directory.path(), policy(), OpenOptions::default()).unwrap();
    store.commit(put(image("live"))).await.unwrap();
    let mac = |last| Mac([2, 0, 0, 0, 0, last]);
    let bmc = crate::fleet::Bmc::new("redfish://10.0.0.9", "u", Default::default());
    for (name, last) in [("one", 1), ("two", 2), ("own", 9)] {
        let Object::Host(mut declared) = host(name, mac(last)) else { unreachable!() };
        Arc::make_mut(&mut declared).spec.bmc = Some(bmc.clone());
        store.commit(put(Object::Host(declared))).await.unwrap();
    }
    let shows = async |host: u8, bmc: &crate::fleet::Bmc, nics: &[u8]| {
        let nic = |last: &u8| crate::fleet::hardware::Nic { name: String::new(), mac: mac(*last), speed_mbps: None };
        let nics = nics.iter().map(nic).collect();
        let hardware = Box::new(crate::fleet::HardwareDetails { nics, ..Default::default() });
        store.commit(Change::RecordInventory { mac: mac(host), bmc: Box::new(bmc.clone()), hardware }).await.unwrap();
    };
    let other = crate::fleet::Bmc::new("redfish://10.0.0.8", "u", Default::default());
    shows(1, &other, &[1, 7]).await;
    assert_eq!(store.load().host_by_mac(mac(1)).unwrap().status.hardware, None, "the host has another BMC");
    shows(1, &bmc, &[1, 3, 5, 9]).await;
    shows(2, &bmc, &[2, 5]).await;
    shows(9, &bmc, &[4]).await;
    let one = store.load().host_by_mac(mac(1)).unwrap();
    assert!(one.status.bmc.as_ref().unwrap().inventory_time.is_some(), "{one:?}");
    let owner = |last| store.load().host_by_nic(mac(last));
    let found = [3, 4, 5, 7, 9].map(owner);
    // 4 is of a BMC that does not show the host's own interface; 5 is claimed twice.
    assert_eq!(found, [Some(mac(1)), None, Some(mac(1)), None, Some(mac(1))]);
    let none = "03000200-0400-0500-0006-000700080009";
    assert_eq!(enrol(&store, mac(3), none, "install live").await.status.phase, Phase::LocalBoot);
    assert_eq!(enrol(&store, mac(5), none, "install live").await.status.phase, Phase::LocalBoot);
    let own = store.load().host_by_mac(mac(9)).unwrap();
    assert_eq!(own.metadata.name.as_str(), "own", "a claim takes no interface from a declared host");
    let events: Vec<_> = store.timeline(Some(mac(3)), 9).unwrap().into_iter().map(|entry| entry.event).collect();
    assert!(events.contains(&Event::SameMachine { host: "one".parse().unwrap(), uuid: None }), "{events:?}");
    drop(store);
    writer.join().unwrap();
    let store = open(directory.path());
    assert_eq!(store.load().host_by_nic(mac(3)), Some(mac(1)), "after a restart too");
    shows_nothing(&store, mac(1), &bmc).await;
    assert_eq!(store.load().host_by_nic(mac(3)), Some(mac(1)), "what a report leaves out stays");
    store.commit(Change::Delete { key: declared_key("one"), version: None }).await.unwrap();
    assert_eq!(store.load().host_by_nic(mac(3)), None);
}

async fn shows_nothing(store: &Store, mac: Mac, bmc: &crate::fleet::Bmc) {
    let change = Change::RecordInventory { mac, bmc: Box::new(bmc.clone()), hardware: Box::default() };
    store.commit(change).await.unwrap();
}

#[tokio::test]
async fn a_declared_host_takes_the_place_of_a_discovered_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.commit(put(image("live"))).await.unwrap();
    let found = enrol(&store, VM, "04030201-0605-0807-090a-0b0c0d0e0f10", "hold").await;
    let version = store.load().version;
    store.commit(put(assigned("node1", VM))).await.unwrap();
    let declared = store.load().host_by_mac(VM).unwrap();
    assert_eq!((declared.metadata.name.as_str(), declared.status.phase), ("node1", Phase::Assigned));
    assert_eq!(
        (declared.status.uuid, declared.status.last_seen_time),
        (found.status.uuid, found.status.last_seen_time)
    );
    let changes = store.since(version, 9).unwrap();
    let changes: Vec<_> =
        changes.iter().map(|change| (change.operation, change.object.key().name.to_string())).collect();
    assert_eq!(changes, [(ChangeKind::Deleted, VM.dashed()), (ChangeKind::Added, "node1".to_owned())]);
    let error = store.commit(put(assigned("node2", VM))).await.unwrap_err();
    assert!(error.to_string().contains("already"), "a declared host keeps its machine: {error}");
    assert!(store.load().get(&declared_key("node1")).is_some());
    // Somebody has decided about this one.
    let other = Mac([2, 0, 0, 0, 0, 9]);
    enrol(&store, other, "04030201-0605-0807-090a-0b0c0d0e0f11", "install live").await;
    assert!(store.commit(put(host("node3", other))).await.is_err());
    assert_eq!(open(directory.path()).load().hosts().count(), 2);
}

fn declared_key(name: &str) -> Key {
    host(name, VM).key()
}

#[tokio::test]
async fn a_move_to_another_address_is_an_event() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.commit(put(host("vm", VM))).await.unwrap();
    for (last, evidence) in
        [(1, AddressEvidence::Lease), (1, AddressEvidence::Neighbour), (2, AddressEvidence::DhcpExchange)]
    {
        let address = Some((std::net::IpAddr::from([10, 0, 0, last]), evidence));
        let observation = Observation { address, ..Observation::default() };
        store.commit(Change::Observe { mac: VM, observation }).await.unwrap();
    }
    let events: Vec<_> = store.timeline(Some(VM), 9).unwrap().into_iter().map(|entry| entry.event).collect();
    let (from, to) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    assert_eq!(events, [Event::AddressChanged { from, to, evidence: AddressEvidence::DhcpExchange }]);
}

fn lease(last: u8) -> Lease {
    Lease {
        address: [10, 0, 0, last].into(),
        mac: Mac([2, 0, 0, 0, 0, last]),
        client: Some(Box::new([255, last])),
        hostname: Some("node".into()),
        held: crate::fleet::LeaseState::Bound,
        until: Timestamp::from_second(2_000_000_000).unwrap(),
    }
}

/// Records leases and waits for the result.
async fn record(store: &Store, leases: Vec<Lease>) -> Result<(), StoreError> {
    let (done, result) = oneshot::channel();
    store.record(leases, move |result| done.send(result).unwrap()).unwrap();
    result.await.unwrap()
}

#[tokio::test]
async fn a_lease_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    record(&store, vec![lease(1), lease(2)]).await.unwrap();
    let renewed =
        Lease { until: Timestamp::from_second(2_000_000_001).unwrap(), client: None, hostname: None, ..lease(1) };
    record(&store, vec![renewed.clone()]).await.unwrap();
    let again = open(directory.path()).snapshot();
    let found: Vec<_> = again.leases().map(|lease| Lease::clone(lease)).collect();
    assert_eq!(found, [renewed, lease(2)]);
    assert_eq!(again.lease_by_ip([10, 0, 0, 2].into()).map(|found| Lease::clone(found)), Some(lease(2)));
    assert_eq!(store.snapshot().version, again.version, "leases are not objects: the version stays");
}

#[tokio::test]
async fn a_lease_that_cannot_be_written_is_not_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let blocker = rusqlite::Connection::open(directory.path().join("bootlatch.db")).unwrap();
    blocker.execute_batch("DROP TABLE leases").unwrap();
    let error = record(&store, vec![lease(1)]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(store.snapshot().lease_by_ip([10, 0, 0, 1].into()).is_none());
}

#[tokio::test]
async fn the_timeline_is_kept_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let (store, writer) = Store::open(directory.path(), policy(), OpenOptions::default()).unwrap();
    store.commit(put(image("live"))).await.unwrap();
    store.commit(put(assigned("vm", VM))).await.unwrap();
    store.record_event(Some(VM), Event::TftpStarted { file: "a".into() });
    store.commit(advance(Transition::Complete)).await.unwrap();
    drop(store);
    writer.join().unwrap();
    let entries = open(directory.path()).timeline(Some(VM), 10).unwrap();
    let names: Vec<_> = entries.iter().map(|entry| entry.event.clone()).collect();
    let expected = [
        Event::Assigned { image: "live".parse().unwrap() },
        Event::TftpStarted { file: "a".into() },
        Event::BootCompleted {},
    ];
    assert_eq!(names, expected);
    assert!(entries.iter().all(|entry| entry.host == Some("vm".parse().unwrap())));
}

#[tokio::test]
async fn a_repeated_event_is_one_line_with_a_count_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (store, writer) = Store::open(directory.path(), policy(), OpenOptions::default()).unwrap();
    store.commit(put(image("live"))).await.unwrap();
    store.commit(put(assigned("vm", VM))).await.unwrap();
    for number in 0..30 {
        store.record_event(
            Some(VM),
            Event::TftpCompleted { file: "a".into(), bytes: 1, milliseconds: number, resent: 0 },
        );
        store.record_event(Some(VM), script());
    }
    drop(store);
    writer.join().unwrap();
    let entries = open(directory.path()).timeline(Some(VM), 10).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.count).collect::<Vec<_>>(), [1, 30, 30]);
    assert!(entries[1].last.unwrap() >= entries[1].time, "{entries:?}");
    assert_eq!(entries[1].event, Event::TftpCompleted { file: "a".into(), bytes: 1, milliseconds: 29, resent: 0 });
}

#[tokio::test]
async fn the_events_of_an_image_and_of_a_config_are_found_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (store, writer) = Store::open(directory.path(), policy(), OpenOptions::default()).unwrap();
    let named = |image: &str| Event::Script { action: ScriptAction::Boot, image: image.parse().ok(), reason: None };
    let fetched = || Event::ConfigFetched { config: "live".parse().unwrap(), address: None, channel: None, file: None };
    for event in [script(), named("live2"), fetched(), Event::TftpStarted { file: "live".into() }, script()] {
        store.record_event(Some(VM), event);
    }
    store.record_event(None, Event::WaitingForImage { image: "live".parse().unwrap(), message: "m".into() });
    drop(store);
    writer.join().unwrap();
    let store = open(directory.path());
    let find = |kind, limit| {
        let found = store.timeline_of(&Key { kind, namespace: None, name: "live".parse().unwrap() }, limit).unwrap();
        found.into_iter().map(|entry| (entry.event, entry.count)).collect::<Vec<_>>()
    };
    let waiting = Event::WaitingForImage { image: "live".parse().unwrap(), message: "m".into() };
    assert_eq!(find(Kind::IscsiCdrom, 10), [(script(), 2), (waiting.clone(), 1)]);
    assert_eq!(find(Kind::IscsiCdrom, 1), [(waiting, 1)]);
    assert_eq!(find(Kind::BootConfig, 10), [(fetched(), 1)]);
    assert_eq!(find(Kind::BareMetalHost, 10), []);
}

#[test]
fn a_database_of_another_schema_is_refused() {
    for (version, age) in [(2, "pre-release"), (99, "newer")] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bootlatch.db");
        rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", version).unwrap();
        let error = Store::open(directory.path(), policy(), OpenOptions::default()).unwrap_err().to_string();
        assert!(error.contains(age) && error.contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn a_lost_database_is_no_empty_one() {
    for trace in TRACES {
        for is_truncated in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join(trace), "x").unwrap();
            let path = directory.path().join(DATABASE);
            if is_truncated {
                std::fs::write(&path, "").unwrap();
            }
            let error = Store::open(directory.path(), policy(), OpenOptions::default()).unwrap_err();
            assert!(matches!(&error, StoreError::Lost { trace: found, .. } if *found == trace), "{error}");
            assert!(error.to_string().contains("--start-empty"), "{error}");
            assert_eq!(path.exists(), is_truncated);
            let options = OpenOptions { start_empty: true, ..OpenOptions::default() };
            assert!(Store::open(directory.path(), policy(), options).is_ok(), "{trace}");
            assert!(
                Store::open(directory.path(), policy(), OpenOptions::default()).is_ok(),
                "the next start needs no option"
            );
        }
    }
}

#[tokio::test]
async fn a_damaged_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (store, writer) = Store::open(directory.path(), policy(), OpenOptions::default()).unwrap();
    for number in 0..200u8 {
        store.commit(put(host(&format!("vm{number}"), Mac([2, 0, 0, 0, 0, number])))).await.unwrap();
    }
    drop(store);
    writer.join().unwrap();
    let path = directory.path().join(DATABASE);
    let whole = std::fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Store::open(directory.path(), policy(), OpenOptions::default()).err().map(|error| error.to_string())
    };
    assert_eq!(refused(&whole), None);
    let damaged: [(&str, Vec<u8>); 3] = [
        ("a header of other bytes", [&[b'x'; 100], &whole[100..]].concat()),
        ("the first half", whole[..whole.len() / 2].to_vec()),
        (
            "zeroes in the middle",
            whole.iter().enumerate().map(|(at, byte)| if at / 4096 % 3 == 2 { 0 } else { *byte }).collect(),
        ),
    ];
    for (what, bytes) in damaged {
        let error = refused(&bytes).unwrap_or_default();
        assert!(error.contains("bootlatch.db"), "{what}: {error:?}");
    }
}

#[test]
fn the_writer_ends_although_a_handle_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let (store, writer) = Store::open(directory.path(), policy(), OpenOptions::default()).unwrap();
    assert_eq!(store.timeline(Some(VM), 10).unwrap(), []);
    store.record_event(Some(VM), script());
    store.close();
    writer.join().unwrap();
    assert!(matches!(store.timeline(Some(VM), 10), Err(StoreError::Unavailable(_))));
    assert!(!directory.path().join("bootlatch.db-wal").exists(), "everything is in the database");
    let entries = open(directory.path()).timeline(Some(VM), 10).unwrap();
    assert_eq!(entries.into_iter().map(|entry| entry.event).collect::<Vec<_>>(), [script()]);
}

#[tokio::test]
async fn the_event_of_a_change_is_written_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.commit(put(image("live"))).await.unwrap();
    store.commit(put(assigned("vm", VM))).await.unwrap();
    let event = Some(script());
    let change = Change::Advance {
        mac: VM,
        transition: Transition::Offer,
        observation: Observation::default(),
        event: event.clone(),
    };
    store.commit(change).await.unwrap();
    // The first handle was not closed, as after kill -9 right after the reply.
    let entries = open(directory.path()).timeline(Some(VM), 10).unwrap();
    assert_eq!(entries.last().map(|entry| entry.event.clone()), event);
}

#[tokio::test]
async fn a_referenced_config_is_not_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let body = serde_json::json!({"metadata": {"name": "c"}, "spec": {"format": "script", "data": {}}});
    let config: BootConfig = serde_json::from_value(body).unwrap();
    let config = Object::BootConfig(Arc::new(config));
    store.commit(put(config.clone())).await.unwrap();
    let mut live = image("live");
    if let Object::Image(image) = &mut live {
        Arc::make_mut(image).spec.boot_configs.push("c".parse().unwrap());
    }
    store.commit(put(live.clone())).await.unwrap();
    let used = store.commit(Change::Delete { key: config.key(), version: None }).await.unwrap_err();
    assert!(matches!(used, StoreError::InUse { .. }), "{used}");
    store.commit(Change::Delete { key: live.key(), version: None }).await.unwrap();
    store.commit(Change::Delete { key: config.key(), version: None }).await.unwrap();
}

#[tokio::test]
async fn commit_all_makes_all_changes_or_none() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let other = Mac([0x52, 0x54, 0, 0, 0, 2]);
    let version = store.snapshot().version;
    let wrong = vec![put(host("a", VM)), put(image("live")), put(host("b", VM))];
    let refused = store.commit_all(wrong).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Invalid(error) if error.field == "spec.bootMACAddress"), "{refused}");
    let state = store.snapshot();
    assert!(state.version == version && state.host_by_mac(VM).is_none() && state.images().next().is_none());
    assert!(store.since(version, 10).unwrap().is_empty());
    let made = store.commit_all(vec![put(image("live")), put(assigned("a", VM)), put(host("b", other))]).await.unwrap();
    assert_eq!(made.len(), 3);
    assert_eq!(store.since(version, 10).unwrap().len(), 3);
    let again = open(directory.path());
    assert_eq!(again.snapshot().version, store.snapshot().version);
    assert!(again.snapshot().host_by_mac(VM).is_some() && again.snapshot().host_by_mac(other).is_some());
}

#[tokio::test]
async fn strangers_fill_half_of_the_queue_of_entries() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.commit(put(host("vm", VM))).await.unwrap();
    let mut store = Arc::into_inner(store).unwrap();
    // The writer of the test takes nothing; the store's own keeps its end of the queue.
    let (entries, mut queued) = mpsc::channel(writer::MAX_QUEUED_ENTRIES);
    let _own = std::mem::replace(&mut store.entries, entries);
    let flood = |mac| (0..2 * writer::MAX_QUEUED_ENTRIES).for_each(|_| store.record_event(Some(mac), Event::Held {}));
    flood(Mac([2, 0, 0, 0, 0, 9]));
    let half = writer::MAX_QUEUED_ENTRIES / 2 + 1;
    assert_eq!(queued.len(), half);
    flood(VM);
    assert_eq!(queued.len(), writer::MAX_QUEUED_ENTRIES);
    let dropped = 3 * writer::MAX_QUEUED_ENTRIES as u64;
    assert_eq!(store.dropped_entries(), dropped);
    queued.try_recv().unwrap();
    store.record_event(Some(VM), Event::Held {});
    assert_eq!((queued.len(), store.dropped_entries()), (writer::MAX_QUEUED_ENTRIES, dropped));
}
