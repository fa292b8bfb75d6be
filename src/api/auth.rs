//! Roles, tokens, and the origin of requests that come through proxies.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use ipnet::IpNet;
use subtle::ConstantTimeEq;

use crate::api::browser::{is_browser_request, is_cross_site, is_same_origin};
use crate::api::session::{self, BrowserSession};
use crate::gate::tokens;
use crate::http::host_header;
use crate::http::peer::{Peer, PeerTrust};
use crate::store::now;

/// Header fields that proxies add (RFC 7239; RFC 9110, section 7.6.3; and their predecessors).
const FORWARDED: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"];

/// The role of a client, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// No role: only the routes of machines, health and metrics.
    Nobody,
    /// Reads the object API.
    Viewer,
    /// Reads and writes the object API.
    Admin,
}

impl Role {
    /// Returns the name of the role.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        }
    }
}

/// The bearer tokens of the object API.
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
    /// Reads the tokens from a state directory; creates them (file mode 0600) at the first start.
    ///
    /// # Errors
    /// A token file can be neither read nor created, or is empty.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let open = |name: &str| {
            read_or_create(state_dir, name)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", state_dir.join(name).display())))
        };
        Ok(Self { admin: open("admin.token")?, viewer: open("viewer.token")? })
    }

    /// Returns the token of a role.
    fn of(&self, role: Role) -> Option<&str> {
        match role {
            Role::Nobody => None,
            Role::Viewer => Some(&self.viewer),
            Role::Admin => Some(&self.admin),
        }
    }
}

/// The rules that give a request its role and its origin.
#[derive(Debug)]
pub struct Access {
    /// Tokens of the roles.
    pub tokens: Tokens,
    /// Whether programs on this machine get the admin's role over its loopback.
    pub trust_loopback: bool,
    /// Whether clients of the Unix socket get the admin's role.
    pub trust_socket: bool,
    /// Addresses of the proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted.
    pub proxies: Vec<IpNet>,
}

impl Access {
    /// Returns the role of a request: the higher of those that its connection and its token give.
    ///
    /// A browser on this machine is not a local program. A page of another site gets nothing by the certificate or the
    /// password that the browser sends on its own; a bearer token is a page's own knowledge.
    pub fn role(&self, peer: &Peer, headers: &HeaderMap) -> Role {
        let is_own = !is_cross_site(headers);
        let is_local_program =
            || peer.is_local && !is_browser_request(headers) && host_header::names_no_domain(headers);
        let by_connection = match peer.trust {
            PeerTrust::ClientCertificate if is_own => Role::Admin,
            PeerTrust::Socket if self.trust_socket => Role::Admin,
            PeerTrust::Network | PeerTrust::ViewerCertificate if self.trust_loopback && is_local_program() => {
                Role::Admin
            }
            PeerTrust::ViewerCertificate if is_own => Role::Viewer,
            PeerTrust::ClientCertificate | PeerTrust::ViewerCertificate | PeerTrust::Socket | PeerTrust::Network => {
                Role::Nobody
            }
        };
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        header
            .and_then(|header| token(header, is_own))
            .map_or(Role::Nobody, |token| self.token_role(&token))
            .max(by_connection)
            .max(self.cookie_role(headers))
    }

    /// Returns the role that a browser's login gives a request. It changes nothing unless the request proves that a page
    /// of this server sends it: a page on another port of the same host gets the cookie sent as well.
    fn cookie_role(&self, headers: &HeaderMap) -> Role {
        let role = self.session(headers).map_or(Role::Nobody, |(role, _)| role);
        if is_same_origin(headers) { role } else { role.min(Role::Viewer) }
    }

    /// Returns the role of a browser's login and the login's end, in seconds since 1970 (UTC); `None` for a request that
    /// a page of another site caused.
    pub fn session(&self, headers: &HeaderMap) -> Option<(Role, i64)> {
        let session = BrowserSession::of(headers).filter(|_| !is_cross_site(headers))?;
        let role = [Role::Admin, Role::Viewer].into_iter().find(|role| role.as_str() == session.role)?;
        session.is_valid(self.tokens.of(role)?, now().as_second()).then_some((role, session.end))
    }

    /// Returns the `Set-Cookie` of a login with a token; `None` for a wrong token.
    pub fn log_in(&self, token: &str, is_encrypted: bool) -> Option<String> {
        let role = self.token_role(token);
        let end = now().as_second() + session::LIFETIME;
        session::set_cookie(self.tokens.of(role)?, role.as_str(), end, is_encrypted)
    }

    /// Returns the role of a token's bearer.
    pub fn token_role(&self, token: &str) -> Role {
        match token.as_bytes() {
            token if bool::from(token.ct_eq(self.tokens.admin.as_bytes())) => Role::Admin,
            token if bool::from(token.ct_eq(self.tokens.viewer.as_bytes())) => Role::Viewer,
            _ => Role::Nobody,
        }
    }

