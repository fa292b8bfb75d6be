//! The gate over a state in memory and a neighbour table of the test.

use super::*;
use crate::boot::diagnosis::Step;
use crate::boot::identity::{AddressEvidence, PresentAddress};
use crate::boot::site::tests::site;
use crate::boot::{BootProtocol, ConfigProof, Firmware, ScriptAction};
use crate::event::Entry;
use crate::fleet::{Architecture, BootConfigSpec, Format, HostSpec, HostStatus, Lease, LeaseState, Meta, Phase};

const VM: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
const OTHER: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);
const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 50));
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 60));

/// Returns a gate over an empty state in memory, and the URI of the state.
pub(crate) fn gate(site: Site) -> (Arc<Gate>, String) {
    let (store, uri) = Store::in_memory(site.install.clone());
    let media = ImageLibrary::new("/nonexistent".into());
    let gate = Gate::new(Arc::new(site), store, media, BootTokens::with_key([7; 32]));
    let gate = Gate { neighbours: Neighbours::fake(), ..gate };
    (Arc::new(gate), uri)
}

async fn put(gate: &Gate, object: Object) {
    gate.store.commit(Change::Put { object, expect: Expect::Any }).await.unwrap();
}

async fn put_json(gate: &Gate, kind: &str, body: serde_json::Value) {
    let object = match kind {
        "image" => Object::Image(Arc::new(serde_json::from_value(body).unwrap())),
        _ => Object::BootConfig(Arc::new(serde_json::from_value(body).unwrap())),
    };
    put(gate, object).await;
}

/// Returns a host that is named by the last octet of its MAC address.
fn host(mac: Mac) -> Host {
    let metadata = Meta::named(mac.dashed().parse().unwrap(), Some("default".parse().unwrap()));
    Host { metadata, spec: HostSpec::for_mac(mac), status: HostStatus::default() }
}

/// Returns a gate with the image `live`, the config `c` and the host `VM` that is assigned to both.
async fn assigned(site: Site) -> (Arc<Gate>, String) {
    let (gate, uri) = gate(site);
    put_json(&gate, "config", serde_json::json!({"metadata": {"name": "c"}, "spec": {"format": "script", "data": {}}}))
        .await;
    let spec = serde_json::json!({"isoFile": "live.iso", "bootConfigs": ["c"]});
    put_json(&gate, "image", serde_json::json!({"metadata": {"name": "live"}, "spec": spec})).await;
    let mut vm = host(VM);
    vm.spec.image = "live".parse().unwrap();
    vm.spec.boot_config_ref = "c".parse().ok();
    put(&gate, Object::Host(Arc::new(vm))).await;
    (gate, uri)
}

fn facts(mac: Mac, stage: Stage) -> Facts {
    let firmware = Some(Firmware { architecture: Architecture(0), loading: BootProtocol::Pxe });
    Facts { mac, firmware, stage, address: Some(ADDRESS), uuid: None }
}

fn neighbour(gate: &Gate, address: IpAddr, mac: Mac) {
    gate.neighbours.table().entries.lock().unwrap().insert(address, mac);
}

fn config_c() -> BootConfig {
    let spec = BootConfigSpec::of_files(Format::Script, [("script".to_owned(), b"true\n".to_vec())]);
    BootConfig { metadata: Meta::named("c".parse().unwrap(), None), spec, status: Default::default() }
}

fn lookups(gate: &Gate) -> Vec<IpAddr> {
    std::mem::take(&mut gate.neighbours.table().lookups.lock().unwrap())
}

fn vm(gate: &Gate) -> Arc<Host> {
    gate.store.load().host_by_mac(VM).unwrap()
}

/// Waits until the timeline of a machine has an entry that matches; entries without a change are written a little
/// later.
async fn wait_for(gate: &Gate, mac: Option<Mac>, matches: impl Fn(&Event) -> bool) -> Entry {
    for _ in 0..500 {
        // A change makes the writer write what waits with it.
        let observation = Observation::default();
        let _ = gate.store.commit(Change::Observe { mac: VM, observation }).await;
        let entries = gate.store.timeline(mac, 100).unwrap();
        if let Some(entry) = entries.into_iter().find(|entry| matches(&entry.event)) {
            return entry;
        }
    }
    panic!("no such entry");
}

