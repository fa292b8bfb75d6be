//! Manifests: objects declared in files, loaded at start and on SIGHUP.
//!
//! A manifest speaks when it changes: what was written to the store is marked with the digest of the
//! text that it came from, and a text that was written already is left alone. So a restart does not
//! undo what the API did since, and does not install a machine again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::admit::{self, Places};
use crate::fleet::{
    BootConfig, BootConfigSpec, Host, HostSpec, Image, ImageSpec, Kind, Meta, Name, Object, without_value,
};
use crate::store::{self, Change, Expect, Store};

/// Marks an object with the digest of the manifest that it was last written from.
const MARK: &str = "bootlatch.org/manifest";
/// Bounds one file of manifests.
const LARGEST_FILE: u64 = 64 << 20;

/// Says which manifest is wrong, where, and why. Nothing of its file was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: line {line}: {message}", path.display())]
    Wrong { path: PathBuf, line: usize, message: String },
    #[error("{}: line {line}: {source}", path.display())]
    Refused { path: PathBuf, line: usize, source: store::Error },
}

/// Is one document of a file.
#[derive(Debug)]
struct Declared {
    path: PathBuf,
    line: usize,
    object: Object,
}

impl Declared {
    fn image(&self) -> Option<&Image> {
        match &self.object {
            Object::Image(image) => Some(image),
            Object::Host(_) | Object::BootConfig(_) => None,
        }
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

/// Loads all manifests of a directory. All files are read before anything is written.
///
/// # Errors
/// The first manifest that is wrong, with its file and line.
pub async fn load(directory: &Path, namespace: &Name, places: &Places, store: &Arc<Store>) -> Result<usize, Error> {
    let mut declared = Vec::new();
    for path in files(directory)? {
        declared.extend(read(&path, namespace)?);
    }
    let mut written = 0;
    for Declared { path, line, object } in ordered(declared)? {
        let before = store.snapshot().get(&object.key()).cloned();
        let mark = |object: &Object| object.meta().annotations.get(MARK).cloned();
        if before.as_ref().is_some_and(|before| mark(before) == mark(&object)) {
            continue;
        }
        let prepared = admit::prepare(object, before.as_ref(), places);
        let prepared =
            prepared.map_err(|error| Error::Wrong { path: path.clone(), line, message: error.to_string() })?;
        let change = Change::Put { object: prepared, expect: Expect::Any };
        store.commit(change).await.map_err(|source| Error::Refused { path, line, source })?;
        written += 1;
    }
    Ok(written)
}

/// Puts what is referred to first: configs, then images, each behind those beside it, then hosts.
fn ordered(mut declared: Vec<Declared>) -> Result<Vec<Declared>, Error> {
    let images = || declared.iter().filter_map(Declared::image);
    // Counts what must come before each, step by step: without circles, that ends after as many as there are images.
    let mut depths: HashMap<Name, usize> = images().map(|image| (image.metadata.name.clone(), 0)).collect();
    for round in 0.. {
        let mut moved = None;
        for image in images() {
            let behind = image.spec.companions.iter().filter_map(|name| depths.get(name)).max();
            let depth = behind.map_or(0, |depth| depth + 1);
            if depths.get(&image.metadata.name).is_some_and(|known| *known < depth) {
                depths.insert(image.metadata.name.clone(), depth);
                moved = Some(&image.metadata.name);
            }
        }
        let Some(name) = moved else { break };
        if round > depths.len() {
            let message = format!("spec.companions: those beside {name} lead round in a circle");
            let is_it = |one: &&Declared| one.image().is_some_and(|image| image.metadata.name == *name);
            let place = declared.iter().find(is_it).map(|one| (one.path.clone(), one.line));
            let (path, line) = place.unwrap_or_default();
            return Err(Error::Wrong { path, line, message });
        }
    }
    declared.sort_by_key(|one| match &one.object {
        Object::BootConfig(_) => (0, 0),
        Object::Image(image) => (1, depths.get(&image.metadata.name).copied().unwrap_or_default()),
        Object::Host(_) => (2, 0),
    });
    Ok(declared)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let wrong = |source| Error::Read { path: directory.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml" || ending == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path, namespace: &Name) -> Result<Vec<Declared>, Error> {
    let wrong = |source| Error::Read { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(wrong)?.len();
    if size > LARGEST_FILE {
        return Err(Error::Wrong {
            path: path.to_owned(),
            line: 1,
            message: format!("{size} bytes are more than a manifest may have"),
        });
    }
    let text = std::fs::read_to_string(path).map_err(wrong)?;
    let mut declared = Vec::new();
    for (line, document) in documents(&text) {
        let object = parse(&document, namespace).map_err(|message| {
            let line = line_of(&message).unwrap_or(line);
            Error::Wrong { path: path.to_owned(), line, message }
        })?;
        declared.push(Declared { path: path.to_owned(), line, object });
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
    let mut object = match kind {
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
    };
    let digest = Sha256::digest(document.trim().as_bytes());
    let mark: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    object.meta_mut().annotations.insert(MARK.to_owned(), mark);
    Ok(object)
}

fn yaml<'a, T: Deserialize<'a>>(document: &'a str) -> Result<T, String> {
    // What is wrong goes to the log: neither the parser's snippet nor the value that it found does.
    serde_saphyr::from_str(document).map_err(|error| without_value(&error.without_snippet().to_string()))
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
        read(&path, &namespace()).unwrap_err().to_string()
    }

    #[test]
    fn a_stream_is_read_as_people_write_it() {
        let text = "# hosts\n---\napiVersion: v1\nkind: BootConfig\nmetadata: {name: c}\nspec:\n  format: script\n  data:\n    script: |\n      a\n      --- b\n---\napiVersion: v1\nkind: BareMetalHost\nmetadata: {name: vm}\nspec: {bootMACAddress: \"52-54-00-00-00-01\", image: \"\"}\n";
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.yaml"), text).unwrap();
        let declared = read(&directory.path().join("a.yaml"), &namespace()).unwrap();
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

    #[test]
    fn what_is_referred_to_comes_first_however_it_was_written() {
        let object = |text: &str| {
            let text = format!("apiVersion: v1\nkind: {text}");
            Declared { path: "a.yaml".into(), line: 1, object: parse(&text, &namespace()).unwrap() }
        };
        let image = |name: &str, companions: &str| {
            let spec = format!("{{isoFile: a.iso, companions: [{companions}]}}");
            object(&format!("ISCSICdrom\nmetadata: {{name: {name}}}\nspec: {spec}\n"))
        };
        let host = || object("BareMetalHost\nmetadata: {name: h}\nspec: {bootMACAddress: \"52:54:00:00:00:01\"}\n");
        let config = || object("BootConfig\nmetadata: {name: c}\nspec: {format: script, data: {script: a}}\n");
        let all = vec![host(), image("a", "c, b"), image("b", "d"), image("c", "elsewhere"), image("d", ""), config()];
        let ordered_all = ordered(all).unwrap();
        let names: Vec<_> = ordered_all.iter().map(|one| one.object.meta().name.as_str()).collect();
        assert_eq!(names, ["c", "c", "d", "b", "a", "h"]);
        let round = ordered(vec![host(), image("a", "b"), image("b", "c"), image("c", "a")]).unwrap_err();
        assert!(round.to_string().contains("spec.companions") && round.to_string().contains("circle"), "{round}");
    }

    #[test]
    fn the_mark_follows_the_text() {
        let text = |image: &str| {
            format!(
                "apiVersion: v1\nkind: BareMetalHost\nmetadata: {{name: vm}}\nspec: {{bootMACAddress: \"52:54:00:00:00:01\", image: \"{image}\"}}\n"
            )
        };
        let mark = |text: &str| parse(text, &namespace()).unwrap().meta().annotations[MARK].clone();
        assert_eq!(mark(&text("a")), mark(&text("a")));
        assert_ne!(mark(&text("a")), mark(&text("b")));
    }
}
