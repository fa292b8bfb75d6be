//! Manifests: objects declared in files, loaded at start and on SIGHUP.
//!
//! A manifest speaks when it changes: what was written to the store is marked with a code over the
//! text that it came from, and a text that was written already is left alone. So a restart does not
//! undo what the API did since, and does not install a machine again. The code is under a key: the mark
//! is read by whoever may read the object, and the text may have a password in it that a digest would
//! let them guess at.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::admission::prepare::{self, Places};
use crate::fleet::rules;
use crate::fleet::{
    BootConfig, BootConfigSpec, Host, HostSpec, Image, ImageSpec, Key, Kind, Meta, Name, Object, hex, without_value,
};
use crate::provision::yaml_error;
use crate::store::{self, Change, Expect, Store};

/// Marks an object with the code of the manifest that it was last written from.
const MARK: &str = "bootlatch.org/manifest";
/// Begins the marks that are under a key; those of earlier versions were a plain digest.
const KEYED: &str = "hmac-";
/// Bounds one file of manifests.
const LARGEST_FILE: u64 = 64 << 20;

/// Is what a directory of manifests came to.
#[derive(Debug)]
pub struct Loaded {
    pub written: usize,
    pub wrong: Vec<ManifestError>,
}

/// Says which manifest is wrong, where, and why. Nothing of a file that cannot be read was written, nor of an
/// object that is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: line {line}: {message}", path.display())]
    Wrong { path: PathBuf, line: usize, message: String },
    #[error("{}: line {line}: {source}", path.display())]
    Refused { path: PathBuf, line: usize, source: store::StoreError },
}

/// Is one document of a file.
#[derive(Debug)]
struct Declared {
    path: PathBuf,
    line: usize,
    object: Object,
    /// Is the mark that an earlier version gave the same text.
    plain: String,
}

impl Declared {
    fn referred(&self) -> rules::Referred<'_> {
        let beside = match &self.object {
            Object::Image(image) => image.spec.companions.iter().map(Name::as_str).collect(),
            Object::Host(_) | Object::BootConfig(_) => Vec::new(),
        };
        (self.object.key().kind, self.object.meta().name.as_str(), beside)
    }
}

#[derive(Deserialize)]
struct Head {
    kind: Option<Kind>,
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document<Spec> {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: Kind,
    metadata: Meta,
    spec: Spec,
    /// Is what `get -o yaml` printed; a manifest has no say in it.
    #[serde(default, rename = "status")]
    _status: serde::de::IgnoredAny,
}

impl ManifestError {
    /// Names the place without what stands there: whoever asks may be told.
    pub fn place(&self) -> String {
        let (path, line) = match self {
            Self::Read { path, .. } => (path, None),
            Self::Wrong { path, line, .. } | Self::Refused { path, line, .. } => (path, Some(line)),
        };
        let name = path.file_name().unwrap_or_default().display().to_string();
        let name = name.escape_debug(); // a line of text stays one
        line.map_or_else(|| name.to_string(), |line| format!("{name}: line {line}"))
    }
}

/// Loads all manifests of a directory. All files are read before anything is written; what is wrong is left out, and
/// all the others depend on it only where they refer to it.
///
/// # Errors
/// The directory cannot be read.
pub async fn load(
    directory: &Path,
    namespace: &Name,
    key: &[u8; 32],
    places: &Places,
    store: &Arc<Store>,
) -> Result<Loaded, ManifestError> {
    let (mut declared, mut wrong) = (Vec::new(), Vec::new());
    for path in files(directory)? {
        match read(&path, namespace, key) {
            Ok(found) => declared.extend(found),
            Err(error) => wrong.push(error),
        }
    }
    renew_marks(&declared, wrong.is_empty(), store).await;
    let declared = ordered(declared_once(declared, &mut wrong), &mut wrong);
    let mut written = 0;
    for one in declared {
        match write(one, places, store).await {
            Ok(is_news) => written += usize::from(is_news),
            Err(error) => wrong.push(error),
        }
    }
    Ok(Loaded { written, wrong })
}

/// Writes what is declared, where its text is another than the one that it was last written from.
async fn write(one: Declared, places: &Places, store: &Arc<Store>) -> Result<bool, ManifestError> {
    let Declared { path, line, object, .. } = one;
    let before = store.snapshot().get(&object.key()).cloned();
    if before.as_ref().is_some_and(|before| mark(before) == mark(&object)) {
        return Ok(false);
    }
    let prepared = prepare::prepare(object, before.as_ref(), places);
    let object =
        prepared.map_err(|error| ManifestError::Wrong { path: path.clone(), line, message: error.to_string() })?;
    let written = store.commit(Change::Put { object, expect: Expect::Any }).await;
    written.map(|_| true).map_err(|source| ManifestError::Refused { path, line, source })
}

/// Leaves out what is declared more than once. Each text would undo the other at every start: a host that one of
/// them gives an image would be installed again each time.
fn declared_once(declared: Vec<Declared>, wrong: &mut Vec<ManifestError>) -> Vec<Declared> {
    let mut places: HashMap<Key, Vec<(PathBuf, usize)>> = HashMap::new();
    for one in &declared {
        places.entry(one.object.key()).or_default().push((one.path.clone(), one.line));
    }
    let (once, more): (Vec<_>, Vec<_>) =
        declared.into_iter().partition(|one| places.get(&one.object.key()).is_some_and(|places| places.len() == 1));
    for one in more {
        let key = one.object.key();
        let Some(places) = places.remove(&key) else { continue };
        let others: Vec<_> = places[1..].iter().map(|(path, line)| format!("{} line {line}", path.display())).collect();
        let message = format!("{key} is declared more than once, also in {}: none of it is applied", others.join(", "));
        wrong.push(ManifestError::Wrong { path: one.path, line: one.line, message });
    }
    once
}

/// Puts what is referred to first: configs, then images, each behind those beside it, then hosts. Leaves out
/// images that lead round in a circle.
fn ordered(mut declared: Vec<Declared>, wrong: &mut Vec<ManifestError>) -> Vec<Declared> {
    let order = loop {
        let objects: Vec<_> = declared.iter().map(Declared::referred).collect();
        match rules::order(&objects) {
            Ok(order) => break order,
            Err(place) => {
                let Declared { path, line, object, .. } = declared.remove(place);
                let name = &object.meta().name;
                let message = format!("spec.companions: those beside {name} lead round in a circle");
                wrong.push(ManifestError::Wrong { path, line, message });
            }
        }
    };
    let mut placed: Vec<_> = order.into_iter().zip(declared).collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, one)| one).collect()
}

