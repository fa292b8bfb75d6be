//! The iSCSI adapter over a store in a temporary directory.

use crate::iscsi::serve::SentBytes;
use std::net::SocketAddr;

use serde_json::json;

use super::*;
use crate::boot::{Context, ScriptFormat, Verdict, render};
use crate::fleet::{Kind, Phase};
use crate::gate::fixture::{Fixture, VM};
use crate::iscsi::login::Claim;

const IQN: &str = "iqn.2026-11.org.bootlatch";
const ADDRESS: &str = "10.77.0.50";

fn authorizer(fixture: &Fixture) -> LoginAuthorizer {
    LoginAuthorizer { gate: fixture.gate.clone(), policy: AttachPolicy::Assigned, failures: Arc::default() }
}

fn login(target: Option<&str>, address: &str) -> LoginClaim {
    let peer = SocketAddr::new(address.parse().unwrap(), 1024);
    let claim = Claim {
        initiator: format!("{IQN}:{}", VM.dashed()),
        target: target.map(|name| format!("{IQN}:{name}")),
        isid: [0; 6],
        discovery: target.is_none(),
    };
    LoginClaim { claim, peer, local: SocketAddr::new([10, 77, 0, 2].into(), 3260) }
}

async fn admit(fixture: &Fixture, login: &LoginClaim) -> Admission {
    // As in the server: on a thread that may wait.
    let (authorizer, login) = (authorizer(fixture), login.clone());
    tokio::task::spawn_blocking(move || authorizer.admit(&login, MediaAccess::MayWait)).await.unwrap().unwrap()
}

fn refused(admission: &Admission) -> Option<LoginRefusal> {
    match admission {
        Admission::Refuse(refusal) => Some(*refusal),
        Admission::Admit(_) | Admission::Redirect { .. } => None,
    }
}

#[tokio::test]
async fn the_initiator_name_of_a_boot_script_reads_back() {
    let fixture = Fixture::new("hold");
    fixture.put_vm(json!({"ip": ADDRESS})).await;
    let (state, live) = (fixture.gate.store.load(), "live".parse().unwrap());
    for token in ["", "52540012345600112233445566778899aabbccddeeff"] {
        let context = Context {
            site: &fixture.gate.site.load_full(),
            mac: VM,
            host: None,
            image: state.image(&live).map(Arc::as_ref),
            arguments: &[],
            config_url: "",
            token,
            chap: None,
            medium_url: "",
            choices: &[],
        };
        let script = render(&Verdict::SanBoot(live.clone()), ScriptFormat::Ipxe, &context);
        let mut lines = script.lines();
        let mut claimed = login(Some("live"), ADDRESS);
        claimed.claim.initiator = lines.find_map(|line| line.strip_prefix("set initiator-iqn ")).unwrap().to_owned();
        let expected = (VM, Some(token).filter(|token| !token.is_empty()));
        assert_eq!(parse_initiator(&fixture.gate, &claimed), Some(expected), "{script}");
        assert_eq!(loggable_initiator(&fixture.gate, &claimed), format!("{IQN}:{}", VM.dashed()));
    }
}

#[tokio::test]
async fn a_login_waits_for_a_file_system_only_where_its_image_was_not_checked_a_moment_ago() {
    let fixture = Fixture::new("hold");
    fixture.put_vm(json!({"ip": ADDRESS})).await;
    let authorizer = authorizer(&fixture);
    let now = |target| authorizer.admit(&login(target, ADDRESS), MediaAccess::InMemory);
    assert!(now(Some("live")).is_none(), "the file must be checked");
    let Admission::Admit(waited) = admit(&fixture, &login(Some("live"), ADDRESS)).await else { panic!("admitted") };
    let Some(Admission::Admit(grant)) = now(Some("live")) else { panic!("admitted at once") };
    assert_eq!(grant.units.keys().collect::<Vec<_>>(), waited.units.keys().collect::<Vec<_>>());
    assert_eq!(grant.units[&0].lun, waited.units[&0].lun);
    assert!(now(None).is_none(), "a discovery decides about each image");
    let before = fixture.gate.counters.refused(Protocol::Iscsi, Reason::OtherImageAssigned);
    assert_eq!(now(Some("unknown")).as_ref().and_then(refused), Some(LoginRefusal::Forbidden));
    assert_eq!(fixture.gate.counters.refused(Protocol::Iscsi, Reason::OtherImageAssigned), before + 1);
    fixture.put(Kind::IscsiCdrom, "other", json!({"isoFile": "live.iso"})).await;
    fixture.put_image(json!({"companions": ["other"]})).await;
    assert!(now(Some("live")).is_none(), "companions are opened");
}

#[tokio::test]
async fn a_host_attaches_its_own_image_only() {
    let fixture = Fixture::new("hold");
    fixture.put_vm(json!({"ip": ADDRESS})).await;
    fixture.put(Kind::IscsiCdrom, "other", json!({"isoFile": "live.iso"})).await;
    let Admission::Admit(grant) = admit(&fixture, &login(Some("live"), ADDRESS)).await else { panic!("admitted") };
    assert_eq!(grant.units.keys().collect::<Vec<_>>(), [&0]);
    assert!(grant.units[&0].record_first.is_none(), "the image holds no config");
    for (target, refusal, reason) in [
        ("other", LoginRefusal::Forbidden, Reason::OtherImageAssigned),
        ("unknown", LoginRefusal::Forbidden, Reason::OtherImageAssigned),
    ] {
        let before = fixture.gate.counters.refused(Protocol::Iscsi, reason);
        assert_eq!(refused(&admit(&fixture, &login(Some(target), ADDRESS)).await), Some(refusal), "{target}");
        assert_eq!(fixture.gate.counters.refused(Protocol::Iscsi, reason), before + 1, "{target}");
    }
    let mut foreign = login(None, ADDRESS);
    foreign.claim.target = Some("iqn.2000-01.org.example:live".to_owned());
    assert_eq!(refused(&admit(&fixture, &foreign).await), Some(LoginRefusal::NotFound));
}

