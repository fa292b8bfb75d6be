//! The time in which a certificate is valid (RFC 5280, section 4.1.2.5), read from its DER. Pure.

use jiff::Timestamp;
use jiff::civil::DateTime;

/// Tags of DER (X.690): a sequence, an integer, the two forms of a time, and the explicit tag of the version.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// The first and the last second of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: Timestamp,
    /// The last second.
    pub until: Timestamp,
}

/// Returns the validity of a certificate in DER; `None` if it is no certificate.
pub fn of_certificate(der: &[u8]) -> Option<Validity> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        fields = element(fields, tag)?.1;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (from, rest) = time(validity)?;
    let (until, _) = time(rest)?;
    Some(Validity { from, until })
}

/// Returns the content of an element with a tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (length, rest) = length(rest)?;
    let (content, rest) = rest.split_at_checked(length)?;
    (*found == tag).then_some((content, rest))
}

/// Reads a length: one octet, or the number of octets that have it.
fn length(der: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = der.split_first()?;
    if *first < 0x80 {
        return Some((usize::from(*first), rest));
    }
    let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
    if octets.is_empty() || octets.len() > 4 {
        return None;
    }
    Some((octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), rest))
}

fn time(der: &[u8]) -> Option<(Timestamp, &[u8])> {
    let utc = element(der, UTC_TIME);
    let (text, rest) = utc.or_else(|| element(der, GENERALIZED_TIME))?;
    let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let digits = match utc {
        // Two digits of the year: from 1950 to 2049.
        Some(_) => format!("{}{digits}", if digits.get(..2)?.parse::<u8>().ok()? < 50 { "20" } else { "19" }),
        None => digits.to_owned(),
    };
    let read = DateTime::strptime("%Y%m%d%H%M%S", &digits).ok()?;
    Some((read.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dates_of_a_certificate_are_read() {
        for (from, until) in [(2020, 2031), (1999, 2060)] {
            let mut parameters = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
            parameters.not_before = rcgen::date_time_ymd(from, 2, 3);
            parameters.not_after = rcgen::date_time_ymd(until, 4, 5);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = parameters.self_signed(&key).unwrap();
            let validity = of_certificate(certificate.der()).unwrap();
            assert_eq!(validity.from.to_string(), format!("{from}-02-03T00:00:00Z"));
            assert_eq!(validity.until.to_string(), format!("{until}-04-05T00:00:00Z"));
        }
    }

    #[test]
    fn other_octets_are_no_certificate() {
        for octets in
            [&[][..], &[0x30], &[0x30, 0x82], &[0x30, 0x85, 1, 1, 1, 1, 1], &[0x30, 2, 0x30, 0], b"-----BEGIN"]
        {
            assert_eq!(of_certificate(octets), None, "{octets:?}");
        }
    }
}
