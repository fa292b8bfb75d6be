//! User-data of cloud-init: its kinds, and its parts, found as cloud-init's `user_data.py` and `handlers` find them. Pure.

mod check;
mod mime;

use std::borrow::Cow;
use std::io::Read;

use serde_json::Value;

use super::yaml::yaml_value;

pub use check::check;

/// Number of first octets of user-data in which cloud-init looks for `mime-version:`.
const MIME_HEADER_BYTES: usize = 4096;
/// Maximum length of all that is decompressed in one file of user-data, in octets.
const MAX_UNPACKED_BYTES: u64 = 4 * 1024 * 1024;
/// Maximum number of parts of a MIME message or an archive.
const MAX_PARTS: usize = 1000;
/// Type of user-data that is no MIME message.
const NOT_MULTIPART: &str = "text/x-not-multipart";
/// Content types of compressed parts.
const PACKED_TYPES: [&str; 8] = [
    "application/gzip",
    "application/gzip-compressed",
    "application/gzipped",
    "application/x-compress",
    "application/x-compressed",
    "application/x-gunzip",
    "application/x-gzip",
    "application/x-gzip-compressed",
];

/// What cloud-init does with a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserDataKind {
    /// Merges the settings of a YAML mapping.
    CloudConfig,
    /// Takes the entries of a YAML list as parts.
    Archive,
    /// Patches the merged settings (RFC 6902).
    JsonPatch,
    /// Runs a script at the end of the boot.
    Script,
    /// Runs a script early in each boot.
    BootHook,
    /// Loads Python code for parts of other types.
    PartHandler,
    /// Fetches more user-data from URLs.
    Include,
    /// Fills a template with the instance's data, and reads the result.
    Jinja,
}

/// First words of user-data with their kinds, longer ones first; in any case, after white space.
const FIRST_WORDS: [(&str, UserDataKind); 8] = [
    ("#cloud-config-archive", UserDataKind::Archive),
    ("#cloud-config-jsonp", UserDataKind::JsonPatch),
    ("## template: jinja", UserDataKind::Jinja),
    ("#cloud-boothook", UserDataKind::BootHook),
    ("#cloud-config", UserDataKind::CloudConfig),
    ("#part-handler", UserDataKind::PartHandler),
    ("#include", UserDataKind::Include),
    ("#!", UserDataKind::Script),
];
/// Content types with their kinds.
const CONTENT_TYPES: [(&str, UserDataKind); 12] = [
    ("text/cloud-config", UserDataKind::CloudConfig),
    ("text/cloud-config-archive", UserDataKind::Archive),
    ("text/cloud-config-jsonp", UserDataKind::JsonPatch),
    ("text/x-shellscript", UserDataKind::Script),
    ("text/x-shellscript-per-boot", UserDataKind::Script),
    ("text/x-shellscript-per-instance", UserDataKind::Script),
    ("text/x-shellscript-per-once", UserDataKind::Script),
    ("text/cloud-boothook", UserDataKind::BootHook),
    ("text/part-handler", UserDataKind::PartHandler),
    ("text/x-include-url", UserDataKind::Include),
    ("text/x-include-once-url", UserDataKind::Include),
    ("text/jinja2", UserDataKind::Jinja),
];

/// A part of user-data, decoded and decompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserDataPart {
    /// What cloud-init does with it; `None` if it ignores it.
    pub kind: Option<UserDataKind>,
    /// Place in the file for messages, as in "part 2 (text/cloud-config, from line 9)"; empty for a whole file.
    pub place: String,
    /// Its text. Octets that are not UTF-8 are replaced.
    pub text: String,
}

