//! An incremental parser of multipart/form-data bodies (RFC 7578). Pure.
//!
//! The crate multer reads its source until it pends and puts no limit on a part's head, so that only the source bounds
//! its memory; an upload here is larger than the memory.

use bytes::{Bytes, BytesMut};

/// Maximum size of a part's head, in bytes.
const MAX_PART_HEAD_BYTES: usize = 8 * 1024;
/// Maximum length of a boundary, in characters (RFC 2046, section 5.1.1).
const MAX_BOUNDARY_LENGTH: usize = 70;

/// The next element of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum FormEvent {
    /// The start of a part.
    Part {
        /// Name of the field.
        name: String,
        /// Whether the part has a file name.
        is_file: bool,
    },
    /// Content of the part that started last.
    Data(Bytes),
    /// The end of the form; the rest of the body is ignored.
    End,
}

/// The reason that a body is not a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// A part's head is too long.
    #[error("a part's head is longer than {MAX_PART_HEAD_BYTES} bytes")]
    Head,
    /// A part has no name.
    #[error("a part has no `Content-Disposition: form-data; name=...`")]
    Disposition,
    /// A boundary is followed by other bytes.
    #[error("a boundary is followed by neither a part nor the end")]
    Boundary,
}

/// A parser that takes a body in pieces of any size. It keeps at most a part's head, or one piece.
#[derive(Debug)]
pub struct FormParser {
    /// The delimiter before every part and the end: CRLF, two hyphens, the boundary.
    delimiter: Vec<u8>,
    /// Bytes that are not parsed yet.
    left: BytesMut,
    state: FormState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FormState {
    /// Before the first delimiter: bytes to ignore.
    Preamble,
    /// Directly after a delimiter.
    AfterDelimiter,
    /// In the head of a part.
    Head,
    /// In the content of a part.
    Content,
    /// After the last part.
    Done,
}

impl FormParser {
    /// Makes the parser for a Content-Type; `None` if it is not that of a form.
    pub fn new(content_type: &str) -> Option<Self> {
        let (kind, parameters) = content_type.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary =
            parameter(parameters, "boundary").filter(|text| (1..=MAX_BOUNDARY_LENGTH).contains(&text.len()))?;
        // The first delimiter has no CRLF before it.
        Some(Self {
            delimiter: format!("\r\n--{boundary}").into(),
            left: b"\r\n"[..].into(),
            state: FormState::Preamble,
        })
    }

    /// Adds the next piece of the body.
    pub fn push(&mut self, piece: &[u8]) {
        self.left.extend_from_slice(piece);
    }

    /// Returns the next element of the body; `None` if more bytes are needed.
    ///
    /// # Errors
    /// The body is not a form.
    pub fn next_event(&mut self) -> Result<Option<FormEvent>, FormError> {
        loop {
            match self.state {
                FormState::Preamble => match find(&self.left, &self.delimiter) {
                    Some(at) => self.pass(at),
                    None => {
                        let kept = self.left.len().min(self.delimiter.len() - 1);
                        drop(self.left.split_to(self.left.len() - kept));
                        return Ok(None);
                    }
                },
                FormState::AfterDelimiter => match self.left.get(..2) {
                    None => return Ok(None),
                    Some(b"--") => self.state = FormState::Done,
                    Some(b"\r\n") => self.state = FormState::Head,
                    Some(_) => return Err(FormError::Boundary),
                },
                // The CRLF before the head is kept, so that an empty head ends like others.
                FormState::Head => return self.head(),
                FormState::Content => return Ok(self.content()),
                FormState::Done => return Ok(Some(FormEvent::End)),
            }
        }
    }

    /// Skips a delimiter.
    fn pass(&mut self, at: usize) {
        drop(self.left.split_to(at + self.delimiter.len()));
        self.state = FormState::AfterDelimiter;
    }

    fn head(&mut self) -> Result<Option<FormEvent>, FormError> {
        let Some(end) = find(&self.left, b"\r\n\r\n") else {
            // The last three bytes may be the start of the end, as in a body that comes in one piece.
            return if self.left.len() > MAX_PART_HEAD_BYTES + 3 { Err(FormError::Head) } else { Ok(None) };
        };
        if end > MAX_PART_HEAD_BYTES {
            return Err(FormError::Head);
        }
        let head = self.left.split_to(end + 4);
        let head = String::from_utf8_lossy(&head);
        let disposition = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
        });
        let (_, parameters) = disposition.and_then(|value| value.split_once(';')).ok_or(FormError::Disposition)?;
        let name = parameter(parameters, "name").ok_or(FormError::Disposition)?;
        self.state = FormState::Content;
        Ok(Some(FormEvent::Part { name, is_file: parameter(parameters, "filename").is_some() }))
    }

    /// Returns the content that is there, but for the bytes that may be the start of a delimiter.
    fn content(&mut self) -> Option<FormEvent> {
        if let Some(at) = find(&self.left, &self.delimiter) {
            let data = self.left.split_to(at).freeze();
            self.pass(0);
            return Some(FormEvent::Data(data));
        }
        let sure = self.left.len().checked_sub(self.delimiter.len() - 1).filter(|sure| *sure > 0)?;
        Some(FormEvent::Data(self.left.split_to(sure).freeze()))
    }
}

