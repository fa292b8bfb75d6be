use std::sync::Arc;

use serde::Serialize;

use super::rules::Invalid;
use super::transition_times::TransitionTimes;
use super::{
    BmcAddress, BmcProtocol, BootConfig, BootRisk, ConfigTemplate, DecodeError, DetectedProtocol, FirstSeen, Host,
    HostSpec, HostStatus, Image, Key, Kind, Meta, deserialize_with_path,
};

/// Maximum number of unknown fields that are dropped from one object: each costs a parse of the whole object.
const MAX_UNKNOWN_FIELDS: usize = 256;

/// An object of any kind, as manifests declare it and the store keeps it.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A machine.
    Host(Arc<Host>),
    /// An ISO.
    Image(Arc<Image>),
    /// A config.
    BootConfig(Arc<BootConfig>),
    /// A template of configs.
    ConfigTemplate(Arc<ConfigTemplate>),
}

impl Object {
    /// Returns the kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Host(_) => Kind::BareMetalHost,
            Self::Image(_) => Kind::IscsiCdrom,
            Self::BootConfig(_) => Kind::BootConfig,
            Self::ConfigTemplate(_) => Kind::ConfigTemplate,
        }
    }

    /// Returns the metadata.
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Host(host) => &host.metadata,
            Self::Image(image) => &image.metadata,
            Self::BootConfig(config) => &config.metadata,
            Self::ConfigTemplate(template) => &template.metadata,
        }
    }

    /// Returns the metadata for changes.
    pub fn meta_mut(&mut self) -> &mut Meta {
        match self {
            Self::Host(host) => &mut Arc::make_mut(host).metadata,
            Self::Image(image) => &mut Arc::make_mut(image).metadata,
            Self::BootConfig(config) => &mut Arc::make_mut(config).metadata,
            Self::ConfigTemplate(template) => &mut Arc::make_mut(template).metadata,
        }
    }

    /// Returns the identity.
    pub fn key(&self) -> Key {
        let meta = self.meta();
        Key { kind: self.kind(), namespace: meta.namespace.clone(), name: meta.name.clone() }
    }

    /// Returns the warnings in the status.
    pub fn warnings(&self) -> Vec<&str> {
        match self {
            Self::Host(host) => {
                let is_idle = host.spec.online.is_some() && host.spec.bmc.is_none();
                let idle =
                    is_idle.then_some("spec.online has no effect: the host has no BMC; `bootlatch host on` wakes it");
                let console = has_no_console(host).then_some(
                    "spec.bmc.console has no effect: the serial console needs an ipmi:// address in spec.bmc.address",
                );
                idle.into_iter().chain(console).chain(host.status.warnings.iter().map(String::as_str)).collect()
            }
            Self::Image(image) => image.status.warnings.iter().map(String::as_str).collect(),
            Self::BootConfig(config) => {
                let warnings = config.status.get("warnings").and_then(|warnings| warnings.as_array());
                warnings.into_iter().flatten().filter_map(|warning| warning.as_str()).collect()
            }
            Self::ConfigTemplate(_) => Vec::new(),
        }
    }

    /// Returns whether two objects have the same spec.
    pub fn same_spec(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Host(one), Self::Host(two)) => one.spec == two.spec,
            (Self::Image(one), Self::Image(two)) => one.spec == two.spec,
            (Self::BootConfig(one), Self::BootConfig(two)) => one.spec == two.spec,
            (Self::ConfigTemplate(one), Self::ConfigTemplate(two)) => one.spec == two.spec,
            (Self::Host(_) | Self::Image(_) | Self::BootConfig(_) | Self::ConfigTemplate(_), _) => false,
        }
    }

    /// Parses an object of a known kind from its JSON body.
    ///
    /// # Errors
    /// The field that is missing, unknown or of the wrong type.
    pub fn from_json(kind: Kind, body: serde_json::Value) -> Result<Self, Invalid> {
        Ok(match kind {
            Kind::BareMetalHost => Self::Host(Arc::new(typed(&body)?)),
            Kind::IscsiCdrom => Self::Image(Arc::new(typed(&body)?)),
            Kind::BootConfig => Self::BootConfig(Arc::new(typed(&body)?)),
            Kind::ConfigTemplate => Self::ConfigTemplate(Arc::new(typed(&body)?)),
        })
    }

    /// Parses an object as `from_json` does, and drops unknown fields. Returns the path of each, key by key.
    ///
    /// # Errors
    /// As `from_json`; and more than `MAX_UNKNOWN_FIELDS` unknown fields.
    pub fn from_json_leniently(kind: Kind, mut body: serde_json::Value) -> Result<(Self, Vec<Vec<String>>), Invalid> {
        let mut dropped = Vec::new();
        loop {
            let unknown = match kind {
                Kind::BareMetalHost => unknown_field::<Host>(&body),
                Kind::IscsiCdrom => unknown_field::<Image>(&body),
                Kind::BootConfig => unknown_field::<BootConfig>(&body),
                Kind::ConfigTemplate => unknown_field::<ConfigTemplate>(&body),
            };
            match unknown {
                Some(path) if dropped.len() < MAX_UNKNOWN_FIELDS && remove_path(&mut body, &path) => dropped.push(path),
                Some(path) => {
                    let message = format!("more than {MAX_UNKNOWN_FIELDS} unknown fields");
                    return Err(Invalid { field: path.join(".").into(), message });
                }
                None => return Ok((Self::from_json(kind, body)?, dropped)),
            }
        }
    }

    /// Serializes the object for the store: without `apiVersion` and `kind`, with secrets.
    ///
    /// # Errors
    /// None for values that came through `from_json`.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Host(host) => serde_json::to_string(&Kept::from(host.as_ref())),
            Self::Image(image) => serde_json::to_string(image),
            Self::BootConfig(config) => serde_json::to_string(config),
            Self::ConfigTemplate(template) => serde_json::to_string(template),
        }
    }
}

