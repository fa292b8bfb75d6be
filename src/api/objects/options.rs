//! Options of a request to the object API: its query and its Accept header.

use hyper::HeaderMap;
use hyper::header::{ACCEPT, USER_AGENT};
use serde::{Deserialize, Deserializer};

use crate::fleet::{Kind, Name};

use crate::api::objects::field_validation::Validation;
use crate::api::objects::selectors::Selection;
use crate::api::objects::status::Status;

/// Options of a request to the object API.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The objects that are selected (`labelSelector`, `fieldSelector`, the route's namespace).
    pub selection: Selection,
    /// The representation of objects in the reply.
    pub representation: Representation,
    /// Whether the list is watched (`watch`).
    pub watch: bool,
    /// Version to list at or to watch from (`resourceVersion`).
    pub version: Option<u64>,
    /// Whether the list must show exactly that version (`resourceVersionMatch=Exact`).
    pub is_exact: bool,
    /// Maximum number of objects on a page (`limit`).
    pub limit: Option<usize>,
    /// Token of the page to return (`continue`).
    pub next: Option<String>,
    /// Whether a watch sends bookmarks (`allowWatchBookmarks`).
    pub bookmarks: bool,
    /// Whether a watch starts with the present objects (`sendInitialEvents`).
    pub initial: bool,
    /// Time after which a watch ends, in seconds (`timeoutSeconds`).
    pub timeout: Option<u64>,
    /// Whether the write is only computed (`dryRun=All`).
    pub dry_run: bool,
    /// The treatment of unknown fields (`fieldValidation`).
    pub validation: Validation,
    /// The field manager (`fieldManager`).
    pub manager: Option<String>,
    /// Whether server-side apply takes over the fields of other managers (`force`).
    pub force: bool,
    /// Whether existing objects may be replaced (`replace`).
    pub replace: bool,
}

/// The representation of objects in a reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Representation {
    /// The object itself.
    #[default]
    Object,
    /// A meta.k8s.io/v1 Table, as kubectl asks for to print it.
    Table(IncludeObject),
    /// A meta.k8s.io/v1 PartialObjectMetadata, as controllers ask for that need names and labels only.
    Metadata,
}

/// The part of an object in a row of a table (`includeObject`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Returns the part of a value of `includeObject`.
    pub fn named(name: &str) -> Self {
        match name {
            "None" => Self::None,
            "Object" => Self::Object,
            _ => Self::Metadata,
        }
    }
}

impl Options {
    /// Parses the query and the Accept header. Unknown parameters are ignored, as in Kubernetes.
    ///
    /// # Errors
    /// 400 with the parameter that is wrong.
    pub fn parse(
        query: Option<&str>,
        headers: &HeaderMap,
        kind: Kind,
        namespace: Option<Name>,
    ) -> Result<Self, Status> {
        let mut options = Self::default();
        let (mut labels, mut fields, mut include) = (String::new(), String::new(), IncludeObject::default());
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match key.as_ref() {
                "watch" => options.watch = boolean(&key, &value)?,
                "resourceVersion" if !value.is_empty() => options.version = Some(number(&key, &value)?),
                "limit" => options.limit = Some(number(&key, &value)? as usize).filter(|limit| *limit > 0),
                "continue" if !value.is_empty() => options.next = Some(value.into_owned()),
                "labelSelector" => labels = value.into_owned(),
                "fieldSelector" => fields = value.into_owned(),
                "allowWatchBookmarks" => options.bookmarks = boolean(&key, &value)?,
                "sendInitialEvents" => options.initial = boolean(&key, &value)?,
                "timeoutSeconds" => options.timeout = Some(number(&key, &value)?),
                "fieldValidation" => {
                    among(&key, &value, Validation::NAMES)?;
                    options.validation = Validation::named(&value).unwrap_or_default();
                }
                "resourceVersionMatch" if !value.is_empty() => {
                    among(&key, &value, &["NotOlderThan", "Exact"])?;
                    options.is_exact = value == "Exact";
                }
                "dryRun" => {
                    among(&key, &value, DRY_RUNS)?;
                    options.dry_run = true;
                }
                "fieldManager" => {
                    if value.chars().count() > MAX_MANAGER_LENGTH || value.chars().any(char::is_control) {
                        let message = format!("{key}: expected at most {MAX_MANAGER_LENGTH} printable characters");
                        return Err(Status::bad_request(message));
                    }
                    options.manager = Some(value.into_owned()).filter(|name| !name.is_empty());
                }
                "force" => options.force = boolean(&key, &value)?,
                "replace" => options.replace = boolean(&key, &value)?,
                "includeObject" => include = IncludeObject::named(&value),
                _ => {}
            }
        }
        options.representation = representation(headers, include);
        options.selection = Selection::parse(kind, namespace, &labels, &fields).map_err(Status::bad_request)?;
        Ok(options)
    }
}