#[tokio::test]
async fn one_script_asks_the_neighbour_table_once() {
    let (gate, _) = assigned(site("hold")).await;
    neighbour(&gate, ADDRESS, VM);
    let decided = gate.script(&facts(VM, Stage::Ipxe), None, Protocol::Http, None).await;
    assert_eq!(decided.decision.verdict, Verdict::SanBoot("live".parse().unwrap()));
    assert_eq!(lookups(&gate), [ADDRESS]);
    let choice = "live".parse().ok();
    gate.script(&facts(VM, Stage::Ipxe), choice.as_ref(), Protocol::Http, None).await;
    assert_eq!(lookups(&gate), [ADDRESS]);
    neighbour(&gate, ADDRESS, OTHER);
    let decided = gate.script(&facts(Mac([2; 6]), Stage::Ipxe), None, Protocol::Http, None).await;
    assert_eq!(decided.decision.verdict, Verdict::Ignore(Reason::AddressOfOtherMachine));
    assert_eq!(lookups(&gate), [ADDRESS], "also for a refusal");
}

#[tokio::test]
async fn a_config_request_and_a_login_ask_the_neighbour_table_once() {
    let (gate, _) = assigned(site("hold")).await;
    neighbour(&gate, ADDRESS, VM);
    let caller = gate.authenticate(Some(ADDRESS), None, ConfigProof::Address).unwrap();
    assert!(caller.is_tied() && caller.facts.mac == VM);
    gate.record_config_fetch(&caller, &config_c(), None).await.unwrap();
    assert_eq!(lookups(&gate), [ADDRESS]);
    assert_eq!(vm(&gate).status.address, Some(ADDRESS));
    let token = gate.tokens.of(&vm(&gate));
    gate.attach(&facts(VM, Stage::IscsiLogin), Some(&token), &"live".parse().unwrap()).unwrap();
    assert_eq!(lookups(&gate), [ADDRESS]);
}

#[tokio::test]
async fn the_last_address_of_the_claimed_machine_is_looked_up_where_it_matters() {
    let (gate, _) = assigned(site("hold")).await;
    let observation = Observation { address: Some((ELSEWHERE, AddressEvidence::Neighbour)), ..Observation::default() };
    gate.store.commit(Change::Observe { mac: VM, observation }).await.unwrap();
    neighbour(&gate, ELSEWHERE, VM);
    assert_eq!(gate.verify_address(VM, Some(ADDRESS)), Err(Reason::SeenAtOtherAddress));
    assert_eq!(lookups(&gate), [ADDRESS, ELSEWHERE]);
    neighbour(&gate, ADDRESS, VM);
    assert_eq!(gate.verify_address(VM, Some(ADDRESS)), Ok(true));
    assert_eq!(lookups(&gate), [ADDRESS]);
}

#[tokio::test]
async fn the_evidence_is_what_the_state_and_the_tables_hold() {
    let mut site = site("hold");
    site.config_access.trusted_subnets = vec!["10.77.0.48/29".parse().unwrap()];
    let (gate, _) = assigned(site).await;
    let mut other = host(OTHER);
    other.spec.ip = Some(ADDRESS);
    put(&gate, Object::Host(Arc::new(other))).await;
    let IpAddr::V4(address) = ADDRESS else { unreachable!() };
    let until = crate::store::now() + std::time::Duration::from_secs(60);
    let lease = Lease { address, mac: VM, client: None, hostname: None, held: LeaseState::Bound, until };
    let (done, written) = tokio::sync::oneshot::channel();
    gate.store.record(vec![lease], move |outcome| drop(done.send(outcome))).unwrap();
    written.await.unwrap().unwrap();
    neighbour(&gate, ADDRESS, OTHER);
    let evidence = gate.gather(Some(ADDRESS), Some(VM), Some("no token"));
    assert_eq!(evidence.neighbour, Some(OTHER));
    assert_eq!(evidence.lease.map(|lease| (lease.mac, lease.has_other_spec_ip)), Some((VM, false)));
    assert_eq!(evidence.spec_ip_owner, Some(OTHER));
    assert!(evidence.is_trusted_subnet);
    let mapped: IpAddr = "::ffff:10.77.0.50".parse().unwrap();
    assert_eq!(gate.gather(Some(mapped), Some(VM), Some("no token")), evidence, "an IPv4-mapped address is the same");
    let far = gate.gather(Some(ELSEWHERE), Some(OTHER), None);
    assert!(far.claim.has_other_spec_ip && !far.is_trusted_subnet && !far.has_owner());
}

