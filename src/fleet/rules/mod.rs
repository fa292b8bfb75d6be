//! The rules that every written object must satisfy.

use std::borrow::Cow;

use super::{Bmc, BmcAddress, BootTarget, Host, Image, Key, Name, rejection_reason};

mod image;
mod meta;
mod order;
mod readiness;
mod template;
mod url;

pub use image::{ImageReferences, MAX_ISCSI_NAME_LENGTH, check_image, check_place};
pub use meta::{check_label_key, check_label_value, check_meta};
pub use order::{ObjectReferences, rank_objects};
pub use readiness::{BootReferences, BootWarning, boot_warnings};
pub use template::{check_template, check_template_change, check_template_reference};
pub use url::check_url;

/// The field that breaks a rule, and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// The field's path, as in `spec.bootConfigRef`.
    pub field: Cow<'static, str>,
    /// The error, and the next step; several errors of one field are a line each.
    pub message: String,
}

fn invalid(field: &'static str, message: String) -> Result<(), Invalid> {
    Err(Invalid { field: field.into(), message })
}

/// The objects that a host refers to, as the store has them.
#[derive(Debug, Clone, Copy)]
pub struct HostReferences<'a> {
    /// The image that `spec.image` names, if it exists.
    pub image: Option<&'a Image>,
    /// Whether the config that `spec.bootConfigRef` names exists.
    pub config_exists: bool,
    /// Another host with the same MAC address.
    pub same_mac: Option<&'a Key>,
    /// Another host with the same IP address.
    pub same_ip: Option<&'a Key>,
    /// Whether the host has this BMC already. It stays, whatever the rules were when it was written.
    pub keeps_bmc: bool,
}

/// Checks a host against the objects that it refers to and the other hosts.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_host(host: &Host, found: HostReferences<'_>) -> Result<(), Invalid> {
    let spec = &host.spec;
    let mac = spec.boot_mac_address;
    if let Some(why) = mac.rejection_reason() {
        return invalid("spec.bootMACAddress", format!("{mac} {why}"));
    }
    if let Some((ip, why)) = spec.ip.and_then(|ip| Some((ip, rejection_reason(ip)?))) {
        return invalid("spec.ip", format!("{ip} {why}"));
    }
    if let Some(other) = found.same_mac {
        return invalid("spec.bootMACAddress", format!("{mac} is already used by {other}"));
    }
    if let (Some(other), Some(ip)) = (found.same_ip, spec.ip) {
        return invalid("spec.ip", format!("{ip} is already used by {other}"));
    }
    spec.bmc.as_ref().filter(|_| !found.keeps_bmc).map_or(Ok(()), check_bmc)?;
    if let Some((field, wrong)) = spec.chap.as_ref().and_then(|chap| chap.check().err()) {
        return Err(Invalid { field: format!("spec.chap.{field}").into(), message: wrong.to_owned() });
    }
    check_arguments("spec.kernelArguments", &spec.kernel_arguments)?;
    template::check_values(spec.values.as_deref())?;
    if let Some(file) = spec.local_disk.as_ref().and_then(|disk| disk.filename.as_deref()) {
        check_filename(file)?;
    }
    match (&spec.image, found.image) {
        (BootTarget::LocalDisk | BootTarget::Menu, _) => {}
        (BootTarget::Image(name), None) => {
            return invalid(
                "spec.image",
                format!("ISCSICdrom {name} does not exist: add it first, or set the image localboot"),
            );
        }
        (BootTarget::Image(_), Some(image)) => check_pairing(image, spec.boot_config_ref.as_ref())?,
    }
    match &spec.boot_config_ref {
        Some(name) if !found.config_exists => {
            invalid("spec.bootConfigRef", format!("BootConfig {name} does not exist: add it first"))
        }
        _ => Ok(()),
    }
}

/// Maximum length of the user name of an IPMI session, in octets (IPMI 2.0, 13.20).
const IPMI_USERNAME_LENGTH: usize = 16;
/// Maximum length of the password of an IPMI 2.0 session, in octets (22.30).
const IPMI_PASSWORD_LENGTH: usize = 20;

