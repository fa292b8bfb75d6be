use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use ipnet::IpNet;

use crate::http::listener::{Peer, Trust};

/// Are the headers that proxies add (RFC 7239, RFC 9110 section 7.6.3, and what came before them).
const FORWARDED: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"];

/// Says what a client of the object API may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May ask what machines ask, and nothing else.
    Nobody,
    /// May read.
    Viewer,
    /// May do everything.
    Admin,
}

/// Holds the bearer tokens of the object API.
pub struct Tokens {
    admin: String,
    viewer: String,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Tokens")
    }
}

impl Tokens {
    /// Reads the tokens of a state directory, making them (file mode 0600) at the first start.
    ///
    /// # Errors
    /// A file that can be neither read nor made, or is empty.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let open = |name: &str| {
            let path = state_dir.join(name);
            read_or_make(&path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        };
        Ok(Self { admin: open("admin.token")?, viewer: open("viewer.token")? })
    }
}

/// Says who may do what, and whose word is believed about where a request comes from.
#[derive(Debug)]
pub struct Access {
    pub tokens: Tokens,
    /// Says whether who asks from this machine over its loopback needs no token.
    pub trust_loopback: bool,
    /// Says whether who asks over the unix socket needs none.
    pub trust_socket: bool,
    /// Lists the proxies whose `X-Forwarded-For` is believed.
    pub proxies: Vec<IpNet>,
}

impl Access {
    /// Finds what a request may do, by where it comes from and the token that it carries.
    pub fn role(&self, peer: &Peer, headers: &HeaderMap) -> Role {
        let by_way = match peer.trust {
            Trust::Proven => Role::Admin,
            Trust::Socket if self.trust_socket => Role::Admin,
            Trust::Network | Trust::Viewer if self.trust_loopback && peer.here && !is_a_pages(headers) => Role::Admin,
            Trust::Viewer => Role::Viewer,
            Trust::Socket | Trust::Network => Role::Nobody,
        };
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        header.and_then(token).map_or(Role::Nobody, |token| self.of_token(&token)).max(by_way)
    }

    /// Finds what the bearer of a token may do.
    pub fn of_token(&self, token: &str) -> Role {
        match token.as_bytes() {
            token if same(token, self.tokens.admin.as_bytes()) => Role::Admin,
            token if same(token, self.tokens.viewer.as_bytes()) => Role::Viewer,
            _ => Role::Nobody,
        }
    }

    /// Finds who asked a proxy of ours: the nearest address on the request's way that is no such proxy.
    ///
    /// A proxy speaks for others: what comes through one does not come from this machine itself, whether the site
    /// names the proxy or it gives itself away.
    pub fn origin(&self, peer: Peer, headers: &HeaderMap) -> Peer {
        let ours = |address: IpAddr| self.proxies.iter().any(|net| net.contains(&address));
        let Some(address) = peer.address.filter(|address| ours(*address)) else {
            let is_forwarded = FORWARDED.iter().any(|name| headers.contains_key(*name));
            return Peer { here: peer.here && !is_forwarded, ..peer };
        };
        let values = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let way: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
        let mut nearest = Some(address);
        for hop in way.into_iter().rev() {
            // A hop that is no address hides everything behind it: then nobody is known to ask.
            nearest = hop.parse::<IpAddr>().ok().map(|hop| hop.to_canonical());
            if nearest.is_none_or(|address| !ours(address)) {
                break;
            }
        }
        Peer { address: nearest, here: false, ..peer }
    }
}

/// Says whether a page in a browser asks, whose it may be: whoever can have somebody on this machine open a page is
/// not this machine. Programs send neither header; browsers do not let a page leave them out (Fetch, 3.1 and Fetch Metadata, 2).
fn is_a_pages(headers: &HeaderMap) -> bool {
    ["origin", "sec-fetch-site", "sec-fetch-mode"].iter().any(|name| headers.contains_key(*name))
}

