use super::super::{AttachAs, Delivery, Image, ImageSpec, Method, Name, Portal, Secret};
use super::{Invalid, check_arguments, check_url, invalid};

/// Bounds the images beside another: what firmware and drivers scan for units, and a seed, is left room.
const COMPANIONS_MAX: usize = 8;

/// Bounds an iSCSI name, in octets (RFC 7143, section 4.2.7.1).
pub const ISCSI_NAME_MAX: usize = 223;

/// Bounds a URL, in octets.
const URL_MAX: usize = 2048;

/// Is what an image's references lead to, looked up by whoever holds the objects.
#[derive(Debug, Clone, Default)]
pub struct Beside<'a> {
    /// Is the first of `spec.bootConfigs` that does not exist.
    pub missing_config: Option<&'a Name>,
    /// Holds what each of `spec.companions` names, in their order.
    pub companions: Vec<Option<&'a Image>>,
    /// Is the first of `spec.companions` that leads back to this image.
    pub circular: Option<&'a Name>,
    /// Is another image that names this one as its companion.
    pub beside: Option<&'a Name>,
}

/// Checks an image against its own fields and the objects that it refers to; that its file is an ISO is found
/// out where files can be read.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_image(image: &Image, found: &Beside<'_>) -> Result<(), Invalid> {
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
        return invalid("spec.readOnly", "a CD-ROM is read-only: leave it out, or say true".into());
    }
    if let Some(name) = found.missing_config {
        return invalid("spec.bootConfigs", format!("there is no BootConfig {name}: add it first"));
    }
    if let (Some(other), false) = (found.beside, spec.is_local()) {
        let message = format!("ISCSICdrom {other} has it beside itself (spec.companions): its file must be here");
        return invalid(elsewhere_by(spec), message);
    }
    check_effect(spec)?;
    check_companions(image, found)
}

/// Checks where the image's bytes are said to be.
///
/// # Errors
/// The field that says nothing, or something that cannot be.
pub fn check_place(spec: &ImageSpec) -> Result<(), Invalid> {
    let leads = |schemes: &[&str], otherwise: &str| {
        let url = spec.url.as_deref().unwrap_or_default();
        match schemes.iter().any(|scheme| url.starts_with(scheme)) {
            true => check_url(url).or_else(|wrong| invalid("spec.url", wrong.to_owned())),
            false => invalid("spec.url", otherwise.to_owned()),
        }
    };
    if spec.method == Method::Chain {
        return leads(&["http://", "https://", "tftp://"], "method chain goes to a URL: http://, https:// or tftp://");
    }
    if spec.is_at_url() {
        return leads(&["http://", "https://"], "an ISO elsewhere is at a URL: http:// or https://");
    }
    if let Some(Err(wrong)) = spec.url.as_deref().map(check_url) {
        return invalid("spec.url", wrong.to_owned());
    }
    if spec.iso_file.is_empty() && spec.portal.is_none() {
        return invalid("spec.isoFile", "name the ISO file, or the portal that serves it".into());
    }
    if !spec.iso_file.starts_with('/') && spec.iso_file.split('/').any(|part| part == "..") {
        return invalid("spec.isoFile", format!("{:?} leaves the directory of ISOs", spec.iso_file));
    }
    Ok(())
}

/// Refuses what is wished of bytes that are not ours to change.
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
            invalid(field, format!("it has no effect on an ISO that is not here but {place}: leave it out"))
        }
        None => Ok(()),
    }
}

/// Names the field that puts an image elsewhere.
fn elsewhere_by(spec: &ImageSpec) -> &'static str {
    match (&spec.portal, spec.method) {
        (Some(_), _) => "spec.portal",
        (None, Method::Chain) => "spec.method",
        (None, _) => "spec.isoFile",
    }
}

