//! The object API over a store in a temporary directory, asked through HTTP.

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, WARNING};
use serde_json::{Value, json};

use crate::api::fixture::{ApiFixture, peer};
use crate::fleet::Object;
use crate::http::peer::Serves;

const HOSTS: &str = "/api/v1/namespaces/default/baremetalhosts";
const HOST: &str = "/api/v1/namespaces/default/baremetalhosts/h";
const IMAGES: &str = "/api/v1/iscsi-cdroms";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STEPS: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// Sends a request with the admin's token; returns the status, the headers and the body's JSON.
async fn send(server: &ApiFixture, method: &str, path: &str, kind: &str, body: &Value) -> (u16, HeaderMap, Value) {
    let token = format!("Bearer {}", server.admin);
    let headers = [(AUTHORIZATION, token.as_str()), (CONTENT_TYPE, kind)];
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let reply = server.send(Serves::Everything, peer([10, 77, 0, 99]), method, path, &headers, &text).await;
    let (head, body) = reply.into_parts();
    (head.status.as_u16(), head.headers, serde_json::from_slice(&body).unwrap_or_default())
}

async fn call(server: &ApiFixture, method: &str, path: &str, kind: &str, body: Value) -> (u16, Value) {
    let (code, _, body) = send(server, method, path, kind, &body).await;
    (code, body)
}

async fn get(server: &ApiFixture, path: &str) -> (u16, Value) {
    call(server, "GET", path, JSON, Value::Null).await
}

fn host(name: &str, mac: u8) -> Value {
    json!({"metadata": {"name": name}, "spec": {"bootMACAddress": format!("52:54:00:00:01:{mac:02x}")}})
}

/// Returns an image that needs no file.
fn chain(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"method": "chain", "url": "http://10.77.0.1/boot.ipxe"}})
}

async fn with_host() -> ApiFixture {
    let server = ApiFixture::new();
    assert_eq!(call(&server, "POST", HOSTS, JSON, host("h", 1)).await.0, 201);
    server
}

/// Reads the events of a watch that ends as soon as it has sent what there is.
async fn events(server: &ApiFixture, query: &str) -> Vec<(String, Value)> {
    let path = format!("{HOSTS}?watch=true&timeoutSeconds=0&{query}");
    let reply = server.admin("GET", &path, "").await;
    assert_eq!(reply.status(), 200);
    let text = std::str::from_utf8(reply.body()).unwrap();
    let event = |line: &str| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        (event["type"].as_str().unwrap().to_owned(), event["object"].take())
    };
    text.lines().map(event).collect()
}

fn types_and_names(events: &[(String, Value)]) -> Vec<(&str, &str)> {
    events.iter().map(|(kind, object)| (kind.as_str(), object["metadata"]["name"].as_str().unwrap_or(""))).collect()
}

#[tokio::test]
async fn a_created_object_is_read_back_and_its_name_is_taken() {
    let server = with_host().await;
    let (code, object) = get(&server, HOST).await;
    assert_eq!(
        (code, &object["kind"], &object["metadata"]["namespace"]),
        (200, &json!("BareMetalHost"), &json!("default"))
    );
    assert_eq!(object["spec"]["bootMACAddress"], "52:54:00:00:01:01");
    let (code, status) = call(&server, "POST", HOSTS, JSON, host("h", 2)).await;
    assert_eq!((code, &status["reason"]), (409, &json!("AlreadyExists")));
    assert_eq!(get(&server, &format!("{HOSTS}/other")).await.0, 404);
}

