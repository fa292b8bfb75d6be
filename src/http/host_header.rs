//! The Host field of a request (RFC 9112, section 3.2).

use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Request, Version};

/// Returns why a request must be answered 400 for its Host fields; `None` where they are valid.
pub fn host_fault<B>(request: &Request<B>) -> Option<&'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() >= Version::HTTP_11 => Some("the Host field is missing"),
        (Some(_), Some(_)) => Some("there is more than one Host field"),
        (Some(value), None) if !is_host(value) => Some("the Host field is no host with an optional port"),
        (None | Some(_), _) => None,
    }
}

/// Returns whether a request names the server by an IP address, or as localhost. A page whose own name was changed to
/// resolve to this server (DNS rebinding) cannot: its browser sends the page's name.
pub fn names_no_domain(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|value| value.to_str().ok()) else { return false };
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok()),
        None => {
            let name = host.split_once(':').map_or(host, |(name, _)| name);
            name.parse::<Ipv4Addr>().is_ok() || name.eq_ignore_ascii_case("localhost")
        }
    }
}

/// Returns whether a value has only characters of a host and a port. It may be empty, where a target has no host.
fn is_host(value: &HeaderValue) -> bool {
    value.as_bytes().iter().all(|octet| octet.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, hosts: &[&str]) -> Request<()> {
        let mut request = Request::builder().version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn a_request_of_http_1_1_has_one_valid_host() {
        let rows: &[(Version, &[&str], bool)] = &[
            (Version::HTTP_11, &["10.0.0.1:8080"], true),
            (Version::HTTP_11, &["[fe80::1%25lan0]:80"], true),
            (Version::HTTP_11, &[""], true),
            (Version::HTTP_10, &[], true),
            (Version::HTTP_11, &[], false),
            (Version::HTTP_11, &["a", "a"], false),
            (Version::HTTP_10, &["a", "b"], false),
            (Version::HTTP_11, &["a b"], false),
            (Version::HTTP_11, &["user@a"], false),
            (Version::HTTP_11, &["a/b"], false),
            (Version::HTTP_11, &["a, b"], false),
        ];
        for (version, hosts, is_valid) in rows {
            assert_eq!(host_fault(&request(*version, hosts)).is_none(), *is_valid, "{version:?} {hosts:?}");
        }
    }

    #[test]
    fn only_an_address_or_localhost_is_no_domain() {
        let rows = [
            ("127.0.0.1", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("[::1]", true),
            ("LocalHost:80", true),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example:8080", false),
            ("evil.example", false),
            ("[::1", false),
            ("", false),
        ];
        for (host, expected) in rows {
            assert_eq!(names_no_domain(request(Version::HTTP_11, &[host]).headers()), expected, "{host:?}");
        }
        assert!(!names_no_domain(&HeaderMap::new()));
    }
}