fn read_or_make(path: &Path) -> io::Result<String> {
    match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(token.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    Ok(token)
}

/// Takes the token out of `Bearer TOKEN`, or of `Basic` as its password, whoever the user is.
///
/// kubectl sends no bearer token over plain http, but does send what stands before an `@` in the server's URL.
fn token(header: &str) -> Option<String> {
    let (scheme, value) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    plain.split_once(':').map(|(_, password)| password.to_owned())
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.read_to_string(&mut text)?;
    match text.trim() {
        "" => Err(io::Error::new(io::ErrorKind::InvalidData, "the token's file is empty: remove it to get a new one")),
        token => Ok(token.to_owned()),
    }
}

/// Compares without telling by its time how much of a guess was right.
fn same(one: &[u8], two: &[u8]) -> bool {
    one.len() == two.len() && one.iter().zip(two).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(place: &Path) -> Access {
        Access {
            tokens: Tokens::open(place).unwrap(),
            trust_loopback: false,
            trust_socket: true,
            proxies: vec!["10.0.0.0/24".parse().unwrap()],
        }
    }

    fn role(access: &Access, trust: Trust, header: &str) -> Role {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, header.parse().unwrap());
        access.role(&Peer { address: None, local: None, here: false, trust }, &headers)
    }

    #[test]
    fn tokens_are_made_once_and_asked_for_from_the_network() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let access = access(place.path());
        for name in ["admin.token", "viewer.token"] {
            assert_eq!(place.path().join(name).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let tokens = &access.tokens;
        assert_eq!(Tokens::open(place.path()).unwrap().admin, tokens.admin);
        let basic = format!("Basic {}", STANDARD.encode(format!("admin:{}", tokens.admin)));
        for header in [&format!("Bearer {}", tokens.admin), &basic] {
            assert_eq!(role(&access, Trust::Network, header), Role::Admin);
        }
        assert_eq!(role(&access, Trust::Network, &format!("Bearer {}", tokens.viewer)), Role::Viewer);
        for header in ["", "Bearer ", "Bearer x", "Basic x", &format!("Basic {}", tokens.admin)] {
            assert_eq!(role(&access, Trust::Network, header), Role::Nobody, "{header}");
        }
        assert_eq!(role(&access, Trust::Proven, ""), Role::Admin);
        assert_eq!(role(&access, Trust::Socket, ""), Role::Admin);
        let access = Access { trust_socket: false, ..access };
        assert_eq!(role(&access, Trust::Socket, ""), Role::Nobody);
        assert_eq!(role(&access, Trust::Socket, &basic), Role::Admin);
        assert_eq!(role(&access, Trust::Viewer, "Bearer x"), Role::Viewer);
        assert_eq!(role(&access, Trust::Viewer, &basic), Role::Admin);
    }

    #[test]
    fn what_came_through_a_proxy_did_not_come_from_here() {
        let place = tempfile::tempdir().unwrap();
        let access =
            Access { trust_loopback: true, proxies: vec!["127.0.0.2/32".parse().unwrap()], ..access(place.path()) };
        let role = |from: &str, header: Option<(&'static str, &str)>| {
            let headers = header.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let headers: HeaderMap = headers.into_iter().collect();
            let address: IpAddr = from.parse().unwrap();
            let peer = Peer { address: Some(address), local: None, here: address.is_loopback(), trust: Trust::Network };
            access.role(&access.origin(peer, &headers), &headers)
        };
        let rows = [
            ("127.0.0.1", None, Role::Admin),
            ("127.0.0.1", Some(("x-forwarded-for", "192.168.1.9")), Role::Nobody),
            ("127.0.0.1", Some(("x-forwarded-for", "127.0.0.1")), Role::Nobody),
            ("127.0.0.1", Some(("forwarded", "for=192.168.1.9")), Role::Nobody),
            ("127.0.0.2", Some(("x-forwarded-for", "127.0.0.1")), Role::Nobody),
            ("127.0.0.2", None, Role::Nobody),
            ("192.168.1.9", None, Role::Nobody),
        ];
        for (from, header, expected) in rows {
            assert_eq!(role(from, header), expected, "{from} {header:?}");
        }
    }

    #[test]
    fn a_forwarded_address_is_believed_of_our_proxies_alone() {
        let place = tempfile::tempdir().unwrap();
        let access = access(place.path());
        let origin = |from: &str, way: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", way.parse().unwrap());
            let peer = Peer { address: from.parse().ok(), local: None, here: false, trust: Trust::Network };
            access.origin(peer, &headers).address.map(|address| address.to_string())
        };
        let rows = [
            ("192.168.1.9", "10.9.9.9", Some("192.168.1.9")),
            ("10.0.0.1", "192.168.1.9", Some("192.168.1.9")),
            ("10.0.0.1", "1.2.3.4, 192.168.1.9, 10.0.0.2", Some("192.168.1.9")),
            ("10.0.0.1", "1.2.3.4, unknown", None),
            ("10.0.0.1", "10.0.0.7", Some("10.0.0.7")),
        ];
        for (from, way, expected) in rows {
            assert_eq!(origin(from, way).as_deref(), expected, "{from} {way}");
        }
    }
}
