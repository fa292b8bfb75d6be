//! The lines of the values in a YAML text, so that an error about any field can name its line. Pure.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::fleet::PathPart;

/// The keys and items of a value, with their lines.
#[derive(Debug)]
pub enum Lines {
    /// A mapping.
    Mapping(Vec<(Spanned<String>, Spanned<Lines>)>),
    /// A list.
    List(Vec<Spanned<Lines>>),
    /// Any other value.
    Scalar,
}

impl Lines {
    /// Returns the line of the field that a path names, or of the last part of the path that exists. `field` is a key below
    /// the path.
    pub fn line<'a>(&self, path: impl IntoIterator<Item = &'a PathPart>, field: Option<&str>) -> usize {
        let (mut here, mut line) = (self, 1);
        let mut enter = |part: &PathPart| {
            let found = match (here, part) {
                (Self::Mapping(entries), PathPart::Key(key)) => {
                    entries.iter().find(|(name, _)| name.value == *key).map(|(name, value)| (name.referenced, value))
                }
                (Self::List(items), PathPart::Index(index)) => items.get(*index).map(|item| (item.referenced, item)),
                _ => None,
            };
            if let Some((place, value)) = found {
                (here, line) = (&value.value, usize::try_from(place.line()).unwrap_or(line));
            }
        };
        path.into_iter().for_each(&mut enter);
        if let Some(field) = field {
            enter(&PathPart::Key(field.to_owned()));
        }
        line
    }
}

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(LinesVisitor)
    }
}

struct LinesVisitor;

impl<'de> Visitor<'de> for LinesVisitor {
    type Value = Lines;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Lines, E> {
        Ok(Lines::Scalar)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Lines, E> {
        Ok(Lines::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Lines, E> {
        Ok(Lines::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Lines, E> {
        Ok(Lines::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Lines, E> {
        Ok(Lines::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Lines, E> {
        Ok(Lines::Scalar)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Lines, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Lines::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Lines, A::Error> {
        let mut mapping = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            mapping.push(entry);
        }
        Ok(Lines::Mapping(mapping))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, source: D) -> Result<Lines, D::Error> {
        IgnoredAny::deserialize(source).map(|_| Lines::Scalar)
    }
}
