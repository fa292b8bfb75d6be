use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::Fault;
use super::body::fault;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Reads certificates in PEM (RFC 7468, section 5), and nothing beside them.
pub fn certificates(field: &str, text: &str) -> Result<String, Fault> {
    let wrong = || fault(field, format!("certificates in PEM, each between {BEGIN} and {END}, and nothing else"));
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (body, after) = rest.strip_prefix(BEGIN).and_then(|rest| rest.split_once(END)).ok_or_else(wrong)?;
        let encoded: String = body.split_ascii_whitespace().collect();
        let der = STANDARD.decode(encoded).map_err(|_| wrong())?;
        // A certificate is a SEQUENCE that is as long as it says (X.690, 8.1).
        if !is_sequence(&der) {
            return Err(wrong());
        }
        rest = after.trim_start();
    }
    Ok(format!("{}\n", text.trim()))
}

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
    fn a_certificate_is_whole() {
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
