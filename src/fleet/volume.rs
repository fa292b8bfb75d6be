use std::path::PathBuf;

/// Is a storage that others know by its name, as Proxmox does, and the directory of its snippets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub name: String,
    pub directory: PathBuf,
}

impl Volume {
    /// Is no volume's name: it says that a config is in the state alone.
    pub const BUILT_IN: &str = "bootlatch";

    /// Names a file as Proxmox does.
    pub fn reference(&self, file: &str) -> String {
        format!("{}:snippets/{file}", self.name)
    }
}