/// Checks all fields of a BMC. A Redfish service may take longer names and passwords than IPMI.
fn check_bmc(bmc: &Bmc) -> Result<(), Invalid> {
    let mut wrong: Vec<(&str, String)> = Vec::new();
    wrong.extend(bmc.address.parse::<BmcAddress>().err().map(|error| ("address", error.to_string())));
    if bmc.address.starts_with("ipmi://") {
        let lengths = [
            ("username", bmc.username.len(), IPMI_USERNAME_LENGTH),
            ("password", bmc.password.0.len(), IPMI_PASSWORD_LENGTH),
        ];
        let too_long = lengths.into_iter().filter(|(_, length, most)| length > most);
        wrong.extend(
            too_long.map(|(field, length, most)| (field, format!("{length} octets: IPMI 2.0 has at most {most}"))),
        );
    }
    match wrong.as_slice() {
        [] => Ok(()),
        [(field, message)] => Err(Invalid { field: format!("spec.bmc.{field}").into(), message: message.clone() }),
        several => {
            let all: Vec<_> = several.iter().map(|(field, message)| format!("{field}: {message}")).collect();
            invalid("spec.bmc", all.join("\n"))
        }
    }
}

/// Maximum length of a kernel argument, in octets: the limit of the menus in a view.
const MAX_ARGUMENT_LENGTH: usize = 1024;
/// Maximum length of all kernel arguments of an object, in octets: the limit of Linux on x86 and arm64.
const MAX_ARGUMENTS_LENGTH: usize = 2048;
/// Maximum length of the name of a boot file, in octets.
const MAX_FILE_NAME_LENGTH: usize = 255;

/// Checks that each kernel argument is one line, and that all of them fit a command line.
fn check_arguments(field: &'static str, words: &[String]) -> Result<(), Invalid> {
    for word in words {
        if word.is_empty() || word.contains(char::is_control) {
            return invalid(field, format!("{word:?}: expected one line that is not empty"));
        }
        if word.len() > MAX_ARGUMENT_LENGTH {
            return invalid(
                field,
                format!("an argument has {} octets: the maximum is {MAX_ARGUMENT_LENGTH}", word.len()),
            );
        }
    }
    match words.iter().map(|word| word.len() + 1).sum::<usize>() {
        0..=MAX_ARGUMENTS_LENGTH => Ok(()),
        length => invalid(
            field,
            format!("{length} octets in all: the maximum of a kernel's command line is {MAX_ARGUMENTS_LENGTH}"),
        ),
    }
}

/// Checks the name of a boot file: one word of a script, in which iPXE expands `${`.
fn check_filename(file: &str) -> Result<(), Invalid> {
    let odd = |c: char| c.is_control() || c.is_whitespace() || "$\"'".contains(c);
    match file.is_empty() || file.contains(odd) || file.len() > MAX_FILE_NAME_LENGTH {
        false => Ok(()),
        true => {
            let message = format!(
                "{file:?}: expected a path of one word without quotes and `$`, at most {MAX_FILE_NAME_LENGTH} octets"
            );
            invalid("spec.localDisk.filename", message)
        }
    }
}

