//! Rules for the spec of an image.

use super::super::{AttachAs, Delivery, Image, ImageSpec, Method, Name, Portal, Secret};
use super::{Invalid, check_arguments, check_url, invalid};

/// Maximum number of companions: firmware and drivers scan few units, and a seed needs one.
const MAX_COMPANIONS: usize = 8;

/// Maximum length of an iSCSI name, in octets (RFC 7143, section 4.2.7.1).
pub const MAX_ISCSI_NAME_LENGTH: usize = 223;

/// Maximum length of a URL, in octets.
const MAX_URL_LENGTH: usize = 2048;

/// The objects that an image refers to, as the store has them.
#[derive(Debug, Clone, Default)]
pub struct ImageReferences<'a> {
    /// The first of `spec.bootConfigs` that does not exist.
    pub missing_config: Option<&'a Name>,
    /// The images of `spec.companions`, in their order.
    pub companions: Vec<Option<&'a Image>>,
    /// The first of `spec.companions` that leads back to this image.
    pub companion_in_cycle: Option<&'a Name>,
    /// Another image that has this one as a companion.
    pub companion_of: Option<&'a Name>,
}

/// Checks the fields of an image and the objects that it refers to. Admission checks its file.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_image(image: &Image, found: &ImageReferences<'_>) -> Result<(), Invalid> {
    let spec = &image.spec;
    if let Some(error) = check_words(spec) {
        return Err(error);
    }
    check_arguments("spec.kernelArguments", &spec.kernel_arguments)?;
    check_arguments("spec.removeArguments", &spec.remove_arguments)?;
    check_place(spec)?;
    if let Some(portal) = &spec.portal {
        check_portal(portal)?;
    }
    if !spec.read_only {
        return invalid("spec.readOnly", "a CD-ROM is read-only: remove the field, or set true".into());
    }
    if let Some(name) = found.missing_config {
        return invalid("spec.bootConfigs", format!("BootConfig {name} does not exist: add it first"));
    }
    if let (Some(other), false) = (found.companion_of, spec.is_local()) {
        let message = format!("ISCSICdrom {other} has it as a companion: this server must serve its file");
        return invalid(remote_field(spec), message);
    }
    check_effect(spec)?;
    check_companions(image, found)
}

/// Checks the fields that locate the image's bytes.
///
/// # Errors
/// The field that is missing or invalid.
pub fn check_place(spec: &ImageSpec) -> Result<(), Invalid> {
    let leads = |schemes: &[&str], otherwise: &str| {
        let url = spec.url.as_deref().unwrap_or_default();
        match schemes.iter().any(|scheme| url.starts_with(scheme)) {
            true => check_url(url).or_else(|wrong| invalid("spec.url", wrong.to_owned())),
            false => invalid("spec.url", otherwise.to_owned()),
        }
    };
    if spec.method == Method::Chain {
        return leads(&["http://", "https://", "tftp://"], "method chain requires a URL: http://, https:// or tftp://");
    }
    if spec.is_at_url() {
        return leads(&["http://", "https://"], "an ISO without a file here requires a URL: http:// or https://");
    }
    if let Some(Err(wrong)) = spec.url.as_deref().map(check_url) {
        return invalid("spec.url", wrong.to_owned());
    }
    if spec.iso_file.is_empty() && spec.portal.is_none() {
        return invalid("spec.isoFile", "required: set the ISO file, or the portal that serves it".into());
    }
    if !spec.iso_file.starts_with('/') && spec.iso_file.split('/').any(|part| part == "..") {
        return invalid("spec.isoFile", format!("{:?} is outside the directory of ISOs", spec.iso_file));
    }
    Ok(())
}

/// Rejects fields that have no effect on bytes of another server.
fn check_effect(spec: &ImageSpec) -> Result<(), Invalid> {
    let Some(place) = spec.remote_location() else { return Ok(()) };
    let by_us = matches!(spec.method, Method::Kernel | Method::Sanhook | Method::Http) && spec.portal.is_some();
    let delivers = matches!(spec.config_delivery, Delivery::Embed | Delivery::Seed);
    let fields = [
        ("spec.method", by_us),
        ("spec.kernelArguments", !spec.kernel_arguments.is_empty()),
        ("spec.removeArguments", !spec.remove_arguments.is_empty()),
        ("spec.configDelivery", delivers),
        ("spec.attachAs", spec.attach_as == AttachAs::Disk),
        ("spec.companions", !spec.companions.is_empty()),
    ];
    match fields.iter().find(|(_, wished)| *wished) {
        Some((field, _)) => {
            invalid(field, format!("no effect on an ISO of another server ({place}): remove the field"))
        }
        None => Ok(()),
    }
}

