use serde_json::{Map, Value};

use crate::fleet::{BootConfigSpec, Format};

use super::{cloud_config, ignition};

/// Says what is wrong with a config: which field of the object, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub field: String,
    pub message: String,
}

/// Checks that a config's files are what its format asks for, and gives what is no fault but worth a word.
///
/// # Errors
/// The first file that is not, with the line or the JSON pointer.
pub fn check(spec: &BootConfigSpec) -> Result<Vec<String>, Fault> {
    if spec.data.is_empty() {
        let message = format!("no file: put the config under {:?}", spec.format.main_file());
        return Err(Fault { field: "spec.data".into(), message });
    }
    let mut notes = Vec::new();
    for (name, text) in &spec.data {
        let checked = match (spec.format, name.as_str()) {
            (Format::Ignition, name) if name.ends_with(".ign") || spec.data.len() == 1 => {
                ignition::check(text).map(|unused| notes.extend(unused.iter().map(|note| format!("{name}: {note}"))))
            }
            (Format::CloudInit, "user-data") => user_data(text),
            (Format::CloudInit, "meta-data" | "network-config") => yaml_mapping(text),
            (Format::CloudInit, "vendor-data") if !text.trim().is_empty() => user_data(text),
            (Format::CloudInit, _) if spec.data.len() == 1 => user_data(text),
            _ => not_empty(text),
        };
        checked.map_err(|message| Fault { field: format!("spec.data.{name}"), message })?;
    }
    Ok(notes)
}

fn not_empty(text: &str) -> Result<(), String> {
    if text.trim().is_empty() { Err("the file is empty".into()) } else { Ok(()) }
}

/// cloud-init looks at the first line to know what it was given.
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
        _ => Err(format!("line 1: cloud-init ignores a file that begins with {first:?}: begin with #cloud-config")),
    }
}

fn yaml_mapping(text: &str) -> Result<(), String> {
    mapping(text).map(drop)
}

/// Reads a mapping; a file of comments alone is an empty one.
fn mapping(text: &str) -> Result<Map<String, Value>, String> {
    let only_comments = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    if only_comments {
        return Ok(Map::new());
    }
    match serde_saphyr::from_str::<Value>(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err("line 1: not a mapping of keys to values".into()),
        // The parser's snippet shows lines of the config, and those may hold secrets.
        Err(error) => Err(format!("not YAML: {}", error.without_snippet())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(format: Format, name: &str, text: &str) -> Option<String> {
        let data = [(name.to_owned(), text.to_owned())].into();
        check(&BootConfigSpec { format, data }).err().map(|fault| fault.message)
    }

    #[test]
    fn a_config_is_what_its_format_says() {
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
            (Format::CloudInit, "user-data", "#cloud-config\npackages: [vim\n", "not YAML"),
            (Format::CloudInit, "user-data", "#cloud-config\n- a\n", "mapping"),
            (
                Format::CloudInit,
                "user-data",
                "#cloud-config\npackages: vim\n",
                "/packages is text, and is to be a list",
            ),
            (
                Format::CloudInit,
                "user-data",
                "#cloud-config\nwrite_files: [{content: x}]\n",
                "/write_files/0 has no path",
            ),
            (Format::CloudInit, "user-data", "#cloud-config\nhostname: {a: b}\n", "/hostname is a mapping"),
            (Format::Preseed, "preseed.cfg", " \n", "empty"),
        ];
        for (format, name, text, said) in bad {
            let message = wrong(format, name, text).unwrap_or_default();
            assert!(message.contains(said), "{text}: {message}");
        }
    }

    #[test]
    fn a_config_has_a_file() {
        let fault = check(&BootConfigSpec { format: Format::Ignition, data: Default::default() }).unwrap_err();
        assert_eq!(fault.field, "spec.data");
    }
}
