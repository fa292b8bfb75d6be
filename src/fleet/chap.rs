use serde::{Deserialize, Serialize};

use super::Secret;

/// Is what an initiator proves itself with (RFC 7143 12.1.3), and the target to it where both do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Chap {
    pub username: String,
    /// Is 12 octets or more.
    pub secret: Secret,
    /// Names the target to initiators that ask it to prove itself too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_secret: Option<Secret>,
}

impl Chap {
    /// Is the fewest octets of a secret (RFC 7143 12.1.3), and the most.
    const SECRET: std::ops::RangeInclusive<usize> = 12..=128;
    const NAME: std::ops::RangeInclusive<usize> = 1..=128;

    /// Says what is wrong with it, and in which field.
    ///
    /// # Errors
    /// A name or secret that iPXE's scripts cannot carry or that is too short, or half of a pair.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        const WORD: &str = "has other characters than letters, digits and -._~+/=:@!,%^*";
        // A script carries them as one word each, and `${` in one is iPXE's.
        let is_word = |text: &str| text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._~+/=:@!,%^*".contains(&c));
        let names = [("username", Some(&self.username)), ("targetUsername", self.target_username.as_ref())];
        for (field, name) in names.into_iter().filter_map(|(field, name)| Some((field, name?))) {
            match is_word(name) && Self::NAME.contains(&name.len()) {
                true => {}
                false if name.is_empty() => return Err((field, "is empty")),
                false => return Err((field, WORD)),
            }
        }
        let secrets = [("secret", Some(&self.secret)), ("targetSecret", self.target_secret.as_ref())];
        for (field, secret) in secrets.into_iter().filter_map(|(field, secret)| Some((field, &secret?.0))) {
            match (Self::SECRET.contains(&secret.len()), is_word(secret)) {
                (false, _) => return Err((field, "has fewer than 12 octets, or more than 128")),
                (true, false) => return Err((field, WORD)),
                (true, true) => {}
            }
        }
        match (&self.target_username, &self.target_secret) {
            (Some(_), Some(secret)) if *secret == self.secret => {
                Err(("targetSecret", "is the initiator's own: both must differ (RFC 7143 12.1.3)"))
            }
            (Some(_), None) => Err(("targetSecret", "is missing beside targetUsername")),
            (None, Some(_)) => Err(("targetUsername", "is missing beside targetSecret")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chap(username: &str, secret: &str, target: Option<(&str, &str)>) -> Chap {
        Chap {
            username: username.to_owned(),
            secret: Secret(secret.to_owned()),
            target_username: target.map(|(name, _)| name.to_owned()),
            target_secret: target.map(|(_, secret)| Secret(secret.to_owned())),
        }
    }

    #[test]
    fn a_secret_is_long_enough_and_one_word_of_a_script() {
        let long = "x".repeat(129);
        for (chap, field) in [
            (chap("node1", "a-secret-of-node1", None), None),
            (chap("node1", "a-secret-of-node1", Some(("target", "a-secret-of-ours"))), None),
            (chap("", "a-secret-of-node1", None), Some("username")),
            (chap("no de", "a-secret-of-node1", None), Some("username")),
            (chap("node1", "too-short", None), Some("secret")),
            (chap("node1", &long, None), Some("secret")),
            (chap("node1", "${a-secret-of}", None), Some("secret")),
            (chap("node1", "a secret of node1", None), Some("secret")),
            (chap("node1", "a-secret-of-node1", Some(("target", "a-secret-of-node1"))), Some("targetSecret")),
            (Chap { target_secret: None, ..chap("n", "a-secret-of-n", Some(("t", "x"))) }, Some("targetSecret")),
            (
                Chap { target_username: None, ..chap("n", "a-secret-of-n", Some(("t", "a-secret-of-t"))) },
                Some("targetUsername"),
            ),
        ] {
            assert_eq!(chap.check().err().map(|(field, _)| field), field, "{chap:?}");
        }
    }
}