/// Returns the parts of user-data, in their order. A file of one kind is one part.
///
/// # Errors
/// Returns a message if cloud-init could not take the file apart.
pub fn parts(bytes: &[u8]) -> Result<Vec<UserDataPart>, String> {
    let mut left = MAX_UNPACKED_BYTES;
    let bytes = unpack(bytes, &mut left)?;
    let mut parts = Vec::new();
    if is_mime(&bytes) {
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|octet| **octet == b'\n').count();
            format!("line {line}: a MIME message must be UTF-8")
        })?;
        for (index, leaf) in mime::leaves(text, MAX_PARTS)?.into_iter().enumerate() {
            let place = format!("part {} ({}, from line {})", index + 1, leaf.content_type, leaf.line);
            add_part(&leaf.content_type, &leaf.body, place, &mut left, &mut parts)?;
        }
    } else {
        add_part(NOT_MULTIPART, &bytes, String::new(), &mut left, &mut parts)?;
    }
    Ok(parts)
}

/// Returns the texts of the parts of user-data; none for a file of one kind, and for one that cannot be taken apart.
pub fn part_texts(bytes: &[u8]) -> Vec<String> {
    let parts = parts(bytes).unwrap_or_default().into_iter();
    parts.filter(|part| !part.place.is_empty()).map(|part| part.text).collect()
}

/// Adds a part by its content type and its first words. `left` is the number of octets that may still be decompressed.
fn add_part(
    content_type: &str,
    body: &[u8],
    place: String,
    left: &mut u64,
    parts: &mut Vec<UserDataPart>,
) -> Result<(), String> {
    let within = |message: String| if place.is_empty() { message } else { format!("{place}: {message}") };
    let (body, content_type) = match PACKED_TYPES.contains(&content_type) {
        true if !is_packed(body) => return Err(within("expected gzip data".into())),
        true => (unpack(body, left).map_err(within)?, "text/plain"),
        false => (Cow::Borrowed(body), content_type),
    };
    let is_by_words = matches!(content_type, "text/plain" | NOT_MULTIPART | "text/x-shellscript");
    let text = String::from_utf8_lossy(&body).into_owned();
    let by_words = is_by_words.then(|| kind_of_text(&text)).flatten();
    let kind = by_words.or_else(|| kind_of_type(content_type));
    let must_be_text =
        matches!(kind, Some(UserDataKind::CloudConfig | UserDataKind::Archive | UserDataKind::JsonPatch));
    if let (true, Err(error)) = (must_be_text, std::str::from_utf8(&body)) {
        return Err(within(format!("octet {}: expected UTF-8", error.valid_up_to() + 1)));
    }
    if kind == Some(UserDataKind::Archive) {
        return add_entries(&text, &place, parts).map_err(within);
    }
    add(UserDataPart { kind, place, text }, parts)
}

/// Adds the entries of a cloud-config-archive. cloud-init does not follow archives and URLs within one.
fn add_entries(text: &str, place: &str, parts: &mut Vec<UserDataPart>) -> Result<(), String> {
    let Value::Array(entries) = yaml_value(text)? else {
        return Err("line 1: expected a list of entries after #cloud-config-archive".into());
    };
    for (index, entry) in entries.iter().enumerate() {
        let content = match entry {
            Value::String(content) => content,
            Value::Object(fields) => match fields.get("content") {
                Some(Value::String(content)) => content,
                Some(_) => return Err(format!("/{index}/content: expected a string")),
                None => return Err(format!("/{index}: missing key content")),
            },
            _ => return Err(format!("/{index}: expected a string or a mapping with content")),
        };
        let given = entry.get("type").and_then(Value::as_str).filter(|given| !given.is_empty());
        let kind = match given {
            Some(given) => kind_of_type(given),
            None => kind_of_text(content).or(Some(UserDataKind::CloudConfig)),
        };
        let kind = kind.filter(|kind| !matches!(kind, UserDataKind::Archive | UserDataKind::Include));
        let prefix = if place.is_empty() { String::new() } else { format!("{place}, ") };
        let what = given.map(|given| format!(" ({given})")).unwrap_or_default();
        let place = format!("{prefix}entry {}{what}", index + 1);
        add(UserDataPart { kind, place, text: content.clone() }, parts)?;
    }
    Ok(())
}