    /// Returns whether an address is that of a configured proxy.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|net| net.contains(&address))
    }

    /// Returns the client of the configured proxies: the last address of `X-Forwarded-For` that is not one of them, with
    /// the encryption that `X-Forwarded-Proto` names.
    ///
    /// A request that came through any proxy is not a local one, whether the proxy is configured or shows by its header
    /// fields.
    pub fn origin(&self, peer: Peer, headers: &HeaderMap) -> Peer {
        let ours = |address: IpAddr| self.is_proxy(address);
        let Some(address) = peer.address.filter(|address| ours(*address)) else {
            let is_forwarded = headers.keys().any(|name| FORWARDED.contains(&name.as_str()));
            return Peer { is_local: peer.is_local && !is_forwarded, ..peer };
        };
        let values = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
        let mut nearest = Some(address);
        for hop in hops.into_iter().rev() {
            // A hop that is not an address hides all hops before it: the client is unknown.
            nearest = hop.parse::<IpAddr>().ok().map(|hop| hop.to_canonical());
            if nearest.is_none_or(|address| !ours(address)) {
                break;
            }
        }
        let protocol = headers.get_all("x-forwarded-proto").iter().next_back().and_then(|value| value.to_str().ok());
        // The last proxy is the one that is configured.
        let protocol = protocol.and_then(|protocols| protocols.rsplit(',').next()).map(str::trim);
        let is_encrypted = protocol.map(|protocol| protocol.eq_ignore_ascii_case("https"));
        Peer { address: nearest, is_local: false, is_encrypted, ..peer }
    }
}