#[tokio::test]
async fn a_discovery_lists_the_hosts_own_image_only() {
    let fixture = Fixture::new("hold");
    fixture.put_vm(json!({"ip": ADDRESS})).await;
    fixture.put(Kind::IscsiCdrom, "other", json!({"isoFile": "live.iso"})).await;
    let Admission::Admit(grant) = admit(&fixture, &login(None, ADDRESS)).await else { panic!("admitted") };
    let names: Vec<_> = grant.targets.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(names, [format!("{IQN}:live")]);
    assert!(grant.units.is_empty());
}

#[tokio::test]
async fn an_address_of_another_host_is_refused_and_counted() {
    let fixture = Fixture::new("hold");
    fixture.put_vm(json!({"ip": ADDRESS})).await;
    let refusal = refused(&admit(&fixture, &login(Some("live"), "10.77.0.51")).await);
    assert_eq!(refusal, Some(LoginRefusal::Forbidden));
    assert_eq!(fixture.gate.counters.refused(Protocol::Iscsi, Reason::NotSpecIp), 1);
    assert!(matches!(fixture.timeline(2).await.last().unwrap().event, Event::Refused { .. }));
}

#[tokio::test]
async fn an_image_at_another_portal_is_a_redirect() {
    let fixture = Fixture::new("hold");
    fixture.put_vm(json!({"ip": ADDRESS})).await;
    let portal = json!({"address": "10.77.0.9", "targetIqn": "iqn.2000-01.org.example:live"});
    fixture.put(Kind::IscsiCdrom, "live", json!({"portal": portal})).await;
    match admit(&fixture, &login(Some("live"), ADDRESS)).await {
        Admission::Redirect { portal, permanent } => {
            assert_eq!((portal.as_str(), permanent), ("10.77.0.9:3260", false));
        }
        other => panic!("{other:?}"),
    }
}

/// Declares the host with a cloud-init config on a seed unit, and returns the recorder of that unit.
async fn seed_recorder(fixture: &Fixture) -> RecordFirstRead {
    let config = json!({"format": "cloud-init", "data": {"user-data": "#cloud-config"}});
    fixture.put(Kind::BootConfig, "config", config).await;
    fixture.put_image(json!({"bootConfigs": ["config"], "configDelivery": "seed"})).await;
    fixture.put_host(json!({"ip": ADDRESS, "bootConfigRef": "config"})).await;
    let Admission::Admit(grant) = admit(fixture, &login(Some("live"), ADDRESS)).await else { panic!("admitted") };
    assert!(grant.units[&0].record_first.is_none());
    grant.units[&1].record_first.clone().expect("the seed holds the config")
}

#[tokio::test]
async fn a_seeds_first_read_is_durable_before_its_data() {
    let fixture = Fixture::new("hold");
    let record = seed_recorder(&fixture).await;
    assert_ne!(fixture.vm().status.phase, Phase::Installing);
    assert_eq!(record().await, Ok(()));
    assert_eq!(fixture.vm().status.phase, Phase::Installing, "the record is stored when the recorder returns");
}

#[tokio::test]
async fn without_the_store_a_seed_gives_no_data() {
    let fixture = Fixture::new("hold");
    let record = seed_recorder(&fixture).await;
    fixture.break_store();
    assert_eq!(record().await, Err(Reason::StoreUnavailable.sentence().to_owned()));
    assert_ne!(fixture.vm().status.phase, Phase::Installing);
}

#[tokio::test]
async fn events_of_connections_are_counted_and_recorded() {
    let fixture = Fixture::new("hold");
    fixture.put_vm(json!({"ip": ADDRESS})).await;
    let (gate, login) = (&fixture.gate, login(Some("live"), ADDRESS));
    let peer = login.peer;
    record_report(gate, ConnectionReport::Attached { login: login.clone(), sent: SentBytes::default() });
    assert_eq!(fixture.gate.counters.answered(Protocol::Iscsi), 1);
    record_report(gate, ConnectionReport::Full { peer, excess: Excess::Total });
    assert_eq!(fixture.gate.counters.dropped(Protocol::Iscsi, DropReason::Overload), 1);
    let end = Some(End::Login(LoginError::NoChap));
    record_report(gate, ConnectionReport::Refused { peer, login: Some(login.clone()), end });
    assert_eq!(fixture.gate.counters.refused(Protocol::Iscsi, Reason::ChapFailed), 1);
    record_report(gate, ConnectionReport::ReadFailed { peer, login: Some(login), lun: 0, error: "gone".to_owned() });
    let events: Vec<_> = fixture.timeline(4).await.into_iter().map(|entry| entry.event).collect();
    assert!(matches!(&events[1], Event::IscsiLogin { target, .. } if *target == format!("{IQN}:live")), "{events:?}");
    assert!(matches!(&events[3], Event::ReadFailed { unit: 0, .. }), "{events:?}");
}
