use std::path::PathBuf;

/// A named storage, as in Proxmox, with the directory of its snippets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The name.
    pub name: String,
    /// The directory of the snippets.
    pub directory: PathBuf,
}

impl Volume {
    /// The reserved name for configs that are in the state only.
    pub const BUILT_IN: &str = "bootlatch";

    /// Returns Proxmox's reference to a file.
    pub fn reference(&self, file: &str) -> String {
        format!("{}:snippets/{file}", self.name)
    }
}