#[tokio::test]
async fn a_wrong_create_is_refused_with_its_field() {
    let server = with_host().await;
    let changed = |pointer: &str, value: Value| {
        let mut body = host("x", 7);
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[field] = value;
        body
    };
    let rows = [
        (json!([]), 400, ""),
        (changed("/kind", json!("Pod")), 400, ""),
        (changed("/metadata/namespace", json!("other")), 400, ""),
        (changed("/metadata/resourceVersion", json!("5")), 400, ""),
        (json!({"spec": {}}), 422, "metadata"),
        (changed("/metadata/finalizers", json!(["a/b"])), 422, "metadata.finalizers"),
        (changed("/spec/bootMACAddress", json!("nonsense")), 422, "spec.bootMACAddress"),
        (changed("/spec/bootMACAddress", json!("52:54:00:00:01:01")), 422, "spec.bootMACAddress"),
        (changed("/spec/image", json!("nothing")), 422, "spec.image"),
        (changed("/spec/bmc", json!({"address": "b", "password": "REDACTED"})), 422, "spec.bmc.password"),
    ];
    for (body, expected, field) in rows {
        let (code, status) = call(&server, "POST", HOSTS, JSON, body.clone()).await;
        let cause = status["details"]["causes"][0]["field"].as_str().unwrap_or_default();
        assert_eq!((code, cause), (expected, field), "{body} {status}");
    }
    assert_eq!(get(&server, HOSTS).await.1["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_generated_name_starts_with_its_prefix() {
    let server = ApiFixture::new();
    for mac in [1, 2] {
        let mut body = host("", mac);
        body["metadata"] = json!({"generateName": "node-"});
        let (code, object) = call(&server, "POST", HOSTS, JSON, body).await;
        let name = object["metadata"]["name"].as_str().unwrap();
        assert!(code == 201 && name.starts_with("node-") && name.len() == 10, "{code} {name}");
    }
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let server = with_host().await;
    let (code, _) = call(&server, "POST", &format!("{HOSTS}?dryRun=All"), JSON, host("x", 2)).await;
    assert_eq!((code, get(&server, &format!("{HOSTS}/x")).await.0), (201, 404));
    let online = json!({"spec": {"online": true}});
    let (code, object) = call(&server, "PATCH", &format!("{HOST}?dryRun=All"), MERGE, online).await;
    assert_eq!((code, &object["spec"]["online"]), (200, &json!(true)));
    assert_eq!(get(&server, HOST).await.1["spec"]["online"], Value::Null);
    let (code, _) = call(&server, "DELETE", &format!("{HOST}?dryRun=All"), JSON, Value::Null).await;
    assert_eq!((code, get(&server, HOST).await.0), (200, 200));
    let (code, _) = call(&server, "DELETE", HOST, JSON, json!({"dryRun": ["All"]})).await;
    assert_eq!((code, get(&server, HOST).await.0), (200, 200));
}

#[tokio::test]
async fn an_unknown_field_is_refused_reported_or_dropped() {
    for (validation, expected, warned) in [("Strict", 422, false), ("Warn", 201, true), ("Ignore", 201, false)] {
        let server = ApiFixture::new();
        let mut body = host("x", 2);
        body["spec"]["colour"] = json!("red");
        let path = format!("{HOSTS}?fieldValidation={validation}");
        let (code, headers, object) = send(&server, "POST", &path, JSON, &body).await;
        let warning = headers.get(WARNING).map(|value| value.to_str().unwrap().contains("spec.colour"));
        assert_eq!((code, warning.unwrap_or(false)), (expected, warned), "{validation}");
        assert_eq!(object["spec"]["colour"], Value::Null);
    }
}

#[tokio::test]
async fn a_replace_is_refused_for_another_version_uid_or_name() {
    let server = with_host().await;
    let current = get(&server, HOST).await.1;
    let with = |pointer: &str, value: Value| {
        let mut body = current.clone();
        *body.pointer_mut(pointer).unwrap() = value;
        body["spec"]["online"] = json!(true);
        body
    };
    let rows = [
        (with("/metadata/uid", json!("another")), 409),
        (with("/metadata/name", json!("another")), 400),
        (with("/metadata/resourceVersion", json!("999")), 409),
        (with("/metadata/name", json!("h")), 200),
        // The version that the first write was made for is no longer the current one.
        (with("/metadata/name", json!("h")), 409),
        (with("/metadata/resourceVersion", json!("")), 200),
    ];
    for (body, expected) in rows {
        let (code, status) = call(&server, "PUT", HOST, JSON, body).await;
        assert_eq!(code, expected, "{status}");
    }
    assert_eq!(call(&server, "PUT", &format!("{HOSTS}/x"), JSON, host("x", 3)).await.0, 404);
}

#[tokio::test]
async fn a_patch_changes_what_it_names() {
    let server = with_host().await;
    let rows = [
        (MERGE, json!({"metadata": {"labels": {"rack": "r1"}}}), 200, "/metadata/labels/rack", json!("r1")),
        (JSON, json!({"spec": {"ip": "10.77.0.5"}}), 200, "/spec/ip", json!("10.77.0.5")),
        (MERGE, json!({"spec": {"ip": null}}), 200, "/spec/ip", Value::Null),
        (STEPS, json!([{"op": "add", "path": "/spec/online", "value": false}]), 200, "/spec/online", json!(false)),
        (STEPS, json!([{"op": "test", "path": "/spec/online", "value": true}]), 422, "/spec/online", json!(false)),
        (STEPS, json!({"op": "add"}), 400, "/spec/online", json!(false)),
        (MERGE, json!({"metadata": {"name": "other"}}), 400, "/metadata/name", json!("h")),
        (MERGE, json!({"metadata": {"resourceVersion": "1000"}}), 409, "/metadata/name", json!("h")),
        ("text/csv", json!({}), 415, "/metadata/name", json!("h")),
    ];
    for (kind, body, expected, pointer, value) in rows {
        let (code, status) = call(&server, "PATCH", HOST, kind, body.clone()).await;
        assert_eq!(code, expected, "{kind} {body} {status}");
        let object = get(&server, HOST).await.1;
        assert_eq!(object.pointer(pointer).cloned().unwrap_or_default(), value, "{kind} {body}");
    }
}

#[tokio::test]
async fn concurrent_patches_are_all_made() {
    let server = with_host().await;
    let patch = |number: usize| {
        let server = &server;
        async move {
            let body = json!({"metadata": {"labels": {format!("l{number}"): "x"}}});
            call(server, "PATCH", HOST, MERGE, body).await.0
        }
    };
    let codes = futures_util::future::join_all((0..16).map(patch)).await;
    assert_eq!(codes, vec![200; 16]);
    assert_eq!(get(&server, HOST).await.1["metadata"]["labels"].as_object().unwrap().len(), 16);
}

#[tokio::test]
async fn apply_merges_managers_and_reports_their_conflicts() {
    let server = ApiFixture::new();
    let applied = |image: &str| {
        let mut body = host("h", 1);
        body["apiVersion"] = json!("v1");
        body["kind"] = json!("BareMetalHost");
        body["metadata"]["labels"] = json!({"rack": image});
        body
    };
    let path = |manager: &str, force: bool| format!("{HOST}?fieldManager={manager}&force={force}");
    let rows = [
        (HOST.to_owned(), "r1", 400),
        (path("one", false), "r1", 201),
        (path("one", false), "r1", 200),
        (path("two", false), "r2", 409),
        (path("two", true), "r2", 200),
        (path("one", false), "r1", 409),
    ];
    for (path, rack, expected) in rows {
        let (code, status) = call(&server, "PATCH", &path, APPLY, applied(rack)).await;
        assert_eq!(code, expected, "{path} {status}");
        if code == 409 {
            let cause = &status["details"]["causes"][0];
            assert_eq!(
                (&cause["reason"], &cause["field"]),
                (&json!("FieldManagerConflict"), &json!(".metadata.labels.rack"))
            );
        }
    }
    assert_eq!(get(&server, HOST).await.1["metadata"]["labels"]["rack"], "r2");
}

#[tokio::test]
async fn a_secret_is_redacted_and_survives_a_round_trip() {
    let server = ApiFixture::new();
    let mut body = host("h", 1);
    body["spec"]["bmc"] = json!({"address": "10.77.1.1", "username": "ADMIN", "password": "geheim"});
    assert_eq!(call(&server, "POST", HOSTS, JSON, body).await.0, 201);
    let stored = || {
        let state = server.shared.gate.store.load();
        let host = state.hosts().next().unwrap().clone();
        host.spec.bmc.as_ref().unwrap().password.0.clone()
    };
    let mut read = get(&server, HOST).await.1;
    assert_eq!(read["spec"]["bmc"]["password"], "REDACTED");
    read["spec"]["online"] = json!(true);
    assert_eq!(call(&server, "PUT", HOST, JSON, read.clone()).await.0, 200);
    assert_eq!(stored(), "geheim");
    let steps = json!([
        {"op": "test", "path": "/spec/bmc/password", "value": "REDACTED"},
        {"op": "add", "path": "/metadata/labels", "value": {}},
        {"op": "copy", "from": "/spec/bmc/password", "path": "/metadata/labels/copied"},
    ]);
    let (code, object) = call(&server, "PATCH", HOST, STEPS, steps).await;
    assert_eq!((code, &object["metadata"]["labels"]["copied"]), (200, &json!("REDACTED")));
    let other = json!({"spec": {"bmc": {"address": "10.77.1.2"}}});
    let (code, status) = call(&server, "PATCH", HOST, MERGE, other).await;
    assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &json!("spec.bmc.password")));
    assert_eq!(stored(), "geheim");
}