fn check_pairing(image: &Image, config: Option<&Name>) -> Result<(), Invalid> {
    let (name, listed) = (&image.metadata.name, &image.spec.boot_configs);
    match config {
        Some(config) if listed.is_empty() => invalid(
            "spec.bootConfigRef",
            format!("ISCSICdrom {name} allows no config: add {config} to its spec.bootConfigs first"),
        ),
        Some(config) if !listed.contains(config) => {
            let listed: Vec<_> = listed.iter().map(Name::as_str).collect();
            invalid(
                "spec.bootConfigRef",
                format!("ISCSICdrom {name} does not allow {config}: its spec.bootConfigs has {}", listed.join(", ")),
            )
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, ImageSpec, ImageStatus, Kind, LocalDisk, Mac, Meta};

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
        let found = HostReferences { image, config_exists, same_mac: None, same_ip: None, keeps_bmc: false };
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
    fn values_in_a_script_are_of_one_line() {
        let check = |edit: &dyn Fn(&mut HostSpec)| {
            let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
            edit(&mut spec);
            let host = Host { metadata: Meta::named(name("h"), None), spec, status: HostStatus::default() };
            let found =
                HostReferences { image: None, config_exists: false, same_mac: None, same_ip: None, keeps_bmc: false };
            check_host(&host, found).err().map(|error| error.field)
        };
        let (longest, long) = ("a".repeat(1024), "a".repeat(1025));
        for (words, fits) in [
            (vec!["console=ttyS0", "a=b c"], true),
            (vec![longest.as_str()], true),
            (vec![long.as_str()], false),
            (vec![longest.as_str(), longest.as_str()], false),
            (vec!["x\ny"], false),
            (vec!["x\u{7f}"], false),
            (vec![""], false),
        ] {
            let found = check(&|spec| spec.kernel_arguments = words.iter().map(|word| word.to_string()).collect());
            assert_eq!(found, (!fits).then_some("spec.kernelArguments".into()), "{words:?}");
        }
        for (file, fits) in
            [("\\EFI\\debian\\shimx64.efi", true), ("a b", false), ("a\nshell", false), ("${x}", false), ("", false)]
        {
            let disk = Some(LocalDisk { drive: None, filename: Some(file.into()) });
            let found = check(&|spec| spec.local_disk = disk.clone());
            assert_eq!(found, (!fits).then_some("spec.localDisk.filename".into()), "{file:?}");
        }
    }

    #[test]
    fn all_fields_of_a_bmc_are_checked() {
        let check = |address: &str, username: usize, password: usize| {
            let secret = crate::fleet::Secret("p".repeat(password));
            check_bmc(&Bmc::new(address, "u".repeat(username), secret)).map_err(|wrong| wrong.to_string())
        };
        assert_eq!(check("ipmi://10.0.0.9", 16, 20), Ok(()));
        assert_eq!(check("redfish://10.0.0.9", 40, 64), Ok(()));
        assert_eq!(check("10.0.0.9", 16, 24), Ok(()), "it may be a Redfish service");
        let password = "24 octets: IPMI 2.0 has at most 20";
        assert_eq!(check("ipmi://10.0.0.9", 16, 24), Err(format!("spec.bmc.password: {password}")));
        let all = check("ipmi://", 17, 24).unwrap_err();
        let starts = ["spec.bmc: address: \"ipmi://\"", "username: 17 octets", "password: 24 octets"];
        assert!(all.lines().zip(starts).filter(|(line, start)| line.starts_with(start)).count() == 3, "{all}");
    }

    #[test]
    fn addresses_of_no_machine_are_rejected() {
        let check = |mac: &str, ip: &str| {
            let mut spec = HostSpec::for_mac(mac.parse().unwrap());
            spec.ip = Some(crate::fleet::address(ip).unwrap());
            let host = Host { metadata: Meta::named(name("h"), None), spec, status: HostStatus::default() };
            let found =
                HostReferences { image: None, config_exists: false, same_mac: None, same_ip: None, keeps_bmc: false };
            check_host(&host, found).map_err(|wrong| wrong.to_string())
        };
        assert_eq!(check("52:54:00:00:00:01", "10.0.0.1"), Ok(()));
        let group = "spec.bootMACAddress: 01:00:5e:00:00:01 is a multicast address";
        assert_eq!(check("01:00:5e:00:00:01", "10.0.0.1"), Err(group.to_owned()));
        let loopback = "spec.ip: 127.0.0.1 is a loopback address";
        assert_eq!(check("52:54:00:00:00:01", "::ffff:127.0.0.1"), Err(loopback.to_owned()));
    }

    #[test]
    fn an_address_belongs_to_one_host() {
        let host = Host {
            metadata: Meta::named(name("h"), None),
            spec: HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1])),
            status: HostStatus::default(),
        };
        let other = Key { kind: Kind::BareMetalHost, namespace: None, name: name("other") };
        let found = HostReferences {
            image: None,
            config_exists: false,
            same_mac: Some(&other),
            same_ip: None,
            keeps_bmc: false,
        };
        let error = check_host(&host, found).unwrap_err();
        assert_eq!(error.to_string(), "spec.bootMACAddress: 02:00:00:00:00:01 is already used by BareMetalHost other");
    }
}
