//! The schemas of the OpenAPI document: derived from the serde types, and envelopes of kinds, lists and events.

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use crate::api::settings::SettingList;
use crate::boot::rehearsal::Rehearsal;
use crate::fleet::conditions::Condition;
use crate::fleet::{
    BootConfigSpec, ConfigTemplateSpec, ConfigTemplateStatus, HostSpec, HostStatus, ImageSpec, ImageStatus, Kind, Meta,
};
use crate::gate::interfaces::{InterfaceList, RelayList};
use crate::provision::generate::{CloudInitRequest, IgnitionRequest};

use crate::api::generate::GeneratedConfigs;
use crate::api::network::{DropList, LeaseList, LeaseReport};
use crate::api::objects::actions::{InstallRequest, VirtualMediaRequest, VirtualMedium};
use crate::api::objects::diagnosis::DiagnosisReport;
use crate::api::objects::power::{BootDeviceRequest, PowerChangeRequest};
use crate::api::objects::redaction::ListMeta;
use crate::api::objects::status::Status;
use crate::api::objects::table::Table;
use crate::api::objects::template_preview::{TemplatePreview, TemplatePreviewRequest};
use crate::api::openapi::build::{PREFIX, list_of, reference, text};
use crate::api::openapi::derived::{self, Usage};
use crate::api::uploads::{Upload, UploadList};

/// The schemas of a document, by name.
#[derive(Default)]
struct Schemas(Map<String, Value>);

impl Schemas {
    fn add(&mut self, name: &str, schema: Value) {
        self.0.insert(format!("{PREFIX}{name}"), schema);
    }

    fn derive<T: JsonSchema>(&mut self, name: &str, usage: Usage) {
        self.add(name, derived::schema::<T>(usage));
    }
}

/// Returns every schema.
pub fn all() -> Value {
    let mut schemas = Schemas::default();
    for kind in Kind::ALL {
        let (about, spec, status) = match kind {
            Kind::BareMetalHost => ("A machine that boots from the network.", "HostSpec", "HostStatus"),
            Kind::IscsiCdrom => ("An ISO that hosts can boot.", "ImageSpec", "ImageStatus"),
            Kind::BootConfig => ("The files of an installer's config.", "ConfigSpec", "ConfigStatus"),
            Kind::ConfigTemplate => ("A template of configs.", "ConfigTemplateSpec", "ConfigTemplateStatus"),
        };
        schemas.add(kind.as_str(), object(kind, about, spec, status));
        schemas.add(&format!("{kind}List"), list(kind));
        schemas.add(&format!("{kind}Event"), event(kind));
    }
    schemas.derive::<HostSpec>("HostSpec", Usage::Object);
    schemas.add("HostStatus", host_status());
    schemas.derive::<Condition>("Condition", Usage::Reply);
    schemas.derive::<ImageSpec>("ImageSpec", Usage::Object);
    schemas.derive::<ImageStatus>("ImageStatus", Usage::Object);
    schemas.derive::<BootConfigSpec>("ConfigSpec", Usage::Object);
    schemas.add("ConfigStatus", config_status());
    schemas.derive::<ConfigTemplateSpec>("ConfigTemplateSpec", Usage::Object);
    schemas.derive::<ConfigTemplateStatus>("ConfigTemplateStatus", Usage::Object);
    schemas.add("ObjectMeta", object_meta());
    schemas.derive::<TemplatePreviewRequest>("TemplatePreviewRequest", Usage::Request);
    schemas.derive::<TemplatePreview>("TemplatePreview", Usage::Reply);
    schemas.derive::<ListMeta>("ListMeta", Usage::Reply);
    schemas.derive::<Status>("Status", Usage::Reply);
    schemas.derive::<Table>("Table", Usage::Reply);
    schemas.derive::<InstallRequest>("InstallRequest", Usage::Request);
    schemas.derive::<VirtualMediaRequest>("VirtualMediaRequest", Usage::Request);
    schemas.derive::<PowerChangeRequest>("PowerChangeRequest", Usage::Request);
    schemas.derive::<BootDeviceRequest>("BootDeviceRequest", Usage::Request);
    schemas.derive::<VirtualMedium>("VirtualMedium", Usage::Reply);
    schemas.derive::<InterfaceList>("InterfaceList", Usage::Reply);
    schemas.derive::<RelayList>("RelayList", Usage::Reply);
    schemas.derive::<LeaseList>("LeaseList", Usage::Reply);
    schemas.derive::<LeaseReport>("Lease", Usage::Reply);
    schemas.derive::<DropList>("DropList", Usage::Reply);
    schemas.derive::<SettingList<'static>>("SettingList", Usage::Reply);
    schemas.derive::<Rehearsal>("Rehearsal", Usage::Reply);
    schemas.derive::<IgnitionRequest>("IgnitionRequest", Usage::Request);
    schemas.derive::<CloudInitRequest>("CloudInitRequest", Usage::Request);
    schemas.derive::<GeneratedConfigs>("Generated", Usage::Reply);
    schemas.add("Timeline", timeline());
    schemas.derive::<DiagnosisReport>("Diagnosis", Usage::Reply);
    schemas.derive::<Upload>("Upload", Usage::Reply);
    schemas.derive::<UploadList>("UploadList", Usage::Reply);
    Value::Object(schemas.0)
}

