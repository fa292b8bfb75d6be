//! Validation of Ignition configs.

use serde_json::Value;

use super::findings::{Finding, Findings, Place};
use super::ignition_v3::{self, Minor};
use super::located_json::Located;
use super::{ignition_keys, ignition_rules, ignition_v2};

/// The versions that are accepted, for messages.
const VERSIONS: &str = "3.0.0 to 3.6.0, 2.0.0 to 2.4.0, or a next version with -experimental";

/// Checks a config against the specification version that it states. Returns warnings: keys that the version does not
/// have, which Ignition ignores, what does not work as it seems to, and versions that not every Ignition reads.
///
/// An Ignition release reads its next version as `-experimental`. Flatcar's Ignition reads 2.x as well, by translation
/// to 3.x.
///
/// # Errors
/// Returns all that is wrong, each with its JSON pointer, line and column.
pub fn check(text: &str) -> Result<Vec<String>, Vec<String>> {
    let config = Located::parse(text).map_err(|error| vec![format!("invalid JSON: {error}")])?;
    let place = Place::of(&config);
    let mut found = Findings::default();
    let version = match version(&place) {
        Ok(version) => version,
        Err(wrong) => {
            found.errors.push(wrong);
            return Err(found.error_texts(text));
        }
    };
    let unused = match version {
        Version::Two(word) => {
            let config = serde_json::from_str(text).map_err(|error| vec![format!("invalid JSON: {error}")])?;
            ignition_v2::check(&config).map_err(|wrong| vec![wrong])?;
            return Ok(vec![format!("/ignition/version: {word} is read by Flatcar's Ignition only; checked in part")]);
        }
        Version::Three(minor) => check_version_3(&place, text, minor, &mut found),
    };
    if !found.errors.is_empty() {
        return Err(found.error_texts(text));
    }
    let word = config.get("ignition").and_then(|ignition| ignition.text("version")).unwrap_or_default();
    let experimental = word.strip_suffix("-experimental").map(|release| {
        format!("/ignition/version: {word} is read only by Ignition releases from before {release} was final")
    });
    let unused = unused.iter().map(|path| format!("unused key: {path}, in Ignition {word}"));
    Ok(experimental.into_iter().chain(unused).chain(found.warning_texts(text)).collect())
}

/// The version of the specification that a config states.
enum Version {
    Two(String),
    Three(Minor),
}

fn version(config: &Place<'_>) -> Result<Version, Finding> {
    let Some(ignition) = config.get("ignition") else {
        let missing = config.finding(format!("missing; expected {VERSIONS}"));
        return Err(Finding { pointer: "/ignition/version".to_owned(), ..missing });
    };
    let Some(version) = ignition.get("version") else {
        return Err(ignition.finding_of("version", format!("missing; expected {VERSIONS}")));
    };
    let unknown = || version.finding(format!("found {}, expected {VERSIONS}", version.value.node));
    let word = version.value.as_text().ok_or_else(unknown)?;
    let (release, is_experimental) = match word.strip_suffix("-experimental") {
        Some(release) => (release, true),
        None => (word, false),
    };
    match release {
        "3.0.0" => Ok(Version::Three(0)),
        "3.1.0" => Ok(Version::Three(1)),
        "3.2.0" => Ok(Version::Three(2)),
        "3.3.0" => Ok(Version::Three(3)),
        "3.4.0" => Ok(Version::Three(4)),
        "3.5.0" => Ok(Version::Three(5)),
        "3.6.0" => Ok(Version::Three(6)),
        "3.7.0" if is_experimental => Ok(Version::Three(6)),
        "2.0.0" | "2.1.0" | "2.2.0" | "2.3.0" | "2.4.0" if !is_experimental => Ok(Version::Two(word.to_owned())),
        _ => Err(unknown()),
    }
}

/// Checks the types of a config, which are those of the newest version, what an older one requires, and what the values
/// mean. Returns the paths of the keys that the version does not have; what is below them is ignored.
fn check_version_3(config: &Place<'_>, text: &str, minor: Minor, found: &mut Findings) -> Vec<String> {
    let mut unused = ignition_keys::check(config, found);
    // Of a key that occurs twice, this is the last value: the key is an error already.
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let later = ignition_v3::later_keys(&value, minor);
    ignition_v3::check_required(config, minor, found);
    // A value of a wrong type breaks rules, too: once is enough.
    let wrong_types: Vec<String> = found.errors.iter().map(|finding| finding.pointer.clone()).collect();
    let mut broken = Findings::default();
    ignition_rules::check(config, minor, &mut broken);
    found.errors.extend(broken.errors.into_iter().filter(|finding| !wrong_types.contains(&finding.pointer)));
    found.warnings.append(&mut broken.warnings);
    let ignored: Vec<String> = later.iter().map(|path| path.trim_start_matches('$').replace('.', "/")).collect();
    let is_ignored = |finding: &Finding| {
        let is_below = |key: &String| {
            finding.pointer.strip_prefix(key).is_some_and(|below| below.is_empty() || below.starts_with('/'))
        };
        ignored.iter().any(is_below)
    };
    found.errors.retain(|finding| !is_ignored(finding));
    found.warnings.retain(|finding| !is_ignored(finding));
    unused.extend(later);
    unused
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
            (
                with("3.4.0", r#","storage":{"files":[{"path":1}]}"#),
                "/storage/files/0/path: found the number 1, expected a string at line 1 column 61",
            ),
            (with("3.3.0", r#","storage":{"files":[{"path":"/a","mode":"0644"}]}"#), "/storage/files/0/mode: "),
            (with("3.1.0", r#","systemd":{"units":[{"enabled":true}]}"#), "/systemd/units/0/name: missing"),
            (
                with("3.0.0", r#","passwd":{"users":{"name":"core"}}"#),
                "/passwd/users: found an object, expected a list",
            ),
            (with("1.0.0", ""), "/ignition/version: found the string \"1.0.0\", expected"),
            (with("2.4.0", r#","storage":[]"#), "/storage: expected an object"),
            (with("2.9.0", ""), "/ignition/version: found the string \"2.9.0\", expected"),
            (with("3.8.0-experimental", ""), "/ignition/version: found the string \"3.8.0-experimental\", expected"),
            (with("3.7.0", ""), "/ignition/version: found the string \"3.7.0\", expected"),
            (r#"{"ignition":{"version":3}}"#.to_owned(), "/ignition/version: found the number 3, expected"),
        ];
        for (text, expected) in wrong {
            let errors = check(&text).unwrap_err();
            assert!(errors.len() == 1 && errors[0].starts_with(expected), "{text}: {errors:?}");
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
