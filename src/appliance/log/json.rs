//! The log as JSON: one object a line, with `time`, `level`, `message` and the fields of the line.

use std::io::Write;

use jiff::Timestamp;
use serde_json::{Map, Value as Json};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::fields::{LogLine, Value};

/// The layer that writes each line to standard error.
#[derive(Debug)]
pub struct JsonLayer;

impl<S: Subscriber> Layer<S> for JsonLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let text = encode(Timestamp::now(), *event.metadata().level(), LogLine::of(event)) + "\n";
        // There is no other place to report that the log cannot be written.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// Returns a line as a JSON object. A field that is called like one of the three first ones is left out.
fn encode(time: Timestamp, level: Level, line: LogLine) -> String {
    let mut object = Map::new();
    object.insert("time".to_owned(), format!("{time:.6}").into());
    object.insert("level".to_owned(), level.as_str().to_lowercase().into());
    object.insert("message".to_owned(), line.message.into());
    for (name, value) in line.fields {
        object.entry(name).or_insert_with(|| json_of(value));
    }
    Json::Object(object).to_string()
}

fn json_of(value: Value) -> Json {
    match value {
        Value::Text(text) => text.into(),
        Value::Signed(number) => number.into(),
        Value::Unsigned(number) => number.into(),
        Value::Fraction(number) => number.into(),
        Value::Flag(flag) => flag.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_object_with_typed_fields() {
        let fields = vec![
            ("event", Value::Text("clock_stepped".into())),
            ("step_seconds", Value::Signed(-3)),
            ("octets", Value::Unsigned(u64::MAX)),
            ("is_new", Value::Flag(true)),
            ("level", Value::Text("forged".into())),
            ("detail", Value::Text("a \"b\"".into())),
        ];
        let line = LogLine { message: "clock set".into(), fields };
        let text = encode(Timestamp::from_microsecond(1_500_000).unwrap(), Level::WARN, line);
        assert_eq!(
            text,
            r#"{"time":"1970-01-01T00:00:01.500000Z","level":"warn","message":"clock set","event":"clock_stepped","#
                .to_owned()
                + r#""step_seconds":-3,"octets":18446744073709551615,"is_new":true,"detail":"a \"b\""}"#
        );
    }
}