fn check_companions(image: &Image, found: &Beside<'_>) -> Result<(), Invalid> {
    let refuse = |message: String| invalid("spec.companions", message);
    let names = &image.spec.companions;
    if names.len() > COMPANIONS_MAX {
        return refuse(format!("{} are more than the {COMPANIONS_MAX} that go beside an image", names.len()));
    }
    for (index, (name, companion)) in names.iter().zip(&found.companions).enumerate() {
        if *name == image.metadata.name {
            return refuse(format!("{name} is the image itself"));
        }
        if names[..index].contains(name) {
            return refuse(format!("{name} is named twice"));
        }
        match companion {
            None => return refuse(format!("there is no ISCSICdrom {name}: add it first")),
            Some(companion) if !companion.spec.is_local() => {
                return refuse(format!("the file of {name} is elsewhere: it can be attached only from where it is"));
            }
            Some(_) => {}
        }
    }
    match found.circular {
        Some(name) => refuse(format!("{name} has {} beside itself in its turn", image.metadata.name)),
        None => Ok(()),
    }
}

/// What stands in a script or on a kernel's command line must be of one line, and of one word each.
fn check_words(spec: &ImageSpec) -> Option<Invalid> {
    let wrong = |field: &'static str, word: &String| Invalid {
        field: field.into(),
        message: format!("{word:?} is no argument of one line"),
    };
    let is_odd = |url: &&String| url.is_empty() || url.contains(|c: char| c.is_control() || c.is_whitespace());
    let url = spec.url.iter().find(is_odd).map(|url| wrong("spec.url", url));
    let long = spec
        .url
        .as_ref()
        .filter(|url| url.len() > URL_MAX)
        .map(|_| Invalid { field: "spec.url".into(), message: format!("it is longer than {URL_MAX} octets") });
    let description =
        (spec.description.contains(char::is_control)).then(|| wrong("spec.description", &spec.description));
    url.or(long).or(description)
}

/// Checks what names another's target: it stands in a script.
fn check_portal(portal: &Portal) -> Result<(), Invalid> {
    let name = &portal.target_iqn;
    if !is_iscsi_name(name) {
        let message = format!(
            "{name:?} is no iSCSI name of RFC 7143: iqn.2000-02.com.example:disk, eui. and 16 or naa. and 16 or 32 \
             hexadecimal digits, {ISCSI_NAME_MAX} octets at most"
        );
        return invalid("spec.portal.targetIqn", message);
    }
    if portal.port == 0 {
        return invalid("spec.portal.port", "a port is one of 1 to 65535".into());
    }
    let Some(chap) = &portal.chap else { return Ok(()) };
    if [Some(&chap.secret), chap.target_secret.as_ref()].into_iter().flatten().any(Secret::is_redacted) {
        let message = "this is what a secret reads as: write it again, it is kept for the portal that it was given for";
        return invalid("spec.portal.chap", message.into());
    }
    chap.check().map_err(|(field, wrong)| Invalid {
        field: format!("spec.portal.chap.{field}").into(),
        message: wrong.to_owned(),
    })
}

