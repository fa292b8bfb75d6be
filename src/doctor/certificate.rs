//! The time in which a certificate is valid, and the names that it is for (RFC 5280, sections 4.1.2.5 and 4.2.1.6), read
//! from its DER. Pure.

use std::net::IpAddr;

use jiff::Timestamp;
use jiff::civil::DateTime;

/// Tags of DER (X.690): a sequence, an integer, the two forms of a time, and the explicit tag of the version.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
/// Tags of the extensions (RFC 5280, section 4.1), and of what one consists of.
const EXTENSIONS: u8 = 0xa3;
const OBJECT_IDENTIFIER: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
/// The identifier of the extension with the alternative names: 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// Tags of a DNS name and of an address in it.
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// The first and the last second of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: Timestamp,
    /// The last second.
    pub until: Timestamp,
}

/// The names that a certificate is for. Clients do not look at its common name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// DNS names; the first label may be `*`.
    pub dns: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
}

/// Returns the validity of a certificate in DER; `None` if it is no certificate.
pub fn validity(der: &[u8]) -> Option<Validity> {
    let (validity, _) = element(from_validity(der)?, SEQUENCE)?;
    let (from, rest) = time(validity)?;
    let (until, _) = time(rest)?;
    Some(Validity { from, until })
}

/// Returns the names of a certificate in DER, none if it has no such extension; `None` if it is no certificate.
pub fn names(der: &[u8]) -> Option<Names> {
    let mut fields = from_validity(der)?;
    let mut names = Names::default();
    // Validity, subject, key, and two identifiers that no certificate has any more.
    while !fields.is_empty() {
        let (tag, content, rest) = any_element(fields)?;
        if tag == EXTENSIONS {
            let (mut extensions, _) = element(content, SEQUENCE)?;
            while let Some((extension, rest)) = element(extensions, SEQUENCE) {
                read_extension(extension, &mut names)?;
                extensions = rest;
            }
        }
        fields = rest;
    }
    Some(names)
}

/// Adds the names of an extension, if it is the one that has them.
fn read_extension(extension: &[u8], names: &mut Names) -> Option<()> {
    let (identifier, rest) = element(extension, OBJECT_IDENTIFIER)?;
    if identifier != SUBJECT_ALT_NAME {
        return Some(());
    }
    let rest = element(rest, BOOLEAN).map_or(rest, |(_, rest)| rest);
    let (mut all, _) = element(element(rest, OCTET_STRING)?.0, SEQUENCE)?;
    while !all.is_empty() {
        let (tag, name, rest) = any_element(all)?;
        match tag {
            DNS_NAME => names.dns.push(String::from_utf8_lossy(name).into_owned()),
            IP_ADDRESS => {
                let v4 = <[u8; 4]>::try_from(name).map(IpAddr::from);
                names.addresses.extend(v4.or_else(|_| <[u8; 16]>::try_from(name).map(IpAddr::from)));
            }
            _ => {}
        }
        all = rest;
    }
    Some(())
}

/// Returns the fields of a certificate from its validity on.
fn from_validity(der: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        fields = element(fields, tag)?.1;
    }
    Some(fields)
}

/// Returns the content of an element with a tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any_element(der)?;
    (found == tag).then_some((content, rest))
}

/// Returns the tag and the content of an element, and what follows it.
fn any_element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (length, rest) = length(rest)?;
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
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
            let validity = super::validity(certificate.der()).unwrap();
            assert_eq!(validity.from.to_string(), format!("{from}-02-03T00:00:00Z"));
            assert_eq!(validity.until.to_string(), format!("{until}-04-05T00:00:00Z"));
        }
    }

    #[test]
    fn the_names_of_a_certificate_are_read() {
        let rows: [(&[&str], &[&str], &[&str]); 3] = [
            (&[], &[], &[]),
            (&["boot.example", "10.0.0.2", "*.lab"], &["boot.example", "*.lab"], &["10.0.0.2"]),
            (&["2001:db8::1"], &[], &["2001:db8::1"]),
        ];
        for (given, dns, addresses) in rows {
            let given: Vec<String> = given.iter().map(|name| (*name).to_owned()).collect();
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = rcgen::CertificateParams::new(given).unwrap().self_signed(&key).unwrap();
            let found = names(certificate.der()).unwrap();
            assert_eq!(found.dns, dns);
            assert_eq!(found.addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>(), addresses);
        }
    }

    #[test]
    fn other_octets_are_no_certificate() {
        for octets in
            [&[][..], &[0x30], &[0x30, 0x82], &[0x30, 0x85, 1, 1, 1, 1, 1], &[0x30, 2, 0x30, 0], b"-----BEGIN"]
        {
            assert_eq!((super::validity(octets), names(octets)), (None, None), "{octets:?}");
        }
    }
}
