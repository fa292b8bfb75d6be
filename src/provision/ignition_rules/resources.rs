//! Where Ignition fetches from: URLs, digests, headers, proxies.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::super::findings::{Finding, Findings, Place};
use super::super::ignition_v3::Minor;

/// The base64 of data URLs: padded, and what is left of the last octet is ignored, as in Go.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);
/// Resources that must have a source.
const REQUIRED: [&str; 2] = ["ignition.config.merge.*", "ignition.security.tls.certificateAuthorities.*"];
/// All others.
const OPTIONAL: [&str; 4] =
    ["ignition.config.replace", "storage.files.*.contents", "storage.files.*.append.*", "storage.luks.*.keyFile"];
/// Version in which a digest may be SHA-256.
const SHA256_SINCE: Minor = 1;
/// Version in which each config to merge and each certificate needs its source by rule.
const SOURCE_SINCE: Minor = 1;
/// Version in which Google Storage can be fetched from.
const GS_SINCE: Minor = 2;
/// Version in which S3 access points can be fetched from.
const ARN_SINCE: Minor = 4;

/// Checks all resources of a config, and its proxies.
pub fn check(config: &Place<'_>, minor: Minor, found: &mut Findings) {
    for pattern in REQUIRED {
        for resource in config.matches(pattern) {
            if minor >= SOURCE_SINCE && resource.value.word("source").is_none() {
                found.errors.push(resource.finding_of("source", "missing, expected a URL"));
            }
            check_resource(&resource, minor, found);
        }
    }
    for resource in OPTIONAL.iter().flat_map(|pattern| config.matches(pattern)) {
        check_resource(&resource, minor, found);
    }
    config.matches("ignition.proxy").iter().for_each(|proxy| check_proxies(proxy, found));
}

fn check_resource(resource: &Place<'_>, minor: Minor, found: &mut Findings) {
    let source = resource.value.text("source");
    if let Some(other) = resource.value.word("compression").filter(|word| *word != "gzip") {
        found.errors.push(resource.finding_of("compression", format!("found {other:?}, expected gzip or nothing")));
    }
    if let Some(fault) = source.filter(|url| !url.is_empty()).and_then(|url| url_fault(url, minor)) {
        found.errors.push(resource.finding_of("source", fault));
    }
    if let Some(verification) = resource.get("verification") {
        found.errors.extend(digest_finding(&verification, source.is_some(), minor));
    }
    check_headers(resource, source, found);
}

fn digest_finding(verification: &Place<'_>, has_source: bool, minor: Minor) -> Option<Finding> {
    let hash = verification.value.text("hash")?;
    let fault = if has_source { digest_fault(hash, minor)? } else { "a digest without a source".to_owned() };
    Some(verification.finding_of("hash", fault))
}

/// Returns what is wrong with a digest: `sha512-` or `sha256-` and its hexadecimal digits.
fn digest_fault(hash: &str, minor: Minor) -> Option<String> {
    let expected = if minor >= SHA256_SINCE { "sha512-HEX or sha256-HEX" } else { "sha512-HEX" };
    let digits = match hash.split_once('-') {
        Some(("sha512", sum)) => (sum, 128),
        Some(("sha256", sum)) if minor >= SHA256_SINCE => (sum, 64),
        _ => return Some(format!("found {hash:?}, expected {expected}")),
    };
    let (sum, length) = digits;
    (sum.len() != length).then(|| format!("found {} digits, expected {length}", sum.len()))
}

fn check_headers(resource: &Place<'_>, source: Option<&str>, found: &mut Findings) {
    let mut has_headers = false;
    for header in resource.items("httpHeaders") {
        has_headers = true;
        if header.value.word("name").is_none() {
            found.errors.push(header.finding_of("name", "empty, expected the name of a header"));
        }
        if header.value.text("value") == Some("") {
            found.errors.push(header.finding_of("value", "empty, expected the value of the header"));
        }
    }
    let is_http = source.is_some_and(|url| matches!(scheme(url).as_deref(), Some("http" | "https")));
    if has_headers && !is_http {
        found.errors.push(resource.finding_of("httpHeaders", "headers need an http or https source"));
    }
}

