//! Butane configs, and their compilation to Ignition configs. Pure: local files come from a [`LocalFiles`].
//!
//! A Butane config is the Ignition config of a version with other spelling (`http_headers` for `httpHeaders`), and with
//! shorthands: contents that are written in place or come from local files, trees of them, mount units, mirrored and
//! encrypted boot disks, and users of GRUB.

mod boot_device;
mod contents;
mod grub;
mod lines;
mod merge;
mod mounts;
mod translate;
mod trees;

use serde_json::{Map, Value, json};

use super::{ignition, yaml_error};

pub use lines::line_of;

/// Number of a variant's minor version.
type Minor = u8;

/// The variants and versions, for messages.
const VERSIONS: &str = "fcos 1.0.0 to 1.6.0, flatcar 1.0.0 or 1.1.0, r4e 1.0.0 or 1.1.0, openshift 4.8.0 to 4.20.0";

/// The local files that a config may name, relative to a directory.
pub trait LocalFiles {
    /// Returns the content of a file.
    ///
    /// # Errors
    /// The reason that it cannot be read.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;

    /// Returns the files and links below a directory, sorted by path.
    ///
    /// # Errors
    /// The reason that it cannot be read.
    fn tree(&self, path: &str) -> Result<Vec<TreeEntry>, String>;
}

/// A file or link below a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Path below the directory, with `/` between its parts.
    pub path: String,
    /// What it is.
    pub node: TreeNode,
}

/// What an entry of a tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeNode {
    /// A file.
    File {
        /// Its content.
        content: Vec<u8>,
        /// Whether anybody may execute it.
        is_executable: bool,
    },
    /// A symbolic link.
    Link {
        /// Its target.
        target: String,
    },
}

/// An Ignition config that was compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// The config.
    pub config: Value,
    /// What has no effect, or not the one that it seems to have.
    pub warnings: Vec<String>,
}

/// The operating system that a config is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    FedoraCoreOs,
    Flatcar,
    RhelForEdge,
    OpenShift,
}

/// A variant with its version, and the version of the Ignition config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    variant: Variant,
    minor: Minor,
    ignition: Minor,
}

/// The state of a compilation.
struct Compiler<'a> {
    target: Target,
    files: Option<&'a dyn LocalFiles>,
    errors: Vec<String>,
    warnings: Vec<String>,
}

/// Returns whether a text is a Butane config: YAML with a variant.
pub fn is_butane(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("variant:"))
}

/// Compiles a Butane config. Without `files`, local files are refused.
///
/// # Errors
/// Returns all that is wrong in the config, or in the Ignition config that it becomes.
pub fn compile(text: &str, files: Option<&dyn LocalFiles>) -> Result<Compiled, Vec<String>> {
    // `mode: 0644` is octal in Butane.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let parsed = serde_saphyr::from_str_with_options::<Value>(text, options);
    let parsed = parsed.map_err(|error| vec![format!("invalid YAML: {}", yaml_error(&error))])?;
    let Value::Object(source) = parsed else { return Err(vec!["line 1: expected a mapping of keys to values".into()]) };
    let target = target(&source).map_err(|error| vec![error])?;
    let mut compiler = Compiler { target, files, errors: Vec::new(), warnings: Vec::new() };
    let config = compiler.config(&source);
    let Compiler { mut errors, mut warnings, .. } = compiler;
    // The places are those of a text that nobody wrote.
    let without_place = |text: String| text.rsplit_once(" at line ").map_or(text.clone(), |(text, _)| text.to_owned());
    match ignition::check(&config.to_string()) {
        Ok(found) => warnings.extend(found.into_iter().map(without_place)),
        Err(found) => errors.extend(found.into_iter().map(|error| format!("as Ignition: {}", without_place(error)))),
    }
    if errors.is_empty() { Ok(Compiled { config, warnings }) } else { Err(errors) }
}

