use serde_json::{Map, Value, json};

use crate::fleet::Kind;

use crate::api::openapi::schemas::reference;
use crate::api::openapi::{generate, machines, redfish};

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
        let read = format!("read{kind}Timeline");
        let history = operation(&read, &named, &[], None, &[(200, "Timeline")], &[400, 401, 404]);
        paths.insert(format!("{collection}/{{name}}/timeline"), json!({"get": history}));
        if kind == Kind::BareMetalHost {
            for (action, body) in [("install", Some("InstallRequest")), ("release", None), ("hold", None)] {
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
            let mut seed = operation("readBareMetalHostSeed", &named, &[], None, &[(200, "Upload")], &[400, 401]);
            seed["responses"]["200"] = json!({"description": "A NoCloud seed.", "content": {
                "application/x-iso9660-image": {"schema": {"type": "string", "format": "binary"}},
            }});
            for code in ["403", "404", "422"] {
                seed["responses"][code] = any("Says why there is none.");
            }
            paths.insert(format!("{collection}/{{name}}/seed"), json!({"get": seed}));
        }
        if kind == Kind::IscsiCdrom {
            paths.insert(format!("{collection}/{{name}}/files"), json!({"get": files(&named)}));
        }
    }
    let history = operation("listTimeline", &[], &[], None, &[(200, "Timeline")], &[401]);
    paths.insert("/api/v1/timeline".into(), json!({"get": history}));
    paths.insert("/api/v1/iscsi-cdroms/upload".into(), json!({"post": upload()}));
    let progress = operation("readUpload", &["key"], &[], None, &[(200, "Upload")], &[400, 401]);
    let give_up = operation("giveUpUpload", &["key"], &[], None, &[(200, "Upload")], &[400, 401, 403, 500]);
    let all = operation("listUploads", &[], &[], None, &[(200, "UploadList")], &[401]);
    paths.insert("/api/v1/uploads".into(), json!({"get": all}));
    paths.insert("/api/v1/uploads/{key}".into(), json!({"get": progress, "delete": give_up}));
    generate::add(&mut paths);
    discovery(&mut paths);
    reviews(&mut paths);
    machines::add(&mut paths);
    redfish::add(&mut paths);
    Value::Object(paths)
}