fn kinds(kind: &str) -> Value {
    json!([{"group": "", "version": "v1", "kind": kind}])
}

fn time(about: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": about})
}

/// Returns a reference with a description. OpenAPI 3.0 ignores the siblings of a `$ref`, so the reference is wrapped.
fn described(schema: Value, about: &str) -> Value {
    json!({"allOf": [schema], "description": about})
}

fn object(kind: Kind, about: &str, spec: &str, status: &str) -> Value {
    json!({
        "type": "object", "description": about, "required": ["metadata", "spec"],
        "x-kubernetes-group-version-kind": kinds(kind.as_str()),
        "properties": {
            "apiVersion": {"type": "string", "enum": ["v1"], "description": "Version of the API."},
            "kind": {"type": "string", "enum": [kind.as_str()], "description": "Kind of the object."},
            "metadata": described(reference("ObjectMeta"), "Name, labels, identity and version."),
            "spec": described(reference(spec), "The desired state."),
            "status": described(reference(status), "The observed state. Written by the server only."),
        },
    })
}

fn list(kind: Kind) -> Value {
    json!({
        "type": "object", "description": format!("Objects of kind {kind}."), "required": ["items", "metadata"],
        "x-kubernetes-group-version-kind": kinds(&format!("{kind}List")),
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "metadata": reference("ListMeta"),
            "items": {"type": "array", "items": reference(kind.as_str())},
        },
    })
}

fn event(kind: Kind) -> Value {
    json!({
        "type": "object", "description": "One line of a watch.", "required": ["type", "object"],
        "properties": {
            "type": {"type": "string", "enum": ["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]},
            "object": {"type": "object", "description": format!("The {kind}; only its version in a BOOKMARK; a Status in an ERROR.")},
        },
    })
}

/// Returns the schema of a host's status as clients see it: with its conditions.
fn host_status() -> Value {
    let mut schema = derived::schema::<HostStatus>(Usage::Object);
    let about = "The conditions that hold for the machine or do not. Derived from the status.";
    schema["properties"]["conditions"] = list_of(about, reference("Condition"));
    schema
}

/// Returns the schema of a config's status, which is stored as a map.
fn config_status() -> Value {
    let warnings = list_of("Warnings of the last validation.", json!({"type": "string"}));
    let reports =
        "Whether its files call the route that ends an install; absent if they run something that they do not contain.";
    json!({
        "type": "object", "description": "The result of the config's validation.",
        "properties": {"warnings": warnings, "reportsCompletion": {"type": "boolean", "description": reports}},
    })
}

/// Returns the schema of an object's metadata. No field is required: `generateName` stands in for `name`.
fn object_meta() -> Value {
    let mut schema = derived::schema::<Meta>(Usage::Object);
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("required");
    }
    schema
}

/// Returns the schema of a timeline. An event's details depend on its code.
fn timeline() -> Value {
    json!({
        "type": "object", "required": ["items"], "description": "Events, oldest first.",
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "items": {"type": "array", "items": {
                "type": "object", "required": ["time", "event"],
                "properties": {
                    "time": time("Time of the event; of the first one if it was repeated."),
                    "last": time("Time of the last repetition."),
                    "count": {"type": "integer", "description": "Number of occurrences, if more than one."},
                    "mac": {"type": "string", "nullable": true, "description": "MAC address of the machine."},
                    "host": {"type": "string", "nullable": true, "description": "Name of the host."},
                    "event": text("Code of the event, as in first_seen, offer or script."),
                    "detail": {"type": "object", "description": "Details of the event."},
                },
            }},
        },
    })
}
