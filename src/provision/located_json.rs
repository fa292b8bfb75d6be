//! JSON with the place of each value in its text, so that an error about any value can name its line. Pure.

use std::fmt;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Maximum depth of lists and objects, as in serde_json.
const MAX_DEPTH: usize = 128;

/// A value and its place.
#[derive(Debug)]
pub struct Located {
    /// The value.
    pub node: Node,
    /// Offset of its first octet in the text.
    pub offset: usize,
}

/// A JSON value.
#[derive(Debug)]
pub enum Node {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number of 64 bits with a sign.
    Integer(i64),
    /// Any other number.
    Number,
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Located>),
    /// An object, in the order of the text. A key may occur more than once.
    Object(Vec<(String, Located)>),
}

impl Located {
    /// Parses a text that is one JSON value.
    ///
    /// # Errors
    /// Returns the parser's message, with the line and the column.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let whole: &RawValue = serde_json::from_str(text)?;
        read(text, whole.get(), 0)
    }

    /// Returns the value of a key of an object; `None` if there is none, or null.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Node::Object(entries) = &self.node else { return None };
        let (_, value) = entries.iter().find(|(name, _)| name == key)?;
        (!matches!(value.node, Node::Null)).then_some(value)
    }

    /// Returns the text of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Self::as_text)
    }

    /// Returns the text of a key, if it is not empty.
    pub fn word(&self, key: &str) -> Option<&str> {
        self.text(key).filter(|text| !text.is_empty())
    }

    /// Returns the number of a key.
    pub fn integer(&self, key: &str) -> Option<i64> {
        match self.get(key)?.node {
            Node::Integer(number) => Some(number),
            _ => None,
        }
    }

    /// Returns whether a key has a truth value, and this one.
    pub fn is(&self, key: &str, wanted: bool) -> bool {
        self.get(key).is_some_and(|found| matches!(found.node, Node::Boolean(value) if value == wanted))
    }

    /// Returns the value if it is a text.
    pub fn as_text(&self) -> Option<&str> {
        match &self.node {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => to.write_str("null"),
            Self::Boolean(value) => write!(to, "{value}"),
            Self::Integer(number) => write!(to, "the number {number}"),
            Self::Number => to.write_str("a number that is not whole or too large"),
            Self::Text(text) if text.chars().count() <= 40 => write!(to, "the string {text:?}"),
            Self::Text(_) => to.write_str("a string"),
            Self::List(_) => to.write_str("a list"),
            Self::Object(_) => to.write_str("an object"),
        }
    }
}

/// Returns the line and the column of a place in a text, both from 1. Columns count characters.
pub fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rfind('\n').map_or(before, |end| &before[end + 1..]);
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// Reads a value, which is a part of the text.
fn read(text: &str, part: &str, depth: usize) -> Result<Located, serde_json::Error> {
    let part = part.trim_ascii();
    let offset = part.as_ptr().addr() - text.as_ptr().addr();
    let node = match part.as_bytes().first() {
        Some(b'{' | b'[') if depth >= MAX_DEPTH => return Err(serde::de::Error::custom("too many nested values")),
        Some(b'{') => {
            let entries = serde_json::Deserializer::from_str(part).deserialize_map(Entries)?;
            let read_entry = |(key, value): (String, &RawValue)| Ok((key, read(text, value.get(), depth + 1)?));
            Node::Object(entries.into_iter().map(read_entry).collect::<Result<_, serde_json::Error>>()?)
        }
        Some(b'[') => {
            let items = serde_json::Deserializer::from_str(part).deserialize_seq(Items)?;
            Node::List(items.into_iter().map(|item| read(text, item.get(), depth + 1)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Node::Text(serde_json::from_str(part)?),
        Some(b't' | b'f') => Node::Boolean(serde_json::from_str(part)?),
        Some(b'n') => Node::Null,
        _ => serde_json::from_str(part).map_or(Node::Number, Node::Integer),
    };
    Ok(Located { node, offset })
}

/// Reads the keys of an object, and its values unread.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry::<String, &RawValue>()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// Reads the items of a list, unread.
struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}
