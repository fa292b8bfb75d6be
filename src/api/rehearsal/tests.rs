//! Rehearsals over a store in a temporary directory, without protocols: who may read what, and that nothing changes.

use hyper::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::*;
use crate::api::fixture::{ApiFixture, VM, host, peer, status_and_text};
use crate::fleet::{Kind, Phase};
use crate::http::peer::Serves;

const PATH: &str = "/api/v1/namespaces/default/baremetalhosts/vm/rehearsal";

async fn fixture() -> ApiFixture {
    let fixture = ApiFixture::new();
    fixture.put_config(json!({"format": "kickstart", "data": {"ks.cfg": "rootpw very-secret"}})).await;
    fixture.put_image(b"the bytes of an image", &["cfg"]).await;
    let chap = json!({"username": "vm", "secret": "a-secret-of-vm"});
    fixture.put(Kind::BareMetalHost, host(json!({"image": "live", "bootConfigRef": "cfg", "chap": chap}))).await;
    fixture
}

async fn read(fixture: &ApiFixture, path: &str, token: &str) -> (u16, Value) {
    let token = format!("Bearer {token}");
    let headers = [(AUTHORIZATION, &*token)];
    let reply = fixture.send(Serves::Everything, peer([10, 77, 0, 99]), "GET", path, &headers, "").await;
    (reply.status().as_u16(), serde_json::from_slice(reply.body()).unwrap_or_default())
}

fn step<'a>(rehearsal: &'a Value, name: &str) -> &'a Value {
    let steps = rehearsal["boots"][0]["steps"].as_array().unwrap();
    steps.iter().find(|step| step["step"] == name).unwrap_or_else(|| panic!("{name}: {rehearsal:#}"))
}

#[tokio::test]
async fn the_rehearsed_script_and_config_are_those_that_the_machine_gets() {
    let fixture = fixture().await;
    let (code, rehearsal) = read(&fixture, &format!("{PATH}?arch=bios&secrets=true"), &fixture.admin).await;
    assert_eq!((code, &rehearsal["kind"]), (200, &json!("Rehearsal")), "{rehearsal}");
    let script = step(&rehearsal, "script");
    assert_eq!((&script["decision"]["verdict"], &script["decision"]["records"]), (&json!("boot"), &json!("offer")));
    let reply = fixture.machine("GET", &format!("/ipxe?mac={VM}")).await;
    // The token of an install depends on the time of its first script.
    let token = fixture.shared.gate.tokens.of(&fixture.shared.gate.store.load().host_by_mac(VM).unwrap());
    let rehearsed = script["script"]["text"].as_str().unwrap();
    let start = rehearsed.find("token=").unwrap() + "token=".len();
    let rehearsed_token = &rehearsed[start..start + token.len()];
    assert_eq!(rehearsed.replace(rehearsed_token, &token), status_and_text(&reply).1);
    assert!(rehearsed.contains("a-secret-of-vm"), "{rehearsed}");
    let reply = fixture.machine("GET", "/api/v1/bootconfig").await;
    let config = step(&rehearsal, "config");
    assert_eq!(config["config"]["files"][0]["text"], status_and_text(&reply).1);
    // Its install has begun: the token is now the one that every script of the install has.
    let (_, rehearsal) = read(&fixture, &format!("{PATH}?arch=bios&secrets=true"), &fixture.admin).await;
    let reply = fixture.machine("GET", &format!("/ipxe?mac={VM}")).await;
    assert_eq!(step(&rehearsal, "script")["script"]["text"], status_and_text(&reply).1);
}

#[tokio::test]
async fn secrets_are_for_the_admin_who_asks_for_them() {
    let fixture = fixture().await;
    fixture.machine("GET", &format!("/ipxe?mac={VM}")).await;
    let token = fixture.shared.gate.tokens.of(&fixture.shared.gate.store.load().host_by_mac(VM).unwrap());
    for reader in [&fixture.admin, &fixture.viewer] {
        let (code, rehearsal) = read(&fixture, PATH, reader).await;
        let text = rehearsal.to_string();
        assert_eq!((code, &rehearsal["isRedacted"]), (200, &json!(true)));
        for secret in ["a-secret-of-vm", "very-secret", &token] {
            assert!(!text.contains(secret), "{secret}: {rehearsal:#}");
        }
        assert!(text.contains("set password REDACTED") && text.contains("token=REDACTED"), "{rehearsal:#}");
    }
    assert_eq!(read(&fixture, &format!("{PATH}?secrets=true"), &fixture.viewer).await.0, 403);
    assert_eq!(read(&fixture, &format!("{PATH}?secrets=true"), &fixture.admin).await.1["isRedacted"], false);
    assert_eq!(read(&fixture, PATH, "wrong").await.0, 401);
}

