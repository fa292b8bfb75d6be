//! Tokens in the URLs of boot scripts. A token proves that its bearer was served the script of an install. Tokens are
//! derived from a key and not stored.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;

use crate::fleet::{Host, Mac, Name};

/// Length of the key, in octets.
const KEY_BYTES: usize = 32;
/// A key in the state directory.
pub type TokenKey = [u8; KEY_BYTES];
/// Length of the authentication code in a token, in octets: 128 bits.
const CODE_BYTES: usize = 16;

/// The key with which tokens are made and checked.
pub struct BootTokens {
    key: TokenKey,
}

impl std::fmt::Debug for BootTokens {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("BootTokens")
    }
}

/// Reads a key from the state directory, or creates one with mode 0600.
///
/// # Errors
/// The file cannot be read or written, or has another length.
pub fn key(state_dir: &Path, name: &str) -> std::io::Result<TokenKey> {
    let path = state_dir.join(name);
    let mut key = [0; KEY_BYTES];
    match std::fs::File::open(&path) {
        Ok(mut file) => file.read_exact(&mut key)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            for half in key.chunks_mut(16) {
                half.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
            }
            create(state_dir, name, &key)?;
        }
        Err(error) => return Err(error),
    }
    Ok(key)
}

/// Creates a file of the state directory with mode 0600, durably. After a crash it exists whole or not at all.
///
/// # Errors
/// The file system's error.
pub fn create(state_dir: &Path, name: &str, content: &[u8]) -> std::io::Result<()> {
    let fresh = state_dir.join(format!("{name}.new"));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&fresh, state_dir.join(name))?;
    std::fs::File::open(state_dir)?.sync_all()
}

impl BootTokens {
    /// Returns the tokens under a given key.
    #[cfg(test)]
    pub(crate) fn with_key(key: TokenKey) -> Self {
        Self { key }
    }

    /// Reads the key `token.key`, or creates it.
    ///
    /// # Errors
    /// The file cannot be read or written, or has another length.
    pub fn open(state_dir: &Path) -> std::io::Result<Self> {
        Ok(Self { key: key(state_dir, "token.key")? })
    }

    /// Returns the token of a host's present install: the MAC address, and a code over it, the host's UID and the time of
    /// the first offer.
    pub fn of(&self, host: &Host) -> String {
        let mac = host.spec.boot_mac_address;
        let mut code = self.start();
        code.update(&mac.0);
        code.update(host.metadata.uid.as_bytes());
        let install = host.status.install.as_ref().and_then(|install| install.first_offer_time);
        code.update(&install.map_or(0, |at| at.as_millisecond()).to_be_bytes());
        format_token(mac, code)
    }

    /// Returns the token of a host's view of an image. It gives access to these bytes only; `tag` identifies them.
    pub fn of_medium(&self, host: &Host, image: &Name, tag: &str) -> String {
        let mac = host.spec.boot_mac_address;
        let mut code = self.start();
        // The token of an install has a UUID of 36 characters at this place: the two cannot be equal.
        for part in [
            &mac.0[..],
            b" reads ",
            host.metadata.uid.as_bytes(),
            b" ",
            image.as_str().as_bytes(),
            b" ",
            tag.as_bytes(),
        ] {
            code.update(part);
        }
        format_token(mac, code)
    }

    /// Returns whether a token is that of a host's view of an image, in constant time.
    pub fn holds_medium(&self, token: &str, host: &Host, image: &Name, tag: &str) -> bool {
        same(&self.of_medium(host, image, tag), token)
    }

    /// Returns the MAC address that a token claims; `holds` verifies the claim.
    pub fn claimed(token: &str) -> Option<Mac> {
        let well_formed = token.len() == 12 + 2 * CODE_BYTES && token.bytes().all(|byte| byte.is_ascii_hexdigit());
        well_formed.then(|| token[..12].parse().ok()).flatten()
    }

    /// Returns whether a token is that of the host's present install, in constant time.
    pub fn holds(&self, token: &str, host: &Host) -> bool {
        same(&self.of(host), token)
    }

    fn start(&self) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length")
    }
}

/// Formats a token: the MAC address and the first octets of the code.
fn format_token(mac: Mac, code: Hmac<Sha256>) -> String {
    format!("{}{}", hex::encode(mac.0), hex::encode(&code.finalize().into_bytes()[..CODE_BYTES]))
}

fn same(expected: &str, token: &str) -> bool {
    let differs = expected.bytes().zip(token.bytes()).fold(0, |differs, (one, two)| differs | (one ^ two));
    expected.len() == token.len() && differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, Install, Meta};

    fn host(last: u8, offered: i64) -> Host {
        let first_offer_time = jiff::Timestamp::from_second(offered).ok();
        let install = Some(Install { first_offer_time, ..Install::default() });
        let status = HostStatus { install, ..HostStatus::default() };
        Host {
            metadata: Meta::named("h".parse().unwrap(), None),
            spec: HostSpec::for_mac(Mac([2, 0, 0, 0, 0, last])),
            status,
        }
    }

    #[test]
    fn a_token_belongs_to_one_host_and_one_install() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = BootTokens::open(directory.path()).unwrap();
        let token = tokens.of(&host(1, 100));
        assert_eq!(BootTokens::claimed(&token), Some(Mac([2, 0, 0, 0, 0, 1])));
        assert!(tokens.holds(&token, &host(1, 100)));
        for other in [host(2, 100), host(1, 101)] {
            assert!(!tokens.holds(&token, &other));
        }
        assert!(!tokens.holds(&token[..40], &host(1, 100)) && !tokens.holds("", &host(1, 100)));
        let again = BootTokens::open(directory.path()).unwrap();
        assert!(again.holds(&token, &host(1, 100)), "the key is kept");
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(!BootTokens::open(elsewhere.path()).unwrap().holds(&token, &host(1, 100)));
    }

    #[test]
    fn a_medium_token_belongs_to_one_hosts_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = BootTokens::open(directory.path()).unwrap();
        let (live, other): (Name, Name) = ("live".parse().unwrap(), "other".parse().unwrap());
        let token = tokens.of_medium(&host(1, 100), &live, "tag");
        assert_eq!(BootTokens::claimed(&token), Some(Mac([2, 0, 0, 0, 0, 1])));
        assert!(tokens.holds_medium(&token, &host(1, 200), &live, "tag"), "the bytes are the same");
        for (host, image, tag) in
            [(host(2, 100), &live, "tag"), (host(1, 100), &other, "tag"), (host(1, 100), &live, "x")]
        {
            assert!(!tokens.holds_medium(&token, &host, image, tag));
        }
        assert!(!tokens.holds(&token, &host(1, 100)), "it is not the token of an install");
    }

    #[test]
    fn other_texts_claim_nothing() {
        for text in ["", "x", "é", &"g".repeat(44), &"0".repeat(43)] {
            assert_eq!(BootTokens::claimed(text), None, "{text}");
        }
    }
}
