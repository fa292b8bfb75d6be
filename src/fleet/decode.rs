//! Decoding of JSON, with the path of the field that is wrong. Pure.
//!
//! Every type of a request and of the store is decoded from the same tree, so that its code is in the binary once. The
//! tree borrows its texts, and has no hash tables. The path is put together on the way back from an error: reading a valid
//! value does not pay for it.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, Expected, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::Value;

/// The reason a value does not deserialize.
#[derive(Debug)]
pub struct DecodeError {
    /// The field that is wrong.
    pub path: FieldPath,
    /// What is wrong with it.
    pub message: String,
}

/// The path of a field, from the outermost key. A text for people has it as `spec.interfaces[0].name`, and that of the
/// whole value as `.`.
#[derive(Debug, Default)]
pub struct FieldPath {
    /// The innermost part comes first.
    reversed: Vec<PathPart>,
}

/// A part of a path.
#[derive(Debug)]
pub enum PathPart {
    /// Index in a list; `[0]` in a text.
    Index(usize),
    /// Key of an object.
    Key(String),
}

/// Deserializes a value; an error has the path of the field.
///
/// # Errors
/// The value does not have the type.
pub fn deserialize_with_path<T: DeserializeOwned>(value: &Value) -> Result<T, DecodeError> {
    T::deserialize(TreeSource(&Tree::of(value)))
}

/// Deserializes a text in JSON; an error has the path of the field.
///
/// # Errors
/// The text is not JSON, or its value does not have the type.
pub fn deserialize_text<T: DeserializeOwned>(text: &str) -> Result<T, DecodeError> {
    let tree: Tree<'_> = serde_json::from_str(text).map_err(DecodeError::custom)?;
    T::deserialize(TreeSource(&tree))
}

impl FieldPath {
    /// Returns the parts, the outermost first.
    pub fn parts(&self) -> impl Iterator<Item = &PathPart> {
        self.reversed.iter().rev()
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reversed.is_empty() {
            return to.write_str(".");
        }
        for (position, part) in self.parts().enumerate() {
            if position > 0 && matches!(part, PathPart::Key(_)) {
                to.write_str(".")?;
            }
            part.fmt(to)?;
        }
        Ok(())
    }
}

impl fmt::Display for PathPart {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(to, "[{index}]"),
            Self::Key(key) => to.write_str(key),
        }
    }
}

impl DecodeError {
    #[cold]
    fn inside(mut self, part: PathPart) -> Self {
        self.path.reversed.push(part);
        self
    }

    #[cold]
    fn new(message: String) -> Self {
        Self { path: FieldPath::default(), message }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.reversed.is_empty() {
            true => to.write_str(&self.message),
            false => write!(to, "{}: {}", self.path, self.message),
        }
    }
}

impl std::error::Error for DecodeError {}

impl Error for DecodeError {
    fn custom<M: fmt::Display>(message: M) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("invalid type: {}, expected {expected}", JsonWord(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("invalid value: {}, expected {expected}", JsonWord(found)))
    }
}

/// What was found, in JSON's words.
struct JsonWord<'a>(Unexpected<'a>);

impl fmt::Display for JsonWord<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Unit => to.write_str("null"),
            other => other.fmt(to),
        }
    }
}

/// A JSON value that borrows its texts. The entries of an object are in order, and may repeat a key.
enum Tree<'a> {
    Null,
    Boolean(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Tree<'a>>),
    Object(Vec<(Cow<'a, str>, Tree<'a>)>),
}

impl<'a> Tree<'a> {
    fn of(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Boolean(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => Self::Unsigned(value),
                (None, Some(value)) => Self::Signed(value),
                (None, None) => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Self::Text(text.into()),
            Value::Array(items) => Self::List(items.iter().map(Self::of).collect()),
            Value::Object(map) => Self::Object(map.iter().map(|(key, value)| (key.into(), Self::of(value))).collect()),
        }
    }

    /// Returns the value in the words of an error.
    fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Self::Null => Unexpected::Unit,
            Self::Boolean(value) => Unexpected::Bool(*value),
            Self::Unsigned(value) => Unexpected::Unsigned(*value),
            Self::Signed(value) => Unexpected::Signed(*value),
            Self::Float(value) => Unexpected::Float(*value),
            Self::Text(text) => Unexpected::Str(text),
            Self::List(_) => Unexpected::Seq,
            Self::Object(_) => Unexpected::Map,
        }
    }
}