fn mark(object: &Object) -> Option<&String> {
    object.meta().annotations.get(MARK)
}

/// Takes away the marks of earlier versions, and gives those whose text still stands there the one that it has now.
///
/// While a file cannot be read, the marks of what it may declare are left: it would be written again once it is mended.
async fn renew_marks(declared: &[Declared], is_all: bool, store: &Store) {
    let state = store.snapshot();
    let all = Kind::ALL.into_iter().flat_map(|kind| state.list(kind, None));
    for before in all.filter(|object| mark(object).is_some_and(|mark| !mark.starts_with(KEYED))) {
        let same = declared.iter().find(|one| one.object.key() == before.key() && mark(before) == Some(&one.plain));
        let mut object = before.clone();
        let annotations = &mut object.meta_mut().annotations;
        match same.and_then(|same| mark(&same.object)) {
            Some(keyed) => annotations.insert(MARK.to_owned(), keyed.clone()),
            None if !is_all => continue,
            None => annotations.remove(MARK),
        }
        let expect = Expect::Present(Some(before.meta().resource_version));
        if let Err(error) = store.commit(Change::Put { object, expect }).await {
            tracing::warn!(%error, "the mark of an earlier version stays");
        }
    }
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

/// Says whether a file of a directory is a manifest by its name: editors' backups and locks are none (`.#a.yaml`,
/// `a.yaml~`), nor is what else is hidden.
pub fn is_manifest(path: &Path) -> bool {
    let is_hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !is_hidden && path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml" || ending == "json")
}

fn read(path: &Path, namespace: &Name, key: &[u8; 32]) -> Result<Vec<Declared>, ManifestError> {
    let wrong = |source| ManifestError::Read { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(wrong)?.len();
    if size > LARGEST_FILE {
        return Err(ManifestError::Wrong {
            path: path.to_owned(),
            line: 1,
            message: format!("{size} bytes are more than a manifest may have"),
        });
    }
    let text = std::fs::read_to_string(path).map_err(wrong)?;
    let mut declared = Vec::new();
    for (line, document) in documents(&text) {
        let mut object = parse(&document, namespace).map_err(|message| {
            let line = line_of(&message).unwrap_or(line);
            ManifestError::Wrong { path: path.to_owned(), line, message }
        })?;
        let text = document.trim().as_bytes();
        object.meta_mut().annotations.insert(MARK.to_owned(), format!("{KEYED}{}", spell(&code(key, text))));
        declared.push(Declared { path: path.to_owned(), line, object, plain: spell(&Sha256::digest(text).into()) });
    }
    Ok(declared)
}

/// Splits a stream into its documents, each with blank lines before it for the ones that it follows,
/// so that the parser's line numbers are the file's.
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

fn parse(document: &str, namespace: &Name) -> Result<Object, String> {
    let head: Head = yaml(document)?;
    let kind = head.kind.ok_or("kind: say BareMetalHost, ISCSICdrom or BootConfig")?;
    match head.api_version.as_deref() {
        Some("v1") => {}
        Some(other) => return Err(format!("apiVersion: {other:?} is not known: v1 is")),
        None => return Err("apiVersion: say v1".to_owned()),
    }
    Ok(match kind {
        Kind::BareMetalHost => {
            let Document { mut metadata, spec, .. } = yaml::<Document<HostSpec>>(document)?;
            metadata.namespace.get_or_insert_with(|| namespace.clone());
            Object::Host(Arc::new(Host { metadata, spec, status: Default::default() }))
        }
        Kind::IscsiCdrom => {
            let Document { metadata, spec, .. } = yaml::<Document<ImageSpec>>(document)?;
            Object::Image(Arc::new(Image { metadata, spec, status: Default::default() }))
        }
        Kind::BootConfig => {
            let Document { metadata, spec, .. } = yaml::<Document<BootConfigSpec>>(document)?;
            Object::BootConfig(Arc::new(BootConfig { metadata, spec, status: Default::default() }))
        }
    })
}

fn code(key: &[u8; 32], text: &[u8]) -> [u8; 32] {
    let mut code = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    code.update(text);
    code.finalize().into_bytes().into()
}

/// Spells the first half of a digest: it tells texts apart.
fn spell(digest: &[u8; 32]) -> String {
    hex(&digest[..16])
}

fn yaml<'a, T: Deserialize<'a>>(document: &'a str) -> Result<T, String> {
    // What is wrong goes to the log: the value that was found does not.
    serde_saphyr::from_str(document).map_err(|error| without_value(&yaml_error(&error)))
}

/// Finds the line that the parser's message names.
fn line_of(message: &str) -> Option<usize> {
    let after = message.split("line ").nth(1)?;
    after.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace() -> Name {
        "default".parse().unwrap()
    }

    fn wrong(text: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yaml");
        std::fs::write(&path, text).unwrap();
        read(&path, &namespace(), &[0; 32]).unwrap_err().to_string()
    }

    #[test]
    fn a_stream_is_read_as_people_write_it() {
        let text = "# hosts\n---\napiVersion: v1\nkind: BootConfig\nmetadata: {name: c}\nspec:\n  format: script\n  data:\n    script: |\n      a\n      --- b\n---\napiVersion: v1\nkind: BareMetalHost\nmetadata: {name: vm}\nspec: {bootMACAddress: \"52-54-00-00-00-01\", image: \"\"}\n";
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.yaml"), text).unwrap();
        let declared = read(&directory.path().join("a.yaml"), &namespace(), &[0; 32]).unwrap();
        let keys: Vec<_> = declared.iter().map(|one| (one.line, one.object.key().to_string())).collect();
        assert_eq!(keys, [(3, "BootConfig c".to_owned()), (13, "BareMetalHost default/vm".to_owned())]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file_and_line() {
        let head = "apiVersion: v1\nkind: BareMetalHost\nmetadata: {name: vm}\n";
        let check = |text: &str, parts: &[&str]| {
            let error = wrong(text);
            for part in parts.iter().chain(&["a.yaml"]) {
                assert!(error.contains(part), "{error:?} does not say {part:?}");
            }
        };
        check(&format!("---\n{head}spec:\n  bootMACAddress: nonsense\n"), &["line 6", "nonsense"]);
        check(&format!("{head}spec:\n  bootMacAddress: \"52:54:00:00:00:01\"\n"), &["line 5", "bootMacAddress"]);
        check("kind: BareMetalHost\n", &["line 1", "apiVersion"]);
        check("\n\napiVersion: v1\nkind: Pod\n", &["line 4", "Pod"]);
        check("a: [1\n", &["line"]);
    }

    fn text(image: &str) -> String {
        format!(
            "apiVersion: v1\nkind: BareMetalHost\nmetadata: {{name: vm}}\nspec: {{bootMACAddress: \"52:54:00:00:00:01\", image: \"{image}\"}}\n"
        )
    }

    #[test]
    fn what_is_referred_to_comes_first_however_it_was_written() {
        let object = |text: &str| {
            let text = format!("apiVersion: v1\nkind: {text}");
            Declared {
                path: "a.yaml".into(),
                line: 1,
                object: parse(&text, &namespace()).unwrap(),
                plain: String::new(),
            }
        };
        let image = |name: &str, companions: &str| {
            let spec = format!("{{isoFile: a.iso, companions: [{companions}]}}");
            object(&format!("ISCSICdrom\nmetadata: {{name: {name}}}\nspec: {spec}\n"))
        };
        let host = || object("BareMetalHost\nmetadata: {name: h}\nspec: {bootMACAddress: \"52:54:00:00:00:01\"}\n");
        let config = || object("BootConfig\nmetadata: {name: c}\nspec: {format: script, data: {script: a}}\n");
        let all = vec![host(), image("a", "c, b"), image("b", "d"), image("c", "elsewhere"), image("d", ""), config()];
        let mut wrong = Vec::new();
        let ordered_all = ordered(all, &mut wrong);
        assert!(wrong.is_empty(), "{wrong:?}");
        let names: Vec<_> = ordered_all.iter().map(|one| one.object.meta().name.as_str()).collect();
        assert_eq!(names, ["c", "c", "d", "b", "a", "h"]);
        let rest = ordered(vec![host(), image("a", "b"), image("b", "c"), image("c", "a")], &mut wrong);
        let [round] = &wrong[..] else { panic!("{wrong:?}") };
        assert!(round.to_string().contains("spec.companions") && round.to_string().contains("circle"), "{round}");
        assert_eq!(rest.len(), 3, "the others are not left out with it");
    }

    #[test]
    fn the_mark_follows_the_text_and_the_key() {
        let directory = tempfile::tempdir().unwrap();
        let marked = |text: &str, key: u8| {
            let path = directory.path().join("a.yaml");
            std::fs::write(&path, text).unwrap();
            mark(&read(&path, &namespace(), &[key; 32]).unwrap()[0].object).unwrap().clone()
        };
        assert_eq!(marked(&text("a"), 1), marked(&text("a"), 1));
        assert_ne!(marked(&text("a"), 1), marked(&text("b"), 1));
        assert_ne!(marked(&text("a"), 1), marked(&text("a"), 2));
    }

    #[tokio::test]
    async fn a_mark_of_an_earlier_version_is_known_once_more_and_then_gone() {
        use crate::fleet::lifecycle::{Completion, InstallPolicy};
        let place = tempfile::tempdir().unwrap();
        let limit = std::time::Duration::from_secs(60);
        let policy = InstallPolicy { completion: Completion::BootComplete, timeout: limit, max_boots: 3 };
        let (store, writer) = Store::open(place.path(), policy).unwrap();
        let path = place.path().join("a.yaml");
        std::fs::write(
            &path,
            text("localboot") + "---\n" + &text("localboot").replace("vm", "other").replace("00:01", "00:02"),
        )
        .unwrap();
        let declared = read(&path, &namespace(), &[0; 32]).unwrap();
        for (one, plain) in declared.iter().zip([declared[0].plain.as_str(), "another text's"]) {
            let mut object = one.object.clone();
            object.meta_mut().annotations.insert(MARK.to_owned(), plain.to_owned());
            store.commit(Change::Put { object, expect: Expect::Any }).await.unwrap();
        }
        let now = |one: &Declared| mark(store.snapshot().get(&one.object.key()).unwrap()).cloned();
        renew_marks(&declared, false, &store).await;
        assert_eq!(now(&declared[0]).as_ref(), mark(&declared[0].object));
        assert_eq!(now(&declared[1]).as_deref(), Some("another text's"), "its file may be one that cannot be read");
        renew_marks(&declared, true, &store).await;
        assert_eq!(now(&declared[0]).as_ref(), mark(&declared[0].object));
        assert_eq!(now(&declared[1]), None);
        drop(store);
        writer.join().unwrap();
    }

    #[test]
    fn what_is_hidden_or_a_backup_is_no_manifest() {
        for (name, expected) in [
            ("a.yaml", true),
            ("a.yml", true),
            ("a.json", true),
            (".h.yaml", false),
            (".#a.yaml", false),
            ("a.yaml~", false),
            ("#a.yaml#", false),
            ("a.yaml.bak", false),
        ] {
            assert_eq!(is_manifest(&Path::new("/m").join(name)), expected, "{name}");
        }
    }

    #[test]
    fn what_is_declared_twice_is_told_with_both_places_and_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let mut declared = Vec::new();
        let other = text("localboot").replace("vm", "other");
        let files = [("a.yaml", format!("{other}---\n{}", text("i1"))), ("d.yaml", text(""))];
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            declared.extend(read(&path, &namespace(), &[0; 32]).unwrap());
        }
        let mut wrong = Vec::new();
        let once = declared_once(declared, &mut wrong);
        assert_eq!(once.iter().map(|one| one.object.meta().name.as_str()).collect::<Vec<_>>(), ["other"]);
        let [error] = &wrong[..] else { panic!("{wrong:?}") };
        let told = error.to_string();
        for part in ["a.yaml: line 6: BareMetalHost default/vm", "d.yaml line 1"] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(error.place(), "a.yaml: line 6");
    }
}
