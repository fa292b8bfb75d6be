use ignition_config::{Config, v3_0, v3_1, v3_2, v3_3, v3_4, v3_5, v3_6};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Checks a config against the types of the version of the specification that it names; gives the keys that its
/// version does not know, which Ignition leaves aside.
///
/// # Errors
/// What is wrong, by its JSON pointer and its line. Versions before 3.0.0 and after 3.6.0 are not known.
pub fn check(text: &str) -> Result<Vec<String>, String> {
    let config: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let version = config.pointer("/ignition/version").ok_or("/ignition/version is missing: as in \"3.4.0\"")?;
    let typed = match version.as_str() {
        Some("3.0.0") => typed::<v3_0::Config>,
        Some("3.1.0") => typed::<v3_1::Config>,
        Some("3.2.0") => typed::<v3_2::Config>,
        Some("3.3.0") => typed::<v3_3::Config>,
        Some("3.4.0") => typed::<v3_4::Config>,
        Some("3.5.0") => typed::<v3_5::Config>,
        Some("3.6.0") => typed::<v3_6::Config>,
        Some(old) if old.starts_with("1.") || old.starts_with("2.") => {
            return Err(format!(
                "/ignition/version: {old} is read by no Ignition since 2020: write it as 3.0.0 or newer"
            ));
        }
        _ => return Err(format!("/ignition/version: {version} is none of 3.0.0 to 3.6.0")),
    };
    typed(text)?;
    let (_, unused) = Config::parse_str(text).map_err(|error| error.to_string())?;
    Ok(unused
        .iter()
        .map(|warning| format!("{warning}, in Ignition {}", version.as_str().unwrap_or_default()))
        .collect())
}

fn typed<T: DeserializeOwned>(text: &str) -> Result<(), String> {
    let mut source = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, T>(&mut source) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{}: {}", pointer(error.path()), error.inner())),
    }
}

/// Spells a path as a JSON pointer (RFC 6901).
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
    fn a_config_is_typed_by_its_version() {
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
            (with("2.4.0", ""), "/ignition/version: 2.4.0 is read by no Ignition"),
            (with("3.9.0", ""), "/ignition/version: \"3.9.0\" is none of"),
            (r#"{"ignition":{"version":3}}"#.to_owned(), "/ignition/version: 3 is none of"),
        ];
        for (text, said) in wrong {
            let message = check(&text).unwrap_err();
            assert!(message.starts_with(said), "{text}: {message}");
        }
    }

    #[test]
    fn a_key_that_the_version_does_not_know_is_told() {
        let text = r#"{"ignition":{"version":"3.2.0"},"kernelArguments":{"shouldExist":["quiet"]}}"#;
        assert_eq!(check(text).unwrap(), ["unused key: $.kernelArguments, in Ignition 3.2.0"]);
        assert!(check(&text.replace("3.2.0", "3.3.0")).unwrap().is_empty());
    }
}
