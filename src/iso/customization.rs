//! The customization of an image for one host, from the specs of the image, the host and its config.

use std::net::SocketAddr;

use bytes::Bytes;

use super::{Family, MenuEdit, config_arguments, syslog_arguments};
use crate::fleet::{BootConfig, Delivery, Format, Host, Image};

/// Timeout, in seconds, of a boot menu in a customized view: the host boots without an operator.
const MENU_TIMEOUT: u16 = 1;

/// The changes that a host sees in its view of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Customization {
    /// The changes to the boot menus.
    pub edit: MenuEdit,
    /// Files to add or to replace, by path (`/ks.cfg`). The directories must exist in the image.
    pub files: Vec<(String, Bytes)>,
    /// The Ignition config for the embed area of CoreOS.
    pub ignition: Option<Bytes>,
    /// The treatment of an implanted digest.
    pub digest: DigestPolicy,
}

/// The treatment of the digest that isomd5sum implants in an image, when a view changes the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DigestPolicy {
    /// Removal: a media check finds no digest instead of a wrong one.
    #[default]
    Remove,
    /// Recomputation, which reads the whole image.
    Recompute,
}

/// The addresses of this server that an installer is given.
#[derive(Debug, Clone, Copy)]
pub struct ServerAddresses<'a> {
    /// Address of the host's config. For cloud-init it is a directory and ends with a slash.
    pub config: &'a str,
    /// Address of the syslog receiver; `None` if there is none.
    pub syslog: Option<SocketAddr>,
}

/// Returns the kernel arguments that a host gets in addition to those in the boot menus of the image.
pub fn kernel_arguments(
    image: &Image,
    host: Option<&Host>,
    config: Option<&BootConfig>,
    addresses: ServerAddresses<'_>,
) -> Vec<String> {
    let mut words = declared_arguments(image, host, config, addresses.config);
    words.extend(log_arguments(image, &words, addresses.syslog));
    words
}

/// Returns the kernel arguments of the specs, and those that lead to the config.
fn declared_arguments(image: &Image, host: Option<&Host>, config: Option<&BootConfig>, url: &str) -> Vec<String> {
    let mut words = image.spec.kernel_arguments.clone();
    words.extend(host.into_iter().flat_map(|host| host.spec.kernel_arguments.iter().cloned()));
    let family = Family::from_name(&image.status.family);
    let by_address = match image.spec.config_delivery {
        Delivery::Auto => config.filter(|_| family != Family::Unknown),
        Delivery::Embed | Delivery::Seed | Delivery::None => None,
    };
    if let Some(config) = by_address {
        words.extend(config_arguments(family, config.spec.format, url));
    }
    words
}

/// Returns the kernel arguments that lead to the syslog receiver, unless the specs name another one.
fn log_arguments(image: &Image, declared: &[String], syslog: Option<SocketAddr>) -> Vec<String> {
    let names_one = || declared.iter().any(|word| word.starts_with("inst.syslog=") || word.starts_with("log_host="));
    match syslog.filter(|_| !names_one()) {
        Some(receiver) => syslog_arguments(Family::from_name(&image.status.family), receiver),
        None => Vec::new(),
    }
}

/// Returns the customization of an image for a host. It is the default if the specs declare no changes, and no log is
/// received.
pub fn customization_for(
    image: &Image,
    host: Option<&Host>,
    config: Option<&BootConfig>,
    addresses: ServerAddresses<'_>,
) -> Customization {
    let mut append = declared_arguments(image, host, config, addresses.config);
    let remove = image.spec.remove_arguments.clone();
    let mut customization = Customization { digest: DigestPolicy::Remove, ..Customization::default() };
    if let (Delivery::Embed, Some(config)) = (image.spec.config_delivery, config) {
        embed(&mut customization, config);
    }
    // A menu without a declared change may wait for a person.
    let changes = !append.is_empty() || !remove.is_empty() || customization != Customization::default();
    append.extend(log_arguments(image, &append, addresses.syslog));
    customization.edit = MenuEdit { append, remove, timeout: changes.then_some(MENU_TIMEOUT) };
    customization
}

