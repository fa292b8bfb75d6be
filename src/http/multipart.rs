//! The parts of a multipart/form-data body (RFC 7578), as they come. Pure.

use bytes::{Bytes, BytesMut};

/// Bounds the head of a part.
const HEAD_MAX: usize = 8 * 1024;
/// Is the longest boundary (RFC 2046 5.1.1).
const BOUNDARY_MAX: usize = 70;

/// Is what was found next in a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A part begins: the field's name, and whether it is a file.
    Part { name: String, is_file: bool },
    /// Is content of the part that began last.
    Data(Bytes),
    /// Nothing that counts comes any more.
    End,
}

/// Says why a body is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the part's head is longer than {HEAD_MAX} bytes")]
    Head,
    #[error("a part does not say `Content-Disposition: form-data; name=...`")]
    Disposition,
    #[error("what follows a boundary is neither a part nor the end")]
    Boundary,
}

/// Takes a body's bytes in pieces of any size.
#[derive(Debug)]
pub struct Parser {
    /// Is what stands before every part and at the end: CRLF, two hyphens, the boundary.
    delimiter: Vec<u8>,
    left: BytesMut,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first delimiter: what stands here is for nobody.
    Preamble,
    /// Right behind a delimiter.
    Behind,
    Head,
    Content,
    Done,
}

impl Parser {
    /// Reads the boundary in a Content-Type; nothing where it is no form.
    pub fn of(content_type: &str) -> Option<Self> {
        let (kind, parameters) = content_type.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary = parameter(parameters, "boundary").filter(|text| (1..=BOUNDARY_MAX).contains(&text.len()))?;
        // The first delimiter has no line before it.
        Some(Self { delimiter: format!("\r\n--{boundary}").into(), left: b"\r\n"[..].into(), state: State::Preamble })
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.left.extend_from_slice(piece);
    }

    /// Gives what is found in what came so far; nothing where more must come.
    ///
    /// # Errors
    /// What is wrong with the body.
    pub fn next(&mut self) -> Result<Option<Event>, Malformed> {
        loop {
            match self.state {
                State::Preamble => match find(&self.left, &self.delimiter) {
                    Some(at) => self.pass(at),
                    None => {
                        let kept = self.left.len().min(self.delimiter.len() - 1);
                        drop(self.left.split_to(self.left.len() - kept));
                        return Ok(None);
                    }
                },
                State::Behind => match self.left.get(..2) {
                    None => return Ok(None),
                    Some(b"--") => self.state = State::Done,
                    Some(b"\r\n") => self.state = State::Head,
                    Some(_) => return Err(Malformed::Boundary),
                },
                // The line's end is kept, so that a head without lines ends as others do.
                State::Head => return self.head(),
                State::Content => return Ok(self.content()),
                State::Done => return Ok(Some(Event::End)),
            }
        }
    }

    fn pass(&mut self, at: usize) {
        drop(self.left.split_to(at + self.delimiter.len()));
        self.state = State::Behind;
    }

    fn head(&mut self) -> Result<Option<Event>, Malformed> {
        let Some(end) = find(&self.left, b"\r\n\r\n") else {
            return if self.left.len() > HEAD_MAX { Err(Malformed::Head) } else { Ok(None) };
        };
        if end > HEAD_MAX {
            return Err(Malformed::Head);
        }
        let head = self.left.split_to(end + 4);
        let head = String::from_utf8_lossy(&head);
        let disposition = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
        });
        let (_, parameters) = disposition.and_then(|value| value.split_once(';')).ok_or(Malformed::Disposition)?;
        let name = parameter(parameters, "name").ok_or(Malformed::Disposition)?;
        self.state = State::Content;
        Ok(Some(Event::Part { name, is_file: parameter(parameters, "filename").is_some() }))
    }

    /// Gives what surely belongs to the part: what may be the beginning of a delimiter is kept.
    fn content(&mut self) -> Option<Event> {
        if let Some(at) = find(&self.left, &self.delimiter) {
            let data = self.left.split_to(at).freeze();
            self.pass(0);
            return Some(Event::Data(data));
        }
        let sure = self.left.len().checked_sub(self.delimiter.len() - 1).filter(|sure| *sure > 0)?;
        Some(Event::Data(self.left.split_to(sure).freeze()))
    }
}

/// Finds a parameter of a header, bare or in quotes.
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

/// Finds the first place of a text that begins with a rare byte.
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

    fn read(content_type: &str, pieces: &[&[u8]]) -> Result<Vec<(String, bool, Vec<u8>)>, Malformed> {
        let mut parser = Parser::of(content_type).unwrap();
        let mut parts: Vec<(String, bool, Vec<u8>)> = Vec::new();
        for piece in pieces {
            parser.push(piece);
            while let Some(event) = parser.next()? {
                match event {
                    Event::Part { name, is_file } => parts.push((name, is_file, Vec::new())),
                    Event::Data(data) => parts.last_mut().unwrap().2.extend_from_slice(&data),
                    Event::End => return Ok(parts),
                }
            }
        }
        panic!("the body did not end: {parts:?}");
    }

    /// Is what curl 7.88 sends for `-F name=live -F file=@x.iso`.
    fn body(file: &[u8]) -> Vec<u8> {
        let line = "--------------------------d74496d66958873e";
        let head = format!(
            "{line}\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nlive\r\n{line}\r\nContent-Disposition: form-data; \
             name=\"file\"; filename=\"x; name=.iso\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        [head.as_bytes(), file, format!("\r\n{line}--\r\n").as_bytes()].concat()
    }

    #[test]
    fn curls_form_is_read() {
        let parts = read(TYPE, &[&body(b"\r\n--content\r\n")]).unwrap();
        let file = b"\r\n--content\r\n".to_vec();
        assert_eq!(parts, [("name".to_owned(), false, b"live".to_vec()), ("file".to_owned(), true, file)]);
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for kind in [
            "application/octet-stream",
            "multipart/form-data",
            "multipart/mixed; boundary=a",
            "multipart/form-data; boundary=",
        ] {
            assert!(Parser::of(kind).is_none(), "{kind}");
        }
        let kind = "multipart/form-data; boundary=\"a\"";
        assert_eq!(read(kind, &[b"--a\r\nContent-Type: x\r\n\r\n"]), Err(Malformed::Disposition));
        assert_eq!(read(kind, &[b"--ab\r\n"]), Err(Malformed::Boundary));
        assert_eq!(read(kind, &[b"--a\r\n", &[b'x'; 9000]]), Err(Malformed::Head));
        assert_eq!(read(kind, &[b"for nobody\r\n--a--"]), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_make_the_same(file in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), any::<u8>()], 0..200),
                                            step in 1usize..60) {
            let body = body(&file);
            let pieces: Vec<&[u8]> = body.chunks(step).collect();
            let parts = read(TYPE, &pieces).unwrap();
            prop_assert_eq!(&parts[1].2, &file);
        }

        #[test]
        fn no_bytes_hurt(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut parser = Parser::of("multipart/form-data; boundary=a").unwrap();
            parser.push(&bytes);
            while let Ok(Some(event)) = parser.next() {
                if event == Event::End { break }
            }
        }
    }
}
