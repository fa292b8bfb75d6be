//! The Swagger 2.0 document as the protobuf message `openapi.v2.Document` (github.com/google/gnostic), the only form in
//! which kubectl asks for it. Fields that the document does not use are left out.

use bytes::Bytes;
use prost::Message;
use serde_json::Value;

/// Encodes a document.
pub fn encode(swagger: &Value) -> Bytes {
    document(swagger).encode_to_vec().into()
}

#[derive(Clone, PartialEq, Message)]
struct Document {
    #[prost(string, tag = "1")]
    swagger: String,
    #[prost(message, optional, tag = "2")]
    info: Option<Info>,
    #[prost(message, optional, tag = "8")]
    paths: Option<Paths>,
    #[prost(message, optional, tag = "9")]
    definitions: Option<NamedSchemas>,
    #[prost(message, optional, tag = "13")]
    security_definitions: Option<SecurityDefinitions>,
}

#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(string, tag = "1")]
    title: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(string, tag = "3")]
    description: String,
}

/// A value as the text of its YAML; JSON is YAML.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "2")]
    yaml: String,
}

#[derive(Clone, PartialEq, Message)]
struct NamedAny {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Paths {
    #[prost(message, repeated, tag = "2")]
    path: Vec<NamedPathItem>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedPathItem {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<PathItem>,
}

#[derive(Clone, PartialEq, Message)]
struct PathItem {
    #[prost(message, optional, tag = "2")]
    get: Option<SwaggerOperation>,
    #[prost(message, optional, tag = "3")]
    put: Option<SwaggerOperation>,
    #[prost(message, optional, tag = "4")]
    post: Option<SwaggerOperation>,
    #[prost(message, optional, tag = "5")]
    delete: Option<SwaggerOperation>,
    #[prost(message, optional, tag = "8")]
    patch: Option<SwaggerOperation>,
}

#[derive(Clone, PartialEq, Message)]
struct SwaggerOperation {
    #[prost(string, tag = "2")]
    summary: String,
    #[prost(string, tag = "5")]
    operation_id: String,
    #[prost(string, repeated, tag = "6")]
    produces: Vec<String>,
    #[prost(string, repeated, tag = "7")]
    consumes: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    parameters: Vec<ParametersItem>,
    #[prost(message, optional, tag = "9")]
    responses: Option<Responses>,
    #[prost(message, repeated, tag = "12")]
    security: Vec<SecurityRequirement>,
    #[prost(message, repeated, tag = "13")]
    vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
struct ParametersItem {
    #[prost(message, optional, tag = "1")]
    parameter: Option<Parameter>,
}

/// A parameter: one of the two.
#[derive(Clone, PartialEq, Message)]
struct Parameter {
    #[prost(message, optional, tag = "1")]
    body: Option<BodyParameter>,
    #[prost(message, optional, tag = "2")]
    non_body: Option<NonBodyParameter>,
}

#[derive(Clone, PartialEq, Message)]
struct BodyParameter {
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    place: String,
    #[prost(bool, tag = "4")]
    required: bool,
    #[prost(message, optional, tag = "5")]
    schema: Option<Schema>,
}

/// A parameter of the query or the path: one of the two.
#[derive(Clone, PartialEq, Message)]
struct NonBodyParameter {
    #[prost(message, optional, tag = "3")]
    query: Option<QueryParameter>,
    #[prost(message, optional, tag = "4")]
    path: Option<PathParameter>,
}

#[derive(Clone, PartialEq, Message)]
struct QueryParameter {
    #[prost(bool, tag = "1")]
    required: bool,
    #[prost(string, tag = "2")]
    place: String,
    #[prost(string, tag = "3")]
    description: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "6")]
    kind: String,
    #[prost(message, repeated, tag = "21")]
    values: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct PathParameter {
    #[prost(bool, tag = "1")]
    required: bool,
    #[prost(string, tag = "2")]
    place: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "5")]
    kind: String,
}

