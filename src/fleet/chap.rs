use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// The CHAP secrets of an initiator (RFC 7143 12.1.3), and of the target for mutual authentication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Chap {
    /// Name of the initiator.
    pub username: String,
    /// Secret of the initiator, 12 to 128 octets.
    pub secret: Secret,
    /// Name of the target, for mutual authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_username: Option<String>,
    /// Secret of the target, 12 to 128 octets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_secret: Option<Secret>,
}

impl Chap {
    /// Length of a secret, in octets. The minimum is that of RFC 7143 12.1.3.
    const SECRET: std::ops::RangeInclusive<usize> = 12..=128;
    /// Length of a name, in octets.
    const NAME: std::ops::RangeInclusive<usize> = 1..=128;

    /// Checks the names and secrets.
    ///
    /// # Errors
    /// The field and what is wrong with it: an iPXE script cannot carry the value, the length is out of range, or one
    /// half of the target's pair is missing.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        const WORD: &str = "contains characters other than letters, digits and -._~+/=:@!,%^*";
        // A script carries each as one word, in which iPXE expands `${`.
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
                (false, _) => return Err((field, "must have 12 to 128 octets")),
                (true, false) => return Err((field, WORD)),
                (true, true) => {}
            }
        }
        match (&self.target_username, &self.target_secret) {
            (Some(_), Some(secret)) if *secret == self.secret => {
                Err(("targetSecret", "must differ from the initiator's secret (RFC 7143 12.1.3)"))
            }
            (Some(_), None) => Err(("targetSecret", "is required with targetUsername")),
            (None, Some(_)) => Err(("targetUsername", "is required with targetSecret")),
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
