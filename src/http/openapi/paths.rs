use serde_json::{Map, Value, json};

use crate::fleet::Kind;

use super::schemas::reference;

/// Describes every route and what it answers.
pub fn all() -> Value {
    let mut paths = Map::new();
    for kind in Kind::ALL {
        let collection = match kind.is_namespaced() {
            true => format!("/api/v1/namespaces/{{namespace}}/{}", kind.plural()),
            false => format!("/api/v1/{}", kind.plural()),
        };
        let namespace: &[&str] = if kind.is_namespaced() { &["namespace"] } else { &[] };
        if kind.is_namespaced() {
            let everywhere =
                json!({"get": list(kind, &[], "ForAllNamespaces"), "post": create(kind, &[], "InAnyNamespace")});
            paths.insert(format!("/api/v1/{}", kind.plural()), everywhere);
        }
        paths
            .insert(collection.clone(), json!({"get": list(kind, namespace, ""), "post": create(kind, namespace, "")}));
        let named: Vec<&str> = namespace.iter().copied().chain(["name"]).collect();
        paths.insert(format!("{collection}/{{name}}"), item(kind, &named));
        if kind == Kind::BareMetalHost {
            for (action, body) in [("install", Some("Wish")), ("release", None), ("hold", None)] {
                paths.insert(
                    format!("{collection}/{{name}}/{action}"),
                    json!({"post": act(kind, action, body, &named)}),
                );
            }
            let where_ = json!({"content": {"application/json": {"schema": {"type": "object", "properties": {
                "address": {"type": "string", "description": "Address of ours that the BMC reaches, where it is not the machines'."},
            }}}}});
            let good = [(200, "VirtualMedium")];
            let medium =
                operation("insertBareMetalHostMedium", &named, &[], Some(where_), &good, &[400, 401, 404, 422]);
            paths.insert(format!("{collection}/{{name}}/medium"), json!({"post": medium}));
            let history =
                operation("readBareMetalHostTimeline", &named, &[], None, &[(200, "Timeline")], &[400, 401, 404]);
            paths.insert(format!("{collection}/{{name}}/timeline"), json!({"get": history}));
        }
    }
    let history = operation("listTimeline", &[], &[], None, &[(200, "Timeline")], &[401]);
    paths.insert("/api/v1/timeline".into(), json!({"get": history}));
    paths.insert("/api/v1/iscsi-cdroms/upload".into(), json!({"post": upload()}));
    machines(&mut paths);
    Value::Object(paths)
}

/// Describes what machines ask; it needs no token.
fn machines(paths: &mut Map<String, Value>) {
    let script = |id: &str, parameters: Value| {
        json!({"get": {
            "operationId": id, "parameters": parameters, "security": [],
            "responses": {"200": plain("An iPXE script."), "400": plain("The MAC address is missing or wrong.")},
        }})
    };
    let mac = json!([
        {"name": "mac", "in": "query", "required": true, "schema": {"type": "string"}, "description": "Hardware address in any usual spelling."},
        {"name": "platform", "in": "query", "schema": {"type": "string"}, "description": "iPXE's ${platform}."},
        {"name": "buildarch", "in": "query", "schema": {"type": "string"}, "description": "iPXE's ${buildarch}."},
    ]);
    paths.insert("/ipxe".into(), script("bootScript", mac.clone()));
    paths.insert("/api/v1/ipxe/boot".into(), script("bootScriptByApi", mac));
    paths.insert("/boot.ipxe".into(), script("bootHook", json!([])));
    let file = json!([{"name": "file", "in": "query", "schema": {"type": "string"}, "description": "File of the config; its main one where none is named."}]);
    let refused = "Says which step missed.";
    paths.insert(
        "/api/v1/bootconfig".into(),
        json!({"get": {
            "operationId": "bootConfig", "parameters": file, "security": [],
            "responses": {
                "200": {"description": "The config of the machine that asks.", "content": {
                    "application/vnd.coreos.ignition+json": {"schema": {"type": "string"}},
                    "text/cloud-config": {"schema": {"type": "string"}}, "text/plain": {"schema": {"type": "string"}},
                }},
                "400": plain(refused), "403": plain(refused), "404": plain(refused), "503": plain(refused),
            },
        }}),
    );
    paths.insert("/api/v1/boot-complete".into(), json!({"post": {
        "operationId": "bootComplete", "parameters": [], "security": [],
        "responses": {
            "200": {"description": "The host is Installed.", "content": {"application/json": {"schema": {"type": "object"}}}},
            "400": plain(refused), "403": plain(refused), "404": plain(refused), "503": plain(refused),
        },
    }}));
    for (path, id) in [("/healthz", "health"), ("/metrics", "metrics")] {
        paths.insert(
            path.into(),
            json!({"get": {
                "operationId": id, "parameters": [], "security": [], "responses": {"200": plain("Text.")},
            }}),
        );
    }
}

fn plain(about: &str) -> Value {
    json!({"description": about, "content": {"text/plain": {"schema": {"type": "string"}}}})
}