fn check_proxies(proxy: &Place<'_>, found: &mut Findings) {
    for key in ["httpProxy", "httpsProxy"] {
        let Some(url) = proxy.value.text(key) else { continue };
        match (scheme(url).as_deref(), syntax_fault(url)) {
            (_, Some(fault)) => found.errors.push(proxy.finding_of(key, fault)),
            (Some("https"), None) => {}
            (Some("http"), None) if key == "httpProxy" => {}
            (Some("http"), None) => {
                found.warnings.push(proxy.finding_of(key, "a proxy without encryption for https resources"));
            }
            (_, None) => found.errors.push(proxy.finding_of(key, "expected an http or https URL")),
        }
    }
}

/// Returns what is wrong with the URL of a source.
pub fn url_fault(url: &str, minor: Minor) -> Option<String> {
    if let Some(fault) = syntax_fault(url) {
        return Some(fault);
    }
    let known = match minor {
        0 | 1 => "http, https, tftp, s3 or data",
        2 | 3 => "http, https, tftp, s3, gs or data",
        _ => "http, https, tftp, s3, arn, gs or data",
    };
    match scheme(url).as_deref() {
        Some("http" | "https" | "tftp") => None,
        Some("gs") if minor >= GS_SINCE => None,
        Some("s3") => version_fault(url),
        Some("arn") if minor >= ARN_SINCE => arn_fault(url).or_else(|| version_fault(url)),
        Some("data") => data_fault(url),
        Some(other) => Some(format!("found the scheme {other}, expected {known}")),
        None => Some(format!("no URL scheme, expected {known}")),
    }
}

/// Returns the scheme of a URL in lower case.
pub fn scheme(url: &str) -> Option<String> {
    let (scheme, _) = url.split_once(':')?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|one| one.is_ascii_alphanumeric() || matches!(one, '+' | '-' | '.'));
    is_scheme.then(|| scheme.to_ascii_lowercase())
}

/// Returns what is wrong with the syntax of a URL (RFC 3986), as far as Ignition looks at it.
pub fn syntax_fault(url: &str) -> Option<String> {
    let wrong = |what: &str| Some(format!("invalid URL: {what}"));
    if url.bytes().any(|octet| octet.is_ascii_control()) {
        return wrong("a control character");
    }
    let Some(found) = scheme(url) else {
        let first = url.split('/').next().unwrap_or_default();
        return if first.contains(':') { wrong("a colon before the first slash and no scheme") } else { None };
    };
    let rest = url[found.len() + 1..].split('#').next().unwrap_or_default().split('?').next().unwrap_or_default();
    let Some(hierarchy) = rest.strip_prefix("//") else {
        // Ignition leaves what follows the scheme alone where it does not begin with a slash.
        return if rest.starts_with('/') && has_bad_escape(rest) {
            wrong("% without two hexadecimal digits")
        } else {
            None
        };
    };
    let (authority, path) = hierarchy.split_at(hierarchy.find('/').unwrap_or(hierarchy.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = match host.rfind(']') {
        Some(end) => (&host[..=end], &host[end + 1..]),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|one| one.is_ascii_digit()));
    match () {
        () if !is_port => wrong("the port is not a number"),
        () if name.starts_with('[') != name.ends_with(']') => wrong("a bracket without its other one"),
        () if name.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '|', '}']) => {
            wrong("a character that no host has")
        }
        () if has_ascii_escape(name) => wrong("an escaped ASCII character in the host"),
        () if has_bad_escape(path) || has_bad_escape(authority) => wrong("% without two hexadecimal digits"),
        () => None,
    }
}

/// Returns whether a host has an escape other than those of international names, and of IPv6 zones.
fn has_ascii_escape(host: &str) -> bool {
    !host.starts_with('[')
        && host.split('%').skip(1).any(|rest| rest.starts_with(|digit: char| ('0'..'8').contains(&digit)))
}

