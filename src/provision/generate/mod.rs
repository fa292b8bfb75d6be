//! Generation of configs from short requests: Ignition configs for the machines of a cluster, and cloud-init files
//! for one machine.
//!
//! Errors name the field of the request and never contain a key or a pull secret.

mod body;
mod certificate;
mod cloudinit;
mod ignition;
mod link;
mod network;
mod placeholders;
mod platform;
mod pull_secret;
mod ssh_key;
mod template;
mod user;

pub use cloudinit::{CloudInitRequest, cloudinit};
pub use ignition::{IgnitionRequest, ignition};
pub use platform::Platform;
pub use template::Template;

use crate::fleet::{BootConfigSpec, Name};

/// The result of a request.
#[derive(Debug)]
pub struct Generated {
    /// Generated configs.
    pub configs: Vec<NewConfig>,
    /// Volume for the files; `None` means the first volume of the configuration.
    pub volume: Option<String>,
    /// Sentences about missing parts of the configs that an operator may expect.
    pub warnings: Vec<String>,
}

/// A generated config: the object, and the names of its files in the reply.
#[derive(Debug)]
pub struct NewConfig {
    /// Name of the object.
    pub name: Name,
    /// Format and files.
    pub spec: BootConfigSpec,
    /// Name in the reply and name in the config, for each file.
    pub files: Vec<(&'static str, &'static str)>,
}

/// Names of files in a config, and the suffixes of their names in volumes and URLs.
const SUFFIXES: [(&str, &str); 4] = [
    ("config.ign", ".ign"),
    ("user-data", "-user.yaml"),
    ("meta-data", "-meta.yaml"),
    ("network-config", "-network.yaml"),
];

/// Returns the name of a config's file in volumes and URLs. It is unique over all configs. Returns `None` for a file
/// that is not generated.
pub fn file_name(config: &Name, file: &str) -> Option<String> {
    let (_, suffix) = SUFFIXES.iter().find(|(known, _)| *known == file)?;
    Some(format!("{config}{suffix}"))
}

/// Returns the config and the file of a name that [`file_name`] returned.
pub fn parse_file_name(file_name: &str) -> Option<(Name, &'static str)> {
    SUFFIXES.iter().find_map(|(file, suffix)| Some((file_name.strip_suffix(suffix)?.parse().ok()?, *file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_parses_back() {
        for config in ["okd-prod-master", "a-user", "a.b", "a-user.yaml"] {
            let config: Name = config.parse().unwrap();
            for (file, _) in SUFFIXES {
                assert_eq!(parse_file_name(&file_name(&config, file).unwrap()), Some((config.clone(), file)));
            }
        }
        for none in ["", ".ign", "-user.yaml", "a.yaml", "../a.ign", "A.ign", "a/b.ign", ".a.ign.part", "a\0.ign"] {
            assert_eq!(parse_file_name(none), None, "{none}");
        }
        assert_eq!(file_name(&"a".parse().unwrap(), "vendor-data"), None);
    }
}
