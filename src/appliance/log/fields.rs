//! The message and the fields of a log line, in printable characters.

use std::error::Error;
use std::fmt::{Debug, Write};

use tracing::Event;
use tracing::field::{Field, Visit};

use crate::fleet::text::printable;

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text, without control characters.
    Text(String),
    /// A number below zero.
    Signed(i64),
    /// A number.
    Unsigned(u64),
    /// A fraction.
    Fraction(f64),
    /// True or false.
    Flag(bool),
}

impl Value {
    /// Returns the value as text, without quotes.
    pub fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Signed(number) => number.to_string(),
            Self::Unsigned(number) => number.to_string(),
            Self::Fraction(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}

/// The message and the fields of a log line.
#[derive(Debug, Default, PartialEq)]
pub struct LogLine {
    /// The message.
    pub message: String,
    /// The fields, in the order of the line.
    pub fields: Vec<(&'static str, Value)>,
}

impl LogLine {
    /// Reads the message and the fields of an event.
    pub fn of(event: &Event<'_>) -> Self {
        let mut line = Self::default();
        event.record(&mut line);
        line
    }

    /// Returns the message with its fields as `name=value`, for a reader that shows only the message.
    pub fn to_text(&self) -> String {
        let mut text = self.message.clone();
        for (name, value) in &self.fields {
            let value = value.to_text();
            let is_word = !value.is_empty() && !value.contains([' ', '"', '=']);
            // Writing to a string does not fail.
            let _ = match is_word {
                true => write!(text, " {name}={value}"),
                false => write!(text, " {name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
            };
        }
        text
    }

    fn add(&mut self, field: &Field, value: Value) {
        match field.name() {
            "message" => self.message = value.to_text(),
            name => self.fields.push((name, value)),
        }
    }
}

impl Visit for LogLine {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::Text(printable(value).into_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, u64::try_from(value).map_or(Value::Signed(value), Value::Unsigned));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::Fraction(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Flag(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let causes = std::iter::successors(value.source(), |cause: &&dyn Error| (*cause).source());
        let text = causes.fold(value.to_string(), |text, cause| format!("{text}: {cause}"));
        self.record_str(field, &text);
    }

    /// Records a value by its `Debug`, which is `Display` for messages and for fields with `%`.
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_text_has_its_fields_behind_the_message() {
        let line = LogLine {
            message: "host first seen".into(),
            fields: vec![
                ("mac", Value::Text("02:00:00:00:00:01".into())),
                ("action", Value::Text("install a \"b\"".into())),
                ("count", Value::Unsigned(3)),
                ("file", Value::Text(String::new())),
            ],
        };
        let expected = r#"host first seen mac=02:00:00:00:00:01 action="install a \"b\"" count=3 file="""#;
        assert_eq!(line.to_text(), expected);
    }
}
