//! The rules that every write must pass, whatever route it came by.

use std::borrow::Cow;

use super::{BmcAddress, Boots, Host, Image, Key, Name};

mod image;

pub use image::{Beside, check_image};

/// Says which field breaks a rule, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// Is the field's path, as in `spec.bootConfigRef`.
    pub field: Cow<'static, str>,
    pub message: String,
}

fn invalid(field: &'static str, message: String) -> Result<(), Invalid> {
    Err(Invalid { field: field.into(), message })
}

/// Is what a host's references lead to, looked up by whoever holds the objects.
#[derive(Debug, Clone, Copy)]
pub struct References<'a> {
    /// Is the image that `spec.image` names, where there is one of that name.
    pub image: Option<&'a Image>,
    /// Says whether the config that `spec.bootConfigRef` names exists.
    pub config_exists: bool,
    /// Is the other host with the same MAC address.
    pub same_mac: Option<&'a Key>,
    /// Is the other host with the same IP address.
    pub same_ip: Option<&'a Key>,
}

/// Checks a host against the objects that it refers to and the hosts beside it.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_host(host: &Host, found: References<'_>) -> Result<(), Invalid> {
    let spec = &host.spec;
    if let Some(other) = found.same_mac {
        return invalid("spec.bootMACAddress", format!("{} is already that of {other}", spec.boot_mac_address));
    }
    if let (Some(other), Some(ip)) = (found.same_ip, spec.ip) {
        return invalid("spec.ip", format!("{ip} is already that of {other}"));
    }
    if let Some(Err(error)) = spec.bmc.as_ref().map(|bmc| bmc.address.parse::<BmcAddress>()) {
        return invalid("spec.bmc.address", error.to_string());
    }
    if let Some((field, wrong)) = spec.chap.as_ref().and_then(|chap| chap.check().err()) {
        return Err(Invalid { field: format!("spec.chap.{field}").into(), message: wrong.to_owned() });
    }
    match (&spec.image, found.image) {
        (Boots::LocalDisk | Boots::Menu, _) => {}
        (Boots::Image(name), None) => {
            return invalid("spec.image", format!("there is no ISCSICdrom {name}: add it first, or say localboot"));
        }
        (Boots::Image(_), Some(image)) => check_pairing(image, spec.boot_config_ref.as_ref())?,
    }
    match &spec.boot_config_ref {
        Some(name) if !found.config_exists => {
            invalid("spec.bootConfigRef", format!("there is no BootConfig {name}: add it first"))
        }
        _ => Ok(()),
    }
}

/// Says what of a host's spec has no effect on the image that it boots.
pub fn warnings(host: &Host, image: Option<&Image>) -> Vec<String> {
    let elsewhere = image.and_then(|image| Some((&image.metadata.name, image.spec.elsewhere()?)));
    match elsewhere {
        Some((name, place)) if !host.spec.kernel_arguments.is_empty() => {
            vec![format!("spec.kernelArguments do not reach the kernel of {name}: its ISO is not here but {place}")]
        }
        _ => Vec::new(),
    }
}

fn check_pairing(image: &Image, config: Option<&Name>) -> Result<(), Invalid> {
    let (name, listed) = (&image.metadata.name, &image.spec.boot_configs);
    match config {
        Some(config) if listed.is_empty() => invalid(
            "spec.bootConfigRef",
            format!("ISCSICdrom {name} takes no config: list {config} in its spec.bootConfigs first"),
        ),
        Some(config) if !listed.contains(config) => {
            let listed: Vec<_> = listed.iter().map(Name::as_str).collect();
            invalid(
                "spec.bootConfigRef",
                format!("ISCSICdrom {name} does not list {config}: it lists {}", listed.join(", ")),
            )
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, ImageSpec, ImageStatus, Kind, Mac, Meta};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn image(configs: &[&str]) -> Image {
        let boot_configs = configs.iter().map(|text| name(text)).collect();
        let spec = ImageSpec { boot_configs, ..ImageSpec::of_file("a.iso") };
        Image { metadata: Meta::named(name("live"), None), spec, status: ImageStatus::default() }
    }

    fn check(
        image_name: &str,
        config: Option<&str>,
        image: Option<&Image>,
        config_exists: bool,
    ) -> Option<Cow<'static, str>> {
        let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        spec.image = image_name.parse().unwrap();
        spec.boot_config_ref = config.map(name);
        let host = Host { metadata: Meta::named(name("h"), None), spec, status: HostStatus::default() };
        let found = References { image, config_exists, same_mac: None, same_ip: None };
        check_host(&host, found).err().map(|error| error.field)
    }

    #[test]
    fn a_host_refers_only_to_what_exists_and_fits() {
        let (bare, with) = (image(&[]), image(&["builder", "target"]));
        assert_eq!(check("live", None, None, false), Some("spec.image".into()));
        assert_eq!(check("live", None, Some(&bare), false), None);
        assert_eq!(check("live", Some("builder"), Some(&bare), true), Some("spec.bootConfigRef".into()));
        assert_eq!(check("live", Some("builder"), Some(&with), true), None);
        assert_eq!(check("live", Some("builder"), Some(&with), false), Some("spec.bootConfigRef".into()));
        assert_eq!(check("live", Some("other"), Some(&with), true), Some("spec.bootConfigRef".into()));
    }

    #[test]
    fn a_host_that_boots_its_disk_may_keep_a_config_that_exists() {
        assert_eq!(check("localboot", Some("target"), None, true), None);
        assert_eq!(check("", Some("target"), None, false), Some("spec.bootConfigRef".into()));
        assert_eq!(check("", None, None, false), None);
    }

    #[test]
    fn addresses_are_one_hosts_alone() {
        let host = Host {
            metadata: Meta::named(name("h"), None),
            spec: HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1])),
            status: HostStatus::default(),
        };
        let other = Key { kind: Kind::BareMetalHost, namespace: None, name: name("other") };
        let found = References { image: None, config_exists: false, same_mac: Some(&other), same_ip: None };
        let error = check_host(&host, found).unwrap_err();
        assert_eq!(error.to_string(), "spec.bootMACAddress: 02:00:00:00:00:01 is already that of BareMetalHost other");
    }
}