#[tokio::test]
async fn a_token_is_valid_for_its_install_and_its_time() {
    use crate::boot::identity::TokenEvidence;
    let (gate, _) = assigned(site("hold")).await;
    let token = |gate: &Gate| gate.tokens.of(&vm(gate));
    let classify = |token: &str| gate.gather(None, None, Some(token)).token;
    assert_eq!(classify(&token(&gate)), TokenEvidence::Expired(VM), "no script was served");
    neighbour(&gate, ADDRESS, VM);
    gate.script(&facts(VM, Stage::Ipxe), None, Protocol::Http, None).await;
    let good = token(&gate);
    assert_eq!(classify(&good), TokenEvidence::Valid(VM));
    let forged = format!("{}{}", &good[..12], "0".repeat(good.len() - 12));
    assert_eq!(classify(&forged), TokenEvidence::Invalid(Some(VM)));
    assert_eq!(classify("nonsense"), TokenEvidence::Invalid(None));
    let change =
        Change::Advance { mac: VM, transition: Transition::Hold, observation: Observation::default(), event: None };
    gate.store.commit(change).await.unwrap();
    assert_eq!(classify(&good), TokenEvidence::Invalid(Some(VM)), "a held host has no token");
}

#[tokio::test]
async fn a_script_is_recorded_before_it_is_served() {
    let (gate, _) = assigned(site("hold")).await;
    neighbour(&gate, ADDRESS, VM);
    let decided = gate.script(&facts(VM, Stage::Ipxe), None, Protocol::Http, None).await;
    let status = &vm(&gate).status;
    assert_eq!((status.phase, status.install.as_ref().unwrap().boot_count), (Phase::Offered, 1));
    assert_eq!((status.address, decided.tied), (Some(ADDRESS), true));
    let script = gate.render(&facts(VM, Stage::Ipxe), &decided, crate::boot::ScriptFormat::Ipxe, None);
    assert!(script.contains("sanboot") && script.contains(&gate.tokens.of(&vm(&gate))), "{script}");
    let event = Event::Script { action: ScriptAction::Boot, image: "live".parse().ok(), reason: None };
    wait_for(&gate, Some(VM), |known| *known == event).await;
}

#[tokio::test]
async fn no_script_and_no_config_leaves_while_the_state_cannot_be_written() {
    let (gate, uri) = assigned(site("hold")).await;
    neighbour(&gate, ADDRESS, VM);
    let caller = gate.authenticate(Some(ADDRESS), None, ConfigProof::Address).unwrap();
    let before = vm(&gate);
    let second = rusqlite::Connection::open(&uri).unwrap();
    second.execute_batch("ALTER TABLE objects RENAME TO elsewhere").unwrap();
    let decided = gate.script(&facts(VM, Stage::Ipxe), None, Protocol::Http, None).await;
    assert_eq!(decided.decision.verdict, Verdict::Ignore(Reason::StoreUnavailable));
    let script = gate.render(&facts(VM, Stage::Ipxe), &decided, crate::boot::ScriptFormat::Ipxe, None);
    assert!(!script.contains("live") && !script.contains(&gate.tokens.of(&before)), "{script}");
    assert_eq!(gate.counters.refused(Protocol::Http, Reason::StoreUnavailable), 1);
    let config = "c".parse().unwrap();
    assert_eq!(gate.record_config_fetch(&caller, &config_c(), None).await, Err(Reason::StoreUnavailable));
    let channel = crate::event::DeliveryChannel::Embedded;
    assert_eq!(gate.record_config_delivery(&caller.facts, &config, channel).await, Err(Reason::StoreUnavailable));
    // The machine has attached its image before.
    gate.note_login(&caller, &before);
    assert_eq!(gate.complete(&caller).await.err(), Some(Reason::StoreUnavailable));
    assert!(matches!(gate.insert(VM).await, Err(MediaError::Medium(_) | MediaError::Reason(Reason::StoreUnavailable))));
    let unknown = Facts { address: None, ..facts(OTHER, Stage::Rom) };
    let decided = gate.decide_and_enrol(&unknown).await;
    assert_eq!(decided.decision.verdict, Verdict::Ignore(Reason::StoreUnavailable));
    assert_eq!(vm(&gate), before, "nothing was recorded");
    second.execute_batch("ALTER TABLE elsewhere RENAME TO objects").unwrap();
    let decided = gate.script(&facts(VM, Stage::Ipxe), None, Protocol::Http, None).await;
    assert_eq!(decided.decision.verdict, Verdict::SanBoot("live".parse().unwrap()));
}

