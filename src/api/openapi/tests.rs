use serde_json::{Value, json};

use crate::api::objects::redaction::View;
use crate::api::openapi::*;
use crate::fleet::{Kind, Object};

fn full(kind: Kind) -> Object {
    let metadata = json!({
        "name": "a", "uid": "u", "resourceVersion": "1", "generation": 1, "creationTimestamp": "2026-11-21T00:00:00Z",
        "labels": {"a": "b"}, "annotations": {"a": "b"}, "managedFields": [], "generateName": "a",
        "ownerReferences": [{"apiVersion": "v1", "kind": "k", "name": "n", "uid": "u", "controller": true, "blockOwnerDeletion": true}],
    });
    let (mut metadata, spec, status) = match kind {
        Kind::BareMetalHost => (
            metadata,
            json!({"bootMACAddress": "52:54:00:00:00:01", "ip": "10.0.0.1", "image": "i", "bootConfigRef": "c",
                   "bootMode": "once", "online": true, "bmc": {"address": "b", "username": "u", "password": "p", "disableCertificateVerification": true, "cipherSuite": 17, "privilegeLevel": "user", "console": true},
                   "kernelArguments": ["k"], "chap": {"username": "n", "secret": "s", "targetUsername": "t", "targetSecret": "z"}, "localDisk": {"drive": 128, "filename": "f"}, "values": {"a": 1}}),
            json!({"phase": "LocalBoot", "phaseTransitionTime": "2026-11-21T00:00:00Z", "message": "m", "warnings": ["w"], "firmware": "bios", "address": "10.0.0.1",
                   "lastSeenTime": "2026-11-21T00:00:00Z", "lastBootTime": "2026-11-21T00:00:00Z", "uuid": "67e55044-10b1-426f-9247-bb680e5fe0c8",
                   "hardware": {"cpu": {"model": "c", "sockets": 1, "cores": 2, "count": 4}, "ramMebibytes": 1, "biosVersion": "1",
                                "nics": [{"name": "n", "mac": "52:54:00:00:00:01", "speedMbps": 1}],
                                "storage": [{"name": "d", "model": "m", "serialNumber": "s", "type": "SSD", "sizeBytes": 1}],
                                "systemVendor": {"manufacturer": "a", "productName": "b", "serialNumber": "c", "assetTag": "d"}},
                   "power": "unknown", "powerTransitionTime": "2026-11-21T00:00:00Z", "powerError": {"reason": "r", "message": "m"},
                   "renderedTemplate": {"template": "t", "version": 1, "error": "e"},
                   "stall": {"stage": "dhcp", "reason": "held", "certainty": "certain", "message": "m", "remedy": "r", "since": "2026-11-21T00:00:00Z"},
                   "powerTransition": {"target": "on", "operation": "on", "requestTime": "2026-11-21T00:00:00Z", 
                       "startTime": "2026-11-21T00:00:00Z", "state": "accepted", "accepted": {"reset": "On", "time": "2026-11-21T00:00:00Z"}, "tries": 1, 
                       "reason": "r", "message": "m", "endTime": "2026-11-21T00:00:00Z"},
                   "lastPowerTransition": {"target": "on", "operation": "on", "requestTime": "2026-11-21T00:00:00Z", 
                       "startTime": "2026-11-21T00:00:00Z", "state": "accepted", "accepted": {"reset": "On", "time": "2026-11-21T00:00:00Z"}, "tries": 1, 
                       "reason": "r", "message": "m", "endTime": "2026-11-21T00:00:00Z"},
                   "bootDevice": {"device": "disk", "time": "2026-11-21T00:00:00Z", "requested": true, "error": "e"},
                   "bmc": {"protocol": "ipmi", "certificate": "c", "cipherSuite": 17, "time": "2026-11-21T00:00:00Z",
                           "inventoryTime": "2026-11-21T00:00:00Z"},
                   "install": {"configFetchTime": "2026-11-21T00:00:00Z", "firstOfferTime": "2026-11-21T00:00:00Z", "bootCount": 1, "completionTime": "2026-11-21T00:00:00Z"}}),
        ),
        Kind::IscsiCdrom => (
            metadata,
            json!({"isoFile": "a", "description": "d", "readOnly": true, "bootConfigs": ["c"], "method": "chain", "url": "http://u", "kernelArguments": ["k"],
                   "removeArguments": ["r"], "attachAs": "disk", "configDelivery": "auto", "companions": ["d"],
                   "portal": {"address": "10.0.0.1", "port": 3260, "targetIqn": "t",
                              "chap": {"username": "n", "secret": "s", "targetUsername": "t", "targetSecret": "z"}}}),
            json!({"phase": "Ready", "message": "m", "warnings": ["w"], "targetIQN": "t", "portalIP": "10.0.0.1", "portalPort": 1,
                   "sizeBytes": 1, "sha256": "s", "fileModificationTime": "2026-11-21T00:00:00Z", "volumeID": "v", "boots": {"bios": true, "uefi": true}, "uefiPrograms": ["BOOTX64.EFI"], "distribution": "d",
                   "family": "f", "kernel": {"kernel": "k", "initrds": ["i"], "arguments": "a"}, "kernelSize": {"kernelBytes": 1, "initrdBytes": 1}, "kernelLines": 2}),
        ),
        Kind::BootConfig => (
            metadata,
            json!({"format": "ignition", "data": {"config.ign": "{}"}, "binaryData": {"a": "YQ=="}, "confidential": true,
                   "template": {"name": "t", "version": 1, "pins": [{"matchLabels": {"a": "b"}, "version": 1}]}}),
            json!({"warnings": ["w"], "reportsCompletion": true}),
        ),
        Kind::ConfigTemplate => (
            metadata,
            json!({"format": "ignition", "data": {"config.ign": "{}"}, "defaults": {"a": 1}, "schema": {"a": {"type": "integer", "required": true, "description": "d"}}}),
            json!({"versions": [{"version": 1, "creationTimestamp": "2026-11-21T00:00:00Z", "reportsCompletion": true}]}),
        ),
    };
    if kind.is_namespaced() {
        metadata["namespace"] = "default".into();
    }
    Object::from_json(kind, json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let schema = schema.pointer("/allOf/0").unwrap_or(schema);
    match schema.get("$ref").and_then(Value::as_str) {
        Some(path) => document.pointer(path.trim_start_matches('#')).unwrap_or_else(|| panic!("{path}")),
        None => schema,
    }
}

fn compare(document: &Value, schema: &Value, value: &Value, path: &str) {
    let schema = resolve(document, schema);
    let (Some(properties), Some(map)) = (schema.get("properties").and_then(Value::as_object), value.as_object()) else {
        return;
    };
    for (field, value) in map {
        let below = properties.get(field).unwrap_or_else(|| panic!("{path}.{field} is not in the schema"));
        compare(document, below, value, &format!("{path}.{field}"));
    }
    for field in properties.keys() {
        assert!(map.contains_key(field), "{path}.{field} is in the schema, but no object has it");
    }
}

#[test]
fn the_schemas_have_exactly_the_fields_of_the_objects() {
    let document = v3();
    for kind in Kind::ALL {
        let object = full(kind);
        let value = serde_json::to_value(View(&object)).unwrap();
        let mut value = value;
        if !kind.is_namespaced() {
            value["metadata"]["namespace"] = json!("");
        }
        let schema = json!({"$ref": format!("#/components/schemas/org.bootlatch.v1.{kind}")});
        compare(&document, &schema, &value, kind.as_str());
    }
}

#[test]
fn the_file_is_what_the_routes_and_types_describe() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/openapi.json");
    let described = format!("{:#}\n", describe());
    // The other tests read the document of the binary: they fail until it is built with the new file.
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &described).unwrap();
    }
    let differs = std::fs::read_to_string(path).unwrap() != described;
    assert!(!differs, "{path} is out of date: run UPDATE_OPENAPI=1 cargo test --lib the_file_is_what");
}

