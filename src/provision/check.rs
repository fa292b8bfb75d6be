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

/// Number of first octets of user data in which cloud-init looks for `mime-version:`.
const MIME_HEADER_BYTES: usize = 4096;
/// First words of user data, by which cloud-init recognizes its type; in any case, after blank lines.
const FIRST_WORDS: [&str; 7] = [
    "#!",
    "#include",
    "#cloud-boothook",
    "#cloud-config-archive",
    "#cloud-config-jsonp",
    "#part-handler",
    "## template:",
];

/// Checks the files of a config by its format. Returns warnings.
///
/// # Errors
/// Returns the missing main file, or all that is wrong in the files.
pub fn check(spec: &BootConfigSpec) -> Result<Vec<String>, Vec<FieldError>> {
    let main = spec.format.main_file();
    let wrong = |message| Err(vec![FieldError { field: "spec.data".into(), message }]);
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
    let (mut warnings, mut errors) = (Vec::new(), Vec::new());
    for (name, text) in &spec.data {
        let one = |message: String| vec![message];
        let checked = match (spec.format, name.as_str()) {
            (Format::Ignition, name) if name.ends_with(".ign") => {
                ignition::check(text).map(|unused| warnings.extend(unused.iter().map(|key| format!("{name}: {key}"))))
            }
            (Format::CloudInit, "user-data") => user_data(text).map_err(one),
            (Format::CloudInit, "meta-data" | "network-config") => mapping(text).map(drop).map_err(one),
            (Format::CloudInit, "vendor-data") if !text.trim().is_empty() => user_data(text).map_err(one),
            (format @ (Format::Kickstart | Format::Preseed | Format::Script), name) if name == main => {
                not_empty(text).and_then(|()| not_of_another_format(format, text)).map_err(one)
            }
            (Format::Ignition | Format::CloudInit | Format::Kickstart | Format::Preseed | Format::Script, _) => {
                not_empty(text).map_err(one)
            }
        };
        let of_file = |message| FieldError { field: format!("spec.data.{name}"), message };
        errors.extend(checked.err().into_iter().flatten().map(of_file));
    }
    if errors.is_empty() { Ok(warnings) } else { Err(errors) }
}

/// Checks that a file is not empty.
fn not_empty(text: &str) -> Result<(), String> {
    if text.trim().is_empty() { Err("the file is empty".into()) } else { Ok(()) }
}

/// Checks that a file in a format without a grammar of ours is not one of a format that is easily recognized.
fn not_of_another_format(format: Format, text: &str) -> Result<(), String> {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let is_ignition = || {
        let parsed = serde_json::from_str::<Map<String, Value>>(text);
        text.starts_with('{') && parsed.is_ok_and(|map| map.contains_key("ignition"))
    };
    let found = match text {
        _ if is_ignition() => ("an Ignition config", Format::Ignition),
        _ if text.starts_with("#cloud-config") => ("a cloud-config", Format::CloudInit),
        _ => return Ok(()),
    };
    Err(format!("found {}, expected {format}: add it with the format {}", found.0, found.1))
}

/// Checks user data. cloud-init recognizes a MIME message by a header in it, and other types by the first words.
fn user_data(text: &str) -> Result<(), String> {
    let content = text.trim_start_matches('\u{feff}').trim_start();
    let first = content.lines().next().unwrap_or_default().trim_end();
    let starts_with = |word: &str| first.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    match () {
        () if FIRST_WORDS.iter().any(|word| starts_with(word)) => Ok(()),
        () if starts_with("#cloud-config") => cloud_config::check(&mapping(text)?),
        () if is_mime(text) => Ok(()),
        () => Err(format!(
            "line 1: found {first:?}, expected #cloud-config or a MIME message with the header MIME-Version: \
             cloud-init ignores other files"
        )),
    }
}

/// Returns whether cloud-init reads user data as a MIME message: it looks for the header among the first octets, in any
/// case and after any other header.
fn is_mime(text: &str) -> bool {
    const HEADER: &[u8] = b"mime-version:";
    let bytes = text.as_bytes();
    let head = bytes.get(..MIME_HEADER_BYTES).unwrap_or(bytes);
    head.windows(HEADER.len()).any(|part| part.eq_ignore_ascii_case(HEADER))
}