#[tokio::test]
async fn a_program_under_a_machines_path_is_refused_as_its_script_is() {
    let (gate, _) = assigned(site("ignore")).await;
    assert_eq!(gate.authorize_program(&facts(VM, Stage::Rom), Protocol::Http), Ok(()));
    let change =
        Change::Advance { mac: VM, transition: Transition::Hold, observation: Observation::default(), event: None };
    gate.store.commit(change).await.unwrap();
    for protocol in [Protocol::Http, Protocol::Tftp] {
        assert_eq!(gate.authorize_program(&facts(VM, Stage::Rom), protocol), Err(Reason::Held));
        assert_eq!(gate.counters.refused(protocol, Reason::Held), 1);
    }
    let refused = |event: &Event| matches!(event, Event::Refused { reason: Reason::Held, .. });
    wait_for(&gate, Some(VM), refused).await;
    let unknown = gate.authorize_program(&facts(OTHER, Stage::Rom), Protocol::Http);
    assert_eq!(unknown, Err(Reason::UnknownHostIgnored));
}

#[tokio::test]
async fn an_unknown_machine_is_enrolled_before_it_is_answered() {
    let (gate, _) = assigned(site("install live c")).await;
    neighbour(&gate, ADDRESS, OTHER);
    let decided = gate.script(&facts(OTHER, Stage::Ipxe), None, Protocol::Tftp, None).await;
    assert_eq!(decided.decision.verdict, Verdict::SanBoot("live".parse().unwrap()));
    let enrolled = gate.store.load().host_by_mac(OTHER).unwrap();
    assert_eq!(enrolled.status.phase, Phase::Offered);
    let entries = gate.store.timeline(Some(OTHER), 10).unwrap();
    assert!(matches!(entries[0].event, Event::FirstSeen { .. }), "{entries:?}");
}

#[tokio::test]
async fn a_rule_that_cannot_be_applied_refuses_the_machine() {
    let (gate, _) = assigned(site("install absent")).await;
    let decided = gate.decide_and_enrol(&facts(OTHER, Stage::Rom)).await;
    assert_eq!(decided.decision.verdict, Verdict::Ignore(Reason::RuleNotApplicable));
    assert!(gate.store.load().host_by_mac(OTHER).is_none());
    let names_the_image = |event: &Event| matches!(event, Event::Warning { message, .. } if message.contains("absent"));
    wait_for(&gate, Some(OTHER), names_the_image).await;
}

#[tokio::test]
async fn an_untied_client_gets_the_script_without_what_belongs_to_the_machine() {
    let (gate, _) = assigned(site("hold")).await;
    let decided = gate.script(&facts(VM, Stage::Ipxe), None, Protocol::Http, None).await;
    assert!(!decided.tied);
    assert_eq!(vm(&gate).status.address, None, "a claim makes no address the machine's own");
    let script = gate.render(&facts(VM, Stage::Ipxe), &decided, crate::boot::ScriptFormat::Ipxe, None);
    assert!(script.contains("sanboot") && !script.contains(&gate.tokens.of(&vm(&gate))), "{script}");
    wait_for(&gate, Some(VM), |event| matches!(event, Event::Warning { .. })).await;
}