/// Says whether a text is an iSCSI name in one of the three forms of RFC 7143, sections 4.2.7.3 to 4.2.7.6.
fn is_iscsi_name(name: &str) -> bool {
    // RFC 3722 folds capitals and knows no `_`, but targets in the field have both, and neither hurts a script.
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
    name.len() <= ISCSI_NAME_MAX
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

    fn check(image: &Image, found: &Beside<'_>, wanted: Option<(&str, &str)>) {
        match (check_image(image, found), wanted) {
            (Ok(()), None) => {}
            (Err(error), Some((field, part))) => {
                assert_eq!(error.field, field);
                assert!(error.message.contains(part), "{error} does not say {part:?}");
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
    fn anothers_target_is_named_as_rfc_7143_names_them() {
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
            check(&live, &Beside::default(), (!fits).then_some(("spec.portal.targetIqn", "no iSCSI name")));
        }
        let live = image("live", |spec| spec.portal = portal().map(|portal| Portal { port: 0, ..portal }));
        check(&live, &Beside::default(), Some(("spec.portal.port", "1 to 65535")));
    }

    #[test]
    fn what_a_script_would_carry_is_of_one_line() {
        for word in ["x\ny", ""] {
            let live = image("live", |spec| spec.kernel_arguments = vec![word.into()]);
            check(&live, &Beside::default(), Some(("spec.kernelArguments", "one line")));
            let live = image("live", |spec| spec.remove_arguments = vec![word.into()]);
            check(&live, &Beside::default(), Some(("spec.removeArguments", "one line")));
        }
        let url = format!("http://a/{}", "a".repeat(URL_MAX));
        let live = image("live", |spec| (spec.method, spec.url) = (Method::Chain, Some(url)));
        check(&live, &Beside::default(), Some(("spec.url", "longer")));
    }

    #[test]
    fn an_iso_does_not_leave_its_directory() {
        for (file, field) in
            [("../x.iso", Some("spec.isoFile")), ("", Some("spec.isoFile")), ("/srv/../x.iso", None), ("x.iso", None)]
        {
            let image = image("live", |spec| spec.iso_file = file.into());
            check(&image, &Beside::default(), field.map(|field| (field, "")));
        }
        let config = "gone".parse().unwrap();
        let found = Beside { missing_config: Some(&config), ..Beside::default() };
        check(&image("live", |_| {}), &found, Some(("spec.bootConfigs", "no BootConfig gone")));
    }

    #[test]
    fn what_goes_beside_an_image_is_there_and_is_here() {
        let drivers = image("drivers", |_| {});
        let away = image("drivers", |spec| spec.portal = portal());
        let chained = image("drivers", |spec| spec.method = Method::Chain);
        let beside = |names: &[&str], companions: Vec<Option<&Image>>, wanted: Option<&str>| {
            let live = image("live", |spec| spec.companions = names.iter().map(|name| name.parse().unwrap()).collect());
            let found = Beside { companions, ..Beside::default() };
            check(&live, &found, wanted.map(|part| ("spec.companions", part)));
        };
        beside(&["drivers"], vec![Some(&drivers)], None);
        beside(&["drivers"], vec![None], Some("there is no ISCSICdrom drivers"));
        beside(&["drivers"], vec![Some(&away)], Some("elsewhere"));
        beside(&["drivers"], vec![Some(&chained)], Some("elsewhere"));
        beside(&["live"], vec![None], Some("itself"));
        beside(&["drivers", "drivers"], vec![Some(&drivers); 2], Some("twice"));
        beside(&["a"; 9], vec![Some(&drivers); 9], Some("more than the 8"));
    }

    #[test]
    fn nothing_is_wished_of_bytes_that_are_not_ours() {
        type Edit = fn(&mut ImageSpec);
        let wishes: [(&str, Edit); 6] = [
            ("spec.kernelArguments", |spec| spec.kernel_arguments = vec!["quiet".into()]),
            ("spec.removeArguments", |spec| spec.remove_arguments = vec!["quiet".into()]),
            ("spec.configDelivery", |spec| spec.config_delivery = Delivery::Embed),
            ("spec.configDelivery", |spec| spec.config_delivery = Delivery::Seed),
            ("spec.attachAs", |spec| spec.attach_as = AttachAs::Disk),
            ("spec.companions", |spec| spec.companions = vec!["drivers".parse().unwrap()]),
        ];
        let elsewhere: [(&str, Edit); 3] = [
            ("192.0.2.1:3260, target iqn.2000-01.x:y", |spec| spec.portal = portal()),
            ("http://boot.example:8080:", |spec| {
                (spec.method, spec.url) = (Method::Chain, Some("http://boot.example:8080/x?y".into()));
            }),
            ("https://boot.example:", |spec| {
                (spec.method, spec.iso_file) = (Method::Http, String::new());
                spec.url = Some("https://boot.example/a.iso".into());
            }),
        ];
        for (place, away) in elsewhere {
            check(&image("live", away), &Beside::default(), None);
            for (field, wish) in wishes {
                let live = image("live", |spec| {
                    away(spec);
                    wish(spec);
                });
                check(&live, &Beside::default(), Some((field, place)));
            }
        }
        for (method, field) in [(Method::Sanboot, None), (Method::Kernel, Some("spec.method"))] {
            let live = image("live", |spec| (spec.portal, spec.method) = (portal(), method));
            check(&live, &Beside::default(), field.map(|field| (field, "portal")));
        }
    }

    #[test]
    fn an_image_beside_another_stays_here_and_has_it_not_beside_itself() {
        let live = "live".parse().unwrap();
        let found = Beside { beside: Some(&live), ..Beside::default() };
        check(&image("drivers", |_| {}), &found, None);
        check(&image("drivers", |spec| spec.portal = portal()), &found, Some(("spec.portal", "live")));
        let found = Beside { circular: Some(&live), ..Beside::default() };
        check(&image("drivers", |_| {}), &found, Some(("spec.companions", "live has drivers beside itself")));
    }
}
