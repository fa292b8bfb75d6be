//! Operations on objects.

use serde_json::{Map, Value, json};

use crate::fleet::Kind;

use crate::api::objects::iso_files::ListedFile;
use crate::api::openapi::build::{Details, OBJECT, any, content, described_query, optional, reference};
use crate::api::openapi::derived::{self, Usage};
use crate::api::route::{ObjectEndpoint, Route};

/// Query parameters of every write.
const WRITE: &[(&str, &str)] = &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
/// Query parameters of lists and watches.
const LIST: &[(&str, &str)] = &[
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
/// Status codes of failed writes.
const WRITE_FAILS: &[u16] = &[400, 401, 403, 404, 406, 409, 413, 415, 422, 503];
/// Status codes of failed actions.
const ACTION_FAILS: &[u16] = &[400, 401, 403, 404, 409, 413, 415, 422, 503];

/// Returns the parameters, body and responses of an operation on objects.
pub fn details(route: &Route, endpoint: ObjectEndpoint) -> Details {
    let Some(kind) = route.resource.map(|resource| resource.kind) else { return Details::default() };
    let details = Details::default();
    let name = kind.as_str();
    let body = || content(OBJECT, &reference(name));
    match endpoint {
        ObjectEndpoint::List => list(kind),
        ObjectEndpoint::Create => details.query(WRITE).body(body()).returns(201, name).fails(WRITE_FAILS),
        ObjectEndpoint::DeleteCollection => {
            let options = optional(&json!({"type": "object"}));
            let selectors = [("labelSelector", "string"), ("fieldSelector", "string")];
            let details = details.query(WRITE).query(&selectors).body(options);
            details.returns(200, &format!("{kind}List")).fails(WRITE_FAILS)
        }
        ObjectEndpoint::Read => details.returns(200, name).fails(&[400, 401, 404, 406]),
        ObjectEndpoint::Replace => details.query(WRITE).body(body()).returns(200, name).fails(WRITE_FAILS),
        ObjectEndpoint::Patch => patch(name),
        ObjectEndpoint::Delete => {
            let options = optional(&json!({"type": "object"}));
            details.query(WRITE).body(options).returns(200, "Status").fails(WRITE_FAILS)
        }
        ObjectEndpoint::Timeline => details.returns(200, "Timeline").fails(&[400, 401, 404]),
        ObjectEndpoint::Diagnosis => details.returns(200, "Diagnosis").fails(&[400, 401, 404]),
        ObjectEndpoint::Console => {
            let text = json!({"description": "Done.", "content": {"text/plain": {"schema": {"type": "string"}}}});
            let query = [("from", "integer"), ("previous", "boolean")];
            details.query(&query).response(200, text).fails(&[400, 401, 403, 404, 500])
        }
        ObjectEndpoint::Install => {
            let body = optional(&reference("InstallRequest"));
            details.body(body).returns(200, name).fails(ACTION_FAILS)
        }
        ObjectEndpoint::LocalBoot | ObjectEndpoint::Hold => details.returns(200, name).fails(ACTION_FAILS),
        ObjectEndpoint::VirtualMedia => {
            let body = optional(&reference("VirtualMediaRequest"));
            details.body(body).returns(200, "VirtualMedium").fails(&[400, 401, 403, 404, 422])
        }
        ObjectEndpoint::Power => {
            let body = content(&["application/json"], &reference("PowerChangeRequest"));
            details.body(body).returns(200, name).fails(ACTION_FAILS)
        }
        ObjectEndpoint::BootDevice => {
            let body = content(&["application/json"], &reference("BootDeviceRequest"));
            details.body(body).returns(200, name).fails(&[400, 401, 403, 404, 422, 502, 503])
        }
        ObjectEndpoint::Seed => seed(),
        ObjectEndpoint::Rehearsal => rehearsal(details).fails(&[400, 401, 403, 404, 422, 503]),
        ObjectEndpoint::Files => files(),
        ObjectEndpoint::Config => {
            let text = json!({"description": "Done.", "content": {"text/plain": {"schema": {"type": "string"}}}});
            details.query(&[("file", "string")]).response(200, text).fails(&[400, 401, 403, 404, 422])
        }
        ObjectEndpoint::Preview => {
            let body = content(&["application/json"], &reference("TemplatePreviewRequest"));
            details.body(body).returns(200, "TemplatePreview").fails(&[400, 401, 403, 404, 413, 415, 422, 429])
        }
        ObjectEndpoint::Versions => details.returns(200, &format!("{kind}List")).fails(&[400, 401, 404]),
    }
}

/// Returns the kind and the action of Kubernetes' extensions, for operations on whole objects.
pub fn kubernetes_action(route: &Route, endpoint: ObjectEndpoint) -> Option<(Kind, &'static str)> {
    let action = match endpoint {
        ObjectEndpoint::List => "list",
        ObjectEndpoint::Create => "post",
        ObjectEndpoint::DeleteCollection => "deletecollection",
        ObjectEndpoint::Read => "get",
        ObjectEndpoint::Replace => "put",
        ObjectEndpoint::Patch => "patch",
        ObjectEndpoint::Delete => "delete",
        ObjectEndpoint::Timeline
        | ObjectEndpoint::Diagnosis
        | ObjectEndpoint::Console
        | ObjectEndpoint::Install
        | ObjectEndpoint::LocalBoot
        | ObjectEndpoint::Hold
        | ObjectEndpoint::VirtualMedia
        | ObjectEndpoint::Power
        | ObjectEndpoint::BootDevice
        | ObjectEndpoint::Seed
        | ObjectEndpoint::Rehearsal
        | ObjectEndpoint::Files
        | ObjectEndpoint::Versions
        | ObjectEndpoint::Config
        | ObjectEndpoint::Preview => return None,
    };
    Some((route.resource?.kind, action))
}

fn list(kind: Kind) -> Details {
    let json = json!({"schema": reference(&format!("{kind}List"))});
    let watch = json!({"schema": reference(&format!("{kind}Event"))});
    let content = json!({"application/json": json, "application/json;stream=watch": watch});
    let details = Details::default().query(LIST);
    details.response(200, json!({"description": "Done.", "content": content})).fails(&[400, 401, 404, 406, 410])
}

fn patch(name: &str) -> Details {
    let change = json!({"type": "object"});
    let mut body =
        content(&["application/merge-patch+json", "application/json", "application/apply-patch+yaml"], &change);
    body["content"]["application/json-patch+json"] = json!({"schema": {"type": "array", "items": change}});
    let details = Details::default().query(WRITE).query(&[("force", "boolean")]).body(body);
    details.returns(200, name).returns(201, name).fails(WRITE_FAILS)
}

fn seed() -> Details {
    let image = json!({"schema": {"type": "string", "format": "binary"}});
    let seed = json!({"description": "A NoCloud seed.", "content": {"application/x-iso9660-image": image}});
    let details = Details::default().response(200, seed).fails(&[400, 401]);
    [403, 404, 422]
        .iter()
        .fold(details, |details, code| details.response(*code, any("The reason for which there is none.")))
}

/// Adds the parameters and the reply of a rehearsal.
pub fn rehearsal(details: Details) -> Details {
    let parameters = [
        ("arch", "Architecture of the firmware, as in x86_64-uefi, or the number of DHCP option 93."),
        ("vendorClass", "Vendor class of the firmware (DHCP option 60)."),
        ("uuid", "UUID of the machine (DHCP option 97)."),
        ("address", "Address of the machine."),
        ("relay", "Address of the relay of the machine's DHCP messages."),
        ("interface", "Interface of the server that the machine reaches."),
    ];
    let described = |details: Details, (name, about): (&str, &str)| details.parameter(described_query(name, about));
    let details = parameters.into_iter().fold(details, described);
    details.query(&[("secrets", "boolean")]).returns(200, "Rehearsal")
}

fn files() -> Details {
    let bytes = json!({"schema": {"type": "string", "format": "binary"}});
    let list = json!({"schema": {"type": "array", "items": derived::schema::<ListedFile>(Usage::Reply)}});
    let content: Map<String, Value> =
        [("application/json".to_owned(), list), ("text/plain".to_owned(), bytes)].into_iter().collect();
    let found = json!({"description": "The entries of a directory, or the bytes of a file.", "content": content});
    let details = Details::default().query(&[("path", "string"), ("list", "boolean")]);
    details.response(200, found).fails(&[400, 401, 404, 422])
}
