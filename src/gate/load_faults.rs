//! What of the manifests and the configuration is not in force.

/// The faults of the last load, each in a line that names its place and no content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadFaults {
    /// Manifests that are not applied: the server is not ready.
    pub faults: Vec<String>,
    /// What of the configuration is not in force: the server goes on with the earlier one.
    pub notes: Vec<String>,
}
