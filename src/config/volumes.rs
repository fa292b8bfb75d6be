//! Storages that generated configs are written to.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::fleet::Volume;

use super::{ConfigError, Validator};

/// Maximum length of a volume's name, in characters.
const MAX_NAME_LENGTH: usize = 64;

/// `[[volumes]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVolume {
    name: Spanned<String>,
    directory: Spanned<PathBuf>,
}

impl Validator<'_> {
    pub(super) fn volumes(&self, raw: &[RawVolume]) -> Result<Vec<Volume>, ConfigError> {
        let mut volumes: Vec<Volume> = Vec::new();
        for volume in raw {
            let (name, directory) = (volume.name.get_ref(), volume.directory.get_ref());
            let wrong = |message: &str| self.error("volumes.name", Some(volume.name.span()), message);
            if !is_storage(name) {
                return Err(wrong(
                    "a storage name has letters, digits, '-', '_' and '.', begins with a letter, and has at most 64 characters",
                ));
            }
            if name == Volume::BUILT_IN {
                return Err(wrong("`bootlatch` is the name of the built-in store: choose another"));
            }
            if volumes.iter().any(|known| known.name == *name) {
                return Err(wrong("the name is used twice"));
            }
            if !directory.is_absolute() {
                let message = "the directory of a volume must be an absolute path";
                return Err(self.error("volumes.directory", Some(volume.directory.span()), message));
            }
            volumes.push(Volume { name: name.clone(), directory: directory.clone() });
        }
        Ok(volumes)
    }
}

/// Returns whether Proxmox accepts the name for a storage.
fn is_storage(name: &str) -> bool {
    name.len() <= MAX_NAME_LENGTH
        && name.starts_with(|sign: char| sign.is_ascii_alphabetic())
        && name.ends_with(|sign: char| sign.is_ascii_alphanumeric())
        && name.chars().all(|sign| sign.is_ascii_alphanumeric() || "-_.".contains(sign))
}
