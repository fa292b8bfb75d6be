//! Hosts that were only seen, and their entries in the timeline.

use super::*;

const UUID: &str = "04030201-0605-0807-090a-0b0c0d0e0f10";

fn events(store: &Store, mac: Option<Mac>) -> Vec<&'static str> {
    store.timeline(mac, 9).unwrap().iter().map(|entry| entry.event.code()).collect()
}

/// Returns the number of rows of the timeline, and the largest row of an object.
fn rows(directory: &Path) -> (u32, u32) {
    let database = rusqlite::Connection::open(directory.join(DATABASE)).unwrap();
    let count = |sql| database.query_row(sql, [], |row| row.get(0)).unwrap();
    (count("SELECT count(*) FROM timeline"), count("SELECT max(length(body)) FROM objects"))
}

#[tokio::test]
async fn the_entry_of_an_enrolment_is_written_when_its_host_stands_for_it_no_longer() {
    let mac = |last| Mac([2, 0, 0, 0, 0, last]);
    for is_declared in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let (store, writer) = Store::open(directory.path(), policy(), OpenOptions::default()).unwrap();
        enrol(&store, mac(1), UUID, "hold").await;
        let observation = Observation { address: None, firmware: None, uuid: UUID.parse().ok() };
        let event = Some(Event::LocalBootRequested {});
        store.commit(Change::Observe { mac: mac(1), observation }).await.unwrap();
        let (count, size) = rows(directory.path());
        assert!((count, size <= 200) == (0, true), "{count} rows, {size} octets");
        store.record_event(Some(mac(1)), script());
        enrol(&store, mac(2), UUID, "hold").await;
        assert_eq!(events(&store, Some(mac(1))), ["first_seen", "script"]);
        match is_declared {
            true => {
                let change = Change::Advance { mac: mac(1), transition: Transition::Release, observation, event };
                store.commit(change).await.unwrap();
            }
            false => {
                let key = store.load().host_by_mac(mac(1)).map(|host| Object::Host(host).key()).unwrap();
                store.commit(Change::Delete { key, version: None }).await.unwrap();
            }
        }
        drop(store);
        writer.join().unwrap();
        let store = open(directory.path());
        let expected = ["first_seen", "script", "local_boot_requested", "local_boot_requested"];
        let expected = if is_declared { &expected[..] } else { &expected[..2] };
        assert_eq!(events(&store, Some(mac(1))), expected);
        assert_eq!(events(&store, None)[..2], ["first_seen", "script"], "in the order in which they happened");
        assert_eq!(events(&store, None).iter().filter(|code| **code == "first_seen").count(), 2);
        enrol(&store, mac(3), UUID, "hold").await;
        assert_eq!(store.timeline(None, 1).unwrap()[0].mac, Some(mac(3)), "a line is taken once");
    }
}

#[tokio::test]
async fn a_host_that_was_only_seen_survives_a_restart_in_either_format() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let seen = enrol(&store, VM, UUID, "hold").await;
    assert_eq!(open(directory.path()).load().host_by_mac(VM), Some(seen.clone()));
    drop(store);
    // As a program wrote it that does not know the compact row: the timeline has an entry.
    let mut old = Host::clone(&seen);
    old.status.first_seen.as_mut().unwrap().line = None;
    let old = Arc::new(old);
    let database = rusqlite::Connection::open(directory.path().join(DATABASE)).unwrap();
    let body = Object::Host(old.clone()).to_json().unwrap();
    database.execute("UPDATE objects SET body = ?", [body]).unwrap();
    let entry = r#"{"time":"2026-11-01T00:00:00Z","mac":"52:54:00:00:00:01","host":"x","event":"first_seen","detail":{"action":"hold"}}"#;
    database.execute("INSERT INTO timeline (mac, body) VALUES ('52:54:00:00:00:01', ?)", [entry]).unwrap();
    database.pragma_update(None, "user_version", 3).unwrap();
    let store = open(directory.path());
    assert_eq!(store.load().host_by_mac(VM), Some(old));
    assert_eq!(events(&store, None), ["first_seen"]);
    let version: u32 = database.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 4);
}

#[tokio::test]
async fn a_host_that_was_only_seen_is_encrypted_with_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let options = || OpenOptions { seal: Seal::new(&[7; 32]), ..OpenOptions::default() };
    let mac = |last| Mac([2, 0, 0, 0, 0, last]);
    let plain = open(directory.path());
    let first = enrol(&plain, mac(1), UUID, "hold").await;
    drop(plain);
    // The rows in plain text are encrypted when a key is given.
    let (store, writer) = Store::open(directory.path(), policy(), options()).unwrap();
    let second = enrol(&store, mac(2), UUID, "hold").await;
    drop(store);
    writer.join().unwrap();
    let database = rusqlite::Connection::open(directory.path().join(DATABASE)).unwrap();
    let sealed = "SELECT count(*) FROM objects WHERE body LIKE 'sealed:%'";
    assert_eq!(database.query_row(sealed, [], |row| row.get::<_, u32>(0)).unwrap(), 2);
    let (store, _writer) = Store::open(directory.path(), policy(), options()).unwrap();
    assert_eq!((store.load().host_by_mac(mac(1)), store.load().host_by_mac(mac(2))), (Some(first), Some(second)));
}

#[tokio::test]
async fn changes_of_one_job_are_made_or_refused_each() {
    let (store, _) = Store::in_memory(policy());
    let limits = crate::fleet::FirstSeenLimits { total: 2, ..Default::default() };
    let enrolment = |last| {
        let action: UnknownHostAction = "hold".parse().unwrap();
        let host = action.draft(Mac([2, 0, 0, 0, 0, last]), "default".parse().unwrap(), None).unwrap();
        let entry = crate::fleet::EntryPoint::Interface("eth0".into());
        Change::Enrol { host: Box::new(host), action, entry, limits }
    };
    let (done, outcome) = oneshot::channel();
    let changes = [1, 2, 2, 3, 1].map(enrolment).into();
    store.change_each(changes, |outcomes| done.send(outcomes).unwrap()).unwrap();
    let outcomes: Vec<bool> = outcome.await.unwrap().iter().map(Result::is_ok).collect();
    assert_eq!(outcomes, [true, true, true, false, true]);
    assert_eq!((store.load().version, store.load().host_count()), (2, 2));
    assert_eq!(store.since(0, 9).unwrap().iter().map(|change| change.version).collect::<Vec<_>>(), [1, 2]);
}
