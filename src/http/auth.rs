use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use super::{Peer, Trust};

/// Says what a client of the object API may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May ask what machines ask, and nothing else.
    Nobody,
    /// May do everything.
    Admin,
}

/// Holds the bearer tokens of the object API.
pub struct Tokens {
    admin: String,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Tokens")
    }
}

impl Tokens {
    /// Reads the admin's token from a state directory, making it (file mode 0600) at the first start.
    ///
    /// # Errors
    /// The file can be neither read nor made, or is empty.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join("admin.token");
        match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other.map(|admin| Self { admin }),
        }
        let admin = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(admin.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        Ok(Self { admin })
    }

    /// Finds what a request may do, by where it comes from and the token that it carries.
    pub fn role(&self, peer: &Peer, headers: &HeaderMap) -> Role {
        if peer.trust == Trust::Local {
            return Role::Admin;
        }
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        match header.and_then(token) {
            Some(token) if same(token.as_bytes(), self.admin.as_bytes()) => Role::Admin,
            _ => Role::Nobody,
        }
    }
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

    fn role(tokens: &Tokens, trust: Trust, header: &str) -> Role {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, header.parse().unwrap());
        tokens.role(&Peer { address: None, local: None, trust }, &headers)
    }

    #[test]
    fn a_token_is_made_once_and_asked_for_from_the_network() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(place.path()).unwrap();
        let file = place.path().join("admin.token");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let again = Tokens::open(place.path()).unwrap();
        assert_eq!(again.admin, tokens.admin);
        let basic = format!("Basic {}", STANDARD.encode(format!("admin:{}", tokens.admin)));
        for header in [&format!("Bearer {}", tokens.admin), &basic] {
            assert_eq!(role(&tokens, Trust::Network, header), Role::Admin);
        }
        for header in ["", "Bearer ", "Bearer x", &format!("Basic {}", tokens.admin)] {
            assert_eq!(role(&tokens, Trust::Network, header), Role::Nobody, "{header}");
        }
        assert_eq!(role(&tokens, Trust::Local, ""), Role::Admin);
    }
}
