//! The leaves of a MIME message (RFC 2045, RFC 2046), as far as Python's `email` package reads one. Pure.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// Maximum depth of messages within messages.
const MAX_DEPTH: usize = 16;
/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A part of a message that has no parts of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Content type in lower case, without parameters.
    pub content_type: String,
    /// Line of the message in which the body begins, from 1.
    pub line: usize,
    /// The decoded body.
    pub body: Vec<u8>,
}

/// Returns the leaves of a message in their order.
///
/// # Errors
/// Returns a message about a multipart without parts, more than `limit` leaves, or messages that are nested too deeply.
pub fn leaves(text: &str, limit: usize) -> Result<Vec<Leaf>, String> {
    let mut found = Leaves { leaves: Vec::new(), limit };
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    found.add(&lines, 1, 0)?;
    Ok(found.leaves)
}

struct Leaves {
    leaves: Vec<Leaf>,
    /// Maximum number of leaves.
    limit: usize,
}

impl Leaves {
    /// Adds the leaves of a message whose first line has this number, and that is in so many others.
    fn add(&mut self, lines: &[&str], first: usize, depth: usize) -> Result<(), String> {
        if depth >= MAX_DEPTH {
            return Err(format!("line {first}: more than {MAX_DEPTH} messages within each other"));
        }
        let headers = Headers::parse(lines);
        let (body, line) = (&lines[headers.length..], first + headers.length);
        let content_type = headers.content_type();
        if !content_type.starts_with("multipart/") {
            return self.add_leaf(content_type, line, &headers, &body.concat(), depth > 0);
        }
        let Some(boundary) = headers.boundary() else {
            return Err(format!("line {first}: {content_type} without a boundary: cloud-init finds no part in it"));
        };
        let parts = split(body, &boundary);
        if parts.is_empty() {
            return Err(format!("line {line}: no line --{boundary}: cloud-init finds no part"));
        }
        for part in parts {
            self.add(&body[part.clone()], line + part.start, depth + 1)?;
        }
        Ok(())
    }

    fn add_leaf(
        &mut self,
        content_type: String,
        line: usize,
        headers: &Headers,
        body: &str,
        is_part: bool,
    ) -> Result<(), String> {
        if self.leaves.len() >= self.limit {
            return Err(format!("line {line}: more than {} parts", self.limit));
        }
        let body = if is_part { without_last_newline(body) } else { body };
        let body = decode(body, &headers.value("content-transfer-encoding"));
        self.leaves.push(Leaf { content_type, line, body });
        Ok(())
    }
}

/// Returns the lines of each part between the lines of a boundary. The last one may have no end.
fn split(lines: &[&str], boundary: &str) -> Vec<std::ops::Range<usize>> {
    let (mut parts, mut begin) = (Vec::new(), None);
    for (index, line) in lines.iter().enumerate() {
        let Some(rest) = line.strip_prefix("--").and_then(|line| line.strip_prefix(boundary)) else { continue };
        let rest = rest.trim_end();
        if !matches!(rest, "" | "--") {
            continue;
        }
        if let Some(begin) = begin.take() {
            parts.push(begin..index);
        }
        if rest == "--" {
            return parts;
        }
        begin = Some(index + 1);
    }
    parts.extend(begin.map(|begin| begin..lines.len()));
    parts
}

/// Returns the body of a part. The line end before a boundary belongs to the boundary (RFC 2046, section 5.1.1).
fn without_last_newline(body: &str) -> &str {
    body.strip_suffix("\r\n").or_else(|| body.strip_suffix('\n')).unwrap_or(body)
}

struct Headers {
    /// The headers: names in lower case, with their unfolded values.
    fields: Vec<(String, String)>,
    /// Number of lines before the body.
    length: usize,
}

impl Headers {
    fn parse(lines: &[&str]) -> Self {
        let mut headers = Self { fields: Vec::new(), length: 0 };
        for (index, line) in lines.iter().enumerate() {
            let text = line.trim_end_matches(['\r', '\n']);
            headers.length = index;
            if text.is_empty() {
                headers.length = index + 1;
                return headers;
            }
            match (text.starts_with([' ', '\t']), headers.fields.last_mut()) {
                (true, Some((_, value))) => value.push_str(text),
                // The line of a mailbox, which is no header.
                _ if index == 0 && text.starts_with("From ") => {}
                _ => match text.split_once(':').filter(|(name, _)| is_name(name)) {
                    Some((name, value)) => headers.fields.push((name.to_ascii_lowercase(), value.to_owned())),
                    // The body begins without an empty line before it.
                    None => return headers,
                },
            }
        }
        headers.length = lines.len();
        headers
    }

    /// Returns the value of a header, or an empty text.
    fn value(&self, name: &str) -> String {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    }

    fn content_type(&self) -> String {
        let value = self.value("content-type");
        let plain = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match plain.matches('/').count() {
            1 => plain,
            _ => "text/plain".to_owned(),
        }
    }

