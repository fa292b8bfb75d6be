use serde_json::{Map, Value, json};

use crate::api::openapi::paths::any;

const REFUSED: &str = "Says which step missed.";

/// Describes what machines ask; it needs no token.
pub fn add(paths: &mut Map<String, Value>) {
    scripts(paths);
    configs(paths);
    bytes(paths);
    for (path, id) in [("/healthz", "health"), ("/livez", "live"), ("/metrics", "metrics")] {
        paths.insert(path.into(), read(id, json!([]), json!({"200": plain("Text.")})));
    }
    let ready = json!({"200": plain("Nothing is wrong."), "503": plain("What is wrong, a line each.")});
    paths.insert("/readyz".into(), read("ready", json!([]), ready));
    paths.insert("/version".into(), read("version", json!([]), json!({"200": any("What the server is.")})));
}

fn read(id: &str, parameters: Value, responses: Value) -> Value {
    json!({"get": {"operationId": id, "parameters": parameters, "security": [], "responses": responses}})
}

fn ask(id: &str, parameters: Value, responses: Value) -> Value {
    json!({"post": {"operationId": id, "parameters": parameters, "security": [], "responses": responses}})
}

fn scripts(paths: &mut Map<String, Value>) {
    let script = json!({"200": plain("An iPXE script."), "400": plain("The MAC address is missing or wrong.")});
    let asked = || {
        json!([
            {"name": "mac", "in": "query", "required": true, "schema": {"type": "string"}, "description": "Hardware address in any usual spelling."},
            query("platform", "iPXE's ${platform}."),
            query("buildarch", "iPXE's ${buildarch}."),
            query("choose", "Image that was picked from a menu."),
        ])
    };
    paths.insert("/ipxe".into(), read("bootScript", asked(), script.clone()));
    paths.insert("/api/v1/ipxe/boot".into(), read("bootScriptByApi", asked(), script));
    let always = json!({"200": plain("An iPXE script.")});
    let mac = json!([query("mac", "Hardware address in any usual spelling.")]);
    paths.insert("/api/v1/ipxe/localboot".into(), read("localBootScript", mac, always.clone()));
    paths.insert("/boot.ipxe".into(), read("bootHook", json!([]), always));
}

fn configs(paths: &mut Map<String, Value>) {
    let kinds = |kinds: &[&str]| -> Value {
        let described = |kind: &str| match kind.ends_with("json") {
            true => json!({"schema": {"type": "object"}}),
            false => json!({"schema": {"type": "string"}}),
        };
        let content: Map<String, Value> = kinds.iter().map(|kind| ((*kind).to_owned(), described(kind))).collect();
        json!({
            "200": {"description": "What the machine that asks is to have.", "content": content},
            "400": plain(REFUSED), "403": plain(REFUSED), "404": plain(REFUSED), "503": plain(REFUSED),
        })
    };
    let config = kinds(&["application/vnd.coreos.ignition+json", "text/cloud-config", "text/plain"]);
    let (token, file) = (
        query("token", "Token that the machine's script carried."),
        query("file", "File of the config; its main one where none is named."),
    );
    let named = |names: &[&str]| -> Vec<Value> { names.iter().map(|name| path(name)).collect() };
    paths.insert("/api/v1/bootconfig".into(), read("bootConfig", json!([token, file]), config.clone()));
    paths.insert("/config/{token}".into(), read("configByToken", json!([path("token"), file]), config.clone()));
    paths.insert(
        "/config/{token}/{file}".into(),
        read("configFileByToken", json!(named(&["token", "file"])), config.clone()),
    );
    paths.insert("/nocloud/{token}/{file}".into(), read("noCloud", json!(named(&["token", "file"])), config.clone()));
    paths.insert("/configs/{file}".into(), read("generatedConfig", json!([path("file"), token]), config.clone()));
    paths.insert("/get_ignition".into(), read("namedIgnition", json!([token]), config));
    let done = json!({
        "200": any("The host is Installed."),
        "400": plain(REFUSED), "403": plain(REFUSED), "404": plain(REFUSED), "503": plain(REFUSED),
    });
    paths.insert("/api/v1/boot-complete".into(), ask("bootComplete", json!([token]), done.clone()));
    paths.insert("/phone_home".into(), ask("phoneHome", json!([token]), done.clone()));
    paths.insert("/phone_home/{token}".into(), ask("phoneHomeByToken", json!(named(&["token"])), done));
}

/// Describes boot programs, ISOs and the files within them. A path that goes on deeper is taken, too.
fn bytes(paths: &mut Map<String, Value>) {
    let program = json!({"200": {"description": "A boot program, or iPXE's question beside it."}, "404": plain("There is none.")});
    paths.insert("/boot/{mac}/{file}".into(), read("bootProgram", json!([path("mac"), path("file")]), program));
    let part = json!({
        "200": {"description": "All of its bytes."}, "206": {"description": "The range that was asked for (RFC 9110, section 14)."},
        "304": {"description": "It is what the client has."}, "403": plain(REFUSED), "404": plain("There is none."),
        "416": {"description": "The range cannot be satisfied."},
    });
    let view = [
        query(
            "host",
            "MAC address or name (of another namespace than the site's: NAMESPACE/NAME) of the host whose view of the ISO is asked for.",
        ),
        query("token", "Token that its script carried."),
    ];
    let with = |names: &[&str]| -> Value { names.iter().map(|name| path(name)).chain(view.clone()).collect() };
    paths.insert("/files/{path}".into(), read("fileBytes", json!([path("path")]), part.clone()));
    let mut iso = part;
    iso["503"] = plain("The ISO's file is missing or broken. Retry-After says when to ask again.");
    paths.insert("/iso/{name}".into(), read("isoBytes", with(&["name"]), iso.clone()));
    paths.insert("/iso/{name}/{path}".into(), read("isoFileBytes", with(&["name", "path"]), iso.clone()));
    paths.insert("/media/{token}/{file}".into(), read("mediumBytes", json!([path("token"), path("file")]), iso));
}

fn query(name: &str, about: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": "string"}, "description": about})
}

fn path(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
}

fn plain(about: &str) -> Value {
    json!({"description": about, "content": {"text/plain": {"schema": {"type": "string"}}}})
}