#[tokio::test]
async fn an_install_that_needs_a_token_is_refused_to_an_untied_client() {
    let mut site = site("hold");
    site.config_access.require = ConfigProof::Token;
    let (gate, _) = assigned(site).await;
    let decided = gate.script(&facts(VM, Stage::Ipxe), None, Protocol::Http, None).await;
    assert_eq!(decided.decision.verdict, Verdict::Ignore(Reason::AddressUnverified));
    assert_eq!(vm(&gate).status.phase, Phase::Assigned);
    assert_eq!(gate.preview(&facts(VM, Stage::Ipxe)).decision.verdict, decided.decision.verdict);
}

#[tokio::test]
async fn a_menu_choice_is_assigned_to_a_machine_with_a_menu_only() {
    let (gate, _) = assigned(site("hold")).await;
    let live: Name = "live".parse().unwrap();
    let client = |mac, evidence| IdentifiedClient { facts: facts(mac, Stage::Ipxe), evidence };
    let tied = Some(AddressEvidence::Neighbour);
    assert_eq!(gate.choose(&client(VM, tied), &live).await, Err(Reason::NotAssigned));
    let mut other = host(OTHER);
    other.spec.image = BootTarget::Menu;
    put(&gate, Object::Host(Arc::new(other))).await;
    assert_eq!(gate.choose(&client(OTHER, None), &live).await, Err(Reason::AddressUnverified));
    assert_eq!(gate.choose(&client(OTHER, tied), &"absent".parse().unwrap()).await, Err(Reason::OtherImageAssigned));
    assert_eq!(gate.choose(&client(OTHER, tied), &live).await, Ok(()));
    assert_eq!(gate.store.load().host_by_mac(OTHER).unwrap().spec.image, BootTarget::Image(live));
}

#[tokio::test]
async fn a_config_delivery_is_recorded_once_for_all_reads_of_an_install() {
    let (gate, _) = assigned(site("hold")).await;
    neighbour(&gate, ADDRESS, VM);
    gate.script(&facts(VM, Stage::Ipxe), None, Protocol::Http, None).await;
    let (config, channel) = ("c".parse().unwrap(), crate::event::DeliveryChannel::SeedUnit);
    for _ in 0..100 {
        gate.record_config_delivery(&facts(VM, Stage::IscsiLogin), &config, channel).await.unwrap();
    }
    assert_eq!(vm(&gate).status.phase, Phase::Installing);
    let fetched = |event: &Event| matches!(event, Event::ConfigFetched { .. });
    assert_eq!(wait_for(&gate, Some(VM), fetched).await.count, 1);
    let unknown = gate.record_config_delivery(&facts(OTHER, Stage::IscsiLogin), &config, channel).await;
    assert_eq!(unknown, Err(Reason::UnknownHost));
}

#[tokio::test]
async fn an_image_is_attached_by_the_host_that_it_is_assigned_to() {
    let (gate, _) = assigned(site("hold")).await;
    let attach = |mac, image: &str| {
        gate.attach(&facts(mac, Stage::IscsiLogin), None, &image.parse().unwrap()).map(|attached| attached.shown)
    };
    assert_eq!(attach(VM, "other"), Err(Reason::OtherImageAssigned));
    assert_eq!(attach(OTHER, "live"), Err(Reason::UnknownHost));
    assert_eq!(attach(VM, "live"), Ok(ConfigVisibility::WithoutConfig), "a name is a claim");
    neighbour(&gate, ADDRESS, VM);
    assert_eq!(attach(VM, "live"), Ok(ConfigVisibility::Whole));
    neighbour(&gate, ADDRESS, OTHER);
    assert_eq!(attach(VM, "live"), Err(Reason::AddressOfOtherMachine));
}

