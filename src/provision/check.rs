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
/// The file that is missing, or the first that is not so, with the line or the JSON pointer.
pub fn check(spec: &BootConfigSpec) -> Result<Vec<String>, Fault> {
    let main = spec.format.main_file();
    let wrong = |message| Err(Fault { field: "spec.data".into(), message });
    if spec.data.contains_key("") {
        return wrong(format!("a file has the empty name: nobody can ask for it; the config itself is {main}"));
    }
    if !spec.data.contains_key(main) {
        let format = spec.format;
        let names: Vec<_> = spec.data.keys().map(String::as_str).collect();
        return wrong(match names.is_empty() {
            true => format!("no file: put the config under {main}"),
            false => format!("no {main}, which {format} asks for first: there is {}", names.join(", ")),
        });
    }
    let mut notes = Vec::new();
    for (name, text) in &spec.data {
        let checked = match (spec.format, name.as_str()) {
            (Format::Ignition, name) if name.ends_with(".ign") => {
                ignition::check(text).map(|unused| notes.extend(unused.iter().map(|note| format!("{name}: {note}"))))
            }
            (Format::CloudInit, "user-data") => user_data(text),
            (Format::CloudInit, "meta-data" | "network-config") => yaml_mapping(text),
            (Format::CloudInit, "vendor-data") if !text.trim().is_empty() => user_data(text),
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
        Err(error) => Err(format!("not YAML: {}", super::yaml_fault(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks one file, beside a main file that is as it should be where it is none itself.
    fn wrong(format: Format, name: &str, text: &str) -> Option<String> {
        let main = match format {
            Format::CloudInit => "#cloud-config\n",
            Format::Ignition | Format::Kickstart | Format::Preseed | Format::Script => "text\n",
        };
        let data = [(format.main_file(), main), (name, text)].map(|(name, text)| (name.to_owned(), text.to_owned()));
        let spec = BootConfigSpec { format, data: data.into(), confidential: false };
        check(&spec).err().map(|fault| fault.message)
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
    fn a_config_has_the_file_that_its_format_asks_for_and_names_for_all() {
        let said = |format, names: &[&str]| {
            let data = names.iter().map(|name| ((*name).to_owned(), "text\n".to_owned())).collect();
            let fault = check(&BootConfigSpec { format, data, confidential: false }).unwrap_err();
            assert_eq!(fault.field, "spec.data");
            fault.message
        };
        assert_eq!(said(Format::Ignition, &[]), "no file: put the config under config.ign");
        let other = said(Format::Kickstart, &["aa", "user-data"]);
        assert_eq!(other, "no ks.cfg, which kickstart asks for first: there is aa, user-data");
        assert!(said(Format::Kickstart, &["", "ks.cfg"]).contains("the empty name"));
    }
}