fn add(part: UserDataPart, parts: &mut Vec<UserDataPart>) -> Result<(), String> {
    parts.push(part);
    match parts.len() > MAX_PARTS {
        true => Err(format!("more than {MAX_PARTS} parts")),
        false => Ok(()),
    }
}

/// Returns the kind that a text's first words name. A byte order mark is no white space: cloud-init then finds none.
fn kind_of_text(text: &str) -> Option<UserDataKind> {
    let text = text.trim_start();
    let starts_with = |word: &str| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    FIRST_WORDS.iter().find(|(word, _)| starts_with(word)).map(|(_, kind)| *kind)
}

/// Returns the kind of a content type.
fn kind_of_type(content_type: &str) -> Option<UserDataKind> {
    CONTENT_TYPES.iter().find(|(known, _)| *known == content_type).map(|(_, kind)| *kind)
}

/// Returns whether data begins as gzip data does (RFC 1952, section 2.3.1).
fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Returns data decompressed, if it is compressed. Takes its length from what is left for the whole file.
fn unpack<'a>(bytes: &'a [u8], left: &mut u64) -> Result<Cow<'a, [u8]>, String> {
    if !is_packed(bytes) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut plain = Vec::new();
    let read = flate2::read::MultiGzDecoder::new(bytes).take(*left + 1).read_to_end(&mut plain);
    read.map_err(|error| format!("invalid gzip data: {error}"))?;
    *left = left
        .checked_sub(plain.len() as u64)
        .ok_or_else(|| format!("the file is longer than {MAX_UNPACKED_BYTES} octets when all of it is decompressed"))?;
    Ok(Cow::Owned(plain))
}

/// Returns whether cloud-init reads user-data as a MIME message: it looks for the header among the first octets, in any
/// case and after any other header.
fn is_mime(bytes: &[u8]) -> bool {
    const HEADER: &[u8] = b"mime-version:";
    let head = bytes.get(..MIME_HEADER_BYTES).unwrap_or(bytes);
    head.windows(HEADER.len()).any(|part| part.eq_ignore_ascii_case(HEADER))
}

#[cfg(test)]
pub mod tests {
    use std::io::Write;

    use super::UserDataKind::*;
    use super::*;

    /// Returns data compressed by gzip.
    pub fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn kinds(bytes: &[u8]) -> Vec<Option<UserDataKind>> {
        parts(bytes).unwrap().iter().map(|part| part.kind).collect()
    }

    #[test]
    fn a_file_is_recognized_by_its_first_words() {
        for (text, kind) in [
            ("#!/bin/sh\n", Some(Script)),
            ("\n\t#Cloud-Config\n", Some(CloudConfig)),
            ("#cloud-config-jsonp\n[]", Some(JsonPatch)),
            ("#cloud-boothook\n", Some(BootHook)),
            ("#part-handler\n", Some(PartHandler)),
            ("#include-once http://x/y\n", Some(Include)),
            ("## template: jinja\n#cloud-config\n", Some(Jinja)),
            ("## template:basic\n#cloud-config\n", None),
            ("\u{feff}#cloud-config\n", None),
            ("# cloud-config\n", None),
            ("", None),
        ] {
            assert_eq!(kinds(text.as_bytes()), [kind], "{text}");
            assert_eq!(kinds(&packed(text.as_bytes())), [kind], "{text}");
        }
        // A script may have any octets, a cloud-config may not.
        assert_eq!(kinds(b"#!/bin/sh\necho \xff\n"), [Some(Script)]);
        assert_eq!(parts(b"#cloud-config\na: \xff\n").unwrap_err(), "octet 18: expected UTF-8");
    }