/// Returns the path of the first unknown field.
fn unknown_field<T: serde::de::DeserializeOwned>(body: &serde_json::Value) -> Option<Vec<String>> {
    let error = deserialize_with_path::<T>(body).err()?;
    let path = error.path.parts().map(ToString::to_string).collect();
    error.message.starts_with("unknown field ").then_some(path)
}

/// Removes the field at a path, key by key; returns whether it existed.
pub fn remove_path(body: &mut serde_json::Value, path: &[String]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let index = |key: &String| key.strip_prefix('[')?.strip_suffix(']')?.parse::<usize>().ok();
    let parent = parents.iter().try_fold(body, |value, key| match index(key) {
        Some(index) if value.is_array() => value.get_mut(index),
        _ => value.get_mut(key),
    });
    parent.and_then(serde_json::Value::as_object_mut).is_some_and(|map| map.shift_remove(last).is_some())
}

/// A host with the fields that only the store keeps.
#[derive(Serialize)]
struct Kept<'a> {
    metadata: &'a Meta,
    spec: &'a HostSpec,
    status: KeptStatus<'a>,
}

#[derive(Serialize)]
struct KeptStatus<'a> {
    #[serde(flatten)]
    status: &'a HostStatus,
    #[serde(rename = "transitionTimes", skip_serializing_if = "Option::is_none")]
    transition_times: &'a Option<Box<TransitionTimes>>,
    #[serde(rename = "bootRisks", skip_serializing_if = "Option::is_none")]
    boot_risks: &'a Option<Vec<BootRisk>>,
    #[serde(rename = "firstSeen", skip_serializing_if = "Option::is_none")]
    first_seen: &'a Option<Box<FirstSeen>>,
}

impl<'a> From<&'a Host> for Kept<'a> {
    fn from(host: &'a Host) -> Self {
        let Host { metadata, spec, status } = host;
        let HostStatus { transition_times, boot_risks, first_seen, .. } = status;
        Self { metadata, spec, status: KeptStatus { status, transition_times, boot_risks, first_seen } }
    }
}

