//! Validation of a boot config by its format.

use serde_json::{Map, Value};

use super::{ignition, user_data, yaml::yaml_mapping};
use crate::fleet::{BootConfigSpec, Format};

/// An invalid field of a config or of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field (`spec.data.user-data`); the empty string is the whole body.
    pub field: String,
    /// The problem, with the line or the JSON pointer inside of a file.
    pub message: String,
}

impl FieldError {
    /// Returns the name of the file in a config that is wrong, if it is one.
    pub fn file(&self) -> Option<&str> {
        self.field.strip_prefix("spec.data.").or_else(|| self.field.strip_prefix("spec.binaryData."))
    }
}

/// Checks the files of a config by its format. Returns warnings.
///
/// # Errors
/// Returns the missing main file, or all that is wrong in the files.
pub fn check(spec: &BootConfigSpec) -> Result<Vec<String>, Vec<FieldError>> {
    let main = spec.format.main_file();
    let wrong = |message| Err(vec![FieldError { field: "spec.data".into(), message }]);
    if spec.content("").is_some() {
        return wrong(format!("a file has an empty name and cannot be requested; the name of the main file is {main}"));
    }
    if spec.content(main).is_none() {
        let format = spec.format;
        let names: Vec<_> = spec.file_names().collect();
        return wrong(match names.is_empty() {
            true => format!("no files; expected the config as {main}"),
            false => format!("missing {main}, the main file of {format}; found {}", names.join(", ")),
        });
    }
    let (mut warnings, mut errors) = (Vec::new(), Vec::new());
    for (name, text) in &spec.data {
        let checked = check_text(spec.format, name, text, &mut warnings);
        let of_file = |message| FieldError { field: format!("spec.data.{name}"), message };
        errors.extend(checked.err().into_iter().flatten().map(of_file));
    }
    for (name, file) in &spec.binary_data {
        let checked = match spec.data.contains_key(name) {
            true => Err(vec!["the file is in data too: expected it in one of both".to_owned()]),
            false => check_binary(spec.format, name, &file.0, &mut warnings),
        };
        let of_file = |message| FieldError { field: format!("spec.binaryData.{name}"), message };
        errors.extend(checked.err().into_iter().flatten().map(of_file));
    }
    if errors.is_empty() { Ok(warnings) } else { Err(errors) }
}

/// Checks a file with text.
fn check_text(format: Format, name: &str, text: &str, warnings: &mut Vec<String>) -> Result<(), Vec<String>> {
    let main = format.main_file();
    let one = |message: String| vec![message];
    match (format, name) {
        (Format::Ignition, name) if name.ends_with(".ign") => {
            ignition::check(text).map(|unused| warnings.extend(unused.iter().map(|key| format!("{name}: {key}"))))
        }
        (Format::CloudInit, "user-data" | "vendor-data") if name == main || !text.trim().is_empty() => {
            check_user_data(name, text.as_bytes(), warnings)
        }
        (Format::CloudInit, "meta-data" | "network-config") => yaml_mapping(text).map(drop).map_err(one),
        (Format::Kickstart | Format::Preseed | Format::Script, name) if name == main => {
            not_empty(text).and_then(|()| not_of_another_format(format, text)).map_err(one)
        }
        (Format::Ignition | Format::CloudInit | Format::Kickstart | Format::Preseed | Format::Script, _) => {
            not_empty(text).map_err(one)
        }
    }
}

/// Checks a file of octets. Only user-data, and files that no format knows, may be other than text.
fn check_binary(format: Format, name: &str, bytes: &[u8], warnings: &mut Vec<String>) -> Result<(), Vec<String>> {
    if matches!((format, name), (Format::CloudInit, "user-data" | "vendor-data")) {
        return check_user_data(name, bytes, warnings);
    }
    let must_be_text = match format {
        Format::Ignition => name.ends_with(".ign"),
        Format::CloudInit => matches!(name, "meta-data" | "network-config"),
        Format::Kickstart | Format::Preseed => name == format.main_file(),
        Format::Script => false,
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => check_text(format, name, text, warnings),
        Err(error) if must_be_text => {
            Err(vec![format!("octet {}: expected UTF-8: this file must be text", error.valid_up_to() + 1)])
        }
        Err(_) => Ok(()),
    }
}

