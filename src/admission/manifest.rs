//! Manifests: objects declared in files, loaded at start and on SIGHUP.
//!
//! A manifest is applied again only when its text changes. Each object carries an annotation with a code (HMAC) of the
//! text that it was written from. So a restart does not undo changes made by the API, and does not repeat an install.
//! The code uses a key because every reader of the object sees it: a plain digest would let a reader guess a password
//! in the text.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;

use crate::admission::metadata;
use crate::admission::prepare::{self, Places};
use crate::fleet::rules;
use crate::fleet::{
    BootConfigSpec, ConfigTemplateSpec, HostSpec, ImageSpec, Key, Kind, Meta, Name, Object, without_value,
};
use crate::iso::file;
use crate::provision::yaml_error;
use crate::store::{self, Change, Expect, Store};

/// Annotation with the code of the manifest that the object was last written from.
const CODE: &str = "bootlatch.org/manifest";
/// Prefix of the codes: they are keyed digests of the manifest.
const KEYED: &str = "hmac-";
/// Maximum size of a manifest file in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Maximum number of files that do not answer in time; after that the others are not read at all.
const MAX_UNANSWERED: usize = 4;

/// The result of loading a directory of manifests.
#[derive(Debug)]
pub struct LoadSummary {
    /// Number of objects that were written.
    pub written: usize,
    /// Manifests that were not applied.
    pub wrong: Vec<ManifestError>,
}

/// A manifest that was not applied: nothing of a file that cannot be read, and none of an object that is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file or the directory cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Path of the file or directory.
        path: PathBuf,
        /// The file system's error.
        source: std::io::Error,
    },
    /// The document is invalid.
    #[error("{}: line {line}: {message}", path.display())]
    Invalid {
        /// Path of the file.
        path: PathBuf,
        /// Line of the document, or of the error in it.
        line: usize,
        /// The fault.
        message: String,
    },
    /// The store refused the object.
    #[error("{}: line {line}: {source}", path.display())]
    Refused {
        /// Path of the file.
        path: PathBuf,
        /// Line of the document.
        line: usize,
        /// The store's reason.
        source: store::StoreError,
    },
}

/// A document of a manifest file.
#[derive(Debug)]
struct ManifestDocument {
    path: PathBuf,
    line: usize,
    object: Object,
}

impl ManifestDocument {
    /// Returns the object's kind, its name and the images that it refers to.
    fn references(&self) -> rules::ObjectReferences<'_> {
        let companions = match &self.object {
            Object::Image(image) => image.spec.companions.iter().map(Name::as_str).collect(),
            Object::Host(_) | Object::BootConfig(_) | Object::ConfigTemplate(_) => Vec::new(),
        };
        (self.object.key().kind, self.object.meta().name.as_str(), companions)
    }
}

/// The type of a document.
#[derive(Deserialize)]
struct TypeMeta {
    kind: Option<Kind>,
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
}

/// An object of a document, with the text that it is declared by.
struct DeclaredObject {
    text: String,
    object: Object,
}

/// A document of a known kind, whose type names the line of an error.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TypedDocument<Spec> {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: Kind,
    #[serde(rename = "metadata")]
    _metadata: Meta,
    #[serde(rename = "spec")]
    _spec: Spec,
    /// Ignored: `get -o yaml` prints it, and a manifest cannot set it.
    #[serde(default, rename = "status")]
    _status: serde::de::IgnoredAny,
}

impl ManifestError {
    /// Returns file name and line without the document's content, for readers without a token.
    pub fn place(&self) -> String {
        let (path, line) = match self {
            Self::Read { path, .. } => (path, None),
            Self::Invalid { path, line, .. } | Self::Refused { path, line, .. } => (path, Some(line)),
        };
        let name = path.file_name().unwrap_or_default().display().to_string();
        let name = name.escape_debug(); // No line break in a one-line message.
        line.map_or_else(|| name.to_string(), |line| format!("{name}: line {line}"))
    }
}

