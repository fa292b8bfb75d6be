//! Labels and annotations: maps of strings in the order of their keys.

use std::fmt;
use std::ops::Index;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Labels or annotations, sorted by key. Most objects have few: the first node of a B-tree would cost half a KiB per
/// object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StringMap(Box<[(Box<str>, String)]>);

impl StringMap {
    /// Returns whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &String)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Option<&String> {
        self.position(key).ok().map(|at| &self.0[at].1)
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: String, value: String) {
        match self.position(&key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => {
                let mut pairs = std::mem::take(&mut self.0).into_vec();
                pairs.insert(at, (key.into(), value));
                self.0 = pairs.into();
            }
        }
    }

    /// Removes a key, if it exists.
    pub fn remove(&mut self, key: &str) {
        if let Ok(at) = self.position(key) {
            let mut pairs = std::mem::take(&mut self.0).into_vec();
            pairs.remove(at);
            self.0 = pairs.into();
        }
    }

    fn position(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(key))
    }
}

impl Index<&str> for StringMap {
    type Output = String;

    fn index(&self, key: &str) -> &String {
        self.get(key).expect("the key exists")
    }
}

impl<const N: usize> From<[(String, String); N]> for StringMap {
    fn from(pairs: [(String, String); N]) -> Self {
        let mut words = Self::default();
        pairs.into_iter().for_each(|(key, value)| words.insert(key, value));
        words
    }
}

impl Serialize for StringMap {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<'de> Deserialize<'de> for StringMap {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = StringMap;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a map of strings")
            }

            // Typed clients send null for an empty map.
            fn visit_unit<E: serde::de::Error>(self) -> Result<StringMap, E> {
                Ok(StringMap::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StringMap, A::Error> {
                let mut pairs: std::collections::BTreeMap<Box<str>, String> = std::collections::BTreeMap::new();
                while let Some((key, value)) = map.next_entry()? {
                    pairs.insert(key, value);
                }
                Ok(StringMap(pairs.into_iter().collect()))
            }
        }
        from.deserialize_any(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_whatever_order_they_came_in() {
        let mut words: StringMap = serde_json::from_str(r#"{"b":"2","a":"1","b":"3"}"#).unwrap();
        words.insert("ab".into(), "x".into());
        words.insert("a".into(), "0".into());
        words.insert("aa".into(), "y".into());
        words.remove("aa");
        words.remove("ac");
        assert_eq!(serde_json::to_string(&words).unwrap(), r#"{"a":"0","ab":"x","b":"3"}"#);
        assert_eq!((words.get("b"), words.get("c")), (Some(&"3".to_owned()), None));
        assert!(serde_json::from_str::<StringMap>("null").unwrap().is_empty());
        assert!(serde_json::from_str::<StringMap>(r#"{"a":1}"#).is_err());
    }
}
