//! Validation of Ignition configs.

use serde_json::Value;

use super::ignition_v3::{self, Minor};
use super::{ignition_keys, ignition_v2};

/// The versions that are accepted, for messages.
const VERSIONS: &str = "3.0.0 to 3.6.0, 2.0.0 to 2.4.0, or a next version with -experimental";

/// Checks a config against the specification version that it states. Returns warnings: keys that the version does not
/// have, which Ignition ignores, and versions that not every Ignition reads.
///
/// An Ignition release reads its next version as `-experimental`. Flatcar's Ignition reads 2.x as well, by translation
/// to 3.x.
///
/// # Errors
/// Returns a message for the first wrong value, with its JSON pointer and its line.
pub fn check(text: &str) -> Result<Vec<String>, String> {
    let config: Value = serde_json::from_str(text).map_err(|error| format!("invalid JSON: {error}"))?;
    let version = config.pointer("/ignition/version");
    let version = version.ok_or_else(|| format!("/ignition/version: missing; expected {VERSIONS}"))?;
    let unknown = || format!("/ignition/version: found {version}, expected {VERSIONS}");
    let word = version.as_str().ok_or_else(unknown)?;
    let (release, is_experimental) = match word.strip_suffix("-experimental") {
        Some(release) => (release, true),
        None => (word, false),
    };
    let minor = match release {
        "3.0.0" => 0,
        "3.1.0" => 1,
        "3.2.0" => 2,
        "3.3.0" => 3,
        "3.4.0" => 4,
        "3.5.0" => 5,
        "3.6.0" => 6,
        "3.7.0" if is_experimental => 6,
        "2.0.0" | "2.1.0" | "2.2.0" | "2.3.0" | "2.4.0" if !is_experimental => {
            ignition_v2::check(&config)?;
            let warning = format!("/ignition/version: {word} is read by Flatcar's Ignition only; checked in part");
            return Ok(vec![warning]);
        }
        _ => return Err(unknown()),
    };
    let unused = check_types(text, &config, minor)?;
    let experimental = is_experimental.then(|| {
        format!("/ignition/version: {word} is read only by Ignition releases from before {release} was final")
    });
    let unused = unused.iter().map(|path| format!("unused key: {path}, in Ignition {word}"));
    Ok(experimental.into_iter().chain(unused).collect())
}

/// Checks that a config has the types of the newest version, and what an older one requires. Returns the paths of the
/// keys that the version does not have.
fn check_types(text: &str, config: &Value, minor: Minor) -> Result<Vec<String>, String> {
    let mut unused = ignition_keys::check(text).map_err(|wrong| format!("{}: {}", wrong.pointer, wrong.message))?;
    ignition_v3::check_required(config, minor)?;
    unused.extend(ignition_v3::later_keys(config, minor));
    Ok(unused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_checked_by_its_version() {
        let with = |version: &str, rest: &str| format!(r#"{{"ignition":{{"version":"{version}"}}{rest}}}"#);
        for version in ["3.0.0", "3.1.0", "3.2.0", "3.3.0", "3.4.0", "3.5.0", "3.6.0"] {
            let text =
                with(version, r#","storage":{"files":[{"path":"/etc/x","mode":420,"contents":{"source":"data:,x"}}]}"#);
            assert_eq!(check(&text), Ok(vec![]), "{version}");
        }
        let wrong = [
            (with("3.4.0", r#","storage":{"files":[{"path":1}]}"#), "/storage/files/0/path: invalid type: integer `1`"),
            (with("3.3.0", r#","storage":{"files":[{"path":"/a","mode":"0644"}]}"#), "/storage/files/0/mode: "),
            (with("3.1.0", r#","systemd":{"units":[{"enabled":true}]}"#), "/systemd/units/0: missing field `name`"),
            (with("3.0.0", r#","passwd":{"users":{"name":"core"}}"#), "/passwd/users: invalid type: map"),
            (with("1.0.0", ""), "/ignition/version: found \"1.0.0\", expected"),
            (with("2.4.0", r#","storage":[]"#), "/storage: expected an object"),
            (with("2.9.0", ""), "/ignition/version: found \"2.9.0\", expected"),
            (with("3.8.0-experimental", ""), "/ignition/version: found \"3.8.0-experimental\", expected"),
            (with("3.7.0", ""), "/ignition/version: found \"3.7.0\", expected"),
            (with("3.9.0", ""), "/ignition/version: found \"3.9.0\", expected"),
            (r#"{"ignition":{"version":3}}"#.to_owned(), "/ignition/version: found 3, expected"),
        ];
        for (text, expected) in wrong {
            let message = check(&text).unwrap_err();
            assert!(message.starts_with(expected), "{text}: {message}");
        }
    }

    #[test]
    fn a_key_that_the_version_does_not_have_is_a_warning() {
        let text = r#"{"ignition":{"version":"3.2.0"},"kernelArguments":{"shouldExist":["quiet"]}}"#;
        assert_eq!(check(text).unwrap(), ["unused key: $.kernelArguments, in Ignition 3.2.0"]);
        assert!(check(&text.replace("3.2.0", "3.3.0")).unwrap().is_empty());
    }

    #[test]
    fn a_version_that_not_every_ignition_reads_is_a_warning() {
        let of = |version: &str| check(&format!(r#"{{"ignition":{{"version":"{version}"}}}}"#)).unwrap().join("; ");
        for version in ["2.0.0", "2.2.0", "2.3.0", "2.4.0"] {
            assert!(of(version).contains(version) && of(version).contains("Flatcar"), "{}", of(version));
        }
        for version in ["3.4.0-experimental", "3.6.0-experimental", "3.7.0-experimental"] {
            assert!(of(version).contains(&format!("{version} is read only by")), "{}", of(version));
        }
        assert_eq!(of("3.6.0"), "");
        let unused = check(r#"{"ignition":{"version":"3.7.0-experimental"},"new":1}"#).unwrap();
        assert_eq!(unused.len(), 2, "{unused:?}");
    }
}