/// Applies all manifests of a directory. All files are read before an object is written. An invalid manifest is
/// skipped; others fail with it only if they refer to it.
///
/// # Errors
/// The directory cannot be read.
pub async fn load(
    directory: &Path,
    namespace: &Name,
    key: &[u8; 32],
    places: &Places,
    store: &Arc<Store>,
) -> Result<LoadSummary, ManifestError> {
    let (mut documents, mut wrong) = (Vec::new(), Vec::new());
    let unreadable = |source| ManifestError::Read { path: directory.to_owned(), source };
    let at = directory.to_owned();
    let paths = bounded(move || files(&at)).await.map_err(unreadable)??;
    let mut unanswered = 0;
    for path in paths {
        if unanswered == MAX_UNANSWERED {
            wrong.push(ManifestError::Read { path, source: file::no_answer() });
            continue;
        }
        let at = path.clone();
        let text = match bounded(move || read(&at)).await {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => {
                wrong.push(error);
                continue;
            }
            Err(source) => {
                unanswered += 1;
                wrong.push(ManifestError::Read { path, source });
                continue;
            }
        };
        for found in parse_file(&path, &text, namespace, key) {
            match found {
                Ok(document) => documents.push(document),
                Err(error) => wrong.push(error),
            }
        }
    }
    let documents = ordered(without_duplicates(documents, &mut wrong), &mut wrong);
    let mut written = 0;
    for one in documents {
        match write(one, places, store).await {
            Ok(is_written) => written += usize::from(is_written),
            Err(error) => wrong.push(error),
        }
    }
    Ok(LoadSummary { written, wrong })
}

/// Checks the texts of all manifests of a directory, and writes nothing. What depends on other objects is not checked.
///
/// # Errors
/// The directory cannot be read.
pub fn check(directory: &Path, namespace: &Name) -> Result<Vec<ManifestError>, ManifestError> {
    let (mut documents, mut wrong) = (Vec::new(), Vec::new());
    for path in files(directory)? {
        match read(&path) {
            Ok(text) => {
                for found in parse_file(&path, &text, namespace, &[0; 32]) {
                    match found {
                        Ok(document) => documents.push(document),
                        Err(error) => wrong.push(error),
                    }
                }
            }
            Err(error) => wrong.push(error),
        }
    }
    drop(ordered(without_duplicates(documents, &mut wrong), &mut wrong));
    Ok(wrong)
}

/// Reads files on another thread, which a file system that does not answer may hold up: its server may be dead.
///
/// # Errors
/// `TimedOut` where it does not answer in `file::ANSWER_TIMEOUT`.
async fn bounded<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    match tokio::time::timeout(file::ANSWER_TIMEOUT, tokio::task::spawn_blocking(work)).await {
        Ok(done) => done.map_err(io::Error::other),
        Err(_) => Err(file::no_answer()),
    }
}

/// Writes a document's object if its text has changed since it was last applied; returns whether it was written.
async fn write(one: ManifestDocument, places: &Places, store: &Arc<Store>) -> Result<bool, ManifestError> {
    let ManifestDocument { path, line, object, .. } = one;
    let before = store.snapshot().get(&object.key());
    if before.as_ref().is_some_and(|before| applied_code(before) == applied_code(&object)) {
        return Ok(false);
    }
    let invalid = |message| ManifestError::Invalid { path: path.clone(), line, message };
    if let Object::Image(image) = &object
        && image.spec.is_local()
    {
        let answered = prepare::answers(places.iso(&image.spec.iso_file)).await;
        answered.map_err(|error| invalid(format!("spec.isoFile: {error}")))?;
    }
    let prepared = match object {
        // An image's file is read: it may be long, or on a disk that is slow.
        Object::Image(_) => {
            let places = places.clone();
            let work = move || prepare::prepare(object, before.as_ref(), &places);
            tokio::task::spawn_blocking(work).await.map_err(|error| invalid(error.to_string()))?
        }
        Object::Host(_) | Object::BootConfig(_) | Object::ConfigTemplate(_) => {
            prepare::prepare(object, before.as_ref(), places)
        }
    };
    let object = prepared.map_err(|error| invalid(error.to_string()))?;
    let written = store.commit(Change::Put { object, expect: Expect::Any }).await;
    written.map(|_| true).map_err(|source| ManifestError::Refused { path, line, source })
}