/// Describes an operation of the object API. Every one of them may answer 401 and 503 with a Status.
pub fn operation(
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
    parameters
        .extend(query.iter().map(|(name, kind)| json!({"name": name, "in": "query", "schema": one_of(name, kind)})));
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

/// Describes what says which kinds there are, and what the server is.
fn discovery(paths: &mut Map<String, Value>) {
    for (path, id) in [
        ("/api", "listVersions"),
        ("/apis", "listGroups"),
        ("/api/v1", "listResources"),
        ("/openapi/v2", "readSwagger"),
        ("/openapi/v3", "listDocuments"),
        ("/openapi/v3/api/v1", "readDocument"),
    ] {
        let bad: &[u16] = if path == "/openapi/v2" { &[401, 406] } else { &[401] };
        let mut read = operation(id, &[], &[], None, &[], bad);
        read["responses"]["200"] = any("What there is.");
        paths.insert(path.into(), json!({"get": read}));
    }
}

/// Describes what a client may ask about itself, as Kubernetes' clients do.
fn reviews(paths: &mut Map<String, Value>) {
    for (group, plural, id) in [
        ("authentication", "selfsubjectreviews", "createSelfSubjectReview"),
        ("authorization", "selfsubjectaccessreviews", "createSelfSubjectAccessReview"),
        ("authorization", "selfsubjectrulesreviews", "createSelfSubjectRulesReview"),
    ] {
        let body = content(OBJECT, &json!({"type": "object", "properties": {"spec": {"type": "object"}}}));
        let mut review = operation(id, &[], &[], Some(body), &[], &[400, 401, 408, 413, 415]);
        review["responses"]["201"] = any("Who the client is, or what it may do.");
        paths.insert(format!("/apis/{group}.k8s.io/v1/{plural}"), json!({"post": review}));
    }
}

/// Describes an answer that is some JSON object.
pub fn any(about: &str) -> Value {
    json!({"description": about, "content": {"application/json": {"schema": {"type": "object"}}}})
}

/// Describes what lists an ISO's directories and gives its files.
fn files(path: &[&str]) -> Value {
    let query = [("path", "string"), ("list", "boolean")];
    let mut files = operation("readISCSICdromFiles", path, &query, None, &[], &[400, 401, 404, 422]);
    let entry = json!({"type": "object", "required": ["name", "size", "isDir"], "properties": {
        "name": {"type": "string"}, "size": {"type": "integer", "format": "int64"}, "isDir": {"type": "boolean"},
    }});
    let bytes = json!({"schema": {"type": "string", "format": "binary"}});
    files["responses"]["200"] = json!({"description": "A directory's entries, or a file's bytes.", "content": {
        "application/json": {"schema": {"type": "array", "items": entry}}, "text/plain": bytes,
    }});
    files
}

/// Describes a parameter, with its values where they are few.
fn one_of(name: &str, kind: &str) -> Value {
    let values: &[&str] = match name {
        "dryRun" => &["All"],
        "fieldValidation" => &["Ignore", "Warn", "Strict"],
        "resourceVersionMatch" => &["NotOlderThan", "Exact"],
        _ => return json!({"type": kind}),
    };
    json!({"type": kind, "enum": values})
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
        operation(&format!("list{kind}{suffix}"), path, &query, None, &[(200, &name)], &[400, 401, 404, 406, 410]);
    let watch = json!({"schema": reference(&format!("{kind}Event"))});
    list["responses"]["200"]["content"]["application/json;stream=watch"] = watch;
    of_kind(list, kind, "list")
}

/// Describes a body that must be there, in some media types.
pub fn content(kinds: &[&str], schema: &Value) -> Value {
    let content: Map<String, Value> =
        kinds.iter().map(|kind| ((*kind).to_owned(), json!({"schema": schema}))).collect();
    json!({"required": true, "content": content})
}

/// Lists the media types that an object is written in.
pub const OBJECT: &[&str] = &["application/json", "application/yaml"];

fn create(kind: Kind, path: &[&str], suffix: &str) -> Value {
    let body = content(OBJECT, &reference(kind.as_str()));
    let bad = [400, 401, 403, 404, 406, 409, 413, 415, 422, 503];
    let create = operation(&format!("create{kind}{suffix}"), path, WRITE, Some(body), &[(201, kind.as_str())], &bad);
    of_kind(create, kind, "post")
}

fn item(kind: Kind, path: &[&str]) -> Value {
    let good = [(200, kind.as_str())];
    let body = content(OBJECT, &reference(kind.as_str()));
    let read = operation(&format!("read{kind}"), path, &[], None, &good, &[400, 401, 404, 406]);
    let bad = [400, 401, 403, 404, 406, 409, 413, 415, 422, 503];
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
    let bad = [400, 401, 403, 404, 409, 413, 415, 422, 503];
    operation(&format!("{action}{kind}"), path, &[], body, &[(200, kind.as_str())], &bad)
}

fn upload() -> Value {
    let file = json!({"type": "string", "format": "binary"});
    let form = json!({"type": "object", "required": ["file"], "properties": {
        "name": {"type": "string"}, "description": {"type": "string"}, "sha256": {"type": "string"},
        "bootConfig": {"type": "array", "items": {"type": "string"}}, "file": file,
    }});
    let body = json!({"required": true, "content": {
        "application/octet-stream": {"schema": file}, "multipart/form-data": {"schema": form},
    }});
    let query = [
        ("name", "string"),
        ("description", "string"),
        ("bootConfig", "string"),
        ("sha256", "string"),
        ("resume", "string"),
        ("offset", "integer"),
        ("length", "integer"),
        ("dryRun", "string"),
    ];
    let bad = [400, 401, 403, 408, 409, 422, 503, 507];
    operation("uploadISCSICdrom", &[], &query, Some(body), &[(200, "Upload"), (201, "ISCSICdrom")], &bad)
}
