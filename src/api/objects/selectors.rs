//! Label and field selectors, in Kubernetes' syntax. Pure.

use std::borrow::Cow;

use crate::fleet::{self, Kind, Mac, Name, Object, Power, rules};

/// Maximum number of terms in a selector.
const MAX_TERMS: usize = 64;

/// The objects that a list or a watch selects.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Namespace of the route; `None` for all namespaces.
    pub namespace: Option<Name>,
    labels: Vec<Term>,
    fields: Vec<Term>,
}

/// A field selector of what is no object of the store.
#[derive(Debug, Clone, Default)]
pub struct FieldSelector(Vec<Term>);

impl FieldSelector {
    /// Parses a selector of these fields.
    ///
    /// # Errors
    /// The term that does not parse, or another field.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self, String> {
        let terms = terms(text.trim_matches([',', ' ']))?;
        for Term { key, test } in &terms {
            if !known.contains(&key.as_str()) {
                return Err(format!("fieldSelector: {key} is not supported; expected one of {}", known.join(", ")));
            }
            if matches!(test, Test::Exists | Test::Absent) {
                return Err(format!("fieldSelector: {key} needs a value: {key}=VALUE"));
            }
        }
        Ok(Self(terms))
    }

    /// Returns whether the values of the fields are selected.
    pub fn matches<'a>(&self, value: impl Fn(&str) -> Cow<'a, str>) -> bool {
        self.0.iter().all(|term| term.test.matches(Some(&value(&term.key))))
    }

    /// Returns the one value that a field must have.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.0.iter().find_map(|term| match &term.test {
            Test::In(values) if term.key == field => values.first().filter(|_| values.len() == 1).map(String::as_str),
            Test::In(_) | Test::NotIn(_) | Test::Exists | Test::Absent => None,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    /// Also matches objects without the key.
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Selection {
    /// Parses both selectors of objects of a kind; an empty text selects everything.
    ///
    /// # Errors
    /// The term that does not parse, a key or value that no label can have, or a field that the kind does not have.
    pub fn parse(kind: Kind, namespace: Option<Name>, labels: &str, fields: &str) -> Result<Self, String> {
        let labels = terms(labels)?;
        for Term { key, test } in &labels {
            rules::check_label_key(key).map_err(|wrong| format!("labelSelector: {wrong}"))?;
            if let Test::In(values) | Test::NotIn(values) = test {
                let checked = values.iter().try_for_each(|value| rules::check_label_value(value));
                checked.map_err(|wrong| format!("labelSelector: {key}: {wrong}"))?;
            }
        }
        Ok(Self { namespace, labels, fields: FieldSelector::parse(fields, fields_of(kind))?.0 })
    }

    /// Narrows the selection to objects with this name.
    pub fn narrow(&mut self, name: &Name) {
        self.fields.push(Term { key: "metadata.name".to_owned(), test: Test::In(vec![name.to_string()]) });
    }

    /// Returns whether an object is selected.
    pub fn matches(&self, object: &Object) -> bool {
        let meta = object.meta();
        (self.namespace.is_none() || meta.namespace == self.namespace)
            && self.labels.iter().all(|term| term.test.matches(meta.labels.get(&term.key).map(String::as_str)))
            && self.fields.iter().all(|term| term.test.matches(Some(&field(object, &term.key))))
    }
}

impl Test {
    fn matches(&self, value: Option<&str>) -> bool {
        match self {
            Self::In(wanted) => value.is_some_and(|value| wanted.iter().any(|one| one == value)),
            Self::NotIn(unwanted) => value.is_none_or(|value| unwanted.iter().all(|one| one != value)),
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
        }
    }
}

/// Returns the fields of a kind that a field selector may compare.
fn fields_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::BareMetalHost => &[
            "metadata.name",
            "metadata.namespace",
            "spec.bootMACAddress",
            "spec.ip",
            "spec.image",
            "spec.bootConfigRef",
            "status.phase",
            "status.power",
        ],
        Kind::IscsiCdrom => &["metadata.name", "metadata.namespace", "status.phase"],
        Kind::BootConfig | Kind::ConfigTemplate => &["metadata.name", "metadata.namespace", "spec.format"],
    }
}

fn field<'a>(object: &'a Object, path: &str) -> Cow<'a, str> {
    let name = |name: &'a Option<Name>| Cow::Borrowed(name.as_ref().map_or("", Name::as_str));
    match (path, object) {
        ("metadata.name", _) => Cow::Borrowed(object.meta().name.as_str()),
        ("metadata.namespace", _) => name(&object.meta().namespace),
        ("spec.bootMACAddress", Object::Host(host)) => host.spec.boot_mac_address.to_string().into(),
        ("spec.ip", Object::Host(host)) => host.spec.ip.map_or(Cow::Borrowed(""), |ip| ip.to_string().into()),
        ("spec.image", Object::Host(host)) => host.spec.image.to_string().into(),
        ("spec.bootConfigRef", Object::Host(host)) => name(&host.spec.boot_config_ref),
        ("status.phase", Object::Host(host)) => host.status.phase.to_string().into(),
        ("status.phase", Object::Image(image)) => Cow::Borrowed(&image.status.phase),
        ("status.power", Object::Host(host)) => Cow::Borrowed(host.status.power.map_or("", Power::as_str)),
        ("spec.format", Object::BootConfig(config)) => config.spec.format.to_string().into(),
        ("spec.format", Object::ConfigTemplate(template)) => template.spec.format.to_string().into(),
        _ => Cow::Borrowed(""),
    }
}

