//! Validation of Ignition configs.

use ignition_config::{v3_0, v3_1, v3_2, v3_3, v3_4, v3_5, v3_6};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fleet::deserialize_with_path;

/// Checks a config against the specification version that it states (3.0.0 to 3.6.0). Returns warnings about keys
/// that the version does not have; Ignition ignores them.
///
/// # Errors
/// Returns a message for the first wrong value, with its JSON pointer and its line.
pub fn check(text: &str) -> Result<Vec<String>, String> {
    let config: Value = serde_json::from_str(text).map_err(|error| format!("invalid JSON: {error}"))?;
    let version = config.pointer("/ignition/version").ok_or("/ignition/version: missing; expected 3.0.0 to 3.6.0")?;
    let check_version = match version.as_str() {
        Some("3.0.0") => check_types::<v3_0::Config>,
        Some("3.1.0") => check_types::<v3_1::Config>,
        Some("3.2.0") => check_types::<v3_2::Config>,
        Some("3.3.0") => check_types::<v3_3::Config>,
        Some("3.4.0") => check_types::<v3_4::Config>,
        Some("3.5.0") => check_types::<v3_5::Config>,
        Some("3.6.0") => check_types::<v3_6::Config>,
        Some(old) if old.starts_with("1.") || old.starts_with("2.") => {
            return Err(format!(
                "/ignition/version: found {old}, expected 3.0.0 to 3.6.0: convert the config (ign-converter)"
            ));
        }
        _ => return Err(format!("/ignition/version: found {version}, expected 3.0.0 to 3.6.0")),
    };
    let unused = check_version(text)?;
    let version = version.as_str().unwrap_or_default();
    Ok(unused.iter().map(|path| format!("unused key: {path}, in Ignition {version}")).collect())
}

/// Checks that a config deserializes as a type. Returns the paths of the keys that the type does not have.
fn check_types<T: DeserializeOwned>(text: &str) -> Result<Vec<String>, String> {
    let mut unused = Vec::new();
    let mut source = serde_json::Deserializer::from_str(text);
    let mut note = |path: serde_ignored::Path<'_>| unused.push(unused_path(&path));
    let read = deserialize_with_path::<T>(serde_ignored::Deserializer::new(&mut source, &mut note));
    read.map_err(|error| format!("{}: {}", pointer(&error.path), error.message))?;
    Ok(unused)
}

/// Returns the path of an unused key, as Ignition itself writes it.
fn unused_path(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path::{Map, NewtypeStruct, NewtypeVariant, Root, Seq, Some};
    match path {
        Root => "$".to_owned(),
        Seq { parent, index } => format!("{}.{index}", unused_path(parent)),
        Map { parent, key } => format!("{}.{key}", unused_path(parent)),
        Some { parent } | NewtypeStruct { parent } | NewtypeVariant { parent } => unused_path(parent),
    }
}

/// Returns a path as a JSON pointer (RFC 6901).
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment::{Enum, Map, Seq, Unknown};
    let part = |segment: &serde_path_to_error::Segment| match segment {
        Seq { index } => format!("/{index}"),
        Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
        Enum { variant } => format!("/{variant}"),
        Unknown => "/?".to_owned(),
    };
    path.iter().map(part).collect()
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
            (with("2.4.0", ""), "/ignition/version: found 2.4.0, expected"),
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
}