/// Parses a YAML mapping. A file with only comments is an empty mapping.
fn mapping(text: &str) -> Result<Map<String, Value>, String> {
    let only_comments = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    if only_comments {
        return Ok(Map::new());
    }
    let parsed = match serde_saphyr::from_str::<Value>(text) {
        // `!!binary` is bytes, which need not be text.
        Err(error) if matches!(error.without_snippet(), serde_saphyr::Error::BinaryNotUtf8 { .. }) => {
            let options = serde_saphyr::options! { ignore_binary_tag_for_string: true };
            serde_saphyr::from_str_with_options(text, options)
        }
        parsed => parsed,
    };
    match parsed {
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
        check(&spec).err().map(|errors| errors[0].message.clone())
    }

    #[test]
    fn a_file_of_another_format_is_recognized() {
        let ignition = r#" {"ignition":{"version":"3.4.0"}}"#;
        for (format, name, text, found) in [
            (Format::Kickstart, "ks.cfg", ignition, "Ignition"),
            (Format::Preseed, "preseed.cfg", ignition, "Ignition"),
            (Format::Script, "script", ignition, "Ignition"),
            (Format::Kickstart, "ks.cfg", "#cloud-config\n", "cloud-config"),
        ] {
            let error = wrong(format, name, text).unwrap_or_default();
            assert!(error.contains(found) && error.contains(&format!("expected {format}")), "{format}: {error}");
        }
        for (format, name, text) in [
            (Format::Script, "script", r#"{"product":{"id":"SLES"}}"#),
            (Format::Kickstart, "ks.cfg", "# {\"ignition\":1}\ntext\n"),
            (Format::Kickstart, "include.cfg", ignition),
        ] {
            assert_eq!(wrong(format, name, text), None, "{text}");
        }
    }

    #[test]
    fn a_config_is_checked_by_its_format() {
        let good = [
            (Format::Ignition, "config.ign", r#"{"ignition":{"version":"3.4.0"}}"#),
            (Format::CloudInit, "user-data", "#cloud-config\npackages: [vim]\n"),
            (Format::CloudInit, "user-data", "#cloud-config\n"),
            (Format::CloudInit, "user-data", "\n #Cloud-Config\n"),
            (Format::CloudInit, "user-data", "#!/bin/sh\necho\n"),
            (Format::CloudInit, "user-data", "MIME-Version: 1.0\nContent-Type: text/cloud-config\n\n#cloud-config\n"),
            (
                Format::CloudInit,
                "user-data",
                "Subject: a\nmime-version: 1.0\ncontent-type: text/x-shellscript\n\n#!/bin/sh\n",
            ),
            (
                Format::CloudInit,
                "user-data",
                "From nobody Sat Jan  1 00:00:00 2022\nMime-Version: 1.0\n\n#cloud-config\n",
            ),
            (Format::CloudInit, "vendor-data", "#include\nhttp://192.0.2.1/x\n"),
            (
                Format::CloudInit,
                "user-data",
                "#cloud-config\nwrite_files:\n- path: /a\n  content: !!binary H4sIAIDb/U8C\n",
            ),
            (Format::CloudInit, "user-data", "#cloud-config\nwrite_files:\n- {path: /a, content: !!binary aGVsbG8K}\n"),
            (Format::CloudInit, "meta-data", "instance-id: a\nkey: !!binary /w==\n"),
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
            (Format::CloudInit, "user-data", "Content-Type: text/cloud-config\n\n#cloud-config\n", "MIME-Version"),
            (
                Format::CloudInit,
                "user-data",
                "#cloud-config\nwrite_files: [{path: /a, content: !!binary 1}]\n",
                "base64",
            ),
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
    fn a_mime_header_counts_in_the_first_octets_only() {
        let message = |size: usize| format!("X: {}\nMIME-Version: 1.0\n\n#!/bin/sh\n", "a".repeat(size));
        let fits = MIME_HEADER_BYTES - "X: \nMIME-Version:".len();
        assert_eq!(wrong(Format::CloudInit, "user-data", &message(fits)), None);
        assert!(wrong(Format::CloudInit, "user-data", &message(fits + 1)).is_some());
    }

    #[test]
    fn a_config_has_the_main_file_of_its_format_and_no_empty_name() {
        let message = |format, names: &[&str]| {
            let data = names.iter().map(|name| ((*name).to_owned(), "text\n".to_owned())).collect();
            let mut errors = check(&BootConfigSpec { format, data, confidential: false }).unwrap_err();
            assert!(errors.len() == 1 && errors[0].field == "spec.data", "{errors:?}");
            errors.remove(0).message
        };
        assert_eq!(message(Format::Ignition, &[]), "no files; expected the config as config.ign");
        let other = message(Format::Kickstart, &["aa", "user-data"]);
        assert_eq!(other, "missing ks.cfg, the main file of kickstart; found aa, user-data");
        assert!(message(Format::Kickstart, &["", "ks.cfg"]).contains("an empty name"));
    }
}