/// Returns a parameter of a header field, which may be quoted.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        let (name, value) = rest.split_once('=')?;
        let value = value.trim_start();
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => value.split_at(value.find(';').unwrap_or(value.len())),
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value.trim().to_owned());
        }
        rest = after.trim_start().strip_prefix(';')?;
    }
}

/// Returns the offset of the first match of a text whose first byte is rare.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|byte| *byte == wanted[0])?;
        if bytes[at..].starts_with(wanted) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=------------------------d74496d66958873e";

    fn read(content_type: &str, pieces: &[&[u8]]) -> Result<Vec<(String, bool, Vec<u8>)>, FormError> {
        let mut parser = FormParser::new(content_type).unwrap();
        let mut parts: Vec<(String, bool, Vec<u8>)> = Vec::new();
        for piece in pieces {
            parser.push(piece);
            while let Some(event) = parser.next_event()? {
                match event {
                    FormEvent::Part { name, is_file } => parts.push((name, is_file, Vec::new())),
                    FormEvent::Data(data) => parts.last_mut().unwrap().2.extend_from_slice(&data),
                    FormEvent::End => return Ok(parts),
                }
            }
        }
        panic!("the body did not end: {parts:?}");
    }

    /// Returns the body that curl 7.88 sends for `-F name=live -F file=@x.iso`.
    fn body(file: &[u8]) -> Vec<u8> {
        let line = "--------------------------d74496d66958873e";
        let head = format!(
            "{line}\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nlive\r\n{line}\r\nContent-Disposition: form-data; \
             name=\"file\"; filename=\"x; name=.iso\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        [head.as_bytes(), file, format!("\r\n{line}--\r\n").as_bytes()].concat()
    }

    #[test]
    fn a_form_of_curl_is_parsed() {
        let parts = read(TYPE, &[&body(b"\r\n--content\r\n")]).unwrap();
        let file = b"\r\n--content\r\n".to_vec();
        assert_eq!(parts, [("name".to_owned(), false, b"live".to_vec()), ("file".to_owned(), true, file)]);
    }

    #[test]
    fn a_body_that_is_not_a_form_is_refused() {
        for kind in [
            "application/octet-stream",
            "multipart/form-data",
            "multipart/mixed; boundary=a",
            "multipart/form-data; boundary=",
        ] {
            assert!(FormParser::new(kind).is_none(), "{kind}");
        }
        let kind = "multipart/form-data; boundary=\"a\"";
        assert_eq!(read(kind, &[b"--a\r\nContent-Type: x\r\n\r\n"]), Err(FormError::Disposition));
        assert_eq!(read(kind, &[b"--ab\r\n"]), Err(FormError::Boundary));
        assert_eq!(read(kind, &[b"--a\r\n", &[b'x'; 9000]]), Err(FormError::Head));
        assert_eq!(read(kind, &[b"ignored\r\n--a--"]), Ok(Vec::new()));
    }

    #[test]
    fn the_longest_head_is_the_same_in_pieces_of_any_size() {
        for (length, is_read) in [(MAX_PART_HEAD_BYTES, true), (MAX_PART_HEAD_BYTES + 1, false)] {
            let mut head = b"\r\nContent-Disposition: form-data; name=a; x=".to_vec();
            head.resize(length, b'x');
            let body = [b"--a", &head[..], b"\r\n\r\nb\r\n--a--"].concat();
            for cut in length..length + 12 {
                let (first, second) = body.split_at(cut);
                let read = read("multipart/form-data; boundary=a", &[first, second]);
                assert_eq!(read.is_ok(), is_read, "cut at {cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same_parts(file in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), any::<u8>()], 0..200),
                                            step in 1usize..60) {
            let body = body(&file);
            let pieces: Vec<&[u8]> = body.chunks(step).collect();
            let parts = read(TYPE, &pieces).unwrap();
            prop_assert_eq!(&parts[1].2, &file);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut parser = FormParser::new("multipart/form-data; boundary=a").unwrap();
            parser.push(&bytes);
            while let Ok(Some(event)) = parser.next_event() {
                if event == FormEvent::End { break }
            }
        }
    }
}