    fn boundary(&self) -> Option<String> {
        let value = self.value("content-type");
        let of_parameter = |parameter: &str| {
            let (name, value) = parameter.split_once('=')?;
            let value = value.trim();
            let plain = value.strip_prefix('"').and_then(|value| value.split('"').next()).unwrap_or(value);
            name.trim().eq_ignore_ascii_case("boundary").then(|| plain.trim_end().to_owned())
        };
        parameters(&value).into_iter().skip(1).find_map(of_parameter).filter(|boundary| !boundary.is_empty())
    }
}

/// Splits a header's value at the semicolons outside of quotes.
fn parameters(value: &str) -> Vec<&str> {
    let mut is_quoted = false;
    let at_semicolon = |sign: char| {
        is_quoted ^= sign == '"';
        sign == ';' && !is_quoted
    };
    value.split(at_semicolon).collect()
}

/// Returns whether a text is a header's name: printable ASCII without a space.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|sign| sign.is_ascii_graphic())
}

/// Decodes a body. What is not valid in its encoding is returned as it is.
fn decode(body: &str, encoding: &str) -> Vec<u8> {
    match encoding.to_ascii_lowercase().as_str() {
        "base64" => {
            let is_base64 = |octet: &u8| octet.is_ascii_alphanumeric() || b"+/".contains(octet);
            let plain: Vec<u8> = body.bytes().filter(is_base64).collect();
            BASE64.decode(plain).unwrap_or_else(|_| body.as_bytes().to_vec())
        }
        "quoted-printable" => decode_quoted(body),
        _ => body.as_bytes().to_vec(),
    }
}

/// Decodes quoted-printable text (RFC 2045, section 6.7).
fn decode_quoted(body: &str) -> Vec<u8> {
    let mut plain = Vec::with_capacity(body.len());
    for line in body.split_inclusive('\n') {
        let text = line.trim_end();
        let (text, is_soft) = match text.strip_suffix('=') {
            Some(text) => (text, true),
            None => (text, false),
        };
        let mut rest = text.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            let octet = after.get(..2).filter(|_| *first == b'=').and_then(|digits| hex::decode(digits).ok());
            rest = match octet {
                Some(octet) => {
                    plain.extend(octet);
                    &after[2..]
                }
                None => {
                    plain.push(*first);
                    after
                }
            };
        }
        if !is_soft && line.ends_with('\n') {
            plain.push(b'\n');
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, usize, String)> {
        let leaves = leaves(text, 9).unwrap().into_iter();
        leaves.map(|leaf| (leaf.content_type, leaf.line, String::from_utf8(leaf.body).unwrap())).collect()
    }

    fn leaf(content_type: &str, line: usize, body: &str) -> (String, usize, String) {
        (content_type.to_owned(), line, body.to_owned())
    }

    #[test]
    fn a_message_has_headers_and_a_body() {
        let rows = [
            (
                "MIME-Version: 1.0\nContent-Type: Text/Cloud-Config; charset=\"utf-8\"\n\na: 1\n",
                leaf("text/cloud-config", 4, "a: 1\n"),
            ),
            ("From nobody Sat\nMIME-Version: 1.0\n\nx", leaf("text/plain", 4, "x")),
            ("MIME-Version: 1.0\r\nContent-Type: text\r\n\r\nx\r\n", leaf("text/plain", 4, "x\r\n")),
            ("MIME-Version: 1.0\nno header\nx", leaf("text/plain", 2, "no header\nx")),
            ("MIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\naGVs\nbG8=\n", leaf("text/plain", 4, "hello")),
            (
                "MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\na=3D=C3=A4 b=\nc=x\n",
                leaf("text/plain", 4, "a=ä bc=x\n"),
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(found(text), [expected], "{text}");
        }
    }

    #[test]
    fn a_multipart_is_split_at_its_boundary() {
        let inner = "--a;b\nContent-Type: multipart/mixed; boundary=in\n\n--in\n\none\n--in--\n";
        let text = format!(
            "Content-Type: multipart/mixed; boundary=\"a;b\"; x=y\n\nignored\n{inner}--a;b\n\ntwo\n\n--a;bc\n--a;b-- \nafter\n--a;b\n"
        );
        assert_eq!(found(&text), [leaf("text/plain", 9, "one"), leaf("text/plain", 13, "two\n\n--a;bc")]);
        let open = "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n";
        assert_eq!(found(open), [leaf("text/plain", 5, "one")]);
    }

    #[test]
    fn a_multipart_without_parts_is_an_error_with_its_line() {
        let level = |depth| format!("Content-Type: multipart/mixed; boundary=b{depth}\n\n--b{depth}\n");
        let deep: String = (0..=MAX_DEPTH).map(level).collect();
        let rows = [
            (
                "MIME-Version: 1.0\nContent-Type: multipart/mixed\n\n--b\n\nx\n--b--\n".to_owned(),
                "line 1: multipart/mixed without a boundary",
            ),
            ("Content-Type: multipart/mixed; boundary=b\n\nx\n".to_owned(), "line 3: no line --b"),
            (deep, "messages within each other"),
            (
                format!("Content-Type: multipart/mixed; boundary=b\n\n{}", "--b\n\n".repeat(10)),
                "line 23: more than 9 parts",
            ),
        ];
        for (text, message) in rows {
            let error = leaves(&text, 9).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
