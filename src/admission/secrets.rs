//! What a secret must be where one is written. Pure.

use crate::fleet::rules::Invalid;
use crate::fleet::{BmcAddress, Object, Secret};

/// Refuses what a secret reads as where a secret belongs, since nothing is there that it could stand for.
///
/// What a client wrote back unchanged is restored before this is asked.
///
/// # Errors
/// The first such field, and what to write.
pub fn check(object: &Object, before: Option<&Object>) -> Result<(), Invalid> {
    let was = before.map(places).unwrap_or_default();
    for (field, secret) in places(object) {
        let kept = was.iter().find(|(other, _)| *other == field).map(|(_, kept)| *kept);
        // An earlier version took the word for a secret: it is mended when that is written, not when a label is.
        if !secret.is_redacted() || kept == Some(secret) || is_no_address(object, field) {
            continue;
        }
        let is_kept = kept.is_some_and(|kept| !kept.0.is_empty());
        let message = match (field, is_kept) {
            (_, false) => {
                "REDACTED is what a secret reads as, and none is kept here that it could stand for: write the secret"
            }
            (BMC, true) => {
                "the controller's address is another: what was kept for the former is not told there, so write the password again"
            }
            (CHAP | CHAP_TARGET, true) => {
                "the machine is another (bootMACAddress): write the secret again, or take spec.chap away"
            }
            (_, true) => {
                "the portal is another: what was kept for the former is not told there, so write the secret again"
            }
        };
        return Err(Invalid { field: field.into(), message: message.into() });
    }
    Ok(())
}

const BMC: &str = "spec.bmc.password";
const CHAP: &str = "spec.chap.secret";
const CHAP_TARGET: &str = "spec.chap.targetSecret";

/// What is no address is refused for that.
fn is_no_address(object: &Object, field: &str) -> bool {
    let Object::Host(host) = object else { return false };
    field == BMC && host.spec.bmc.as_ref().is_some_and(|bmc| bmc.address.parse::<BmcAddress>().is_err())
}

/// Lists the secrets of an object, each by its field.
fn places(object: &Object) -> Vec<(&'static str, &Secret)> {
    let (bmc, chap, fields) = match object {
        Object::Host(host) => (host.spec.bmc.as_ref(), host.spec.chap.as_ref(), [CHAP, CHAP_TARGET]),
        Object::Image(image) => {
            let chap = image.spec.portal.as_ref().and_then(|portal| portal.chap.as_ref());
            (None, chap, ["spec.portal.chap.secret", "spec.portal.chap.targetSecret"])
        }
        Object::BootConfig(_) => return Vec::new(),
    };
    let ours = chap.map(|chap| (fields[0], &chap.secret));
    let theirs = chap.and_then(|chap| Some((fields[1], chap.target_secret.as_ref()?)));
    bmc.map(|bmc| (BMC, &bmc.password)).into_iter().chain(ours).chain(theirs).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fleet::{Bmc, Host, HostSpec, HostStatus, Mac, Meta};

    fn host(password: &str) -> Object {
        let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        let (address, username, password) = ("b".to_owned(), String::new(), Secret(password.to_owned()));
        spec.bmc = Some(Bmc { address, username, password, disable_certificate_verification: false });
        let metadata = Meta::named("h".parse().unwrap(), None);
        Object::Host(Arc::new(Host { metadata, spec, status: HostStatus::default() }))
    }

    fn wrong(password: &str, before: Option<&str>) -> Option<String> {
        let before = before.map(host);
        check(&host(password), before.as_ref()).err().map(|wrong| wrong.to_string())
    }

    #[test]
    fn what_a_secret_reads_as_is_none() {
        assert_eq!(wrong("geheim", None), None);
        assert!(wrong("REDACTED", None).unwrap().starts_with("spec.bmc.password: REDACTED is what"));
        assert!(wrong("REDACTED", Some("")).unwrap().contains("none is kept"));
        assert!(wrong("REDACTED", Some("geheim")).unwrap().contains("address is another"));
        assert_eq!(wrong("REDACTED", Some("REDACTED")), None);
    }
}