/// Returns the variant and the version of a config.
fn target(source: &Map<String, Value>) -> Result<Target, String> {
    let text = |key: &str| source.get(key).and_then(Value::as_str).unwrap_or_default();
    let (variant, version) = (text("variant"), text("version"));
    let unknown = || format!("variant {variant:?}, version {version:?}: expected {VERSIONS}");
    let mut numbers = version.split('.').map(|number| number.parse::<Minor>().ok());
    let (Some(Some(major)), Some(Some(minor)), Some(Some(0)), None) =
        (numbers.next(), numbers.next(), numbers.next(), numbers.next())
    else {
        return Err(unknown());
    };
    let (variant, ignition) = match (variant, major, minor) {
        ("fcos", 1, 0..=2) => (Variant::FedoraCoreOs, minor),
        ("fcos", 1, 3..=6) => (Variant::FedoraCoreOs, minor - 1),
        ("flatcar", 1, 0..=1) => (Variant::Flatcar, minor + 3),
        ("r4e", 1, 0..=1) => (Variant::RhelForEdge, minor + 3),
        ("openshift", 4, 8..=13) => (Variant::OpenShift, 2),
        ("openshift", 4, 14..=18) => (Variant::OpenShift, 4),
        ("openshift", 4, 19..=20) => (Variant::OpenShift, 5),
        _ => return Err(unknown()),
    };
    Ok(Target { variant, minor, ignition })
}

impl Compiler<'_> {
    fn config(&mut self, source: &Map<String, Value>) -> Value {
        self.refuse_unsupported(source);
        let mut own = source.clone();
        let shorthands = ["variant", "version", "boot_device", "grub", "metadata", "openshift"];
        let [_, _, boot_device, grub, _, openshift] = shorthands.map(|key| own.shift_remove(key));
        let mut config = self.translated(&own);
        config["ignition"]["version"] = format!("3.{}.0", self.target.ignition).into();
        self.add_trees(source, &mut config);
        let mounts = self.mount_units(source);
        config = merge::merge(&mounts, &config);
        if let Some(boot_device) = boot_device.filter(|_| self.has_boot_device()) {
            let rendered = self.boot_device(&boot_device);
            config = merge::merge(&rendered, &config);
        }
        if let Some(grub) = grub.filter(|_| self.has_grub()) {
            let rendered = self.grub(&grub);
            config = merge::merge(&rendered, &config);
        }
        if openshift.is_some() {
            self.warnings.push("openshift: left out, since it is no part of an Ignition config".to_owned());
        }
        pruned(config)
    }

    fn error(&mut self, path: &str, message: impl std::fmt::Display) {
        self.errors.push(format!("{path}: {message}"));
    }

    fn has_boot_device(&self) -> bool {
        match self.target.variant {
            Variant::FedoraCoreOs => self.target.minor >= 3,
            Variant::OpenShift => true,
            Variant::Flatcar | Variant::RhelForEdge => false,
        }
    }

    fn has_grub(&self) -> bool {
        match self.target.variant {
            Variant::FedoraCoreOs => self.target.minor >= 5,
            Variant::OpenShift => self.target.minor >= 14,
            Variant::Flatcar | Variant::RhelForEdge => false,
        }
    }

    /// Adds an error for each section that the operating system does not support.
    fn refuse_unsupported(&mut self, source: &Map<String, Value>) {
        let refused: &[(&str, &str)] = match self.target.variant {
            Variant::RhelForEdge => &[
                ("", "kernel_arguments"),
                ("storage", "disks"),
                ("storage", "raid"),
                ("storage", "filesystems"),
                ("storage", "luks"),
            ],
            Variant::OpenShift => &[("", "kernel_arguments")],
            Variant::FedoraCoreOs | Variant::Flatcar => &[],
        };
        for (section, key) in refused {
            let owner = if section.is_empty() { Some(source) } else { source.get(*section).and_then(Value::as_object) };
            if owner.is_some_and(|owner| owner.get(*key).is_some_and(|value| !value.is_null())) {
                let path = if section.is_empty() { (*key).to_owned() } else { format!("{section}.{key}") };
                self.error(&path, "not supported by this variant");
            }
        }
        let shorthands =
            [("boot_device", self.has_boot_device()), ("grub", self.has_grub()), ("openshift", self.is_openshift())];
        for (key, _) in shorthands.iter().filter(|(key, is_known)| source.contains_key(*key) && !is_known) {
            self.warnings.push(format!("{key}: unused key in this variant and version"));
        }
    }

    fn is_openshift(&self) -> bool {
        self.target.variant == Variant::OpenShift
    }
}

/// Returns a value without nulls, empty lists and empty objects, as Butane writes its output.
fn pruned(value: Value) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    match value {
        Value::Object(map) => {
            let entries = map.into_iter().map(|(key, value)| (key, pruned(value)));
            Value::Object(entries.filter(|(_, value)| !is_empty(value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(pruned).collect()),
        value => value,
    }
}

/// Returns the objects of the list at a path of keys.
fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Returns the text of a key; the empty string if it has none.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Returns an Ignition config with a storage section.
fn storage(section: Value) -> Value {
    json!({"storage": section})
}

#[cfg(test)]
mod tests;
