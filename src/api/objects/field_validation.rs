//! How strictly what a client writes is read: a field that nobody knows, or a key that stands twice, is refused,
//! told of or dropped, as Kubernetes' `fieldValidation` asks.

use hyper::header::{HeaderValue, WARNING};
use serde_json::Value;

use crate::fleet::rules::Invalid;
use crate::fleet::{self, Kind, Object};

use crate::api::objects::body;
use crate::api::objects::status::Status;
use crate::http::reply::Reply;

/// Bounds what is told in an answer's headers: a client takes a few KiB of those.
const TOLD_BYTES: usize = 4096;

/// Says what becomes of what cannot be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Validation {
    /// Drops what cannot be kept.
    Ignore,
    /// Drops it, and says so.
    Warn,
    /// Refuses it.
    #[default]
    Strict,
}

impl Validation {
    /// Lists the words of the query for them.
    pub const NAMES: &[&str] = &["Ignore", "Warn", "Strict"];

    /// Reads one of `NAMES`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "Ignore" => Some(Self::Ignore),
            "Warn" => Some(Self::Warn),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// Reads one write, as strictly as its client asks, and keeps what the client is to be told.
#[derive(Debug, Default)]
pub struct Reading {
    validation: Validation,
    twice: Vec<String>,
    /// Holds what the client is told, however little it wants to know of what was dropped.
    notes: Vec<String>,
    /// Holds where the fields stood that nobody knows, each key by key.
    unknown: Vec<Vec<String>>,
}

impl Reading {
    /// Begins a reading, as strict as its client asks.
    pub fn new(validation: Validation) -> Self {
        Self { validation, ..Self::default() }
    }

    /// Says whether what cannot be kept is refused.
    pub fn is_strict(&self) -> bool {
        self.validation == Validation::Strict
    }

    /// Reads a body's JSON or YAML.
    pub fn parse(&mut self, kind: &str, text: &[u8]) -> Result<Value, Status> {
        match self.is_strict() {
            true => body::parse(kind, text),
            false => body::parse_leniently(kind, text, &mut self.twice),
        }
    }

    /// Makes an object of a kind.
    pub fn object(&mut self, kind: Kind, value: Value) -> Result<Object, Invalid> {
        match self.is_strict() {
            true => Object::from_json(kind, value),
            false => {
                let (object, unknown) = Object::from_json_leniently(kind, value)?;
                self.unknown = unknown;
                Ok(object)
            }
        }
    }

    /// Takes out of a wish what nobody knows.
    pub fn take_out(&self, wish: &mut Value) {
        for path in &self.unknown {
            fleet::remove_path(wish, path);
        }
    }

    /// Keeps what the client is to be told in any case.
    pub fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// Says in an answer what the client is to be told, and what was dropped, where it wants to know.
    pub fn told(&self, mut reply: Reply) -> Reply {
        let dropped = self.validation == Validation::Warn;
        let unknown = self.unknown.iter().map(|path| format!("unknown field \"{}\"", path.join(".")));
        let twice = self.twice.iter().map(|path| format!("duplicate field \"{path}\""));
        let mut left = TOLD_BYTES;
        let dropped = unknown.chain(twice).filter(|_| dropped);
        for warning in
            self.notes.iter().cloned().chain(dropped).filter_map(|text| HeaderValue::from_str(&warning(&text)).ok())
        {
            let Some(rest) = left.checked_sub(warning.len()) else { break };
            left = rest;
            reply.headers_mut().append(WARNING, warning);
        }
        reply
    }
}

/// Spells a warning as RFC 7234 5.5 does: the code, nobody's name, and a quoted text of visible ASCII.
fn warning(text: &str) -> String {
    let plain: String = text.chars().map(|letter| if matches!(letter, ' '..='~') { letter } else { '?' }).collect();
    format!("299 - \"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::reply::text;
    use hyper::StatusCode;
    use serde_json::json;

    const BODY: &str = r#"{"metadata": {"name": "h"}, "spec": {"bootMACAddress": "52:54:00:00:00:01", "x\"é": 1,
        "ip": "10.0.0.1", "ip": "10.0.0.2", "bmc": {"address": "b", "more": {}}}}"#;

    fn read(validation: Validation) -> (Result<Object, String>, Vec<String>) {
        let mut reading = Reading::new(validation);
        let object = reading.parse("application/json", BODY.as_bytes()).map_err(|status| status.message().to_owned());
        let object =
            object.and_then(|value| reading.object(Kind::BareMetalHost, value).map_err(|wrong| wrong.to_string()));
        let reply = reading.told(text(StatusCode::OK, ""));
        let told = reply.headers().get_all(WARNING).iter().map(|value| value.to_str().unwrap().to_owned()).collect();
        (object, told)
    }

    #[test]
    fn what_cannot_be_kept_is_refused_told_or_dropped() {
        let (object, told) = read(Validation::Strict);
        assert_eq!(object.unwrap_err(), "the body gives a key twice: spec.ip");
        assert_eq!(told, Vec::<String>::new());
        let (object, told) = read(Validation::Warn);
        let Object::Host(host) = object.unwrap() else { panic!("a host") };
        assert_eq!(host.spec.ip.unwrap().to_string(), "10.0.0.2");
        assert_eq!(
            told,
            [
                r#"299 - "unknown field \"spec.x\"?\"""#,
                r#"299 - "unknown field \"spec.bmc.more\"""#,
                r#"299 - "duplicate field \"spec.ip\"""#,
            ]
        );
        let (object, told) = read(Validation::Ignore);
        assert_eq!((object.is_ok(), told.len()), (true, 0));
    }

    #[test]
    fn what_is_wrong_is_refused_however_lenient() {
        let mut reading = Reading::new(Validation::Ignore);
        let wrong = reading.object(Kind::BareMetalHost, json!({"metadata": {"name": "h"}, "spec": {"colour": "red"}}));
        assert_eq!(wrong.unwrap_err().to_string(), "spec.bootMACAddress: it is missing");
        let fields = (0..1000).map(|number| (number.to_string(), json!(1))).collect::<serde_json::Map<_, _>>();
        let many = reading.object(Kind::BareMetalHost, json!({"metadata": {"name": "h"}, "spec": fields}));
        assert!(many.unwrap_err().message.contains("unknown fields"));
    }

    #[test]
    fn an_answer_tells_no_more_than_a_client_takes() {
        let mut reading = Reading::new(Validation::Warn);
        let mut body = json!({"metadata": {"name": "h"}, "spec": {"bootMACAddress": "52:54:00:00:00:01"}});
        (0..200).for_each(|number| body["spec"][format!("field{number}")] = json!(1));
        reading.object(Kind::BareMetalHost, body).unwrap();
        let reply = reading.told(text(StatusCode::OK, ""));
        let told: Vec<_> = reply.headers().get_all(WARNING).iter().map(HeaderValue::len).collect();
        assert!(told.len() < 200 && told.iter().sum::<usize>() <= TOLD_BYTES, "{told:?}");
    }
}
