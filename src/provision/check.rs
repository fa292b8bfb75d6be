//! Validation of a boot config by its format.

use serde_json::{Map, Value};

use super::{cloud_config, ignition, yaml_error};
use crate::fleet::{BootConfigSpec, Format};

/// An invalid field of a config or of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field (`spec.data.user-data`); the empty string is the whole body.
    pub field: String,
    /// The problem, with the line or the JSON pointer inside of a file.
    pub message: String,
}

/// Checks the files of a config by its format. Returns warnings.
///
/// # Errors
/// Returns the missing main file, or the first invalid file.
pub fn check(spec: &BootConfigSpec) -> Result<Vec<String>, FieldError> {
    let main = spec.format.main_file();
    let wrong = |message| Err(FieldError { field: "spec.data".into(), message });
    if spec.data.contains_key("") {
        return wrong(format!("a file has an empty name and cannot be requested; the name of the main file is {main}"));
    }
    if !spec.data.contains_key(main) {
        let format = spec.format;
        let names: Vec<_> = spec.data.keys().map(String::as_str).collect();
        return wrong(match names.is_empty() {
            true => format!("no files; expected the config as {main}"),
            false => format!("missing {main}, the main file of {format}; found {}", names.join(", ")),
        });
    }
    let mut warnings = Vec::new();
    for (name, text) in &spec.data {
        let checked = match (spec.format, name.as_str()) {
            (Format::Ignition, name) if name.ends_with(".ign") => {
                ignition::check(text).map(|unused| warnings.extend(unused.iter().map(|key| format!("{name}: {key}"))))
            }
            (Format::CloudInit, "user-data") => user_data(text),
            (Format::CloudInit, "meta-data" | "network-config") => mapping(text).map(drop),
            (Format::CloudInit, "vendor-data") if !text.trim().is_empty() => user_data(text),
            _ => not_empty(text),
        };
        checked.map_err(|message| FieldError { field: format!("spec.data.{name}"), message })?;
    }
    Ok(warnings)
}

/// Checks that a file is not empty.
fn not_empty(text: &str) -> Result<(), String> {
    if text.trim().is_empty() { Err("the file is empty".into()) } else { Ok(()) }
}

/// Checks user data. cloud-init recognizes its type by the first line.
fn user_data(text: &str) -> Result<(), String> {
    let first = text.trim_start_matches('\u{feff}').lines().next().unwrap_or_default().trim_end();
    match first {
        "#cloud-config" => cloud_config::check(&mapping(text)?),
        _ if ["#!", "#include", "#cloud-", "#part-handler", "## template:", "MIME-Version:", "Content-Type:"]
            .iter()
            .any(|header| first.starts_with(header)) =>
        {
            Ok(())
        }
        _ => Err(format!("line 1: found {first:?}, expected #cloud-config: cloud-init ignores other files")),
    }
}

/// Parses a YAML mapping. A file with only comments is an empty mapping.
fn mapping(text: &str) -> Result<Map<String, Value>, String> {
    let only_comments = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    if only_comments {
        return Ok(Map::new());
    }
    match serde_saphyr::from_str::<Value>(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err("line 1: expected a mapping of keys to values".into()),
        Err(error) => Err(format!("invalid YAML: {}", yaml_error(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks one file, together with a valid main file if it is not the main file itself.
    fn wrong(format: Format, name: &str, text: &str) -> Option<String> {
        let main = match format {
            Format::CloudInit => "#cloud-config\n",
            Format::Ignition | Format::Kickstart | Format::Preseed | Format::Script => "text\n",
        };
        let data = [(format.main_file(), main), (name, text)].map(|(name, text)| (name.to_owned(), text.to_owned()));
        let spec = BootConfigSpec { format, data: data.into(), confidential: false };
        check(&spec).err().map(|error| error.message)
    }

    #[test]
    fn a_config_is_checked_by_its_format() {
        let good = [
            (Format::Ignition, "config.ign", r#"{"ignition":{"version":"3.4.0"}}"#),
            (Format::CloudInit, "user-data", "#cloud-config\npackages: [vim]\n"),
            (Format::CloudInit, "user-data", "#cloud-config\n"),
            (Format::CloudInit, "user-data", "#!/bin/sh\necho\n"),
            (Format::CloudInit, "meta-data", "instance-id: a\n"),
            (Format::Kickstart, "ks.cfg", "text\n"),
            (Format::Script, "any", "x"),
        ];
        for (format, name, text) in good {
            assert_eq!(wrong(format, name, text), None, "{text}");
        }
        let bad = [
            (Format::Ignition, "config.ign", "{", "line 1"),
            (Format::Ignition, "config.ign", "{}", "/ignition/version"),
            (Format::Ignition, "config.ign", r#"{"ignition":{"version":"4.0.0"}}"#, "4.0.0"),
            (Format::CloudInit, "user-data", "packages: [vim]\n", "#cloud-config"),
            (Format::CloudInit, "user-data", "#cloud-config\npackages: [vim\n", "invalid YAML"),
            (Format::CloudInit, "user-data", "#cloud-config\n- a\n", "mapping"),
            (
                Format::CloudInit,
                "user-data",
                "#cloud-config\npackages: vim\n",
                "/packages: expected a list, found a string",
            ),
            (
                Format::CloudInit,
                "user-data",
                "#cloud-config\nwrite_files: [{content: x}]\n",
                "/write_files/0: missing key path",
            ),
            (
                Format::CloudInit,
                "user-data",
                "#cloud-config\nhostname: {a: b}\n",
                "/hostname: expected a string, found a mapping",
            ),
            (Format::Preseed, "preseed.cfg", " \n", "empty"),
        ];
        for (format, name, text, expected) in bad {
            let message = wrong(format, name, text).unwrap_or_default();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn a_config_has_the_main_file_of_its_format_and_no_empty_name() {
        let message = |format, names: &[&str]| {
            let data = names.iter().map(|name| ((*name).to_owned(), "text\n".to_owned())).collect();
            let error = check(&BootConfigSpec { format, data, confidential: false }).unwrap_err();
            assert_eq!(error.field, "spec.data");
            error.message
        };
        assert_eq!(message(Format::Ignition, &[]), "no files; expected the config as config.ign");
        let other = message(Format::Kickstart, &["aa", "user-data"]);
        assert_eq!(other, "missing ks.cfg, the main file of kickstart; found aa, user-data");
        assert!(message(Format::Kickstart, &["", "ks.cfg"]).contains("an empty name"));
    }
}