impl<'de> Deserialize<'de> for Tree<'de> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree<'de>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Tree<'de>, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree<'de>, E> {
        Ok(Tree::Boolean(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree<'de>, E> {
        Ok(Tree::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree<'de>, E> {
        Ok(Tree::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree<'de>, E> {
        Ok(Tree::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree<'de>, E> {
        Ok(Tree::Text(text.to_owned().into()))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Tree<'de>, E> {
        Ok(Tree::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree<'de>, A::Error> {
        let mut object = Vec::new();
        while let Some(key) = entries.next_key()? {
            let Tree::Text(key) = key else { return Err(A::Error::custom("a key is not a text")) };
            object.push((key, entries.next_value()?));
        }
        Ok(Tree::Object(object))
    }
}

/// A value that is decoded.
#[derive(Clone, Copy)]
struct TreeSource<'de>(&'de Tree<'de>);

impl<'de> Deserializer<'de> for TreeSource<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Tree::Null => visitor.visit_unit(),
            Tree::Boolean(value) => visitor.visit_bool(*value),
            Tree::Unsigned(value) => visitor.visit_u64(*value),
            Tree::Signed(value) => visitor.visit_i64(*value),
            Tree::Float(value) => visitor.visit_f64(*value),
            Tree::Text(text) => visitor.visit_borrowed_str(text),
            Tree::List(items) => {
                let mut list = ListItems { items, next: 0 };
                let value = visitor.visit_seq(&mut list)?;
                match list.next == items.len() {
                    true => Ok(value),
                    false => Err(DecodeError::invalid_length(items.len(), &"fewer items in the list")),
                }
            }
            Tree::Object(entries) => visitor.visit_map(Fields { entries: entries.iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if matches!(self.0, Tree::Null) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.0 {
            Tree::Text(name) => visitor.visit_enum(Variant { name, content: None }),
            Tree::Object(entries) => match &entries[..] {
                [(name, content)] => visitor.visit_enum(Variant { name, content: Some(content) }),
                _ => Err(DecodeError::invalid_value(Unexpected::Map, &"map with a single key")),
            },
            other => Err(DecodeError::invalid_type(other.unexpected(), &"string or map")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}

/// The items of a list.
struct ListItems<'de> {
    items: &'de [Tree<'de>],
    next: usize,
}

impl<'de> SeqAccess<'de> for &mut ListItems<'de> {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        seed.deserialize(TreeSource(item)).map(Some).map_err(|error| error.inside(PathPart::Index(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        self.items.len().checked_sub(self.next)
    }
}

/// The entries of an object.
struct Fields<'de> {
    entries: std::slice::Iter<'de, (Cow<'de, str>, Tree<'de>)>,
    /// The entry whose key was read last.
    value: Option<(&'de str, &'de Tree<'de>)>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some((key, value));
        // The path of an unknown field has its name.
        let read = seed.deserialize(KeyText(key));
        read.map(Some).map_err(|error| error.inside(PathPart::Key(key.to_string())))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        let (key, value) = self.value.take().ok_or_else(|| DecodeError::custom("a value was read before its key"))?;
        seed.deserialize(TreeSource(value)).map_err(|error| error.inside(PathPart::Key(key.to_owned())))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// A key of an object, or the name of a variant.
struct KeyText<'de>(&'de str);

impl<'de> Deserializer<'de> for KeyText<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_enum(Variant { name: self.0, content: None })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map struct identifier ignored_any
    }
}

/// A variant of an enum: its name, or an object of its name and its content.
struct Variant<'de> {
    name: &'de str,
    content: Option<&'de Tree<'de>>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = DecodeError;
    type Variant = Content<'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Content<'de>), DecodeError> {
        Ok((seed.deserialize(KeyText(self.name))?, Content(self.content)))
    }
}

/// The content of a variant.
struct Content<'de>(Option<&'de Tree<'de>>);

impl<'de> Content<'de> {
    fn required(self) -> Result<TreeSource<'de>, DecodeError> {
        self.0
            .map(TreeSource)
            .ok_or_else(|| DecodeError::invalid_type(Unexpected::UnitVariant, &"a variant with content"))
    }
}

