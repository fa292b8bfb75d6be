//! Every route of the table, asked over HTTP: it answers, by the role that it names, and lists the methods that it takes.

use bytes::Bytes;
use hyper::Response;
use serde_json::{Value, json};

use super::*;
use crate::api::fixture::{ApiFixture, VM, VM_ADDRESS, host, peer};
use crate::api::route::Operation;
use crate::api::routes::{routes, subresources, verbs};
use crate::http::reply::Body;

/// Message of the object API's reply to a path without a route.
const NO_ROUTE: &str = "could not find the requested resource";

/// Returns a path of a route, whose parameters name objects of `declare`.
fn path_of(route: &Route) -> String {
    let name = match route.resource.map(|resource| resource.kind) {
        Some(Kind::IscsiCdrom) | None => "live",
        Some(Kind::BareMetalHost) => "vm",
        Some(Kind::BootConfig) => "cfg",
        Some(Kind::ConfigTemplate) => "tpl",
    };
    let mut path = route.openapi_path();
    for parameter in route.parameters() {
        let value = match parameter {
            "name" => name.to_owned(),
            "namespace" => "default".to_owned(),
            "mac" => VM.to_string(),
            "id" => "vm".to_owned(),
            "key" => "0123456789abcdef".to_owned(),
            "address" => "10.77.0.9".to_owned(),
            "file" if route.path.starts_with("/ui/") => "app.css".to_owned(),
            "token" | "file" | "path" | "version" => "x".to_owned(),
            other => panic!("{}: no value for {{{other}}}", route.path),
        };
        path = path.replace(&format!("{{{parameter}}}"), &value);
    }
    path
}

async fn declare(fixture: &ApiFixture) {
    let image = json!({"metadata": {"name": "live"}, "spec": {"isoFile": "live.iso"}});
    let config = json!({"metadata": {"name": "cfg"}, "spec": {"format": "kickstart", "data": {"ks.cfg": "text"}}});
    let template = json!({"metadata": {"name": "tpl"}, "spec": config["spec"]});
    fixture.put(Kind::ConfigTemplate, template).await;
    fixture.put(Kind::IscsiCdrom, image).await;
    fixture.put(Kind::BootConfig, config).await;
    fixture.put(Kind::BareMetalHost, host(json!({}))).await;
}

async fn ask(fixture: &ApiFixture, token: Option<&str>, method: &str, path: &str) -> Response<Bytes> {
    let value = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = value.iter().map(|value| (AUTHORIZATION, value.as_str())).collect();
    let body = if matches!(method, "POST" | "PUT" | "PATCH") { "{}" } else { "" };
    fixture.send(Serves::Everything, peer(VM_ADDRESS), method, path, &headers, body).await
}

fn operations() -> impl Iterator<Item = (&'static Route, &'static Operation, &'static str)> {
    let all = routes().flat_map(|route| route.operations.iter().map(move |operation| (route, operation)));
    all.flat_map(|(route, one)| one.method.names().iter().map(move |method| (route, one, *method)))
}

fn text_of(reply: &Response<Bytes>) -> String {
    String::from_utf8_lossy(reply.body()).into_owned()
}

