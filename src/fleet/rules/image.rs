use super::super::{AttachAs, Delivery, Image, ImageSpec, Method, Name};
use super::{Invalid, invalid};

/// Bounds the images beside another: what firmware and drivers scan for units, and a seed, is left room.
const COMPANIONS_MAX: usize = 8;

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
    check_place(spec)?;
    if !spec.read_only {
        return invalid("spec.readOnly", "a CD-ROM is read-only: leave it out, or say true".into());
    }
    if let Some(name) = found.missing_config {
        return invalid("spec.bootConfigs", format!("there is no BootConfig {name}: add it first"));
    }
    if let (Some(other), false) = (found.beside, spec.is_here()) {
        let message = format!("ISCSICdrom {other} has it beside itself (spec.companions): its file must be here");
        return invalid(elsewhere_by(spec), message);
    }
    check_effect(spec)?;
    check_companions(image, found)
}

/// Checks where the image's bytes are said to be.
fn check_place(spec: &ImageSpec) -> Result<(), Invalid> {
    let begins = |schemes: &[&str]| {
        let url = spec.url.as_deref().unwrap_or_default();
        schemes.iter().any(|scheme| url.starts_with(scheme))
    };
    if spec.method == Method::Chain {
        return match begins(&["http://", "https://", "tftp://"]) {
            true => Ok(()),
            false => invalid("spec.url", "method chain goes to a URL: http://, https:// or tftp://".into()),
        };
    }
    if spec.is_elsewhere() {
        return match begins(&["http://", "https://"]) {
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
    Ok(())
}

/// Refuses what is wished of bytes that are not ours to change.
fn check_effect(spec: &ImageSpec) -> Result<(), Invalid> {
    let Some(place) = spec.elsewhere() else { return Ok(()) };
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
            Some(companion) if !companion.spec.is_here() => {
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
    use crate::fleet::{ImageStatus, Meta, Portal};

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
        Some(Portal { address: "192.0.2.1".parse().unwrap(), port: 3260, target_iqn: "iqn.2000-01.x:y".into() })
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
                (spec.method, spec.url) = (Method::Chain, Some("http://me:secret@boot.example:8080/x?y".into()));
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
