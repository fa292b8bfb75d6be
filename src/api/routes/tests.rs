//! Tests of the routes as a whole.

use super::*;

#[test]
fn every_kind_is_served_with_kubernetes_verbs() {
    for kind in Kind::ALL {
        let expected = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
        assert_eq!(verbs(kind), expected);
    }
    let hosts = subresources().filter(|(kind, ..)| *kind == Kind::BareMetalHost);
    let names: Vec<&str> = hosts.map(|(_, name, _)| name).collect();
    assert_eq!(
        names,
        [
            "timeline",
            "diagnosis",
            "console",
            "install",
            "localboot",
            "hold",
            "virtualmedia",
            "power",
            "bootdevice",
            "seed",
            "rehearsal",
            "config"
        ]
    );
}
