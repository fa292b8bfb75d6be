//! The document as Swagger 2.0, for clients that read no OpenAPI 3. kubectl checks the objects of a `List` by it.

use serde_json::{Map, Value, json};

/// Converts the OpenAPI 3.0 document.
pub fn of_v3(v3: &Value) -> Value {
    let text = v3["components"]["schemas"].to_string().replace("#/components/schemas/", "#/definitions/");
    let mut definitions: Value = serde_json::from_str(&text).unwrap_or_default();
    remove_openapi3(&mut definitions);
    let paths: Map<String, Value> = entries(&v3["paths"]).map(|(path, item)| (path.clone(), path_item(item))).collect();
    json!({
        "swagger": "2.0", "info": v3["info"], "paths": paths, "definitions": definitions,
        "securityDefinitions": {"token": {"type": "apiKey", "name": "Authorization", "in": "header"}},
    })
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Returns a schema in the words of Swagger 2.0.
fn schema(schema: &Value) -> Value {
    let text = schema.to_string().replace("#/components/schemas/", "#/definitions/");
    let mut schema: Value = serde_json::from_str(&text).unwrap_or_default();
    remove_openapi3(&mut schema);
    schema
}

/// Removes what Swagger 2.0 does not define: null, and alternatives. A reference stands next to its description, as in
/// Kubernetes' document: its clients do not look into `allOf`.
fn remove_openapi3(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for word in ["nullable", "oneOf", "anyOf", "writeOnly"] {
                map.shift_remove(word);
            }
            if let Some([only]) = map.get("allOf").and_then(Value::as_array).map(Vec::as_slice)
                && only["$ref"].is_string()
            {
                let reference = only["$ref"].clone();
                map.shift_remove("allOf");
                map.insert("$ref".into(), reference);
            }
            if let Some(Value::Array(values)) = map.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            map.values_mut().for_each(remove_openapi3);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_openapi3),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn path_item(item: &Value) -> Value {
    Value::Object(entries(item).map(|(method, operation)| (method.clone(), self::operation(operation))).collect())
}

fn operation(v3: &Value) -> Value {
    let body = &v3["requestBody"];
    let mut parameters: Vec<Value> = items(&v3["parameters"]).iter().map(parameter).collect();
    if let Some((_, content)) = entries(&body["content"]).next() {
        let required = body["required"].as_bool().unwrap_or_default();
        parameters
            .push(json!({"name": "body", "in": "body", "required": required, "schema": schema(&content["schema"])}));
    }
    let responses = entries(&v3["responses"]);
    let responses: Map<String, Value> = responses.map(|(code, one)| (code.clone(), response(one))).collect();
    let mut produces: Vec<&String> =
        entries(&v3["responses"]).flat_map(|(_, one)| entries(&one["content"]).map(|(kind, _)| kind)).collect();
    produces.sort_unstable();
    produces.dedup();
    let consumes: Vec<&String> = entries(&body["content"]).map(|(kind, _)| kind).collect();
    let mut operation = json!({
        "operationId": v3["operationId"], "summary": v3["summary"], "parameters": parameters, "responses": responses,
        "security": v3["security"],
    });
    for (word, kinds) in [("consumes", consumes), ("produces", produces)] {
        if !kinds.is_empty() {
            operation[word] = json!(kinds);
        }
    }
    for (name, value) in entries(v3).filter(|(name, _)| name.starts_with("x-")) {
        operation[name] = value.clone();
    }
    operation
}

/// Returns a parameter, whose type stands in it and not in a schema.
fn parameter(v3: &Value) -> Value {
    let own = entries(v3).filter(|(name, _)| *name != "schema");
    Value::Object(own.chain(entries(&v3["schema"])).map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn response(v3: &Value) -> Value {
    let mut response = json!({"description": v3["description"]});
    if let Some((_, content)) = entries(&v3["content"]).next() {
        response["schema"] = schema(&content["schema"]);
    }
    response
}