#[test]
fn an_unexpected_store_error_is_not_an_outage() {
    let key = || Object::Host(Arc::new(host(VM))).key();
    let rows = [
        (StoreError::Unavailable("full".into()), Reason::StoreUnavailable),
        (StoreError::NoSuchMac(VM), Reason::UnknownHost),
        (StoreError::NotFound(key()), Reason::UnknownHost),
        (StoreError::AlreadyExists(key()), Reason::InternalError),
        (StoreError::Conflict { key: key(), wanted: 1, now: 2 }, Reason::InternalError),
        (StoreError::Unreadable("damaged".into()), Reason::InternalError),
    ];
    for (error, reason) in rows {
        assert_eq!(refusal_reason(&error, VM), reason, "{error}");
    }
}

#[tokio::test]
async fn a_lease_that_the_machine_itself_contradicts_ties_nothing() {
    let mut site = site("hold");
    site.nets.push("10.89.0.0/24".parse().unwrap());
    let (gate, _) = assigned(site).await;
    let far = std::net::Ipv4Addr::new(10, 89, 0, 105);
    let until = crate::store::now() + std::time::Duration::from_secs(60);
    let lease = Lease { address: far, mac: VM, client: None, hostname: None, held: LeaseState::Bound, until };
    let (done, written) = tokio::sync::oneshot::channel();
    gate.store.record(vec![lease], move |outcome| drop(done.send(outcome))).unwrap();
    written.await.unwrap().unwrap();
    assert_eq!(gate.owner_of(far.into()), Ok(Some(VM)), "nothing contradicts it yet");
    let observation = Observation { address: Some((ADDRESS, AddressEvidence::Neighbour)), ..Observation::default() };
    gate.store.commit(Change::Observe { mac: VM, observation }).await.unwrap();
    for (neighbour_there, expected) in
        [(Some(VM), Err(Reason::SeenAtOtherAddress)), (Some(OTHER), Ok(Some(VM))), (None, Ok(Some(VM)))]
    {
        let mut entries = gate.neighbours.table().entries.lock().unwrap();
        entries.clear();
        entries.extend(neighbour_there.map(|mac| (ADDRESS, mac)));
        drop(entries);
        assert_eq!(gate.owner_of(far.into()), expected, "{neighbour_there:?}");
    }
    assert_eq!(
        gate.present_address(VM, far, true),
        PresentAddress::Other { is_tied: false, is_same_network: false, is_installing: false }
    );
    neighbour(&gate, ADDRESS, VM);
    let near = std::net::Ipv4Addr::new(10, 77, 0, 60);
    assert_eq!(
        gate.present_address(VM, near, false),
        PresentAddress::Other { is_tied: true, is_same_network: true, is_installing: false }
    );
    assert_eq!(gate.present_address(OTHER, near, false), PresentAddress::Unknown);
}

#[tokio::test]
async fn an_offer_counts_when_it_is_acknowledged_and_nothing_contradicts_it() {
    let (gate, _) = assigned(site("hold")).await;
    neighbour(&gate, ADDRESS, VM);
    let (decided, pending) = gate.offer_script(&facts(VM, Stage::Ipxe), Protocol::Tftp, None).await;
    let pending = pending.unwrap();
    let token = gate.tokens.of(decided.host.as_deref().unwrap());
    assert_eq!(vm(&gate).status.phase, Phase::Assigned);
    neighbour(&gate, ADDRESS, OTHER);
    assert_eq!(gate.acknowledge(&pending).await, Err(Reason::AddressOfOtherMachine));
    assert_eq!(vm(&gate).status.phase, Phase::Assigned);
    neighbour(&gate, ADDRESS, VM);
    assert_eq!(gate.acknowledge(&pending).await, Ok(()));
    assert_eq!(vm(&gate).status.phase, Phase::Offered);
    assert!(gate.tokens.holds(&token, &vm(&gate)), "the token in the script is that of the install");
    gate.neighbours.table().entries.lock().unwrap().clear();
    let elsewhere = Facts { address: Some(ELSEWHERE), ..facts(VM, Stage::Ipxe) };
    let (decided, pending) = gate.offer_script(&elsewhere, Protocol::Tftp, None).await;
    assert!(!decided.tied && pending.is_none(), "a claim records nothing");
}