/// Describes an operation of the object API. Every one of them may answer 401 and 503 with a Status.
fn operation(
    id: &str,
    path: &[&str],
    query: &[(&str, &str)],
    body: Option<Value>,
    good: &[(u16, &str)],
    bad: &[u16],
) -> Value {
    let mut parameters: Vec<Value> = path
        .iter()
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    parameters.extend(query.iter().map(|(name, kind)| json!({"name": name, "in": "query", "schema": {"type": kind}})));
    let mut responses = Map::new();
    for (code, schema) in good {
        let content = json!({"application/json": {"schema": reference(schema)}});
        responses.insert(code.to_string(), json!({"description": "Done.", "content": content}));
    }
    for code in bad {
        let content = json!({"application/json": {"schema": reference("Status")}});
        responses.insert(code.to_string(), json!({"description": "Not done.", "content": content}));
    }
    let mut operation =
        json!({"operationId": id, "parameters": parameters, "responses": responses, "security": [{"token": []}]});
    if let Some(body) = body {
        operation["requestBody"] = body;
    }
    operation
}

fn of_kind(mut operation: Value, kind: Kind, action: &str) -> Value {
    operation["x-kubernetes-group-version-kind"] = json!({"group": "", "version": "v1", "kind": kind.as_str()});
    operation["x-kubernetes-action"] = action.into();
    operation
}

const WRITE: &[(&str, &str)] = &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];

fn list(kind: Kind, path: &[&str], suffix: &str) -> Value {
    let query = [
        ("watch", "boolean"),
        ("resourceVersion", "string"),
        ("resourceVersionMatch", "string"),
        ("limit", "integer"),
        ("continue", "string"),
        ("labelSelector", "string"),
        ("fieldSelector", "string"),
        ("allowWatchBookmarks", "boolean"),
        ("sendInitialEvents", "boolean"),
        ("timeoutSeconds", "integer"),
    ];
    let name = format!("{kind}List");
    let mut list =
        operation(&format!("list{kind}{suffix}"), path, &query, None, &[(200, &name)], &[400, 401, 404, 410]);
    let watch = json!({"schema": reference(&format!("{kind}Event"))});
    list["responses"]["200"]["content"]["application/json;stream=watch"] = watch;
    of_kind(list, kind, "list")
}

fn content(kinds: &[&str], schema: &Value) -> Value {
    let content: Map<String, Value> =
        kinds.iter().map(|kind| ((*kind).to_owned(), json!({"schema": schema}))).collect();
    json!({"required": true, "content": content})
}

const OBJECT: &[&str] = &["application/json", "application/yaml"];

fn create(kind: Kind, path: &[&str], suffix: &str) -> Value {
    let body = content(OBJECT, &reference(kind.as_str()));
    let bad = [400, 401, 404, 409, 413, 415, 422, 503];
    let create = operation(&format!("create{kind}{suffix}"), path, WRITE, Some(body), &[(201, kind.as_str())], &bad);
    of_kind(create, kind, "post")
}

fn item(kind: Kind, path: &[&str]) -> Value {
    let good = [(200, kind.as_str())];
    let body = content(OBJECT, &reference(kind.as_str()));
    let read = operation(&format!("read{kind}"), path, &[], None, &good, &[400, 401, 404]);
    let bad = [400, 401, 404, 409, 413, 415, 422, 503];
    let replace = operation(&format!("replace{kind}"), path, WRITE, Some(body), &good, &bad);
    let change = json!({"type": "object"});
    let mut patched =
        content(&["application/merge-patch+json", "application/json", "application/apply-patch+yaml"], &change);
    patched["content"]["application/json-patch+json"] = json!({"schema": {"type": "array", "items": change}});
    let query: Vec<_> = WRITE.iter().copied().chain([("force", "boolean")]).collect();
    let patch = operation(&format!("patch{kind}"), path, &query, Some(patched), &[good[0], (201, kind.as_str())], &bad);
    let options = json!({"content": {"application/json": {"schema": {"type": "object"}}}});
    let delete = operation(&format!("delete{kind}"), path, WRITE, Some(options), &[(200, "Status")], &bad);
    json!({
        "get": of_kind(read, kind, "get"), "put": of_kind(replace, kind, "put"),
        "patch": of_kind(patch, kind, "patch"), "delete": of_kind(delete, kind, "delete"),
    })
}

fn act(kind: Kind, action: &str, body: Option<&str>, path: &[&str]) -> Value {
    let body = body.map(|name| json!({"content": {"application/json": {"schema": reference(name)}}}));
    let bad = [400, 401, 404, 409, 413, 415, 422, 503];
    operation(&format!("{action}{kind}"), path, &[], body, &[(200, kind.as_str())], &bad)
}

fn upload() -> Value {
    let body = json!({"required": true, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}});
    let query = [("name", "string"), ("description", "string"), ("bootConfig", "string"), ("sha256", "string")];
    let bad = [400, 401, 408, 409, 422, 500, 503];
    let mut upload = operation("uploadISCSICdrom", &[], &query, Some(body), &[(201, "ISCSICdrom")], &bad);
    upload["parameters"][0]["required"] = true.into();
    upload
}
