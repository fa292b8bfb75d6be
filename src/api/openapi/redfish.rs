use serde_json::{Map, Value, json};

use crate::api::openapi::paths::any;

/// Describes the Redfish facade; its resources are DMTF's schemas'.
pub fn add(paths: &mut Map<String, Value>) {
    let open =
        [("/redfish", "redfishVersions"), ("/redfish/v1", "redfishRoot"), ("/redfish/v1/odata", "redfishServices")];
    for (path, id) in open {
        let mut read = operation(id, path, &[]);
        read["security"] = json!([]);
        paths.insert(path.into(), json!({"get": read}));
    }
    let metadata =
        json!({"200": {"description": "The metadata document.", "content": {"application/xml": {"schema": {}}}}});
    let metadata = json!({"operationId": "redfishMetadata", "security": [], "responses": metadata});
    paths.insert("/redfish/v1/$metadata".into(), json!({"get": metadata}));
    for (path, id) in [
        ("/redfish/v1/Systems", "redfishSystems"),
        ("/redfish/v1/Systems/{id}/EthernetInterfaces", "redfishPorts"),
        ("/redfish/v1/Systems/{id}/EthernetInterfaces/1", "redfishPort"),
        ("/redfish/v1/Systems/{id}/VirtualMedia", "redfishSystemDrives"),
        ("/redfish/v1/Managers", "redfishManagers"),
        ("/redfish/v1/Managers/{id}", "redfishManager"),
        ("/redfish/v1/Managers/{id}/VirtualMedia", "redfishDrives"),
        ("/redfish/v1/Chassis", "redfishAllChassis"),
        ("/redfish/v1/Chassis/{id}", "redfishChassis"),
        ("/redfish/v1/SessionService", "redfishSessionService"),
    ] {
        paths.insert(path.into(), json!({"get": operation(id, path, &[])}));
    }
    machines(paths);
    sessions(paths);
}

fn machines(paths: &mut Map<String, Value>) {
    let boot = json!({"type": "object", "properties": {"Boot": {"type": "object", "properties": {
        "BootSourceOverrideTarget": {"type": "string", "enum": ["None", "Pxe", "Cd", "Hdd"]},
        "BootSourceOverrideEnabled": {"type": "string", "enum": ["Once", "Continuous", "Disabled"]},
        "BootSourceOverrideMode": {"type": "string"},
    }}}});
    let path = "/redfish/v1/Systems/{id}";
    let change = change("redfishSetBoot", path, boot);
    paths.insert(path.into(), json!({"get": operation("redfishSystem", path, &[]), "patch": change}));
    let kind = json!({"type": "object", "required": ["ResetType"], "properties": {"ResetType": {"type": "string"}}});
    let path = "/redfish/v1/Systems/{id}/Actions/ComputerSystem.Reset";
    paths.insert(path.into(), json!({"post": self::change("redfishReset", path, kind)}));
    for (owner, id) in [("Systems", "redfishSystem"), ("Managers", "redfish")] {
        let path = format!("/redfish/v1/{owner}/{{id}}/VirtualMedia/Cd");
        let medium = || {
            json!({"type": "object", "properties": {
                "Image": {"type": "string", "nullable": true, "description": "A URL without a password, which whoever may read is shown."},
                "Inserted": {"type": "boolean"},
            }})
        };
        let (read, set) =
            (operation(&format!("{id}Drive"), &path, &[]), self::change(&format!("{id}SetDrive"), &path, medium()));
        paths.insert(path.clone(), json!({"get": read, "patch": set}));
        let insert = format!("{path}/Actions/VirtualMedia.InsertMedia");
        let mut wanted = medium();
        wanted["required"] = json!(["Image"]);
        paths.insert(insert.clone(), json!({"post": self::change(&format!("{id}Insert"), &insert, wanted)}));
        let eject = format!("{path}/Actions/VirtualMedia.EjectMedia");
        paths.insert(
            eject.clone(),
            json!({"post": self::change(&format!("{id}Eject"), &eject, json!({"type": "object"}))}),
        );
    }
}

fn sessions(paths: &mut Map<String, Value>) {
    let path = "/redfish/v1/SessionService/Sessions";
    let proof = json!({"type": "object", "required": ["UserName", "Password"], "properties": {
        "UserName": {"type": "string"}, "Password": {"type": "string", "description": "A token of this server's."},
    }});
    let mut begin = operation("redfishBegin", path, &[400, 408, 413, 503]);
    begin["responses"]["201"] = any("A session: its token is in X-Auth-Token.");
    begin["responses"].as_object_mut().map(|responses| responses.remove("200"));
    begin["requestBody"] = body(proof);
    begin["security"] = json!([]);
    paths.insert(path.into(), json!({"get": operation("redfishSessions", path, &[]), "post": begin}));
    let path = "/redfish/v1/SessionService/Sessions/{id}";
    let mut end = operation("redfishEnd", path, &[400, 403]);
    end["responses"]["204"] = json!({"description": "Ended."});
    end["responses"].as_object_mut().map(|responses| responses.remove("200"));
    paths.insert(path.into(), json!({"get": operation("redfishSession", path, &[]), "delete": end}));
}

fn body(schema: Value) -> Value {
    json!({"required": true, "content": {"application/json": {"schema": schema}}})
}

fn operation(id: &str, path: &str, bad: &[u16]) -> Value {
    let named: Vec<Value> = path
        .contains("{id}")
        .then(|| json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}))
        .into_iter()
        .collect();
    let mut responses = Map::new();
    responses.insert("200".into(), any("The resource."));
    for code in [401, 404].iter().chain(bad) {
        responses.insert(code.to_string(), any("What could not be done, and why."));
    }
    json!({"operationId": id, "parameters": named, "responses": responses, "security": [{"token": []}]})
}

fn change(id: &str, path: &str, schema: Value) -> Value {
    let mut change = operation(id, path, &[400, 403, 408, 409, 413, 422, 502, 503]);
    change["responses"]["204"] = json!({"description": "Done."});
    change["responses"].as_object_mut().map(|responses| responses.remove("200"));
    change["requestBody"] = body(schema);
    change
}
