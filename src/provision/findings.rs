//! What a check found in a config: errors and warnings, each with its JSON pointer and its place in the text. Pure.

use super::located_json::{Located, Node, line_and_column};

/// Maximum number of errors of one answer.
const MAX_ERRORS: usize = 100;

/// An error or a warning about a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// JSON pointer of the value (RFC 6901); the empty string is the whole config.
    pub pointer: String,
    /// Offset in the text of the value, or of the object that lacks it.
    pub offset: usize,
    /// What is wrong, and what is expected.
    pub message: String,
}

/// All that a check found.
#[derive(Debug, Default)]
pub struct Findings {
    /// The config is refused for these.
    pub errors: Vec<Finding>,
    /// The config is accepted, but not all of it may work.
    pub warnings: Vec<Finding>,
}

impl Findings {
    /// Returns the errors as text, in the order of the config's text.
    pub fn error_texts(&mut self, text: &str) -> Vec<String> {
        self.errors.sort_by_key(|finding| finding.offset);
        let more = self.errors.len().saturating_sub(MAX_ERRORS);
        let shown = self.errors.iter().take(MAX_ERRORS).map(|finding| finding.text(text));
        shown.chain((more > 0).then(|| format!("and {more} more errors"))).collect()
    }

    /// Returns the warnings as text, in the order of the config's text.
    pub fn warning_texts(&mut self, text: &str) -> Vec<String> {
        self.warnings.sort_by_key(|finding| finding.offset);
        self.warnings.iter().map(|finding| finding.text(text)).collect()
    }
}

impl Finding {
    fn text(&self, text: &str) -> String {
        let (line, column) = line_and_column(text, self.offset);
        let pointer = if self.pointer.is_empty() { "the config" } else { &self.pointer };
        format!("{pointer}: {} at line {line} column {column}", self.message)
    }
}

/// A value of a config with its JSON pointer.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// The value.
    pub value: &'a Located,
    /// Its JSON pointer.
    pub pointer: String,
}

impl<'a> Place<'a> {
    /// Returns the place of a whole config.
    pub fn of(config: &'a Located) -> Self {
        Self { value: config, pointer: String::new() }
    }

    /// Returns the value of a key, unless it is null.
    pub fn get(&self, key: &str) -> Option<Self> {
        Some(Self { value: self.value.get(key)?, pointer: self.pointer_of(key) })
    }

    /// Returns the items of the list of a key.
    pub fn items(&self, key: &str) -> Vec<Self> {
        self.get(key).map_or_else(Vec::new, |list| list.all_items())
    }

    /// Returns the values at the places that a pattern describes: keys with dots between them, `*` for each item of a list.
    pub fn matches(&self, pattern: &str) -> Vec<Self> {
        let mut found = vec![self.clone()];
        for part in pattern.split('.') {
            found = match part {
                "*" => found.iter().flat_map(Self::all_items).collect(),
                part => found.iter().filter_map(|place| place.get(part)).collect(),
            };
        }
        found
    }

    fn all_items(&self) -> Vec<Self> {
        let Node::List(items) = &self.value.node else { return Vec::new() };
        let with_pointer = |(index, value)| Self { value, pointer: format!("{}/{index}", self.pointer) };
        items.iter().enumerate().map(with_pointer).collect()
    }

    /// Returns a finding about this value.
    pub fn finding(&self, message: impl Into<String>) -> Finding {
        Finding { pointer: self.pointer.clone(), offset: self.value.offset, message: message.into() }
    }

    /// Returns a finding about a key of this object, which it may lack.
    pub fn finding_of(&self, key: &str, message: impl Into<String>) -> Finding {
        let offset = self.value.get(key).unwrap_or(self.value).offset;
        Finding { pointer: self.pointer_of(key), offset, message: message.into() }
    }

    /// Returns the JSON pointer of a key of this object.
    pub fn pointer_of(&self, key: &str) -> String {
        format!("{}/{}", self.pointer, key.replace('~', "~0").replace('/', "~1"))
    }
}