#[tokio::test]
async fn a_rehearsal_changes_nothing() {
    let fixture = fixture().await;
    let gate = fixture.shared.gate.clone();
    let before = gate.store.load().host_by_mac(VM).unwrap();
    let version = gate.store.load().version;
    for query in ["", "?arch=bios", "?arch=16", "?vendorClass=U-Boot.armv8", "?address=10.77.0.10&secrets=true"] {
        assert_eq!(read(&fixture, &format!("{PATH}{query}"), &fixture.admin).await.0, 200, "{query}");
    }
    let stranger = "/api/v1/rehearsal?mac=52:54:00:99:99:99";
    let (code, rehearsal) = read(&fixture, stranger, &fixture.viewer).await;
    assert_eq!((code, &rehearsal["machine"]["host"]), (200, &Value::Null));
    assert_eq!(step(&rehearsal, "script")["decision"]["reason"], "held", "the rule is hold");
    assert_eq!(gate.store.load().host_by_mac(VM).unwrap(), before);
    assert_eq!((gate.store.load().version, gate.store.load().hosts().count()), (version, 1));
    assert_eq!(fixture.phase(), Phase::Assigned);
    // The timeline's entries are written behind the commits, in order.
    fixture.put(Kind::BareMetalHost, host(json!({"image": "live", "bootConfigRef": "cfg", "online": true}))).await;
    let events = gate.store.timeline(None, 100).unwrap();
    let codes: Vec<_> = events.iter().map(|entry| serde_json::to_value(&entry.event).unwrap()).collect();
    assert!(codes.iter().all(|event| !event.to_string().contains("cript")), "{codes:?}");
}

#[tokio::test]
async fn a_wrong_parameter_is_named() {
    let fixture = fixture().await;
    for (query, name) in [
        ("?mac=x", "mac"),
        ("", "mac"),
        ("?mac=ff:ff:ff:ff:ff:ff", "mac"),
        ("?mac=52:54:00:00:00:01&arch=vax", "arch"),
        ("?mac=52:54:00:00:00:01&uuid=1", "uuid"),
        ("?mac=52:54:00:00:00:01&address=1", "address"),
        ("?mac=52:54:00:00:00:01&relay=x", "relay"),
        ("?mac=52:54:00:00:00:01&secrets=1", "secrets"),
    ] {
        let (code, status) = read(&fixture, &format!("/api/v1/rehearsal{query}"), &fixture.admin).await;
        let message = status["message"].as_str().unwrap();
        assert!(code == 400 && message.starts_with(&format!("{name}: ")), "{query}: {status}");
    }
    assert_eq!(read(&fixture, &PATH.replace("/vm/", "/nobody/"), &fixture.admin).await.0, 404);
}

#[test]
fn the_firmware_is_the_named_the_known_or_the_usual_one() {
    let architectures = |query: &str, known: Option<u16>| -> Vec<Option<u16>> {
        let mut host = Host {
            metadata: crate::fleet::Meta::named("h".parse().unwrap(), None),
            spec: crate::fleet::HostSpec::for_mac(VM),
            status: crate::fleet::HostStatus::default(),
        };
        host.status.firmware = known.map(Architecture);
        let classes = Query::parse(Some(query)).unwrap().classes(Some(&host));
        classes.into_iter().map(|class| class.architecture.map(|one| one.0)).collect()
    };
    assert_eq!(architectures("", None), [Some(0), Some(7), Some(16)]);
    assert_eq!(architectures("", Some(11)), [Some(11)]);
    assert_eq!(architectures("arch=bios", Some(11)), [Some(0)]);
    assert_eq!(architectures("vendorClass=PXEClient", None), [None]);
}