#[tokio::test]
async fn every_operation_answers() {
    let fixture = ApiFixture::new();
    for (route, operation, method) in operations() {
        declare(&fixture).await;
        let reply = ask(&fixture, Some(&fixture.admin), method, &path_of(route)).await;
        let text = text_of(&reply);
        assert_ne!(reply.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {} {}", route.path, operation.id);
        // Redfish answers for an unknown session as for an unknown resource.
        let is_unknown = match operation.endpoint {
            Endpoint::Redfish => !route.path.contains("/Sessions/") && reply.status() == StatusCode::NOT_FOUND,
            _ => text.contains(NO_ROUTE),
        };
        assert!(!is_unknown, "{method} {}: {text}", route.path);
    }
}

#[tokio::test]
async fn every_read_of_machines_and_nothing_else_takes_the_fast_path() {
    let fixture = ApiFixture::new();
    declare(&fixture).await;
    for (route, operation, method) in operations() {
        let is_machines = matches!(operation.endpoint, Endpoint::Machine(_)) && matches!(method, "GET" | "HEAD");
        let path = path_of(route);
        assert_eq!(<Shared as Handler>::is_fast(&path), is_machines, "{method} {path}");
        let request = Request::builder().method(method).uri(&path).body(()).unwrap();
        let reply = fixture.shared.answer_machine(peer(VM_ADDRESS), &RecentView::default(), &request).await;
        let has_length = reply.as_ref().map(|reply| !matches!(reply.body(), Body::Stream(_)));
        assert_eq!(has_length, matches!(operation.endpoint, Endpoint::Machine(_)).then_some(true), "{method} {path}");
    }
}

#[tokio::test]
async fn a_doubled_slash_is_one() {
    let fixture = ApiFixture::new();
    declare(&fixture).await;
    fixture.write("files/x", b"a file");
    fixture.write("isos/live.iso", b"the bytes of an image");
    for route in routes().filter(|route| route.operation(&Method::GET).is_some()) {
        let path = path_of(route);
        // What is read once changes the state, so each path is asked as a HEAD first.
        let [plain, doubled] = [path.clone(), path.replace('/', "//")];
        let plain = ask(&fixture, Some(&fixture.admin), "HEAD", &plain).await.status();
        let doubled = ask(&fixture, Some(&fixture.admin), "HEAD", &doubled).await.status();
        assert_eq!(doubled, plain, "{path}");
    }
    for path in ["//files/x", "/files//x", "//iso/live", "/iso//live", "///iso///live/"] {
        assert_eq!(fixture.machine("GET", path).await.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn other_methods_are_refused_with_those_that_are_allowed() {
    let fixture = ApiFixture::new();
    declare(&fixture).await;
    for route in routes() {
        let path = path_of(route);
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            if route.operation(&method.parse().unwrap()).is_some() {
                continue;
            }
            let reply = ask(&fixture, Some(&fixture.admin), method, &path).await;
            assert_eq!(reply.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_eq!(reply.headers()["allow"].to_str().unwrap(), route.allow(), "{method} {path}");
        }
    }
    assert_eq!(
        route_search::find(&["api", "v1", "bootconfigs", "a"]).unwrap().allow(),
        "GET, HEAD, PUT, PATCH, DELETE"
    );
}

#[tokio::test]
async fn an_operation_needs_the_role_that_the_table_names() {
    let fixture = ApiFixture::new();
    for (route, operation, method) in operations() {
        declare(&fixture).await;
        let path = path_of(route);
        let (anyone, viewer) = (
            ask(&fixture, None, method, &path).await.status(),
            ask(&fixture, Some(&fixture.viewer), method, &path).await.status(),
        );
        let context = format!("{method} {path} ({})", operation.id);
        match operation.caller {
            // A machine's own proof may be missing (403), but nobody asks it for a token of the API (401).
            Caller::Machine | Caller::Anyone => assert_ne!(anyone, StatusCode::UNAUTHORIZED, "{context}"),
            Caller::Viewer => {
                assert_eq!(anyone, StatusCode::UNAUTHORIZED, "{context}");
                assert_ne!(viewer, StatusCode::UNAUTHORIZED, "{context}");
            }
            Caller::Admin => {
                assert_eq!((anyone, viewer), (StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN), "{context}");
            }
        }
    }
}

#[tokio::test]
async fn the_machines_listener_serves_no_object() {
    let fixture = ApiFixture::new();
    declare(&fixture).await;
    let token = format!("Bearer {}", fixture.admin);
    for (route, operation, method) in operations() {
        let path = path_of(route);
        let headers = [(AUTHORIZATION, token.as_str())];
        let reply = fixture.send(Serves::Machines, peer(VM_ADDRESS), method, &path, &headers, "").await;
        let is_served = !(reply.status() == StatusCode::NOT_FOUND && text_of(&reply).contains(NO_ROUTE));
        let is_for_all = matches!(operation.caller, Caller::Machine | Caller::Anyone)
            && !matches!(operation.endpoint, Endpoint::Redfish | Endpoint::Ui(_));
        if method != "HEAD" {
            assert_eq!(is_served, is_for_all, "{method} {path}: {}", text_of(&reply));
        }
    }
}

#[tokio::test]
async fn a_path_without_a_route_is_not_found() {
    let fixture = ApiFixture::new();
    for path in ["/iso", "/ui/x", "/api/v2", "/api/v1/pods", "/api/v1/namespaces/a/bootconfigs", "/redfish/v2"] {
        let reply = ask(&fixture, Some(&fixture.admin), "GET", path).await;
        assert_eq!(reply.status(), StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/api/v1/pods", "/openapi/v4", "/redfish/v2"] {
        assert_eq!(ask(&fixture, None, "GET", path).await.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn every_operation_is_described_and_nothing_else() {
    let document = crate::api::openapi::v3();
    let is_page = |route: &&Route| route.operations.iter().any(|one| matches!(one.endpoint, Endpoint::Ui(_)));
    for route in routes().filter(|route| !is_page(route)) {
        let described = &document["paths"][route.openapi_path()];
        let mut found: Vec<&str> =
            described.as_object().into_iter().flatten().map(|(method, _)| method.as_str()).collect();
        found.retain(|key| *key != "parameters");
        let mut expected: Vec<&str> = route.operations.iter().map(|operation| operation.method.openapi()).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{}", route.path);
        for operation in route.operations {
            assert_eq!(described[operation.method.openapi()]["operationId"], operation.id, "{}", route.path);
        }
    }
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.keys().all(|path| routes().any(|route| route.openapi_path() == *path)), "{:?}", paths.keys());
}

#[tokio::test]
async fn every_resource_is_discovered() {
    let fixture = ApiFixture::new();
    let reply = ask(&fixture, Some(&fixture.viewer), "GET", "/api/v1").await;
    let list: Value = serde_json::from_slice(reply.body()).unwrap();
    let verbs_of = |name: &str| {
        let found = list["resources"].as_array().unwrap().iter().find(|one| one["name"] == name);
        found.map(|one| one["verbs"].clone()).unwrap_or_default()
    };
    for kind in Kind::ALL {
        assert_eq!(verbs_of(kind.plural()), json!(verbs(kind)), "{kind}");
    }
    for (kind, name, expected) in subresources() {
        assert_eq!(verbs_of(&format!("{}/{name}", kind.plural())), json!(expected), "{kind} {name}");
    }
}

#[tokio::test]
async fn an_action_is_not_rehearsed() {
    let fixture = ApiFixture::new();
    declare(&fixture).await;
    let path = "/api/v1/namespaces/default/baremetalhosts/vm/hold?dryRun=All";
    let reply = fixture.admin("POST", path, "").await;
    assert_eq!(reply.status(), StatusCode::BAD_REQUEST);
    let reply = fixture.admin("POST", path.trim_end_matches("?dryRun=All"), "").await;
    let host: Value = serde_json::from_slice(reply.body()).unwrap();
    assert_eq!((reply.status(), &host["status"]["phase"]), (StatusCode::OK, &json!("Held")));
}
