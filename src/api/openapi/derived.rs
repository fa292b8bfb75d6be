//! OpenAPI schemas derived from the serde types, in the form that Kubernetes' clients expect.

use schemars::JsonSchema;
use schemars::generate::{Contract, SchemaSettings};
use schemars::transform::{Transform, transform_subschemas};
use serde_json::{Map, Value, json};

/// The use of a type, which determines its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// A part of an object: written by clients and read back. As in Kubernetes' documents it is never null, and open to
    /// fields that `fieldValidation` may drop.
    Object,
    /// The body of a request.
    Request,
    /// A reply.
    Reply,
}

/// Formats that OpenAPI defines; others are left out.
const FORMATS: [&str; 4] = ["binary", "date-time", "int32", "int64"];

/// Returns the schema of a type, with the schemas of its fields inline.
pub fn schema<T: JsonSchema>(usage: Usage) -> Value {
    let contract = match usage {
        Usage::Object | Usage::Request => Contract::Deserialize,
        Usage::Reply => Contract::Serialize,
    };
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
        settings.contract = contract;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    Normalize(usage).transform(&mut schema);
    schema.to_value()
}

struct Normalize(Usage);

impl Transform for Normalize {
    fn transform(&mut self, schema: &mut schemars::Schema) {
        transform_subschemas(self, schema);
        let Some(map) = schema.as_object_mut() else { return };
        map.remove("title");
        merge_variants(map);
        merge_null(map);
        normalize_number(map);
        if map.get("format").and_then(Value::as_str).is_some_and(|format| !FORMATS.contains(&format)) {
            map.remove("format");
        }
        if map.get("default").is_some_and(is_empty) {
            map.remove("default");
        }
        if map.get("additionalProperties") == Some(&Value::Bool(true)) {
            map.remove("additionalProperties");
        }
        if self.0 == Usage::Object {
            map.remove("nullable");
            if let Some(Value::Array(values)) = map.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            if map.get("additionalProperties") == Some(&Value::Bool(false)) {
                map.remove("additionalProperties");
            }
        }
        if self.0 == Usage::Reply {
            remove_null_of_absent(map);
        }
        if let Some(Value::String(text)) = map.get_mut("description") {
            *text = text.replace('\n', " ");
        }
    }
}

/// Merges the variants of an enum, which schemars describes one by one, into one list of values. Their descriptions go
/// into the enum's.
fn merge_variants(map: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = map.get("oneOf") else { return };
    let values = |variant: &Value| match variant["type"] == "string" {
        true => variant["enum"].as_array().cloned(),
        false => None,
    };
    let Some(all) = variants.iter().map(values).collect::<Option<Vec<_>>>() else { return };
    let about: Vec<String> = variants
        .iter()
        .filter_map(|variant| {
            let (value, about) = (variant["enum"][0].as_str()?, variant["description"].as_str()?);
            Some(format!("{value}: {about}"))
        })
        .collect();
    map.remove("oneOf");
    map.insert("type".into(), "string".into());
    map.insert("enum".into(), all.concat().into());
    let first = map.get("description").and_then(Value::as_str).map(str::to_owned);
    let text: Vec<String> = first.into_iter().chain(about).collect();
    map.insert("description".into(), text.join(" ").into());
}

/// Merges the alternative null of an enum, which schemars adds for `Option`, into a nullable enum.
fn merge_null(map: &mut Map<String, Value>) {
    let Some(Value::Array(alternatives)) = map.get("anyOf") else { return };
    let is_null = |schema: &&Value| schema["enum"] == json!([null]) || schema["enum"] == json!([]);
    let [one] = alternatives.iter().filter(|schema| !is_null(schema)).collect::<Vec<_>>()[..] else { return };
    let Value::Object(one) = one.clone() else { return };
    map.remove("anyOf");
    for (key, value) in one {
        map.entry(key).or_insert(value);
    }
    if let Some(Value::Array(values)) = map.get_mut("enum") {
        values.push(Value::Null);
    }
    map.insert("nullable".into(), true.into());
}

/// Removes null from a reply's optional fields: they are absent instead.
fn remove_null_of_absent(map: &mut Map<String, Value>) {
    let required = map.get("required").cloned().unwrap_or_default();
    let is_required = |name: &str| required.as_array().is_some_and(|names| names.iter().any(|one| one == name));
    let Some(Value::Object(properties)) = map.get_mut("properties") else { return };
    for (_, property) in properties.iter_mut().filter(|(name, _)| !is_required(name)) {
        if let Some(property) = property.as_object_mut() {
            property.remove("nullable");
        }
    }
}

/// Replaces Rust's integer formats by those of OpenAPI: the bounds say what a small integer may be.
fn normalize_number(map: &mut Map<String, Value>) {
    let format = match map.get("format").and_then(Value::as_str) {
        Some("uint64" | "uint") => Some("int64"),
        Some("uint32") => Some("int32"),
        _ => None,
    };
    if let Some(format) = format {
        map.insert("format".into(), json!(format));
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
