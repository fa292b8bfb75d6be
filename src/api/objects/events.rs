//! The timeline as Kubernetes' events (v1 Event), for `kubectl get events` and `kubectl describe`.

use std::borrow::Cow;

use hyper::header::HeaderMap;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::event::Entry;
use crate::fleet::{Key, Kind, Name};
use crate::store::{Snapshot, now};

use crate::api::objects::plain_lists::PlainKind;
use crate::api::objects::selectors::FieldSelector;
use crate::api::objects::status::Status;
use crate::api::objects::table::{PlainRow, ago};
use crate::api::objects::{actions, options};
use crate::api::state::Shared;
use crate::http::reply::Reply;

const EVENT: PlainKind = PlainKind {
    kind: "Event",
    columns: &[
        ("Last Seen", "Time since the event last occurred."),
        ("Type", "Normal or Warning."),
        ("Reason", "The event as one word."),
        ("Object", "The object that the event is about."),
        ("Message", "The event and its details."),
    ],
};

/// Fields that a field selector may compare, with their places in an event.
const FIELDS: [(&str, &str); 10] = [
    ("metadata.name", "/metadata/name"),
    ("metadata.namespace", "/metadata/namespace"),
    ("involvedObject.kind", "/involvedObject/kind"),
    ("involvedObject.namespace", "/involvedObject/namespace"),
    ("involvedObject.name", "/involvedObject/name"),
    ("involvedObject.uid", "/involvedObject/uid"),
    ("involvedObject.apiVersion", "/involvedObject/apiVersion"),
    ("reason", "/reason"),
    ("type", "/type"),
    ("reportingComponent", "/reportingComponent"),
];

/// Answers `/api/v1/events` and `/api/v1/namespaces/NAME/events`: the selected events, oldest first.
///
/// # Errors
/// 400 for a wrong selector or a watch, 406 for a client that takes no JSON, 500 if the timeline cannot be read.
pub async fn list(
    shared: &Shared,
    namespace: Option<&str>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Reply, Status> {
    let mut selector = FieldSelector::default();
    for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match key.as_ref() {
            "watch" if options::boolean(&key, &value)? => {
                return Err(Status::bad_request("watch: not supported for events; list them again"));
            }
            "fieldSelector" => {
                let known = FIELDS.map(|(field, _)| field);
                selector = FieldSelector::parse(&value, &known).map_err(Status::bad_request)?;
            }
            "labelSelector" if !value.is_empty() => {
                return Err(Status::bad_request("labelSelector: events have no labels"));
            }
            _ => {}
        }
    }
    let state = shared.gate.store.snapshot();
    let site = shared.gate.site().namespace.clone();
    let about = involved(&selector, namespace, &site);
    let entries = match about.as_ref().map(|key| state.get(key)) {
        None => actions::entries(shared, None).await?,
        Some(Some(object)) => actions::entries(shared, Some(object)).await?,
        Some(None) => Vec::new(),
    };
    let (now, mut rows) = (now(), Vec::new());
    for entry in &entries {
        let event = event(entry, about.as_ref(), &state, &site);
        let at = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let is_selected = selector.matches(|field| {
            let place = FIELDS.iter().find(|(name, _)| *name == field).map_or("", |(_, place)| *place);
            Cow::Borrowed(at(place))
        });
        if is_selected && namespace.is_none_or(|namespace| at("/metadata/namespace") == namespace) {
            rows.push(row(entry, event, now));
        }
    }
    EVENT.list(rows, state.version, query, headers)
}

/// Returns the object that a selector names.
fn involved(selector: &FieldSelector, namespace: Option<&str>, site: &Name) -> Option<Key> {
    let kind = selector.required("involvedObject.kind")?;
    let kind = Kind::ALL.into_iter().find(|one| one.as_str() == kind)?;
    let name = selector.required("involvedObject.name")?.parse().ok()?;
    let namespace = selector.required("involvedObject.namespace").filter(|name| !name.is_empty()).or(namespace);
    let namespace = match kind.is_namespaced() {
        true => Some(namespace.map_or_else(|| Some(site.clone()), |name| name.parse().ok())?),
        false => None,
    };
    Some(Key { kind, namespace, name })
}