/// Returns the field that makes another server serve the image.
fn remote_field(spec: &ImageSpec) -> &'static str {
    match (&spec.portal, spec.method) {
        (Some(_), _) => "spec.portal",
        (None, Method::Chain) => "spec.method",
        (None, _) => "spec.isoFile",
    }
}

fn check_companions(image: &Image, found: &ImageReferences<'_>) -> Result<(), Invalid> {
    let refuse = |message: String| invalid("spec.companions", message);
    let names = &image.spec.companions;
    if names.len() > MAX_COMPANIONS {
        return refuse(format!("{} companions: the maximum is {MAX_COMPANIONS}", names.len()));
    }
    for (index, (name, companion)) in names.iter().zip(&found.companions).enumerate() {
        if *name == image.metadata.name {
            return refuse(format!("{name} is the image itself"));
        }
        if names[..index].contains(name) {
            return refuse(format!("{name} is listed twice"));
        }
        match companion {
            None => return refuse(format!("ISCSICdrom {name} does not exist: add it first")),
            Some(companion) if !companion.spec.is_local() => {
                return refuse(format!("another server serves the file of {name}: it cannot be a companion"));
            }
            Some(_) => {}
        }
    }
    match found.companion_in_cycle {
        Some(name) => refuse(format!("{name} has {} as a companion, directly or indirectly", image.metadata.name)),
        None => Ok(()),
    }
}

/// Checks that the texts in a script are one line, and that the URL is one word.
fn check_words(spec: &ImageSpec) -> Option<Invalid> {
    let wrong = |field: &'static str, word: &String| Invalid {
        field: field.into(),
        message: format!("{word:?}: expected one line that is not empty"),
    };
    let is_odd = |url: &&String| url.is_empty() || url.contains(|c: char| c.is_control() || c.is_whitespace());
    let url = spec.url.iter().find(is_odd).map(|url| wrong("spec.url", url));
    let long = spec
        .url
        .as_ref()
        .filter(|url| url.len() > MAX_URL_LENGTH)
        .map(|_| Invalid { field: "spec.url".into(), message: format!("longer than {MAX_URL_LENGTH} octets") });
    let description =
        (spec.description.contains(char::is_control)).then(|| wrong("spec.description", &spec.description));
    url.or(long).or(description)
}

/// Checks the external target.
fn check_portal(portal: &Portal) -> Result<(), Invalid> {
    let name = &portal.target_iqn;
    if !is_iscsi_name(name) {
        let message = format!(
            "{name:?} is not an iSCSI name (RFC 7143): expected iqn.2000-02.com.example:disk, eui. and 16 or naa. and 16 or 32 \
             hexadecimal digits, {MAX_ISCSI_NAME_LENGTH} octets at most"
        );
        return invalid("spec.portal.targetIqn", message);
    }
    if portal.port == 0 {
        return invalid("spec.portal.port", "expected a port in 1 to 65535".into());
    }
    let Some(chap) = &portal.chap else { return Ok(()) };
    if [Some(&chap.secret), chap.target_secret.as_ref()].into_iter().flatten().any(Secret::is_redacted) {
        let message = "REDACTED stands for the secret of another target: write the secret again";
        return invalid("spec.portal.chap", message.into());
    }
    chap.check().map_err(|(field, wrong)| Invalid {
        field: format!("spec.portal.chap.{field}").into(),
        message: wrong.to_owned(),
    })
}

