//! What a secret must be where one is written. Pure.

use crate::fleet::rules::Invalid;
use crate::fleet::{BmcAddress, Host, HostSpec, Object, Secret};

/// Refuses what a secret reads as where a secret belongs, since nothing is there that it could stand for.
///
/// What a client wrote back unchanged is restored before this is asked.
///
/// # Errors
/// The first such field, and what to write.
pub fn check(host: &Host, before: Option<&Object>) -> Result<(), Invalid> {
    let before = match before {
        Some(Object::Host(before)) => Some(&before.spec),
        _ => None,
    };
    let was = before.map(places);
    for (index, (field, secret)) in places(&host.spec).into_iter().enumerate() {
        let kept = was.as_ref().and_then(|was| was[index].1);
        // An earlier version took the word for a secret: it is mended when that is written, not when a label is.
        if secret.is_none_or(|secret| secret.0 != Secret::REDACTED) || kept == secret {
            continue;
        }
        // What is no address is refused for that.
        let bmc = host.spec.bmc.as_ref().filter(|_| field == "spec.bmc.password");
        if bmc.is_some_and(|bmc| bmc.address.parse::<BmcAddress>().is_err()) {
            continue;
        }
        let is_kept = kept.is_some_and(|kept| !kept.0.is_empty());
        let message = match (field, is_kept) {
            ("spec.bmc.password", true) => {
                "the controller's address is another: what was kept for the former is not told there, so write the password again"
            }
            (_, true) => "the machine is another (bootMACAddress): write the secret again, or take spec.chap away",
            (_, false) => {
                "REDACTED is what a secret reads as, and none is kept here that it could stand for: write the secret"
            }
        };
        return Err(Invalid { field: field.into(), message: message.into() });
    }
    Ok(())
}

fn places(spec: &HostSpec) -> [(&'static str, Option<&Secret>); 3] {
    let chap = spec.chap.as_ref();
    [
        ("spec.bmc.password", spec.bmc.as_ref().map(|bmc| &bmc.password)),
        ("spec.chap.secret", chap.map(|chap| &chap.secret)),
        ("spec.chap.targetSecret", chap.and_then(|chap| chap.target_secret.as_ref())),
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fleet::{Bmc, HostStatus, Mac, Meta};

    fn host(password: &str) -> Host {
        let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        let (address, username, password) = ("b".to_owned(), String::new(), Secret(password.to_owned()));
        spec.bmc = Some(Bmc { address, username, password, disable_certificate_verification: false });
        Host { metadata: Meta::named("h".parse().unwrap(), None), spec, status: HostStatus::default() }
    }

    fn wrong(password: &str, before: Option<&str>) -> Option<String> {
        let before = before.map(|before| Object::Host(Arc::new(host(before))));
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