    #[test]
    fn the_parts_of_a_message_have_their_own_kinds() {
        let script = packed(b"#!/bin/sh\n");
        let message = format!(
            "Content-Type: multipart/mixed;\n boundary=\"=b\"\nMIME-Version: 1.0\n\npreamble\n--=b\n\
             Content-Type: text/cloud-config\n\nhostname: a\n--=b\nContent-Type: text/plain\n\n#include\nhttp://x/\n--=b\n\
             Content-Type: application/gzip\nContent-Transfer-Encoding: base64\n\n{}\n--=b\n\
             Content-Type: text/x-shellscript\n\n#cloud-config\n--=b\nContent-Type: application/pdf\n\n#!/bin/sh\n--=b--\n",
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, script),
        );
        let expected = [Some(CloudConfig), Some(Include), Some(Script), Some(CloudConfig), None];
        assert_eq!(kinds(message.as_bytes()), expected);
        let found = parts(message.as_bytes()).unwrap();
        assert_eq!(found[0].place, "part 1 (text/cloud-config, from line 9)");
        assert_eq!((found[0].text.as_str(), found[2].text.as_str()), ("hostname: a", "#!/bin/sh\n"));
        assert_eq!(part_texts(&packed(message.as_bytes()))[2], "#!/bin/sh\n");
        assert_eq!(part_texts(b"#!/bin/sh\n"), Vec::<String>::new());
    }

    #[test]
    fn the_entries_of_an_archive_are_parts() {
        let archive = "#cloud-config-archive\n- '#!/bin/sh'\n- {content: 'a: 1'}\n- {type: text/jinja2, content: x}\n\
                       - {type: text/x, content: x}\n- '#include'\n";
        let expected = [Some(Script), Some(CloudConfig), Some(Jinja), None, None];
        assert_eq!(kinds(archive.as_bytes()), expected);
        for (wrong, message) in [
            ("a: 1", "expected a list"),
            ("- a\n- 5", "/1: expected a string"),
            ("- {type: a}", "/0: missing key content"),
            ("- [a\n", "line"),
        ] {
            let error = parts(format!("#cloud-config-archive\n{wrong}\n").as_bytes()).unwrap_err();
            assert!(error.contains(message), "{wrong}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_taken_apart_is_bounded_and_refused() {
        let mut broken = packed(b"#!/bin/sh\necho a long line of text\n");
        broken.truncate(20);
        assert!(parts(&broken).unwrap_err().contains("gzip"));
        let bomb = packed(&vec![b' '; MAX_UNPACKED_BYTES as usize + 1]);
        assert!(parts(&bomb).unwrap_err().contains("longer than"));
        // Each part fits alone, and so does the message.
        let half = packed(&vec![b' '; MAX_UNPACKED_BYTES as usize / 2]);
        let half = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, half);
        let part = format!("--b\nContent-Type: application/gzip\nContent-Transfer-Encoding: base64\n\n{half}\n");
        let nested = |count| {
            let head = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n";
            packed(format!("{head}{}--b--\n", part.repeat(count)).as_bytes())
        };
        assert!(parts(&nested(1)).is_ok());
        let error = parts(&nested(2)).unwrap_err();
        assert!(error.starts_with("part 2 (application/gzip") && error.contains("longer than"), "{error}");
        assert!(parts(b"MIME-Version: 1.0\n\n\xff").unwrap_err().contains("line 3"));
        let many = format!("#cloud-config-archive\n{}", "- a\n".repeat(MAX_PARTS + 1));
        assert!(parts(many.as_bytes()).unwrap_err().contains("more than"));
        let wrong = "MIME-Version: 1.0\nContent-Type: application/gzip\n\nx\n";
        assert!(
            parts(wrong.as_bytes()).unwrap_err().starts_with("part 1 (application/gzip, from line 4): expected gzip")
        );
    }

    #[test]
    fn a_mime_header_counts_in_the_first_octets_only() {
        let message = |size: usize| format!("X: {}\nMIME-Version: 1.0\n\n#!/bin/sh\n", "a".repeat(size));
        let fits = MIME_HEADER_BYTES - "X: \nMIME-Version:".len();
        assert_eq!(kinds(message(fits).as_bytes()), [Some(Script)]);
        assert_eq!(kinds(message(fits + 1).as_bytes()), [None]);
    }
}