#[tokio::test]
async fn a_config_is_given_away_within_its_window() {
    let (gate, _) = assigned(site("hold")).await;
    let ask =
        |gate: &Gate| gate.config(&facts(VM, Stage::Installer)).map(|(_, config)| config.metadata.name.to_string());
    assert_eq!(ask(&gate), Ok("c".to_owned()), "no script was served");
    let long_ago = crate::store::now() - std::time::Duration::from_secs(7200);
    let transition = Transition::OfferAcknowledged { since: long_ago };
    let advance =
        |transition| Change::Advance { mac: VM, transition, observation: Observation::default(), event: None };
    gate.store.commit(advance(transition)).await.unwrap();
    assert_eq!(ask(&gate), Err(Reason::ConfigWindowClosed));
    gate.store.commit(advance(Transition::Offer)).await.unwrap();
    assert_eq!(ask(&gate), Ok("c".to_owned()));
}

/// Logs in as the initiator of `VM` that attaches `live`.
fn log_in(gate: &Gate) -> Result<(), Reason> {
    gate.attach(&facts(VM, Stage::IscsiLogin), None, &"live".parse().unwrap()).map(drop)
}

/// Boots `VM` into its installer, and reports the install as complete.
async fn install(gate: &Arc<Gate>) {
    neighbour(gate, ADDRESS, VM);
    gate.script(&facts(VM, Stage::Ipxe), None, Protocol::Http, None).await;
    log_in(gate).unwrap();
    let caller = gate.authenticate(Some(ADDRESS), None, ConfigProof::Address).unwrap();
    gate.complete(&caller).await.unwrap();
}