/// Returns whether a text is an iSCSI name in one of the three forms of RFC 7143, sections 4.2.7.3 to 4.2.7.6.
fn is_iscsi_name(name: &str) -> bool {
    // RFC 3722 allows neither capitals nor `_`, but targets in the field have both, and both are safe in a script.
    let is_plain = |text: &str| text.chars().all(|c| c.is_alphanumeric() || "-.:_".contains(c));
    let is_hex = |text: &str, lengths: &[usize]| {
        lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let is_dated = |rest: &str| {
        let Some((date, authority)) = rest.split_once('.') else { return false };
        let Some((year, month)) = date.split_once('-') else { return false };
        let digits = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
        let domain = authority.split(':').next().unwrap_or_default();
        let month_fits = digits(month, 2) && ("01"..="12").contains(&month);
        digits(year, 4) && month_fits && domain.split('.').all(|label| !label.is_empty()) && is_plain(authority)
    };
    name.len() <= MAX_ISCSI_NAME_LENGTH
        && match name.split_once('.') {
            Some(("iqn", rest)) => is_dated(rest),
            Some(("eui", rest)) => is_hex(rest, &[16]),
            Some(("naa", rest)) => is_hex(rest, &[16, 32]),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{ImageStatus, Meta};

    fn image(text: &str, edit: impl FnOnce(&mut ImageSpec)) -> Image {
        let mut spec = ImageSpec::of_file("a.iso");
        edit(&mut spec);
        Image { metadata: Meta::named(text.parse().unwrap(), None), spec, status: ImageStatus::default() }
    }

    fn check(image: &Image, found: &ImageReferences<'_>, wanted: Option<(&str, &str)>) {
        match (check_image(image, found), wanted) {
            (Ok(()), None) => {}
            (Err(error), Some((field, part))) => {
                assert_eq!(error.field, field);
                assert!(error.message.contains(part), "{error} does not contain {part:?}");
            }
            (came, wanted) => panic!("{came:?} where {wanted:?} was expected"),
        }
    }

    fn portal() -> Option<Portal> {
        Some(Portal {
            address: "192.0.2.1".parse().unwrap(),
            port: 3260,
            target_iqn: "iqn.2000-01.x:y".into(),
            chap: None,
        })
    }

    #[test]
    fn an_external_target_has_an_iscsi_name() {
        let long = |length: usize| format!("iqn.2000-02.com.example:{}", "a".repeat(length - 24));
        for (name, fits) in [
            ("iqn.2000-02.com.mikrotik:file4", true),
            ("iqn.2001-04.com.example", true),
            ("iqn.2000-01.com.synology:Disk_Station.Target-1", true),
            ("eui.02004567A425678D", true),
            ("naa.52004567BA64678D", true),
            ("naa.62004567BA64678D0123456789ABCDEF", true),
            (&long(223), true),
            (&long(224), false),
            ("iqn.2000-02.com.mikrotik:file4\nshell", false),
            ("iqn.2000-02.com.mikrotik:${x}", false),
            ("iqn.2000-13.com.example:a", false),
            ("iqn.200-02.com.example:a", false),
            ("iqn.2000-02.:a", false),
            ("iqn.com.example:a", false),
            ("eui.02004567A425678", false),
            ("naa.52004567BA64678G", false),
            ("not an iqn", false),
            ("", false),
        ] {
            let portal =
                Portal { address: "192.0.2.1".parse().unwrap(), port: 3260, target_iqn: name.into(), chap: None };
            let live = image("live", |spec| spec.portal = Some(portal));
            check(
                &live,
                &ImageReferences::default(),
                (!fits).then_some(("spec.portal.targetIqn", "not an iSCSI name")),
            );
        }
        let live = image("live", |spec| spec.portal = portal().map(|portal| Portal { port: 0, ..portal }));
        check(&live, &ImageReferences::default(), Some(("spec.portal.port", "1 to 65535")));
    }

    #[test]
    fn texts_in_a_script_are_of_one_line() {
        for word in ["x\ny", ""] {
            let live = image("live", |spec| spec.kernel_arguments = vec![word.into()]);
            check(&live, &ImageReferences::default(), Some(("spec.kernelArguments", "one line")));
            let live = image("live", |spec| spec.remove_arguments = vec![word.into()]);
            check(&live, &ImageReferences::default(), Some(("spec.removeArguments", "one line")));
        }
        let url = format!("http://a/{}", "a".repeat(MAX_URL_LENGTH));
        let live = image("live", |spec| (spec.method, spec.url) = (Method::Chain, Some(url)));
        check(&live, &ImageReferences::default(), Some(("spec.url", "longer")));
    }

    #[test]
    fn an_iso_does_not_leave_its_directory() {
        for (file, field) in
            [("../x.iso", Some("spec.isoFile")), ("", Some("spec.isoFile")), ("/srv/../x.iso", None), ("x.iso", None)]
        {
            let image = image("live", |spec| spec.iso_file = file.into());
            check(&image, &ImageReferences::default(), field.map(|field| (field, "")));
        }
        let config = "gone".parse().unwrap();
        let found = ImageReferences { missing_config: Some(&config), ..ImageReferences::default() };
        check(&image("live", |_| {}), &found, Some(("spec.bootConfigs", "BootConfig gone does not exist")));
    }

    #[test]
    fn companions_exist_and_are_served_here() {
        let drivers = image("drivers", |_| {});
        let away = image("drivers", |spec| spec.portal = portal());
        let chained = image("drivers", |spec| spec.method = Method::Chain);
        let check_companions = |names: &[&str], companions: Vec<Option<&Image>>, wanted: Option<&str>| {
            let live = image("live", |spec| spec.companions = names.iter().map(|name| name.parse().unwrap()).collect());
            let found = ImageReferences { companions, ..ImageReferences::default() };
            check(&live, &found, wanted.map(|part| ("spec.companions", part)));
        };
        check_companions(&["drivers"], vec![Some(&drivers)], None);
        check_companions(&["drivers"], vec![None], Some("ISCSICdrom drivers does not exist"));
        check_companions(&["drivers"], vec![Some(&away)], Some("another server serves"));
        check_companions(&["drivers"], vec![Some(&chained)], Some("another server serves"));
        check_companions(&["live"], vec![None], Some("itself"));
        check_companions(&["drivers", "drivers"], vec![Some(&drivers); 2], Some("twice"));
        check_companions(&["a"; 9], vec![Some(&drivers); 9], Some("maximum is 8"));
    }

    #[test]
    fn fields_without_effect_on_remote_bytes_are_rejected() {
        type Edit = fn(&mut ImageSpec);
        let edits: [(&str, Edit); 6] = [
            ("spec.kernelArguments", |spec| spec.kernel_arguments = vec!["quiet".into()]),
            ("spec.removeArguments", |spec| spec.remove_arguments = vec!["quiet".into()]),
            ("spec.configDelivery", |spec| spec.config_delivery = Delivery::Embed),
            ("spec.configDelivery", |spec| spec.config_delivery = Delivery::Seed),
            ("spec.attachAs", |spec| spec.attach_as = AttachAs::Disk),
            ("spec.companions", |spec| spec.companions = vec!["drivers".parse().unwrap()]),
        ];
        let elsewhere: [(&str, Edit); 3] = [
            ("192.0.2.1:3260, target iqn.2000-01.x:y", |spec| spec.portal = portal()),
            ("http://boot.example:8080)", |spec| {
                (spec.method, spec.url) = (Method::Chain, Some("http://boot.example:8080/x?y".into()));
            }),
            ("https://boot.example)", |spec| {
                (spec.method, spec.iso_file) = (Method::Http, String::new());
                spec.url = Some("https://boot.example/a.iso".into());
            }),
        ];
        for (place, away) in elsewhere {
            check(&image("live", away), &ImageReferences::default(), None);
            for (field, edit) in edits {
                let live = image("live", |spec| {
                    away(spec);
                    edit(spec);
                });
                check(&live, &ImageReferences::default(), Some((field, place)));
            }
        }
        for (method, field) in [(Method::Sanboot, None), (Method::Kernel, Some("spec.method"))] {
            let live = image("live", |spec| (spec.portal, spec.method) = (portal(), method));
            check(&live, &ImageReferences::default(), field.map(|field| (field, "portal")));
        }
    }

    #[test]
    fn a_companion_is_served_here_and_is_in_no_cycle() {
        let live = "live".parse().unwrap();
        let found = ImageReferences { companion_of: Some(&live), ..ImageReferences::default() };
        check(&image("drivers", |_| {}), &found, None);
        check(&image("drivers", |spec| spec.portal = portal()), &found, Some(("spec.portal", "live")));
        let found = ImageReferences { companion_in_cycle: Some(&live), ..ImageReferences::default() };
        check(&image("drivers", |_| {}), &found, Some(("spec.companions", "live has drivers as a companion")));
    }
}
