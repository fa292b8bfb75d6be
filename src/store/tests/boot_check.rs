//! What will not work at a boot follows each change of what the boot depends on.

use uuid::{Uuid, uuid};

use super::*;
use crate::fleet::conditions::{self, ConditionStatus};
use crate::fleet::transition_times::ConditionType;
use crate::fleet::{Architecture, BootRisk, EntryPoint, Firmwares, FirstSeenLimits, Image};

const OTHER: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);
const BOARD: Uuid = uuid!("04030201-0605-0807-090a-0b0c0d0e0f10");

/// Returns the image with these boot loaders.
fn image_for(bios: bool, uefi: bool) -> Object {
    let Object::Image(found) = image("live") else { unreachable!() };
    let mut image = Image::clone(&found);
    image.spec.boot_configs = vec!["c".parse().unwrap()];
    image.status.boots = Some(Firmwares { bios, uefi });
    Object::Image(Arc::new(image))
}

fn config(reports: bool) -> Object {
    let body = serde_json::json!({"metadata": {"name": "c"}, "spec": {"format": "kickstart"}});
    let Object::BootConfig(mut config) = Object::from_json(Kind::BootConfig, body).unwrap() else { unreachable!() };
    Arc::make_mut(&mut config).status.insert(BootConfig::REPORTS_COMPLETION.to_owned(), reports.into());
    Object::BootConfig(config)
}

fn with_config(object: Object) -> Object {
    let Object::Host(mut host) = object else { unreachable!() };
    Arc::make_mut(&mut host).spec.boot_config_ref = Some("c".parse().unwrap());
    Object::Host(host)
}

fn seen(mac: Mac, firmware: Option<u16>, uuid: Option<Uuid>) -> Change {
    let observation = Observation { firmware: firmware.map(Architecture), uuid, ..Observation::default() };
    Change::Observe { mac, observation }
}

fn risks(store: &Store, mac: Mac) -> Option<Vec<BootRisk>> {
    store.snapshot().host_by_mac(mac).unwrap().status.boot_risks.clone()
}

fn readiness(store: &Store, mac: Mac) -> Option<(ConditionStatus, String)> {
    let host = store.snapshot().host_by_mac(mac).unwrap();
    let found = conditions::of(&host).into_iter().find(|one| one.r#type == ConditionType::BootReady)?;
    Some((found.status, found.reason))
}

#[tokio::test]
async fn a_change_of_the_image_or_the_config_is_seen_at_its_hosts() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let commit = async |change| store.commit(change).await.unwrap();
    commit(put(config(true))).await;
    commit(put(image_for(true, true))).await;
    commit(put(with_config(assigned("vm", VM)))).await;
    commit(put(host("other", OTHER))).await;
    assert_eq!((risks(&store, VM), risks(&store, OTHER)), (Some(vec![]), None));
    let untouched = store.snapshot().host_by_mac(OTHER).unwrap();

    commit(put(config(false))).await;
    assert_eq!(readiness(&store, VM), Some((ConditionStatus::False, "CompletionNotReported".into())));
    commit(seen(VM, Some(7), None)).await;
    let written = commit(put(image_for(true, false))).await.meta().resource_version;
    assert_eq!(risks(&store, VM), Some(vec![BootRisk::NoLoader, BootRisk::CompletionNotReported]));
    let changed = store.snapshot().host_by_mac(VM).unwrap();
    assert!(changed.metadata.resource_version > written, "the host is a change of its own, after the image's");

    commit(put(image_for(true, true))).await;
    commit(put(config(true))).await;
    assert_eq!(readiness(&store, VM), Some((ConditionStatus::True, "Ready".into())));
    let same = store.snapshot().host_by_mac(VM).unwrap();
    commit(put(config(true))).await;
    assert_eq!(store.snapshot().host_by_mac(VM), Some(same), "a host that does not change has no new version");
    assert_eq!(store.snapshot().host_by_mac(OTHER), Some(untouched));

    // After a restart the host is the same, with its reasons.
    commit(put(config(false))).await;
    let again = open(directory.path());
    assert_eq!(again.snapshot().host_by_mac(VM), store.snapshot().host_by_mac(VM));
    assert_eq!(risks(&again, VM), Some(vec![BootRisk::CompletionNotReported]));
}

#[tokio::test]
async fn what_is_learnt_of_the_machine_is_checked_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let commit = async |change| store.commit(change).await.unwrap();
    commit(put(config(true))).await;
    commit(put(image_for(true, false))).await;
    commit(put(assigned("vm", VM))).await;
    assert_eq!(readiness(&store, VM), Some((ConditionStatus::True, "Ready".into())));
    commit(seen(VM, Some(7), Some(BOARD))).await;
    assert_eq!(readiness(&store, VM), Some((ConditionStatus::False, "NoLoader".into())));

    // The other interface of the same machine, with an image of its own.
    commit(seen(VM, Some(0), None)).await;
    commit(put(host("other", OTHER))).await;
    commit(seen(OTHER, Some(0), Some(BOARD))).await;
    assert_eq!(risks(&store, VM), Some(vec![]));
    commit(put(assigned("other", OTHER))).await;
    assert_eq!(readiness(&store, OTHER), Some((ConditionStatus::Unknown, "SecondInterface".into())));
    // A third one: several boards share the UUID.
    commit(put(assigned("third", Mac([0x52, 0x54, 0, 0, 0, 3])))).await;
    commit(seen(Mac([0x52, 0x54, 0, 0, 0, 3]), None, Some(BOARD))).await;
    commit(seen(OTHER, Some(7), None)).await;
    assert_eq!(risks(&store, OTHER), Some(vec![BootRisk::NoLoader]));
    // Local boot has no image that could fail.
    commit(put(host("other", OTHER))).await;
    assert_eq!((risks(&store, OTHER), readiness(&store, OTHER)), (None, None));
}

#[tokio::test]
async fn a_declared_host_is_checked_with_what_discovery_knows_of_its_machine() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut found = UnknownHostAction::Hold.draft(VM, "default".parse().unwrap(), Some(Architecture(11))).unwrap();
    found.status.phase = Phase::Held;
    let entry = EntryPoint::Interface("eth0".into());
    let limits = FirstSeenLimits::default();
    store.commit(put(config(true))).await.unwrap();
    store.commit(put(image_for(true, false))).await.unwrap();
    let enrol = Change::Enrol { host: Box::new(found), action: UnknownHostAction::Hold, entry, limits };
    store.commit(enrol).await.unwrap();
    let put = Change::Put { object: assigned("vm", VM), expect: Expect::Absent };
    let written = store.commit(put).await.unwrap();
    assert_eq!(written.warnings().len(), 1, "{written:?}");
    assert_eq!(risks(&store, VM), Some(vec![BootRisk::NoLoader]));
}
