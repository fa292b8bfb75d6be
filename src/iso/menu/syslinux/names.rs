//! The names of files in configurations: the paths that they may mean, and the configurations that they lead to.

use std::collections::HashMap;

use super::config::{MAX_NAME_LENGTH, Reference, SyslinuxConfig};
use crate::iso::menu::entry::{directory, normal_path};

/// Maximum number of directories in which the names of a configuration are looked up.
const MAX_DIRECTORIES: usize = 8;

/// The configurations of an image by their names.
#[derive(Debug)]
pub struct ConfigNames {
    /// Numbers of the configurations by their paths in lower case.
    paths: HashMap<String, usize>,
    /// Directories in which the names of each configuration are looked up.
    directories: Vec<Vec<String>>,
    /// Configurations that the references of each one lead to.
    targets: Vec<Vec<Option<usize>>>,
}

/// A reference while the directories are being found.
#[derive(Debug)]
struct PendingReference {
    /// Name with slashes.
    name: String,
    /// Directory of the names in the configuration that it leads to.
    directory: Option<String>,
    /// Configuration in one of the directories.
    found: Option<usize>,
    /// Configuration in the root directory, or at the absolute path.
    at_root: Option<usize>,
    /// Number of directories in which it was looked up.
    tried: usize,
}

impl ConfigNames {
    /// Connects the configurations that refer to each other. `paths` are theirs.
    pub fn read(paths: &[&str], configs: &[SyslinuxConfig<'_>]) -> Self {
        let own = |path: &&str| vec![directory(path).to_owned()];
        let mut names = Self {
            paths: HashMap::new(),
            directories: paths.iter().map(own).collect(),
            targets: configs.iter().map(|config| vec![None; config.references.len()]).collect(),
        };
        for directories in &mut names.directories {
            directories.retain(|directory| directory.len() <= MAX_NAME_LENGTH);
        }
        for (number, path) in paths.iter().enumerate() {
            names.paths.entry(path.to_ascii_lowercase()).or_insert(number);
        }
        let pending = |config: &SyslinuxConfig<'_>| config.references.iter().map(|one| names.pending(one)).collect();
        let mut pending: Vec<Vec<PendingReference>> = configs.iter().map(pending).collect();
        // Includes of includes: the directories spread along them.
        for _ in 0..=MAX_DIRECTORIES {
            if !names.spread_directories(&mut pending) {
                break;
            }
        }
        names
    }

    fn pending(&self, reference: &Reference<'_>) -> PendingReference {
        let name = with_slashes(reference.file);
        let at_root = self.number(&normal_path(&name));
        let directory = reference.directory.map(normal_path);
        PendingReference { name, directory, found: None, at_root, tried: 0 }
    }

    /// Passes directories to the configurations that others refer to. Returns whether anything changed.
    fn spread_directories(&mut self, pending: &mut [Vec<PendingReference>]) -> bool {
        let mut changed = false;
        for (from, references) in pending.iter_mut().enumerate() {
            for (number, reference) in references.iter_mut().enumerate() {
                let target = self.target(from, reference);
                self.targets[from][number] = target;
                let Some(to) = target else { continue };
                let directories = match &reference.directory {
                    Some(directory) => vec![directory.clone()],
                    None if to == from || self.directories[to].len() >= MAX_DIRECTORIES => continue,
                    None => self.directories[from].clone(),
                };
                for directory in directories {
                    let known = &mut self.directories[to];
                    if known.len() < MAX_DIRECTORIES && !known.contains(&directory) {
                        known.push(directory);
                        changed = true;
                    }
                }
            }
        }
        changed
    }

    /// Returns the configuration that a reference leads to. A name is looked up in each directory once.
    fn target(&self, from: usize, reference: &mut PendingReference) -> Option<usize> {
        if reference.found.is_none() && !reference.name.starts_with('/') {
            let untried = self.directories[from].iter().skip(reference.tried);
            let mut paths = untried.map(|directory| normal_path(&format!("{directory}/{}", reference.name)));
            reference.found = paths.find_map(|path| self.number(&path));
            reference.tried = self.directories[from].len();
        }
        reference.found.or(reference.at_root)
    }

    fn number(&self, path: &str) -> Option<usize> {
        self.paths.get(&path.to_ascii_lowercase()).copied()
    }

    /// Returns the configurations that the references of each one lead to.
    pub fn targets(&self) -> &[Vec<Option<usize>>] {
        &self.targets
    }

    /// Returns the paths that a name in a configuration may mean, the likeliest first.
    pub fn candidates(&self, config: usize, name: &str) -> impl Iterator<Item = String> {
        let name = with_slashes(name);
        let is_relative = !name.starts_with('/') && name.len() <= MAX_NAME_LENGTH;
        let directories = self.directories.get(config).into_iter().flatten().map(String::as_str);
        let directories = directories.filter(move |directory| is_relative && !directory.is_empty()).chain([""]);
        directories.map(move |directory| normal_path(&format!("{directory}/{name}")))
    }
}

/// Returns a name with slashes, without the mark of the root directory.
fn with_slashes(name: &str) -> String {
    let name = name.replace('\\', "/");
    name.strip_prefix("::").map(str::to_owned).unwrap_or(name)
}