/// Removes objects that are declared more than once. Each text would undo the other at every start, and a host with an
/// image in one of them would be installed each time.
fn without_duplicates(documents: Vec<ManifestDocument>, wrong: &mut Vec<ManifestError>) -> Vec<ManifestDocument> {
    let mut places: HashMap<Key, Vec<(PathBuf, usize)>> = HashMap::new();
    for one in &documents {
        places.entry(one.object.key()).or_default().push((one.path.clone(), one.line));
    }
    let (once, more): (Vec<_>, Vec<_>) =
        documents.into_iter().partition(|one| places.get(&one.object.key()).is_some_and(|places| places.len() == 1));
    for one in more {
        let key = one.object.key();
        let Some(places) = places.remove(&key) else { continue };
        let others: Vec<_> = places[1..].iter().map(|(path, line)| format!("{} line {line}", path.display())).collect();
        let message =
            format!("{key} is declared more than once, also in {}: none of them is applied", others.join(", "));
        wrong.push(ManifestError::Invalid { path: one.path, line: one.line, message });
    }
    once
}

/// Orders documents so that each follows the ones it refers to: configs, then images, each after its companions, then
/// hosts. Removes an image whose companions form a cycle.
fn ordered(mut documents: Vec<ManifestDocument>, wrong: &mut Vec<ManifestError>) -> Vec<ManifestDocument> {
    let ranks = loop {
        let objects: Vec<_> = documents.iter().map(ManifestDocument::references).collect();
        match rules::rank_objects(&objects) {
            Ok(ranks) => break ranks,
            Err(index) => {
                let ManifestDocument { path, line, object, .. } = documents.remove(index);
                let name = &object.meta().name;
                let message = format!("spec.companions: the companions of {name} form a cycle");
                wrong.push(ManifestError::Invalid { path, line, message });
            }
        }
    };
    let mut ranked: Vec<_> = ranks.into_iter().zip(documents).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, one)| one).collect()
}