#[tokio::test]
async fn a_confidential_config_shows_its_file_names_only() {
    let server = ApiFixture::new();
    let path = "/api/v1/bootconfigs";
    let spec = json!({"format": "script", "data": {"script": "geheim"}, "confidential": true});
    let body = json!({"metadata": {"name": "c"}, "spec": spec});
    assert_eq!(call(&server, "POST", path, JSON, body).await.0, 201);
    let one = format!("{path}/c");
    let read = get(&server, &one).await.1;
    assert_eq!(read["spec"]["data"], json!({"script": "REDACTED"}));
    assert_eq!(call(&server, "PUT", &one, JSON, read).await.0, 200);
    let state = server.shared.gate.store.snapshot();
    assert_eq!(state.boot_config(&"c".parse().unwrap()).unwrap().spec.data["script"], "geheim");
    let (code, _) = call(&server, "PATCH", &one, MERGE, json!({"spec": {"confidential": false}})).await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn an_object_in_use_is_not_deleted() {
    let server = ApiFixture::new();
    assert_eq!(call(&server, "POST", IMAGES, JSON, chain("i")).await.0, 201);
    let mut body = host("h", 1);
    body["spec"]["image"] = json!("i");
    let (_, created) = call(&server, "POST", HOSTS, JSON, body).await;
    let image = format!("{IMAGES}/i");
    let uid = |uid: &Value| json!({"preconditions": {"uid": uid}});
    let rows = [
        (image.as_str(), Value::Null, 409),
        (HOST, uid(&json!("another")), 409),
        (HOST, json!({"preconditions": {"resourceVersion": "x"}}), 400),
        (HOST, json!({"preconditions": {"resourceVersion": "1000"}}), 409),
        (HOST, uid(&created["metadata"]["uid"]), 200),
        (HOST, Value::Null, 404),
        (image.as_str(), Value::Null, 200),
    ];
    for (path, body, expected) in rows {
        let (code, status) = call(&server, "DELETE", path, JSON, body.clone()).await;
        assert_eq!(code, expected, "{path} {body} {status}");
    }
}

#[tokio::test]
async fn a_watch_sends_the_present_objects_and_each_change_once() {
    let server = with_host().await;
    let present = events(&server, "").await;
    assert_eq!(types_and_names(&present), [("ADDED", "h")]);
    let version = get(&server, HOSTS).await.1["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    call(&server, "POST", HOSTS, JSON, host("x", 2)).await;
    call(&server, "PATCH", HOST, MERGE, json!({"metadata": {"labels": {"rack": "r1"}}})).await;
    call(&server, "DELETE", &format!("{HOSTS}/x"), JSON, Value::Null).await;
    let from = format!("resourceVersion={version}");
    let changes = events(&server, &from).await;
    assert_eq!(types_and_names(&changes), [("ADDED", "x"), ("MODIFIED", "h"), ("DELETED", "x")]);
    let versions: Vec<u64> = changes
        .iter()
        .map(|(_, object)| object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(versions.is_sorted(), "{versions:?}");
    // An object that comes to match a selector is added.
    assert_eq!(types_and_names(&events(&server, &format!("{from}&labelSelector=rack=r1")).await), [("ADDED", "h")]);
    assert_eq!(
        types_and_names(&events(&server, &format!("{from}&fieldSelector=metadata.name=x")).await),
        [("ADDED", "x"), ("DELETED", "x")]
    );
}

#[tokio::test]
async fn a_watch_marks_the_end_of_the_present_objects() {
    let server = with_host().await;
    let version = get(&server, HOSTS).await.1["metadata"]["resourceVersion"].clone();
    let sent = events(&server, "sendInitialEvents=true&allowWatchBookmarks=true").await;
    assert_eq!(types_and_names(&sent), [("ADDED", "h"), ("BOOKMARK", "")]);
    let bookmark = &sent[1].1["metadata"];
    assert_eq!(bookmark["resourceVersion"], version);
    assert_eq!(bookmark["annotations"]["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn a_watch_from_an_unknown_version_ends_with_410() {
    let server = with_host().await;
    let sent = events(&server, "resourceVersion=1000").await;
    let [(kind, status)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((kind.as_str(), &status["code"], &status["reason"]), ("ERROR", &json!(410), &json!("Expired")));
}

#[tokio::test]
async fn the_pages_of_a_list_show_one_state() {
    let server = ApiFixture::new();
    for (name, mac) in [("a", 1), ("b", 2), ("c", 3)] {
        call(&server, "POST", HOSTS, JSON, host(name, mac)).await;
    }
    let (_, first) = get(&server, &format!("{HOSTS}?limit=2")).await;
    call(&server, "DELETE", &format!("{HOSTS}/c"), JSON, Value::Null).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (_, second) = get(&server, &format!("{HOSTS}?limit=2&continue={token}")).await;
    let names = |list: &Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|one| one["metadata"]["name"].as_str().unwrap().into()).collect()
    };
    assert_eq!((names(&first), names(&second)), (vec!["a".into(), "b".into()], vec!["c".into()]));
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    for (query, expected) in [("continue=x", 400), ("continue=999:default/a", 410), ("resourceVersionMatch=Exact", 400)]
    {
        assert_eq!(get(&server, &format!("{HOSTS}?{query}")).await.0, expected, "{query}");
    }
}

#[tokio::test]
async fn patches_do_not_let_an_object_grow_without_end() {
    let server = with_host().await;
    let patch = |round: usize| {
        let labels: serde_json::Map<_, _> =
            (0..25_000).map(|number| (format!("r{round}-{number:050}"), json!("x".repeat(63)))).collect();
        json!({"metadata": {"labels": labels}})
    };
    let mut codes = Vec::new();
    for round in 0..4 {
        codes.push(call(&server, "PATCH", HOST, "application/merge-patch+json", patch(round)).await.0);
    }
    assert_eq!((codes[0], codes[3]), (200, 413), "{codes:?}");
    assert_eq!(
        call(&server, "PATCH", HOST, "application/merge-patch+json", json!({"spec": {"online": true}})).await.0,
        200
    );
}

#[tokio::test]
async fn actions_move_a_host_through_its_phases() {
    let server = with_host().await;
    call(&server, "POST", IMAGES, JSON, chain("i")).await;
    let rows = [
        ("install", Value::Null, 422, "LocalBoot"),
        ("install", json!({"image": "nothing"}), 422, "LocalBoot"),
        ("install", json!({"colour": "red"}), 400, "LocalBoot"),
        ("install", json!({"image": "i"}), 200, "Assigned"),
        ("hold", Value::Null, 200, "Held"),
        ("install", Value::Null, 200, "Assigned"),
        ("localboot", Value::Null, 200, "LocalBoot"),
        ("virtualmedia", Value::Null, 422, "LocalBoot"),
        ("release", Value::Null, 404, "LocalBoot"),
    ];
    for (action, body, expected, phase) in rows {
        let (code, status) = call(&server, "POST", &format!("{HOST}/{action}"), JSON, body.clone()).await;
        assert_eq!(code, expected, "{action} {body} {status}");
        assert_eq!(get(&server, HOST).await.1["status"]["phase"], phase, "{action} {body}");
    }
}

#[tokio::test]
async fn naming_the_image_again_in_a_plain_patch_starts_an_install() {
    let server = with_host().await;
    call(&server, "POST", IMAGES, JSON, chain("i")).await;
    let body = || json!({"spec": {"image": "i"}});
    call(&server, "PATCH", HOST, JSON, body()).await;
    call(&server, "POST", &format!("{HOST}/localboot"), JSON, Value::Null).await;
    for (kind, phase) in [(MERGE, "LocalBoot"), (JSON, "Assigned")] {
        assert_eq!(call(&server, "PATCH", HOST, kind, body()).await.0, 200);
        assert_eq!(get(&server, HOST).await.1["status"]["phase"], phase, "{kind}");
    }
}

#[tokio::test]
async fn a_host_created_from_a_backup_is_not_installed_again() {
    let server = ApiFixture::new();
    call(&server, "POST", IMAGES, JSON, chain("i")).await;
    let mut body = host("h", 1);
    body["spec"]["image"] = json!("i");
    body["status"] = json!({"phase": "Installed"});
    let (code, headers, object) = send(&server, "POST", HOSTS, JSON, &body).await;
    assert_eq!((code, &object["status"]["phase"]), (201, &json!("LocalBoot")));
    assert!(headers.get(WARNING).unwrap().to_str().unwrap().contains("no install starts"));
}

#[tokio::test]
async fn a_table_has_a_row_for_each_object() {
    let server = with_host().await;
    let token = format!("Bearer {}", server.admin);
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let headers = [(AUTHORIZATION, token.as_str()), (hyper::header::ACCEPT, accept)];
    let reply = server.send(Serves::Everything, peer([10, 77, 0, 99]), "GET", HOSTS, &headers, "").await;
    let table: Value = serde_json::from_slice(reply.body()).unwrap();
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][0]), (&json!("Table"), &json!("h")));
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
}

#[tokio::test]
async fn discovery_and_access_reviews_list_the_same_subresources() {
    let server = ApiFixture::new();
    let names = |value: &Value| -> std::collections::BTreeSet<String> {
        let all = value.as_array().unwrap().iter();
        all.filter_map(Value::as_str).filter(|name| name.contains('/')).map(str::to_owned).collect()
    };
    let resources = get(&server, "/api/v1").await.1["resources"].clone();
    let listed: Value = resources.as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let (code, review) = call(&server, "POST", path, JSON, json!({"spec": {}})).await;
    let rules = review["status"]["resourceRules"].as_array().unwrap().iter();
    let ruled: Value = rules.flat_map(|rule| rule["resources"].as_array().unwrap()).cloned().collect();
    assert_eq!((code, names(&listed)), (201, names(&ruled)));
    assert!(names(&listed).contains("baremetalhosts/virtualmedia"));
}

#[tokio::test]
async fn a_deleted_uploads_file_is_removed_once_nothing_uses_it() {
    let server = ApiFixture::new();
    let state = crate::api::uploads::tests::uploaded(&server, "live").await;
    let Object::Image(image) = state else { panic!("an image") };
    assert!(image.status.sha256.is_some());
    let file = server.base.directory.path().join("isos/live.iso");
    let other = json!({"metadata": {"name": "other"}, "spec": {"isoFile": "live.iso"}});
    assert_eq!(call(&server, "POST", IMAGES, JSON, other).await.0, 201);
    for (name, stays) in [("live", true), ("other", false)] {
        assert_eq!(call(&server, "DELETE", &format!("{IMAGES}/{name}"), JSON, Value::Null).await.0, 200);
        assert_eq!(file.exists(), stays, "{name}");
    }
}

#[tokio::test]
async fn the_selected_objects_of_a_collection_are_deleted() {
    let server = with_host().await;
    assert_eq!(call(&server, "POST", IMAGES, JSON, chain("a")).await.0, 201);
    assert_eq!(call(&server, "POST", IMAGES, JSON, chain("b")).await.0, 201);
    let mut labelled = host("l", 2);
    labelled["metadata"]["labels"] = json!({"rack": "r1"});
    assert_eq!(call(&server, "POST", HOSTS, JSON, labelled).await.0, 201);
    let (code, deleted) = call(&server, "DELETE", &format!("{HOSTS}?labelSelector=rack"), JSON, Value::Null).await;
    assert_eq!(
        (code, deleted["items"].as_array().unwrap().len(), &deleted["kind"]),
        (200, 1, &json!("BareMetalHostList"))
    );
    assert_eq!(get(&server, HOST).await.0, 200);
    let (code, deleted) = call(&server, "DELETE", IMAGES, JSON, Value::Null).await;
    assert_eq!((code, deleted["items"].as_array().map(Vec::len)), (200, Some(2)));
    let body = json!({"preconditions": {"uid": "u"}});
    assert_eq!(call(&server, "DELETE", HOSTS, JSON, body).await.0, 400);
    assert_eq!(get(&server, HOST).await.0, 200);
}

#[tokio::test]
async fn a_request_in_anothers_name_is_refused() {
    let server = with_host().await;
    let token = format!("Bearer {}", server.admin);
    for name in ["impersonate-user", "impersonate-group", "impersonate-extra-a"] {
        let name: hyper::header::HeaderName = name.parse().unwrap();
        let headers = [(AUTHORIZATION, token.as_str()), (name, "x")];
        let reply = server.send(Serves::Everything, peer([10, 77, 0, 99]), "DELETE", HOST, &headers, "").await;
        assert_eq!(reply.status(), 403);
    }
    assert_eq!(get(&server, HOST).await.0, 200);
}

#[tokio::test]
async fn a_namespace_is_there_while_it_has_hosts() {
    let server = with_host().await;
    let names = async || {
        let (_, list) = get(&server, "/api/v1/namespaces").await;
        let items = list["items"].as_array().unwrap().clone();
        items.iter().map(|one| one["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["default"]);
    assert_eq!(call(&server, "POST", "/api/v1/namespaces/lab/baremetalhosts", JSON, host("l", 2)).await.0, 201);
    assert_eq!(names().await, ["default", "lab"]);
    assert_eq!(get(&server, "/api/v1/namespaces/lab").await.1["status"]["phase"], "Active");
    assert_eq!(get(&server, "/api/v1/namespaces/other").await.0, 404);
}

#[tokio::test]
async fn a_replace_without_a_version_loses_no_concurrent_change() {
    let server = with_host().await;
    let bmc = |password: &str| json!({"address": "ipmi://10.0.0.9", "username": "a", "password": password});
    let [patcher, replacer] = ["patcher", "replacer"].map(|manager| format!("{HOST}?fieldManager={manager}"));
    for turn in 0..50 {
        let password = format!("password-{turn}");
        let change = json!({"spec": {"bmc": bmc(&password)}, "metadata": {"labels": {"turn": turn.to_string()}}});
        let mut body = host("h", 1);
        body["spec"]["bmc"] = bmc("REDACTED");
        let patched = call(&server, "PATCH", &patcher, MERGE, change);
        let replaced = call(&server, "PUT", &replacer, JSON, body);
        let (patched, replaced) = tokio::join!(patched, replaced);
        assert_eq!(patched.0, 200, "{}", patched.1);
        // A replace that comes first has no password to keep.
        assert!(replaced.0 == 200 || turn == 0 && replaced.0 == 422, "{}", replaced.1);
        let state = server.shared.gate.store.load();
        let host = state.hosts().next().unwrap();
        let kept = host.spec.bmc.as_ref().map(|bmc| bmc.password.0.clone());
        assert_eq!(kept.as_deref(), Some(password.as_str()), "turn {turn}");
    }
}
