//! Validation of SSH public keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::FieldError;
use super::body::field_error;

/// Supported algorithms, and the number of fields after the algorithm's name: RFC 4253 (6.6), RFC 5656 (3.1), RFC 8709
/// (4), and PROTOCOL.u2f of OpenSSH. OpenSSH has removed DSA.
const ALGORITHMS: [(&str, usize); 7] = [
    ("ssh-ed25519", 1),
    ("ssh-rsa", 2),
    ("ecdsa-sha2-nistp256", 2),
    ("ecdsa-sha2-nistp384", 2),
    ("ecdsa-sha2-nistp521", 2),
    ("sk-ssh-ed25519@openssh.com", 2),
    ("sk-ecdsa-sha2-nistp256@openssh.com", 3),
];
/// Maximum length of a line, in octets. An RSA key of 16,384 bits has 2,800 characters.
const MAX_LINE_LENGTH: usize = 8192;
/// Minimum length of an RSA modulus in octets, as in OpenSSH.
const MIN_MODULUS_BYTES: usize = 128;

/// Checks that a text is one public key in the format of `authorized_keys`, without options, and returns it trimmed.
/// Errors do not repeat the text, which may be a private key.
///
/// # Errors
/// Returns the error of the field.
pub fn ssh_key(field: &str, text: &str) -> Result<String, FieldError> {
    let line = text.trim();
    check(line).map(|()| line.to_owned()).map_err(|wrong| field_error(field, wrong))
}

/// Checks the line of a public key.
fn check(line: &str) -> Result<(), String> {
    if line.contains("PRIVATE KEY") {
        return Err("found a private key, expected the public key (the file that ends in .pub)".into());
    }
    if line.len() > MAX_LINE_LENGTH || line.contains(|sign: char| sign.is_control()) {
        return Err(format!("expected one line of at most {MAX_LINE_LENGTH} characters"));
    }
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let (algorithm, encoded) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let Some((name, fields)) = ALGORITHMS.iter().find(|(name, _)| *name == algorithm) else {
        let known: Vec<&str> = ALGORITHMS.iter().map(|(name, _)| *name).collect();
        return Err(format!("unknown algorithm: expected one of {}", known.join(", ")));
    };
    let blob = STANDARD.decode(encoded).map_err(|_| format!("expected a key in base64 after {name}"))?;
    let parts = parts(&blob).filter(|parts| parts.len() == fields + 1 && parts[0] == name.as_bytes());
    let parts = parts.ok_or_else(|| format!("the key after {name} is truncated or has another algorithm"))?;
    match is_valid(name, &parts[1..]) {
        true => Ok(()),
        false => Err(format!("OpenSSH does not accept the key after {name}")),
    }
}

/// Splits a sequence of strings with length prefixes (RFC 4251, section 5). Returns `None` if it is truncated.
fn parts(mut blob: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while !blob.is_empty() {
        let (length, rest) = blob.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (part, rest) = rest.split_at_checked(length)?;
        parts.push(part);
        blob = rest;
    }
    Some(parts)
}

/// Returns whether OpenSSH accepts the fields of a key.
fn is_valid(algorithm: &str, fields: &[&[u8]]) -> bool {
    let point = |curve: &str, octets: usize| {
        fields[0] == curve.as_bytes() && fields[1].len() == 2 * octets + 1 && fields[1][0] == 4
    };
    match algorithm {
        "ssh-ed25519" | "sk-ssh-ed25519@openssh.com" => fields[0].len() == 32,
        "ssh-rsa" => {
            let modulus = fields[1].iter().position(|octet| *octet != 0).map_or(0, |zeros| fields[1].len() - zeros);
            !fields[0].is_empty() && (MIN_MODULUS_BYTES..=2048).contains(&modulus)
        }
        "ecdsa-sha2-nistp384" => point("nistp384", 48),
        "ecdsa-sha2-nistp521" => point("nistp521", 66),
        _ => point("nistp256", 32),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A key from `ssh-keygen`, whose private key was deleted.
    pub const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKEBlMfsxd2jaMCTCad9sK37E22uGZ2fEnfhhpgbhUhR admin@example";

    #[test]
    fn a_public_key_is_one_complete_line() {
        assert_eq!(ssh_key("f", &format!(" {KEY}\n")).unwrap(), KEY);
        let encoded = KEY.split(' ').nth(1).unwrap();
        assert!(ssh_key("f", &format!("ssh-ed25519 {encoded}")).is_ok());
        let cut = &encoded[..encoded.len() - 8];
        for bad in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 AAAAC3...",
            &format!("ssh-ed25519 {cut}"),
            &format!("ssh-rsa {encoded}"),
            &format!("ssh-ed25519 {encoded}AAAA"),
            &format!("ssh-dss {encoded}"),
            &format!("no-pty {KEY}"),
            &format!("{KEY}\n{KEY}"),
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----",
        ] {
            let wrong = ssh_key("f", bad).unwrap_err();
            assert!(wrong.field == "f" && !wrong.message.contains(&encoded[20..40]), "{bad}: {wrong:?}");
            assert!(!wrong.message.contains("b3Blbn"), "{wrong:?}");
        }
    }
}
