//! Manifests of the command line: files, directories, standard input and kustomizations.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

use crate::admission::manifest::is_manifest;
use crate::fleet::{Kind, rules};
use crate::iso::file;
use crate::provision::yaml_error;

/// Maximum size in bytes of a file that a directory or a kustomization names.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Maximum depth of directories, against links that lead in a circle.
const MAX_DEPTH: usize = 32;
/// Names of the file that makes a directory a kustomization.
const KUSTOMIZATION: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Where the manifests of a command are.
#[derive(Debug, Clone, clap::Args)]
pub struct ManifestArgs {
    /// File or directory of manifests in YAML or JSON; - for standard input; can be repeated
    #[arg(short, long, value_name = "FILE|DIRECTORY|-")]
    pub filename: Vec<PathBuf>,
    /// Read directories with all directories in them
    #[arg(short = 'R', long, requires = "filename")]
    pub recursive: bool,
    /// Directory with a kustomization that lists only resources
    #[arg(short = 'k', long, value_name = "DIRECTORY", conflicts_with = "filename")]
    pub kustomize: Option<PathBuf>,
}

/// An object that a manifest declares.
#[derive(Debug)]
pub struct Manifest {
    /// The kind.
    pub kind: Kind,
    /// The object.
    pub object: Value,
    /// The file that declares it.
    pub path: PathBuf,
}

impl Manifest {
    /// Returns the name.
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Returns the namespace.
    pub fn namespace(&self) -> &str {
        self.given_namespace().unwrap_or("default")
    }

    /// Returns the namespace that the manifest names; none of a kind without namespaces.
    pub fn given_namespace(&self) -> Option<&str> {
        let given = self.object["metadata"]["namespace"].as_str().filter(|given| !given.is_empty());
        given.filter(|_| self.kind.is_namespaced())
    }
}

impl ManifestArgs {
    /// Returns whether manifests are named.
    pub fn is_given(&self) -> bool {
        !self.filename.is_empty() || self.kustomize.is_some()
    }

    /// Reads the objects of the manifests, ordered by their references.
    ///
    /// # Errors
    /// A file cannot be read or is invalid, or there is no object.
    pub fn read(&self) -> anyhow::Result<Vec<Manifest>> {
        let mut texts = Vec::new();
        for file in &self.filename {
            read(file, self.recursive, &mut texts)?;
        }
        if let Some(directory) = &self.kustomize {
            read_kustomization(directory, &mut HashSet::new(), &mut texts)?;
        }
        let mut manifests = Vec::new();
        for (path, text) in texts {
            parse(&path, &text, &mut manifests)?;
        }
        if manifests.is_empty() {
            let paths: Vec<_> =
                self.filename.iter().chain(&self.kustomize).map(|file| file.display().to_string()).collect();
            let hint = if self.recursive { "" } else { "; -R reads directories in directories" };
            bail!("{}: no objects (files end in .yaml, .yml or .json{hint})", paths.join(", "));
        }
        check_duplicates(&manifests)?;
        Ok(in_dependency_order(manifests))
    }
}

/// Parses the objects of a file.
fn parse(path: &Path, text: &str, manifests: &mut Vec<Manifest>) -> anyhow::Result<()> {
    let documents = serde_saphyr::from_multiple::<Value>(text);
    let documents = documents.map_err(|error| anyhow!("{}: {}", path.display(), yaml_error(&error)))?;
    let objects = documents.into_iter().filter(|document| !document.is_null());
    for object in objects.flat_map(unwrap_list) {
        let kind_name = object["kind"].as_str().unwrap_or_default().to_owned();
        let found = Kind::ALL.into_iter().find(|kind| kind.as_str() == kind_name);
        let Some(kind) = found else {
            let known = Kind::ALL.map(|kind| kind.as_str()).join(", ");
            bail!("{}: kind: unknown kind {kind_name:?}; expected one of {known}", path.display())
        };
        if !object["metadata"]["name"].is_string() {
            bail!("{}: {kind}: metadata.name: missing", path.display());
        }
        manifests.push(Manifest { kind, object, path: path.to_owned() });
    }
    Ok(())
}