/// Returns an entry as an event. Without an object it is about the host, else the ISO or the config that it names, else
/// the server.
fn event(entry: &Entry, about: Option<&Key>, state: &Snapshot, site: &Name) -> Value {
    let named = |kind, name: &Name, namespace| Key { kind, namespace, name: name.clone() };
    let key = about.cloned().or_else(|| match (&entry.host, entry.event.image(), entry.event.config()) {
        (Some(host), _, _) => {
            let now = entry.mac.and_then(|mac| state.host_by_mac(mac));
            let namespace = now.and_then(|host| host.metadata.namespace.clone()).unwrap_or_else(|| site.clone());
            Some(named(Kind::BareMetalHost, host, Some(namespace)))
        }
        (None, Some(image), _) => Some(named(Kind::IscsiCdrom, image, None)),
        (None, None, Some(config)) => Some(named(Kind::BootConfig, config, None)),
        (None, None, None) => None,
    });
    let (kind, name) = match &key {
        Some(key) => (key.kind.as_str(), key.name.as_str()),
        None => ("Server", "bootlatch"),
    };
    let mut object = json!({"apiVersion": "v1", "kind": kind, "name": name});
    if let Some(key) = &key {
        if let Some(namespace) = &key.namespace {
            object["namespace"] = namespace.as_str().into();
        }
        if let Some(found) = state.get(key) {
            object["uid"] = found.meta().uid.as_str().into();
        }
    }
    let namespace = key.as_ref().and_then(|key| key.namespace.clone()).unwrap_or_else(|| site.clone());
    let digest = Sha256::digest(format!("{} {:?} {} {kind} {name}", entry.time, entry.mac, entry.event.code()));
    let last = entry.last.unwrap_or(entry.time);
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {
            "name": format!("{name}.{}", hex::encode(&digest[..8])), "namespace": namespace,
            "uid": uuid::Uuid::from_slice(&digest[..16]).unwrap_or_default(), "creationTimestamp": entry.time,
        },
        "involvedObject": object, "reason": reason(entry.event.code()), "message": message(entry),
        "type": if entry.event.is_fault() { "Warning" } else { "Normal" }, "count": entry.count,
        "firstTimestamp": entry.time, "lastTimestamp": last, "eventTime": null,
        "source": {"component": "bootlatch"}, "reportingComponent": "bootlatch", "reportingInstance": "",
    })
}

/// Returns an event's code as Kubernetes writes a reason: `boot_completed` is `BootCompleted`.
fn reason(code: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect::<String>()
    };
    code.split('_').map(capital).collect()
}

/// Returns the event's sentence and its details.
fn message(entry: &Entry) -> String {
    let details = serde_json::to_value(&entry.event).unwrap_or_default()["detail"].take();
    let details: Vec<String> = details
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name}={text}"),
            None => format!("{name}={value}"),
        })
        .collect();
    let summary = entry.event.summary();
    if details.is_empty() { summary.to_owned() } else { format!("{summary}: {}", details.join(", ")) }
}

fn row(entry: &Entry, event: Value, now: Timestamp) -> PlainRow {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let involved = &event["involvedObject"];
    let object = format!(
        "{}/{}",
        involved["kind"].as_str().unwrap_or_default().to_lowercase(),
        involved["name"].as_str().unwrap_or_default()
    );
    let cells =
        vec![ago(Some(entry.last.unwrap_or(entry.time)), now), text("type"), text("reason"), object, text("message")];
    (cells, event)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::api::fixture::{ApiFixture, host};

    async fn items(fixture: &ApiFixture, path: &str) -> Vec<Value> {
        let reply = fixture.admin("GET", path, "").await;
        let list: Value = serde_json::from_slice(reply.body()).unwrap();
        list["items"].as_array().unwrap_or_else(|| panic!("{path}: {list}")).clone()
    }

    #[test]
    fn a_code_is_a_reason_in_kubernetes_words() {
        for (code, expected) in [("held", "Held"), ("boot_completed", "BootCompleted"), ("iscsi_login", "IscsiLogin")] {
            assert_eq!(reason(code), expected);
        }
    }

    #[tokio::test]
    async fn the_timeline_is_listed_by_namespace_and_object() {
        let fixture = ApiFixture::new();
        fixture.put_image(b"the bytes of an image", &[]).await;
        fixture.put(Kind::BareMetalHost, host(json!({"image": "live"}))).await;
        let path = "/api/v1/namespaces/default/baremetalhosts/vm/hold";
        assert_eq!(fixture.admin("POST", path, "").await.status(), 200);
        // The timeline's entries are written behind the commits, in order.
        fixture.put(Kind::BareMetalHost, host(json!({"image": "live", "online": true}))).await;
        let all = items(&fixture, "/api/v1/events").await;
        let held = all.iter().find(|event| event["reason"] == "Held").unwrap();
        assert_eq!(held["involvedObject"]["name"], "vm");
        assert_eq!((&held["type"], &held["metadata"]["namespace"]), (&json!("Normal"), &json!("default")));
        let uid = held["involvedObject"]["uid"].as_str().unwrap();
        let rows = [
            ("/api/v1/namespaces/default/events".to_owned(), true),
            ("/api/v1/namespaces/other/events".to_owned(), false),
            ("/api/v1/events?fieldSelector=reason%3DHeld".to_owned(), true),
            ("/api/v1/events?fieldSelector=reason%21%3DHeld".to_owned(), false),
            (
                format!(
                    "/api/v1/events?fieldSelector=involvedObject.name%3Dvm%2CinvolvedObject.uid%3D{uid}%2CinvolvedObject.kind%3DBareMetalHost"
                ),
                true,
            ),
            (
                "/api/v1/events?fieldSelector=involvedObject.name%3Dlive%2CinvolvedObject.kind%3DISCSICdrom".to_owned(),
                false,
            ),
            (
                "/api/v1/events?fieldSelector=involvedObject.name%3Dnone%2CinvolvedObject.kind%3DBareMetalHost"
                    .to_owned(),
                false,
            ),
        ];
        for (path, expected) in rows {
            let found = items(&fixture, &path).await;
            assert_eq!(found.iter().any(|event| event["reason"] == "Held"), expected, "{path}");
        }
        for query in ["watch=true", "fieldSelector=spec.x%3D1", "labelSelector=a"] {
            assert_eq!(fixture.admin("GET", &format!("/api/v1/events?{query}"), "").await.status(), 400, "{query}");
        }
    }
}
