//! Signatures of webhooks by the scheme of Standard Webhooks 1.0.0 (symmetric, `v1`): HMAC-SHA256 over the identifier, the
//! time of the attempt and the body.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Prefix of a secret in text.
const SECRET_PREFIX: &str = "whsec_";
/// Range of the length of a secret, in octets.
const SECRET_OCTETS: std::ops::RangeInclusive<usize> = 24..=64;
/// Maximum number of secrets. Two are in use while one replaces the other.
const MAX_SECRETS: usize = 2;

/// The secrets that a webhook's requests are signed with: each request has a signature by each.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKeys(Vec<Vec<u8>>);

impl fmt::Debug for SigningKeys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SigningKeys({})", self.0.len())
    }
}

/// Error of a file with secrets. It does not contain them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// A line is not a secret.
    #[error("line {0}: expected whsec_ and the base64 of 24 to 64 octets, as in `openssl rand -base64 32`")]
    Line(usize),
    /// There is no secret, or there are too many.
    #[error("{0} secrets found; expected 1, or 2 while one replaces the other, each on a line")]
    Count(usize),
}

impl SigningKeys {
    /// Parses the text of a file: a secret a line, `whsec_` and base64; the prefix may be missing.
    ///
    /// # Errors
    /// A line is not a secret, or there are none or more than two.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        let lines = (1..).zip(text.lines()).map(|(number, line)| (number, line.trim()));
        let decode = |(number, line): (usize, &str)| {
            let key = STANDARD.decode(line.strip_prefix(SECRET_PREFIX).unwrap_or(line)).ok();
            key.filter(|key| SECRET_OCTETS.contains(&key.len())).ok_or(BadSecret::Line(number))
        };
        let keys: Vec<_> = lines.filter(|(_, line)| !line.is_empty()).map(decode).collect::<Result<_, _>>()?;
        match keys.len() {
            1..=MAX_SECRETS => Ok(Self(keys)),
            count => Err(BadSecret::Count(count)),
        }
    }

    /// Returns the value of the header `webhook-signature`. `timestamp` is in seconds since the epoch.
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let sign = |key: &Vec<u8>| {
            let mut code = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
            code.update(format!("{id}.{timestamp}.").as_bytes());
            code.update(body.as_bytes());
            format!("v1,{}", STANDARD.encode(code.finalize().into_bytes()))
        };
        self.0.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn a_signature_is_that_of_the_reference_libraries() {
        let keys = SigningKeys::parse(SECRET).unwrap();
        let signature = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn two_secrets_make_two_signatures() {
        let other = STANDARD.encode([7; 32]);
        let both = SigningKeys::parse(&format!("{SECRET}\n\n{other}\n")).unwrap().sign("a", 1, "b");
        let [first, second] = [SECRET, &other].map(|text| SigningKeys::parse(text).unwrap().sign("a", 1, "b"));
        assert_eq!(both, format!("{first} {second}"));
    }

    #[test]
    fn a_bad_secret_is_refused_with_its_line() {
        for (text, expected) in [
            ("", BadSecret::Count(0)),
            ("\nwhsec_%%%", BadSecret::Line(2)),
            ("whsec_c2hvcnQ=", BadSecret::Line(1)),
            (&format!("{SECRET}\n{SECRET}\n{SECRET}"), BadSecret::Count(3)),
            (&STANDARD.encode([1; 65]), BadSecret::Line(1)),
        ] {
            assert_eq!(SigningKeys::parse(text), Err(expected), "{text}");
        }
        assert_eq!(format!("{:?}", SigningKeys::parse(SECRET).unwrap()), "SigningKeys(1)");
    }
}
