use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The managers of an object's fields (meta/v1 ManagedFieldsEntry). Kept as text: as a tree it would be larger than the
/// rest of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedFields(Box<str>);

impl ManagedFields {
    /// Returns the entries.
    pub fn entries(&self) -> Vec<Value> {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl From<Vec<Value>> for ManagedFields {
    fn from(entries: Vec<Value>) -> Self {
        Self(Value::from(entries).to_string().into())
    }
}

impl Serialize for ManagedFields {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(&self.0).map_err(serde::ser::Error::custom)?.serialize(to)
    }
}

impl<'de> Deserialize<'de> for ManagedFields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Vec::<Map<String, Value>>::deserialize(from)?.into_iter().map(Value::Object).collect::<Vec<_>>().into())
    }
}

impl JsonSchema for ManagedFields {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ManagedFields".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Vec::<Map<String, Value>>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_are_written_as_they_were_read() {
        let value = json!([{"manager": "a", "fieldsV1": {"f:spec": {"f:image": {}}}}]);
        let fields: ManagedFields = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(json!(fields.entries()), value);
        assert_eq!(serde_json::to_value(&fields).unwrap(), value);
        assert_eq!(serde_json::to_string(&fields).unwrap(), value.to_string());
        for wrong in [json!({}), json!(["a"]), json!("[]")] {
            assert!(serde_json::from_value::<ManagedFields>(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
