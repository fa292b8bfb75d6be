use super::super::{Meta, Name, Owner};
use super::{Invalid, invalid};

/// Maximum length of a label's name and value, in octets, as in Kubernetes.
const MAX_WORD_LENGTH: usize = 63;

/// Maximum length of all annotations of an object, in octets, as in Kubernetes: each watch sends them with each change.
const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;

/// Checks the metadata of an object.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_meta(meta: &Meta) -> Result<(), Invalid> {
    for (key, value) in meta.labels.iter() {
        check_label_key(key).or_else(|message| invalid("metadata.labels", message))?;
        check_label_value(value).or_else(|message| invalid("metadata.labels", format!("{key}: {message}")))?;
    }
    // As in Kubernetes, the prefix may have capitals.
    let wrong = |(key, _): (&str, _)| Some((key.to_owned(), check_key(&key.to_ascii_lowercase())?));
    if let Some((key, why)) = meta.annotations.iter().find_map(wrong) {
        return invalid("metadata.annotations", format!("{key:?} is not an annotation key: {why}"));
    }
    match meta.annotations.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() {
        0..=MAX_ANNOTATIONS_BYTES => check_owners(meta),
        length => {
            let message = format!("{length} octets of keys and values: the maximum is {MAX_ANNOTATIONS_BYTES}");
            invalid("metadata.annotations", message)
        }
    }
}

/// Checks the key of a label.
///
/// # Errors
/// The reason that it is invalid.
pub fn check_label_key(key: &str) -> Result<(), String> {
    check_key(key).map_or(Ok(()), |why| Err(format!("{key:?} is not a label key: {why}")))
}

/// Checks the value of a label.
///
/// # Errors
/// The reason that it is invalid.
pub fn check_label_value(value: &str) -> Result<(), String> {
    match value.is_empty() || is_word(value) {
        true => Ok(()),
        false => Err(format!("{value:?} is not a label value: expected {WORD}, or an empty text")),
    }
}

const WORD: &str = "at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit";

fn check_key(key: &str) -> Option<String> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    match prefix.map(str::parse::<Name>) {
        Some(Err(_)) => Some("the part before the / must be a domain, as in example.org/rack".to_owned()),
        _ if !is_word(name) => Some(format!("expected {WORD}, optionally after a domain and a /")),
        _ => None,
    }
}

fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()].iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric));
    let within = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    ends && bytes.len() <= MAX_WORD_LENGTH && bytes.iter().all(within)
}

fn check_owners(meta: &Meta) -> Result<(), Invalid> {
    let refuse = |message: String| invalid("metadata.ownerReferences", message);
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    for Owner { api_version, kind, name, uid, .. } in owners {
        let fields = [("apiVersion", api_version), ("kind", kind), ("name", name), ("uid", uid)];
        if let Some((field, _)) = fields.iter().find(|(_, text)| text.is_empty()) {
            return refuse(format!("an owner's {field} is empty"));
        }
    }
    match owners.iter().filter(|owner| owner.controller == Some(true)).count() {
        0 | 1 => Ok(()),
        many => refuse(format!("{many} owners have controller: true: at most one may")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::StringMap;

    fn check(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Option<String> {
        let words = |pairs: &[(&str, &str)]| {
            let mut words = StringMap::default();
            pairs.iter().for_each(|(key, value)| words.insert((*key).into(), (*value).into()));
            words
        };
        let mut meta = Meta::named("h".parse().unwrap(), None);
        (meta.labels, meta.annotations) = (words(labels), words(annotations));
        check_meta(&meta).err().map(|wrong| wrong.field.into_owned())
    }

    #[test]
    fn labels_are_such_as_a_selector_asks_for() {
        let long = "a".repeat(64);
        for (key, value) in [("rack", "r1"), ("x", ""), ("example.org/Rack_1.a-b", "A_1.b-c"), ("a/b", &long[..63])] {
            assert_eq!(check(&[(key, value)], &[]), None, "{key} {value}");
        }
        for (key, value) in [
            ("bad key!", "x"),
            ("", "x"),
            ("/x", "x"),
            ("x/", "x"),
            ("Example.org/x", "x"),
            ("a/b/c", "x"),
            ("-a", "x"),
            ("rack", "b c"),
            ("rack", "-"),
            ("rack", &long),
            (&long, "x"),
        ] {
            assert_eq!(check(&[(key, value)], &[]).as_deref(), Some("metadata.labels"), "{key} {value}");
        }
    }

    #[test]
    fn an_annotations_text_is_free_and_its_key_is_not() {
        assert_eq!(check(&[], &[("Example.org/last-applied", "anything: {at all}\n")]), None);
        assert_eq!(check(&[], &[("bad key!", "")]).as_deref(), Some("metadata.annotations"));
    }

    #[test]
    fn annotations_have_an_end() {
        let text = "x".repeat(MAX_ANNOTATIONS_BYTES / 2);
        assert_eq!(check(&[], &[("a", &text), ("b", &text[2..])]), None);
        assert_eq!(check(&[], &[("a", &text), ("b", &text[1..])]).as_deref(), Some("metadata.annotations"));
    }

    #[test]
    fn owners_are_named_in_full_and_one_controls() {
        let owner = |name: &str, controller| Owner {
            api_version: "v1".into(),
            kind: "Rack".into(),
            name: name.into(),
            uid: "u".into(),
            controller,
            block_owner_deletion: None,
        };
        let check = |owners: Vec<Owner>| {
            let mut meta = Meta::named("h".parse().unwrap(), None);
            meta.owner_references = Some(owners.into());
            check_meta(&meta).err().map(|wrong| wrong.message)
        };
        assert_eq!(check(vec![owner("a", Some(true)), owner("b", Some(false)), owner("c", None)]), None);
        assert!(check(vec![owner("", None)]).unwrap().contains("name is empty"));
        assert!(check(vec![owner("a", Some(true)), owner("b", Some(true))]).unwrap().contains("controller"));
    }
}