impl Options {
    /// Returns the name under which a write is recorded that is no apply: the field manager, or else the client's
    /// program.
    pub fn manager_of_update<'a>(&'a self, headers: &'a HeaderMap) -> &'a str {
        let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let program = agent.split('/').next().unwrap_or_default().trim();
        let name = self.manager.as_deref().unwrap_or(program);
        // A name is cut at a character's end; a longer `fieldManager` was refused.
        match name.char_indices().nth(MAX_MANAGER_LENGTH) {
            Some((end, _)) => &name[..end],
            None if name.is_empty() => "unknown",
            None => name,
        }
    }
}

/// Maximum length of a field manager's name in characters, as in Kubernetes.
const MAX_MANAGER_LENGTH: usize = 128;

/// Values of `dryRun`: Kubernetes has one stage.
const DRY_RUNS: &[&str] = &["All"];

/// Deserializes `dryRun` of `DeleteOptions`, which is a list of stages.
///
/// # Errors
/// An unknown stage.
pub fn dry_run<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    let stages = Option::<Vec<String>>::deserialize(from)?.unwrap_or_default();
    let wrong = |status: Status| serde::de::Error::custom(status.message());
    stages.iter().try_for_each(|stage| among("dryRun", stage, DRY_RUNS)).map_err(wrong)?;
    Ok(!stages.is_empty())
}

/// Parses a flag as Kubernetes' clients write it; an empty value means true.
///
/// # Errors
/// 400 for any other text.
pub fn boolean(key: &str, value: &str) -> Result<bool, Status> {
    match value {
        "" | "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        other => Err(Status::bad_request(format!("{key}: {other:?} is not true or false"))),
    }
}

fn among(key: &str, value: &str, known: &[&str]) -> Result<(), Status> {
    match known.contains(&value) {
        true => Ok(()),
        false => Err(Status::bad_request(format!("{key}: {value:?} is not one of {}", known.join(", ")))),
    }
}

fn number(key: &str, value: &str) -> Result<u64, Status> {
    value.parse().map_err(|_| Status::bad_request(format!("{key}: {value:?} is not a number")))
}

/// Checks that a client accepts JSON (RFC 9110, section 12.5.1).
///
/// # Errors
/// 406 if it does not.
pub fn acceptable(headers: &HeaderMap) -> Result<(), Status> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut kinds = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
    let given = ["*/*", "application/*", "application/json"];
    match accept.trim().is_empty() || kinds.any(|kind| given.iter().any(|one| kind.eq_ignore_ascii_case(one))) {
        true => Ok(()),
        false => Err(Status::not_acceptable("objects are served as application/json only: accept that")),
    }
}

