//! The Redfish service over a store in a temporary directory, asked through HTTP.

use hyper::header::{AUTHORIZATION, HeaderName, IF_MATCH};
use serde_json::{Value, json};

use crate::api::fixture::{ApiFixture, host, peer};
use crate::api::redfish::precondition::{HostPrecondition, IfMatch};
use crate::api::redfish::{resources, virtual_media};
use crate::fleet::{Host, Kind, Phase};
use crate::http::peer::Serves;

const SYSTEM: &str = "/redfish/v1/Systems/vm";
const DRIVE: &str = "/redfish/v1/Systems/vm/VirtualMedia/Cd";
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

async fn call(server: &ApiFixture, method: &str, path: &str, body: Value) -> (u16, Value) {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let reply = server.admin(method, path, &text).await;
    (reply.status().as_u16(), serde_json::from_slice(reply.body()).unwrap_or_default())
}

/// Returns a server with the host `vm`, the image `live` that it boots, and the image `other`.
async fn server(image: &str) -> ApiFixture {
    let server = ApiFixture::new();
    for name in ["live", "other"] {
        let spec = json!({"method": "chain", "url": "http://10.77.0.1/boot.ipxe"});
        server.put(Kind::IscsiCdrom, json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    server.put(Kind::BareMetalHost, host(json!({"image": image}))).await;
    server
}

fn state(server: &ApiFixture) -> (Phase, String) {
    let state = server.shared.gate.store.load();
    let host = state.hosts().next().unwrap();
    (host.status.phase, host.spec.image.to_string())
}

async fn boot(server: &ApiFixture) -> (String, String) {
    let boot = call(server, "GET", SYSTEM, Value::Null).await.1["Boot"].take();
    let text = |name: &str| boot[name].as_str().unwrap().to_owned();
    (text("BootSourceOverrideEnabled"), text("BootSourceOverrideTarget"))
}

fn set(target: &str, enabled: &str) -> Value {
    json!({"Boot": {"BootSourceOverrideTarget": target, "BootSourceOverrideEnabled": enabled}})
}

#[tokio::test]
async fn a_boot_override_starts_an_install_or_boots_the_disk() {
    let server = server("live").await;
    let rows = [
        (set("Hdd", "Once"), Phase::LocalBoot, ("Once", "Hdd")),
        (set("Pxe", "Once"), Phase::Assigned, ("Once", "Pxe")),
        (set("Pxe", "Continuous"), Phase::Assigned, ("Continuous", "Pxe")),
        (set("None", "Disabled"), Phase::LocalBoot, ("Disabled", "None")),
        (set("Hdd", "Continuous"), Phase::LocalBoot, ("Continuous", "Hdd")),
    ];
    for (body, phase, (enabled, target)) in rows {
        let (code, error) = call(&server, "PATCH", SYSTEM, body.clone()).await;
        assert_eq!(code, 204, "{body} {error}");
        assert_eq!(state(&server), (phase, "live".to_owned()), "{body}");
        assert_eq!(boot(&server).await, (enabled.to_owned(), target.to_owned()), "{body}");
    }
}

#[tokio::test]
async fn a_wrong_boot_override_changes_nothing() {
    let server = server("localboot").await;
    let before = state(&server);
    let rows = [
        (set("Pxe", "Once"), 409, "PropertyValueConflict"),
        (set("Cd", "Once"), 409, "PropertyValueConflict"),
        (set("Usb", "Once"), 400, "PropertyValueError"),
        (set("Pxe", "Twice"), 400, "PropertyValueError"),
        (json!({"Boot": {"BootSourceOverrideMode": "Quick"}}), 400, "PropertyValueError"),
        (json!({"Boot": {"BootOrder": []}}), 400, "PropertyNotWritable"),
        (json!({"Boot": 1}), 400, "PropertyValueError"),
        (json!({"Name": "x"}), 400, "PropertyNotWritable"),
        (json!([]), 400, "PropertyValueError"),
    ];
    for (body, expected, id) in rows {
        let (code, error) = call(&server, "PATCH", SYSTEM, body.clone()).await;
        assert_eq!((code, &error["error"]["code"]), (expected, &json!(format!("Base.1.18.{id}"))), "{body}");
        assert_eq!(state(&server), before, "{body}");
    }
    let reset = format!("{SYSTEM}/Actions/ComputerSystem.Reset");
    assert_eq!(call(&server, "POST", &reset, json!({"ResetType": "On"})).await.0, 400, "the host has no BMC");
    assert_eq!(call(&server, "GET", "/redfish/v1/Systems/nobody", Value::Null).await.0, 404);
}

#[tokio::test]
async fn an_inserted_medium_is_booted_and_ejected_again() {
    let server = server("live").await;
    let insert = format!("{DRIVE}/Actions/VirtualMedia.InsertMedia");
    let eject = format!("{DRIVE}/Actions/VirtualMedia.EjectMedia");
    assert_eq!(call(&server, "POST", &insert, json!({"Image": "other"})).await.0, 204);
    assert_eq!(state(&server).1, "live", "inserting alone boots nothing");
    assert_eq!(call(&server, "PATCH", SYSTEM, set("Cd", "Once")).await.0, 204);
    assert_eq!(state(&server), (Phase::Assigned, "other".to_owned()));
    let (_, drive) = call(&server, "GET", DRIVE, Value::Null).await;
    assert_eq!((&drive["Inserted"], &drive["Image"]), (&json!(true), &json!("other")));
    assert_eq!(call(&server, "POST", &eject, json!({})).await.0, 204);
    assert_eq!(state(&server).1, "live");
    assert_eq!(call(&server, "GET", DRIVE, Value::Null).await.1["Inserted"], false);
}

#[tokio::test]
async fn a_write_with_a_stale_tag_is_not_carried_out() {
    let server = server("live").await;
    let send = async |method: &str, path: &str, tag: &str, body: Value| {
        let token = format!("Bearer {}", server.admin);
        let headers = [(AUTHORIZATION, token.as_str()), (IF_MATCH, tag)];
        let body = body.to_string();
        server.send(Serves::Everything, peer([10, 77, 0, 99]), method, path, &headers, &body).await.status().as_u16()
    };
    let tag = async |path: &str| server.admin("GET", path, "").await.headers()["etag"].to_str().unwrap().to_owned();
    let (insert, reset) =
        (format!("{DRIVE}/Actions/VirtualMedia.InsertMedia"), format!("{SYSTEM}/Actions/ComputerSystem.Reset"));
    let rows = [
        ("PATCH", SYSTEM, set("Hdd", "Once"), SYSTEM),
        ("POST", &insert, json!({"Image": "other"}), DRIVE),
        ("PATCH", DRIVE, json!({"Image": null}), DRIVE),
    ];
    for (method, path, body, resource) in rows {
        let before = tag(resource).await;
        assert_eq!(before, tag(resource).await, "a read changes no tag");
        for stale in ["\"stale\"", &format!("W/{before}")] {
            assert_eq!(send(method, path, stale, body.clone()).await, 412, "{method} {path} {stale}");
        }
        assert_eq!(before, tag(resource).await, "{method} {path}");
        assert_eq!(send(method, path, &before, body).await, 204, "{method} {path}");
        assert_ne!(before, tag(resource).await, "{method} {path}");
    }
    assert_eq!(send("POST", &reset, "\"stale\"", json!({"ResetType": "On"})).await, 412);
    assert_eq!(send("PATCH", SYSTEM, "*", set("Pxe", "Once")).await, 204);
}

#[tokio::test]
async fn a_medium_of_another_server_is_an_image_while_it_is_inserted() {
    let server = server("localboot").await;
    let images = || server.shared.gate.store.load().images().count();
    let insert = json!({"Image": "http://192.0.2.1/x.iso"});
    assert_eq!(call(&server, "PATCH", DRIVE, insert).await.0, 204);
    assert_eq!(images(), 3);
    assert_eq!(call(&server, "PATCH", SYSTEM, set("Cd", "Once")).await.0, 204);
    assert_eq!(call(&server, "PATCH", DRIVE, json!({"Image": null})).await.0, 204);
    assert_eq!((images(), state(&server).1.as_str()), (2, "localboot"));
    // A host that is deleted leaves no medium behind either.
    assert_eq!(call(&server, "PATCH", DRIVE, json!({"Image": "http://192.0.2.1/y.iso"})).await.0, 204);
    let path = "/api/v1/namespaces/default/baremetalhosts/vm";
    assert_eq!((call(&server, "DELETE", path, Value::Null).await.0, images()), (200, 2));
}

#[tokio::test]
async fn an_insertion_that_another_client_overtakes_leaves_no_image() {
    let server = server("localboot").await;
    let state = server.shared.gate.store.load();
    let host = state.hosts().next().unwrap().clone();
    let key = crate::fleet::Object::Host(host.clone()).key();
    let stale = hyper::header::HeaderMap::from_iter([(IF_MATCH, "\"stale\"".parse().unwrap())]);
    let (if_match, drive) = (IfMatch::of(&stale), |host: &Host| resources::medium(host, "Systems", "vm"));
    // The precondition fails only when the medium is recorded: the check when the request comes is left out.
    let precondition = HostPrecondition::new(&if_match, &drive);
    let target = virtual_media::VirtualDrive { shared: &server.shared, key: &key, host: &host, precondition };
    let medium = json!({"Image": "http://192.0.2.1/overtaken.iso"});
    let inserted = virtual_media::insert(target, &peer([10, 77, 0, 99]), medium.as_object().unwrap()).await;
    assert_eq!(inserted.map_err(|error| error.code.as_u16()), Err(412));
    assert_eq!(server.shared.gate.store.load().images().count(), 2);
}

#[tokio::test]
async fn a_wrong_medium_is_refused() {
    let server = server("localboot").await;
    let insert = format!("{DRIVE}/Actions/VirtualMedia.InsertMedia");
    let rows = [
        (json!({}), 400),
        (json!({"Image": "nothing"}), 400),
        (json!({"Image": "ftp://192.0.2.1/x.iso"}), 422),
        (json!({"Image": "other", "UserName": "u"}), 400),
        (json!({"Image": "other", "WriteProtected": false}), 400),
        (json!({"Image": "other", "Inserted": false}), 400),
    ];
    for (body, expected) in rows {
        assert_eq!(call(&server, "POST", &insert, body.clone()).await.0, expected, "{body}");
    }
    assert_eq!(call(&server, "PATCH", DRIVE, json!({"Inserted": true})).await.0, 409, "the drive is empty");
    assert_eq!(call(&server, "GET", DRIVE, Value::Null).await.1["Inserted"], false);
}

#[tokio::test]
async fn a_viewers_session_reads_and_ends_itself() {
    let server = server("live").await;
    let sessions = "/redfish/v1/SessionService/Sessions";
    let send = async |method: &str, path: &str, token: Option<&str>, body: Value| {
        let headers: Vec<_> = token.map(|token| (TOKEN, token)).into_iter().collect();
        let text = if body.is_null() { String::new() } else { body.to_string() };
        server.send(Serves::Everything, peer([10, 77, 0, 99]), method, path, &headers, &text).await
    };
    let login = |password: &str| json!({"UserName": "v", "Password": password});
    assert_eq!(send("POST", sessions, None, login("wrong")).await.status(), 401);
    let begun = send("POST", sessions, None, login(&server.viewer)).await;
    let token = begun.headers()["x-auth-token"].to_str().unwrap().to_owned();
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(send("GET", SYSTEM, None, Value::Null).await.status(), 401);
    assert_eq!(send("GET", SYSTEM, Some(&token), Value::Null).await.status(), 200);
    assert_eq!(send("PATCH", SYSTEM, Some(&token), set("Hdd", "Once")).await.status(), 403);
    assert_eq!(send("DELETE", &location, Some(&token), Value::Null).await.status(), 204);
    assert_eq!(send("GET", SYSTEM, Some(&token), Value::Null).await.status(), 401);
    let basic = format!("Bearer {}", server.viewer);
    let headers = [(AUTHORIZATION, basic.as_str())];
    let reply = server.send(Serves::Everything, peer([10, 77, 0, 99]), "GET", SYSTEM, &headers, "").await;
    assert_eq!(reply.status(), 200);
}