/// Returns the items of a list, or the object itself.
fn unwrap_list(mut object: Value) -> Vec<Value> {
    match object["kind"].as_str() {
        Some(kind) if kind.ends_with("List") => match object["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        },
        _ => vec![object],
    }
}

/// Reads a file, the manifests of a directory, or standard input.
fn read(file: &Path, recursive: bool, texts: &mut Vec<(PathBuf, String)>) -> anyhow::Result<()> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        texts.push((file.to_owned(), text));
        return Ok(());
    }
    match file.is_dir() {
        true => read_directory(file, recursive, MAX_DEPTH, texts),
        // What a person names may be a pipe, as `<(...)` of a shell is.
        false => {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            texts.push((file.to_owned(), text));
            Ok(())
        }
    }
}

/// Reads a file that no person named: a regular one of limited size.
fn read_file(path: &Path, texts: &mut Vec<(PathBuf, String)>) -> anyhow::Result<()> {
    texts.push((path.to_owned(), text_of(path)?));
    Ok(())
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    let bytes = file::read(path, MAX_FILE_BYTES).with_context(|| path.display().to_string())?;
    String::from_utf8(bytes).with_context(|| path.display().to_string())
}

fn read_directory(
    directory: &Path,
    recursive: bool,
    depth: usize,
    texts: &mut Vec<(PathBuf, String)>,
) -> anyhow::Result<()> {
    if depth == 0 {
        bail!("{}: more than {MAX_DEPTH} directories deep", directory.display());
    }
    let entries = std::fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    for path in paths {
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.is_dir() {
            if recursive && !is_hidden {
                read_directory(&path, recursive, depth - 1, texts)?;
            }
        } else if is_manifest(&path) && !(recursive && is_kustomization(&path)) {
            read_file(&path, texts)?;
        }
    }
    Ok(())
}

fn is_kustomization(path: &Path) -> bool {
    KUSTOMIZATION.iter().any(|name| path.ends_with(name))
}

/// Reads the resources of a kustomization. Whatever changes resources is refused: applied without it they would be other
/// objects.
fn read_kustomization(
    directory: &Path,
    visited: &mut HashSet<PathBuf>,
    texts: &mut Vec<(PathBuf, String)>,
) -> anyhow::Result<()> {
    let advice = format!("use `kustomize build {} | bootlatch apply -f -`", directory.display());
    let file = KUSTOMIZATION.iter().map(|name| directory.join(name)).find(|path| path.is_file());
    let Some(file) = file else { bail!("{}: no {}", directory.display(), KUSTOMIZATION.join(", ")) };
    let place = directory.canonicalize().with_context(|| directory.display().to_string())?;
    if !visited.insert(place.clone()) {
        return Ok(());
    }
    check_below(&place, &file)?;
    let text = text_of(&file)?;
    let content = serde_saphyr::from_str::<Value>(&text);
    let content = content.map_err(|error| anyhow!("{}: {}", file.display(), yaml_error(&error)))?;
    let resources = resources(&content).map_err(|wrong| anyhow!("{}: {wrong}; {advice}", file.display()))?;
    for resource in resources {
        if Path::new(&resource).is_absolute() {
            bail!("{}: resources: {resource}: an absolute path; expected one from the directory", file.display());
        }
        let path = directory.join(&resource);
        if path.is_dir() {
            read_kustomization(&path, visited, texts)?;
        } else if path.exists() {
            check_below(&place, &path).with_context(|| format!("{}: resources", file.display()))?;
            read_file(&path, texts)?;
        } else {
            bail!("{}: resources: {resource}: no such file or directory; of a URL: {advice}", file.display());
        }
    }
    Ok(())
}

/// Checks that a file, with links followed, is below the directory of its kustomization, as kustomize does.
fn check_below(directory: &Path, path: &Path) -> anyhow::Result<()> {
    let place = path.canonicalize().with_context(|| path.display().to_string())?;
    match place.starts_with(directory) {
        true => Ok(()),
        false => bail!("{}: not below the directory of the kustomization", path.display()),
    }
}