/// Returns the code of the manifest that an object was last written from.
fn applied_code(object: &Object) -> Option<&String> {
    object.meta().annotations.get(CODE)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    let wrong = |source| ManifestError::Read { path: directory.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if is_manifest(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Returns whether a file is a manifest by its name. Hidden files and editors' backups and locks are not (`.#a.yaml`,
/// `a.yaml~`).
pub fn is_manifest(path: &Path) -> bool {
    let is_hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !is_hidden && path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml" || ending == "json")
}

/// Reads the text of a manifest. What is no regular file is refused: a FIFO would be waited for.
fn read(path: &Path) -> Result<String, ManifestError> {
    let wrong = |source| ManifestError::Read { path: path.to_owned(), source };
    match file::read(path, MAX_FILE_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            let message = format!("the file has more than the maximum of {MAX_FILE_BYTES} bytes");
            Err(ManifestError::Invalid { path: path.to_owned(), line: 1, message })
        }
        bytes => String::from_utf8(bytes.map_err(wrong)?).map_err(|error| wrong(io::Error::other(error))),
    }
}

/// Parses all documents of a manifest. A wrong one does not hinder the others.
fn parse_file(
    path: &Path,
    text: &str,
    namespace: &Name,
    key: &[u8; 32],
) -> Vec<Result<ManifestDocument, ManifestError>> {
    let declared = documents(text).into_iter().flat_map(|(line, document)| {
        let all = parse(&document, namespace);
        all.into_iter().map(move |one| (line, one))
    });
    declared
        .map(|(line, one)| {
            let DeclaredObject { text, mut object } = one.map_err(|message| {
                let line = line_of(&message).unwrap_or(line);
                ManifestError::Invalid { path: path.to_owned(), line, message }
            })?;
            let code = format!("{KEYED}{}", half_hex(&code(key, text.as_bytes())));
            object.meta_mut().annotations.insert(CODE.to_owned(), code);
            Ok(ManifestDocument { path: path.to_owned(), line, object })
        })
        .collect()
}

/// Splits a YAML stream into its documents and their first lines. Each document is preceded by blank lines, so that the
/// parser's line numbers are the file's.
fn documents(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let (mut start, mut document) = (1, String::new());
    let mut take = |start: usize, document: &mut String| {
        let body = std::mem::take(document);
        if body.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
            found.push((start, "\n".repeat(start - 1) + &body));
        }
    };
    for (number, line) in (1..).zip(text.lines()) {
        if line == "---" || line.starts_with("--- ") {
            take(start, &mut document);
            start = number + 1;
        } else {
            document.push_str(line);
            document.push('\n');
        }
    }
    take(start, &mut document);
    found
}

/// Parses a document: one object, or the objects of a `List`, as `kubectl get -o yaml` prints it.
fn parse(document: &str, namespace: &Name) -> Vec<Result<DeclaredObject, String>> {
    let value = match yaml::<Value>(document) {
        Ok(value) => value,
        Err(message) => return vec![Err(message)],
    };
    let is_list = value["kind"] == "List" && value["apiVersion"] == "v1";
    let Some(items) = value["items"].as_array().filter(|_| is_list) else {
        let object = object_of(document, value, namespace);
        return vec![object.map(|object| DeclaredObject { text: document.trim().to_owned(), object })];
    };
    let item = |(index, item): (usize, &Value)| {
        let object = kind_of(item).and_then(|kind| decode(kind, item.clone(), namespace));
        let object = object.map_err(|message| format!("items[{index}].{message}"))?;
        Ok(DeclaredObject { text: item.to_string(), object })
    };
    items.iter().enumerate().map(item).collect()
}

/// Decodes the object of a document. An error of its type names the line.
fn object_of(document: &str, value: Value, namespace: &Name) -> Result<Object, String> {
    let head: TypeMeta = yaml(document)?;
    let kind = head.kind.ok_or(NO_KIND)?;
    check_version(head.api_version.as_deref())?;
    decode(kind, value, namespace).map_err(|message| {
        let located = match kind {
            Kind::BareMetalHost => yaml::<TypedDocument<HostSpec>>(document).err(),
            Kind::IscsiCdrom => yaml::<TypedDocument<ImageSpec>>(document).err(),
            Kind::BootConfig => yaml::<TypedDocument<BootConfigSpec>>(document).err(),
            Kind::ConfigTemplate => yaml::<TypedDocument<ConfigTemplateSpec>>(document).err(),
        };
        located.unwrap_or(message)
    })
}

const NO_KIND: &str = "kind: missing; expected BareMetalHost, ISCSICdrom, BootConfig or ConfigTemplate";

fn check_version(version: Option<&str>) -> Result<(), String> {
    match version {
        Some("v1") => Ok(()),
        Some(other) => Err(format!("apiVersion: {other:?}: expected v1")),
        None => Err("apiVersion: missing; expected v1".to_owned()),
    }
}

/// Returns the kind of an item of a list.
fn kind_of(item: &Value) -> Result<Kind, String> {
    let name = item["kind"].as_str().ok_or(NO_KIND)?;
    check_version(item["apiVersion"].as_str())?;
    let found = Kind::ALL.into_iter().find(|kind| kind.as_str() == name);
    found.ok_or_else(|| format!("kind: {name:?}: expected BareMetalHost, ISCSICdrom, BootConfig or ConfigTemplate"))
}

/// Decodes an object as the API does: with the same fields, and values of the same types. A status is left out: a
/// manifest cannot set it.
fn decode(kind: Kind, mut value: Value, namespace: &Name) -> Result<Object, String> {
    let map = value.as_object_mut().ok_or("expected a mapping")?;
    for field in ["apiVersion", "kind", "status"] {
        map.shift_remove(field);
    }
    let meta = map.get_mut("metadata").and_then(Value::as_object_mut).ok_or("metadata: missing")?;
    metadata::normalize(meta).map_err(|wrong| wrong.to_string())?;
    let given = meta.get("namespace").is_some_and(|given| !given.is_null() && given != "");
    match kind.is_namespaced() {
        true if !given => drop(meta.insert("namespace".into(), namespace.as_str().into())),
        true => {}
        false => drop(meta.shift_remove("namespace")),
    }
    let mut object = Object::from_json(kind, value).map_err(|wrong| without_value(&wrong.to_string()))?;
    // A manifest replaces what is there: it waits for no version.
    object.meta_mut().resource_version = 0;
    Ok(object)
}

/// Returns the code of a document's text under the key.
fn code(key: &[u8; 32], text: &[u8]) -> [u8; 32] {
    let mut code = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    code.update(text);
    code.finalize().into_bytes().into()
}

/// Returns the first half of a digest in hexadecimal, which is enough to distinguish texts.
fn half_hex(digest: &[u8; 32]) -> String {
    hex::encode(&digest[..16])
}

fn yaml<'a, T: Deserialize<'a>>(document: &'a str) -> Result<T, String> {
    // The error goes to the log, the value in the document does not: it may be a secret.
    serde_saphyr::from_str(document).map_err(|error| without_value(&yaml_error(&error)))
}

/// Returns the line that the parser's message names.
fn line_of(message: &str) -> Option<usize> {
    let after = message.split("line ").nth(1)?;
    after.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

#[cfg(test)]
mod tests;