impl<'de> VariantAccess<'de> for Content<'de> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.0 {
            None | Some(Tree::Null) => Ok(()),
            Some(_) => Err(DecodeError::custom("expected a variant without content")),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, DecodeError> {
        seed.deserialize(self.required()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.required()?.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, DecodeError> {
        self.required()?.deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[allow(dead_code, reason = "only whether it is read counts")]
    struct Outer {
        name: String,
        #[serde(default)]
        items: Vec<Inner>,
        #[serde(default)]
        kind: Option<Form>,
        #[serde(default)]
        pair: Option<(u8, i16)>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only whether it is read counts")]
    struct Inner {
        size: u16,
        ratio: Option<f64>,
        text: Option<Box<str>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[allow(dead_code, reason = "only whether it is read counts")]
    enum Form {
        Plain,
        Round(u8),
        Square { side: u8 },
    }

    /// Each row is also decoded by serde_json and serde_path_to_error, which must say the same.
    #[test]
    fn errors_are_those_of_serde_json_with_their_paths() {
        let rows = [
            json!({"name": "a"}),
            json!({"name": "a", "items": [{"size": 1, "ratio": 0.5, "text": "x"}], "kind": "plain", "pair": [1, -2]}),
            json!({"name": "a", "kind": {"round": 1}}),
            json!({"name": "a", "kind": {"square": {"side": 2}}}),
            json!({"name": "a", "items": [{"size": 1, "ratio": null, "text": null}], "kind": null}),
            json!({}),
            json!(null),
            json!("text"),
            json!(1.5),
            json!({"name": null}),
            json!({"name": 1}),
            json!({"name": -1}),
            json!({"name": 1.0}),
            json!({"name": true}),
            json!({"name": ["a"]}),
            json!({"name": {"a": 1}}),
            json!({"name": "a", "colour": "red"}),
            json!({"name": "a", "items": {}}),
            json!({"name": "a", "items": [{"size": 1}, {"size": 65_536}]}),
            json!({"name": "a", "items": [{"size": -1}]}),
            json!({"name": "a", "items": [{"size": 1}, {}]}),
            json!({"name": "a", "items": [{"size": 1}, {"size": 1, "new": 1}]}),
            json!({"name": "a", "items": [null]}),
            json!({"name": "a", "kind": "oval"}),
            json!({"name": "a", "kind": 1.5}),
            json!({"name": "a", "kind": {"round": 1, "plain": null}}),
            json!({"name": "a", "kind": {"round": "x"}}),
            json!({"name": "a", "pair": [1, 40_000]}),
            json!({"name": "a", "pair": [1]}),
        ];
        let mut failed = 0;
        for row in rows {
            let expected = serde_path_to_error::deserialize::<_, Outer>(row.clone());
            let (read, text) = (deserialize_with_path::<Outer>(&row), deserialize_text::<Outer>(&row.to_string()));
            assert_eq!(format!("{text:?}"), format!("{read:?}"), "{row}");
            match (read, expected) {
                (Ok(read), Ok(expected)) => assert_eq!(format!("{read:?}"), format!("{expected:?}"), "{row}"),
                (Err(error), Err(expected)) => {
                    failed += 1;
                    assert_eq!(error.message, expected.inner().to_string(), "{row}");
                    let is_in_enum =
                        expected.path().iter().any(|part| matches!(part, serde_path_to_error::Segment::Enum { .. }));
                    if !is_in_enum {
                        assert_eq!(error.path.to_string(), expected.path().to_string(), "{row}");
                    }
                }
                (read, expected) => panic!("{row}: {read:?}, {expected:?}"),
            }
        }
        assert_eq!(failed, 24);
    }

    #[test]
    fn a_list_with_items_that_are_not_read_is_wrong() {
        let error = deserialize_with_path::<(u8, u8)>(&json!([1, 2, 3])).unwrap_err();
        assert!(error.to_string().starts_with("invalid length 3"), "{error}");
        let error = deserialize_with_path::<Outer>(&json!({"name": "a", "kind": {"plain": 1}})).unwrap_err();
        assert_eq!(error.to_string(), "kind: expected a variant without content");
        let error = deserialize_text::<Outer>("{\"name\": \"a\", \"name\": \"b\"}").unwrap_err();
        assert_eq!(error.to_string(), "duplicate field `name`");
        let error = deserialize_text::<Outer>("{\"name\": ").unwrap_err();
        assert!(error.to_string().starts_with("EOF while parsing a value at line 1"), "{error}");
    }
}
