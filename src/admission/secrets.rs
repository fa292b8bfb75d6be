//! Checks of the secrets in an object that is written. Pure.

use crate::fleet::rules::Invalid;
use crate::fleet::{BmcAddress, Object, Secret};

/// Refuses REDACTED in place of a secret, if no stored secret can stand in for it.
///
/// Secrets that a client wrote back unchanged are restored before this check.
///
/// # Errors
/// The first such field, and what to write.
pub fn check(object: &Object, before: Option<&Object>) -> Result<(), Invalid> {
    let was = before.map(places).unwrap_or_default();
    for (field, secret) in places(object) {
        let kept = was.iter().find(|(other, _)| *other == field).map(|(_, kept)| *kept);
        // A stored secret may be the word itself; then a write of another field must not fail.
        if !secret.is_redacted() || kept == Some(secret) || has_invalid_bmc_address(object, field) {
            continue;
        }
        let is_kept = kept.is_some_and(|kept| !kept.0.is_empty());
        let message = match (field, is_kept) {
            (_, false) => "REDACTED is shown in place of a secret, and no secret is stored: write the secret",
            (BMC, true) => {
                "the BMC's address changed: the stored password is not sent to another BMC, so write the password again"
            }
            (CHAP | CHAP_TARGET, true) => {
                "bootMACAddress changed: the stored secret belongs to another machine, so write it again or remove spec.chap"
            }
            (_, true) => {
                "the portal changed: the stored secret is not sent to another portal, so write the secret again"
            }
        };
        return Err(Invalid { field: field.into(), message: message.into() });
    }
    Ok(())
}

const BMC: &str = "spec.bmc.password";
const CHAP: &str = "spec.chap.secret";
const CHAP_TARGET: &str = "spec.chap.targetSecret";

/// Returns whether the BMC's address does not parse; that is the error to report then.
fn has_invalid_bmc_address(object: &Object, field: &str) -> bool {
    let Object::Host(host) = object else { return false };
    field == BMC && host.spec.bmc.as_ref().is_some_and(|bmc| bmc.address.parse::<BmcAddress>().is_err())
}

/// Returns the secrets of an object with their fields.
fn places(object: &Object) -> Vec<(&'static str, &Secret)> {
    let (bmc, chap, fields) = match object {
        Object::Host(host) => (host.spec.bmc.as_ref(), host.spec.chap.as_ref(), [CHAP, CHAP_TARGET]),
        Object::Image(image) => {
            let chap = image.spec.portal.as_ref().and_then(|portal| portal.chap.as_ref());
            (None, chap, ["spec.portal.chap.secret", "spec.portal.chap.targetSecret"])
        }
        Object::BootConfig(_) | Object::ConfigTemplate(_) => return Vec::new(),
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
        spec.bmc = Some(Bmc::new("b", "", Secret(password.to_owned())));
        let metadata = Meta::named("h".parse().unwrap(), None);
        Object::Host(Arc::new(Host { metadata, spec, status: HostStatus::default() }))
    }

    fn wrong(password: &str, before: Option<&str>) -> Option<String> {
        let before = before.map(host);
        check(&host(password), before.as_ref()).err().map(|wrong| wrong.to_string())
    }

    #[test]
    fn redacted_is_not_a_secret() {
        assert_eq!(wrong("geheim", None), None);
        assert!(wrong("REDACTED", None).unwrap().starts_with("spec.bmc.password: REDACTED is shown"));
        assert!(wrong("REDACTED", Some("")).unwrap().contains("no secret is stored"));
        assert!(wrong("REDACTED", Some("geheim")).unwrap().contains("address changed"));
        assert_eq!(wrong("REDACTED", Some("REDACTED")), None);
    }
}
