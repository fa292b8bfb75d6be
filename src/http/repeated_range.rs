//! The request that comes thousands of times: a range of an ISO, on the connection that asked for another range of it.

use hyper::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use hyper::{Method, Request};

use crate::api::machine::images::{self, Memory, Part};
use crate::api::router;
use crate::http::listener::Shared;

/// Is what such a Range header begins with.
const BYTES: &[u8] = b"bytes=";
/// Bounds its numbers: two of twenty digits, and the dash.
const NUMBERS: usize = 41;

/// Is a connection's last request for a range of an ISO. The next one mostly differs in nothing but the numbers, and
/// so means the same but for them.
#[derive(Debug)]
pub struct Recurring {
    /// Is the head up to the numbers, and from behind them to its end.
    before: Vec<u8>,
    behind: Vec<u8>,
    path: String,
    query: Option<String>,
}

impl Recurring {
    /// Takes a request, and the head that it was read from; nothing where it asks for no plain range of an ISO.
    pub fn of(head: &[u8], request: &Request<()>) -> Option<Self> {
        let headers = request.headers();
        let is_plain = *request.method() == Method::GET
            && ![IF_MATCH, IF_NONE_MATCH, IF_RANGE].iter().any(|name| headers.contains_key(name))
            && headers.get_all(RANGE).iter().count() == 1;
        let path = router::image_path(request.uri().path()).filter(|_| is_plain)?;
        let numbers = headers.get(RANGE)?.as_bytes().strip_prefix(BYTES)?;
        // The value is the only one of its header, but its text may stand in another one too, or in the path.
        let field = head.windows(8).position(|text| text.eq_ignore_ascii_case(b"\r\nrange:"))? + 8;
        let from = field + head[field..].iter().position(|octet| !matches!(octet, b' ' | b'\t'))? + BYTES.len();
        let behind = head.get(from..)?.strip_prefix(numbers)?;
        if leading(numbers) != numbers.len() || !behind.starts_with(b"\r\n") {
            return None;
        }
        let query = request.uri().query().map(str::to_owned);
        Some(Self { before: head.get(..from)?.to_vec(), behind: behind.to_vec(), path, query })
    }

    /// Gives what the next request asks for, and how long its head is, where it is the same but for the numbers
    /// and what it is of need not be looked for again.
    pub fn part(&self, shared: &Shared, memory: &Memory, input: &[u8]) -> Option<(Part, usize)> {
        let (range, length) = self.range(input)?;
        images::part(shared, memory, &self.path, self.query.as_deref(), range).map(|part| (part, length))
    }

    /// Gives the Range header's value, and how long the head is.
    fn range<'a>(&self, input: &'a [u8]) -> Option<(&'a str, usize)> {
        let rest = input.strip_prefix(self.before.as_slice())?;
        let numbers = leading(rest);
        rest[numbers..].starts_with(&self.behind).then_some(())?;
        let (first, last) = (self.before.len() - BYTES.len(), self.before.len() + numbers);
        let range = std::str::from_utf8(input.get(first..last)?).ok()?;
        Some((range, last + self.behind.len()))
    }
}

/// Counts the octets of numbers with a dash between that text begins with.
fn leading(text: &[u8]) -> usize {
    text.iter().take(NUMBERS).take_while(|octet| octet.is_ascii_digit() || **octet == b'-').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> Request<()> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap().split(' ');
        let mut request = Request::builder().method(words.next().unwrap()).uri(words.next().unwrap());
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            request = request.header(name, value.trim());
        }
        request.body(()).unwrap()
    }

    /// Says what a second request's range is for who knows the first, and what of it is left.
    fn second(first: &str, second: &str) -> Option<(String, String)> {
        let recurring = Recurring::of(first.as_bytes(), &request(first))?;
        let (range, length) = recurring.range(second.as_bytes())?;
        Some((range.to_owned(), second[length..].to_owned()))
    }

    const FIRST: &str = "GET /iso/a HTTP/1.1\r\nHost: b\r\nRange: bytes=0-2047\r\nA: b\r\n\r\n";

    #[test]
    fn the_same_with_other_numbers_is_known() {
        let rows = [
            (FIRST.to_owned(), Some(("bytes=0-2047", ""))),
            (FIRST.replace("0-2047", "4096-6143"), Some(("bytes=4096-6143", ""))),
            (FIRST.replace("0-2047", "5-") + "GET", Some(("bytes=5-", "GET"))),
            (FIRST.replace("0-2047", "-5"), Some(("bytes=-5", ""))),
            (FIRST.replace("0-2047", "0-1,4-5"), None),
            (FIRST.replace("0-2047", "0-1 "), None),
            (FIRST.replace("0-2047", &"1".repeat(NUMBERS + 1)), None),
            (FIRST.replace("bytes=0-2047", "lines=0-2047"), None),
            (FIRST.replace("A: b", "A: c"), None),
            (FIRST.replace("A: b", "If-Range: x"), None),
            (FIRST.replace("GET", "HEAD"), None),
            (FIRST.replace("/a", "/b"), None),
            (FIRST[..FIRST.len() - 1].to_owned(), None),
            (String::new(), None),
        ];
        for (input, expected) in rows {
            let expected = expected.map(|(range, rest)| (range.to_owned(), rest.to_owned()));
            assert_eq!(second(FIRST, &input), expected, "{input:?}");
        }
    }

    #[test]
    fn only_a_plain_range_of_an_iso_is_kept() {
        let rows = [
            FIRST.replace("0-2047", "0-1,4-5"),
            FIRST.replace("GET", "HEAD"),
            FIRST.replace("/iso/", "/files/"),
            FIRST.replace("A: b", "If-Range: \"x\""),
            FIRST.replace("A: b", "If-None-Match: \"x\""),
            FIRST.replace("A: b", "Range: bytes=5-6"),
            FIRST.replace("Range: bytes=0-2047\r\n", ""),
            FIRST.replace("bytes=", "lines="),
        ];
        for head in rows {
            assert!(Recurring::of(head.as_bytes(), &request(&head)).is_none(), "{head:?}");
        }
        let odd = "GET /iso/a?x=Range:%20bytes=0-1 HTTP/1.1\r\nX: range: bytes=7-8\r\nrAnge:\tbytes=7-8\r\n\r\n";
        let other = odd.replace(":\tbytes=7-8", ":\tbytes=9-10");
        assert_eq!(second(odd, &other), Some(("bytes=9-10".into(), String::new())));
        assert_eq!(second(odd, &odd.replace("X: range: bytes=7-8", "X: range: bytes=9-9")), None);
    }
}