#[test]
fn the_binary_has_the_document_of_the_file() {
    assert_eq!(v3(), describe());
}

#[test]
fn every_reference_resolves() {
    fn walk(document: &Value, value: &Value) {
        if let Some(path) = value.get("$ref").and_then(Value::as_str) {
            assert!(document.pointer(path.trim_start_matches('#')).is_some(), "{path}");
        }
        match value {
            Value::Object(map) => map.values().for_each(|below| walk(document, below)),
            Value::Array(items) => items.iter().for_each(|below| walk(document, below)),
            _ => {}
        }
    }
    for document in [v3(), v2()] {
        walk(&document, &document);
    }
}

#[test]
fn a_client_gets_the_form_that_it_prefers() {
    let form = |accept: &str| accepted(&[(ACCEPT, accept.parse().unwrap())].into_iter().collect());
    assert_eq!(accepted(&HeaderMap::new()), Some(SwaggerForm::Json));
    for accept in ["*/*", "application/json", "text/html, application/*;q=0.8", "x/y, Application/JSON; charset=utf-8"]
    {
        assert_eq!(form(accept), Some(SwaggerForm::Json), "{accept}");
    }
    for protobuf in [PROTOBUF, PROTOBUF_REQUESTED] {
        let rows = [
            (protobuf.to_owned(), Some(SwaggerForm::Protobuf)),
            (format!("{protobuf}, application/json"), Some(SwaggerForm::Protobuf)),
            (format!("application/json, {protobuf}"), Some(SwaggerForm::Json)),
            (format!("application/json;q=0.5, {protobuf};q=0.9"), Some(SwaggerForm::Protobuf)),
            (format!("{protobuf};q=0, text/html, application/json;q=0"), None),
            ("text/html".to_owned(), None),
        ];
        for (accept, expected) in rows {
            assert_eq!(form(&accept), expected, "{accept}");
        }
    }
}

#[test]
fn no_field_of_an_object_is_null_and_every_schema_has_a_type() {
    fn walk(schema: &Value, path: &str) {
        assert!(schema["nullable"].is_null() && schema["anyOf"].is_null() && schema["oneOf"].is_null(), "{path}");
        let is_typed = schema["type"].is_string() || schema["$ref"].is_string() || schema["allOf"].is_array();
        assert!(is_typed, "{path}: {schema}");
        for (name, below) in schema["properties"].as_object().into_iter().flatten() {
            walk(below, &format!("{path}.{name}"));
        }
        if schema["items"].is_object() {
            walk(&schema["items"], &format!("{path}[]"));
        }
    }
    let document = v3();
    for name in ["HostSpec", "HostStatus", "ImageSpec", "ImageStatus", "ConfigSpec", "ConfigStatus", "ObjectMeta"] {
        walk(&document["components"]["schemas"][format!("org.bootlatch.v1.{name}")], name);
    }
}

#[test]
fn the_swagger_document_has_no_word_of_openapi_3() {
    let text = v2().to_string();
    for word in ["\"nullable\"", "\"oneOf\"", "\"anyOf\"", "\"allOf\"", "\"requestBody\"", "#/components/"] {
        assert!(!text.contains(word), "{word}");
    }
}