#[derive(Clone, PartialEq, Message)]
struct Responses {
    #[prost(message, repeated, tag = "1")]
    response_code: Vec<NamedResponseValue>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedResponseValue {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<ResponseValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseValue {
    #[prost(message, optional, tag = "1")]
    response: Option<Response>,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(string, tag = "1")]
    description: String,
    #[prost(message, optional, tag = "2")]
    schema: Option<SchemaItem>,
}

#[derive(Clone, PartialEq, Message)]
struct SchemaItem {
    #[prost(message, optional, tag = "1")]
    schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct SecurityRequirement {
    #[prost(message, repeated, tag = "1")]
    names: Vec<NamedStringArray>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedStringArray {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<StringArray>,
}

#[derive(Clone, PartialEq, Message)]
struct StringArray {
    #[prost(string, repeated, tag = "1")]
    value: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct SecurityDefinitions {
    #[prost(message, repeated, tag = "1")]
    definitions: Vec<NamedSecurityDefinition>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedSecurityDefinition {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<SecurityDefinition>,
}

#[derive(Clone, PartialEq, Message)]
struct SecurityDefinition {
    #[prost(message, optional, tag = "2")]
    api_key: Option<ApiKey>,
}

#[derive(Clone, PartialEq, Message)]
struct ApiKey {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    place: String,
}

#[derive(Clone, PartialEq, Message)]
struct NamedSchemas {
    #[prost(message, repeated, tag = "1")]
    schemas: Vec<NamedSchema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedSchema {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct Schema {
    #[prost(string, tag = "1")]
    reference: String,
    #[prost(string, tag = "2")]
    format: String,
    #[prost(string, tag = "4")]
    description: String,
    #[prost(message, optional, tag = "5")]
    default: Option<Any>,
    #[prost(double, tag = "7")]
    maximum: f64,
    #[prost(double, tag = "9")]
    minimum: f64,
    #[prost(int64, tag = "11")]
    max_length: i64,
    #[prost(int64, tag = "12")]
    min_length: i64,
    #[prost(string, tag = "13")]
    pattern: String,
    #[prost(int64, tag = "14")]
    max_items: i64,
    #[prost(int64, tag = "15")]
    min_items: i64,
    #[prost(string, repeated, tag = "19")]
    required: Vec<String>,
    #[prost(message, repeated, tag = "20")]
    values: Vec<Any>,
    #[prost(message, optional, boxed, tag = "21")]
    additional_properties: Option<Box<AdditionalProperties>>,
    #[prost(message, optional, tag = "22")]
    kind: Option<StringArray>,
    #[prost(message, optional, tag = "23")]
    items: Option<Items>,
    #[prost(message, optional, tag = "25")]
    properties: Option<NamedSchemas>,
    #[prost(message, repeated, tag = "31")]
    vendor_extension: Vec<NamedAny>,
}

/// The properties that a schema does not name: a schema, or whether there may be any.
#[derive(Clone, PartialEq, Message)]
struct AdditionalProperties {
    #[prost(message, optional, tag = "1")]
    schema: Option<Schema>,
    #[prost(bool, optional, tag = "2")]
    boolean: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct Items {
    #[prost(message, repeated, tag = "1")]
    schema: Vec<Schema>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    items(value).iter().map(text).collect()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn any(value: &Value) -> Any {
    Any { yaml: value.to_string() }
}

fn anys(value: &Value) -> Vec<Any> {
    items(value).iter().map(any).collect()
}

fn vendor_extension(value: &Value) -> Vec<NamedAny> {
    let extensions = entries(value).filter(|(name, _)| name.starts_with("x-"));
    extensions.map(|(name, value)| NamedAny { name: name.clone(), value: Some(any(value)) }).collect()
}

fn document(value: &Value) -> Document {
    let info = &value["info"];
    let path = |(name, item): (&String, &Value)| NamedPathItem { name: name.clone(), value: Some(path_item(item)) };
    let definition = |(name, one): (&String, &Value)| {
        let api_key = ApiKey { kind: text(&one["type"]), name: text(&one["name"]), place: text(&one["in"]) };
        NamedSecurityDefinition { name: name.clone(), value: Some(SecurityDefinition { api_key: Some(api_key) }) }
    };
    Document {
        swagger: text(&value["swagger"]),
        info: Some(Info {
            title: text(&info["title"]),
            version: text(&info["version"]),
            description: text(&info["description"]),
        }),
        paths: Some(Paths { path: entries(&value["paths"]).map(path).collect() }),
        definitions: Some(named_schemas(&value["definitions"])),
        security_definitions: Some(SecurityDefinitions {
            definitions: entries(&value["securityDefinitions"]).map(definition).collect(),
        }),
    }
}

fn path_item(value: &Value) -> PathItem {
    let operation = |method: &str| value.get(method).map(operation);
    PathItem {
        get: operation("get"),
        put: operation("put"),
        post: operation("post"),
        delete: operation("delete"),
        patch: operation("patch"),
    }
}

fn operation(value: &Value) -> SwaggerOperation {
    let response = |(code, one): (&String, &Value)| {
        let schema = one.get("schema").map(|value| SchemaItem { schema: Some(schema(value)) });
        let response = Response { description: text(&one["description"]), schema };
        NamedResponseValue { name: code.clone(), value: Some(ResponseValue { response: Some(response) }) }
    };
    let requirement = |one: &Value| SecurityRequirement {
        names: entries(one)
            .map(|(name, scopes)| NamedStringArray {
                name: name.clone(),
                value: Some(StringArray { value: texts(scopes) }),
            })
            .collect(),
    };
    SwaggerOperation {
        summary: text(&value["summary"]),
        operation_id: text(&value["operationId"]),
        produces: texts(&value["produces"]),
        consumes: texts(&value["consumes"]),
        parameters: items(&value["parameters"]).iter().map(parameter).collect(),
        responses: Some(Responses { response_code: entries(&value["responses"]).map(response).collect() }),
        security: items(&value["security"]).iter().map(requirement).collect(),
        vendor_extension: vendor_extension(value),
    }
}

fn parameter(value: &Value) -> ParametersItem {
    let (name, place) = (text(&value["name"]), text(&value["in"]));
    let required = value["required"].as_bool().unwrap_or_default();
    let kind = text(&value["type"]);
    let parameter = match place.as_str() {
        "body" => {
            let schema = value.get("schema").map(schema);
            Parameter { body: Some(BodyParameter { name, place, required, schema }), non_body: None }
        }
        "path" => {
            let path = Some(PathParameter { required, place, name, kind });
            Parameter { body: None, non_body: Some(NonBodyParameter { query: None, path }) }
        }
        _ => {
            let (description, values) = (text(&value["description"]), anys(&value["enum"]));
            let query = Some(QueryParameter { required, place, description, name, kind, values });
            Parameter { body: None, non_body: Some(NonBodyParameter { query, path: None }) }
        }
    };
    ParametersItem { parameter: Some(parameter) }
}

fn named_schemas(value: &Value) -> NamedSchemas {
    let named = |(name, one): (&String, &Value)| NamedSchema { name: name.clone(), value: Some(schema(one)) };
    NamedSchemas { schemas: entries(value).map(named).collect() }
}

fn schema(value: &Value) -> Schema {
    let number = |name: &str| value[name].as_f64().unwrap_or_default();
    let count = |name: &str| value[name].as_i64().unwrap_or_default();
    let additional = value.get("additionalProperties").map(|more| {
        Box::new(match more.as_bool() {
            Some(is_allowed) => AdditionalProperties { schema: None, boolean: Some(is_allowed) },
            None => AdditionalProperties { schema: Some(schema(more)), boolean: None },
        })
    });
    Schema {
        reference: text(&value["$ref"]),
        format: text(&value["format"]),
        description: text(&value["description"]),
        default: value.get("default").map(any),
        maximum: number("maximum"),
        minimum: number("minimum"),
        max_length: count("maxLength"),
        min_length: count("minLength"),
        pattern: text(&value["pattern"]),
        max_items: count("maxItems"),
        min_items: count("minItems"),
        required: texts(&value["required"]),
        values: anys(&value["enum"]),
        additional_properties: additional,
        kind: value["type"].as_str().map(|kind| StringArray { value: vec![kind.to_owned()] }),
        items: value.get("items").map(|item| Items { schema: vec![schema(item)] }),
        properties: value.get("properties").map(named_schemas),
        vendor_extension: vendor_extension(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Words of a schema that the message has a field for.
    const WORDS: [&str; 18] = [
        "$ref",
        "format",
        "description",
        "default",
        "maximum",
        "minimum",
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "required",
        "enum",
        "additionalProperties",
        "type",
        "items",
        "properties",
        "x-kubernetes-group-version-kind",
    ];

    #[test]
    fn the_message_has_the_bytes_that_gnostic_reads() {
        let schema = json!({"type": "object", "properties": {"a": {"$ref": "#/definitions/b"}}});
        let bytes = encode(&json!({"swagger": "2.0", "definitions": {"s": schema}}));
        // 1: "2.0"; 2: an empty Info; 8: no paths; 9: the definitions; 13: no security.
        let property = b"\x0a\x01a\x12\x11\x0a\x0f#/definitions/b";
        let mut named = vec![0xb2, 0x01, 0x08, 0x0a, 0x06];
        named.extend(b"object");
        named.extend([0xca, 0x01, property.len() as u8 + 2, 0x0a, property.len() as u8]);
        named.extend(property);
        let mut expected = b"\x0a\x032.0\x12\0\x42\0\x4a".to_vec();
        expected.extend([named.len() as u8 + 7, 0x0a, named.len() as u8 + 5, 0x0a, 1, b's', 0x12, named.len() as u8]);
        expected.extend(&named);
        expected.extend(b"\x6a\0");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn the_message_has_every_path_and_every_schema_of_the_document() {
        let swagger = crate::api::openapi::v2();
        let decoded = Document::decode(encode(&swagger)).unwrap();
        assert_eq!(decoded, document(&swagger));
        let definitions = decoded.definitions.unwrap().schemas;
        assert_eq!(definitions.len(), swagger["definitions"].as_object().unwrap().len());
        let host = definitions.iter().find(|one| one.name.ends_with(".BareMetalHost")).unwrap().value.as_ref().unwrap();
        assert!(host.vendor_extension[0].value.as_ref().unwrap().yaml.contains("BareMetalHost"));
        let paths = decoded.paths.unwrap().path;
        assert_eq!(paths.len(), swagger["paths"].as_object().unwrap().len());
    }

    #[test]
    fn no_word_of_a_schema_is_lost() {
        fn walk(schema: &Value) {
            if !schema.is_object() {
                return;
            }
            for (word, _) in entries(schema) {
                assert!(WORDS.contains(&word.as_str()), "{word}: {schema}");
            }
            entries(&schema["properties"]).for_each(|(_, below)| walk(below));
            walk(&schema["items"]);
            walk(&schema["additionalProperties"]);
        }
        entries(&crate::api::openapi::v2()["definitions"]).for_each(|(_, schema)| walk(schema));
    }
}
