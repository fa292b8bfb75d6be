//! Building blocks of the OpenAPI document.

use serde_json::{Map, Value, json};

/// Prefix of every schema's name, as in Kubernetes' documents.
pub const PREFIX: &str = "org.bootlatch.v1.";

/// Media types in which an object is written.
pub const OBJECT: &[&str] = &["application/json", "application/yaml"];

/// Returns a reference to a schema by its short name.
pub fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{PREFIX}{name}")})
}

/// Returns the schema of a text.
pub fn text(about: &str) -> Value {
    json!({"type": "string", "description": about})
}

/// Returns the schema of a list.
pub fn list_of(about: &str, item: Value) -> Value {
    json!({"type": "array", "items": item, "description": about})
}

/// Returns a required body in some media types.
pub fn content(kinds: &[&str], schema: &Value) -> Value {
    let content: Map<String, Value> =
        kinds.iter().map(|kind| ((*kind).to_owned(), json!({"schema": schema}))).collect();
    json!({"required": true, "content": content})
}

/// Returns an optional JSON body.
pub fn optional(schema: &Value) -> Value {
    json!({"content": {"application/json": {"schema": schema}}})
}

/// Returns a response that is some JSON object.
pub fn any(about: &str) -> Value {
    json!({"description": about, "content": {"application/json": {"schema": {"type": "object"}}}})
}

/// Returns a response in JSON of a schema.
pub fn of_schema(about: &str, name: &str) -> Value {
    json!({"description": about, "content": {"application/json": {"schema": reference(name)}}})
}

/// Returns a response that is plain text.
pub fn plain(about: &str) -> Value {
    json!({"description": about, "content": {"text/plain": {"schema": {"type": "string"}}}})
}

/// Returns a query parameter of a JSON type, with its values if they are few.
pub fn query(name: &str, kind: &str) -> Value {
    let values: &[&str] = match name {
        "dryRun" => &["All"],
        "fieldValidation" => &["Ignore", "Warn", "Strict"],
        "resourceVersionMatch" => &["NotOlderThan", "Exact"],
        _ => return json!({"name": name, "in": "query", "schema": {"type": kind}}),
    };
    json!({"name": name, "in": "query", "schema": {"type": kind, "enum": values}})
}

/// Returns a query parameter with a description.
pub fn described_query(name: &str, about: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": "string"}, "description": about})
}

/// Returns the parameter of a path.
pub fn path_parameter(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
}

/// The parameters, body and responses of an operation, which its route does not describe.
#[derive(Debug, Default)]
pub struct Details {
    /// Parameters of the query.
    pub parameters: Vec<Value>,
    /// The request's body.
    pub body: Option<Value>,
    /// Responses by status code.
    pub responses: Map<String, Value>,
}

impl Details {
    /// Adds query parameters of JSON types.
    pub fn query(mut self, parameters: &[(&str, &str)]) -> Self {
        self.parameters.extend(parameters.iter().map(|(name, kind)| query(name, kind)));
        self
    }

    /// Adds a query parameter.
    pub fn parameter(mut self, parameter: Value) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Adds a response.
    pub fn response(mut self, code: u16, response: Value) -> Self {
        self.responses.insert(code.to_string(), response);
        self
    }

    /// Adds a successful response in JSON of a schema.
    pub fn returns(self, code: u16, schema: &str) -> Self {
        self.response(code, of_schema("Done.", schema))
    }

    /// Adds responses that are a Status.
    pub fn fails(self, codes: &[u16]) -> Self {
        codes.iter().fold(self, |details, code| details.response(*code, of_schema("Not done.", "Status")))
    }
}
