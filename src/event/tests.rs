//! Tests of the events and their entries.

use super::*;

/// Returns one event of every kind.
fn every_event() -> Vec<Event> {
    let (name, text) = (|| "live".parse::<Name>().unwrap(), || "text".to_owned());
    let address = IpAddr::from([10, 0, 0, 9]);
    vec![
        Event::FirstSeen { action: "install live cfg".parse().unwrap() },
        Event::SameMachine { host: name(), uuid: Some(uuid::Uuid::from_u128(1)) },
        Event::AddressChanged { from: address, to: [10, 0, 0, 10].into(), evidence: AddressEvidence::Neighbour },
        Event::Assigned { image: BootTarget::Image(name()) },
        Event::LocalBootRequested {},
        Event::Held {},
        Event::Offer { architecture: text(), file: text() },
        Event::TftpStarted { file: text() },
        Event::TftpCompleted { file: text(), bytes: 1, milliseconds: 2, resent: 3 },
        Event::Script { action: ScriptAction::Boot, image: Some(name()), reason: None },
        Event::IscsiLogin { initiator: text(), target: text(), image: Some(name()) },
        Event::IscsiRedirect { initiator: text(), target: text(), image: Some(name()), portal: text() },
        Event::ConfigFetched {
            config: name(),
            address: Some(address),
            channel: Some(DeliveryChannel::SeedUnit),
            file: None,
        },
        Event::BootCompleted {},
        Event::BootCompleteIgnored { phase: Phase::Held },
        Event::LocalDisk { reason: Reason::InstallCompleted },
        Event::Installer {
            source: InstallerSource::Syslog,
            stage: Some(text()),
            level: Some(LogLevel::Err),
            message: text(),
        },
        Event::InstallFailed { message: text() },
        Event::Refused { protocol: Protocol::Http, reason: Reason::NoConfig, message: text() },
        Event::Warning { image: Some(name()), message: text() },
        Event::Power { state: Power::On },
        Event::PowerSwitched { reset: text() },
        Event::LeaseEnded { address },
        Event::BmcFailed { message: text() },
        Event::WaitingForImage { image: name(), message: text() },
        Event::ReadFailed { unit: 1, message: text() },
        Event::Image { image: name(), phase: text(), message: text() },
        Event::DiskNearlyFull { directory: text(), free: 1 },
        Event::DiskSpaceRecovered { directory: text(), free: 1 },
        Event::OtherDhcpServer { interface: text(), address, role: OtherServerRole::BootServer },
        Event::ClockStepped { seconds: -3600 },
        Event::BootFinished {
            outcome: BootOutcome::Installed,
            milliseconds: 48_250,
            stages: [(LedgerStage::Dhcp, 4_250), (LedgerStage::Install, 44_000)].into(),
            advice: vec![text()],
        },
        Event::ManifestInvalid { message: text() },
    ]
}

#[test]
fn an_entry_reads_as_the_timeline_shows_it() {
    let entry = Entry::once(
        Timestamp::from_second(0).unwrap(),
        Some(Mac([2, 0, 0, 0, 0, 1])),
        Some("vm".parse().unwrap()),
        Event::Script { action: ScriptAction::LocalDisk, image: None, reason: Some(Reason::MaxBootsReached) },
    );
    let json = serde_json::to_value(&entry).unwrap();
    let expected = serde_json::json!({
        "time": "1970-01-01T00:00:00Z", "mac": "02:00:00:00:00:01", "host": "vm", "event": "script",
        "detail": {"action": "local_disk", "reason": "max_boots_reached"},
    });
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_value::<Entry>(json).unwrap(), entry);
}

#[test]
fn every_text_of_an_entry_is_printable() {
    for event in every_event() {
        let json = serde_json::to_string(&event).unwrap().replace("\"text\"", "\"te\\u001b\\u202ext\"");
        let hostile: Event = serde_json::from_str(&json).unwrap();
        let entry = Entry::once(Timestamp::UNIX_EPOCH, None, None, hostile);
        assert_eq!(entry.event, event);
    }
}

#[test]
fn every_event_has_its_code_in_json_and_reads_back() {
    for event in every_event() {
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["event"], event.code(), "{event:?}");
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }
}

#[test]
fn boots_with_the_same_stages_are_repetitions() {
    let boot = |outcome, milliseconds, stage| Event::BootFinished {
        outcome,
        milliseconds,
        stages: [(LedgerStage::Dhcp, milliseconds), (stage, 0)].into(),
        advice: Vec::new(),
    };
    let first = boot(BootOutcome::Restarted, 28_000, LedgerStage::Ipv6);
    assert!(boot(BootOutcome::Restarted, 28_100, LedgerStage::Ipv6).is_repeat_of(&first));
    assert!(!boot(BootOutcome::LocalDisk, 28_000, LedgerStage::Ipv6).is_repeat_of(&first));
    assert!(!boot(BootOutcome::Restarted, 28_000, LedgerStage::Program).is_repeat_of(&first));
}

#[test]
fn an_event_names_its_image_and_its_config() {
    let named: Vec<_> = every_event().into_iter().filter(|event| event.image().is_some()).collect();
    let codes: Vec<_> = named.iter().map(Event::code).collect();
    let expected = ["assigned", "script", "iscsi_login", "iscsi_redirect", "warning", "waiting_for_image", "image"];
    assert_eq!(codes, expected);
    let configs: Vec<_> = every_event().into_iter().filter_map(|event| event.config().cloned()).collect();
    assert_eq!(configs, ["live".parse().unwrap()]);
    assert_eq!(Event::Assigned { image: BootTarget::LocalDisk }.image(), None);
}
