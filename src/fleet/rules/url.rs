/// Checks the authority of a URL that machines and API clients see (RFC 3986, section 3.2).
///
/// # Errors
/// The fault. Never contains a password from the URL.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    let Some((_, rest)) = url.split_once("://") else { return Err("not a URL: expected scheme:// at the beginning") };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(
            "credentials before an @ would be visible to every reader and in scripts: remove them, and serve the \
                    file without authentication",
        );
    }
    let (host, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, port))) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, port),
        Some(_) => return Err("the address in brackets is not an IPv6 address"),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    // iPXE expands `${next-server}` and the like.
    let odd = |letter: char| !(letter.is_alphanumeric() || "-._~${}:".contains(letter));
    if host.is_empty() || host.contains(odd) {
        return Err("the host is missing or has invalid characters");
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(()),
        Some(port) if port.parse().is_ok_and(|port: u16| port > 0) => Ok(()),
        _ => Err("the port is not in 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_and_carries_no_password() {
        let rows = [
            ("http://m.example/a.iso", None),
            ("https://10.0.0.1:8443/a.iso?x=1@2", None),
            ("http://[fd00::1]:80/a@b", None),
            ("http://[fd00::1]", None),
            ("http://${next-server}/boot.ipxe", None),
            ("http://u:HUSH@m.example/a.iso", Some("@")),
            ("http://u@m.example", Some("@")),
            ("http://@m.example?", Some("@")),
            ("http://", Some("host is missing")),
            ("http:///a.iso", Some("host is missing")),
            ("http://:80/a.iso", Some("host is missing")),
            ("http://a\\b/", Some("host is missing")),
            ("http://a:port/", Some("port")),
            ("http://a:0/", Some("port")),
            ("http://[fd00::1]8/", Some("port")),
            ("http://[a]/", Some("IPv6")),
            ("http://[fd00::1", Some("IPv6")),
            ("a.iso", Some("not a URL")),
        ];
        for (url, wrong) in rows {
            match (check_url(url), wrong) {
                (Ok(()), None) => {}
                (Err(told), Some(part)) => assert!(told.contains(part) && !told.contains("HUSH"), "{url}: {told}"),
                (came, _) => panic!("{url}: {came:?}"),
            }
        }
    }
}