/// Checks user-data by its kind.
fn check_user_data(name: &str, bytes: &[u8], warnings: &mut Vec<String>) -> Result<(), Vec<String>> {
    let found = user_data::check(bytes)?;
    warnings.extend(found.iter().map(|warning| format!("{name}: {warning}")));
    Ok(())
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
        let spec = BootConfigSpec {
            format,
            data: data.into(),
            binary_data: Default::default(),
            confidential: false,
            template: None,
        };
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
    fn a_config_has_the_main_file_of_its_format_and_no_empty_name() {
        let message = |format, names: &[&str]| {
            let data = names.iter().map(|name| ((*name).to_owned(), "text\n".to_owned())).collect();
            let mut errors = check(&BootConfigSpec {
                format,
                data,
                binary_data: Default::default(),
                confidential: false,
                template: None,
            })
            .unwrap_err();
            assert!(errors.len() == 1 && errors[0].field == "spec.data", "{errors:?}");
            errors.remove(0).message
        };
        assert_eq!(message(Format::Ignition, &[]), "no files; expected the config as config.ign");
        let other = message(Format::Kickstart, &["aa", "user-data"]);
        assert_eq!(other, "missing ks.cfg, the main file of kickstart; found aa, user-data");
        assert!(message(Format::Kickstart, &["", "ks.cfg"]).contains("an empty name"));
    }

    #[test]
    fn binary_files_are_checked_by_their_kind() {
        let found = |format: Format, files: &[(&str, &[u8])]| {
            let mut spec = BootConfigSpec::of_files(format, []);
            let file = |bytes: &[u8]| crate::fleet::BinaryFile(bytes.to_vec().into());
            spec.binary_data = files.iter().map(|(name, bytes)| ((*name).to_owned(), file(bytes))).collect();
            check(&spec).map_err(|errors| {
                errors.into_iter().map(|one| format!("{}: {}", one.field, one.message)).collect::<Vec<String>>()
            })
        };
        let good = |format: Format, bytes: &[u8]| found(format, &[(format.main_file(), bytes)]) == Ok(vec![]);
        let packed = crate::provision::user_data::tests::packed;
        assert!(good(Format::CloudInit, &packed(b"#!/bin/sh\n")));
        assert!(good(Format::CloudInit, b"#cloud-config\n"));
        assert!(good(Format::Script, b"\x7fELF\xff"));
        let wrong: Vec<(Format, &[u8], &str)> = vec![
            (Format::CloudInit, b"\xff", "spec.binaryData.user-data: line 1: found"),
            (Format::Ignition, b"\xff", "spec.binaryData.config.ign: octet 1: expected UTF-8"),
            (Format::Kickstart, b"\xff", "spec.binaryData.ks.cfg: octet 1: expected UTF-8"),
        ];
        for (format, bytes, expected) in wrong {
            let errors: Vec<String> = found(format, &[(format.main_file(), bytes)]).unwrap_err();
            assert!(errors[0].starts_with(expected), "{errors:?}");
        }
        let errors =
            found(Format::CloudInit, &[("user-data", &packed(b"#cloud-config\npackages: vim\n"))]).unwrap_err();
        assert!(errors[0].contains("/packages: expected a list"), "{errors:?}");
        let mut both = BootConfigSpec::of_files(Format::Script, [("script".to_owned(), b"x".to_vec())]);
        both.binary_data.insert("script".into(), crate::fleet::BinaryFile(b"x"[..].into()));
        assert_eq!(check(&both).unwrap_err()[0].field, "spec.binaryData.script");
    }
}
