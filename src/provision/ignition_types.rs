//! The types of every version of Ignition configs, which the table of their differences is compared with.

use ignition_config::{v3_0, v3_1, v3_2, v3_3, v3_4, v3_5, v3_6};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ignition_v3::Minor;

/// Returns whether a config has the types of a version.
pub fn accepts(config: &Value, minor: Minor) -> bool {
    read(config, minor).is_ok()
}

/// Returns the paths of the keys that the types of a version do not have.
pub fn unused(config: &Value, minor: Minor) -> Vec<String> {
    read(config, minor).unwrap_or_else(|error| panic!("3.{minor}: {error}: {config}"))
}

fn read(config: &Value, minor: Minor) -> Result<Vec<String>, serde_json::Error> {
    match minor {
        0 => read_as::<v3_0::Config>(config),
        1 => read_as::<v3_1::Config>(config),
        2 => read_as::<v3_2::Config>(config),
        3 => read_as::<v3_3::Config>(config),
        4 => read_as::<v3_4::Config>(config),
        5 => read_as::<v3_5::Config>(config),
        _ => read_as::<v3_6::Config>(config),
    }
}

fn read_as<T: DeserializeOwned>(config: &Value) -> Result<Vec<String>, serde_json::Error> {
    let mut unused = Vec::new();
    let _: T = serde_ignored::deserialize(config, |path| unused.push(super::ignition::unused_path(&path)))?;
    Ok(unused)
}
