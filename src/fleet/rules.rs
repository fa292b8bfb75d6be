//! The rules that every write must pass, whatever route it came by.

use std::borrow::Cow;

use super::{BmcAddress, Boots, Host, Image, ImageSpec, Key, Method, Name};

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

/// Checks an image's own fields; that its file is an ISO is found out where files can be read.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_image(spec: &ImageSpec, missing_config: Option<&Name>) -> Result<(), Invalid> {
    if let Some(error) = check_words(spec) {
        return Err(error);
    }
    if spec.method == Method::Chain {
        let known = spec
            .url
            .as_deref()
            .is_some_and(|url| ["http://", "https://", "tftp://"].iter().any(|scheme| url.starts_with(scheme)));
        return match known {
            true => Ok(()),
            false => invalid("spec.url", "method chain goes to a URL: http://, https:// or tftp://".into()),
        };
    }
    if spec.is_elsewhere() {
        let url = spec.url.as_deref().unwrap_or_default();
        return match ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
            true => Ok(()),
            false => invalid("spec.url", "an ISO elsewhere is at a URL: http:// or https://".into()),
        };
    }
    if spec.iso_file.is_empty() && spec.portal.is_none() {
        return invalid("spec.isoFile", "name the ISO file, or the portal that serves it".into());
    }
    if !spec.iso_file.starts_with('/') && spec.iso_file.split('/').any(|part| part == "..") {
        return invalid("spec.isoFile", format!("{:?} leaves the directory of ISOs", spec.iso_file));
    }
    if !spec.read_only {
        return invalid("spec.readOnly", "a CD-ROM is read-only: leave it out, or say true".into());
    }
    match missing_config {
        Some(name) => invalid("spec.bootConfigs", format!("there is no BootConfig {name}: add it first")),
        None => Ok(()),
    }
}

/// What stands in a script or on a kernel's command line must be of one line, and of one word each.
fn check_words(spec: &ImageSpec) -> Option<Invalid> {
    let is_word = |word: &String| !word.is_empty() && !word.chars().any(|c| c.is_control() || c == '\n');
    let wrong = |field: &str, word: &String| Invalid {
        field: field.to_owned().into(),
        message: format!("{word:?} is no argument of one line"),
    };
    let arguments =
        spec.kernel_arguments.iter().find(|word| !is_word(word)).map(|word| wrong("spec.kernelArguments", word));
    let url = spec
        .url
        .iter()
        .find(|url| !is_word(url) || url.contains(char::is_whitespace))
        .map(|url| wrong("spec.url", url));
    let description =
        (spec.description.contains(char::is_control)).then(|| wrong("spec.description", &spec.description));
    arguments.or(url).or(description)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, ImageStatus, Kind, Mac, Meta};

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

    #[test]
    fn an_iso_does_not_leave_its_directory() {
        for (file, field) in
            [("../x.iso", Some("spec.isoFile")), ("", Some("spec.isoFile")), ("/srv/../x.iso", None), ("x.iso", None)]
        {
            let mut spec = image(&[]).spec;
            spec.iso_file = file.into();
            assert_eq!(check_image(&spec, None).err().map(|error| error.field), field.map(Cow::from), "{file}");
        }
        assert!(check_image(&image(&["gone"]).spec, Some(&name("gone"))).is_err());
    }
}
