use hyper::HeaderMap;
use hyper::header::ACCEPT;
use serde::{Deserialize, Deserializer};

use crate::fleet::Name;

use crate::api::objects::field_validation::Validation;
use crate::api::objects::selectors::Selection;
use crate::api::objects::status::Status;

/// Is what a request to the object API asks for in its query and its Accept header.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub selection: Selection,
    pub form: Form,
    pub watch: bool,
    pub version: Option<u64>,
    /// Says that a list is to be of that version, and of no later one.
    pub is_exact: bool,
    pub limit: Option<usize>,
    pub next: Option<String>,
    pub bookmarks: bool,
    pub initial: bool,
    pub timeout: Option<u64>,
    pub dry_run: bool,
    pub validation: Validation,
    pub manager: Option<String>,
    pub force: bool,
    pub replace: bool,
}

/// Says how objects are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Plain,
    /// meta.k8s.io/v1 Table, as kubectl asks for where a person looks.
    Table(Include),
    /// meta.k8s.io/v1 PartialObjectMetadata, as controllers ask for that need no more than names and labels.
    Metadata,
}

/// Says how much of an object a row of a table carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

impl Options {
    /// Reads what a request asks for; what this server does not know is left out, as Kubernetes does.
    pub fn parse(query: Option<&str>, headers: &HeaderMap, namespace: Option<Name>) -> Result<Self, Status> {
        let mut options = Self::default();
        let (mut labels, mut fields, mut include) = (String::new(), String::new(), Include::default());
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
                "fieldManager" => options.manager = Some(value.into_owned()).filter(|name| !name.is_empty()),
                "force" => options.force = boolean(&key, &value)?,
                "replace" => options.replace = boolean(&key, &value)?,
                "includeObject" => {
                    include = match value.as_ref() {
                        "None" => Include::None,
                        "Object" => Include::Object,
                        _ => Include::Metadata,
                    }
                }
                _ => {}
            }
        }
        options.form = form(headers, include);
        options.selection = Selection::parse(namespace, &labels, &fields).map_err(Status::bad_request)?;
        Ok(options)
    }
}

/// Are the stages that a dry run may stop before: the only one is the last.
const DRY_RUNS: &[&str] = &["All"];

/// Reads `dryRun` as `DeleteOptions` carry it: a list.
pub fn dry_run<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    let stages = Option::<Vec<String>>::deserialize(from)?.unwrap_or_default();
    let wrong = |status: Status| serde::de::Error::custom(status.message());
    stages.iter().try_for_each(|stage| among("dryRun", stage, DRY_RUNS)).map_err(wrong)?;
    Ok(!stages.is_empty())
}

/// Reads a flag as Kubernetes' clients write it; one that is named without a value is set.
pub fn boolean(key: &str, value: &str) -> Result<bool, Status> {
    match value {
        "" | "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        other => Err(Status::bad_request(format!("{key}: {other:?} is neither true nor false"))),
    }
}

fn among(key: &str, value: &str, known: &[&str]) -> Result<(), Status> {
    match known.contains(&value) {
        true => Ok(()),
        false => Err(Status::bad_request(format!("{key}: {value:?} is none of {}", known.join(", ")))),
    }
}

fn number(key: &str, value: &str) -> Result<u64, Status> {
    value
        .parse()
        .map_err(|_| Status::bad_request(format!("{key}: {value:?} is not a number that this server gave or takes")))
}

/// Refuses a client that takes none of what objects are given as (RFC 9110, section 12.5.1).
pub fn acceptable(headers: &HeaderMap) -> Result<(), Status> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut kinds = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
    let given = ["*/*", "application/*", "application/json"];
    match accept.trim().is_empty() || kinds.any(|kind| given.iter().any(|one| kind.eq_ignore_ascii_case(one))) {
        true => Ok(()),
        false => Err(Status::not_acceptable("objects are given as application/json: accept that")),
    }
}

/// Picks the form that comes first: Accept lists media types by preference.
fn form(headers: &HeaderMap, include: Include) -> Form {
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
            (None, _) => return Form::Plain,
            (Some("Table"), true) => return Form::Table(include),
            (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), true) => return Form::Metadata,
            (Some(_), _) => {}
        }
    }
    Form::Plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(query: &str, accept: &str) -> Result<Options, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        Options::parse(Some(query), &headers, None)
    }

    #[test]
    fn a_table_is_made_for_who_asks_for_one() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(options("", kubectl).unwrap().form, Form::Table(Include::Metadata));
        assert_eq!(options("includeObject=Object", kubectl).unwrap().form, Form::Table(Include::Object));
        assert_eq!(options("", "application/json").unwrap().form, Form::Plain);
        assert_eq!(options("", "*/*").unwrap().form, Form::Plain);
    }

    #[test]
    fn no_more_than_metadata_is_given_to_who_asks_for_that() {
        let client = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(options("", client).unwrap().form, Form::Metadata);
        assert_eq!(options("", "application/json;as=PartialObjectMetadata;v=v1").unwrap().form, Form::Metadata);
        assert_eq!(options("", "application/json;as=PartialObjectMetadata;v=v1beta1").unwrap().form, Form::Plain);
        assert_eq!(options("", "application/json, application/json;as=Table;v=v1").unwrap().form, Form::Plain);
    }

    #[test]
    fn who_takes_no_json_is_told_that_there_is_nothing_else() {
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
    fn numbers_are_numbers() {
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