fn typed<T: serde::de::DeserializeOwned>(body: &serde_json::Value) -> Result<T, Invalid> {
    deserialize_with_path(body).map_err(|DecodeError { path, message }| {
        let path = path.to_string();
        // A missing field is reported with its own path, not with that of its parent.
        if let Some(missing) = message.strip_prefix("missing field `").and_then(|name| name.strip_suffix('`')) {
            let parent = Some(path).filter(|path| path != ".").map(|path| path + ".").unwrap_or_default();
            return Invalid { field: format!("{parent}{missing}").into(), message: "required".into() };
        }
        let message = match ["spec.bmc", "spec.chap", "spec.portal.chap"].iter().any(|place| path.starts_with(place)) {
            true => without_value(&message),
            false => message,
        };
        Invalid { field: path.into(), message }
    })
}

/// Removes the value from a parser's message about a wrong type: a value in the place of a secret may be one.
pub fn without_value(message: &str) -> String {
    let begins = ["invalid type: ", "invalid value: "].iter().find_map(|what| {
        let at = message.find(what)?;
        Some((at, at + what.len()))
    });
    match (begins, message.rfind(", expected ")) {
        (Some((at, after)), Some(ends)) if ends >= after => {
            format!("{}{}", &message[..at], message[ends..].trim_start_matches(", "))
        }
        _ => message.to_owned(),
    }
}

/// Returns whether a host asks for the console of a BMC that speaks Redfish.
fn has_no_console(host: &Host) -> bool {
    let bmc = host.spec.bmc.as_ref().filter(|bmc| bmc.console);
    let protocol = bmc.and_then(|bmc| bmc.address.parse().ok()).map(|address: BmcAddress| address.protocol);
    let detected = host.status.bmc.as_ref().and_then(|record| record.protocol);
    match protocol {
        Some(BmcProtocol::Redfish { .. }) => true,
        Some(BmcProtocol::Detected) => detected == Some(DetectedProtocol::Redfish),
        Some(BmcProtocol::Ipmi) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_value_in_the_place_of_a_secret_is_not_shown() {
        for (text, told) in [
            ("invalid type: string \"x, expected y\", expected struct Bmc", "expected struct Bmc"),
            ("line 1 column 2: invalid type: integer `5`, expected a string", "line 1 column 2: expected a string"),
            ("missing field `secret`", "missing field `secret`"),
        ] {
            assert_eq!(without_value(text), told);
        }
        let body = serde_json::json!({"metadata": {"name": "h"}, "spec": {"bootMACAddress": "52:54:00:00:00:01", "bmc": "geheim"}});
        let wrong = Object::from_json(Kind::BareMetalHost, body).unwrap_err();
        assert!(wrong.field == "spec.bmc" && !wrong.message.contains("geheim"), "{wrong:?}");
    }

    #[test]
    fn a_console_without_ipmi_is_warned_of() {
        for (address, console, expected) in [
            ("redfish://10.0.0.9", true, 1),
            ("redfish-virtualmedia+http://10.0.0.9", true, 1),
            ("redfish://10.0.0.9", false, 0),
            ("ipmi://10.0.0.9", true, 0),
            ("10.0.0.9", true, 0),
        ] {
            let body = serde_json::json!({"metadata": {"name": "h"}, "spec": {"bootMACAddress": "52:54:00:00:00:01",
                "bmc": {"address": address, "console": console}}});
            let host = Object::from_json(Kind::BareMetalHost, body).unwrap();
            assert_eq!(host.warnings().len(), expected, "{address} {console}: {:?}", host.warnings());
        }
    }

    #[test]
    fn a_missing_field_is_named() {
        let missing = |body| Object::from_json(Kind::BareMetalHost, body).unwrap_err().field;
        assert_eq!(missing(serde_json::json!({"metadata": {"name": "h"}})), "spec");
        assert_eq!(missing(serde_json::json!({"metadata": {"name": "h"}, "spec": {}})), "spec.bootMACAddress");
    }
}
