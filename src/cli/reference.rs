//! Kinds and names of objects as the command line takes them: `host`, `hosts,isos`, `host node1`, `host/node1`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::fleet::Kind;

use super::exit::UsageError;

/// Characters of a name that a path has as they are (RFC 3986, section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Help of an argument that names objects.
pub const OBJECTS_HELP: &str =
    "KIND [NAME...], KIND/NAME..., or several kinds (hosts,isos); kinds: host, iso, config, template";

/// Objects of one kind: some by name, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The kind.
    pub kind: Kind,
    /// The names; empty for all objects.
    pub names: Vec<String>,
}

/// Parses a kind, by its short name or its name in Kubernetes.
///
/// # Errors
/// The word is no kind.
pub fn kind(word: &str) -> Result<Kind, String> {
    match word.to_ascii_lowercase().as_str() {
        "host" | "hosts" | "bmh" | "baremetalhost" | "baremetalhosts" => Ok(Kind::BareMetalHost),
        "iso" | "isos" | "cdrom" | "cdroms" | "iscsicdrom" | "iscsicdroms" | "iscsi-cdrom" | "iscsi-cdroms" => {
            Ok(Kind::IscsiCdrom)
        }
        "config" | "configs" | "bc" | "bootconfig" | "bootconfigs" => Ok(Kind::BootConfig),
        "template" | "templates" | "ct" | "configtemplate" | "configtemplates" => Ok(Kind::ConfigTemplate),
        _ => Err(format!("{word:?} is no kind: expected host, iso, config or template")),
    }
}

/// Returns the word for objects of a kind, as people say it.
pub fn plural_word(kind: Kind) -> &'static str {
    match kind {
        Kind::BareMetalHost => "hosts",
        Kind::IscsiCdrom => "ISOs",
        Kind::BootConfig => "configs",
        Kind::ConfigTemplate => "templates",
    }
}

/// Parses the objects that a command names. Kinds keep the order in which they are named.
///
/// # Errors
/// A word is no kind, or a name stands where none can.
pub fn parse(words: &[String]) -> Result<Vec<Wanted>, UsageError> {
    let Some(first) = words.first() else {
        return Err(UsageError("no kind: expected host, iso, config or template, or KIND/NAME".to_owned()));
    };
    if words.iter().any(|word| word.contains('/')) {
        return parse_pairs(words);
    }
    let mut wanted: Vec<Wanted> = Vec::new();
    let all = first.eq_ignore_ascii_case("all");
    for word in first.split(',').filter(|_| !all) {
        let kind = kind(word).map_err(UsageError)?;
        if !wanted.iter().any(|earlier| earlier.kind == kind) {
            wanted.push(Wanted { kind, names: words[1..].to_vec() });
        }
    }
    if all {
        wanted = Kind::ALL.map(|kind| Wanted { kind, names: Vec::new() }).to_vec();
    }
    match words.len() > 1 && (all || wanted.len() > 1) {
        true => Err(UsageError(format!("{first}: a name needs one kind; name objects of several kinds as KIND/NAME"))),
        false => Ok(wanted),
    }
}

/// Parses words that are all `KIND/NAME`.
fn parse_pairs(words: &[String]) -> Result<Vec<Wanted>, UsageError> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for word in words {
        let pair = word.split_once('/').filter(|(_, name)| !name.is_empty() && !name.contains('/'));
        let Some((kind_word, name)) = pair else {
            return Err(UsageError(format!("{word:?}: expected KIND/NAME, as the other words are")));
        };
        let kind = kind(kind_word).map_err(UsageError)?;
        match wanted.iter_mut().find(|earlier| earlier.kind == kind) {
            Some(earlier) => earlier.names.push(name.to_owned()),
            None => wanted.push(Wanted { kind, names: vec![name.to_owned()] }),
        }
    }
    Ok(wanted)
}

/// Returns `kind/name`, which this command line and kubectl take back.
pub fn kind_and_name(kind: Kind, name: &str) -> String {
    format!("{}/{name}", kind.as_str().to_lowercase())
}

/// Returns the path of all objects of a kind, in one namespace or in all.
pub fn collection_path(kind: Kind, namespace: Option<&str>) -> String {
    match (kind.is_namespaced(), namespace) {
        (true, Some(namespace)) => format!("/api/v1/namespaces/{}/{}", segment(namespace), kind.plural()),
        _ => format!("/api/v1/{}", kind.plural()),
    }
}

/// Returns the path of one object.
pub fn object_path(kind: Kind, namespace: &str, name: &str) -> String {
    format!("{}/{}", collection_path(kind, Some(namespace)), segment(name))
}

/// Encodes a segment of a path, or another part of a URL.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<String, String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let text = |wanted: &Wanted| format!("{}{:?}", wanted.kind.plural(), wanted.names);
        parse(&words).map(|all| all.iter().map(text).collect::<Vec<_>>().join(" ")).map_err(|error| error.to_string())
    }

    #[test]
    fn objects_are_named_in_every_usual_form() {
        let rows: [(&[&str], &str); 7] = [
            (&["host"], "baremetalhosts[]"),
            (&["Hosts", "a", "b"], r#"baremetalhosts["a", "b"]"#),
            (&["hosts,isos,bmh"], "baremetalhosts[] iscsi-cdroms[]"),
            (&["all"], "baremetalhosts[] iscsi-cdroms[] bootconfigs[] configtemplates[]"),
            (&["host/a", "iso/b", "bmh/c"], r#"baremetalhosts["a", "c"] iscsi-cdroms["b"]"#),
            (&["iscsicdrom/b"], r#"iscsi-cdroms["b"]"#),
            (&["host", "52:54:00:12:34:56"], r#"baremetalhosts["52:54:00:12:34:56"]"#),
        ];
        for (words, expected) in rows {
            assert_eq!(parsed(words).as_deref(), Ok(expected), "{words:?}");
        }
    }

    #[test]
    fn a_word_that_names_nothing_is_refused() {
        let rows: [(&[&str], &str); 6] = [
            (&[], "no kind"),
            (&["pods"], "\"pods\" is no kind: expected host, iso, config or template"),
            (&["hosts,isos", "a"], "a name needs one kind"),
            (&["host/a", "b"], "\"b\": expected KIND/NAME"),
            (&["host", "a/b"], "\"host\": expected KIND/NAME"),
            (&["host/"], "expected KIND/NAME"),
        ];
        for (words, expected) in rows {
            let error = parsed(words).unwrap_err();
            assert!(error.contains(expected), "{words:?}: {error}");
        }
    }

    #[test]
    fn a_name_stays_within_its_segment_of_the_path() {
        let path = object_path(Kind::BareMetalHost, "default", "a/b c");
        assert_eq!(path, "/api/v1/namespaces/default/baremetalhosts/a%2Fb%20c");
        assert_eq!(object_path(Kind::BootConfig, "x", "a.b-c"), "/api/v1/bootconfigs/a.b-c");
    }
}
