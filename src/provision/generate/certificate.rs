//! Validation of PEM certificates.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::FieldError;
use super::body::field_error;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Checks that a text consists of PEM certificates alone (RFC 7468, section 5), and returns it with one final newline.
///
/// # Errors
/// Returns the error of the field.
pub fn certificates(field: &str, text: &str) -> Result<String, FieldError> {
    let invalid = || field_error(field, format!("expected only PEM certificates, each between {BEGIN} and {END}"));
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let (body, after) = rest.strip_prefix(BEGIN).and_then(|rest| rest.split_once(END)).ok_or_else(invalid)?;
        let encoded: String = body.split_ascii_whitespace().collect();
        let der = STANDARD.decode(encoded).map_err(|_| invalid())?;
        // A certificate is one DER SEQUENCE of the stated length (X.690, 8.1).
        if !is_sequence(&der) {
            return Err(invalid());
        }
        rest = after.trim_start();
    }
    Ok(format!("{}\n", text.trim()))
}

/// Returns whether bytes are one DER SEQUENCE of the stated length.
fn is_sequence(der: &[u8]) -> bool {
    let Some([0x30, length, rest @ ..]) = der.get(..).filter(|der| der.len() > 2) else { return false };
    match *length {
        short if short < 0x80 => usize::from(short) == rest.len(),
        long => {
            let octets = usize::from(long & 0x7f);
            let Some((length, content)) = rest.split_at_checked(octets).filter(|_| (1..=4).contains(&octets)) else {
                return false;
            };
            length.iter().fold(0_usize, |sum, octet| sum << 8 | usize::from(*octet)) == content.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_complete() {
        let pem = |der: &[u8]| format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(der));
        let long: Vec<u8> = [&[0x30, 0x82, 0x01, 0x00][..], &[5; 256]].concat();
        for good in [pem(&[0x30, 2, 5, 0]), pem(&long), format!("{}\n{}", pem(&long), pem(&[0x30, 1, 0]))] {
            assert_eq!(certificates("f", &good).unwrap().trim(), good.trim());
        }
        let key = pem(&long).replace("CERTIFICATE", "PRIVATE KEY");
        for bad in
            ["", "x", &pem(&[0x30, 9, 5]), &pem(&[4, 1, 1]), &key, &format!("{}{key}", pem(&long)), &pem(&long)[..90]]
        {
            assert_eq!(certificates("f", bad).unwrap_err().field, "f", "{bad}");
        }
    }
}
