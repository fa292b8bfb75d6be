//! Detection of repeated keys in a mapping: JSON and YAML parsers silently keep the last one. Pure.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Maximum number of repeated keys that are reported.
const MAX_DUPLICATES: usize = 64;

/// Deserializes a value, and collects the path of each repeated key, as in `spec.bootMACAddress`.
#[derive(Debug)]
pub struct DuplicateKeyDetector<'a> {
    path: String,
    duplicates: &'a mut Vec<String>,
}

impl<'a> DuplicateKeyDetector<'a> {
    /// Creates a detector at the top of a value.
    pub fn new(duplicates: &'a mut Vec<String>) -> Self {
        Self { path: String::new(), duplicates }
    }

    fn below(&mut self, path: String) -> DuplicateKeyDetector<'_> {
        DuplicateKeyDetector { path, duplicates: self.duplicates }
    }
}

impl<'de> DeserializeSeed<'de> for DuplicateKeyDetector<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for DuplicateKeyDetector<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        self.deserialize(from)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, values.len());
            match list.next_element_seed(self.below(path))? {
                Some(value) => values.push(value),
                None => return Ok(Value::Array(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let dot = if self.path.is_empty() { "" } else { "." };
            let path = format!("{}{dot}{key}", self.path);
            if values.contains_key(&key) && self.duplicates.len() < MAX_DUPLICATES {
                self.duplicates.push(path.clone());
            }
            let value = map.next_value_seed(self.below(path))?;
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_is_reported_by_its_path_and_its_last_value_wins() {
        let text = r#"{"a": 1, "b": [{"c": null, "c": "x"}], "a": {"d": true, "d": -2.5, "d": 7}}"#;
        let mut duplicates = Vec::new();
        let value = DuplicateKeyDetector::new(&mut duplicates)
            .deserialize(&mut serde_json::Deserializer::from_str(text))
            .unwrap();
        assert_eq!(duplicates, ["b[0].c", "a", "a.d", "a.d"]);
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn the_number_of_reported_keys_is_bounded() {
        let text = format!("{{{}}}", vec!["\"a\": 1"; MAX_DUPLICATES + 2].join(","));
        let mut duplicates = Vec::new();
        DuplicateKeyDetector::new(&mut duplicates).deserialize(&mut serde_json::Deserializer::from_str(&text)).unwrap();
        assert_eq!(duplicates, vec!["a"; MAX_DUPLICATES]);
    }
}