/// Parses the terms, which are separated by commas outside of parentheses.
fn terms(text: &str) -> Result<Vec<Term>, String> {
    let mut found = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1).ok_or_else(|| format!("{text:?}: unmatched closing parenthesis"))?,
            ',' if depth == 0 => {
                found.push(term(&text[start..at])?);
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err(format!("{text:?}: unclosed parenthesis"));
    }
    if !text.trim().is_empty() {
        found.push(term(&text[start..])?);
    }
    if found.len() > MAX_TERMS {
        return Err(format!("a selector may have at most {MAX_TERMS} terms"));
    }
    Ok(found)
}

fn term(text: &str) -> Result<Term, String> {
    let text = text.trim();
    let made = |key: &str, test| Term { key: key.trim().to_owned(), test };
    let one = |value: &str| vec![value.trim().to_owned()];
    let found = if let Some((key, value)) = text.split_once("!=") {
        made(key, Test::NotIn(one(value)))
    } else if let Some((key, value)) = text.split_once("==") {
        made(key, Test::In(one(value)))
    } else if let Some((key, value)) = text.split_once('=') {
        made(key, Test::In(one(value)))
    } else if let Some((head, list)) = text.split_once('(') {
        let list = list.strip_suffix(')').ok_or_else(|| format!("{text:?} is not a selector term"))?;
        if list.trim().is_empty() {
            return Err(format!("{text:?}: the list of values is empty"));
        }
        let list = list.split(',').map(|value| value.trim().to_owned()).collect();
        match head.split_whitespace().collect::<Vec<_>>().as_slice() {
            [key, "in"] => made(key, Test::In(list)),
            [key, "notin"] => made(key, Test::NotIn(list)),
            _ => return Err(format!("{text:?} is not a selector term")),
        }
    } else if let Some(key) = text.strip_prefix('!') {
        made(key, Test::Absent)
    } else {
        made(text, Test::Exists)
    };
    match found.key.is_empty() || found.key.contains(char::is_whitespace) {
        true => Err(format!("{text:?} is not a selector term")),
        false => Ok(normalized(found)),
    }
}

/// Normalizes MAC and IP addresses to the objects' spelling.
fn normalized(mut term: Term) -> Term {
    let spelled = |value: &str| match term.key.as_str() {
        "spec.bootMACAddress" => value.parse::<Mac>().ok().map(|mac| mac.to_string()),
        "spec.ip" => fleet::address(value).ok().map(|ip| ip.to_string()),
        _ => None,
    };
    if let Test::In(values) | Test::NotIn(values) = &mut term.test {
        for value in values {
            *value = spelled(value).unwrap_or_else(|| std::mem::take(value));
        }
    }
    term
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Host, HostSpec, HostStatus, Meta};
    use std::sync::Arc;

    fn host() -> Object {
        let mut metadata = Meta::named("a".parse().unwrap(), Some("default".parse().unwrap()));
        metadata.labels = [("rack".to_owned(), "r1".to_owned()), ("x/y".to_owned(), String::new())].into();
        let mut spec = HostSpec::for_mac(Mac([0x52, 0x54, 0, 0, 0, 1]));
        spec.ip = fleet::address("fd00::10").ok();
        Object::Host(Arc::new(Host { metadata, spec, status: HostStatus::default() }))
    }

    #[test]
    fn selectors_follow_kubernetes_syntax() {
        let rows = [
            ("", "", true),
            ("rack=r1", "", true),
            ("rack==r1,x/y", "", true),
            ("rack!=r1", "", false),
            ("other!=r1", "", true),
            ("rack in (r1, r2)", "", true),
            ("rack notin (r1,r2),x/y", "", false),
            ("other notin (a)", "", true),
            ("!rack", "", false),
            ("!other", "", true),
            ("", "metadata.name=a,metadata.namespace=default", true),
            ("", "metadata.name!=a", false),
            ("", "spec.bootMACAddress=52-54-00-00-00-01", true),
            ("", "spec.ip=FD00:0::0010", true),
            ("", "spec.ip!=fd00:0:0::10", false),
            ("", "status.phase=LocalBoot,spec.image=localboot", true),
        ];
        for (labels, fields, expected) in rows {
            let selection = Selection::parse(Kind::BareMetalHost, None, labels, fields).unwrap();
            assert_eq!(selection.matches(&host()), expected, "{labels} {fields}");
        }
        let rows = [
            ("a in (b", ""),
            ("a b", ""),
            ("=b", ""),
            ("a)b", ""),
            ("a/b/c=d", ""),
            ("-a", ""),
            ("a=b c", ""),
            ("a in (b,-)", ""),
            ("a in ()", ""),
            ("a=b,", ""),
            (",a=b", ""),
            ("a=é", ""),
            ("", "spec.online=true"),
            ("", "spec.format=script"),
            ("", "metadata.name"),
        ];
        for (labels, fields) in rows {
            assert!(Selection::parse(Kind::BareMetalHost, None, labels, fields).is_err(), "{labels} {fields}");
        }
        assert!(Selection::parse(Kind::BootConfig, None, "", "spec.format=script").is_ok());
        assert!(Selection::parse(Kind::IscsiCdrom, None, "", "spec.ip=10.0.0.1").is_err());
    }
}