/// Adds a config to the image, at the path where the installer of its format looks for it.
fn embed(customization: &mut Customization, config: &BootConfig) {
    let bytes = Bytes::copy_from_slice;
    let path = match config.spec.format {
        Format::Ignition => {
            customization.ignition = config.file(None).map(bytes);
            return;
        }
        Format::CloudInit => {
            let files = config.spec.files();
            customization.files.extend(files.map(|(name, content)| (format!("/{name}"), bytes(content))));
            return;
        }
        Format::Kickstart => "/ks.cfg",
        Format::Preseed => "/preseed.cfg",
        Format::Script => "/script",
    };
    if let Some(content) = config.file(None) {
        customization.files.push((path.to_owned(), bytes(content)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{BootConfigSpec, HostSpec, HostStatus, ImageSpec, ImageStatus, Mac, Meta};

    fn image(family: Family, delivery: Delivery) -> Image {
        let spec = ImageSpec { config_delivery: delivery, ..ImageSpec::of_file("a.iso") };
        let status = ImageStatus { family: family.to_string(), ..ImageStatus::default() };
        Image { metadata: Meta::named("live".parse().unwrap(), None), spec, status }
    }

    fn config(format: Format) -> BootConfig {
        let data = [(format.main_file().to_owned(), "text".to_owned())].into();
        BootConfig {
            metadata: Meta::named("c".parse().unwrap(), None),
            spec: BootConfigSpec { format, data, binary_data: Default::default(), confidential: false, template: None },
            status: Default::default(),
        }
    }

    const NO_SYSLOG: ServerAddresses<'_> = ServerAddresses { config: "u", syslog: None };

    fn host(arguments: &[&str]) -> Host {
        let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        spec.kernel_arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        Host { metadata: Meta::named("h".parse().unwrap(), None), spec, status: HostStatus::default() }
    }

    #[test]
    fn a_known_installer_gets_the_address_of_its_config() {
        let words = |family, delivery, format| {
            kernel_arguments(
                &image(family, delivery),
                Some(&host(&["console=ttyS0"])),
                Some(&config(format)),
                ServerAddresses { config: "http://s/c", syslog: None },
            )
        };
        assert_eq!(words(Family::Fedora, Delivery::Auto, Format::Kickstart), ["console=ttyS0", "inst.ks=http://s/c"]);
        assert!(
            words(Family::CoreOs, Delivery::Auto, Format::Ignition)
                .contains(&"ignition.config.url=http://s/c".to_owned())
        );
        assert_eq!(words(Family::Suse, Delivery::Auto, Format::Script)[1], "autoyast=http://s/c");
        assert_eq!(words(Family::Agama, Delivery::Auto, Format::Script)[1], "inst.auto=http://s/c");
        for (family, delivery) in
            [(Family::Unknown, Delivery::Auto), (Family::Fedora, Delivery::None), (Family::Fedora, Delivery::Embed)]
        {
            assert_eq!(words(family, delivery, Format::Kickstart), ["console=ttyS0"]);
        }
    }

    #[test]
    fn empty_specs_leave_the_image_unchanged() {
        let plain = customization_for(
            &image(Family::Unknown, Delivery::Auto),
            Some(&host(&[])),
            Some(&config(Format::Ignition)),
            NO_SYSLOG,
        );
        assert_eq!(plain, Customization::default());
    }

    #[test]
    fn an_installer_that_can_log_over_the_network_gets_the_address_of_the_receiver() {
        let syslog = Some("10.77.0.2:514".parse().unwrap());
        let made = |family, own: &[&str]| {
            let addresses = ServerAddresses { config: "u", syslog };
            let image = image(family, Delivery::Auto);
            let made = customization_for(&image, Some(&host(own)), None, addresses);
            assert_eq!(made.edit.append, kernel_arguments(&image, Some(&host(own)), None, addresses));
            made.edit
        };
        for family in [Family::Fedora, Family::RedHat] {
            assert_eq!(made(family, &[]).append, ["inst.syslog=10.77.0.2:514"]);
        }
        assert_eq!(made(Family::Debian, &[]).append, ["log_host=10.77.0.2", "log_port=514"]);
        assert_eq!(made(Family::Debian, &[]).timeout, None, "nothing else changes: a person may look at the menu");
        assert_eq!(made(Family::Debian, &["quiet"]).timeout, Some(MENU_TIMEOUT));
        assert_eq!(made(Family::CoreOs, &["quiet"]).append, ["quiet"]);
        for other in ["log_host=10.0.0.9", "inst.syslog=10.0.0.9"] {
            assert_eq!(made(Family::Fedora, &[other]).append, [other], "the operator's own receiver");
        }
    }

    #[test]
    fn an_embedded_config_has_the_path_that_its_installer_reads() {
        let embedded =
            |format| customization_for(&image(Family::Debian, Delivery::Embed), None, Some(&config(format)), NO_SYSLOG);
        assert_eq!(embedded(Format::Kickstart).files[0].0, "/ks.cfg");
        assert_eq!(embedded(Format::Preseed).files[0].0, "/preseed.cfg");
        assert_eq!(embedded(Format::CloudInit).files[0].0, "/user-data");
        assert_eq!(embedded(Format::Ignition).ignition.as_deref(), Some(&b"text"[..]));
        assert_eq!(embedded(Format::Ignition).edit.timeout, Some(MENU_TIMEOUT));
    }
}
