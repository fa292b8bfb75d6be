//! The login of a browser: a signed cookie. The key of the signature is the role's own token, so that a new token ends
//! every session, and a restart of the server ends none.

use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use hyper::header::COOKIE;
use sha2::Sha256;

/// Name of the cookie.
const NAME: &str = "bootlatch_session";
/// Lifetime of a login, in seconds.
pub const LIFETIME: i64 = 12 * 3600;

/// The content of the cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrowserSession<'a> {
    /// Name of the role.
    pub role: &'a str,
    /// End of the session, in seconds since 1970 (UTC).
    pub end: i64,
    /// Signature, in hexadecimal digits.
    signature: &'a str,
}

impl<'a> BrowserSession<'a> {
    /// Returns the session in the cookies of a request. Its signature is not verified yet.
    pub fn of(headers: &'a HeaderMap) -> Option<Self> {
        let fields = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies = fields.flat_map(|field| field.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        let (_, value) = cookies.find(|(name, _)| *name == NAME)?;
        let (role, rest) = value.split_once('.')?;
        let (end, signature) = rest.split_once('.')?;
        Some(Self { role, end: end.parse().ok()?, signature })
    }

    /// Returns whether the session was signed with a token, and has not ended at a time.
    pub fn is_valid(&self, token: &str, now: i64) -> bool {
        let Ok(signature) = hex::decode(self.signature) else { return false };
        now < self.end && signer(token, self.role, self.end).is_some_and(|one| one.verify_slice(&signature).is_ok())
    }
}

/// Returns the `Set-Cookie` of a new session that ends at a time. `is_encrypted` keeps it off connections without TLS.
pub fn set_cookie(token: &str, role: &str, end: i64, is_encrypted: bool) -> Option<String> {
    let signature = hex::encode(signer(token, role, end)?.finalize().into_bytes());
    let secure = if is_encrypted { "; Secure" } else { "" };
    Some(format!("{NAME}={role}.{end}.{signature}; Path=/; Max-Age={LIFETIME}; HttpOnly; SameSite=Strict{secure}"))
}

/// Returns the `Set-Cookie` that ends a session.
pub fn remove_cookie() -> String {
    format!("{NAME}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")
}

fn signer(token: &str, role: &str, end: i64) -> Option<Hmac<Sha256>> {
    let mut signer = Hmac::<Sha256>::new_from_slice(token.as_bytes()).ok()?;
    signer.update(format!("browser session\n{role}\n{end}").as_bytes());
    Some(signer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        [(COOKIE, cookie.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn a_session_is_valid_with_its_token_role_and_time_only() {
        let cookie = set_cookie("secret", "viewer", 1000, true).unwrap();
        assert!(cookie.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
        let pair = cookie.split(';').next().unwrap();
        let fields = headers(&format!("a=b; {pair}"));
        let session = BrowserSession::of(&fields).unwrap();
        assert_eq!((session.role, session.end), ("viewer", 1000));
        assert!(session.is_valid("secret", 999));
        assert!(!session.is_valid("secret", 1000), "it has ended");
        assert!(!session.is_valid("other", 999));
        for (from, to) in [("viewer", "admin"), (".1000.", ".9000.")] {
            let fields = headers(&pair.replace(from, to));
            assert!(!BrowserSession::of(&fields).unwrap().is_valid("secret", 999), "{to}");
        }
        for cookie in ["", "bootlatch_session=", "bootlatch_session=viewer.x.00", "other=viewer.1.00"] {
            assert_eq!(BrowserSession::of(&headers(cookie)), None, "{cookie}");
        }
    }
}