/// Returns the resources of a kustomization that lists nothing else.
fn resources(content: &Value) -> Result<Vec<String>, String> {
    let Some(map) = content.as_object() else { return Err("expected a mapping".to_owned()) };
    if let Some(other) = map.keys().find(|key| !["apiVersion", "kind", "resources"].contains(&key.as_str())) {
        return Err(format!("{other}: not supported"));
    }
    let list = match map.get("resources") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(list) => list.as_array().ok_or("resources: expected a list")?,
    };
    let text = |item: &Value| item.as_str().map(str::to_owned).ok_or_else(|| "resources: expected texts".to_owned());
    list.iter().map(text).collect()
}

/// Orders manifests by their references, as the server does. Manifests with a cycle keep their order: the server refuses
/// them.
fn in_dependency_order(manifests: Vec<Manifest>) -> Vec<Manifest> {
    let objects: Vec<_> = manifests.iter().map(references).collect();
    let ranks = rules::rank_objects(&objects).unwrap_or_else(|_| vec![(0, 0); manifests.len()]);
    let mut ranked: Vec<_> = ranks.into_iter().zip(manifests).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, manifest)| manifest).collect()
}

/// Returns the references of a manifest.
fn references(manifest: &Manifest) -> rules::ObjectReferences<'_> {
    let companions = manifest.object["spec"]["companions"].as_array().into_iter().flatten();
    (manifest.kind, manifest.name(), companions.filter_map(Value::as_str).collect())
}

/// Refuses an object that is declared twice, as the server does: one declaration would undo the other.
fn check_duplicates(manifests: &[Manifest]) -> anyhow::Result<()> {
    let mut places = HashMap::new();
    for manifest in manifests {
        let namespace = if manifest.kind.is_namespaced() { manifest.namespace() } else { "" };
        if let Some(first) = places.insert((manifest.kind, namespace, manifest.name()), &manifest.path) {
            let (kind, name) = (manifest.kind, manifest.name());
            bail!("{}: {kind} {name}: already declared in {}", manifest.path.display(), first.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str =
        "apiVersion: v1\nkind: BootConfig\nmetadata: {name: NAME}\nspec: {format: script, data: {script: x}}\n";

    fn names(args: &ManifestArgs) -> Result<Vec<String>, String> {
        let names = |manifests: Vec<Manifest>| manifests.iter().map(|manifest| manifest.name().to_owned()).collect();
        args.read().map(names).map_err(|error| format!("{error:#}"))
    }

    fn write(directory: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap();
            std::fs::write(&path, if text.is_empty() { CONFIG.replace("NAME", name) } else { (*text).to_owned() })
                .unwrap();
        }
    }

    #[test]
    fn directories_in_directories_are_read_only_when_asked() {
        let place = tempfile::tempdir().unwrap();
        write(
            place.path(),
            &[("a.yaml", ""), ("b/c.yml", ""), ("b/d/e.json", ""), (".git/x.yaml", ""), ("b/note.txt", "?")],
        );
        let of = |recursive| ManifestArgs { filename: vec![place.path().to_owned()], recursive, kustomize: None };
        assert_eq!(names(&of(false)).unwrap(), ["a"]);
        assert_eq!(names(&of(true)).unwrap(), ["a", "c", "e"]);
    }

    #[test]
    fn a_kustomization_may_list_resources_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let of = |directory: &str| {
            names(&ManifestArgs {
                filename: Vec::new(),
                recursive: false,
                kustomize: Some(place.path().join(directory)),
            })
        };
        write(
            place.path(),
            &[
                ("base/kustomization.yaml", "resources: [one.yaml, ../more]\n"),
                ("base/one.yaml", ""),
                ("more/Kustomization", "kind: Kustomization\nresources: [two.yaml, ../base]\n"),
                ("more/two.yaml", ""),
                ("changed/kustomization.yml", "resources: [../base]\nnamePrefix: x-\n"),
                ("away/kustomization.yml", "resources: ['https://example.org/x']\n"),
                ("none/one.yaml", ""),
            ],
        );
        assert_eq!(of("base").unwrap(), ["one", "two"]);
        for (directory, parts) in [
            ("changed", ["namePrefix: not supported", "kustomize build"]),
            ("away", ["https://example.org/x", "kustomize build"]),
            ("none", ["none: no kustomization.yaml", ""]),
        ] {
            let error = of(directory).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{directory}: {error}");
        }
    }
}
