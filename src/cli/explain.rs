//! `bootlatch explain`: the fields of a kind, from the server's OpenAPI document.

use hyper::Method;
use serde_json::Value;

use super::client::ApiClient;
use super::lookup::not_found;
use super::reference;
use super::show::print;

/// Path of the document.
const DOCUMENT: &str = "/openapi/v3/api/v1";
/// Maximum number of references that are followed from one schema.
const MAX_REFERENCES: usize = 16;
/// Width of the description of a field.
const WIDTH: usize = 76;

/// Prints the description of a kind or of a field of it, and the fields below it.
///
/// # Errors
/// The kind or the field does not exist, or the server refuses the request.
pub async fn explain(client: &mut ApiClient, path: &str) -> anyhow::Result<()> {
    let mut words = path.split('.');
    let kind = reference::kind(words.next().unwrap_or_default()).map_err(super::exit::UsageError)?;
    let document = client.ask(Method::GET, DOCUMENT, None).await?;
    let schemas = document.pointer("/components/schemas").unwrap_or(&Value::Null);
    let suffix = format!(".{kind}");
    let found = schemas.as_object().into_iter().flatten().find(|(name, _)| name.ends_with(&suffix));
    let Some((_, schema)) = found else { return Err(not_found(format!("no schema of {kind} on this server"))) };
    let mut described = Field { schema, about: text(schema, "description") };
    let mut walked = kind.as_str().to_owned();
    for word in words {
        let fields = fields(schemas, described.schema);
        let next = fields.iter().find(|(name, _)| *name == word);
        let Some((_, field)) = next else {
            let known: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
            let known = if known.is_empty() { "it has no fields".to_owned() } else { known.join(", ") };
            return Err(not_found(format!("{walked}: no field {word:?}; expected one of: {known}")));
        };
        described = field.clone();
        walked = format!("{walked}.{word}");
    }
    print(&format_field(schemas, &walked, &described))
}

/// A field: its schema, and its description.
#[derive(Clone)]
struct Field<'a> {
    schema: &'a Value,
    about: String,
}

fn text(schema: &Value, field: &str) -> String {
    schema[field].as_str().unwrap_or_default().to_owned()
}

/// Follows references, and the wrappers of references, to a schema with a type.
fn resolve<'a>(schemas: &'a Value, mut schema: &'a Value) -> &'a Value {
    for _ in 0..MAX_REFERENCES {
        let wrapped = ["allOf", "anyOf", "oneOf"]
            .iter()
            .find_map(|word| schema[*word].as_array()?.iter().find(|part| !is_null(part)));
        let referred = schema["$ref"].as_str().and_then(|name| schemas.get(name.rsplit('/').next()?));
        match referred.or(wrapped.filter(|_| schema.get("properties").is_none())) {
            Some(next) => schema = next,
            None => break,
        }
    }
    schema
}

fn is_null(schema: &Value) -> bool {
    schema["type"] == "null"
}

/// Returns the fields below a schema: of an object, or of the items of a list.
fn fields<'a>(schemas: &'a Value, schema: &'a Value) -> Vec<(String, Field<'a>)> {
    let mut schema = resolve(schemas, schema);
    if let Some(items) = schema.get("items") {
        schema = resolve(schemas, items);
    }
    let properties = schema["properties"].as_object().into_iter().flatten();
    let field = |(name, inner): (&String, &'a Value)| {
        let own = text(inner, "description");
        let about = if own.is_empty() { text(resolve(schemas, inner), "description") } else { own };
        (name.clone(), Field { schema: inner, about })
    };
    properties.map(field).collect()
}

/// Returns the type of a schema in words.
fn type_name(schemas: &Value, schema: &Value) -> String {
    let schema = resolve(schemas, schema);
    if let Some(values) = schema["enum"].as_array() {
        let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        return values.iter().map(word).collect::<Vec<_>>().join(" | ");
    }
    let name = match &schema["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("any").to_owned()
        }
        _ => "object".to_owned(),
    };
    match (name.as_str(), schema.get("items"), schema.get("additionalProperties")) {
        ("array", Some(items), _) => format!("[]{}", type_name(schemas, items)),
        ("object", _, Some(values @ Value::Object(_))) => format!("map[string]{}", type_name(schemas, values)),
        _ => name,
    }
}

fn format_field(schemas: &Value, path: &str, field: &Field<'_>) -> String {
    let about = if field.about.is_empty() { "(no description)" } else { &field.about };
    let mut lines = vec![format!("{path} <{}>", type_name(schemas, field.schema)), wrap(about, 2)];
    let required: Vec<_> = resolve(schemas, field.schema)["required"].as_array().into_iter().flatten().collect();
    let below = fields(schemas, field.schema);
    if !below.is_empty() {
        lines.push("\nFIELDS".to_owned());
    }
    for (name, field) in below {
        let is_required = required.iter().any(|required| **required == name);
        let mark = if is_required { ", required" } else { "" };
        lines.push(format!("  {name} <{}{mark}>", type_name(schemas, field.schema)));
        if !field.about.is_empty() {
            lines.push(wrap(&field.about, 4));
        }
    }
    lines.join("\n") + "\n"
}

/// Breaks a description into indented lines.
fn wrap(text: &str, indent: usize) -> String {
    let mut lines = vec![" ".repeat(indent)];
    for word in text.split_whitespace() {
        let last = lines.last().map_or(0, String::len);
        if last > indent && last + 1 + word.len() > indent + WIDTH {
            lines.push(" ".repeat(indent));
        }
        if let Some(line) = lines.last_mut() {
            if line.len() > indent {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_found_through_references() {
        let schemas = json!({
            "v1.Host": {"type": "object", "description": "A host.", "required": ["spec"], "properties": {
                "spec": {"allOf": [{"$ref": "#/components/schemas/v1.Spec"}], "description": "What is wanted."},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            }},
            "v1.Spec": {"type": "object", "properties": {
                "mode": {"anyOf": [{"$ref": "#/components/schemas/v1.Mode"}, {"type": "null"}]},
                "names": {"type": ["array", "null"], "items": {"type": "string"}},
            }},
            "v1.Mode": {"type": "string", "enum": ["once", "forever"], "description": "How often."},
        });
        let host = Field { schema: &schemas["v1.Host"], about: "A host.".into() };
        let text = format_field(&schemas, "Host", &host);
        assert_eq!(
            text,
            "Host <object>\n  A host.\n\nFIELDS\n  spec <object, required>\n    What is wanted.\n  labels <map[string]string>\n"
        );
        let spec = fields(&schemas, &schemas["v1.Host"]).remove(0).1;
        let text = format_field(&schemas, "Host.spec", &spec);
        assert!(text.contains("  mode <once | forever>\n    How often.\n  names <[]string>\n"), "{text}");
    }

    #[test]
    fn a_long_description_is_wrapped() {
        let text = wrap(&"word ".repeat(40), 4);
        assert!(
            text.lines().count() == 3 && text.lines().all(|line| line.len() <= 80 && line.starts_with("    w")),
            "{text}"
        );
    }
}
