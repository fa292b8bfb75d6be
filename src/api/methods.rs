//! Which methods each path takes. What is asked otherwise is answered 405, with those that are.

use hyper::Method;
use hyper::header::{ALLOW, HeaderValue};

use crate::fleet::Kind;

use crate::api::objects::access_reviews;
use crate::api::objects::status::Status;
use crate::http::reply::Reply;

const READ: &str = "GET, HEAD";
const COLLECTION: &str = "GET, HEAD, POST";
const ITEM: &str = "GET, HEAD, PUT, PATCH, DELETE";
const ASK: &str = "POST";

/// Answers a method that a path does not take; nothing where it does, or where there is no such path.
pub fn refused(method: &Method, parts: &[&str]) -> Option<Reply> {
    let allowed = of(parts)?;
    if allowed.split(", ").any(|one| one == method.as_str()) {
        return None;
    }
    let mut reply = Status::method_not_allowed().reply();
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    Some(reply)
}

/// Gives the methods of a path, as `Allow` lists them (RFC 9110, section 10.2.1).
fn of(parts: &[&str]) -> Option<&'static str> {
    match parts {
        ["ipxe" | "boot.ipxe" | "get_ignition" | "healthz" | "readyz" | "livez" | "metrics" | "version"]
        | ["boot", _, _, ..]
        | ["iso" | "files", _, ..]
        | ["media", _, _]
        | ["config", _]
        | ["config" | "nocloud", _, _]
        | ["configs", _]
        | ["api" | "apis"]
        | ["openapi", "v2" | "v3"]
        | ["openapi", "v3", "api", "v1"]
        | ["api", "v1"]
        | ["api", "v1", "bootconfig" | "timeline" | "uploads"]
        | ["api", "v1", "ipxe", "boot" | "localboot"] => Some(READ),
        ["api", "v1", "uploads", _] => Some("GET, HEAD, DELETE"),
        ["phone_home" | "phone-home"]
        | ["phone_home" | "phone-home", _]
        | ["api", "v1", "boot-complete"]
        | ["api", "v1", "configs", "ignition" | "cloudinit", "generate"]
        // No ISO is named so: see admit.
        | ["api", "v1", "iscsi-cdroms", "upload"] => Some(ASK),
        _ if access_reviews::named(parts).is_some() => Some(ASK),
        ["redfish", rest @ ..] => redfish(rest),
        ["api", "v1", "namespaces", _, plural, rest @ ..] => object(kind(plural)?, true, rest),
        ["api", "v1", plural, rest @ ..] => object(kind(plural)?, false, rest),
        _ => None,
    }
}

fn kind(plural: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.plural() == plural)
}

fn redfish(parts: &[&str]) -> Option<&'static str> {
    match parts {
        [] | ["v1"] | ["v1", "odata" | "$metadata" | "Systems" | "Managers" | "Chassis" | "SessionService"] => {
            Some(READ)
        }
        ["v1", "SessionService", "Sessions"] => Some(COLLECTION),
        ["v1", "SessionService", "Sessions", _] => Some("GET, HEAD, DELETE"),
        ["v1", "Systems", _] | ["v1", "Systems" | "Managers", _, "VirtualMedia", "Cd"] => Some("GET, HEAD, PATCH"),
        ["v1", "Managers" | "Chassis", _]
        | ["v1", "Systems" | "Managers", _, "VirtualMedia"]
        | ["v1", "Systems", _, "EthernetInterfaces"]
        | ["v1", "Systems", _, "EthernetInterfaces", "1"] => Some(READ),
        ["v1", "Systems", _, "Actions", "ComputerSystem.Reset"]
        | [
            "v1",
            "Systems" | "Managers",
            _,
            "VirtualMedia",
            "Cd",
            "Actions",
            "VirtualMedia.InsertMedia" | "VirtualMedia.EjectMedia",
        ] => Some(ASK),
        _ => None,
    }
}

fn object(kind: Kind, in_namespace: bool, rest: &[&str]) -> Option<&'static str> {
    if in_namespace && !kind.is_namespaced() {
        return None;
    }
    match (kind, rest) {
        (_, []) => Some(COLLECTION),
        (kind, _) if kind.is_namespaced() != in_namespace => None,
        (_, [_]) => Some(ITEM),
        (Kind::BareMetalHost, [_, "install" | "medium" | "release" | "hold"]) => Some(ASK),
        (_, [_, "timeline"]) | (Kind::BareMetalHost, [_, "seed"]) | (Kind::IscsiCdrom, [_, "files"]) => Some(READ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(path: &str) -> Option<&'static str> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        of(&parts)
    }

    #[test]
    fn a_path_takes_what_it_says() {
        let rows = [
            ("/ipxe", Some(READ)),
            ("/files/a/b", Some(READ)),
            ("/configs/a.ign", Some(READ)),
            ("/api/v1/configs/ignition/generate", Some(ASK)),
            ("/api/v1/configs/kickstart/generate", None),
            ("/api/v1/boot-complete", Some(ASK)),
            ("/api/v1/baremetalhosts", Some(COLLECTION)),
            ("/api/v1/baremetalhosts/a", None),
            ("/api/v1/namespaces/n/baremetalhosts/a", Some(ITEM)),
            ("/api/v1/namespaces/n/baremetalhosts/a/hold", Some(ASK)),
            ("/api/v1/namespaces/n/bootconfigs", None),
            ("/api/v1/iscsi-cdroms/upload", Some(ASK)),
            ("/api/v1/iscsi-cdroms/a/files", Some(READ)),
            ("/api/v1/pods", None),
        ];
        for (path, expected) in rows {
            assert_eq!(allowed(path), expected, "{path}");
        }
    }

    #[test]
    fn every_described_operation_is_one_that_its_path_takes() {
        let document = crate::api::openapi::third();
        for (path, operations) in document["paths"].as_object().unwrap() {
            let takes = allowed(path).unwrap_or_else(|| panic!("{path} is described, and is no path"));
            for method in operations.as_object().unwrap().keys() {
                let method = method.to_uppercase();
                assert!(takes.split(", ").any(|one| one == method), "{method} {path} is described, and refused");
            }
        }
    }
}
