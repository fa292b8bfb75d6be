//! The names of the API's certificate: whether clients accept it where the server listens.

use std::net::IpAddr;

use crate::doctor::Finding;
use crate::doctor::certificate::Names;

/// The server's certificate, and where clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCertificate {
    /// Path of the file.
    pub path: String,
    /// The names in it.
    pub names: Names,
    /// Addresses at which clients reach the API.
    pub served: Vec<IpAddr>,
    /// Whether a DNS name of it leads to one of these addresses, or may.
    pub has_usable_name: bool,
}

/// Judges the names.
pub fn check_names(certificate: &NamedCertificate) -> Vec<Finding> {
    const MADE: &str = "make a certificate with the address or a resolvable name as subjectAltName; of one that the \
                        server made (tls.crt in the state directory), delete the file and restart the server";
    let NamedCertificate { path, names, served, has_usable_name } = certificate;
    let missing: Vec<String> =
        served.iter().filter(|address| !names.addresses.contains(address)).map(IpAddr::to_string).collect();
    if missing.is_empty() || *has_usable_name {
        return Vec::new();
    }
    let own = names.dns.iter().cloned().chain(names.addresses.iter().map(IpAddr::to_string));
    let own: Vec<String> = own.collect();
    if own.is_empty() {
        let seen = "it has no subjectAltName: clients refuse the API, whatever its common name is";
        return vec![Finding::error("certificate_without_names", path, seen, MADE)];
    }
    let seen = format!(
        "it is for {}, and the API listens at {}: clients that use the address refuse it",
        own.join(", "),
        missing.join(", ")
    );
    vec![Finding::warning("certificate_other_names", path, seen, MADE)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_where_the_server_listens() {
        type Row<'a> = (&'a [&'a str], &'a [&'a str], bool, Option<&'a str>);
        let rows: [Row<'_>; 6] = [
            (&[], &["10.0.0.2"], false, None),
            (&[], &["10.0.0.9"], false, Some("certificate_other_names")),
            (&["old.example"], &[], false, Some("certificate_other_names")),
            (&["boot.example"], &[], true, None),
            (&["old.example"], &["10.0.0.2", "127.0.0.1"], false, None),
            (&[], &[], false, Some("certificate_without_names")),
        ];
        for (dns, addresses, has_usable_name, expected) in rows {
            let names = Names {
                dns: dns.iter().map(|name| (*name).to_owned()).collect(),
                addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            };
            let served = vec!["10.0.0.2".parse().unwrap()];
            let found = check_names(&NamedCertificate { path: "tls.crt".to_owned(), names, served, has_usable_name });
            assert_eq!(found.first().map(|one| one.code), expected, "{dns:?} {addresses:?}");
        }
    }
}
