//! Names and forms by which a text shows that it is a secret.

use std::ops::Range;

/// Minimum number of hexadecimal digits in a row that are masked: a token has 44, and a key of 128 bits 32.
const MIN_HEX_RUN: usize = 32;
/// Minimum length of a random word, in octets.
const MIN_RANDOM_LENGTH: usize = 24;

/// Parts of the names of keys and options whose values are secrets.
const SECRET_NAMES: [&str; 22] = [
    "passw",
    "passphrase",
    "passwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "private",
    "credential",
    "psk",
    "wpakey",
    "wpa_key",
    "wireless_wpa",
    "wireless_wep",
    "wep_key",
    "authorization",
    "auths",
    "ssh_keys",
    "rootpw",
    "keyfile",
    "luks_key",
];
/// Exceptions: names with such a part whose values are no secrets.
const NO_SECRET_NAMES: [&str; 10] = [
    "lock_passwd",
    "ssh_pwauth",
    "passwd/user-fullname",
    "passwd/username",
    "passwd/root-login",
    "passwd/make-user",
    "passwd/user-uid",
    "passwd/user-default-groups",
    "user-setup/allow-password",
    "allow-password",
];

/// Returns whether the values of a key, option or question with this name are secrets.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part)) && !NO_SECRET_NAMES.iter().any(|other| name.ends_with(other))
}

/// Returns the ranges of words that are a secret by their form: hashes of crypt(3), and long random or hexadecimal words.
pub(super) fn random_runs(text: &str) -> impl Iterator<Item = Range<usize>> {
    let is_sign = |sign: char| sign.is_ascii_alphanumeric() || "$+/=_-.".contains(sign);
    runs(text, is_sign).flat_map(move |range| {
        let word = &text[range.clone()];
        match is_crypt_hash(word) || is_random(word) {
            true => vec![range],
            false => runs(word, |sign| sign.is_ascii_hexdigit())
                .filter(|run| run.len() >= MIN_HEX_RUN)
                .map(|run| range.start + run.start..range.start + run.end)
                .collect(),
        }
    })
}

/// Returns whether a word is a hash of crypt(3): `$ID$...`.
fn is_crypt_hash(word: &str) -> bool {
    let mut parts = word.split('$');
    let (before, id, rest) = (parts.next(), parts.next().unwrap_or_default(), parts.next());
    let is_id = !id.is_empty() && id.len() <= 8 && id.chars().all(|sign| sign.is_ascii_alphanumeric() || sign == '-');
    before.is_some() && is_id && rest.is_some_and(|rest| !rest.is_empty()) && parts.next().is_some()
}

/// Returns whether a word looks like a key in base64 or the like: long, with capitals, small letters and digits mixed.
fn is_random(word: &str) -> bool {
    let word = word.trim_matches(|sign: char| ".-_=/".contains(sign));
    if word.len() < MIN_RANDOM_LENGTH || word.contains(['.', '-']) || word.starts_with('/') {
        return false;
    }
    let changes = word.as_bytes().windows(2).filter(|pair| kind(pair[0]) != kind(pair[1])).count();
    let has = |test: fn(&u8) -> bool| word.bytes().any(|octet| test(&octet));
    let is_mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
    // Names made of words change at their joints only.
    is_mixed && changes * 3 >= word.len()
}

/// Returns the kind of an octet: capital, small letter, digit, other.
fn kind(octet: u8) -> u8 {
    match octet {
        b'A'..=b'Z' => 0,
        b'a'..=b'z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    }
}

/// Returns the ranges of the longest runs of signs of a kind.
pub(super) fn runs(text: &str, is_part: impl Fn(char) -> bool) -> impl Iterator<Item = Range<usize>> {
    let mut signs = text.char_indices().peekable();
    std::iter::from_fn(move || {
        while signs.next_if(|(_, sign)| !is_part(*sign)).is_some() {}
        let (start, _) = *signs.peek()?;
        while signs.next_if(|(_, sign)| is_part(*sign)).is_some() {}
        Some(start..signs.peek().map_or(text.len(), |(end, _)| *end))
    })
}
