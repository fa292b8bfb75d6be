//! The types of every version of Ignition configs in the crate ignition-config. The tables are compared with them.

use std::cell::RefCell;
use std::collections::BTreeSet;

use ignition_config::{v3_0, v3_1, v3_2, v3_3, v3_4, v3_5, v3_6};
use serde::de::{DeserializeOwned, Deserializer, Error, IntoDeserializer, Visitor, value};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use super::ignition_v3::Minor;

/// Returns whether a config has the types of a version.
pub fn accepts(config: &Value, minor: Minor) -> bool {
    read(config, minor).is_ok()
}

/// Returns the paths of the keys that the types of a version do not have.
pub fn unused(config: &Value, minor: Minor) -> Vec<String> {
    read(config, minor).unwrap_or_else(|error| panic!("3.{minor}: {error}: {config}"))
}

fn read(config: &Value, minor: Minor) -> Result<Vec<String>, serde_json::Error> {
    match minor {
        0 => read_as::<v3_0::Config>(config),
        1 => read_as::<v3_1::Config>(config),
        2 => read_as::<v3_2::Config>(config),
        3 => read_as::<v3_3::Config>(config),
        4 => read_as::<v3_4::Config>(config),
        5 => read_as::<v3_5::Config>(config),
        _ => read_as::<v3_6::Config>(config),
    }
}

fn read_as<T: DeserializeOwned>(config: &Value) -> Result<Vec<String>, serde_json::Error> {
    let mut unused = Vec::new();
    let _: T = serde_ignored::deserialize(config, |path| unused.push(unused_path(&path)))?;
    Ok(unused)
}

/// Returns the path of an unused key, as Ignition itself writes it.
fn unused_path(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path::{Map, NewtypeStruct, NewtypeVariant, Root, Seq, Some};
    match path {
        Root => "$".to_owned(),
        Seq { parent, index } => format!("{}.{index}", unused_path(parent)),
        Map { parent, key } => format!("{}.{key}", unused_path(parent)),
        Some { parent } | NewtypeStruct { parent } | NewtypeVariant { parent } => unused_path(parent),
    }
}

/// Returns the path and the type of each value that a type reads, as `storage.files.*.mode integer`.
pub fn fields<T: DeserializeOwned>() -> BTreeSet<String> {
    let found = RefCell::new(BTreeSet::new());
    T::deserialize(FieldRecorder { path: String::new(), found: &found }).unwrap();
    found.into_inner()
}

/// A source that has every field of a type, one item in each list, and records what is read from it.
#[derive(Clone)]
struct FieldRecorder<'a> {
    path: String,
    found: &'a RefCell<BTreeSet<String>>,
}

impl FieldRecorder<'_> {
    fn below(&self, part: &str) -> Self {
        let path = if self.path.is_empty() { part.to_owned() } else { format!("{}.{part}", self.path) };
        Self { path, ..self.clone() }
    }

    fn record(&self, kind: &str) {
        self.found.borrow_mut().insert(format!("{} {kind}", self.path));
    }
}

impl<'de> Deserializer<'de> for FieldRecorder<'_> {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(value::Error::custom(format!("{}: a type that the table does not know", self.path)))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.record("text");
        visitor.visit_str("x")
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.record("boolean");
        visitor.visit_bool(true)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.record("integer");
        visitor.visit_i64(1)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_seq(value::SeqDeserializer::new([self.below("*")].into_iter()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_map(value::MapDeserializer::new(fields.iter().map(|field| (*field, self.below(field)))))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char str bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct map enum identifier ignored_any
    }
}

impl IntoDeserializer<'_, value::Error> for FieldRecorder<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