fn has_bad_escape(text: &str) -> bool {
    text.split('%').skip(1).any(|rest| {
        let bytes = rest.as_bytes();
        !(bytes.len() >= 2 && bytes[0].is_ascii_hexdigit() && bytes[1].is_ascii_hexdigit())
    })
}

/// Returns what is wrong with the object version of an S3 URL.
fn version_fault(url: &str) -> Option<String> {
    let query = url.split('#').next()?.split_once('?')?.1;
    let (_, version) = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "versionId")?;
    version.is_empty().then(|| "an empty versionId".to_owned())
}

/// Returns what is wrong with the ARN of an S3 object.
fn arn_fault(url: &str) -> Option<String> {
    let arn = url.split(['?', '#']).next().unwrap_or_default();
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let is_object = match parts.as_slice() {
        ["arn", _, "s3", _, _, resource] => match resource.strip_prefix("accesspoint/") {
            Some(_) => arn.split('/').count() >= 3,
            None => arn.split('/').count() >= 2,
        },
        _ => false,
    };
    (!is_object).then(|| "expected the ARN of an S3 object, arn:PARTITION:s3:::BUCKET/KEY".to_owned())
}

/// Returns what is wrong with a data URL (RFC 2397).
fn data_fault(url: &str) -> Option<String> {
    let wrong = |what: &str| Some(format!("invalid data URL: {what}"));
    let Some(rest) = url.strip_prefix("data:") else { return wrong("the scheme must be in lower case") };
    let Some((head, data)) = split_head(rest) else { return wrong("missing comma before the data") };
    let is_base64 = match head_kind(head) {
        Ok(is_base64) => is_base64,
        Err(what) => return wrong(what),
    };
    if is_base64 {
        let digits: String = data.chars().filter(|one| *one != '\n').collect();
        return if BASE64.decode(digits).is_err() { wrong("the data is not base64") } else { None };
    }
    let is_allowed = |one: char| one.is_ascii_graphic() && !"<>#\"{}|\\^[]`".contains(one);
    match data.chars().find(|one| !is_allowed(*one)) {
        Some(one) => wrong(&format!("{one:?} must be written as %{:02X}", u32::from(one).min(255))),
        None if has_bad_escape(data) => wrong("% without two hexadecimal digits"),
        None => None,
    }
}

/// Splits a data URL after its scheme at the first comma that is in no quoted string.
fn split_head(rest: &str) -> Option<(&str, &str)> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (index, one) in rest.char_indices() {
        match one {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => return Some((&rest[..index], &rest[index + 1..])),
            _ => {}
        }
    }
    None
}

/// Returns whether the head of a data URL says base64: `TYPE/SUBTYPE;ATTRIBUTE=VALUE;base64`, each part optional.
fn head_kind(head: &str) -> Result<bool, &'static str> {
    let (media_type, parameters) = match head.split_once(';') {
        Some((media_type, parameters)) => (media_type, Some(parameters)),
        None => (head, None),
    };
    let is_token = |text: &str| text.bytes().all(|one| one.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&one));
    if !media_type.is_empty() {
        let (kind, sub) = media_type.split_once('/').ok_or("the media type has no slash")?;
        let known = ["text", "image", "audio", "video", "application", "message", "multipart", "x-", "X-"];
        if !is_token(kind) || !is_token(sub) || !known.iter().any(|word| kind.starts_with(word)) {
            return Err("unknown media type");
        }
    }
    let Some(parameters) = parameters else { return Ok(false) };
    let (last, before) = parameters.rsplit_once(';').map_or((parameters, None), |(before, last)| (last, Some(before)));
    let has_value = |parameter: &str| {
        parameter.split_once('=').is_some_and(|(name, value)| {
            !name.is_empty() && is_token(name) && !value.is_empty() && (value.starts_with('"') || is_token(value))
        })
    };
    match before.is_none_or(|before| before.split(';').all(has_value)) {
        false => Err("a parameter without its value"),
        true if last == "base64" => Ok(true),
        true if has_value(last) => Ok(false),
        true => Err("the last parameter is neither base64 nor ATTRIBUTE=VALUE"),
    }
}
