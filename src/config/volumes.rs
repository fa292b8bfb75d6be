use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::{Error, Proof};

/// Is what says that a config is in the state alone, and so no volume's name.
const BUILT_IN: &str = "bootlatch";
/// Bounds a volume's name.
const NAME: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawVolume {
    name: Spanned<String>,
    directory: Spanned<PathBuf>,
}

impl Proof<'_> {
    pub(super) fn volumes(&self, raw: &[RawVolume]) -> Result<Vec<(String, PathBuf)>, Error> {
        let mut volumes: Vec<(String, PathBuf)> = Vec::new();
        for volume in raw {
            let (name, directory) = (volume.name.get_ref(), volume.directory.get_ref());
            let wrong = |message: &str| self.error("volumes.name", Some(volume.name.span()), message);
            if !is_storage(name) {
                return Err(wrong("a storage's name has letters, digits, '-', '_' and '.', and begins with a letter"));
            }
            if name == BUILT_IN {
                return Err(wrong("bootlatch is the name of the built-in store: name the volume otherwise"));
            }
            if volumes.iter().any(|(known, _)| known == name) {
                return Err(wrong("the name is there twice"));
            }
            if !directory.is_absolute() {
                let message = "a volume's directory is given from the root: /...";
                return Err(self.error("volumes.directory", Some(volume.directory.span()), message));
            }
            volumes.push((name.clone(), directory.clone()));
        }
        Ok(volumes)
    }
}

/// Says whether Proxmox could name a storage so.
fn is_storage(name: &str) -> bool {
    name.len() <= NAME
        && name.starts_with(|sign: char| sign.is_ascii_alphabetic())
        && name.ends_with(|sign: char| sign.is_ascii_alphanumeric())
        && name.chars().all(|sign| sign.is_ascii_alphanumeric() || "-_.".contains(sign))
}
