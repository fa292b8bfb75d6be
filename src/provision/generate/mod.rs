//! Generates configs from a few words: Ignition for the machines of a cluster, cloud-init's files for one machine.
//! What is said of a wrong body names its field, and never repeats a key or a pull secret.

mod body;
mod certificate;
mod cloudinit;
mod ignition;
mod network;
mod platform;
mod pull_secret;
mod ssh_key;
mod template;

pub use cloudinit::cloudinit;
pub use ignition::ignition;
pub use platform::Platform;
pub use template::Template;

use crate::fleet::{BootConfigSpec, Name};

/// Is what a body comes to.
#[derive(Debug)]
pub struct Generated {
    pub configs: Vec<NewConfig>,
    /// Names the volume that the files are wanted in; the site's first where none is named.
    pub volume: Option<String>,
    /// Says what the configs do not have, and somebody may expect.
    pub warnings: Vec<String>,
}

/// Is a config to be: an object, and what each of its files is called in the answer.
#[derive(Debug)]
pub struct NewConfig {
    pub name: Name,
    pub spec: BootConfigSpec,
    /// Holds pairs of a file's name in the answer and its name in the config.
    pub files: Vec<(&'static str, &'static str)>,
}

/// Pairs the names that files have in a config with what ends their names where they are served and stored.
const ENDINGS: [(&str, &str); 4] = [
    ("config.ign", ".ign"),
    ("user-data", "-user.yaml"),
    ("meta-data", "-meta.yaml"),
    ("network-config", "-network.yaml"),
];

/// Names a config's file for volumes and URLs: no two files of any configs are named alike. None where it is no file
/// that is generated.
pub fn file_name(config: &Name, file: &str) -> Option<String> {
    let (_, ending) = ENDINGS.iter().find(|(known, _)| *known == file)?;
    Some(format!("{config}{ending}"))
}

/// Finds what `file_name` gave a name to: the config, and its file.
pub fn named(file_name: &str) -> Option<(Name, &'static str)> {
    ENDINGS.iter().find_map(|(file, ending)| Some((file_name.strip_suffix(ending)?.parse().ok()?, *file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_file() {
        for config in ["okd-prod-master", "a-user", "a.b", "a-user.yaml"] {
            let config: Name = config.parse().unwrap();
            for (file, _) in ENDINGS {
                assert_eq!(named(&file_name(&config, file).unwrap()), Some((config.clone(), file)));
            }
        }
        for none in ["", ".ign", "-user.yaml", "a.yaml", "../a.ign", "A.ign", "a/b.ign", ".a.ign.part", "a\0.ign"] {
            assert_eq!(named(none), None, "{none}");
        }
        assert_eq!(file_name(&"a".parse().unwrap(), "vendor-data"), None);
    }
}
