//! What a host is to see in its image, from what was declared of both.

use bytes::Bytes;

use crate::fleet::{BootConfig, Delivery, Format, Host, Image};

use crate::iso::{Edit, Family, ImplantedDigest, Wishes, arguments};

/// Is how many seconds a boot menu waits in the view of a host that is to boot by itself.
const MENU_WAIT: u16 = 1;

/// Gives the kernel arguments that a host gets beside those in the image's own menus.
///
/// `url` gives the address of the host's config: for cloud-init that of a directory, with its slash.
pub fn kernel_arguments(image: &Image, host: Option<&Host>, config: Option<&BootConfig>, url: &str) -> Vec<String> {
    let mut words = image.spec.kernel_arguments.clone();
    words.extend(host.into_iter().flat_map(|host| host.spec.kernel_arguments.iter().cloned()));
    let told = match image.spec.config_delivery {
        Delivery::Auto => config.filter(|_| Family::named(&image.status.family) != Family::Unknown),
        Delivery::Embed | Delivery::Seed | Delivery::None => None,
    };
    if let Some(config) = told {
        words.extend(arguments(Family::named(&image.status.family), config.spec.format, url));
    }
    words
}

/// Says what a host is to see in an image. Nothing is changed where nothing was declared.
pub fn wishes(image: &Image, host: Option<&Host>, config: Option<&BootConfig>, url: &str) -> Wishes {
    let append = kernel_arguments(image, host, config, url);
    let remove = image.spec.remove_arguments.clone();
    let mut wishes = Wishes { digest: ImplantedDigest::Off, ..Wishes::default() };
    if let (Delivery::Embed, Some(config)) = (image.spec.config_delivery, config) {
        embed(&mut wishes, config);
    }
    let changes = !append.is_empty() || !remove.is_empty() || wishes != Wishes::default();
    // A view that was made for a host boots without anybody at its keyboard.
    wishes.edit = Edit { append, remove, timeout: changes.then_some(MENU_WAIT) };
    wishes
}

fn embed(wishes: &mut Wishes, config: &BootConfig) {
    let path = match config.spec.format {
        Format::Ignition => {
            wishes.ignition = config.file(None).map(|text| Bytes::copy_from_slice(text.as_bytes()));
            return;
        }
        Format::CloudInit => {
            let files = config.spec.data.iter();
            wishes
                .files
                .extend(files.map(|(name, text)| (format!("/{name}"), Bytes::copy_from_slice(text.as_bytes()))));
            return;
        }
        Format::Kickstart => "/ks.cfg",
        Format::Preseed => "/preseed.cfg",
        Format::Script => "/script",
    };
    if let Some(text) = config.file(None) {
        wishes.files.push((path.to_owned(), Bytes::copy_from_slice(text.as_bytes())));
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
            spec: BootConfigSpec { format, data, confidential: false },
            status: Default::default(),
        }
    }

    fn host(arguments: &[&str]) -> Host {
        let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        spec.kernel_arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        Host { metadata: Meta::named("h".parse().unwrap(), None), spec, status: HostStatus::default() }
    }

    #[test]
    fn an_installer_that_is_known_is_told_where_its_config_is() {
        let words = |family, delivery, format| {
            kernel_arguments(
                &image(family, delivery),
                Some(&host(&["console=ttyS0"])),
                Some(&config(format)),
                "http://s/c",
            )
        };
        assert_eq!(words(Family::Fedora, Delivery::Auto, Format::Kickstart), ["console=ttyS0", "inst.ks=http://s/c"]);
        assert!(
            words(Family::CoreOs, Delivery::Auto, Format::Ignition)
                .contains(&"ignition.config.url=http://s/c".to_owned())
        );
        for (family, delivery) in
            [(Family::Unknown, Delivery::Auto), (Family::Fedora, Delivery::None), (Family::Fedora, Delivery::Embed)]
        {
            assert_eq!(words(family, delivery, Format::Kickstart), ["console=ttyS0"]);
        }
    }

    #[test]
    fn nothing_declared_means_the_image_as_it_is() {
        let plain =
            wishes(&image(Family::Unknown, Delivery::Auto), Some(&host(&[])), Some(&config(Format::Ignition)), "u");
        assert_eq!(plain, Wishes::default());
    }

    #[test]
    fn an_embedded_config_is_where_its_installer_looks() {
        let embedded = |format| wishes(&image(Family::Debian, Delivery::Embed), None, Some(&config(format)), "u");
        assert_eq!(embedded(Format::Kickstart).files[0].0, "/ks.cfg");
        assert_eq!(embedded(Format::Preseed).files[0].0, "/preseed.cfg");
        assert_eq!(embedded(Format::CloudInit).files[0].0, "/user-data");
        assert_eq!(embedded(Format::Ignition).ignition.as_deref(), Some(&b"text"[..]));
        assert_eq!(embedded(Format::Ignition).edit.timeout, Some(MENU_WAIT));
    }
}