/// Returns the representation that comes first: Accept lists media types by preference.
pub fn representation(headers: &HeaderMap, include: IncludeObject) -> Representation {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    for kind in accept.split(',') {
        let mut parameters = kind.split(';').map(str::trim);
        let media = parameters.next().unwrap_or_default();
        let parameters: Vec<&str> = parameters.collect();
        if media != "application/json" {
            continue;
        }
        let wanted = parameters.iter().find_map(|one| one.strip_prefix("as="));
        match (wanted, parameters.contains(&"v=v1")) {
            (None, _) => return Representation::Object,
            (Some("Table"), true) => return Representation::Table(include),
            (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), true) => return Representation::Metadata,
            (Some(_), _) => {}
        }
    }
    Representation::Object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(query: &str, accept: &str) -> Result<Options, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        Options::parse(Some(query), &headers, Kind::BareMetalHost, None)
    }

    #[test]
    fn a_table_is_returned_if_the_client_asks_for_one() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(options("", kubectl).unwrap().representation, Representation::Table(IncludeObject::Metadata));
        assert_eq!(
            options("includeObject=Object", kubectl).unwrap().representation,
            Representation::Table(IncludeObject::Object)
        );
        assert_eq!(options("", "application/json").unwrap().representation, Representation::Object);
        assert_eq!(options("", "*/*").unwrap().representation, Representation::Object);
    }

    #[test]
    fn metadata_alone_is_returned_if_the_client_asks_for_it() {
        let client = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(options("", client).unwrap().representation, Representation::Metadata);
        assert_eq!(
            options("", "application/json;as=PartialObjectMetadata;v=v1").unwrap().representation,
            Representation::Metadata
        );
        assert_eq!(
            options("", "application/json;as=PartialObjectMetadata;v=v1beta1").unwrap().representation,
            Representation::Object
        );
        assert_eq!(
            options("", "application/json, application/json;as=Table;v=v1").unwrap().representation,
            Representation::Object
        );
    }

    #[test]
    fn a_client_that_accepts_no_json_is_refused() {
        let takes = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            acceptable(&headers).is_ok()
        };
        let protobuf = "application/vnd.kubernetes.protobuf";
        let rows = [
            ("", true),
            ("*/*", true),
            ("text/html, application/*;q=0.1", true),
            ("Application/JSON;as=Table;v=v1", true),
            ("application/yaml", false),
            (protobuf, false),
            (&format!("{protobuf},application/json"), true),
        ];
        for (accept, expected) in rows {
            assert_eq!(takes(accept), expected, "{accept}");
        }
        assert!(acceptable(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn an_update_is_recorded_under_the_manager_or_the_program() {
        let agent = "x".repeat(200);
        let rows = [
            ("fieldManager=m", "curl/8.14.1", "m"),
            ("", "curl/8.14.1", "curl"),
            ("", "kubectl/v1.32.4 (linux/amd64) kubernetes/abc", "kubectl"),
            ("fieldManager=", "", "unknown"),
            ("", &agent, &agent[..MAX_MANAGER_LENGTH]),
        ];
        for (query, agent, expected) in rows {
            let headers: HeaderMap = [(USER_AGENT, agent.parse().unwrap())].into_iter().collect();
            let options = Options::parse(Some(query), &headers, Kind::BareMetalHost, None).unwrap();
            assert_eq!(options.manager_of_update(&headers), expected, "{query} {agent}");
        }
        assert_eq!(Options::default().manager_of_update(&HeaderMap::new()), "unknown");
        for query in [format!("fieldManager={}", "x".repeat(129)), "fieldManager=a%0ab".to_owned()] {
            assert_eq!(options(&query, "").unwrap_err().code, 400, "{query}");
        }
    }

    #[test]
    fn a_wrong_parameter_is_refused() {
        assert_eq!(options("limit=5&resourceVersion=7&watch=1", "").unwrap().limit, Some(5));
        for query in [
            "limit=x",
            "resourceVersion=-1",
            "timeoutSeconds=1.5",
            "dryRun=Some",
            "fieldSelector=x",
            "watch=maybe",
            "fieldValidation=no",
        ] {
            assert_eq!(options(query, "").unwrap_err().code, 400, "{query}");
        }
    }
}