#[tokio::test]
async fn an_installer_that_reported_completion_may_log_in_again_until_its_machine_boots() {
    type Boot = (&'static str, fn(&Gate));
    let boots: [Boot; 3] = [
        ("DHCP of its firmware", |gate| gate.note_boot(&facts(VM, Stage::Rom))),
        ("DHCP of its iPXE", |gate| gate.note_boot(&facts(VM, Stage::Ipxe))),
        ("its boot program", |gate| gate.authorize_program(&facts(VM, Stage::Rom), Protocol::Tftp).unwrap()),
    ];
    for (name, boot) in boots {
        let (gate, _) = assigned(site("hold")).await;
        install(&gate).await;
        assert_eq!(vm(&gate).status.phase, Phase::Installed);
        assert_eq!((log_in(&gate), log_in(&gate)), (Ok(()), Ok(())), "a connection may break twice");
        assert_eq!(
            gate.preview(&facts(VM, Stage::Ipxe)).decision.verdict,
            Verdict::LocalDisk(Reason::InstallCompleted)
        );
        assert_eq!(log_in(&gate), Ok(()), "who looks at the script boots nothing");
        boot(&gate);
        assert_eq!(log_in(&gate), Err(Reason::InstallCompleted), "{name}");
    }
    let (gate, _) = assigned(site("hold")).await;
    install(&gate).await;
    let script = gate.script(&facts(VM, Stage::Ipxe), None, Protocol::Http, None).await;
    assert_eq!(script.decision.verdict, Verdict::LocalDisk(Reason::InstallCompleted), "no boot leads to the image");
    assert_eq!(log_in(&gate), Err(Reason::InstallCompleted));
    let caller = gate.authenticate(Some(ADDRESS), None, ConfigProof::Address).unwrap();
    gate.complete(&caller).await.unwrap();
    assert_eq!(log_in(&gate), Err(Reason::InstallCompleted), "the installed system reports too");
}

#[tokio::test]
async fn a_report_ends_no_install_that_only_others_have_asked_for() {
    let caller_at = |gate: &Gate| gate.authenticate(Some(ADDRESS), None, ConfigProof::Address).unwrap();
    let elsewhere = |stage| Facts { address: Some(ELSEWHERE), ..facts(VM, stage) };
    let live = "live".parse().unwrap();
    let (gate, _) = assigned(site("hold")).await;
    // Somebody whom nothing ties to the machine takes its script, and attaches its image.
    let decided = gate.script(&elsewhere(Stage::Ipxe), None, Protocol::Http, None).await;
    assert!(!decided.tied && decided.decision.verdict == Verdict::SanBoot("live".parse().unwrap()));
    gate.note_untied_script(&elsewhere(Stage::Ipxe), &decided);
    gate.trace_script(&elsewhere(Stage::Ipxe), &decided, crate::boot::ScriptFormat::Ipxe);
    assert_eq!(gate.untied_request(&vm(&gate)), Some(ELSEWHERE), "the diagnosis names it");
    gate.attach(&elsewhere(Stage::IscsiLogin), None, &live).unwrap();
    gate.trace(VM, Step::Login { image: "live".parse().unwrap() });
    neighbour(&gate, ADDRESS, VM);
    gate.complete(&caller_at(&gate)).await.unwrap();
    assert_eq!(vm(&gate).status.phase, Phase::Assigned, "the report is of the system that is to be replaced");
    // The machine itself attaches its image.
    gate.attach(&facts(VM, Stage::IscsiLogin), None, &live).unwrap();
    gate.complete(&caller_at(&gate)).await.unwrap();
    assert_eq!(vm(&gate).status.phase, Phase::Installed);
}

#[tokio::test]
async fn another_end_of_an_install_is_no_completion() {
    let (gate, _) = assigned(site("hold")).await;
    install(&gate).await;
    for (transition, reason) in [(Transition::Hold, Reason::Held), (Transition::Release, Reason::NotAssigned)] {
        let observation = Observation::default();
        gate.store.commit(Change::Advance { mac: VM, transition, observation, event: None }).await.unwrap();
        assert_eq!(log_in(&gate), Err(reason));
    }
}

#[tokio::test]
async fn a_confidential_config_is_not_attached_again() {
    let (gate, _) = assigned(site("hold")).await;
    let spec = serde_json::json!({"format": "script", "data": {}, "confidential": true});
    put_json(&gate, "config", serde_json::json!({"metadata": {"name": "c"}, "spec": spec})).await;
    install(&gate).await;
    assert_eq!(log_in(&gate), Err(Reason::InstallCompleted));
}

#[tokio::test]
async fn an_install_that_ends_with_its_script_may_attach_its_image() {
    let mut site = site("hold");
    site.install.completion = crate::fleet::lifecycle::Completion::ScriptFetched;
    let (gate, _) = assigned(site).await;
    neighbour(&gate, ADDRESS, VM);
    let booted = gate.script(&facts(VM, Stage::Ipxe), None, Protocol::Http, None).await;
    assert_eq!(booted.decision.verdict, Verdict::SanBoot("live".parse().unwrap()));
    assert_eq!((vm(&gate).status.phase, log_in(&gate)), (Phase::Installed, Ok(())));
    gate.script(&facts(VM, Stage::Ipxe), None, Protocol::Http, None).await;
    assert_eq!(log_in(&gate), Err(Reason::InstallCompleted), "the next boot is from the disk");
}

#[tokio::test]
async fn a_refused_login_is_the_machines_own_only_from_an_address_that_is_tied_to_it() {
    let (gate, _) = assigned(site("hold")).await;
    neighbour(&gate, ADDRESS, VM);
    for (from, expected) in [(ADDRESS, true), (ELSEWHERE, false)] {
        gate.trace_refused_login(VM, "iqn:live", Some(Reason::Held), from, false);
        gate.refuse(&Facts { address: Some(from), ..facts(VM, Stage::IscsiLogin) }, Protocol::Iscsi, Reason::Held);
        let steps = gate.traces.look_up(VM).unwrap().steps;
        let ties = steps.iter().rev().take(2).map(|evidence| match evidence.step {
            Step::Refused { is_tied, .. } | Step::LoginRefused { is_tied, .. } => Some(is_tied),
            _ => None,
        });
        assert_eq!(ties.collect::<Vec<_>>(), [Some(expected); 2], "{from}");
    }
}
