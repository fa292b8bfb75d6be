//! Operations of the Redfish service; its resources follow DMTF's schemas.

use serde_json::{Value, json};

use crate::api::openapi::build::{Details, any};
use crate::api::redfish::BOOT_TARGETS;
use crate::api::route::{Caller, Operation, Route, RouteMethod};

/// Returns the parameters, body and responses of an operation of the Redfish service.
pub fn details(route: &Route, operation: &Operation) -> Details {
    let details = Details::default();
    match operation.method {
        RouteMethod::Get if route.path.ends_with("$metadata") => {
            let content = json!({"application/xml": {"schema": {}}});
            details.response(200, json!({"description": "The metadata document.", "content": content}))
        }
        RouteMethod::Get => fails(details.response(200, any("The resource.")), &[]),
        RouteMethod::Delete => fails(details.response(204, json!({"description": "Ended."})), &[400, 403]),
        // The login: it is the one write for anyone.
        RouteMethod::Post if operation.caller == Caller::Anyone => {
            let session = any("A session; its token is in X-Auth-Token.");
            fails(details.body(body(login())).response(201, session), &[400, 408, 413, 503])
        }
        RouteMethod::Post | RouteMethod::Put | RouteMethod::Patch => {
            let details = details.body(body(write(route.path))).response(204, json!({"description": "Done."}));
            fails(details, &[400, 403, 408, 409, 412, 413, 422, 502, 503])
        }
    }
}

fn fails(details: Details, codes: &[u16]) -> Details {
    let about = || any("The error, in Redfish's format.");
    [401, 404].iter().chain(codes).fold(details, |details, code| details.response(*code, about()))
}

fn body(schema: Value) -> Value {
    json!({"required": true, "content": {"application/json": {"schema": schema}}})
}

fn login() -> Value {
    json!({"type": "object", "required": ["UserName", "Password"], "properties": {
        "UserName": {"type": "string"}, "Password": {"type": "string", "description": "A token of this server."},
    }})
}

/// Returns the schema of a write's body.
fn write(path: &str) -> Value {
    let last = path.rsplit('/').next().unwrap_or_default();
    match last {
        "ComputerSystem.Reset" => {
            json!({"type": "object", "required": ["ResetType"], "properties": {"ResetType": {"type": "string"}}})
        }
        "Cd" => medium(),
        "VirtualMedia.InsertMedia" => {
            let mut medium = medium();
            medium["required"] = json!(["Image"]);
            medium
        }
        "VirtualMedia.EjectMedia" => json!({"type": "object"}),
        _ => json!({"type": "object", "properties": {"Boot": {"type": "object", "properties": {
            "BootSourceOverrideTarget": {"type": "string", "enum": BOOT_TARGETS},
            "BootSourceOverrideEnabled": {"type": "string", "enum": ["Once", "Continuous", "Disabled"]},
            "BootSourceOverrideMode": {"type": "string"},
        }}}}),
    }
}

fn medium() -> Value {
    json!({"type": "object", "properties": {
        "Image": {
            "type": "string", "nullable": true,
            "description": "URL of the medium, without a password: every client that may read sees it.",
        },
        "Inserted": {"type": "boolean"},
    }})
}
