/// Checks the authority of a URL that machines are given and whoever reads the object is shown (RFC 3986, section 3.2).
///
/// # Errors
/// What is wrong with it. Never tells a password that stands in it.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    let Some((_, rest)) = url.split_once("://") else { return Err("it is no URL: it begins with no scheme://") };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("a name or a password before an @ would be shown to whoever may read, and stand in scripts: \
                    leave it out, and serve the file where none is asked for");
    }
    let (host, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, port))) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, port),
        Some(_) => return Err("the address in its brackets is no IPv6 address"),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    // iPXE fills in `${next-server}` and the like.
    let odd = |letter: char| !(letter.is_alphanumeric() || "-._~${}:".contains(letter));
    if host.is_empty() || host.contains(odd) {
        return Err("it names no host");
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(()),
        Some(port) if port.parse().is_ok_and(|port: u16| port > 0) => Ok(()),
        _ => Err("its port is none of 1 to 65535"),
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
            ("http://", Some("no host")),
            ("http:///a.iso", Some("no host")),
            ("http://:80/a.iso", Some("no host")),
            ("http://a\\b/", Some("no host")),
            ("http://a:port/", Some("port")),
            ("http://a:0/", Some("port")),
            ("http://[fd00::1]8/", Some("port")),
            ("http://[a]/", Some("IPv6")),
            ("http://[fd00::1", Some("IPv6")),
            ("a.iso", Some("no URL")),
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