/// Reads a token file; creates it with a random token if there is none.
fn read_or_create(directory: &Path, name: &str) -> io::Result<String> {
    match read(&directory.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    tokens::create(directory, name, format!("{token}\n").as_bytes())?;
    Ok(token)
}

/// Returns the token of an `Authorization` field: `Bearer TOKEN`, or the password of `Basic` for any user. `Basic` counts
/// only where `takes_basic` says so: browsers remember it, and send it for a page of another site as well.
///
/// kubectl sends no bearer token over http, but does send the user and password of the server's URL.
fn token(header: &str, takes_basic: bool) -> Option<String> {
    let (scheme, value) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") || !takes_basic {
        return None;
    }
    let plain = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    plain.split_once(':').map(|(_, password)| password.to_owned())
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.read_to_string(&mut text)?;
    match text.trim() {
        "" => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the token file is empty: delete it, and a restart creates a new token",
        )),
        token => Ok(token.to_owned()),
    }
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

    fn role(access: &Access, trust: PeerTrust, header: &str) -> Role {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, header.parse().unwrap());
        access.role(&Peer { address: None, local: None, is_local: false, trust, is_encrypted: None }, &headers)
    }

    #[test]
    fn tokens_are_created_once_and_required_over_the_network() {
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
            assert_eq!(role(&access, PeerTrust::Network, header), Role::Admin);
        }
        assert_eq!(role(&access, PeerTrust::Network, &format!("Bearer {}", tokens.viewer)), Role::Viewer);
        for header in ["", "Bearer ", "Bearer x", "Basic x", &format!("Basic {}", tokens.admin)] {
            assert_eq!(role(&access, PeerTrust::Network, header), Role::Nobody, "{header}");
        }
        assert_eq!(role(&access, PeerTrust::ClientCertificate, ""), Role::Admin);
        assert_eq!(role(&access, PeerTrust::Socket, ""), Role::Admin);
        let access = Access { trust_socket: false, ..access };
        assert_eq!(role(&access, PeerTrust::Socket, ""), Role::Nobody);
        assert_eq!(role(&access, PeerTrust::Socket, &basic), Role::Admin);
        assert_eq!(role(&access, PeerTrust::ViewerCertificate, "Bearer x"), Role::Viewer);
        assert_eq!(role(&access, PeerTrust::ViewerCertificate, &basic), Role::Admin);
        // A page of another site can make a browser send these; they prove nothing then.
        let bearer = format!("Bearer {}", access.tokens.admin);
        let rows = [
            (PeerTrust::ClientCertificate, "", Role::Nobody),
            (PeerTrust::ViewerCertificate, "", Role::Nobody),
            (PeerTrust::Network, &*basic, Role::Nobody),
            (PeerTrust::Network, &*bearer, Role::Admin),
        ];
        for (trust, header, expected) in rows {
            let fields = [("authorization", header), ("sec-fetch-site", "cross-site")];
            let headers = fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let peer = Peer { address: None, local: None, is_local: false, trust, is_encrypted: None };
            assert_eq!(access.role(&peer, &headers.into_iter().collect()), expected, "{trust:?} {header}");
        }
    }

    #[test]
    fn a_login_reads_everywhere_and_writes_from_our_own_pages_only() {
        let place = tempfile::tempdir().unwrap();
        let access = access(place.path());
        assert_eq!(access.log_in("x", false), None);
        let cookie = |token: &str| access.log_in(token, false).unwrap().split(';').next().unwrap().to_owned();
        let (admin, viewer) = (cookie(&access.tokens.admin), cookie(&access.tokens.viewer));
        type Fields = &'static [(&'static str, &'static str)];
        let rows: [(&str, Fields, Role); 8] = [
            (&admin, &[], Role::Viewer),
            (&admin, &[("sec-fetch-site", "none")], Role::Viewer),
            (&admin, &[("sec-fetch-site", "same-origin")], Role::Admin),
            (&admin, &[("origin", "http://a:1"), ("host", "a:1")], Role::Admin),
            (&admin, &[("origin", "http://a:2"), ("host", "a:1")], Role::Nobody),
            (&admin, &[("sec-fetch-site", "same-site")], Role::Nobody),
            (&viewer, &[("sec-fetch-site", "same-origin")], Role::Viewer),
            ("bootlatch_session=admin.99999999999.00", &[("sec-fetch-site", "same-origin")], Role::Nobody),
        ];
        for (cookie, fields, expected) in rows {
            let fields = fields.iter().copied().chain([("cookie", cookie)]);
            let fields = fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let headers: HeaderMap = fields.collect();
            let peer =
                Peer { address: None, local: None, is_local: true, trust: PeerTrust::Network, is_encrypted: None };
            assert_eq!(access.role(&peer, &headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_request_through_a_proxy_is_not_local() {
        let place = tempfile::tempdir().unwrap();
        let access =
            Access { trust_loopback: true, proxies: vec!["127.0.0.2/32".parse().unwrap()], ..access(place.path()) };
        let role = |from: &str, header: Option<(&'static str, &str)>| {
            let headers = header.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let mut headers: HeaderMap = headers.into_iter().collect();
            headers.entry("host").or_insert("127.0.0.1:8080".parse().unwrap());
            let address: IpAddr = from.parse().unwrap();
            let peer = Peer {
                address: Some(address),
                local: None,
                is_local: address.is_loopback(),
                trust: PeerTrust::Network,
                is_encrypted: None,
            };
            access.role(&access.origin(peer, &headers), &headers)
        };
        let rows = [
            ("127.0.0.1", None, Role::Admin),
            ("127.0.0.1", Some(("host", "localhost")), Role::Admin),
            ("127.0.0.1", Some(("host", "rebound.example:8080")), Role::Nobody),
            ("127.0.0.1", Some(("origin", "http://127.0.0.1:8080")), Role::Nobody),
            ("127.0.0.1", Some(("user-agent", "Mozilla/5.0 (X11) Firefox/140.0")), Role::Nobody),
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

    fn peer(from: &str) -> Peer {
        let address = from.parse().ok();
        Peer { address, local: None, is_local: false, trust: PeerTrust::Network, is_encrypted: None }
    }

    #[test]
    fn a_forwarded_protocol_is_believed_of_configured_proxies_only() {
        let place = tempfile::tempdir().unwrap();
        let access = access(place.path());
        type Protocols = &'static [&'static str];
        let rows: [(&str, Option<bool>, Protocols, Option<bool>); 9] = [
            ("10.0.0.1", None, &["https"], Some(true)),
            ("10.0.0.1", None, &["HTTPS"], Some(true)),
            ("10.0.0.1", None, &["http"], Some(false)),
            ("10.0.0.1", Some(true), &["http"], Some(false)),
            ("10.0.0.1", None, &["http, https"], Some(true)),
            ("10.0.0.1", None, &["https", "http"], Some(false)),
            ("10.0.0.1", Some(true), &[], None),
            ("192.168.1.9", None, &["https"], None),
            ("192.168.1.9", Some(true), &["http"], Some(true)),
        ];
        for (from, is_encrypted, protocols, expected) in rows {
            let name = hyper::header::HeaderName::from_static("x-forwarded-proto");
            let headers = protocols.iter().map(|protocol| (name.clone(), protocol.parse().unwrap())).collect();
            let origin = access.origin(Peer { is_encrypted, ..peer(from) }, &headers);
            assert_eq!(origin.is_encrypted, expected, "{from} {protocols:?}");
        }
    }

    #[test]
    fn a_forwarded_address_is_believed_of_configured_proxies_only() {
        let place = tempfile::tempdir().unwrap();
        let access = access(place.path());
        let origin = |from: &str, hops: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", hops.parse().unwrap());
            access.origin(peer(from), &headers).address.map(|address| address.to_string())
        };
        let rows = [
            ("192.168.1.9", "10.9.9.9", Some("192.168.1.9")),
            ("10.0.0.1", "192.168.1.9", Some("192.168.1.9")),
            ("10.0.0.1", "1.2.3.4, 192.168.1.9, 10.0.0.2", Some("192.168.1.9")),
            ("10.0.0.1", "1.2.3.4, unknown", None),
            ("10.0.0.1", "10.0.0.7", Some("10.0.0.7")),
        ];
        for (from, hops, expected) in rows {
            assert_eq!(origin(from, hops).as_deref(), expected, "{from} {hops}");
        }
    }
}
